//! How often somebody may ask: an address, an account, a tenant. Each has a steady rate and a reserve for bursts.
//!
//! An address is counted before anything is known of a request, so that guessing at tokens and passwords has a price; an
//! account and its tenant when the credential is known, once for every request or operation on a socket. A refusal costs
//! nothing and says when to come back. Refuses to remember without end: whoever has all of a reserve again is forgotten,
//! and beyond [`KEYS_MAX`] strangers share one count.
//!
//! Each node counts for itself: several nodes let through as many times as much.

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use uuid::Uuid;

/// Requests that the reserve holds: so many seconds' worth.
const BURST_S: u32 = 5;
/// Addresses, accounts or tenants that are counted apart from each other.
const KEYS_MAX: usize = 100_000;
/// After so many requests it is looked who may be forgotten.
const SWEEP_EVERY: u32 = 10_000;

/// Requests per second, on one node; none: no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimits {
    pub per_address: Option<NonZeroU32>,
    pub per_account: Option<NonZeroU32>,
    pub per_tenant: Option<NonZeroU32>,
}

impl RateLimits {
    pub const PER_ADDRESS: u32 = 2_000;
    pub const PER_ACCOUNT: u32 = 1_000;
    pub const PER_TENANT: u32 = 5_000;
    pub const NONE: RateLimits = RateLimits { per_address: None, per_account: None, per_tenant: None };
}

impl Default for RateLimits {
    fn default() -> Self {
        RateLimits {
            per_address: NonZeroU32::new(Self::PER_ADDRESS),
            per_account: NonZeroU32::new(Self::PER_ACCOUNT),
            per_tenant: NonZeroU32::new(Self::PER_TENANT),
        }
    }
}

/// Too often: worth trying again after this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooOften {
    pub retry_after: Duration,
    /// Who: a word for the message.
    pub who: &'static str,
}

impl TooOften {
    /// Whole seconds, at least one: what `Retry-After` takes.
    pub fn retry_after_s(&self) -> u64 {
        self.retry_after.as_secs() + u64::from(self.retry_after.subsec_nanos() > 0)
    }

    pub fn message(&self) -> String {
        format!("Too many requests of this {}: try again in {} s", self.who, self.retry_after_s())
    }
}

/// What counts as one address: of IPv6, the network of one customer (/64).
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

/// The counts of one node; cloning shares them.
#[derive(Clone)]
pub struct Rates<C: Clock = DefaultClock>(Arc<Counts<C>>);

struct Counts<C: Clock> {
    addresses: Option<Keyed<IpAddr, C>>,
    accounts: Option<Keyed<Uuid, C>>,
    tenants: Option<Keyed<Uuid, C>>,
}

impl Rates {
    pub fn new(limits: RateLimits) -> Self {
        Rates::with_clock(limits, &DefaultClock::default())
    }
}

impl<C: Clock + Clone> Rates<C> {
    pub fn with_clock(limits: RateLimits, clock: &C) -> Self {
        Rates(Arc::new(Counts {
            addresses: limits.per_address.map(|rate| Keyed::new(rate, IpAddr::V6(Ipv6Addr::UNSPECIFIED), clock)),
            accounts: limits.per_account.map(|rate| Keyed::new(rate, Uuid::nil(), clock)),
            tenants: limits.per_tenant.map(|rate| Keyed::new(rate, Uuid::nil(), clock)),
        }))
    }

    /// One request from an address. Of IPv6, the network of one customer (/64) counts as one.
    ///
    /// # Errors
    /// [`TooOften`].
    pub fn address(&self, address: IpAddr) -> Result<(), TooOften> {
        self.0.addresses.as_ref().map_or(Ok(()), |keyed| keyed.count(network(address), "address"))
    }

    /// One operation of an account in a tenant, where there are tenants.
    ///
    /// # Errors
    /// [`TooOften`].
    pub fn account(&self, account: Uuid, tenant: Option<Uuid>) -> Result<(), TooOften> {
        self.0.accounts.as_ref().map_or(Ok(()), |keyed| keyed.count(account, "account"))?;
        self.0.tenants.as_ref().zip(tenant).map_or(Ok(()), |(keyed, tenant)| keyed.count(tenant, "tenant"))
    }
}

/// One count per key.
struct Keyed<K: Hash + Eq + Copy, C: Clock> {
    limiter: RateLimiter<K, DefaultKeyedStateStore<K>, C, NoOpMiddleware<C::Instant>>,
    clock: C,
    /// The key of all strangers, when there are too many.
    shared: K,
    until_sweep: AtomicU32,
}

