//! Histories with a fault planted in each: the check has to find it, and only under the rule that names it.

use super::*;
use crate::history::{Ask, Followed};
use crate::journal::{Batch, Event};
use serde_json::{Value, json};
use uuid::Uuid;

const TENANT: Uuid = Uuid::from_u128(1);
const DEVICE: Uuid = Uuid::from_u128(2);
/// 2000-01-02T00:15:00Z
const SLOT_S: i64 = 946_772_100;

fn command(number: u128) -> Uuid {
    Uuid::from_u128(100 + number)
}

fn event(position: i64, stream: Uuid, sequence: i64, event_type: &str, payload: &Value) -> Event {
    Event {
        position,
        tenant: TENANT,
        tenant_position: position,
        stream_type: event_type.split('.').nth(1).unwrap_or_default().to_owned(),
        stream,
        sequence,
        event: Uuid::from_u128(1_000 + position.unsigned_abs() as u128),
        event_type: event_type.to_owned(),
        payload: payload.to_string(),
        command: Some(command(position.unsigned_abs() as u128)),
    }
}

fn rename(name: &str, expected: Option<i64>) -> Ask {
    Ask::RenameTenant { tenant: TENANT, name: name.into(), expected }
}

fn acknowledged(number: u128, id: Option<Uuid>, version: Option<i64>) -> Written {
    Written::Acknowledged { command: command(number), position: Some(format!("p{number}")), id, version }
}

fn told(event: &Event) -> Told {
    Told::Event {
        position: format!("p{}", event.position),
        ordinal: event.tenant_position,
        event: event.event,
        event_type: event.event_type.clone(),
        command: event.command,
        stream: event.stream,
        sequence: event.sequence,
    }
}

fn message(event: &Event) -> Message {
    Message {
        sequence: event.position.unsigned_abs(),
        subject: format!("daybook.{TENANT}.{}", event.event_type),
        event: event.event,
        kind: format!("daybook.{}.v1", event.event_type),
        source: format!("/tenants/{TENANT}"),
        position: format!("p{}", event.position),
        data: serde_json::from_str(&event.payload).unwrap(),
    }
}

/// A tenant registered, renamed twice, with a device that has recorded two readings, a refusal and a command that
/// was given up. Everybody heard of all of it.
fn sound() -> Evidence {
    let readings = json!({ "device": DEVICE, "day": "2000-01-02", "resolution_s": 900,
        "runs": [{ "from_slot": 1, "wh": [7, 8] }] });
    let device = json!({ "name": "Roof", "serial": "S", "max_power_w": 40_000 });
    let events = vec![
        event(1, TENANT, 1, "platform.tenant.registered", &json!({ "name": "A", "plan": "FREE" })),
        event(2, TENANT, 2, "platform.tenant.renamed", &json!({ "name": "B" })),
        event(3, DEVICE, 1, "energy.device.registered", &device),
        event(4, Uuid::from_u128(3), 1, "energy.readings.recorded", &readings),
        event(5, TENANT, 3, "platform.tenant.renamed", &json!({ "name": "C" })),
    ];
    let batches = vec![Batch { batch: 1, first: 1, last: 3 }, Batch { batch: 2, first: 4, last: 5 }];
    let invoked = |number, ask| Written::Invoked { command: command(number), ask };
    let wh = vec![7, 8];
    let writer = vec![
        invoked(1, Ask::RegisterTenant { name: "A".into() }),
        acknowledged(1, Some(TENANT), Some(1)),
        invoked(2, rename("B", Some(1))),
        Written::Unanswered { command: command(2), why: "UNKNOWN_OUTCOME".into() },
        acknowledged(2, Some(TENANT), Some(2)),
        Written::Read {
            tenant: TENANT,
            position: "p2".into(),
            written: 2,
            name: "B".into(),
            read: Some(2),
            read_name: Some("B".into()),
        },
        invoked(3, Ask::RegisterDevice { tenant: TENANT, name: "Roof".into(), serial: "S".into() }),
        acknowledged(3, Some(DEVICE), None),
        invoked(
            4,
            Ask::RecordReadings { tenant: TENANT, device: DEVICE, from_s: SLOT_S, step_s: 900, wh, ingest: true },
        ),
        acknowledged(4, None, None),
        invoked(5, rename("C", None)),
        Written::Abandoned { command: command(5) },
        invoked(6, rename("", None)),
        Written::Refused { command: command(6), code: "EMPTY".into(), is_wrong: false },
    ];
    let mut reader = vec![Told::Begun { tenant: TENANT, after: 1, what: Followed::Events }];
    reader.extend(events[1..].iter().map(told));
    reader.insert(2, Told::Resumed { why: "cut".into() });
    let row = |version, name: &str| Told::Row { position: "p".into(), version, name: name.into() };
    let rows = vec![Told::Begun { tenant: TENANT, after: 1, what: Followed::Rows }, row(2, "B"), row(3, "C")];
    let messages: Vec<Message> = events.iter().map(message).collect();
    Evidence {
        journal: Journal { events, batches },
        writers: vec![("writer-1".into(), writer)],
        readers: vec![("reader-1".into(), reader), ("reader-2".into(), rows)],
        consumers: Some(vec![("live".into(), messages.clone()), ("whole".into(), messages)]),
    }
}

