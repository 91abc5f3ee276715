//! What is sent when: event n goes off n / rate after the start, and is the one reading of its device and slot.
//!
//! A device's readings go to several days in turn, because each day is a stream: in life too, those that arrive in the
//! same few milliseconds are of different meters, and writing one stream from many sides is another measurement.

use super::{LatencyError, Options};
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Seconds of a slot.
pub(super) const RESOLUTION_S: u32 = 900;
/// The first slot: 2000-01-01.
const EPOCH_S: i64 = 946_684_800;
/// Slots of a day.
const DAY_SLOTS: usize = 96;
/// Days of a device, at most: until the end of 2025.
const DAYS_MAX: usize = 26 * 365;

/// Cloning is cheap.
#[derive(Clone)]
pub(super) struct Plan {
    inner: Arc<Inner>,
}

struct Inner {
    start: Instant,
    rate: u32,
    warm_up: u32,
    seconds: u32,
    /// Streams of a device in turn.
    days: usize,
    tenant: Uuid,
    devices: Vec<Uuid>,
    numbers: HashMap<Uuid, usize>,
}

impl Plan {
    pub(super) fn new(
        start: Instant,
        options: &Options,
        tenant: Uuid,
        devices: Vec<Uuid>,
    ) -> Result<Self, LatencyError> {
        let numbers = devices.iter().enumerate().map(|(n, device)| (*device, n)).collect();
        let Options { rate, warm_up, seconds, days, .. } = *options;
        let days = days as usize;
        let plan = Plan { inner: Arc::new(Inner { start, rate, warm_up, seconds, days, tenant, devices, numbers }) };
        let turns = plan.total() / plan.inner.devices.len().max(1) / (days * DAY_SLOTS) + 1;
        if turns * days > DAYS_MAX {
            return Err(LatencyError::TooLong);
        }
        Ok(plan)
    }

    /// Events, those of the warm-up among them.
    pub(super) fn total(&self) -> usize {
        self.inner.rate as usize * (self.inner.warm_up + self.inner.seconds) as usize
    }

    /// The first event that is measured.
    pub(super) fn first(&self) -> usize {
        self.inner.rate as usize * self.inner.warm_up as usize
    }

    pub(super) fn due(&self, event: usize) -> Instant {
        let nanos = event as u128 * 1_000_000_000 / u128::from(self.inner.rate);
        self.inner.start + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    pub(super) fn begin(&self) -> Instant {
        self.due(self.first())
    }

    pub(super) fn end(&self) -> Instant {
        self.due(self.total())
    }

    pub(super) fn tenant(&self) -> Uuid {
        self.inner.tenant
    }

    /// Device, beginning of the slot, and watt-hours.
    pub(super) fn reading(&self, event: usize) -> (Uuid, DateTime<Utc>, i64) {
        let (count, days) = (self.inner.devices.len(), self.inner.days);
        let number = event / count;
        // As many days as there are in a turn fill up beside each other, then the next ones.
        let (turn, rest) = (number / (days * DAY_SLOTS), number % (days * DAY_SLOTS));
        let slot = i64::try_from((turn * days + rest % days) * DAY_SLOTS + rest / days).unwrap_or(i64::MAX);
        let epoch = DateTime::from_timestamp(EPOCH_S, 0).unwrap_or_default();
        let start = epoch + TimeDelta::seconds(slot * i64::from(RESOLUTION_S));
        (self.inner.devices[event % count], start, slot % 1_000)
    }

    /// The event of which a listener has heard.
    pub(super) fn event(&self, device: Uuid, start: DateTime<Utc>, energy_wh: i64) -> Option<usize> {
        let (count, days) = (self.inner.devices.len(), self.inner.days);
        let device_number = *self.inner.numbers.get(&device)?;
        let seconds = start.timestamp().checked_sub(EPOCH_S)?;
        let slot = usize::try_from(seconds / i64::from(RESOLUTION_S)).ok()?;
        let (day, slot) = (slot / DAY_SLOTS, slot % DAY_SLOTS);
        let event = (day / days * DAY_SLOTS * days + slot * days + day % days) * count + device_number;
        (event < self.total() && self.reading(event) == (device, start, energy_wh)).then_some(event)
    }
}

/// With one second of warm-up, as the command line would make it.
#[cfg(test)]
pub(super) fn plan(rate: u32, seconds: u32, days: u32, devices: u128) -> Result<Plan, LatencyError> {
    use clap::Parser as _;
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }
    let arguments = ["--rate", &rate.to_string(), "--seconds", &seconds.to_string(), "--days", &days.to_string()];
    let line = Line::parse_from(["bench", "--warm-up", "1"].into_iter().chain(arguments));
    Plan::new(Instant::now(), &line.options, Uuid::nil(), (1..=devices).map(Uuid::from_u128).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_known_again_by_its_reading() {
        for days in [1, 7] {
            let plan = plan(500, 5, days, 3).unwrap();
            for event in 0..plan.total() {
                let (device, start, energy_wh) = plan.reading(event);
                assert_eq!(plan.event(device, start, energy_wh), Some(event));
                assert_eq!(plan.event(device, start, energy_wh + 1), None);
                assert_eq!(plan.event(Uuid::from_u128(4), start, energy_wh), None);
                assert_eq!(plan.event(device, start + TimeDelta::seconds(1), energy_wh), None);
            }
        }
    }

    #[test]
    fn a_stream_rests_for_as_many_events_as_there_are_devices_and_days() {
        let plan = plan(500, 5, 7, 3).unwrap();
        let stream = |event: usize| {
            let (device, start, _) = plan.reading(event);
            (device, start.date_naive())
        };
        let others: std::collections::HashSet<_> = (0..3 * 7).map(stream).collect();
        assert_eq!(others.len(), 3 * 7);
        assert_eq!(stream(3 * 7), stream(0));
        assert!(!others.contains(&stream(3 * 7 * 96)), "a full day is left");
    }

    #[test]
    fn the_schedule_drifts_by_nothing() {
        let plan = plan(500, 1, 1, 3).unwrap();
        assert_eq!(plan.total(), 1_000);
        assert_eq!(plan.due(1) - plan.due(0), Duration::from_millis(2));
        assert_eq!(plan.end() - plan.begin(), Duration::from_secs(1));
    }

    #[test]
    fn more_readings_than_there_were_slots_are_refused() {
        assert!(matches!(plan(100_000, 600, 1, 1), Err(LatencyError::TooLong)));
    }
}
