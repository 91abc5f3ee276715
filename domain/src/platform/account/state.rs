//! The state of an account, folded from its events. It judges nothing: what happened, happened.

use super::{AccountEvent, EmailAddress, Name, Reason};
use crate::personal::Personal;
use serde::{Deserialize, Serialize};

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

/// Who the person is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Profile {
    pub email: Personal<EmailAddress>,
    pub name: Personal<Name>,
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
            (_, E::Registered { email, name }) => Active { profile: Profile { email, name } },
            (Active { profile } | Deactivated { profile, .. }, E::Deactivated { reason }) => {
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
            // These change the account's state, not its profile.
            E::Registered { .. } | E::Deactivated { .. } | E::Reactivated {} => {}
        }
        self
    }
}
