//! The values that devices and their readings are made of.
//!
//! As everywhere, `parse` judges input and decoding judges nothing: whatever reads these from history must bear a
//! resolution of 0 or a time zone that this program has never heard of.

use crate::value::{InvalidValue, Name, one_line, text_newtype};
use chrono::{DateTime, Datelike, NaiveDate, Offset, TimeZone as _, Utc};
use chrono_tz::Tz;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use uuid::Uuid;

/// A device; the id of its stream.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct DeviceId(pub Uuid);

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! choice {
    (
        $(#[$doc:meta])* $name:ident, $path:expr, $refusal:literal;
        $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, JsonSchema)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $text)] $variant,)+
        }

        impl $name {
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            pub fn parse(text: &str) -> Result<Self, InvalidValue> {
                let known = Self::ALL.iter().copied().find(|known| known.as_str() == text);
                known.ok_or_else(|| InvalidValue::new($path, "UNKNOWN_VALUE", $refusal))
            }

            pub fn as_str(self) -> &'static str {
                match self {
                    $($name::$variant => $text,)+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

choice! {
    /// What a device is: which part of a site's balance its energy belongs to.
    DeviceKind, &["kind"], "a device is a METER, PV, WIND, BATTERY, EV_CHARGER, HEAT_PUMP or LOAD";
    // Variants carry no doc comments: the schema would become one branch per variant.
    Meter = "METER",
    Pv = "PV",
    Wind = "WIND",
    Battery = "BATTERY",
    EvCharger = "EV_CHARGER",
    HeatPump = "HEAT_PUMP",
    Load = "LOAD",
}

choice! {
    /// Which way the energy flows. IMPORT: into the site or the device, never negative. EXPORT: out of it, never negative.
    /// NET: import less export, so it has a sign.
    Direction, &["direction"], "a direction is IMPORT, EXPORT or NET";
    Import = "IMPORT",
    Export = "EXPORT",
    Net = "NET",
}

choice! {
    /// Where a value comes from. ESTIMATED: by whoever sent it. SUBSTITUTED: put in place of a faulty one.
    Quality, &["quality"], "a quality is MEASURED, ESTIMATED or SUBSTITUTED";
    Measured = "MEASURED",
    Estimated = "ESTIMATED",
    Substituted = "SUBSTITUTED",
}

impl Quality {
    pub(super) fn measured() -> Self {
        Quality::Measured
    }

    // The shape that serde asks for.
    #[allow(clippy::trivially_copy_pass_by_ref)]
    pub(super) fn is_measured(&self) -> bool {
        *self == Quality::Measured
    }
}

/// The length of a slot, in seconds. It divides a day, so that no slot crosses midnight UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Resolution(u32);

impl Resolution {
    pub const ALL_S: [u32; 6] = [60, 300, 600, 900, 1800, 3600];

    pub fn parse(seconds: i64) -> Result<Self, InvalidValue> {
        let known = Self::ALL_S.into_iter().find(|known| i64::from(*known) == seconds);
        known.map(Self).ok_or_else(|| {
            let message = "a resolution is 60, 300, 600, 900, 1800 or 3600 seconds";
            InvalidValue::new(&["resolutionS"], "UNKNOWN_VALUE", message)
        })
    }

    pub fn seconds(self) -> u32 {
        self.0
    }

    /// 96 for 900 s. 0 for a resolution that no release has accepted.
    pub fn slots_per_day(self) -> u16 {
        86_400_u32.checked_div(self.0).and_then(|slots| u16::try_from(slots).ok()).unwrap_or(0)
    }
}

impl fmt::Display for Resolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.0)
    }
}

/// What a device can carry at most, in watts: readings above it are absurd.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct MaxPower(u64);

impl MaxPower {
    /// 10 GW: nothing with one meter is larger.
    pub const W_MAX: i64 = 10_000_000_000;

    pub fn parse(watts: i64) -> Result<Self, InvalidValue> {
        let positive = u64::try_from(watts).ok().filter(|watts| (1..=Self::W_MAX.unsigned_abs()).contains(watts));
        positive.map(Self).ok_or_else(|| {
            let message = "a maximum power is 1 to 10000000000 watts";
            InvalidValue::new(&["maxPowerW"], "OUT_OF_RANGE", message)
        })
    }

    pub fn watts(self) -> u64 {
        self.0
    }

    /// The most whole watt-hours of one slot, rounded up: rounding to whole watt-hours, also cumulatively, stays below.
    pub fn max_wh(self, resolution: Resolution) -> i64 {
        let watt_seconds = u128::from(self.0) * u128::from(resolution.seconds());
        i64::try_from(watt_seconds.div_ceil(3600)).unwrap_or(i64::MAX)
    }
}

