//! From the queue to one batch: each request is checked alone, and refused alone.

use super::queue::{Deferred, Room};
use super::types::*;
use super::window::{Answers, CommandEntry, Overlay};
use super::{Effect, Writer};
use crate::journal::append::{AppendError, Outcome, StreamKey};
use crate::keys::keyed_hash;
use crate::system::{Micros, Now};
use daybook_domain::TenantId;
use daybook_tlog::{Leaf, RightEdge};
use std::sync::Arc;

/// A batch on its way, with what becomes true when it is committed.
pub(super) struct Building {
    pub(super) batch: Arc<Batch>,
    pub(super) members: Vec<Arc<Prepared>>,
    pub(super) answers: Answers,
    pub(super) overlay: Overlay,
}

/// So many appends are not worth two batches: each costs as much as several events.
const SPLIT_MIN: usize = 32;

/// Events of a batch behind which another is sent, and requests of that one.
pub(super) const PIPELINED_MAX: usize = 128;

enum Verdict {
    Take,
    /// It meets a change that is not committed yet: judged again with the next batch.
    Later,
    Answer(Answer),
    /// An answer that rests on this committed batch.
    AnswerAfter(u64, Answer),
}

impl Writer {
    pub(super) fn build(&mut self, now: Now, out: &mut Vec<Effect>) {
        let mut parts = Parts::new(self, now);
        let mut deferred = Deferred::default();
        if let Some(group) = self.groups.pop_front() {
            for request in group {
                self.place(request, &mut parts, &mut deferred, out);
            }
            let deferred = deferred.into_requests();
            if !deferred.is_empty() {
                self.groups.push_front(deferred);
            }
        } else {
            // Half of those who wait: their flush is then under way while the other half is inserted, and
            // nobody waits for the whole of a large batch.
            let members_max = self.queue.len().div_ceil(2).max(SPLIT_MIN);
            let members_max = if self.in_flight.is_empty() { members_max } else { members_max.min(PIPELINED_MAX) };
            let share = self.queue.share(&self.config, now.mono_us);
            while let Some(request) =
                self.queue.take(&parts.room(&self.config, members_max, self.partitions_up_to), share)
            {
                self.place(request, &mut parts, &mut deferred, out);
            }
            self.queue.end_round(deferred);
        }
        if parts.members.is_empty() {
            return;
        }
        self.last_recorded_us = parts.recorded_at_us;
        let building = parts.finish(self);
        self.next_batch = building.batch.number + 1;
        self.next_position = building.batch.last_position + 1;
        out.push(Effect::Do(self.session, Do::Commit(building.batch.clone())));
        self.in_flight.push_back(building);
    }

    fn place(&mut self, request: Arc<Prepared>, parts: &mut Parts, deferred: &mut Deferred, out: &mut Vec<Effect>) {
        // An earlier attempt that waits for the next batch, or in another lane, is not decided yet.
        let waits = deferred.precedes(&request) || request.asks && self.queue.is_away(&request.append.command);
        match if waits { Verdict::Later } else { self.judge(&request, parts) } {
            Verdict::Take => parts.take(request, self),
            Verdict::Later => deferred.push(request),
            Verdict::Answer(answer) => out.push(Effect::Answer(request.ticket, answer)),
            Verdict::AnswerAfter(batch, answer) if batch <= self.durable => {
                out.push(Effect::Answer(request.ticket, answer));
            }
            Verdict::AnswerAfter(batch, answer) => {
                self.held.entry(batch).or_default().push((request.ticket, answer));
            }
        }
    }

