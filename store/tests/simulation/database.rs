//! A model of the journal's tables with the guarantees of PostgreSQL's log: a commit is visible at
//! once and survives a crash only once a flush that began after it has ended.
//!
//! It refuses what the constraints of the first migration refuse, and nothing else: a hole, a lie
//! or a stale decision goes in, and the auditor has to find it.

use crate::random::{Rng, mix};
use daybook_domain::TenantId;
use daybook_store::journal::machine::{Backend, Batch, RefusedBy, Ticket};
use daybook_store::journal::{Append, ClaimKey, CommandStamp, Outcome, Seen, StreamKey};
use daybook_store::keys::keyed_hash;
use daybook_store::system::Micros;
use daybook_tlog::RightEdge;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use uuid::Uuid;

/// Metadata of an event that the database refuses.
pub(crate) const POISON: &str = "poison";

#[derive(Clone, Default, Debug)]
pub(crate) struct Lease {
    pub(crate) epoch: u64,
    pub(crate) holder: Option<usize>,
    pub(crate) backend: Option<Backend>,
    pub(crate) expires_us: Micros,
}

/// One committed transaction.
#[derive(Clone)]
pub(crate) enum Record {
    Batch(Arc<Batch>),
    Lease(Lease),
    Partitions(u64),
}

/// Version of a stream and a digest of all its events: the state that a decision is based on.
pub(crate) type State = (u64, u64);

/// The state after one more event.
pub(crate) fn fold(state: State, event: Uuid) -> State {
    let (high, low) = event.as_u64_pair();
    (state.0 + 1, mix(state.1 ^ mix(high) ^ low))
}

#[derive(Clone)]
pub(crate) struct CommandRow {
    pub(crate) hash_key: [u8; 32],
    pub(crate) request_hash: [u8; 32],
    pub(crate) outcome: Outcome,
    /// Which commit brought it.
    pub(crate) index: usize,
}

impl CommandRow {
    pub(crate) fn is_same(&self, stamp: &CommandStamp) -> bool {
        keyed_hash(&self.hash_key, &stamp.digest) == self.request_hash
    }
}

#[derive(Default)]
pub(crate) struct Tables {
    pub(crate) seen: Seen,
    pub(crate) last_position: u64,
    pub(crate) recorded_at_us: Micros,
    batches: BTreeMap<u64, u64>,
    /// Position to event id.
    pub(crate) events: BTreeMap<u64, Uuid>,
    pub(crate) streams: BTreeMap<StreamKey, State>,
    pub(crate) commands: BTreeMap<(TenantId, Uuid), CommandRow>,
    pub(crate) claims: BTreeSet<ClaimKey>,
    pub(crate) heads: BTreeMap<TenantId, RightEdge>,
    pub(crate) lease: Lease,
    pub(crate) partitions_up_to: u64,
    /// Journal position after each commit.
    positions: Vec<u64>,
}

/// What keeps two writers apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fence {
    /// The old writer's backend is ended, and a taken batch number is the first thing that is noticed.
    First,
    /// Only the batch number: nobody ends an old backend.
    Alone,
    /// As `Alone`, but any other collision is reported in its place: what one statement with
    /// independent parts does.
    Last,
    /// As `First`, but a batch that was sent after another does not ask for it.
    Unasked,
    /// Neither backend nor batch number.
    Absent,
}

pub(crate) struct SimDatabase {
    pub(crate) log: Vec<Record>,
    /// Commits that survive a crash.
    pub(crate) durable: usize,
    pub(crate) tables: Tables,
    pub(crate) fence: Fence,
    pub(crate) partition_size: u64,
}

/// What a look-up before an append tells.
#[derive(Clone)]
pub(crate) struct Facts {
    pub(crate) seen: Seen,
    pub(crate) versions: Vec<State>,
    pub(crate) earlier: Option<CommandRow>,
    pub(crate) taken: Vec<bool>,
    pub(crate) head: RightEdge,
}

impl SimDatabase {
    pub(crate) fn new(fence: Fence, partition_size: u64) -> Self {
        let tables = Tables { partitions_up_to: partition_size, ..Tables::default() };
        SimDatabase { log: Vec::new(), durable: 0, tables, fence, partition_size }
    }

    /// Commits, or says which constraint forbids it. Visible at once, not durable.
    ///
    /// # Errors
    /// The refusal; nothing is changed then.
    pub(crate) fn commit(&mut self, batch: &Arc<Batch>) -> Result<(), RefusedBy> {
        let taken = self.fence != Fence::Absent && self.tables.batches.contains_key(&batch.number);
        let data = self.tables.collision(batch);
        // As in the statement: looked at before the batch's row meets one of its number.
        let predecessor = self.tables.batches.get(&(batch.number - 1));
        let asks = !matches!(self.fence, Fence::Absent | Fence::Unasked);
        if batch.follows && asks && predecessor != Some(&batch.epoch) {
            return Err(RefusedBy::Orphaned);
        }
        match (self.fence, taken, data) {
            (Fence::Last, true, Some(data)) => return Err(RefusedBy::Data(data)),
            (_, true, _) => return Err(RefusedBy::Fence),
            (_, false, Some(data)) => return Err(RefusedBy::Data(data)),
            (_, false, None) => {}
        }
        self.write(Record::Batch(batch.clone()));
        Ok(())
    }

    /// A synchronous commit: everything before it is durable with it.
    pub(crate) fn commit_durably(&mut self, record: Record) {
        self.write(record);
        self.durable = self.log.len();
    }

    fn write(&mut self, record: Record) {
        self.tables.apply(&record, self.log.len());
        self.log.push(record);
    }

