//! One tenant's log from its beginning, or one stream of it: for replay, read page by page in short snapshots.

use super::recorded::{COLUMNS, RecordedEvent, signed, unsigned};
use crate::database::DatabaseError;
use chrono::{DateTime, Utc};
use daybook_domain::TenantId;
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

/// Events that one page holds at most.
const PAGE: i64 = 2_000;

/// How far a tenant's log goes, or went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment {
    pub tenant_position: u64,
    /// When its last event was recorded.
    pub recorded_at: DateTime<Utc>,
}

/// The last event of a tenant up to a tenant position and a recorded time; `None` when there is none.
///
/// # Errors
/// When the database cannot be asked.
pub async fn moment(
    client: &Client,
    tenant: TenantId,
    position: Option<u64>,
    time: Option<DateTime<Utc>>,
) -> Result<Option<Moment>, DatabaseError> {
    // Times follow positions, so the first that fits from the end is the one.
    let sql = "select tenant_position, recorded_at from journal.events
               where tenant_id = $1 and tenant_position <= $2 and recorded_at <= coalesce($3::timestamptz, 'infinity')
               order by tenant_position desc limit 1";
    let position = position.map_or(i64::MAX, signed);
    let row = client.query_opt(sql, &[&tenant.0, &position, &time]).await.map_err(DatabaseError::Query)?;
    Ok(row.map(|row| Moment { tenant_position: unsigned(row.get(0)), recorded_at: row.get(1) }))
}

/// The next events of a tenant after one tenant position, up to another; empty at the end.
///
/// # Errors
/// When the database cannot be asked.
pub async fn page(
    client: &Client,
    tenant: TenantId,
    after: u64,
    up_to: u64,
) -> Result<Vec<RecordedEvent>, DatabaseError> {
    let sql = format!(
        "select {COLUMNS} from journal.events e
         where e.tenant_id = $1 and e.tenant_position > $2 and e.tenant_position <= $3
         order by e.tenant_position limit {PAGE}"
    );
    let rows = client.query(&sql, &[&tenant.0, &signed(after), &signed(up_to)]).await.map_err(DatabaseError::Query)?;
    Ok(rows.iter().map(|row| RecordedEvent::from_row(row, 0)).collect())
}

/// Which events of one stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part<'a> {
    pub tenant: TenantId,
    /// The aggregate's type, e.g. `tenant`.
    pub kind: &'a str,
    pub id: Uuid,
    /// The first sequence wanted, 1 for the beginning.
    pub from: u64,
    /// The last journal position wanted.
    pub up_to: u64,
}

/// The next events of a stream, in their order; at most `limit`, empty at the end.
///
/// # Errors
/// When the database cannot be asked.
pub async fn stream(client: &Client, part: Part<'_>, limit: usize) -> Result<Vec<RecordedEvent>, DatabaseError> {
    let sql = format!(
        "select {COLUMNS} from journal.stream_events s
         cross join lateral (select * from journal.events where position = s.position limit 1) e
         where s.tenant_id = $1 and s.stream_type = $2 and s.stream_id = $3 and s.sequence >= $4 and s.position <= $5
         order by s.sequence limit $6"
    );
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let parameters: [&(dyn ToSql + Sync); 6] =
        [&part.tenant.0, &part.kind, &part.id, &signed(part.from), &signed(part.up_to), &limit];
    let rows = client.query(&sql, &parameters).await.map_err(DatabaseError::Query)?;
    Ok(rows.iter().map(|row| RecordedEvent::from_row(row, 0)).collect())
}
