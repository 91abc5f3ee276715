//! A tenant that floods, and how long the others wait beside it.

use crate::node::EPOCH_US;
use crate::world::{World, trace};
use daybook_domain::TenantId;
use daybook_store::journal::machine::{Batch, Config, Input, Prepared, SessionInput, Ticket};
use daybook_store::journal::{Append, ClaimKey, CommandStamp, NewEvent, StreamAppend, StreamId};
use daybook_store::keys::keyed_hash;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// Who floods. Nobody else writes there.
const FLOODER: TenantId = TenantId(Uuid::from_u128(0xf100d));
/// Events of one of its requests.
const FLOOD_EVENTS_MAX: usize = 4;
/// In one of so many batches a request is, from its arrival on.
const BATCHES_MAX: u32 = 2;

struct Wait {
    append: Append,
    /// Batches that left without it though there was room for it.
    passed: u32,
    /// It came behind others of its tenant, or met a change that had to be committed first.
    excused: bool,
    flooded: bool,
}

/// The requests of a node's writer that have no answer yet.
#[derive(Default)]
pub(crate) struct Waits {
    waiting: BTreeMap<Ticket, Wait>,
    /// Have been in a batch: if they are in another one, the first was refused and taken apart.
    sent: BTreeSet<Ticket>,
    /// First position for which the writer knows no partition.
    partitions_up_to: u64,
}

impl Waits {
    pub(crate) fn arrive(&mut self, inputs: &[Input]) {
        for input in inputs {
            match input {
                Input::Session(_, SessionInput::PartitionsUpTo(up_to)) => self.partitions_up_to = *up_to,
                Input::Session(_, SessionInput::Head(head)) => self.partitions_up_to = head.partitions_up_to,
                _ => {}
            }
            let Input::Request(request) = input else { continue };
            // A question is answered without a batch.
            if request.asks {
                continue;
            }
            let append = &request.append;
            let excused = self.waiting.values().any(|wait| wait.append.tenant == append.tenant);
            let wait = Wait { append: append.clone(), passed: 0, excused, flooded: false };
            self.waiting.insert(request.ticket, wait);
        }
    }

    pub(crate) fn answered(&mut self, ticket: Ticket) {
        self.waiting.remove(&ticket);
        self.sent.remove(&ticket);
    }

    /// Counts a batch that leaves; tells who has waited too long for it, and how many were let past a flood.
    fn leave(&mut self, batch: &Batch, config: &Config) -> (Option<Ticket>, usize) {
        if batch.members.iter().any(|m| self.sent.contains(&m.ticket)) {
            return (None, 0);
        }
        let (mut late, mut passed_flood) = (None, 0);
        for member in &batch.members {
            self.sent.insert(member.ticket);
            let Some(wait) = self.waiting.remove(&member.ticket) else { continue };
            if wait.passed >= BATCHES_MAX && !wait.excused {
                late = Some(member.ticket);
            }
            passed_flood += usize::from(!wait.excused && wait.flooded);
        }
        let of_others = batch.members.iter().filter(|m| m.append.tenant != FLOODER).map(|m| m.append.events());
        let of_others = of_others.sum::<usize>();
        let floods = self.waiting.values().filter(|wait| wait.append.tenant == FLOODER).count() >= BATCHES_MAX as usize;
        for wait in self.waiting.values_mut() {
            let events = wait.append.events();
            let full = of_others + events + config.batch_share_max + FLOOD_EVENTS_MAX > config.batch_events_max
                || batch.last_position + events as u64 >= self.partitions_up_to;
            let large = events > config.batch_share_max;
            wait.excused |= large || batch.members.iter().any(|member| meet(&member.append, &wait.append));
            wait.passed += u32::from(!full);
            wait.flooded |= floods && wait.append.tenant != FLOODER;
        }
        (late, passed_flood)
    }
}

/// Whether one must be committed before the other can be judged.
fn meet(one: &Append, other: &Append) -> bool {
    fn streams(append: &Append) -> impl Iterator<Item = &StreamId> {
        append.streams.iter().map(|s| &s.stream).chain(append.reads.iter().map(|r| &r.0))
    }
    fn keys(append: &Append) -> impl Iterator<Item = &ClaimKey> {
        append.claims.iter().map(|c| &c.0).chain(&append.releases)
    }
    (one.command.tenant, one.command.id) == (other.command.tenant, other.command.id)
        || keys(one).any(|key| keys(other).any(|k| k == key))
        || one.tenant == other.tenant && streams(one).any(|stream| streams(other).any(|s| s == stream))
}

impl World {
    pub(crate) fn check_waits(&mut self, node: usize, batch: &Batch) {
        let (late, passed) = self.nodes[node].waits.leave(batch, &self.config);
        if let Some(ticket) = late {
            self.fail(format!(
                "ticket {ticket} was in none of the next {BATCHES_MAX} batches, beside another tenant's"
            ));
        }
        for _ in 0..passed {
            self.count("passed_floods");
        }
    }

    /// Many small appends of one tenant at once, each on a stream of its own.
    pub(crate) fn flood(&mut self, node: usize) {
        if !self.nodes[node].alive || self.nodes[node].leading.is_none() {
            return;
        }
        self.count("floods");
        let requests = self.rng.range(40, 160);
        trace!(self, "node {node}: a flood of {requests}");
        for _ in 0..requests {
            let ticket = self.ticket();
            let append = self.flooding(ticket);
            let facts = self.db.facts(&append);
            let sha256 = |text: &str| -> daybook_tlog::Hash { Sha256::digest(text.as_bytes()).into() };
            let digests = append.streams.iter();
            let digests = digests.map(|s| s.events.iter().map(|e| (sha256(&e.payload), sha256(&e.metadata))).collect());
            let prepared = Prepared {
                ticket,
                seen: facts.seen,
                head: Some(facts.head),
                digests: digests.collect(),
                request_hash: keyed_hash(&append.command.hash_key, &append.command.digest),
                asks: false,
                append,
            };
            // Nobody waits for the answer.
            let basis = vec![crate::database::State::default()];
            self.history.submitted(ticket, usize::MAX, ticket, prepared.append.clone(), basis);
            self.enqueue(node, Box::new(prepared));
        }
    }

    fn flooding(&mut self, ticket: Ticket) -> Append {
        let id = |n: u128| Uuid::from_u128(0xf100d << 96 | u128::from(ticket) << 8 | n);
        let event = |n: u128| NewEvent {
            event_id: id(n),
            event_type: "test.flood.rose".into(),
            event_version: 1,
            payload: "{}".into(),
            metadata: "{}".into(),
        };
        let events = 1 + self.rng.below(FLOOD_EVENTS_MAX) as u128;
        let stream = StreamId { kind: "flood", id: id(0) };
        Append {
            tenant: FLOODER,
            command: CommandStamp {
                tenant: FLOODER,
                id: id(0),
                digest: self.rng.bytes(),
                hash_key: self.rng.bytes(),
                fresh: true,
            },
            streams: vec![StreamAppend { stream, expected: 0, events: (1..=events).map(event).collect() }],
            reads: vec![],
            claims: vec![],
            releases: vec![],
            not_after: self.rng.chance(100).then_some(EPOCH_US + self.now + 5_000),
        }
    }
}
