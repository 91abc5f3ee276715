//! GraphQL over Server-Sent Events, distinct connections mode, as a client sees it byte by byte.

#[path = "toy/socket.rs"]
mod socket;
mod toy;

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use daybook_api::transport::{OriginPolicy, Sockets};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, header};
use serde_json::{Value, json};
use socket::{PATIENCE, Socket, start, until};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};
use toy::{Server, Setup, TOKEN, serve};

const STREAM: &str = "text/event-stream";

fn post(server: &Server, accept: &str) -> RequestBuilder {
    Client::new().post(server.url()).bearer_auth(TOKEN).header(header::ACCEPT, accept)
}

async fn open(server: &Server, query: &str) -> Stream {
    let response = post(server, STREAM).json(&json!({ "query": query })).send().await.unwrap();
    Stream::of(response)
}

/// One event: its name, its id and its data.
#[derive(Debug, PartialEq)]
struct Event(String, Option<String>, Value);

fn next(data: Value) -> Event {
    Event("next".into(), None, json!({ "data": data }))
}

fn complete() -> Event {
    Event("complete".into(), None, Value::Null)
}

struct Stream {
    response: Response,
    text: String,
    comments: usize,
}

impl Stream {
    fn of(response: Response) -> Self {
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[header::CONTENT_TYPE], STREAM);
        assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
        assert!(response.headers().contains_key("x-correlation-id"));
        Self { response, text: String::new(), comments: 0 }
    }

    /// The next event; `None` at the end of the answer, however it comes about.
    async fn event(&mut self) -> Option<Event> {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                if block.starts_with(':') {
                    self.comments += 1;
                    continue;
                }
                return Some(parse(&block));
            }
            match timeout(PATIENCE, self.response.chunk()).await.expect("nothing came") {
                Ok(Some(chunk)) => self.text += std::str::from_utf8(&chunk).unwrap(),
                Ok(None) | Err(_) => return None,
            }
        }
    }

    async fn all(mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.event().await {
            events.push(event);
        }
        events
    }
}

fn parse(block: &str) -> Event {
    let (mut name, mut id, mut data) = (None, None, None);
    for line in block.lines() {
        let (field, value) = line.split_once(": ").unwrap_or_else(|| panic!("{line:?} is no field"));
        let slot = match field {
            "event" => &mut name,
            "id" => &mut id,
            "data" => &mut data,
            other => panic!("{other:?} is no field of the protocol"),
        };
        assert!(slot.replace(value.to_owned()).is_none(), "{block:?} has {field} twice");
    }
    Event(name.unwrap(), id, serde_json::from_str(&data.unwrap()).unwrap())
}

