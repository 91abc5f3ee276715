//! `graphql-transport-ws` through a real connection: every close code, cancellation, limits, slow readers.

mod toy;

use std::{
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    time::Duration,
};

use axum::http::{HeaderValue, Request, StatusCode};
use daybook_api::transport::{OriginPolicy, Sockets};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error, Message, client::IntoClientRequest},
};
use toy::{Server, Setup, TOKEN, serve};

const PATIENCE: Duration = Duration::from_secs(10);

struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

fn handshake(server: &Server) -> Request<()> {
    let mut request = format!("ws://{}/graphql", server.address).into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("graphql-transport-ws"));
    request
}

impl Socket {
    async fn open(server: &Server) -> Self {
        Self(connect_async(handshake(server)).await.unwrap().0)
    }

    /// Past the acknowledgement.
    async fn ready(server: &Server) -> Self {
        let mut socket = Self::open(server).await;
        socket.init().await;
        socket
    }

    async fn init(&mut self) {
        self.say(json!({ "type": "connection_init", "payload": { "Authorization": format!("Bearer {TOKEN}") } })).await;
        assert_eq!(self.hear().await, json!({ "type": "connection_ack" }));
    }

    async fn say(&mut self, message: Value) {
        self.raw(Message::text(message.to_string())).await;
    }

    async fn raw(&mut self, message: Message) {
        self.0.send(message).await.unwrap();
    }

    async fn subscribe(&mut self, id: &str, query: &str) {
        self.say(json!({ "type": "subscribe", "id": id, "payload": { "query": query } })).await;
    }

    async fn next_frame(&mut self) -> Option<Result<Message, Error>> {
        timeout(PATIENCE, self.0.next()).await.expect("nothing came")
    }

