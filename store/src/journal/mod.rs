//! The journal: what did happen, in order, for ever.
//!
//! [`Journal`] is the handle that callers share. It looks things up on a bounded pool, hands appends
//! to the one writer, and gives out nothing that a crash could take back.

pub mod append;
mod driver;
pub mod follow;
mod lookup;
pub mod machine;
pub mod recorded;
pub mod rows;

pub use append::{Append, AppendError, ClaimKey, CommandStamp, NewEvent, Outcome, Seen, StreamAppend, StreamId, StreamKey};
pub use driver::{Durable, Standing};
pub use lookup::{Loaded, resolve};
pub use recorded::RecordedEvent;

use crate::database::{Database, DatabaseError, Pool, Role};
use crate::keys::keyed_hash;
use crate::system::SharedSystem;
use driver::{Driver, Message};
use machine::{Answer, Config, Prepared, Writer};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use uuid::Uuid;

/// Events that one load returns at most; longer streams are loaded in pages.
const LOAD_PAGE: i64 = 5_000;

/// How a node takes part in a journal.
#[derive(Clone, Debug)]
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
}

impl JournalOptions {
    pub fn new(node: Uuid) -> Self {
        JournalOptions { writer: Config::default(), pool_size: 16, append_timeout: Duration::from_secs(10), node, address: None }
    }
}

/// A shared handle; cloning is cheap.
#[derive(Clone)]
pub struct Journal {
    inner: Arc<Inner>,
}

struct Inner {
    pool: Pool,
    requests: mpsc::Sender<Message>,
    standing: watch::Receiver<Standing>,
    durable: watch::Receiver<Durable>,
    append_timeout: Duration,
}

/// What the caller already knows, so that it need not be looked up again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    /// The streams and reads stood at their expected versions at this moment.
    pub versions_at: Option<Seen>,
}

