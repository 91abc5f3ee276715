//! CloudEvents 1.0, structured JSON.

use crate::withhold::withhold;
use chrono::{DateTime, Utc};
use daybook_domain::TenantId;
use daybook_domain::registry::event_contracts;
use daybook_store::journal::RecordedEvent;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use uuid::Uuid;

/// Makes the opaque position that clients of the API know, from a tenant and its own count. Numbers of the
/// journal never leave: they would tell one tenant of the others' volume.
pub type Positions = Arc<dyn Fn(TenantId, u64) -> String + Send + Sync>;

/// One event as integrators see it.
#[derive(Serialize, Debug)]
pub struct CloudEvent {
    pub specversion: &'static str,
    /// The event's id: what to deduplicate on.
    pub id: Uuid,
    /// `/tenants/<tenant>`
    pub source: String,
    /// `daybook.<context>.<aggregate>.<event>.v<n>`
    #[serde(rename = "type")]
    pub kind: String,
    /// Id of the aggregate.
    pub subject: Uuid,
    /// When it was recorded.
    pub time: DateTime<Utc>,
    pub datacontenttype: &'static str,
    pub dataschema: String,
    /// Opaque; the same as in the API, where a subscription can be taken up after it.
    pub position: String,
    pub correlationid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub causationid: Option<Uuid>,
    /// The payload, personal fields withheld.
    pub data: Box<RawValue>,
}

/// What is wrong with an event that should leave.
#[derive(Debug, thiserror::Error)]
pub enum CloudEventError {
    #[error("the payload or metadata of event {event} is not JSON")]
    Json { event: Uuid, source: serde_json::Error },
}

/// What leaves of an event's metadata. The rest is not even looked at: some of it is personal and sealed.
#[derive(Deserialize)]
struct Metadata {
    correlation: String,
    causation: Option<Uuid>,
}

/// Type and version → id of the published schema, of public events only.
fn public() -> &'static HashMap<(String, u32), String> {
    static PUBLIC: OnceLock<HashMap<(String, u32), String>> = OnceLock::new();
    PUBLIC.get_or_init(|| {
        let public = event_contracts().into_iter().filter(|contract| contract.public);
        public
            .map(|contract| {
                let id = contract.schema.get("$id").and_then(|id| id.as_str()).unwrap_or_default().to_owned();
                ((contract.event_type, contract.version.parse().unwrap_or_default()), id)
            })
            .collect()
    })
}

impl CloudEvent {
    /// `None` for an event that is not public.
    ///
    /// # Errors
    /// When what is stored is not JSON, which the journal never accepts.
    pub fn of(event: &RecordedEvent, positions: &Positions) -> Result<Option<CloudEvent>, CloudEventError> {
        let Some(dataschema) = public().get(&(event.event_type.clone(), event.event_version)) else { return Ok(None) };
        let json = |source| CloudEventError::Json { event: event.event_id, source };
        let metadata: Metadata = serde_json::from_str(&event.metadata).map_err(json)?;
        Ok(Some(CloudEvent {
            specversion: "1.0",
            id: event.event_id,
            source: format!("/tenants/{}", event.tenant),
            kind: format!("daybook.{}.v{}", event.event_type, event.event_version),
            subject: event.stream_id,
            time: event.recorded_at,
            datacontenttype: "application/json",
            dataschema: dataschema.clone(),
            position: positions(event.tenant, event.tenant_position),
            correlationid: metadata.correlation,
            causationid: metadata.causation,
            data: withhold(&event.payload).map_err(json)?,
        }))
    }
}

/// Where an event is published: `daybook.<tenant>.<context>.<aggregate>.<event>`.
pub fn subject(event: &RecordedEvent) -> String {
    format!("daybook.{}.{}", event.tenant, event.event_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn positions() -> Positions {
        Arc::new(|tenant, position| format!("{}/{position}", tenant.0.as_u128()))
    }

    fn recorded(event_type: &str, payload: &str) -> RecordedEvent {
        RecordedEvent {
            position: 900,
            tenant: TenantId(Uuid::from_u128(7)),
            tenant_position: 3,
            stream_type: "tenant".into(),
            stream_id: Uuid::from_u128(7),
            sequence: 2,
            event_id: Uuid::from_u128(8),
            event_type: event_type.into(),
            event_version: 1,
            recorded_at: DateTime::from_timestamp_micros(1_700_000_000_123_456).unwrap(),
            payload: payload.into(),
            metadata: format!(
                r#"{{"actor":"{0}","actor_kind":"account","command":"tenant.rename","command_id":"{0}","correlation":"c-1"}}"#,
                Uuid::from_u128(9)
            ),
        }
    }

    #[test]
    fn a_public_event_leaves_with_its_bytes_and_without_the_journals_volume() {
        let event = recorded("platform.tenant.renamed", r#"{"name":"Acme"}"#);
        let sent = serde_json::to_value(CloudEvent::of(&event, &positions()).unwrap().unwrap()).unwrap();
        assert_eq!(sent["type"], "daybook.platform.tenant.renamed.v1");
        assert_eq!(sent["source"], "/tenants/00000000-0000-0000-0000-000000000007");
        assert_eq!(sent["position"], "7/3");
        assert_eq!(sent["data"]["name"], "Acme");
        assert_eq!(sent["correlationid"], "c-1");
        assert!(sent["dataschema"].as_str().unwrap().contains("platform.tenant.renamed"));
        assert!(!sent.to_string().contains("900"));
        assert_eq!(subject(&event), "daybook.00000000-0000-0000-0000-000000000007.platform.tenant.renamed");
    }

    #[test]
    fn an_event_that_no_context_lists_as_public_stays() {
        assert!(CloudEvent::of(&recorded("platform.tenant.whispered", "{}"), &positions()).unwrap().is_none());
    }
}
