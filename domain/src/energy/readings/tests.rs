//! What a day of readings does, as sentences.

use super::*;
use crate::context::{Actor, ActorKind, EventIds};
use crate::energy::values::{Direction, MaxPower};
use crate::ids::TenantId;
use chrono::{DateTime, Duration, Utc};
use cqrs_es::test::TestFramework;
use cqrs_es::{Aggregate, DomainEvent};
use uuid::Uuid;

pub(super) const DEVICE: DeviceId = DeviceId(Uuid::from_u128(7));

pub(super) fn time(text: &str) -> DateTime<Utc> {
    text.parse().expect("a time")
}

pub(super) fn day() -> NaiveDate {
    time("2016-03-27T00:00:00Z").date_naive()
}

pub(super) fn context() -> Context {
    Context {
        id: readings_stream(DEVICE, day()),
        tenant: TenantId(Uuid::from_u128(8)),
        actor: Actor { id: Uuid::from_u128(1), kind: ActorKind::Service },
        now: time("2016-03-28T08:00:00Z"),
        ids: EventIds { seed: Uuid::from_u128(2) },
    }
}

/// A meter of quarter-hours and 40 kW, so at most 10,000 Wh a slot.
pub(super) fn rules() -> ReadingRules {
    ReadingRules {
        device: DEVICE,
        resolution: Resolution::parse(900).expect("a resolution"),
        direction: Direction::Import,
        max_power: MaxPower::parse(40_000).expect("a power"),
        until: None,
    }
}

pub(super) fn row(slot: u32, energy_wh: i64) -> Row {
    let start = NaiveDateTime::from(day()).and_utc() + Duration::seconds(900 * i64::from(slot));
    Row { start, energy_wh, quality: Quality::Measured }
}

fn row_at(start: &str, energy_wh: i64) -> Row {
    Row { start: time(start), energy_wh, quality: Quality::Measured }
}

pub(super) fn batch(rows: Vec<Row>) -> Batch {
    Batch { rules: rules(), day: day(), rows }
}

pub(super) fn record(rows: Vec<Row>) -> ReadingsCommand {
    ReadingsCommand::Record(batch(rows))
}

pub(super) fn recorded(runs: Vec<Run>) -> ReadingsEvent {
    ReadingsEvent::Recorded { device: DEVICE, day: day(), resolution_s: rules().resolution, runs }
}

pub(super) fn run(from_slot: u16, wh: &[i64]) -> Run {
    Run { from_slot, quality: Quality::Measured, wh: wh.to_vec() }
}

pub(super) fn given(events: Vec<ReadingsEvent>) -> cqrs_es::test::AggregateTestExecutor<Readings> {
    TestFramework::with(context()).given(events)
}

pub(super) fn fold(events: impl IntoIterator<Item = ReadingsEvent>) -> Readings {
    let mut readings = Readings::default();
    events.into_iter().for_each(|event| readings.apply(event));
    readings
}

/// The verdicts as text: `accepted`, `duplicate` or the code of the refusal.
fn verdicts(state: &Readings, context: &Context, batch: &Batch) -> Vec<&'static str> {
    let verdicts = state.classify(context, batch).expect("the batch is judged");
    let text = |verdict| match verdict {
        Verdict::Accepted => "accepted",
        Verdict::Duplicate => "duplicate",
        Verdict::Rejected(rejection) => rejection.code(),
    };
    verdicts.into_iter().map(text).collect()
}

#[test]
fn readings_of_one_batch_are_one_event_in_order_of_time() {
    given(vec![])
        .when(record(vec![row(5, 50), row(0, 10), row(1, -0), row(4, 40)]))
        .then_expect_events(vec![recorded(vec![run(0, &[10, 0]), run(4, &[40, 50])])]);
}

#[test]
fn a_repeated_batch_writes_nothing() {
    let known = recorded(vec![run(0, &[10, 20])]);
    given(vec![known]).when(record(vec![row(0, 10), row(1, 20)])).then_expect_events(vec![]);
}

