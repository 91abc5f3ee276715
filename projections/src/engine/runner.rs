//! One read model: follows the journal and deals each page out to the lanes of the live version.

use super::lane::{Lane, Retired, Work};
use super::life;
use super::model::lane_of;
use super::observe::observe;
use super::parking;
use super::progress::LaneSet;
use super::projected::Projected;
use super::versions::{self, VersionError};
use super::{Context, int, signed};
use daybook_store::database::DatabaseError;
use daybook_store::journal::follow::{FollowError, Follower, Source};
use daybook_store::journal::{Durable, RecordedEvent};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// Pages that wait for a lane; more are dealt past it.
const QUEUE_MAX: usize = 8;
/// Events that are dealt again after a start, rather than read by each lane that is behind.
const DEALT_AGAIN_MAX: u64 = 20_000;

#[derive(Debug, thiserror::Error)]
pub(super) enum RunError {
    #[error(transparent)]
    Version(#[from] VersionError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Follow(#[from] FollowError),
    #[error("a lane panicked; its transaction was rolled back")]
    Panicked,
}

/// Runs for ever, across faults, changes of the live version and of the node that keeps it.
pub(super) async fn supervise<M: Projected>(context: Arc<Context>) {
    let mut failures = 0;
    let mut lanes = JoinSet::new();
    loop {
        let keeps = context.keeps();
        let ran = async {
            if keeps {
                run::<M>(&context, &mut lanes, &mut failures).await
            } else {
                observe::<M>(&context, &mut failures).await
            }
        };
        let ended = tokio::select! {
            ended = ran => ended,
            // What the lanes had not committed is applied where the read model is kept.
            () = context.keeping(!keeps) => Ok(()),
        };
        // Waited for: what these tell of themselves ends before others are begun.
        lanes.shutdown().await;
        match ended {
            Ok(()) if keeps => tracing::info!(read_model = M::NAME, "the lanes of a read model begin anew"),
            Ok(()) => {}
            Err(error) => {
                failures += 1;
                let reason = error.to_string();
                if context.progress.set_trouble(M::NAME, Some(reason.clone())) {
                    tracing::error!(read_model = M::NAME, reason, "a read model gets no events");
                }
                tokio::select! {
                    () = tokio::time::sleep(context.parts.options.pause(failures)) => {}
                    // Who reads has reached the server.
                    () = context.progress.is_doubted(M::NAME) => {}
                }
            }
        }
    }
}

/// Keeps the version that is live now, until another one is, its checkpoints are not where they were left, or may not be.
async fn run<M: Projected>(
    context: &Arc<Context>,
    lanes: &mut JoinSet<Retired>,
    failures: &mut u32,
) -> Result<(), RunError> {
    let parts = &context.parts;
    // Before the checkpoints are read: a crash after that begins anew.
    let mut epoch = Epoch::of(&parts.source);
    let version = versions::ensure_live::<M>(&context.pool, parts.system.utc()).await?;
    life::ensure(&context.pool, parts.system.uuid_v4()).await?;
    let (life, positions, parked, skips) = {
        // One session, so one life.
        let session = context.pool.get().await?;
        let (life, positions) = versions::checkpoints::<M>(&session, version).await?;
        let lanes_max = i64::try_from(positions.len().saturating_mul(parts.options.parked_max)).unwrap_or(i64::MAX);
        let parked = parking::load(&session, M::NAME, version, None, lanes_max).await?;
        (life, positions, parked, parking::skips(&session, M::NAME).await?)
    };
    let set = context.progress.begin(M::NAME, version, life, &positions, parked);
    context.progress.set_trouble(M::NAME, None);
    // Lanes that are far behind read what they miss themselves. Checkpoints of lanes with nothing to do are
    // stored late, so most are behind a little: that is dealt again, and who is past it leaves it out.
    let (first, last) = (positions.iter().copied().min().unwrap_or(0), positions.iter().copied().max().unwrap_or(0));
    let start = if last - first <= DEALT_AGAIN_MAX { first } else { last };
    let (dealt, dealt_seen) = watch::channel(start);
    let mut queues = Vec::new();
    for number in 0..set.count() {
        let (queue, taken) = mpsc::channel(QUEUE_MAX);
        queues.push(queue);
        lanes.spawn(
            Lane::<M>::new(context.clone(), set.clone(), number, taken, dealt_seen.clone(), skips.clone()).run(),
        );
    }
    let follower = Follower::new(parts.database.clone(), parts.source.clone(), start, parts.options.page);
    let mut follower = follower.only(M::wants);
    let mut after = start;
    let mut storing = tokio::time::interval(parts.options.store_every);
    storing.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let events = {
            let next = follower.next();
            // Not given up for the clock: half a read is a connection lost.
            tokio::pin!(next);
            loop {
                tokio::select! {
                    events = &mut next => break events?,
                    _ = storing.tick() => if !store_idle::<M>(context, &set, after).await {
                        return Ok(());
                    },
                    () = epoch.over() => return Ok(()),
                    () = set.is_doubted() => return Ok(()),
                    ended = lanes.join_next() => return match ended {
                        Some(Err(_)) => Err(RunError::Panicked),
                        Some(Ok(_)) | None => Ok(()),
                    },
                }
            }
        };
        *failures = 0;
        let up_to = follower.position();
        deal(&set, &queues, after, up_to, events);
        // Only now: a lane that hears of it has its part in the queue already, or was dealt past.
        dealt.send_replace(up_to);
        context.progress.set_dealt(M::NAME, up_to);
        after = up_to;
    }
}

