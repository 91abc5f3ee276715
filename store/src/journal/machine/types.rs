//! What goes into the writer and what comes out of it.

pub use crate::journal::append::Seen;
use crate::journal::append::{Append, AppendError, ClaimKey, CommandStamp, NewEvent, Outcome, StreamId};
use crate::system::Micros;
use daybook_domain::TenantId;
use daybook_tlog::{Hash, RightEdge};
use std::fmt;
use std::sync::Arc;

/// Names a request until it is answered.
pub type Ticket = u64;

/// Limits and intervals. Times are µs.
#[derive(Clone, Debug)]
pub struct Config {
    pub batch_events_max: usize,
    pub batch_bytes_max: usize,
    pub queue_requests_max: usize,
    pub queue_bytes_max: usize,
    /// Of the queue, what one tenant may take up: beyond it only this tenant is refused.
    pub tenant_requests_max: usize,
    pub tenant_bytes_max: usize,
    /// Of a batch, what one tenant may take up where others write as well: events, or KiB where these are more.
    /// A single larger request is still placed, as the first of its batch.
    pub batch_share_max: usize,
    /// So many requests that wait are worth a second batch while one is being inserted.
    pub second_min: usize,
    /// Remembered changes (streams, commands, unique keys).
    pub window_entries_max: usize,
    /// Remembered tree edges of tenants.
    pub heads_max: usize,
    /// Connections that flush.
    pub flushers: usize,
    pub lease_ttl_us: Micros,
    pub lease_renew_us: Micros,
    pub retry_us: Micros,
    pub clock_jump_us_max: Micros,
    /// How long the record of a command that produced nothing is kept.
    pub nothing_kept_us: Micros,
    /// A fault planted on purpose, so that the proofs can show that they would find it.
    pub plant: Option<Plant>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            batch_events_max: 4_096,
            batch_bytes_max: 16 << 20,
            queue_requests_max: 16_384,
            queue_bytes_max: 128 << 20,
            tenant_requests_max: 4_096,
            tenant_bytes_max: 32 << 20,
            batch_share_max: 32,
            second_min: 32,
            window_entries_max: 200_000,
            heads_max: 50_000,
            flushers: 8,
            lease_ttl_us: 4_000_000,
            lease_renew_us: 1_000_000,
            retry_us: 50_000,
            clock_jump_us_max: 5_000_000,
            nothing_kept_us: 24 * 3_600 * 1_000_000,
            plant: None,
        }
    }
}

/// Defects that the simulation and the crash campaign must find.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plant {
    /// Answers as soon as a batch is committed.
    AnswerBeforeFlush,
    /// Keeps trusting what was cached before a session was lost.
    StaleCache,
}

/// An append together with what was looked up for it. Everything in it was valid at `seen`:
/// the streams stood at their expected versions, the command id was unused, the keys were free.
#[derive(Debug)]
pub struct Prepared {
    pub ticket: Ticket,
    pub append: Append,
    pub seen: Seen,
    /// The tenant's tree at `seen`, when it was looked up.
    pub head: Option<RightEdge>,
    /// SHA-256 of payload and of metadata, per stream and event: hashed by the caller's task, so
    /// that the writer does not have to.
    pub digests: Vec<Vec<(Hash, Hash)>>,
    /// HMAC(hash_key, digest) of the command.
    pub request_hash: Hash,
    /// Not to be appended: asks whether an earlier attempt of the same command was. A refusal of a repeated
    /// command waits for that, or it would be given while the first attempt is still on its way.
    pub asks: bool,
}

/// One event's row; its texts stay in the request it came from.
#[derive(Clone, Debug)]
pub struct EventRow {
    pub position: u64,
    pub tenant_position: u64,
    pub sequence: u64,
    pub leaf_hash: Hash,
    /// Member, stream and event index.
    pub source: (usize, usize, usize),
}

#[derive(Clone, Debug)]
pub struct HeadRow {
    pub tenant: TenantId,
    pub last_position: u64,
    pub edge: RightEdge,
}

/// One append transaction.
#[derive(Debug)]
pub struct Batch {
    pub number: u64,
    pub epoch: u64,
    /// It was sent while its predecessor was in flight, and must not be committed without it.
    pub follows: bool,
    pub first_position: u64,
    /// `first_position - 1` when there are no events.
    pub last_position: u64,
    pub recorded_at_us: Micros,
    pub members: Vec<Arc<Prepared>>,
    pub outcomes: Vec<Outcome>,
    pub events: Vec<EventRow>,
    pub heads: Vec<HeadRow>,
    /// When records of commands without events expire.
    pub nothing_expires_us: Micros,
}

impl Batch {
    pub fn empty(number: u64, epoch: u64, first_position: u64, recorded_at_us: Micros) -> Self {
        Batch {
            number,
            epoch,
            follows: false,
            first_position,
            last_position: first_position - 1,
            recorded_at_us,
            members: Vec::new(),
            outcomes: Vec::new(),
            events: Vec::new(),
            heads: Vec::new(),
            nothing_expires_us: recorded_at_us,
        }
    }

