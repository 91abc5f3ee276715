//! The writer on another node: who it is, what of its work is durable, and the way there.
//!
//! Only the lease row and the journal itself are asked. As for a follower: what was seen is told only after a
//! synchronous commit on the very session that saw it.

use super::append::Seen;
use super::driver::{Durable, FLUSH, Standing};
use super::machine::{Answer, Prepared};
use super::recorded::unsigned;
use super::{BY_KEY, bell, wire};
use crate::database::{Database, DatabaseError, Role};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_postgres::{Client, Statement};
use uuid::Uuid;

/// The safety net under the bell, and how soon a new writer is noticed.
const POLL: Duration = Duration::from_millis(250);
/// How long the database is left alone after an error.
const PAUSE: Duration = Duration::from_millis(100);
/// A database that does not answer for so long is taken for gone.
const LOOK_MAX: Duration = Duration::from_secs(5);

/// How nodes hand requests to each other.
pub trait Forward: Send + Sync + 'static {
    /// Hands a request to the node at this address, and brings its answer, or gives up at the deadline.
    fn forward(&self, address: String, request: Vec<u8>, deadline: Instant) -> Forwarded;
}

/// An answer that is on its way.
pub type Forwarded = Pin<Box<dyn Future<Output = Result<Vec<u8>, ForwardError>> + Send>>;

/// Why there is no answer.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
pub enum ForwardError {
    /// The other node has not taken the request up, and never will.
    #[error("the writer's node did not take the request: {0}")]
    NotTaken(String),
    /// It may have.
    #[error("the writer's node did not answer: {0}")]
    Unanswered(String),
}

/// Who writes, when it is not this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    /// The epoch in which it writes, and its last batch when that was looked at.
    pub seen: Seen,
    /// Where its node is reached.
    pub address: String,
}

/// The way to the writer's node.
#[derive(Clone)]
pub(super) struct Way {
    forward: Arc<dyn Forward>,
    pub(super) elsewhere: watch::Receiver<Option<Elsewhere>>,
    /// Somebody waits for news.
    pub(super) ask: Arc<Notify>,
    durable: watch::Sender<Durable>,
}

/// Begins to look for a writer elsewhere, whenever there is none here.
pub(super) fn look(
    database: &Database,
    forward: Arc<dyn Forward>,
    standing: watch::Receiver<Standing>,
    durable: watch::Sender<Durable>,
    lease_free: Arc<Notify>,
    own: (Uuid, Option<String>),
) -> Way {
    let (told, elsewhere) = watch::channel(None);
    let ask = Arc::new(Notify::new());
    let observer = Observer {
        database: database.clone(),
        rings: bell::listen(database.clone()),
        ask: ask.clone(),
        standing,
        durable: durable.clone(),
        lease_free,
        own,
        warned: AtomicBool::new(false),
        told,
    };
    tokio::spawn(observer.run());
    Way { forward, elsewhere, ask, durable }
}

/// Tells of what is durable, unless that or more is known already.
fn raise(durable: &watch::Sender<Durable>, to: Durable) {
    let order = |durable: &Durable| (durable.seen.epoch, durable.seen.batch, durable.position);
    durable.send_if_modified(|now| {
        let news = order(now) < order(&to);
        if news {
            *now = Durable { seen: to.seen, position: now.position.max(to.position) };
        }
        news
    });
}

impl Way {
    pub(super) fn writer(&self) -> Option<Elsewhere> {
        self.elsewhere.borrow().clone()
    }

    /// Hands a request to the writer elsewhere.
    pub(super) async fn hand_over(&self, to: Elsewhere, prepared: &Prepared, deadline: Instant) -> Answer {
        let answered = match wire::request(prepared) {
            Ok(request) => self.forward.forward(to.address, request, deadline).await,
            Err(error) => Err(ForwardError::NotTaken(error.to_string())),
        };
        let answer = match answered.map(|answer| wire::read_answer(&answer)) {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                tracing::error!(%error, "the writer's node answered something else");
                Answer::Unknown
            }
            Err(ForwardError::NotTaken(reason)) => Answer::Unavailable(reason),
            Err(ForwardError::Unanswered(reason)) => return self.unanswered(prepared.asks, reason),
        };
        match &answer {
            // An answer is durable: whoever follows the journal here need not wait for the bell.
            Answer::Done(outcome) => {
                raise(&self.durable, Durable { seen: outcome.seen, position: outcome.last_position });
            }
            // Whoever it is now.
            Answer::Unavailable(_) | Answer::Unknown => self.ask.notify_one(),
            _ => {}
        }
        answer
    }

    /// In the place of an answer that did not come.
    pub(super) fn unanswered(&self, asks: bool, reason: String) -> Answer {
        tracing::debug!(reason, "a request that was handed over has no answer");
        self.ask.notify_one();
        // Who only asked may ask again.
        if asks { Answer::Unavailable(reason) } else { Answer::Unknown }
    }
}

