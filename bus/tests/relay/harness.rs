//! A journal, a NATS server, a relay between them, and a look at what the stream holds.

use async_nats::jetstream;
use daybook_bus::relay::Parts;
use daybook_bus::{Relay, RelayOptions};
use daybook_domain::TenantId;
use daybook_store::journal::recent::Recent;
use daybook_store::journal::{Append, Journal, Known, NewEvent, StreamAppend, StreamId};
use daybook_store::system::{Real, System};
use daybook_testing::nats::NatsServer;
use daybook_testing::{TestDatabase, command, system};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use uuid::Uuid;

pub(crate) const STREAM: &str = "DAYBOOK";

pub(crate) struct World {
    pub(crate) db: TestDatabase,
    pub(crate) nats: NatsServer,
    pub(crate) journal: Journal,
    _writer: JoinHandle<()>,
}

/// One message as a subscriber gets it.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) subject: String,
    pub(crate) id: String,
    pub(crate) content_type: String,
    pub(crate) bytes: Vec<u8>,
}

impl Message {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap()
    }
}

/// Fails instead of hanging.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(30), future).await {
        Ok(done) => done,
        Err(_) => panic!("{what} did not come about"),
    }
}

/// Waits until everything up to a position is acknowledged.
pub(crate) async fn reached(relay: &Relay, position: u64) {
    let waited = tokio::time::timeout(Duration::from_secs(30), relay.reached(position)).await;
    assert!(waited.is_ok(), "position {position} was not reached: {:?}", relay.status());
}

/// Awaits a condition that nobody announces.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    soon(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(NatsServer::start().await).await
    }

    pub(crate) async fn with(nats: NatsServer) -> Self {
        let db = TestDatabase::new().await;
        let (journal, writer) = db.journal().await;
        World { db, nats, journal, _writer: writer }
    }

    pub(crate) fn parts(&self) -> Parts {
        let mut options = RelayOptions::new(&self.nats.url());
        options.retry_min = Duration::from_millis(10);
        options.retry_max = Duration::from_millis(100);
        Parts {
            database: self.db.database().clone(),
            standing: self.journal.standing(),
            recent: Recent::start(self.db.database().clone(), self.journal.durable()).0,
            positions: Arc::new(|tenant, position| format!("opaque:{}:{position}", tenant.0)),
            system: system(),
            options,
        }
    }

    pub(crate) fn relay(&self) -> (Relay, JoinHandle<()>) {
        Relay::start(self.parts())
    }

    /// Appends `platform.tenant.renamed` so many times, to a stream at this version; the last position.
    pub(crate) async fn rename(&self, tenant: TenantId, after: u64, times: u64) -> u64 {
        let events = (1..=times).map(|n| renamed(&format!("name {}", after + n))).collect();
        self.append(tenant, after, events).await
    }

    pub(crate) async fn append(&self, tenant: TenantId, expected: u64, events: Vec<NewEvent>) -> u64 {
        let append = Append {
            tenant,
            command: command(tenant),
            streams: vec![StreamAppend { stream: StreamId { kind: "tenant", id: tenant.0 }, expected, events }],
            reads: vec![],
            claims: vec![],
            releases: vec![],
            not_after: None,
        };
        self.journal.append(append, Known::default()).await.unwrap().last_position
    }

    pub(crate) async fn jetstream(&self) -> jetstream::Context {
        jetstream::new(async_nats::connect(self.nats.url()).await.unwrap())
    }

    /// Deletes the stream, and waits until its files are gone as well: nats-server 2.9 loses messages of a
    /// stream that is made anew before.
    pub(crate) async fn delete_stream(&self) {
        self.jetstream().await.delete_stream(STREAM).await.unwrap();
        let files = self.nats.directory().join("store/jetstream/$G/streams").join(STREAM);
        until("the stream's files are gone", || !files.exists()).await;
    }

    /// Everything in the stream, oldest first.
    pub(crate) async fn messages(&self) -> Vec<Message> {
        let stream = self.jetstream().await.get_stream(STREAM).await.unwrap();
        let last = stream.cached_info().state.last_sequence;
        let mut messages = Vec::new();
        for sequence in 1..=last {
            let message = stream.get_raw_message(sequence).await.unwrap();
            let header = |name| message.headers.get(name).map(ToString::to_string).unwrap_or_default();
            messages.push(Message {
                subject: message.subject.to_string(),
                id: header("Nats-Msg-Id"),
                content_type: header("Content-Type"),
                bytes: message.payload.to_vec(),
            });
        }
        messages
    }

    /// Ids of the public events in the journal, in its order.
    pub(crate) async fn public_ids(&self) -> Vec<String> {
        let sql =
            "select event_id::text from journal.events where event_type like 'platform.tenant.%' order by position";
        let rows = self.db.superuser().await.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Every public event is in the stream once, in the journal's order.
    pub(crate) async fn assert_all_there(&self) {
        let sent: Vec<String> = self.messages().await.into_iter().map(|message| message.id).collect();
        let written = self.public_ids().await;
        assert!(!written.is_empty());
        assert_eq!(sent.len(), written.len());
        let differs = sent.iter().zip(&written).position(|(sent, written)| sent != written);
        assert_eq!(differs, None, "the first message that is out of order");
    }

    /// Position and sequence of the checkpoints that are kept.
    pub(crate) async fn checkpoints(&self) -> Vec<(i64, i64)> {
        let sql = "select position, sequence from projection.relays order by updated_at";
        let rows = self.db.superuser().await.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }
}

pub(crate) fn event(event_type: &str, payload: &str) -> NewEvent {
    let actor = Uuid::from_u128(9);
    NewEvent {
        event_id: Real.uuid_v7(),
        event_type: event_type.into(),
        event_version: 1,
        payload: payload.into(),
        metadata: format!(
            r#"{{"actor":"{actor}","actor_kind":"account","command":"tenant.rename","command_id":"{actor}","correlation":"c-1"}}"#
        ),
    }
}

pub(crate) fn renamed(name: &str) -> NewEvent {
    event("platform.tenant.renamed", &format!(r#"{{"name":"{name}"}}"#))
}

/// Not in any list of public events.
pub(crate) fn internal() -> NewEvent {
    event("platform.account.reactivated", "{}")
}
