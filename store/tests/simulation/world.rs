//! One simulated world: virtual time, a queue of events, and everything that they happen to.
//!
//! Nothing here reads a real clock, starts a thread or iterates over a hash map: the same seed gives
//! the same history.

use crate::checker;
use crate::client::{Client, Looked, Lookup};
use crate::database::{Fence, SimDatabase};
use crate::faults::Fault;
use crate::follower::{Follower, Rows};
use crate::history::History;
use crate::node::Node;
use crate::random::{Rng, mix};
use crate::server::{ConnId, Server};
use daybook_store::journal::machine::{Answer, Backend, Config, Do, Plant, SessionInput, Ticket};
use daybook_store::system::Micros;
use std::collections::BTreeMap;

/// What is broken on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Planted {
    Writer(Plant),
    Fence(Fence),
    /// Taking the lease overwrites who held it, before that one is known to be gone.
    LeaseForgets,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) seed: u64,
    pub(crate) planted: Option<Planted>,
    /// Judge at once, and by the database's hidden state as well, instead of waiting for the end and
    /// for a crash to show that a promise was empty.
    pub(crate) peek: bool,
    pub(crate) trace: bool,
}

/// What came of one seed.
pub(crate) struct Report {
    pub(crate) failure: Option<String>,
    pub(crate) counters: BTreeMap<&'static str, u64>,
    pub(crate) hash: u64,
}

pub(crate) enum Event {
    Tick(usize, u32),
    Process(usize, u32),
    /// The server has made the connections of a session.
    Open {
        node: usize,
        incarnation: u32,
        session: u64,
    },
    /// A step arrives at its backend.
    Arrive(ConnId, Do),
    /// A step has been executed.
    Execute(ConnId, Do),
    /// The flush that began at this length of the log, in this life of the server, is over.
    FlushEnds {
        conn: Option<ConnId>,
        step: Option<Do>,
        life: u32,
        log: usize,
    },
    WaitGone(ConnId, Backend),
    BackendDies(ConnId),
    /// Something from the server reaches the node, unless the connection was cut meanwhile.
    Reply(ConnId, SessionInput),
    Lost {
        node: usize,
        incarnation: u32,
        session: u64,
    },
    WalWriter,
    ServerUp,
    Client(usize, u64),
    ClientAnswer(usize, u64, Answer),
    ClientTimeout(usize, u64),
    LookUp(usize, u64, Lookup),
    LookedUp(usize, u64, Looked),
    FollowerPoll(usize),
    FollowerRead(usize, u64),
    FollowerRows(usize, u64, Rows),
    FollowerFlush(usize, u64, Rows),
    Fault(Fault),
    Resume(usize),
    Restart(usize, u32),
    Heal,
}

/// Faults come until then; from then on everything must settle.
pub(crate) const HEAL_AT: Micros = 2_500_000;
const SETTLED_BY: Micros = HEAL_AT + 20_000_000;

pub(crate) struct World {
    pub(crate) settings: Settings,
    pub(crate) rng: Rng,
    pub(crate) now: Micros,
    queue: BTreeMap<(Micros, u64), Box<Event>>,
    scheduled: u64,
    pub(crate) db: SimDatabase,
    pub(crate) server: Server,
    pub(crate) nodes: Vec<Node>,
    pub(crate) clients: Vec<Client>,
    pub(crate) followers: Vec<Follower>,
    pub(crate) history: History,
    pub(crate) counters: BTreeMap<&'static str, u64>,
    pub(crate) healed: bool,
    /// Per mille of messages that are slow.
    pub(crate) slow: usize,
    /// How long the database works on a commit at most: the longer, the fuller the next batch.
    pub(crate) commit_us_max: Micros,
    pub(crate) config: Config,
    next_ticket: Ticket,
    hash: u64,
    failure: Option<String>,
}

/// Prints when the seed is run alone.
macro_rules! trace {
    ($world:expr, $($argument:tt)*) => {
        if $world.settings.trace {
            println!("{:>10.3} ms  {}", $world.now as f64 / 1_000.0, format_args!($($argument)*));
        }
    };
}
pub(crate) use trace;

