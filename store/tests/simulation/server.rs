//! The PostgreSQL server and the network before it: sessions, backends, latencies, crashes.
//!
//! A step that is in the network or at work in a backend can still take effect after the client has
//! given up on it, until the backend is gone.

use crate::database::{Fence, Lease, Record};
use crate::random::Rng;
use crate::world::{Event, World, trace};
use daybook_store::journal::machine::{Backend, Do, JournalHead, RefusedBy, SessionInput};
use daybook_store::system::Micros;
use std::collections::BTreeMap;

pub(crate) type ConnId = u64;

pub(crate) struct Conn {
    pub(crate) node: usize,
    pub(crate) incarnation: u32,
    pub(crate) session: u64,
    pub(crate) backend: Backend,
    /// Of the lease that was granted on this connection.
    pub(crate) epoch: u64,
    alive: bool,
    dying: bool,
    /// The client still listens.
    pub(crate) open: bool,
    /// What is sent on a connection arrives in order, and is carried out in order.
    arrived_us: Micros,
    executed_us: Micros,
}

/// The connections of one session of a node.
#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) number: u64,
    pub(crate) writer: ConnId,
    pub(crate) control: ConnId,
    pub(crate) flushers: Vec<ConnId>,
}

impl Session {
    pub(crate) fn conns(&self) -> impl Iterator<Item = ConnId> {
        [self.writer, self.control].into_iter().chain(self.flushers.iter().copied())
    }
}

pub(crate) struct Server {
    pub(crate) up: bool,
    /// Counts the crashes.
    pub(crate) life: u32,
    pub(crate) conns: BTreeMap<ConnId, Conn>,
    next_conn: ConnId,
    next_pid: i32,
    /// The next commit hangs in its backend while its node loses the session.
    pub(crate) tangle: bool,
    /// Leases that will be granted without the node's learning of it.
    pub(crate) lost_grants: u32,
    /// The database's clock minus true time.
    pub(crate) clock_offset_us: Micros,
}

impl Server {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        Server {
            up: true,
            life: 0,
            conns: BTreeMap::new(),
            next_conn: 0,
            next_pid: 0,
            tangle: false,
            lost_grants: 0,
            clock_offset_us: rng.range(-300_000, 300_000),
        }
    }

    /// A pid that is free now; it may have belonged to somebody else before.
    fn pid(&mut self) -> i32 {
        loop {
            self.next_pid = self.next_pid % 60 + 1;
            if !self.conns.values().any(|c| c.alive && c.backend.pid == self.next_pid) {
                return self.next_pid;
            }
        }
    }
}

impl World {
    pub(crate) fn database_clock(&self) -> Micros {
        crate::node::EPOCH_US + self.now + self.server.clock_offset_us
    }

    /// Time that a synchronous commit takes in the disk.
    fn disk(&mut self) -> Micros {
        let extra = if self.rng.chance(self.slow) && !self.healed { self.rng.range(5_000, 120_000) } else { 0 };
        self.rng.range(200, 3_000) + extra
    }

    pub(crate) fn open(&mut self, node: usize, incarnation: u32, session: u64) {
        let delay = self.latency();
        if !self.server.up || (!self.healed && self.rng.chance(20)) {
            self.after(delay, Event::Lost { node, incarnation, session });
            return;
        }
        let conns = (0..2 + self.config.flushers)
            .map(|_| {
                let backend = Backend { pid: self.server.pid(), started_us: self.database_clock() };
                self.server.next_conn += 1;
                let conn = Conn {
                    node,
                    incarnation,
                    session,
                    backend,
                    epoch: 0,
                    alive: true,
                    dying: false,
                    open: true,
                    arrived_us: 0,
                    executed_us: 0,
                };
                self.server.conns.insert(self.server.next_conn, conn);
                self.server.next_conn
            })
            .collect::<Vec<_>>();
        let listening = &mut self.nodes[node];
        if listening.incarnation == incarnation && listening.connecting == Some(session) {
            listening.opened =
                Some(Session { number: session, writer: conns[0], control: conns[1], flushers: conns[2..].to_vec() });
            self.reply(conns[1], SessionInput::Connected);
        } else {
            for conn in conns {
                self.close(conn);
            }
        }
    }

