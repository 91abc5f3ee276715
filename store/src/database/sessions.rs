//! The sessions of a pool, and how long one may be held.
//!
//! A connection that falls silent for good is noticed by TCP itself, unless something in between acknowledges in the other
//! end's name. Then nothing comes any more, and whoever waits for an answer would wait for ever. So a session that is held
//! for too long is ended: its statements fail as those of any lost connection do, and what lay idle in the pool meanwhile is
//! not used again, for it went the same way.

use deadpool::managed::{self, Metrics, RecycleError, RecycleResult};
use deadpool_postgres::ClientWrapper;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::{Config, NoTls};

/// How often it is looked for sessions that are held for too long.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Makes the sessions of one pool.
#[derive(Debug)]
pub(super) struct Sessions {
    pub(super) config: Config,
    /// How long one may be held; none: for ever.
    pub(super) held_max: Option<Duration>,
    /// How many have fallen silent.
    lost: Arc<AtomicU64>,
}

/// What the watch over a session knows.
#[derive(Debug)]
struct Watch {
    made: Instant,
    /// Since when it is held, in milliseconds after it was made, and one; 0: it is not.
    since_ms: AtomicU64,
}

impl Watch {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn begin(&self) {
        self.since_ms.store(self.now_ms().saturating_add(1), Ordering::Relaxed);
    }

    fn end(&self) {
        self.since_ms.store(0, Ordering::Relaxed);
    }

    /// Waits until it has been held for so long.
    async fn overdue(&self, held_max: Option<Duration>) {
        let Some(held_max) = held_max else { return std::future::pending().await };
        loop {
            tokio::time::sleep(LOOK_EVERY.min(held_max)).await;
            let since = self.since_ms.load(Ordering::Relaxed);
            if since > 0 && Duration::from_millis((self.now_ms() + 1).saturating_sub(since)) >= held_max {
                return;
            }
        }
    }
}

/// One connection, with what was prepared on it.
#[derive(Debug)]
pub(super) struct Pooled {
    client: ClientWrapper,
    watch: Arc<Watch>,
    /// How many of the pool had fallen silent when it was made.
    lost_before: u64,
    /// In a state that nobody knows.
    spoilt: AtomicBool,
}

impl Sessions {
    pub(super) fn new(config: Config, held_max: Option<Duration>) -> Self {
        Sessions { config, held_max, lost: Arc::default() }
    }
}

impl managed::Manager for Sessions {
    type Type = Pooled;
    type Error = tokio_postgres::Error;

    async fn create(&self) -> Result<Pooled, tokio_postgres::Error> {
        let lost_before = self.lost.load(Ordering::Relaxed);
        // Behind a pointer: it is rarely made, and part of the future of everything that asks the database.
        let (client, connection) = Box::pin(self.config.connect(NoTls)).await?;
        let watch = Arc::new(Watch { made: Instant::now(), since_ms: AtomicU64::new(0) });
        let (watching, held_max, lost) = (watch.clone(), self.held_max, self.lost.clone());
        let task = tokio::spawn(async move {
            tokio::select! {
                ended = connection => if let Err(error) = ended {
                    tracing::debug!(%error, "a database connection ended");
                },
                () = watching.overdue(held_max) => {
                    lost.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(held_max = ?held_max, "a database session was held for too long, and is taken for lost");
                }
            }
        });
        Ok(Pooled { client: ClientWrapper::new(client, task), watch, lost_before, spoilt: AtomicBool::new(false) })
    }

    async fn recycle(&self, session: &mut Pooled, _: &Metrics) -> RecycleResult<tokio_postgres::Error> {
        if session.client.is_closed() || session.spoilt.load(Ordering::Relaxed) {
            return Err(RecycleError::message("the connection has ended"));
        }
        if session.lost_before != self.lost.load(Ordering::Relaxed) {
            return Err(RecycleError::message("another one has fallen silent since it was made"));
        }
        Ok(())
    }
}

/// A session of a pool, held until dropped.
#[derive(Debug)]
pub struct Held(managed::Object<Sessions>);

impl Held {
    pub(super) fn new(session: managed::Object<Sessions>) -> Self {
        session.watch.begin();
        Held(session)
    }

    /// Ends the session: nobody knows what state it is in.
    pub fn discard(self) {
        self.0.spoilt.store(true, Ordering::Relaxed);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.watch.end();
    }
}

impl Deref for Held {
    type Target = ClientWrapper;

    fn deref(&self) -> &ClientWrapper {
        &self.0.client
    }
}

impl DerefMut for Held {
    fn deref_mut(&mut self) -> &mut ClientWrapper {
        &mut self.0.client
    }
}
