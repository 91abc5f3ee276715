//! Whether a grant allows at a moment: the grant itself, its membership, its module and the module's role all must, and nobody may
//! have switched the module off, for all tenants or for the member.
//! [`allows_sql`] says the same to the database, for filters; a test holds the two against each other.

use super::row::{GrantRow, GrantStatus};
use crate::platform::members::MemberStatus;
use crate::platform::modules::ModuleStatus;
use chrono::{DateTime, Utc};
use daybook_domain::platform::GrantTerm;

/// What a grant comes to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Access {
    Allowed,
    Denied(Denial),
}

/// Why a grant allows nothing. The first that holds, in this order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Denial {
    Revoked,
    Expired,
    NotYet,
    MembershipEnded,
    /// The platform has switched the module off, for all tenants.
    OffOnPlatform,
    /// The tenant has not enabled it.
    ModuleNotEnabled,
    /// It is switched off for the member.
    OffForMember,
    /// The module has no such role any more.
    RoleGone,
}

/// What a grant depends on, besides itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Surroundings {
    /// None: there is no such membership.
    pub member: Option<MemberStatus>,
    /// None: there is no such module.
    pub module: Option<ModuleStatus>,
    /// Whether the platform has switched the module off.
    pub off_on_platform: bool,
    /// Whether it is switched off for the member.
    pub off_for_member: bool,
    /// Whether the module has the grant's role.
    pub role_held: bool,
}

/// Whether a grant allows at a moment. About a moment before its last event, only the state of then can tell.
pub fn access(grant: &GrantRow, around: Surroundings, now: DateTime<Utc>) -> Access {
    let term = GrantTerm { from: grant.from_at, until: grant.until_at };
    let denial = if grant.status == GrantStatus::Revoked {
        Denial::Revoked
    } else if term.is_over_at(now) {
        Denial::Expired
    } else if !term.allows_at(now) {
        Denial::NotYet
    } else if around.member != Some(MemberStatus::Active) {
        Denial::MembershipEnded
    } else if around.off_on_platform {
        Denial::OffOnPlatform
    } else if around.module != Some(ModuleStatus::Enabled) {
        Denial::ModuleNotEnabled
    } else if around.off_for_member {
        Denial::OffForMember
    } else if !around.role_held {
        Denial::RoleGone
    } else {
        return Access::Allowed;
    };
    Access::Denied(denial)
}

/// The condition under which a grant `g` with its membership `m`, module `o` and what is switched off, for all tenants (`p`) and for
/// the member (`s`), allows at the parameter `now`.
pub(super) fn allows_sql(now: &str) -> String {
    format!(
        "(g.status = 'GRANTED' and (g.from_at is null or g.from_at <= {now})
          and (g.until_at is null or g.until_at > {now})
          and m.status is not distinct from 'ACTIVE' and o.status is not distinct from 'ENABLED'
          and p.switch_id is null and s.switch_id is null
          and coalesce(g.role = any(o.role_keys), false))"
    )
}