    pub(crate) fn send(&mut self, session: &Session, step: Do) {
        let conn = match &step {
            Do::Commit(_) => session.writer,
            Do::Flush { slot, .. } => session.flushers[*slot],
            _ => session.control,
        };
        let taking_over = matches!(step, Do::EndBackend(_) | Do::FirstFlush | Do::ReadHead { .. });
        let delay = self.latency();
        let now = self.now;
        let delay = match self.server.conns.get_mut(&conn) {
            Some(on) => behind(&mut on.arrived_us, now, delay),
            None => delay,
        };
        if matches!(&step, Do::Commit(batch) if batch.follows) {
            self.count("followers_sent");
        }
        self.after(delay, Event::Arrive(conn, step));
        if taking_over && !self.healed && self.rng.chance(40) {
            self.count("takeovers_cut");
            self.cut(session.control);
        }
    }

    pub(crate) fn arrive(&mut self, conn: ConnId, step: Do) {
        if !self.is_alive(conn) {
            return self.lose(conn);
        }
        match step {
            Do::Flush { .. } | Do::FirstFlush => {
                let event = Event::FlushEnds {
                    conn: Some(conn),
                    step: Some(step),
                    life: self.server.life,
                    log: self.db.log.len(),
                };
                let delay = self.disk();
                self.after(delay, event);
            }
            Do::EndBackend(old) => self.wait_gone(conn, old),
            Do::Commit(_) if std::mem::take(&mut self.server.tangle) => self.entangle(conn, step),
            Do::Commit(_) | Do::ReadHead { .. } => {
                let stalls = !self.healed && self.rng.chance(self.slow / 4);
                let work = if matches!(step, Do::Commit(_)) { self.rng.range(0, self.commit_us_max) } else { 0 };
                let delay = if stalls { self.rng.range(20_000, 700_000) } else { work + self.latency() };
                let delay = self.in_turn(conn, delay);
                self.after(delay, Event::Execute(conn, step));
            }
            _ => {
                let delay = self.disk();
                self.after(delay, Event::Execute(conn, step));
            }
        }
    }

    /// When a step that takes so long is carried out: not before what came earlier on its connection.
    fn in_turn(&mut self, conn: ConnId, delay: Micros) -> Micros {
        let now = self.now;
        self.server.conns.get_mut(&conn).map_or(delay, |on| behind(&mut on.executed_us, now, delay))
    }

    /// The commit hangs, the session breaks, and the server is the last to notice. Then the next
    /// takeovers break off as well, right after they have taken the lease.
    fn entangle(&mut self, conn: ConnId, step: Do) {
        self.count("entangled");
        // Mostly so long that it ends about when the next takeover but one reads the head.
        let hangs = if self.rng.chance(800) { self.rng.range(15_000, 80_000) } else { self.rng.range(1_000, 500_000) };
        let hangs = self.in_turn(conn, hangs);
        self.after(hangs, Event::Execute(conn, step));
        self.server.lost_grants = self.rng.pick(&[0, 1, 1, 2]);
        let session = (self.server.conns[&conn].node, self.server.conns[&conn].session);
        let conns =
            self.server.conns.iter().filter(|(_, c)| c.open && (c.node, c.session) == session).map(|(id, _)| *id);
        for conn in conns.collect::<Vec<_>>() {
            self.lose(conn);
            self.after(hangs + 300_000, Event::BackendDies(conn));
        }
    }

