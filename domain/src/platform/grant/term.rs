//! From when until when a grant allows. The aggregate and the read model ask the same function.

use super::AccessGrantError;
use chrono::{DateTime, Datelike, SubsecRound, Utc};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// The time in which a grant allows: `from` belongs to it, `until` does not.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct GrantTerm {
    /// None: at once.
    pub from: Option<DateTime<Utc>>,
    /// None: without an end.
    pub until: Option<DateTime<Utc>>,
}

/// What RFC 3339 can write and every data base can hold.
const YEARS: RangeInclusive<i32> = 1970..=9999;

impl GrantTerm {
    /// Whether a grant of this term, not revoked, allows at that moment. It does not know when it was granted.
    pub fn allows_at(&self, instant: DateTime<Utc>) -> bool {
        self.from.is_none_or(|from| from <= instant) && !self.is_over_at(instant)
    }

    /// Whether it has ended by that moment, for good.
    pub fn is_over_at(&self, instant: DateTime<Utc>) -> bool {
        self.until.is_some_and(|until| until <= instant)
    }

    /// In whole microseconds, which is what tables hold, so that a row and the state agree about every moment.
    pub(super) fn checked(self, now: DateTime<Utc>) -> Result<Self, AccessGrantError> {
        let is_in_range = |instant: &DateTime<Utc>| YEARS.contains(&instant.year());
        if !self.from.iter().all(is_in_range) {
            return Err(AccessGrantError::BeginsOutOfRange);
        }
        if !self.until.iter().all(is_in_range) {
            return Err(AccessGrantError::EndsOutOfRange);
        }
        let micros = |instant: DateTime<Utc>| instant.trunc_subsecs(6);
        let term = GrantTerm { from: self.from.map(micros), until: self.until.map(micros) };
        if term.is_over_at(now) {
            return Err(AccessGrantError::EndsInThePast);
        }
        match (term.from, term.until) {
            (Some(from), Some(until)) if until <= from => Err(AccessGrantError::EndsBeforeItBegins),
            _ => Ok(term),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::testing::at;
    use chrono::TimeDelta;

    #[test]
    fn the_first_moment_allows_and_the_last_one_denies() {
        let instant = TimeDelta::microseconds(1);
        let term = GrantTerm { from: Some(at(1)), until: Some(at(2)) };
        for (moment, allows) in
            [(at(1) - instant, false), (at(1), true), (at(2) - instant, true), (at(2), false), (at(3), false)]
        {
            assert_eq!(term.allows_at(moment), allows, "{moment}");
        }
    }

    #[test]
    fn a_side_that_is_not_named_is_open() {
        let (begins, ends) =
            (GrantTerm { from: Some(at(1)), until: None }, GrantTerm { from: None, until: Some(at(1)) });
        assert!(!begins.allows_at(at(0)) && begins.allows_at(at(1)) && begins.allows_at(DateTime::<Utc>::MAX_UTC));
        assert!(ends.allows_at(DateTime::<Utc>::MIN_UTC) && ends.allows_at(at(0)) && !ends.allows_at(at(1)));
        assert!(GrantTerm::default().allows_at(at(0)));
    }

    #[test]
    fn a_term_that_no_grant_can_have_is_refused_by_its_field() {
        use AccessGrantError as Refused;
        let year = |year: i32| at(0).with_year(year);
        let instant = TimeDelta::nanoseconds(1);
        for (from, until, expected) in [
            (None, Some(at(0)), Refused::EndsInThePast),
            (None, Some(at(-1)), Refused::EndsInThePast),
            // Less than a microsecond in the future is now.
            (None, Some(at(0) + instant), Refused::EndsInThePast),
            (Some(at(2)), Some(at(2)), Refused::EndsBeforeItBegins),
            (Some(at(2)), Some(at(1)), Refused::EndsBeforeItBegins),
            (year(1969), None, Refused::BeginsOutOfRange),
            (year(10_000), None, Refused::BeginsOutOfRange),
            (None, year(1969), Refused::EndsOutOfRange),
            (None, year(10_000), Refused::EndsOutOfRange),
            (None, Some(DateTime::<Utc>::MAX_UTC), Refused::EndsOutOfRange),
            (Some(DateTime::<Utc>::MIN_UTC), None, Refused::BeginsOutOfRange),
        ] {
            assert_eq!(GrantTerm { from, until }.checked(at(0)), Err(expected), "{from:?} {until:?}");
        }
    }

    #[test]
    fn a_term_is_kept_in_whole_microseconds() {
        let (precise, kept) = (at(1) + TimeDelta::nanoseconds(1_999), at(1) + TimeDelta::microseconds(1));
        let term = GrantTerm { from: Some(precise), until: Some(at(2)) };
        assert_eq!(term.checked(at(0)), Ok(GrantTerm { from: Some(kept), until: Some(at(2)) }));
    }
}
