//! What the wall clocks of the world do, and what a file makes of it.

use super::*;
use chrono::{Datelike, Offset};
use proptest::prelude::*;
use std::collections::BTreeMap;

const QUARTER_S: u32 = 900;

fn zone(name: &str) -> Tz {
    name.parse().expect("a zone of the database")
}

fn berlin() -> Tz {
    zone("Europe/Berlin")
}

fn local(text: &str) -> NaiveDateTime {
    match Stamp::parse(text) {
        Ok(Stamp::Local(local)) => local,
        other => panic!("{text} is no local time: {other:?}"),
    }
}

fn utc(text: &str) -> DateTime<Utc> {
    match Stamp::parse(text) {
        Ok(Stamp::Instant(instant)) => instant,
        other => panic!("{text} is no instant: {other:?}"),
    }
}

fn date(text: &str) -> NaiveDate {
    local(&format!("{text} 00:00")).date()
}

/// Local times of a file to instants, or the code of the refusal.
fn in_order(zone: Tz, slot_s: u32, day: &str, times: &[&str]) -> Vec<String> {
    let mut file = InOrder::new(zone, slot_s);
    let resolved = times.iter().map(|time| file.next(local(&format!("{day} {time}"))));
    resolved
        .map(|outcome| match outcome {
            Ok(instant) => instant.format("%H:%MZ").to_string(),
            Err(refusal) => refusal.code().to_owned(),
        })
        .collect()
}

/// Every quarter-hour of a local year, by stepping through the instants: the zone's own account of itself.
fn quarters(zone: Tz, year: i32) -> Vec<(DateTime<Utc>, NaiveDateTime)> {
    let from = NaiveDate::from_ymd_opt(year, 1, 1).expect("a date").and_time(NaiveTime::MIN).and_utc();
    let steps = (-96..(368 * 96)).map(|n| from + Duration::minutes(15 * n));
    steps
        .map(|instant| (instant, instant.with_timezone(&zone).naive_local()))
        .filter(|(_, local)| local.year() == year)
        .collect()
}

/// Zone, year, and the days with another number of quarter-hours than 96.
const YEARS: &[(&str, i32, &str)] = &[
    ("UTC", 2016, ""),
    ("Europe/Berlin", 2016, "03-27=92 10-30=100"),
    ("Europe/Berlin", 2024, "03-31=92 10-27=100"),
    ("Europe/Dublin", 2024, "03-31=92 10-27=100"),
    ("America/New_York", 2025, "03-09=92 11-02=100"),
    ("America/St_Johns", 2025, "03-09=92 11-02=100"),
    ("Asia/Kolkata", 2024, ""),
    ("Asia/Kathmandu", 2024, ""),
    // By half an hour only, and by two hours.
    ("Australia/Lord_Howe", 2024, "04-07=98 10-06=94"),
    ("Antarctica/Troll", 2024, "03-31=88 10-27=104"),
    ("Pacific/Chatham", 2024, "04-07=100 09-29=92"),
    // The clocks are set at midnight, so that a day begins at 01:00 or has 23:00 twice.
    ("America/Sao_Paulo", 2018, "02-17=100 11-04=92"),
    ("America/Havana", 2024, "03-10=92 11-03=100"),
    ("Africa/Casablanca", 2024, "03-10=100 04-14=92"),
    // Twelve o'clock at night of 29 December was followed by the 31st.
    ("Pacific/Apia", 2011, "04-02=100 09-24=92 12-30=0"),
];

#[test]
fn every_quarter_hour_of_a_year_is_found_exactly_once_and_every_day_has_as_many_as_the_clocks_gave_it() {
    for (name, year, odd_days) in YEARS {
        let zone = zone(name);
        let quarters = quarters(zone, *year);
        let mut file = InOrder::new(zone, QUARTER_S);
        let mut per_day: BTreeMap<NaiveDate, u32> = BTreeMap::new();
        for (instant, local) in &quarters {
            assert_eq!(file.next(*local), Ok(*instant), "{name} {local}");
            *per_day.entry(local.date()).or_default() += 1;
        }
        let mut odd = Vec::new();
        let first = NaiveDate::from_ymd_opt(*year, 1, 1).expect("a date");
        for day in first.iter_days().take_while(|day| day.year() == *year) {
            let (from, to) = day_bounds(day, zone);
            let count = per_day.get(&day).copied().unwrap_or(0);
            assert_eq!((to - from).num_minutes(), i64::from(count) * 15, "{name} {day}");
            if count > 0 {
                assert_eq!(from.with_timezone(&zone).date_naive(), day, "{name}: a day begins on itself");
            }
            if count != 96 {
                odd.push(format!("{}={count}", day.format("%m-%d")));
            }
        }
        assert_eq!(odd.join(" "), *odd_days, "{name} {year}");
    }
}

