//! One read model: follows the journal and deals each page out to the lanes of the live version.

use super::apply::ADVANCE;
use super::lane::{Lane, Work};
use super::model::lane_of;
use super::progress::LaneSet;
use super::projected::Projected;
use super::versions::{self, VersionError};
use super::{Context, int, signed};
use daybook_store::database::DatabaseError;
use daybook_store::journal::RecordedEvent;
use daybook_store::journal::follow::{FollowError, Follower};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// Pages that wait for a lane; more are dealt past it.
const QUEUE_MAX: usize = 8;

#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error(transparent)]
    Version(#[from] VersionError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Follow(#[from] FollowError),
    #[error("a lane panicked; its transaction was rolled back")]
    Panicked,
}

/// Runs for ever, across faults and changes of the live version.
pub(super) async fn supervise<M: Projected>(context: Arc<Context>) {
    let mut failures = 0;
    loop {
        match run::<M>(&context, &mut failures).await {
            Ok(()) => tracing::info!(read_model = M::NAME, "another version of a read model is live"),
            Err(error) => {
                failures += 1;
                let reason = error.to_string();
                if context.progress.set_trouble(M::NAME, Some(reason.clone())) {
                    tracing::error!(read_model = M::NAME, reason, "a read model gets no events");
                }
                tokio::time::sleep(context.parts.options.pause(failures)).await;
            }
        }
    }
}

/// Keeps the version that is live now, until another one is.
async fn run<M: Projected>(context: &Arc<Context>, failures: &mut u32) -> Result<(), RunError> {
    let parts = &context.parts;
    let version = versions::ensure_live::<M>(&context.pool, parts.system.utc()).await?;
    let positions = versions::checkpoints::<M>(&context.pool, version).await?;
    let set = context.progress.begin(M::NAME, version, &positions);
    context.progress.set_trouble(M::NAME, None);
    // Lanes that are behind read what they miss themselves; the usual start is all at one position.
    let start = positions.iter().copied().max().unwrap_or(0);
    let (dealt, dealt_seen) = watch::channel(start);
    let mut queues = Vec::new();
    let mut lanes = JoinSet::new();
    for number in 0..set.count() {
        let (queue, taken) = mpsc::channel(QUEUE_MAX);
        queues.push(queue);
        lanes.spawn(Lane::<M>::new(context.clone(), set.clone(), number, taken, dealt_seen.clone()).run());
    }
    let mut follower = Follower::new(parts.database.clone(), parts.source.clone(), start, parts.options.page);
    let mut after = start;
    loop {
        let events = tokio::select! {
            events = follower.next() => events?,
            ended = lanes.join_next() => return match ended {
                Some(Err(_)) => Err(RunError::Panicked),
                Some(Ok(_)) | None => Ok(()),
            },
        };
        *failures = 0;
        let up_to = follower.position();
        deal::<M>(context, &set, &queues, after, up_to, events).await;
        // Only now: a lane that hears of it has its part in the queue already, or was dealt past.
        dealt.send_replace(up_to);
        context.progress.set_dealt(M::NAME, up_to);
        after = up_to;
    }
}

async fn deal<M: Projected>(
    context: &Context,
    set: &LaneSet,
    queues: &[mpsc::Sender<Work>],
    after: u64,
    up_to: u64,
    events: Vec<RecordedEvent>,
) {
    let mut shares: Vec<Vec<RecordedEvent>> = queues.iter().map(|_| Vec::new()).collect();
    for event in events {
        if M::wants(&event.event_type) {
            shares[usize::from(lane_of(event.tenant, set.count()))].push(event);
        }
    }
    let mut idle = Vec::new();
    for ((number, queue), events) in (0..).zip(queues).zip(shares) {
        if events.is_empty() && set.position(number) == after {
            idle.push(number);
        } else {
            // A full queue is a lane that is busy; it reads this later.
            let _ = queue.try_send(Work { after, up_to, events });
        }
    }
    if idle.is_empty() {
        return;
    }
    let moved = match advance_idle::<M>(context, set, &idle, after, up_to).await {
        Ok(moved) => moved,
        Err(error) => {
            tracing::debug!(read_model = M::NAME, %error, "idle lanes did not advance at once");
            Vec::new()
        }
    };
    for number in idle {
        if moved.contains(&i32::from(number)) {
            set.set_position(number, up_to);
        } else {
            // Its checkpoint is not where we think: the lane finds out.
            let _ = queues[usize::from(number)].try_send(Work { after, up_to, events: Vec::new() });
        }
    }
}

/// One statement for all lanes that have nothing to do.
async fn advance_idle<M: Projected>(
    context: &Context,
    set: &LaneSet,
    idle: &[u16],
    after: u64,
    up_to: u64,
) -> Result<Vec<i32>, DatabaseError> {
    let lanes: Vec<i32> = idle.iter().copied().map(i32::from).collect();
    let now = context.parts.system.utc();
    let rows = context
        .pool
        .query(ADVANCE, &[&M::NAME, &int(set.version()), &lanes, &signed(after), &signed(up_to), &now])
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
