//! A role's row, and how events change it.

use super::super::text_enum;
use crate::engine::{OpenedEvent, signed};
use crate::read::ReadError;
use chrono::{DateTime, Utc};
use daybook_domain::platform::RoleEvent;
use daybook_domain::rules::{FieldRule, Rule};
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;
use tokio_postgres::types::Json;
use uuid::Uuid;

text_enum! {
    /// Whether a role says anything.
    RoleStatus {
        Defined = "DEFINED",
        Removed = "REMOVED",
    }
}

/// A role as it is now. Its JSON form is what change rows hold.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RoleRow {
    pub tenant_id: Uuid,
    pub role_id: Uuid,
    pub key: String,
    pub name: String,
    pub description: String,
    pub status: RoleStatus,
    /// None once removed.
    pub rules: Vec<Rule>,
    pub fields: Vec<FieldRule>,
    pub preset: Option<String>,
    /// Events in the role's stream: what an `expectedVersion` is compared with.
    pub version: i64,
    /// When it was defined last.
    pub defined_at: DateTime<Utc>,
    pub changed_at: DateTime<Utc>,
    /// Of the last event, within the tenant.
    pub tenant_position: i64,
    /// Of the last event, in the journal; never shown outside.
    pub position: i64,
}

/// In the order of the fields.
pub(super) const COLUMNS: &[&str] = &[
    "tenant_id",
    "role_id",
    "key",
    "name",
    "description",
    "status",
    "rules",
    "fields",
    "preset",
    "version",
    "defined_at",
    "changed_at",
    "tenant_position",
    "position",
];

impl RoleRow {
    /// From [`COLUMNS`].
    pub(super) fn from_row(row: &Row) -> Result<Self, ReadError> {
        let damaged = |_| ReadError::Damaged { read_model: "roles" };
        let Json(rules) = row.try_get(6).map_err(damaged)?;
        let Json(fields) = row.try_get(7).map_err(damaged)?;
        Ok(RoleRow {
            tenant_id: row.get(0),
            role_id: row.get(1),
            key: row.get(2),
            name: row.get(3),
            description: row.get(4),
            status: RoleStatus::from_column(row.get(5), "roles")?,
            rules,
            fields,
            preset: row.get(8),
            version: row.get(9),
            defined_at: row.get(10),
            changed_at: row.get(11),
            tenant_position: row.get(12),
            position: row.get(13),
        })
    }
}

/// History is not judged, as in the aggregate.
pub(super) fn folded(row: Option<RoleRow>, happened: RoleEvent, event: &OpenedEvent) -> Option<RoleRow> {
    use RoleEvent as E;
    let mut row = match (row, happened) {
        (_, E::Defined { key, name, description, rules, fields, preset }) => RoleRow {
            tenant_id: event.tenant.0,
            role_id: event.stream_id,
            key: key.as_str().to_owned(),
            name: name.as_str().to_owned(),
            description: description.as_str().to_owned(),
            status: RoleStatus::Defined,
            rules,
            fields,
            preset,
            version: 0,
            defined_at: event.recorded_at,
            changed_at: event.recorded_at,
            tenant_position: 0,
            position: 0,
        },
        (None, _) => return None,
        (Some(row), E::Changed { .. }) if row.status == RoleStatus::Removed => row,
        (Some(row), E::Changed { name, description, rules, fields }) => RoleRow {
            name: name.as_str().to_owned(),
            description: description.as_str().to_owned(),
            rules,
            fields,
            ..row
        },
        (Some(row), E::Removed { .. }) => {
            RoleRow { status: RoleStatus::Removed, rules: Vec::new(), fields: Vec::new(), ..row }
        }
    };
    row.version = signed(event.sequence);
    row.changed_at = event.recorded_at;
    row.tenant_position = signed(event.tenant_position);
    row.position = signed(event.position);
    Some(row)
}