#[test]
fn a_half_repeated_batch_writes_the_other_half() {
    let known = recorded(vec![run(0, &[10, 20])]);
    given(vec![known.clone()])
        .when(record(vec![row(1, 20), row(2, 30)]))
        .then_expect_events(vec![recorded(vec![run(2, &[30])])]);
    assert_eq!(verdicts(&fold([known]), &context(), &batch(vec![row(1, 20), row(2, 30)])), ["duplicate", "accepted"]);
}

#[test]
fn an_empty_batch_writes_nothing() {
    given(vec![]).when(record(vec![])).then_expect_events(vec![]);
}

#[test]
fn a_slots_first_value_stays() {
    let state = fold([recorded(vec![run(3, &[30])])]);
    let judged = state.judge(&context(), &batch(vec![row(3, 31), row(3, 30), row(4, 40)])).expect("judged");
    let conflict = Rejection::Conflict { start: row(3, 0).start, energy_wh: 31, known_wh: 30 };
    assert_eq!(judged.verdicts, [Verdict::Rejected(conflict), Verdict::Duplicate, Verdict::Accepted]);
    assert_eq!(judged.event, Some(recorded(vec![run(4, &[40])])));
    let message = conflict.to_string();
    assert!(message.contains("30 Wh") && message.contains("31 Wh") && message.contains("00:45:00"), "{message}");
}

#[test]
fn within_a_batch_the_first_row_of_a_slot_counts() {
    let rows = vec![row(3, 30), row(3, 30), row(3, 31), row(3, 30)];
    assert_eq!(
        verdicts(&Readings::Empty, &context(), &batch(rows.clone())),
        ["accepted", "duplicate", "READING_CONFLICT", "duplicate"]
    );
    given(vec![]).when(record(rows)).then_expect_events(vec![recorded(vec![run(3, &[30])])]);
}

#[test]
fn a_value_is_the_same_whatever_its_quality() {
    let estimated = Row { quality: Quality::Estimated, ..row(0, 10) };
    let state = fold([recorded(vec![run(0, &[10])])]);
    assert_eq!(verdicts(&state, &context(), &batch(vec![estimated])), ["duplicate"]);
}

#[test]
fn another_quality_begins_another_run() {
    let estimated = Row { quality: Quality::Estimated, ..row(1, 20) };
    let runs = vec![run(0, &[10]), Run { quality: Quality::Estimated, ..run(1, &[20]) }, run(2, &[30])];
    given(vec![]).when(record(vec![row(0, 10), estimated, row(2, 30)])).then_expect_events(vec![recorded(runs)]);
}

#[test]
fn every_row_at_fault_is_refused_by_itself_and_named() {
    for (start, wh, expected) in [
        ("2016-03-27T00:00:00Z", 0, "accepted"),
        ("2016-03-27T23:45:00Z", 10_000, "accepted"),
        ("2016-03-26T23:45:00Z", 1, "READING_OUTSIDE_DAY"),
        ("2016-03-28T00:00:00Z", 1, "READING_OUTSIDE_DAY"),
        ("2016-03-27T00:01:00Z", 1, "READING_MISALIGNED"),
        ("2016-03-27T00:00:01Z", 1, "READING_MISALIGNED"),
        ("2016-03-27T00:00:00.000001Z", 1, "READING_MISALIGNED"),
        ("2016-03-27T00:15:00Z", -1, "READING_NEGATIVE"),
        ("2016-03-27T00:15:00Z", i64::MIN, "READING_NEGATIVE"),
        ("2016-03-27T00:15:00Z", 10_001, "READING_ABSURD"),
        ("2016-03-27T00:15:00Z", i64::MAX, "READING_ABSURD"),
    ] {
        let found = verdicts(&Readings::Empty, &context(), &batch(vec![row_at(start, wh)]));
        assert_eq!(found, [expected], "{start} {wh}");
    }
}