impl<K: Hash + Eq + Copy, C: Clock + Clone> Keyed<K, C> {
    fn new(rate: NonZeroU32, shared: K, clock: &C) -> Self {
        let quota =
            Quota::per_second(rate).allow_burst(rate.saturating_mul(NonZeroU32::MIN.saturating_add(BURST_S - 1)));
        let limiter = RateLimiter::new(quota, DefaultKeyedStateStore::default(), clock.clone());
        Keyed { limiter, clock: clock.clone(), shared, until_sweep: AtomicU32::new(SWEEP_EVERY) }
    }

    fn count(&self, key: K, who: &'static str) -> Result<(), TooOften> {
        if self.until_sweep.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.until_sweep.store(SWEEP_EVERY, Ordering::Relaxed);
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
        }
        let key = if self.limiter.len() < KEYS_MAX { key } else { self.shared };
        self.limiter
            .check_key(&key)
            .map_err(|until| TooOften { retry_after: until.wait_time_from(self.clock.now()), who })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use governor::clock::FakeRelativeClock;

    fn limits(rate: u32) -> RateLimits {
        let rate = NonZeroU32::new(rate);
        RateLimits { per_address: rate, per_account: rate, per_tenant: rate }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn count<C: Clock + Clone>(rates: &Rates<C>, address: &str) -> usize {
        (0..10_000).take_while(|_| rates.address(ip(address)).is_ok()).count()
    }

    #[test]
    fn a_burst_is_let_through_then_the_rate_and_a_refusal_says_when_to_come_back() {
        let clock = FakeRelativeClock::default();
        let rates = Rates::with_clock(limits(10), &clock);
        assert_eq!(count(&rates, "192.0.2.1"), 50);
        let refused = rates.address(ip("192.0.2.1")).unwrap_err();
        assert_eq!((refused.retry_after, refused.retry_after_s()), (Duration::from_millis(100), 1));
        assert_eq!(refused.message(), "Too many requests of this address: try again in 1 s");
        clock.advance(Duration::from_secs(1));
        assert_eq!(count(&rates, "192.0.2.1"), 10);
        clock.advance(Duration::from_secs(60));
        assert_eq!(count(&rates, "192.0.2.1"), 50, "no more than the reserve is saved up");
    }

    #[test]
    fn nobody_uses_up_anothers_share_and_a_network_of_one_customer_is_one() {
        let rates = Rates::with_clock(limits(10), &FakeRelativeClock::default());
        assert_eq!(count(&rates, "192.0.2.1"), 50);
        assert_eq!(count(&rates, "192.0.2.2"), 50);
        assert_eq!(count(&rates, "::ffff:192.0.2.2"), 0, "the same address in another dress");
        assert_eq!(count(&rates, "2001:db8:1:1::1"), 50);
        assert_eq!(count(&rates, "2001:db8:1:1:ffff::9"), 0);
        assert_eq!(count(&rates, "2001:db8:1:2::1"), 50);
    }

    #[test]
    fn an_account_that_is_refused_costs_its_tenant_nothing() {
        let rates = Rates::with_clock(limits(10), &FakeRelativeClock::default());
        let [loud, quiet, other, tenant, elsewhere] = [1, 2, 3, 4, 5].map(Uuid::from_u128);
        let asked =
            |account, tenant, times: usize| (0..times).filter(|_| rates.account(account, Some(tenant)).is_ok()).count();
        assert_eq!(asked(loud, elsewhere, 1_000), 50);
        assert_eq!(rates.account(loud, Some(tenant)).unwrap_err().who, "account");
        assert_eq!(asked(quiet, tenant, 50), 50, "all of the tenant's");
        assert_eq!(rates.account(other, Some(tenant)).unwrap_err().who, "tenant");
    }

    #[test]
    fn without_a_limit_nobody_is_counted() {
        let rates = Rates::new(RateLimits::NONE);
        assert_eq!(count(&rates, "192.0.2.1"), 10_000);
    }

    #[test]
    fn who_has_not_asked_for_a_while_is_forgotten() {
        let clock = FakeRelativeClock::default();
        let rates = Rates::with_clock(limits(10), &clock);
        for n in 0..SWEEP_EVERY - 1 {
            rates.address(IpAddr::V4(n.into())).unwrap();
        }
        let counted = || rates.0.addresses.as_ref().map_or(0, |keyed| keyed.limiter.len());
        assert_eq!(counted(), SWEEP_EVERY as usize - 1);
        clock.advance(Duration::from_secs(10));
        rates.address(ip("192.0.2.1")).unwrap();
        assert_eq!(counted(), 1);
    }
}
