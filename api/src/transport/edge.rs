//! The outermost layer, around every route: names the request, says where it comes from, counts it, and
//! writes the one line of log that it gets. Whoever asks too often goes no further, and every answer tells browsers what
//! they may not do with it.
//!
//! Refuses to log anything a client wrote freely: the route instead of the path, no query string, no header. An
//! operation's name is the exception: it is a word of the document, cut short.

use super::{
    CORRELATION_HEADER, CorrelationId, Rates, TooOften,
    caller::{Caller, Network},
    fault::{code, too_often},
    problem::in_our_words,
};
use crate::metrics::Metrics;
use axum::{
    Router,
    extract::{ConnectInfo, MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
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
    /// How often an address may ask.
    pub rates: Rates,
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
    let path = route.as_ref().map_or("(none)", MatchedPath::as_str);
    // What watches over a node, and its neighbours, are told how it is in any case; but whoever shows a token there may be
    // guessing at it.
    let watches = path.starts_with("/health/") && !request.headers().contains_key(header::AUTHORIZATION);
    let counted = !(watches || path.starts_with("/internal/") || path == "/metrics");
    let refused = caller.ip.filter(|_| counted).and_then(|address| edge.rates.address(address).err());
    request.extensions_mut().insert(correlation.clone());
    request.extensions_mut().insert(caller);

    let mut response = match refused {
        Some(refused) => turned_away(&refused, &correlation),
        // Which of them a proxy in front believes, and which the check of origins, nobody knows.
        None if request.headers().get_all(header::HOST).iter().count() > 1 => StatusCode::BAD_REQUEST.into_response(),
        None => next.run(request).await,
    };

    response = in_our_words(response, &correlation);
    let headers = response.headers_mut();
    for (name, value) in SECURITY {
        // A page knows better what it needs.
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if let Some(value) = correlation.header() {
        headers.insert(CORRELATION_HEADER, value);
    }
    if let Some(trace) = trace {
        headers.insert(TRACE_HEADER, trace.header);
    }
    let took = since.elapsed();
    edge.metrics.answered(method.as_str(), path, response.status().as_u16(), took);
    let operation = response.extensions().get::<Operation>();
    let line = Line {
        correlation: correlation.as_str(),
        method: method_word(method.as_str()),
        route: path,
        status: response.status().as_u16(),
        duration_ms: took.as_secs_f64() * 1_000.0,
    };
    line.write(operation);
    response
}

/// The method, unless the client made it up.
pub(crate) fn method_word(method: &str) -> &'static str {
    const METHODS: [&str; 7] = ["GET", "POST", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE"];
    METHODS.into_iter().find(|known| *known == method).unwrap_or("OTHER")
}

/// On every answer. Nothing here is meant to be drawn, framed, sniffed or sent on; what is a page says so itself. Browsers
/// heed the second line over https alone, which a proxy in front speaks.
const SECURITY: [(HeaderName, &str); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::STRICT_TRANSPORT_SECURITY, "max-age=31536000"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
];

/// The same words for GraphQL clients and for others: a problem document that has an `errors` list.
fn turned_away(refused: &TooOften, correlation: &CorrelationId) -> Response {
    let body = serde_json::json!({
        "type": "about:blank",
        "title": "Too Many Requests",
        "status": 429,
        "code": code::RATE_LIMITED,
        "detail": refused.message(),
        "correlationId": correlation.as_str(),
        "errors": [too_often(refused)],
    });
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::RETRY_AFTER, HeaderValue::from(refused.retry_after_s())),
    ];
    (StatusCode::TOO_MANY_REQUESTS, headers, body.to_string()).into_response()
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
    use crate::transport::RateLimits;
    use axum::{body::Body, routing::get};
    use tower::ServiceExt;

    fn router(limits: RateLimits) -> Router {
        let edge = Edge {
            ids: Arc::new(|| Uuid::from_u128(7)),
            trusted_proxies: Arc::new([]),
            metrics: Metrics::new(0),
            rates: Rates::new(limits),
        };
        let broken = async || StatusCode::INTERNAL_SERVER_ERROR;
        let long = async |body: axum::body::Bytes| body;
        let routes = Router::new()
            .route("/thing", get(async || "thing").post(long))
            .route("/broken", get(broken))
            .route("/health/live", get(async || "live"))
            .layer(axum::extract::DefaultBodyLimit::max(10));
        surround(routes, edge)
    }

    async fn ask(headers: &[(&str, &str)]) -> Response {
        let mut request = Request::get("/thing");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        router(RateLimits::NONE).oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    async fn from(router: &Router, address: &str, path: &str) -> Response {
        let peer: SocketAddr = format!("{address}:4711").parse().unwrap();
        let request = Request::get(path).extension(ConnectInfo(peer)).body(Body::empty()).unwrap();
        router.clone().oneshot(request).await.unwrap()
    }

    #[tokio::test]
    async fn an_address_that_asks_too_often_is_told_when_to_come_back_and_others_go_on() {
        let router = router(RateLimits { per_address: std::num::NonZeroU32::new(1), ..RateLimits::NONE });
        let mut refused = None;
        for _ in 0..100 {
            let answer = from(&router, "192.0.2.1", "/thing").await;
            if answer.status() == 429 {
                refused = Some(answer);
                break;
            }
        }
        let refused = refused.expect("a refusal");
        assert_eq!(refused.headers()["retry-after"], "1");
        assert_eq!(refused.headers()["content-type"], "application/problem+json");
        assert_eq!(refused.headers()[CORRELATION_HEADER], Uuid::from_u128(7).to_string());
        let body = axum::body::to_bytes(refused.into_body(), 10_000).await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (&body["code"], &body["errors"][0]["extensions"]["retryAfterS"]),
            (&"RATE_LIMITED".into(), &1.into())
        );
        assert_eq!(from(&router, "192.0.2.2", "/thing").await.status(), 200);
        assert_eq!(from(&router, "192.0.2.1", "/nowhere").await.status(), 429, "guessing at paths has its price, too");
        assert_eq!(from(&router, "192.0.2.1", "/health/live").await.status(), 200);
    }

    #[tokio::test]
    async fn what_no_handler_of_ours_answers_is_a_problem_document_too() {
        let router = router(RateLimits::NONE);
        for (method, path, status, code) in [
            ("GET", "/nowhere", 404, "NOT_FOUND"),
            ("DELETE", "/thing", 405, "BAD_USER_INPUT"),
            ("POST", "/thing", 413, "LIMIT_EXCEEDED"),
            ("GET", "/broken", 500, "INTERNAL"),
            ("GET", "/two-hosts", 400, "BAD_USER_INPUT"),
        ] {
            let mut request = Request::builder().method(method).uri(path).header("host", "day.example");
            if path == "/two-hosts" {
                request = request.header("host", "evil.example");
            }
            let request = request.body(Body::from("longer than ten")).unwrap();
            let answer = router.clone().oneshot(request).await.unwrap();
            assert_eq!(answer.status(), status, "{method} {path}");
            assert_eq!(answer.headers()["content-type"], "application/problem+json", "{method} {path}");
            assert_eq!(answer.headers().contains_key("allow"), status == 405);
            let body = axum::body::to_bytes(answer.into_body(), 10_000).await.unwrap();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!((&body["status"], &body["code"]), (&status.into(), &code.into()), "{method} {path}");
            assert_eq!(body["correlationId"], Uuid::from_u128(7).to_string());
        }
    }

    #[tokio::test]
    async fn who_asks_for_health_with_a_token_is_counted_and_who_asks_without_is_not() {
        let router = router(RateLimits { per_address: std::num::NonZeroU32::new(1), ..RateLimits::NONE });
        let ask = async |token: Option<&str>| {
            let peer: SocketAddr = "192.0.2.1:4711".parse().unwrap();
            let mut request = Request::get("/health/live").extension(ConnectInfo(peer));
            if let Some(token) = token {
                request = request.header("authorization", token);
            }
            router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap().status()
        };
        for _ in 0..100 {
            assert_eq!(ask(None).await, 200);
        }
        let mut refused = 0;
        for _ in 0..100 {
            refused += usize::from(ask(Some("Bearer guessed")).await == 429);
        }
        // A machine that is slow gets some more through.
        assert!(refused > 50, "{refused} of 100");
        assert_eq!(ask(None).await, 200, "what watches over the node goes on");
    }

    #[tokio::test]
    async fn every_answer_tells_browsers_what_they_may_not_do_with_it() {
        let router = router(RateLimits::NONE);
        for path in ["/thing", "/nowhere"] {
            let answer = from(&router, "192.0.2.1", path).await;
            for (name, value) in SECURITY {
                assert_eq!(answer.headers()[&name], value, "{path}");
            }
        }
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