    fn judge(&self, request: &Prepared, parts: &Parts) -> Verdict {
        let append = &request.append;
        let stale_cache = self.config.plant == Some(Plant::StaleCache);
        if !stale_cache
            && (request.seen.epoch != self.epoch
                || request.seen.batch < self.window.start()
                || request.seen.batch > self.committed)
        {
            return Verdict::Answer(Answer::LookAgain);
        }
        let key =
            |stream: &crate::journal::append::StreamId| StreamKey { tenant: append.tenant, stream: stream.clone() };

        // A repeat is recognised before anything else is held against it: its streams have moved on.
        let command = (append.command.tenant, append.command.id);
        if self.under_way(parts).any(|overlay| overlay.commands.contains_key(&command)) {
            return Verdict::Later;
        }
        if let Some((entry, batch)) = self.window.command(&command) {
            let same = keyed_hash(&entry.hash_key, &append.command.digest) == entry.request_hash;
            return Verdict::AnswerAfter(
                batch,
                if same {
                    Answer::Done(Outcome { deduplicated: true, ..entry.outcome.clone() })
                } else {
                    Answer::Refused(AppendError::CommandReused(append.command.id))
                },
            );
        }
        if request.asks {
            return Verdict::AnswerAfter(self.committed, Answer::Nothing);
        }
        let expectations =
            append.streams.iter().map(|s| (&s.stream, s.expected)).chain(append.reads.iter().map(|(s, v)| (s, *v)));
        for (stream, expected) in expectations {
            let key = key(stream);
            if self.under_way(parts).any(|overlay| overlay.streams.contains_key(&key)) {
                return Verdict::Later;
            }
            if let Some((actual, batch)) = self.window.stream(&key)
                && actual != expected
            {
                return Verdict::AnswerAfter(
                    batch,
                    Answer::Refused(AppendError::Conflict { stream: stream.clone(), expected, actual }),
                );
            }
        }
        for claim in append.claims.iter().map(|c| &c.0).chain(&append.releases) {
            if self.under_way(parts).any(|overlay| overlay.claims.contains_key(claim)) {
                return Verdict::Later;
            }
        }
        for (claim, _) in &append.claims {
            if let Some((true, batch)) = self.window.claim(claim) {
                return Verdict::AnswerAfter(batch, Answer::Refused(AppendError::KeyTaken { kind: claim.kind }));
            }
        }
        if append.not_after.is_some_and(|deadline| parts.recorded_at_us > deadline) {
            return Verdict::AnswerAfter(self.committed, Answer::Refused(AppendError::TooLate));
        }
        if self.edge(append.tenant, parts).is_none() && request.head.is_none() {
            return Verdict::Answer(Answer::LookAgain);
        }
        Verdict::Take
    }

    /// What changes with batches that are not committed yet: the one in the making, and those in flight.
    fn under_way<'a>(&'a self, parts: &'a Parts) -> impl Iterator<Item = &'a Overlay> {
        std::iter::once(&parts.overlay).chain(self.in_flight.iter().map(|building| &building.overlay))
    }

    /// The tenant's tree as the next event of it will find it, if that is remembered.
    fn edge<'a>(&'a self, tenant: TenantId, parts: &'a Parts) -> Option<&'a RightEdge> {
        let in_flight = || self.in_flight.iter().rev().find_map(|building| building.overlay.heads.get(&tenant));
        parts.overlay.heads.get(&tenant).or_else(in_flight).or_else(|| self.heads.get(tenant))
    }
}

/// A batch in the making.
struct Parts {
    number: u64,
    epoch: u64,
    first_position: u64,
    next_position: u64,
    recorded_at_us: Micros,
    bytes: usize,
    members: Vec<Arc<Prepared>>,
    outcomes: Vec<Outcome>,
    events: Vec<EventRow>,
    overlay: Overlay,
    last_positions: std::collections::BTreeMap<TenantId, u64>,
}

impl Parts {
    fn new(writer: &Writer, now: Now) -> Self {
        Parts {
            number: writer.next_batch,
            epoch: writer.epoch,
            first_position: writer.next_position,
            next_position: writer.next_position,
            recorded_at_us: if writer.clock_jumped {
                writer.last_recorded_us
            } else {
                writer.last_recorded_us.max(now.wall_us)
            },
            bytes: 0,
            members: Vec::new(),
            outcomes: Vec::new(),
            events: Vec::new(),
            overlay: Overlay::default(),
            last_positions: std::collections::BTreeMap::new(),
        }
    }

    /// What else fits.
    fn room(&self, config: &Config, members_max: usize, partitions_up_to: u64) -> Room {
        Room {
            empty: self.members.is_empty(),
            requests: members_max.saturating_sub(self.members.len()),
            events: config.batch_events_max.saturating_sub(self.events.len()),
            bytes: config.batch_bytes_max.saturating_sub(self.bytes),
            positions: partitions_up_to.saturating_sub(self.next_position),
        }
    }

