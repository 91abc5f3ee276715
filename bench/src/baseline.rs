//! One transaction per append: what Daybook's writer is compared with.
//!
//! It sits in the writer's seat, so that look-ups, hashing, sealing and the contract are the same on
//! both sides. It does nothing that one transaction per append would not need: no queue, no batch
//! rows, no fence, no lease; positions come from a counter that nothing waits for, and the audit
//! tree's edge of a tenant is held in memory for as long as it takes to add one leaf. Conflicts and
//! repeats are found by the primary keys. It is no event store: its commits are not in the order of
//! its positions, and a tailing reader would lose events.

use crate::error::BenchError;
use daybook_domain::TenantId;
use daybook_store::journal::machine::{Answer, Batch, EventRow, HeadRow, Prepared};
use daybook_store::journal::{BY_KEY, Durable, JournalOptions, Message, Outcome, Seat, Seen, Standing};
use daybook_store::system::{SharedSystem, utc};
use daybook_store::{Database, DatabaseError, Pool, Role};
use daybook_tlog::{Leaf, RightEdge};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::{JoinHandle, JoinSet};
use tokio_postgres::Error;

/// One event and what belongs to it, in one statement and so in one transaction.
const PLAIN: &str = "
with e as (
    insert into journal.events (position, tenant_id, tenant_position, stream_type, stream_id, sequence, event_id,
                                event_type, event_version, recorded_at, payload, metadata, leaf_hash)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
), s as (
    insert into journal.stream_events (tenant_id, stream_type, stream_id, sequence, position) values ($2, $4, $5, $6, $1)
), h as (
    insert into journal.tenant_heads (tenant_id, size, last_position, batch, edge) values ($2, $3, $1, $14, $15)
)
insert into journal.commands (tenant_id, command_id, request_hash, hash_key, event_tenant_id, first_tenant_position,
                              last_tenant_position, last_position, stream_ids, recorded_at)
values ($16, $17, $18, $19, $2, $3, $3, $1, array[$5], $10)";

/// What the one in the writer's seat does with an append.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    /// Writes it in a transaction of its own.
    Transaction,
    /// Gives it its place and its leaf, and writes nothing: what is left is what every writer has in common,
    /// and so no writer can be faster.
    Nothing,
}

struct Shared {
    way: Way,
    pool: Pool,
    system: SharedSystem,
    seen: Seen,
    position: AtomicU64,
    edges: Mutex<HashMap<TenantId, RightEdge>>,
}

/// Takes the writer's seat, with so many sessions.
pub(crate) fn sit(
    database: Database,
    system: SharedSystem,
    sessions: usize,
    way: Way,
) -> impl FnOnce(JournalOptions, Seat) -> JoinHandle<()> {
    move |_, seat| {
        tokio::spawn(async move {
            let standing = seat.standing.clone();
            let stopped = match serve(database, system, sessions, way, seat).await {
                Ok(()) => "the measurement is over".into(),
                Err(error) => daybook_testing::chain(&error),
            };
            standing.send_replace(Standing { leading: None, stopped: Some(stopped) });
        })
    }
}

async fn serve(
    database: Database,
    system: SharedSystem,
    sessions: usize,
    way: Way,
    mut seat: Seat,
) -> Result<(), BenchError> {
    let (shared, seen) = open(&database, system, sessions, way).await?;
    seat.durable.send_replace(Durable { seen: Seen { epoch: seen.epoch, batch: u64::MAX }, position: 0 });
    seat.standing.send_replace(Standing { leading: Some(seen), stopped: None });
    let shared = Arc::new(shared);
    let mut running = JoinSet::new();
    while let Some(Message::Append(request, answer)) = seat.requests.recv().await {
        let shared = shared.clone();
        running.spawn(async move {
            // Whoever asked may have given up.
            let _ = answer.send(shared.append(Arc::from(request)).await);
        });
        while running.try_join_next().is_some() {}
    }
    running.join_all().await;
    Ok(())
}

/// Continues the journal where it ended, in an epoch of its own.
async fn open(
    database: &Database,
    system: SharedSystem,
    sessions: usize,
    way: Way,
) -> Result<(Shared, Seen), BenchError> {
    let login = database.connect(Role::Login, "").await?;
    let row = login
        .query_one(
            "select (select coalesce(max(batch), 0) from journal.batches), (select coalesce(max(epoch), 0) from journal.batches),
                    (select coalesce(max(position), 0) from journal.events), (select partition_size from journal.identity)",
            &[],
        )
        .await?;
    let (batch, epoch, position, size): (i64, i64, i64, i64) = (row.get(0), row.get(1), row.get(2), row.get(3));
    login.execute("select journal.ensure_partitions($1)", &[&(position + 2 * size)]).await?;
    // Look-ups name the moment of the last batch; this one stands for the whole measurement.
    login
        .execute(
            "insert into journal.batches (batch, epoch, first_position, last_position, recorded_at) values ($1, $2, $3, $3::bigint - 1, $4)",
            &[&(batch + 1), &(epoch + 1), &(position + 1), &system.utc()],
        )
        .await?;
    let pool = database.pool(Role::Writer, sessions, &format!("-c synchronous_commit=on {BY_KEY}"));
    // All of them open and prepared before the clock runs.
    let mut open = Vec::with_capacity(sessions);
    for _ in 0..sessions {
        let session = pool.get().await?;
        session.prepare_cached(PLAIN).await?;
        open.push(session);
    }
    drop(open);
    let seen = Seen { epoch: unsigned(epoch + 1), batch: unsigned(batch + 1) };
    let shared =
        Shared { way, pool, system, seen, position: AtomicU64::new(unsigned(position)), edges: Mutex::default() };
    Ok((shared, seen))
}

