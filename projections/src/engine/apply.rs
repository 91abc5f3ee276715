//! One transaction: checkpoint, rows and change rows of a batch, all or nothing.

use super::model::{ApplyError, OpenedEvent, ReadModel, RowKey};
use super::parking::{self, Aside, Parked, StreamName};
use super::projected::{Projected, guarded};
use super::{int, signed};
use chrono::{DateTime, Utc};
use daybook_store::database::{DatabaseError, Held};
use daybook_store::journal::RecordedEvent;
use daybook_store::keys::Sealer;
use deadpool_postgres::Transaction;
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

/// What one transaction is to do.
pub(super) struct Batch {
    /// The lanes that move, all of them from `after`.
    pub(super) lanes: Vec<i32>,
    /// Where their checkpoints stand: at `after`, or before it where nothing changed in between.
    pub(super) stored: u64,
    pub(super) after: u64,
    pub(super) up_to: u64,
    /// The lanes' events in (after, up to] that the read model wants.
    pub(super) events: Vec<OpenedEvent>,
    /// What is left aside of (after, up to]: events of streams that are parked, in order.
    pub(super) aside: Vec<Aside>,
    /// The event at which it ends early.
    pub(super) stop: Option<Stop>,
}

impl Batch {
    /// Whether there is nothing to write but a checkpoint.
    pub(super) fn changes_nothing(&self) -> bool {
        self.events.is_empty() && !self.aside.iter().any(|event| event.place.position <= self.up_to)
    }
}

/// An event that cannot be applied.
#[derive(Debug)]
pub(super) struct Stop {
    pub(super) position: u64,
    pub(super) stream: StreamName,
    pub(super) error: ApplyError,
}

impl Stop {
    pub(super) fn at(event: &RecordedEvent, error: ApplyError) -> Self {
        Stop { position: event.position, stream: StreamName::of(event), error }
    }
}

