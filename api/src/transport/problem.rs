//! What the libraries below refuse in words of their own, or in none, becomes a problem document (RFC 9457) like all the
//! rest: an unknown path, a method that a path has not, a body that is too long or does not come.

use super::{CorrelationId, fault::code};
use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

/// The answer as it is, or a problem document in its place, with the headers that it had.
pub(super) fn in_our_words(response: Response, correlation: &CorrelationId) -> Response {
    let status = response.status();
    let media = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_foreign = media.is_none_or(|media| media.starts_with("text/plain"));
    if !((status.is_client_error() || status.is_server_error()) && is_foreign) {
        return response;
    }
    let (code, detail) = words(status);
    let body = serde_json::json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or("Error"),
        "status": status.as_u16(),
        "code": code,
        "detail": detail,
        "correlationId": correlation.as_str(),
    });
    let (mut parts, _) = response.into_parts();
    // Of the body that it had.
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    parts.headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    (parts, body.to_string()).into_response()
}

fn words(status: StatusCode) -> (&'static str, &'static str) {
    match status {
        StatusCode::NOT_FOUND => ("NOT_FOUND", "there is nothing here"),
        StatusCode::METHOD_NOT_ALLOWED => {
            (code::BAD_USER_INPUT, "this path does not take that method: `Allow` names those that it takes")
        }
        StatusCode::PAYLOAD_TOO_LARGE => (code::LIMIT_EXCEEDED, "the body is longer than this path takes: shorten it"),
        StatusCode::REQUEST_TIMEOUT => (code::BAD_USER_INPUT, "the body did not come in time: send it again"),
        StatusCode::SERVICE_UNAVAILABLE => (code::UNAVAILABLE, "not at the moment: try again"),
        status if status.is_server_error() => {
            (code::INTERNAL, "something failed here; if it fails again, report the correlation id")
        }
        _ => (code::BAD_USER_INPUT, "the request cannot be read: see schemas/openapi.json for what this path takes"),
    }
}
