//! A service account's row, and how events change it.

use super::super::text_enum;
use crate::engine::{OpenedEvent, signed};
use crate::read::ReadError;
use chrono::{DateTime, Utc};
use daybook_domain::platform::{ServiceEvent, TenantRole};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use tokio_postgres::Row;
use tokio_postgres::types::Json;
use uuid::Uuid;

text_enum! {
    /// Whether a service account may work.
    ServiceStatus {
        Active = "ACTIVE",
        Deactivated = "DEACTIVATED",
    }
}

/// A key, without its secret.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeyRow {
    pub id: Uuid,
    pub scopes: BTreeSet<String>,
    pub issued_at: DateTime<Utc>,
    pub expires_at: Option<DateTime<Utc>>,
    pub revoked_at: Option<DateTime<Utc>>,
    pub revoked_reason: Option<String>,
    /// The key in whose place it came.
    pub replaces: Option<Uuid>,
}

/// A service account as it is now. Its JSON form is what change rows hold.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ServiceRow {
    pub tenant_id: Uuid,
    pub service_id: Uuid,
    pub name: String,
    pub roles: BTreeSet<TenantRole>,
    pub status: ServiceStatus,
    /// Once deactivated.
    pub deactivated_reason: Option<String>,
    /// In the order in which they were issued.
    pub keys: Vec<KeyRow>,
    /// Events in its stream: what an `expectedVersion` is compared with.
    pub version: i64,
    pub registered_at: DateTime<Utc>,
    pub changed_at: DateTime<Utc>,
    /// Of the last event, within the tenant.
    pub tenant_position: i64,
    /// Of the last event, in the journal; never shown outside.
    pub position: i64,
}

/// In the order of the fields.
pub(super) const COLUMNS: &[&str] = &[
    "tenant_id",
    "service_id",
    "name",
    "roles",
    "status",
    "deactivated_reason",
    "keys",
    "version",
    "registered_at",
    "changed_at",
    "tenant_position",
    "position",
];

impl ServiceRow {
    /// From [`COLUMNS`].
    pub(super) fn from_row(row: &Row) -> Result<Self, ReadError> {
        let damaged = || ReadError::Damaged { read_model: "services" };
        let roles: Vec<&str> = row.get(3);
        let Json(keys) = row.try_get::<_, Json<Vec<KeyRow>>>(6).map_err(|_| damaged())?;
        Ok(ServiceRow {
            tenant_id: row.get(0),
            service_id: row.get(1),
            name: row.get(2),
            roles: roles.iter().map(|text| TenantRole::parse(text).map_err(|_| damaged())).collect::<Result<_, _>>()?,
            status: ServiceStatus::from_column(row.get(4), "services")?,
            deactivated_reason: row.get(5),
            keys,
            version: row.get(7),
            registered_at: row.get(8),
            changed_at: row.get(9),
            tenant_position: row.get(10),
            position: row.get(11),
        })
    }

    fn key(&mut self, id: Uuid) -> Option<&mut KeyRow> {
        self.keys.iter_mut().find(|key| key.id == id)
    }
}

/// History is not judged, as in the aggregate.
pub(super) fn folded(row: Option<ServiceRow>, happened: ServiceEvent, event: &OpenedEvent) -> Option<ServiceRow> {
    use ServiceEvent as E;
    let at = event.recorded_at;
    let issued = |id: Uuid, scopes: BTreeSet<String>, expires_at, replaces| KeyRow {
        id,
        scopes,
        issued_at: at,
        expires_at,
        revoked_at: None,
        revoked_reason: None,
        replaces,
    };
    let mut row = match (row, happened) {
        (_, E::Registered { name, roles }) => ServiceRow {
            tenant_id: event.tenant.0,
            service_id: event.stream_id,
            name: name.as_str().to_owned(),
            roles,
            status: ServiceStatus::Active,
            deactivated_reason: None,
            keys: Vec::new(),
            version: 0,
            registered_at: at,
            changed_at: at,
            tenant_position: 0,
            position: 0,
        },
        (None, _) => return None,
        (Some(mut row), happened) => {
            match happened {
                E::KeyIssued { key, scopes, expires_at } => {
                    let scopes = scopes.iter().map(|scope| scope.as_str().to_owned()).collect();
                    row.keys.push(issued(key.0, scopes, expires_at, None));
                }
                E::KeyRotated { old, new, overlap_until, expires_at } => {
                    if let Some(replaced) = row.key(old.0) {
                        replaced.expires_at = Some(overlap_until);
                        let scopes = replaced.scopes.clone();
                        row.keys.push(issued(new.0, scopes, expires_at, Some(old.0)));
                    }
                }
                E::KeyRevoked { key, reason } => {
                    if let Some(key) = row.key(key.0) {
                        key.revoked_at = Some(at);
                        key.revoked_reason = Some(reason.as_str().to_owned());
                    }
                }
                E::Deactivated { reason } => {
                    row.status = ServiceStatus::Deactivated;
                    row.deactivated_reason = Some(reason.as_str().to_owned());
                }
                E::Registered { .. } => {}
            }
            row
        }
    };
    row.version = signed(event.sequence);
    row.changed_at = at;
    row.tenant_position = signed(event.tenant_position);
    row.position = signed(event.position);
    Some(row)
}
