//! Roles of tenants' own making as they are now: one row per role, in its tenant, removed ones among them.

mod queries;
mod row;

pub use queries::{RoleField, RoleFilter, count, page, role};
pub use row::{RoleRow, RoleStatus};

use super::own_tenant_only;
use crate::engine::{ApplyError, OpenedEvent, ReadModel};
use uuid::Uuid;

/// The read model `roles`.
pub struct Roles;

impl ReadModel for Roles {
    const NAME: &'static str = "roles";
    const LANES: u16 = 4;
    const KEY: &'static [&'static str] = &["tenant_id", "role_id"];
    const ID: &'static str = "role_id";
    const COLUMNS: &'static [&'static str] = row::COLUMNS;

    type Row = RoleRow;

    fn create_sql(version: u32) -> String {
        let table = Self::table(version);
        let policies = own_tenant_only(&table);
        format!(
            r#"create table {table} (
                tenant_id       uuid        not null,
                role_id         uuid        not null,
                key             text        collate "C" not null,
                name            text        not null,
                description     text        not null,
                status          text        not null,
                rules           jsonb       not null,
                fields          jsonb       not null,
                preset          text,
                version         bigint      not null,
                defined_at      timestamptz not null,
                changed_at      timestamptz not null,
                tenant_position bigint      not null,
                position        bigint      not null,
                primary key (tenant_id, role_id)
            );
            {policies}"#
        )
    }

    fn index_sql(version: u32) -> String {
        let table = Self::table(version);
        format!(
            r#"create index roles_v{version}_by_key on {table} (tenant_id, key, role_id);
            create index roles_v{version}_by_status on {table} (tenant_id, status, key, role_id);"#
        )
    }

    fn wants(event_type: &str) -> bool {
        event_type.starts_with("platform.role.")
    }

    fn id(event: &OpenedEvent) -> Uuid {
        event.stream_id
    }

    fn fold(row: Option<RoleRow>, event: &OpenedEvent) -> Result<Option<RoleRow>, ApplyError> {
        event.fold_into(row, row::folded)
    }
}