fn code(event: &Event) -> &str {
    event.2["errors"][0]["extensions"]["code"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn every_answer_is_a_next_event_and_complete_is_the_last() {
    let server = start().await;
    let events = open(&server, "subscription { count(to: 3) }").await.all().await;
    let expected: Vec<_> = (1..=3).map(|n| next(json!({ "count": n }))).chain([complete()]).collect();
    assert_eq!(events, expected);
    until(&server.state.live_streams, |live| live == 0).await;
    timeout(PATIENCE, server.sockets.closed()).await.unwrap();
}

#[tokio::test]
async fn queries_and_mutations_are_streams_of_one_answer_for_who_prefers_that() {
    let server = start().await;
    assert_eq!(open(&server, "{ caller }").await.all().await, [next(json!({ "caller": "toy" })), complete()]);
    let bumped = open(&server, "mutation { bump }").await.all().await;
    assert_eq!(bumped[0], Event("next".into(), Some("p1".into()), json!({ "data": { "bump": 1 } })));
    // Who takes JSON as well gets it, unless there is more than one answer.
    let both = "application/graphql-response+json, application/json, text/event-stream";
    let single = post(&server, both).json(&json!({ "query": "{ caller }" })).send().await.unwrap();
    assert_eq!(single.headers()[header::CONTENT_TYPE], "application/graphql-response+json; charset=utf-8");
    let many = post(&server, both).json(&json!({ "query": "subscription { count }" })).send().await.unwrap();
    assert_eq!(Stream::of(many).all().await.len(), 4);
    let neither = post(&server, "application/json").json(&json!({ "query": "subscription { count }" }));
    let neither: Value = neither.send().await.unwrap().json().await.unwrap();
    assert!(neither["errors"][0]["message"].as_str().unwrap().contains("text/event-stream"), "{neither}");
}

#[tokio::test]
async fn what_is_wrong_with_the_request_is_an_ordinary_answer() {
    let server = start().await;
    let subscribe = json!({ "query": "subscription { count }" });
    let stranger = Client::new().post(server.url()).header(header::ACCEPT, STREAM);
    let get = Client::new().get(format!("{}?query=subscription%20%7B%20count%20%7D", server.url()));
    let get = get.bearer_auth(TOKEN).header(header::ACCEPT, STREAM);
    let foreign = |kind: &str| post(&server, STREAM).header(header::CONTENT_TYPE, kind).body(subscribe.to_string());
    for (request, status, code) in [
        (stranger.try_clone().unwrap().json(&subscribe), 401, "UNAUTHENTICATED"),
        (stranger.bearer_auth("wrong").json(&subscribe), 401, "UNAUTHENTICATED"),
        (get, 405, "BAD_USER_INPUT"),
        (foreign("text/plain"), 415, "BAD_USER_INPUT"),
        (post(&server, "text/html").json(&subscribe), 406, "BAD_USER_INPUT"),
        (post(&server, STREAM).json(&json!([])), 400, "BAD_USER_INPUT"),
        (post(&server, STREAM).json(&json!({ "query": 1 })), 400, "BAD_USER_INPUT"),
        (post(&server, STREAM).header("last-event-id", "a b").json(&subscribe), 400, "BAD_USER_INPUT"),
        (post(&server, STREAM).header("daybook-at-least", "a b").json(&subscribe), 400, "BAD_USER_INPUT"),
    ] {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json; charset=utf-8");
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["errors"][0]["extensions"]["code"], code, "{body}");
    }
    assert_eq!(server.sockets.open(), 0);
}

#[tokio::test]
async fn what_is_wrong_with_the_document_is_told_by_the_stream() {
    let server = start().await;
    for query in
        ["subscription { nothing }", "{", "subscription { count silence }", "query($x: Int!) { presence(x: $x) }"]
    {
        let events = open(&server, query).await.all().await;
        let [refused, last] = events.as_slice() else { panic!("{query}: {events:?}") };
        assert_eq!((refused.0.as_str(), code(refused)), ("next", "BAD_USER_INPUT"), "{query}: {refused:?}");
        assert!(refused.2.get("data").is_none());
        assert_eq!(*last, complete());
    }
    let deep = format!("subscription {{ {} a {} }}", "a { ".repeat(15), "}".repeat(15));
    assert_eq!(code(&open(&server, &deep).await.all().await[0]), "LIMIT_EXCEEDED");
}

#[tokio::test]
async fn an_error_that_ends_a_stream_completes_it() {
    let server = start().await;
    let events = open(&server, "subscription { expiring }").await.all().await;
    assert_eq!(events.len(), 3, "{events:?}");
    assert_eq!(
        (&events[0], code(&events[1]), &events[2]),
        (&next(json!({ "expiring": 1 })), "CURSOR_EXPIRED", &complete())
    );
    let events = open(&server, "subscription { boom }").await.all().await;
    assert_eq!(code(&events[events.len() - 2]), "INTERNAL", "{events:?}");
    assert!(!format!("{events:?}").contains("divide"), "{events:?}");
    until(&server.state.live_streams, |live| live == 0).await;
}

#[tokio::test]
async fn the_id_of_an_event_is_its_position_and_takes_the_stream_up_again() {
    let server = start().await;
    let query = "subscription($a: String) { steps(after: $a) { n position } }";
    let ids = |events: &[Event]| events.iter().filter_map(|event| event.1.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&open(&server, query).await.all().await), ["p1", "p2", "p3"]);
    for variables in [json!({}), json!({ "a": "p0" }), json!({ "a": null })] {
        let request = post(&server, STREAM).header("last-event-id", "p1");
        let request = request.json(&json!({ "query": query, "variables": variables }));
        let events = Stream::of(request.send().await.unwrap()).all().await;
        assert_eq!(ids(&events), ["p2", "p3"], "{variables}");
        assert_eq!(events[0].2["data"]["steps"]["n"], 2);
    }
    let request = post(&server, STREAM).header("last-event-id", "p2");
    let request = request.json(&json!({ "query": "subscription { steps(after: \"p0\") { at: position } }" }));
    assert_eq!(ids(&Stream::of(request.send().await.unwrap()).all().await), ["p3"]);
    // Where the position is not asked for there is none to tell.
    assert_eq!(ids(&open(&server, "subscription { steps { n } }").await.all().await), [""; 0]);
}

#[tokio::test]
async fn comments_keep_a_silent_stream_open() {
    let mut setup = Setup::default();
    setup.limits.socket.ping_interval = Duration::from_millis(20);
    let server = serve(setup).await.unwrap();
    let mut silent = open(&server, "subscription { silence }").await;
    while silent.comments < 3 {
        let nothing = timeout(Duration::from_millis(50), silent.event()).await;
        assert!(nothing.is_err(), "{nothing:?}");
    }
}

