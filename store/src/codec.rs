//! Events to bytes and back.
//!
//! An event's payload is the inside of its variant: the type stands in a column of its own, where it
//! can be filtered and indexed, and a consumer's schema sees only fields. An event of an old version is brought up to date
//! when it is read (`docs/decisions/0009-upcasting.md`); what is stored, hashed and exported stays as it was written.

use cqrs_es::DomainEvent;
use daybook_domain::upcast::{self, Origin, Upcast, UpcastError, Versioned, is_old};
use serde_json::{Value, json};

#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    #[error(
        "event {event_type} does not serialise to one object per variant: give every variant named fields, even none"
    )]
    Shape { event_type: String },
    #[error("event {event_type} v{version} cannot be read")]
    Decode { event_type: String, version: u32, source: serde_json::Error },
    #[error("event {event_type} v{version} cannot be brought up to date")]
    Upcast { event_type: String, version: u32, source: UpcastError },
    #[error(
        "event {event_type} v{version} is read as v{reached}, and this program knows v{present}: add the upcaster, or run the newer program"
    )]
    Version { event_type: String, version: u32, reached: u32, present: String },
}

impl CodecError {
    fn decode(origin: &Origin<'_>, source: serde_json::Error) -> Self {
        CodecError::Decode { event_type: origin.event_type.to_owned(), version: origin.event_version, source }
    }
}

/// An event's type, version and payload text.
pub struct Encoded {
    pub event_type: String,
    pub event_version: u32,
    pub payload: String,
}

/// # Errors
/// [`CodecError::Shape`]: a mistake in the event's definition, found by the first test that writes it.
pub fn encode<E: DomainEvent>(event: &E) -> Result<Encoded, CodecError> {
    let event_type = event.event_type();
    let shape = || CodecError::Shape { event_type: event.event_type() };
    let text = serde_json::to_string(event).map_err(|_| shape())?;
    let name = event_type.rsplit('.').next().unwrap_or_default();
    let payload = text
        .strip_prefix("{\"")
        .and_then(|t| t.strip_prefix(name))
        .and_then(|t| t.strip_prefix("\":"))
        .and_then(|t| t.strip_suffix('}'))
        .filter(|t| t.starts_with('{'))
        .ok_or_else(shape)?
        .to_owned();
    let event_version = event.event_version().parse().map_err(|_| shape())?;
    Ok(Encoded { event_type, event_version, payload })
}

/// The events that a stored one is read as, by the upcasters of its type: one unless they say otherwise. `payload`: that
/// of the event, its personal fields opened.
///
/// # Errors
/// [`CodecError`] for a type or version this program does not know, or a damaged payload.
pub fn decode<E: Versioned>(origin: &Origin<'_>, payload: &str) -> Result<Vec<E>, CodecError> {
    let failed = |source| CodecError::decode(origin, source);
    if !is_old::<E>(origin.event(), origin.event_version) {
        let event = serde_json::from_str(&format!("{{\"{}\":{payload}}}", origin.event())).map_err(failed)?;
        return Ok(vec![present(origin, event, origin.event_version)?]);
    }
    let upcast = upcast::<E>(origin, payload)?;
    let read = |Upcast { event, version, payload }: Upcast| {
        let event = serde_json::from_value(json!({ event: payload })).map_err(failed)?;
        present(origin, event, version)
    };
    upcast.into_iter().map(read).collect()
}

/// The payloads that a stored one is read as.
///
/// # Errors
/// As [`decode`].
pub fn payloads<E: Versioned>(origin: &Origin<'_>, payload: &str) -> Result<Vec<Value>, CodecError> {
    Ok(upcast::<E>(origin, payload)?.into_iter().map(|upcast| upcast.payload).collect())
}

fn upcast<E: Versioned>(origin: &Origin<'_>, payload: &str) -> Result<Vec<Upcast>, CodecError> {
    let payload = serde_json::from_str(payload).map_err(|source| CodecError::decode(origin, source))?;
    upcast::upcast::<E>(origin, payload).map_err(|source| CodecError::Upcast {
        event_type: origin.event_type.to_owned(),
        version: origin.event_version,
        source,
    })
}

/// An event that has arrived at the version which is written today.
fn present<E: Versioned>(origin: &Origin<'_>, event: E, version: u32) -> Result<E, CodecError> {
    let present = event.event_version();
    if present.parse() == Ok(version) {
        return Ok(event);
    }
    let event_type = origin.event_type.to_owned();
    Err(CodecError::Version { event_type, version: origin.event_version, reached: version, present })
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;
    use daybook_domain::TenantId;
    use daybook_domain::upcast::Upcaster;
    use serde::{Deserialize, Serialize};
    use uuid::Uuid;

    #[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Moved {
        By { metres: u64 },
    }

    impl DomainEvent for Moved {
        fn event_type(&self) -> String {
            "test.thing.by".to_owned()
        }

        fn event_version(&self) -> String {
            "3".to_owned()
        }
    }

    impl Versioned for Moved {
        const UPCASTERS: &'static [Upcaster] = &[Upcaster {
            event: "by",
            from: 2,
            step: |payload, _| {
                let steps = payload.get("steps").and_then(Value::as_u64).ok_or(UpcastError::Missing("steps"))?;
                Ok((0..steps).map(|_| Upcast::new("by", 3, json!({ "metres": 1 }))).collect())
            },
        }];
    }

    fn read(version: u32, payload: &str) -> Result<Vec<Moved>, String> {
        let origin = Origin {
            event_type: "test.thing.by",
            event_version: version,
            tenant: TenantId(Uuid::nil()),
            stream_type: "thing",
            stream_id: Uuid::nil(),
            sequence: 1,
            position: 1,
            recorded_at: DateTime::UNIX_EPOCH,
        };
        decode(&origin, payload).map_err(|error| error.to_string())
    }

    #[test]
    fn an_event_is_read_as_itself_or_as_what_its_upcasters_make_of_it() {
        assert_eq!(read(3, r#"{"metres":4}"#), Ok(vec![Moved::By { metres: 4 }]));
        assert_eq!(read(2, r#"{"steps":3}"#), Ok(vec![Moved::By { metres: 1 }; 3]));
        assert_eq!(read(2, r#"{"steps":0}"#), Ok(vec![]));
    }

    #[test]
    fn a_version_from_which_no_step_leads_on_is_refused_although_it_would_fit() {
        for version in [1, 4] {
            let refused = read(version, r#"{"metres":4}"#).expect_err("no such version");
            assert!(refused.contains(&format!("v{version}")) && refused.contains("knows v3"), "{refused}");
        }
    }

    #[test]
    fn a_damaged_payload_is_refused_by_name_and_not_quoted() {
        for (version, payload) in [(3, r#"{"metres":"Ada"}"#), (2, r#"{"steps":"Ada"}"#), (2, "Ada")] {
            let refused = read(version, payload).expect_err("damaged");
            assert!(refused.contains("test.thing.by") && !refused.contains("Ada"), "{refused}");
        }
    }
}