text_newtype!(
    /// A manufacturer's serial number, as it is printed on the device.
    Serial
);

impl Serial {
    pub const CHARS_MAX: usize = 64;

    /// 1–64 characters after trimming, on one line.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        one_line(&["serial"], "a serial number", text, Self::CHARS_MAX).map(Self)
    }

    /// What must be unique: the same device in another spelling has the same key.
    pub fn key(&self) -> String {
        Self::fold(&self.0)
    }

    /// The key of any text, also of a part of a serial number.
    pub fn fold(text: &str) -> String {
        text.chars().filter(|c| !c.is_whitespace()).flat_map(char::to_uppercase).collect()
    }
}

text_newtype!(
    /// A time zone of the IANA database, e.g. `Europe/Berlin`. Never a fixed offset: those are wrong half of the year.
    TimeZone
);

impl TimeZone {
    /// One of the database's names, in its spelling.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let zone = text.trim().parse::<Tz>().map_err(|_| {
            let message = "a time zone is a name of the IANA database such as Europe/Berlin, in that spelling";
            InvalidValue::new(&["site", "timeZone"], "UNKNOWN_VALUE", message)
        })?;
        Ok(Self(zone.name().to_owned()))
    }

    /// None if an older journal names a zone that this program's database lacks.
    pub fn tz(&self) -> Option<Tz> {
        self.0.parse().ok()
    }

    /// Whether slots of that length, counted from midnight UTC, begin on the zone's own hours too.
    /// Hours of Asia/Kolkata (+5:30) begin half past in UTC, so it takes 1800 s and less.
    pub fn suits(&self, resolution: Resolution) -> bool {
        let Some(zone) = self.tz() else { return false };
        // Later than the oddities that no meter of today has seen, and as far as 32-bit clocks reach.
        let months =
            (2000..2038).flat_map(|year| (1..=12).filter_map(move |month| NaiveDate::from_ymd_opt(year, month, 1)));
        months.filter_map(|date| date.and_hms_opt(0, 0, 0)).all(|moment| {
            let offset_s = zone.offset_from_utc_datetime(&moment).fix().local_minus_utc();
            i64::from(offset_s).checked_rem_euclid(i64::from(resolution.seconds())) == Some(0)
        })
    }
}

/// Where a device stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Site {
    pub name: Name,
    pub time_zone: TimeZone,
}

impl Site {
    pub fn parse(name: &str, time_zone: &str) -> Result<Self, InvalidValue> {
        Ok(Self {
            name: Name::parse(name).map_err(|refusal| refusal.at(&["site", "name"]))?,
            time_zone: TimeZone::parse(time_zone)?,
        })
    }
}

/// What a device demands of its readings. Comes from the device's state, never from whoever sends readings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadingRules {
    pub device: DeviceId,
    pub resolution: Resolution,
    pub direction: Direction,
    pub max_power: MaxPower,
    /// No slot ends later than this. None while the device is in service.
    pub until: Option<DateTime<Utc>>,
}

/// The UTC day that a slot belongs to: the day it begins on.
pub fn utc_day(start: DateTime<Utc>) -> NaiveDate {
    start.date_naive()
}

