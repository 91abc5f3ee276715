//! How many sockets are open, and the moment when none is.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Counts open sockets up to a limit. Clones share the count.
#[derive(Clone)]
pub struct Sockets {
    free: Arc<Semaphore>,
    sockets_max: u32,
}

impl Sockets {
    /// At most so many at once; another is refused with 503.
    pub fn new(sockets_max: u32) -> Self {
        let permits = usize::try_from(sockets_max).unwrap_or(Semaphore::MAX_PERMITS).min(Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(permits)), sockets_max }
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
}

impl Default for Sockets {
    /// 4,096: at the default message size, 1 GiB if every peer sends its longest message at once.
    fn default() -> Self {
        Self::new(4_096)
    }
}
