//! What goes wrong, and when: a plan that follows from the seed alone.

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use std::time::Duration;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, clap::ValueEnum)]
pub enum Kind {
    /// kill -9 of a node, started again at once.
    KillNode,
    /// kill -9 of every process of PostgreSQL, started again at once.
    KillPostgres,
    /// Both at the same time.
    KillBoth,
    /// SIGSTOP of a node for longer than its lease, then SIGCONT.
    PauseNode,
    /// SIGSTOP of the PostgreSQL process that carries out the writer's statements, then SIGCONT.
    PauseBackend,
    /// A node's connections to PostgreSQL are reset, and new ones for a while.
    CutDatabase,
    /// Nothing gets through between a node and PostgreSQL for a while, and nobody is told.
    HoleDatabase,
    /// A node's connections to PostgreSQL fall silent for good; new ones work.
    LoseDatabase,
    /// Everything between a node and PostgreSQL comes late.
    SlowDatabase,
    /// A node's connection to NATS is reset, and new ones for a while.
    CutNats,
    /// Nothing gets through between a node and NATS for a while.
    HoleNats,
    /// kill -9 of nats-server, started again after a while.
    KillNats,
    /// The file system with PostgreSQL's data is full for a while.
    FullDisk,
    /// Every flush of PostgreSQL takes 100 ms longer (`commit_delay`).
    SlowFlush,
}

impl Kind {
    /// Those that are tried unless told.
    pub fn usual() -> Vec<Kind> {
        // Only a node's own time-outs tell it that such connections are dead, which takes half a minute: by name only.
        Kind::ALL.into_iter().filter(|kind| *kind != Kind::LoseDatabase).collect()
    }

    pub const ALL: [Kind; 14] = [
        Kind::KillNode,
        Kind::KillPostgres,
        Kind::KillBoth,
        Kind::PauseNode,
        Kind::PauseBackend,
        Kind::CutDatabase,
        Kind::HoleDatabase,
        Kind::LoseDatabase,
        Kind::SlowDatabase,
        Kind::CutNats,
        Kind::HoleNats,
        Kind::KillNats,
        Kind::FullDisk,
        Kind::SlowFlush,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Kind::KillNode => "kill -9 of a node",
            Kind::KillPostgres => "kill -9 of all of PostgreSQL",
            Kind::KillBoth => "kill -9 of both",
            Kind::PauseNode => "a node stopped for longer than its lease",
            Kind::PauseBackend => "the writer's PostgreSQL process stopped",
            Kind::CutDatabase => "node–PostgreSQL cut",
            Kind::HoleDatabase => "node–PostgreSQL black hole",
            Kind::LoseDatabase => "node–PostgreSQL connections lost silently",
            Kind::SlowDatabase => "node–PostgreSQL slow",
            Kind::CutNats => "node–NATS cut",
            Kind::HoleNats => "node–NATS black hole",
            Kind::KillNats => "kill -9 of nats-server",
            Kind::FullDisk => "full disk under PostgreSQL",
            Kind::SlowFlush => "slow flushes (commit_delay 100 ms)",
        }
    }

    pub fn needs_nats(self) -> bool {
        matches!(self, Kind::CutNats | Kind::HoleNats | Kind::KillNats)
    }

    /// How long it lasts, in ms.
    fn lasts(self) -> std::ops::Range<u64> {
        match self {
            Kind::KillNode | Kind::KillPostgres | Kind::KillBoth | Kind::LoseDatabase => 0..1,
            // The lease is 4 s.
            Kind::PauseNode => 4_500..7_000,
            Kind::PauseBackend => 100..3_000,
            Kind::CutDatabase | Kind::CutNats | Kind::KillNats => 0..3_000,
            Kind::HoleDatabase | Kind::HoleNats => 500..9_000,
            Kind::SlowDatabase | Kind::SlowFlush => 1_000..3_000,
            Kind::FullDisk => 1_000..4_000,
        }
    }
}

/// One thing that goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    pub kind: Kind,
    pub node: usize,
    pub lasts: Duration,
}

/// One line of the plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// Acknowledged since everything served again; none: while the last fault is still felt.
    pub acknowledged: u64,
    pub fault: Fault,
    /// Another one while the first lasts or is recovered from, that much later.
    pub second: Option<(Duration, Fault)>,
}

/// So many steps. Each kind comes before any comes again.
pub fn plan(seed: u64, faults: usize, nodes: usize, kinds: &[Kind]) -> Vec<Step> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut bag: Vec<Kind> = Vec::new();
    let mut steps: Vec<Step> = Vec::new();
    while steps.len() < faults && !kinds.is_empty() {
        if bag.is_empty() {
            bag = kinds.to_vec();
            bag.shuffle(&mut random);
        }
        let Some(kind) = bag.pop() else { break };
        let fault = one(kind, nodes, &mut random);
        let second = match random.random_range(0..5) {
            0 => {
                let kind = kinds[random.random_range(0..kinds.len())];
                let after = Duration::from_millis(random.random_range(0..1_500));
                Some((after, one(kind, nodes, &mut random)))
            }
            _ => None,
        };
        let acknowledged = if random.random_range(0..6) == 0 { 0 } else { random.random_range(10..150) };
        steps.push(Step { acknowledged, fault, second });
    }
    steps
}

fn one(kind: Kind, nodes: usize, random: &mut StdRng) -> Fault {
    let lasts = Duration::from_millis(random.random_range(kind.lasts()));
    Fault { kind, node: random.random_range(0..nodes.max(1)), lasts }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_seed_is_a_plan_and_another_seed_another() {
        assert_eq!(plan(1, 40, 2, &Kind::ALL), plan(1, 40, 2, &Kind::ALL));
        assert_ne!(plan(1, 40, 2, &Kind::ALL), plan(2, 40, 2, &Kind::ALL));
    }

    #[test]
    fn every_kind_comes_before_any_comes_again() {
        let steps = plan(7, Kind::ALL.len(), 1, &Kind::ALL);
        let kinds: HashSet<Kind> = steps.iter().map(|step| step.fault.kind).collect();
        assert_eq!(kinds.len(), Kind::ALL.len());
    }
}
