//! Readings as they were recorded, and added up by the hour. Both are one read model with one checkpoint, so that
//! the sums are those of the rows at every moment.
//!
//! Hours are UTC's: hours of a zone at half an hour's distance are half of each of two. A slot that history gives
//! twice keeps its first value, as the aggregate would have had it, and is added up once.

mod queries;

pub use queries::{
    HourRow, ReadingRow, Span, Totals, hourly_pages, hourly_query, raw_pages, raw_query, totals, totals_query,
};

use crate::engine::{ApplyError, OpenedEvent, SeriesModel};
use chrono::{DateTime, Datelike, Utc};
use daybook_domain::energy::ReadingsEvent;
use daybook_domain::energy::readings::Quality;
use daybook_store::database::DatabaseError;
use deadpool_postgres::Transaction;
use std::collections::BTreeSet;
use uuid::Uuid;

/// The read model `readings`: a table of that name, and `readings_hourly`.
pub struct ReadingsSeries;

/// One reading on its way into the table.
pub struct Reading {
    tenant: Uuid,
    device: Uuid,
    start: DateTime<Utc>,
    energy_wh: i64,
    quality: Quality,
}

impl ReadingsSeries {
    pub fn hourly_table(version: u32) -> String {
        format!("read.readings_hourly_v{version}")
    }
}

impl SeriesModel for ReadingsSeries {
    const NAME: &'static str = "readings";
    const LANES: u16 = 4;

    type Row = Reading;

    fn create_sql(version: u32) -> String {
        let (raw, hourly) = (Self::table(version), Self::hourly_table(version));
        let policies = |table: &str| {
            format!(
                "alter table {table} enable row level security;
                 alter table {table} force row level security;
                 create policy projector on {table} to daybook_projector using (true) with check (true);
                 create policy own_tenant on {table} for select to daybook_reader
                     using (tenant_id = (select nullif(current_setting('app.tenant', true), '')::uuid));
                 grant select on {table} to daybook_reader;"
            )
        };
        format!(
            "create table {raw} (
                 tenant_id uuid        not null,
                 device_id uuid        not null,
                 start     timestamptz not null,
                 energy_wh bigint      not null,
                 quality   text        not null,
                 primary key (tenant_id, device_id, start)
             ) partition by range (start);
             create table {hourly} (
                 tenant_id uuid        not null,
                 device_id uuid        not null,
                 hour      timestamptz not null,
                 sum_wh    bigint      not null,
                 count     integer     not null,
                 primary key (tenant_id, device_id, hour)
             ) with (fillfactor = 80);
             {} {}",
            policies(&raw),
            policies(&hourly)
        )
    }

    fn drop_sql(version: u32) -> String {
        format!("drop table if exists {}; drop table if exists {}", Self::table(version), Self::hourly_table(version))
    }

    fn wants(event_type: &str) -> bool {
        event_type.starts_with("energy.readings.")
    }

    fn rows(event: &OpenedEvent) -> Result<Vec<Reading>, ApplyError> {
        let mut readings = Vec::new();
        for happened in event.decode::<ReadingsEvent>()? {
            let ReadingsEvent::Recorded { device, .. } = &happened;
            let (tenant, device) = (event.tenant.0, device.0);
            readings.extend(happened.rows().map(|row| Reading {
                tenant,
                device,
                start: row.start,
                energy_wh: row.energy_wh,
                quality: row.quality,
            }));
        }
        Ok(readings)
    }

    async fn store(tx: &Transaction<'_>, version: u32, rows: &[Reading]) -> Result<(), DatabaseError> {
        ensure_partitions(tx, version, rows).await?;
        // In the order of the key, where neighbours meet on the same page; what comes twice stays in the order of history.
        let mut rows: Vec<&Reading> = rows.iter().collect();
        rows.sort_by_key(|row| (row.tenant, row.device, row.start));
        let tenant: Vec<Uuid> = rows.iter().map(|row| row.tenant).collect();
        let device: Vec<Uuid> = rows.iter().map(|row| row.device).collect();
        let start: Vec<DateTime<Utc>> = rows.iter().map(|row| row.start).collect();
        let energy: Vec<i64> = rows.iter().map(|row| row.energy_wh).collect();
        let quality: Vec<&str> = rows.iter().map(|row| row.quality.as_str()).collect();
        let sql = format!(
            "with added as (
                 insert into {raw} (tenant_id, device_id, start, energy_wh, quality)
                 select * from unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::bigint[], $5::text[])
                 on conflict do nothing
                 returning tenant_id, device_id, start, energy_wh
             )
             insert into {hourly} as h (tenant_id, device_id, hour, sum_wh, count)
             select tenant_id, device_id, date_bin('1 hour', start, '1970-01-01 00:00:00+00'), sum(energy_wh)::bigint,
                    count(*)::integer
             from added group by 1, 2, 3
             on conflict (tenant_id, device_id, hour) do update
             set sum_wh = h.sum_wh + excluded.sum_wh, count = h.count + excluded.count",
            raw = Self::table(version),
            hourly = Self::hourly_table(version),
        );
        let statement = tx.prepare_cached(&sql).await.map_err(DatabaseError::Query)?;
        tx.execute(&statement, &[&tenant, &device, &start, &energy, &quality]).await.map_err(DatabaseError::Query)?;
        Ok(())
    }
}

