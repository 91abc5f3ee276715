//! Errors: which code each one carries, which status it becomes, and what is kept from the client.
//!
//! A resolver names the code of an error itself (`extensions.code`). An error without one is the client's when the
//! parser, the validator or the reading of an argument made it, and ours otherwise: then the client is told only
//! `INTERNAL` and the correlation id, and the text goes to the log.

use async_graphql::{ErrorExtensionValues, Pos, Response, ServerError, Value};
use axum::http::StatusCode;
use serde::Serialize;

use super::{CorrelationId, TooOften};

/// Codes that the transport itself gives; resolvers may use others.
pub mod code {
    pub const UNAUTHENTICATED: &str = "UNAUTHENTICATED";
    pub const FORBIDDEN: &str = "FORBIDDEN";
    pub const BAD_USER_INPUT: &str = "BAD_USER_INPUT";
    pub const LIMIT_EXCEEDED: &str = "LIMIT_EXCEEDED";
    pub const RATE_LIMITED: &str = "RATE_LIMITED";
    pub const UNAVAILABLE: &str = "UNAVAILABLE";
    pub const INTERNAL: &str = "INTERNAL";
    /// Ends a subscription: the position to resume after is no longer kept.
    pub const CURSOR_EXPIRED: &str = "CURSOR_EXPIRED";
    /// Ends a subscription: the reader is too far behind.
    pub const LAGGING: &str = "LAGGING";
}

/// An error with a code.
pub(crate) fn coded(code: &str, message: impl Into<String>, at: Option<Pos>) -> ServerError {
    let mut error = ServerError::new(message, at);
    error.extensions.get_or_insert_default().set("code", code);
    error
}

/// The fault of which the client learns nothing but where to ask.
pub(crate) fn internal(correlation: &CorrelationId) -> ServerError {
    let mut error = coded(
        code::INTERNAL,
        "Something failed here. Repeat the request; if it fails again, report the correlation id",
        None,
    );
    error.extensions.get_or_insert_default().set("correlationId", correlation.as_str());
    error
}

/// Somebody asks too often.
pub(crate) fn too_often(refused: &TooOften) -> ServerError {
    let mut error = coded(code::RATE_LIMITED, refused.message(), None);
    error.extensions.get_or_insert_default().set("retryAfterS", refused.retry_after_s());
    error
}

/// The code of an error, once it has one.
pub(crate) fn code_of(error: &ServerError) -> Option<&str> {
    match error.extensions.as_ref().and_then(|values| values.get("code")) {
        Some(Value::String(code)) => Some(code),
        Some(Value::Enum(code)) => Some(code),
        _ => None,
    }
}

/// Errors told about one refused document; each is as good as the next, and some rules report every pair.
const ERRORS_MAX: usize = 20;

/// What became of an operation.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It was not executed: no `data` entry.
    Refused(Vec<ServerError>),
    /// It was executed, perhaps with errors in fields.
    Executed(Response),
}

/// A GraphQL response as the specification writes it.
#[derive(Serialize)]
struct Body<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [ServerError],
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extensions: Option<&'a std::collections::BTreeMap<String, Value>>,
}

impl Outcome {
    /// Sorts a response into refused or executed and gives every error its code.
    ///
    /// async-graphql writes `data: null` in both cases; an error of execution always has the path of its field.
    pub(crate) fn of(mut response: Response, correlation: &CorrelationId) -> Self {
        let refused = response.data == Value::Null
            && !response.errors.is_empty()
            && response.errors.iter().all(|error| error.path.is_empty());
        if refused {
            response.errors.truncate(ERRORS_MAX);
        }
        for error in &mut response.errors {
            give_code(error, refused, correlation);
        }
        if refused { Self::Refused(response.errors) } else { Self::Executed(response) }
    }

    /// `OK`, or the code of the first error if it is one of ours: resolvers may invent others, and labels are bounded.
    pub(crate) fn label(&self) -> &'static str {
        const KNOWN: [&str; 15] = [
            code::UNAUTHENTICATED,
            code::FORBIDDEN,
            code::BAD_USER_INPUT,
            code::LIMIT_EXCEEDED,
            code::RATE_LIMITED,
            code::UNAVAILABLE,
            code::INTERNAL,
            code::CURSOR_EXPIRED,
            code::LAGGING,
            "NOT_FOUND",
            "CONFLICT",
            "STALE",
            "UNKNOWN_OUTCOME",
            "TENANT_SUSPENDED",
            "TENANT_CLOSED",
        ];
        let first = match self {
            Self::Refused(errors) => errors.first(),
            Self::Executed(response) => response.errors.first(),
        };
        let Some(error) = first else { return "OK" };
        let code = code_of(error).unwrap_or_default();
        KNOWN.into_iter().find(|known| *known == code).unwrap_or("OTHER")
    }

    /// The JSON text.
    pub(crate) fn body(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&self.view())
    }

    fn view(&self) -> Body<'_> {
        match self {
            Self::Refused(errors) => Body { errors, data: None, extensions: None },
            Self::Executed(response) => Body {
                errors: &response.errors,
                data: Some(&response.data),
                extensions: (!response.extensions.is_empty()).then_some(&response.extensions),
            },
        }
    }

    /// The status in `application/graphql-response+json`: 200 when executed, else by the first error's code.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Executed(_) => StatusCode::OK,
            Self::Refused(errors) => match errors.first().and_then(code_of) {
                Some(code::UNAUTHENTICATED) => StatusCode::UNAUTHORIZED,
                Some(code::FORBIDDEN | "TENANT_SUSPENDED" | "TENANT_CLOSED") => StatusCode::FORBIDDEN,
                Some(code::RATE_LIMITED) => StatusCode::TOO_MANY_REQUESTS,
                Some(code::UNAVAILABLE) => StatusCode::SERVICE_UNAVAILABLE,
                Some(code::INTERNAL) => StatusCode::INTERNAL_SERVER_ERROR,
                _ => StatusCode::BAD_REQUEST,
            },
        }
    }
}

impl Serialize for Outcome {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.view().serialize(serializer)
    }
}

fn give_code(error: &mut ServerError, refused: bool, correlation: &CorrelationId) {
    match code_of(error) {
        Some(code::INTERNAL) => hide(error, correlation),
        Some(_) => {}
        None if refused || reads_an_argument(error) => {
            error.extensions.get_or_insert_with(ErrorExtensionValues::default).set("code", code::BAD_USER_INPUT);
        }
        None => hide(error, correlation),
    }
}

fn hide(error: &mut ServerError, correlation: &CorrelationId) {
    tracing::error!(correlation.id = correlation.as_str(), error.message, error.path = ?error.path, "a resolver failed");
    let told = internal(correlation);
    error.message = told.message;
    error.extensions = told.extensions;
    error.source = None;
}

/// async-graphql reads arguments while it executes and gives those errors no code; only their wording tells them
/// from a resolver's own. An error converted with `?` has a source and is never taken for one of these.
fn reads_an_argument(error: &ServerError) -> bool {
    const WORDINGS: [&str; 4] =
        ["Failed to parse \"", "Expected input type \"", "Invalid value for argument", "Variable "];
    error.source.is_none() && WORDINGS.iter().any(|wording| error.message.starts_with(wording))
}
