//! The journal as an event store of cqrs-es, so that its framework and its tools run on it unchanged.
//!
//! A handle belongs to one tenant and one actor. It hands out nothing that a crash could take back,
//! and refuses metadata that it has no place for. It does not authorize and keeps no state: commands
//! from outside go through the application's executor, which does both.

use crate::codec::{self, CodecError};
use crate::journal::{
    Append, AppendError, ClaimKey, CommandStamp, Journal, Known, Loaded, NewEvent, RecordedEvent, Seen, StreamAppend,
    StreamId, StreamKey,
};
use crate::keys::{KeyFiles, Sealer};
use crate::metadata::Metadata;
use crate::system::SharedSystem;
use cqrs_es::{AggregateContext, AggregateError, EventEnvelope, EventStore};
use daybook_domain::{Actor, EventSourced, KeyScope, PLATFORM_TENANT, Personal, TenantId};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::Arc;
use uuid::Uuid;

type Failed<A> = AggregateError<<A as cqrs_es::Aggregate>::Error>;

/// One tenant's aggregates of one type. Ids of aggregates are UUIDs.
pub struct TenantStore<A> {
    journal: Journal,
    sealer: Sealer,
    files: Arc<KeyFiles>,
    system: SharedSystem,
    tenant: TenantId,
    actor: Actor,
    aggregate: PhantomData<fn() -> A>,
}

/// An aggregate as it was loaded, and what the framework makes of it.
pub struct Loading<A> {
    state: A,
    /// The state that the keys of the new events are taken and released from.
    before: A,
    key: StreamKey,
    version: u64,
    seen: Seen,
}

impl<A: EventSourced> AggregateContext<A> for Loading<A> {
    fn aggregate(&mut self) -> &mut A {
        &mut self.state
    }
}

#[derive(Debug, thiserror::Error)]
enum Misuse {
    #[error("{0} is not an id of an aggregate: it must be a UUID")]
    Id(String),
    #[error("metadata {0} has no place in the journal: use one of {names}, or put it into the event", names = NAMES.join(", "))]
    Name(String),
    #[error("metadata {name} is not a UUID: {value}")]
    Value { name: &'static str, value: String },
}

/// What may be given to `execute_with_metadata`; all of it is read back with the event.
/// The actor is the handle's, never the metadata's.
const NAMES: [&str; 10] = [
    "command",
    "command_id",
    "correlation",
    "causation",
    "session",
    "module",
    "on_behalf_of",
    "consent",
    "ip",
    "user_agent",
];

impl<A: EventSourced + 'static> TenantStore<A> {
    pub fn new(
        journal: Journal,
        sealer: Sealer,
        files: Arc<KeyFiles>,
        system: SharedSystem,
        tenant: TenantId,
        actor: Actor,
    ) -> Self {
        TenantStore { journal, sealer, files, system, tenant, actor, aggregate: PhantomData }
    }

    fn key(&self, aggregate_id: &str) -> Result<StreamKey, Failed<A>> {
        let id = aggregate_id.parse().map_err(|_| unexpected(Misuse::Id(aggregate_id.to_owned())))?;
        Ok(StreamKey { tenant: self.tenant, stream: StreamId { kind: A::TYPE, id } })
    }

