//! The journal: what did happen, in order, for ever.
//!
//! [`Journal`] is the handle that callers share. It looks things up on a bounded pool, hands appends
//! to the one writer, and gives out nothing that a crash could take back.

pub mod append;
pub mod bell;
mod driver;
mod elsewhere;
pub mod follow;
pub mod log;
mod lookup;
pub mod machine;
pub mod recent;
pub mod recorded;
pub mod rows;
mod wire;

pub use append::{
    Append, AppendError, ClaimKey, CommandStamp, NewEvent, Outcome, Seen, StreamAppend, StreamId, StreamKey,
};
pub use driver::{Durable, Message, Meter, Seat, Standing};
pub use elsewhere::{Elsewhere, Forward, ForwardError, Forwarded};
pub use lookup::{Loaded, resolve, statements as look_ups};
pub use recorded::RecordedEvent;
pub use wire::WireError;

use crate::combine::Combiner;
use crate::database::{Database, DatabaseError, Pool, Role};
use crate::keys::keyed_hash;
use crate::system::SharedSystem;
use daybook_domain::TenantId;
use daybook_tlog::RightEdge;
use driver::{Driver, Unmeasured};
use elsewhere::Way;
use lookup::{BEGINNING_MAX, Beginning, Question};
use lru::LruCache;
use machine::{Answer, Config, Prepared, Writer};
use sha2::{Digest, Sha256};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use uuid::Uuid;

/// Events that one load returns at most; longer streams are loaded in pages.
const LOAD_PAGE: u16 = 5_000;

/// Between two questions for a writer that is away.
const PAUSE: Duration = Duration::from_millis(25);
/// Before the deadline of an append: nothing is handed to another node any more.
const LAST: Duration = Duration::from_millis(250);

/// Trees of tenants that are remembered from their loading.
const LOADED_HEADS_MAX: NonZeroUsize = NonZeroUsize::new(4_096).unwrap();

/// Settings of a session that finds rows by their keys only, newest first by walking an index. A plan is made
/// once, often while the tables are empty; it must neither read a table from end to end nor sort a tenant's
/// whole history when there are a million rows a minute later.
pub const BY_KEY: &str = "-c plan_cache_mode=force_generic_plan -c enable_seqscan=off -c enable_bitmapscan=off -c enable_sort=off \
 -c enable_hashjoin=off -c enable_mergejoin=off -c enable_material=off";

/// How a node takes part in a journal.
#[derive(Clone)]
pub struct JournalOptions {
    pub writer: Config,
    /// Sessions for look-ups.
    pub pool_size: usize,
    /// How long an append may wait for its answer before the outcome is reported as unknown.
    pub append_timeout: Duration,
    /// Names this node in the lease.
    pub node: Uuid,
    /// Where other nodes reach it.
    pub address: Option<String>,
    /// How other nodes are reached; none where there are none.
    pub forward: Option<Arc<dyn Forward>>,
    /// Who measures the writer.
    pub meter: Arc<dyn Meter>,
}

impl JournalOptions {
    pub fn new(node: Uuid) -> Self {
        JournalOptions {
            writer: Config::default(),
            pool_size: 16,
            append_timeout: Duration::from_secs(10),
            node,
            address: None,
            forward: None,
            meter: Arc::new(Unmeasured),
        }
    }
}

/// A shared handle; cloning is cheap.
#[derive(Clone)]
pub struct Journal {
    inner: Arc<Inner>,
}

struct Inner {
    pool: Pool,
    look_ups: Combiner<Question>,
    loads: Combiner<Beginning>,
    /// Trees of tenants that were loaded and have not been appended to since, each as of a moment.
    heads: Mutex<LruCache<TenantId, (Seen, RightEdge)>>,
    requests: mpsc::Sender<Message>,
    standing: watch::Receiver<Standing>,
    durable: watch::Receiver<Durable>,
    way: Option<Way>,
    append_timeout: Duration,
}

impl Inner {
    fn heads(&self) -> MutexGuard<'_, LruCache<TenantId, (Seen, RightEdge)>> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the caller already knows, so that it need not be looked up again. Versions that a decision was
/// based on belong here: without their moment, nobody can tell a version from another one of the same
/// number that took its place in a crash.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    /// The streams and reads stood at their expected versions at this moment.
    pub versions_at: Option<Seen>,
    /// The command id was unused at this moment.
    pub unused_at: Option<Seen>,
}

