//! Attempts counted in memory until they are written. Its size does not grow with theirs.

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use daybook_domain::{PLATFORM_TENANT, TenantId};
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// Rows of one kind that a minute may have with everything told apart; as many again with each thing left out.
const ROWS_PER_MINUTE_MAX: usize = 1_000;
/// Counters that wait for the database at the same time.
const WAITING_MAX: usize = 20_000;
/// Characters of a target that are kept.
const TARGET_CHARS_MAX: usize = 100;

/// What was refused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum AttemptKind {
    /// A command that the caller's roles do not permit.
    Command,
    /// A read that they do not permit.
    Read,
    /// A token that nobody holds.
    UnknownToken,
    /// A page of a foreign origin that wanted a socket.
    ForeignOrigin,
    /// A login with a wrong password, or of nobody.
    FailedLogin,
}

impl AttemptKind {
    pub const ALL: &'static [AttemptKind] = &[
        AttemptKind::Command,
        AttemptKind::Read,
        AttemptKind::UnknownToken,
        AttemptKind::ForeignOrigin,
        AttemptKind::FailedLogin,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            AttemptKind::Command => "command",
            AttemptKind::Read => "read",
            AttemptKind::UnknownToken => "unknown_token",
            AttemptKind::ForeignOrigin => "foreign_origin",
            AttemptKind::FailedLogin => "failed_login",
        }
    }
}

/// One refused attempt.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Attempt {
    pub kind: AttemptKind,
    /// Whose administrators are to see it.
    pub tenant: TenantId,
    pub actor: Option<Uuid>,
    /// The permission that was missing, or the door that stayed shut.
    pub action: &'static str,
    /// What it was aimed at. Never a token, never content.
    pub target: Option<String>,
}

impl Attempt {
    /// The same with less told apart; `None` when nothing is left to leave out.
    fn coarser(mut self, level: usize) -> Option<Self> {
        if level >= 1 {
            self.target = None;
        }
        if level >= 2 {
            self.actor = None;
        }
        if level >= 3 {
            self.tenant = PLATFORM_TENANT;
        }
        (level < LEVELS).then_some(self)
    }
}

const LEVELS: usize = 4;

/// How often, and when first and last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Counted {
    pub(super) first_at: DateTime<Utc>,
    pub(super) last_at: DateTime<Utc>,
    pub(super) count: u64,
}

impl Counted {
    fn merge(&mut self, other: Counted) {
        self.first_at = self.first_at.min(other.first_at);
        self.last_at = self.last_at.max(other.last_at);
        self.count += other.count;
    }
}

/// Counters by minute and attempt.
pub(super) type Counters = HashMap<(DateTime<Utc>, Attempt), Counted>;

#[derive(Default)]
pub(super) struct Pending {
    counters: Counters,
    /// The minute that `told_apart` is about.
    minute: Option<DateTime<Utc>>,
    /// What has a row of its own in this minute, written or not.
    told_apart: HashSet<Attempt>,
    /// How many of them, by kind and by how much is left out.
    rows: HashMap<(AttemptKind, usize), usize>,
    pub(super) lost: u64,
}

impl Pending {
    pub(super) fn count(&mut self, mut attempt: Attempt, now: DateTime<Utc>) {
        if let Some(target) = &mut attempt.target
            && let Some((end, _)) = target.char_indices().nth(TARGET_CHARS_MAX)
        {
            target.truncate(end);
        }
        let minute = now.duration_trunc(TimeDelta::minutes(1)).unwrap_or(now);
        if self.minute != Some(minute) {
            self.minute = Some(minute);
            self.told_apart.clear();
            self.rows.clear();
        }
        let once = Counted { first_at: now, last_at: now, count: 1 };
        match self.row_of(attempt) {
            Some(row) => self.add((minute, row), once),
            None => self.lost += 1,
        }
    }

