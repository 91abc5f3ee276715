//! Callers: they load, decide on what they loaded, append, and repeat what they do not know.
//!
//! This goes the way of the executor, step by step; between two steps anything can happen. What
//! happens within one append is in [`crate::appending`].

use crate::database::{CommandRow, Facts, State};
use crate::random::Rng;
use crate::workload::{Intent, Op};
use crate::world::{Event, World};
use daybook_store::journal::{Append, AppendError, Outcome, Seen, StreamKey};
use daybook_store::system::Micros;
use daybook_tlog::{Hash, RightEdge};

/// What a look-up is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lookup {
    /// Whether the command is known.
    Earlier,
    /// The states to decide on.
    States,
    /// The beginning of a round of `append`, which may need no look-up.
    Round,
    /// Everything that the writer takes on trust.
    Facts,
}

pub(crate) enum Looked {
    Failed,
    Earlier(Seen, Option<CommandRow>),
    States(Seen, Vec<State>),
    Facts(Box<Facts>),
}

pub(crate) enum Stage {
    Idle,
    /// Waits for this node to be the writer.
    Ready(Lookup),
    Looking(Lookup, Seen),
    /// An answer that waits until what it rests on is durable; another round otherwise.
    Settling(Seen, Box<Result<Outcome, AppendError>>, Lookup),
    Awaiting,
    Finished,
}

/// One `append`.
pub(crate) struct Call {
    pub(crate) append: Append,
    pub(crate) basis: Vec<State>,
    pub(crate) versions_at: Seen,
    pub(crate) seen: Option<Seen>,
    pub(crate) head: Option<RightEdge>,
    pub(crate) digests: Vec<Vec<(Hash, Hash)>>,
    pub(crate) request_hash: Hash,
    /// What the look-up refused it with, if the writer agrees that no earlier attempt is on its way.
    pub(crate) refusal: Option<AppendError>,
}

pub(crate) struct Client {
    pub(crate) id: usize,
    pub(crate) node: usize,
    pub(crate) generation: u64,
    pub(crate) stage: Stage,
    pub(crate) op: Option<Op>,
    pub(crate) call: Option<Call>,
    /// Counts the calls.
    pub(crate) calls: u64,
    pub(crate) unused_at: Option<Seen>,
    pub(crate) deadline: Micros,
    /// Operations still to come.
    pub(crate) left: usize,
    /// How often the present operation was decided.
    pub(crate) tries: u32,
}

impl Client {
    pub(crate) fn new(id: usize, rng: &mut Rng) -> Self {
        let left = rng.below(18) + 6;
        Client {
            id,
            node: 0,
            generation: 0,
            stage: Stage::Idle,
            op: None,
            call: None,
            calls: 0,
            unused_at: None,
            deadline: 0,
            left,
            tries: 0,
        }
    }

    pub(crate) fn is_finished(&self) -> bool {
        matches!(self.stage, Stage::Finished)
    }

    pub(crate) fn standing(&self) -> &'static str {
        match self.stage {
            Stage::Idle => "idle",
            Stage::Ready(_) => "waits for a writer",
            Stage::Looking(..) => "looks up",
            Stage::Settling(..) => "waits for durability",
            Stage::Awaiting => "waits for an answer",
            Stage::Finished => "finished",
        }
    }

    /// The node in whose process it runs at the moment.
    pub(crate) fn host(&self) -> Option<usize> {
        (!matches!(self.stage, Stage::Idle | Stage::Finished)).then_some(self.node)
    }

    fn waits(&self) -> bool {
        matches!(self.stage, Stage::Ready(_) | Stage::Settling(..))
    }
}

impl World {
    pub(crate) fn set_stage(&mut self, client: usize, stage: Stage) -> u64 {
        let at = &mut self.clients[client];
        at.stage = stage;
        at.generation += 1;
        at.generation
    }

    pub(crate) fn wake_clients(&mut self, node: usize) {
        for client in 0..self.clients.len() {
            let at = &self.clients[client];
            if at.node == node && at.waits() {
                let event = Event::Client(client, at.generation);
                let delay = self.rng.range(1, 150);
                self.after(delay, event);
            }
        }
    }

