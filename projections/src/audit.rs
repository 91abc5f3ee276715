//! The audit trail: one row per event, telling who did what, when and to what.
//!
//! It holds no content: old and new values are folded from the journal when somebody asks ([`history`]), so that an
//! erased person is erased here too. Every event has a row, whatever its metadata; nothing here is personal.

mod denied;
mod history;
mod live;
mod queries;
mod row;

pub use denied::{DeniedCursor, DeniedField, DeniedFilter, DeniedRow, denied_page, denied_query, minute_of};
pub use history::{HISTORY_BYTES_MAX, HISTORY_MAX, History, Wanted, history, history_query, history_within};
pub use live::{LIVE_PAGE, LivePage, recorded_after};
pub use queries::{AuditCursor, AuditField, AuditFilter, Trail, page, page_query};
pub use row::AuditRow;

use crate::engine::{ApplyError, OpenedEvent, SeriesModel, signed};
use chrono::{DateTime, Utc};
use daybook_store::database::DatabaseError;
use deadpool_postgres::Transaction;
use uuid::Uuid;

/// The read model `audit`.
pub struct Audit;

impl SeriesModel for Audit {
    const NAME: &'static str = "audit";
    const LANES: u16 = 4;
    const OPENS: bool = false;

    type Row = AuditRow;

    fn create_sql(version: u32) -> String {
        let table = Self::table(version);
        format!(
            r#"create table {table} (
                tenant_id       uuid        not null,
                tenant_position bigint      not null,
                event_id        uuid        not null,
                recorded_at     timestamptz not null,
                actor           uuid,
                actor_kind      text,
                on_behalf_of    uuid,
                command         text,
                command_id      uuid,
                -- "C": compared byte by byte, so that row policies let the index be used.
                correlation     text        collate "C",
                stream_type     text        collate "C" not null,
                stream_id       uuid        not null,
                sequence        bigint      not null,
                event_type      text        collate "C" not null,
                primary key (tenant_id, tenant_position)
            );
            alter table {table} enable row level security;
            alter table {table} force row level security;
            create policy projector on {table} to daybook_projector using (true) with check (true);
            -- Also the platform reads one tenant's trail at a time.
            create policy own_tenant on {table} for select to daybook_reader
                using (tenant_id = (select nullif(current_setting('app.tenant', true), '')::uuid));
            grant select on {table} to daybook_reader;"#
        )
    }

    fn index_sql(version: u32) -> String {
        let table = Self::table(version);
        let index = format!("audit_v{version}");
        format!(
            r#"create index {index}_by_actor on {table} (tenant_id, actor, tenant_position);
            create index {index}_by_subject on {table} (tenant_id, stream_id, tenant_position);
            create index {index}_by_subject_type on {table} (tenant_id, stream_type, tenant_position);
            create index {index}_by_event_type on {table} (tenant_id, event_type, tenant_position);
            create index {index}_by_command on {table} (tenant_id, command_id, tenant_position);
            create index {index}_by_correlation on {table} (tenant_id, correlation, tenant_position);
            -- Time follows position within a tenant: a range of one becomes a range of the other.
            create index {index}_by_time on {table} (tenant_id, recorded_at, tenant_position);"#
        )
    }

    fn drop_sql(version: u32) -> String {
        format!("drop table if exists {}", Self::table(version))
    }

    fn wants(_event_type: &str) -> bool {
        true
    }

    fn rows(event: &OpenedEvent) -> Result<Vec<AuditRow>, ApplyError> {
        Ok(vec![AuditRow::of(event)])
    }

    async fn store(tx: &Transaction<'_>, version: u32, rows: &[AuditRow]) -> Result<(), DatabaseError> {
        let sql = format!(
            "insert into {} ({}) select * from unnest(
                 $1::uuid[], $2::bigint[], $3::uuid[], $4::timestamptz[], $5::uuid[], $6::text[], $7::uuid[],
                 $8::text[], $9::uuid[], $10::text[], $11::text[], $12::uuid[], $13::bigint[], $14::text[])",
            Self::table(version),
            row::COLUMNS,
        );
        let statement = tx.prepare_cached(&sql).await.map_err(DatabaseError::Query)?;
        let tenant: Vec<Uuid> = rows.iter().map(|row| row.tenant.0).collect();
        let tenant_position: Vec<i64> = rows.iter().map(|row| signed(row.tenant_position)).collect();
        let event_id: Vec<Uuid> = rows.iter().map(|row| row.event_id).collect();
        let recorded_at: Vec<DateTime<Utc>> = rows.iter().map(|row| row.recorded_at).collect();
        let actor: Vec<Option<Uuid>> = rows.iter().map(|row| row.actor).collect();
        let actor_kind: Vec<Option<&str>> = rows.iter().map(|row| row.actor_kind.as_deref()).collect();
        let on_behalf_of: Vec<Option<Uuid>> = rows.iter().map(|row| row.on_behalf_of).collect();
        let command: Vec<Option<&str>> = rows.iter().map(|row| row.command.as_deref()).collect();
        let command_id: Vec<Option<Uuid>> = rows.iter().map(|row| row.command_id).collect();
        let correlation: Vec<Option<&str>> = rows.iter().map(|row| row.correlation.as_deref()).collect();
        let stream_type: Vec<&str> = rows.iter().map(|row| row.stream_type.as_str()).collect();
        let stream_id: Vec<Uuid> = rows.iter().map(|row| row.stream_id).collect();
        let sequence: Vec<i64> = rows.iter().map(|row| signed(row.sequence)).collect();
        let event_type: Vec<&str> = rows.iter().map(|row| row.event_type.as_str()).collect();
        tx.execute(
            &statement,
            &[
                &tenant,
                &tenant_position,
                &event_id,
                &recorded_at,
                &actor,
                &actor_kind,
                &on_behalf_of,
                &command,
                &command_id,
                &correlation,
                &stream_type,
                &stream_id,
                &sequence,
                &event_type,
            ],
        )
        .await
        .map_err(DatabaseError::Query)?;
        Ok(())
    }
}
