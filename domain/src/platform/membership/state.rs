//! The state of a membership, folded from its events. It judges nothing: what happened, happened.

use super::{AccountId, MembershipEvent, Reason, TenantRole};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A membership as its events have made it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Membership {
    #[default]
    Absent,
    Active {
        account: AccountId,
        roles: BTreeSet<TenantRole>,
    },
    Ended {
        account: AccountId,
        reason: Reason,
    },
}

impl Membership {
    /// The roles held now: none before and after the membership.
    pub fn roles(&self) -> impl Iterator<Item = TenantRole> + '_ {
        let held = match self {
            Membership::Active { roles, .. } => Some(roles),
            Membership::Absent | Membership::Ended { .. } => None,
        };
        held.into_iter().flatten().copied()
    }

    /// History is not judged: an event that this state would not have produced changes what it can.
    pub(super) fn apply_event(&mut self, event: MembershipEvent) {
        use {Membership::*, MembershipEvent as E};
        *self = match (std::mem::take(self), event) {
            (_, E::Added { account, roles }) => Active { account, roles },
            (Active { account, roles }, E::RolesChanged { added, removed }) => {
                Active { account, roles: &(&roles - &removed) | &added }
            }
            (Active { account, .. } | Ended { account, .. }, E::Ended { reason }) => Ended { account, reason },
            (Active { account, .. } | Ended { account, .. }, E::Rejoined { roles }) => Active { account, roles },
            (ended @ Ended { .. }, E::RolesChanged { .. }) => ended,
            (Absent, E::RolesChanged { .. } | E::Ended { .. } | E::Rejoined { .. }) => Absent,
        };
    }
}
