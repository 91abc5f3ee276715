//! The next version of a read model, filled beside the one that answers, then put in its place.

use super::apply::{ApplyFailure, Batch, Times, apply, open};
use super::model::ApplyError;
use super::parking;
use super::projected::Projected;
use super::versions::{self, VersionError};
use super::{PROJECTOR_SETTINGS, Parts, Report, int, unsigned};
use chrono::{DateTime, Utc};
use daybook_store::database::{DatabaseError, Pool, Role};
use daybook_store::journal::RecordedEvent;
use daybook_store::journal::follow::{FollowError, Follower, Source};
use daybook_store::keys::Sealer;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// How long the live version may be held still while the last events are applied to the next.
const SWITCH_MAX: Duration = Duration::from_secs(2);
/// How long readers of the old version are waited for.
const READERS_MAX: Duration = Duration::from_secs(60);

/// Bytes of payloads and metadata after which a piece is large enough.
const BULK_BYTES: usize = 16 << 20;
/// Events after which a piece is long enough, wanted or not.
const BULK_PASSED: usize = 200_000;

/// How far a rebuild is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RebuildProgress {
    /// Journal position applied.
    pub position: u64,
    /// The end of the journal when last looked at.
    pub head: u64,
}

/// What a rebuild did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rebuilt {
    pub read_model: &'static str,
    pub old_version: u32,
    pub version: u32,
    /// Journal position at the switch.
    pub position: u64,
    /// Whether the old version's table is gone; else the next rebuild drops it.
    pub dropped: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    #[error("another rebuild of read model {0} is under way; wait for it")]
    Busy(&'static str),
    #[error(
        "event {position} cannot be applied; the version that answers stays as it was: mend the cause, or skip the event where it is parked"
    )]
    Event { position: u64, source: ApplyError },
    #[error("the version being made was changed by somebody else, or an event was skipped meanwhile; rebuild again")]
    Interfered,
    #[error("writes were too fast to catch up with; rebuild again at a quieter time")]
    Outrun,
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Follow(#[from] FollowError),
    #[error(transparent)]
    Version(#[from] VersionError),
}

pub(super) async fn rebuild<M: Projected>(parts: &Parts, report: Report<'_>) -> Result<Rebuilt, RebuildError> {
    // The lease of this rebuild in the whole cluster: held by the session, so it ends with us.
    let mut session = parts.database.connect(Role::Projector, &settings()).await?;
    let got = session
        .query_one("select pg_try_advisory_lock(hashtextextended($1, 0))", &[&versions::lock_key(M::NAME)])
        .await
        .map_err(DatabaseError::Query)?;
    if !got.get::<_, bool>(0) {
        return Err(RebuildError::Busy(M::NAME));
    }
    let done = rebuild_under_lease::<M>(parts, &mut session, report).await;
    // The session ends some time after it was dropped; who asks for the next rebuild at once is not busy.
    if let Err(error) = session.execute("select pg_advisory_unlock_all()", &[]).await {
        tracing::debug!(read_model = M::NAME, %error, "the lease of a rebuild ends with its session");
    }
    done
}

/// The rows that it locks are its own, but for the moment of the switch; and a large piece takes a while to be decoded.
fn settings() -> String {
    format!("{PROJECTOR_SETTINGS} -c statement_timeout=120s -c idle_in_transaction_session_timeout=60s")
}

async fn rebuild_under_lease<M: Projected>(
    parts: &Parts,
    session: &mut Client,
    report: Report<'_>,
) -> Result<Rebuilt, RebuildError> {
    // A large piece and an index take as long as they take.
    let pool = parts.database.pool_held(Role::Projector, 1, &settings(), None);
    // Not by `ensure_live`, which would wait for the lock that this rebuild holds.
    let old_version = match versions::live(&pool, M::NAME).await? {
        Some(version) => version,
        None => first::<M>(&pool, parts.system.utc()).await?,
    };
    // What an interrupted rebuild has left.
    versions::drop_others::<M>(&parts.database, session, old_version, Instant::now() + READERS_MAX).await?;

    let version = old_version + 1;
    let mut next = Next::<M>::create(parts, pool, version).await?;
    next.fill(session, report).await?;
    next.index().await?;
    while next.page(u64::MAX).await? > 0 {
        let head = head(session).await?;
        report(RebuildProgress { position: next.follower.position(), head });
    }
    let mut attempts = 0;
    while !switch(session, &mut next, old_version).await? {
        attempts += 1;
        if attempts == 20 {
            return Err(RebuildError::Outrun);
        }
        while next.page(u64::MAX).await? > 0 {}
    }
    let position = next.follower.position();
    tracing::debug!(read_model = M::NAME, position, spent = ?next.spent, "a read model was made anew");
    report(RebuildProgress { position, head: position });
    let deadline = Instant::now() + READERS_MAX;
    let dropped = match versions::drop_others::<M>(&parts.database, session, version, deadline).await {
        Ok(_) => true,
        // Done all the same: the new version answers.
        Err(error) => {
            tracing::warn!(read_model = M::NAME, %error, "the old version of a read model stays for now");
            false
        }
    };
    Ok(Rebuilt { read_model: M::NAME, old_version, version, position, dropped })
}

async fn first<M: Projected>(pool: &Pool, now: DateTime<Utc>) -> Result<u32, DatabaseError> {
    let mut session = pool.get().await?;
    let tx = session.transaction().await.map_err(DatabaseError::Query)?;
    versions::create::<M>(&tx, 1, now).await?;
    versions::index::<M>(&tx, 1).await?;
    tx.execute("insert into projection.live (read_model, version) values ($1, 1)", &[&M::NAME])
        .await
        .map_err(DatabaseError::Query)?;
    tx.commit().await.map_err(DatabaseError::Query)?;
    Ok(1)
}

async fn head(session: &Client) -> Result<u64, DatabaseError> {
    let row = session
        .query_one("select coalesce((select last_position from journal.batches order by batch desc limit 1), 0)", &[])
        .await
        .map_err(DatabaseError::Query)?;
    Ok(unsigned(row.get(0)))
}

/// The version being filled. All its lanes move together: there is nobody to be fair to yet.
struct Next<'a, M> {
    parts: &'a Parts,
    pool: Pool,
    version: u32,
    follower: Follower,
    lanes: Vec<i32>,
    /// Events that an operator has left out of the version that answers: this one leaves them out as well.
    skips: BTreeSet<u64>,
    spent: Spent,
    model: std::marker::PhantomData<fn() -> M>,
}

