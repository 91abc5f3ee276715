//! The writer as a sans-IO state machine: inputs in, effects out, no clock, no socket, no task.
//!
//! It decides who may write (lease, takeover, fence), what goes into which batch (fair shares, conflicts,
//! duplicates, deadlines, bisection) and when an answer may be given (durability). The driver
//! carries out effects against PostgreSQL; the simulation carries them out against a model of it.
//!
//! Invariants:
//! - at most two commits are in flight, on one connection; the second demands the first's row, so batches commit in the
//!   order of their numbers, and one that fails takes the next with it;
//! - an answer that tells of batch *n* leaves only when a flush that began after *n*'s commit has
//!   returned on a session older than that commit, or when a takeover found *n* after its own flush;
//! - what is remembered about the past (the window, the heads) is bounded; a request that was
//!   prepared before the window is told to look again.

mod build;
mod queue;
#[cfg(test)]
mod tests;
mod types;
mod window;

pub use types::*;

use crate::system::{Micros, Now};
use queue::Queue;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use window::{Heads, Window};

/// Answers that may leave once their batch is durable.
type Held = BTreeMap<u64, Vec<(Ticket, Answer)>>;

enum Phase {
    /// Nothing under way; tries again at this time.
    Idle {
        retry_at: Micros,
    },
    Connecting,
    Leasing,
    EndingOld,
    FirstFlush,
    ReadingHead,
    Fencing,
    Leading,
    Stopped,
}

pub struct Writer {
    config: Config,
    phase: Phase,
    /// Number of the present set of connections; replies of an earlier one are ignored.
    session: u64,
    epoch: u64,
    /// Of the next batch to be built: behind those in flight.
    next_batch: u64,
    next_position: u64,
    last_recorded_us: Micros,
    partition_size: u64,
    partitions_up_to: u64,
    ensuring: bool,

    queue: Queue,
    /// Parts of a batch that failed, tried apart from the rest, front first.
    groups: VecDeque<Vec<Arc<Prepared>>>,
    /// Batches whose commit has not come back, oldest first.
    in_flight: VecDeque<build::Building>,
    /// One of them was refused, and so the next will be: nothing is built on it.
    broken: bool,
    held: Held,
    /// Answers of the epoch that broke off, to be settled by the next look at the head.
    limbo: Held,
    limbo_epoch: u64,

    committed: u64,
    durable: u64,
    /// Last position of each batch that is committed but not yet durable.
    positions: BTreeMap<u64, u64>,
    /// What each flusher is waiting for.
    flushing: Vec<Option<u64>>,

    window: Window,
    heads: Heads,

    renew_at: Micros,
    renewing: bool,
    /// Wall minus monotonic clock, last seen.
    clock_offset_us: Option<Micros>,
    /// What is still to be finished then takes the last recorded time.
    clock_jumped: bool,
    stopping: Option<String>,
}

impl Writer {
    pub fn new(config: Config) -> Self {
        Writer {
            phase: Phase::Idle { retry_at: Micros::MIN },
            session: 0,
            epoch: 0,
            next_batch: 0,
            next_position: 0,
            last_recorded_us: 0,
            partition_size: 0,
            partitions_up_to: 0,
            ensuring: false,
            queue: Queue::default(),
            groups: VecDeque::new(),
            in_flight: VecDeque::new(),
            broken: false,
            held: Held::new(),
            limbo: Held::new(),
            limbo_epoch: 0,
            committed: 0,
            durable: 0,
            positions: BTreeMap::new(),
            flushing: vec![None; config.flushers],
            window: Window::new(config.window_entries_max),
            heads: Heads::new(config.heads_max),
            renew_at: Micros::MAX,
            renewing: false,
            clock_offset_us: None,
            clock_jumped: false,
            stopping: None,
            config,
        }
    }

    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    pub fn is_leading(&self) -> bool {
        matches!(self.phase, Phase::Leading)
    }

    pub fn is_stopped(&self) -> bool {
        matches!(self.phase, Phase::Stopped)
    }

