//! Tenants as they are now: one row per tenant, seen by itself and by the platform.
//!
//! Closing a tenant removes what is personal and what is free again from its row, as it does from
//! the aggregate's state. A person who was erased is gone from rows made after that; the flag
//! `contact_erased` tells that somebody was there.

mod queries;
mod row;

pub use queries::{
    TenantCursor, TenantField, TenantFilter, TenantOrder, TenantOrderBy, count, page, page_query, tenant,
};
pub use row::{TenantRow, TenantStatus};

use crate::engine::{ApplyError, OpenedEvent, ReadModel};
use uuid::Uuid;

/// The read model `tenants`.
pub struct Tenants;

impl ReadModel for Tenants {
    const NAME: &'static str = "tenants";
    const LANES: u16 = 4;
    const KEY: &'static [&'static str] = &["tenant_id"];
    const ID: &'static str = "tenant_id";
    const COLUMNS: &'static [&'static str] = row::COLUMNS;

    type Row = TenantRow;

    fn create_sql(version: u32) -> String {
        let table = Self::table(version);
        format!(
            r#"create table {table} (
                tenant_id        uuid        primary key,
                name             text        not null,
                -- Lower case, for sorting and searching; "C", so that an upgrade of the system's
                -- collations cannot make an index lie.
                name_key         text        collate "C" not null,
                plan             text        not null,
                status           text        not null,
                domain           text        collate "C",
                settings         jsonb       not null,
                contact_subject  uuid,
                contact_name     text,
                contact_email    text,
                contact_erased   boolean     not null,
                suspended_reason text,
                closed_reason    text,
                version          bigint      not null,
                registered_at    timestamptz not null,
                changed_at       timestamptz not null,
                tenant_position  bigint      not null,
                position         bigint      not null
            );
            alter table {table} enable row level security;
            alter table {table} force row level security;
            create policy projector on {table} to daybook_projector using (true) with check (true);
            create policy own_tenant on {table} for select to daybook_reader
                using (tenant_id = (select nullif(current_setting('app.tenant', true), '')::uuid));
            -- A comparison outside the select would be estimated to keep one row in two hundred, and a page
            -- then be read by scanning and sorting the table.
            create policy platform on {table} for select to daybook_reader
                using ((select current_setting('app.platform', true) = 'on'));
            grant select on {table} to daybook_reader;"#
        )
    }

    fn index_sql(version: u32) -> String {
        let table = Self::table(version);
        let index = format!("tenants_v{version}");
        format!(
            r#"create index {index}_by_registration on {table} (registered_at, tenant_id);
            create index {index}_by_name on {table} (name_key, tenant_id);
            create index {index}_by_plan on {table} (plan, registered_at, tenant_id);
            create index {index}_by_status on {table} (status, registered_at, tenant_id);
            create index {index}_by_domain on {table} (domain) where domain is not null;
            create index {index}_by_contact on {table} (contact_subject) where contact_subject is not null;"#
        )
    }

    fn wants(event_type: &str) -> bool {
        event_type.starts_with("platform.tenant.")
    }

    fn id(event: &OpenedEvent) -> Uuid {
        event.tenant.0
    }

    fn fold(row: Option<TenantRow>, event: &OpenedEvent) -> Result<Option<TenantRow>, ApplyError> {
        event.fold_into(row, row::folded)
    }
}
