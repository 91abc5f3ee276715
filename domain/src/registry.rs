//! The one visible list of every event that the journal may hold, with its contract: type, version,
//! JSON Schema and samples. The files in `schemas/` are generated from it.
//!
//! Nothing ever leaves the list: an event that is no longer produced stays, with its samples, for as long
//! as a journal somewhere holds one. Samples are literals, not values of today's types, so that a changed
//! type shows as a sample that fails to decode instead of a sample that follows silently.

use crate::aggregate::EventSourced;
use crate::energy;
use crate::ids::PLATFORM_TENANT;
use crate::platform;
use crate::role::permission_table;
use crate::upcast::{Origin, Upcast, UpcastError, Versioned, upcast};
use chrono::DateTime;
use cqrs_es::Aggregate;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What the world may rely on about one version of one event.
#[derive(Clone, Debug)]
pub struct EventContract {
    /// `<context>.<stream type>.<event>`, e.g. `platform.tenant.renamed`.
    pub event_type: String,
    /// A whole number, e.g. `1`.
    pub version: &'static str,
    pub context: &'static str,
    pub stream_type: &'static str,
    /// The tag that the journal strips from the payload, e.g. `renamed`.
    pub event: &'static str,
    /// Whether it leaves the tenant's journal for integrators. Values of personal fields never leave.
    pub public: bool,
    /// JSON Schema 2020-12 of the payload as stored and published: personal fields sealed, erased or withheld.
    pub schema: Value,
    /// Payloads as the domain reads them: personal fields opened or erased. At least one.
    pub samples: Vec<Value>,
    decode: fn(&Origin<'_>, Value) -> Result<Vec<Decoded>, UndecodableError>,
    /// Tags and schemas of all events of the same aggregate.
    variants: fn() -> Vec<(String, Value)>,
}

/// What a payload is read as, after a round through its event type.
struct Decoded {
    event_type: String,
    version: String,
    /// That the upcasters led to.
    reached: u32,
    payload: Value,
}

/// What went wrong on the way.
#[derive(Debug, thiserror::Error)]
pub enum UndecodableError {
    #[error(transparent)]
    Upcast(#[from] UpcastError),
    #[error(transparent)]
    Payload(#[from] serde_json::Error),
}

/// Why a payload is not an event.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    #[error("{event_type} v{version} is not in the registry; an event that was ever written stays there")]
    Unknown { event_type: String, version: String },
    #[error(
        "a payload of {event_type} v{version} does not decode; what was ever written must, so keep its shape or add a version"
    )]
    Undecodable { event_type: String, version: String, source: UndecodableError },
    #[error("a payload of {event_type} v{version} decodes to {decoded}; correct the registry or the event's type")]
    Mistaken { event_type: String, version: String, decoded: String },
    #[error("a payload of {event_type} v{version} is read as {decoded}, and no upcaster leads on from there; add it")]
    Unfinished { event_type: String, version: String, decoded: String },
}

/// Integrators hear it.
pub(crate) const PUBLIC: bool = true;
/// It stays inside.
pub(crate) const INTERNAL: bool = false;

/// Every version of every event, by context: each keeps the list of its own.
pub fn event_contracts() -> Vec<EventContract> {
    [platform::contracts::event_contracts(), energy::contracts::event_contracts()].concat()
}

/// The generated files: path below `schemas/`, and content. The same bytes every time.
pub fn contract_files() -> Vec<(String, String)> {
    let mut files = vec![
        ("permissions.txt".to_owned(), permission_table()),
        ("roles.txt".to_owned(), crate::rules::preset_table()),
        ("module.schema.json".to_owned(), pretty(platform::module::text::schema())),
    ];
    for contract in event_contracts() {
        let stem = format!("events/{}.v{}", contract.event_type, contract.version);
        files.push((format!("{stem}.sample.json"), pretty(Value::Array(contract.samples))));
        files.push((format!("{stem}.schema.json"), pretty(contract.schema)));
    }
    files.sort();
    files
}

/// Reads an opened payload as the event of that type and version, through its upcasters if it is of an old one.
/// Returns the payloads as they would be written today. For tests and tools: it builds the whole list each time.
pub fn read_payload(event_type: &str, version: &str, payload: &Value) -> Result<Vec<Value>, PayloadError> {
    let contract =
        event_contracts().into_iter().find(|contract| contract.event_type == event_type && contract.version == version);
    match contract {
        Some(contract) => read_as(&contract, payload),
        None => Err(PayloadError::Unknown { event_type: event_type.to_owned(), version: version.to_owned() }),
    }
}