impl World {
    fn new(settings: Settings) -> Self {
        let mut rng = Rng::new(settings.seed);
        let config = Config {
            batch_events_max: rng.pick(&[1, 8, 64, 64]),
            queue_requests_max: rng.pick(&[2, 1_000, 1_000]),
            tenant_requests_max: rng.pick(&[2, 40, 1_000]),
            batch_share_max: rng.pick(&[1, 4, 32]),
            second_min: rng.pick(&[1, 1, 3, 1_000]),
            window_entries_max: rng.pick(&[3, 12, 200]),
            heads_max: rng.pick(&[1, 2, 50]),
            flushers: rng.pick(&[1, 2, 4]),
            lease_ttl_us: 400_000,
            lease_renew_us: 100_000,
            retry_us: 5_000,
            plant: match settings.planted {
                Some(Planted::Writer(plant)) => Some(plant),
                _ => None,
            },
            ..Config::default()
        };
        let fence = match settings.planted {
            Some(Planted::Fence(fence)) => fence,
            _ => Fence::First,
        };
        let db = SimDatabase::new(fence, rng.pick(&[8, 40, 1_000]));
        let nodes = (0..rng.pick(&[2, 3])).map(|id| Node::new(id, config.clone(), &mut rng)).collect::<Vec<_>>();
        let clients = (0..rng.pick(&[3, 5, 8])).map(|id| Client::new(id, &mut rng)).collect();
        let followers = (0..nodes.len() + 2).map(|id| Follower::new(id, nodes.len(), &mut rng)).collect();
        let server = Server::new(&mut rng);
        World {
            settings,
            slow: rng.pick(&[2, 20, 60]),
            commit_us_max: rng.pick(&[100, 2_000, 12_000]),
            rng,
            now: 0,
            queue: BTreeMap::new(),
            scheduled: 0,
            db,
            server,
            nodes,
            clients,
            followers,
            history: History::default(),
            counters: BTreeMap::new(),
            healed: false,
            config,
            next_ticket: 0,
            hash: settings.seed,
            failure: None,
        }
    }

    /// Runs one seed to its end and has it audited.
    pub(crate) fn run(settings: Settings) -> Report {
        let mut world = World::new(settings);
        world.begin();
        while let Some(((at, _), event)) = world.queue.pop_first() {
            world.now = at;
            world.dispatch(*event);
            if world.failure.is_some() || world.is_settled() {
                break;
            }
            if at > SETTLED_BY {
                world.fail(format!(
                    "not settled {} s after the last fault: {}",
                    (SETTLED_BY - HEAL_AT) / 1_000_000,
                    world.unsettled()
                ));
            }
        }
        if world.failure.is_none() {
            let finding = match settings.planted {
                Some(Planted::Fence(Fence::Alone | Fence::Last)) => checker::audit_structure(&world.db, &world.history),
                _ => checker::audit(&world.db, &world.history, &world.followers),
            };
            world.failure = finding.err();
        }
        for ticket in world.db.tickets().collect::<Vec<_>>() {
            world.stir(ticket);
        }
        Report { failure: world.failure, counters: world.counters, hash: world.hash }
    }

    fn begin(&mut self) {
        for node in 0..self.nodes.len() {
            let at = self.rng.range(0, 20_000);
            self.after(at, Event::Tick(node, 0));
        }
        for client in 0..self.clients.len() {
            self.after(20_000, Event::Client(client, 0));
        }
        for follower in 0..self.followers.len() {
            self.after(30_000, Event::FollowerPoll(follower));
        }
        self.after(10_000, Event::WalWriter);
        self.plan_faults();
        self.after(HEAL_AT, Event::Heal);
    }

    pub(crate) fn after(&mut self, delay: Micros, event: Event) {
        self.scheduled += 1;
        self.queue.insert((self.now + delay.max(0), self.scheduled), Box::new(event));
    }

    pub(crate) fn count(&mut self, what: &'static str) {
        *self.counters.entry(what).or_default() += 1;
    }

    /// The first thing that must not happen ends the run.
    pub(crate) fn fail(&mut self, what: String) {
        trace!(self, "FAILED: {what}");
        self.failure.get_or_insert(what);
    }

