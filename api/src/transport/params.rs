//! The parameters of a GraphQL request, read strictly, the same on every way in.

use std::borrow::Cow;

use async_graphql::Variables;
use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::AtLeast;

/// Parameters whose types are right; the document is not parsed yet.
#[derive(Debug, Default)]
pub(crate) struct Params {
    pub(crate) query: String,
    pub(crate) operation_name: Option<String>,
    pub(crate) variables: Variables,
    pub(crate) extensions: Map<String, Value>,
    /// Of a lone mutation that names none itself.
    pub(crate) command_id: Option<Uuid>,
    /// After which a subscription goes on, whatever it says itself.
    pub(crate) last_event: Option<AtLeast>,
}

/// What is wrong with the parameters. Always the client's mistake.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ParamsError {
    #[error("Batches are not supported: send one operation per request")]
    Batch,
    #[error("The body is not a JSON object in UTF-8: {0}")]
    Json(String),
    #[error("The parameter `query` is missing: it carries the GraphQL document")]
    NoQuery,
    #[error("The parameter `{name}` must be {expected}")]
    Type { name: &'static str, expected: &'static str },
    #[error("The parameter `{0}` is given twice")]
    Twice(String),
    #[error("The parameter `{name}` is not JSON: {reason}")]
    Encoded { name: &'static str, reason: String },
}

/// A struct rather than a map: serde refuses a key that comes twice.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object with `query`")]
struct Raw {
    query: Option<Value>,
    operation_name: Option<Value>,
    variables: Option<Value>,
    extensions: Option<Value>,
}

impl Params {
    /// Reads a POST body.
    pub(crate) fn from_json(body: &[u8]) -> Result<Self, ParamsError> {
        // A struct would also be read from an array.
        if body.trim_ascii_start().starts_with(b"[") {
            return Err(ParamsError::Batch);
        }
        let raw: Raw = serde_json::from_slice(body).map_err(|error| ParamsError::Json(error.to_string()))?;
        Self::check(raw)
    }

    /// Reads the payload of a `subscribe` message.
    pub(crate) fn from_payload(payload: Map<String, Value>) -> Result<Self, ParamsError> {
        let raw = Raw::deserialize(Value::Object(payload)).map_err(|error| ParamsError::Json(error.to_string()))?;
        Self::check(raw)
    }

    /// Reads the query string of a GET. An empty parameter counts as absent, as the specification wants it for the
    /// operation name.
    pub(crate) fn from_pairs<'a>(
        pairs: impl IntoIterator<Item = (Cow<'a, str>, Cow<'a, str>)>,
    ) -> Result<Self, ParamsError> {
        let mut raw = Raw { query: None, operation_name: None, variables: None, extensions: None };
        for (key, value) in pairs {
            let (slot, json) = match &*key {
                "query" => (&mut raw.query, None),
                "operationName" => (&mut raw.operation_name, None),
                "variables" => (&mut raw.variables, Some("variables")),
                "extensions" => (&mut raw.extensions, Some("extensions")),
                _ => continue,
            };
            if slot.is_some() {
                return Err(ParamsError::Twice(key.into_owned()));
            }
            *slot = match json {
                _ if value.is_empty() => None,
                None => Some(Value::String(value.into_owned())),
                Some(name) => Some(
                    serde_json::from_str(&value)
                        .map_err(|error| ParamsError::Encoded { name, reason: error.to_string() })?,
                ),
            };
        }
        Self::check(raw)
    }

    fn check(raw: Raw) -> Result<Self, ParamsError> {
        let wrong = |name, expected| Err(ParamsError::Type { name, expected });
        Ok(Self {
            query: match raw.query {
                Some(Value::String(query)) => query,
                Some(Value::Null) | None => return Err(ParamsError::NoQuery),
                Some(_) => return wrong("query", "a string"),
            },
            operation_name: match raw.operation_name {
                Some(Value::String(name)) => Some(name),
                Some(Value::Null) | None => None,
                Some(_) => return wrong("operationName", "a string or null"),
            },
            variables: match raw.variables {
                Some(object @ Value::Object(_)) => Variables::from_json(object),
                Some(Value::Null) | None => Variables::default(),
                Some(_) => return wrong("variables", "an object or null"),
            },
            extensions: match raw.extensions {
                Some(Value::Object(object)) => object,
                Some(Value::Null) | None => Map::new(),
                Some(_) => return wrong("extensions", "an object or null"),
            },
            command_id: None,
            last_event: None,
        })
    }

    /// `extensions.atLeast`; `Err` when it is there but not a position.
    pub(crate) fn at_least(&self) -> Result<Option<AtLeast>, ()> {
        match self.extensions.get("atLeast") {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value.as_str().and_then(AtLeast::parse).map(Some).ok_or(()),
        }
    }

    /// A string among the extensions.
    pub(crate) fn extension(&self, name: &str) -> Option<&str> {
        self.extensions.get(name).and_then(Value::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_comes_twice_is_refused() {
        let error = Params::from_json(br#"{"query":"{a}","query":"{b}"}"#).unwrap_err();
        assert!(matches!(error, ParamsError::Json(reason) if reason.contains("duplicate field `query`")));
        let pairs = [("query", "{a}"), ("query", "{b}")].map(|(k, v)| (k.into(), v.into()));
        assert_eq!(Params::from_pairs(pairs).unwrap_err(), ParamsError::Twice("query".into()));
    }

    #[test]
    fn a_batch_is_named_as_such() {
        assert_eq!(Params::from_json(b" \n[{\"query\":\"{a}\"}]").unwrap_err(), ParamsError::Batch);
    }

    #[test]
    fn a_body_that_is_no_object_is_refused() {
        for body in ["", "1", "\"{a}\"", "null", "{\"query\"", "\u{feff}{}"] {
            assert!(matches!(Params::from_json(body.as_bytes()), Err(ParamsError::Json(_))), "{body}");
        }
        assert!(matches!(Params::from_json(b"{\"query\":\"\xff\"}"), Err(ParamsError::Json(_))));
    }

    #[test]
    fn an_empty_operation_name_in_a_url_counts_as_none() {
        let pairs = [("query", "{a}"), ("operationName", ""), ("variables", r#"{"x":1}"#)];
        let params = Params::from_pairs(pairs.map(|(k, v)| (k.into(), v.into()))).unwrap();
        assert_eq!(params.operation_name, None);
        assert_eq!(params.variables.len(), 1);
    }
}