#[test]
fn one_row_at_fault_leaves_the_others_as_they_are() {
    let rows = vec![row(0, 10), row(1, 10_001), row_at("2016-03-27T00:40:00Z", 1), row(3, 40)];
    assert_eq!(
        verdicts(&Readings::Empty, &context(), &batch(rows.clone())),
        ["accepted", "READING_ABSURD", "READING_MISALIGNED", "accepted"]
    );
    given(vec![]).when(record(rows)).then_expect_events(vec![recorded(vec![run(0, &[10]), run(3, &[40])])]);
}

#[test]
fn only_a_net_device_has_a_sign_and_its_size_is_bounded_both_ways() {
    let net = ReadingRules { direction: Direction::Net, ..rules() };
    let rows = vec![row(0, -10_000), row(1, 10_000), row(2, -10_001), row(3, i64::MIN)];
    let batch = Batch { rules: net, ..batch(rows) };
    assert_eq!(
        verdicts(&Readings::Empty, &context(), &batch),
        ["accepted", "accepted", "READING_ABSURD", "READING_ABSURD"]
    );
}

#[test]
fn a_reading_may_be_ahead_of_the_clock_by_one_slot() {
    for (now, expected) in [
        ("2016-03-27T12:00:00Z", "accepted"),
        ("2016-03-27T11:45:00Z", "accepted"),
        ("2016-03-27T11:44:59Z", "READING_IN_FUTURE"),
        ("1999-01-01T00:00:00Z", "READING_IN_FUTURE"),
    ] {
        let context = Context { now: time(now), ..context() };
        assert_eq!(verdicts(&Readings::Empty, &context, &batch(vec![row(48, 1)])), [expected], "{now}");
    }
}

#[test]
fn a_clock_that_counts_from_its_own_beginning_is_not_believed() {
    for (start, expected) in [
        ("1970-01-01T00:00:00Z", "READING_TOO_OLD"),
        ("1989-12-31T23:45:00Z", "READING_TOO_OLD"),
        ("1990-01-01T00:00:00Z", "accepted"),
    ] {
        let day = utc_day(time(start));
        let context = Context { id: readings_stream(DEVICE, day), ..context() };
        let batch = Batch { day, ..batch(vec![row_at(start, 1)]) };
        assert_eq!(verdicts(&Readings::Empty, &context, &batch), [expected], "{start}");
    }
}

#[test]
fn late_readings_of_a_decommissioned_device_end_with_its_service() {
    let ended = ReadingRules { until: Some(time("2016-03-27T12:00:00Z")), ..rules() };
    let batch = Batch { rules: ended, ..batch(vec![row(47, 1), row(48, 1)]) };
    assert_eq!(verdicts(&Readings::Empty, &context(), &batch), ["accepted", "READING_AFTER_DECOMMISSION"]);
}

#[test]
fn readings_are_not_recorded_in_the_stream_of_another_day_or_device() {
    for id in [readings_stream(DEVICE, utc_day(time("2016-03-28T00:00:00Z"))), DEVICE.0, Uuid::nil()] {
        let foreign = Context { id, ..context() };
        let framework = TestFramework::<Readings>::with(foreign).given_no_previous_events();
        framework.when(record(vec![row(0, 1)])).then_expect_error(ReadingsError::ForeignStream);
    }
}

#[test]
fn a_batch_is_bounded() {
    let rows = vec![row(0, 1); ROWS_MAX + 1];
    given(vec![]).when(record(rows.clone())).then_expect_error(ReadingsError::TooManyRows { rows: ROWS_MAX + 1 });
    let most = rows[1..].to_vec();
    given(vec![]).when(record(most)).then_expect_events(vec![recorded(vec![run(0, &[1])])]);
}

