//! The state of an account, folded from its events. It judges nothing: what happened, happened.

use super::{AccountEvent, Details, EmailAddress, Name, PlatformRole, Reason, SettingKey, SettingValue};
use crate::ids::CredentialId;
use crate::personal::Personal;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// An account as its events have made it. Snapshots hold its JSON form, personal fields sealed as in events.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Account {
    #[default]
    Absent,
    Active {
        profile: Profile,
    },
    Deactivated {
        profile: Profile,
        reason: Reason,
    },
}

/// Who the person is, and how they come in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Profile {
    pub email: Personal<EmailAddress>,
    pub name: Personal<Name>,
    #[serde(default, skip_serializing_if = "Details::is_empty")]
    pub details: Details,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub preferences: BTreeMap<SettingKey, Personal<SettingValue>>,
    /// The password in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<CredentialId>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub platform_roles: BTreeSet<PlatformRole>,
    /// Of the sessions that may go on; those of a lower one have ended.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub generation: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Account {
    /// Who the person is; nothing before the registration.
    pub fn profile(&self) -> Option<&Profile> {
        match self {
            Account::Active { profile } | Account::Deactivated { profile, .. } => Some(profile),
            Account::Absent => None,
        }
    }

    /// History is not judged: an event that this state would not have produced changes what it can.
    pub(super) fn apply_event(&mut self, event: AccountEvent) {
        use {Account::*, AccountEvent as E};
        *self = match (std::mem::take(self), event) {
            (_, E::Registered { email, name }) => Active {
                profile: Profile {
                    email,
                    name,
                    details: Details::default(),
                    preferences: BTreeMap::new(),
                    password: None,
                    platform_roles: BTreeSet::new(),
                    generation: 0,
                },
            },
            (Active { mut profile } | Deactivated { mut profile, .. }, E::Deactivated { reason }) => {
                // Whoever comes back logs in again.
                profile.generation = profile.generation.saturating_add(1);
                Deactivated { profile, reason }
            }
            (Active { profile } | Deactivated { profile, .. }, E::Reactivated {}) => Active { profile },
            (Active { profile }, change) => Active { profile: profile.changed(change) },
            (Deactivated { profile, reason }, change) => Deactivated { profile: profile.changed(change), reason },
            (Absent, _) => Absent,
        };
    }
}

impl Profile {
    fn changed(mut self, event: AccountEvent) -> Self {
        use AccountEvent as E;
        match event {
            E::Renamed { name } => self.name = name,
            E::EmailChanged { email } => self.email = email,
            E::ProfileChanged { set, unset } => self.details.change(set, &unset),
            E::PreferenceSet { key, value } => {
                self.preferences.insert(key, value);
            }
            E::PreferenceRemoved { key } => {
                self.preferences.remove(&key);
            }
            E::PasswordSet { credential } => {
                self.password = Some(credential);
                self.generation = self.generation.saturating_add(1);
            }
            E::PlatformRoleGranted { role } => {
                self.platform_roles.insert(role);
            }
            E::PlatformRoleRevoked { role } => {
                self.platform_roles.remove(&role);
            }
            E::SessionsRevoked { generation, .. } => self.generation = self.generation.max(generation),
            // These change the account's state, not its profile.
            E::Registered { .. } | E::Deactivated { .. } | E::Reactivated {} => {}
        }
        self
    }
}