struct Observer {
    database: Database,
    rings: watch::Receiver<u64>,
    ask: Arc<Notify>,
    standing: watch::Receiver<Standing>,
    durable: watch::Sender<Durable>,
    lease_free: Arc<Notify>,
    /// This node's name and address.
    own: (Uuid, Option<String>),
    /// That another node tells this one's address was said.
    warned: AtomicBool,
    told: watch::Sender<Option<Elsewhere>>,
}

impl Observer {
    /// Until nobody asks any more.
    async fn run(mut self) {
        let mut session = None;
        loop {
            if self.told.is_closed() {
                return;
            }
            if self.standing.borrow_and_update().leading.is_some() {
                // Whoever writes here tells of it without us.
                self.told.send_replace(None);
                session = None;
                tokio::select! {
                    changed = self.standing.changed() => if changed.is_err() {
                        // The writer's task is gone: as good as not leading, from now on.
                        self.standing = watch::channel(Standing::default()).1;
                    },
                    () = self.told.closed() => return,
                }
                continue;
            }
            self.rings.borrow_and_update();
            let looked = tokio::time::timeout(LOOK_MAX, self.look(&mut session)).await;
            match looked.unwrap_or_else(|_| Err(DatabaseError::Unsuitable("no answer in time".into()))) {
                Ok(elsewhere) => {
                    self.told.send_if_modified(|now| {
                        if let Some(new) = elsewhere.as_ref().filter(|new| {
                            now.as_ref()
                                .is_none_or(|now| (now.seen.epoch, &now.address) != (new.seen.epoch, &new.address))
                        }) {
                            tracing::info!(
                                address = new.address,
                                journal.epoch = new.seen.epoch,
                                "another node writes"
                            );
                        }
                        let news = *now != elsewhere;
                        *now = elsewhere;
                        news
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "the writer cannot be looked for");
                    session = None;
                    self.told.send_if_modified(|now| now.take().is_some());
                    tokio::time::sleep(PAUSE).await;
                }
            }
            tokio::select! {
                // An end of either is noticed above, or makes this a poll.
                _ = async { if self.standing.changed().await.is_err() { std::future::pending().await } } => {}
                _ = async { if self.rings.changed().await.is_err() { std::future::pending().await } } => {}
                () = self.ask.notified() => {}
                () = self.told.closed() => return,
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }

    /// Who writes now; tells on the way what of the journal is durable.
    async fn look(&self, session: &mut Option<Session>) -> Result<Option<Elsewhere>, DatabaseError> {
        let open = match session.take() {
            Some(open) if !open.client.is_closed() => open,
            _ => Session::open(&self.database).await?,
        };
        let row = open.client.query_opt(&open.look, &[&self.own.0]).await.map_err(DatabaseError::Query)?;
        let Some(row) = row else {
            *session = Some(open);
            return Ok(None);
        };
        let seen = Seen { epoch: unsigned(row.get(0)), batch: unsigned(row.get(1)) };
        let position = unsigned(row.get(2));
        if *self.durable.borrow() != (Durable { seen, position }) {
            open.client.query(FLUSH, &[]).await.map_err(DatabaseError::Query)?;
            raise(&self.durable, Durable { seen, position });
        }
        if row.get(4) {
            self.lease_free.notify_one();
        }
        let address: Option<String> = row.get(3);
        *session = Some(open);
        if address.is_some() && address == self.own.1 {
            if !self.warned.swap(true, Ordering::Relaxed) {
                tracing::warn!(address, "another node tells the address of this one: give each its own by --advertise");
            }
            return Ok(None);
        }
        Ok(address.map(|address| Elsewhere { seen, address }))
    }
}

struct Session {
    client: Client,
    look: Statement,
}

/// The last batch, and the address of whoever made it if that one may still write.
const LOOK: &str = "select b.epoch, b.batch, b.last_position,
        case when l.epoch = b.epoch and l.expires_at > clock_timestamp() and l.holder_id <> $1 then l.address end, l.expires_at <= clock_timestamp()
 from (select epoch, batch, last_position from journal.batches order by batch desc limit 1) b cross join journal.lease l";

impl Session {
    async fn open(database: &Database) -> Result<Self, DatabaseError> {
        let client = database.connect(Role::Writer, &format!("-c synchronous_commit=on {BY_KEY}")).await?;
        let look = client.prepare(LOOK).await.map_err(DatabaseError::Query)?;
        Ok(Session { client, look })
    }
}
