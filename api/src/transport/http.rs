//! GraphQL over HTTP: one operation per request, by POST with a JSON body or, queries only, by GET. What is answered in
//! more than one part, or shall be, becomes an event stream.
//!
//! Statuses follow the specification's two columns: a request that is not well-formed is a 4xx in both formats; a
//! document that is refused is 400 in `application/graphql-response+json` and 200 in `application/json`.

use std::{net::IpAddr, panic::AssertUnwindSafe, sync::Arc};

use async_graphql::{Executor, ServerError, Value, parser::types::OperationType};
use axum::{
    body::{Body, Bytes},
    extract::{Query, Request, ws::WebSocketUpgrade},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use bytes::BytesMut;
use futures_util::{FutureExt, StreamExt};
use uuid::Uuid;

use super::{
    Authenticate, CORRELATION_HEADER, NotAuthenticated, POSITION_HEADER, Settings, Surroundings, TENANT_HEADER,
    TooOften, Transport,
    caller::Caller,
    context::{AtLeast, CorrelationId, bearer, idempotency_key, is_for},
    edge::Operation,
    execute,
    fault::{Outcome, code, code_of, coded, internal},
    idempotency,
    negotiate::{self, Accepted, EventStream, Format},
    operation,
    params::{Params, ParamsError},
    position,
    prepare::{Prepared, prepare},
    sockets::{Full, Seat},
    sse,
    strangers::Stranger,
    ws,
};

const TENANT_NAME: header::HeaderName = header::HeaderName::from_static(TENANT_HEADER);

/// What to do with a subscription.
const SUBSCRIBE: &str = "A subscription comes by POST with `Accept: text/event-stream`, or by WebSocket with the \
     subprotocol `graphql-transport-ws`";

/// Bytes of a body of somebody who has no credential yet: a login is short, and memory is lent to strangers.
const OPEN_BODY_BYTES_MAX: usize = 16 * 1024;

/// A request that is turned away before its document is looked at.
struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
    header: Option<(header::HeaderName, HeaderValue)>,
}

