//! The roles that an account can have in the whole platform.

use crate::role::Role;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A role that reaches every tenant. No tenant can give it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PlatformRole {
    PlatformAdmin,
}

impl PlatformRole {
    pub const ALL: &'static [PlatformRole] = &[PlatformRole::PlatformAdmin];
}

impl From<PlatformRole> for Role {
    fn from(role: PlatformRole) -> Role {
        match role {
            PlatformRole::PlatformAdmin => Role::PlatformAdmin,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::role::Reach;

    #[test]
    fn the_roles_of_accounts_are_exactly_those_that_reach_everywhere() {
        let of_accounts: Vec<Role> = PlatformRole::ALL.iter().map(|role| Role::from(*role)).collect();
        let far: Vec<Role> = Role::ALL.iter().copied().filter(|role| role.reach() == Reach::Everywhere).collect();
        assert_eq!(of_accounts, far);
    }
}
