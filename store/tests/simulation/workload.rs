//! What the callers want: few streams and few keys, so that they get into each other's way.

use crate::client::Stage;
use crate::database::{POISON, State};
use crate::history::Answered;
use crate::random::Rng;
use crate::world::{Event, World, trace};
use daybook_domain::{PLATFORM_TENANT, TenantId};
use daybook_store::journal::{
    Append, AppendError, ClaimKey, CommandStamp, NewEvent, Outcome, StreamAppend, StreamId, StreamKey,
};
use daybook_store::system::Micros;
use uuid::Uuid;

/// What an operation is to achieve, before anything was looked up.
#[derive(Clone)]
pub(crate) struct Intent {
    pub(crate) tenant: TenantId,
    /// Streams and how many events each is to get.
    streams: Vec<(StreamId, usize)>,
    reads: Vec<StreamId>,
    claims: Vec<ClaimKey>,
    releases: Vec<ClaimKey>,
    not_after: Option<Micros>,
    poisonous: bool,
}

impl Intent {
    /// Every stream that the decision looks at.
    pub(crate) fn keys(&self) -> impl Iterator<Item = StreamKey> {
        let streams = self.streams.iter().map(|s| &s.0).chain(&self.reads);
        streams.map(|stream| StreamKey { tenant: self.tenant, stream: stream.clone() })
    }
}

/// A command, which may take several calls.
#[derive(Clone)]
pub(crate) struct Op {
    pub(crate) stamp: CommandStamp,
    pub(crate) intent: Intent,
}

impl Op {
    pub(crate) fn append(&self, client: usize, call: u64, states: &[State]) -> Append {
        let intent = &self.intent;
        let mut events = 0_u128;
        let streams = intent
            .streams
            .iter()
            .zip(states)
            .map(|((stream, count), state)| StreamAppend {
                stream: stream.clone(),
                expected: state.0,
                events: (0..*count)
                    .map(|_| {
                        events += 1;
                        let event_id = Uuid::from_u128((client as u128 + 1) << 80 | u128::from(call) << 40 | events);
                        NewEvent {
                            event_id,
                            event_type: "test.thing.happened".into(),
                            event_version: 1,
                            payload: format!("{{\"n\":{events},\"on\":\"{:016x}\"}}", state.1),
                            metadata: if intent.poisonous { POISON.into() } else { "{}".into() },
                        }
                    })
                    .collect(),
            })
            .collect();
        let reads = intent.reads.iter().cloned().zip(states[intent.streams.len()..].iter().map(|s| s.0)).collect();
        let claimed = |key: &ClaimKey| (key.clone(), intent.streams[0].0.clone());
        Append { streams, reads, claims: intent.claims.iter().map(claimed).collect(), ..self.bare() }
    }

    /// What is known of the append before anything was looked up.
    pub(crate) fn bare(&self) -> Append {
        Append {
            tenant: self.intent.tenant,
            command: self.stamp.clone(),
            streams: Vec::new(),
            reads: Vec::new(),
            claims: Vec::new(),
            releases: self.intent.releases.clone(),
            not_after: self.intent.not_after,
        }
    }
}

fn intent(rng: &mut Rng, wall_us: Micros) -> Intent {
    let tenant = TenantId(Uuid::from_u128(0x1000 + rng.below(3) as u128));
    let mut streams = (1..=4_u128).map(|id| StreamId { kind: "thing", id: Uuid::from_u128(id) }).collect::<Vec<_>>();
    let mut take = |rng: &mut Rng| streams.swap_remove(rng.below(streams.len()));
    let nothing = rng.chance(80);
    let written = (0..rng.pick(&[1, 1, 1, 2, 3]))
        .map(|_| (take(rng), if nothing { 0 } else { rng.pick(&[1, 1, 2, 4]) }))
        .collect();
    let reads = if rng.chance(250) { vec![take(rng)] } else { Vec::new() };
    let mut keys = (0..4_u8)
        .map(|n| ClaimKey { scope: if n < 2 { PLATFORM_TENANT } else { tenant }, kind: "mail", hash: [n; 32] })
        .collect::<Vec<_>>();
    let mut key = |rng: &mut Rng, per_mille| {
        if rng.chance(per_mille) { vec![keys.swap_remove(rng.below(keys.len()))] } else { Vec::new() }
    };
    let (claims, releases) = (key(rng, 200), key(rng, 200));
    let not_after = rng.chance(100).then(|| wall_us + rng.range(-2_000, 40_000));
    Intent { tenant, streams: written, reads, claims, releases, not_after, poisonous: rng.chance(40) }
}

