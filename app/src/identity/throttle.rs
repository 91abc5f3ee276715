//! How often somebody may try to log in: less and less often after failures, by where they come from.
//!
//! What is held back is an address, or an address that tries one account; never an account as such, or anybody could
//! lock its owner out. Refuses to keep an address or an e-mail for longer than its last failure counts, and to grow:
//! the oldest is forgotten first.

use lru::LruCache;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Who is remembered at most.
const REMEMBERED_MAX: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();
/// After so long without a failure, those of before count no more.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3_600);

/// How many failures cost nothing, and how long the wait after more of them can become. It doubles with each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limit {
    pub free: u32,
    pub first: Duration,
    pub longest: Duration,
}

/// What somebody from one address may try with one account, and with all of them together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ThrottleOptions {
    pub account: Limit,
    /// Higher: a whole office may come from one address.
    pub address: Limit,
}

impl Default for ThrottleOptions {
    fn default() -> Self {
        let account = Limit { free: 5, first: Duration::from_secs(1), longest: Duration::from_secs(900) };
        let address = Limit { free: 100, first: Duration::from_secs(1), longest: Duration::from_secs(60) };
        ThrottleOptions { account, address }
    }
}

#[derive(Clone, Copy)]
struct Record {
    failures: u32,
    last: Instant,
}

type Key = u64;

/// The failures of this node; others have their own.
pub(super) struct Throttle {
    options: ThrottleOptions,
    records: Mutex<LruCache<Key, Record>>,
}

/// An attempt that is under way. It counts as a failure until it is told otherwise, so that many at once are not free.
#[must_use]
pub(super) struct Attempt<'a> {
    throttle: &'a Throttle,
    keys: [(Key, Limit); 2],
}

impl Throttle {
    pub(super) fn new(options: ThrottleOptions) -> Self {
        Throttle { options, records: Mutex::new(LruCache::new(REMEMBERED_MAX)) }
    }

    fn records(&self) -> MutexGuard<'_, LruCache<Key, Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `account`: in its normal form, whether or not there is one.
    ///
    /// # Errors
    /// How long to wait. Nothing is counted then.
    pub(super) fn attempt(
        &self,
        account: &str,
        address: Option<IpAddr>,
        now: Instant,
    ) -> Result<Attempt<'_>, Duration> {
        let address = address.map(network);
        let keys = [
            (key(&("account", account, address)), self.options.account),
            (key(&("address", address)), self.options.address),
        ];
        let mut records = self.records();
        let waits = keys.iter().filter_map(|(key, limit)| {
            let record = records.peek(key).filter(|record| now.duration_since(record.last) < FORGOTTEN_AFTER)?;
            limit.wait(record.failures).checked_sub(now.duration_since(record.last))
        });
        if let Some(wait) = waits.max().filter(|wait| !wait.is_zero()) {
            return Err(wait);
        }
        for (key, _) in &keys {
            let record = records.get_or_insert_mut(*key, || Record { failures: 0, last: now });
            if now.duration_since(record.last) >= FORGOTTEN_AFTER {
                record.failures = 0;
            }
            record.failures = record.failures.saturating_add(1);
            record.last = now;
        }
        drop(records);
        Ok(Attempt { throttle: self, keys })
    }
}

impl Attempt<'_> {
    /// The account's failures from there are forgotten; of the address, this one alone was none.
    pub(super) fn succeeded(self) {
        let [(account, _), (address, _)] = self.keys;
        let mut records = self.throttle.records();
        records.pop(&account);
        if let Some(record) = records.get_mut(&address) {
            record.failures = record.failures.saturating_sub(1);
        }
    }

    /// It came to no comparison, so it was no guess.
    pub(super) fn came_to_nothing(self) {
        let mut records = self.throttle.records();
        for (key, _) in &self.keys {
            if let Some(record) = records.get_mut(key) {
                record.failures = record.failures.saturating_sub(1);
            }
        }
    }
}

impl Limit {
    fn wait(&self, failures: u32) -> Duration {
        match failures.checked_sub(self.free) {
            None => Duration::ZERO,
            Some(over) => self.first.saturating_mul(1 << over.min(20)).min(self.longest),
        }
    }
}

/// Whoever has one address of IPv6 has 2^64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let mut octets = address.octets();
            octets[8..].fill(0);
            IpAddr::from(octets)
        }
    }
}

fn key(of: &impl Hash) -> Key {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> Option<IpAddr> {
        Some(address.parse().expect("an address"))
    }

    fn fails(throttle: &Throttle, account: &str, address: &str, now: Instant) -> bool {
        throttle.attempt(account, at(address), now).is_ok()
    }

    #[test]
    fn guessing_becomes_slower_and_slower_from_where_it_comes_and_nowhere_else() {
        let throttle = Throttle::new(ThrottleOptions::default());
        let mut now = Instant::now();
        for _ in 0..5 {
            assert!(fails(&throttle, "ada", "192.0.2.1", now));
        }
        for wait in [1, 2, 4, 8, 16] {
            let told = throttle.attempt("ada", at("192.0.2.1"), now).err().expect("a wait");
            assert_eq!(told, Duration::from_secs(wait));
            // The owner, from an address of hers, is not held back for a moment.
            throttle.attempt("ada", at("198.51.100.7"), now).expect("free").succeeded();
            now += told;
            assert!(fails(&throttle, "ada", "192.0.2.1", now));
        }
        // Another account from that address neither.
        assert!(fails(&throttle, "grace", "192.0.2.1", now));
    }

    #[test]
    fn an_address_that_tries_many_accounts_is_held_back_as_well() {
        let throttle = Throttle::new(ThrottleOptions::default());
        let now = Instant::now();
        for n in 0..100 {
            assert!(fails(&throttle, &format!("person {n}"), "2001:db8::1", now));
        }
        // The rest of its network is the same to it.
        assert!(!fails(&throttle, "another", "2001:db8::2", now));
        assert!(fails(&throttle, "another", "2001:db8:0:1::1", now));
    }

    #[test]
    fn many_at_once_are_counted_before_any_is_decided() {
        let throttle = Throttle::new(ThrottleOptions::default());
        let now = Instant::now();
        let under_way: Vec<_> = (0..20).filter_map(|_| throttle.attempt("ada", at("192.0.2.1"), now).ok()).collect();
        assert_eq!(under_way.len(), 5);
    }

    #[test]
    fn a_success_forgets_failures_and_so_does_time() {
        let throttle = Throttle::new(ThrottleOptions::default());
        let now = Instant::now();
        for _ in 0..20 {
            throttle.attempt("ada", at("192.0.2.1"), now).expect("free").succeeded();
            throttle.attempt("ada", at("192.0.2.1"), now).expect("free").came_to_nothing();
        }
        for _ in 0..5 {
            assert!(fails(&throttle, "ada", "192.0.2.1", now));
        }
        assert!(!fails(&throttle, "ada", "192.0.2.1", now));
        assert!(fails(&throttle, "ada", "192.0.2.1", now + FORGOTTEN_AFTER));
        assert!(fails(&throttle, "ada", "192.0.2.1", now + FORGOTTEN_AFTER), "from the beginning again");
    }
}
