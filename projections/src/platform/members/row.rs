//! A member's row, and how events change it.

use super::super::text_enum;
use crate::engine::{OpenedEvent, signed};
use crate::read::ReadError;
use chrono::{DateTime, Utc};
use daybook_domain::platform::membership::RoleName;
use daybook_domain::platform::{HeldRole, MembershipEvent, TenantRole};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use tokio_postgres::Row;
use uuid::Uuid;

text_enum! {
    /// Whether a membership holds.
    MemberStatus {
        Active = "ACTIVE",
        Ended = "ENDED",
    }
}

/// A membership as it is now. Its JSON form is what change rows hold.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MemberRow {
    pub tenant_id: Uuid,
    pub membership_id: Uuid,
    pub account_id: Uuid,
    /// None once ended.
    pub roles: BTreeSet<HeldRole>,
    pub status: MemberStatus,
    /// Once ended.
    pub ended_reason: Option<String>,
    /// Events in the membership's stream: what an `expectedVersion` is compared with.
    pub version: i64,
    /// When the account became a member for the first time.
    pub added_at: DateTime<Utc>,
    pub changed_at: DateTime<Utc>,
    /// Of the last event, within the tenant.
    pub tenant_position: i64,
    /// Of the last event, in the journal; never shown outside.
    pub position: i64,
}

/// In the order of the fields.
pub(in super::super) const COLUMNS: &[&str] = &[
    "tenant_id",
    "membership_id",
    "account_id",
    "roles",
    "status",
    "ended_reason",
    "version",
    "added_at",
    "changed_at",
    "tenant_position",
    "position",
];

impl MemberRow {
    /// From [`COLUMNS`].
    pub(in super::super) fn from_row(row: &Row) -> Result<Self, ReadError> {
        let roles: Vec<String> = row.get(3);
        let role = |text: String| HeldRole::try_from(text).map_err(|_| ReadError::Damaged { read_model: "members" });
        Ok(MemberRow {
            tenant_id: row.get(0),
            membership_id: row.get(1),
            account_id: row.get(2),
            roles: roles.into_iter().map(role).collect::<Result<_, _>>()?,
            status: MemberStatus::from_column(row.get(4), "members")?,
            ended_reason: row.get(5),
            version: row.get(6),
            added_at: row.get(7),
            changed_at: row.get(8),
            tenant_position: row.get(9),
            position: row.get(10),
        })
    }
}

/// Roles of both kinds, as one column has them.
fn held(built_in: BTreeSet<TenantRole>, custom: BTreeSet<RoleName>) -> BTreeSet<HeldRole> {
    built_in.into_iter().map(HeldRole::BuiltIn).chain(custom.into_iter().map(HeldRole::Custom)).collect()
}

/// History is not judged, as in the aggregate.
pub(in super::super) fn folded(
    row: Option<MemberRow>,
    happened: MembershipEvent,
    event: &OpenedEvent,
) -> Option<MemberRow> {
    use MembershipEvent as E;
    let mut row = match (row, happened) {
        (row, E::Added { account, roles, custom }) => MemberRow {
            tenant_id: event.tenant.0,
            membership_id: event.stream_id,
            account_id: account.0,
            roles: held(roles, custom),
            status: MemberStatus::Active,
            ended_reason: None,
            version: 0,
            added_at: row.map_or(event.recorded_at, |row| row.added_at),
            changed_at: event.recorded_at,
            tenant_position: 0,
            position: 0,
        },
        (None, _) => return None,
        (Some(mut row), happened) => {
            match happened {
                E::RolesChanged { added, removed, custom_added, custom_removed }
                    if row.status == MemberStatus::Active =>
                {
                    row.roles = &(&row.roles - &held(removed, custom_removed)) | &held(added, custom_added);
                }
                E::Ended { reason } => {
                    row.status = MemberStatus::Ended;
                    row.ended_reason = Some(reason.as_str().to_owned());
                    row.roles.clear();
                }
                E::Rejoined { roles, custom } => {
                    row.status = MemberStatus::Active;
                    row.ended_reason = None;
                    row.roles = held(roles, custom);
                }
                E::RolesChanged { .. }
                | E::Added { .. }
                // A row of another read model.
                | E::ModuleSwitchedOff { .. }
                | E::ModuleSwitchedOn { .. } => {}
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