    pub(crate) fn clients_die(&mut self, node: usize) {
        for client in 0..self.clients.len() {
            if self.clients[client].host() == Some(node) {
                let command = self.clients[client].op.as_ref().map(|op| op.stamp.id).unwrap_or_default();
                self.count("callers_cut_off");
                self.finish_call(client, Err(AppendError::UnknownOutcome(command)));
            }
        }
    }

    pub(crate) fn client_goes_on(&mut self, client: usize, generation: u64) {
        if self.clients[client].generation != generation {
            return;
        }
        match &self.clients[client].stage {
            Stage::Idle => self.next_operation(client),
            Stage::Ready(lookup) => self.ready(client, *lookup),
            Stage::Settling(..) => self.settle(client),
            Stage::Looking(..) | Stage::Awaiting | Stage::Finished => {}
        }
    }

    /// Begins a call of the present operation.
    pub(crate) fn begin_call(&mut self, client: usize) {
        let node = match self.nodes.iter().find(|n| n.alive && n.leading.is_some()).map(|n| n.id) {
            Some(leader) if !self.rng.chance(150) => leader,
            _ => self.rng.below(self.nodes.len()),
        };
        if !self.nodes[node].alive {
            let generation = self.set_stage(client, Stage::Idle);
            let delay = self.rng.range(1_000, 20_000);
            return self.after(delay, Event::Client(client, generation));
        }
        let patience = if self.rng.chance(100) { self.rng.range(2_000, 30_000) } else { 700_000 };
        let at = &mut self.clients[client];
        at.node = node;
        at.calls += 1;
        at.tries += 1;
        at.call = None;
        at.unused_at = None;
        at.deadline = self.now + patience;
        let fresh = at.op.as_ref().is_some_and(|op| op.stamp.fresh);
        let asks = !fresh && self.rng.chance(600);
        self.wait_ready(client, if asks { Lookup::Earlier } else { Lookup::States }, 0);
    }

    pub(crate) fn wait_ready(&mut self, client: usize, lookup: Lookup, delay: Micros) {
        let generation = self.set_stage(client, Stage::Ready(lookup));
        if delay > 0 {
            self.after(delay, Event::Client(client, generation));
        } else {
            self.ready(client, lookup);
        }
        // Unless it went on at once: at the deadline it looks a last time.
        let at = &self.clients[client];
        if at.generation == generation {
            self.after(at.deadline - self.now + 1, Event::Client(client, generation));
        }
    }

    fn ready(&mut self, client: usize, lookup: Lookup) {
        let at = &self.clients[client];
        let node = &self.nodes[at.node];
        let Some(leading) = node.leading else {
            if node.stopped || self.now >= at.deadline {
                self.finish_call(client, Err(AppendError::Unavailable("no writer within the time allowed".into())));
            }
            return;
        };
        match lookup {
            Lookup::States if self.decide_from_cache(client, leading) => self.round(client, leading),
            Lookup::Round => self.round(client, leading),
            _ => self.look(client, lookup, leading),
        }
    }

    pub(crate) fn look(&mut self, client: usize, lookup: Lookup, leading: Seen) {
        let generation = self.set_stage(client, Stage::Looking(lookup, leading));
        let delay = self.latency();
        self.after(delay, Event::LookUp(client, generation, lookup));
    }

    /// The look-up at the server: one statement, one snapshot.
    pub(crate) fn look_up(&mut self, client: usize, generation: u64, lookup: Lookup) {
        let at = &self.clients[client];
        if at.generation != generation {
            return;
        }
        let tables = &self.db.tables;
        let looked = match (lookup, &at.op, &at.call) {
            _ if !self.server.up || tables.seen.batch == 0 => Looked::Failed,
            (Lookup::Earlier, Some(op), _) => {
                Looked::Earlier(tables.seen, tables.commands.get(&(op.stamp.tenant, op.stamp.id)).cloned())
            }
            (Lookup::States, Some(op), _) => {
                Looked::States(tables.seen, op.intent.keys().map(|key| tables.state(&key)).collect())
            }
            (Lookup::Facts, _, Some(call)) => Looked::Facts(Box::new(self.db.facts(&call.append))),
            _ => Looked::Failed,
        };
        let delay = self.latency();
        self.after(delay, Event::LookedUp(client, generation, looked));
    }

