//! Requests that wait for a batch, each tenant's in a lane of its own.
//!
//! Lanes take turns: deficit round robin, in which a lane may overdraw its credit by one request and waits until it
//! has earned that back, so that no turn has to be saved up for. A batch is one round. Whoever asks for much waits for
//! himself: a lane has a limit of its own, and a request that is large goes first into a batch or not at all, so that
//! nobody's small one, once placed, has to wait for it.
//!
//! Within a lane the order is that of arrival. Every step takes constant time, a fruitless turn being paid for by the
//! large request before it; memory grows with the requests that wait, and what a lane leaves is used by the next.

use super::types::{Config, Prepared};
use super::window::CommandKey;
use crate::journal::append::{CommandStamp, StreamKey};
use crate::system::Micros;
use daybook_domain::TenantId;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

/// So long after two tenants wrote in turn, a batch still leaves room for the next to come: one that is on its way
/// cannot be made smaller by whoever arrives then.
const SHARED_US: Micros = 10_000_000;

/// Room for so many requests is kept when a lane is given up.
const LANE_KEPT: usize = 64;

/// A request with its size, counted once.
struct Waiting {
    request: Arc<Prepared>,
    /// What it holds in memory.
    bytes: usize,
    /// What it adds to a batch: nothing, if it is a question.
    written: (usize, usize),
}

impl Waiting {
    fn new(request: Arc<Prepared>) -> Self {
        let bytes = request.append.bytes();
        let written = if request.asks { (0, 0) } else { (request.append.events(), bytes) };
        Waiting { request, bytes, written }
    }

    /// In events, or in KiB where these are more.
    fn cost(&self) -> i64 {
        let (events, bytes) = self.written;
        i64::try_from(events.max(bytes.div_ceil(1_024)).max(1)).unwrap_or(i64::MAX)
    }
}

/// One tenant's requests, oldest first.
struct Lane {
    tenant: TenantId,
    requests: VecDeque<Waiting>,
    bytes: usize,
    /// What it may still take; below zero, what it has to earn back first.
    credit: i64,
}

/// What a batch still has room for.
pub(super) struct Room {
    /// Nothing was placed in it so far: then the next fits, whatever its size.
    pub(super) empty: bool,
    pub(super) requests: usize,
    pub(super) events: usize,
    pub(super) bytes: usize,
    /// Positions for which there is a partition.
    pub(super) positions: u64,
}

#[derive(Default)]
pub(super) struct Queue {
    lanes: Vec<Lane>,
    /// Lanes of nobody at the moment.
    spare: Vec<usize>,
    of_tenant: HashMap<TenantId, usize>,
    /// Lanes that have requests, in the order of their turns.
    turns: VecDeque<usize>,
    /// Lanes that had their turn in the present round.
    done: VecDeque<usize>,
    /// Lanes of which nothing fitted into the batch that is being filled: first in the next.
    first: VecDeque<usize>,
    /// The lane in front has been given its credit for this turn.
    turn_begun: bool,
    /// It has given something in this turn.
    turn_served: bool,
    len: usize,
    bytes: usize,
    /// Commands that wait in another lane than that of the tenant which keeps their record.
    away: HashMap<CommandKey, usize>,
    last_tenant: Option<TenantId>,
    shared_until: Option<Micros>,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Events of the request whose turn is next.
    pub(super) fn next_events(&self) -> usize {
        let lane = self.turns.front().map(|at| &self.lanes[*at]);
        lane.and_then(|lane| lane.requests.front()).map_or(0, |next| next.written.0)
    }

