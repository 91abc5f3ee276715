//! What a call is answered: its report, or a problem document (RFC 9457) that holds the report so far.

use crate::graphql::opaque::Opaque;
use crate::transport::{CorrelationId, NotAuthenticated, POSITION_HEADER, TooOften, fault::code};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use daybook_app::energy::{IngestError, Rejected, Report};
use daybook_store::journal::AppendError;
use serde::Serialize;
use std::time::Duration;

/// A refused row.
#[derive(Serialize)]
struct Rejection<'a> {
    index: u64,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'static str>,
    message: &'a str,
}

impl<'a> From<&'a Rejected> for Rejection<'a> {
    fn from(rejected: &'a Rejected) -> Self {
        Rejection { index: rejected.index, code: rejected.code, field: rejected.field, message: &rejected.message }
    }
}

/// What became of the rows.
#[derive(Serialize)]
struct Body<'a> {
    rows: u64,
    accepted: u64,
    duplicates: u64,
    rejected: u64,
    rejections: Vec<Rejection<'a>>,
    /// Some refused rows are only counted.
    truncated: bool,
    /// The call had been carried out before, at least in part.
    deduplicated: bool,
    position: Option<String>,
}

impl<'a> Body<'a> {
    fn of(report: &'a Report, opaque: &Opaque) -> Self {
        Body {
            rows: report.rows(),
            accepted: report.accepted,
            duplicates: report.duplicates,
            rejected: report.rejected,
            rejections: report.rejections.iter().map(Rejection::from).collect(),
            truncated: report.truncated(),
            deduplicated: report.repeated,
            position: report.written.map(|(tenant, position, _)| opaque.position(tenant, position)),
        }
    }
}

