//! Resources whose records rules can look into: what fields they have, and whose they are.
//!
//! A resource declares itself beside its aggregate; the list is here. A rule with a condition on a resource that is not in
//! the list is refused when it is defined, and one whose condition no longer fits allows nothing.

use crate::condition::{ClaimOf, Field, Kind, Vocabulary};
use std::borrow::Cow;

/// A kind of record.
#[derive(Clone, Debug)]
pub struct Resource {
    /// The first word of its actions, e.g. `device`.
    pub name: Cow<'static, str>,
    /// What conditions may name.
    pub fields: Cow<'static, [Field]>,
    /// Whose a record is; none where records are nobody's.
    pub owner: Option<Owner>,
    /// Fields that can be hidden or masked.
    pub hideable: &'static [&'static str],
}

/// A record is the caller's own when this field equals this claim.
#[derive(Clone, Copy, Debug)]
pub struct Owner {
    pub field: &'static str,
    pub claim: &'static str,
}

/// What is known of every caller.
pub const CLAIMS: &[ClaimOf] = &[
    // The account, or the service, that asks.
    ClaimOf::one("account", Kind::Id),
    // The tenant that the credential belongs to.
    ClaimOf::one("tenant", Kind::Id),
    // The caller's membership in it.
    ClaimOf::one("member", Kind::Id),
    // The keys of the roles held, built-in ones among them.
    ClaimOf::many("roles", Kind::Text),
];

/// Every resource that conditions may look into.
static RESOURCES: &[&Resource] =
    &[&crate::energy::device::RESOURCE, &crate::energy::readings::RESOURCE, &MODULES, &PROJECT, &LEAD, &EMPLOYEE];

/// Whoever made it, or it was given to.
const BY_ACCOUNT: Option<Owner> = Some(Owner { field: "owner", claim: "account" });

// Records of modules and of the business, which presets have rules about. No query of Daybook reads them yet.

/// Whatever modules keep: see [`crate::platform::module::action`].
static MODULES: Resource = Resource {
    name: Cow::Borrowed(crate::platform::module::action::MODULES),
    fields: Cow::Borrowed(&[Field::new("id", Kind::Id), Field::new("owner", Kind::Id)]),
    owner: BY_ACCOUNT,
    hideable: &[],
};

static PROJECT: Resource = Resource {
    name: Cow::Borrowed("project"),
    fields: Cow::Borrowed(&[Field::new("id", Kind::Id), Field::new("owner", Kind::Id), Field::new("module", Kind::Id)]),
    owner: BY_ACCOUNT,
    hideable: &[],
};

static LEAD: Resource = Resource {
    name: Cow::Borrowed("lead"),
    fields: Cow::Borrowed(&[
        Field::new("id", Kind::Id),
        Field::new("owner", Kind::Id),
        Field::new("region", Kind::Text),
        // In minor units of money.
        Field::new("value", Kind::Whole),
    ]),
    owner: BY_ACCOUNT,
    hideable: &["value"],
};

static EMPLOYEE: Resource = Resource {
    name: Cow::Borrowed("employee"),
    fields: Cow::Borrowed(&[
        Field::new("id", Kind::Id),
        Field::new("owner", Kind::Id),
        Field::new("department", Kind::Text),
    ]),
    owner: BY_ACCOUNT,
    hideable: &["salary"],
};

/// The resource of this name.
pub fn find(name: &str) -> Option<&'static Resource> {
    RESOURCES.iter().copied().find(|resource| resource.name == name)
}

impl Resource {
    pub fn vocabulary(&self) -> Vocabulary<'_> {
        Vocabulary { fields: &self.fields, claims: CLAIMS }
    }
}
