//! A grant's row, and how events change it.

use super::super::text_enum;
use super::access::{Access, Surroundings, access};
use crate::engine::{OpenedEvent, signed};
use crate::platform::members::MemberStatus;
use crate::platform::modules::ModuleStatus;
use crate::read::ReadError;
use chrono::{DateTime, Utc};
use daybook_domain::platform::AccessGrantEvent;
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;
use uuid::Uuid;

text_enum! {
    /// Whether a grant was revoked. Whether it has expired, only a clock can tell.
    GrantStatus {
        Granted = "GRANTED",
        Revoked = "REVOKED",
    }
}

/// A grant as it is now. Its JSON form is what change rows hold.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GrantRow {
    pub tenant_id: Uuid,
    pub grant_id: Uuid,
    pub membership_id: Uuid,
    pub module_id: Uuid,
    /// The key of a role of the module.
    pub role: String,
    /// The first moment at which it allows; none: at once.
    pub from_at: Option<DateTime<Utc>>,
    /// The first moment at which it denies again; none: without an end.
    pub until_at: Option<DateTime<Utc>>,
    pub status: GrantStatus,
    /// Why it is as it is: of the last event.
    pub reason: String,
    /// Events in the grant's stream: what an `expectedVersion` is compared with.
    pub version: i64,
    /// When it was granted last.
    pub granted_at: DateTime<Utc>,
    pub changed_at: DateTime<Utc>,
    /// Of the last event, within the tenant.
    pub tenant_position: i64,
    /// Of the last event, in the journal; never shown outside.
    pub position: i64,
}

/// A grant, and what it came to at a moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GrantView {
    pub grant: GrantRow,
    pub access: Access,
}

/// In the order of the fields.
pub(super) const COLUMNS: &[&str] = &[
    "tenant_id",
    "grant_id",
    "membership_id",
    "module_id",
    "role",
    "from_at",
    "until_at",
    "status",
    "reason",
    "version",
    "granted_at",
    "changed_at",
    "tenant_position",
    "position",
];

impl GrantRow {
    /// From [`COLUMNS`].
    fn from_row(row: &Row) -> Result<Self, ReadError> {
        Ok(GrantRow {
            tenant_id: row.get(0),
            grant_id: row.get(1),
            membership_id: row.get(2),
            module_id: row.get(3),
            role: row.get(4),
            from_at: row.get(5),
            until_at: row.get(6),
            status: GrantStatus::from_column(row.get(7), "grants")?,
            reason: row.get(8),
            version: row.get(9),
            granted_at: row.get(10),
            changed_at: row.get(11),
            tenant_position: row.get(12),
            position: row.get(13),
        })
    }
}

impl GrantView {
    /// From [`COLUMNS`] and, after them, the status of the membership, that of the module, whether it has the
    /// role, and whether it is switched off for all tenants and for the member.
    pub(super) fn from_row(row: &Row, now: DateTime<Utc>) -> Result<Self, ReadError> {
        let grant = GrantRow::from_row(row)?;
        let after = COLUMNS.len();
        let member: Option<&str> = row.get(after);
        let module: Option<&str> = row.get(after + 1);
        let around = Surroundings {
            member: member.map(|text| MemberStatus::from_column(text, "members")).transpose()?,
            module: module.map(|text| ModuleStatus::from_column(text, "modules")).transpose()?,
            role_held: row.get(after + 2),
            off_on_platform: row.get(after + 3),
            off_for_member: row.get(after + 4),
        };
        Ok(GrantView { access: access(&grant, around, now), grant })
    }
}

/// History is not judged, as in the aggregate.
pub(super) fn folded(row: Option<GrantRow>, happened: AccessGrantEvent, event: &OpenedEvent) -> Option<GrantRow> {
    use AccessGrantEvent as E;
    let mut row = match (row, happened) {
        (_, E::Granted { membership, module, role, from, until, reason }) => GrantRow {
            tenant_id: event.tenant.0,
            grant_id: event.stream_id,
            membership_id: membership.0,
            module_id: module.0,
            role: role.as_str().to_owned(),
            from_at: from,
            until_at: until,
            status: GrantStatus::Granted,
            reason: reason.as_str().to_owned(),
            version: 0,
            granted_at: event.recorded_at,
            changed_at: event.recorded_at,
            tenant_position: 0,
            position: 0,
        },
        (None, _) => return None,
        (Some(mut row), happened) => {
            match happened {
                E::ExpiryChanged { until, reason } if row.status == GrantStatus::Granted => {
                    row.until_at = until;
                    row.reason = reason.as_str().to_owned();
                }
                E::Revoked { reason } => {
                    row.status = GrantStatus::Revoked;
                    row.reason = reason.as_str().to_owned();
                }
                E::ExpiryChanged { .. } | E::Granted { .. } => {}
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
