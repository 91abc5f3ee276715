//! The state of a service account, folded from its events. It judges nothing: what happened, happened.

use super::{ApiKeyId, Name, REMEMBERED_MAX, Reason, Scope, ServiceEvent, TenantRole};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A service account as its events have made it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    #[default]
    Absent,
    Active {
        name: Name,
        roles: BTreeSet<TenantRole>,
        /// Revoked ones among them, as far as they are remembered.
        keys: BTreeMap<ApiKeyId, Key>,
    },
    Deactivated {
        name: Name,
        reason: Reason,
    },
}

/// A key, without its secret.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Key {
    pub scopes: BTreeSet<Scope>,
    pub expires_at: Option<DateTime<Utc>>,
    pub revoked: bool,
    /// The key in whose place it came.
    pub replaces: Option<ApiKeyId>,
}

impl Key {
    /// Whether it lets anybody in at a moment.
    pub fn is_good(&self, now: DateTime<Utc>) -> bool {
        !self.revoked && self.expires_at.is_none_or(|end| now < end)
    }
}

impl Service {
    /// Its keys, revoked ones among them; none of an account that is deactivated.
    pub fn keys(&self) -> impl Iterator<Item = (ApiKeyId, &Key)> + '_ {
        let keys = match self {
            Service::Active { keys, .. } => Some(keys),
            Service::Absent | Service::Deactivated { .. } => None,
        };
        keys.into_iter().flatten().map(|(id, key)| (*id, key))
    }

    /// History is not judged: an event that this state would not have produced changes what it can.
    pub(super) fn apply_event(&mut self, event: ServiceEvent) {
        use {Service::*, ServiceEvent as E};
        *self = match (std::mem::take(self), event) {
            (_, E::Registered { name, roles }) => Active { name, roles, keys: BTreeMap::new() },
            (Active { name, .. } | Deactivated { name, .. }, E::Deactivated { reason }) => Deactivated { name, reason },
            (Active { name, roles, mut keys }, event) => {
                change(&mut keys, event);
                Active { name, roles, keys }
            }
            (other @ (Absent | Deactivated { .. }), _) => other,
        };
    }
}

fn change(keys: &mut BTreeMap<ApiKeyId, Key>, event: ServiceEvent) {
    use ServiceEvent as E;
    match event {
        E::KeyIssued { key, scopes, expires_at } => {
            keys.insert(key, Key { scopes, expires_at, revoked: false, replaces: None });
        }
        E::KeyRotated { old, new, overlap_until, expires_at } => {
            if let Some(replaced) = keys.get_mut(&old) {
                replaced.expires_at = Some(overlap_until);
                let scopes = replaced.scopes.clone();
                keys.insert(new, Key { scopes, expires_at, revoked: false, replaces: Some(old) });
            }
        }
        E::KeyRevoked { key, .. } => {
            if let Some(key) = keys.get_mut(&key) {
                key.revoked = true;
            }
        }
        // These change the account, not its keys.
        E::Registered { .. } | E::Deactivated { .. } => {}
    }
    while keys.len() > REMEMBERED_MAX {
        // Far fewer are good than are remembered, so one is over; of those that the clock ends, the first to end is.
        let over = keys.iter().filter(|(_, key)| key.revoked || key.expires_at.is_some());
        let first = over.min_by_key(|(id, key)| (!key.revoked, key.expires_at, **id)).map(|(id, _)| *id);
        let Some(first) = first else { return };
        keys.remove(&first);
    }
}
