//! `graphql-transport-ws` through a real connection: messages, cancellation and every close code.

#[path = "toy/socket.rs"]
mod socket;
mod toy;

use std::time::Duration;

use serde_json::json;
use socket::{PATIENCE, Socket, handshake, start, until};
use tokio::time::timeout;
use tokio_tungstenite::{connect_async, tungstenite::Message};
use toy::{Setup, TOKEN, serve};

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
