//! What holds for any readings in any order and any chunks: nothing is lost, nothing is doubled.

use super::tests::{DEVICE, batch, context, day, fold, record, recorded, row, rules};
use super::*;
use crate::energy::values::Direction;
use cqrs_es::Aggregate;
use cqrs_es::test::TestFramework;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn any_quality() -> impl Strategy<Value = Quality> {
    proptest::sample::select(Quality::ALL)
}

/// At most one plausible row for each slot.
fn plausible_day() -> impl Strategy<Value = Vec<Row>> {
    btree_map(0_u32..96, (0_i64..=10_000, any_quality()), 0..96).prop_map(|slots| {
        slots.into_iter().map(|(slot, (wh, quality))| Row { quality, ..row(slot, wh) }).collect::<Vec<_>>()
    })
}

/// Rows good and bad, with few slots and values, so that they meet.
fn any_rows() -> impl Strategy<Value = Vec<Row>> {
    let one = (0_u32..8, -1_i64..4, any_quality(), 0_u8..10).prop_map(|(slot, wh, quality, fault)| {
        let row = Row { quality, ..row(slot, wh) };
        match fault {
            0 => Row { start: row.start + chrono::Duration::seconds(1), ..row },
            1 => Row { start: row.start + chrono::Duration::days(1), ..row },
            2 => Row { energy_wh: 10_001, ..row },
            _ => row,
        }
    });
    vec(one, 0..40)
}

/// An event that no decision need have led to.
fn any_event() -> impl Strategy<Value = ReadingsEvent> {
    let run = (0_u16..200, any_quality(), vec(any::<i64>(), 0..9)).prop_map(|(from_slot, quality, wh)| Run {
        from_slot,
        quality,
        wh,
    });
    let seconds = proptest::sample::select(vec![900_u32, 900, 900, 60, 0, 7, u32::MAX]);
    (seconds, vec(run, 0..5)).prop_map(|(seconds, runs)| {
        let resolution_s = serde_json::from_value(seconds.into()).expect("history is not judged");
        ReadingsEvent::Recorded { device: DEVICE, day: day(), resolution_s, runs }
    })
}

/// Records the chunks one after the other; the state and every event.
fn recorded_in(chunks: &[Vec<Row>]) -> (Readings, Vec<ReadingsEvent>) {
    let (mut state, mut written) = (Readings::default(), Vec::new());
    for chunk in chunks {
        for event in state.decide(&context(), record(chunk.clone())).expect("judged") {
            state.apply(event.clone());
            written.push(event);
        }
    }
    (state, written)
}

fn through_json<T: Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
    let text = serde_json::to_string(value).expect("serializes");
    serde_json::from_str(&text).expect("decodes")
}

/// Start to value: what a reader of the events ends up with.
fn as_map(rows: impl IntoIterator<Item = Row>) -> BTreeMap<DateTimeUtc, (i64, Quality)> {
    rows.into_iter().map(|row| (row.start, (row.energy_wh, row.quality))).collect()
}