    /// Requests, entries and heads in memory: what the limits bound.
    pub fn memory(&self) -> (usize, usize, usize) {
        (self.queue.len(), self.window.len(), self.heads.len())
    }

    /// Takes what arrived at one moment and says what is to be done about it. Requests that arrive
    /// together go into the same batch.
    pub fn handle(&mut self, now: Now, inputs: impl IntoIterator<Item = Input>, out: &mut Vec<Effect>) {
        self.respond(now, inputs, out);
        self.fill(now, out);
    }

    /// The first half of [`Writer::handle`]: answers and flushes, which should be under way before time goes
    /// into building a batch.
    pub fn respond(&mut self, now: Now, inputs: impl IntoIterator<Item = Input>, out: &mut Vec<Effect>) {
        self.watch_clock(now, out);
        for input in inputs {
            self.take(now, input, out);
        }
        self.advance(now, out);
    }

    /// The second half of [`Writer::handle`]: the next batch, if none is in flight, and perhaps a second one.
    pub fn fill(&mut self, now: Now, out: &mut Vec<Effect>) {
        while self.is_leading() && !self.broken {
            // A second one waits in the database for the first, so that no time passes there between them. A small one
            // is not worth it: what comes next could have shared it. Behind a large one that time is nothing, and
            // whoever comes next should not have to wait for both.
            let worth_it = match self.in_flight.front() {
                None => true,
                Some(first) => {
                    self.in_flight.len() == 1
                        && self.groups.is_empty()
                        && self.queue.len() >= self.config.second_min
                        && first.batch.events.len() <= build::PIPELINED_MAX
                }
            };
            let before = self.next_batch;
            if worth_it {
                self.build(now, out);
                self.finish(out);
            }
            if self.next_batch == before {
                return;
            }
        }
    }