#[test]
fn a_time_in_the_gap_never_was() {
    let gap = |time| resolve(local(time), berlin());
    let expected =
        LocalTime::Gap { from: local("2016-03-27 02:00"), to: local("2016-03-27 03:00"), at: utc("2016-03-27T01:00Z") };
    for time in ["2016-03-27 02:00", "2016-03-27 02:15", "2016-03-27T02:59:59.999"] {
        assert_eq!(gap(time), expected, "{time}");
    }
    assert_eq!(gap("2016-03-27 01:59:59"), LocalTime::Unique(utc("2016-03-27T00:59:59Z")));
    assert_eq!(gap("2016-03-27 03:00"), LocalTime::Unique(utc("2016-03-27T01:00Z")));
}

#[test]
fn a_time_in_the_repeated_hour_was_twice() {
    for (time, earlier, later) in [
        ("2016-10-30 02:00", "2016-10-30T00:00Z", "2016-10-30T01:00Z"),
        ("2016-10-30 02:45", "2016-10-30T00:45Z", "2016-10-30T01:45Z"),
    ] {
        let twice = LocalTime::Ambiguous { earlier: utc(earlier), later: utc(later) };
        assert_eq!(resolve(local(time), berlin()), twice);
    }
    assert_eq!(resolve(local("2016-10-30 01:59:59"), berlin()), LocalTime::Unique(utc("2016-10-29T23:59:59Z")));
    assert_eq!(resolve(local("2016-10-30 03:00"), berlin()), LocalTime::Unique(utc("2016-10-30T02:00Z")));
}

