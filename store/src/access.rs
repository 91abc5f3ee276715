//! The access log: who was refused what, counted per minute, gone after its retention.
//!
//! It holds what anybody can cause without limit, so everything about it is bounded: attempts are counted in
//! memory and written once a second, a minute has so many rows and no more, and old rows are deleted. Refuses to
//! slow a request down or to fail it: when the database is away, or when there is more than can be kept apart,
//! attempts are counted together, and at last only how many were lost. Refuses to hold a token or any content.

mod pending;
mod table;

pub use pending::{Attempt, AttemptKind};

use crate::database::{Database, HELD_MAX, Pool, Role};
use crate::keys::keyed_hash;
use crate::system::SharedSystem;
use pending::Pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

/// Losing the last second of it in a crash is no harm.
const SETTINGS: &str = "-c synchronous_commit=off -c lock_timeout=5s -c statement_timeout=30s";

/// What can be tuned.
#[derive(Clone, Debug)]
pub struct AccessOptions {
    pub flush_every: Duration,
    /// How long rows are kept.
    pub retention: Duration,
    pub purge_every: Duration,
}

impl Default for AccessOptions {
    fn default() -> Self {
        AccessOptions {
            flush_every: Duration::from_secs(1),
            retention: Duration::from_secs(90 * 24 * 3_600),
            purge_every: Duration::from_secs(600),
        }
    }
}

/// The log of this node; cloning is cheap.
#[derive(Clone)]
pub struct AccessLog {
    inner: Arc<Inner>,
}

struct Inner {
    pending: Mutex<Pending>,
    system: SharedSystem,
    key: [u8; 32],
    stop: watch::Sender<bool>,
}

impl AccessLog {
    /// Starts the task that writes and purges. It ends after [`AccessLog::shutdown`], having written what there was.
    ///
    /// `key`: what tokens are hashed with, so that the log of one installation says nothing about another's.
    pub fn start(
        database: &Database,
        system: SharedSystem,
        key: [u8; 32],
        options: AccessOptions,
    ) -> (AccessLog, JoinHandle<()>) {
        let (stop, stopped) = watch::channel(false);
        let inner = Arc::new(Inner { pending: Mutex::default(), system, key, stop });
        let log = AccessLog { inner };
        let task = tokio::spawn(keep(
            log.clone(),
            database.pool_held(Role::Writer, 1, SETTINGS, Some(HELD_MAX)),
            options,
            stopped,
        ));
        (log, task)
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        // Counters cannot be left half changed.
        self.inner.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an attempt. Never waits for the database.
    pub fn record(&self, attempt: Attempt) {
        let now = self.inner.system.utc();
        self.pending().count(attempt, now);
    }

    /// How a token that nobody knows is told from another: 8 hexadecimal digits of a keyed hash.
    pub fn token_hash(&self, token: &str) -> String {
        let hash = keyed_hash(&self.inner.key, token.as_bytes());
        hash[..4].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Attempts that are in no row and will be in none, since the start.
    pub fn lost(&self) -> u64 {
        self.pending().lost
    }

    pub fn shutdown(&self) {
        self.inner.stop.send_replace(true);
    }
}

async fn keep(log: AccessLog, pool: Pool, options: AccessOptions, mut stopped: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(options.flush_every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut purged: Option<Instant> = None;
    let mut lost = 0;
    loop {
        // The sender lives in `log`.
        let stopping = tokio::select! {
            _ = ticks.tick() => false,
            _ = stopped.wait_for(|stop| *stop) => true,
        };
        flush(&log, &pool).await;
        let now_lost = log.lost();
        if now_lost > lost {
            tracing::warn!(attempts = now_lost - lost, "denied attempts were too many to be written down");
            lost = now_lost;
        }
        if stopping {
            return;
        }
        if purged.is_none_or(|at| at.elapsed() >= options.purge_every) {
            let before = log.inner.system.utc() - options.retention;
            match table::purge(&pool, before).await {
                Ok(rows) if rows > 0 => tracing::info!(rows, "old rows of the access log were deleted"),
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "old rows of the access log could not be deleted"),
            }
            purged = Some(Instant::now());
        }
    }
}

/// Writes what there is; what cannot be written now is counted on.
async fn flush(log: &AccessLog, pool: &Pool) {
    let counted = log.pending().take();
    if counted.is_empty() {
        return;
    }
    if let Err(error) = table::add(pool, &counted).await {
        tracing::warn!(%error, "denied attempts could not be written; another try follows");
        log.pending().put_back(counted);
    }
}