    pub(crate) fn stir(&mut self, value: u64) {
        self.hash = mix(self.hash ^ value);
    }

    pub(crate) fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        self.next_ticket
    }

    /// How long a message or a small step takes.
    pub(crate) fn latency(&mut self) -> Micros {
        let slow = if self.healed { 0 } else { self.slow };
        match self.rng.below(1_000) {
            n if n < slow / 4 => self.rng.range(20_000, 400_000),
            n if n < slow => self.rng.range(1_000, 20_000),
            _ => self.rng.range(30, 600),
        }
    }

    fn is_settled(&self) -> bool {
        self.healed && self.db.durable == self.db.log.len() && self.unsettled().is_empty()
    }

    fn unsettled(&self) -> String {
        let clients =
            self.clients.iter().filter(|c| !c.is_finished()).map(|c| format!("client {} ({})", c.id, c.standing()));
        let position = self.db.tables.last_position;
        let followers = self
            .followers
            .iter()
            .filter(|f| f.is_remote() && f.cursor.position < position)
            .map(|f| format!("follower {} at {} of {position}", f.id, f.cursor.position));
        clients.chain(followers).collect::<Vec<_>>().join(", ")
    }

    /// The node whose process an event needs, when it needs one that may be paused.
    fn host(&self, event: &Event) -> Option<usize> {
        match event {
            Event::Tick(node, _) | Event::Process(node, _) | Event::Lost { node, .. } => Some(*node),
            Event::Reply(conn, _) => self.server.conns.get(conn).map(|c| c.node),
            Event::Client(client, _)
            | Event::ClientAnswer(client, ..)
            | Event::LookedUp(client, ..)
            | Event::ClientTimeout(client, _) => self.clients[*client].host(),
            Event::FollowerPoll(follower) | Event::FollowerRows(follower, ..) => self.followers[*follower].host(),
            _ => None,
        }
    }

    fn dispatch(&mut self, event: Event) {
        if let Some(until) = self.host(&event).and_then(|node| self.nodes[node].paused_until) {
            // In order, after the process goes on.
            self.after(until - self.now + 1, event);
            return;
        }
        match event {
            Event::Tick(node, incarnation) => self.tick(node, incarnation),
            Event::Process(node, incarnation) => self.process(node, incarnation),
            Event::Open { node, incarnation, session } => self.open(node, incarnation, session),
            Event::Arrive(conn, step) => self.arrive(conn, step),
            Event::Execute(conn, step) => self.execute(conn, step),
            Event::FlushEnds { conn, step, life, log } => self.flush_ends(conn, step, life, log),
            Event::WaitGone(conn, old) => self.wait_gone(conn, old),
            Event::BackendDies(conn) => self.backend_dies(conn),
            Event::Reply(conn, input) => self.reply_arrives(conn, input),
            Event::Lost { node, incarnation, session } => {
                self.deliver(node, incarnation, session, SessionInput::Lost("the connection was cut".into()));
            }
            Event::WalWriter => self.wal_writer(),
            Event::ServerUp => self.server_up(),
            Event::Client(client, generation) => self.client_goes_on(client, generation),
            Event::ClientAnswer(client, generation, answer) => self.client_answered(client, generation, answer),
            Event::ClientTimeout(client, generation) => self.client_timed_out(client, generation),
            Event::LookUp(client, generation, lookup) => self.look_up(client, generation, lookup),
            Event::LookedUp(client, generation, looked) => self.looked_up(client, generation, looked),
            Event::FollowerPoll(follower) => self.follower_polls(follower),
            Event::FollowerRead(follower, read) => self.follower_reads(follower, read),
            Event::FollowerRows(follower, read, rows) => self.follower_gets(follower, read, rows),
            Event::FollowerFlush(follower, read, rows) => self.follower_flushes(follower, read, rows),
            Event::Fault(fault) => self.strike(fault),
            Event::Resume(node) => self.resume(node),
            Event::Restart(node, incarnation) => self.restart(node, incarnation),
            Event::Heal => self.heal(),
        }
    }
}
