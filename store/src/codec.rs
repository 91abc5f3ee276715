//! Events to bytes and back.
//!
//! An event's payload is the inside of its variant: the type stands in a column of its own, where it
//! can be filtered and indexed, and a consumer's schema sees only fields.

use cqrs_es::DomainEvent;
use serde::de::DeserializeOwned;

#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    #[error(
        "event {event_type} does not serialise to one object per variant: give every variant named fields, even none"
    )]
    Shape { event_type: String },
    #[error("event {event_type} v{version} cannot be read")]
    Decode { event_type: String, version: u32, source: serde_json::Error },
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

/// # Errors
/// [`CodecError::Decode`] for a type or version this program does not know, or a damaged payload.
pub fn decode<E: DeserializeOwned>(event_type: &str, version: u32, payload: &str) -> Result<E, CodecError> {
    let name = event_type.rsplit('.').next().unwrap_or_default();
    serde_json::from_str(&format!("{{\"{name}\":{payload}}}")).map_err(|source| CodecError::Decode {
        event_type: event_type.to_owned(),
        version,
        source,
    })
}
