//! What subscribers were told.

use super::{Evidence, Rule, Verdict};
use crate::history::{Followed, Told};
use crate::journal::{Event, Journal};
use serde_json::Value;
use std::collections::HashMap;
use uuid::Uuid;

pub(super) fn check(evidence: &Evidence, verdict: &mut Verdict) {
    let mut tenants: HashMap<Uuid, Vec<&Event>> = HashMap::new();
    for event in &evidence.journal.events {
        tenants.entry(event.tenant).or_default().push(event);
    }
    for (reader, lines) in &evidence.readers {
        let Some(Told::Begun { tenant, after, what }) = lines.first() else {
            verdict.hold(Rule::ReaderComplete, false, || format!("{reader} has not begun"));
            continue;
        };
        let events = tenants.get(tenant).map_or(&[][..], Vec::as_slice);
        for line in lines {
            if let Told::Ended { code } = line {
                verdict.hold(Rule::ReaderComplete, false, || format!("{reader} was ended with {code}"));
            }
        }
        match what {
            Followed::Events => follow_events(reader, *after, lines, events, verdict),
            Followed::Rows => follow_rows(reader, *after, lines, &rows(*tenant, &evidence.journal), verdict),
        }
    }
}

fn follow_events(reader: &str, after: i64, lines: &[Told], events: &[&Event], verdict: &mut Verdict) {
    let mut last = after;
    for line in lines {
        let Told::Event { ordinal, event, event_type, command, stream, sequence, .. } = line else { continue };
        verdict.hold(Rule::ReaderOrder, *ordinal == last + 1, || format!("{reader}: after {last} came {line:?}"));
        last = *ordinal;
        // Where the journal itself is dense, which is a rule of its own.
        let held = usize::try_from(*ordinal).ok().and_then(|ordinal| events.get(ordinal.checked_sub(1)?));
        let equal = held.is_some_and(|held| {
            (held.event, &held.event_type, held.command, held.stream, held.sequence)
                == (*event, event_type, *command, *stream, *sequence)
        });
        verdict.hold(Rule::ReaderTruth, equal, || format!("{reader} was told {line:?}, the journal holds {held:?}"));
    }
    let end = events.last().map_or(0, |event| event.tenant_position);
    verdict.hold(Rule::ReaderComplete, last == end, || format!("{reader} was told up to {last} of {end}"));
}

/// The name of a tenant after each of its versions, from 1.
fn rows(tenant: Uuid, journal: &Journal) -> Vec<String> {
    let own = journal.events.iter().filter(|event| event.tenant == tenant && event.stream == tenant);
    let mut names: Vec<String> = Vec::new();
    for event in own {
        let payload: Value = serde_json::from_str(&event.payload).unwrap_or_default();
        let name = payload["name"].as_str().map(str::to_owned).or_else(|| names.last().cloned());
        names.push(name.unwrap_or_default());
    }
    names
}

fn follow_rows(reader: &str, after: i64, lines: &[Told], names: &[String], verdict: &mut Verdict) {
    let mut last = after;
    for line in lines {
        let Told::Row { version, name, .. } = line else { continue };
        let held = usize::try_from(*version).ok().and_then(|version| names.get(version.checked_sub(1)?));
        let right = *version == last + 1 && held == Some(name);
        verdict
            .hold(Rule::Rows, right, || format!("{reader}: after version {last} came {line:?}, recorded is {held:?}"));
        last = *version;
    }
    let end = names.len();
    let complete = usize::try_from(last) == Ok(end);
    verdict.hold(Rule::Rows, complete, || format!("{reader} was told up to version {last} of {end}"));
}