fn read_as(contract: &EventContract, payload: &Value) -> Result<Vec<Value>, PayloadError> {
    let EventContract { event_type, version, .. } = contract;
    let (known_type, known_version) = (event_type.clone(), (*version).to_owned());
    let origin = Origin {
        event_type,
        event_version: version.parse().unwrap_or_default(),
        tenant: PLATFORM_TENANT,
        stream_type: contract.stream_type,
        stream_id: PLATFORM_TENANT.0,
        sequence: 1,
        position: 1,
        recorded_at: DateTime::UNIX_EPOCH,
    };
    let decoded = match (contract.decode)(&origin, payload.clone()) {
        Err(source) => {
            return Err(PayloadError::Undecodable { event_type: known_type, version: known_version, source });
        }
        Ok(decoded) => decoded,
    };
    let named = |decoded: &Decoded, version: &str| format!("{} v{version}", decoded.event_type);
    if let Some(unfinished) = decoded.iter().find(|decoded| decoded.version.parse() != Ok(decoded.reached)) {
        let decoded = named(unfinished, &unfinished.reached.to_string());
        return Err(PayloadError::Unfinished { event_type: known_type, version: known_version, decoded });
    }
    // An event of the present version is read as itself.
    if let [only] = &*decoded
        && only.reached == origin.event_version
        && only.event_type != *event_type
    {
        let decoded = named(only, &only.version);
        return Err(PayloadError::Mistaken { event_type: known_type, version: known_version, decoded });
    }
    Ok(decoded.into_iter().map(|decoded| decoded.payload).collect())
}

/// Events of the listed aggregates that have no entry in the list: always none, or a test fails.
pub fn unlisted_events() -> Vec<String> {
    let contracts = event_contracts();
    let mut unlisted = BTreeSet::new();
    for contract in &contracts {
        let is_listed =
            |tag: &str| contracts.iter().any(|other| other.stream_type == contract.stream_type && other.event == tag);
        let tags = (contract.variants)().into_iter().map(|(tag, _)| tag).filter(|tag| !is_listed(tag));
        unlisted.extend(tags.map(|tag| format!("{}.{}.{tag}", contract.context, contract.stream_type)));
    }
    unlisted.into_iter().collect()
}

/// One version of one event, with its schema.
pub(crate) fn event<A>(event: &'static str, version: &'static str, public: bool, samples: Vec<Value>) -> EventContract
where
    A: EventSourced,
    <A as Aggregate>::Event: JsonSchema,
{
    let event_type = format!("{}.{}.{event}", A::CONTEXT, A::TYPE);
    EventContract {
        schema: payload_schema::<<A as Aggregate>::Event>(&event_type, version, event),
        event_type,
        version,
        context: A::CONTEXT,
        stream_type: A::TYPE,
        event,
        public,
        samples,
        decode: decode::<<A as Aggregate>::Event>,
        variants: variants::<<A as Aggregate>::Event>,
    }
}

/// The tags of all variants of an event type, by its schema.
fn variants<E: JsonSchema>() -> Vec<(String, Value)> {
    let settings = SchemaSettings::draft2020_12().for_serialize().with(|settings| settings.inline_subschemas = true);
    let schema = settings.into_generator().into_root_schema_for::<E>().to_value();
    let one_of = schema.get("oneOf").and_then(Value::as_array).cloned().unwrap_or_default();
    let variant = |variant: Value| {
        let (tag, inner) = variant.get("properties")?.as_object()?.iter().next()?;
        let mut inner = inner.clone();
        if let (Some(description), Some(object)) = (variant.get("description"), inner.as_object_mut()) {
            object.insert("description".to_owned(), description.clone());
        }
        Some((tag.clone(), inner))
    };
    one_of.into_iter().filter_map(variant).collect()
}

fn payload_schema<E: JsonSchema>(event_type: &str, version: &str, event: &str) -> Value {
    let schema = variants::<E>().into_iter().find(|(tag, _)| tag == event).map(|(_, schema)| schema);
    let mut schema = schema.unwrap_or(Value::Bool(false));
    if let Some(object) = schema.as_object_mut() {
        object.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
        object.insert("$id".to_owned(), json!(format!("urn:daybook:schema:{event_type}.v{version}")));
        object.insert("title".to_owned(), json!(format!("{event_type}.v{version}")));
        // Struct variants are closed by default; a reader has to bear fields that a later release adds.
        object.remove("additionalProperties");
    }
    schema
}

