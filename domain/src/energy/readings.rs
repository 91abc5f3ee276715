//! The readings of one device and one UTC day: a stream of its own, found by [`readings_stream`] alone.
//!
//! A slot's first value stays: the same value again is a duplicate and needs no event, another value is a conflict and is
//! refused. Each row of a batch is judged by itself ([`Readings::judge`]); one event holds all rows that were accepted.
//! It knows nothing of local time and units: rows come in UTC and whole watt-hours, judged by the device's own rules.

mod judge;
mod rows;
mod state;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

pub use super::values::{DeviceId, Quality, ReadingRules, Resolution, readings_stream, utc_day};
pub use judge::{Judged, Rejection, Verdict};
pub use rows::{Row, Run};
pub use state::{Day, Readings};

use crate::action::{Action, Guarded};
use crate::aggregate::{EventSourced, Refusal};
use crate::context::Context;
use crate::rules::Resource;
use chrono::{NaiveDate, NaiveDateTime};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use std::borrow::Cow;

/// Rules of readings look at the device that they are of.
pub static RESOURCE: Resource = Resource {
    name: Cow::Borrowed("readings"),
    fields: Cow::Borrowed(super::device::DEVICE_FIELDS),
    owner: None,
    hideable: &[],
};

/// A batch has at most so many rows: a day of minutes.
pub const ROWS_MAX: usize = 1_440;

/// What can be asked of a day of readings. Its JSON form is for the hash of a request; it is never read back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadingsCommand {
    Record(Batch),
}

/// Rows of one device and one UTC day, in any order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Batch {
    // The rules are ours, not the caller's: a repeat after they have changed is the same request.
    #[serde(serialize_with = "device_alone", rename = "device")]
    pub rules: ReadingRules,
    pub day: NaiveDate,
    pub rows: Vec<Row>,
}

fn device_alone<S: Serializer>(rules: &ReadingRules, serializer: S) -> Result<S::Ok, S::Error> {
    rules.device.serialize(serializer)
}

impl Guarded for ReadingsCommand {
    fn action(&self) -> Action {
        match self {
            Self::Record(_) => Action::ReadingsRecord,
        }
    }
}

/// What happened to a day of readings. A payload in the journal is the inner object; its tag is in the event's type.
// The lines below are the descriptions in the published schemas.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReadingsEvent {
    /// Readings were accepted. Slot n begins n × resolution_s seconds after midnight UTC of the day and is as long as the
    /// resolution. Slots in no run of any event of the day are unknown, not zero.
    Recorded {
        device: DeviceId,
        /// The UTC day.
        day: NaiveDate,
        resolution_s: Resolution,
        /// In order of time; no slot is in two runs.
        runs: Vec<Run>,
    },
}

impl ReadingsEvent {
    /// The readings, one by one, in order of time.
    pub fn rows(&self) -> impl Iterator<Item = Row> + '_ {
        let Self::Recorded { day, resolution_s, runs, .. } = self;
        let midnight = NaiveDateTime::from(*day).and_utc();
        runs.iter().flat_map(move |run| run.rows(midnight, *resolution_s))
    }
}

impl cqrs_es::DomainEvent for ReadingsEvent {
    fn event_type(&self) -> String {
        match self {
            Self::Recorded { .. } => "energy.readings.recorded".to_owned(),
        }
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}

impl crate::Versioned for ReadingsEvent {}

/// Why a whole batch is refused. A row that is at fault alone is a [`Rejection`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReadingsError {
    #[error("readings belong in the stream of their device and UTC day; use the id that these two give")]
    ForeignStream,
    #[error("a batch has {rows} rows, and at most {ROWS_MAX}; send it in parts")]
    TooManyRows { rows: usize },
    #[error("the day has readings of {known} already, not of {sent}; register another device for another resolution")]
    OtherResolution { known: Resolution, sent: Resolution },
}

impl Refusal for ReadingsError {
    fn code(&self) -> &'static str {
        match self {
            Self::ForeignStream => "READINGS_FOREIGN_STREAM",
            Self::TooManyRows { .. } => "READINGS_TOO_MANY_ROWS",
            Self::OtherResolution { .. } => "READINGS_OTHER_RESOLUTION",
        }
    }

    fn path(&self) -> &'static [&'static str] {
        match self {
            Self::TooManyRows { .. } => &["rows"],
            Self::ForeignStream | Self::OtherResolution { .. } => &[],
        }
    }
}

crate::cqrs_aggregate!(
    Readings,
    type = "readings",
    command = ReadingsCommand,
    event = ReadingsEvent,
    error = ReadingsError
);

impl EventSourced for Readings {
    const CONTEXT: &'static str = "energy";

    fn decide(&self, context: &Context, command: ReadingsCommand) -> Result<Vec<ReadingsEvent>, ReadingsError> {
        match command {
            ReadingsCommand::Record(batch) => Ok(self.judge(context, &batch)?.event.into_iter().collect()),
        }
    }
}
