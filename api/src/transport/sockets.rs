//! How many sockets and event streams are open, whose they are, and the moment when none is.
//!
//! A socket is a stranger's until its `connection_init` has said whose it is. Strangers have a pool of their own, and of one address
//! only some of them are let in, so that whoever opens sockets and says nothing takes no place of anybody who is known, and
//! from one address not even those of other strangers.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use super::strangers::{Stranger, StrangerLimits, Strangers};

/// Counts open sockets and event streams up to a limit. Clones share the count.
#[derive(Clone)]
pub struct Sockets {
    known: Pool<Uuid>,
    strangers: Strangers,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// All are taken.
    All,
    /// This one has as many as it may.
    Own,
}

impl Sockets {
    /// At most so many at once; another is refused with 503.
    pub fn new(sockets_max: u32) -> Self {
        Self { known: Pool::new(sockets_max, sockets_max), strangers: Strangers::new(StrangerLimits::default()) }
    }

    /// At most so many of them for one caller, so that nobody takes all.
    #[must_use]
    pub fn per_caller(mut self, per_caller_max: u32) -> Self {
        self.known.each_max = per_caller_max;
        self
    }

    /// So many besides that have not said yet whose they are.
    #[must_use]
    pub fn strangers(self, limits: StrangerLimits) -> Self {
        Self { strangers: Strangers::new(limits), ..self }
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        self.known.taken() + self.strangers.open()
    }

    /// How many of them have not said yet whose they are.
    pub fn open_of_strangers(&self) -> usize {
        self.strangers.open()
    }

    /// Waits until none is open; no new one is let in meanwhile. Tell them to end first (`Settings::shutdown`), and
    /// bound the wait.
    pub async fn closed(&self) {
        // First those that may still become known ones.
        let _strangers = self.strangers.none().await;
        let _known = self.known.all().await;
    }

    /// A place for a caller who is known.
    pub(crate) fn seat(&self, caller: Uuid) -> Result<Seat, Full> {
        self.known.take(caller).map(Seat)
    }

    /// A place for a socket that has not said yet whose it is. There is none either while there would be none for it then.
    pub(crate) fn admit(&self, address: Option<IpAddr>) -> Result<Stranger, Full> {
        if self.known.free.available_permits() == 0 {
            return Err(Full::All);
        }
        self.strangers.admit(address)
    }
}

impl Default for Sockets {
    /// 4,096: at the default message size, 1 GiB if every peer sends its longest message at once.
    fn default() -> Self {
        Self::new(4_096)
    }
}

/// A place that is taken, by a caller who is known. Dropping it gives it up.
pub(crate) struct Seat(#[expect(dead_code, reason = "held")] Place<Uuid>);

/// So many places, and so many of them for each.
struct Pool<K> {
    free: Arc<Semaphore>,
    places_max: u32,
    each_max: u32,
    each: Arc<Mutex<HashMap<K, u32>>>,
}

impl<K> Clone for Pool<K> {
    fn clone(&self) -> Self {
        let Pool { free, places_max, each_max, each } = self;
        Pool { free: free.clone(), places_max: *places_max, each_max: *each_max, each: each.clone() }
    }
}

impl<K: Hash + Eq + Copy> Pool<K> {
    fn new(places_max: u32, each_max: u32) -> Self {
        let permits = usize::try_from(places_max).unwrap_or(Semaphore::MAX_PERMITS).min(Semaphore::MAX_PERMITS);
        Pool { free: Arc::new(Semaphore::new(permits)), places_max, each_max, each: Arc::default() }
    }

    fn taken(&self) -> usize {
        usize::try_from(self.places_max).unwrap_or(usize::MAX).saturating_sub(self.free.available_permits())
    }

    async fn all(&self) -> Option<OwnedSemaphorePermit> {
        // An error would say that the semaphore is closed, and nobody closes it.
        self.free.clone().acquire_many_owned(self.places_max).await.ok()
    }

    fn take(&self, whose: K) -> Result<Place<K>, Full> {
        let permit = self.free.clone().try_acquire_owned().map_err(|_| Full::All)?;
        let mut each = self.each.lock().unwrap_or_else(PoisonError::into_inner);
        let held = each.get(&whose).copied().unwrap_or_default();
        if held >= self.each_max {
            return Err(Full::Own);
        }
        each.insert(whose, held + 1);
        Ok(Place { each: self.each.clone(), whose, _permit: permit })
    }
}

struct Place<K: Hash + Eq + Copy> {
    each: Arc<Mutex<HashMap<K, u32>>>,
    whose: K,
    _permit: OwnedSemaphorePermit,
}

impl<K: Hash + Eq + Copy> Drop for Place<K> {
    fn drop(&mut self) {
        let mut each = self.each.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut held) = each.entry(self.whose) {
            match held.get() {
                0 | 1 => drop(held.remove()),
                _ => *held.get_mut() -= 1,
            }
        }
    }
}