    /// A whole stream, durable: what rests on it cannot be taken back.
    async fn load(&self, key: &StreamKey) -> Result<Loaded, Failed<A>> {
        loop {
            let loaded = self.journal.load_ready(key).await.map_err(failed)?;
            match self.journal.wait_durable(loaded.seen).await {
                Ok(()) => return Ok(loaded),
                // The writer changed in between; the look-up waits for the next one, up to its timeout.
                Err(AppendError::Stale) => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }

    /// What a stored event is read as: one event, unless it is of an old version.
    async fn read(&self, recorded: &RecordedEvent) -> Result<Vec<A::Event>, Failed<A>> {
        let payload =
            self.sealer.open(recorded.tenant, recorded.event_id, &recorded.payload).await.map_err(unexpected)?;
        codec::decode(&recorded.origin(), &payload).map_err(undecodable)
    }

    /// All of them have the sequence of the stored one: what is counted is what was written.
    async fn envelopes(&self, recorded: &RecordedEvent) -> Result<Vec<EventEnvelope<A>>, Failed<A>> {
        let text =
            self.sealer.open(recorded.tenant, recorded.event_id, &recorded.metadata).await.map_err(unexpected)?;
        let metadata: Metadata = serde_json::from_str(&text).map_err(undecodable)?;
        let (sequence, metadata) = (usize::try_from(recorded.sequence).map_err(unexpected)?, flat(&metadata));
        let envelope = |payload| EventEnvelope {
            aggregate_id: recorded.stream_id.to_string(),
            sequence,
            payload,
            metadata: metadata.clone(),
        };
        Ok(self.read(recorded).await?.into_iter().map(envelope).collect())
    }

    fn metadata(&self, given: &HashMap<String, String>) -> Result<(Metadata, bool), Misuse> {
        if let Some(unknown) = given.keys().find(|name| !NAMES.contains(&name.as_str())) {
            return Err(Misuse::Name(unknown.clone()));
        }
        let text = |name: &str| given.get(name).cloned();
        let id = |name: &'static str| match given.get(name) {
            None => Ok(None),
            Some(value) => value.parse::<Uuid>().map(Some).map_err(|_| Misuse::Value { name, value: value.clone() }),
        };
        let personal = |name| text(name).map(|value| Personal::known(Metadata::actor_subject(self.actor.id), value));
        let command_id = id("command_id")?;
        let metadata = Metadata {
            actor: self.actor.id,
            actor_kind: self.actor.kind,
            on_behalf_of: id("on_behalf_of")?,
            session: id("session")?,
            ip: personal("ip"),
            user_agent: personal("user_agent"),
            module: text("module"),
            command: text("command").unwrap_or_else(|| format!("{}.{}", A::CONTEXT, A::TYPE)),
            command_id: command_id.unwrap_or_else(|| self.system.uuid_v7()),
            correlation: text("correlation").unwrap_or_default(),
            causation: id("causation")?,
            consent: id("consent")?,
        };
        Ok((metadata, command_id.is_none()))
    }

    async fn append(
        &self,
        events: &[A::Event],
        loading: &Loading<A>,
        metadata: &Metadata,
        fresh: bool,
    ) -> Result<Append, Failed<A>> {
        let text = serde_json::to_string(metadata).map_err(unexpected)?;
        let mut digest = Sha256::new();
        digest.update(loading.key.stream.to_string());
        digest.update(self.actor.id.as_bytes());
        let mut new = Vec::with_capacity(events.len());
        for event in events {
            let encoded = codec::encode(event).map_err(unexpected)?;
            digest.update([0]);
            digest.update(&encoded.event_type);
            digest.update([0]);
            digest.update(&encoded.payload);
            let event_id = self.system.uuid_v7();
            new.push(NewEvent {
                event_id,
                event_type: encoded.event_type,
                event_version: encoded.event_version,
                payload: self.sealer.seal(self.tenant, event_id, encoded.payload).await.map_err(unexpected)?,
                metadata: self.sealer.seal(self.tenant, event_id, text.clone()).await.map_err(unexpected)?,
            });
        }
        let mut hash_key = [0u8; 32];
        self.system.random(&mut hash_key);
        let (mut claims, mut releases) = (Vec::new(), Vec::new());
        for change in loading.before.keys(events) {
            let scope = match change.scope {
                KeyScope::Tenant => self.tenant,
                KeyScope::Platform => PLATFORM_TENANT,
            };
            let claim = ClaimKey { scope, kind: change.kind, hash: self.files.unique_hash(change.kind, &change.key) };
            if change.claim {
                claims.push((claim, loading.key.stream.clone()));
            } else {
                releases.push(claim);
            }
        }
        Ok(Append {
            tenant: self.tenant,
            command: CommandStamp {
                tenant: self.tenant,
                id: metadata.command_id,
                digest: digest.finalize().into(),
                hash_key,
                fresh,
            },
            streams: vec![StreamAppend { stream: loading.key.stream.clone(), expected: loading.version, events: new }],
            reads: Vec::new(),
            claims,
            releases,
            not_after: None,
        })
    }
}

impl<A: EventSourced + 'static> EventStore<A> for TenantStore<A> {
    type AC = Loading<A>;