    pub(crate) fn looked_up(&mut self, client: usize, generation: u64, looked: Looked) {
        let at = &self.clients[client];
        let Stage::Looking(lookup, leading) = at.stage else { return };
        if at.generation != generation {
            return;
        }
        let seen = match &looked {
            Looked::Failed => None,
            Looked::Earlier(seen, _) | Looked::States(seen, _) => Some(*seen),
            Looked::Facts(facts) => Some(facts.seen),
        };
        let Some(seen) = seen.filter(|s| s.epoch == leading.epoch) else {
            if self.now >= at.deadline {
                return self.finish_call(client, Err(AppendError::Unavailable("the database cannot be asked".into())));
            }
            self.count("looked_in_another_epoch");
            return self.wait_ready(client, lookup, 10_000);
        };
        match looked {
            Looked::Failed => {}
            Looked::Earlier(_, Some(row)) => self.answer_from(client, seen, row, Lookup::Earlier),
            Looked::Earlier(_, None) => {
                self.clients[client].unused_at = Some(seen);
                self.wait_ready(client, Lookup::States, 0);
            }
            Looked::States(_, states) => {
                let Some(op) = &self.clients[client].op else { return };
                let keys = op.intent.keys().collect::<Vec<_>>();
                let node = self.clients[client].node;
                for (key, state) in keys.into_iter().zip(&states) {
                    self.nodes[node].cache.insert(key, (*state, seen));
                }
                self.decide(client, states, seen);
                self.wait_ready(client, Lookup::Round, 0);
            }
            Looked::Facts(facts) => self.judge(client, *facts),
        }
    }

    pub(crate) fn answer_from(&mut self, client: usize, seen: Seen, row: CommandRow, again: Lookup) {
        let Some(op) = &self.clients[client].op else { return };
        let answer = if row.is_same(&op.stamp) {
            Ok(Outcome { seen, deduplicated: true, ..row.outcome })
        } else {
            Err(AppendError::CommandReused(op.stamp.id))
        };
        self.count("found_by_look_up");
        self.set_stage(client, Stage::Settling(seen, Box::new(answer), again));
        self.settle(client);
    }

    pub(crate) fn settle(&mut self, client: usize) {
        let at = &self.clients[client];
        let Stage::Settling(seen, answer, again) = &at.stage else { return };
        let (answer, again, node) = (answer.clone(), *again, &self.nodes[at.node]);
        let durable = node.durable.seen;
        if durable.epoch == seen.epoch && durable.batch >= seen.batch {
            self.finish_call(client, *answer);
        } else if durable.epoch > seen.epoch || node.leading.is_none_or(|l| l.epoch != seen.epoch) {
            self.count("settled_nothing");
            self.wait_ready(client, again, 0);
        }
    }

    /// The states after a success are known without loading them.
    pub(crate) fn remember(&mut self, client: usize, outcome: &Outcome) {
        let at = &self.clients[client];
        let Some(call) = &at.call else { return };
        for (stream, before) in call.append.streams.iter().zip(&call.basis) {
            let state = stream.events.iter().fold(*before, |state, event| crate::database::fold(state, event.event_id));
            let key = StreamKey { tenant: call.append.tenant, stream: stream.stream.clone() };
            self.nodes[at.node].cache.insert(key, (state, outcome.seen));
        }
    }

    pub(crate) fn forget(&mut self, client: usize) {
        let at = &self.clients[client];
        for key in at.op.iter().flat_map(|op| Intent::keys(&op.intent)) {
            self.nodes[at.node].cache.remove(&key);
        }
    }

    pub(crate) fn asked(&self, client: usize) -> Option<Append> {
        let at = &self.clients[client];
        at.call.as_ref().map(|c| c.append.clone()).or_else(|| at.op.as_ref().map(Op::bare))
    }
}
