//! Local wall time and a time zone become an instant, and the two times a year when they don't are outcomes of their own:
//! a time in the gap never was, and a time in the repeated hour was twice.
//!
//! Nothing is guessed: a gap is refused, and a repeated time is told apart only by its place in a file that is in order.

use crate::aggregate::Refusal;
use chrono::{DateTime, Duration, MappedLocalTime, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Utc};
use chrono_tz::{GapInfo, Tz};

#[cfg(test)]
mod tests;

/// What a local time is in its zone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LocalTime {
    Unique(DateTime<Utc>),
    /// The clocks were set back over it, so it was twice.
    Ambiguous {
        earlier: DateTime<Utc>,
        later: DateTime<Utc>,
    },
    /// The clocks were set forward over it, from `from` to `to`, at the instant `at`.
    Gap {
        from: NaiveDateTime,
        to: NaiveDateTime,
        at: DateTime<Utc>,
    },
}

/// What the wall clocks of the zone make of a local time.
pub fn resolve(local: NaiveDateTime, zone: Tz) -> LocalTime {
    match zone.from_local_datetime(&local) {
        MappedLocalTime::Single(instant) => LocalTime::Unique(instant.to_utc()),
        MappedLocalTime::Ambiguous(one, other) => {
            let (one, other) = (one.to_utc(), other.to_utc());
            LocalTime::Ambiguous { earlier: one.min(other), later: one.max(other) }
        }
        MappedLocalTime::None => {
            // A gap lies between two offsets that the database knows, so both of its ends are there.
            let gap = GapInfo::new(&local, &zone);
            let end = gap.as_ref().and_then(|gap| gap.end);
            LocalTime::Gap {
                from: gap.and_then(|gap| gap.begin).map_or(local, |(from, _)| from),
                to: end.map_or(local, |end| end.naive_local()),
                at: end.map_or_else(|| local.and_utc(), |end| end.to_utc()),
            }
        }
    }
}

/// The first instant of a local day: midnight, or what comes in its place where clocks are set at midnight.
pub fn start_of_day(date: NaiveDate, zone: Tz) -> DateTime<Utc> {
    match resolve(date.and_time(NaiveTime::MIN), zone) {
        LocalTime::Unique(instant)
        | LocalTime::Ambiguous { earlier: instant, .. }
        | LocalTime::Gap { at: instant, .. } => instant,
    }
}

/// A local day, from its first instant to the first of the next day: 23, 24 or 25 hours in most zones.
/// Empty where a country left the day out, as Samoa did with 2011-12-30.
pub fn day_bounds(date: NaiveDate, zone: Tz) -> (DateTime<Utc>, DateTime<Utc>) {
    let next = date.succ_opt().unwrap_or(date);
    (start_of_day(date, zone), start_of_day(next, zone))
}

/// Why a local time of a file has no instant.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LocalTimeError {
    #[error(
        "{local} does not exist in {zone}: the clocks were set forward from {from} to {to}; correct it or send times with an offset"
    )]
    Gap { local: NaiveDateTime, zone: Tz, from: NaiveDateTime, to: NaiveDateTime },
    #[error(
        "{local} was twice in {zone}, and its place after {after} tells neither which; send rows in order of time, or times with an offset"
    )]
    OutOfOrder { local: NaiveDateTime, zone: Tz, after: DateTime<Utc> },
}

impl Refusal for LocalTimeError {
    fn code(&self) -> &'static str {
        match self {
            Self::Gap { .. } => "LOCAL_TIME_IN_GAP",
            Self::OutOfOrder { .. } => "LOCAL_TIME_AMBIGUOUS",
        }
    }

    fn path(&self) -> &'static [&'static str] {
        &["start"]
    }
}

/// Resolves the local times of one device in the order of a file, one time after the other.
///
/// In the repeated hour, the first pass is the earlier one and the second the later one. The same time twice in a row
/// is a repeated row, unless a slot is as long as what is repeated. Times that are unique need no order.
#[derive(Clone, Debug)]
pub struct InOrder {
    zone: Tz,
    slot: Duration,
    last: Option<(NaiveDateTime, DateTime<Utc>)>,
}

impl InOrder {
    pub fn new(zone: Tz, slot_s: u32) -> Self {
        Self { zone, slot: Duration::seconds(i64::from(slot_s)), last: None }
    }

    /// The instant of the next local time.
    ///
    /// # Errors
    /// A time in a gap, or a repeated time whose place in the file doesn't tell which. The file goes on as if the row
    /// were not there.
    pub fn next(&mut self, local: NaiveDateTime) -> Result<DateTime<Utc>, LocalTimeError> {
        let zone = self.zone;
        let instant = match resolve(local, zone) {
            LocalTime::Unique(instant) => instant,
            LocalTime::Gap { from, to, .. } => return Err(LocalTimeError::Gap { local, zone, from, to }),
            LocalTime::Ambiguous { earlier, later } => match self.last {
                None => earlier,
                Some((_, last)) if earlier > last => earlier,
                Some((same, last)) if same == local => {
                    let second_pass = last == later || last + self.slot == later;
                    if second_pass { later } else { earlier }
                }
                Some((_, last)) if later > last => later,
                Some((_, after)) => return Err(LocalTimeError::OutOfOrder { local, zone, after }),
            },
        };
        self.last = Some((local, instant));
        Ok(instant)
    }
}

