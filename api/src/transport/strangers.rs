//! Sockets that have not said yet whose they are: so many at once, and so many of one address.
//!
//! When all places are taken, whoever comes from an address that holds fewer than another one takes the place of the one that has waited
//! there longest: saying who one is takes a moment, so it meets those who say nothing. Only an address that holds as many as
//! any is told to come back.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::{rate::network, sockets::Full};

/// How many sockets may be open at once that have not said yet whose they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StrangerLimits {
    pub sockets_max: u32,
    /// Of one address; of IPv6, of one /64.
    pub per_address_max: u32,
}

impl StrangerLimits {
    pub const SOCKETS_MAX: u32 = 1_000;
    pub const PER_ADDRESS_MAX: u32 = 100;
}

impl Default for StrangerLimits {
    fn default() -> Self {
        StrangerLimits { sockets_max: Self::SOCKETS_MAX, per_address_max: Self::PER_ADDRESS_MAX }
    }
}

/// Counts them. Clones share the count.
#[derive(Clone)]
pub(super) struct Strangers {
    limits: StrangerLimits,
    free: Arc<Semaphore>,
    hall: Arc<Mutex<Hall>>,
}

/// Who waits, by the order in which they came.
#[derive(Default)]
struct Hall {
    next: u64,
    here: BTreeMap<u64, Waiting>,
    /// Those of whom no address is known are counted together.
    held: HashMap<Option<IpAddr>, u32>,
}

struct Waiting {
    address: Option<IpAddr>,
    permit: OwnedSemaphorePermit,
    put_out: oneshot::Sender<()>,
}

fn lock(hall: &Mutex<Hall>) -> MutexGuard<'_, Hall> {
    hall.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Strangers {
    pub(super) fn new(limits: StrangerLimits) -> Self {
        let permits = usize::try_from(limits.sockets_max).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Strangers { limits, free: Arc::new(Semaphore::new(permits)), hall: Arc::default() }
    }

    pub(super) fn open(&self) -> usize {
        usize::try_from(self.limits.sockets_max).unwrap_or(usize::MAX).saturating_sub(self.free.available_permits())
    }

    /// Waits until there are none, and lets nobody in while what it gives is held.
    pub(super) async fn none(&self) -> Option<OwnedSemaphorePermit> {
        // An error would say that the semaphore is closed, and nobody closes it.
        self.free.clone().acquire_many_owned(self.limits.sockets_max).await.ok()
    }

    pub(super) fn admit(&self, address: Option<IpAddr>) -> Result<Stranger, Full> {
        let address = address.map(network);
        let mut hall = lock(&self.hall);
        let held = hall.held.get(&address).copied().unwrap_or_default();
        if address.is_some() && held >= self.limits.per_address_max {
            return Err(Full::Own);
        }
        let permit = match self.free.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => hall.make_room(held).ok_or(Full::All)?,
        };
        let (put_out, told) = oneshot::channel();
        let number = hall.next;
        hall.next += 1;
        hall.here.insert(number, Waiting { address, permit, put_out });
        *hall.held.entry(address).or_default() += 1;
        Ok(Stranger { hall: self.hall.clone(), number, told: Some(told) })
    }
}

impl Hall {
    /// The place of somebody from an address that holds more than this.
    fn make_room(&mut self, held: u32) -> Option<OwnedSemaphorePermit> {
        let most = self.held.values().copied().max().filter(|most| *most > held)?;
        let of_most = |waiting: &Waiting| self.held.get(&waiting.address) == Some(&most);
        let number = self.here.iter().find(|(_, waiting)| of_most(waiting)).map(|(number, _)| *number)?;
        let Waiting { permit, put_out, .. } = self.leave(number)?;
        // It may be on its way out by itself.
        let _ = put_out.send(());
        Some(permit)
    }

    fn leave(&mut self, number: u64) -> Option<Waiting> {
        let waiting = self.here.remove(&number)?;
        if let Some(held) = self.held.get_mut(&waiting.address) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&waiting.address);
            }
        }
        Some(waiting)
    }
}

/// A place that is taken by somebody who has not said who it is. Dropping it gives it up.
pub(crate) struct Stranger {
    hall: Arc<Mutex<Hall>>,
    number: u64,
    told: Option<oneshot::Receiver<()>>,
}

impl Stranger {
    /// Resolves if the place is needed for another one: then the socket is to go. To be taken once.
    pub(crate) fn put_out(&mut self) -> impl Future<Output = ()> + Send + use<> {
        let told = self.told.take();
        async move {
            let put_out = match told {
                // An error: it is a stranger no more.
                Some(told) => told.await.is_ok(),
                None => false,
            };
            if !put_out {
                std::future::pending().await
            }
        }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        // None if it was put out: then another one has its place.
        drop(lock(&self.hall).leave(self.number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn strangers(sockets_max: u32, per_address_max: u32) -> Strangers {
        Strangers::new(StrangerLimits { sockets_max, per_address_max })
    }

    fn of(address: &str) -> Option<IpAddr> {
        Some(address.parse().unwrap())
    }

    #[test]
    fn a_network_of_one_customer_counts_as_one_address_and_what_is_given_up_is_free_again() {
        let strangers = strangers(3, 1);
        let first = strangers.admit(of("2001:db8::1")).unwrap();
        assert_eq!(strangers.admit(of("2001:db8::2")).err(), Some(Full::Own));
        let others = [strangers.admit(of("2001:db8:0:1::2")).unwrap(), strangers.admit(None).unwrap()];
        assert_eq!(strangers.open(), 3);
        drop(first);
        drop(strangers.admit(of("2001:db8::2")).unwrap());
        drop(others);
        let hall = lock(&strangers.hall);
        assert!(
            strangers.open() == 0 && hall.held.is_empty() && hall.here.is_empty(),
            "nobody is remembered who is gone"
        );
    }

    #[test]
    fn who_comes_from_where_fewer_are_takes_the_place_that_was_held_longest_where_most_are() {
        let strangers = strangers(4, 10);
        let mut crowd: Vec<Stranger> = (0..3).map(|_| strangers.admit(of("192.0.2.1")).unwrap()).collect();
        let mut told: Vec<_> = crowd.iter_mut().map(|stranger| stranger.put_out().boxed()).collect();
        let mut other = strangers.admit(of("192.0.2.2")).unwrap();
        let mut other_told = other.put_out().boxed();
        // All are taken: one more of the crowd is not let in, one of others is.
        assert_eq!(strangers.admit(of("192.0.2.1")).err(), Some(Full::All));
        let third = strangers.admit(of("192.0.2.3")).unwrap();
        let is_put_out = |told: &mut futures_util::future::BoxFuture<'static, ()>| told.now_or_never().is_some();
        assert_eq!(told.iter_mut().map(is_put_out).collect::<Vec<_>>(), [true, false, false]);
        assert!(other_told.as_mut().now_or_never().is_none());
        assert_eq!(strangers.open(), 4);
        // Who was put out gives up nothing when it goes, and whoever has become known is put out no more.
        drop(crowd.remove(0));
        assert_eq!(strangers.open(), 4);
        drop((crowd, third, other));
        assert_eq!(strangers.open(), 0);
        assert!(told[1].as_mut().now_or_never().is_none());
    }
}
