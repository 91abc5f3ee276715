//! Followers: one beside each writer, told by it what is durable, and some that flush for themselves.

use crate::random::Rng;
use crate::world::{Event, World};
use daybook_store::journal::follow::Cursor;
use uuid::Uuid;

pub(crate) struct Follower {
    pub(crate) id: usize,
    /// The node whose writer tells it what is durable.
    node: Option<usize>,
    /// Kept across restarts, as its consumer keeps its checkpoint.
    pub(crate) cursor: Cursor,
    page: u64,
    read: u64,
    pub(crate) handed: Vec<Uuid>,
}

/// What a read brought, on a session in this life of the server.
pub(crate) struct Rows {
    life: u32,
    events: Vec<(u64, Uuid)>,
    /// The length of the log when the flush on the same session began.
    flushed: Option<usize>,
}

impl Follower {
    pub(crate) fn new(id: usize, nodes: usize, rng: &mut Rng) -> Self {
        let node = (id < nodes).then_some(id);
        Follower { id, node, cursor: Cursor { position: 0 }, page: rng.pick(&[2, 7, 100]), read: 0, handed: Vec::new() }
    }

    pub(crate) fn is_remote(&self) -> bool {
        self.node.is_none()
    }

    pub(crate) fn host(&self) -> Option<usize> {
        self.node
    }
}

impl World {
    pub(crate) fn follower_polls(&mut self, follower: usize) {
        let at = &mut self.followers[follower];
        let durable = at.node.map_or(u64::MAX, |node| self.nodes[node].durable.position);
        at.read += 1;
        let read = at.read;
        if at.cursor.wanted(durable, at.page).is_some() {
            let delay = self.latency();
            self.after(delay, Event::FollowerRead(follower, read));
        } else {
            self.poll_later(follower);
        }
    }

    fn poll_later(&mut self, follower: usize) {
        let delay = self.rng.range(2_000, 50_000);
        self.after(delay, Event::FollowerPoll(follower));
    }

    pub(crate) fn follower_reads(&mut self, follower: usize, read: u64) {
        let at = &self.followers[follower];
        let durable = at.node.map_or(u64::MAX, |node| self.nodes[node].durable.position);
        let Some((after, up_to)) = at.cursor.wanted(durable, at.page).filter(|_| self.server.up) else {
            return self.poll_later(follower);
        };
        let remote = at.is_remote();
        let events = self.db.tables.events.range(after + 1..=up_to).map(|(p, id)| (*p, *id)).collect::<Vec<_>>();
        if events.is_empty() {
            return self.poll_later(follower);
        }
        let rows = Rows { life: self.server.life, events, flushed: None };
        let delay = self.latency();
        self.after(
            delay,
            if remote { Event::FollowerFlush(follower, read, rows) } else { Event::FollowerRows(follower, read, rows) },
        );
    }

    /// On the same session as the read: it fails when the server has crashed in between.
    pub(crate) fn follower_flushes(&mut self, follower: usize, read: u64, rows: Rows) {
        if !self.server.up || rows.life != self.server.life {
            self.count("follower_lost_session");
            return self.poll_later(follower);
        }
        let rows = Rows { flushed: Some(self.db.log.len()), ..rows };
        let delay = self.rng.range(200, 4_000);
        self.after(delay, Event::FollowerRows(follower, read, rows));
    }

    pub(crate) fn follower_gets(&mut self, follower: usize, read: u64, rows: Rows) {
        if self.followers[follower].read != read {
            return;
        }
        if let Some(log) = rows.flushed {
            if !self.server.up || rows.life != self.server.life {
                self.count("follower_lost_session");
                return self.poll_later(follower);
            }
            self.db.flushed(log);
        }
        if let Err(hole) = self.followers[follower].cursor.accept(rows.events.iter().map(|e| e.0)) {
            return self.fail(format!("follower {follower}: {hole}"));
        }
        for (position, id) in rows.events {
            self.count("handed_out");
            self.followers[follower].handed.push(id);
            self.history.handed.insert(position, id);
            if self.settings.peek && position > self.db.durable_position() {
                return self
                    .fail(format!("follower {follower} was handed position {position}, which a crash would lose"));
            }
        }
        self.after(100, Event::FollowerPoll(follower));
    }
}
