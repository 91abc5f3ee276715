//! What an event changed: old and new values, folded from the journal by the domain's own aggregates.
//!
//! Personal fields are opened for it, and are gone where the person was erased. Refuses to guess: where the state before
//! an event cannot be had, the old values are absent and the answer says so. Permissions are the caller's to check.

mod diff;
mod fold;

pub use diff::Change;

use crate::audit::diff::{changes_between, changes_of_payload};
use crate::audit::fold::Folded;
use daybook_domain::energy::ReadingsEvent;
use daybook_domain::{Personal, TenantId};
use daybook_store::codec;
use daybook_store::journal::RecordedEvent;
use daybook_store::keys::{KeyError, Sealer};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// Changes that are told of one event; a bulk change says that there are more.
pub const CHANGES_MAX: usize = 200;

/// Events of one stream, oldest first: those that are asked about, and what came before them.
#[derive(Clone, Debug)]
pub struct Story {
    pub events: Vec<RecordedEvent>,
    /// Whether they are all there were from the first one on.
    pub whole: bool,
}

/// What an event changed, and from where it was asked for.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Detail {
    pub changes: Vec<Change>,
    /// Old values are absent because there is too much before the event, or there are more changes than told.
    pub truncated: bool,
    /// A key is missing or a field damaged: what it changed cannot be read.
    pub sealed: bool,
    pub ip: Option<String>,
    pub user_agent: Option<String>,
    /// The actor was erased, and with it where the request came from.
    pub caller_erased: bool,
}

/// Whether old values need what came before in streams of this type.
pub fn is_folded(stream_type: &str) -> bool {
    fold::of(stream_type).is_some()
}

/// Tells of the wanted events among those of the stories, with one look-up of keys for all of them.
///
/// # Errors
/// When the key store cannot be reached.
pub async fn details(
    sealer: &Sealer,
    tenant: TenantId,
    stories: &[Story],
    wanted: &HashSet<Uuid>,
) -> Result<HashMap<Uuid, Detail>, KeyError> {
    let events = || stories.iter().flat_map(|story| &story.events);
    let asked = || events().filter(|event| wanted.contains(&event.event_id));
    let texts: Vec<(Uuid, &str)> = events()
        .map(|event| (event.event_id, event.payload.as_str()))
        .chain(asked().map(|event| (event.event_id, event.metadata.as_str())))
        .collect();
    let mut opened = sealer.open_all(tenant, &texts).await?.into_iter().map(Result::ok);
    let mut details = HashMap::new();
    for story in stories {
        let payloads: Vec<Option<String>> = opened.by_ref().take(story.events.len()).collect();
        tell(story, &payloads, wanted, &mut details);
    }
    for (event, metadata) in asked().zip(opened) {
        if let Some(detail) = details.get_mut(&event.event_id) {
            tell_caller(metadata.as_deref(), detail);
        }
    }
    Ok(details)
}

/// `payloads`: of each event, opened; `None` where that cannot be.
fn tell(story: &Story, payloads: &[Option<String>], wanted: &HashSet<Uuid>, details: &mut HashMap<Uuid, Detail>) {
    let Some(kind) = story.events.first().map(|event| event.stream_type.as_str()) else { return };
    let mut state: Option<Box<dyn Folded>> = if story.whole { fold::of(kind) } else { None };
    for (event, payload) in story.events.iter().zip(payloads) {
        let asked = wanted.contains(&event.event_id);
        let before = state.as_ref().filter(|_| asked).map(|state| state.json());
        let applied = match (&mut state, payload) {
            (Some(state), Some(payload)) => state.apply(&event.origin(), payload).is_ok(),
            _ => false,
        };
        if !applied {
            // What comes after an event that is left out is not the state.
            state = None;
        }
        if !asked {
            continue;
        }
        let mut detail = Detail::default();
        match (payload, before, &state) {
            (None, _, _) => detail.sealed = true,
            (Some(payload), Some(before), Some(state)) => {
                detail.changes = changes_between(&before, &state.json(), &parsed(kind, event, payload));
            }
            (Some(payload), _, _) if kind == fold::READINGS => detail.changes = readings(event, payload),
            (Some(payload), _, _) => {
                detail.truncated = fold::of(kind).is_some();
                detail.changes = changes_of_payload(&parsed(kind, event, payload));
            }
        }
        if detail.changes.len() > CHANGES_MAX {
            detail.changes.truncate(CHANGES_MAX);
            detail.truncated = true;
        }
        details.insert(event.event_id, detail);
    }
}

/// A payload as it is read today; where one event is read as several, the last value of each field. As it was written
/// where nothing is known of its type.
fn parsed(kind: &str, event: &RecordedEvent, payload: &str) -> Value {
    let read = fold::of(kind).and_then(|fold| fold.payloads(&event.origin(), payload).ok());
    let Some(read) = read else { return serde_json::from_str(payload).unwrap_or_default() };
    let mut all = Map::new();
    for payload in read {
        if let Value::Object(members) = payload {
            all.extend(members);
        }
    }
    Value::Object(all)
}

/// How many there are and of when; the values are the read model's to tell.
fn readings(event: &RecordedEvent, payload: &str) -> Vec<Change> {
    let happened = codec::decode::<ReadingsEvent>(&event.origin(), payload).unwrap_or_default();
    let Some(ReadingsEvent::Recorded { device, day, .. }) = happened.first() else { return Vec::new() };
    let rows = || happened.iter().flat_map(ReadingsEvent::rows);
    let (first, last) = (rows().next(), rows().last());
    [
        ("device", json!(device)),
        ("day", json!(day)),
        ("count", json!(rows().count())),
        ("first", json!(first.map(|row| row.start))),
        ("last", json!(last.map(|row| row.start))),
    ]
    .into_iter()
    .map(|(name, new)| Change {
        path: vec![name.to_owned()],
        old: None,
        new: Some(new),
        erased: false,
        personal: false,
    })
    .collect()
}

fn tell_caller(metadata: Option<&str>, detail: &mut Detail) {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Caller {
        ip: Option<Personal<String>>,
        user_agent: Option<Personal<String>>,
    }
    let Some(metadata) = metadata else {
        detail.sealed = true;
        return;
    };
    let caller: Caller = serde_json::from_str(metadata).unwrap_or_default();
    detail.caller_erased = [&caller.ip, &caller.user_agent].into_iter().flatten().any(Personal::is_erased);
    detail.ip = caller.ip.as_ref().and_then(Personal::value).cloned();
    detail.user_agent = caller.user_agent.as_ref().and_then(Personal::value).cloned();
}

#[cfg(test)]
mod tests;
