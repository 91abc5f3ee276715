//! The relay: publishes what the journal holds to NATS JetStream, in order, at least once, never before
//! it is durable.
//!
//! It follows the journal from a checkpoint of its own, like a read model does. Every message says which
//! one it has to follow in the stream, so the server itself refuses what would be out of order, and two
//! relays that both believe to be the only one cannot interleave. What the stream holds beyond the checkpoint
//! is looked up before going on, so that nothing is sent twice even when the server's own window for
//! duplicates is long over. Refuses to skip an event that cannot be sent: it waits, and says why.

mod checkpoint;
mod server;
mod session;
mod status;

pub use server::SUBJECTS;
pub use status::{RelayState, RelayStatus};

use crate::cloud_event::{CloudEventError, Positions};
use async_nats::ServerAddr;
use checkpoint::Checkpoints;
use daybook_store::database::{Database, DatabaseError};
use daybook_store::journal::Standing;
use daybook_store::journal::follow::{FollowError, Source};
use daybook_store::journal::recent::Recent;
use daybook_store::system::SharedSystem;
use status::Board;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use uuid::Uuid;

/// Where to publish, and how much at once.
#[derive(Clone)]
pub struct RelayOptions {
    /// `nats://host:4222`; may carry a user and a password, so it is never logged as a whole.
    pub url: String,
    /// A credentials file (`.creds`) of NATS.
    pub credentials: Option<PathBuf>,
    /// Name of the stream.
    pub stream: String,
    /// Messages and bytes that may be unacknowledged at a time.
    pub in_flight_max: usize,
    pub in_flight_bytes_max: usize,
    /// Events per read of the journal.
    pub page: u64,
    /// Events that may be acknowledged and not yet noted in the checkpoint, and for how long.
    pub save_after: u64,
    pub save_every: Duration,
    /// The first and the longest pause before another try.
    pub retry_min: Duration,
    pub retry_max: Duration,
}

impl RelayOptions {
    pub const STREAM: &'static str = "DAYBOOK";

    pub fn new(url: &str) -> Self {
        RelayOptions {
            url: url.to_owned(),
            credentials: None,
            stream: Self::STREAM.to_owned(),
            in_flight_max: 256,
            in_flight_bytes_max: 16 << 20,
            page: 256,
            save_after: 512,
            save_every: Duration::from_millis(200),
            retry_min: Duration::from_millis(100),
            retry_max: Duration::from_secs(5),
        }
    }

    /// # Errors
    /// A sentence that says what is wrong with the address or the stream's name.
    pub fn check(&self) -> Result<(), String> {
        if self.url.parse::<ServerAddr>().is_err() {
            return Err("the NATS address cannot be understood: use nats://host:4222".into());
        }
        let is_token = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if self.stream.is_empty() || self.stream.len() > 64 || !self.stream.chars().all(is_token) {
            return Err(format!("{:?} cannot name a stream: use letters, digits, - and _", self.stream));
        }
        Ok(())
    }

    /// Host and port only.
    pub fn place(&self) -> String {
        match self.url.parse::<ServerAddr>() {
            Ok(address) => format!("{}:{}", address.host(), address.port()),
            Err(_) => "an address that cannot be understood".into(),
        }
    }

    fn pause(&self, failures: u32) -> Duration {
        self.retry_min.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(self.retry_max)
    }
}