    async fn load_events(&self, aggregate_id: &str) -> Result<Vec<EventEnvelope<A>>, Failed<A>> {
        let loaded = self.load(&self.key(aggregate_id)?).await?;
        let mut envelopes = Vec::with_capacity(loaded.events.len());
        for recorded in &loaded.events {
            envelopes.extend(self.envelopes(recorded).await?);
        }
        Ok(envelopes)
    }

    async fn load_aggregate(&self, aggregate_id: &str) -> Result<Loading<A>, Failed<A>> {
        let key = self.key(aggregate_id)?;
        let loaded = self.load(&key).await?;
        let version = loaded.events.last().map_or(0, |e| e.sequence);
        let mut state = A::default();
        for recorded in &loaded.events {
            self.read(recorded).await?.into_iter().for_each(|event| state.apply(event));
        }
        Ok(Loading { before: state.clone(), state, key, version, seen: loaded.seen })
    }

    /// Nothing, when there is nothing to write or a repeat was recognised: what is returned was
    /// committed now, so that no query hears of an event twice.
    async fn commit(
        &self,
        events: Vec<A::Event>,
        context: Loading<A>,
        metadata: HashMap<String, String>,
    ) -> Result<Vec<EventEnvelope<A>>, Failed<A>> {
        let (metadata, fresh) = self.metadata(&metadata).map_err(unexpected)?;
        if events.is_empty() && fresh {
            return Ok(Vec::new());
        }
        let append = self.append(&events, &context, &metadata, fresh).await?;
        let known = Known { versions_at: Some(context.seen), unused_at: None };
        let outcome = self.journal.append(append, known).await.map_err(failed)?;
        if outcome.deduplicated {
            return Ok(Vec::new());
        }
        let metadata = flat(&metadata);
        let envelopes = (context.version + 1..).zip(events).map(|(sequence, payload)| {
            Ok(EventEnvelope {
                aggregate_id: context.key.stream.id.to_string(),
                sequence: usize::try_from(sequence).map_err(unexpected)?,
                payload,
                metadata: metadata.clone(),
            })
        });
        envelopes.collect()
    }
}

/// As cqrs-es has it: texts by name. What was erased is left out.
fn flat(metadata: &Metadata) -> HashMap<String, String> {
    let id = |id: Option<Uuid>| id.map(|id| id.to_string());
    let personal = |field: &Option<Personal<String>>| field.as_ref().and_then(Personal::value).cloned();
    [
        ("actor", Some(metadata.actor.to_string())),
        ("command", Some(metadata.command.clone())),
        ("command_id", Some(metadata.command_id.to_string())),
        ("correlation", Some(metadata.correlation.clone())),
        ("causation", id(metadata.causation)),
        ("session", id(metadata.session)),
        ("module", metadata.module.clone()),
        ("on_behalf_of", id(metadata.on_behalf_of)),
        ("consent", id(metadata.consent)),
        ("ip", personal(&metadata.ip)),
        ("user_agent", personal(&metadata.user_agent)),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?)))
    .collect()
}

fn failed<E: std::error::Error>(error: AppendError) -> AggregateError<E> {
    match error {
        AppendError::Conflict { .. } | AppendError::Stale => AggregateError::AggregateConflict,
        AppendError::Unavailable(_) | AppendError::Overloaded | AppendError::UnknownOutcome(_) => {
            AggregateError::DatabaseConnectionError(Box::new(error))
        }
        AppendError::CommandReused(_)
        | AppendError::KeyTaken { .. }
        | AppendError::TooLate
        | AppendError::Invalid(_)
        | AppendError::Database(_) => unexpected(error),
    }
}

fn unexpected<E: std::error::Error>(error: impl std::error::Error + Send + Sync + 'static) -> AggregateError<E> {
    AggregateError::UnexpectedError(Box::new(error))
}

fn undecodable<E: std::error::Error>(error: impl Into<Undecodable>) -> AggregateError<E> {
    AggregateError::DeserializationError(Box::new(error.into()))
}

#[derive(Debug, thiserror::Error)]
enum Undecodable {
    #[error(transparent)]
    Event(#[from] CodecError),
    #[error("the metadata of an event cannot be read")]
    Metadata(#[from] serde_json::Error),
}
