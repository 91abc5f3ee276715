//! The state of a membership, folded from its events. It judges nothing: what happened, happened.

use super::{AccountId, MembershipEvent, Reason, RoleName, Roles, TenantRole};
use serde::{Deserialize, Serialize};

/// A membership as its events have made it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Membership {
    #[default]
    Absent,
    Active {
        account: AccountId,
        #[serde(flatten)]
        roles: Roles,
    },
    Ended {
        account: AccountId,
        reason: Reason,
    },
}

impl Membership {
    fn held(&self) -> Option<&Roles> {
        match self {
            Membership::Active { roles, .. } => Some(roles),
            Membership::Absent | Membership::Ended { .. } => None,
        }
    }

    /// The built-in roles held now: none before and after the membership.
    pub fn roles(&self) -> impl Iterator<Item = TenantRole> + '_ {
        self.held().into_iter().flat_map(|roles| &roles.built_in).copied()
    }

    /// The keys of the tenant's own roles that are held now.
    pub fn custom_roles(&self) -> impl Iterator<Item = &RoleName> {
        self.held().into_iter().flat_map(|roles| &roles.custom)
    }

    /// History is not judged: an event that this state would not have produced changes what it can.
    pub(super) fn apply_event(&mut self, event: MembershipEvent) {
        use {Membership::*, MembershipEvent as E};
        *self = match (std::mem::take(self), event) {
            (_, E::Added { account, roles, custom }) => Active { account, roles: Roles { built_in: roles, custom } },
            (Active { account, roles }, E::RolesChanged { added, removed, custom_added, custom_removed }) => Active {
                account,
                roles: Roles {
                    built_in: &(&roles.built_in - &removed) | &added,
                    custom: &(&roles.custom - &custom_removed) | &custom_added,
                },
            },
            (Active { account, .. } | Ended { account, .. }, E::Ended { reason }) => Ended { account, reason },
            (Active { account, .. } | Ended { account, .. }, E::Rejoined { roles, custom }) => {
                Active { account, roles: Roles { built_in: roles, custom } }
            }
            (ended @ Ended { .. }, E::RolesChanged { .. }) => ended,
            (Absent, E::RolesChanged { .. } | E::Ended { .. } | E::Rejoined { .. }) => Absent,
        };
    }
}