impl Refusal {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), header: None }
    }

    fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code::BAD_USER_INPUT, message)
    }

    fn method(message: &str) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, code::BAD_USER_INPUT, message)
    }

    fn header(mut self, name: header::HeaderName, value: &'static str) -> Self {
        self.header = Some((name, HeaderValue::from_static(value)));
        self
    }

    fn into_response(self, format: Format) -> Response {
        let error = coded(self.code, self.message, None);
        let mut response = write(&Outcome::Refused(vec![error]), self.status, format);
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

impl From<TooOften> for Refusal {
    fn from(refused: TooOften) -> Self {
        let after = HeaderValue::from(refused.retry_after_s());
        let refusal = Self::new(StatusCode::TOO_MANY_REQUESTS, code::RATE_LIMITED, refused.message());
        Self { header: Some((header::RETRY_AFTER, after)), ..refusal }
    }
}

impl From<ParamsError> for Refusal {
    fn from(error: ParamsError) -> Self {
        Self::bad(error.to_string())
    }
}

/// Answers every request to the endpoint, whatever happens below.
pub(super) async fn answer<E: Executor, A: Authenticate>(
    transport: Arc<Transport<E, A>>,
    request: Request,
) -> Response {
    let (mut parts, body) = request.into_parts();
    // The layer around every route has named it; without that layer, the same header does.
    let named = parts.extensions.get::<CorrelationId>().cloned().or_else(|| CorrelationId::of(&parts.headers));
    let correlation = named.unwrap_or_else(|| transport.new_correlation());
    let accepted = negotiate::accepted(&parts.headers);
    let format = accepted.format.unwrap_or(Format::Json);

    let served = async {
        if wants_socket(&parts) {
            return upgrade(transport, &mut parts, correlation.clone()).await;
        }
        if accepted.format.is_none() && accepted.stream == EventStream::Refused {
            let message =
                "Accept `application/graphql-response+json`, `application/json` or `text/event-stream`, in UTF-8";
            return Err(Refusal::new(StatusCode::NOT_ACCEPTABLE, code::BAD_USER_INPUT, message));
        }
        serve(&transport, &parts, body, accepted, &correlation).await
    };
    let mut response = match AssertUnwindSafe(served).catch_unwind().await {
        Ok(Ok(response)) => response,
        Ok(Err(refusal)) => refusal.into_response(format),
        Err(_) => {
            tracing::error!(correlation.id = correlation.as_str(), "a request handler panicked");
            write(&Outcome::Refused(vec![internal(&correlation)]), StatusCode::INTERNAL_SERVER_ERROR, format)
        }
    };
    let headers = response.headers_mut();
    if let Some(value) = correlation.header() {
        headers.insert(CORRELATION_HEADER, value);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.append(header::VARY, HeaderValue::from_static("accept"));
    response
}

fn wants_socket(parts: &Parts) -> bool {
    let upgrade = parts.headers.get(header::UPGRADE).and_then(|value| value.to_str().ok());
    parts.method == Method::GET && upgrade.is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
}

async fn serve<E: Executor, A: Authenticate>(
    transport: &Arc<Transport<E, A>>,
    parts: &Parts,
    body: Body,
    accepted: Accepted,
    correlation: &CorrelationId,
) -> Result<Response, Refusal> {
    let limits = &transport.settings.limits;
    let format = accepted.format.unwrap_or(Format::Json);
    let by_get = parts.method == Method::GET;
    if !(by_get && limits.get_queries || parts.method == Method::POST) {
        let allow = if limits.get_queries { "GET, POST" } else { "POST" };
        return Err(Refusal::method("Send a POST with a JSON body").header(header::ALLOW, allow));
    }
    let Some(token) = bearer(&parts.headers) else {
        let is_open = !by_get && !parts.headers.contains_key(header::AUTHORIZATION);
        let open = transport.settings.open;
        return if is_open && !open.is_empty() {
            serve_openly(transport, parts, body, accepted, correlation).await
        } else {
            Err(unauthenticated())
        };
    };
    let credential = transport.authenticate.authenticate(token).await.map_err(|why| match why {
        NotAuthenticated::Unknown => unauthenticated(),
        NotAuthenticated::Shut(shut) => Refusal::new(StatusCode::FORBIDDEN, shut.code(), shut.to_string()),
        NotAuthenticated::Unavailable => {
            let message = "Who you are cannot be told at the moment: try again";
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, code::UNAVAILABLE, message).header(header::RETRY_AFTER, "1")
        }
    })?;
    transport.settings.rates.account(A::namespace(&credential), A::tenant(&credential))?;
    if !is_for(&parts.headers, A::tenant(&credential)) {
        let message = format!("`{TENANT_HEADER}` is not the tenant of the token: leave it out, or switch the tenant");
        return Err(Refusal::new(StatusCode::FORBIDDEN, code::FORBIDDEN, message));
    }
    let mut params = if by_get {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map_err(|error| Refusal::bad(format!("The query string cannot be read: {error}")))?;
        Params::from_pairs(pairs.into_iter().map(|(key, value)| (key.into(), value.into())))?
    } else {
        check_body_type(&parts.headers)?;
        Params::from_json(&read(&parts.headers, body, limits).await?)?
    };
    let at_least = at_least(&parts.headers, &params)?;
    params.command_id = idempotency_key(&parts.headers)
        .map_err(|()| Refusal::bad("`Idempotency-Key` is not 1 to 255 printable characters, given once"))?
        .map(|key| idempotency::command_id(key, A::namespace(&credential)));

    params.last_event = AtLeast::last_event(&parts.headers)
        .map_err(|()| Refusal::bad("`Last-Event-ID` is not a position: send the `id` of the last event that came"))?;

    let prepared = prepare(params, limits);
    let caller = parts.extensions.get::<Caller>().cloned().unwrap_or_default();
    let namespace = A::namespace(&credential);
    let surroundings =
        Surroundings { credential: Some(credential), correlation: correlation.clone(), at_least, caller };
    if streams(accepted.stream, &prepared) {
        if by_get {
            return Err(Refusal::method("An event stream comes by POST").header(header::ALLOW, "POST"));
        }
        let seat = seated(&transport.settings, namespace)?;
        let peer = sse::Peer { bearer: token.to_owned(), seat };
        return Ok(sse::open(transport.clone(), prepared, surroundings, peer));
    }
    let prepared = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return Ok(finish(Outcome::Refused(vec![error]), format)),
    };
    match prepared.kind {
        OperationType::Query => {}
        OperationType::Mutation if !by_get => {}
        OperationType::Mutation => {
            return Err(Refusal::method("A mutation comes by POST").header(header::ALLOW, "POST"));
        }
        OperationType::Subscription if by_get => {
            return Err(Refusal::method(SUBSCRIBE).header(header::ALLOW, "POST"));
        }
        OperationType::Subscription => return Err(Refusal::bad(SUBSCRIBE)),
    }
    Ok(carry_out(transport, prepared, surroundings, format).await)
}

