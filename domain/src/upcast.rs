//! Events of old versions, read as if they had been written today.
//!
//! An event stays as it was written, for good. What changes is how it is read: each step takes a payload from one version
//! of its event to the next, and an event goes from step to step until it is of the present version. A step may make one
//! event of it, several, or none. It refuses to decide by anything but the payload and where the event stands: the same
//! stored event is read alike everywhere and at any time.

use crate::ids::TenantId;
use chrono::{DateTime, Utc};
use cqrs_es::DomainEvent;
use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

/// Steps from one stored event to those that are read, at most: more is a circle.
const STEPS_MAX: usize = 64;

/// An event as it can be stored: of the present version, or of one from which its upcasters lead there.
pub trait Versioned: DomainEvent + DeserializeOwned {
    /// One step for every version of every event that is no longer written. In any order.
    const UPCASTERS: &'static [Upcaster] = &[];
}

/// One step, declared beside the event.
#[derive(Clone, Copy, Debug)]
pub struct Upcaster {
    /// The event's tag, the last part of its type, e.g. `renamed`.
    pub event: &'static str,
    /// The version that it reads.
    pub from: u32,
    /// What the event is one version later, personal fields opened or erased. A step that leads to the same event leads
    /// to a later version of it.
    pub step: fn(Value, &Origin<'_>) -> Result<Vec<Upcast>, UpcastError>,
}

/// Where a stored event stands. None of it changes by reading.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// `<context>.<aggregate>.<event>`
    pub event_type: &'a str,
    pub event_version: u32,
    pub tenant: TenantId,
    pub stream_type: &'a str,
    pub stream_id: Uuid,
    /// Within the stream.
    pub sequence: u64,
    /// In the journal.
    pub position: u64,
    pub recorded_at: DateTime<Utc>,
}

impl<'a> Origin<'a> {
    /// The event's tag as it was written.
    pub fn event(&self) -> &'a str {
        self.event_type.rsplit('.').next().unwrap_or_default()
    }
}

/// An event on its way to the present, or there.
#[derive(Clone, PartialEq, Debug)]
pub struct Upcast {
    pub event: String,
    pub version: u32,
    pub payload: Value,
}

impl Upcast {
    pub fn new(event: &str, version: u32, payload: Value) -> Self {
        Upcast { event: event.to_owned(), version, payload }
    }
}

/// Why an old event cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum UpcastError {
    #[error("a step found no {0}")]
    Missing(&'static str),
    #[error("{event} v{from} leads back to v{to}; a step leads to a later version")]
    Backwards { event: String, from: u32, to: u32 },
    #[error("more than {STEPS_MAX} steps; the upcasters lead in a circle")]
    Circle,
}

/// Whether an event of this version is of the past.
pub fn is_old<E: Versioned>(event: &str, version: u32) -> bool {
    find::<E>(event, version).is_some()
}

/// What an event has become: every upcaster applied, in order, to what the one before it made.
///
/// # Errors
/// [`UpcastError`] of a step.
pub fn upcast<E: Versioned>(origin: &Origin<'_>, payload: Value) -> Result<Vec<Upcast>, UpcastError> {
    let mut present = Vec::new();
    // The next one last.
    let mut open = vec![Upcast::new(origin.event(), origin.event_version, payload)];
    let mut steps = 0;
    while let Some(Upcast { event, version, payload }) = open.pop() {
        let Some(upcaster) = find::<E>(&event, version) else {
            present.push(Upcast { event, version, payload });
            continue;
        };
        steps += 1;
        if steps > STEPS_MAX {
            return Err(UpcastError::Circle);
        }
        let made = (upcaster.step)(payload, origin)?;
        if let Some(back) = made.iter().find(|made| made.event == event && made.version <= version) {
            return Err(UpcastError::Backwards { from: version, to: back.version, event });
        }
        open.extend(made.into_iter().rev());
    }
    Ok(present)
}

