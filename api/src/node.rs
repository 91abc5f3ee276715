//! `POST /internal/append`: what nodes of one journal hand to each other, and the client for it.
//!
//! Both ends hold the same root key. A request is signed over its time and the SHA-256 of its body, its answer over
//! that signature and its own body; the body of a request without a good signature is never read, and a signature is good
//! once. Refuses to say anything to anybody else, also whether it is there.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use daybook_store::journal::{Forward, ForwardError, Forwarded, Journal};
use daybook_store::schema::Identity;
use daybook_store::system::SharedSystem;
use hmac::{Hmac, KeyInit, Mac};
use lru::LruCache;
use sha2::{Digest, Sha256};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The path.
pub const PATH: &str = "/internal/append";
/// The purpose for which nodes of a journal derive their key from the root key. A restored copy is another journal.
pub fn key_purpose(identity: &Identity) -> String {
    format!("daybook node v1 {} {}", identity.journal_id, identity.incarnation_id)
}

/// An append's payloads and metadata, each byte of which JSON may write as two, and their frame.
const BODY_BYTES_MAX: usize = 24 << 20;
/// How far the clocks of two nodes may be apart.
const CLOCKS_MAX_MS: u64 = 15_000;
/// Signatures that are remembered: of half a minute, at ten thousand requests a second.
const SEEN_MAX: NonZeroUsize = NonZeroUsize::new(300_000).unwrap();
/// A node that does not take a connection for so long is away.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// Open connections to the writer's node that wait for the next request.
const IDLE_MAX: usize = 256;
/// How long they wait: less than `Patience::head_max`.
const IDLE_FOR: Duration = Duration::from_secs(30);

const TIME: &str = "daybook-node-time";
const BODY_HASH: &str = "daybook-node-body";
const SIGNATURE: &str = "daybook-node-signature";
/// What a request carries.
pub(crate) const HEADERS: [&str; 3] = [TIME, BODY_HASH, SIGNATURE];

type Signature = [u8; 32];

/// What two nodes have in common.
#[derive(Clone)]
struct Shared {
    key: [u8; 32],
    system: SharedSystem,
}

impl Shared {
    fn mac(&self, parts: [&[u8]; 3]) -> Hmac<Sha256> {
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        for part in parts {
            // Lengths first, or a byte could move from one part to the next.
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac
    }

    fn of_request(&self, time_ms: u64, body_hash: &[u8]) -> Hmac<Sha256> {
        self.mac([b"request", &time_ms.to_be_bytes(), body_hash])
    }

    fn of_answer(&self, request: &Signature, body: &[u8]) -> Hmac<Sha256> {
        self.mac([b"answer", request, body])
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.system.utc().timestamp_millis()).unwrap_or_default()
    }
}

/// The route of a node that others hand their appends to.
pub fn router(journal: Journal, key: [u8; 32], system: SharedSystem) -> Router {
    let seen = Mutex::new(LruCache::new(SEEN_MAX));
    let door = Arc::new(Door { journal, shared: Shared { key, system }, seen });
    Router::new().route(PATH, any(take)).with_state(door)
}

struct Door {
    journal: Journal,
    shared: Shared,
    /// Signatures that were good; a copy of a request is not.
    seen: Mutex<LruCache<Signature, ()>>,
}

async fn take(State(door): State<Arc<Door>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    // Another method is as if nothing were here, too.
    let admitted = (parts.method == Method::POST).then(|| door.admit(&parts.headers)).flatten();
    let Some((signature, body_hash)) = admitted else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let Ok(body) = to_bytes(body, BODY_BYTES_MAX).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    if Sha256::digest(&body)[..] != body_hash || !door.is_first(signature) {
        return StatusCode::NOT_FOUND.into_response();
    }
    match door.journal.take_over_request(&body).await {
        Ok(answer) => {
            let signed = text(&door.shared.of_answer(&signature, &answer).finalize().into_bytes());
            ([(SIGNATURE, signed)], Body::from(answer)).into_response()
        }
        Err(error) => {
            tracing::warn!(%error, "another node handed over what this one cannot read");
            (StatusCode::BAD_REQUEST, error.to_string()).into_response()
        }
    }
}

