//! A process: its writer, its clocks and the driver's part between the writer and the world.

use crate::fairness::Waits;
use crate::random::Rng;
use crate::server::Session;
use crate::world::{Event, World, trace};
use daybook_store::journal::machine::{
    Answer, Batch, Config, Do, Effect, Input, Prepared, SessionInput, Ticket, Writer,
};
use daybook_store::journal::{Durable, Seen, StreamKey};
use daybook_store::system::{Micros, Now};
use std::collections::{BTreeMap, VecDeque};

use crate::database::State;

/// The wall clock at the beginning of a run.
pub(crate) const EPOCH_US: Micros = 1_790_000_000_000_000;
/// How far clocks may stand from true time without being called wrong.
pub(crate) const SKEW_US_MAX: Micros = 2_000_000;

pub(crate) struct Node {
    pub(crate) id: usize,
    pub(crate) incarnation: u32,
    pub(crate) alive: bool,
    pub(crate) paused_until: Option<Micros>,
    pub(crate) writer: Writer,
    /// A connection attempt under way.
    pub(crate) connecting: Option<u64>,
    /// The connections that the attempt has led to, not yet known to the node.
    pub(crate) opened: Option<Session>,
    pub(crate) session: Option<Session>,
    steps: VecDeque<(u64, SessionInput)>,
    requests: VecDeque<Box<Prepared>>,
    processing: bool,
    /// The process is too busy to look into the channel until then.
    busy_until: Micros,
    /// Wall clock minus true time.
    pub(crate) wall_offset_us: Micros,
    mono_offset_us: Micros,
    /// The latest time that the writer was shown.
    pub(crate) wall_max_us: Micros,
    pub(crate) leading: Option<Seen>,
    pub(crate) durable: Durable,
    pub(crate) stopped: bool,
    /// Folded states with the moment at which they were all there was.
    pub(crate) cache: BTreeMap<StreamKey, (State, Seen)>,
    waiting: BTreeMap<Ticket, (usize, u64)>,
    /// Requests that the writer has taken in.
    pub(crate) waits: Waits,
}

impl Node {
    pub(crate) fn new(id: usize, config: Config, rng: &mut Rng) -> Self {
        Node {
            id,
            incarnation: 0,
            alive: true,
            paused_until: None,
            writer: Writer::new(config),
            connecting: None,
            opened: None,
            session: None,
            steps: VecDeque::new(),
            requests: VecDeque::new(),
            processing: false,
            busy_until: 0,
            wall_offset_us: rng.range(-200_000, 200_000),
            mono_offset_us: rng.range(0, 1_000_000_000),
            wall_max_us: 0,
            leading: None,
            durable: Durable::default(),
            stopped: false,
            cache: BTreeMap::new(),
            waiting: BTreeMap::new(),
            waits: Waits::default(),
        }
    }

    /// A new process on the same machine, with its clock set right.
    pub(crate) fn started_again(&self, config: Config, rng: &mut Rng) -> Self {
        Node { incarnation: self.incarnation, ..Node::new(self.id, config, rng) }
    }

    pub(crate) fn wall(&self, now: Micros) -> Micros {
        EPOCH_US + now + self.wall_offset_us
    }
}

impl World {
    pub(crate) fn tick(&mut self, node: usize, incarnation: u32) {
        if self.nodes[node].incarnation != incarnation || !self.nodes[node].alive {
            return;
        }
        self.handle(node, vec![Input::Tick]);
        if !self.nodes[node].stopped {
            let delay = self.rng.range(5_000, 25_000);
            self.after(delay, Event::Tick(node, incarnation));
        }
    }

    pub(crate) fn deliver(&mut self, node: usize, incarnation: u32, session: u64, input: SessionInput) {
        if self.nodes[node].incarnation == incarnation && self.nodes[node].alive {
            self.nodes[node].steps.push_back((session, input));
            self.process_soon(node);
        }
    }

    /// False when the channel is closed.
    pub(crate) fn submit(&mut self, node: usize, request: Box<Prepared>, client: usize, generation: u64) -> bool {
        let to = &mut self.nodes[node];
        if to.stopped || !to.alive {
            return false;
        }
        to.waiting.insert(request.ticket, (client, generation));
        self.enqueue(node, request);
        true
    }

    pub(crate) fn enqueue(&mut self, node: usize, request: Box<Prepared>) {
        self.nodes[node].requests.push_back(request);
        self.process_soon(node);
    }

