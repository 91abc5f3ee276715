//! What became of what writers asked for.

use super::{Evidence, Rule, Verdict};
use crate::history::{Ask, Told, Written};
use crate::journal::{Event, Journal};
use serde::Deserialize;
use serde_json::Value;
use std::collections::HashMap;
use uuid::Uuid;

const DAY_S: i64 = 86_400;

/// How a command ended, for the one who sent it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Acknowledged,
    Refused,
    /// Never answered.
    Open,
}

struct Command<'a> {
    writer: &'a str,
    ask: &'a Ask,
    end: End,
    position: Option<&'a str>,
    id: Option<Uuid>,
    version: Option<i64>,
}

/// A slot of a device: tenant, device, unix time.
type Slot = (Uuid, Uuid, i64);

pub(super) fn check(evidence: &Evidence, verdict: &mut Verdict) {
    let commands = commands(evidence, verdict);
    let mut by_command: HashMap<Uuid, Vec<&Event>> = HashMap::new();
    for event in evidence.journal.events.iter().filter(|event| !is_readings(event)) {
        by_command.entry(event.command.unwrap_or_default()).or_default().push(event);
    }
    let slots = slots(&evidence.journal, verdict);
    let mut expected_slots: HashMap<Slot, i64> = HashMap::new();
    let positions = positions(evidence);

    for (id, command) in &commands {
        let name = || format!("{} of {}, {:?}, {:?}", id, command.writer, command.end, command.ask);
        if let Ask::RecordReadings { tenant, device, from_s, step_s, wh, .. } = command.ask {
            for (slot, wh) in (0..).zip(wh) {
                let slot = (*tenant, *device, from_s + slot * step_s);
                expected_slots.insert(slot, *wh);
                let found = slots.get(&slot).map_or(&[][..], Vec::as_slice);
                count(verdict, command.end, found.len(), || format!("slot {} of {}", slot.2, name()));
                let equal = found.iter().all(|(_, value)| value == wh);
                verdict.hold(Rule::Content, equal, || format!("{found:?} instead of {wh} in {}", name()));
            }
            continue;
        }
        let found = by_command.get(id).map_or(&[][..], Vec::as_slice);
        count(verdict, command.end, found.len(), name);
        for event in found {
            verdict.hold(Rule::Content, is_what_was_asked(event, command), || format!("{event:?} for {}", name()));
            if let Some(version) = command.version {
                verdict.hold(Rule::OwnWrites, version >= event.sequence, || {
                    format!("the answer shows version {version}, the write made {}, for {}", event.sequence, name())
                });
            }
            if let Some(told) = command.position.and_then(|position| positions.get(position)) {
                verdict.hold(Rule::AnsweredPosition, *told == event.event, || {
                    format!("the answer's position is that of event {told}, not of {event:?}, for {}", name())
                });
            }
        }
    }

    for event in evidence.journal.events.iter().filter(|event| !is_readings(event)) {
        let known = event.command.is_some_and(|command| commands.contains_key(&command));
        verdict.hold(Rule::AskedFor, known, || format!("nobody asked for {event:?}"));
    }
    for (slot, found) in &slots {
        verdict.hold(Rule::AskedFor, expected_slots.contains_key(slot), || {
            format!("nobody asked for slot {} of device {} at position {:?}", slot.2, slot.1, found.first())
        });
    }
    own_writes(evidence, verdict);
}

/// Every command by its id, as its history ends.
fn commands<'a>(evidence: &'a Evidence, verdict: &mut Verdict) -> HashMap<Uuid, Command<'a>> {
    let mut commands = HashMap::new();
    for (writer, lines) in &evidence.writers {
        for line in lines {
            if let Written::Invoked { command, ask } = line {
                let new = Command { writer, ask, end: End::Open, position: None, id: None, version: None };
                commands.insert(*command, new);
            }
        }
        for line in lines {
            match line {
                Written::Acknowledged { command, position, id, version } => {
                    if let Some(known) = commands.get_mut(command) {
                        known.end = End::Acknowledged;
                        (known.position, known.id, known.version) = (position.as_deref(), *id, *version);
                    }
                }
                Written::Refused { command, code, is_wrong } => {
                    if let Some(known) = commands.get_mut(command) {
                        known.end = End::Refused;
                        let ask = known.ask;
                        verdict.hold(Rule::RefusedRightly, !is_wrong, || {
                            format!("{code} for {command} of {writer}, {ask:?}")
                        });
                    }
                }
                Written::Invoked { .. }
                | Written::Unanswered { .. }
                | Written::Abandoned { .. }
                | Written::Read { .. } => {}
            }
        }
    }
    commands
}