impl Door {
    /// The signature of a request and the hash that its body must have, if both are good.
    fn admit(&self, headers: &HeaderMap) -> Option<(Signature, Signature)> {
        let sent = |name: &str| headers.get(name)?.to_str().ok();
        let time_ms: u64 = sent(TIME)?.parse().ok()?;
        let (signature, body_hash) = (bytes(sent(SIGNATURE)?)?, bytes(sent(BODY_HASH)?)?);
        self.shared.of_request(time_ms, &body_hash).verify_slice(&signature).ok()?;
        let apart_ms = self.shared.now_ms().abs_diff(time_ms);
        if apart_ms > CLOCKS_MAX_MS {
            tracing::warn!(apart_ms, "the clock of another node is too far from this one's: set both");
            return None;
        }
        Some((signature, body_hash))
    }

    /// Whether a good request with this signature comes for the first time.
    fn is_first(&self, signature: Signature) -> bool {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).put(signature, ()).is_none()
    }
}

/// The way to other nodes.
#[derive(Clone)]
pub struct Link {
    http: reqwest::Client,
    shared: Shared,
}

impl Link {
    /// # Errors
    /// When no client can be made on this machine.
    pub fn new(key: [u8; 32], system: SharedSystem) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_MAX)
            .pool_max_idle_per_host(IDLE_MAX)
            // Before the other end lets go of it, or a request could meet that.
            .pool_idle_timeout(IDLE_FOR)
            // What a proxy of this machine's makes of it, the other node could not check.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Link { http, shared: Shared { key, system } })
    }

    async fn hand_over(self, address: String, request: Vec<u8>, deadline: Instant) -> Result<Vec<u8>, ForwardError> {
        let not_taken = |reason: String| Err(ForwardError::NotTaken(reason));
        let unanswered = |reason: String| Err(ForwardError::Unanswered(reason));
        let body_hash = Sha256::digest(&request);
        let time_ms = self.shared.now_ms();
        let signature: Signature = self.shared.of_request(time_ms, &body_hash).finalize().into_bytes().into();
        let sent = self
            .http
            .post(format!("{}{PATH}", address.trim_end_matches('/')))
            .header(TIME, time_ms)
            .header(BODY_HASH, text(&body_hash))
            .header(SIGNATURE, text(&signature))
            .timeout(deadline.saturating_duration_since(Instant::now()))
            .body(request)
            .send()
            .await;
        let response = match sent {
            Ok(response) => response,
            Err(error) if error.is_connect() || error.is_builder() => {
                return not_taken(format!("{address} cannot be reached"));
            }
            Err(_) => return unanswered(format!("{address} broke off")),
        };
        let status = response.status();
        let signed = response.headers().get(SIGNATURE).and_then(|value| bytes(value.to_str().ok()?));
        match status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => {
                return not_taken(format!(
                    "{address} does not know this node: all nodes need the same keys and the right time"
                ));
            }
            status if status.is_client_error() => return not_taken(format!("{address} answered {status}")),
            status => return unanswered(format!("{address} answered {status}")),
        }
        let Ok(answer) = response.bytes().await else { return unanswered(format!("{address} broke off")) };
        let good =
            signed.is_some_and(|signed| self.shared.of_answer(&signature, &answer).verify_slice(&signed).is_ok());
        if good { Ok(answer.into()) } else { unanswered(format!("the answer is not signed by the node at {address}")) }
    }
}

impl Forward for Link {
    fn forward(&self, address: String, request: Vec<u8>, deadline: Instant) -> Forwarded {
        Box::pin(self.clone().hand_over(address, request, deadline))
    }
}

fn text(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn bytes(text: &str) -> Option<Signature> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}
