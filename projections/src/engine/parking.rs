//! Streams that are left aside because one of their events cannot be applied, so that all others go on.
//!
//! Only positions are kept: the events are in the journal. What is parked changes in one transaction with the lane's
//! checkpoint or under a lock of it, so that no event is both in the rows and parked, or neither.

use super::{int, signed, unsigned};
use chrono::{DateTime, Utc};
use daybook_domain::TenantId;
use daybook_store::database::{DatabaseError, Held};
use daybook_store::journal::RecordedEvent;
use deadpool_postgres::Transaction;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

/// Events of a read model that may be skipped.
pub(super) const SKIPS_MAX: i64 = 10_000;

/// Which stream of which tenant.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StreamName {
    pub tenant: TenantId,
    /// The aggregate's type, e.g. `device`.
    pub kind: String,
    pub id: Uuid,
}

impl StreamName {
    pub(super) fn of(event: &RecordedEvent) -> Self {
        StreamName { tenant: event.tenant, kind: event.stream_type.clone(), id: event.stream_id }
    }
}

/// Where an event is: in the journal, in its tenant, in its stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    pub position: u64,
    pub tenant_position: u64,
    pub sequence: u64,
}

impl Place {
    pub(super) fn of(event: &RecordedEvent) -> Self {
        let RecordedEvent { position, tenant_position, sequence, .. } = *event;
        Place { position, tenant_position, sequence }
    }
}

/// A stream of which a read model shows only the beginning.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parked {
    pub stream: StreamName,
    pub lane: u16,
    /// The first event that is not in the rows.
    pub first: Place,
    /// The last one so far.
    pub last_position: u64,
    /// How many they are.
    pub events: u64,
    /// Why the first cannot be applied.
    pub reason: String,
    pub since: DateTime<Utc>,
    pub tried_at: DateTime<Utc>,
    /// Positions of the last of them, newest last.
    pub(super) recent: VecDeque<u64>,
}

/// Positions that are remembered of a parked stream.
const RECENT_MAX: usize = 64;

impl Parked {
    /// Whether the event of a position may be one of them. Exact for recent ones, and never wrong to the other side.
    pub(super) fn may_hold(&self, position: u64) -> bool {
        let within = (self.first.position..=self.last_position).contains(&position);
        within && self.recent.front().is_none_or(|oldest| position < *oldest || self.recent.contains(&position))
    }

    /// Goes on with what was parked behind it.
    pub(super) fn extend(&mut self, behind: &Parked) {
        self.last_position = behind.last_position;
        self.events += behind.events;
        self.recent.extend(&behind.recent);
        while self.recent.len() > RECENT_MAX {
            self.recent.pop_front();
        }
    }
}

/// The parked streams of a lane.
pub(super) type ParkedStreams = BTreeMap<StreamName, Parked>;

/// An event of a stream that is parked, or will be from it on.
pub(super) struct Aside {
    pub(super) stream: StreamName,
    pub(super) lane: u16,
    pub(super) place: Place,
    /// Why; none behind one that is parked already.
    pub(super) reason: Option<String>,
}

/// What goes aside up to a position, added up. A stream that is parked already comes without a reason.
pub(super) fn by_stream(aside: Vec<Aside>, up_to: u64, now: DateTime<Utc>) -> Vec<Parked> {
    let mut parked: ParkedStreams = BTreeMap::new();
    for event in aside.into_iter().filter(|event| event.place.position <= up_to) {
        let Aside { stream, lane, place, reason } = event;
        let entry = parked.entry(stream.clone()).or_insert_with(|| Parked {
            stream,
            lane,
            first: place,
            last_position: place.position,
            events: 0,
            reason: reason.unwrap_or_default(),
            since: now,
            tried_at: now,
            recent: VecDeque::new(),
        });
        entry.last_position = place.position;
        entry.events += 1;
        entry.recent.push_back(place.position);
        if entry.recent.len() > RECENT_MAX {
            entry.recent.pop_front();
        }
    }
    parked.into_values().collect()
}