    fn take(&mut self, now: Now, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Tick => {}
            Input::Request(request) => self.request(now, request, out),
            Input::Shutdown => {
                if self.stopping.is_none() {
                    self.stopping = Some("the server is shutting down".into());
                    if !self.is_leading() {
                        self.stop(out);
                    }
                }
            }
            Input::LeaseFree => {
                if let Phase::Idle { retry_at } = &mut self.phase {
                    *retry_at = now.mono_us;
                }
            }
            Input::Session(session, input) => {
                if session == self.session && !matches!(self.phase, Phase::Idle { .. } | Phase::Stopped) {
                    self.session_input(now, input, out);
                }
            }
        }
    }

    fn request(&mut self, now: Now, request: Box<Prepared>, out: &mut Vec<Effect>) {
        let ticket = request.ticket;
        if let Some(reason) = &self.stopping {
            out.push(Effect::Answer(ticket, Answer::Unavailable(reason.clone())));
        } else if !self.is_leading() {
            out.push(Effect::Answer(ticket, Answer::Unavailable("this node is not the writer at the moment".into())));
        } else if let Err(refused) = self.queue.admit(&self.config, now.mono_us, request) {
            out.push(Effect::Answer(refused.ticket, Answer::Overloaded));
        }
    }

    fn session_input(&mut self, now: Now, input: SessionInput, out: &mut Vec<Effect>) {
        match (&self.phase, input) {
            (_, SessionInput::Lost(reason)) => self.session_lost(now, &reason, out),
            (Phase::Connecting, SessionInput::Connected) => {
                self.phase = Phase::Leasing;
                out.push(Effect::Do(self.session, Do::TakeLease));
            }
            (Phase::Leasing, SessionInput::LeaseGranted { epoch, previous }) => {
                self.epoch = epoch;
                self.renew_at = now.mono_us + self.config.lease_renew_us;
                match previous {
                    Some(backend) => {
                        self.phase = Phase::EndingOld;
                        out.push(Effect::Do(self.session, Do::EndBackend(backend)));
                    }
                    None => self.first_flush(out),
                }
            }
            (Phase::Leasing, SessionInput::LeaseHeld { retry_in_us }) => {
                // Somebody else writes now: what became of our last appends is in the journal, and
                // a repeat of the command will find it there.
                for (ticket, _) in std::mem::take(&mut self.limbo).into_values().flatten() {
                    out.push(Effect::Answer(ticket, Answer::Unknown));
                }
                self.hang_up(now, retry_in_us.clamp(self.config.retry_us, self.config.lease_ttl_us), out);
            }
            (Phase::EndingOld, SessionInput::OldGone) => self.first_flush(out),
            (Phase::FirstFlush, SessionInput::FirstFlushed) => {
                self.phase = Phase::ReadingHead;
                let from = self.limbo.keys().next().copied().unwrap_or(u64::MAX);
                out.push(Effect::Do(self.session, Do::ReadHead { epochs_from: from }));
            }
            (Phase::ReadingHead, SessionInput::Head(head)) => self.take_over(now, head, out),
            (Phase::Fencing, SessionInput::Committed { .. }) => {
                self.committed = self.next_batch;
                self.positions.insert(self.committed, self.next_position - 1);
                self.window.reset(self.committed);
                self.heads.reset();
                self.next_batch += 1;
                self.phase = Phase::Leading;
                out.push(Effect::Leading(Seen { epoch: self.epoch, batch: self.committed }));
            }
            (Phase::Fencing, SessionInput::CommitRefused { cause, .. }) => {
                self.session_lost(now, &format!("the fence refused the takeover: {cause}"), out);
            }
            (Phase::Leading, SessionInput::Committed { batch }) => self.committed(batch, out),
            (Phase::Leading, SessionInput::CommitRefused { batch, cause }) => self.refused(now, batch, cause, out),
            (Phase::Leading | Phase::Fencing, SessionInput::Flushed { slot, batch }) => {
                self.flushing[slot] = None;
                self.durable_up_to(batch, out);
            }
            (_, SessionInput::Renewed) => {
                self.renewing = false;
                self.renew_at = now.mono_us + self.config.lease_renew_us;
            }
            (_, SessionInput::LeaseGone) => self.session_lost(now, "another node holds the lease", out),
            (_, SessionInput::PartitionsUpTo(position)) => {
                self.ensuring = false;
                self.partitions_up_to = position;
            }
            // A reply that belongs to a step already left behind.
            _ => {}
        }
    }

    fn first_flush(&mut self, out: &mut Vec<Effect>) {
        self.phase = Phase::FirstFlush;
        out.push(Effect::Do(self.session, Do::FirstFlush));
    }

    /// The head was read after the old backend was gone and after a flush: it is final and durable.
    fn take_over(&mut self, now: Now, head: JournalHead, out: &mut Vec<Effect>) {
        if head.recorded_at_us > now.wall_us + self.config.clock_jump_us_max {
            self.stopping = Some(format!(
                "the clock stands {} s before the last recorded event: set the clock, then start again",
                (head.recorded_at_us - now.wall_us) / 1_000_000
            ));
            // Another node's clock may be right: it need not wait for the lease to expire.
            out.push(Effect::Do(self.session, Do::ReleaseLease));
            return self.stop(out);
        }
        for (batch, answers) in std::mem::take(&mut self.limbo) {
            let survived = head.epochs.iter().any(|(b, epoch)| *b == batch && *epoch == self.limbo_epoch);
            for (ticket, answer) in answers {
                out.push(Effect::Answer(ticket, if survived { answer } else { answer.when_lost() }));
            }
        }
        self.next_batch = head.batch + 1;
        self.next_position = head.position + 1;
        self.last_recorded_us = head.recorded_at_us;
        self.partition_size = head.partition_size;
        self.partitions_up_to = head.partitions_up_to;
        self.durable = head.batch;
        self.committed = head.batch;
        self.positions.clear();
        self.phase = Phase::Fencing;
        out.push(Effect::Durable { seen: Seen { epoch: self.epoch, batch: head.batch }, position: head.position });
        let recorded_at_us = self.record_time(now);
        let fence = Batch::empty(self.next_batch, self.epoch, self.next_position, recorded_at_us);
        out.push(Effect::Do(self.session, Do::Commit(Arc::new(fence))));
    }

    fn record_time(&mut self, now: Now) -> Micros {
        self.last_recorded_us = self.last_recorded_us.max(now.wall_us);
        self.last_recorded_us
    }

    /// Also of every batch before it: none commits without its predecessor.
    fn committed(&mut self, batch: u64, out: &mut Vec<Effect>) {
        while let Some(building) = self.in_flight.pop_front_if(|b| b.batch.number <= batch) {
            let batch = building.batch.number;
            self.committed = batch;
            self.positions.insert(batch, building.batch.last_position);
            self.window.advance(batch, &building.overlay);
            self.heads.advance(batch, building.overlay.heads, self.window.start());
            self.held.entry(batch).or_default().extend(building.answers);
        }
        self.broken &= !self.in_flight.is_empty();
        if self.config.plant == Some(Plant::AnswerBeforeFlush) {
            self.durable_up_to(self.committed, out);
        }
    }

    /// The database refused the batch as a whole; its neighbours must not fail with the culprit.
    fn refused(&mut self, now: Now, batch: u64, cause: RefusedBy, out: &mut Vec<Effect>) {
        let Some(at) = self.in_flight.iter().position(|b| b.batch.number == batch) else { return };
        let Some(building) = self.in_flight.remove(at) else { return };
        match cause {
            RefusedBy::Fence => {
                // Nothing of this batch was written, and never will be.
                for (ticket, _) in building.answers {
                    out.push(Effect::Answer(ticket, Answer::Unavailable("another node has become the writer".into())));
                }
                return self.session_lost(now, "another writer holds the next batch number", out);
            }
            // Nothing is wrong with it: it goes behind the parts of the one that it followed.
            RefusedBy::Orphaned => self.groups.push_back(building.members),
            RefusedBy::Data(reason) => {
                let mut members = building.members;
                if members.len() == 1 {
                    out.push(Effect::Answer(members[0].ticket, Answer::Failed(reason)));
                } else {
                    let rest = members.split_off(members.len() / 2);
                    self.groups.push_front(rest);
                    self.groups.push_front(members);
                }
            }
        }
        self.next_batch = self.next_batch.min(building.batch.number);
        self.next_position = self.next_position.min(building.batch.first_position);
        self.broken = !self.in_flight.is_empty();
    }

    fn durable_up_to(&mut self, batch: u64, out: &mut Vec<Effect>) {
        if batch <= self.durable {
            return;
        }
        self.durable = batch;
        let later = self.positions.split_off(&(batch + 1));
        let position = std::mem::replace(&mut self.positions, later).into_values().next_back();
        if let Some(position) = position {
            out.push(Effect::Durable { seen: Seen { epoch: self.epoch, batch }, position });
        }
        let later = self.held.split_off(&(batch + 1));
        for (ticket, answer) in std::mem::replace(&mut self.held, later).into_values().flatten() {
            out.push(Effect::Answer(ticket, answer));
        }
    }

    /// Anything went wrong on a connection: nothing learned in this epoch is trusted any more.
    fn session_lost(&mut self, now: Now, reason: &str, out: &mut Vec<Effect>) {
        if self.limbo.is_empty() {
            self.limbo_epoch = self.epoch;
        }
        self.limbo.append(&mut self.held);
        for building in self.in_flight.drain(..) {
            self.limbo.entry(building.batch.number).or_default().extend(building.answers);
        }
        self.drop_queue(&format!("the writer lost its session ({reason}); nothing was written"), out);
        self.hang_up(now, self.config.retry_us, out);
    }

    fn hang_up(&mut self, now: Now, retry_in_us: Micros, out: &mut Vec<Effect>) {
        let was_stopping = self.stopping.is_some();
        out.push(Effect::HangUp(self.session));
        out.push(Effect::NotLeading);
        self.flushing.fill(None);
        self.renewing = false;
        self.ensuring = false;
        self.in_flight.clear();
        self.broken = false;
        if self.config.plant != Some(Plant::StaleCache) {
            self.window.reset(u64::MAX);
        }
        self.phase = Phase::Idle { retry_at: now.mono_us + retry_in_us };
        if was_stopping {
            self.stop(out);
        }
    }

    fn drop_queue(&mut self, reason: &str, out: &mut Vec<Effect>) {
        let waiting = self.groups.drain(..).flatten().chain(self.queue.drain());
        for request in waiting {
            out.push(Effect::Answer(request.ticket, Answer::Unavailable(reason.to_owned())));
        }
    }

    fn stop(&mut self, out: &mut Vec<Effect>) {
        let reason = self.stopping.clone().unwrap_or_default();
        self.drop_queue(&reason, out);
        for (ticket, _) in std::mem::take(&mut self.limbo).into_values().flatten() {
            out.push(Effect::Answer(ticket, Answer::Unknown));
        }
        if !matches!(self.phase, Phase::Idle { .. }) {
            out.push(Effect::HangUp(self.session));
        }
        out.push(Effect::NotLeading);
        out.push(Effect::Stopped(reason));
        self.phase = Phase::Stopped;
    }

    /// A wall clock that jumps would make history lie about its times.
    fn watch_clock(&mut self, now: Now, out: &mut Vec<Effect>) {
        let offset = now.wall_us - now.mono_us;
        let jumped = self.clock_offset_us.replace(offset).map_or(0, |before| offset - before);
        if jumped.abs() > self.config.clock_jump_us_max && self.is_leading() {
            let reason =
                format!("the wall clock jumped by {} s: check the time source, then start again", jumped / 1_000_000);
            self.drop_queue(&reason, out);
            self.clock_jumped = true;
            self.stopping.get_or_insert(reason);
        }
    }

    /// Starts whatever can be started now.
    fn advance(&mut self, now: Now, out: &mut Vec<Effect>) {
        if let Phase::Idle { retry_at } = self.phase
            && now.mono_us >= retry_at
            && self.stopping.is_none()
        {
            self.session += 1;
            self.phase = Phase::Connecting;
            out.push(Effect::Do(self.session, Do::Connect));
        }
        if !matches!(self.phase, Phase::Idle { .. } | Phase::Stopped | Phase::Connecting | Phase::Leasing)
            && now.mono_us >= self.renew_at
            && !self.renewing
        {
            self.renewing = true;
            out.push(Effect::Do(self.session, Do::RenewLease));
        }
        if !self.is_leading() {
            return;
        }
        // An append may be larger than a partition, and must not wait for one that nobody makes.
        let ahead = (self.queue.next_events() as u64).max(self.partition_size);
        if !self.ensuring && self.partitions_up_to < self.next_position + ahead {
            self.ensuring = true;
            out.push(Effect::Do(self.session, Do::EnsurePartitions { up_to: self.next_position + 2 * ahead }));
        }
        self.flush(out);
        self.finish(out);
    }

    /// Ends the writer once it is to stop and nothing is under way any more.
    fn finish(&mut self, out: &mut Vec<Effect>) {
        if self.stopping.is_some()
            && self.in_flight.is_empty()
            && self.queue.is_empty()
            && self.groups.is_empty()
            && self.durable == self.committed
        {
            out.push(Effect::Do(self.session, Do::ReleaseLease));
            self.stop(out);
        }
    }

    /// Flushes overlap: a batch never waits for the flush of an earlier one to return.
    fn flush(&mut self, out: &mut Vec<Effect>) {
        let started = self.flushing.iter().flatten().copied().max().unwrap_or(0).max(self.durable);
        if self.committed <= started {
            return;
        }
        if let Some(slot) = self.flushing.iter().position(Option::is_none) {
            self.flushing[slot] = Some(self.committed);
            out.push(Effect::Do(self.session, Do::Flush { slot, batch: self.committed }));
        }
    }
}
