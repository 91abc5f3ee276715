//! The messages and close codes of `graphql-transport-ws`.
//!
//! Reading is strict: what the protocol does not describe closes the socket.

use async_graphql::ServerError;
use axum::body::Bytes;
use daybook_app::identity::Shut;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    fault::Outcome,
    params::{Params, ParamsError},
};

/// The subprotocol.
pub(crate) const NAME: &str = "graphql-transport-ws";

/// Bytes of an operation's id.
const ID_BYTES_MAX: usize = 128;

/// Why the server closes a socket.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Close {
    #[error("Normal closure")]
    Normal,
    #[error("The server is stopping: connect again")]
    GoingAway,
    #[error("Protocol error")]
    Broken,
    #[error("Text is not UTF-8")]
    NotText,
    #[error("Message longer than {0} bytes")]
    TooBig(usize),
    #[error("Too many sockets and event streams of this caller: close one")]
    TooMany,
    #[error("Too many sockets and event streams are open: connect again later")]
    Full,
    #[error("Invalid message: {0}")]
    Invalid(String),
    #[error("Unauthorized")]
    Unauthorized,
    #[error("Forbidden")]
    Forbidden,
    #[error("The token is no longer good: connect again with a new one")]
    Over,
    /// Told in full by any other request: a close frame has little room.
    #[error("{}: {}", .0.code(), match .0 {
        Shut::Suspended => "have the platform reopen your tenant, or log in to another one",
        Shut::Closed => "log in to another tenant of yours",
    })]
    Shut(Shut),
    #[error("What you may do has changed: connect again")]
    Changed,
    #[error("Who you are cannot be told at the moment: connect again")]
    Unavailable,
    #[error("Subprotocol not acceptable")]
    Subprotocol,
    #[error("Connection initialisation timeout")]
    InitTimeout,
    #[error("Subscriber for {0} already exists")]
    SubscriberExists(String),
    #[error("Too many initialisation requests")]
    TooManyInits,
}

impl Close {
    pub(crate) fn code(&self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::GoingAway => 1001,
            Self::Broken => 1002,
            Self::NotText => 1007,
            Self::TooBig(_) => 1009,
            Self::TooMany | Self::Full => 1013,
            Self::Invalid(_) => 4400,
            Self::Unauthorized => 4401,
            Self::Forbidden | Self::Over | Self::Shut(_) | Self::Changed => 4403,
            Self::Unavailable => 1013,
            Self::Subprotocol => 4406,
            Self::InitTimeout => 4408,
            Self::SubscriberExists(_) => 4409,
            Self::TooManyInits => 4429,
        }
    }

    /// The text, cut to the 123 bytes that a close frame has room for.
    pub(crate) fn reason(&self) -> String {
        let mut reason = self.to_string();
        reason.truncate(reason.floor_char_boundary(123));
        reason
    }
}

/// What a client may say.
#[derive(Debug)]
pub(crate) enum Incoming {
    Init(Map<String, Value>),
    Ping(Option<Value>),
    Pong,
    Subscribe { id: String, params: Params },
    Complete { id: String },
}

#[derive(Deserialize)]
struct Raw {
    #[serde(rename = "type")]
    kind: String,
    id: Option<Value>,
    payload: Option<Value>,
}

impl Incoming {
    pub(crate) fn parse(text: &str) -> Result<Self, Close> {
        // A struct would also be read from an array.
        if !text.trim_start().starts_with('{') {
            return Err(invalid("not a JSON object"));
        }
        let Raw { kind, id, payload } = serde_json::from_str(text).map_err(|error| invalid(&error.to_string()))?;
        Ok(match kind.as_str() {
            "connection_init" => Self::Init(object(payload)?.unwrap_or_default()),
            "ping" => Self::Ping(object(payload)?.map(Value::Object)),
            "pong" => {
                object(payload)?;
                Self::Pong
            }
            "complete" => Self::Complete { id: operation_id(id)? },
            "subscribe" => {
                let id = operation_id(id)?;
                let payload = object(payload)?.ok_or_else(|| invalid("`subscribe` needs a `payload`"))?;
                let params = Params::from_payload(payload).map_err(|error: ParamsError| invalid(&error.to_string()))?;
                Self::Subscribe { id, params }
            }
            other => return Err(invalid(&format!("the type `{other}` is not one that a client sends"))),
        })
    }
}

fn object(payload: Option<Value>) -> Result<Option<Map<String, Value>>, Close> {
    match payload {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(object)) => Ok(Some(object)),
        Some(_) => Err(invalid("`payload` must be an object or null")),
    }
}

fn operation_id(id: Option<Value>) -> Result<String, Close> {
    match id {
        Some(Value::String(id)) if (1..=ID_BYTES_MAX).contains(&id.len()) => Ok(id),
        Some(Value::String(_)) => Err(invalid(&format!("`id` must have 1 to {ID_BYTES_MAX} bytes"))),
        _ => Err(invalid("`id` must be a string")),
    }
}

fn invalid(reason: &str) -> Close {
    Close::Invalid(reason.to_owned())
}

/// What the server says.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Outgoing<'a> {
    ConnectionAck,
    Pong {
        #[serde(skip_serializing_if = "Option::is_none")]
        payload: Option<Value>,
    },
    Next {
        id: &'a str,
        payload: &'a Outcome,
    },
    Error {
        id: &'a str,
        payload: &'a [ServerError],
    },
    Complete {
        id: &'a str,
    },
}

impl Outgoing<'_> {
    pub(crate) fn text(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
}

/// The empty payload of a ping frame.
pub(crate) fn no_payload() -> Bytes {
    Bytes::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_protocol_does_not_describe_is_invalid() {
        for text in [
            "",
            "null",
            "[]",
            r#"["ping"]"#,
            "{}",
            r#"{"type":1}"#,
            r#"{"type":"start","id":"1"}"#,
            r#"{"type":"connection_ack"}"#,
            r#"{"type":"next","id":"1","payload":{}}"#,
            r#"{"type":"connection_init","payload":[]}"#,
            r#"{"type":"connection_init","payload":"x"}"#,
            r#"{"type":"ping","payload":1}"#,
            r#"{"type":"ping","type":"pong"}"#,
            r#"{"type":"complete"}"#,
            r#"{"type":"complete","id":""}"#,
            r#"{"type":"complete","id":1}"#,
            r#"{"type":"subscribe","payload":{"query":"{a}"}}"#,
            r#"{"type":"subscribe","id":"1"}"#,
            r#"{"type":"subscribe","id":"1","payload":null}"#,
            r#"{"type":"subscribe","id":"1","payload":{}}"#,
            r#"{"type":"subscribe","id":"1","payload":{"query":1}}"#,
            r#"{"type":"subscribe","id":"1","payload":{"query":"{a}","operationName":1}}"#,
            r#"{"type":"subscribe","id":"1","payload":{"query":"{a}","variables":[]}}"#,
        ] {
            assert_eq!(Incoming::parse(text).map_err(|close| close.code()).err(), Some(4400), "{text}");
        }
    }

    #[test]
    fn a_reason_fits_into_a_close_frame() {
        let reason = Close::SubscriberExists("ä".repeat(64)).reason();
        assert!(reason.len() <= 123 && reason.starts_with("Subscriber for ä"), "{reason}");
    }
}