/// Adds to what is parked. `false`: a stream is not as the caller thought, which must then write nothing.
pub(super) async fn store(
    tx: &Transaction<'_>,
    read_model: &str,
    version: u32,
    parked: &[Parked],
) -> Result<bool, DatabaseError> {
    let (new, known): (Vec<&Parked>, Vec<&Parked>) = parked.iter().partition(|parked| !parked.reason.is_empty());
    let mut written = 0;
    for (sql, parked) in [(INSERT, new), (EXTEND, known)] {
        if parked.is_empty() {
            continue;
        }
        let statement = tx.prepare_cached(sql).await.map_err(DatabaseError::Query)?;
        let tenant: Vec<Uuid> = parked.iter().map(|p| p.stream.tenant.0).collect();
        let kind: Vec<&str> = parked.iter().map(|p| p.stream.kind.as_str()).collect();
        let id: Vec<Uuid> = parked.iter().map(|p| p.stream.id).collect();
        let last: Vec<i64> = parked.iter().map(|p| signed(p.last_position)).collect();
        let events: Vec<i64> = parked.iter().map(|p| signed(p.events)).collect();
        let lane: Vec<i32> = parked.iter().map(|p| i32::from(p.lane)).collect();
        let position: Vec<i64> = parked.iter().map(|p| signed(p.first.position)).collect();
        let tenant_position: Vec<i64> = parked.iter().map(|p| signed(p.first.tenant_position)).collect();
        let sequence: Vec<i64> = parked.iter().map(|p| signed(p.first.sequence)).collect();
        let reason: Vec<&str> = parked.iter().map(|p| p.reason.as_str()).collect();
        let since: Vec<DateTime<Utc>> = parked.iter().map(|p| p.since).collect();
        let version = int(version);
        let all: [&(dyn ToSql + Sync); 13] = [
            &read_model,
            &version,
            &tenant,
            &kind,
            &id,
            &last,
            &events,
            &lane,
            &position,
            &tenant_position,
            &sequence,
            &reason,
            &since,
        ];
        let parameters = if sql == INSERT { &all[..] } else { &all[..7] };
        written += tx.execute(&statement, parameters).await.map_err(DatabaseError::Query)?;
    }
    Ok(written == parked.len() as u64)
}

const INSERT: &str = "insert into projection.parked (read_model, version, tenant_id, stream_type, stream_id,
     last_position, events, lane, position, tenant_position, sequence, reason, since, tried_at)
 select $1, $2, t, k, i, l, n, lane, p, tp, s, r, at, at
 from unnest($3::uuid[], $4::text[], $5::uuid[], $6::bigint[], $7::bigint[], $8::int[], $9::bigint[], $10::bigint[],
             $11::bigint[], $12::text[], $13::timestamptz[]) u(t, k, i, l, n, lane, p, tp, s, r, at)
 on conflict do nothing";

const EXTEND: &str = "update projection.parked p set last_position = u.l, events = p.events + u.n
 from unnest($3::uuid[], $4::text[], $5::uuid[], $6::bigint[], $7::bigint[]) u(t, k, i, l, n)
 where p.read_model = $1 and p.version = $2 and p.tenant_id = u.t and p.stream_type = u.k and p.stream_id = u.i
   and p.last_position < u.l";

const COLUMNS: &str =
    "tenant_id, stream_type, stream_id, lane, position, tenant_position, sequence, last_position, events,
 reason, since, tried_at";

fn from_row(row: &Row) -> Parked {
    Parked {
        stream: StreamName { tenant: TenantId(row.get(0)), kind: row.get(1), id: row.get(2) },
        lane: u16::try_from(row.get::<_, i32>(3)).unwrap_or_default(),
        first: Place {
            position: unsigned(row.get(4)),
            tenant_position: unsigned(row.get(5)),
            sequence: unsigned(row.get(6)),
        },
        last_position: unsigned(row.get(7)),
        events: unsigned(row.get(8)),
        reason: row.get(9),
        since: row.get(10),
        tried_at: row.get(11),
        recent: VecDeque::from([unsigned(row.get(7))]),
    }
}