#[tokio::test]
async fn a_revoked_token_ends_its_stream_without_complete() {
    let mut setup = Setup::default();
    setup.limits.socket.ping_interval = Duration::from_millis(50);
    let server = serve(setup).await.unwrap();
    let stream = open(&server, "subscription { silence }").await;
    until(&server.state.live_streams, |live| live == 1).await;
    server.state.revoked.store(true, SeqCst);
    assert_eq!(stream.all().await, []);
    until(&server.state.live_streams, |live| live == 0).await;
}

#[tokio::test]
async fn a_stopping_server_ends_its_streams_without_complete_and_admits_nobody() {
    let server = start().await;
    let mut stream = open(&server, "subscription { ticks(everyMs: 1) }").await;
    assert_eq!(stream.event().await, Some(next(json!({ "ticks": 0 }))));
    server.stop.send_replace(true);
    let rest = stream.all().await;
    assert!(rest.iter().all(|event| event.0 == "next"), "{rest:?}");
    timeout(PATIENCE, server.sockets.closed()).await.unwrap();
    let refused = post(&server, STREAM).json(&json!({ "query": "subscription { count }" })).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.headers().contains_key(header::RETRY_AFTER));
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_its_operation() {
    let server = start().await;
    let mut stream = open(&server, "subscription { ticks(everyMs: 1) }").await;
    assert!(stream.event().await.is_some());
    drop(stream);
    until(&server.state.live_streams, |live| live == 0).await;
    let silent = open(&server, "subscription { silence }").await;
    until(&server.state.live_streams, |live| live == 1).await;
    drop(silent);
    until(&server.state.live_streams, |live| live == 0).await;
    timeout(PATIENCE, server.sockets.closed()).await.unwrap();
}

#[tokio::test]
async fn streams_and_sockets_have_one_limit_and_nobody_takes_all() {
    let subscribe = json!({ "query": "subscription { silence }" });
    let server = serve(Setup { sockets: Sockets::new(2), ..Setup::default() }).await.unwrap();
    let socket = Socket::ready(&server).await;
    let stream = open(&server, "subscription { silence }").await;
    let refused = post(&server, STREAM).json(&subscribe).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    drop((socket, stream));
    timeout(PATIENCE, server.sockets.closed()).await.unwrap();

    let server = serve(Setup { sockets: Sockets::new(9).per_caller(2), ..Setup::default() }).await.unwrap();
    let (socket, stream) = (Socket::ready(&server).await, open(&server, "subscription { silence }").await);
    let refused = post(&server, STREAM).json(&subscribe).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(refused.headers().contains_key(header::RETRY_AFTER));
    let mut third = Socket::open(&server).await;
    third.say(json!({ "type": "connection_init", "payload": { "Authorization": format!("Bearer {TOKEN}") } })).await;
    assert_eq!(third.closed().await.0, 1013);
    drop((socket, stream, third));
    timeout(PATIENCE, server.sockets.closed()).await.unwrap();
    Socket::ready(&server).await;
}

#[tokio::test]
async fn a_reader_that_never_reads_is_dropped_and_costs_no_memory() {
    let mut setup = Setup::default();
    setup.limits.socket.send_timeout = Duration::from_millis(300);
    let server = serve(setup).await.unwrap();
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let body = json!({ "query": "subscription { flood }" }).to_string();
    let request = format!(
        "POST /graphql HTTP/1.1\r\nHost: toy\r\nAuthorization: Bearer {TOKEN}\r\nAccept: {STREAM}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    silent.write_all(request.as_bytes()).await.unwrap();
    until(&server.state.yielded, |yielded| yielded > 0).await;
    until(&server.state.live_streams, |live| live == 0).await;
    // 64 KiB each: what the kernel's buffers took, the queues, and one that waits.
    let yielded = server.state.yielded.load(SeqCst);
    assert!(yielded < 400, "{yielded}");
    // And the connection as well, without the client's doing.
    if cfg!(target_os = "linux") {
        timeout(PATIENCE, server.sockets.closed()).await.unwrap();
    }
    drop(silent);
}

#[tokio::test]
async fn a_listed_page_may_read_a_stream_and_another_may_not() {
    let origins = OriginPolicy::SameHostAnd(vec!["https://app.example".into()]);
    let server = serve(Setup { origins, ..Setup::default() }).await.unwrap();
    for (origin, welcome) in [("https://app.example", true), ("https://evil.example", false)] {
        let preflight = Client::new()
            .request(Method::OPTIONS, server.url())
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization,content-type,last-event-id");
        let stream = post(&server, STREAM).header("origin", origin).json(&json!({ "query": "subscription { count }" }));
        for response in [preflight.send().await.unwrap(), stream.send().await.unwrap()] {
            let allowed = response.headers().get("access-control-allow-origin").map(|value| value.to_str().unwrap());
            assert_eq!(allowed, welcome.then_some(origin));
        }
    }
}