    /// Takes a request in, or gives it back when there is no room for it.
    pub(super) fn admit(
        &mut self,
        config: &Config,
        mono_us: Micros,
        request: Box<Prepared>,
    ) -> Result<(), Box<Prepared>> {
        let tenant = lane_of(&request);
        let bytes = request.append.bytes();
        let (lane_len, lane_bytes) =
            self.of_tenant.get(&tenant).map_or((0, 0), |at| (self.lanes[*at].requests.len(), self.lanes[*at].bytes));
        let full = self.len >= config.queue_requests_max
            || self.bytes + bytes > config.queue_bytes_max
            || lane_len >= config.tenant_requests_max
            || lane_bytes + bytes > config.tenant_bytes_max;
        if full {
            return Err(request);
        }
        if self.last_tenant.replace(tenant).is_some_and(|last| last != tenant) {
            self.shared_until = Some(mono_us + SHARED_US);
        }
        let (at, new) = self.lane(tenant);
        if new {
            self.turns.push_back(at);
        }
        let waiting = Waiting::new(Arc::from(request));
        self.count(&waiting);
        self.lanes[at].bytes += waiting.bytes;
        self.lanes[at].requests.push_back(waiting);
        Ok(())
    }

    /// What one tenant may have of a batch; none while only one has written for a while.
    pub(super) fn share(&self, config: &Config, mono_us: Micros) -> Option<i64> {
        let shared = self.turns.len() > 1 || self.shared_until.is_some_and(|until| mono_us < until);
        shared.then(|| i64::try_from(config.batch_share_max.max(1)).unwrap_or(i64::MAX))
    }

    /// The next request for the batch that is being filled, if there is room for it.
    pub(super) fn take(&mut self, room: &Room, share: Option<i64>) -> Option<Arc<Prepared>> {
        loop {
            let Some(at) = self.turns.front().copied() else {
                if !room.empty || self.done.is_empty() {
                    return None;
                }
                // Everybody had overdrawn: another round, and nobody waits for nothing.
                std::mem::swap(&mut self.turns, &mut self.done);
                continue;
            };
            let lane = &mut self.lanes[at];
            let Some(next) = lane.requests.front() else {
                self.turn_ends();
                self.retire(at);
                continue;
            };
            if let Some(share) = share {
                if !std::mem::replace(&mut self.turn_begun, true) {
                    lane.credit = lane.credit.saturating_add(share).min(share);
                }
                if lane.credit <= 0 {
                    self.turn_ends();
                    self.done.push_back(at);
                    continue;
                }
            }
            if room.requests == 0 && !room.empty {
                return None;
            }
            let large = share.is_some_and(|share| next.cost() > share);
            let (events, bytes) = next.written;
            let full = !room.empty && (large || events > room.events || bytes > room.bytes);
            if full || events as u64 > room.positions {
                // In front it is also seen how large the partition has to be that it waits for.
                let later = if self.turn_served { &mut self.done } else { &mut self.first };
                later.push_back(at);
                self.turn_ends();
                continue;
            }
            let next = lane.requests.pop_front()?;
            lane.bytes -= next.bytes;
            lane.credit = if share.is_some() { lane.credit - next.cost() } else { 0 };
            self.turn_served = true;
            self.uncount(&next);
            return Some(next.request);
        }
    }

    /// Ends the filling of a batch. What is judged again with the next one goes back to where it was.
    pub(super) fn end_round(&mut self, deferred: Deferred) {
        if let Some(at) = self.turns.front().copied().filter(|_| self.turn_served) {
            self.turn_ends();
            if self.lanes[at].requests.is_empty() {
                self.retire(at);
            } else {
                self.done.push_back(at);
            }
        }
        self.turn_begun = false;
        while let Some(at) = self.first.pop_back() {
            self.turns.push_front(at);
        }
        self.turns.append(&mut self.done);
        for request in deferred.requests.into_iter().rev() {
            let (at, new) = self.lane(lane_of(&request));
            if new {
                self.turns.push_front(at);
            }
            let waiting = Waiting::new(request);
            self.count(&waiting);
            self.lanes[at].bytes += waiting.bytes;
            self.lanes[at].credit = self.lanes[at].credit.saturating_add(waiting.cost());
            self.lanes[at].requests.push_front(waiting);
        }
    }

    /// Whether an attempt of this command waits in a lane that the question about it does not stand in.
    pub(super) fn is_away(&self, command: &CommandStamp) -> bool {
        !self.away.is_empty() && self.away.contains_key(&(command.tenant, command.id))
    }

