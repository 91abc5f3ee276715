//! Clients that listen: subscribers that resume where they were, and a consumer of NATS JetStream.

use crate::client::{Api, Subscription};
use crate::history::{Followed, Log, Message, Told};
use async_nats::jetstream;
use async_nats::jetstream::consumer::{DeliverPolicy, pull::OrderedConfig};
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;
use uuid::Uuid;

const EVENTS: &str = "subscription($t: UUID!, $a: Position!) { r: events(tenant: $t, after: $a, heartbeatSeconds: 5) {
    position node { ordinal eventId eventType commandId subject { id } sequence } } }";
const ROWS: &str = "subscription($t: UUID!, $a: Position!) { r: tenantChanged(id: $t, after: $a) {
    position node { name version } } }";
/// The stream that a relay makes.
const STREAM: &str = "DAYBOOK";
const PAUSE: Duration = Duration::from_millis(50);
/// A silence after which a connection is made anew: whoever is cut off need not hear of it.
const SILENCE: Duration = Duration::from_secs(20);
/// The same for the consumer, whose stream tells how far it goes.
const STREAM_SILENCE: Duration = Duration::from_secs(2);
/// A subscriber leaves by himself after so many items, to resume.
const ITEMS_MAX: u64 = 700;

/// One tenant, followed from a position.
pub struct Subscriber {
    pub api: Api,
    pub node: usize,
    pub tenant: Uuid,
    pub what: Followed,
    /// The last position, and its ordinal or version.
    pub after: String,
    pub seen: Arc<AtomicI64>,
    pub stop: Arc<AtomicBool>,
}

impl Subscriber {
    /// Until told to stop, or told that it cannot be taken up.
    ///
    /// # Errors
    /// When the history cannot be written.
    pub async fn run(mut self, mut log: Log<Told>) -> io::Result<()> {
        log.write(&Told::Begun { tenant: self.tenant, after: self.seen.load(Ordering::Relaxed), what: self.what })?;
        while !self.stop.load(Ordering::Relaxed) {
            let why = match self.listen(&mut log).await? {
                Some(code) if code == "CURSOR_EXPIRED" => return log.write(&Told::Ended { code }),
                Some(code) => code,
                None => "the connection is gone".into(),
            };
            log.write(&Told::Resumed { why })?;
            self.node += 1;
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// On one connection, until it ends; why it did, if that was told.
    async fn listen(&mut self, log: &mut Log<Told>) -> io::Result<Option<String>> {
        let query = match self.what {
            Followed::Events => EVENTS,
            Followed::Rows => ROWS,
        };
        let variables = json!({ "t": self.tenant, "a": self.after });
        let mut subscription = match self.api.subscribe(self.node, query, variables).await {
            Ok(subscription) => subscription,
            Err(why) => return Ok(Some(why)),
        };
        for _ in 0..ITEMS_MAX {
            let item = match self.next(&mut subscription).await {
                Ok(item) => item,
                Err(why) => return Ok(why),
            };
            let Some((position, number, line)) = line(self.what, &item) else {
                // A heartbeat: its position is as good as any.
                if let Some(position) = item["r"]["position"].as_str() {
                    self.after = position.to_owned();
                }
                continue;
            };
            log.write(&line)?;
            self.after = position;
            self.seen.store(number, Ordering::Relaxed);
        }
        Ok(Some("enough for one connection".into()))
    }

    async fn next(&self, subscription: &mut Subscription) -> Result<Value, Option<String>> {
        let stopped = async {
            while !self.stop.load(Ordering::Relaxed) {
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::select! {
            item = tokio::time::timeout(SILENCE, subscription.next()) => {
                item.unwrap_or_else(|_| Err(Some("silence".into())))
            }
            () = stopped => Err(Some("stopped".into())),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EventNode {
    ordinal: String,
    event_id: Uuid,
    event_type: String,
    command_id: Option<Uuid>,
    subject: Subject,
    sequence: String,
}

#[derive(Deserialize)]
struct Subject {
    id: Uuid,
}

/// Position, ordinal or version, and what to write down; none for a heartbeat.
fn line(what: Followed, item: &Value) -> Option<(String, i64, Told)> {
    let position = item["r"]["position"].as_str()?.to_owned();
    let node = &item["r"]["node"];
    match what {
        Followed::Events => {
            let node = EventNode::deserialize(node).ok()?;
            let (ordinal, sequence) = (node.ordinal.parse().ok()?, node.sequence.parse().ok()?);
            let told = Told::Event {
                position: position.clone(),
                ordinal,
                event: node.event_id,
                event_type: node.event_type,
                command: node.command_id,
                stream: node.subject.id,
                sequence,
            };
            Some((position, ordinal, told))
        }
        Followed::Rows => {
            let version = node["version"].as_str()?.parse().ok()?;
            let name = node["name"].as_str()?.to_owned();
            Some((position.clone(), version, Told::Row { position, version, name }))
        }
    }
}

/// Reads the whole stream from its beginning, and goes on after any disconnect with the message after the last.
pub struct Consumer {
    pub url: String,
    pub seen: Arc<AtomicU64>,
    pub stop: Arc<AtomicBool>,
}

#[derive(Deserialize)]
struct CloudEvent {
    id: Uuid,
    #[serde(rename = "type")]
    kind: String,
    source: String,
    position: String,
    data: Value,
}

impl Consumer {
    /// Until told to stop.
    ///
    /// # Errors
    /// When the history cannot be written.
    pub async fn run(self, mut log: Log<Message>) -> io::Result<()> {
        while !self.stop.load(Ordering::Relaxed) {
            // Whatever broke: the next connection goes on after the last message.
            if let Err(Fault::Log(error)) = self.consume(&mut log).await {
                return Err(error);
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    async fn consume(&self, log: &mut Log<Message>) -> Result<(), Fault> {
        let client = async_nats::connect(&self.url).await.map_err(|_| Fault::Away)?;
        let stream = jetstream::new(client).get_stream(STREAM).await.map_err(|_| Fault::Away)?;
        let next = self.seen.load(Ordering::Relaxed) + 1;
        let config = OrderedConfig {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: next },
            ..OrderedConfig::default()
        };
        let consumer = stream.create_consumer(config).await.map_err(|_| Fault::Away)?;
        let mut messages = consumer.messages().await.map_err(|_| Fault::Away)?;
        while !self.stop.load(Ordering::Relaxed) {
            let waited = tokio::time::timeout(STREAM_SILENCE, messages.next()).await;
            let message = waited.map_err(|_| Fault::Away)?.ok_or(Fault::Away)?.map_err(|_| Fault::Away)?;
            let sequence = message.info().map_err(|_| Fault::Away)?.stream_sequence;
            if sequence <= self.seen.load(Ordering::Relaxed) {
                // Delivered again by the client library, which began anew by itself.
                continue;
            }
            let event: CloudEvent = serde_json::from_slice(&message.payload).map_err(io::Error::from)?;
            let CloudEvent { id: event, kind, source, position, data } = event;
            let subject = message.subject.to_string();
            log.write(&Message { sequence, subject, event, kind, source, position, data })?;
            self.seen.store(sequence, Ordering::Relaxed);
        }
        Ok(())
    }
}

enum Fault {
    Away,
    Log(io::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Fault::Log(error)
    }
}

/// The last message of the stream, when there is one.
pub async fn last_message(url: &str) -> Option<u64> {
    let client = async_nats::connect(url).await.ok()?;
    let stream = jetstream::new(client).get_stream(STREAM).await.ok()?;
    Some(stream.cached_info().state.last_sequence)
}
