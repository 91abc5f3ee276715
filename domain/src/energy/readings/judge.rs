//! What becomes of each row of a batch: pure, and the same again for the same state.

use super::rows::runs;
use super::{Batch, ROWS_MAX, Readings, ReadingsError, ReadingsEvent, Resolution, Row, readings_stream, utc_day};
use crate::aggregate::Refusal;
use crate::context::Context;
use crate::energy::values::Direction;
use chrono::{DateTime, Datelike, Duration, NaiveDate, Timelike, Utc};

/// Readings of earlier years come from clocks that lost their battery and count from 1970 or 1980.
pub(super) const YEAR_MIN: i32 = 1990;

/// What becomes of a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Judged {
    /// One for each row, in the order of the rows.
    pub verdicts: Vec<Verdict>,
    /// All accepted rows; none if no row is.
    pub event: Option<ReadingsEvent>,
}

/// What becomes of one row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is in the event.
    Accepted,
    /// The slot has this value already, or an earlier row of the batch gives it. The first one's quality stays.
    Duplicate,
    Rejected(Rejection),
}

/// Why a row is refused, for its sender to act on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Rejection {
    #[error("{start} is not on {day}, the UTC day of the batch; send it with the rows of its own day")]
    OutsideDay { start: DateTime<Utc>, day: NaiveDate },
    #[error(
        "{start} begins no slot of {resolution}, counted from midnight UTC; send the time at which the slot begins"
    )]
    Misaligned { start: DateTime<Utc>, resolution: Resolution },
    #[error("{start} is before {YEAR_MIN}; set the device's clock")]
    TooOld { start: DateTime<Utc> },
    #[error("{start} is in the future: it is {now}; set the device's clock, or check the time zone")]
    InFuture { start: DateTime<Utc>, now: DateTime<Utc> },
    #[error("the slot from {start} ends after the device was decommissioned at {until}; register the device anew")]
    AfterDecommission { start: DateTime<Utc>, until: DateTime<Utc> },
    #[error(
        "{energy_wh} Wh is negative where the device only counts {direction}; send its size, or register a NET device"
    )]
    Negative { energy_wh: i64, direction: Direction },
    #[error(
        "{energy_wh} Wh is more than the {max_wh} Wh that the device can carry in a slot; check the unit, or raise its maximum power"
    )]
    Absurd { energy_wh: i64, max_wh: i64 },
    #[error("the slot from {start} has {known_wh} Wh already, not {energy_wh} Wh; the first value stays")]
    Conflict { start: DateTime<Utc>, energy_wh: i64, known_wh: i64 },
}

impl Refusal for Rejection {
    fn code(&self) -> &'static str {
        match self {
            Self::OutsideDay { .. } => "READING_OUTSIDE_DAY",
            Self::Misaligned { .. } => "READING_MISALIGNED",
            Self::TooOld { .. } => "READING_TOO_OLD",
            Self::InFuture { .. } => "READING_IN_FUTURE",
            Self::AfterDecommission { .. } => "READING_AFTER_DECOMMISSION",
            Self::Negative { .. } => "READING_NEGATIVE",
            Self::Absurd { .. } => "READING_ABSURD",
            Self::Conflict { .. } => "READING_CONFLICT",
        }
    }

    fn path(&self) -> &'static [&'static str] {
        match self {
            Self::OutsideDay { .. }
            | Self::Misaligned { .. }
            | Self::TooOld { .. }
            | Self::InFuture { .. }
            | Self::AfterDecommission { .. } => &["start"],
            Self::Negative { .. } | Self::Absurd { .. } | Self::Conflict { .. } => &["value"],
        }
    }
}

impl Readings {
    /// What becomes of each row, without the event.
    ///
    /// # Errors
    /// As [`Readings::judge`].
    pub fn classify(&self, context: &Context, batch: &Batch) -> Result<Vec<Verdict>, ReadingsError> {
        Ok(self.judge(context, batch)?.verdicts)
    }

