//! States of aggregates that were used lately. A state is only as good as its epoch: after a crash
//! a version that was visible but not durable may have been replaced by another.

use daybook_store::journal::{Seen, StreamKey};
use lru::LruCache;
use std::any::Any;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

/// A folded state, its version, and when it was all there was.
#[derive(Clone, Debug)]
pub(crate) struct Cached<A> {
    pub(crate) state: A,
    pub(crate) version: u64,
    pub(crate) seen: Seen,
}

const SHARDS: usize = 16;

pub(crate) struct Cache {
    shards: Vec<Mutex<LruCache<StreamKey, Arc<dyn Any + Send + Sync>>>>,
}

impl Cache {
    pub(crate) fn new(states_max: usize) -> Self {
        let per_shard = NonZeroUsize::new(states_max / SHARDS).unwrap_or(NonZeroUsize::MIN);
        Cache { shards: (0..SHARDS).map(|_| Mutex::new(LruCache::new(per_shard))).collect() }
    }

    fn shard(&self, key: &StreamKey) -> &Mutex<LruCache<StreamKey, Arc<dyn Any + Send + Sync>>> {
        // The last byte of a UUID is random in every version that is used here.
        &self.shards[usize::from(key.stream.id.as_bytes()[15]) % SHARDS]
    }

    pub(crate) fn get<A: Clone + Send + Sync + 'static>(&self, key: &StreamKey) -> Option<Arc<Cached<A>>> {
        let found = self.shard(key).lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned();
        found.and_then(|any| any.downcast::<Cached<A>>().ok())
    }

    pub(crate) fn put<A: Clone + Send + Sync + 'static>(&self, key: StreamKey, cached: Arc<Cached<A>>) {
        self.shard(&key).lock().unwrap_or_else(PoisonError::into_inner).put(key, cached);
    }

    pub(crate) fn forget(&self, key: &StreamKey) {
        self.shard(key).lock().unwrap_or_else(PoisonError::into_inner).pop(key);
    }
}
