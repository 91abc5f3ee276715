//! What is read, and how a row becomes a value even where somebody took the constraints away.

use crate::journal::recorded::unsigned;
use chrono::{DateTime, Utc};
use daybook_domain::TenantId;
use daybook_tlog::{Hash, Leaf};
use sha2::{Digest, Sha256};
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;
use uuid::Uuid;

/// Last batch, its last position, last position of all events, whether there is anything before the first of
/// them: one snapshot.
pub(super) const HEAD: &str = "
select coalesce((select batch from journal.batches order by batch desc limit 1), 0),
       coalesce((select last_position from journal.batches order by batch desc limit 1), 0),
       coalesce((select position from journal.events order by position desc limit 1), 0),
       exists (select from journal.events where position < 1) or exists (select from journal.batches where batch < 1)";

pub(super) const BATCHES: &str = "
select batch, epoch, first_position, last_position, recorded_at from journal.batches
where batch > $1 and batch <= $2 order by batch limit 5000";

/// Events with what the index of streams says of them and of their predecessors, and the head that may
/// stand after them.
pub(super) const EVENTS: &str = "
select e.position, e.tenant_id, e.tenant_position, e.stream_type, e.stream_id, e.sequence, e.event_id, e.event_type,
       e.event_version, e.recorded_at, e.payload, e.metadata, e.leaf_hash,
       s.position, p.position, h.last_position, h.batch, h.edge
from journal.events e
left join journal.stream_events s on s.tenant_id = e.tenant_id and s.stream_type = e.stream_type
                                 and s.stream_id = e.stream_id and s.sequence = e.sequence
left join journal.stream_events p on p.tenant_id = e.tenant_id and p.stream_type = e.stream_type
                                 and p.stream_id = e.stream_id and p.sequence = e.sequence - 1
left join journal.tenant_heads h on h.tenant_id = e.tenant_id and h.size = e.tenant_position
where e.position > $1 and e.position <= $2 order by e.position";

/// A column that could not be read is `None`: a NULL where none may be, an infinite time.
fn column<'a, T: FromSql<'a>>(row: &'a Row, at: usize) -> Option<T> {
    row.try_get(at).ok()
}

fn number(row: &Row, at: usize) -> Option<u64> {
    column::<i64>(row, at).and_then(|n| u64::try_from(n).ok())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchRow {
    pub(super) number: u64,
    pub(super) epoch: u64,
    pub(super) first_position: u64,
    pub(super) last_position: u64,
    pub(super) recorded_at_us: i64,
}

impl BatchRow {
    pub(super) fn from_row(row: &Row) -> Self {
        BatchRow {
            number: unsigned(row.get(0)),
            epoch: number(row, 1).unwrap_or_default(),
            first_position: number(row, 2).unwrap_or_default(),
            last_position: number(row, 3).unwrap_or_default(),
            recorded_at_us: column::<DateTime<Utc>>(row, 4).map_or(i64::MAX, |t| t.timestamp_micros()),
        }
    }
}

/// The head that stands after an event.
#[derive(Clone, Copy)]
pub(super) struct HeadColumns<'a> {
    pub(super) last_position: u64,
    pub(super) batch: u64,
    pub(super) edge: &'a [u8],
}

/// An event and its neighbours in other tables.
pub(super) struct EventColumns<'a> {
    pub(super) position: u64,
    pub(super) tenant: TenantId,
    pub(super) tenant_position: u64,
    pub(super) stream_type: &'a str,
    pub(super) stream_id: Uuid,
    pub(super) sequence: u64,
    pub(super) recorded_at_us: i64,
    /// As it is stored; `None` when it has not 32 bytes.
    pub(super) stored: Option<Hash>,
    /// As it follows from everything else.
    pub(super) recomputed: Hash,
    /// The position that the index of streams gives for this event, and for the one before it.
    pub(super) indexed: Option<u64>,
    pub(super) previous: Option<u64>,
    pub(super) head: Option<HeadColumns<'a>>,
}

impl<'a> EventColumns<'a> {
    /// `Err` with the position when a column cannot be read.
    pub(super) fn from_row(row: &'a Row) -> Result<Self, u64> {
        let position = number(row, 0).unwrap_or_default();
        Self::read(row, position).ok_or(position)
    }

    fn read(row: &'a Row, position: u64) -> Option<Self> {
        let tenant: Uuid = column(row, 1)?;
        let recorded_at_us = column::<DateTime<Utc>>(row, 9)?.timestamp_micros();
        let stored: &[u8] = column(row, 12)?;
        let leaf = Leaf {
            tenant,
            tenant_position: number(row, 2)?,
            stream_type: column(row, 3)?,
            stream_id: column(row, 4)?,
            sequence: number(row, 5)?,
            event_id: column(row, 6)?,
            event_type: column(row, 7)?,
            event_version: column::<i32>(row, 8).and_then(|v| u32::try_from(v).ok())?,
            recorded_at_us,
            payload_sha256: Sha256::digest(column::<&str>(row, 10)?).into(),
            metadata_sha256: Sha256::digest(column::<&str>(row, 11)?).into(),
        };
        let head = column::<&[u8]>(row, 17).map(|edge| HeadColumns {
            last_position: number(row, 15).unwrap_or_default(),
            batch: number(row, 16).unwrap_or_default(),
            edge,
        });
        Some(EventColumns {
            position,
            tenant: TenantId(tenant),
            tenant_position: leaf.tenant_position,
            stream_type: leaf.stream_type,
            stream_id: leaf.stream_id,
            sequence: leaf.sequence,
            recorded_at_us,
            stored: stored.try_into().ok(),
            recomputed: leaf.hash(),
            indexed: number(row, 13),
            previous: number(row, 14),
            head,
        })
    }
}
