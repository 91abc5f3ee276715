//! One lane: applies what the runner deals it, and reads for itself what it missed.
//!
//! The runner never waits for a lane. When the queue is full it deals past it, and the lane, once
//! it has time again, reads the gap from the journal. So nothing is skipped and nobody is held up.

use super::apply::{Applied, ApplyFailure, Times, apply, open};
use super::model::lane_of;
use super::progress::{LaneSet, LaneStatus};
use super::projected::Projected;
use super::{Context, int, unsigned};
use chrono::TimeDelta;
use daybook_store::database::DatabaseError;
use daybook_store::journal::RecordedEvent;
use daybook_store::journal::follow::{FollowError, Follower};
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

/// A lost connection is not told as a stop before it has failed so often in a row.
const TRANSIENT_FAILURES_MAX: u32 = 3;

/// Everything of one lane in (after, up to]; often nothing.
pub(super) struct Work {
    pub(super) after: u64,
    pub(super) up_to: u64,
    pub(super) events: Vec<RecordedEvent>,
}

/// The version's checkpoints are gone: another version is live.
pub(super) struct Retired;

pub(super) struct Lane<M> {
    pub(super) context: Arc<Context>,
    pub(super) set: Arc<LaneSet>,
    pub(super) number: u16,
    pub(super) queue: mpsc::Receiver<Work>,
    /// How far the runner has dealt, to this lane or past it.
    pub(super) dealt: watch::Receiver<u64>,
    /// Taken from the queue, not yet applied.
    held: VecDeque<Work>,
    /// Only while a gap is being read.
    follower: Option<(Follower, OwnedSemaphorePermit)>,
    batch_max: usize,
    model: PhantomData<fn() -> M>,
}

/// Why a step did not succeed.
struct Trouble {
    position: u64,
    reason: String,
    transient: bool,
}

enum Step {
    Applied,
    Moved,
    /// The runner has ended.
    Over,
}

impl<M: Projected> Lane<M> {
    pub(super) fn new(
        context: Arc<Context>,
        set: Arc<LaneSet>,
        number: u16,
        queue: mpsc::Receiver<Work>,
        dealt: watch::Receiver<u64>,
    ) -> Self {
        let batch_max = context.parts.options.batch_max.max(1);
        Lane {
            context,
            set,
            number,
            queue,
            dealt,
            held: VecDeque::new(),
            follower: None,
            batch_max,
            model: PhantomData,
        }
    }

    fn position(&self) -> u64 {
        self.set.position(self.number)
    }

    pub(super) async fn run(mut self) -> Retired {
        let mut failures = 0;
        loop {
            let trouble = match self.step().await {
                Ok(Step::Applied) => {
                    if failures > 0 {
                        tracing::info!(
                            read_model = M::NAME,
                            lane = self.number,
                            position = self.position(),
                            "a lane goes on"
                        );
                    }
                    failures = 0;
                    self.batch_max = (self.batch_max * 4).min(self.context.parts.options.batch_max.max(1));
                    self.set.set_status(self.number, LaneStatus::Running);
                    continue;
                }
                Ok(Step::Over) => return Retired,
                Ok(Step::Moved) => None,
                Err(trouble) => Some(trouble),
            };
            if let Some(trouble) = trouble {
                // The fault may be any event's of the batch: found by going one by one.
                let narrowed = !trouble.transient && self.batch_max > 1;
                self.batch_max = 1;
                if !narrowed {
                    failures += 1;
                    self.stop(trouble, failures).await;
                }
            }
            // What is held may begin elsewhere now; the journal still has it.
            self.held.clear();
            self.follower = None;
            match self.reload().await {
                Ok(true) => {}
                Ok(false) => return Retired,
                Err(error) => {
                    failures += 1;
                    let trouble = Trouble { position: self.position() + 1, reason: error.to_string(), transient: true };
                    self.stop(trouble, failures).await;
                }
            }
        }
    }

    /// Tells of the trouble and pauses.
    async fn stop(&self, trouble: Trouble, failures: u32) {
        let Trouble { position, reason, transient } = trouble;
        if !transient || failures >= TRANSIENT_FAILURES_MAX {
            let news = self.set.set_status(self.number, LaneStatus::Stopped { reason: reason.clone(), position });
            if news {
                tracing::error!(
                    read_model = M::NAME,
                    version = self.set.version(),
                    lane = self.number,
                    position,
                    reason,
                    "a lane has stopped"
                );
            }
        }
        tokio::time::sleep(self.context.parts.options.pause(failures)).await;
    }

    /// Where the lane really is; `false` when its version is no longer kept.
    async fn reload(&mut self) -> Result<bool, DatabaseError> {
        let rows = self
            .context
            .pool
            .query(
                "select position from projection.checkpoints where read_model = $1 and version = $2 and lane = $3",
                &[&M::NAME, &int(self.set.version()), &i32::from(self.number)],
            )
            .await?;
        let Some(row) = rows.first() else { return Ok(false) };
        let position = unsigned(row.get(0));
        self.set.set_stored(self.number, position);
        self.set.set_position(self.number, position);
        Ok(true)
    }

