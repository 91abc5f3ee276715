//! A session's row, and how events change it.

use crate::engine::{OpenedEvent, signed};
use chrono::{DateTime, Utc};
use daybook_domain::platform::SessionEvent;
use daybook_domain::platform::session::Ending;
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;
use uuid::Uuid;

/// A session as it is now. Its JSON form is what change rows hold.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SessionRow {
    /// The platform's.
    pub tenant_id: Uuid,
    pub session_id: Uuid,
    pub account_id: Uuid,
    /// The tenant that it is in.
    pub in_tenant_id: Uuid,
    /// E.g. `password`.
    pub method: String,
    pub account_generation: i64,
    pub started_at: DateTime<Utc>,
    /// When it was gone on with last.
    pub used_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
    /// How, once it has: e.g. `logged_out`.
    pub ended: Option<String>,
    pub ended_reason: Option<String>,
    pub version: i64,
    pub changed_at: DateTime<Utc>,
    /// Of the last event, within the platform's tenant.
    pub tenant_position: i64,
    /// Of the last event, in the journal; never shown outside.
    pub position: i64,
}

/// In the order of the fields.
pub(super) const COLUMNS: &[&str] = &[
    "tenant_id",
    "session_id",
    "account_id",
    "in_tenant_id",
    "method",
    "account_generation",
    "started_at",
    "used_at",
    "expires_at",
    "ended",
    "ended_reason",
    "version",
    "changed_at",
    "tenant_position",
    "position",
];

impl SessionRow {
    /// From [`COLUMNS`].
    pub(super) fn from_row(row: &Row) -> Self {
        SessionRow {
            tenant_id: row.get(0),
            session_id: row.get(1),
            account_id: row.get(2),
            in_tenant_id: row.get(3),
            method: row.get(4),
            account_generation: row.get(5),
            started_at: row.get(6),
            used_at: row.get(7),
            expires_at: row.get(8),
            ended: row.get(9),
            ended_reason: row.get(10),
            version: row.get(11),
            changed_at: row.get(12),
            tenant_position: row.get(13),
            position: row.get(14),
        }
    }
}

/// History is not judged, as in the aggregate.
pub(super) fn folded(row: Option<SessionRow>, happened: SessionEvent, event: &OpenedEvent) -> Option<SessionRow> {
    use SessionEvent as E;
    let mut row = match (row, happened) {
        (_, E::Started { account, tenant, method, account_generation, expires_at, .. }) => SessionRow {
            tenant_id: event.tenant.0,
            session_id: event.stream_id,
            account_id: account.0,
            in_tenant_id: tenant.0,
            method: method.as_str().to_owned(),
            account_generation: signed(account_generation),
            started_at: event.recorded_at,
            used_at: event.recorded_at,
            expires_at,
            ended: None,
            ended_reason: None,
            version: 0,
            changed_at: event.recorded_at,
            tenant_position: 0,
            position: 0,
        },
        (None, _) => return None,
        (Some(mut row), happened) => {
            match happened {
                E::Refreshed { .. } if row.ended.is_none() => row.used_at = event.recorded_at,
                E::TenantSwitched { tenant, .. } if row.ended.is_none() => row.in_tenant_id = tenant.0,
                E::Ended { how } => {
                    row.ended = Some(how.as_str().to_owned());
                    row.ended_reason = match how {
                        Ending::Revoked { reason } => reason.map(|reason| reason.as_str().to_owned()),
                        Ending::LoggedOut | Ending::ReuseDetected | Ending::Expired => None,
                    };
                }
                E::Started { .. } | E::Refreshed { .. } | E::TenantSwitched { .. } => {}
            }
            row
        }
    };
    row.version = signed(event.sequence);
    row.changed_at = event.recorded_at;
    row.tenant_position = signed(event.tenant_position);
    row.position = signed(event.position);
    Some(row)
}