fn decode<E: Versioned>(origin: &Origin<'_>, payload: Value) -> Result<Vec<Decoded>, UndecodableError> {
    let read = |upcast: Upcast| {
        let decoded: E = serde_json::from_value(json!({ upcast.event: upcast.payload }))?;
        let tagged = serde_json::to_value(&decoded)?;
        let payload = tagged.as_object().and_then(|object| object.values().next()).cloned();
        Ok(Decoded {
            event_type: decoded.event_type(),
            version: decoded.event_version(),
            reached: upcast.version,
            payload: payload.unwrap_or_default(),
        })
    };
    upcast::<E>(origin, payload)?.into_iter().map(read).collect()
}

/// Keys in order, whatever the map of serde_json was built to keep.
fn pretty(mut json: Value) -> String {
    json.sort_all_objects();
    format!("{json:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variant_of_an_event_is_in_the_list() {
        assert_eq!(unlisted_events(), Vec::<String>::new());
    }

    #[test]
    fn a_variant_is_known_by_its_tag() {
        let tags: Vec<_> = variants::<crate::platform::TenantEvent>().into_iter().map(|(tag, _)| tag).collect();
        assert_eq!(
            tags.join(" "),
            "registered renamed plan_changed settings_changed contact_changed domain_claimed domain_released suspended reopened closed"
        );
    }

    #[test]
    fn every_stream_with_personal_fields_says_what_it_takes_to_see_them() {
        fn is_personal(value: &Value) -> bool {
            match value {
                Value::Object(members) => members.contains_key("$subject") || members.values().any(is_personal),
                Value::Array(items) => items.iter().any(is_personal),
                _ => false,
            }
        }
        let mut kinds = BTreeSet::new();
        for contract in event_contracts() {
            // By its schema as well: a sample may leave it out.
            if contract.samples.iter().any(is_personal) || contract.schema.to_string().contains("$subject") {
                kinds.insert(contract.stream_type);
                assert!(crate::personal::permission_of(contract.stream_type).is_some(), "{}", contract.event_type);
            }
        }
        assert_eq!(kinds, BTreeSet::from(["account", "projection", "tenant"]));
    }

    #[test]
    fn no_type_and_version_is_listed_twice() {
        let contracts = event_contracts();
        let keys: BTreeSet<_> =
            contracts.iter().map(|contract| (contract.event_type.clone(), contract.version)).collect();
        assert_eq!(keys.len(), contracts.len());
    }

    #[test]
    fn every_event_has_a_sample_that_decodes_and_loses_nothing() {
        for contract in event_contracts() {
            assert!(!contract.samples.is_empty(), "{} v{} has no sample", contract.event_type, contract.version);
            for sample in &contract.samples {
                let written = read_payload(&contract.event_type, contract.version, sample);
                assert_eq!(
                    written.expect("the sample decodes").as_slice(),
                    std::slice::from_ref(sample),
                    "{} v{}",
                    contract.event_type,
                    contract.version
                );
            }
        }
    }

    #[test]
    fn a_version_that_does_not_lead_to_the_present_is_refused_by_name() {
        use crate::upcast::Upcaster;
        use serde::{Deserialize, Serialize};

        /// As an event whose second version is written, and whose first nobody upcasts.
        #[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum Forgotten {
            Named { name: String },
        }

        impl cqrs_es::DomainEvent for Forgotten {
            fn event_type(&self) -> String {
                "test.thing.named".to_owned()
            }

            fn event_version(&self) -> String {
                "3".to_owned()
            }
        }

        impl Versioned for Forgotten {
            const UPCASTERS: &'static [Upcaster] =
                &[Upcaster { event: "named", from: 2, step: |payload, _| Ok(vec![Upcast::new("named", 3, payload)]) }];
        }

        let contract = |version: &'static str| EventContract {
            event_type: "test.thing.named".to_owned(),
            version,
            event: "named",
            decode: decode::<Forgotten>,
            ..event::<crate::platform::Membership>("invited", "1", INTERNAL, vec![])
        };
        let read = |version| read_as(&contract(version), &json!({ "name": "x" })).map_err(|error| error.to_string());
        assert_eq!(read("3"), Ok(vec![json!({ "name": "x" })]));
        assert_eq!(read("2"), Ok(vec![json!({ "name": "x" })]));
        let missing = read("1").expect_err("no upcaster of version 1");
        assert!(missing.contains("test.thing.named v1") && missing.contains("add it"), "{missing}");
    }

    #[test]
    fn a_payload_that_nobody_wrote_is_refused_by_name() {
        let refused = |event_type, payload| read_payload(event_type, "1", &payload).map_err(|error| error.to_string());
        assert!(
            refused("platform.tenant.sold", json!({})).expect_err("unknown").starts_with("platform.tenant.sold v1")
        );
        assert!(matches!(
            read_payload("platform.tenant.renamed", "1", &json!({"nom": "x"})),
            Err(PayloadError::Undecodable { .. })
        ));
    }
}