/// Why nothing is published at the moment.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    #[error("NATS does not answer at {place} ({reason}): is it running, and is the address right?")]
    Connect { place: String, reason: String },
    #[error("the NATS credentials {} cannot be read", path.display())]
    Credentials { path: PathBuf, source: std::io::Error },
    #[error("the NATS server has no JetStream: start it with --jetstream")]
    NoJetStream,
    #[error("stream {stream} is there, but {reason}: name another one, or correct it")]
    Foreign { stream: String, reason: String },
    #[error("stream {stream} cannot be made: another stream takes subjects of {SUBJECTS} already")]
    Taken { stream: String },
    #[error("NATS does not {what}: {reason}")]
    Server { what: &'static str, reason: String },
    #[error("the connection to NATS was lost")]
    Lost,
    #[error("somebody else published into the stream; it is looked at again")]
    Overtaken,
    #[error("event {event} makes a message of {bytes} bytes, and NATS takes {max}: raise its max_payload")]
    TooLarge { event: Uuid, bytes: usize, max: usize },
    #[error(transparent)]
    Event(#[from] CloudEventError),
    #[error(transparent)]
    Follow(#[from] FollowError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// What a relay works with.
pub struct Parts {
    pub database: Database,
    /// Who leads, and what is durable: only the node that writes relays.
    pub standing: watch::Receiver<Standing>,
    pub recent: Recent,
    pub positions: Positions,
    pub system: SharedSystem,
    pub options: RelayOptions,
}

struct Inner {
    parts: Parts,
    checkpoints: Checkpoints,
    board: Board,
}

impl Inner {
    fn source(&self) -> Source {
        Source::Recent(self.parts.recent.clone())
    }
}

/// A running relay; cloning is cheap.
#[derive(Clone)]
pub struct Relay {
    inner: Arc<Inner>,
    stop: Arc<watch::Sender<bool>>,
}

impl Relay {
    /// The task ends after [`Relay::shutdown`]; aborting it is as good, only slower to take up again.
    pub fn start(parts: Parts) -> (Relay, JoinHandle<()>) {
        let (stop, stopping) = watch::channel(false);
        let checkpoints = Checkpoints::new(&parts.database, parts.system.clone());
        let inner = Arc::new(Inner { parts, checkpoints, board: Board::default() });
        let task = tokio::spawn(supervise(inner.clone(), stopping));
        (Relay { inner, stop: Arc::new(stop) }, task)
    }

    pub fn status(&self) -> RelayStatus {
        let status = self.inner.board.status(self.inner.parts.recent.durable().borrow().position);
        // What another node publishes, that one is behind with.
        let publishes = self.inner.parts.standing.borrow().leading.is_some();
        RelayStatus { lag: if publishes { status.lag } else { 0 }, ..status }
    }

    /// Waits until everything up to a journal position is acknowledged by NATS.
    pub async fn reached(&self, position: u64) {
        self.inner.board.reached(position).await;
    }

    pub fn shutdown(&self) {
        self.stop.send_replace(true);
    }
}

/// Relays whenever this node leads, until told to stop.
async fn supervise(inner: Arc<Inner>, mut stopping: watch::Receiver<bool>) {
    let options = &inner.parts.options;
    let mut standing = inner.parts.standing.clone();
    let mut failures = 0;
    loop {
        inner.board.waiting();
        let leads = tokio::select! {
            // The senders are gone only together with those who could want something of the relay.
            _ = stopping.wait_for(|stop| *stop) => return,
            leads = standing.wait_for(|s| s.leading.is_some()) => leads.is_ok(),
        };
        if !leads {
            return;
        }
        while let Err(error) = session::run(&inner, halted(&mut standing, &mut stopping)).await {
            if inner.board.take_progress() {
                failures = 0;
            }
            failures += 1;
            let reason = chain(&error);
            if inner.board.away(&reason) {
                tracing::warn!(reason, "nothing is published to NATS; it is tried again and again");
            }
            let until = Instant::now() + options.pause(failures);
            tokio::select! {
                () = halted(&mut standing, &mut stopping) => break,
                () = tokio::time::sleep_until(until) => {}
            }
        }
        if *stopping.borrow() {
            inner.board.waiting();
            return;
        }
    }
}

/// Until this node no longer leads, or the relay is to stop.
async fn halted(standing: &mut watch::Receiver<Standing>, stopping: &mut watch::Receiver<bool>) {
    tokio::select! {
        _ = stopping.wait_for(|stop| *stop) => {}
        _ = standing.wait_for(|s| s.leading.is_none()) => {}
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some errors of the client repeat their source.
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_address_and_a_wrong_stream_are_named() {
        let mut options = RelayOptions::new("nats://localhost:4222");
        assert_eq!(options.check(), Ok(()));
        options.stream = "day.book".into();
        assert!(options.check().unwrap_err().contains("day.book"));
        assert!(RelayOptions::new("http://[").check().unwrap_err().contains("nats://host"));
    }

    #[test]
    fn a_password_in_the_address_is_not_shown() {
        assert_eq!(RelayOptions::new("nats://me:secret@nats.example.com:4333").place(), "nats.example.com:4333");
    }

    #[test]
    fn pauses_grow_up_to_the_longest() {
        let options = RelayOptions::new("nats://localhost");
        assert_eq!(options.pause(1), Duration::from_millis(100));
        assert_eq!(options.pause(3), Duration::from_millis(400));
        assert_eq!(options.pause(10_000), Duration::from_secs(5));
    }
}