#[test]
fn a_refusal_names_the_time_the_zone_and_what_the_clocks_did() {
    let mut file = InOrder::new(berlin(), QUARTER_S);
    let refusal = file.next(local("2016-03-27 02:15")).expect_err("in the gap");
    assert_eq!(refusal.code(), "LOCAL_TIME_IN_GAP");
    let message = refusal.to_string();
    for part in ["2016-03-27 02:15:00", "Europe/Berlin", "2016-03-27 02:00:00", "2016-03-27 03:00:00", "offset"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_row_in_the_gap_leaves_the_rest_of_the_file_as_it_is() {
    assert_eq!(
        in_order(berlin(), QUARTER_S, "2016-03-27", &["01:45", "02:00", "02:45", "03:00"]),
        ["00:45Z", "LOCAL_TIME_IN_GAP", "LOCAL_TIME_IN_GAP", "01:00Z"]
    );
}

#[test]
fn the_first_pass_is_the_earlier_one_and_the_second_the_later_one() {
    for (what, slot_s, times, instants) in [
        (
            "quarter-hours",
            900,
            "01:45 02:00 02:15 02:30 02:45 02:00 02:15 02:30 02:45 03:00",
            "23:45Z 00:00Z 00:15Z 00:30Z 00:45Z 01:00Z 01:15Z 01:30Z 01:45Z 02:00Z",
        ),
        ("hours: the same time twice in a row is both", 3600, "01:00 02:00 02:00 03:00", "23:00Z 00:00Z 01:00Z 02:00Z"),
        ("a repeated row", 900, "02:00 02:15 02:15 02:30", "00:00Z 00:15Z 00:15Z 00:30Z"),
        ("a repeated row of the second pass", 900, "02:45 02:00 02:00 02:15", "00:45Z 01:00Z 01:00Z 01:15Z"),
        ("a repeated row of hours", 3600, "02:00 02:00 02:00", "00:00Z 01:00Z 01:00Z"),
        ("the last row of the first pass is missing", 900, "02:00 02:15 02:30 02:00", "00:00Z 00:15Z 00:30Z 01:00Z"),
        ("the first rows of the first pass are missing", 900, "02:30 02:45 02:00", "00:30Z 00:45Z 01:00Z"),
        ("a file that begins in the hour", 900, "02:30 02:45 03:00", "00:30Z 00:45Z 02:00Z"),
        (
            "a third pass is not guessed",
            900,
            "02:00 02:45 02:00 02:45 02:00 03:00",
            "00:00Z 00:45Z 01:00Z 01:45Z LOCAL_TIME_AMBIGUOUS 02:00Z",
        ),
        ("newest first is not guessed", 900, "03:00 02:45 01:45", "02:00Z LOCAL_TIME_AMBIGUOUS 23:45Z"),
    ] {
        let (times, instants): (Vec<_>, Vec<_>) = (times.split(' ').collect(), instants.split(' ').collect());
        assert_eq!(in_order(berlin(), slot_s, "2016-10-30", &times), instants, "{what}");
    }
}

#[test]
fn half_an_hour_repeated_is_two_passes_of_half_an_hour() {
    let lord_howe = zone("Australia/Lord_Howe");
    assert_eq!(
        in_order(lord_howe, QUARTER_S, "2024-04-07", &["01:15", "01:30", "01:45", "01:30", "01:45", "02:00"]),
        ["14:15Z", "14:30Z", "14:45Z", "15:00Z", "15:15Z", "15:30Z"]
    );
    assert_eq!(in_order(lord_howe, 1800, "2024-04-07", &["01:30", "01:30", "02:00"]), ["14:30Z", "15:00Z", "15:30Z"]);
}

#[test]
fn a_day_begins_where_its_midnight_was_skipped_or_repeated() {
    for (name, day, first) in [
        ("Europe/Berlin", "2016-03-27", "2016-03-26T23:00Z"),
        // Midnight became 01:00.
        ("America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00Z"),
        // 01:00 became midnight: the first of the two begins the day.
        ("America/Havana", "2024-11-03", "2024-11-03T04:00Z"),
        ("Pacific/Apia", "2011-12-30", "2011-12-30T10:00Z"),
        ("Pacific/Apia", "2011-12-31", "2011-12-30T10:00Z"),
    ] {
        assert_eq!(start_of_day(date(day), zone(name)), utc(first), "{name} {day}");
    }
}

#[test]
fn every_gap_of_every_zone_has_its_two_ends() {
    let offset_s =
        |instant: DateTime<Utc>, zone: &Tz| zone.offset_from_utc_datetime(&instant.naive_utc()).fix().local_minus_utc();
    let mut gaps = 0;
    for zone in chrono_tz::TZ_VARIANTS {
        for year in [1985, 2011, 2024, 2037] {
            let first = NaiveDate::from_ymd_opt(year, 1, 1).expect("a date").and_time(NaiveTime::MIN).and_utc();
            let days = (0..366).map(|day| first + Duration::days(day));
            let forward = days.filter(|day| offset_s(*day, &zone) < offset_s(*day + Duration::days(1), &zone));
            for day in forward {
                let hour = |n: i64| day + Duration::hours(n);
                let last = (0..24).take_while(|n| offset_s(hour(*n), &zone) == offset_s(day, &zone)).last();
                let missing = hour(last.expect("the first")).with_timezone(&zone).naive_local() + Duration::hours(1);
                if let LocalTime::Gap { from, to, at } = resolve(missing, zone) {
                    let before = at - Duration::nanoseconds(1);
                    assert!(from <= missing && missing < to, "{zone} {missing}");
                    assert_eq!(at.with_timezone(&zone).naive_local(), to, "{zone} {missing}");
                    assert_eq!(
                        before.with_timezone(&zone).naive_local() + Duration::nanoseconds(1),
                        from,
                        "{zone} {missing}"
                    );
                    gaps += 1;
                }
            }
        }
    }
    assert!(gaps > 200, "{gaps}");
}

#[test]
fn a_time_has_one_spelling_and_its_offset_makes_it_an_instant() {
    let instant = "2016-03-27 00:15:00 UTC";
    for (text, expected) in [
        ("2016-03-27T02:15", "local 2016-03-27 02:15:00"),
        ("2016-03-27 02:15:30", "local 2016-03-27 02:15:30"),
        (" 2016-03-27T02:15:30.5 ", "local 2016-03-27 02:15:30.500"),
        ("27.03.2016 02:15", "local 2016-03-27 02:15:00"),
        ("2016-03-27T00:15Z", instant),
        ("2016-03-27t00:15:00.000z", instant),
        ("2016-03-27 01:15:00+01:00", instant),
        ("2016-03-26T18:45-05:30", instant),
        ("2016-02-29T00:00Z", "2016-02-29 00:00:00 UTC"),
    ] {
        let read = match Stamp::parse(text).expect("a time") {
            Stamp::Instant(instant) => instant.to_string(),
            Stamp::Local(local) => format!("local {local}"),
        };
        assert_eq!(read, expected, "{text}");
    }
    for text in [
        "",
        "2016-03-27",
        "2016-03-27T",
        "2016-3-27T02:15",
        "27.03.16 02:15",
        "27.13.2016 02:15",
        "03/27/2016 02:15",
        "2016-03-27T2:15",
        "2016-03-27T24:00",
        "2016-03-27T02:60",
        "2016-03-27T23:59:60",
        "2016-03-27T02:15:",
        "2016-03-27T02:15:00.",
        "2016-03-27T02:15:00.1234567890",
        "2015-02-29T00:00Z",
        "2016-13-01T00:00Z",
        "2016-03-27T02:15+1",
        "2016-03-27T02:15+0100",
        "2016-03-27T02:15+24:00",
        "2016-03-27T02:15 CET",
        "+2016-03-27T02:15",
        "12016-03-27T02:15",
        "2016/03/27 02:15",
        "1459041300",
        "２０１６-03-27T02:15",
        "2016-03-27T02:15\0",
        "2016-03-2\u{e9}02:15",
    ] {
        assert_eq!(Stamp::parse(text), Err(MalformedTime), "{text:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn what_the_wall_clock_showed_leads_back_to_its_instant(
        at in 0_usize..chrono_tz::TZ_VARIANTS.len(),
        minutes in 0_i64..(60 * 24 * 366 * 38),
    ) {
        let zone = chrono_tz::TZ_VARIANTS[at];
        let instant = utc("2000-01-01T00:00Z") + Duration::minutes(minutes);
        match resolve(instant.with_timezone(&zone).naive_local(), zone) {
            LocalTime::Unique(found) => prop_assert_eq!(found, instant),
            LocalTime::Ambiguous { earlier, later } => {
                prop_assert!(earlier < later);
                prop_assert!(instant == earlier || instant == later);
            }
            gap @ LocalTime::Gap { .. } => prop_assert!(false, "{zone} {instant} was shown, yet {gap:?}"),
        }
    }

    #[test]
    fn a_file_with_rows_left_out_or_repeated_never_puts_a_row_into_another_slot_outside_the_repeated_hour(
        keep in proptest::collection::vec(0_u8..3, 100),
    ) {
        // Where the first pass is left out, the second can look like it; never the other way round.
        let (from, to) = day_bounds(date("2016-10-30"), berlin());
        let quarters = (0..).map(|n| from + Duration::minutes(15 * n)).take_while(|instant| *instant < to);
        let day = quarters.map(|instant| (instant, instant.with_timezone(&berlin()).naive_local()));
        let mut file = InOrder::new(berlin(), QUARTER_S);
        for ((instant, local), times) in day.zip(keep) {
            for _ in 0..times {
                let found = file.next(local);
                match resolve(local, berlin()) {
                    LocalTime::Unique(_) => prop_assert_eq!(found, Ok(instant)),
                    LocalTime::Ambiguous { earlier, later } => {
                        prop_assert!(found == Ok(earlier) || found == Ok(later), "{local}: {found:?}");
                        prop_assert!(found != Ok(later) || instant == later, "the first pass is never taken for the second");
                    }
                    LocalTime::Gap { .. } => prop_assert!(false, "a file has no row in the gap"),
                }
            }
        }
    }

    #[test]
    fn no_text_makes_a_time_panic(text in "\\PC{0,30}|[0-9T:. +Z-]{0,30}") {
        if let Ok(Stamp::Local(local)) = Stamp::parse(&text) {
            resolve(local, berlin());
        }
    }

    #[test]
    fn a_time_that_is_written_is_read_back(seconds in -62_135_596_800_i64..253_402_300_800, offset_min in -1439_i32..=1439) {
        let instant = DateTime::from_timestamp(seconds, 0).expect("in range");
        prop_assert_eq!(Stamp::parse(&instant.to_rfc3339()), Ok(Stamp::Instant(instant)));
        let offset = chrono::FixedOffset::east_opt(offset_min * 60).expect("less than a day");
        let shown = instant.with_timezone(&offset);
        prop_assume!((0..=9999).contains(&shown.year()));
        prop_assert_eq!(Stamp::parse(&shown.to_rfc3339()), Ok(Stamp::Instant(instant)));
    }
}