    pub(crate) fn execute(&mut self, conn: ConnId, step: Do) {
        if !self.is_alive(conn) {
            return self.lose(conn);
        }
        let node = self.server.conns[&conn].node;
        let reply = match step {
            Do::Commit(batch) => match self.db.commit(&batch) {
                Ok(()) => {
                    self.observe_commit(&batch);
                    SessionInput::Committed { batch: batch.number }
                }
                Err(cause) => {
                    trace!(self, "server: batch {} of epoch {} refused: {cause}", batch.number, batch.epoch);
                    self.count(match cause {
                        RefusedBy::Fence => "fence_hit",
                        RefusedBy::Orphaned => "orphaned",
                        RefusedBy::Data(_) if batch.members.len() > 1 => "bisected",
                        RefusedBy::Data(_) => "data_refused",
                    });
                    SessionInput::CommitRefused { batch: batch.number, cause }
                }
            },
            Do::TakeLease => self.take_lease(conn, node),
            Do::RenewLease => {
                let lease = &self.db.tables.lease;
                if self.holds_lease(conn) {
                    let expires_us = self.database_clock() + self.config.lease_ttl_us;
                    self.db.commit_durably(Record::Lease(Lease { expires_us, ..lease.clone() }));
                    SessionInput::Renewed
                } else {
                    self.count("lease_gone");
                    SessionInput::LeaseGone
                }
            }
            Do::ReleaseLease => {
                let lease = self.db.tables.lease.clone();
                if lease.holder == Some(node) {
                    self.db.commit_durably(Record::Lease(Lease { expires_us: Micros::MIN, ..lease }));
                    self.count("lease_released");
                }
                return;
            }
            Do::EnsurePartitions { up_to } => {
                let up_to = (up_to / self.db.partition_size + 1) * self.db.partition_size;
                self.db.commit_durably(Record::Partitions(up_to));
                SessionInput::PartitionsUpTo(up_to)
            }
            Do::ReadHead { epochs_from } => {
                let tables = &self.db.tables;
                SessionInput::Head(JournalHead {
                    batch: tables.seen.batch,
                    position: tables.last_position,
                    recorded_at_us: tables.recorded_at_us,
                    partition_size: self.db.partition_size,
                    partitions_up_to: tables.partitions_up_to,
                    epochs: self.db.epochs(epochs_from),
                })
            }
            Do::Connect | Do::EndBackend(_) | Do::FirstFlush | Do::Flush { .. } => return,
        };
        self.reply(conn, reply);
    }

    pub(crate) fn flush_ends(&mut self, conn: Option<ConnId>, step: Option<Do>, life: u32, log: usize) {
        if life != self.server.life || !self.server.up {
            return;
        }
        self.db.flushed(log);
        let (Some(conn), Some(step)) = (conn, step) else { return };
        if !self.is_alive(conn) {
            return self.lose(conn);
        }
        let reply = match step {
            Do::Flush { slot, batch } => SessionInput::Flushed { slot, batch },
            // The old backend is gone: from here on this session's own may write.
            _ if self.holds_lease(conn) => {
                let lease = self.db.tables.lease.clone();
                self.db.commit_durably(Record::Lease(Lease { backend: Some(self.writer_backend(conn)), ..lease }));
                SessionInput::FirstFlushed
            }
            _ => {
                self.count("lease_gone");
                SessionInput::LeaseGone
            }
        };
        self.reply(conn, reply);
    }

    /// Ends the old backend and answers when it is gone.
    pub(crate) fn wait_gone(&mut self, conn: ConnId, old: Backend) {
        if !self.is_alive(conn) {
            return self.lose(conn);
        }
        let found = self.server.conns.iter().find(|(_, c)| c.alive && c.backend == old).map(|(id, c)| (*id, c.dying));
        match found.filter(|_| matches!(self.db.fence, Fence::First | Fence::Unasked)) {
            None => self.reply(conn, SessionInput::OldGone),
            Some((id, dying)) => {
                if !dying {
                    self.count("old_backend_ended");
                    if let Some(old) = self.server.conns.get_mut(&id) {
                        old.dying = true;
                    }
                    // It finishes what cannot be interrupted, and that can take long.
                    let delay =
                        if self.rng.chance(150) { self.rng.range(5_000, 300_000) } else { self.rng.range(50, 3_000) };
                    self.after(delay, Event::BackendDies(id));
                }
                self.after(10_000, Event::WaitGone(conn, old));
            }
        }
    }