    fn take(&mut self, request: Arc<Prepared>, writer: &Writer) {
        let append = &request.append;
        let member = self.members.len();
        if !self.overlay.heads.contains_key(&append.tenant) {
            let edge = writer.edge(append.tenant, self).or(request.head.as_ref()).cloned();
            self.overlay.heads.insert(append.tenant, edge.unwrap_or_else(RightEdge::empty));
        }
        let Some(edge) = self.overlay.heads.get_mut(&append.tenant) else { return };
        let first_tenant_position = edge.size() + 1;
        for (s, stream) in append.streams.iter().enumerate() {
            for (e, event) in stream.events.iter().enumerate() {
                let sequence = stream.expected + 1 + e as u64;
                let tenant_position = edge.size() + 1;
                let (payload_sha256, metadata_sha256) = request.digests[s][e];
                let leaf = Leaf {
                    tenant: append.tenant.0,
                    tenant_position,
                    stream_type: stream.stream.kind,
                    stream_id: stream.stream.id,
                    sequence,
                    event_id: event.event_id,
                    event_type: &event.event_type,
                    event_version: event.event_version,
                    recorded_at_us: self.recorded_at_us,
                    payload_sha256,
                    metadata_sha256,
                };
                let leaf_hash = leaf.hash();
                edge.push(leaf_hash);
                self.events.push(EventRow {
                    position: self.next_position,
                    tenant_position,
                    sequence,
                    leaf_hash,
                    source: (member, s, e),
                });
                self.next_position += 1;
            }
            if !stream.events.is_empty() {
                let key = StreamKey { tenant: append.tenant, stream: stream.stream.clone() };
                self.overlay.streams.insert(key, stream.expected + stream.events.len() as u64);
            }
        }
        let last_tenant_position = edge.size();
        if append.events() > 0 {
            self.last_positions.insert(append.tenant, self.next_position - 1);
        }
        for (claim, _) in &append.claims {
            self.overlay.claims.insert(claim.clone(), true);
        }
        for claim in &append.releases {
            self.overlay.claims.insert(claim.clone(), false);
        }
        // A later append of this batch may still write to a stream that this one names without events.
        let only_named = append.streams.iter().any(|s| s.events.is_empty());
        let outcome = Outcome {
            tenant: append.tenant,
            first_tenant_position,
            last_tenant_position,
            last_position: self.next_position - 1,
            stream_ids: append.streams.iter().map(|s| s.stream.id).collect(),
            recorded_at_us: self.recorded_at_us,
            seen: Seen { epoch: self.epoch, batch: if only_named { self.number - 1 } else { self.number } },
            deduplicated: false,
        };
        self.overlay.commands.insert(
            (append.command.tenant, append.command.id),
            CommandEntry {
                hash_key: append.command.hash_key,
                request_hash: request.request_hash,
                outcome: outcome.clone(),
            },
        );
        self.bytes += append.bytes();
        self.outcomes.push(outcome);
        self.members.push(request);
    }

    fn finish(self, writer: &Writer) -> Building {
        let answers =
            self.members.iter().zip(&self.outcomes).map(|(m, o)| (m.ticket, Answer::Done(o.clone()))).collect();
        let heads = self
            .last_positions
            .iter()
            .filter_map(|(tenant, last_position)| {
                let edge = self.overlay.heads.get(tenant)?.clone();
                Some(HeadRow { tenant: *tenant, last_position: *last_position, edge })
            })
            .collect();
        let batch = Batch {
            number: self.number,
            epoch: self.epoch,
            follows: !writer.in_flight.is_empty(),
            first_position: self.first_position,
            last_position: self.next_position - 1,
            recorded_at_us: self.recorded_at_us,
            members: self.members.clone(),
            outcomes: self.outcomes,
            events: self.events,
            heads,
            nothing_expires_us: self.recorded_at_us + writer.config.nothing_kept_us,
        };
        Building { batch: Arc::new(batch), members: self.members, answers, overlay: self.overlay }
    }
}