fn unauthenticated() -> Refusal {
    let message = "No valid credential: send `Authorization: Bearer <token>`";
    Refusal::new(StatusCode::UNAUTHORIZED, code::UNAUTHENTICATED, message).header(header::WWW_AUTHENTICATE, "Bearer")
}

/// Serves who has no credential yet: nothing but the mutations that need none. Whatever else it is, and whatever is wrong
/// with it, it lacks a credential first.
async fn serve_openly<E: Executor, A: Authenticate>(
    transport: &Arc<Transport<E, A>>,
    parts: &Parts,
    body: Body,
    accepted: Accepted,
    correlation: &CorrelationId,
) -> Result<Response, Refusal> {
    let limits = &transport.settings.limits;
    let limits = &super::Limits { body_bytes_max: limits.body_bytes_max.min(OPEN_BODY_BYTES_MAX), ..limits.clone() };
    let Some(format) = accepted.format else { return Err(unauthenticated()) };
    check_body_type(&parts.headers).map_err(|_| unauthenticated())?;
    let params = Params::from_json(&read(&parts.headers, body, limits).await?).map_err(|_| unauthenticated())?;
    match prepare(params, limits) {
        Ok(prepared) if prepared.is_only(transport.settings.open) => {
            let caller = parts.extensions.get::<Caller>().cloned().unwrap_or_default();
            let surroundings =
                Surroundings { credential: None, correlation: correlation.clone(), at_least: None, caller };
            Ok(carry_out(transport, prepared, surroundings, format).await)
        }
        _ => Err(unauthenticated()),
    }
}

/// Executes a query or mutation, and answers.
async fn carry_out<E: Executor, A: Authenticate>(
    transport: &Transport<E, A>,
    prepared: Prepared,
    surroundings: Surroundings<A::Credential>,
    format: Format,
) -> Response {
    let name = prepared.request.operation_name.as_deref().map(operation::short);
    let kind = operation::kind(prepared.kind);
    let correlation = surroundings.correlation.clone();
    let mut running = transport.settings.metrics.begin(kind);
    let outcome =
        execute(&transport.executor, surroundings.attach(prepared.request), &prepared.order, &correlation).await;
    let told = outcome.label();
    running.ended(told);
    let mut response = finish(outcome, format);
    response.extensions_mut().insert(Operation { name, kind, outcome: told });
    response
}

/// Whether the answer is an event stream: where nothing else is taken or the client prefers it, and for what has more
/// than one part.
fn streams(accepted: EventStream, prepared: &Result<Prepared, ServerError>) -> bool {
    match accepted {
        EventStream::Refused => false,
        EventStream::Possible => matches!(prepared, Ok(prepared) if prepared.kind == OperationType::Subscription),
        EventStream::Preferred => true,
    }
}

/// A place among the sockets and event streams, when there is room and the server is not stopping.
fn seated(settings: &Settings, caller: Uuid) -> Result<Seat, Refusal> {
    not_stopping(settings)?;
    settings.sockets.seat(caller).map_err(|full| match full {
        Full::All => busy(FULL),
        Full::Own => crowded("You have too many sockets and event streams open: close one"),
    })
}

/// The same for a socket that has not said yet whose it is.
fn admitted(settings: &Settings, address: Option<IpAddr>) -> Result<Stranger, Refusal> {
    not_stopping(settings)?;
    settings.sockets.admit(address).map_err(|full| match full {
        Full::All => busy(FULL),
        Full::Own => crowded(
            "Too many sockets of this address have not said who they are: send `connection_init` on them, or close them",
        ),
    })
}

const FULL: &str = "Too many sockets and event streams are open: try again later";

fn not_stopping(settings: &Settings) -> Result<(), Refusal> {
    match *settings.shutdown.borrow() {
        true => Err(busy("The server is stopping: try again")),
        false => Ok(()),
    }
}

fn busy(message: &str) -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, code::UNAVAILABLE, message).header(header::RETRY_AFTER, "5")
}

fn crowded(message: &str) -> Refusal {
    Refusal::new(StatusCode::TOO_MANY_REQUESTS, code::LIMIT_EXCEEDED, message).header(header::RETRY_AFTER, "5")
}

/// Whatever a web form can send across origins without a preflight is refused, and so is a compressed body, whose
/// size nobody knows.
fn check_body_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let refuse = |message| Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, code::BAD_USER_INPUT, message));
    if !negotiate::is_json(headers) {
        return refuse("Send the body as `Content-Type: application/json` in UTF-8");
    }
    if headers.get_all(header::CONTENT_ENCODING).iter().any(|value| value != "identity") {
        return refuse("Send the body without `Content-Encoding`");
    }
    Ok(())
}