    pub(crate) fn flushed(&mut self, up_to: usize) {
        self.durable = self.durable.max(up_to.min(self.log.len()));
    }

    /// Loses what was not flushed, but for some that happened to be on disk already. Returns how
    /// many batches are gone.
    pub(crate) fn crash(&mut self, rng: &mut Rng) -> usize {
        let survivors = self.durable + rng.below(self.log.len() - self.durable + 1);
        let lost = self.log[survivors..].iter().filter(|r| matches!(r, Record::Batch(_))).count();
        self.log.truncate(survivors);
        self.durable = survivors;
        self.tables = Tables { partitions_up_to: self.partition_size, ..Tables::default() };
        for (index, record) in self.log.iter().enumerate() {
            self.tables.apply(record, index);
        }
        lost
    }

    /// The last journal position that survives a crash.
    pub(crate) fn durable_position(&self) -> u64 {
        self.durable.checked_sub(1).map_or(0, |last| self.tables.positions[last])
    }

    pub(crate) fn facts(&self, append: &Append) -> Facts {
        let tables = &self.tables;
        let streams = append.streams.iter().map(|s| &s.stream).chain(append.reads.iter().map(|r| &r.0));
        Facts {
            seen: tables.seen,
            versions: streams.map(|s| tables.state(&StreamKey { tenant: append.tenant, stream: s.clone() })).collect(),
            earlier: tables.commands.get(&(append.command.tenant, append.command.id)).cloned(),
            taken: append.claims.iter().map(|(c, _)| tables.claims.contains(c)).collect(),
            head: tables.heads.get(&append.tenant).cloned().unwrap_or_default(),
        }
    }

    /// (batch, epoch) from a number on.
    pub(crate) fn epochs(&self, from: u64) -> Vec<(u64, u64)> {
        self.tables.batches.range(from..).map(|(b, e)| (*b, *e)).collect()
    }

    /// Commit that carries a submission, if any.
    pub(crate) fn tickets(&self) -> impl Iterator<Item = Ticket> {
        self.log
            .iter()
            .filter_map(|r| if let Record::Batch(b) = r { Some(b) } else { None })
            .flat_map(|b| b.members.iter().map(|m| m.ticket))
    }
}

impl Tables {
    pub(crate) fn state(&self, key: &StreamKey) -> State {
        self.streams.get(key).copied().unwrap_or_default()
    }

    fn collision(&self, batch: &Batch) -> Option<String> {
        let mut sequences = BTreeMap::new();
        for (row, position) in batch.events.iter().zip(batch.first_position..) {
            let (append, stream, event) = batch.source(row);
            if event.metadata == POISON {
                return Some("unsupported Unicode escape sequence (22P05)".into());
            }
            if self.events.contains_key(&position) {
                return Some("events_pkey (23505)".into());
            }
            if position >= self.partitions_up_to {
                return Some("no partition of relation \"events\" found for row (23514)".into());
            }
            let key = StreamKey { tenant: append.tenant, stream: stream.clone() };
            let last = sequences.entry(key).or_insert_with_key(|key| self.state(key).0);
            if row.sequence <= *last {
                return Some("stream_events_pkey (23505)".into());
            }
            *last = row.sequence;
        }
        if batch.heads.iter().any(|h| self.heads.get(&h.tenant).is_some_and(|e| e.size() >= h.edge.size())) {
            return Some("tenant_heads_pkey (23505)".into());
        }
        let mut commands = BTreeSet::new();
        for (stamp, ..) in batch.commands() {
            let key = (stamp.tenant, stamp.id);
            if self.commands.contains_key(&key) || !commands.insert(key) {
                return Some("commands_pkey (23505)".into());
            }
        }
        // Deletes and inserts of one statement see one snapshot: a key released here is still taken.
        let mut claims = BTreeSet::new();
        for (key, ..) in batch.claims() {
            if self.claims.contains(key) || !claims.insert(key) {
                return Some("claims_pkey (23505)".into());
            }
        }
        None
    }

    fn apply(&mut self, record: &Record, index: usize) {
        match record {
            Record::Lease(lease) => self.lease = lease.clone(),
            Record::Partitions(up_to) => self.partitions_up_to = self.partitions_up_to.max(*up_to),
            Record::Batch(batch) => self.apply_batch(batch, index),
        }
        self.positions.push(self.last_position);
    }

    fn apply_batch(&mut self, batch: &Batch, index: usize) {
        // Look-ups name the row with the highest number.
        if batch.number >= self.seen.batch {
            self.seen = Seen { epoch: batch.epoch, batch: batch.number };
            self.last_position = batch.last_position;
            self.recorded_at_us = batch.recorded_at_us;
        }
        self.batches.insert(batch.number, batch.epoch);
        for (row, position) in batch.events.iter().zip(batch.first_position..) {
            let (append, stream, event) = batch.source(row);
            self.events.insert(position, event.event_id);
            let state = self.streams.entry(StreamKey { tenant: append.tenant, stream: stream.clone() }).or_default();
            *state = (row.sequence, fold(*state, event.event_id).1);
        }
        for head in &batch.heads {
            self.heads.insert(head.tenant, head.edge.clone());
        }
        for (stamp, request_hash, outcome) in batch.commands() {
            let (hash_key, request_hash, outcome) = (stamp.hash_key, *request_hash, outcome.clone());
            self.commands.insert((stamp.tenant, stamp.id), CommandRow { hash_key, request_hash, outcome, index });
        }
        for key in batch.releases() {
            self.claims.remove(key);
        }
        for (key, ..) in batch.claims() {
            self.claims.insert(key.clone());
        }
    }
}
