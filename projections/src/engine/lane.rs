//! One lane: applies what the runner deals it, and reads for itself what it missed.
//!
//! The runner never waits for a lane. When the queue is full it deals past it, and the lane, once
//! it has time again, reads the gap from the journal. So nothing is skipped and nobody is held up.

use super::apply::{Applied, ApplyFailure, Stop, Times, apply, open};
use super::life::{LIFE, Life};
use super::model::lane_of;
use super::parking::{self, Aside, Place, StreamName};
use super::progress::{LaneSet, LaneStatus};
use super::projected::Projected;
use super::retry::Retries;
use super::{Context, int, signed, unsigned};
use chrono::TimeDelta;
use daybook_store::database::DatabaseError;
use daybook_store::journal::RecordedEvent;
use daybook_store::journal::follow::{FollowError, Follower};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::marker::PhantomData;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

/// A lost connection is not told as a stop before it has failed so often in a row.
const TRANSIENT_FAILURES_MAX: u32 = 3;

/// Pages that are read for one transaction of a lane that is behind.
const GAP_PAGES_MAX: usize = 16;

/// Everything of one lane in (after, up to]; often nothing.
pub(super) struct Work {
    pub(super) after: u64,
    pub(super) up_to: u64,
    pub(super) events: Vec<RecordedEvent>,
}

/// The version's checkpoints are gone: another version is live. Or the server has come back from a crash.
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
    /// Streams that the next batch parks, and why.
    condemned: BTreeMap<StreamName, String>,
    /// Events that an operator has left out.
    pub(super) skips: BTreeSet<u64>,
    pub(super) retries: Retries,
    model: PhantomData<fn() -> M>,
}

/// Why a step did not succeed.
struct Trouble {
    position: u64,
    reason: String,
    transient: bool,
}

pub(super) enum Step {
    Applied,
    /// What a stream is parked for is known; nothing is committed of it yet.
    Condemned,
    /// A parked stream was tried again.
    Retried,
    Moved,
    /// The runner has ended.
    Over,
}

enum Next {
    Work(Work),
    /// A parked stream is due to be tried again.
    Retry,
    Over,
}

impl<M: Projected> Lane<M> {
    pub(super) fn new(
        context: Arc<Context>,
        set: Arc<LaneSet>,
        number: u16,
        queue: mpsc::Receiver<Work>,
        dealt: watch::Receiver<u64>,
        skips: BTreeSet<u64>,
    ) -> Self {
        let batch_max = context.parts.options.batch_max.max(1);
        // What was parked before a start is tried at once: the program may be another one now.
        let retries = Retries::of(&set.parked(number), tokio::time::Instant::now());
        Lane {
            context,
            set,
            number,
            queue,
            dealt,
            held: VecDeque::new(),
            follower: None,
            batch_max,
            condemned: BTreeMap::new(),
            skips,
            retries,
            model: PhantomData,
        }
    }

    fn position(&self) -> u64 {
        self.set.position(self.number)
    }

