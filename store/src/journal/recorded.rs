//! An event as the journal keeps it.

use chrono::{DateTime, Utc};
use daybook_domain::TenantId;
use daybook_domain::upcast::Origin;
use tokio_postgres::Row;
use uuid::Uuid;

/// The columns that [`RecordedEvent::from_row`] reads, in its order, of a table named `e`.
pub const COLUMNS: &str =
    "e.position, e.tenant_id, e.tenant_position, e.stream_type, e.stream_id, e.sequence, e.event_id,
 e.event_type, e.event_version, e.recorded_at, e.payload, e.metadata";

/// So many are they.
pub(crate) const COLUMNS_COUNT: usize = 12;

/// One event, personal fields still sealed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordedEvent {
    /// 1..N in the journal, no gap.
    pub position: u64,
    pub tenant: TenantId,
    /// 1..n within the tenant, no gap; the leaf index of its audit tree plus one.
    pub tenant_position: u64,
    pub stream_type: String,
    pub stream_id: Uuid,
    /// 1..n within the stream.
    pub sequence: u64,
    pub event_id: Uuid,
    /// `<context>.<aggregate>.<event>`
    pub event_type: String,
    pub event_version: u32,
    pub recorded_at: DateTime<Utc>,
    /// Exact bytes, as hashed.
    pub payload: String,
    pub metadata: String,
}

/// A number from the database that is never negative there.
pub(crate) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

/// A number for the database; the journal ends long before this could saturate.
pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl RecordedEvent {
    /// Where it stands, for who reads its payload.
    pub fn origin(&self) -> Origin<'_> {
        Origin {
            event_type: &self.event_type,
            event_version: self.event_version,
            tenant: self.tenant,
            stream_type: &self.stream_type,
            stream_id: self.stream_id,
            sequence: self.sequence,
            position: self.position,
            recorded_at: self.recorded_at,
        }
    }

    /// From [`COLUMNS`], the first of them at `from`.
    pub fn from_row(row: &Row, from: usize) -> Self {
        RecordedEvent {
            position: unsigned(row.get(from)),
            tenant: TenantId(row.get(from + 1)),
            tenant_position: unsigned(row.get(from + 2)),
            stream_type: row.get(from + 3),
            stream_id: row.get(from + 4),
            sequence: unsigned(row.get(from + 5)),
            event_id: row.get(from + 6),
            event_type: row.get(from + 7),
            event_version: u32::try_from(row.get::<_, i32>(from + 8)).unwrap_or_default(),
            recorded_at: row.get(from + 9),
            payload: row.get(from + 10),
            metadata: row.get(from + 11),
        }
    }
}
