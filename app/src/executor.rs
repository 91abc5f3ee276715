//! Load (or remember), decide, append, apply: one command at a time per call, many calls at once.

use crate::authorize::{Authorized, Denied};
use crate::cache::{Cache, Cached};
use crate::identity::heard::Heard;
use crate::snapshots::{Found, Snapshots};
use chrono::{DateTime, Utc};
use daybook_domain::condition::{Claims, Condition};
use daybook_domain::personal::Personal;
use daybook_domain::{Context, EventIds, EventSourced, KeyScope, PLATFORM_TENANT, TenantId, Versioned};
use daybook_store::codec;
use daybook_store::database::DatabaseError;
use daybook_store::journal::{
    Append, AppendError, ClaimKey, CommandStamp, Journal, Known, Loaded, NewEvent, Outcome, RecordedEvent, Seen,
    StreamAppend, StreamId, StreamKey,
};
use daybook_store::keys::{KeyFiles, Sealer};
use daybook_store::metadata::Metadata;
use daybook_store::system::SharedSystem;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use tokio::sync::{Mutex, MutexGuard};
use uuid::Uuid;

/// States kept in memory.
const STATES_MAX: usize = 100_000;
/// How often a command is decided anew when others write to the same stream at the same time.
const ATTEMPTS_MAX: usize = 16;
/// Queues of those who lost a race for a stream; streams share them.
const TURNS: usize = 64;

/// What surrounds a command besides itself and its caller.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// The client's id of the command; a repeat with the same id is answered, not repeated.
    pub command_id: Option<Uuid>,
    /// Refuse unless the stream has exactly this many events.
    pub expected_version: Option<u64>,
    /// Refuse when it would be recorded later.
    pub not_after: Option<DateTime<Utc>>,
    /// Where the record of the command lives, if not in the tenant of its events.
    pub record_in: Option<TenantId>,
    pub correlation: String,
    pub ip: Option<String>,
    pub user_agent: Option<String>,
}

/// What became of a command.
#[derive(Debug)]
pub struct Executed<A> {
    pub outcome: Outcome,
    /// The state that it was decided on; none for a repeat.
    pub(crate) before: Option<Arc<Cached<A>>>,
    /// The state after it; none for a repeat, whose stream may have moved on since.
    pub state: Option<A>,
    pub version: Option<u64>,
}