    /// What becomes of each row, and the one event that holds those that are accepted. Nothing is changed here.
    ///
    /// # Errors
    /// The whole batch is refused in another stream than its own, with more than [`ROWS_MAX`] rows, or at another
    /// resolution than the day's.
    pub fn judge(&self, context: &Context, batch: &Batch) -> Result<Judged, ReadingsError> {
        let Batch { rules, day, rows } = batch;
        if context.id != readings_stream(rules.device, *day) {
            return Err(ReadingsError::ForeignStream);
        }
        if rows.len() > ROWS_MAX {
            return Err(ReadingsError::TooManyRows { rows: rows.len() });
        }
        let sent = rules.resolution;
        let mut known = match self {
            Readings::Empty => vec![None; usize::from(sent.slots_per_day())],
            Readings::Day(day) if day.resolution_s == sent => day.wh.clone(),
            Readings::Day(day) => return Err(ReadingsError::OtherResolution { known: day.resolution_s, sent }),
        };

        let max_wh = rules.max_power.max_wh(sent);
        let mut accepted = Vec::new();
        let mut verdict = |row: &Row| {
            let slot = match batch.slot(context.now, row).and_then(|slot| batch.plausible(max_wh, row).map(|()| slot)) {
                Ok(slot) => slot,
                Err(rejection) => return Verdict::Rejected(rejection),
            };
            let Row { start, energy_wh, quality } = *row;
            match known.get_mut(usize::from(slot)) {
                None => Verdict::Rejected(Rejection::Misaligned { start, resolution: sent }),
                Some(Some(known_wh)) if *known_wh == energy_wh => Verdict::Duplicate,
                Some(Some(known_wh)) => {
                    Verdict::Rejected(Rejection::Conflict { start, energy_wh, known_wh: *known_wh })
                }
                Some(unknown @ None) => {
                    *unknown = Some(energy_wh);
                    accepted.push((slot, energy_wh, quality));
                    Verdict::Accepted
                }
            }
        };
        let verdicts = rows.iter().map(&mut verdict).collect();
        accepted.sort_unstable_by_key(|(slot, ..)| *slot);
        let event = (!accepted.is_empty()).then(|| ReadingsEvent::Recorded {
            device: rules.device,
            day: *day,
            resolution_s: sent,
            runs: runs(&accepted),
        });
        Ok(Judged { verdicts, event })
    }
}

impl Batch {
    /// The number of the row's slot within the day, if its time is one that a reading can have.
    fn slot(&self, now: DateTime<Utc>, row: &Row) -> Result<u16, Rejection> {
        let (start, resolution) = (row.start, self.rules.resolution);
        let slot_s = Duration::seconds(i64::from(resolution.seconds()));
        if utc_day(start) != self.day {
            return Err(Rejection::OutsideDay { start, day: self.day });
        }
        if start.year() < YEAR_MIN {
            return Err(Rejection::TooOld { start });
        }
        // Clocks differ: one slot of tolerance.
        if start.signed_duration_since(now) > slot_s {
            return Err(Rejection::InFuture { start, now });
        }
        if let Some(until) = self.rules.until.filter(|until| until.signed_duration_since(start) < slot_s) {
            return Err(Rejection::AfterDecommission { start, until });
        }
        let second = start.num_seconds_from_midnight();
        let aligned = start.nanosecond() == 0 && second.checked_rem(resolution.seconds()) == Some(0);
        let slot = second.checked_div(resolution.seconds()).and_then(|slot| u16::try_from(slot).ok());
        slot.filter(|_| aligned).ok_or(Rejection::Misaligned { start, resolution })
    }

    /// Whether the device can have measured the row's energy.
    fn plausible(&self, max_wh: i64, row: &Row) -> Result<(), Rejection> {
        let (energy_wh, direction) = (row.energy_wh, self.rules.direction);
        match direction {
            Direction::Import | Direction::Export if energy_wh < 0 => {
                return Err(Rejection::Negative { energy_wh, direction });
            }
            Direction::Import | Direction::Export | Direction::Net => {}
        }
        match energy_wh.unsigned_abs() > max_wh.unsigned_abs() {
            true => Err(Rejection::Absurd { energy_wh, max_wh }),
            false => Ok(()),
        }
    }
}