/// Makes the months that the rows fall into. A partition is attached rather than created in place: that keeps no
/// reader and no other lane's rows waiting.
async fn ensure_partitions(tx: &Transaction<'_>, version: u32, rows: &[Reading]) -> Result<(), DatabaseError> {
    let months: BTreeSet<(i32, u32)> = rows.iter().map(|row| (row.start.year(), row.start.month())).collect();
    let months: Vec<(i32, u32)> = months.into_iter().collect();
    let mut missing = missing(tx, version, &months).await?;
    if missing.is_empty() {
        return Ok(());
    }
    let parent = ReadingsSeries::table(version);
    // Two lanes that need the same month take turns, and the second finds it made.
    tx.batch_execute(&format!("lock table {parent} in share update exclusive mode"))
        .await
        .map_err(DatabaseError::Query)?;
    missing = self::missing(tx, version, &missing).await?;
    for (year, month) in missing {
        let (next_year, next_month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
        let name = partition(version, (year, month));
        tx.batch_execute(&format!(
            "create table {name} (like {parent} including defaults including indexes);
             alter table {name} enable row level security;
             alter table {name} force row level security;
             alter table {name} add constraint month check (start >= '{year:04}-{month:02}-01 00:00:00+00'
                 and start < '{next_year:04}-{next_month:02}-01 00:00:00+00');
             alter table {parent} attach partition {name}
                 for values from ('{year:04}-{month:02}-01 00:00:00+00')
                 to ('{next_year:04}-{next_month:02}-01 00:00:00+00');
             alter table {name} drop constraint month"
        ))
        .await
        .map_err(DatabaseError::Query)?;
    }
    Ok(())
}

fn partition(version: u32, (year, month): (i32, u32)) -> String {
    format!("{}_{year:04}_{month:02}", ReadingsSeries::table(version))
}

/// Those of the months that have no partition yet.
async fn missing(tx: &Transaction<'_>, version: u32, months: &[(i32, u32)]) -> Result<Vec<(i32, u32)>, DatabaseError> {
    let names: Vec<String> = months.iter().map(|month| partition(version, *month)).collect();
    let statement = tx
        .prepare_cached(
            "select to_regclass(name) is null from unnest($1::text[]) with ordinality u(name, n) order by n",
        )
        .await
        .map_err(DatabaseError::Query)?;
    let rows = tx.query(&statement, &[&names]).await.map_err(DatabaseError::Query)?;
    Ok(months.iter().zip(&rows).filter(|(_, row)| row.get(0)).map(|(month, _)| *month).collect())
}
