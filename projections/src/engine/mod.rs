//! The engine: keeps read models up to date with the journal, and makes them anew.
//!
//! One runner per read model follows the journal and deals each page out to lanes (lane = hash of
//! the tenant). A lane commits rows, change rows and its checkpoint in one transaction, so that
//! nothing is applied twice or left out, whatever is killed when. A lane that is slow or stopped
//! holds up nobody else; it skips nothing either.
//!
//! Refuses to fire reactions: those follow the journal themselves, and never a rebuild.

mod apply;
mod lane;
mod model;
mod progress;
mod projected;
mod rebuild;
mod retention;
mod runner;
mod series;
mod table;
mod versions;

pub use model::{ApplyError, OpenedEvent, ReadModel, RowKey, lane_of};
pub use progress::{Health, LaneHealth, LaneStatus, Lanes, ModelHealth, Progress, WaitError};
pub use rebuild::{RebuildError, RebuildProgress, Rebuilt};
pub use retention::purge;
pub use series::SeriesModel;
pub use versions::VersionError;

use daybook_store::database::{Database, Pool, Role};
use daybook_store::journal::follow::Source;
use daybook_store::keys::Sealer;
use daybook_store::system::SharedSystem;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};

/// Lanes that read the journal for themselves at the same time, each over a connection of its own.
const CATCHING_UP_MAX: usize = 4;

/// Sessions of the projector: what a crash takes back here is applied again from the checkpoint, so
/// a commit need not wait for the disk.
const PROJECTOR_SETTINGS: &str = "-c synchronous_commit=off -c lock_timeout=10s -c statement_timeout=120s";

/// What can be tuned.
#[derive(Clone, Debug)]
pub struct Options {
    /// Sessions that all lanes of all read models share.
    pub pool_size: usize,
    /// Events per read of the journal.
    pub page: u64,
    /// Events per transaction of a lane.
    pub batch_max: usize,
    /// How often the checkpoints of lanes are stored for which nothing has changed.
    pub store_every: Duration,
    /// How long change rows are kept.
    pub retention: Duration,
    pub purge_every: Duration,
    /// The first and the longest pause before a stopped lane tries again.
    pub retry_min: Duration,
    pub retry_max: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            pool_size: 8,
            page: 1_000,
            batch_max: 1_000,
            store_every: Duration::from_millis(500),
            retention: Duration::from_secs(7 * 24 * 3_600),
            purge_every: Duration::from_secs(600),
            retry_min: Duration::from_millis(100),
            retry_max: Duration::from_secs(30),
        }
    }
}

impl Options {
    /// The pause after so many failures in a row.
    fn pause(&self, failures: u32) -> Duration {
        self.retry_min.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(self.retry_max)
    }
}

/// What a read model is made of, besides itself.
#[derive(Clone)]
pub struct Parts {
    pub database: Database,
    /// Who says what is durable. On the writer's node: the writer.
    pub source: Source,
    pub sealer: Sealer,
    pub system: SharedSystem,
    pub options: Options,
}

/// What the tasks of one engine share.
struct Context {
    parts: Parts,
    pool: Pool,
    progress: Progress,
    catching_up: Arc<Semaphore>,
}

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
type Report<'a> = &'a mut (dyn FnMut(RebuildProgress) + Send);

/// A read model in a list of several.
#[derive(Clone, Copy)]
pub struct Model {
    name: &'static str,
    run: fn(Arc<Context>) -> BoxFuture<'static, ()>,
    rebuild: for<'a> fn(&'a Parts, Report<'a>) -> BoxFuture<'a, Result<Rebuilt, RebuildError>>,
    /// Its fold for a replay in memory; none for a series, which has no rows that change.
    pub(crate) folding: Option<fn() -> Box<dyn crate::replay::Folding>>,
}

impl Model {
    pub fn of<M: ReadModel>() -> Self {
        Model { folding: Some(crate::replay::folding::<M>), ..Self::projected::<projected::Rows<M>>() }
    }

    /// One to which every event adds rows.
    pub fn series<M: SeriesModel>() -> Self {
        Self::projected::<projected::Series<M>>()
    }

    fn projected<M: projected::Projected>() -> Self {
        Model {
            name: M::NAME,
            run: |context| Box::pin(runner::supervise::<M>(context)),
            rebuild: |parts, report| Box::pin(rebuild::rebuild::<M>(parts, report)),
            folding: None,
        }
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Makes the read model anew from the first event, beside the one that answers, and lets the new
    /// one answer once it has caught up. Works with or without engines running, here or elsewhere.
    ///
    /// # Errors
    /// [`RebuildError::Busy`] while another one is under way; [`RebuildError::Event`] at an event that
    /// cannot be applied. The version that answers stays as it was.
    pub async fn rebuild(&self, parts: &Parts, report: Report<'_>) -> Result<Rebuilt, RebuildError> {
        (self.rebuild)(parts, report).await
    }
}

/// A running engine; cloning is cheap.
#[derive(Clone)]
pub struct Projections {
    progress: Progress,
    source: Source,
    stop: Arc<watch::Sender<bool>>,
}

impl Projections {
    /// Starts a runner per read model. The task ends after [`Projections::shutdown`]; aborting it
    /// is as good, for a transaction is whole or not at all.
    pub fn start(parts: Parts, models: &[Model]) -> (Projections, JoinHandle<()>) {
        let progress = Progress::new(models.iter().map(Model::name), runner::durable(&parts.source));
        let (stop, mut stopped) = watch::channel(false);
        let source = parts.source.clone();
        let context = Arc::new(Context {
            pool: parts.database.pool(Role::Projector, parts.options.pool_size, PROJECTOR_SETTINGS),
            progress: progress.clone(),
            catching_up: Arc::new(Semaphore::new(CATCHING_UP_MAX)),
            parts,
        });
        let mut tasks = JoinSet::new();
        for model in models {
            tasks.spawn((model.run)(context.clone()));
        }
        tasks.spawn(retention::keep_purging(context, models.iter().map(Model::name).collect()));
        let task = tokio::spawn(async move {
            // The senders are gone only together with every handle: nobody is left to ask for more.
            let _ = stopped.wait_for(|stop| *stop).await;
            tasks.shutdown().await;
        });
        (Projections { progress, source, stop: Arc::new(stop) }, task)
    }

    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    pub fn health(&self) -> Health {
        let durable = match &self.source {
            Source::Writer(durable) => durable.borrow().position,
            Source::Recent(recent) => recent.durable().borrow().position,
            Source::Journal | Source::Bell(_) => 0,
        };
        self.progress.health(durable)
    }

    pub fn shutdown(&self) {
        self.stop.send_replace(true);
    }
}

/// A number from the database that is never negative there.
pub(crate) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

/// A number for the database; the journal ends long before this could saturate.
pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A version for the database.
pub(crate) fn int(version: u32) -> i32 {
    i32::try_from(version).unwrap_or(i32::MAX)
}