    pub fn source(&self, row: &EventRow) -> (&Append, &StreamId, &NewEvent) {
        let (member, stream, event) = row.source;
        let append = &self.members[member].append;
        let stream = &append.streams[stream];
        (append, &stream.stream, &stream.events[event])
    }

    /// Command, its keyed hash and its outcome.
    pub fn commands(&self) -> impl Iterator<Item = (&CommandStamp, &Hash, &Outcome)> {
        self.members.iter().zip(&self.outcomes).map(|(m, o)| (&m.append.command, &m.request_hash, o))
    }

    pub fn claims(&self) -> impl Iterator<Item = (&ClaimKey, &StreamId, &Outcome)> {
        self.members
            .iter()
            .zip(&self.outcomes)
            .flat_map(|(m, o)| m.append.claims.iter().map(move |(key, stream)| (key, stream, o)))
    }

    pub fn releases(&self) -> impl Iterator<Item = &ClaimKey> {
        self.members.iter().flat_map(|m| &m.append.releases)
    }
}

/// A server process of PostgreSQL: the pid alone may have been given to another one since.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Backend {
    pub pid: i32,
    pub started_us: Micros,
}

/// The end of the journal, read when nobody else can write.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct JournalHead {
    pub batch: u64,
    pub position: u64,
    pub recorded_at_us: Micros,
    pub partition_size: u64,
    /// First position for which there is no partition yet.
    pub partitions_up_to: u64,
    /// (batch, epoch) from the number that was asked for.
    pub epochs: Vec<(u64, u64)>,
}

#[derive(Debug)]
pub enum Input {
    /// Time passed.
    Tick,
    Request(Box<Prepared>),
    /// Finish what is queued, then stop.
    Shutdown,
    /// Nobody holds the lease, as far as somebody has seen: worth asking for before it was to run out.
    LeaseFree,
    /// A reply of the session with this number.
    Session(u64, SessionInput),
}

#[derive(Debug)]
pub enum SessionInput {
    Connected,
    LeaseGranted {
        epoch: u64,
        previous: Option<Backend>,
    },
    LeaseHeld {
        retry_in_us: Micros,
    },
    OldGone,
    FirstFlushed,
    Head(JournalHead),
    Committed {
        batch: u64,
    },
    CommitRefused {
        batch: u64,
        cause: RefusedBy,
    },
    Flushed {
        slot: usize,
        batch: u64,
    },
    Renewed,
    LeaseGone,
    PartitionsUpTo(u64),
    /// A connection failed, or a step's outcome is unknown.
    Lost(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefusedBy {
    /// The batch number exists: another writer is at work.
    Fence,
    /// The batch that it follows was not committed in this epoch.
    Orphaned,
    /// Some row was refused.
    Data(String),
}

impl fmt::Display for RefusedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RefusedBy::Fence => f.write_str("the batch number is taken"),
            RefusedBy::Orphaned => f.write_str("the batch before it was refused"),
            RefusedBy::Data(reason) => f.write_str(reason),
        }
    }
}

#[derive(Debug)]
pub enum Effect {
    Do(u64, Do),
    /// Close all connections of this session.
    HangUp(u64),
    Answer(Ticket, Answer),
    /// Everything up to this batch and position survives any crash.
    Durable {
        seen: Seen,
        position: u64,
    },
    Leading(Seen),
    NotLeading,
    Stopped(String),
}

#[derive(Debug, Clone)]
pub enum Do {
    /// Open the writer's, the flushers' and the control connection.
    Connect,
    TakeLease,
    EndBackend(Backend),
    FirstFlush,
    ReadHead {
        epochs_from: u64,
    },
    Commit(Arc<Batch>),
    /// Begin a synchronous commit now; its return makes `batch` durable.
    Flush {
        slot: usize,
        batch: u64,
    },
    RenewLease,
    EnsurePartitions {
        up_to: u64,
    },
    ReleaseLease,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Appended, or a repeat of what was appended: durable either way.
    Done(Outcome),
    Refused(AppendError),
    /// Of the command that was asked about nothing was written since, and no earlier attempt is on its way.
    Nothing,
    /// Nothing was written; look up again and resubmit.
    LookAgain,
    Overloaded,
    /// Nothing was written.
    Unavailable(String),
    /// The database refused this append alone.
    Failed(String),
    Unknown,
}

impl Answer {
    /// A word for it.
    pub fn kind(&self) -> &'static str {
        match self {
            Answer::Done(outcome) if outcome.deduplicated => "repeated",
            Answer::Done(_) => "done",
            Answer::Refused(_) => "refused",
            Answer::Nothing => "nothing",
            Answer::LookAgain => "look_again",
            Answer::Overloaded => "overloaded",
            Answer::Unavailable(_) => "unavailable",
            Answer::Failed(_) => "failed",
            Answer::Unknown => "unknown",
        }
    }

    /// What becomes of this answer when the batch it rests on did not survive.
    pub(crate) fn when_lost(self) -> Answer {
        match self {
            Answer::Done(outcome) if !outcome.deduplicated => {
                Answer::Unavailable("the append was lost in a crash before it was durable; nothing was written".into())
            }
            _ => Answer::LookAgain,
        }
    }
}
