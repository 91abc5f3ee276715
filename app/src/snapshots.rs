//! Snapshots of long streams: written in the background after an answer, read before a load.
//!
//! A cache, and treated as one: whatever is wrong with a snapshot, the stream is folded from its first event. It refuses to
//! hold anybody up: nothing is written in an append's transaction, and what the queue has no room for is not kept.

use daybook_domain::{EventSourced, SnapshotForm};
use daybook_store::journal::{Journal, Seen, StreamKey};
use daybook_store::keys::Sealer;
use daybook_store::snapshots::{Snapshot, Snapshots as Table};
use daybook_store::system::SharedSystem;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use uuid::Uuid;

/// A state is kept about every so many events of its stream.
pub const SNAPSHOT_EVERY: u64 = 200;

/// Snapshots that wait to be written.
const QUEUE_MAX: usize = 256;

/// What a snapshot is made of. The state itself is turned into text by whoever writes it down.
struct Taken {
    key: StreamKey,
    sequence: u64,
    event_id: Uuid,
    shape: u32,
    seen: Seen,
    write: Box<dyn FnOnce() -> Result<String, serde_json::Error> + Send>,
}

enum Job {
    Keep(Taken),
    /// Named by its id: another may have taken its place.
    Forget(StreamKey, Uuid),
}

/// A state out of a snapshot, not yet compared with the journal.
pub(crate) struct Found<A> {
    pub(crate) state: A,
    pub(crate) sequence: u64,
    /// The event that must stand at that sequence.
    pub(crate) event_id: Uuid,
    pub(crate) id: Uuid,
}

/// The snapshots of one journal. Cloning is cheap.
#[derive(Clone)]
pub struct Snapshots {
    table: Arc<Table>,
    sealer: Sealer,
    jobs: mpsc::Sender<Job>,
    every: u64,
}

impl Snapshots {
    /// Starts what writes them; it ends when the last handle is gone. `every`: see [`SNAPSHOT_EVERY`].
    pub fn start(
        table: Table,
        journal: Journal,
        sealer: Sealer,
        system: SharedSystem,
        every: u64,
    ) -> (Self, JoinHandle<()>) {
        let (jobs, queue) = mpsc::channel(QUEUE_MAX);
        let table = Arc::new(table);
        let writer = Writer { table: table.clone(), journal, sealer: sealer.clone(), system };
        let task = tokio::spawn(writer.run(queue));
        (Snapshots { table, sealer, jobs, every: every.max(1) }, task)
    }

    /// The snapshot of a stream. None is as good as one that cannot be read.
    pub(crate) async fn find<A: EventSourced>(&self, key: &StreamKey, form: SnapshotForm<A>) -> Option<Found<A>> {
        let snapshot = match self.table.find(key).await {
            Ok(found) => found.filter(|snapshot| snapshot.shape == form.version)?,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "a snapshot cannot be looked up");
                return None;
            }
        };
        let opened = self.sealer.open(key.tenant, snapshot.id, &snapshot.state).await.ok();
        let Some(state) = opened.and_then(|text| form.read(&text).ok()) else {
            tracing::warn!(stream.kind = key.stream.kind, stream.id = %key.stream.id, "a snapshot is damaged");
            self.forget(key, snapshot.id);
            return None;
        };
        Some(Found { state, sequence: snapshot.sequence, event_id: snapshot.event_id, id: snapshot.id })
    }

    /// Removes one that is of no use.
    pub(crate) fn forget(&self, key: &StreamKey, id: Uuid) {
        // Whoever finds it next will try again.
        let _ = self.jobs.try_send(Job::Forget(key.clone(), id));
    }

    /// Keeps a state, if enough has happened since `before`, up to which a snapshot may reach.
    pub(crate) fn offer<A>(&self, key: &StreamKey, state: &A, (before, version): (u64, u64), event_id: Uuid, seen: Seen)
    where
        A: EventSourced + Send + 'static,
    {
        let Some(form) = A::SNAPSHOT.filter(|_| before / self.every < version / self.every) else { return };
        // Nothing is prepared for a queue that is full.
        let Ok(place) = self.jobs.try_reserve() else { return };
        let state = state.clone();
        place.send(Job::Keep(Taken {
            key: key.clone(),
            sequence: version,
            event_id,
            shape: form.version,
            seen,
            write: Box::new(move || form.write(&state)),
        }));
    }
}

struct Writer {
    table: Arc<Table>,
    journal: Journal,
    sealer: Sealer,
    system: SharedSystem,
}

impl Writer {
    async fn run(self, mut queue: mpsc::Receiver<Job>) {
        while let Some(job) = queue.recv().await {
            let done = match job {
                Job::Keep(taken) => self.keep(taken).await,
                Job::Forget(key, id) => self.table.forget(&key, id).await.map_err(Into::into),
            };
            if let Err(error) = done {
                tracing::debug!(error = &*error, "a snapshot was not written");
            }
        }
    }

    async fn keep(&self, taken: Taken) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        // Never of a state that a crash could take back.
        self.journal.wait_durable(taken.seen).await?;
        let id = self.system.uuid_v7();
        // Who was erased meanwhile has no key any more, and then there is no snapshot.
        let state = self.sealer.seal(taken.key.tenant, id, (taken.write)()?).await?;
        let subjects = Sealer::subjects(&state)?;
        let Taken { key, sequence, event_id, shape, .. } = taken;
        self.table.keep(&key, &Snapshot { sequence, event_id, shape, id, subjects, state }).await?;
        Ok(())
    }
}