/// What is parked of a version, of one lane or of all, oldest first; at most `limit`.
///
/// # Errors
/// When the database cannot be asked.
pub(super) async fn load(
    client: &Client,
    read_model: &str,
    version: u32,
    lane: Option<u16>,
    limit: i64,
) -> Result<Vec<Parked>, DatabaseError> {
    let sql = format!(
        "select {COLUMNS} from projection.parked
         where read_model = $1 and version = $2 and lane = coalesce($3, lane) order by position limit $4"
    );
    let rows = client.query(&sql, &[&read_model, &int(version), &lane.map(i32::from), &limit]).await;
    Ok(rows.map_err(DatabaseError::Query)?.iter().map(from_row).collect())
}

/// The events that operators have left out of a read model.
pub(super) async fn skips(client: &Client, read_model: &str) -> Result<BTreeSet<u64>, DatabaseError> {
    let sql = "select position from projection.skips where read_model = $1 order by position limit $2";
    let rows = client.query(sql, &[&read_model, &SKIPS_MAX]).await.map_err(DatabaseError::Query)?;
    Ok(rows.iter().map(|row| unsigned(row.get(0))).collect())
}

/// What became of a parked stream.
pub(super) enum Left {
    Nothing,
    /// From this event on it stays parked; so many before it are done.
    From {
        place: Place,
        fewer: u64,
    },
}

/// Writes down how much of a stream is left, with the reason if it was tried in vain.
pub(super) async fn leave(
    tx: &Transaction<'_>,
    read_model: &str,
    version: u32,
    parked: &Parked,
    left: &Left,
    tried: Option<(&str, DateTime<Utc>)>,
) -> Result<(), DatabaseError> {
    let key = "read_model = $1 and version = $2 and tenant_id = $3 and stream_type = $4 and stream_id = $5";
    let version = int(version);
    let of: [&(dyn ToSql + Sync); 5] =
        [&read_model, &version, &parked.stream.tenant.0, &parked.stream.kind, &parked.stream.id];
    let written = match left {
        Left::Nothing => tx.execute(&format!("delete from projection.parked where {key}"), &of).await,
        Left::From { place, fewer } => {
            let sql = format!(
                "update projection.parked set position = $6, tenant_position = $7, sequence = $8,
                     events = greatest(events - $9, 1), reason = coalesce($10, reason), tried_at = coalesce($11, tried_at)
                 where {key}"
            );
            let (position, tenant_position) = (signed(place.position), signed(place.tenant_position));
            let (sequence, fewer) = (signed(place.sequence), signed(*fewer));
            let (reason, at) = (tried.map(|t| t.0), tried.map(|t| t.1));
            let more: [&(dyn ToSql + Sync); 6] = [&position, &tenant_position, &sequence, &fewer, &reason, &at];
            tx.execute(&sql, &[&of[..], &more[..]].concat()).await
        }
    };
    written.map(drop).map_err(DatabaseError::Query)
}

/// Holds a lane's checkpoint and one of its parked streams still; `false` when either is not as it was.
pub(super) async fn hold(
    tx: &Transaction<'_>,
    read_model: &str,
    version: u32,
    stored: u64,
    parked: &Parked,
) -> Result<bool, DatabaseError> {
    let version = int(version);
    let lane = i32::from(parked.lane);
    let checkpoint = tx
        .query_opt(
            "select from projection.checkpoints
             where read_model = $1 and version = $2 and lane = $3 and position = $4 for update",
            &[&read_model, &version, &lane, &signed(stored)],
        )
        .await
        .map_err(DatabaseError::Query)?;
    if checkpoint.is_none() {
        return Ok(false);
    }
    let row = tx
        .query_opt(
            "select from projection.parked where read_model = $1 and version = $2 and tenant_id = $3
               and stream_type = $4 and stream_id = $5 and position = $6 and last_position = $7",
            &[
                &read_model,
                &version,
                &parked.stream.tenant.0,
                &parked.stream.kind,
                &parked.stream.id,
                &signed(parked.first.position),
                &signed(parked.last_position),
            ],
        )
        .await
        .map_err(DatabaseError::Query)?;
    Ok(row.is_some())
}