fn count(verdict: &mut Verdict, end: End, found: usize, name: impl Fn() -> String) {
    match end {
        End::Acknowledged => {
            verdict.hold(Rule::Kept, found > 0, || format!("lost: {}", name()));
            verdict.hold(Rule::Once, found <= 1, || format!("{found} times: {}", name()));
        }
        End::Refused => verdict.hold(Rule::RefusedNothing, found == 0, || format!("{found} times: {}", name())),
        End::Open => verdict.hold(Rule::AtMostOnce, found <= 1, || format!("{found} times: {}", name())),
    }
}

fn is_what_was_asked(event: &Event, command: &Command<'_>) -> bool {
    let payload: Value = serde_json::from_str(&event.payload).unwrap_or_default();
    let told = |id: Uuid| command.id.is_none_or(|told| told == id);
    match command.ask {
        Ask::RegisterTenant { name } => {
            event.event_type == "platform.tenant.registered"
                && event.tenant == event.stream
                && told(event.stream)
                && event.sequence == 1
                && payload == serde_json::json!({ "name": name, "plan": "FREE" })
        }
        Ask::RenameTenant { tenant, name, expected } => {
            event.event_type == "platform.tenant.renamed"
                && event.tenant == *tenant
                && event.stream == *tenant
                && expected.is_none_or(|expected| event.sequence == expected + 1)
                && payload == serde_json::json!({ "name": name })
        }
        Ask::RegisterDevice { tenant, name, serial } => {
            event.event_type == "energy.device.registered"
                && event.tenant == *tenant
                && told(event.stream)
                && event.sequence == 1
                && payload["name"] == **name
                && payload["serial"] == **serial
                && payload["max_power_w"] == 40_000
        }
        // Of these, values are compared, wherever they stand.
        Ask::RecordReadings { .. } => false,
    }
}

fn is_readings(event: &Event) -> bool {
    event.event_type == "energy.readings.recorded"
}

#[derive(Deserialize)]
struct Day {
    device: Uuid,
    day: chrono::NaiveDate,
    resolution_s: i64,
    runs: Vec<Run>,
}

#[derive(Deserialize)]
struct Run {
    from_slot: i64,
    wh: Vec<i64>,
}

/// Every reading in the journal: position and value.
fn slots(journal: &Journal, verdict: &mut Verdict) -> HashMap<Slot, Vec<(i64, i64)>> {
    let mut slots: HashMap<Slot, Vec<(i64, i64)>> = HashMap::new();
    for event in journal.events.iter().filter(|event| is_readings(event)) {
        let day = serde_json::from_str::<Day>(&event.payload);
        verdict.hold(Rule::Content, day.is_ok(), || format!("readings that cannot be read: {event:?}"));
        let Ok(Day { device, day, resolution_s, runs }) = day else { continue };
        let midnight_s = day.and_time(chrono::NaiveTime::MIN).and_utc().timestamp();
        for run in runs {
            for (slot, wh) in (run.from_slot..).zip(run.wh) {
                let at = slot * resolution_s;
                verdict.hold(Rule::Content, at < DAY_S, || format!("slot {slot} of no day: {event:?}"));
                slots.entry((event.tenant, device, midnight_s + at)).or_default().push((event.position, wh));
            }
        }
    }
    slots
}

/// Which event a position names, as subscribers were told it.
fn positions(evidence: &Evidence) -> HashMap<&str, Uuid> {
    let lines = evidence.readers.iter().flat_map(|(_, lines)| lines);
    lines
        .filter_map(|line| match line {
            Told::Event { position, event, .. } => Some((position.as_str(), *event)),
            Told::Begun { .. } | Told::Row { .. } | Told::Resumed { .. } | Told::Ended { .. } => None,
        })
        .collect()
}

fn own_writes(evidence: &Evidence, verdict: &mut Verdict) {
    for (writer, lines) in &evidence.writers {
        for line in lines {
            let Written::Read { tenant, written, name, read, read_name, .. } = line else { continue };
            let sees = read.is_some_and(|read| read >= *written)
                && (*read != Some(*written) || read_name.as_deref() == Some(name));
            verdict.hold(Rule::OwnWrites, sees, || format!("{writer} at tenant {tenant}: {line:?}"));
        }
    }
}