    pub(super) fn times(&self) -> Times {
        let now = self.context.parts.system.utc();
        let retention = TimeDelta::from_std(self.context.parts.options.retention).unwrap_or(TimeDelta::MAX);
        let keep_since = now.checked_sub_signed(retention).unwrap_or(chrono::DateTime::<chrono::Utc>::MIN_UTC);
        Times { now, keep_since }
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
                Ok(Step::Condemned | Step::Retried) => continue,
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
            self.condemned.clear();
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
                self.write_down(position, &reason).await;
            }
        }
        tokio::time::sleep(self.context.parts.options.pause(failures)).await;
    }

    /// For those who ask from outside this process. Cleared when the lane moves.
    async fn write_down(&self, position: u64, reason: &str) {
        let sql = "update projection.checkpoints set stopped_position = $4, stopped_reason = $5, stopped_at = $6
                   where read_model = $1 and version = $2 and lane = $3";
        let now = self.context.parts.system.utc();
        let (version, lane) = (int(self.set.version()), i32::from(self.number));
        let written =
            self.context.pool.query(sql, &[&M::NAME, &version, &lane, &signed(position), &reason, &now]).await;
        if let Err(error) = written {
            tracing::debug!(read_model = M::NAME, %error, "a stopped lane is known to this process only");
        }
    }

    /// Where the lane really is, and what is parked; `false` when its version is no longer kept, or the server lives another
    /// life: then all lanes begin anew.
    async fn reload(&mut self) -> Result<bool, DatabaseError> {
        let session = self.context.pool.get().await?;
        let sql = format!(
            "select position, {LIFE} from projection.checkpoints where read_model = $1 and version = $2 and lane = $3"
        );
        let row = session
            .query_opt(&sql, &[&M::NAME, &int(self.set.version()), &i32::from(self.number)])
            .await
            .map_err(DatabaseError::Query)?;
        let Some(row) = row.filter(|row| Life::of(row, 1) == self.set.life()) else { return Ok(false) };
        let position = unsigned(row.get(0));
        let limit = i64::try_from(self.context.parts.options.parked_max).unwrap_or(i64::MAX);
        let parked = parking::load(&session, M::NAME, self.set.version(), Some(self.number), limit).await?;
        self.skips = parking::skips(&session, M::NAME).await?;
        let parked = parked.into_iter().map(|parked| (parked.stream.clone(), parked)).collect();
        self.retries.keep(&parked);
        self.set.set_stored(self.number, position);
        self.set.set_position_and_parked(self.number, position, Arc::new(parked));
        Ok(true)
    }

    async fn step(&mut self) -> Result<Step, Trouble> {
        let work = match self.next().await? {
            Next::Work(work) => work,
            Next::Retry => return Ok(self.retry_next().await),
            Next::Over => return Ok(Step::Over),
        };
        let parts = &self.context.parts;
        // Opened before a session is taken: opening may need one of its own.
        let (stored, range) = (self.set.stored(self.number), (work.after, work.up_to));
        if stored > work.after {
            return Ok(Step::Moved);
        }
        let (events, aside) = self.sort_out(work.events);
        let mut batch = open::<M>(&parts.sealer, vec![i32::from(self.number)], stored, range, events).await;
        batch.aside = aside;
        // Where nothing changes, the runner stores the checkpoint with those of others.
        let applied = if batch.changes_nothing() {
            Applied { position: batch.up_to, stored, parked: Vec::new(), stop: batch.stop }
        } else {
            let first = batch.events.first().map_or(batch.up_to, |event| event.position);
            let alone = match &batch.events[..] {
                [event] => Some((event.position, StreamName::of(event))),
                _ => None,
            };
            let database = |error: &DatabaseError| Trouble {
                position: first,
                reason: error.to_string(),
                transient: error.is_connection(),
            };
            let mut session = self.context.pool.get().await.map_err(|error| database(&error))?;
            match apply::<M>(&mut session, self.set.version(), batch, self.times()).await {
                Ok(applied) => applied,
                Err(ApplyFailure::Moved) => return Ok(Step::Moved),
                Err(ApplyFailure::Database(error)) => {
                    let trouble = database(&error);
                    return match alone {
                        Some((position, stream)) if parking::is_of_the_event(&error) => {
                            // Held again: nothing of this piece was applied.
                            self.condemn(stream, Trouble { position, ..trouble })
                        }
                        _ => Err(trouble),
                    };
                }
            }
        };
        self.settle(&applied);
        match applied.stop {
            None => Ok(Step::Applied),
            Some(Stop { position, stream, error }) => {
                let trouble = Trouble { position, reason: error.reason(), transient: error.is_transient() };
                if error.is_of_the_event() {
                    return self.condemn(stream, trouble);
                }
                // It is known which event it is: no need to look for it one by one.
                self.batch_max = 1;
                Err(trouble)
            }
        }
    }

    /// Tells what to apply from what belongs to a stream that is parked, or will be.
    fn sort_out(&self, events: Vec<RecordedEvent>) -> (Vec<RecordedEvent>, Vec<Aside>) {
        let parked = self.set.parked(self.number);
        if parked.is_empty() && self.condemned.is_empty() && self.skips.is_empty() {
            return (events, Vec::new());
        }
        let (mut kept, mut aside) = (Vec::with_capacity(events.len()), Vec::new());
        for event in events {
            let stream = StreamName::of(&event);
            let reason = self.condemned.get(&stream);
            if reason.is_some() || parked.contains_key(&stream) {
                let (lane, place, reason) = (self.number, Place::of(&event), reason.cloned());
                aside.push(Aside { stream, lane, place, reason });
            } else if !self.skips.contains(&event.position) {
                kept.push(event);
            }
        }
        (kept, aside)
    }

    /// Parks the stream from its next event on, which is the one of the trouble; the rest of the lane goes on.
    ///
    /// # Errors
    /// When as many streams are parked as may be.
    fn condemn(&mut self, stream: StreamName, trouble: Trouble) -> Result<Step, Trouble> {
        let parked = self.set.parked(self.number).len() + self.condemned.len();
        if parked >= self.context.parts.options.parked_max {
            self.batch_max = 1;
            let reason = format!("{parked} streams are parked, the most there may be, and now: {}", trouble.reason);
            return Err(Trouble { reason, ..trouble });
        }
        tracing::error!(
            read_model = M::NAME,
            version = self.set.version(),
            lane = self.number,
            position = trouble.position,
            stream = stream.kind,
            reason = trouble.reason,
            "an event cannot be applied; its stream is parked, the others go on"
        );
        let reason = if trouble.reason.is_empty() { "refused without a reason".to_owned() } else { trouble.reason };
        self.condemned.insert(stream, reason);
        Ok(Step::Condemned)
    }

    /// Takes note of what was committed.
    fn settle(&mut self, applied: &Applied) {
        self.set.set_stored(self.number, applied.stored);
        if applied.parked.is_empty() {
            self.set.set_position(self.number, applied.position);
            return;
        }
        let mut parked = self.set.parked(self.number);
        let streams = Arc::make_mut(&mut parked);
        for added in &applied.parked {
            match streams.get_mut(&added.stream) {
                Some(known) => known.extend(added),
                None => {
                    self.condemned.remove(&added.stream);
                    self.retries.add(added.stream.clone(), self.context.parts.options.unpark_pause(1));
                    streams.insert(added.stream.clone(), added.clone());
                }
            }
        }
        self.set.set_position_and_parked(self.number, applied.position, parked);
    }

    /// What to do next; waits for it.
    async fn next(&mut self) -> Result<Next, Trouble> {
        loop {
            if self.retries.are_due() {
                return Ok(Next::Retry);
            }
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
                    return Ok(Next::Work(self.take(position)));
                }
                Some(_) => return self.read_gap(position).await.map(Next::Work),
                None if dealt > position => return self.read_gap(position).await.map(Next::Work),
                None => {
                    self.follower = None;
                    tokio::select! {
                        work = self.queue.recv() => match work {
                            Some(work) => self.held.push_back(work),
                            None => return Ok(Next::Over),
                        },
                        dealt = self.dealt.changed() => if dealt.is_err() {
                            return Ok(Next::Over);
                        },
                        () = self.set.retry_asked(self.number) => self.retries.hurry(),
                        () = self.retries.due() => {}
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
        let (lanes, number) = (self.set.count(), self.number);
        let mine = |event: &RecordedEvent| lane_of(event.tenant, lanes) == number;
        let (mut events, dealt) = (Vec::new(), *self.dealt.borrow());
        // Most of what is read is other lanes': a transaction is worth more than one page.
        for _ in 0..GAP_PAGES_MAX {
            // It was dealt, so it is there; at most the word of a new writer is still missing.
            let page = follower.next().await.map_err(|error| Trouble {
                position: position + 1,
                reason: error.to_string(),
                transient: matches!(&error, FollowError::Database(error) if error.is_connection()),
            })?;
            events.extend(page.into_iter().filter(mine));
            if events.len() >= self.batch_max || follower.position() >= dealt {
                break;
            }
        }
        let work = Work { after: position, up_to: follower.position(), events };
        let (work, rest) = self.cut(work);
        match rest {
            Some(rest) => self.held.push_front(rest),
            None => self.follower = Some((follower, permit)),
        }
        Ok(work)
    }
}
