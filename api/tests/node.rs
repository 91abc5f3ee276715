//! Two nodes that hand appends to each other over HTTP, and what others get who try to.

use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use daybook_api::node::{self, Link};
use daybook_store::journal::machine::Config;
use daybook_store::journal::{Forward, ForwardError, Journal, JournalOptions, Known};
use daybook_store::system::{Now, Real, SharedSystem, System};
use daybook_testing::{TestDatabase, append, event, system, tenant, test_config};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use uuid::Uuid;

const KEY: [u8; 32] = [7; 32];

async fn node(db: &TestDatabase, key: [u8; 32]) -> (Journal, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let mut options = JournalOptions::new(Real.uuid_v4());
    options.writer = Config { lease_ttl_us: 600_000_000, ..test_config() };
    options.append_timeout = Duration::from_secs(2);
    options.address = Some(address.clone());
    options.forward = Some(Arc::new(Link::new(key, system()).unwrap()));
    let (journal, _) = Journal::start(db.database(), system(), options);
    journal.ready(Instant::now() + Duration::from_secs(20)).await.expect("a writer");
    let router = node::router(journal.clone(), key, system());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (journal, address)
}

/// What an append that came from elsewhere would look like on the wire.
fn signed(key: [u8; 32], time_ms: u64, body: &str) -> Vec<(&'static str, String)> {
    let hash = Sha256::digest(body);
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&key).unwrap();
    for part in [&b"request"[..], &time_ms.to_be_bytes(), &hash] {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    vec![
        ("daybook-node-time", time_ms.to_string()),
        ("daybook-node-body", URL_SAFE_NO_PAD.encode(hash)),
        ("daybook-node-signature", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())),
    ]
}

async fn post(address: &str, headers: Vec<(&'static str, String)>, body: &str) -> StatusCode {
    let mut request = reqwest::Client::new().post(format!("{address}{}", node::PATH)).body(body.to_owned());
    for (name, value) in headers {
        request = request.header(name, value);
    }
    request.send().await.unwrap().status()
}

fn now_ms() -> u64 {
    u64::try_from(Real.utc().timestamp_millis()).unwrap()
}

#[tokio::test]
async fn an_append_goes_to_the_writers_node_and_its_answer_comes_back() {
    let db = TestDatabase::new().await;
    let ((first, _), (second, _)) = (node(&db, KEY).await, node(&db, KEY).await);
    assert!(first.standing().borrow().leading.is_some() && second.standing().borrow().leading.is_none());
    let t = tenant();
    for expected in 0..5 {
        let answer = second.append(append(t, Uuid::from_u128(1), expected, vec![event("{}")]), Known::default()).await;
        assert_eq!(answer.expect("an append").last_tenant_position, expected + 1);
    }
    assert_eq!(first.durable().borrow().position, 5);
}

#[tokio::test]
async fn a_node_with_another_key_is_told_nothing_and_writes_nothing() {
    let db = TestDatabase::new().await;
    let ((first, _), (stranger, _)) = (node(&db, KEY).await, node(&db, [8; 32]).await);
    let refused = stranger.append(append(tenant(), Uuid::from_u128(1), 0, vec![event("{}")]), Known::default()).await;
    let error = refused.expect_err("a refusal").to_string();
    assert!(error.contains("all nodes need the same keys"), "{error}");
    assert_eq!(first.durable().borrow().position, 0);
}

#[tokio::test]
async fn a_request_without_a_good_signature_is_not_there_and_its_body_is_never_read() {
    let db = TestDatabase::new().await;
    let (_journal, address) = node(&db, KEY).await;
    let time = now_ms();
    assert_eq!(post(&address, vec![], "{}").await, StatusCode::NOT_FOUND);
    assert_eq!(post(&address, signed([8; 32], time, "{}"), "{}").await, StatusCode::NOT_FOUND, "another key");
    assert_eq!(post(&address, signed(KEY, time, "{}"), "[]").await, StatusCode::NOT_FOUND, "another body");
    let mut moved = signed(KEY, time, "{}");
    moved[0].1 = (time + 1).to_string();
    assert_eq!(post(&address, moved, "{}").await, StatusCode::NOT_FOUND, "another time");
    for old in [time - 16_000, time + 30_000] {
        assert_eq!(post(&address, signed(KEY, old, "{}"), "{}").await, StatusCode::NOT_FOUND, "out of time");
    }
    // It gets as far as being read, and is no append.
    assert_eq!(post(&address, signed(KEY, time, "{}"), "{}").await, StatusCode::BAD_REQUEST);
    assert_eq!(post(&address, signed(KEY, time, "{}"), "{}").await, StatusCode::NOT_FOUND, "a copy of it");

    // Announced, never sent: the answer is there all the same.
    let mut socket = TcpStream::connect(address.trim_start_matches("http://")).await.unwrap();
    let head = format!("POST {} HTTP/1.1\r\nhost: x\r\ncontent-length: 20000000\r\n\r\n", node::PATH);
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    socket.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 404");
}

/// Answers every connection with these bytes.
async fn impostor(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            // Whatever it says.
            let _ = socket.read(&mut request).await;
            let _ = socket.write_all(answer.as_bytes()).await;
        }
    });
    address
}

#[tokio::test]
async fn only_a_signed_answer_counts_and_only_what_never_arrived_is_not_taken() {
    let link = Link::new(KEY, system()).unwrap();
    let ask = async |address: String| {
        link.forward(address, b"{}".to_vec(), Instant::now() + Duration::from_secs(5)).await.expect_err("no answer")
    };
    let done = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n\"Nothing\"";
    assert!(matches!(ask(impostor(done).await).await, ForwardError::Unanswered(why) if why.contains("not signed")));
    assert!(matches!(ask(impostor("").await).await, ForwardError::Unanswered(_)), "a connection that breaks off");
    let busy = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
    assert!(matches!(ask(impostor(busy).await).await, ForwardError::Unanswered(_)), "a proxy may have passed it on");
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert!(matches!(ask(format!("http://{closed}")).await, ForwardError::NotTaken(_)), "nobody listens");
    assert!(matches!(ask("nonsense".into()).await, ForwardError::NotTaken(_)), "no address at all");
}

/// Another clock.
struct Ahead;

impl System for Ahead {
    fn now(&self) -> Now {
        let now = Real.now();
        Now { wall_us: now.wall_us + 120_000_000, ..now }
    }

    fn random(&self, bytes: &mut [u8]) {
        Real.random(bytes);
    }
}

#[tokio::test]
async fn a_node_whose_clock_is_far_off_is_told_to_look_at_it() {
    let db = TestDatabase::new().await;
    let (_journal, address) = node(&db, KEY).await;
    let ahead: SharedSystem = Arc::new(Ahead);
    let link = Link::new(KEY, ahead).unwrap();
    let refused = link.forward(address, b"{}".to_vec(), Instant::now() + Duration::from_secs(5)).await;
    assert!(matches!(refused, Err(ForwardError::NotTaken(why)) if why.contains("the right time")));
}