async fn read(headers: &HeaderMap, body: Body, limits: &super::Limits) -> Result<Bytes, Refusal> {
    let too_long = || {
        let message = format!("The body is longer than {} bytes: split it", limits.body_bytes_max);
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, code::LIMIT_EXCEEDED, message)
    };
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limits.body_bytes_max) {
        return Err(too_long());
    }
    let gather = async {
        let (mut whole, mut parts) = (BytesMut::new(), body.into_data_stream());
        while let Some(part) = parts.next().await {
            let part = part.map_err(|_| Refusal::bad("The body broke off"))?;
            if whole.len() + part.len() > limits.body_bytes_max {
                return Err(too_long());
            }
            whole.extend_from_slice(&part);
        }
        Ok(whole.freeze())
    };
    tokio::time::timeout(limits.body_timeout, gather).await.unwrap_or_else(|_| {
        let message = "The body did not arrive in time: send it again";
        Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, code::BAD_USER_INPUT, message))
    })
}

/// From the header, else from `extensions.atLeast`.
fn at_least(headers: &HeaderMap, params: &Params) -> Result<Option<AtLeast>, Refusal> {
    let wrong = || Refusal::bad("`Daybook-At-Least` is not a position: send one that an answer carried");
    match AtLeast::of(headers).map_err(|()| wrong())? {
        Some(at_least) => Ok(Some(at_least)),
        None => params.at_least().map_err(|()| wrong()),
    }
}

fn finish(outcome: Outcome, format: Format) -> Response {
    // Older clients read the errors only with status 200; an authentication or server fault is not theirs to read.
    let status = match (format, outcome.status()) {
        (Format::Json, StatusCode::BAD_REQUEST) => StatusCode::OK,
        (_, status) => status,
    };
    let mut response = write(&outcome, status, format);
    match &outcome {
        Outcome::Executed(executed) => {
            if let Some(value) = position(executed) {
                response.headers_mut().insert(POSITION_HEADER, value.clone());
            }
        }
        Outcome::Refused(errors) => {
            if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
                response.headers_mut().insert(header::RETRY_AFTER, retry_after(errors));
            }
        }
    }
    response
}

/// Seconds, from `extensions.retryAfterS` of the error, else 1.
fn retry_after(errors: &[ServerError]) -> HeaderValue {
    let told = errors.iter().find_map(|error| match error.extensions.as_ref()?.get("retryAfterS")? {
        Value::Number(number) => number.as_u64(),
        _ => None,
    });
    HeaderValue::from(told.unwrap_or(1))
}

fn write(outcome: &Outcome, status: StatusCode, format: Format) -> Response {
    match outcome.body() {
        Ok(body) => (status, [(header::CONTENT_TYPE, format.content_type())], body).into_response(),
        Err(error) => {
            tracing::error!(error = %error, code = outcome.first_code(), "an answer could not be written as JSON");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

impl Outcome {
    fn first_code(&self) -> Option<&str> {
        match self {
            Self::Refused(errors) => errors.first().and_then(code_of),
            Self::Executed(response) => response.errors.first().and_then(code_of),
        }
    }
}

/// Opens a socket when the page may, there is room, and the server is not stopping. The token comes later.
async fn upgrade<E: Executor, A: Authenticate>(
    transport: Arc<Transport<E, A>>,
    parts: &mut Parts,
    correlation: CorrelationId,
) -> Result<Response, Refusal> {
    use axum::extract::FromRequestParts;

    let settings = &transport.settings;
    if !settings.origins.admits(&parts.headers) {
        let message = "This origin may not open a socket: have it added to the allowed origins";
        return Err(Refusal::new(StatusCode::FORBIDDEN, code::FORBIDDEN, message));
    }
    let caller = parts.extensions.get::<Caller>().cloned().unwrap_or_default();
    let stranger = Some(admitted(settings, caller.ip)?);
    let offer = WebSocketUpgrade::from_request_parts(parts, &())
        .await
        .map_err(|rejection| Refusal::bad(format!("This is no WebSocket handshake: {rejection}")))?;
    let at_least = AtLeast::of(&parts.headers).map_err(|()| Refusal::bad("`Daybook-At-Least` is not a position"))?;
    let bearer = bearer(&parts.headers).map(str::to_owned);
    let headers = parts.headers.get_all(TENANT_HEADER).iter().map(|value| (TENANT_NAME, value.clone())).collect();
    let peer = ws::Peer { bearer, headers, correlation, at_least, caller, stranger };
    let limits = settings.limits.socket.clone();
    Ok(ws::configure(offer, &limits).on_upgrade(move |socket| ws::run(transport, socket, peer)))
}
