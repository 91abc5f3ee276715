//! The outermost layer, around every route: names the request, says where it comes from, counts it, and
//! writes the one line of log that it gets.
//!
//! Refuses to log anything a client wrote freely: the route instead of the path, no query string, no header. An
//! operation's name is the exception: it is a word of the document, cut short.

use super::{
    CORRELATION_HEADER, CorrelationId,
    caller::{Caller, Network},
};
use crate::metrics::Metrics;
use axum::{
    Router,
    extract::{ConnectInfo, MatchedPath, Request, State},
    http::HeaderValue,
    middleware::{Next, from_fn_with_state},
    response::Response,
};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;
use uuid::Uuid;

/// The W3C's header of a distributed trace: its trace id names the request when nothing else does.
pub const TRACE_HEADER: &str = "traceparent";

/// What the layer needs to be told.
#[derive(Clone)]
pub struct Edge {
    /// Makes up correlation ids.
    pub ids: Arc<dyn Fn() -> Uuid + Send + Sync>,
    /// Whose X-Forwarded-For is believed.
    pub trusted_proxies: Arc<[Network]>,
    pub metrics: Metrics,
}

/// What a handler tells of the GraphQL operation it carried out, in the extensions of its response.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) name: Option<String>,
    pub(crate) kind: &'static str,
    /// `OK` or the code of the first error.
    pub(crate) outcome: &'static str,
}

/// Puts the layer around every route there is. Serve it with connection info, or no address is known.
pub fn surround(router: Router, edge: Edge) -> Router {
    router.layer(from_fn_with_state(edge, pass))
}

async fn pass(State(edge): State<Edge>, mut request: Request, next: Next) -> Response {
    let since = Instant::now();
    let trace = trace(&request);
    let correlation = CorrelationId::of(request.headers())
        .or_else(|| trace.as_ref().and_then(|trace| CorrelationId::parse(&trace.id)))
        .unwrap_or_else(|| CorrelationId::from((edge.ids)()));
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
    let caller = Caller::of(request.headers(), peer, &edge.trusted_proxies);
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    request.extensions_mut().insert(correlation.clone());
    request.extensions_mut().insert(caller);

    let mut response = next.run(request).await;

    let headers = response.headers_mut();
    if let Some(value) = correlation.header() {
        headers.insert(CORRELATION_HEADER, value);
    }
    if let Some(trace) = trace {
        headers.insert(TRACE_HEADER, trace.header);
    }
    let took = since.elapsed();
    let route = route.as_ref().map_or("(none)", MatchedPath::as_str);
    edge.metrics.answered(method.as_str(), route, response.status().as_u16(), took);
    let operation = response.extensions().get::<Operation>();
    let line = Line {
        correlation: correlation.as_str(),
        method: method.as_str(),
        route,
        status: response.status().as_u16(),
        duration_ms: took.as_secs_f64() * 1_000.0,
    };
    line.write(operation);
    response
}

struct Line<'a> {
    correlation: &'a str,
    method: &'a str,
    route: &'a str,
    status: u16,
    duration_ms: f64,
}

impl Line<'_> {
    fn write(self, operation: Option<&Operation>) {
        let Line { correlation, method, route, status, duration_ms } = self;
        // Asked every few seconds by machines, for ever.
        if route.starts_with("/health/") || route == "/metrics" {
            tracing::debug!(
                correlation.id = correlation,
                http.method = method,
                http.route = route,
                http.status = status,
                duration_ms,
                "request"
            );
            return;
        }
        tracing::info!(
            correlation.id = correlation,
            http.method = method,
            http.route = route,
            http.status = status,
            duration_ms,
            operation.name = operation.and_then(|o| o.name.as_deref()),
            operation.kind = operation.map(|o| o.kind),
            operation.outcome = operation.map(|o| o.outcome),
            "request"
        );
    }
}

/// A trace that the caller is in.
struct Trace {
    id: String,
    header: HeaderValue,
}

/// `traceparent` of version 00 and later: `vv-<32 hex>-<16 hex>-<2 hex>`, lower case, not all zero.
fn trace(request: &Request) -> Option<Trace> {
    let header = request.headers().get(TRACE_HEADER)?;
    let text = header.to_str().ok()?;
    let mut parts = text.split('-');
    let (version, id, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let whole = hex(version, 2) && hex(id, 32) && hex(parent, 16) && hex(flags, 2);
    let ended = version != "00" || parts.next().is_none();
    let zero = |text: &str| text.bytes().all(|b| b == b'0');
    (whole && ended && version != "ff" && !zero(id) && !zero(parent))
        .then(|| Trace { id: id.to_owned(), header: header.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{body::Body, routing::get};
    use tower::ServiceExt;

    async fn ask(headers: &[(&str, &str)]) -> Response {
        let edge =
            Edge { ids: Arc::new(|| Uuid::from_u128(7)), trusted_proxies: Arc::new([]), metrics: Metrics::new(0) };
        let router = surround(Router::new().route("/thing", get(async || "thing")), edge);
        let mut request = Request::get("/thing");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[tokio::test]
    async fn every_answer_names_its_request() {
        let made = ask(&[]).await;
        assert_eq!(made.headers()[CORRELATION_HEADER], Uuid::from_u128(7).to_string());
        let told = ask(&[(CORRELATION_HEADER, "order-17"), (TRACE_HEADER, TRACE)]).await;
        assert_eq!(told.headers()[CORRELATION_HEADER], "order-17");
        assert_eq!(told.headers()[TRACE_HEADER], TRACE);
    }

    #[tokio::test]
    async fn a_trace_names_the_request_when_nothing_else_does() {
        let answer = ask(&[(TRACE_HEADER, TRACE)]).await;
        assert_eq!(answer.headers()[CORRELATION_HEADER], "4bf92f3577b34da6a3ce929d0e0e4736");
    }

    #[tokio::test]
    async fn what_is_no_trace_is_ignored() {
        for wrong in [
            "",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e4736",
        ] {
            let answer = ask(&[(TRACE_HEADER, wrong)]).await;
            assert_eq!(answer.headers()[CORRELATION_HEADER], Uuid::from_u128(7).to_string(), "{wrong}");
            assert!(!answer.headers().contains_key(TRACE_HEADER), "{wrong}");
        }
    }
}
