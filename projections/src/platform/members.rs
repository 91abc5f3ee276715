//! Members as they are now: one row per membership, in its tenant.
//!
//! Refuses to know the person behind it, which is the account's.

mod queries;
pub(super) mod row;

pub use queries::{MemberField, MemberFilter, by_ids, count, member, page, page_query};
pub use row::{MemberRow, MemberStatus};

use super::own_tenant_only;
use crate::engine::{ApplyError, OpenedEvent, ReadModel};
use uuid::Uuid;

/// The read model `members`.
pub struct Members;

impl ReadModel for Members {
    const NAME: &'static str = "members";
    const LANES: u16 = 4;
    const KEY: &'static [&'static str] = &["tenant_id", "membership_id"];
    const ID: &'static str = "membership_id";
    const COLUMNS: &'static [&'static str] = row::COLUMNS;

    type Row = MemberRow;

    fn create_sql(version: u32) -> String {
        let table = Self::table(version);
        let policies = own_tenant_only(&table);
        format!(
            r#"create table {table} (
                tenant_id       uuid        not null,
                membership_id   uuid        not null,
                account_id      uuid        not null,
                roles           text[]      not null,
                status          text        not null,
                ended_reason    text,
                version         bigint      not null,
                added_at        timestamptz not null,
                changed_at      timestamptz not null,
                tenant_position bigint      not null,
                position        bigint      not null,
                primary key (tenant_id, membership_id)
            );
            {policies}"#
        )
    }

    fn index_sql(version: u32) -> String {
        let table = Self::table(version);
        let index = format!("members_v{version}");
        format!(
            r#"create index {index}_by_addition on {table} (tenant_id, added_at, membership_id);
            create index {index}_by_status on {table} (tenant_id, status, added_at, membership_id);
            create index {index}_by_account on {table} (tenant_id, account_id);"#
        )
    }

    fn wants(event_type: &str) -> bool {
        event_type.starts_with("platform.membership.")
    }

    fn id(event: &OpenedEvent) -> Uuid {
        event.stream_id
    }

    fn fold(row: Option<MemberRow>, event: &OpenedEvent) -> Result<Option<MemberRow>, ApplyError> {
        event.fold_into(row, row::folded)
    }
}
