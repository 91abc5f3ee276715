//! The engine: keeps read models up to date with the journal, and makes them anew.
//!
//! One runner per read model follows the journal and deals each page out to lanes (lane = hash of
//! the tenant). A lane commits rows, change rows and its checkpoint in one transaction, so that
//! nothing is applied twice or left out, whatever is killed when. An event that cannot be applied parks
//! its own stream; a lane that is slow or stopped holds up no other lane. Nothing is skipped but what an
//! operator decides to skip.
//!
//! Refuses to fire reactions: those follow the journal themselves, and never a rebuild.

mod apply;
mod lane;
mod life;
mod model;
mod observe;
mod parking;
mod progress;
mod projected;
mod rebuild;
mod report;
pub mod requests;
mod retention;
mod retry;
mod runner;
mod series;
mod table;
mod versions;

pub(crate) use life::{LIFE, Life};
pub use model::{ApplyError, OpenedEvent, ReadModel, RowKey, lane_of};
pub use parking::{Parked, Place, SkipError, StreamName};
pub use progress::{Health, LaneHealth, LaneStatus, Lanes, ModelHealth, Progress, WaitError};
pub use rebuild::{RebuildError, RebuildProgress, Rebuilt};
pub use report::{LaneReport, LaneState, ModelReport, parked_streams, report};
pub use retention::purge;
pub use series::SeriesModel;
pub use versions::VersionError;

use chrono::{DateTime, Utc};
use daybook_store::database::{Database, Pool, Role};
use daybook_store::journal::Standing;
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
/// a commit need not wait for the disk. A node that is paused or cut off in the middle of a transaction must not hold
/// its rows against the node that keeps them from then on.
const PROJECTOR_SETTINGS: &str = "-c synchronous_commit=off -c lock_timeout=10s -c statement_timeout=30s \
 -c idle_in_transaction_session_timeout=2s";

/// What can be tuned.
#[derive(Clone, Debug)]
pub struct Options {
    /// Sessions that all lanes of all read models share.
    pub pool_size: usize,
    /// Events per read of the journal.
    pub page: u64,
    /// Events per transaction of a lane.
    pub batch_max: usize,
    /// Events per transaction of a rebuild, until it has caught up.
    pub bulk_max: usize,
    /// How often the checkpoints of lanes are stored for which nothing has changed.
    pub store_every: Duration,
    /// How long change rows are kept.
    pub retention: Duration,
    pub purge_every: Duration,
    /// The first and the longest pause before a stopped lane tries again.
    pub retry_min: Duration,
    pub retry_max: Duration,
    /// Streams that a lane may have parked; at the next event that cannot be applied it stops.
    pub parked_max: usize,
    /// The first and the longest pause before a parked stream is tried again.
    pub unpark_min: Duration,
    pub unpark_max: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            pool_size: 8,
            page: 1_000,
            batch_max: 1_000,
            bulk_max: 20_000,
            store_every: Duration::from_millis(500),
            retention: Duration::from_secs(7 * 24 * 3_600),
            purge_every: Duration::from_secs(600),
            retry_min: Duration::from_millis(100),
            retry_max: Duration::from_secs(30),
            parked_max: 1_000,
            unpark_min: Duration::from_secs(1),
            unpark_max: Duration::from_secs(600),
        }
    }
}

impl Options {
    /// The pause after so many failures in a row.
    fn pause(&self, failures: u32) -> Duration {
        later(self.retry_min, failures).min(self.retry_max)
    }

    /// The pause of a parked stream that was tried so often in vain.
    fn unpark_pause(&self, tries: u32) -> Duration {
        later(self.unpark_min, tries).min(self.unpark_max)
    }
}

fn later(first: Duration, failures: u32) -> Duration {
    first.saturating_mul(1 << failures.saturating_sub(1).min(16))
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

impl Parts {
    /// The end of the journal as its source tells it; 0 where nobody does.
    fn source_position(&self) -> u64 {
        position_of(&self.source)
    }
}

fn position_of(source: &Source) -> u64 {
    match source {
        Source::Writer(durable) => durable.borrow().position,
        Source::Recent(recent) => recent.durable().borrow().position,
        Source::Journal | Source::Bell(_) => 0,
    }
}

/// What the tasks of one engine share.
struct Context {
    /// Whether this node writes, and so keeps the read models; none where it is the only one.
    standing: Option<watch::Receiver<Standing>>,
    parts: Parts,
    pool: Pool,
    progress: Progress,
    catching_up: Arc<Semaphore>,
}

impl Context {
    /// Whether this node keeps the read models now.
    fn keeps(&self) -> bool {
        self.standing.as_ref().is_none_or(|standing| standing.borrow().leading.is_some())
    }

    /// Waits until this node does, or no longer does.
    async fn keeping(&self, keeps: bool) {
        if let Some(mut standing) = self.standing.clone()
            && standing.wait_for(|standing| standing.leading.is_some() == keeps).await.is_ok()
        {
            return;
        }
        // The writer here has ended, or there is no other node.
        std::future::pending().await
    }
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
    pool: Pool,
    stop: Arc<watch::Sender<bool>>,
}

impl Projections {
    /// Starts a runner per read model. The task ends after [`Projections::shutdown`]; aborting it
    /// is as good, for a transaction is whole or not at all.
    pub fn start(parts: Parts, models: &[Model]) -> (Projections, JoinHandle<()>) {
        Self::begin(parts, models, None)
    }

    /// As [`Projections::start`], on one of several nodes: the one that writes keeps the read models, the others watch
    /// how far they are. Two that take themselves for the writer do no harm: a checkpoint moves only from where
    /// its lane has left it.
    pub fn start_beside(
        parts: Parts,
        models: &[Model],
        standing: watch::Receiver<Standing>,
    ) -> (Projections, JoinHandle<()>) {
        Self::begin(parts, models, Some(standing))
    }

    fn begin(
        parts: Parts,
        models: &[Model],
        standing: Option<watch::Receiver<Standing>>,
    ) -> (Projections, JoinHandle<()>) {
        let progress = Progress::new(models.iter().map(Model::name));
        let (stop, mut stopped) = watch::channel(false);
        let source = parts.source.clone();
        let context = Arc::new(Context {
            pool: parts.database.pool(Role::Projector, parts.options.pool_size, PROJECTOR_SETTINGS),
            progress: progress.clone(),
            catching_up: Arc::new(Semaphore::new(CATCHING_UP_MAX)),
            standing,
            parts,
        });
        let pool = context.pool.clone();
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
        (Projections { progress, source, pool, stop: Arc::new(stop) }, task)
    }

    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    pub fn health(&self) -> Health {
        self.progress.health(position_of(&self.source))
    }

    /// Whether [`Projections::skip`] would do it: for who has to write the decision down first.
    ///
    /// # Errors
    /// [`SkipError`].
    pub async fn may_skip(&self, read_model: &str, position: u64) -> Result<(), SkipError> {
        let session = self.pool.get().await?;
        parking::may_skip(&session, read_model, position).await
    }

    /// Leaves the first event of a parked stream out of a read model, for good and in every version, and tries
    /// what is behind it. The decision is in the journal before: this asks nobody for the reason.
    ///
    /// # Errors
    /// [`SkipError`]; then nothing was changed.
    pub async fn skip(&self, read_model: &str, position: u64, now: DateTime<Utc>) -> Result<(), SkipError> {
        parking::skip(&mut self.pool.get().await?, read_model, position, now).await?;
        // A read model that does not run here is tried again where it runs, at its time.
        let _ = self.progress.retry(read_model, None);
        Ok(())
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