/// The writer's epoch, which ends with a crash of the database: that may have taken back rows and checkpoints, and
/// then positions in memory say too much.
pub(super) struct Epoch {
    durable: Option<watch::Receiver<Durable>>,
    begun: u64,
}

impl Epoch {
    pub(super) fn of(source: &Source) -> Self {
        let durable = match source {
            Source::Writer(durable) => Some(durable.clone()),
            Source::Recent(recent) => Some(recent.durable().clone()),
            Source::Journal | Source::Bell(_) => None,
        };
        let begun = durable.as_ref().map_or(0, |durable| durable.borrow().seen.epoch);
        Epoch { durable, begun }
    }

    /// Waits until another one has begun; the first one that there is begins nothing anew.
    pub(super) async fn over(&mut self) {
        let Some(durable) = &mut self.durable else { return std::future::pending().await };
        loop {
            let begun = self.begun;
            let Ok(now) = durable.wait_for(|durable| durable.seen.epoch != begun).await.map(|now| now.seen.epoch)
            else {
                // The writer has ended; its last word stands.
                return std::future::pending().await;
            };
            self.begun = now;
            if begun > 0 {
                return;
            }
        }
    }
}

fn deal(set: &LaneSet, queues: &[mpsc::Sender<Work>], after: u64, up_to: u64, events: Vec<RecordedEvent>) {
    let mut shares: Vec<Vec<RecordedEvent>> = queues.iter().map(|_| Vec::new()).collect();
    for event in events {
        shares[usize::from(lane_of(event.tenant, set.count()))].push(event);
    }
    for ((number, queue), events) in (0..).zip(queues).zip(shares) {
        // A lane that is done with everything before has nothing to do.
        if !(events.is_empty() && set.advance_from(number, after, up_to)) {
            // A full queue is a lane that is busy; it reads this later.
            let _ = queue.try_send(Work { after, up_to, events });
        }
    }
}

/// Stores the checkpoints of lanes that had nothing to do, in one statement. `false` when one is not where it
/// was left: another version is live, another node keeps this one, or a crash took commits back.
async fn store_idle<M: Projected>(context: &Context, set: &LaneSet, dealt: u64) -> bool {
    let idle: Vec<u16> =
        (0..set.count()).filter(|lane| set.position(*lane) == dealt && set.stored(*lane) < dealt).collect();
    if idle.is_empty() {
        return true;
    }
    let lanes: Vec<i32> = idle.iter().copied().map(i32::from).collect();
    let stored: Vec<i64> = idle.iter().map(|lane| signed(set.stored(*lane))).collect();
    let now = context.parts.system.utc();
    let rows =
        context.pool.query(STORE_IDLE, &[&M::NAME, &int(set.version()), &lanes, &stored, &signed(dealt), &now]).await;
    let moved = match rows {
        Ok(rows) => rows.len(),
        Err(error) => {
            tracing::debug!(read_model = M::NAME, %error, "checkpoints of idle lanes are stored later");
            return true;
        }
    };
    idle.iter().for_each(|lane| set.set_stored(*lane, dealt));
    moved == idle.len()
}

/// Read model, version, lanes, where they are stored, where they are, now.
const STORE_IDLE: &str = "update projection.checkpoints c set position = $5, updated_at = $6,
     stopped_position = null, stopped_reason = null, stopped_at = null
 from unnest($3::int[], $4::bigint[]) as i(lane, stored)
 where c.read_model = $1 and c.version = $2 and c.lane = i.lane and c.position = i.stored returning c.lane";