type DateTimeUtc = chrono::DateTime<chrono::Utc>;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn what_was_recorded_once_is_a_duplicate_ever_after(rows in plausible_day()) {
        let (state, _) = recorded_in(std::slice::from_ref(&rows));
        let judged = state.judge(&context(), &batch(rows)).expect("judged");
        prop_assert!(judged.verdicts.iter().all(|verdict| *verdict == Verdict::Duplicate));
        prop_assert_eq!(judged.event, None);
    }

    #[test]
    fn any_order_and_any_chunks_give_the_same_day(
        (rows, shuffled) in plausible_day().prop_flat_map(|rows| (Just(rows.clone()), Just(rows).prop_shuffle())),
        size in 1_usize..97,
        overlap in 0_usize..5,
    ) {
        let (whole, _) = recorded_in(std::slice::from_ref(&rows));
        // Chunks that repeat some rows of the chunk before, as a client that resumes does.
        let chunks: Vec<Vec<Row>> = (0..shuffled.len())
            .step_by(size)
            .map(|from| shuffled[from.saturating_sub(overlap)..shuffled.len().min(from + size)].to_vec())
            .collect();
        let (state, events) = recorded_in(&chunks);
        prop_assert_eq!(&state, &whole);
        prop_assert_eq!(events.iter().map(|event| event.rows().count()).sum::<usize>(), rows.len(), "nothing twice");
        prop_assert_eq!(as_map(events.iter().flat_map(ReadingsEvent::rows)), as_map(rows));
    }

    #[test]
    fn every_row_is_accepted_a_duplicate_or_refused_and_the_event_holds_the_accepted_ones(first in any_rows(), second in any_rows()) {
        let (before, _) = recorded_in(std::slice::from_ref(&first));
        let judged = before.judge(&context(), &batch(second.clone())).expect("judged");
        prop_assert_eq!(judged.verdicts.len(), second.len());
        let accepted = second.iter().zip(&judged.verdicts).filter(|(_, verdict)| **verdict == Verdict::Accepted);
        let accepted: Vec<Row> = accepted.map(|(row, _)| *row).collect();
        let written: Vec<Row> = judged.event.iter().flat_map(ReadingsEvent::rows).collect();
        prop_assert!(written.is_sorted_by_key(|row| row.start));
        prop_assert_eq!(written.len(), accepted.len());
        prop_assert_eq!(as_map(written), as_map(accepted.clone()));

        // An independent account of what each verdict should have been.
        let after = fold(recorded_in(std::slice::from_ref(&first)).1.into_iter().chain(judged.event));
        for (row, verdict) in second.iter().zip(&judged.verdicts) {
            let offset_s = row.start.signed_duration_since(context_midnight()).num_seconds();
            let good = (0..86_400).contains(&offset_s) && offset_s % 900 == 0 && (0..=10_000).contains(&row.energy_wh);
            let known = if good { after.known_wh(u16::try_from(offset_s / 900).expect("a slot")) } else { None };
            match verdict {
                Verdict::Accepted | Verdict::Duplicate => prop_assert_eq!(known, Some(row.energy_wh)),
                Verdict::Rejected(Rejection::Conflict { known_wh, .. }) => {
                    prop_assert_eq!(known, Some(*known_wh));
                    prop_assert_ne!(*known_wh, row.energy_wh);
                }
                Verdict::Rejected(_) => prop_assert!(!good, "{row:?} {verdict:?}"),
            }
        }
    }

    #[test]
    fn what_is_known_never_changes(chunks in vec(any_rows(), 0..6)) {
        let mut state = Readings::default();
        for chunk in chunks {
            let before = state.clone();
            for event in state.decide(&context(), record(chunk)).expect("judged") {
                state.apply(event);
            }
            for slot in 0..96 {
                let known = before.known_wh(slot);
                prop_assert!(known.is_none() || known == state.known_wh(slot));
            }
        }
    }

    #[test]
    fn what_is_written_down_gives_the_same_day_when_read_back(chunks in vec(any_rows(), 0..6)) {
        let (state, events) = recorded_in(&chunks);
        prop_assert_eq!(&fold(events.iter().map(through_json)), &state);
        prop_assert_eq!(&through_json(&state), &state, "a snapshot is the state");
    }

    #[test]
    fn minutes_and_hours_are_kept_as_exactly_as_quarter_hours(
        at in 0_usize..6,
        slots in btree_map(0_i64..1440, -100_i64..100, 0..200),
    ) {
        let seconds = i64::from(Resolution::ALL_S[at]);
        let rules = ReadingRules {
            resolution: Resolution::parse(seconds).expect("known"), direction: Direction::Net, ..rules()
        };
        let slots = slots.into_iter().filter(|(slot, _)| slot * seconds < 86_400);
        let start = |slot| context_midnight() + chrono::Duration::seconds(slot * seconds);
        let rows: Vec<Row> =
            slots.map(|(slot, energy_wh)| Row { start: start(slot), energy_wh, quality: Quality::Measured }).collect();
        let judged = Readings::Empty.judge(&context(), &Batch { rules, ..batch(rows.clone()) }).expect("judged");
        prop_assert!(judged.verdicts.iter().all(|verdict| *verdict == Verdict::Accepted));
        prop_assert_eq!(judged.event.iter().flat_map(ReadingsEvent::rows).collect::<Vec<_>>(), rows);
    }

    #[test]
    fn no_history_makes_a_day_panic(events in vec(any_event(), 0..6), rows in any_rows()) {
        let state = fold(events);
        if let Ok(judged) = state.judge(&context(), &batch(rows.clone())) {
            prop_assert_eq!(judged.verdicts.len(), rows.len());
        }
    }

    #[test]
    fn the_adapter_for_foreign_stores_decides_as_the_executor_does(history in vec(any_event(), 0..4), rows in any_rows()) {
        let decided = fold(history.clone()).decide(&context(), record(rows.clone()));
        let handled = TestFramework::<Readings>::with(context()).given(history).when(record(rows)).inspect_result();
        prop_assert_eq!(decided, handled);
    }
}

fn context_midnight() -> DateTimeUtc {
    NaiveDateTime::from(day()).and_utc()
}

#[test]
fn an_event_of_all_slots_and_one_of_none_read_back_as_they_are() {
    let all: Vec<Row> = (0..96).map(|slot| row(slot, i64::from(slot))).collect();
    let (_, events) = recorded_in(std::slice::from_ref(&all));
    assert_eq!(events.iter().flat_map(ReadingsEvent::rows).collect::<Vec<_>>(), all);
    assert_eq!(recorded(vec![]).rows().count(), 0);
}