    /// Takes out everything.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Arc<Prepared>> {
        let queue = std::mem::take(self);
        let Queue { mut lanes, turns, .. } = queue;
        turns.into_iter().flat_map(move |at| std::mem::take(&mut lanes[at].requests)).map(|waiting| waiting.request)
    }

    /// Lanes that there are, and those that belong to somebody.
    #[cfg(test)]
    pub(super) fn lanes(&self) -> (usize, usize) {
        (self.lanes.len(), self.of_tenant.len())
    }

    fn turn_ends(&mut self) {
        self.turns.pop_front();
        self.turn_begun = false;
        self.turn_served = false;
    }

    fn count(&mut self, waiting: &Waiting) {
        self.len += 1;
        self.bytes += waiting.bytes;
        if let Some(command) = away(&waiting.request) {
            *self.away.entry(command).or_default() += 1;
        }
    }

    fn uncount(&mut self, waiting: &Waiting) {
        self.len -= 1;
        self.bytes -= waiting.bytes;
        if let Some(command) = away(&waiting.request)
            && let Some(attempts) = self.away.get_mut(&command)
        {
            *attempts -= 1;
            if *attempts == 0 {
                self.away.remove(&command);
            }
        }
    }

    /// The tenant's lane, and whether it was just given to it.
    fn lane(&mut self, tenant: TenantId) -> (usize, bool) {
        if let Some(at) = self.of_tenant.get(&tenant) {
            return (*at, false);
        }
        let at = self.spare.pop().unwrap_or_else(|| {
            self.lanes.push(Lane { tenant, requests: VecDeque::new(), bytes: 0, credit: 0 });
            self.lanes.len() - 1
        });
        self.lanes[at].tenant = tenant;
        self.of_tenant.insert(tenant, at);
        (at, true)
    }

    fn retire(&mut self, at: usize) {
        let lane = &mut self.lanes[at];
        self.of_tenant.remove(&lane.tenant);
        lane.credit = 0;
        if lane.requests.capacity() > LANE_KEPT {
            lane.requests.shrink_to(LANE_KEPT);
        }
        self.spare.push(at);
    }
}

/// In whose lane a request waits. A question stands where the record of its command is kept: behind every attempt of
/// it but those that are counted as away.
fn lane_of(request: &Prepared) -> TenantId {
    if request.asks { request.append.command.tenant } else { request.append.tenant }
}

fn away(request: &Prepared) -> Option<CommandKey> {
    let command = &request.append.command;
    (lane_of(request) != command.tenant).then_some((command.tenant, command.id))
}

/// Requests that met a change of the batch that is being filled: judged again with the next one.
#[derive(Default)]
pub(super) struct Deferred {
    requests: Vec<Arc<Prepared>>,
    streams: HashSet<StreamKey>,
}

impl Deferred {
    pub(super) fn push(&mut self, request: Arc<Prepared>) {
        // A question changes nothing, and must not hold up the attempt that it waits for.
        if !request.asks {
            self.streams.extend(streams(&request));
        }
        self.requests.push(request);
    }

    /// Whether this one came after a deferred one that it must not overtake: on a stream that both name, or, for a
    /// question, an attempt that is not decided yet.
    pub(super) fn precedes(&self, request: &Prepared) -> bool {
        if request.asks {
            return self.requests.iter().any(|r| !r.asks && r.append.command.names(&request.append.command));
        }
        !self.streams.is_empty() && streams(request).any(|key| self.streams.contains(&key))
    }

    pub(super) fn into_requests(self) -> Vec<Arc<Prepared>> {
        self.requests
    }
}

fn streams(request: &Prepared) -> impl Iterator<Item = StreamKey> + '_ {
    let append = &request.append;
    let named = append.streams.iter().map(|s| &s.stream).chain(append.reads.iter().map(|(stream, _)| stream));
    named.map(|stream| StreamKey { tenant: append.tenant, stream: stream.clone() })
}
