//! The state of a grant, folded from its events. It judges nothing: what happened, happened.

use super::{AccessGrantEvent, GrantTerm, MembershipId, ModuleId, Reason, RoleKey};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// A grant as its events have made it. Whether a granted one has expired, only a clock can tell.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccessGrant {
    #[default]
    Absent,
    Granted {
        of: GrantOf,
        term: GrantTerm,
    },
    Revoked {
        of: GrantOf,
        reason: Reason,
    },
}

/// What is granted to whom: the three things that a grant's id is made of.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GrantOf {
    pub membership: MembershipId,
    pub module: ModuleId,
    pub role: RoleKey,
}

impl AccessGrant {
    /// Whether the grant itself allows at that moment. The membership and the module may deny all the same.
    /// About a moment before its last event, only the state of then can tell.
    pub fn allows_at(&self, instant: DateTime<Utc>) -> bool {
        match self {
            AccessGrant::Granted { term, .. } => term.allows_at(instant),
            AccessGrant::Absent | AccessGrant::Revoked { .. } => false,
        }
    }

    /// History is not judged: an event that this state would not have produced changes what it can.
    pub(super) fn apply_event(&mut self, event: AccessGrantEvent) {
        use {AccessGrant::*, AccessGrantEvent as E};
        *self = match (std::mem::take(self), event) {
            (_, E::Granted { membership, module, role, from, until, .. }) => {
                Granted { of: GrantOf { membership, module, role }, term: GrantTerm { from, until } }
            }
            (Granted { of, term }, E::ExpiryChanged { until, .. }) => Granted { of, term: GrantTerm { until, ..term } },
            (Granted { of, .. } | Revoked { of, .. }, E::Revoked { reason }) => Revoked { of, reason },
            (revoked @ Revoked { .. }, E::ExpiryChanged { .. }) => revoked,
            (Absent, E::ExpiryChanged { .. } | E::Revoked { .. }) => Absent,
        };
    }
}
