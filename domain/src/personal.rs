//! Personal data inside events, marked by its type so that the journal can encrypt it per person and
//! an erasure can destroy one key instead of rewriting history.
//!
//! In memory and in samples a field is *opened*: `{"$subject": "<uuid>", "value": …}`. The journal replaces
//! `value` by `sealed` before anything is hashed, and back when it loads; without the key the field
//! reads `{"$subject": "<uuid>", "erased": true}`. Every object with a key `$subject` is such a field,
//! so free-form maps in payloads must refuse keys that begin with `$`, and personal fields don't nest.
//!
//! This module encrypts nothing and holds no key. It refuses to decode a field that is still sealed.

use crate::action::Action;
use crate::ids::SubjectId;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;

/// The permission that it takes to see personal fields of streams of a type, wherever they are told. Where there is none, nobody
/// sees them.
pub fn permission_of(stream_type: &str) -> Option<Action> {
    match stream_type {
        "tenant" => Some(Action::TenantReadContact),
        "account" => Some(Action::AccountRead),
        // Which operator left an event out: whoever may audit may know.
        "projection" => Some(Action::AuditRead),
        _ => None,
    }
}

/// A value about a person, or what is left after that person's key was destroyed.
/// `Debug` never shows the value.
#[derive(Clone, PartialEq, Eq)]
pub enum Personal<T> {
    Known { subject: SubjectId, value: T },
    Erased { subject: SubjectId },
}

impl<T> Personal<T> {
    pub fn known(subject: SubjectId, value: T) -> Self {
        Self::Known { subject, value }
    }

    /// The person whose key protects the value.
    pub fn subject(&self) -> SubjectId {
        match self {
            Self::Known { subject, .. } | Self::Erased { subject } => *subject,
        }
    }

    /// The value, unless it was erased.
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Known { value, .. } => Some(value),
            Self::Erased { .. } => None,
        }
    }

    pub fn is_erased(&self) -> bool {
        matches!(self, Self::Erased { .. })
    }
}

impl<T> fmt::Debug for Personal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.is_erased() { "erased" } else { "known" };
        write!(f, "Personal({}, {state})", self.subject())
    }
}

impl<T: Serialize> Serialize for Personal<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Personal", 2)?;
        object.serialize_field("$subject", &self.subject())?;
        match self {
            Self::Known { value, .. } => object.serialize_field("value", value)?,
            Self::Erased { .. } => object.serialize_field("erased", &true)?,
        }
        object.end()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Personal<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(bound(deserialize = "T: Deserialize<'de>"))]
        struct Form<T> {
            #[serde(rename = "$subject")]
            subject: SubjectId,
            #[serde(default = "none", deserialize_with = "opened")]
            value: Option<T>,
            #[serde(default)]
            erased: bool,
            #[serde(default)]
            sealed: Option<serde::de::IgnoredAny>,
        }

        let Form { subject, value, erased, sealed } = Form::deserialize(deserializer)?;
        if sealed.is_some() {
            return Err(D::Error::custom(
                "a personal field is still sealed; open it with its subject's key before decoding",
            ));
        }
        match (value, erased) {
            (Some(value), false) => Ok(Self::Known { subject, value }),
            (None, true) => Ok(Self::Erased { subject }),
            (Some(_), true) => Err(D::Error::custom("a personal field is either known or erased, this one is both")),
            (None, false) => Err(D::Error::custom("a personal field holds value or erased, this one neither")),
        }
    }
}

fn none<T>() -> Option<T> {
    None
}

/// The errors of serde quote what they found, and that is the person's data: so only that it failed is said.
fn opened<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer)
        .map(Some)
        .map_err(|_| D::Error::custom("the value of a personal field has another shape than its type"))
}

/// The schema is of the forms that are stored and hashed, sealed or erased, and of the one that is
/// published outside: withheld.
impl<T> JsonSchema for Personal<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Personal".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let subject = serde_json::json!({
            "type": "string",
            "format": "uuid",
            "description": "The person whose key protects the value.",
        });
        json_schema!({
            "description": "Personal data, encrypted under its subject's key; erased once that key is destroyed.",
            "oneOf": [
                {
                    "type": "object",
                    "properties": {
                        "$subject": subject.clone(),
                        "sealed": {
                            "type": "string",
                            "contentEncoding": "base64url",
                            "pattern": "^[A-Za-z0-9_-]+$",
                            "description": "The encrypted value, base64url without padding.",
                        },
                    },
                    "required": ["$subject", "sealed"],
                    "additionalProperties": false,
                },
                {
                    "type": "object",
                    "properties": { "$subject": subject.clone(), "erased": { "type": "boolean", "const": true } },
                    "required": ["$subject", "erased"],
                    "additionalProperties": false,
                },
                {
                    "type": "object",
                    "properties": {
                        "$subject": subject,
                        "withheld": {
                            "type": "boolean",
                            "const": true,
                            "description": "Outside: the value never leaves; ask the API.",
                        },
                    },
                    "required": ["$subject", "withheld"],
                    "additionalProperties": false,
                },
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const SUBJECT: &str = "0198f000-0000-7000-8000-000000000001";

    fn subject() -> SubjectId {
        SUBJECT.parse().expect("a UUID")
    }

    #[test]
    fn a_known_and_an_erased_value_survive_their_json_form() {
        let known = Personal::known(subject(), "Ada".to_owned());
        let erased = Personal::<String>::Erased { subject: subject() };
        for (personal, form) in [
            (known, json!({"$subject": SUBJECT, "value": "Ada"})),
            (erased, json!({"$subject": SUBJECT, "erased": true})),
        ] {
            assert_eq!(serde_json::to_value(&personal).expect("serializes"), form);
            assert_eq!(serde_json::from_value::<Personal<String>>(form).expect("decodes"), personal);
        }
    }

    #[test]
    fn debug_output_never_shows_the_value() {
        assert_eq!(format!("{:?}", Personal::known(subject(), "Ada")), format!("Personal({SUBJECT}, known)"));
        assert_eq!(
            format!("{:?}", Personal::<&str>::Erased { subject: subject() }),
            format!("Personal({SUBJECT}, erased)")
        );
    }

    #[test]
    fn a_field_that_is_sealed_ambiguous_or_without_subject_is_refused() {
        for form in [
            json!({"$subject": SUBJECT, "sealed": "AAAA"}),
            json!({"$subject": SUBJECT, "sealed": "AAAA", "erased": true}),
            json!({"$subject": SUBJECT, "value": "Ada", "erased": true}),
            json!({"$subject": SUBJECT, "erased": false}),
            json!({"$subject": SUBJECT, "withheld": true}),
            json!({"$subject": SUBJECT}),
            json!({"value": "Ada"}),
            json!("Ada"),
        ] {
            assert!(serde_json::from_value::<Personal<String>>(form.clone()).is_err(), "{form}");
        }
    }

    #[test]
    fn a_value_of_another_shape_is_refused_without_being_quoted() {
        let error = serde_json::from_value::<Personal<u32>>(json!({"$subject": SUBJECT, "value": "Ada Lovelace"}))
            .expect_err("text is no number");
        assert!(!error.to_string().contains("Ada"), "{error}");
    }
}
