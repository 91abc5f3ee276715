//! States of accounts, sessions, memberships, service accounts and tenants, looked at by every request.
//!
//! They are kept in memory and are as new as what this node has heard ([`super::heard`]). Refuses to guess: what cannot
//! be read is an error, never an absence. What many ask for at once is read once, and a long stream from its snapshot.

use super::heard::Heard;
use crate::cache::{Cache, Cached};
use crate::executor::{ExecuteError, Executor};
use crate::snapshots::SNAPSHOT_EVERY;
use daybook_domain::{EventSourced, TenantId};
use daybook_store::database::DatabaseError;
use daybook_store::journal::{StreamId, StreamKey};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{Mutex, watch};
use uuid::Uuid;

/// States kept in memory.
const STATES_MAX: usize = 100_000;
/// How often a state is read again that has moved meanwhile.
const ATTEMPTS_MAX: usize = 8;
/// Queues of those who ask for a state that is being read; streams share them.
const TURNS: usize = 256;
/// So many events are read on from a state in memory; beyond, a snapshot is nearer.
const BEHIND_MAX: u64 = 2 * SNAPSHOT_EVERY;

/// A state that every request needs cannot be had at the moment.
#[derive(Debug, thiserror::Error)]
#[error("what is known of the caller cannot be read at the moment")]
pub struct Unreadable(#[from] ExecuteError<Infallible>);

pub(super) struct Known {
    executor: Executor,
    cache: Cache,
    heard: Arc<Heard>,
    turns: Vec<Turn>,
    reads: AtomicU64,
}

/// One reads, those who wait for it find what it has read, or fail with it: they do not all try again one after the other.
#[derive(Default)]
struct Turn {
    queue: Mutex<()>,
    failures: AtomicU64,
}

impl Known {
    pub(super) fn new(executor: Executor, heard: Arc<Heard>) -> Self {
        let turns = std::iter::repeat_with(Turn::default).take(TURNS).collect();
        Known { executor, cache: Cache::new(STATES_MAX), heard, turns, reads: AtomicU64::new(0) }
    }

    /// How often a state was read, for not being in memory as new as it had to be.
    pub(super) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// The state of a stream, with everything that this node has heard of it.
    pub(super) async fn get<A>(&self, tenant: TenantId, id: Uuid) -> Result<Arc<Cached<A>>, Unreadable>
    where
        A: EventSourced + Send + Sync + 'static,
    {
        let key = key::<A>(tenant, id);
        let epoch = self.executor.journal().epoch();
        let version = self.heard.due(&key).version.filter(|_| self.heard.is_following());
        if let Some(kept) = self.kept::<A>(&key, epoch).filter(|kept| version.is_some_and(|due| kept.version >= due)) {
            return Ok(kept);
        }
        // Apart from what awaits it: see [`Executor::execute`].
        Box::pin(self.get_in_turn(&key)).await
    }

    async fn get_in_turn<A>(&self, key: &StreamKey) -> Result<Arc<Cached<A>>, Unreadable>
    where
        A: EventSourced + Send + Sync + 'static,
    {
        if !self.heard.is_following() {
            return self.read(key).await;
        }
        let turn = &self.turns[usize::from(key.stream.id.as_bytes()[15]) % TURNS];
        let failures = turn.failures.load(Ordering::Acquire);
        let _queue = turn.queue.lock().await;
        if turn.failures.load(Ordering::Acquire) != failures {
            return Err(Unreadable(ExecuteError::Database(DatabaseError::Lost)));
        }
        let read = self.read(key).await;
        if let Err(Unreadable(ExecuteError::Database(_))) = &read {
            turn.failures.fetch_add(1, Ordering::Release);
        }
        read
    }

    /// What is in memory. Of another epoch, an event may have been replaced by another one of its number.
    fn kept<A>(&self, key: &StreamKey, epoch: Option<u64>) -> Option<Arc<Cached<A>>>
    where
        A: EventSourced + Send + Sync + 'static,
    {
        self.cache.get::<A>(key).filter(|kept| epoch.is_none_or(|epoch| kept.seen.epoch == epoch))
    }

    async fn read<A>(&self, key: &StreamKey) -> Result<Arc<Cached<A>>, Unreadable>
    where
        A: EventSourced + Send + Sync + 'static,
    {
        let mut read = None;
        for _ in 0..ATTEMPTS_MAX {
            // Before the look: what is read before the tail is followed may change without a word.
            let following = self.heard.is_following();
            let due = self.heard.due(key);
            let epoch = self.executor.journal().epoch();
            let kept = self.kept::<A>(key, epoch);
            // Whoever was before in the queue may have read it.
            let is_due = |kept: &Arc<Cached<A>>| due.version.is_some_and(|version| kept.version >= version);
            if let Some(kept) = kept.as_ref().filter(|kept| is_due(kept) && following) {
                return Ok(kept.clone());
            }
            self.reads.fetch_add(1, Ordering::Relaxed);
            let is_near = |kept: &Cached<A>| {
                A::SNAPSHOT.is_none() || due.version.is_none_or(|due| due.saturating_sub(kept.version) <= BEHIND_MAX)
            };
            let fresh = match kept.filter(|kept| kept.version > 0 && is_near(kept)) {
                None => self.executor.stored::<A, Infallible>(key).await?,
                Some(kept) => {
                    let journal = self.executor.journal();
                    let loaded = journal.load(key, kept.version).await.map_err(ExecuteError::Database)?;
                    if epoch.is_some_and(|epoch| epoch != loaded.seen.epoch) {
                        self.cache.forget(key);
                        continue;
                    }
                    self.executor.folded::<A, Infallible>(kept.state.clone(), kept.version, loaded).await?
                }
            };
            let fresh = Arc::new(fresh);
            if following {
                self.cache.put(key.clone(), fresh.clone());
                self.heard.read(key, fresh.version, due);
            }
            if self.heard.due(key).version.is_none_or(|version| fresh.version >= version) {
                return Ok(fresh);
            }
            read = Some(fresh);
        }
        tracing::debug!(version = read.map(|read| read.version), "a state moves faster than it is read");
        Err(Unreadable(ExecuteError::Database(DatabaseError::Lost)))
    }

    /// Hears when the stream moves, from this call on.
    pub(super) fn listen<A: EventSourced>(&self, tenant: TenantId, id: Uuid) -> watch::Receiver<u64> {
        self.heard.listen(key::<A>(tenant, id))
    }
}

pub(super) fn key<A: EventSourced>(tenant: TenantId, id: Uuid) -> StreamKey {
    StreamKey { tenant, stream: StreamId { kind: A::TYPE, id } }
}
