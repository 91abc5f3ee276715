//! What can be asked about devices' readings: pages in order of time, and totals.

use super::ReadingsSeries;
use crate::engine::{SeriesModel, unsigned};
use crate::read::{Direction, Page, ReadError, ReadSession, Slice};
use chrono::{DateTime, Utc};
use daybook_domain::TenantId;
use daybook_domain::energy::readings::Quality;
use std::collections::HashMap;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

/// A stretch of time of a tenant's devices: from an instant, up to but without another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Span {
    pub tenant: TenantId,
    pub from: DateTime<Utc>,
    pub to: DateTime<Utc>,
}

/// A reading as it was recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadingRow {
    pub start: DateTime<Utc>,
    pub energy_wh: i64,
    pub quality: Quality,
}

/// The readings that begin in an hour of UTC, added up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HourRow {
    pub hour: DateTime<Utc>,
    pub sum_wh: i64,
    pub count: i32,
}

/// Readings added up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    pub count: u64,
    pub sum_wh: i64,
}

type Parameters = Vec<Box<dyn ToSql + Sync + Send>>;

fn borrowed(parameters: &Parameters) -> Vec<&(dyn ToSql + Sync)> {
    parameters.iter().map(|p| &**p as &(dyn ToSql + Sync)).collect()
}

/// A page of every device: as many statements for two hundred of them as for one.
fn query(
    table: &str,
    time: &str,
    columns: &str,
    span: &Span,
    devices: &[Uuid],
    page: &Page<DateTime<Utc>>,
) -> (String, Parameters) {
    // A cursor only narrows the span.
    let (mut from, mut after, mut to) = (span.from, ">=", span.to);
    if let Some(cursor) = page.after.filter(|cursor| *cursor >= from) {
        (from, after) = (cursor, ">");
    }
    if let Some(cursor) = page.before.filter(|cursor| *cursor < to) {
        to = cursor;
    }
    let direction = page.reads(Direction::Ascending).sql();
    let sql = format!(
        "select d.id, r.* from unnest($3::uuid[]) d(id) cross join lateral (
             select {columns} from {table}
             where tenant_id = $2 and device_id = d.id and {time} {after} $4 and {time} < $5
             order by {time} {direction} limit $1
         ) r"
    );
    let parameters: Parameters =
        vec![Box::new(page.fetch()), Box::new(span.tenant.0), Box::new(devices.to_vec()), Box::new(from), Box::new(to)];
    (sql, parameters)
}

/// The statement of pages of readings and its parameters.
pub fn raw_query(version: u32, span: &Span, devices: &[Uuid], page: &Page<DateTime<Utc>>) -> (String, Parameters) {
    query(&ReadingsSeries::table(version), "start", "start, energy_wh, quality", span, devices, page)
}

/// The statement of pages of hours and its parameters.
pub fn hourly_query(version: u32, span: &Span, devices: &[Uuid], page: &Page<DateTime<Utc>>) -> (String, Parameters) {
    query(&ReadingsSeries::hourly_table(version), "hour", "hour, sum_wh, count", span, devices, page)
}

/// The statement of totals and its parameters.
pub fn totals_query(version: u32, span: &Span, devices: &[Uuid]) -> (String, Parameters) {
    let table = ReadingsSeries::table(version);
    let sql = format!(
        "select d.id, r.* from unnest($2::uuid[]) d(id) cross join lateral (
             select count(*), coalesce(sum(energy_wh), 0)::bigint from {table}
             where tenant_id = $1 and device_id = d.id and start >= $3 and start < $4
         ) r"
    );
    (sql, vec![Box::new(span.tenant.0), Box::new(devices.to_vec()), Box::new(span.from), Box::new(span.to)])
}

/// Rows of several devices, each device's in the order in which its page is read, as slices.
fn slices<R>(
    page: &Page<DateTime<Utc>>,
    rows: impl Iterator<Item = Result<(Uuid, R), ReadError>>,
    time: impl Fn(&R) -> DateTime<Utc>,
) -> Result<HashMap<Uuid, Slice<R>>, ReadError> {
    let mut devices: HashMap<Uuid, Vec<R>> = HashMap::new();
    for row in rows {
        let (device, row) = row?;
        devices.entry(device).or_default().push(row);
    }
    let forwards = matches!(page.reads(Direction::Ascending), Direction::Ascending);
    let sliced = devices.into_iter().map(|(device, mut rows)| {
        rows.sort_by_key(&time);
        if !forwards {
            rows.reverse();
        }
        (device, page.slice(rows))
    });
    Ok(sliced.collect())
}

/// A page of the readings of each device, oldest first. Devices without any are left out.
///
/// # Errors
/// When the database cannot be asked.
pub async fn raw_pages(
    session: &ReadSession,
    span: &Span,
    devices: &[Uuid],
    page: &Page<DateTime<Utc>>,
) -> Result<HashMap<Uuid, Slice<ReadingRow>>, ReadError> {
    let (sql, parameters) = raw_query(session.series_version::<ReadingsSeries>()?, span, devices, page);
    let rows = session.query(&sql, &borrowed(&parameters)).await?;
    let rows = rows.iter().map(|row| {
        let quality = Quality::parse(row.get(3)).map_err(|_| ReadError::Damaged { read_model: "readings" })?;
        Ok((row.get(0), ReadingRow { start: row.get(1), energy_wh: row.get(2), quality }))
    });
    slices(page, rows, |row| row.start)
}

/// A page of the hours of each device that have readings, oldest first. Devices without any are left out.
///
/// # Errors
/// When the database cannot be asked.
pub async fn hourly_pages(
    session: &ReadSession,
    span: &Span,
    devices: &[Uuid],
    page: &Page<DateTime<Utc>>,
) -> Result<HashMap<Uuid, Slice<HourRow>>, ReadError> {
    let (sql, parameters) = hourly_query(session.series_version::<ReadingsSeries>()?, span, devices, page);
    let rows = session.query(&sql, &borrowed(&parameters)).await?;
    let hour = |row: &Row| HourRow { hour: row.get(1), sum_wh: row.get(2), count: row.get(3) };
    slices(page, rows.iter().map(|row| Ok((row.get(0), hour(row)))), |row| row.hour)
}

/// The readings of each device that begin in a span, added up from what was recorded. Reads them all.
///
/// # Errors
/// When the database cannot be asked.
pub async fn totals(session: &ReadSession, span: &Span, devices: &[Uuid]) -> Result<HashMap<Uuid, Totals>, ReadError> {
    let (sql, parameters) = totals_query(session.series_version::<ReadingsSeries>()?, span, devices);
    let rows = session.query(&sql, &borrowed(&parameters)).await?;
    let totals = |row: &Row| Totals { count: unsigned(row.get(1)), sum_wh: row.get(2) };
    Ok(rows.iter().map(|row| (row.get(0), totals(row))).collect())
}