/// Where the time goes.
#[derive(Default, Debug)]
struct Spent {
    /// For the next piece.
    wait: Duration,
    write: Duration,
    index: Duration,
}

impl<'a, M: Projected> Next<'a, M> {
    async fn create(parts: &'a Parts, pool: Pool, version: u32) -> Result<Self, DatabaseError> {
        let mut session = pool.get().await?;
        let tx = session.transaction().await.map_err(DatabaseError::Query)?;
        versions::create::<M>(&tx, version, parts.system.utc()).await?;
        tx.commit().await.map_err(DatabaseError::Query)?;
        let skips = parking::skips(&session, M::NAME).await?;
        drop(session);
        let follower = Self::follow(parts, 0);
        let lanes = (0..i32::from(M::LANES.max(1))).collect();
        Ok(Next {
            parts,
            pool,
            version,
            follower,
            lanes,
            skips,
            spent: Spent::default(),
            model: std::marker::PhantomData,
        })
    }

    fn follow(parts: &Parts, after: u64) -> Follower {
        // The writer may be another process, so the journal itself is asked what is durable.
        Follower::new(parts.database.clone(), Source::Journal, after, parts.options.page)
    }

    /// Applies all there is, in large pieces: while one is written, the next one is read and opened.
    async fn fill(&mut self, session: &Client, report: Report<'_>) -> Result<(), RebuildError> {
        let (pieces, mut ready) = mpsc::channel(1);
        let reading = Reading::<M> {
            follower: Self::follow(self.parts, self.follower.position()),
            sealer: self.parts.sealer.clone(),
            lanes: self.lanes.clone(),
            skips: self.skips.clone(),
            events_max: self.parts.options.bulk_max.max(1),
            model: std::marker::PhantomData,
        };
        // Ends with this rebuild, however that ends.
        let mut task = JoinSet::new();
        task.spawn(reading.run(pieces));
        let mut position = self.follower.position();
        loop {
            let begun = Instant::now();
            let Some(piece) = ready.recv().await else { break };
            self.spent.wait += begun.elapsed();
            let batch = piece?;
            let up_to = batch.up_to;
            self.write(batch).await?;
            position = up_to;
            let head = head(session).await?;
            report(RebuildProgress { position, head });
        }
        // What came after the last look is for the pages.
        self.follower = Self::follow(self.parts, position);
        Ok(())
    }

    /// Makes what readers need and the writing did not.
    async fn index(&mut self) -> Result<(), DatabaseError> {
        let begun = Instant::now();
        let mut session = self.pool.get().await?;
        let tx = session.transaction().await.map_err(DatabaseError::Query)?;
        // Nobody else knows the tables yet, so it keeps nobody waiting, however long it takes.
        tx.batch_execute("set local statement_timeout = 0; set local maintenance_work_mem = '256MB'")
            .await
            .map_err(DatabaseError::Query)?;
        versions::index::<M>(&tx, self.version).await?;
        tx.commit().await.map_err(DatabaseError::Query)?;
        self.spent.index += begun.elapsed();
        Ok(())
    }

    /// Applies the next page; says how many events were in it, wanted or not.
    async fn page(&mut self, enough: u64) -> Result<usize, RebuildError> {
        let after = self.follower.position();
        if after >= enough {
            return Ok(0);
        }
        let events = self.follower.poll_once().await?;
        let count = events.len();
        if count == 0 {
            return Ok(0);
        }
        let up_to = self.follower.position();
        let wanted = |event: &RecordedEvent| M::wants(&event.event_type) && !self.skips.contains(&event.position);
        let wanted = events.into_iter().filter(wanted).collect();
        let batch = open::<M>(&self.parts.sealer, self.lanes.clone(), after, (after, up_to), wanted).await;
        self.write(batch).await?;
        Ok(count)
    }

