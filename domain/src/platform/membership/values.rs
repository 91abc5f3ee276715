//! The roles that a membership can carry.

use crate::role::Role;
use crate::rules::RoleName;
use crate::value::InvalidValue;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// A role within one tenant. There is none for the platform: a tenant cannot appoint its administrators.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TenantRole {
    TenantAdmin,
    Member,
    Viewer,
}

impl TenantRole {
    pub const ALL: &'static [TenantRole] = &[TenantRole::TenantAdmin, TenantRole::Member, TenantRole::Viewer];

    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let role = Self::ALL.iter().copied().find(|role| role.as_str() == text);
        role.ok_or_else(|| {
            InvalidValue::new(&["roles"], "UNKNOWN_VALUE", "a member's role is tenant_admin, member or viewer")
        })
    }

    /// As in events, e.g. `tenant_admin`.
    pub fn as_str(self) -> &'static str {
        match self {
            TenantRole::TenantAdmin => "tenant_admin",
            TenantRole::Member => "member",
            TenantRole::Viewer => "viewer",
        }
    }
}

/// The roles of a member: built-in ones, and those of the tenant's making by their keys.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Roles {
    #[serde(rename = "roles")]
    pub built_in: BTreeSet<TenantRole>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub custom: BTreeSet<RoleName>,
}

impl From<BTreeSet<TenantRole>> for Roles {
    fn from(built_in: BTreeSet<TenantRole>) -> Self {
        Roles { built_in, custom: BTreeSet::new() }
    }
}

impl<const N: usize> From<[TenantRole; N]> for Roles {
    fn from(built_in: [TenantRole; N]) -> Self {
        BTreeSet::from(built_in).into()
    }
}

/// A role of either kind, as read models list them: `member`, or `role:sales_manager`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum HeldRole {
    BuiltIn(TenantRole),
    Custom(RoleName),
}

impl TryFrom<String> for HeldRole {
    type Error = InvalidValue;

    fn try_from(text: String) -> Result<Self, InvalidValue> {
        match text.strip_prefix("role:") {
            Some(key) => RoleName::parse(key).map(HeldRole::Custom),
            None => TenantRole::parse(&text).map(HeldRole::BuiltIn),
        }
    }
}

impl From<HeldRole> for String {
    fn from(role: HeldRole) -> String {
        match role {
            HeldRole::BuiltIn(role) => role.as_str().to_owned(),
            HeldRole::Custom(key) => format!("role:{key}"),
        }
    }
}

impl From<TenantRole> for Role {
    fn from(role: TenantRole) -> Role {
        match role {
            TenantRole::TenantAdmin => Role::TenantAdmin,
            TenantRole::Member => Role::Member,
            TenantRole::Viewer => Role::Viewer,
        }
    }
}

impl fmt::Display for TenantRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::role::Reach;

    #[test]
    fn a_role_is_known_by_its_one_spelling() {
        for role in TenantRole::ALL {
            assert_eq!(TenantRole::parse(role.as_str()), Ok(*role));
            assert_eq!(serde_json::to_value(role).expect("serializes"), serde_json::json!(role.as_str()));
        }
        assert_eq!(TenantRole::parse("tenantAdmin").expect_err("another spelling").code, "UNKNOWN_VALUE");
    }

    #[test]
    fn the_roles_of_members_are_exactly_those_that_end_at_their_tenant() {
        let of_members: Vec<Role> = TenantRole::ALL.iter().map(|role| Role::from(*role)).collect();
        let ending: Vec<Role> = Role::ALL.iter().copied().filter(|role| role.reach() == Reach::OwnTenant).collect();
        assert_eq!(of_members, ending);
    }

    #[test]
    fn the_platforms_administrator_is_no_role_of_a_member() {
        for name in ["platform_admin", "platformAdmin", "PLATFORM_ADMIN"] {
            assert!(TenantRole::parse(name).is_err(), "{name}");
            assert!(serde_json::from_value::<TenantRole>(serde_json::json!(name)).is_err(), "{name}");
        }
    }
}
