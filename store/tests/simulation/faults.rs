//! What goes wrong, planned from the seed.

use crate::node::SKEW_US_MAX;
use crate::world::{Event, HEAL_AT, World, trace};
use daybook_store::system::Micros;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// The database server loses power at a moment at which it has something to lose; gives up
    /// waiting for one after so many looks.
    Crash {
        looks: u32,
    },
    /// One connection of a node's session is cut.
    Cut(usize),
    /// All connections of a node's session are cut.
    CutAll(usize),
    /// A commit hangs while its node loses the session, and the takeovers after it do not go well.
    Tangle,
    /// The process stands still, its messages in the network do not.
    Pause(usize),
    Kill(usize),
    ShutDown(usize),
    /// A clock moves by less than a writer minds.
    ClockSlips(usize),
    /// A clock moves by more than a writer may accept.
    ClockJumps(usize),
    /// The database's clock moves: leases end early or late.
    DatabaseClock,
    /// One tenant sends more than fits into a batch.
    Flood(usize),
}

const KINDS: usize = 32;

/// How often all callers come at once.
const RUSH_US: Micros = 120_000;

impl World {
    /// Time to the next rush.
    pub(crate) fn until_rush(&self) -> Micros {
        RUSH_US - self.now % RUSH_US
    }

    pub(crate) fn plan_faults(&mut self) {
        // Some seeds are about one thing only.
        let favourite = self.rng.below(KINDS);
        for _ in 0..self.rng.range(2, 16) {
            let kind = if self.rng.chance(400) { favourite } else { self.rng.below(KINDS) };
            let node = self.rng.below(self.nodes.len());
            let fault = match kind {
                0..=6 => Fault::Crash { looks: 2_000 },
                7..=8 => Fault::Cut(node),
                9..=11 => Fault::CutAll(node),
                12..=14 => Fault::Pause(node),
                15..=17 => Fault::Kill(node),
                18 => Fault::ShutDown(node),
                19 => Fault::ClockSlips(node),
                20..=22 => Fault::ClockJumps(node),
                23 => Fault::DatabaseClock,
                24..=27 => Fault::Flood(node),
                _ => Fault::Tangle,
            };
            let at = self.rng.range(30_000, HEAL_AT - 300_000);
            // Most faults meet a rush.
            let at = if self.rng.chance(700) { at - at % RUSH_US + RUSH_US + self.rng.range(0, 12_000) } else { at };
            self.after(at, Event::Fault(fault));
            // Trouble comes in company.
            if self.rng.chance(400) {
                let soon = at + self.rng.range(0, 8_000);
                let node = self.leader().unwrap_or(node);
                let other = self.rng.pick(&[
                    Fault::CutAll(node),
                    Fault::Crash { looks: 0 },
                    Fault::Pause(node),
                    Fault::Kill(node),
                ]);
                self.after(soon, Event::Fault(other));
            }
        }
    }

    fn leader(&self) -> Option<usize> {
        self.nodes.iter().find(|n| n.alive && n.leading.is_some()).map(|n| n.id)
    }

    pub(crate) fn strike(&mut self, fault: Fault) {
        if self.healed {
            return;
        }
        // Most trouble is worth more where the writing is done.
        let aim =
            |node: usize, world: &mut World| if world.rng.chance(600) { world.leader().unwrap_or(node) } else { node };
        if !matches!(fault, Fault::Crash { looks: 1.. }) {
            trace!(self, "fault: {fault:?}");
        }
        match fault {
            Fault::Crash { looks } if looks > 0 && self.db.durable == self.db.log.len() => {
                let delay = self.rng.range(50, 400);
                self.after(delay, Event::Fault(Fault::Crash { looks: looks - 1 }));
            }
            Fault::Crash { .. } => self.crash_server(),
            Fault::Cut(node) | Fault::CutAll(node) => {
                let node = aim(node, self);
                let Some(session) = self.nodes[node].session.clone() else { return };
                self.count("cuts");
                let conns = session.conns().collect::<Vec<_>>();
                let one = self.rng.below(conns.len());
                for (n, conn) in conns.into_iter().enumerate() {
                    if n == one || matches!(fault, Fault::CutAll(_)) {
                        self.cut(conn);
                    }
                }
            }
            Fault::Tangle => self.server.tangle = true,
            Fault::Pause(node) => {
                let node = aim(node, self);
                if self.nodes[node].alive && self.nodes[node].paused_until.is_none() {
                    self.count("pauses");
                    let length = self.rng.range(1_000, 1_200_000);
                    self.nodes[node].paused_until = Some(self.now + length);
                    self.after(length, Event::Resume(node));
                }
            }
            Fault::Kill(node) => {
                let node = aim(node, self);
                self.count("kills");
                self.kill(node);
            }
            Fault::ShutDown(node) => {
                let node = aim(node, self);
                if self.nodes[node].paused_until.is_none() {
                    self.shut_down(node);
                }
            }
            Fault::ClockSlips(node) => {
                let by = self.rng.range(-900_000, 900_000);
                let offset = &mut self.nodes[node].wall_offset_us;
                *offset = (*offset + by).clamp(-SKEW_US_MAX, SKEW_US_MAX);
            }
            Fault::ClockJumps(node) => {
                let node = aim(node, self);
                // Two jumps that nobody saw in between can add up to a slip.
                if self.nodes[node].wall_offset_us.abs() > SKEW_US_MAX {
                    return;
                }
                // A clock that is already ahead when a writer begins is not a jump: nothing could tell.
                let by = self.rng.range(6_000_000, 60_000_000);
                let ahead = self.nodes[node].writer.is_leading() && self.rng.chance(500);
                self.nodes[node].wall_offset_us += if ahead { by } else { -by };
                self.count("clock_jumps");
            }
            Fault::DatabaseClock => {
                let by = self.rng.range(-300_000, 500_000);
                self.server.clock_offset_us = (self.server.clock_offset_us + by).clamp(-SKEW_US_MAX, SKEW_US_MAX);
            }
            Fault::Flood(node) => {
                let node = aim(node, self);
                self.flood(node);
            }
        }
    }

    pub(crate) fn resume(&mut self, node: usize) {
        if self.nodes[node].paused_until.is_some_and(|until| until <= self.now) {
            self.nodes[node].paused_until = None;
        }
    }

    /// No more faults; what is down comes up by itself.
    pub(crate) fn heal(&mut self) {
        trace!(self, "healed");
        self.healed = true;
        for node in &mut self.nodes {
            node.paused_until = None;
        }
    }
}