    fn process_soon(&mut self, node: usize) {
        if !std::mem::replace(&mut self.nodes[node].processing, true) {
            let delay = self.rng.range(0, 200);
            self.after(delay, Event::Process(node, self.nodes[node].incarnation));
        }
    }

    /// Like the driver: steps that are done come first, then all requests that are there at once.
    pub(crate) fn process(&mut self, node: usize, incarnation: u32) {
        if self.nodes[node].incarnation != incarnation || !self.nodes[node].alive {
            return;
        }
        self.nodes[node].processing = false;
        while let Some((session, input)) = self.nodes[node].steps.pop_front() {
            let at = &mut self.nodes[node];
            if matches!(input, SessionInput::Connected)
                && let Some(opened) = at.opened.take_if(|o| o.number == session)
            {
                at.session = Some(opened);
                at.connecting = None;
            }
            self.handle(node, vec![Input::Session(session, input)]);
        }
        if self.nodes[node].requests.is_empty() || self.now < self.nodes[node].busy_until {
            return;
        }
        if !self.healed && self.rng.chance(30) {
            // The requests wait in the channel while steps go on being served.
            let delay =
                if self.rng.chance(300) { self.rng.range(20_000, 600_000) } else { self.rng.range(500, 20_000) };
            self.nodes[node].busy_until = self.now + delay;
            self.after(delay, Event::Process(node, incarnation));
            return;
        }
        let requests = self.nodes[node].requests.drain(..).map(Input::Request).collect();
        self.handle(node, requests);
    }

    pub(crate) fn shut_down(&mut self, node: usize) {
        if self.nodes[node].alive && !self.nodes[node].stopped {
            self.count("shutdowns");
            self.handle(node, vec![Input::Shutdown]);
        }
    }

    fn handle(&mut self, node: usize, inputs: Vec<Input>) {
        let at = &mut self.nodes[node];
        if at.stopped {
            return;
        }
        let now = Now { wall_us: at.wall(self.now), mono_us: self.now + at.mono_offset_us };
        at.wall_max_us = at.wall_max_us.max(now.wall_us);
        let mut effects = Vec::new();
        at.waits.arrive(&inputs);
        at.writer.handle(now, inputs, &mut effects);
        let before = (at.leading, at.durable, at.stopped);
        for effect in effects {
            self.carry_out(node, effect);
        }
        let at = &self.nodes[node];
        if before != (at.leading, at.durable, at.stopped) {
            self.wake_clients(node);
        }
    }

    fn carry_out(&mut self, node: usize, effect: Effect) {
        match effect {
            Effect::Answer(ticket, answer) => self.answer(node, ticket, answer),
            Effect::Durable { seen, position } => {
                if self.settings.peek && position > self.db.durable_position() {
                    let durable = self.db.durable_position();
                    self.fail(format!(
                        "node {node} calls position {position} durable, but a crash would leave {durable}"
                    ));
                }
                self.nodes[node].durable = Durable { seen, position };
            }
            Effect::Leading(seen) => {
                trace!(self, "node {node}: leading, epoch {}, batch {}", seen.epoch, seen.batch);
                self.count("takeovers");
                self.nodes[node].leading = Some(seen);
            }
            Effect::NotLeading => {
                if self.nodes[node].leading.take().is_some() {
                    trace!(self, "node {node}: no longer leading");
                }
            }
            Effect::Stopped(reason) => self.stopped(node, &reason),
            Effect::HangUp(number) => self.hang_up(node, number),
            Effect::Do(session, Do::Connect) => {
                self.nodes[node].connecting = Some(session);
                let (delay, incarnation) = (self.latency(), self.nodes[node].incarnation);
                self.after(delay, Event::Open { node, incarnation, session });
            }
            Effect::Do(number, step) => {
                if let Do::Commit(batch) = &step {
                    trace!(
                        self,
                        "node {node}: commits batch {} of epoch {}, {} members",
                        batch.number,
                        batch.epoch,
                        batch.members.len()
                    );
                    self.stir(batch.number ^ batch.epoch << 32);
                    self.check_waits(node, batch);
                }
                if let Some(session) = self.nodes[node].session.clone().filter(|s| s.number == number) {
                    self.send(&session, step);
                }
            }
        }
    }