/// The rules that are violated once this is done to a sound history.
fn after(plant: impl FnOnce(&mut Evidence)) -> Vec<Rule> {
    let mut evidence = sound();
    plant(&mut evidence);
    check(&evidence).violated()
}

/// The journal itself, also as all who listen have it.
fn in_all(evidence: &mut Evidence, change: impl Fn(&mut Vec<Event>)) {
    change(&mut evidence.journal.events);
    let events = &evidence.journal.events;
    let reader = &mut evidence.readers[0].1;
    reader.truncate(1);
    reader.extend(events[1..].iter().map(told));
    let messages: Vec<Message> =
        (1..).zip(events).map(|(sequence, event)| Message { sequence, ..message(event) }).collect();
    evidence.consumers = Some(vec![("live".into(), messages.clone()), ("whole".into(), messages)]);
}

fn lines(evidence: &mut Evidence) -> &mut Vec<Written> {
    &mut evidence.writers[0].1
}

fn messages(evidence: &mut Evidence) -> &mut Vec<Message> {
    &mut evidence.consumers.as_mut().unwrap()[0].1
}

#[test]
fn a_sound_history_violates_nothing_and_every_rule_about_it_is_checked() {
    let verdict = check(&sound());
    assert!(verdict.is_clean(), "{verdict:?}");
    let outside = [Rule::ReadModels, Rule::Verified, Rule::ServesAgain, Rule::NodesLive];
    for rule in Rule::ALL.into_iter().filter(|rule| !outside.contains(rule)) {
        assert!(verdict.of(rule).checked > 0, "{rule:?}");
    }
}

#[test]
fn an_acknowledged_write_that_is_lost_is_found() {
    let lost = after(|evidence| {
        lines(evidence).push(Written::Invoked { command: command(9), ask: rename("D", None) });
        lines(evidence).push(acknowledged(9, Some(TENANT), Some(4)));
    });
    assert_eq!(lost, [Rule::Kept]);
    // One reading of two.
    let lost = after(|evidence| {
        in_all(evidence, |events| events[3].payload = events[3].payload.replace("[7,8]", "[7]"));
    });
    assert_eq!(lost, [Rule::Kept]);
}

#[test]
fn a_write_that_is_there_twice_is_found() {
    let doubled = after(|evidence| {
        in_all(evidence, |events| {
            let mut again = event(6, TENANT, 4, "platform.tenant.renamed", &json!({ "name": "B" }));
            again.command = Some(command(2));
            events.push(again);
        });
        evidence.journal.batches[1].last = 6;
        evidence.readers[1].1.push(Told::Row { position: "p".into(), version: 4, name: "B".into() });
    });
    // The second one cannot be the version that was expected or answered, nor the one at the position in the answer.
    assert_eq!(doubled, [Rule::Once, Rule::Content, Rule::AnsweredPosition, Rule::OwnWrites]);
}

