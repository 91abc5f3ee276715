//! The state of a day of readings, folded from its events. It judges nothing: what happened, happened.

use super::{DeviceId, ReadingsEvent, Resolution};
use chrono::NaiveDate;
use serde::{Deserialize, Serialize};

/// A day of readings as its events have made it. Snapshots hold its JSON form.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Readings {
    /// Nothing is known of the day.
    #[default]
    Empty,
    Day(Day),
}

/// What is known of a day.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Day {
    pub device: DeviceId,
    pub day: NaiveDate,
    pub resolution_s: Resolution,
    /// One entry per slot of the day; watt-hours, or nothing yet.
    pub wh: Vec<Option<i64>>,
}

impl Readings {
    /// The watt-hours of a slot, if they are known.
    pub fn known_wh(&self, slot: u16) -> Option<i64> {
        match self {
            Readings::Empty => None,
            Readings::Day(day) => day.wh.get(usize::from(slot)).copied().flatten(),
        }
    }

    /// History is not judged: of an event that this state would not have produced, what fits the day is kept.
    pub(super) fn apply_event(&mut self, event: ReadingsEvent) {
        let ReadingsEvent::Recorded { device, day, resolution_s, runs } = event;
        if let Readings::Empty = self {
            let wh = vec![None; usize::from(resolution_s.slots_per_day())];
            *self = Readings::Day(Day { device, day, resolution_s, wh });
        }
        let Readings::Day(known) = self else { return };
        if known.resolution_s != resolution_s {
            return;
        }
        for (slot, wh) in runs.iter().flat_map(|run| run.slots()) {
            if let Some(entry) = known.wh.get_mut(usize::from(slot)) {
                *entry = Some(wh);
            }
        }
    }
}
