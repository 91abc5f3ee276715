//! How many sockets and event streams are open, whose they are, and the moment when none is.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

/// Counts open sockets and event streams up to a limit. Clones share the count.
#[derive(Clone)]
pub struct Sockets {
    free: Arc<Semaphore>,
    sockets_max: u32,
    per_caller_max: u32,
    callers: Arc<Mutex<HashMap<Uuid, u32>>>,
}

impl Sockets {
    /// At most so many at once; another is refused with 503.
    pub fn new(sockets_max: u32) -> Self {
        let permits = usize::try_from(sockets_max).unwrap_or(Semaphore::MAX_PERMITS).min(Semaphore::MAX_PERMITS);
        Self {
            free: Arc::new(Semaphore::new(permits)),
            sockets_max,
            per_caller_max: sockets_max,
            callers: Arc::default(),
        }
    }

    /// At most so many of them for one caller, so that nobody takes all.
    #[must_use]
    pub fn per_caller(mut self, per_caller_max: u32) -> Self {
        self.per_caller_max = per_caller_max;
        self
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        usize::try_from(self.sockets_max).unwrap_or(usize::MAX).saturating_sub(self.free.available_permits())
    }

    /// Waits until none is open; no new one is let in meanwhile. Tell them to end first (`Settings::shutdown`), and
    /// bound the wait.
    pub async fn closed(&self) {
        // An error would say that the semaphore is closed, and nobody closes it.
        let _all = self.free.acquire_many(self.sockets_max).await;
    }

    pub(crate) fn admit(&self) -> Option<OwnedSemaphorePermit> {
        self.free.clone().try_acquire_owned().ok()
    }

    /// Counts one of those that were admitted as this caller's.
    ///
    /// Errors: gives the permit back when the caller has as many as it may.
    pub(crate) fn seat(&self, caller: Uuid, permit: OwnedSemaphorePermit) -> Result<Seat, OwnedSemaphorePermit> {
        let mut callers = self.lock();
        let held = callers.get(&caller).copied().unwrap_or_default();
        if held >= self.per_caller_max {
            return Err(permit);
        }
        callers.insert(caller, held + 1);
        drop(callers);
        Ok(Seat { sockets: self.clone(), caller, _permit: permit })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, u32>> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Sockets {
    /// 4,096: at the default message size, 1 GiB if every peer sends its longest message at once.
    fn default() -> Self {
        Self::new(4_096)
    }
}

/// A place that is taken, by a caller who is known. Dropping it gives it up.
pub(crate) struct Seat {
    sockets: Sockets,
    caller: Uuid,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Entry::Occupied(mut held) = self.sockets.lock().entry(self.caller) {
            match held.get() {
                0 | 1 => drop(held.remove()),
                _ => *held.get_mut() -= 1,
            }
        }
    }
}