    async fn step(&mut self) -> Result<Step, Trouble> {
        let Some(work) = self.next().await? else { return Ok(Step::Over) };
        let first = work.events.first().map_or(work.up_to, |event| event.position);
        let parts = &self.context.parts;
        // Opened before a session is taken: opening may need one of its own.
        let (stored, range) = (self.set.stored(self.number), (work.after, work.up_to));
        if stored > work.after {
            return Ok(Step::Moved);
        }
        let batch = open::<M>(&parts.sealer, vec![i32::from(self.number)], stored, range, work.events).await;
        // Where nothing changes, the runner stores the checkpoint with those of others.
        let applied = if batch.events.is_empty() {
            Applied { position: batch.up_to, stored, stop: batch.stop }
        } else {
            let now = parts.system.utc();
            let retention = TimeDelta::from_std(parts.options.retention).unwrap_or(TimeDelta::MAX);
            let keep_since = now.checked_sub_signed(retention).unwrap_or(chrono::DateTime::<chrono::Utc>::MIN_UTC);
            let database = |error: DatabaseError| Trouble {
                position: first,
                reason: error.to_string(),
                transient: error.is_connection(),
            };
            let mut session = self.context.pool.get().await.map_err(database)?;
            match apply::<M>(&mut session, self.set.version(), batch, Times { now, keep_since }).await {
                Ok(applied) => applied,
                Err(ApplyFailure::Moved) => return Ok(Step::Moved),
                Err(ApplyFailure::Database(error)) => return Err(database(error)),
            }
        };
        self.set.set_stored(self.number, applied.stored);
        self.set.set_position(self.number, applied.position);
        match applied.stop {
            None => Ok(Step::Applied),
            Some(stop) => {
                // It is known which event it is: no need to look for it one by one.
                self.batch_max = 1;
                Err(Trouble {
                    position: stop.position,
                    reason: stop.error.reason(),
                    transient: stop.error.is_transient(),
                })
            }
        }
    }

    /// What to apply next; waits for it. `None` when the runner has ended.
    async fn next(&mut self) -> Result<Option<Work>, Trouble> {
        loop {
            // In this order: what was dealt before the first is in the queue, was dealt past this lane, or is part of its
            // position by the time of the last.
            let dealt = *self.dealt.borrow_and_update();
            while let Ok(work) = self.queue.try_recv() {
                self.held.push_back(work);
            }
            let position = self.position();
            while self.held.front().is_some_and(|work| work.up_to <= position) {
                self.held.pop_front();
            }
            match self.held.front() {
                Some(work) if work.after <= position => {
                    self.follower = None;
                    return Ok(Some(self.take(position)));
                }
                Some(_) => return self.read_gap(position).await.map(Some),
                None if dealt > position => return self.read_gap(position).await.map(Some),
                None => {
                    self.follower = None;
                    tokio::select! {
                        work = self.queue.recv() => match work {
                            Some(work) => self.held.push_back(work),
                            None => return Ok(None),
                        },
                        dealt = self.dealt.changed() => if dealt.is_err() {
                            return Ok(None);
                        },
                    }
                }
            }
        }
    }

    /// What is held and begins here, as one piece of at most `batch_max` events.
    fn take(&mut self, position: u64) -> Work {
        let mut taken = Work { after: position, up_to: position, events: Vec::new() };
        while let Some(mut work) = self.held.pop_front_if(|work| work.after <= taken.up_to) {
            work.events.retain(|event| event.position > taken.up_to);
            taken.up_to = work.up_to.max(taken.up_to);
            taken.events.append(&mut work.events);
            if taken.events.len() >= self.batch_max {
                break;
            }
        }
        let (taken, rest) = self.cut(taken);
        if let Some(rest) = rest {
            self.held.push_front(rest);
        }
        taken
    }

    /// The first `batch_max` events, with everything up to the one after them.
    fn cut(&self, mut work: Work) -> (Work, Option<Work>) {
        if work.events.len() <= self.batch_max {
            return (work, None);
        }
        let events = work.events.split_off(self.batch_max);
        let up_to = events.first().map_or(work.up_to, |event| event.position - 1);
        let rest = Work { after: up_to, up_to: work.up_to, events };
        work.up_to = up_to;
        (work, Some(rest))
    }

    async fn read_gap(&mut self, position: u64) -> Result<Work, Trouble> {
        let (mut follower, permit) = match self.follower.take() {
            Some((follower, permit)) if follower.position() == position => (follower, permit),
            _ => {
                let permit = self.context.catching_up.clone().acquire_owned().await;
                let permit = permit.map_err(|_| Trouble {
                    position: position + 1,
                    reason: "the engine is ending".into(),
                    transient: true,
                })?;
                let parts = &self.context.parts;
                let follower =
                    Follower::new(parts.database.clone(), parts.source.clone(), position, parts.options.page);
                (follower.only(M::wants), permit)
            }
        };
        // It was dealt, so it is there; at most the word of a new writer is still missing.
        let events = follower.next().await.map_err(|error| Trouble {
            position: position + 1,
            reason: error.to_string(),
            transient: matches!(&error, FollowError::Database(error) if error.is_connection()),
        })?;
        let (lanes, number) = (self.set.count(), self.number);
        let up_to = follower.position();
        let mine = |event: &RecordedEvent| lane_of(event.tenant, lanes) == number;
        let work = Work { after: position, up_to, events: events.into_iter().filter(mine).collect() };
        let (work, rest) = self.cut(work);
        match rest {
            Some(rest) => self.held.push_front(rest),
            None => self.follower = Some((follower, permit)),
        }
        Ok(work)
    }
}
