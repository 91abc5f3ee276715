//! Grants as they are now: one row per grant, in its tenant; and who may use what, now or at an earlier moment.
//!
//! Whether a grant allows is computed when it is read, from the grant, its membership, its module and the clock: no
//! event has to come for an expired grant to deny. Refuses to decide for a caller: that is [`access`] in one place, for
//! rows of the present and of the past alike.

pub mod access;
mod past;
mod queries;
mod row;

pub use access::{Access, Denial};
pub use past::{EVENTS_MAX, Moment, Past, PastError, off_on_platform, past, past_query};
pub use queries::{GrantField, GrantFilter, Tables, by_ids, count, page, page_query};
pub use row::{GrantRow, GrantStatus, GrantView};

use super::own_tenant_only;
use crate::engine::{ApplyError, OpenedEvent, ReadModel};
use uuid::Uuid;

/// The read model `grants`.
pub struct Grants;

impl ReadModel for Grants {
    const NAME: &'static str = "grants";
    const LANES: u16 = 4;
    const KEY: &'static [&'static str] = &["tenant_id", "grant_id"];
    const ID: &'static str = "grant_id";
    const COLUMNS: &'static [&'static str] = row::COLUMNS;

    type Row = GrantRow;

    fn create_sql(version: u32) -> String {
        let table = Self::table(version);
        let policies = own_tenant_only(&table);
        format!(
            r#"create table {table} (
                tenant_id       uuid        not null,
                grant_id        uuid        not null,
                membership_id   uuid        not null,
                module_id       uuid        not null,
                role            text        collate "C" not null,
                from_at         timestamptz,
                until_at        timestamptz,
                status          text        not null,
                reason          text        not null,
                version         bigint      not null,
                granted_at      timestamptz not null,
                changed_at      timestamptz not null,
                tenant_position bigint      not null,
                position        bigint      not null,
                primary key (tenant_id, grant_id)
            );
            {policies}"#
        )
    }

    fn index_sql(version: u32) -> String {
        let table = Self::table(version);
        let index = format!("grants_v{version}");
        format!(
            r#"create index {index}_by_time on {table} (tenant_id, granted_at, grant_id);
            create index {index}_by_member on {table} (tenant_id, membership_id, granted_at, grant_id);
            create index {index}_by_module on {table} (tenant_id, module_id, granted_at, grant_id);
            create index {index}_by_role on {table} (tenant_id, role, granted_at, grant_id);
            create index {index}_by_end on {table} (tenant_id, until_at, grant_id) where until_at is not null;
            -- Those that may allow, which may be few among many revoked ones.
            create index {index}_open on {table} (tenant_id, granted_at, grant_id) where status = 'GRANTED';"#
        )
    }

    fn wants(event_type: &str) -> bool {
        event_type.starts_with("platform.grant.")
    }

    fn id(event: &OpenedEvent) -> Uuid {
        event.stream_id
    }

    fn fold(row: Option<GrantRow>, event: &OpenedEvent) -> Result<Option<GrantRow>, ApplyError> {
        event.fold_into(row, row::folded)
    }
}
