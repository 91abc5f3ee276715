//! How far the relay has come, kept in PostgreSQL so that whoever relays next goes on from there.

use daybook_store::database::{Database, DatabaseError, Pool, Role};
use daybook_store::system::SharedSystem;

/// A checkpoint is written rarely and must outlive a crash: the stream is read from there on.
const SETTINGS: &str = "-c synchronous_commit=on -c lock_timeout=5s -c statement_timeout=10s";

const LOAD: &str = "select position, sequence from projection.relays where stream = $1 and created = $2";

/// Never backwards: a relay that was replaced may still have something to say.
const SAVE: &str = "
    insert into projection.relays as r (stream, created, position, sequence, updated_at) values ($1, $2, $3, $4, $5)
    on conflict (stream, created) do update
    set position = excluded.position, sequence = excluded.sequence, updated_at = excluded.updated_at
    where r.position < excluded.position";

/// A stream of the message server: its name, and when it was made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct StreamKey {
    pub(super) name: String,
    pub(super) created: String,
}

/// What is done with: everything up to the journal position, the last message at the stream's sequence.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Checkpoint {
    pub(super) position: u64,
    pub(super) sequence: u64,
}

pub(super) struct Checkpoints {
    pool: Pool,
    system: SharedSystem,
}

impl Checkpoints {
    pub(super) fn new(database: &Database, system: SharedSystem) -> Self {
        Checkpoints { pool: database.pool(Role::Projector, 1, SETTINGS), system }
    }

    /// The beginning, for a stream that is new.
    pub(super) async fn load(&self, stream: &StreamKey) -> Result<Checkpoint, DatabaseError> {
        let rows = self.pool.query(LOAD, &[&stream.name, &stream.created]).await?;
        Ok(rows.first().map_or(Checkpoint::default(), |row| Checkpoint {
            position: unsigned(row.get(0)),
            sequence: unsigned(row.get(1)),
        }))
    }

    pub(super) async fn save(&self, stream: &StreamKey, at: Checkpoint) -> Result<(), DatabaseError> {
        let now = self.system.utc();
        let (position, sequence) = (signed(at.position), signed(at.sequence));
        self.pool.query(SAVE, &[&stream.name, &stream.created, &position, &sequence, &now]).await?;
        Ok(())
    }
}

/// A number from the database that is never negative there.
fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

/// A number for the database; the journal ends long before this could saturate.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