/// Why a skip is refused.
#[derive(Debug, thiserror::Error)]
pub enum SkipError {
    #[error(
        "position {position} is not the first event of a parked stream of {read_model}: see `daybook projections parked`"
    )]
    NotParked { read_model: String, position: u64 },
    #[error("{SKIPS_MAX} events of {0} are skipped already, the most there may be: mend their cause and rebuild")]
    TooMany(String),
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// Whether an event is the first of a parked stream of the version that answers, or skipped already.
///
/// # Errors
/// [`SkipError`].
pub(super) async fn may_skip(client: &Client, read_model: &str, position: u64) -> Result<(), SkipError> {
    let row = client
        .query_one(
            "select exists (select from projection.skips where read_model = $1 and position = $2),
                    exists (select from projection.parked p join projection.live using (read_model, version)
                            where p.read_model = $1 and p.position = $2),
                    (select count(*) from projection.skips where read_model = $1)",
            &[&read_model, &signed(position)],
        )
        .await
        .map_err(DatabaseError::Query)?;
    let read_model = read_model.to_owned();
    match (row.get(0), row.get(1), row.get::<_, i64>(2)) {
        (true, _, _) => Ok(()),
        (false, false, _) => Err(SkipError::NotParked { read_model, position }),
        (false, true, SKIPS_MAX..) => Err(SkipError::TooMany(read_model)),
        (false, true, _) => Ok(()),
    }
}

/// Leaves an event out of a read model, for good and in every version. Durable when this returns.
///
/// # Errors
/// [`SkipError`].
pub(super) async fn skip(
    session: &mut Held,
    read_model: &str,
    position: u64,
    now: DateTime<Utc>,
) -> Result<(), SkipError> {
    may_skip(session, read_model, position).await?;
    let tx = session.transaction().await.map_err(DatabaseError::Query)?;
    // The projector's commits do not wait for the disk otherwise.
    tx.batch_execute("set local synchronous_commit = on").await.map_err(DatabaseError::Query)?;
    tx.execute(
        "insert into projection.skips (read_model, position, skipped_at) values ($1, $2, $3) on conflict do nothing",
        &[&read_model, &signed(position), &now],
    )
    .await
    .map_err(DatabaseError::Query)?;
    tx.commit().await.map_err(DatabaseError::Query)?;
    Ok(())
}

/// Whether PostgreSQL refused what it was given rather than the work as such: then another event may fare better.
pub(super) fn is_of_the_event(error: &DatabaseError) -> bool {
    let DatabaseError::Query(error) = error else { return false };
    // Data exceptions, violated constraints, rows too large for an index.
    error.code().is_some_and(|code| ["22", "23", "54"].iter().any(|class| code.code().starts_with(class)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parked_stream_knows_its_recent_positions_and_doubts_the_older_ones() {
        let stream = StreamName { tenant: TenantId(Uuid::nil()), kind: "tally".into(), id: Uuid::nil() };
        let aside = |position| Aside {
            stream: stream.clone(),
            lane: 0,
            place: Place { position, tenant_position: position, sequence: position },
            reason: Some("bad".into()),
        };
        // Every third position, and nothing past 600.
        let mut parked = by_stream((100..300).map(|n| aside(n * 3)).collect(), 600, DateTime::UNIX_EPOCH).remove(0);
        assert_eq!((parked.first.position, parked.last_position, parked.events), (300, 600, 101));
        assert!(parked.may_hold(600) && !parked.may_hold(599) && !parked.may_hold(601) && !parked.may_hold(299));
        assert!(parked.may_hold(301), "too old to be sure");
        let behind = by_stream(vec![aside(603)], 700, DateTime::UNIX_EPOCH).remove(0);
        parked.extend(&behind);
        assert_eq!((parked.last_position, parked.events, parked.recent.len()), (603, 102, RECENT_MAX));
        assert!(parked.may_hold(603) && !parked.may_hold(602) && parked.may_hold(600));
    }
}