impl Shared {
    async fn append(&self, request: Arc<Prepared>) -> Answer {
        let events = request.append.events();
        if request.asks || events != 1 || !request.append.claims.is_empty() || !request.append.releases.is_empty() {
            return Answer::Failed("the baseline appends single events without unique keys".into());
        }
        let Some(batch) = self.place(&request) else { return Answer::LookAgain };
        let written = match self.way {
            Way::Transaction => self.write(&batch).await,
            Way::Nothing => Ok(()),
        };
        match written {
            Ok(()) => batch.outcomes.into_iter().next().map_or(Answer::Unknown, Answer::Done),
            Err(error) => Answer::Failed(daybook_testing::chain(&error)),
        }
    }

    /// Position, leaf and edge of the request's event; `None` when the tenant's edge is not known yet.
    fn place(&self, request: &Arc<Prepared>) -> Option<Batch> {
        let append = &request.append;
        let stream = append.streams.first()?;
        let event = stream.events.first()?;
        let (payload_sha256, metadata_sha256) = *request.digests.first()?.first()?;
        let position = self.position.fetch_add(1, Ordering::Relaxed) + 1;
        let mut batch = Batch::empty(self.seen.batch, self.seen.epoch, position, self.system.now().wall_us);
        batch.last_position = position;
        let sequence = stream.expected + 1;
        let (edge, leaf_hash) = {
            let mut edges = self.edges.lock().unwrap_or_else(PoisonError::into_inner);
            let edge = match edges.entry(append.tenant) {
                std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
                std::collections::hash_map::Entry::Vacant(unknown) => unknown.insert(request.head.clone()?),
            };
            let leaf_hash = Leaf {
                tenant: append.tenant.0,
                tenant_position: edge.size() + 1,
                stream_type: stream.stream.kind,
                stream_id: stream.stream.id,
                sequence,
                event_id: event.event_id,
                event_type: &event.event_type,
                event_version: event.event_version,
                recorded_at_us: batch.recorded_at_us,
                payload_sha256,
                metadata_sha256,
            }
            .hash();
            edge.push(leaf_hash);
            (edge.clone(), leaf_hash)
        };
        let tenant_position = edge.size();
        batch.events.push(EventRow { position, tenant_position, sequence, leaf_hash, source: (0, 0, 0) });
        batch.heads.push(HeadRow { tenant: append.tenant, last_position: position, edge });
        batch.outcomes.push(Outcome {
            tenant: append.tenant,
            first_tenant_position: tenant_position,
            last_tenant_position: tenant_position,
            last_position: position,
            stream_ids: vec![stream.stream.id],
            recorded_at_us: batch.recorded_at_us,
            seen: self.seen,
            deduplicated: false,
        });
        batch.members.push(request.clone());
        Some(batch)
    }

    async fn write(&self, batch: &Batch) -> Result<(), DatabaseError> {
        let [row] = batch.events.as_slice() else { return Ok(()) };
        let session = self.pool.get().await?;
        let statement = session.prepare_cached(PLAIN).await.map_err(DatabaseError::Query)?;
        let (append, stream, event) = batch.source(row);
        let edge = batch.heads.first().map(|h| h.edge.to_bytes()).unwrap_or_default();
        let request_hash = batch.members.first().map(|m| m.request_hash).unwrap_or_default();
        let result: Result<u64, Error> = session
            .execute(
                &statement,
                &[
                    &signed(row.position),
                    &append.tenant.0,
                    &signed(row.tenant_position),
                    &stream.kind,
                    &stream.id,
                    &signed(row.sequence),
                    &event.event_id,
                    &event.event_type,
                    &i32::try_from(event.event_version).unwrap_or(i32::MAX),
                    &utc(batch.recorded_at_us),
                    &event.payload,
                    &event.metadata,
                    &row.leaf_hash.as_slice(),
                    &signed(batch.number),
                    &edge,
                    &append.command.tenant.0,
                    &append.command.id,
                    &request_hash.as_slice(),
                    &append.command.hash_key.as_slice(),
                ],
            )
            .await;
        result.map(|_| ()).map_err(DatabaseError::Query)
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}