impl World {
    pub(crate) fn next_operation(&mut self, client: usize) {
        if self.clients[client].op.is_some() {
            return self.begin_call(client);
        }
        if self.clients[client].left == 0 {
            self.set_stage(client, Stage::Finished);
            return;
        }
        self.clients[client].left -= 1;
        self.clients[client].tries = 0;
        let digest = self.rng.bytes();
        // Somebody else's command at the same time: a double click that reached two places. Never one
        // whose id is vouched for as new.
        let busy = self
            .clients
            .iter()
            .filter(|c| c.id != client)
            .filter_map(|c| c.op.as_ref())
            .filter(|op| !op.stamp.fresh)
            .collect::<Vec<_>>();
        let op = if !busy.is_empty() && self.rng.chance(60) {
            busy[self.rng.below(busy.len())].clone()
        } else {
            let wall_us = crate::node::EPOCH_US + self.now;
            let intent = intent(&mut self.rng, wall_us);
            let id = Uuid::from_u128((client as u128 + 1) << 64 | self.clients[client].left as u128);
            let tenant = if self.rng.chance(100) { PLATFORM_TENANT } else { intent.tenant };
            let stamp = CommandStamp { tenant, id, digest, hash_key: [0; 32], fresh: self.rng.chance(600) };
            Op { stamp, intent }
        };
        self.clients[client].op = Some(op);
        self.begin_call(client);
    }

    /// A call has ended: written down, and then repeated, or left at that.
    pub(crate) fn finish_call(&mut self, client: usize, result: Result<Outcome, AppendError>) {
        trace!(self, "client {client}: {result:?}");
        let Some(append) = self.asked(client) else { return };
        let at = &self.clients[client];
        let (call, node) = (at.calls, at.node);
        let answered = Answered {
            client,
            call,
            append,
            result: result.clone(),
            order: self.history.next_order(),
            durable: self.db.durable,
            wall_max_us: self.nodes[node].wall_max_us,
        };
        self.history.answers.push(answered);
        if let Ok(outcome) = &result
            && !outcome.deduplicated
        {
            self.remember(client, outcome);
        }
        if matches!(result, Err(AppendError::Conflict { .. } | AppendError::Stale)) {
            self.forget(client);
        }
        let tries = self.clients[client].tries;
        let again = match &result {
            Ok(_) => {
                self.count("success");
                self.rng.chance(130)
            }
            Err(AppendError::Conflict { .. }) => {
                self.count("conflicts");
                tries < 6 && self.rng.chance(900)
            }
            Err(AppendError::Stale) => {
                self.count("stale");
                true
            }
            Err(AppendError::Unavailable(_) | AppendError::Overloaded) => self.rng.chance(950),
            Err(AppendError::UnknownOutcome(_)) => {
                self.count("unknown_outcomes");
                self.rng.chance(930)
            }
            Err(AppendError::KeyTaken { .. }) => {
                self.count("keys_taken");
                false
            }
            Err(AppendError::TooLate) => {
                self.count("too_late");
                false
            }
            Err(AppendError::CommandReused(_)) => {
                self.count("commands_reused");
                false
            }
            Err(AppendError::Invalid(_) | AppendError::Database(_)) => false,
        };
        let other = self.rng.chance(150).then(|| self.rng.bytes());
        let at = &mut self.clients[client];
        if !again {
            at.op = None;
        } else if let Some(op) = &mut at.op {
            // After this it is not only this node that may know the id.
            op.stamp.fresh &= matches!(result, Err(AppendError::Conflict { .. } | AppendError::Stale));
            if let (Ok(_), Some(digest)) = (&result, other) {
                op.stamp.digest = digest;
            }
        }
        let generation = self.set_stage(client, Stage::Idle);
        let delay = match result {
            Err(AppendError::Conflict { .. } | AppendError::Stale) => self.rng.range(10, 2_000),
            _ if self.healed => self.rng.range(10, 5_000),
            _ if self.rng.chance(550) => self.rng.range(50, 1_500),
            _ => self.until_rush() + self.rng.range(0, 1_500),
        };
        self.after(delay, Event::Client(client, generation));
    }
}
