//! The next version of a read model, filled beside the one that answers, then put in its place.

use super::apply::{ApplyFailure, Times, apply, open};
use super::model::ApplyError;
use super::parking;
use super::projected::Projected;
use super::versions::{self, VersionError};
use super::{PROJECTOR_SETTINGS, Parts, Report, int, unsigned};
use chrono::{DateTime, Utc};
use daybook_store::database::{DatabaseError, Pool, Role};
use daybook_store::journal::RecordedEvent;
use daybook_store::journal::follow::{FollowError, Follower, Source};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// How long the live version may be held still while the last events are applied to the next.
const SWITCH_MAX: Duration = Duration::from_secs(2);
/// How long readers of the old version are waited for.
const READERS_MAX: Duration = Duration::from_secs(60);

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
    let mut session = parts.database.connect(Role::Projector, PROJECTOR_SETTINGS).await?;
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

async fn rebuild_under_lease<M: Projected>(
    parts: &Parts,
    session: &mut Client,
    report: Report<'_>,
) -> Result<Rebuilt, RebuildError> {
    let pool = parts.database.pool(Role::Projector, 1, PROJECTOR_SETTINGS);
    // Not by `ensure_live`, which would wait for the lock that this rebuild holds.
    let old_version = match versions::live(&pool, M::NAME).await? {
        Some(version) => version,
        None => first::<M>(&pool, parts.system.utc()).await?,
    };
    // What an interrupted rebuild has left.
    versions::drop_others::<M>(&parts.database, session, old_version, Instant::now() + READERS_MAX).await?;

    let version = old_version + 1;
    let mut next = Next::<M>::create(parts, pool, version).await?;
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
    model: std::marker::PhantomData<fn() -> M>,
}

impl<'a, M: Projected> Next<'a, M> {
    async fn create(parts: &'a Parts, pool: Pool, version: u32) -> Result<Self, DatabaseError> {
        let mut session = pool.get().await?;
        let tx = session.transaction().await.map_err(DatabaseError::Query)?;
        versions::create::<M>(&tx, version, parts.system.utc()).await?;
        tx.commit().await.map_err(DatabaseError::Query)?;
        let skips = parking::skips(&session, M::NAME).await?;
        drop(session);
        // The writer may be another process, so the journal itself is asked what is durable.
        let follower = Follower::new(parts.database.clone(), Source::Journal, 0, parts.options.page);
        let lanes = (0..i32::from(M::LANES.max(1))).collect();
        Ok(Next { parts, pool, version, follower, lanes, skips, model: std::marker::PhantomData })
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
        if let Some(stop) = batch.stop {
            return Err(RebuildError::Event { position: stop.position, source: stop.error });
        }
        let now = self.parts.system.utc();
        let times = Times { now, keep_since: now - self.parts.options.retention };
        let mut session = self.pool.get().await?;
        let applied = apply::<M>(&mut session, self.version, batch, times).await.map_err(|failure| match failure {
            ApplyFailure::Moved => RebuildError::Interfered,
            ApplyFailure::Database(error) => error.into(),
        })?;
        match applied.stop {
            Some(stop) => Err(RebuildError::Event { position: stop.position, source: stop.error }),
            None => Ok(count),
        }
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