/// A point in time as text: with an offset it is an instant, without one it is what a wall clock shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stamp {
    Instant(DateTime<Utc>),
    Local(NaiveDateTime),
}

/// Why a text is no point in time. Never repeats the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "a time is written 2016-03-27T02:15, with seconds and an offset such as Z or +01:00 if there are any; without an offset it is local to the site"
)]
pub struct MalformedTime;

impl Refusal for MalformedTime {
    fn code(&self) -> &'static str {
        "TIME_MALFORMED"
    }

    fn path(&self) -> &'static [&'static str] {
        &["start"]
    }
}

impl Stamp {
    /// ISO 8601 as RFC 3339 has it, seconds and offset optional, `T` or a space between: `2016-03-27 02:15`,
    /// `2016-03-27T02:15:00.000+01:00`. A date with points is day first: `27.03.2016 02:15`.
    pub fn parse(text: &str) -> Result<Self, MalformedTime> {
        let text = text.trim();
        let (Some(date), Some(time)) = (text.get(..10), text.get(11..)) else { return Err(MalformedTime) };
        if !matches!(text.as_bytes()[10], b'T' | b't' | b' ') {
            return Err(MalformedTime);
        }
        let (time, offset_s) = match time.strip_suffix(['Z', 'z']) {
            Some(time) => (time, Some(0)),
            None => match time.rfind(['+', '-']) {
                Some(at) => (&time[..at], Some(offset_seconds(&time[at..])?)),
                None => (time, None),
            },
        };
        let local = parse_date(date)?.and_time(parse_time(time)?);
        match offset_s {
            None => Ok(Self::Local(local)),
            Some(offset_s) => {
                let utc = local.checked_sub_signed(Duration::seconds(offset_s)).ok_or(MalformedTime)?;
                Ok(Self::Instant(utc.and_utc()))
            }
        }
    }
}

/// `YYYY-MM-DD` or `DD.MM.YYYY`, nothing shorter or longer. No slashes: half the world reads them the other way round.
fn parse_date(text: &str) -> Result<NaiveDate, MalformedTime> {
    let separated = |first: usize, second: usize, by: u8| {
        let bytes = text.as_bytes();
        bytes.len() == 10 && bytes[first] == by && bytes[second] == by
    };
    let (year, month, day) = if separated(4, 7, b'-') {
        (number(text, 0, 4)?, number(text, 5, 7)?, number(text, 8, 10)?)
    } else if separated(2, 5, b'.') {
        (number(text, 6, 10)?, number(text, 3, 5)?, number(text, 0, 2)?)
    } else {
        return Err(MalformedTime);
    };
    let year = i32::try_from(year).map_err(|_| MalformedTime)?;
    NaiveDate::from_ymd_opt(year, month, day).ok_or(MalformedTime)
}

/// `HH:MM`, `HH:MM:SS` or `HH:MM:SS.f`, with up to nine digits of a fraction. No leap seconds: no slot begins in one.
fn parse_time(text: &str) -> Result<NaiveTime, MalformedTime> {
    let (hour, minute) = (number(text, 0, 2)?, number(text, 3, 5)?);
    let mut separated = text.get(2..3) == Some(":");
    let (mut second, mut nano) = (0, 0);
    if text.len() > 5 {
        separated &= text.get(5..6) == Some(":");
        second = number(text, 6, 8)?;
    }
    if text.len() > 8 {
        separated &= text.get(8..9) == Some(".");
        let digits = text.len() - 9;
        if !(1..=9).contains(&digits) {
            return Err(MalformedTime);
        }
        nano = (digits..9).fold(number(text, 9, text.len())?, |nano, _| nano * 10);
    }
    NaiveTime::from_hms_nano_opt(hour, minute, second, nano).filter(|_| separated).ok_or(MalformedTime)
}

/// `+HH:MM` or `-HH:MM`, up to 23:59.
fn offset_seconds(text: &str) -> Result<i64, MalformedTime> {
    let (hours, minutes) = (number(text, 1, 3)?, number(text, 4, 6)?);
    if text.len() != 6 || text.get(3..4) != Some(":") || hours > 23 || minutes > 59 {
        return Err(MalformedTime);
    }
    let seconds = i64::from(hours * 3600 + minutes * 60);
    Ok(if text.starts_with('-') { -seconds } else { seconds })
}

/// The decimal digits between two bytes of a text.
fn number(text: &str, from: usize, to: usize) -> Result<u32, MalformedTime> {
    let digits = text.get(from..to).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit())).ok_or(MalformedTime)?;
    digits.parse().map_err(|_| MalformedTime)
}