    async fn write(&mut self, batch: Batch) -> Result<(), RebuildError> {
        if let Some(stop) = batch.stop {
            return Err(RebuildError::Event { position: stop.position, source: stop.error });
        }
        let begun = Instant::now();
        let now = self.parts.system.utc();
        let times = Times { now, keep_since: now - self.parts.options.retention };
        let mut session = self.pool.get().await?;
        let applied = apply::<M>(&mut session, self.version, batch, times).await.map_err(|failure| match failure {
            ApplyFailure::Moved => RebuildError::Interfered,
            ApplyFailure::Database(error) => error.into(),
        })?;
        self.spent.write += begun.elapsed();
        match applied.stop {
            Some(stop) => Err(RebuildError::Event { position: stop.position, source: stop.error }),
            None => Ok(()),
        }
    }
}

/// Reads ahead of the writing, one piece beside the one that waits and the one that is being written.
struct Reading<M> {
    follower: Follower,
    sealer: Sealer,
    lanes: Vec<i32>,
    skips: BTreeSet<u64>,
    events_max: usize,
    model: std::marker::PhantomData<fn() -> M>,
}

impl<M: Projected> Reading<M> {
    async fn run(mut self, pieces: mpsc::Sender<Result<Batch, RebuildError>>) {
        loop {
            match self.piece().await {
                Ok(None) => return,
                Ok(Some(batch)) => {
                    if pieces.send(Ok(batch)).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    // Nobody listens any more: nobody is interested.
                    let _ = pieces.send(Err(error)).await;
                    return;
                }
            }
        }
    }

    /// The next piece, opened; none at the end of the journal.
    async fn piece(&mut self) -> Result<Option<Batch>, RebuildError> {
        let after = self.follower.position();
        let (mut wanted, mut bytes, mut passed) = (Vec::new(), 0, 0);
        while wanted.len() < self.events_max && bytes < BULK_BYTES && passed < BULK_PASSED {
            let events = self.follower.poll_once().await?;
            if events.is_empty() {
                break;
            }
            passed += events.len();
            let skips = &self.skips;
            let ours = events.into_iter().filter(|e| M::wants(&e.event_type) && !skips.contains(&e.position));
            wanted.extend(ours.inspect(|event| bytes += event.payload.len() + event.metadata.len()));
        }
        let up_to = self.follower.position();
        if up_to == after {
            return Ok(None);
        }
        Ok(Some(open::<M>(&self.sealer, self.lanes.clone(), after, (after, up_to), wanted).await))
    }
}

/// Holds the live version still, brings the next one to at least where that is, and switches. Whoever
/// waited for a position of the old version finds it in the new one. `false`: it took too long.
async fn switch<M: Projected>(
    session: &mut Client,
    next: &mut Next<'_, M>,
    old_version: u32,
) -> Result<bool, RebuildError> {
    let deadline = Instant::now() + SWITCH_MAX;
    let tx = session.transaction().await.map_err(DatabaseError::Query)?;
    // It stays open, and idle, while another session brings the last page.
    let settings = "set local lock_timeout = '2s'; set local idle_in_transaction_session_timeout = '30s'";
    tx.batch_execute(settings).await.map_err(DatabaseError::Query)?;
    let held = tx
        .query(
            "select position from projection.checkpoints where read_model = $1 and version = $2 order by lane for update",
            &[&M::NAME, &int(old_version)],
        )
        .await;
    let held = match held {
        Ok(held) => held,
        Err(error)
            if [Some(&SqlState::LOCK_NOT_AVAILABLE), Some(&SqlState::T_R_DEADLOCK_DETECTED)]
                .contains(&error.code()) =>
        {
            return Ok(false);
        }
        Err(error) => return Err(DatabaseError::Query(error).into()),
    };
    let target = held.iter().map(|row| unsigned(row.get(0))).max().unwrap_or(0);
    while next.page(target).await? > 0 {
        if Instant::now() >= deadline {
            return Ok(false);
        }
    }
    if next.follower.position() < target {
        return Ok(false);
    }
    if parking::skips(tx.client(), M::NAME).await? != next.skips {
        return Err(RebuildError::Interfered);
    }
    // Without its checkpoints nobody applies to the old version any more; a runner that waits for
    // one of these rows finds it gone, and looks which version is live.
    tx.execute(
        "delete from projection.checkpoints where read_model = $1 and version = $2",
        &[&M::NAME, &int(old_version)],
    )
    .await
    .map_err(DatabaseError::Query)?;
    tx.execute("update projection.live set version = $2 where read_model = $1", &[&M::NAME, &int(next.version)])
        .await
        .map_err(DatabaseError::Query)?;
    tx.commit().await.map_err(DatabaseError::Query)?;
    Ok(true)
}