    fn answer(&mut self, node: usize, ticket: Ticket, answer: Answer) {
        let kind = match &answer {
            Answer::Done(outcome) if outcome.deduplicated => "answered_duplicate",
            Answer::Done(_) => "answered_done",
            Answer::Refused(_) => "answered_refused",
            Answer::Nothing => "answered_nothing",
            Answer::LookAgain => "answered_look_again",
            Answer::Overloaded => "answered_overloaded",
            Answer::Unavailable(_) => "answered_unavailable",
            Answer::Failed(_) => "answered_failed",
            Answer::Unknown => "answered_unknown",
        };
        self.count(kind);
        self.stir(ticket ^ (kind.len() as u64) << 40);
        trace!(self, "node {node}: answers ticket {ticket}: {answer:?}");
        self.check_answer(node, ticket, &answer);
        self.history.submission_answered(ticket, answer.clone());
        self.nodes[node].waits.answered(ticket);
        if let Some((client, generation)) = self.nodes[node].waiting.remove(&ticket) {
            let delay = self.rng.range(5, 200);
            self.after(delay, Event::ClientAnswer(client, generation, answer));
        }
    }

    /// Compares a promise with what the database would keep in a crash at this moment.
    fn check_answer(&mut self, node: usize, ticket: Ticket, answer: &Answer) {
        if !self.settings.peek {
            return;
        }
        if let Answer::Done(_) = answer
            && let Some(command) =
                self.history.submissions.get(&ticket).map(|s| (s.append.command.tenant, s.append.command.id))
            && self.db.tables.commands.get(&command).is_none_or(|row| row.index >= self.db.durable)
        {
            self.fail(format!("node {node} answers ticket {ticket} with success, but a crash would lose the append"));
        }
    }

    /// Looks at each commit as it happens.
    pub(crate) fn observe_commit(&mut self, batch: &Batch) {
        if batch.recorded_at_us > EPOCH_US + self.now + SKEW_US_MAX + 100_000 {
            self.fail(format!("batch {} was recorded with a time of the future: the clock had jumped", batch.number));
        }
        if batch.members.is_empty() {
            self.count("fence_batches");
        }
        if batch.members.len() > 1 {
            self.count("shared_batches");
        }
        let judged = if self.settings.peek { batch.members.as_slice() } else { &[] };
        for member in judged {
            if let Some(answer) = self.history.submissions.get(&member.ticket).and_then(|s| s.answer.as_ref())
                && !matches!(answer, Answer::Unknown | Answer::Done(_))
            {
                let text = format!("ticket {} was answered {answer:?}, and then it was written", member.ticket);
                self.fail(text);
            }
        }
    }

    fn stopped(&mut self, node: usize, reason: &str) {
        trace!(self, "node {node}: stopped: {reason}");
        self.count(if reason.contains("clock") { "clock_stops" } else { "clean_stops" });
        self.nodes[node].stopped = true;
        self.nodes[node].session = None;
        self.nodes[node].connecting = None;
        let waiting = std::mem::take(&mut self.nodes[node].waiting);
        for (_, (client, generation)) in waiting {
            self.after(50, Event::ClientAnswer(client, generation, Answer::Unknown));
        }
        // Somebody sets the clock and starts it again.
        let delay = self.rng.range(10_000, 300_000);
        self.after(delay, Event::Restart(node, self.nodes[node].incarnation));
    }

    fn hang_up(&mut self, node: usize, number: u64) {
        let at = &mut self.nodes[node];
        at.connecting = None;
        at.steps.clear();
        let opened = at.opened.take_if(|s| s.number == number);
        let session = at.session.take_if(|s| s.number == number);
        for conn in opened.iter().chain(&session).flat_map(Session::conns).collect::<Vec<_>>() {
            self.close(conn);
        }
    }

    /// The process is gone with everything that it knew.
    pub(crate) fn kill(&mut self, node: usize) {
        let at = &mut self.nodes[node];
        if !at.alive {
            return;
        }
        at.alive = false;
        at.incarnation += 1;
        at.paused_until = None;
        at.leading = None;
        let (opened, session) = (at.opened.take(), at.session.take());
        for conn in opened.iter().chain(&session).flat_map(Session::conns).collect::<Vec<_>>() {
            self.close(conn);
        }
        self.clients_die(node);
        let delay = self.rng.range(5_000, 500_000);
        self.after(delay, Event::Restart(node, self.nodes[node].incarnation));
    }

    pub(crate) fn restart(&mut self, node: usize, incarnation: u32) {
        let at = &self.nodes[node];
        if at.incarnation != incarnation || (at.alive && !at.stopped) {
            return;
        }
        if at.alive {
            self.clients_die(node);
            self.nodes[node].incarnation += 1;
        }
        trace!(self, "node {node}: starts again");
        self.nodes[node] = self.nodes[node].started_again(self.config.clone(), &mut self.rng);
        self.after(1_000, Event::Tick(node, self.nodes[node].incarnation));
    }
}
