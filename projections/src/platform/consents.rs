//! Consents as they are now: one row per customer and provider. Both of them may see it, and nobody else.

mod queries;
mod row;

pub use queries::{ConsentField, ConsentFilter, Side, consent, count, page};
pub use row::{ConsentRow, ConsentStatus};

use crate::engine::{ApplyError, OpenedEvent, ReadModel};
use uuid::Uuid;

/// The read model `consents`.
pub struct Consents;

impl ReadModel for Consents {
    const NAME: &'static str = "consents";
    const LANES: u16 = 4;
    const KEY: &'static [&'static str] = &["tenant_id", "consent_id"];
    const ID: &'static str = "consent_id";
    const COLUMNS: &'static [&'static str] = row::COLUMNS;

    type Row = ConsentRow;

    fn create_sql(version: u32) -> String {
        let table = Self::table(version);
        format!(
            r#"create table {table} (
                tenant_id       uuid        not null,
                consent_id      uuid        not null,
                provider_id     uuid        not null,
                actions         text[]      not null,
                site            text,
                devices         uuid[]      not null,
                status          text        not null,
                until_at        timestamptz not null,
                reason          text        not null,
                version         bigint      not null,
                granted_at      timestamptz not null,
                changed_at      timestamptz not null,
                tenant_position bigint      not null,
                position        bigint      not null,
                primary key (tenant_id, consent_id)
            );
            alter table {table} enable row level security;
            alter table {table} force row level security;
            create policy projector on {table} to daybook_projector using (true) with check (true);
            create policy either_side on {table} for select to daybook_reader
                using ((select nullif(current_setting('app.tenant', true), '')::uuid) in (tenant_id, provider_id));
            grant select on {table} to daybook_reader;"#
        )
    }

    fn index_sql(version: u32) -> String {
        let table = Self::table(version);
        let index = format!("consents_v{version}");
        format!(
            r#"create index {index}_by_customer on {table} (tenant_id, granted_at, consent_id);
            create index {index}_by_provider on {table} (provider_id, granted_at, consent_id);"#
        )
    }

    fn wants(event_type: &str) -> bool {
        event_type.starts_with("platform.consent.")
    }

    fn id(event: &OpenedEvent) -> Uuid {
        event.stream_id
    }

    fn fold(row: Option<ConsentRow>, event: &OpenedEvent) -> Result<Option<ConsentRow>, ApplyError> {
        event.fold_into(row, row::folded)
    }
}
