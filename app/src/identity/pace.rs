//! How often a session may go on. Each time is an event, so whoever does it in a loop fills the journal.
//!
//! Refuses to remember without end: the session that has not gone on for longest is forgotten first. Each node counts for
//! itself.

use daybook_domain::SessionId;
use lru::LruCache;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Sessions that are remembered.
const REMEMBERED_MAX: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();

/// How often one session may be refreshed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RefreshPace {
    /// So many times at once: a browser with many tabs.
    pub burst: u32,
    /// After that, once in so long.
    pub every: Duration,
}

impl Default for RefreshPace {
    fn default() -> Self {
        RefreshPace { burst: 30, every: Duration::from_secs(10) }
    }
}

pub(super) struct Pace {
    pace: RefreshPace,
    /// When a session would have its whole burst again.
    whole: Mutex<LruCache<SessionId, Instant>>,
}

impl Pace {
    pub(super) fn new(pace: RefreshPace) -> Self {
        Pace { pace, whole: Mutex::new(LruCache::new(REMEMBERED_MAX)) }
    }

    /// # Errors
    /// How long to wait. Nothing is counted then.
    pub(super) fn count(&self, session: SessionId, now: Instant) -> Result<(), Duration> {
        let RefreshPace { burst, every } = self.pace;
        let mut whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        let at = whole.get(&session).map_or(now, |at| now.max(*at));
        let most = every.saturating_mul(burst.saturating_sub(1));
        match (at - now).checked_sub(most).filter(|wait| !wait.is_zero()) {
            Some(wait) => Err(wait),
            None => {
                whole.put(session, at + every);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_session_goes_on_in_a_burst_then_at_its_pace_and_no_other_waits_for_it() {
        let pace = Pace::new(RefreshPace { burst: 3, every: Duration::from_secs(10) });
        let [one, other] = [1, 2].map(|n| SessionId(Uuid::from_u128(n)));
        let mut now = Instant::now();
        for _ in 0..3 {
            assert_eq!(pace.count(one, now), Ok(()));
        }
        assert_eq!(pace.count(one, now), Err(Duration::from_secs(10)));
        assert_eq!(pace.count(other, now), Ok(()));
        now += Duration::from_secs(4);
        assert_eq!(pace.count(one, now), Err(Duration::from_secs(6)), "a refusal costs nothing");
        now += Duration::from_secs(6);
        assert_eq!((pace.count(one, now), pace.count(one, now)), (Ok(()), Err(Duration::from_secs(10))));
        now += Duration::from_secs(3_600);
        let again = (0..10).filter(|_| pace.count(one, now).is_ok()).count();
        assert_eq!(again, 3, "no more than the burst is saved up");
    }
}