impl Journal {
    /// Starts this node's writer. The task ends after [`Journal::shutdown`].
    pub fn start(database: &Database, system: SharedSystem, options: JournalOptions) -> (Journal, JoinHandle<()>) {
        let (requests, received) = mpsc::channel(options.writer.queue_requests_max);
        let (standing_tx, standing) = watch::channel(Standing::default());
        let (durable_tx, durable) = watch::channel(Durable::default());
        let driver = Driver {
            database: database.clone(),
            system,
            flushers: options.writer.flushers,
            lease_ttl_us: options.writer.lease_ttl_us,
            machine: Writer::new(options.writer),
            node: options.node,
            address: options.address,
            requests: received,
            standing: standing_tx,
            durable: durable_tx,
        };
        let task = tokio::spawn(driver.run());
        let pool = database.pool(Role::Writer, options.pool_size, "");
        let inner = Inner { pool, requests, standing, durable, append_timeout: options.append_timeout };
        (Journal { inner: Arc::new(inner) }, task)
    }

    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.inner.standing.clone()
    }

    /// What is durable, as the writer on this node tells it.
    pub fn durable(&self) -> watch::Receiver<Durable> {
        self.inner.durable.clone()
    }

    /// The epoch in which cached states are valid; `None` while nobody here writes.
    pub fn epoch(&self) -> Option<u64> {
        self.inner.standing.borrow().leading.map(|s| s.epoch)
    }

    /// Waits until this node may write.
    ///
    /// # Errors
    /// [`AppendError::Unavailable`] when it has stopped, or at the deadline.
    pub async fn ready(&self, deadline: Instant) -> Result<Seen, AppendError> {
        let mut standing = self.inner.standing.clone();
        let ready = async {
            let standing = standing.wait_for(|s| s.leading.is_some() || s.stopped.is_some()).await;
            match standing.as_deref() {
                Ok(Standing { leading: Some(seen), .. }) => Ok(*seen),
                Ok(Standing { stopped: Some(reason), .. }) => Err(AppendError::Unavailable(reason.clone())),
                _ => Err(AppendError::Unavailable("the writer has ended".into())),
            }
        };
        tokio::time::timeout_at(deadline, ready)
            .await
            .unwrap_or_else(|_| Err(AppendError::Unavailable("no writer within the time allowed".into())))
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
        let mut loaded = lookup::load(&self.inner.pool, key, after, LOAD_PAGE).await?;
        let mut page = loaded.events.len();
        while page == LOAD_PAGE as usize {
            let last = loaded.events.last().map_or(after, |e| e.sequence);
            let next = lookup::load(&self.inner.pool, key, last, LOAD_PAGE).await?;
            // Each page is a snapshot of its own; the first vouches only for what it saw, and the
            // writer compares the version with what changed since.
            page = next.events.len();
            if next.seen.epoch != loaded.seen.epoch {
                return Err(DatabaseError::Unsuitable("the writer changed while a stream was loading; try again".into()));
            }
            loaded.events.extend(next.events);
            loaded.seen = next.seen;
        }
        Ok(loaded)
    }

    /// The journal position that a tenant position stands for; `None` when it does not exist.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn resolve(&self, tenant: daybook_domain::TenantId, tenant_position: u64) -> Result<Option<u64>, DatabaseError> {
        resolve(&self.inner.pool, tenant, tenant_position).await
    }

    /// Waits until what was seen at this moment survives any crash.
    ///
    /// # Errors
    /// [`AppendError::Stale`] when the epoch is over: what was seen may be gone.
    pub async fn wait_durable(&self, seen: Seen) -> Result<(), AppendError> {
        let mut durable = self.inner.durable.clone();
        let mut standing = self.inner.standing.clone();
        let reached = durable.wait_for(|d| d.seen.epoch > seen.epoch || (d.seen.epoch == seen.epoch && d.seen.batch >= seen.batch));
        let over = standing.wait_for(|s| s.leading.is_none_or(|l| l.epoch != seen.epoch));
        tokio::select! {
            biased;
            d = reached => match d {
                Ok(d) if d.seen.epoch == seen.epoch => Ok(()),
                _ => Err(AppendError::Stale),
            },
            _ = over => Err(AppendError::Stale),
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
        let mut seen = known.versions_at.filter(|_| append.command.fresh && append.claims.is_empty());
        let mut head = None;
        loop {
            let leading = self.ready(deadline).await?;
            if seen.is_none_or(|s| s.epoch != leading.epoch) {
                if known.versions_at.is_some_and(|s| s.epoch != leading.epoch) {
                    return Err(AppendError::Stale);
                }
                let facts = match lookup::facts(&self.inner.pool, &append).await {
                    Ok(facts) => facts,
                    Err(error) if error.is_connection() && Instant::now() < deadline => {
                        // The writer notices the same loss and says when it is back.
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        continue;
                    }
                    Err(error) => return Err(AppendError::Unavailable(error.to_string())),
                };
                if facts.seen.epoch != leading.epoch {
                    // Looked up before the takeover's fence, or another node writes.
                    if Instant::now() >= deadline {
                        return Err(AppendError::Unavailable("another node is the writer".into()));
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    continue;
                }
                if let Some(answer) = judge(&append, &facts) {
                    match self.wait_durable(facts.seen).await {
                        Ok(()) => return answer,
                        Err(_) => continue,
                    }
                }
                // The decision may rest on an older moment than this look-up.
                seen = Some(match known.versions_at {
                    Some(at) if at.batch < facts.seen.batch => facts.seen,
                    Some(at) => at,
                    None => facts.seen,
                });
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
            };
            match self.submit(Box::new(prepared), append.command.id, deadline).await? {
                Answer::Done(outcome) => return Ok(outcome),
                Answer::Refused(error) => return Err(error),
                Answer::LookAgain => seen = None,
                Answer::Overloaded => return Err(AppendError::Overloaded),
                Answer::Unavailable(reason) => {
                    // Nothing was written: as good as new, while there is time.
                    if Instant::now() >= deadline || self.inner.standing.borrow().stopped.is_some() {
                        return Err(AppendError::Unavailable(reason));
                    }
                    seen = None;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Answer::Failed(reason) => return Err(AppendError::Database(reason)),
                Answer::Unknown => return Err(AppendError::UnknownOutcome(append.command.id)),
            }
        }
    }

    async fn submit(&self, prepared: Box<Prepared>, command: Uuid, deadline: Instant) -> Result<Answer, AppendError> {
        let (answer, answered) = oneshot::channel();
        match self.inner.requests.try_send(Message::Append(prepared, answer)) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => return Err(AppendError::Overloaded),
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(AppendError::Unavailable("the writer has ended".into())),
        }
        match tokio::time::timeout_at(deadline, answered).await {
            Ok(Ok(answer)) => Ok(answer),
            // Timed out, or the writer ended before it could say: it may or may not be written.
            Ok(Err(_)) | Err(_) => Err(AppendError::UnknownOutcome(command)),
        }
    }
}

/// What the look-up alone decides.
fn judge(append: &Append, facts: &lookup::Facts) -> Option<Result<Outcome, AppendError>> {
    if let Some(earlier) = &facts.earlier {
        let same = earlier
            .hash_key
            .as_ref()
            .is_none_or(|key| keyed_hash(key, &append.command.digest).as_slice() == earlier.request_hash.as_slice());
        return Some(if same { Ok(earlier.outcome.clone()) } else { Err(AppendError::CommandReused(append.command.id)) });
    }
    let expected = append.streams.iter().map(|s| (&s.stream, s.expected)).chain(append.reads.iter().map(|(s, v)| (s, *v)));
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