impl<A> Executed<A> {
    /// Of a command that was carried out before.
    fn again(outcome: Outcome) -> Self {
        Executed { outcome, before: None, state: None, version: None }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ExecuteError<R: std::error::Error + 'static> {
    /// What the business refuses: data for the caller.
    #[error(transparent)]
    Refused(R),
    /// The caller may not do this to this record, or may not know whether there is one.
    #[error(transparent)]
    Denied(Denied),
    #[error("the {kind} has version {actual}, not {expected}: read it again and decide anew")]
    Conflict { kind: &'static str, expected: u64, actual: u64 },
    #[error(transparent)]
    Append(AppendError),
    #[error("a stored event cannot be read")]
    Codec(#[from] codec::CodecError),
    #[error("personal data cannot be sealed or opened")]
    Seal(#[from] daybook_store::keys::SealError),
    #[error("the journal cannot be read")]
    Database(#[from] DatabaseError),
}

/// Carries out authorized commands. Cloning is cheap.
#[derive(Clone)]
pub struct Executor {
    pub(crate) journal: Journal,
    pub(crate) sealer: Sealer,
    pub(crate) files: Arc<KeyFiles>,
    pub(crate) system: SharedSystem,
    pub(crate) cache: Arc<Cache>,
    turns: Arc<[Mutex<()>; TURNS]>,
    /// Other nodes write as well, and what they write does not pass through this one's memory.
    shared: bool,
    snapshots: Option<Snapshots>,
    heard: Option<Arc<Heard>>,
}

impl Executor {
    pub fn new(journal: Journal, sealer: Sealer, files: Arc<KeyFiles>, system: SharedSystem) -> Self {
        let turns = Arc::new(std::array::from_fn(|_| Mutex::new(())));
        let shared = journal.elsewhere().is_some();
        let cache = Arc::new(Cache::new(STATES_MAX));
        Executor { journal, sealer, files, system, cache, turns, shared, snapshots: None, heard: None }
    }

    /// Loads long streams from snapshots, and keeps some. Without, every load folds all events.
    #[must_use]
    pub fn with_snapshots(self, snapshots: Snapshots) -> Self {
        Executor { snapshots: Some(snapshots), ..self }
    }

    /// Tells at once what is written here, for who looks at accounts and sessions.
    #[must_use]
    pub fn heard_by(self, heard: Arc<Heard>) -> Self {
        Executor { heard: Some(heard), ..self }
    }

    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Carries out a command on one stream. The answer is durable, and so is all that it rests on.
    ///
    /// # Errors
    /// [`ExecuteError::Refused`] by the domain; everything else by the journal.
    pub async fn execute<A>(
        &self,
        authorized: Authorized<A::Command>,
        id: Uuid,
        call: Call,
    ) -> Result<Executed<A>, ExecuteError<A::Error>>
    where
        A: EventSourced + Send + Sync + 'static,
        A::Command: Clone + Serialize,
    {
        self.execute_beside::<A, A::Error, _>(authorized, id, call, &Alone).await
    }

    /// As [`Executor::execute`], where other streams have a say: they are looked at before each decision, and the
    /// append is refused, and decided anew, if one of them has moved by then.
    pub(crate) async fn execute_beside<A, R, B>(
        &self,
        authorized: Authorized<A::Command>,
        id: Uuid,
        call: Call,
        beside: &B,
    ) -> Result<Executed<A>, ExecuteError<R>>
    where
        A: EventSourced + Send + Sync + 'static,
        A::Command: Clone + Serialize,
        R: From<A::Error> + std::error::Error + 'static,
        B: Beside<R>,
    {
        // Apart from what awaits it: resolvers are deep, and a compiler follows a future only so far into others.
        Box::pin(self.carry_out::<A, R, B>(authorized, id, call, beside)).await
    }

    async fn carry_out<A, R, B>(
        &self,
        authorized: Authorized<A::Command>,
        id: Uuid,
        call: Call,
        beside: &B,
    ) -> Result<Executed<A>, ExecuteError<R>>
    where
        A: EventSourced + Send + Sync + 'static,
        A::Command: Clone + Serialize,
        R: From<A::Error> + std::error::Error + 'static,
        B: Beside<R>,
    {
        let Authorized { command, action, tenant, credential, condition } = authorized;
        let images = condition.map(|condition| Images { condition, claims: credential.claims(), id });
        let key = StreamKey { tenant, stream: StreamId { kind: A::TYPE, id } };
        let command_id = call.command_id.unwrap_or_else(|| self.system.uuid_v7());
        let mut hash_key = [0u8; 32];
        self.system.random(&mut hash_key);
        let stamp = CommandStamp {
            tenant: call.record_in.unwrap_or(tenant),
            id: command_id,
            digest: digest(action.as_str(), &key, credential.actor.id, call.expected_version, &command),
            hash_key,
            fresh: call.command_id.is_none(),
        };
        let context = Context {
            id,
            tenant,
            actor: credential.actor,
            now: self.system.utc(),
            // From the command's id where the client gave one, so that a repeat decides the same.
            ids: EventIds { seed: Uuid::new_v5(&credential.actor.id, command_id.as_bytes()) },
        };
        let metadata = Metadata {
            actor: credential.actor.id,
            actor_kind: credential.actor.kind,
            on_behalf_of: None,
            session: credential.session,
            ip: call.ip.map(|ip| Personal::known(Metadata::actor_subject(credential.actor.id), ip)),
            user_agent: call.user_agent.map(|ua| Personal::known(Metadata::actor_subject(credential.actor.id), ua)),
            module: None,
            command: action.as_str().to_owned(),
            command_id,
            correlation: call.correlation,
            causation: None,
            consent: None,
        };
        let metadata =
            serde_json::to_string(&metadata).map_err(|_| codec::CodecError::Shape { event_type: "metadata".into() })?;

        let mut turn = None;
        // What is remembered may have been overtaken, by a command whose caller went away before its answer, for
        // instance. An append finds out; a refusal rests only on what was read for it.
        let mut read_for_it = false;
        for attempt in 1.. {
            // A repeat is answered before anything is decided: its stream has moved on since.
            let mut unused_at = None;
            if !stamp.fresh {
                match self.journal.earlier(&stamp).await.map_err(ExecuteError::Append)? {
                    Ok(outcome) => return Ok(Executed::again(outcome)),
                    Err(seen) => unused_at = Some(seen),
                }
            }
            let cached = self.state::<A, R>(&key).await?;
            // Before anything is said of the record, also that it is not there.
            if let Some(images) = &images
                && !images.permit_before(&*cached)
            {
                if !std::mem::replace(&mut read_for_it, true) {
                    self.cache.forget(&key);
                    continue;
                }
                return Err(ExecuteError::Denied(Denied { action }));
            }
            if let Some(expected) = call.expected_version.filter(|e| *e != cached.version) {
                if !std::mem::replace(&mut read_for_it, true) {
                    self.cache.forget(&key);
                    continue;
                }
                if self.settled(&key, cached.seen).await {
                    if let Some(executed) = self.earlier_after_all(&stamp, unused_at).await? {
                        return Ok(executed);
                    }
                    return Err(ExecuteError::Conflict { kind: A::TYPE, expected, actual: cached.version });
                }
                continue;
            }
            let looked = beside.look(self, tenant).await?;
            if looked.refusal.is_some() && !self.all_settled(&looked.at).await && attempt < ATTEMPTS_MAX {
                continue;
            }
            let decided = match looked.refusal {
                Some(refusal) => Err(refusal),
                None => cached.state.decide(&context, command.clone()).map_err(R::from),
            };
            let events = match decided {
                Ok(events) => events,
                Err(_) if !std::mem::replace(&mut read_for_it, true) => {
                    self.cache.forget(&key);
                    looked.at.iter().for_each(|at| self.cache.forget(&at.key));
                    continue;
                }
                // A refusal may rest on events that a crash could still take back.
                Err(_) if !self.settled(&key, cached.seen).await && attempt < ATTEMPTS_MAX => continue,
                // Of what is not there yet, nothing is known that could permit to be told so.
                Err(_) if images.is_some() && cached.version == 0 => {
                    return Err(ExecuteError::Denied(Denied { action }));
                }
                Err(refusal) => {
                    return match self.earlier_after_all(&stamp, unused_at).await? {
                        Some(executed) => Ok(executed),
                        None => Err(ExecuteError::Refused(refusal)),
                    };
                }
            };
            if let Some(images) = &images
                && !images.permit_after(&*cached, &events)
            {
                return Err(ExecuteError::Denied(Denied { action }));
            }
            let mut append = self.append(&key, &stamp, &cached, &events, &metadata, call.not_after).await?;
            // An append names streams of its own tenant only.
            let own = looked.at.iter().filter(|at| at.key.tenant == tenant);
            append.reads = own.map(|at| (at.key.stream.clone(), at.version)).collect();
            let Some(seen) = looked.at.iter().try_fold(cached.seen, |seen, at| earlier_of(seen, at.seen)) else {
                // Remembered from two epochs: no one moment vouches for both.
                looked.at.iter().for_each(|at| self.cache.forget(&at.key));
                self.cache.forget(&key);
                if attempt < ATTEMPTS_MAX {
                    continue;
                }
                return Err(ExecuteError::Append(AppendError::Stale));
            };
            let last = append.streams.iter().flat_map(|stream| &stream.events).last().map(|event| event.event_id);
            let known = Known { versions_at: Some(seen), unused_at };
            match self.journal.append(append, known).await {
                Ok(outcome) if outcome.deduplicated => return Ok(Executed::again(outcome)),
                Ok(outcome) => {
                    let version = cached.version + events.len() as u64;
                    let mut state = cached.state.clone();
                    for event in events {
                        state.apply(event);
                    }
                    if let (Some(snapshots), Some(last)) = (&self.snapshots, last) {
                        snapshots.offer(&key, &state, (cached.version, version), last, outcome.seen);
                    }
                    if let Some(heard) = &self.heard {
                        heard.tell(&key, version);
                    }
                    let before = Some(cached.clone());
                    let cached = Cached { state: state.clone(), version, seen: outcome.seen };
                    self.cache.put(key, Arc::new(cached));
                    return Ok(Executed { outcome, before, state: Some(state), version: Some(version) });
                }
                Err(AppendError::Conflict { stream, expected, actual }) => {
                    self.cache.forget(&StreamKey { tenant, stream: stream.clone() });
                    let own = stream == key.stream;
                    if (own && call.expected_version.is_some()) || attempt >= ATTEMPTS_MAX {
                        return Err(ExecuteError::Conflict { kind: stream.kind, expected, actual });
                    }
                    // All at once again, and the unlucky would lose every time.
                    if turn.is_none() {
                        turn = Some(self.turn(&key).await);
                    }
                }
                Err(AppendError::Stale) if attempt < ATTEMPTS_MAX => {
                    self.cache.forget(&key);
                    looked.at.iter().for_each(|at| self.cache.forget(&at.key));
                }
                Err(error) => return Err(ExecuteError::Append(error)),
            }
        }
        unreachable!("the loop ends by an answer")
    }

    /// What an earlier attempt led to that was still on its way when this one was decided on.
    async fn earlier_after_all<A, R: std::error::Error + 'static>(
        &self,
        stamp: &CommandStamp,
        unused_at: Option<Seen>,
    ) -> Result<Option<Executed<A>>, ExecuteError<R>> {
        let Some(unused_at) = unused_at else { return Ok(None) };
        let earlier = self.journal.refusable(stamp, unused_at).await.map_err(ExecuteError::Append)?;
        Ok(earlier.map(Executed::again))
    }

    /// Waits until it is this caller's turn among those who try again on this stream.
    pub(crate) async fn turn(&self, key: &StreamKey) -> MutexGuard<'_, ()> {
        self.turns[usize::from(key.stream.id.as_bytes()[15]) % TURNS].lock().await
    }

    /// Whether what was seen then will never be taken back; forgets it otherwise.
    async fn settled(&self, key: &StreamKey, seen: Seen) -> bool {
        let settled = self.journal.wait_durable(seen).await.is_ok();
        if !settled {
            self.cache.forget(key);
        }
        settled
    }

    async fn all_settled(&self, looked: &[LookedAt]) -> bool {
        for at in looked {
            if !self.settled(&at.key, at.seen).await {
                return false;
            }
        }
        true
    }

    /// The state of a stream as remembered, or loaded. It may not be durable yet.
    pub(crate) async fn state<A, R>(&self, key: &StreamKey) -> Result<Arc<Cached<A>>, ExecuteError<R>>
    where
        A: EventSourced + Send + Sync + 'static,
        R: std::error::Error + 'static,
    {
        let epoch = self.journal.epoch();
        if let Some(cached) = self.cache.get::<A>(key).filter(|c| Some(c.seen.epoch) == epoch) {
            return Ok(cached);
        }
        let cached = Arc::new(self.load::<A, R>(key).await?);
        self.cache.put(key.clone(), cached.clone());
        Ok(cached)
    }

    /// As [`Executor::state`], for who decides on it without naming it in an append: of several nodes, this one may
    /// not have heard yet what another wrote.
    pub(crate) async fn present_state<A, R>(&self, key: &StreamKey) -> Result<Arc<Cached<A>>, ExecuteError<R>>
    where
        A: EventSourced + Send + Sync + 'static,
        R: std::error::Error + 'static,
    {
        if self.shared {
            self.cache.forget(key);
        }
        self.state(key).await
    }

    /// Whether a state in memory may be older than the journal without this node having had a part in it.
    pub(crate) fn is_one_of_several(&self) -> bool {
        self.shared
    }

    async fn load<A, R>(&self, key: &StreamKey) -> Result<Cached<A>, ExecuteError<R>>
    where
        A: EventSourced + Send + Sync + 'static,
        R: std::error::Error + 'static,
    {
        self.load_from::<A, R>(key, &Source { journal: &self.journal, ready: true }).await
    }

    /// The state of a stream as it is stored, from a snapshot where there is one; whoever writes, and also while nobody does.
    /// Nothing is remembered.
    pub(crate) async fn stored<A, R>(&self, key: &StreamKey) -> Result<Cached<A>, ExecuteError<R>>
    where
        A: EventSourced + Send + Sync + 'static,
        R: std::error::Error + 'static,
    {
        self.load_from::<A, R>(key, &Source { journal: &self.journal, ready: false }).await
    }

    async fn load_from<A, R>(&self, key: &StreamKey, source: &Source<'_>) -> Result<Cached<A>, ExecuteError<R>>
    where
        A: EventSourced + Send + Sync + 'static,
        R: std::error::Error + 'static,
    {
        let (Some(snapshots), Some(form)) = (&self.snapshots, A::SNAPSHOT) else {
            return self.folded(A::default(), 0, source.after(key, 0).await?).await;
        };
        // A stream of ordinary length is never looked up among the snapshots.
        let (beginning, whole) = source.beginning(key).await?;
        if whole {
            return self.folded(A::default(), 0, beginning).await;
        }
        if let Some(found) = snapshots.find(key, form).await {
            let Found { state, sequence, event_id, id } = found;
            // From the event on that the snapshot is of: it must be the very one, for a crash can have put another there.
            let mut loaded = source.after(key, sequence.saturating_sub(1)).await?;
            if loaded.events.first().is_some_and(|event| (event.sequence, event.event_id) == (sequence, event_id)) {
                let last = loaded.events.last().map_or(event_id, |event| event.event_id);
                loaded.events.remove(0);
                let cached = self.folded(state, sequence, loaded).await?;
                snapshots.offer(key, &cached.state, (sequence, cached.version), last, cached.seen);
                return Ok(cached);
            }
            snapshots.forget(key, id);
        }
        let loaded = source.after(key, 0).await?;
        let last = loaded.events.last().map(|event| event.event_id);
        let cached = self.folded(A::default(), 0, loaded).await?;
        if let Some(last) = last {
            snapshots.offer(key, &cached.state, (0, cached.version), last, cached.seen);
        }
        Ok(cached)
    }

    /// A state with events applied to it: those after `version`.
    pub(crate) async fn folded<A, R>(
        &self,
        mut state: A,
        version: u64,
        loaded: Loaded,
    ) -> Result<Cached<A>, ExecuteError<R>>
    where
        A: EventSourced + Send + Sync + 'static,
        R: std::error::Error + 'static,
    {
        // What was written counts, not what that is read as.
        let version = loaded.events.last().map_or(version, |event| event.sequence);
        for event in &loaded.events {
            self.decode::<A::Event>(event).await?.into_iter().for_each(|event| state.apply(event));
        }
        Ok(Cached { state, version, seen: loaded.seen })
    }

    /// What a stored event is read as. However many that are, the stream has one more event with it.
    pub(crate) async fn decode<E: Versioned>(&self, event: &RecordedEvent) -> Result<Vec<E>, DecodeError> {
        let payload = self.sealer.open(event.tenant, event.event_id, &event.payload).await?;
        Ok(codec::decode(&event.origin(), &payload)?)
    }

    async fn append<A: EventSourced, R: std::error::Error + 'static>(
        &self,
        key: &StreamKey,
        stamp: &CommandStamp,
        cached: &Cached<A>,
        events: &[A::Event],
        metadata: &str,
        not_after: Option<DateTime<Utc>>,
    ) -> Result<Append, ExecuteError<R>> {
        let mut new = Vec::with_capacity(events.len());
        for event in events {
            let encoded = codec::encode(event)?;
            let event_id = self.system.uuid_v7();
            new.push(NewEvent {
                event_id,
                event_type: encoded.event_type,
                event_version: encoded.event_version,
                payload: self.sealer.seal(key.tenant, event_id, encoded.payload).await?,
                metadata: self.sealer.seal(key.tenant, event_id, metadata.to_owned()).await?,
            });
        }
        let mut claims = Vec::new();
        let mut releases = Vec::new();
        for change in cached.state.keys(events) {
            let scope = match change.scope {
                KeyScope::Tenant => key.tenant,
                KeyScope::Platform => PLATFORM_TENANT,
            };
            let claim = ClaimKey { scope, kind: change.kind, hash: self.files.unique_hash(change.kind, &change.key) };
            if change.claim {
                claims.push((claim, key.stream.clone()));
            } else {
                releases.push(claim);
            }
        }
        Ok(Append {
            tenant: key.tenant,
            command: stamp.clone(),
            streams: vec![StreamAppend { stream: key.stream.clone(), expected: cached.version, events: new }],
            reads: Vec::new(),
            claims,
            releases,
            not_after: not_after.map(|t| t.timestamp_micros()),
        })
    }
}

/// From where streams are read.
struct Source<'a> {
    journal: &'a Journal,
    /// In the epoch in which this node writes or hands over, which is waited for; else as it is.
    ready: bool,
}

impl Source<'_> {
    async fn after<R: std::error::Error + 'static>(
        &self,
        key: &StreamKey,
        after: u64,
    ) -> Result<Loaded, ExecuteError<R>> {
        match (self.ready, after) {
            (true, 0) => self.journal.load_ready(key).await.map_err(ExecuteError::Append),
            (true, after) => self.journal.load_after(key, after).await.map_err(ExecuteError::Append),
            (false, after) => self.journal.load(key, after).await.map_err(ExecuteError::Database),
        }
    }