/// The answer of a call whose rows were all judged.
pub(super) fn done(report: &Report, opaque: &Opaque) -> Response {
    let body = Body::of(report, opaque);
    let position = body.position.as_deref().and_then(|text| HeaderValue::from_str(text).ok());
    let mut response = (StatusCode::OK, axum::Json(&body)).into_response();
    if let Some(position) = position {
        response.headers_mut().insert(POSITION_HEADER, position);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Why a call was broken off.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    /// Apart, because a problem is half of many results.
    more: Box<More>,
}

#[derive(Debug, Default)]
struct More {
    header: Option<(header::HeaderName, HeaderValue)>,
    correlation: Option<CorrelationId>,
    recorded: Option<serde_json::Value>,
    half_a_body: bool,
    of_the_content: bool,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Problem { status, code, detail: detail.into(), more: Box::default() }
    }

    fn with(mut self, name: header::HeaderName, value: &'static str) -> Self {
        self.more.header = Some((name, HeaderValue::from_static(value)));
        self
    }

    pub(super) fn bad(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code::BAD_USER_INPUT, detail)
    }

    pub(super) fn broken_off() -> Self {
        let mut problem = Self::bad("the body broke off: send it again");
        problem.more.half_a_body = true;
        problem
    }

    pub(super) fn method() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, code::BAD_USER_INPUT, "send a POST").with(header::ALLOW, "POST")
    }

    pub(super) fn unauthenticated() -> Self {
        let detail = "no valid credential: send `Authorization: Bearer <token>`";
        Self::new(StatusCode::UNAUTHORIZED, code::UNAUTHENTICATED, detail).with(header::WWW_AUTHENTICATE, "Bearer")
    }

    pub(super) fn not_authenticated(why: NotAuthenticated) -> Self {
        match why {
            NotAuthenticated::Unknown => Self::unauthenticated(),
            NotAuthenticated::Shut(shut) => Self::new(StatusCode::FORBIDDEN, shut.code(), shut.to_string()),
            NotAuthenticated::Unavailable => Self::unknown_for_now(),
        }
    }

    pub(super) fn changed() -> Self {
        let detail = "what you may record has changed while the body came: send the rest again, under the same key";
        Self::new(StatusCode::FORBIDDEN, code::FORBIDDEN, detail)
    }

    fn unknown_for_now() -> Self {
        let detail = "who you are cannot be told at the moment: try again";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code::UNAVAILABLE, detail).with(header::RETRY_AFTER, "1")
    }

    pub(super) fn foreign_tenant() -> Self {
        let detail = "`X-Tenant-ID` is not the tenant of the token: leave it out, or switch the tenant";
        Self::new(StatusCode::FORBIDDEN, code::FORBIDDEN, detail)
    }

    pub(super) fn media(detail: &str) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, code::BAD_USER_INPUT, detail)
    }

    pub(super) fn too_large(detail: String) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, code::LIMIT_EXCEEDED, detail)
    }

    pub(super) fn dripping(bytes_per_s_min: u64) -> Self {
        let detail = format!("the body comes too slowly: send at least {bytes_per_s_min} bytes a second");
        let mut problem = Self::new(StatusCode::REQUEST_TIMEOUT, code::BAD_USER_INPUT, detail);
        problem.more.half_a_body = true;
        problem
    }

    pub(super) fn slow(idle: Duration) -> Self {
        let detail = format!("nothing came for {} s: send the body without such a pause", idle.as_secs());
        let mut problem = Self::new(StatusCode::REQUEST_TIMEOUT, code::BAD_USER_INPUT, detail);
        problem.more.half_a_body = true;
        problem
    }

    pub(super) fn busy() -> Self {
        let detail = "too many calls record readings at the moment: send it again in a moment";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code::UNAVAILABLE, detail).with(header::RETRY_AFTER, "1")
    }

    pub(super) fn too_often(refused: &TooOften) -> Self {
        let mut problem = Self::new(StatusCode::TOO_MANY_REQUESTS, code::RATE_LIMITED, refused.message());
        problem.more.header = Some((header::RETRY_AFTER, HeaderValue::from(refused.retry_after_s())));
        problem
    }

    pub(super) fn rules(failure: daybook_app::rules::Unreadable) -> Self {
        tracing::warn!(error = %failure, "rules could not be read");
        let detail = "what you may do cannot be told at the moment: try again";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code::UNAVAILABLE, detail).with(header::RETRY_AFTER, "1")
    }

    pub(super) fn ingest(error: IngestError) -> Self {
        match error {
            IngestError::Denied(_) => Self::new(
                StatusCode::FORBIDDEN,
                code::FORBIDDEN,
                format!("{error}: ask an administrator of the tenant for a role that allows it"),
            ),
            IngestError::UnknownTenant => Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", error.to_string()),
            IngestError::TenantNotActive => Self::new(StatusCode::CONFLICT, "CONFLICT", error.to_string()),
            IngestError::Append(append) => Self::append(append),
            IngestError::Codec(cause) => Self::internal(&cause),
            IngestError::Seal(cause) => Self::internal(&cause),
        }
    }

    fn append(error: AppendError) -> Self {
        match error {
            AppendError::CommandReused(_) => Self::new(
                StatusCode::CONFLICT,
                "CONFLICT",
                "this `Idempotency-Key` was used before for other rows: use a new one for new rows",
            ),
            AppendError::Conflict { .. } | AppendError::KeyTaken { .. } | AppendError::TooLate => Self::new(
                StatusCode::CONFLICT,
                "CONFLICT",
                "others record readings of the same days at the same time: send the call again",
            ),
            AppendError::Overloaded | AppendError::Unavailable(_) | AppendError::Stale => {
                tracing::warn!(%error, "readings could not be recorded");
                let detail = "the journal cannot take readings at the moment: send the call again, rows that are \
                              recorded already are duplicates then";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, code::UNAVAILABLE, detail).with(header::RETRY_AFTER, "1")
            }
            AppendError::UnknownOutcome(_) => Self::new(
                StatusCode::GATEWAY_TIMEOUT,
                "UNKNOWN_OUTCOME",
                "it is not known whether the last rows were recorded: send the call again, then they are duplicates",
            ),
            AppendError::Invalid(_) | AppendError::Database(_) => Self::internal(&error),
        }
    }

    /// Logged once, here; the client learns the correlation id only.
    fn internal(cause: &dyn std::error::Error) -> Self {
        tracing::error!(error = %cause, "readings could not be recorded");
        let detail = "something failed here: send the call again; if it fails again, report the correlation id";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, code::INTERNAL, detail)
    }

    /// A mistake in what was sent: the same body fails at the same row.
    pub(super) fn of_the_content(mut self) -> Self {
        self.more.of_the_content = true;
        self
    }

    pub(super) fn is_of_the_content(&self) -> bool {
        self.more.of_the_content
    }

    /// Whether the rest of the body is worth waiting for: not a stranger's, and not one that does not come.
    pub(super) fn lets_the_rest_in(&self) -> bool {
        self.status != StatusCode::UNAUTHORIZED && !self.more.half_a_body
    }

    /// With what was recorded before.
    pub(super) fn after(mut self, report: &Report, opaque: &Opaque) -> Self {
        self.more.recorded = serde_json::to_value(Body::of(report, opaque)).ok();
        self
    }

    pub(super) fn of(mut self, correlation: &CorrelationId) -> Self {
        self.more.correlation = Some(correlation.clone());
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = serde_json::json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or_default(),
            "status": self.status.as_u16(),
            "code": self.code,
            "detail": self.detail,
        });
        if let Some(correlation) = &self.more.correlation {
            body["correlationId"] = correlation.as_str().into();
        }
        if let Some(recorded) = self.more.recorded {
            body["recorded"] = recorded;
        }
        let media = [(header::CONTENT_TYPE, "application/problem+json"), (header::CACHE_CONTROL, "no-store")];
        let mut response = (self.status, media, body.to_string()).into_response();
        if let Some((name, value)) = self.more.header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}