    async fn hear(&mut self) -> Value {
        loop {
            match self.next_frame().await.unwrap().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// The code and reason of the close frame that comes sooner or later.
    async fn closed(&mut self) -> (u16, String) {
        loop {
            match self.next_frame().await.expect("no close frame").unwrap() {
                Message::Close(frame) => {
                    let frame = frame.unwrap();
                    return (frame.code.into(), frame.reason.to_string());
                }
                Message::Text(_) | Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

async fn start() -> Server {
    serve(Setup::default()).await.unwrap()
}

async fn until(counter: &AtomicUsize, wanted: impl Fn(usize) -> bool) {
    let reached = async {
        while !wanted(counter.load(SeqCst)) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, reached).await.expect("the counter never got there");
}

#[tokio::test]
async fn a_subscription_streams_and_completes() {
    let server = start().await;
    let mut socket = Socket::ready(&server).await;
    socket.subscribe("a", "subscription { count(to: 2) }").await;
    for n in 1..=2 {
        assert_eq!(socket.hear().await, json!({ "type": "next", "id": "a", "payload": { "data": { "count": n } } }));
    }
    assert_eq!(socket.hear().await, json!({ "type": "complete", "id": "a" }));
    // The id is free again.
    socket.subscribe("a", "subscription { ...f } fragment f on Subscriptions { ... { count(to: 1) } }").await;
    assert_eq!(socket.hear().await["payload"]["data"]["count"], 1);
}

#[tokio::test]
async fn queries_and_mutations_work_and_a_socket_sees_its_own_writes() {
    let server = start().await;
    let mut socket = Socket::ready(&server).await;
    let mut answer = async |query: &str| {
        socket.subscribe("a", query).await;
        let next = socket.hear().await;
        assert_eq!(socket.hear().await, json!({ "type": "complete", "id": "a" }));
        next["payload"]["data"].clone()
    };
    assert_eq!(answer("{ caller atLeast }").await, json!({ "caller": "toy", "atLeast": null }));
    assert_eq!(answer("mutation { bump }").await, json!({ "bump": 1 }));
    assert_eq!(answer("{ atLeast }").await, json!({ "atLeast": "p1" }));
}

#[tokio::test]
async fn an_operation_names_its_correlation_and_position() {
    let server = start().await;
    let mut socket = Socket::ready(&server).await;
    let extensions = json!({ "correlationId": "order-17", "atLeast": "p9" });
    let payload = json!({ "query": "{ correlation atLeast }", "extensions": extensions });
    socket.say(json!({ "type": "subscribe", "id": "a", "payload": payload })).await;
    assert_eq!(socket.hear().await["payload"]["data"], json!({ "correlation": "order-17", "atLeast": "p9" }));
}

#[tokio::test]
async fn what_is_refused_becomes_an_error_message_and_nothing_follows() {
    let server = start().await;
    let mut socket = Socket::ready(&server).await;
    for (query, code) in [
        ("{", "BAD_USER_INPUT"),
        ("{ nothing }", "BAD_USER_INPUT"),
        ("subscription { nothing }", "BAD_USER_INPUT"),
        ("subscription { count ticks }", "BAD_USER_INPUT"),
        ("query($id: UUID!) { id(id: $id) }", "BAD_USER_INPUT"),
        (&format!("{{ {} }}", "caller ".repeat(21)), "LIMIT_EXCEEDED"),
        (&format!("{{ {}", "[".repeat(9_000)), "LIMIT_EXCEEDED"),
        ("{ boom }", "INTERNAL"),
    ] {
        socket.subscribe("a", query).await;
        let message = socket.hear().await;
        assert_eq!((&message["type"], &message["id"]), (&json!("error"), &json!("a")), "{message}");
        assert_eq!(message["payload"][0]["extensions"]["code"], code, "{message}");
        assert!(!message.to_string().contains("hunter2"));
    }
    socket.subscribe("a", "{ caller }").await;
    assert_eq!(socket.hear().await["type"], "next");
}

#[tokio::test]
async fn a_stream_ends_with_an_error_when_its_cursor_expires_or_it_panics() {
    let server = start().await;
    let mut socket = Socket::ready(&server).await;
    for (query, code) in [("subscription { expiring }", "CURSOR_EXPIRED"), ("subscription { boom }", "INTERNAL")] {
        socket.subscribe("a", query).await;
        assert_eq!(socket.hear().await["type"], "next");
        let message = socket.hear().await;
        assert_eq!(message["type"], "error", "{message}");
        assert_eq!(message["payload"][0]["extensions"]["code"], code, "{message}");
    }
    until(&server.state.live_streams, |live| live == 0).await;
    socket.say(json!({ "type": "ping", "payload": { "n": 1 } })).await;
    assert_eq!(socket.hear().await, json!({ "type": "pong", "payload": { "n": 1 } }));
}

#[tokio::test]
async fn complete_cancels_the_stream_and_frees_its_id_at_once() {
    let server = start().await;
    let mut socket = Socket::ready(&server).await;
    socket.subscribe("a", "subscription { ticks(everyMs: 1) }").await;
    assert_eq!(socket.hear().await["type"], "next");
    socket.say(json!({ "type": "complete", "id": "a" })).await;
    socket.subscribe("a", "subscription { silence }").await;
    socket.say(json!({ "type": "complete", "id": "unknown" })).await;
    socket.say(json!({ "type": "ping" })).await;
    while socket.hear().await["type"] != "pong" {}
    // Whatever was in flight came before the pong; nothing of the old stream may appear under the new one.
    until(&server.state.live_streams, |live| live == 1).await;
    socket.say(json!({ "type": "ping" })).await;
    assert_eq!(socket.hear().await, json!({ "type": "pong" }));
}

#[tokio::test]
async fn streams_end_with_their_socket() {
    let server = start().await;
    let mut socket = Socket::ready(&server).await;
    for id in ["a", "b", "c"] {
        socket.subscribe(id, "subscription { silence }").await;
    }
    until(&server.state.live_streams, |live| live == 3).await;
    assert_eq!(server.sockets.open(), 1);
    drop(socket);
    until(&server.state.live_streams, |live| live == 0).await;
    timeout(PATIENCE, server.sockets.closed()).await.unwrap();
}

#[tokio::test]
async fn a_client_that_closes_gets_its_close_back() {
    let server = start().await;
    let mut socket = Socket::ready(&server).await;
    socket.0.close(None).await.unwrap();
    assert!(matches!(socket.next_frame().await, Some(Ok(Message::Close(_)))));
    timeout(PATIENCE, server.sockets.closed()).await.unwrap();
}

#[tokio::test]
async fn an_invalid_message_closes_with_4400() {
    let server = start().await;
    for message in [
        Message::text("{"),
        Message::text(r#"{"type":"start"}"#),
        Message::text(r#"{"type":"subscribe","id":"1","payload":{"query":1}}"#),
        Message::binary(vec![1, 2, 3]),
    ] {
        let mut socket = Socket::ready(&server).await;
        socket.raw(message).await;
        let (code, reason) = socket.closed().await;
        assert_eq!(code, 4400);
        assert!(reason.starts_with("Invalid message: "), "{reason}");
    }
}

#[tokio::test]
async fn an_operation_before_the_acknowledgement_closes_with_4401() {
    let server = start().await;
    let mut socket = Socket::open(&server).await;
    socket.subscribe("a", "{ caller }").await;
    assert_eq!(socket.closed().await, (4401, "Unauthorized".into()));
}

#[tokio::test]
async fn an_unknown_token_closes_with_4403() {
    let server = start().await;
    for payload in [
        json!(null),
        json!({}),
        json!({ "authorization": "Bearer wrong" }),
        json!({ "authorization": TOKEN }),
        json!({ "authorization": [TOKEN] }),
        json!({ "authorization": format!("Bearer {TOKEN}"), "Authorization": "Bearer wrong" }),
    ] {
        let mut socket = Socket::open(&server).await;
        socket.say(json!({ "type": "connection_init", "payload": payload })).await;
        assert_eq!(socket.closed().await, (4403, "Forbidden".into()), "{payload}");
    }
}

#[tokio::test]
async fn the_token_of_the_handshake_counts_when_the_payload_has_none() {
    let server = start().await;
    let mut request = handshake(&server);
    request.headers_mut().insert("authorization", format!("Bearer {TOKEN}").parse().unwrap());
    let mut socket = Socket(connect_async(request.clone()).await.unwrap().0);
    socket.say(json!({ "type": "connection_init" })).await;
    assert_eq!(socket.hear().await, json!({ "type": "connection_ack" }));
    let mut socket = Socket(connect_async(request).await.unwrap().0);
    socket.say(json!({ "type": "connection_init", "payload": { "authorization": "Bearer wrong" } })).await;
    assert_eq!(socket.closed().await.0, 4403);
}

#[tokio::test]
async fn another_subprotocol_closes_with_4406() {
    let server = start().await;
    let mut request = handshake(&server);
    request.headers_mut().remove("sec-websocket-protocol");
    let mut socket = Socket(connect_async(request).await.unwrap().0);
    assert_eq!(socket.closed().await, (4406, "Subprotocol not acceptable".into()));
}

#[tokio::test]
async fn silence_instead_of_init_closes_with_4408() {
    let mut setup = Setup::default();
    setup.limits.socket.init_timeout = Duration::from_millis(50);
    let server = serve(setup).await.unwrap();
    let mut socket = Socket::open(&server).await;
    socket.say(json!({ "type": "ping" })).await;
    assert_eq!(socket.closed().await, (4408, "Connection initialisation timeout".into()));
}

#[tokio::test]
async fn a_second_subscriber_of_the_same_id_closes_with_4409() {
    let server = start().await;
    let mut socket = Socket::ready(&server).await;
    socket.subscribe("a", "subscription { silence }").await;
    socket.subscribe("a", "{ caller }").await;
    assert_eq!(socket.closed().await, (4409, "Subscriber for a already exists".into()));
    until(&server.state.live_streams, |live| live == 0).await;
}

#[tokio::test]
async fn a_second_init_closes_with_4429() {
    let server = start().await;
    let mut socket = Socket::ready(&server).await;
    socket.say(json!({ "type": "connection_init", "payload": { "authorization": format!("Bearer {TOKEN}") } })).await;
    assert_eq!(socket.closed().await, (4429, "Too many initialisation requests".into()));
}

#[tokio::test]
async fn a_message_that_is_too_long_closes_with_1009() {
    let server = start().await;
    let mut socket = Socket::ready(&server).await;
    // The server may close before all of it is sent.
    let _ = socket.0.send(Message::text("x".repeat(256 * 1024 + 1))).await;
    assert_eq!(socket.closed().await.0, 1009);
}

#[tokio::test]
async fn a_stopping_server_closes_with_1001_and_admits_nobody() {
    let server = start().await;
    let mut socket = Socket::ready(&server).await;
    let mut fresh = Socket::open(&server).await;
    socket.subscribe("a", "subscription { ticks(everyMs: 1) }").await;
    server.stop.send_replace(true);
    assert_eq!(socket.closed().await.0, 1001);
    assert_eq!(fresh.closed().await.0, 1001);
    drop((socket, fresh));
    timeout(PATIENCE, server.sockets.closed()).await.unwrap();
    assert_eq!(refused(handshake(&server)).await, StatusCode::SERVICE_UNAVAILABLE);
}

async fn refused(request: Request<()>) -> StatusCode {
    match connect_async(request).await {
        Err(Error::Http(response)) => {
            assert!(response.headers().contains_key("x-correlation-id"));
            StatusCode::from_u16(response.status().as_u16()).unwrap()
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_foreign_page_may_not_open_a_socket() {
    let origins = OriginPolicy::SameHostAnd(vec!["https://app.example".into()]);
    let server = serve(Setup { origins, ..Setup::default() }).await.unwrap();
    let own = format!("http://{}", server.address);
    for (origin, admitted) in
        [("https://evil.example", false), ("null", false), ("https://app.example", true), (own.as_str(), true)]
    {
        let mut request = handshake(&server);
        request.headers_mut().insert("origin", origin.parse().unwrap());
        if admitted {
            Socket(connect_async(request).await.unwrap().0).init().await;
        } else {
            assert_eq!(refused(request).await, StatusCode::FORBIDDEN, "{origin}");
        }
    }
}

#[tokio::test]
async fn more_sockets_than_allowed_get_503() {
    let server = serve(Setup { sockets: Sockets::new(1), ..Setup::default() }).await.unwrap();
    let socket = Socket::ready(&server).await;
    assert_eq!(refused(handshake(&server)).await, StatusCode::SERVICE_UNAVAILABLE);
    drop(socket);
    timeout(PATIENCE, server.sockets.closed()).await.unwrap();
    Socket::ready(&server).await;
}

#[tokio::test]
async fn more_operations_than_allowed_are_refused_and_the_others_go_on() {
    let mut setup = Setup::default();
    setup.limits.socket.operations_per_socket_max = 2;
    let server = serve(setup).await.unwrap();
    let mut socket = Socket::ready(&server).await;
    for id in ["a", "b", "c"] {
        socket.subscribe(id, "subscription { silence }").await;
    }
    let message = socket.hear().await;
    assert_eq!((&message["type"], &message["id"]), (&json!("error"), &json!("c")));
    assert_eq!(message["payload"][0]["extensions"]["code"], "LIMIT_EXCEEDED");
    socket.say(json!({ "type": "complete", "id": "a" })).await;
    socket.subscribe("c", "{ caller }").await;
    assert_eq!(socket.hear().await["type"], "next");
}

#[tokio::test]
async fn a_reader_that_never_reads_is_dropped_and_costs_no_memory() {
    let mut setup = Setup::default();
    setup.limits.socket.send_timeout = Duration::from_millis(300);
    let server = serve(setup).await.unwrap();
    let mut socket = Socket::ready(&server).await;
    for id in ["a", "b", "c"] {
        socket.subscribe(id, "subscription { flood }").await;
    }
    until(&server.state.live_streams, |live| live == 3).await;
    timeout(PATIENCE, server.sockets.closed()).await.unwrap();
    until(&server.state.live_streams, |live| live == 0).await;
    // 64 KiB each: what the kernel's buffers took, the queue, and one per operation; without a bound it would be as
    // many as the processor makes in the time.
    let yielded = server.state.yielded.load(SeqCst);
    assert!(yielded < 400, "{yielded}");
}

#[tokio::test]
async fn a_peer_that_does_not_answer_pings_is_dropped() {
    let mut setup = Setup::default();
    setup.limits.socket.ping_interval = Duration::from_millis(50);
    let server = serve(setup).await.unwrap();
    let mut alive = Socket::ready(&server).await;
    let silent = Socket::ready(&server).await;
    until_open(&server, 2).await;
    // Reading answers pings; the other socket stays open but nobody reads it.
    tokio::select! {
        _ = async { loop { alive.0.next().await.unwrap().unwrap(); } } => {}
        () = until_open(&server, 1) => {}
    }
    drop(silent);
    alive.say(json!({ "type": "ping" })).await;
    assert_eq!(alive.hear().await, json!({ "type": "pong" }));
}

async fn until_open(server: &Server, wanted: usize) {
    let reached = async {
        while server.sockets.open() != wanted {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, reached).await.expect("the number of sockets never got there");
}