/// The stream of a device's readings of one UTC day: uuid5(device, "YYYY-MM-DD").
pub fn readings_stream(device: DeviceId, day: NaiveDate) -> Uuid {
    let name = format!("{:04}-{:02}-{:02}", day.year(), day.month(), day.day());
    Uuid::new_v5(&device.0, name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_is_known_by_its_one_spelling() {
        for kind in DeviceKind::ALL {
            assert_eq!(DeviceKind::parse(kind.as_str()), Ok(*kind));
            assert_eq!(serde_json::to_value(kind).expect("serializes"), kind.as_str());
        }
        for quality in Quality::ALL {
            assert_eq!(Quality::parse(quality.as_str()), Ok(*quality));
        }
        assert_eq!(Direction::parse("import").expect_err("case matters").code, "UNKNOWN_VALUE");
        assert_eq!(DeviceKind::parse("").expect_err("empty").path, ["kind"]);
    }

    #[test]
    fn a_refusal_of_a_choice_names_every_choice() {
        let message = DeviceKind::parse("TOASTER").expect_err("unknown").message;
        assert!(DeviceKind::ALL.iter().all(|kind| message.contains(kind.as_str())), "{message}");
        let message = Direction::parse("").expect_err("unknown").message;
        assert!(Direction::ALL.iter().all(|direction| message.contains(direction.as_str())), "{message}");
        let message = Quality::parse("").expect_err("unknown").message;
        assert!(Quality::ALL.iter().all(|quality| message.contains(quality.as_str())), "{message}");
    }

    #[test]
    fn every_resolution_divides_a_day() {
        for seconds in Resolution::ALL_S {
            let resolution = Resolution::parse(i64::from(seconds)).expect("known");
            assert_eq!(u32::from(resolution.slots_per_day()) * seconds, 86_400);
        }
        for seconds in [0, -900, 1, 420, 7200, i64::MAX] {
            assert_eq!(Resolution::parse(seconds).expect_err("refused").code, "UNKNOWN_VALUE");
        }
    }

    #[test]
    fn a_resolution_that_history_made_up_has_no_slots() {
        for text in ["0", "1", "86401", "4294967295"] {
            let resolution: Resolution = serde_json::from_str(text).expect("history is not judged");
            assert_eq!(resolution.slots_per_day(), 0, "{text}");
        }
    }

    #[test]
    fn the_most_of_a_slot_is_its_power_times_its_length_rounded_up() {
        let most = |watts, seconds| MaxPower::parse(watts).expect("a power").max_wh(Resolution(seconds));
        assert_eq!(most(4_000, 900), 1_000);
        assert_eq!(most(100, 60), 2);
        assert_eq!(most(1, 60), 1);
        assert_eq!(most(MaxPower::W_MAX, 3600), MaxPower::W_MAX);
        assert_eq!(MaxPower(u64::MAX).max_wh(Resolution(u32::MAX)), i64::MAX);
        for watts in [0, -1, MaxPower::W_MAX + 1, i64::MIN] {
            assert_eq!(MaxPower::parse(watts).expect_err("refused").code, "OUT_OF_RANGE");
        }
    }

    #[test]
    fn a_serial_number_is_the_same_in_every_spelling() {
        let key = |text| Serial::parse(text).expect("a serial").key();
        assert_eq!(key(" 1emh 0012-345 "), key("1EMH0012-345"));
        assert_eq!(Serial::parse(" 1emh 0012 ").expect("a serial").as_str(), "1emh 0012");
        assert_eq!(Serial::parse("a\nb").expect_err("two lines").code, "FORBIDDEN_CHARACTER");
        assert_eq!(Serial::parse(&"1".repeat(65)).expect_err("too long").path, ["serial"]);
    }

    #[test]
    fn a_time_zone_is_a_name_and_not_an_offset() {
        assert_eq!(TimeZone::parse(" Europe/Berlin ").expect("a zone").as_str(), "Europe/Berlin");
        for text in ["", "+01:00", "europe/berlin", "Europe/Bonn", "Europe/Berlin\0"] {
            let refusal = TimeZone::parse(text).expect_err("refused");
            assert_eq!((refusal.code, refusal.path), ("UNKNOWN_VALUE", &["site", "timeZone"][..]), "{text:?}");
        }
        let unheard_of: TimeZone = serde_json::from_str("\"Mars/Olympus\"").expect("history is not judged");
        assert_eq!(unheard_of.tz(), None);
        assert!(!unheard_of.suits(Resolution(60)));
    }

    #[test]
    fn a_zone_with_odd_minutes_takes_only_slots_that_fit_them() {
        for (zone, coarsest_s) in [
            ("UTC", 3600),
            ("Europe/Berlin", 3600),
            ("America/New_York", 3600),
            ("Asia/Kolkata", 1800),
            ("Australia/Lord_Howe", 1800),
            ("Asia/Kathmandu", 900),
            ("Pacific/Chatham", 900),
        ] {
            let zone = TimeZone::parse(zone).expect("a zone");
            for seconds in Resolution::ALL_S.into_iter().filter(|seconds| *seconds != 600 || coarsest_s != 900) {
                assert_eq!(zone.suits(Resolution(seconds)), seconds <= coarsest_s, "{zone} {seconds}");
            }
        }
    }

    #[test]
    fn a_site_names_the_field_at_fault() {
        assert_eq!(Site::parse(" ", "UTC").expect_err("no name").path, ["site", "name"]);
        assert_eq!(Site::parse("Home", "CEST").expect_err("no zone").path, ["site", "timeZone"]);
    }

    #[test]
    fn a_stream_of_readings_is_found_by_device_and_day_alone() {
        let device = DeviceId(Uuid::from_u128(0x0198_f000_0000_7000_8000_0000_0000_0001));
        let day = NaiveDate::from_ymd_opt(2016, 3, 27).expect("a date");
        // Fixed for ever: another id would split the streams of every existing journal.
        assert_eq!(readings_stream(device, day), Uuid::new_v5(&device.0, b"2016-03-27"));
        assert_ne!(readings_stream(device, day), readings_stream(device, day.succ_opt().expect("a date")));
    }
}
