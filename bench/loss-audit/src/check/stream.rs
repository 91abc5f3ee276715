//! What consumers of NATS JetStream got.

use super::{Logs, Rule, Verdict};
use crate::history::Message;
use crate::journal::{Event, Journal};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// Events of which nothing is withheld are compared whole.
const WHOLE: [&str; 4] =
    ["platform.tenant.registered", "platform.tenant.renamed", "energy.device.registered", "energy.readings.recorded"];

pub(super) fn check(journal: &Journal, consumers: &Logs<Message>, verdict: &mut Verdict) {
    let events: HashMap<Uuid, &Event> = journal.events.iter().map(|event| (event.event, event)).collect();
    for (consumer, messages) in consumers {
        let mut seen = HashSet::new();
        let (mut last, mut sequence) = (0, 0);
        for message in messages {
            let held = events.get(&message.event);
            verdict.hold(Rule::StreamTruth, held.is_some_and(|event| tells(message, event)), || {
                format!("{consumer} got {message:?}, the journal holds {held:?}")
            });
            verdict.hold(Rule::StreamOrder, message.sequence == sequence + 1, || {
                format!("{consumer}: message {} came after {sequence}", message.sequence)
            });
            sequence = message.sequence;
            let Some(event) = held else { continue };
            if seen.insert(message.event) {
                verdict.hold(Rule::StreamOrder, event.position > last, || {
                    format!("{consumer}: message {sequence} is of position {}, after {last}", event.position)
                });
                last = event.position;
            }
        }
        for event in &journal.events {
            verdict.hold(Rule::StreamComplete, seen.contains(&event.event), || {
                format!("{consumer} did not get {event:?}")
            });
        }
    }
    // What was delivered once stays what it was, whatever became of the server.
    if let [(_, live), (_, whole)] = &consumers[..] {
        let whole: HashMap<u64, &Message> = whole.iter().map(|message| (message.sequence, message)).collect();
        for message in live {
            let now = whole.get(&message.sequence);
            verdict.hold(Rule::StreamTruth, now == Some(&message), || {
                format!("{message:?} was delivered, and the stream holds {now:?}")
            });
        }
    }
}

fn tells(message: &Message, event: &Event) -> bool {
    let whole = WHOLE.contains(&event.event_type.as_str());
    message.kind.starts_with(&format!("daybook.{}.v", event.event_type))
        && message.subject == format!("daybook.{}.{}", event.tenant, event.event_type)
        && message.source == format!("/tenants/{}", event.tenant)
        && (!whole || serde_json::from_str::<Value>(&event.payload).is_ok_and(|payload| payload == message.data))
}
