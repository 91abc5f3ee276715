//! Sockets that are too many, too loud, too slow, foreign, revoked or in the way of a stop.

#[path = "toy/socket.rs"]
mod socket;
mod toy;

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use axum::http::{Request, StatusCode};
use daybook_api::transport::{OriginPolicy, Sockets, StrangerLimits};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use socket::{PATIENCE, Socket, handshake, start, until};
use tokio::time::timeout;
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Error, Message},
};
use toy::{Server, Setup, TOKEN, serve};

#[tokio::test]
async fn a_revoked_token_ends_its_socket_at_the_next_operation_or_ping() {
    let mut setup = Setup::default();
    setup.limits.socket.ping_interval = Duration::from_millis(50);
    let server = serve(setup).await.unwrap();
    let (mut busy, mut idle) = (Socket::ready(&server).await, Socket::ready(&server).await);
    idle.subscribe("a", "subscription { silence }").await;
    until(&server.state.live_streams, |live| live == 1).await;
    server.state.revoked.store(true, SeqCst);
    busy.subscribe("a", "{ caller }").await;
    let over = (4403, "The token is no longer good: connect again with a new one".to_owned());
    assert_eq!(busy.closed().await, over);
    assert_eq!(idle.closed().await, over);
    until(&server.state.live_streams, |live| live == 0).await;
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

/// Attack 27: sockets that never say who they are.
#[tokio::test]
async fn attack_27_sockets_that_never_say_who_they_are_take_no_place_of_those_who_do() {
    let strangers = StrangerLimits { sockets_max: 2, per_address_max: 100 };
    let mut setup = Setup { sockets: Sockets::new(4).strangers(strangers), ..Setup::default() };
    setup.limits.socket.init_timeout = Duration::from_secs(2);
    let server = serve(setup).await.unwrap();
    let mut known = Socket::ready(&server).await;
    let mut silent = [Socket::open(&server).await, Socket::open(&server).await];
    assert_eq!((server.sockets.open(), server.sockets.open_of_strangers()), (3, 2));
    assert_eq!(refused(handshake(&server)).await, StatusCode::SERVICE_UNAVAILABLE);
    // Whoever is known goes on, and comes in: the places of the known are all there.
    known.subscribe("a", "{ caller }").await;
    assert_eq!(known.hear().await["type"], "next");
    let mut streams = Vec::new();
    for _ in 0..3 {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = client.post(server.url()).bearer_auth(TOKEN).header("accept", "text/event-stream");
        let stream = request.json(&json!({ "query": "subscription { silence }" })).send().await.unwrap();
        assert_eq!(stream.status(), 200);
        streams.push(stream);
    }
    for socket in &mut silent {
        assert_eq!(socket.closed().await.0, 4408);
    }
    drop(silent);
    until_open(&server, 4).await;
    // Now the places of the known are taken, and a stranger would wait for nothing.
    assert_eq!(server.sockets.open_of_strangers(), 0);
    assert_eq!(refused(handshake(&server)).await, StatusCode::SERVICE_UNAVAILABLE);
    drop(streams);
    until_open(&server, 1).await;
    Socket::ready(&server).await;
}

/// Attack 27: the last place was taken between the handshake and the first word.
#[tokio::test]
async fn a_socket_that_says_who_it_is_and_finds_all_places_taken_is_closed_with_1013() {
    let server = serve(Setup { sockets: Sockets::new(1), ..Setup::default() }).await.unwrap();
    let mut late = Socket::open(&server).await;
    let _known = Socket::ready(&server).await;
    late.say(json!({ "type": "connection_init", "payload": { "Authorization": format!("Bearer {TOKEN}") } })).await;
    let (code, reason) = late.closed().await;
    assert!(code == 1013 && reason.contains("again later"), "{code} {reason}");
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
    until(&server.state.yielded, |yielded| yielded > 0).await;
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

#[tokio::test]
async fn an_account_that_asks_too_often_is_told_when_to_come_back_on_http_and_on_sockets() {
    let rates = daybook_api::transport::RateLimits {
        per_account: std::num::NonZeroU32::new(1),
        ..daybook_api::transport::RateLimits::NONE
    };
    let server = serve(Setup { rates, ..Setup::default() }).await.unwrap();
    let mut socket = Socket::ready(&server).await;
    let mut answered = 0;
    let refused = loop {
        let http = reqwest::Client::new().post(format!("http://{}/graphql", server.address)).bearer_auth(TOKEN);
        let response = http
            .header("accept", "application/graphql-response+json")
            .json(&json!({ "query": "{ caller }" }))
            .send()
            .await
            .unwrap();
        if response.status() != 200 {
            break response;
        }
        answered += 1;
        assert!(answered < 1_000, "nobody was refused");
    };
    assert!(answered >= 5, "five are let through at once, not {answered}");
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.headers()["retry-after"], "1");
    let body: Value = refused.json().await.unwrap();
    assert_eq!(body["errors"][0]["extensions"]["code"], "RATE_LIMITED");
    // The same account on a socket, which stays open.
    let mut refusals = 0;
    for n in 0..3 {
        socket.subscribe(&n.to_string(), "{ caller }").await;
        let answer = socket.hear().await;
        if answer["type"] == "error" {
            assert_eq!(answer["payload"][0]["extensions"], json!({ "code": "RATE_LIMITED", "retryAfterS": 1 }));
            refusals += 1;
        } else {
            assert_eq!(socket.hear().await["type"], "complete");
        }
    }
    assert!(refusals > 0);
}