#[test]
fn a_write_without_an_answer_may_be_there_once_but_not_twice() {
    let doubled = after(|evidence| {
        in_all(evidence, |events| {
            let mut again = event(6, TENANT, 4, "platform.tenant.renamed", &json!({ "name": "C" }));
            again.command = Some(command(5));
            events.push(again);
        });
        evidence.journal.batches[1].last = 6;
        evidence.readers[1].1.push(Told::Row { position: "p".into(), version: 4, name: "C".into() });
    });
    assert_eq!(doubled, [Rule::AtMostOnce]);
}

#[test]
fn altered_content_is_found() {
    let altered = after(|evidence| {
        in_all(evidence, |events| events[1].payload = r#"{"name":"Z"}"#.into());
        evidence.readers[1].1[1] = Told::Row { position: "p".into(), version: 2, name: "Z".into() };
    });
    assert_eq!(altered, [Rule::Content]);
    let altered =
        after(|evidence| in_all(evidence, |events| events[3].payload = events[3].payload.replace("[7,8]", "[7,9]")));
    assert_eq!(altered, [Rule::Content]);
}

#[test]
fn what_was_refused_and_is_there_all_the_same_is_found() {
    let left = after(|evidence| {
        lines(evidence).retain(|line| !matches!(line, Written::Abandoned { .. }));
        lines(evidence).push(Written::Refused { command: command(5), code: "CONFLICT".into(), is_wrong: false });
    });
    assert_eq!(left, [Rule::RefusedNothing]);
}

#[test]
fn a_refusal_without_a_reason_is_found() {
    let refused = after(|evidence| {
        lines(evidence).push(Written::Invoked { command: command(9), ask: rename("D", Some(3)) });
        lines(evidence).push(Written::Refused { command: command(9), code: "CONFLICT".into(), is_wrong: true });
    });
    assert_eq!(refused, [Rule::RefusedRightly]);
}

#[test]
fn an_event_that_nobody_asked_for_is_found() {
    let unasked = after(|evidence| in_all(evidence, |events| events[4].command = Some(command(77))));
    assert_eq!(unasked, [Rule::AskedFor]);
    let unasked =
        after(|evidence| in_all(evidence, |events| events[3].payload = events[3].payload.replace("[7,8]", "[7,8,9]")));
    assert_eq!(unasked, [Rule::AskedFor]);
}

#[test]
fn a_gap_in_the_journal_is_found_wherever_it_counts() {
    let gap = after(|evidence| in_all(evidence, |events| events[4].position = 6));
    assert_eq!(gap, [Rule::Positions]);
    let gap = after(|evidence| in_all(evidence, |events| events[4].sequence = 4));
    assert_eq!(gap, [Rule::Streams]);
    let gap = after(|evidence| evidence.journal.batches[1].batch = 3);
    assert_eq!(gap, [Rule::Batches]);
    let gap = after(|evidence| evidence.journal.batches[1].last = 6);
    assert_eq!(gap, [Rule::Batches]);
    let gap = after(|evidence| evidence.journal.events[4].tenant_position = 6);
    assert!(gap.contains(&Rule::TenantPositions), "{gap:?}");
}

#[test]
fn an_answer_with_the_position_of_another_event_is_found() {
    let wrong = after(|evidence| {
        if let Written::Acknowledged { position, .. } = &mut lines(evidence)[4] {
            *position = Some("p3".into());
        }
    });
    assert_eq!(wrong, [Rule::AnsweredPosition]);
}

#[test]
fn a_read_that_does_not_show_ones_own_write_is_found() {
    for (seen, seen_name) in [(Some(1), Some("A")), (Some(2), Some("Z")), (None, None)] {
        let stale = after(|evidence| {
            if let Written::Read { read, read_name, .. } = &mut lines(evidence)[5] {
                (*read, *read_name) = (seen, seen_name.map(str::to_owned));
            }
        });
        assert_eq!(stale, [Rule::OwnWrites]);
    }
    let stale = after(|evidence| {
        if let Written::Acknowledged { version, .. } = &mut lines(evidence)[4] {
            *version = Some(1);
        }
    });
    assert_eq!(stale, [Rule::OwnWrites]);
}

#[test]
fn a_gap_a_double_and_a_reordering_at_a_subscriber_are_found() {
    let gap = after(|evidence| drop(evidence.readers[0].1.remove(3)));
    assert_eq!(gap, [Rule::ReaderOrder]);
    let doubled = after(|evidence| {
        let again = evidence.readers[0].1[3].clone();
        evidence.readers[0].1.insert(4, again);
    });
    assert_eq!(doubled, [Rule::ReaderOrder]);
    let reordered = after(|evidence| evidence.readers[0].1.swap(3, 4));
    assert_eq!(reordered, [Rule::ReaderOrder]);
}

#[test]
fn what_was_shown_and_then_taken_back_is_found() {
    let shown = after(|evidence| {
        if let Told::Event { event, .. } = &mut evidence.readers[0].1[5] {
            *event = Uuid::from_u128(77);
        }
    });
    assert_eq!(shown, [Rule::ReaderTruth]);
    // After the end of the journal.
    let shown = after(|evidence| {
        let beyond = event(6, TENANT, 4, "platform.tenant.renamed", &json!({ "name": "D" }));
        evidence.readers[0].1.push(told(&beyond));
    });
    assert_eq!(shown, [Rule::ReaderTruth, Rule::ReaderComplete]);
    let shown = after(|evidence| {
        evidence.readers[1].1.push(Told::Row { position: "p".into(), version: 4, name: "D".into() });
    });
    assert_eq!(shown, [Rule::Rows]);
}

#[test]
fn a_subscriber_that_does_not_come_to_the_end_is_found() {
    assert_eq!(after(|evidence| drop(evidence.readers[0].1.pop())), [Rule::ReaderComplete]);
    assert_eq!(after(|evidence| drop(evidence.readers[1].1.pop())), [Rule::Rows]);
    let ended = after(|evidence| evidence.readers[0].1.push(Told::Ended { code: "CURSOR_EXPIRED".into() }));
    assert_eq!(ended, [Rule::ReaderComplete]);
    assert_eq!(after(|evidence| evidence.readers[0].1.clear()), [Rule::ReaderComplete]);
}

#[test]
fn a_message_that_is_missing_out_of_order_or_of_nothing_is_found() {
    let both = |evidence: &mut Evidence, change: &dyn Fn(&mut Vec<Message>)| {
        for (_, messages) in evidence.consumers.as_mut().unwrap() {
            change(messages);
            for (sequence, message) in (1..).zip(messages) {
                message.sequence = sequence;
            }
        }
    };
    assert_eq!(after(|evidence| both(evidence, &|messages| drop(messages.remove(2)))), [Rule::StreamComplete]);
    assert_eq!(after(|evidence| both(evidence, &|messages| messages.swap(2, 3))), [Rule::StreamOrder]);
    let unknown = after(|evidence| {
        both(evidence, &|messages| {
            let mut unknown = messages[0].clone();
            unknown.event = Uuid::from_u128(77);
            messages.push(unknown);
        });
    });
    assert_eq!(unknown, [Rule::StreamTruth]);
    let altered = after(|evidence| both(evidence, &|messages| messages[1].data = json!({ "name": "Z" })));
    assert_eq!(altered, [Rule::StreamTruth]);
    // Twice is allowed: at least once is the promise, and the id is the same.
    let twice = after(|evidence| {
        both(evidence, &|messages| {
            let again = messages[1].clone();
            messages.insert(3, again);
        });
    });
    assert_eq!(twice, []);
}

#[test]
fn a_message_that_was_delivered_and_is_another_one_later_is_found() {
    let changed = after(|evidence| {
        let mut other = messages(evidence)[4].clone();
        other.sequence = 6;
        messages(evidence).push(other);
    });
    assert_eq!(changed, [Rule::StreamTruth]);
}

#[test]
fn verdicts_add_up_and_tell_only_the_first_violations() {
    let mut all = Verdict::default();
    for _ in 0..2 {
        let mut one = Verdict::default();
        (0..TOLD_MAX).for_each(|n| one.hold(Rule::Kept, n == 0, || n.to_string()));
        all.merge(one);
    }
    let tally = all.of(Rule::Kept);
    assert_eq!((tally.checked, tally.violated, tally.violations.len()), (40, 38, TOLD_MAX));
    assert!(!all.is_clean());
}
