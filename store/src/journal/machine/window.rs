//! What changed lately: the writer's bounded memory.
//!
//! A request says at which batch its facts were looked up. Facts at or after the window's start
//! need only be compared with what the window remembers; older ones are refused.

use super::types::Ticket;
use crate::journal::append::{ClaimKey, Outcome, StreamKey};
use daybook_domain::TenantId;
use daybook_tlog::{Hash, RightEdge};
use std::collections::{BTreeMap, HashMap, VecDeque};
use uuid::Uuid;

pub(super) type CommandKey = (TenantId, Uuid);

#[derive(Clone, Debug)]
pub(super) struct CommandEntry {
    pub(super) hash_key: [u8; 32],
    pub(super) request_hash: Hash,
    pub(super) outcome: Outcome,
}

/// The changes of a batch under construction.
#[derive(Default, Debug)]
pub(super) struct Overlay {
    pub(super) streams: HashMap<StreamKey, u64>,
    pub(super) commands: HashMap<CommandKey, CommandEntry>,
    /// True: taken; false: released.
    pub(super) claims: HashMap<ClaimKey, bool>,
    /// In order, so that what is forgotten first does not depend on a hash seed.
    pub(super) heads: BTreeMap<TenantId, RightEdge>,
}

struct Changed<T> {
    batch: u64,
    value: T,
}

enum Key {
    Stream(StreamKey),
    Command(CommandKey),
    Claim(ClaimKey),
}

pub(super) struct Window {
    start: u64,
    entries_max: usize,
    streams: HashMap<StreamKey, Changed<u64>>,
    commands: HashMap<CommandKey, Changed<CommandEntry>>,
    claims: HashMap<ClaimKey, Changed<bool>>,
    /// In order of batch; an entry changed again later stands twice and is dropped with the later.
    log: VecDeque<(u64, Key)>,
}

impl Window {
    pub(super) fn new(entries_max: usize) -> Self {
        Window {
            start: u64::MAX,
            entries_max,
            streams: HashMap::new(),
            commands: HashMap::new(),
            claims: HashMap::new(),
            log: VecDeque::new(),
        }
    }

    /// Forgets everything; facts must be from `start` on.
    pub(super) fn reset(&mut self, start: u64) {
        *self = Window::new(self.entries_max);
        self.start = start;
    }

    pub(super) fn start(&self) -> u64 {
        self.start
    }

    pub(super) fn len(&self) -> usize {
        self.log.len()
    }

    /// (version, batch of the last change)
    pub(super) fn stream(&self, key: &StreamKey) -> Option<(u64, u64)> {
        self.streams.get(key).map(|c| (c.value, c.batch))
    }

    pub(super) fn command(&self, key: &CommandKey) -> Option<(&CommandEntry, u64)> {
        self.commands.get(key).map(|c| (&c.value, c.batch))
    }

    /// (taken, batch of the last change)
    pub(super) fn claim(&self, key: &ClaimKey) -> Option<(bool, u64)> {
        self.claims.get(key).map(|c| (c.value, c.batch))
    }

    pub(super) fn advance(&mut self, batch: u64, overlay: &Overlay) {
        for (key, version) in &overlay.streams {
            self.streams.insert(key.clone(), Changed { batch, value: *version });
            self.log.push_back((batch, Key::Stream(key.clone())));
        }
        for (key, entry) in &overlay.commands {
            self.commands.insert(*key, Changed { batch, value: entry.clone() });
            self.log.push_back((batch, Key::Command(*key)));
        }
        for (key, taken) in &overlay.claims {
            self.claims.insert(key.clone(), Changed { batch, value: *taken });
            self.log.push_back((batch, Key::Claim(key.clone())));
        }
        // Whole batches leave, so that the window's start is a batch number.
        while self.log.len() > self.entries_max {
            let Some(oldest) = self.log.front().map(|(b, _)| *b) else { break };
            while let Some((b, key)) = self.log.pop_front_if(|(b, _)| *b == oldest) {
                match key {
                    Key::Stream(k) => drop_if(&mut self.streams, &k, b),
                    Key::Command(k) => drop_if(&mut self.commands, &k, b),
                    Key::Claim(k) => drop_if(&mut self.claims, &k, b),
                }
            }
            self.start = oldest;
        }
    }
}

fn drop_if<K: std::hash::Hash + Eq, T>(map: &mut HashMap<K, Changed<T>>, key: &K, batch: u64) {
    if map.get(key).is_some_and(|c| c.batch == batch) {
        map.remove(key);
    }
}

/// Edges of the trees of tenants that wrote lately. One that changed within the window may not be
/// forgotten: a request from before the change could bring an older edge.
pub(super) struct Heads {
    max: usize,
    edges: HashMap<TenantId, Changed<RightEdge>>,
    log: VecDeque<(u64, TenantId)>,
}

impl Heads {
    pub(super) fn new(max: usize) -> Self {
        Heads { max, edges: HashMap::new(), log: VecDeque::new() }
    }

    pub(super) fn reset(&mut self) {
        *self = Heads::new(self.max);
    }

    pub(super) fn len(&self) -> usize {
        self.log.len()
    }

    pub(super) fn get(&self, tenant: TenantId) -> Option<&RightEdge> {
        self.edges.get(&tenant).map(|c| &c.value)
    }

    pub(super) fn advance(&mut self, batch: u64, changed: BTreeMap<TenantId, RightEdge>, window_start: u64) {
        for (tenant, value) in changed {
            self.edges.insert(tenant, Changed { batch, value });
            self.log.push_back((batch, tenant));
        }
        while self.log.len() > self.max
            && let Some((b, tenant)) = self.log.pop_front_if(|(b, _)| *b <= window_start)
        {
            drop_if(&mut self.edges, &tenant, b);
        }
    }
}

/// Who is told what when the batch is durable.
pub(super) type Answers = Vec<(Ticket, super::types::Answer)>;