    async fn beginning<R: std::error::Error + 'static>(
        &self,
        key: &StreamKey,
    ) -> Result<(Loaded, bool), ExecuteError<R>> {
        match self.ready {
            true => self.journal.load_beginning(key).await.map_err(ExecuteError::Append),
            false => self.journal.beginning(key).await.map_err(ExecuteError::Database),
        }
    }
}

/// A permission that depends on the record: it must hold of what it is and of what the command makes of it.
struct Images {
    condition: Arc<Condition>,
    claims: Claims,
    id: Uuid,
}

impl Images {
    fn permit_before<A: EventSourced>(&self, cached: &Cached<A>) -> bool {
        cached.version == 0 || self.permit(&cached.state)
    }

    fn permit_after<A: EventSourced>(&self, cached: &Cached<A>, events: &[A::Event]) -> bool {
        let mut after = cached.state.clone();
        events.iter().for_each(|event| after.apply(event.clone()));
        self.permit(&after)
    }

    fn permit<A: EventSourced>(&self, state: &A) -> bool {
        self.condition.judge(&|field: &str| state.field(self.id, field), &self.claims).holds()
    }
}

/// Other streams that have a say in a decision.
pub(crate) trait Beside<R>: Sync {
    fn look(
        &self,
        executor: &Executor,
        tenant: TenantId,
    ) -> impl Future<Output = Result<Looked<R>, ExecuteError<R>>> + Send
    where
        R: std::error::Error + 'static;
}

