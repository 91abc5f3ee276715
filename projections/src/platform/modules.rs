//! Modules as they are now: one row per module, in its tenant, with its manifest while it is not retired.
//!
//! Refuses to say who may use them: those are grants.

mod queries;
pub(super) mod row;

pub use queries::{ModuleField, ModuleFilter, ModuleOrderBy, by_ids, by_key, count, module, page, page_query};
pub use row::{ModuleRow, ModuleStatus};

use super::own_tenant_only;
use crate::engine::{ApplyError, OpenedEvent, ReadModel};
use uuid::Uuid;

/// The read model `modules`.
pub struct Modules;

impl ReadModel for Modules {
    const NAME: &'static str = "modules";
    const LANES: u16 = 4;
    const KEY: &'static [&'static str] = &["tenant_id", "module_id"];
    const ID: &'static str = "module_id";
    const COLUMNS: &'static [&'static str] = row::COLUMNS;

    type Row = ModuleRow;

    fn create_sql(version: u32) -> String {
        let table = Self::table(version);
        let policies = own_tenant_only(&table);
        format!(
            r#"create table {table} (
                tenant_id       uuid        not null,
                module_id       uuid        not null,
                key             text        collate "C" not null,
                name            text        not null,
                name_key        text        collate "C" not null,
                module_version  text        not null,
                status          text        not null,
                reason          text,
                -- Null once retired.
                manifest        jsonb,
                -- Those of the manifest: what a grant's role is looked for in.
                role_keys       text[]      not null,
                version         bigint      not null,
                registered_at   timestamptz not null,
                changed_at      timestamptz not null,
                tenant_position bigint      not null,
                position        bigint      not null,
                primary key (tenant_id, module_id)
            );
            {policies}"#
        )
    }

    fn index_sql(version: u32) -> String {
        let table = Self::table(version);
        let index = format!("modules_v{version}");
        format!(
            r#"create index {index}_by_registration on {table} (tenant_id, registered_at, module_id);
            create index {index}_by_name on {table} (tenant_id, name_key, module_id);
            create index {index}_by_key on {table} (tenant_id, key);
            create index {index}_by_status on {table} (tenant_id, status, registered_at, module_id);
            create index {index}_by_status_and_name on {table} (tenant_id, status, name_key, module_id);"#
        )
    }

    fn wants(event_type: &str) -> bool {
        event_type.starts_with("platform.module.")
    }

    fn id(event: &OpenedEvent) -> Uuid {
        event.stream_id
    }

    fn fold(row: Option<ModuleRow>, event: &OpenedEvent) -> Result<Option<ModuleRow>, ApplyError> {
        event.fold_into(row, row::folded)
    }
}
