//! The row of an event.

use crate::engine::{OpenedEvent, unsigned};
use chrono::{DateTime, Utc};
use daybook_domain::TenantId;
use serde::Deserialize;
use tokio_postgres::Row;
use uuid::Uuid;

/// Who did what, when and to what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuditRow {
    pub tenant: TenantId,
    /// 1..n within the tenant; the ordinal of its audit tree.
    pub tenant_position: u64,
    pub event_id: Uuid,
    pub recorded_at: DateTime<Utc>,
    /// Missing, like everything of the metadata, only where an event was written without.
    pub actor: Option<Uuid>,
    /// `account`, `service` or `system`.
    pub actor_kind: Option<String>,
    pub on_behalf_of: Option<Uuid>,
    /// E.g. `tenant.rename`.
    pub command: Option<String>,
    pub command_id: Option<Uuid>,
    pub correlation: Option<String>,
    pub stream_type: String,
    pub stream_id: Uuid,
    /// 1..n within the stream.
    pub sequence: u64,
    pub event_type: String,
}

/// In the order of [`AuditRow::from_row`].
pub(super) const COLUMNS: &str = "tenant_id, tenant_position, event_id, recorded_at, actor, actor_kind, on_behalf_of,
 command, command_id, correlation, stream_type, stream_id, sequence, event_type";

/// The members of an event's metadata that are not personal, and so not sealed.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Head {
    actor: Option<Uuid>,
    actor_kind: Option<String>,
    on_behalf_of: Option<Uuid>,
    command: Option<String>,
    command_id: Option<Uuid>,
    correlation: Option<String>,
}

impl AuditRow {
    pub fn of(event: &OpenedEvent) -> Self {
        // An event whose metadata nobody can read has happened all the same.
        let head: Head = serde_json::from_str(&event.metadata).unwrap_or_default();
        AuditRow {
            tenant: event.tenant,
            tenant_position: event.tenant_position,
            event_id: event.event_id,
            recorded_at: event.recorded_at,
            actor: head.actor,
            actor_kind: head.actor_kind,
            on_behalf_of: head.on_behalf_of,
            command: head.command,
            command_id: head.command_id,
            correlation: head.correlation.filter(|correlation| !correlation.is_empty()),
            stream_type: event.stream_type.clone(),
            stream_id: event.stream_id,
            sequence: event.sequence,
            event_type: event.event_type.clone(),
        }
    }

    pub(super) fn from_row(row: &Row) -> Self {
        AuditRow {
            tenant: TenantId(row.get(0)),
            tenant_position: unsigned(row.get(1)),
            event_id: row.get(2),
            recorded_at: row.get(3),
            actor: row.get(4),
            actor_kind: row.get(5),
            on_behalf_of: row.get(6),
            command: row.get(7),
            command_id: row.get(8),
            correlation: row.get(9),
            stream_type: row.get(10),
            stream_id: row.get(11),
            sequence: unsigned(row.get(12)),
            event_type: row.get(13),
        }
    }
}