impl Known {
    /// The moment at which everything that the writer takes on trust held, if nothing needs a look-up.
    fn suffices(&self, append: &Append) -> Option<Seen> {
        let versions = self.versions_at.filter(|_| append.claims.is_empty())?;
        let unused = if append.command.fresh { versions } else { self.unused_at? };
        (versions.epoch == unused.epoch).then_some(if unused.batch < versions.batch { unused } else { versions })
    }
}

impl Journal {
    /// Starts this node's writer. The task ends after [`Journal::shutdown`].
    pub fn start(database: &Database, system: SharedSystem, options: JournalOptions) -> (Journal, JoinHandle<()>) {
        let database_of_writer = database.clone();
        Journal::start_with(database, options, |options, seat| {
            let driver = Driver {
                database: database_of_writer,
                system,
                flushers: options.writer.flushers,
                lease_ttl_us: options.writer.lease_ttl_us,
                machine: Writer::new(options.writer),
                node: options.node,
                address: options.address,
                seat,
                meter: options.meter,
            };
            tokio::spawn(driver.run())
        })
    }

    /// As [`Journal::start`], with another one in the writer's seat. For measurements: a writer that
    /// appends differently is compared behind the same look-ups and the same contract.
    pub fn start_with(
        database: &Database,
        options: JournalOptions,
        writer: impl FnOnce(JournalOptions, Seat) -> JoinHandle<()>,
    ) -> (Journal, JoinHandle<()>) {
        let (requests, received) = mpsc::channel(options.writer.queue_requests_max);
        let (standing_tx, standing) = watch::channel(Standing::default());
        let (durable_tx, durable) = watch::channel(Durable::default());
        let pool = database.pool(Role::Writer, options.pool_size, BY_KEY);
        let (look_ups, loads) = (Combiner::new(pool.clone()), Combiner::new(pool.clone()));
        let heads = Mutex::new(LruCache::new(LOADED_HEADS_MAX));
        let lease_free = Arc::new(Notify::new());
        let way = options.forward.clone().map(|forward| {
            let own = (options.node, options.address.clone());
            elsewhere::look(database, forward, standing.clone(), durable_tx.clone(), lease_free.clone(), own)
        });
        let append_timeout = options.append_timeout;
        let inner = Inner { pool, look_ups, loads, heads, requests, standing, durable, way, append_timeout };
        let task = writer(options, Seat { requests: received, standing: standing_tx, durable: durable_tx, lease_free });
        (Journal { inner: Arc::new(inner) }, task)
    }

    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.inner.standing.clone()
    }

    /// What is durable, as the writer on this node tells it.
    pub fn durable(&self) -> watch::Receiver<Durable> {
        self.inner.durable.clone()
    }

    /// Who writes on another node, as far as this one knows; `None` where there are no other nodes.
    pub fn elsewhere(&self) -> Option<watch::Receiver<Option<Elsewhere>>> {
        self.inner.way.as_ref().map(|way| way.elsewhere.clone())
    }

    /// The writer on this node or another: since when it writes, or a later moment of the same epoch.
    fn writing(&self) -> Option<Seen> {
        self.writing_here()
            .or_else(|| self.inner.way.as_ref()?.elsewhere.borrow().as_ref().map(|elsewhere| elsewhere.seen))
    }

    fn writing_here(&self) -> Option<Seen> {
        let here = self.inner.standing.borrow().leading;
        // What a writer said that is gone does not stand.
        here.filter(|_| self.inner.standing.has_changed().is_ok())
    }

    /// The epoch in which cached states are valid; `None` while nobody writes.
    pub fn epoch(&self) -> Option<u64> {
        self.writing().map(|seen| seen.epoch)
    }

    /// Waits until somebody may write: this node, or one that requests can be handed to.
    ///
    /// # Errors
    /// [`AppendError::Unavailable`] when this node has stopped and there is no other, or at the deadline.
    pub async fn ready(&self, deadline: Instant) -> Result<Seen, AppendError> {
        let unavailable = |reason: &str| Err(AppendError::Unavailable(reason.to_owned()));
        let mut standing = self.inner.standing.clone();
        let mut elsewhere = self.inner.way.as_ref().map(|way| way.elsewhere.clone());
        let ready = async {
            loop {
                if let Some(elsewhere) = &mut elsewhere {
                    elsewhere.borrow_and_update();
                }
                let stopped = standing.borrow_and_update().stopped.clone();
                if let Some(seen) = self.writing() {
                    return Ok(seen);
                }
                let ended = standing.has_changed().is_err();
                if elsewhere.is_none() {
                    match stopped {
                        Some(reason) => return unavailable(&reason),
                        None if ended => return unavailable("the writer has ended"),
                        None => {}
                    }
                }
                tokio::select! {
                    // One that has ended has no more news; another node may take over.
                    _ = standing.changed(), if !ended => {}
                    () = changed(&mut elsewhere) => {}
                }
            }
        };
        tokio::time::timeout_at(deadline, ready)
            .await
            .unwrap_or_else(|_| unavailable("no writer within the time allowed"))
    }

    /// Finishes what is queued and gives up the lease.
    pub async fn shutdown(&self) {
        // An error means that the writer has ended already.
        let _ = self.inner.requests.send(Message::Shutdown).await;
    }

    /// The events of a stream after a sequence number, oldest first, personal fields sealed.
    /// They may not be durable yet: whoever answers from them waits with [`Journal::wait_durable`].
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn load(&self, key: &StreamKey, after: u64) -> Result<Loaded, DatabaseError> {
        let mut limit = i64::from(LOAD_PAGE);
        let (mut loaded, head) = if after == 0 {
            limit = BEGINNING_MAX;
            self.inner.loads.ask(Beginning(key.clone())).await?
        } else {
            lookup::load(&self.inner.pool, key, after, limit).await?
        };
        if let Some(head) = head {
            self.inner.heads().put(key.tenant, (loaded.seen, head));
        }
        let mut page = loaded.events.len();
        while i64::try_from(page).is_ok_and(|page| page == limit) {
            let last = loaded.events.last().map_or(after, |e| e.sequence);
            limit = i64::from(LOAD_PAGE);
            let (next, _) = lookup::load(&self.inner.pool, key, last, limit).await?;
            // Each page is a snapshot of its own; the first vouches only for what it saw, and the
            // writer compares the version with what changed since.
            page = next.events.len();
            if next.seen.epoch != loaded.seen.epoch {
                return Err(DatabaseError::Unsuitable(
                    "the writer changed while a stream was loading; try again".into(),
                ));
            }
            loaded.events.extend(next.events);
            loaded.seen = next.seen;
        }
        Ok(loaded)
    }

    /// As [`Journal::load`] from the beginning, waiting out a change of the writer.
    ///
    /// # Errors
    /// [`AppendError::Unavailable`] when there is no writer within the append timeout.
    pub async fn load_ready(&self, key: &StreamKey) -> Result<Loaded, AppendError> {
        self.in_epoch(move || async move { self.load(key, 0).await.map(|l| (l.seen, l)) }).await
    }

    /// As [`Journal::load_ready`], after a sequence number.
    ///
    /// # Errors
    /// As [`Journal::load_ready`].
    pub async fn load_after(&self, key: &StreamKey, after: u64) -> Result<Loaded, AppendError> {
        self.in_epoch(move || async move { self.load(key, after).await.map(|l| (l.seen, l)) }).await
    }

    /// The first events of a stream, and whether these are all. Whoever writes: see [`Journal::load`].
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn beginning(&self, key: &StreamKey) -> Result<(Loaded, bool), DatabaseError> {
        let (loaded, head) = self.inner.loads.ask(Beginning(key.clone())).await?;
        if let Some(head) = head {
            self.inner.heads().put(key.tenant, (loaded.seen, head));
        }
        let whole = i64::try_from(loaded.events.len()).is_ok_and(|events| events < BEGINNING_MAX);
        Ok((loaded, whole))
    }

    /// As [`Journal::beginning`], in the epoch in which this node writes.
    ///
    /// # Errors
    /// As [`Journal::load_ready`].
    pub async fn load_beginning(&self, key: &StreamKey) -> Result<(Loaded, bool), AppendError> {
        self.in_epoch(move || async move { self.beginning(key).await.map(|(l, whole)| (l.seen, (l, whole))) }).await
    }

    /// As [`Journal::load_ready`], for several streams of one tenant: one look-up where they are short. Their events in
    /// the order of the streams, and the moment at which these were all there was.
    ///
    /// # Errors
    /// [`AppendError::Unavailable`] when there is no writer within the append timeout.
    pub async fn load_many(
        &self,
        tenant: daybook_domain::TenantId,
        streams: &[StreamId],
    ) -> Result<(Seen, Vec<Vec<RecordedEvent>>), AppendError> {
        let mut loaded: Vec<Vec<RecordedEvent>> = streams.iter().map(|_| Vec::new()).collect();
        let mut wanted: Vec<(StreamId, u64)> = streams.iter().map(|stream| (stream.clone(), 0)).collect();
        let (mut from, mut first) = (0, None);
        loop {
            let (pool, rest) = (&self.inner.pool, &wanted[from..]);
            let look_up = move || async move {
                lookup::load_many(pool, tenant, rest, i64::from(LOAD_PAGE)).await.map(|(s, e)| (s, (s, e)))
            };
            let (seen, events) = self.in_epoch(look_up).await?;
            // Only the first page vouches for all: what changed since is found by the writer.
            let vouched = *first.get_or_insert(seen);
            if vouched.epoch != seen.epoch {
                return Err(AppendError::Stale);
            }
            let full = events.len() == usize::from(LOAD_PAGE);
            let mut last = from;
            for (number, event) in events {
                last = from + number;
                wanted[last].1 = event.sequence;
                loaded[last].push(event);
            }
            if !full {
                return Ok((vouched, loaded));
            }
            from = last;
        }
    }

    /// The streams that hold unique keys, in the order of the keys.
    ///
    /// # Errors
    /// [`AppendError::Unavailable`] when there is no writer within the append timeout.
    pub async fn holders(&self, keys: &[ClaimKey]) -> Result<(Seen, Vec<Option<Uuid>>), AppendError> {
        self.in_epoch(move || async move { lookup::holders(&self.inner.pool, keys).await.map(|(s, h)| (s, (s, h))) })
            .await
    }

    /// What an earlier command with this id led to: `Ok` with its (durable) outcome, or `Err` with
    /// the moment at which the id was unused.
    ///
    /// # Errors
    /// [`AppendError::CommandReused`] when that was another command.
    pub async fn earlier(&self, stamp: &CommandStamp) -> Result<Result<Outcome, Seen>, AppendError> {
        loop {
            let look_up =
                move || async move { lookup::earlier(&self.inner.pool, stamp).await.map(|(s, e)| (s, (s, e))) };
            let (seen, earlier) = self.in_epoch(look_up).await?;
            let Some(earlier) = earlier else { return Ok(Err(seen)) };
            if self.wait_durable(seen).await.is_ok() {
                return earlier.answer(stamp).map(Ok);
            }
        }
    }

    /// Repeats a look-up until its epoch is the one in which this node writes.
    // Not an AsyncFn: nobody could spawn what awaits one, because its future cannot be said to be Send.
    async fn in_epoch<T, F>(&self, look_up: impl Fn() -> F) -> Result<T, AppendError>
    where
        F: Future<Output = Result<(Seen, T), DatabaseError>>,
    {
        let deadline = Instant::now() + self.inner.append_timeout;
        loop {
            let leading = self.ready(deadline).await?;
            let looked = tokio::time::timeout_at(deadline, look_up()).await.unwrap_or_else(|_| {
                Err(DatabaseError::Unsuitable("the database did not answer within the time allowed".into()))
            });
            match looked {
                Ok((seen, found)) if seen.epoch == leading.epoch => return Ok(found),
                Ok(_) if Instant::now() >= deadline => {
                    return Err(AppendError::Unavailable("another node is the writer".into()));
                }
                Ok(_) => {
                    // A takeover is under way, or has been and this node has not heard of it.
                    if let Some(way) = &self.inner.way {
                        way.ask.notify_one();
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err(error) if !error.is_connection() || Instant::now() >= deadline => {
                    return Err(AppendError::Unavailable(error.to_string()));
                }
                // The server is on its way back.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    /// The journal position that a tenant position stands for; `None` when it does not exist.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn resolve(
        &self,
        tenant: daybook_domain::TenantId,
        tenant_position: u64,
    ) -> Result<Option<u64>, DatabaseError> {
        resolve(&self.inner.pool, tenant, tenant_position).await
    }

    /// Waits until what was seen at this moment survives any crash.
    ///
    /// # Errors
    /// [`AppendError::Stale`] when the epoch is over: what was seen may be gone.
    pub async fn wait_durable(&self, seen: Seen) -> Result<(), AppendError> {
        let mut durable = self.inner.durable.clone();
        let is_reached =
            |d: &Durable| d.seen.epoch > seen.epoch || (d.seen.epoch == seen.epoch && d.seen.batch >= seen.batch);
        if let Some(way) = self.inner.way.as_ref().filter(|_| !is_reached(&durable.borrow())) {
            way.ask.notify_one();
        }
        let reached = durable.wait_for(is_reached);
        tokio::select! {
            biased;
            d = reached => match d {
                Ok(d) if d.seen.epoch == seen.epoch => Ok(()),
                _ => Err(AppendError::Stale),
            },
            () = self.over(seen.epoch) => Err(AppendError::Stale),
        }
    }

    /// Waits until nobody writes in this epoch any more, as far as this node knows.
    async fn over(&self, epoch: u64) {
        let mut standing = self.inner.standing.clone();
        let mut elsewhere = self.inner.way.as_ref().map(|way| way.elsewhere.clone());
        loop {
            standing.borrow_and_update();
            if let Some(elsewhere) = &mut elsewhere {
                elsewhere.borrow_and_update();
            }
            if self.epoch() != Some(epoch) {
                return;
            }
            tokio::select! {
                changed = standing.changed() => if changed.is_err() {
                    return;
                },
                () = changed(&mut elsewhere) => {}
            }
        }
    }

    /// Appends, all or nothing. An `Ok` is durable; so is everything that a refusal rests on.
    ///
    /// # Errors
    /// [`AppendError::UnknownOutcome`] is the only one after which something may have been written;
    /// repeating the same command id tells.
    pub async fn append(&self, append: Append, known: Known) -> Result<Outcome, AppendError> {
        append.check()?;
        let deadline = Instant::now() + self.inner.append_timeout;
        let digests = append
            .streams
            .iter()
            .map(|s| s.events.iter().map(|e| (sha256(&e.payload), sha256(&e.metadata))).collect())
            .collect::<Vec<Vec<_>>>();
        let request_hash = keyed_hash(&append.command.hash_key, &append.command.digest);
        let mut seen = known.suffices(&append);
        let mut head = None;
        // A tenant that was just loaded: its tree came along, and spares the writer's asking for it.
        if let Some((at, edge)) = seen.and_then(|_| self.inner.heads().pop(&append.tenant)) {
            seen = seen.filter(|s| s.epoch == at.epoch).map(|s| if at.batch < s.batch { at } else { s }).or(seen);
            head = seen.filter(|s| s.epoch == at.epoch).map(|_| edge);
        }
        let mut refusal = None;
        loop {
            let leading = self.ready(deadline).await?;
            if seen.is_none_or(|s| s.epoch != leading.epoch) {
                if known.versions_at.is_some_and(|s| s.epoch != leading.epoch) {
                    return Err(AppendError::Stale);
                }
                let (look_ups, question) = (&self.inner.look_ups, &Question::of(&append));
                let facts = self
                    .in_epoch(
                        move || async move { look_ups.ask(question.clone()).await.map(|facts| (facts.seen, facts)) },
                    )
                    .await?;
                refusal = match judge(&append, &facts) {
                    // An earlier attempt may still be on its way: the writer has the last word.
                    Some(Err(refused)) if !append.command.fresh && facts.earlier.is_none() => Some(refused),
                    Some(answer) => match self.wait_durable(facts.seen).await {
                        Ok(()) => return answer,
                        Err(_) => continue,
                    },
                    None => None,
                };
                // The epoch can have changed while the look-up waited for a writer: equal versions do not
                // make them the same events then.
                if known.versions_at.is_some_and(|s| s.epoch != facts.seen.epoch) {
                    return Err(AppendError::Stale);
                }
                // The streams still stand at the versions that were decided on, as of this look-up.
                seen = Some(facts.seen);
                head = Some(facts.head);
            }
            let Some(at) = seen else { continue };
            let prepared = Prepared {
                ticket: 0,
                append: append.clone(),
                seen: at,
                head: head.clone(),
                digests: digests.clone(),
                request_hash,
                asks: refusal.is_some(),
            };
            match self.submit(Box::new(prepared), append.command.id, deadline).await? {
                Answer::Done(outcome) => return Ok(outcome),
                Answer::Nothing => return Err(refusal.unwrap_or(AppendError::UnknownOutcome(append.command.id))),
                Answer::Refused(error) => return Err(error),
                Answer::LookAgain => seen = None,
                Answer::Overloaded => return Err(AppendError::Overloaded),
                Answer::Unavailable(reason) => {
                    // Nothing was written: as good as new, while there is time.
                    let stopped = self.inner.standing.borrow().stopped.is_some() && self.inner.way.is_none();
                    // One that is handed over with no time left would end with an outcome unknown.
                    let last = if self.inner.way.is_some() { LAST } else { Duration::ZERO };
                    if Instant::now() + last >= deadline || stopped {
                        return Err(AppendError::Unavailable(reason));
                    }
                    seen = None;
                    // Only another node stays away for long.
                    let pause = if self.inner.way.is_some() { PAUSE } else { Duration::from_millis(5) };
                    tokio::time::sleep(pause).await;
                }
                Answer::Failed(reason) => return Err(AppendError::Database(reason)),
                Answer::Unknown => {
                    if let Some(outcome) = self.find_out(&append.command, at.epoch, deadline).await? {
                        return Ok(outcome);
                    }
                    // Nothing was written, and in that epoch nothing will be.
                    if known.versions_at.is_some() {
                        return Err(AppendError::Stale);
                    }
                    seen = None;
                }
            }
        }
    }

    /// What became of an attempt that was handed to a writer of this epoch and not answered. `None` once that epoch
    /// is over and the attempt is not in the journal: the fence keeps it out for ever.
    async fn find_out(
        &self,
        stamp: &CommandStamp,
        epoch: u64,
        deadline: Instant,
    ) -> Result<Option<Outcome>, AppendError> {
        // Without other nodes, who might have taken over, the repeat of the command finds out.
        while self.inner.way.is_some() && Instant::now() < deadline {
            match self.earlier(stamp).await {
                Ok(Ok(outcome)) => return Ok(Some(outcome)),
                Ok(Err(unused)) if unused.epoch != epoch => return Ok(None),
                // Still on its way, perhaps.
                Ok(Err(_)) | Err(AppendError::Unavailable(_)) => tokio::time::sleep(PAUSE).await,
                Err(error) => return Err(error),
            }
        }
        Err(AppendError::UnknownOutcome(stamp.id))
    }

    /// Takes a request that another node hands over, to the writer on this one. What comes back is for that node.
    ///
    /// # Errors
    /// When it is no such request.
    pub async fn take_over_request(&self, request: &[u8]) -> Result<Vec<u8>, WireError> {
        let prepared = wire::read_request(request)?;
        let id = prepared.append.command.id;
        // Never handed on: two nodes that take each other for the writer would do so for ever.
        let answered = if self.writing_here().is_some() {
            self.submit_here(Box::new(prepared), id, Instant::now() + self.inner.append_timeout).await
        } else {
            Err(AppendError::Unavailable("this node is not the writer at the moment".into()))
        };
        wire::answer(match answered {
            Ok(answer) => answer,
            Err(AppendError::Overloaded) => Answer::Overloaded,
            Err(AppendError::Unavailable(reason)) => Answer::Unavailable(reason),
            Err(_) => Answer::Unknown,
        })
    }

    /// What an earlier attempt of this command led to, before the command is refused on what was seen then.
    /// `None`: nothing was written, and no attempt that was handed in before is on its way; what was seen is
    /// durable. The id was unused at that moment, or is new.
    ///
    /// # Errors
    /// [`AppendError::CommandReused`] when the id was another command's; [`AppendError::UnknownOutcome`] when
    /// the writer does not tell in time.
    pub async fn refusable(&self, stamp: &CommandStamp, mut seen: Seen) -> Result<Option<Outcome>, AppendError> {
        let deadline = Instant::now() + self.inner.append_timeout;
        loop {
            let question = Prepared {
                ticket: 0,
                append: Append {
                    tenant: stamp.tenant,
                    command: stamp.clone(),
                    streams: vec![],
                    reads: vec![],
                    claims: vec![],
                    releases: vec![],
                    not_after: None,
                },
                seen,
                head: None,
                digests: vec![],
                request_hash: keyed_hash(&stamp.hash_key, &stamp.digest),
                asks: true,
            };
            match self.submit(Box::new(question), stamp.id, deadline).await? {
                Answer::Done(outcome) => return Ok(Some(outcome)),
                Answer::Nothing => return Ok(None),
                Answer::Refused(error) => return Err(error),
                Answer::Overloaded => return Err(AppendError::Overloaded),
                Answer::LookAgain => {}
                Answer::Unavailable(_) if Instant::now() < deadline => {}
                Answer::Unavailable(reason) => return Err(AppendError::Unavailable(reason)),
                Answer::Failed(_) | Answer::Unknown => return Err(AppendError::UnknownOutcome(stamp.id)),
            }
            match self.earlier(stamp).await? {
                Ok(outcome) => return Ok(Some(outcome)),
                Err(now) => seen = now,
            }
        }
    }

    async fn submit(&self, prepared: Box<Prepared>, command: Uuid, deadline: Instant) -> Result<Answer, AppendError> {
        if let Some(way) = self.inner.way.as_ref().filter(|_| self.writing_here().is_none())
            && let Some(elsewhere) = way.writer()
        {
            let (epoch, asks) = (elsewhere.seen.epoch, prepared.asks);
            return Ok(tokio::select! {
                answer = way.hand_over(elsewhere, &prepared, deadline) => answer,
                // A node that was paused or cut off may never answer.
                () = self.over(epoch) => way.unanswered(asks, "another node has become the writer".into()),
            });
        }
        self.submit_here(prepared, command, deadline).await
    }

    async fn submit_here(
        &self,
        prepared: Box<Prepared>,
        command: Uuid,
        deadline: Instant,
    ) -> Result<Answer, AppendError> {
        let (answer, answered) = oneshot::channel();
        match self.inner.requests.try_send(Message::Append(prepared, answer)) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => return Err(AppendError::Overloaded),
            // Another node may be about to take over.
            Err(mpsc::error::TrySendError::Closed(_)) => {
                return Ok(Answer::Unavailable("the writer has ended".into()));
            }
        }
        match tokio::time::timeout_at(deadline, answered).await {
            Ok(Ok(answer)) => Ok(answer),
            // Timed out, or the writer ended before it could say: it may or may not be written.
            Ok(Err(_)) | Err(_) => Err(AppendError::UnknownOutcome(command)),
        }
    }
}

/// Waits for news of a writer elsewhere; for ever where there is none to come.
async fn changed(elsewhere: &mut Option<watch::Receiver<Option<Elsewhere>>>) {
    if let Some(elsewhere) = elsewhere
        && elsewhere.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// What the look-up alone decides.
fn judge(append: &Append, facts: &lookup::Facts) -> Option<Result<Outcome, AppendError>> {
    if let Some(earlier) = &facts.earlier {
        return Some(earlier.answer(&append.command));
    }
    let expected =
        append.streams.iter().map(|s| (&s.stream, s.expected)).chain(append.reads.iter().map(|(s, v)| (s, *v)));
    for ((stream, expected), actual) in expected.zip(&facts.versions) {
        if expected != *actual {
            return Some(Err(AppendError::Conflict { stream: stream.clone(), expected, actual: *actual }));
        }
    }
    let taken = append.claims.iter().zip(&facts.taken).find(|(_, taken)| **taken);
    taken.map(|((key, _), _)| Err(AppendError::KeyTaken { kind: key.kind }))
}

fn sha256(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}