/// What they say, and where they stood then.
pub(crate) struct Looked<R> {
    /// The append is refused when one of the command's own tenant has moved. Of another tenant's nothing more is
    /// known than that it was so a moment ago.
    pub(crate) at: Vec<LookedAt>,
    pub(crate) refusal: Option<R>,
}

pub(crate) struct LookedAt {
    pub(crate) key: StreamKey,
    pub(crate) version: u64,
    pub(crate) seen: Seen,
}

/// Nobody else has a say.
pub(crate) struct Alone;

impl<R: Send> Beside<R> for Alone {
    async fn look(&self, _: &Executor, _: TenantId) -> Result<Looked<R>, ExecuteError<R>>
    where
        R: std::error::Error + 'static,
    {
        Ok(Looked { at: Vec::new(), refusal: None })
    }
}

/// The moment from which on the writer's window vouches for both.
fn earlier_of(a: Seen, b: Seen) -> Option<Seen> {
    (a.epoch == b.epoch).then_some(if a.batch < b.batch { a } else { b })
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error(transparent)]
    Seal(#[from] daybook_store::keys::SealError),
    #[error(transparent)]
    Codec(#[from] codec::CodecError),
}

impl<R: std::error::Error> From<DecodeError> for ExecuteError<R> {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Seal(error) => ExecuteError::Seal(error),
            DecodeError::Codec(error) => ExecuteError::Codec(error),
        }
    }
}

/// What makes two requests the same: command, target, precondition and actor.
fn digest(action: &str, key: &StreamKey, actor: Uuid, expected: Option<u64>, command: &impl Serialize) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(action.as_bytes());
    hasher.update([0]);
    hasher.update(key.tenant.0.as_bytes());
    hasher.update(key.stream.id.as_bytes());
    hasher.update(actor.as_bytes());
    hasher.update([u8::from(expected.is_some())]);
    hasher.update(expected.unwrap_or(0).to_be_bytes());
    // Commands hold ordered maps only, so their JSON is canonical.
    hasher.update(serde_json::to_vec(command).unwrap_or_default());
    hasher.finalize().into()
}
