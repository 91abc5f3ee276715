//! The state of a session, folded from its events. It judges nothing: what happened, happened.

use super::{Ending, SessionEvent};
use crate::ids::{AccountId, MembershipId, TenantId};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// A session as its events have made it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Session {
    #[default]
    Absent,
    Active {
        account: AccountId,
        tenant: TenantId,
        membership: Option<MembershipId>,
        /// Of the account's sessions when it began.
        account_generation: u64,
        /// Of its refresh token.
        generation: u64,
        expires_at: DateTime<Utc>,
    },
    Ended {
        account: AccountId,
        how: Ending,
    },
}

impl Session {
    /// Whose it is.
    pub fn account(&self) -> Option<AccountId> {
        match self {
            Session::Absent => None,
            Session::Active { account, .. } | Session::Ended { account, .. } => Some(*account),
        }
    }

    /// History is not judged: an event that this state would not have produced changes what it can.
    pub(super) fn apply_event(&mut self, event: SessionEvent) {
        use {Session::*, SessionEvent as E};
        *self = match (std::mem::take(self), event) {
            (_, E::Started { account, tenant, membership, account_generation, expires_at, .. }) => {
                Active { account, tenant, membership, account_generation, generation: 0, expires_at }
            }
            (
                Active { account, tenant, membership, account_generation, expires_at, .. },
                E::Refreshed { generation },
            ) => Active { account, tenant, membership, account_generation, generation, expires_at },
            (
                Active { account, account_generation, generation, expires_at, .. },
                E::TenantSwitched { tenant, membership },
            ) => Active { account, tenant, membership, account_generation, generation, expires_at },
            (Active { account, .. } | Ended { account, .. }, E::Ended { how }) => Ended { account, how },
            (ended @ Ended { .. }, E::Refreshed { .. } | E::TenantSwitched { .. }) => ended,
            (Absent, E::Refreshed { .. } | E::TenantSwitched { .. } | E::Ended { .. }) => Absent,
        };
    }
}