#[test]
fn a_day_has_one_resolution() {
    let finer = ReadingRules { resolution: Resolution::parse(60).expect("a resolution"), ..rules() };
    let command = ReadingsCommand::Record(Batch { rules: finer, ..batch(vec![row(0, 1)]) });
    let refusal = ReadingsError::OtherResolution { known: rules().resolution, sent: finer.resolution };
    given(vec![recorded(vec![run(0, &[1])])]).when(command).then_expect_error(refusal);
}

#[test]
fn a_resolution_that_history_made_up_accepts_nothing_and_panics_nowhere() {
    for seconds in ["0", "1", "86401"] {
        let resolution = serde_json::from_str(seconds).expect("history is not judged");
        let rules = ReadingRules { resolution, ..rules() };
        let batch = Batch { rules, ..batch(vec![row(0, 0)]) };
        assert_eq!(verdicts(&Readings::Empty, &context(), &batch), ["READING_MISALIGNED"], "{seconds}");
    }
}

#[test]
fn slots_that_no_day_has_are_left_out_of_the_state() {
    let state = fold([recorded(vec![run(94, &[1, 2, 3]), run(u16::MAX, &[4, 5])])]);
    assert_eq!((state.known_wh(94), state.known_wh(95), state.known_wh(96)), (Some(1), Some(2), None));
}

#[test]
fn a_day_of_quarter_hours_is_well_below_a_kilobyte() {
    // Values of four digits and one in five: a household's peaks or a small shop's day.
    let rows = (0..96).map(|slot| row(slot, if slot % 5 == 0 { 10_000 } else { 1_234 + i64::from(slot) })).collect();
    let event = Readings::Empty.judge(&context(), &batch(rows)).expect("judged").event.expect("an event");
    let payload = serde_json::to_string(&event).expect("serializes");
    assert!(payload.len() < 700, "{} bytes: {payload}", payload.len());
}

#[test]
fn the_payload_is_columns_and_says_its_units() {
    let estimated = Run { quality: Quality::Estimated, ..run(4, &[-7]) };
    let event = recorded(vec![run(0, &[10, 20]), estimated]);
    assert_eq!(event.event_type(), "energy.readings.recorded");
    assert_eq!(
        serde_json::to_value(event).expect("serializes"),
        serde_json::json!({"recorded": {
            "device": DEVICE, "day": "2016-03-27", "resolution_s": 900,
            "runs": [{"from_slot": 0, "wh": [10, 20]}, {"from_slot": 4, "quality": "ESTIMATED", "wh": [-7]}],
        }})
    );
}

#[test]
fn a_request_is_the_same_after_the_device_has_changed() {
    let raised = ReadingRules { max_power: MaxPower::parse(50_000).expect("a power"), ..rules() };
    let request = |rules| serde_json::to_value(Batch { rules, ..batch(vec![row(1, 5)]) }).expect("serializes");
    assert_eq!(request(rules()), request(raised));
    assert_eq!(
        request(rules()),
        serde_json::json!({"device": DEVICE, "day": "2016-03-27", "rows": [
            {"start": 1_459_037_700_000_000_i64, "energy_wh": 5, "quality": "MEASURED"}
        ]})
    );
}

#[test]
fn every_refusal_has_a_message_that_says_what_to_do() {
    let (start, until) = (row(1, 0).start, time("2016-03-27T12:00:00Z"));
    for (rejection, part) in [
        (Rejection::OutsideDay { start, day: day() }, "2016-03-27"),
        (Rejection::Misaligned { start, resolution: rules().resolution }, "900 s"),
        (Rejection::TooOld { start }, "clock"),
        (Rejection::InFuture { start, now: until }, "12:00:00"),
        (Rejection::AfterDecommission { start, until }, "12:00:00"),
        (Rejection::Negative { energy_wh: -5, direction: Direction::Export }, "EXPORT"),
        (Rejection::Absurd { energy_wh: 11, max_wh: 10 }, "10 Wh"),
    ] {
        let message = rejection.to_string();
        assert!(message.contains(part) && message.contains(';'), "{message}");
        assert!(!rejection.path().is_empty() && rejection.code().starts_with("READING_"));
    }
}