fn find<E: Versioned>(event: &str, version: u32) -> Option<&'static Upcaster> {
    E::UPCASTERS.iter().find(|upcaster| upcaster.event == event && upcaster.from == version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::{Deserialize, Serialize};
    use serde_json::json;

    /// A price was a text once, then an amount and a currency; a sale of several things was one event.
    #[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum TillEvent {
        Sold { item: String, cents: u64, currency: String, till: Uuid },
        Counted { cents: u64 },
    }

    impl DomainEvent for TillEvent {
        fn event_type(&self) -> String {
            let event = match self {
                Self::Sold { .. } => "sold",
                Self::Counted { .. } => "counted",
            };
            format!("test.till.{event}")
        }

        fn event_version(&self) -> String {
            match self {
                Self::Sold { .. } => "3".to_owned(),
                Self::Counted { .. } => "1".to_owned(),
            }
        }
    }

    impl Versioned for TillEvent {
        const UPCASTERS: &'static [Upcaster] = &[
            Upcaster { event: "sold", from: 2, step: with_till },
            Upcaster { event: "sold", from: 1, step: with_currency },
            Upcaster { event: "sold_together", from: 1, step: one_by_one },
            Upcaster { event: "opened", from: 1, step: |_, _| Ok(Vec::new()) },
            Upcaster { event: "round", from: 1, step: |payload, _| Ok(vec![Upcast::new("about", 1, payload)]) },
            Upcaster { event: "about", from: 1, step: |payload, _| Ok(vec![Upcast::new("round", 1, payload)]) },
            Upcaster { event: "back", from: 2, step: |payload, _| Ok(vec![Upcast::new("back", 1, payload)]) },
        ];
    }

    /// The currency was that of the country, and changed with it.
    fn with_currency(mut payload: Value, origin: &Origin<'_>) -> Result<Vec<Upcast>, UpcastError> {
        let euro = origin.recorded_at >= DateTime::from_timestamp(1_009_843_200, 0).unwrap_or_default();
        let fields = payload.as_object_mut().ok_or(UpcastError::Missing("fields"))?;
        fields.insert("currency".to_owned(), json!(if euro { "EUR" } else { "DEM" }));
        Ok(vec![Upcast::new("sold", 2, payload)])
    }

    fn with_till(mut payload: Value, origin: &Origin<'_>) -> Result<Vec<Upcast>, UpcastError> {
        let fields = payload.as_object_mut().ok_or(UpcastError::Missing("fields"))?;
        fields.insert("till".to_owned(), json!(origin.stream_id));
        Ok(vec![Upcast::new("sold", 3, payload)])
    }

    fn one_by_one(payload: Value, _: &Origin<'_>) -> Result<Vec<Upcast>, UpcastError> {
        let items = payload.get("items").and_then(Value::as_array).ok_or(UpcastError::Missing("items"))?;
        Ok(items.iter().map(|item| Upcast::new("sold", 1, item.clone())).collect())
    }

    const TILL: Uuid = Uuid::from_u128(7);

    fn read(event: &str, version: u32, recorded_s: i64, payload: Value) -> Result<Vec<Upcast>, UpcastError> {
        let event_type = format!("test.till.{event}");
        let origin = Origin {
            event_type: &event_type,
            event_version: version,
            tenant: TenantId(Uuid::nil()),
            stream_type: "till",
            stream_id: TILL,
            sequence: 3,
            position: 9,
            recorded_at: DateTime::from_timestamp(recorded_s, 0).unwrap_or_default(),
        };
        upcast::<TillEvent>(&origin, payload)
    }

    fn sold(item: &str, currency: &str) -> Upcast {
        Upcast::new("sold", 3, json!({ "item": item, "cents": 5, "currency": currency, "till": TILL }))
    }

    #[test]
    fn an_event_goes_from_version_to_version_until_it_is_of_today() {
        let before = json!({ "item": "tea", "cents": 5 });
        assert_eq!(read("sold", 1, 0, before.clone()), Ok(vec![sold("tea", "DEM")]));
        assert_eq!(read("sold", 1, 1_700_000_000, before), Ok(vec![sold("tea", "EUR")]));
        let second = json!({ "item": "tea", "cents": 5, "currency": "XAU" });
        assert_eq!(read("sold", 2, 0, second), Ok(vec![sold("tea", "XAU")]));
    }

    #[test]
    fn an_event_of_today_stays_as_it_is() {
        let counted = json!({ "cents": 5 });
        assert_eq!(read("counted", 1, 0, counted.clone()), Ok(vec![Upcast::new("counted", 1, counted)]));
        assert!(
            !is_old::<TillEvent>("counted", 1) && is_old::<TillEvent>("sold", 2) && !is_old::<TillEvent>("sold", 3)
        );
    }

    #[test]
    fn one_event_becomes_several_in_their_order_and_each_goes_on_from_there() {
        let items = ["tea", "jam", "pie"].map(|item| json!({ "item": item, "cents": 5 }));
        let read = read("sold_together", 1, 0, json!({ "items": items }));
        assert_eq!(read, Ok(vec![sold("tea", "DEM"), sold("jam", "DEM"), sold("pie", "DEM")]));
    }

    #[test]
    fn an_event_can_be_read_as_nothing() {
        assert_eq!(read("opened", 1, 0, json!({})), Ok(vec![]));
    }

    #[test]
    fn steps_that_do_not_lead_to_the_present_are_refused() {
        assert_eq!(read("round", 1, 0, json!({})), Err(UpcastError::Circle));
        let back = UpcastError::Backwards { event: "back".to_owned(), from: 2, to: 1 };
        assert_eq!(read("back", 2, 0, json!({})), Err(back));
        assert_eq!(read("sold_together", 1, 0, json!({})), Err(UpcastError::Missing("items")));
    }
}
