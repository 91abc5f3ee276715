//! Readings one by one as they come in, and in runs as they are written down.

use super::{Quality, Resolution};
use chrono::serde::ts_microseconds;
use chrono::{DateTime, Duration, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One reading: the energy of the slot that begins at `start`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Row {
    // A short form for the hash of a request. What is finer than a microsecond is refused either way.
    #[serde(with = "ts_microseconds")]
    pub start: DateTime<Utc>,
    pub energy_wh: i64,
    pub quality: Quality,
}

/// Readings of consecutive slots and one quality.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// The number of the first slot within the day; the first slot of a day is 0.
    pub from_slot: u16,
    /// Absent if the values were measured.
    #[serde(default = "Quality::measured", skip_serializing_if = "Quality::is_measured")]
    #[schemars(with = "Quality")]
    pub quality: Quality,
    /// Watt-hours of each slot, one after the other.
    pub wh: Vec<i64>,
}

impl Run {
    pub(super) fn rows(&self, midnight: DateTime<Utc>, resolution: Resolution) -> impl Iterator<Item = Row> + '_ {
        let quality = self.quality;
        self.slots().map(move |(slot, energy_wh)| {
            let start = midnight + Duration::seconds(i64::from(slot) * i64::from(resolution.seconds()));
            Row { start, energy_wh, quality }
        })
    }

    /// Each slot's number and watt-hours. Numbers that no day has are left out: history is not judged.
    pub(super) fn slots(&self) -> impl Iterator<Item = (u16, i64)> + '_ {
        (self.from_slot..=u16::MAX).zip(self.wh.iter().copied())
    }
}

/// Runs of slots that are in order and distinct.
pub(super) fn runs(slots: &[(u16, i64, Quality)]) -> Vec<Run> {
    let follows = |one: &(u16, i64, Quality), next: &(u16, i64, Quality)| one.0 + 1 == next.0 && one.2 == next.2;
    let run = |slots: &[(u16, i64, Quality)]| {
        let (from_slot, _, quality) = *slots.first()?;
        Some(Run { from_slot, quality, wh: slots.iter().map(|(_, wh, _)| *wh).collect() })
    };
    slots.chunk_by(follows).filter_map(run).collect()
}
