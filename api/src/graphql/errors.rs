//! From our errors to the client's: which become user errors, which become GraphQL errors.

use async_graphql::{Enum, Error, ErrorExtensions, SimpleObject};
use daybook_app::{Denied, ExecuteError};
use daybook_domain::Refusal;
use daybook_domain::platform::module::text::Fault;
use daybook_store::journal::AppendError;
use std::time::Duration;

/// What the business refuses. The client can act on it.
#[derive(SimpleObject, Clone, Debug, PartialEq, Eq)]
pub struct UserError {
    /// Path of the input field at fault, e.g. `["input", "name"]`; empty for the request as a whole.
    pub path: Vec<String>,
    /// Stable and UPPER_SNAKE, e.g. `TENANT_CLOSED`: match on this, not on the message.
    pub code: String,
    /// What is wrong and what to do about it, for a person.
    pub message: String,
    /// Where the fault is in a text that was sent, counted from 1. Null for everything else.
    pub line: Option<u32>,
    /// Where in its line, counted from 1. Null for everything else.
    pub column: Option<u32>,
}

impl UserError {
    pub fn new(path: &[&str], code: &str, message: impl Into<String>) -> Self {
        let path = match path {
            [] => Vec::new(),
            path => std::iter::once("input").chain(path.iter().copied()).map(str::to_owned).collect(),
        };
        UserError { path, code: code.to_owned(), message: message.into(), line: None, column: None }
    }

    /// A fault in a text that was sent as the input field `field`.
    pub fn in_text(field: &str, fault: &Fault) -> Self {
        let path: Vec<&str> = std::iter::once(field).chain(fault.path.iter().map(String::as_str)).collect();
        let place = |number: usize| u32::try_from(number).ok();
        UserError {
            line: place(fault.at.line),
            column: place(fault.at.column),
            ..UserError::new(&path, fault.code, fault.to_string())
        }
    }

    pub fn of(refusal: &dyn Refusal) -> Self {
        UserError::new(refusal.path(), refusal.code(), refusal.to_string())
    }
}

impl<R: Refusal> From<R> for UserError {
    fn from(refusal: R) -> Self {
        UserError::of(&refusal)
    }
}

/// What a request can fail with besides the business's refusals.
#[derive(Enum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Code {
    Unauthenticated,
    Forbidden,
    RateLimited,
    NotFound,
    BadUserInput,
    Conflict,
    LimitExceeded,
    Stale,
    UnknownOutcome,
    Unavailable,
    Internal,
    CursorExpired,
    Lagging,
}

impl Code {
    pub fn as_str(self) -> &'static str {
        match self {
            Code::Unauthenticated => "UNAUTHENTICATED",
            Code::Forbidden => "FORBIDDEN",
            Code::RateLimited => "RATE_LIMITED",
            Code::NotFound => "NOT_FOUND",
            Code::BadUserInput => "BAD_USER_INPUT",
            Code::Conflict => "CONFLICT",
            Code::LimitExceeded => "LIMIT_EXCEEDED",
            Code::Stale => "STALE",
            Code::UnknownOutcome => "UNKNOWN_OUTCOME",
            Code::Unavailable => "UNAVAILABLE",
            Code::Internal => "INTERNAL",
            Code::CursorExpired => "CURSOR_EXPIRED",
            Code::Lagging => "LAGGING",
        }
    }
}

/// A GraphQL error with a code.
pub fn error(code: Code, message: impl Into<String>) -> Error {
    Error::new(message).extend_with(|_, e| e.set("code", code.as_str()))
}

/// The same error, with the whole seconds after which another try makes sense.
pub fn with_retry(error: Error, wait: Duration) -> Error {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    error.extend_with(|_, e| e.set("retryAfterS", seconds.max(1)))
}

/// Logged once, here; the client learns the correlation id only.
pub fn internal(cause: &dyn std::error::Error) -> Error {
    let mut text = cause.to_string();
    let mut source = cause.source();
    while let Some(next) = source {
        text.push_str(": ");
        text.push_str(&next.to_string());
        source = next.source();
    }
    tracing::error!(error = text, "a request failed");
    // Without a code: the transport makes INTERNAL of it and adds the correlation id.
    Error::new("internal")
}

pub fn denied(denied: &Denied) -> Error {
    error(Code::Forbidden, format!("{denied}: ask an administrator of the tenant for a role that allows it"))
}

/// Either something for the payload, or something that fails the field.
pub fn of_execution<R: Refusal>(failure: ExecuteError<R>) -> Result<UserError, Error> {
    match failure {
        ExecuteError::Refused(refusal) => Ok(UserError::of(&refusal)),
        ExecuteError::Append(AppendError::KeyTaken { kind }) => {
            let field = kind.rsplit('.').next().unwrap_or(kind);
            Ok(UserError::new(&[field], "TAKEN", format!("this {field} is already in use: choose another")))
        }
        ExecuteError::Append(AppendError::TooLate) => {
            Ok(UserError::new(&[], "TOO_LATE", "the deadline of the command has passed"))
        }
        ExecuteError::Denied(ref of) => Err(denied(of)),
        ExecuteError::Conflict { .. } => Err(error(Code::Conflict, failure.to_string())),
        ExecuteError::Append(append) => Err(of_append(append)),
        ExecuteError::Codec(ref cause) => Err(internal(cause)),
        ExecuteError::Seal(ref cause) => Err(internal(cause)),
        ExecuteError::Database(ref cause) => Err(internal(cause)),
    }
}

pub(crate) fn of_append(append: AppendError) -> Error {
    match append {
        AppendError::Conflict { .. } | AppendError::CommandReused(_) => error(Code::Conflict, append.to_string()),
        AppendError::Invalid(_) => error(Code::BadUserInput, append.to_string()),
        AppendError::Overloaded | AppendError::Unavailable(_) | AppendError::Stale => {
            tracing::warn!(error = %append, "a command could not be carried out");
            error(
                Code::Unavailable,
                "the journal cannot take commands at the moment: nothing was written, try again later",
            )
        }
        AppendError::UnknownOutcome(id) => Error::new(append.to_string()).extend_with(|_, e| {
            e.set("code", Code::UnknownOutcome.as_str());
            e.set("commandId", id.to_string());
        }),
        AppendError::KeyTaken { .. } | AppendError::TooLate => error(Code::Conflict, append.to_string()),
        AppendError::Database(_) => internal(&append),
    }
}
