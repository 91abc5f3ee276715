//! The state of a membership, folded from its events. It judges nothing: what happened, happened.

use super::{AccountId, MembershipEvent, ModuleId, Reason, RoleName, Roles, TenantRole};
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
        #[serde(flatten)]
        roles: Roles,
        /// Modules that it may not use, whatever is granted.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        modules_off: BTreeSet<ModuleId>,
    },
    Ended {
        account: AccountId,
        reason: Reason,
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        modules_off: BTreeSet<ModuleId>,
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

    /// Modules that the account may not use here, whatever is granted; also while it is away.
    pub fn modules_off(&self) -> &BTreeSet<ModuleId> {
        const NONE: &BTreeSet<ModuleId> = &BTreeSet::new();
        match self {
            Membership::Active { modules_off, .. } | Membership::Ended { modules_off, .. } => modules_off,
            Membership::Absent => NONE,
        }
    }

    /// History is not judged: an event that this state would not have produced changes what it can.
    pub(super) fn apply_event(&mut self, event: MembershipEvent) {
        use {Membership::*, MembershipEvent as E};
        // Kept through whatever else happens.
        let mut modules_off = match self {
            Active { modules_off, .. } | Ended { modules_off, .. } => std::mem::take(modules_off),
            Absent => BTreeSet::new(),
        };
        match &event {
            E::ModuleSwitchedOff { module, .. } => {
                modules_off.insert(*module);
            }
            E::ModuleSwitchedOn { module, .. } => {
                modules_off.remove(module);
            }
            E::Added { .. } | E::RolesChanged { .. } | E::Ended { .. } | E::Rejoined { .. } => {}
        }
        *self = match (std::mem::take(self), event) {
            (_, E::Added { account, roles, custom }) => {
                Active { account, roles: Roles { built_in: roles, custom }, modules_off }
            }
            (Active { account, roles, .. }, E::RolesChanged { added, removed, custom_added, custom_removed }) => {
                Active {
                    account,
                    roles: Roles {
                        built_in: &(&roles.built_in - &removed) | &added,
                        custom: &(&roles.custom - &custom_removed) | &custom_added,
                    },
                    modules_off,
                }
            }
            (Active { account, .. } | Ended { account, .. }, E::Ended { reason }) => {
                Ended { account, reason, modules_off }
            }
            (Active { account, .. } | Ended { account, .. }, E::Rejoined { roles, custom }) => {
                Active { account, roles: Roles { built_in: roles, custom }, modules_off }
            }
            (Active { account, roles, .. }, E::ModuleSwitchedOff { .. } | E::ModuleSwitchedOn { .. }) => {
                Active { account, roles, modules_off }
            }
            (
                Ended { account, reason, .. },
                E::RolesChanged { .. } | E::ModuleSwitchedOff { .. } | E::ModuleSwitchedOn { .. },
            ) => Ended { account, reason, modules_off },
            (Absent, _) => Absent,
        };
    }
}