    /// The row that an attempt is counted in.
    fn row_of(&mut self, attempt: Attempt) -> Option<Attempt> {
        let kind = attempt.kind;
        let mut level = 0;
        while let Some(row) = attempt.clone().coarser(level) {
            if self.told_apart.contains(&row) {
                return Some(row);
            }
            let rows = self.rows.entry((kind, level)).or_default();
            if *rows < ROWS_PER_MINUTE_MAX {
                *rows += 1;
                self.told_apart.insert(row.clone());
                return Some(row);
            }
            level += 1;
        }
        None
    }

    fn add(&mut self, key: (DateTime<Utc>, Attempt), counted: Counted) {
        if let Some(known) = self.counters.get_mut(&key) {
            known.merge(counted);
        } else if self.counters.len() < WAITING_MAX {
            self.counters.insert(key, counted);
        } else {
            self.lost += counted.count;
        }
    }

    pub(super) fn take(&mut self) -> Counters {
        std::mem::take(&mut self.counters)
    }

    pub(super) fn put_back(&mut self, counters: Counters) {
        if self.counters.is_empty() {
            self.counters = counters;
            return;
        }
        for (key, counted) in counters {
            self.add(key, counted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(target: &str) -> Attempt {
        Attempt {
            kind: AttemptKind::UnknownToken,
            tenant: PLATFORM_TENANT,
            actor: None,
            action: "authenticate",
            target: Some(target.to_owned()),
        }
    }

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(second)
    }

    fn total(counters: &Counters) -> u64 {
        counters.values().map(|counted| counted.count).sum()
    }

    #[test]
    fn a_burst_of_one_kind_is_one_counter_per_minute() {
        let mut pending = Pending::default();
        (0..100_000).for_each(|n| pending.count(attempt("same"), at(n / 1_000)));
        let counters = pending.take();
        assert_eq!(counters.len(), 2, "seconds 0 to 99 are in two minutes");
        assert_eq!((total(&counters), pending.lost), (100_000, 0));
        let first = counters.iter().find(|((minute, _), _)| *minute == at(0)).map(|(_, counted)| *counted);
        assert_eq!(first, Some(Counted { first_at: at(0), last_at: at(59), count: 60_000 }));
    }

    #[test]
    fn a_flood_of_different_ones_is_counted_together_and_none_is_lost() {
        let mut pending = Pending::default();
        let mut rows = 0;
        for n in 0..100_000 {
            pending.count(attempt(&n.to_string()), at(0));
            // Written ever so often: what a minute may have does not begin anew with it.
            if n % 10_000 == 0 {
                rows += pending.take().len();
            }
        }
        let rest = pending.take();
        assert!(rows + rest.len() <= ROWS_PER_MINUTE_MAX + 11, "{rows} + {}", rest.len());
        assert_eq!(pending.lost, 0);
    }

    #[test]
    fn a_flood_of_one_kind_hides_no_other_kind() {
        let mut pending = Pending::default();
        (0..10_000).for_each(|n| pending.count(attempt(&n.to_string()), at(0)));
        let command = Attempt { kind: AttemptKind::Command, actor: Some(Uuid::nil()), ..attempt("x") };
        pending.count(command.clone(), at(1));
        assert!(pending.take().contains_key(&(at(0), command)));
    }

    #[test]
    fn while_the_database_is_away_memory_is_bounded_and_the_rest_is_told_as_lost() {
        let mut pending = Pending::default();
        let mut all = 0;
        for minute in 0..25 {
            for n in 0..1_000 {
                pending.count(attempt(&n.to_string()), at(minute * 60));
                all += 1;
            }
            let waiting = pending.take();
            pending.put_back(waiting);
        }
        let counters = pending.take();
        assert_eq!(counters.len(), WAITING_MAX);
        assert_eq!(total(&counters) + pending.lost, all);
    }

    #[test]
    fn a_target_is_cut_short() {
        let mut pending = Pending::default();
        pending.count(attempt(&"ü".repeat(500)), at(0));
        let counters = pending.take();
        let target = counters.keys().next().and_then(|(_, attempt)| attempt.target.clone());
        assert_eq!(target, Some("ü".repeat(TARGET_CHARS_MAX)));
    }
}