    pub(crate) fn backend_dies(&mut self, conn: ConnId) {
        if let Some(dead) = self.server.conns.get_mut(&conn) {
            dead.alive = false;
            self.lose(conn);
        }
    }

    /// The client hangs up; the server notices when it notices.
    pub(crate) fn close(&mut self, conn: ConnId) {
        if let Some(closed) = self.server.conns.get_mut(&conn) {
            closed.open = false;
            let delay = if !self.healed && self.rng.chance(300) {
                self.rng.range(20_000, 1_500_000)
            } else {
                self.rng.range(100, 10_000)
            };
            self.after(delay, Event::BackendDies(conn));
        }
    }

    /// The network cuts a connection: both ends notice in their own time.
    pub(crate) fn cut(&mut self, conn: ConnId) {
        let Some(cut) = self.server.conns.get(&conn).filter(|c| c.open) else { return };
        let (node, incarnation, session) = (cut.node, cut.incarnation, cut.session);
        self.close(conn);
        let delay = self.rng.range(50, 60_000);
        self.after(delay, Event::Lost { node, incarnation, session });
    }

    pub(crate) fn is_alive(&self, conn: ConnId) -> bool {
        self.server.up && self.server.conns.get(&conn).is_some_and(|c| c.alive)
    }

    /// The node hears that a connection is gone.
    pub(crate) fn lose(&mut self, conn: ConnId) {
        let Some(lost) = self.server.conns.get_mut(&conn).filter(|c| c.open) else { return };
        lost.open = false;
        let (node, incarnation, session) = (lost.node, lost.incarnation, lost.session);
        let delay = self.latency();
        self.after(delay, Event::Lost { node, incarnation, session });
    }

    fn reply(&mut self, conn: ConnId, input: SessionInput) {
        let delay = self.latency();
        self.after(delay, Event::Reply(conn, input));
    }

    pub(crate) fn reply_arrives(&mut self, conn: ConnId, input: SessionInput) {
        if let Some(to) = self.server.conns.get(&conn).filter(|c| c.open) {
            let (node, incarnation, session) = (to.node, to.incarnation, to.session);
            self.deliver(node, incarnation, session, input);
        }
    }

    /// Power fails: what was not flushed is gone, and so is every session.
    pub(crate) fn crash_server(&mut self) {
        if !self.server.up {
            return;
        }
        let lost = self.db.crash(&mut self.rng);
        trace!(self, "server: crash, {lost} batches lost, batch {} is the last", self.db.tables.seen.batch);
        self.count("crashes");
        if lost > 0 {
            self.count("lost_tails");
        }
        self.server.up = false;
        self.server.life += 1;
        let conns = self.server.conns.keys().copied().collect::<Vec<_>>();
        for conn in conns {
            self.backend_dies(conn);
        }
        let delay = self.rng.range(2_000, 300_000);
        self.after(delay, Event::ServerUp);
    }

    pub(crate) fn server_up(&mut self) {
        trace!(self, "server: up again");
        self.server.up = true;
    }

    /// The background process that flushes now and then, so that a lost tail is not always everything.
    pub(crate) fn wal_writer(&mut self) {
        if self.server.up {
            let event = Event::FlushEnds { conn: None, step: None, life: self.server.life, log: self.db.log.len() };
            let delay = self.disk();
            self.after(delay, event);
        }
        let delay = self.rng.range(20_000, 200_000);
        self.after(delay, Event::WalWriter);
    }
}

/// The delay with which something ends that begins now and ends after `last`, which it then is.
fn behind(last: &mut Micros, now: Micros, delay: Micros) -> Micros {
    *last = (now + delay).max(*last + 1);
    *last - now
}