pub(super) struct Applied {
    /// Everything up to here is in the rows.
    pub(super) position: u64,
    /// The checkpoint now.
    pub(super) stored: u64,
    /// What was left aside, by stream.
    pub(super) parked: Vec<Parked>,
    /// Everything before this event is applied, this one is not.
    pub(super) stop: Option<Stop>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ApplyFailure {
    /// A checkpoint is not where it was thought to be, or a stream is not parked as it was: somebody else has moved
    /// it, or the version is no longer kept. Nothing was changed.
    #[error("the checkpoint or what is parked has moved")]
    Moved,
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// When it is, and before when change rows are no longer written.
#[derive(Clone, Copy)]
pub(super) struct Times {
    pub(super) now: DateTime<Utc>,
    pub(super) keep_since: DateTime<Utc>,
}

/// Opens the events of a batch. One that does not open ends the batch before it.
pub(super) async fn open<M: Projected>(
    sealer: &Sealer,
    lanes: Vec<i32>,
    stored: u64,
    (after, up_to): (u64, u64),
    recorded: Vec<RecordedEvent>,
) -> Batch {
    let (events, stop) = open_events::<M>(sealer, recorded).await;
    let up_to = stop.as_ref().map_or(up_to, |stop| stop.position - 1);
    Batch { lanes, stored, after, up_to, events, aside: Vec::new(), stop }
}

/// Opens events, up to one that does not open.
pub(super) async fn open_events<M: Projected>(
    sealer: &Sealer,
    recorded: Vec<RecordedEvent>,
) -> (Vec<OpenedEvent>, Option<Stop>) {
    let mut events = Vec::with_capacity(recorded.len());
    for event in recorded {
        if !M::OPENS {
            events.push(OpenedEvent::sealed(event));
            continue;
        }
        match sealer.open(event.tenant, event.event_id, &event.payload).await {
            Ok(payload) => {
                let payload = payload.into_owned();
                events.push(OpenedEvent::new(event, payload));
            }
            Err(error) => {
                let stop = Stop::at(&event, error.into());
                return (events, Some(stop));
            }
        }
    }
    (events, None)
}

/// # Errors
/// [`ApplyFailure`]; then nothing was changed.
pub(super) async fn apply<M: Projected>(
    session: &mut Held,
    version: u32,
    batch: Batch,
    times: Times,
) -> Result<Applied, ApplyFailure> {
    let tx = session.transaction().await.map_err(DatabaseError::Query)?;
    // First of all, so that a second runner waits here instead of doing the work in vain.
    let moved = advance(&tx, M::NAME, version, &batch.lanes, batch.stored, batch.up_to, times.now).await?;
    if moved.len() != batch.lanes.len() {
        return Err(ApplyFailure::Moved);
    }
    let mut position = batch.up_to;
    let mut stop = batch.stop;
    if !batch.events.is_empty()
        && let Some(refused) = M::write(&tx, version, &batch.events, times.keep_since).await?
    {
        position = refused.position - 1;
        stop = Some(refused);
        if position == batch.after {
            return Ok(Applied { position, stored: batch.stored, parked: Vec::new(), stop });
        }
        advance(&tx, M::NAME, version, &batch.lanes, batch.up_to, position, times.now).await?;
    }
    let parked = parking::by_stream(batch.aside, position, times.now);
    if !parked.is_empty() && !parking::store(&tx, M::NAME, version, &parked).await? {
        return Err(ApplyFailure::Moved);
    }
    tx.commit().await.map_err(DatabaseError::Query)?;
    Ok(Applied { position, stored: position, parked, stop })
}

/// Folds events into their rows, up to one that cannot be folded.
pub(super) async fn fold_rows<M: ReadModel>(
    tx: &Transaction<'_>,
    version: u32,
    events: &[OpenedEvent],
    keep_since: DateTime<Utc>,
) -> Result<Option<Stop>, DatabaseError> {
    let keys: BTreeSet<RowKey> = events.iter().map(key::<M>).collect();
    let keys: Vec<RowKey> = keys.into_iter().collect();
    let mut rows = M::load(tx, version, &keys).await?;
    let mut changes = Changes::default();
    let mut touched = BTreeSet::new();
    let mut stop = None;
    for event in events {
        let key = key::<M>(event);
        let before = rows.remove(&key);
        match guarded(|| M::fold(before.clone(), event)) {
            Ok(after) => {
                if after != before {
                    touched.insert(key);
                    changes.push(event, key, before.as_ref(), after.as_ref(), keep_since)?;
                }
                if let Some(after) = after {
                    rows.insert(key, after);
                }
            }
            Err(error) => {
                if let Some(before) = before {
                    rows.insert(key, before);
                }
                stop = Some(Stop::at(event, error));
                break;
            }
        }
    }
    let (kept, removed): (Vec<RowKey>, Vec<RowKey>) = touched.into_iter().partition(|key| rows.contains_key(key));
    let kept: Vec<M::Row> = kept.iter().filter_map(|key| rows.remove(key)).collect();
    M::store(tx, version, &kept, &removed).await?;
    changes.store(tx, M::NAME, version).await?;
    Ok(stop)
}

fn key<M: ReadModel>(event: &OpenedEvent) -> RowKey {
    RowKey { tenant: event.tenant, id: M::id(event) }
}

/// Moves those of the lanes that stand at `after`; says which.
pub(super) async fn advance(
    tx: &Transaction<'_>,
    read_model: &str,
    version: u32,
    lanes: &[i32],
    after: u64,
    up_to: u64,
    now: DateTime<Utc>,
) -> Result<Vec<i32>, DatabaseError> {
    let statement = tx.prepare_cached(ADVANCE).await.map_err(DatabaseError::Query)?;
    let parameters: [&(dyn ToSql + Sync); 6] =
        [&read_model, &int(version), &lanes, &signed(after), &signed(up_to), &now];
    let rows = tx.query(&statement, &parameters).await.map_err(DatabaseError::Query)?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Read model, version, lanes, after, up to, now.
const ADVANCE: &str = "update projection.checkpoints set position = $5, updated_at = $6,
     stopped_position = null, stopped_reason = null, stopped_at = null
 where read_model = $1 and version = $2 and lane = any($3) and position = $4 returning lane";

/// Change rows as columns.
#[derive(Default)]
struct Changes {
    tenant: Vec<Uuid>,
    tenant_position: Vec<i64>,
    key: Vec<Uuid>,
    position: Vec<i64>,
    before: Vec<Option<String>>,
    after: Vec<Option<String>>,
    recorded_at: Vec<DateTime<Utc>>,
    /// Changes too old to be kept, by tenant: the last of them.
    left_out: BTreeMap<Uuid, i64>,
}

impl Changes {
    fn push<R: serde::Serialize>(
        &mut self,
        event: &OpenedEvent,
        key: RowKey,
        before: Option<&R>,
        after: Option<&R>,
        keep_since: DateTime<Utc>,
    ) -> Result<(), DatabaseError> {
        if event.recorded_at < keep_since {
            self.left_out.insert(event.tenant.0, signed(event.tenant_position));
            return Ok(());
        }
        let json = |row: Option<&R>| {
            row.map(serde_json::to_string)
                .transpose()
                .map_err(|error| DatabaseError::Unsuitable(format!("a row has no JSON form: {error}")))
        };
        self.before.push(json(before)?);
        self.after.push(json(after)?);
        self.tenant.push(event.tenant.0);
        self.tenant_position.push(signed(event.tenant_position));
        self.key.push(key.id);
        self.position.push(signed(event.position));
        self.recorded_at.push(event.recorded_at);
        Ok(())
    }

    async fn store(&self, tx: &Transaction<'_>, read_model: &str, version: u32) -> Result<(), DatabaseError> {
        let version = int(version);
        if !self.key.is_empty() {
            let statement = tx.prepare_cached(INSERT).await.map_err(DatabaseError::Query)?;
            let parameters: [&(dyn ToSql + Sync); 9] = [
                &read_model,
                &version,
                &self.tenant,
                &self.tenant_position,
                &self.key,
                &self.position,
                &self.before,
                &self.after,
                &self.recorded_at,
            ];
            tx.execute(&statement, &parameters).await.map_err(DatabaseError::Query)?;
        }
        if !self.left_out.is_empty() {
            let statement = tx.prepare_cached(LEAVE_OUT).await.map_err(DatabaseError::Query)?;
            let tenants: Vec<Uuid> = self.left_out.keys().copied().collect();
            let positions: Vec<i64> = self.left_out.values().copied().collect();
            tx.execute(&statement, &[&read_model, &version, &tenants, &positions])
                .await
                .map_err(DatabaseError::Query)?;
        }
        Ok(())
    }
}

const INSERT: &str = "insert into projection.changes
 (read_model, version, tenant_id, tenant_position, key, position, before, after, recorded_at)
 select $1, $2, t, n, k, p, b::jsonb, a::jsonb, r
 from unnest($3::uuid[], $4::bigint[], $5::uuid[], $6::bigint[], $7::text[], $8::text[], $9::timestamptz[])
      u(t, n, k, p, b, a, r)";

const LEAVE_OUT: &str = "insert into projection.purged as p (read_model, version, tenant_id, tenant_position)
 select $1, $2, t, n from unnest($3::uuid[], $4::bigint[]) u(t, n)
 on conflict (read_model, version, tenant_id) do update
 set tenant_position = greatest(p.tenant_position, excluded.tenant_position)";
