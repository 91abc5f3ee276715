//! What came before the events of a page, for old and new values: one statement, however many events and streams.

use crate::engine::{signed, unsigned};
use crate::read::{ReadError, ReadSession};
use daybook_domain::TenantId;
use daybook_store::journal::RecordedEvent;
use daybook_store::journal::recorded::COLUMNS;
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::Row;
use uuid::Uuid;

/// Events that are read for one page, besides its own.
pub const HISTORY_MAX: u64 = 5_000;
/// And their payloads together.
pub const HISTORY_BYTES_MAX: i64 = 16 << 20;

/// An event of a page.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    pub stream_type: String,
    pub stream_id: Uuid,
    pub sequence: u64,
    /// Whether what came before it in its stream is wanted too.
    pub folded: bool,
}

/// Events of one stream, oldest first.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct History {
    pub events: Vec<RecordedEvent>,
    /// Whether they are all there were from the first one on.
    pub whole: bool,
}

/// Tenant; of each range its stream's type and id, its first and its last sequence, and whether it is of what came
/// before; then how many bytes that may be in all. Ranges that are too much are left out whole, the largest first.
pub fn history_query() -> String {
    format!(
        "with wanted as materialized (
             select * from unnest($2::text[], $3::uuid[], $4::bigint[], $5::bigint[], $6::boolean[])
                           with ordinality w(kind, id, first, last, earlier, nr)),
         found as materialized (
             select w.nr, w.earlier, s.position from wanted w
             join journal.stream_events s on s.tenant_id = $1 and s.stream_type = w.kind and s.stream_id = w.id
                  and s.sequence between w.first and w.last),
         sized as (
             select f.nr, sum(e.bytes) as bytes from found f
             join lateral (select octet_length(e.payload) as bytes from journal.events e
                           where e.position = f.position limit 1) e on true
             where f.earlier group by f.nr),
         fitting as (
             select nr from (select nr, sum(bytes) over (order by bytes, nr) as running from sized) r
             where running <= $7::bigint)
         select e.* from (
             select distinct position from found where not earlier or nr in (select nr from fitting)) p
         join lateral (select {COLUMNS} from journal.events e where e.position = p.position limit 1) e on true
         order by e.stream_type, e.stream_id, e.sequence"
    )
}

#[derive(Default)]
struct Ranges {
    kinds: Vec<String>,
    ids: Vec<Uuid>,
    firsts: Vec<i64>,
    lasts: Vec<i64>,
    earlier: Vec<bool>,
}

impl Ranges {
    fn push(&mut self, (kind, id): (&str, Uuid), first: u64, last: u64, earlier: bool) {
        self.kinds.push(kind.to_owned());
        self.ids.push(id);
        self.firsts.push(signed(first));
        self.lasts.push(signed(last));
        self.earlier.push(earlier);
    }
}

/// Which sequences to read. Sequences have no gaps, so it is known beforehand how many events that is; the shortest
/// histories come first, so that one long stream takes nothing from the others.
fn ranges(wanted: &[Wanted]) -> Ranges {
    let mut streams: BTreeMap<(&str, Uuid), (BTreeSet<u64>, bool)> = BTreeMap::new();
    for event in wanted {
        let (sequences, folded) = streams.entry((&event.stream_type, event.stream_id)).or_default();
        sequences.insert(event.sequence);
        *folded |= event.folded;
    }
    let mut streams: Vec<_> = streams.into_iter().collect();
    streams.sort_by_key(|(_, (sequences, _))| sequences.last().copied().unwrap_or_default());
    let mut ranges = Ranges::default();
    let mut left = HISTORY_MAX;
    for (stream, (sequences, folded)) in streams {
        let last = sequences.last().copied().unwrap_or_default();
        let earlier = last.saturating_sub(sequences.len() as u64);
        sequences.into_iter().for_each(|sequence| ranges.push(stream, sequence, sequence, false));
        if folded && (1..=left).contains(&earlier) {
            left -= earlier;
            ranges.push(stream, 1, last, true);
        }
    }
    ranges
}

/// The wanted events of a tenant and what came before them, by stream. Only what the audit trail has shown is asked for,
/// so all of it is durable.
///
/// # Errors
/// When the database cannot be asked.
pub async fn history(
    session: &ReadSession,
    tenant: TenantId,
    wanted: &[Wanted],
) -> Result<BTreeMap<(String, Uuid), History>, ReadError> {
    history_within(session, tenant, wanted, HISTORY_BYTES_MAX).await
}

/// As [`history`], with another limit of bytes.
///
/// # Errors
/// As [`history`].
pub async fn history_within(
    session: &ReadSession,
    tenant: TenantId,
    wanted: &[Wanted],
    bytes_max: i64,
) -> Result<BTreeMap<(String, Uuid), History>, ReadError> {
    let Ranges { kinds, ids, firsts, lasts, earlier } = ranges(wanted);
    let rows =
        session.query(&history_query(), &[&tenant.0, &kinds, &ids, &firsts, &lasts, &earlier, &bytes_max]).await?;
    let mut histories: BTreeMap<(String, Uuid), History> = BTreeMap::new();
    for event in rows.iter().map(recorded) {
        let history = histories.entry((event.stream_type.clone(), event.stream_id)).or_default();
        history.events.push(event);
        // Oldest first and without gaps: all of them are there when there are as many as the last one's number.
        history.whole = history.events.last().is_some_and(|last| last.sequence == history.events.len() as u64);
    }
    Ok(histories)
}

/// From [`COLUMNS`].
fn recorded(row: &Row) -> RecordedEvent {
    RecordedEvent {
        position: unsigned(row.get(0)),
        tenant: TenantId(row.get(1)),
        tenant_position: unsigned(row.get(2)),
        stream_type: row.get(3),
        stream_id: row.get(4),
        sequence: unsigned(row.get(5)),
        event_id: row.get(6),
        event_type: row.get(7),
        event_version: u32::try_from(row.get::<_, i32>(8)).unwrap_or_default(),
        recorded_at: row.get(9),
        payload: row.get(10),
        metadata: row.get(11),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(kind: &str, id: u128, sequence: u64) -> Wanted {
        Wanted { stream_type: kind.into(), stream_id: Uuid::from_u128(id), sequence, folded: kind != "readings" }
    }

    fn told(ranges: &Ranges) -> Vec<(u128, i64, i64, bool)> {
        let one = |n| (ranges.ids[n], ranges.firsts[n], ranges.lasts[n], ranges.earlier[n]);
        (0..ranges.ids.len()).map(one).map(|(id, first, last, earlier)| (id.as_u128(), first, last, earlier)).collect()
    }

    #[test]
    fn a_long_stream_takes_nothing_from_the_short_ones() {
        let ranges = ranges(&[wanted("a", 1, 5_001), wanted("a", 2, 3), wanted("a", 2, 2), wanted("a", 3, 1)]);
        assert_eq!(
            told(&ranges),
            [(3, 1, 1, false), (2, 2, 2, false), (2, 3, 3, false), (2, 1, 3, true), (1, 5_001, 5_001, false)],
            "5,000 earlier events and the one of stream 2 are one too many"
        );
    }

    #[test]
    fn of_a_stream_that_is_not_folded_only_its_own_events_are_read() {
        let ranges = ranges(&[wanted("readings", 1, 90), wanted("readings", 1, 80)]);
        assert_eq!(told(&ranges), [(1, 80, 80, false), (1, 90, 90, false)]);
    }
}
