//! States of accounts, sessions, memberships, service accounts and tenants, looked at by every request.
//!
//! They are kept in memory and are as new as what this node has heard ([`super::heard`]). Refuses to guess: what cannot
//! be read is an error, never an absence.

use super::heard::Heard;
use crate::cache::{Cache, Cached};
use crate::executor::{ExecuteError, Executor};
use daybook_domain::{EventSourced, TenantId};
use daybook_store::database::DatabaseError;
use daybook_store::journal::{StreamId, StreamKey};
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::watch;
use uuid::Uuid;

/// States kept in memory.
const STATES_MAX: usize = 100_000;
/// How often a state is read again that has moved meanwhile.
const ATTEMPTS_MAX: usize = 8;

/// A state that every request needs cannot be had at the moment.
#[derive(Debug, thiserror::Error)]
#[error("what is known of the caller cannot be read at the moment")]
pub struct Unreadable(#[from] ExecuteError<Infallible>);

pub(super) struct Known {
    executor: Executor,
    cache: Cache,
    heard: Arc<Heard>,
}

impl Known {
    pub(super) fn new(executor: Executor, heard: Arc<Heard>) -> Self {
        Known { executor, cache: Cache::new(STATES_MAX), heard }
    }

    /// The state of a stream, with everything that this node has heard of it.
    pub(super) async fn get<A>(&self, tenant: TenantId, id: Uuid) -> Result<Arc<Cached<A>>, Unreadable>
    where
        A: EventSourced + Send + Sync + 'static,
    {
        let key = key::<A>(tenant, id);
        let mut read = None;
        for _ in 0..ATTEMPTS_MAX {
            // Before the look: what is read before the tail is followed may change without a word.
            let following = self.heard.is_following();
            let due = self.heard.due(&key);
            // Of another epoch, an event may have been replaced by another one of its number.
            let epoch = self.executor.journal().epoch();
            let kept = self.cache.get::<A>(&key).filter(|kept| epoch.is_none_or(|epoch| kept.seen.epoch == epoch));
            let is_due = |kept: &Arc<Cached<A>>| due.version.is_some_and(|version| kept.version >= version);
            if let Some(kept) = kept.as_ref().filter(|kept| is_due(kept) && following) {
                return Ok(kept.clone());
            }
            let (state, version) = kept.map(|kept| (kept.state.clone(), kept.version)).unwrap_or_default();
            let loaded = self.executor.journal().load(&key, version).await.map_err(ExecuteError::Database)?;
            if version > 0 && epoch.is_some_and(|epoch| epoch != loaded.seen.epoch) {
                self.cache.forget(&key);
                continue;
            }
            let fresh = Arc::new(self.executor.folded::<A, Infallible>(state, version, loaded).await?);
            if following {
                self.cache.put(key.clone(), fresh.clone());
                self.heard.read(&key, fresh.version, due);
            }
            if self.heard.due(&key).version.is_none_or(|version| fresh.version >= version) {
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

fn key<A: EventSourced>(tenant: TenantId, id: Uuid) -> StreamKey {
    StreamKey { tenant, stream: StreamId { kind: A::TYPE, id } }
}
