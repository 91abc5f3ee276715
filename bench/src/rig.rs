//! What every measurement of appends stands on: a server of one latency, tenants that are there already, and somebody who
//! watches the processors meanwhile.

use crate::error::BenchError;
use crate::load::{self, Cpu, Figures, Pace, Untouched};
use crate::machine::Machine;
use crate::server::{self, Latency};
use daybook_app::Executor;
use daybook_domain::TenantId;
use daybook_store::journal::{BY_KEY, Journal, JournalOptions};
use daybook_store::keys::{KeyFiles, KeyStore, Sealer};
use daybook_store::system::{Real, SharedSystem, System};
use daybook_store::{Database, Role};
use daybook_testing::TestServer;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

const TEMPLATE: &str = "bench_template";

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Load {
    /// `Journal::append`.
    Raw,
    /// `Executor::execute` of an authorized command.
    Command,
}

impl Load {
    pub fn name(self) -> &'static str {
        match self {
            Load::Raw => "raw append",
            Load::Command => "whole command",
        }
    }
}

/// A server with a database to copy, in which so many tenants are registered.
pub struct Rig {
    pub server: TestServer,
    pub latency: Latency,
    tenants: Arc<Vec<TenantId>>,
    system: SharedSystem,
    files: Arc<KeyFiles>,
    // Where the key files are, for as long as they are used.
    _keys: tempfile::TempDir,
}

impl Rig {
    /// # Errors
    /// When the machine has nothing of that latency, or a tenant cannot be registered.
    pub async fn start(
        latency: Latency,
        disk_dir: Option<PathBuf>,
        connections_max: usize,
        tenants: usize,
    ) -> Result<Self, BenchError> {
        let server = server::start(latency, disk_dir, connections_max).await?;
        let system: SharedSystem = Arc::new(Real);
        let keys = tempfile::tempdir().map_err(|source| BenchError::Probe { path: std::env::temp_dir(), source })?;
        let files = Arc::new(KeyFiles::open(keys.path(), true, "bench.example", &Real)?);
        let tenants: Arc<Vec<TenantId>> = Arc::new((0..tenants).map(|_| TenantId(Real.uuid_v4())).collect());
        let rig = Rig { server, latency, tenants, system, files, _keys: keys };
        let template = server::create(&rig.server, TEMPLATE).await?;
        eprintln!("{latency}: registering {} tenants", rig.tenants.len());
        let (journal, task) = Journal::start(&template, rig.system(), JournalOptions::new(Real.uuid_v4()));
        journal.ready(deadline()).await?;
        let executor = executor(&template, journal.clone(), &rig.files, &rig.system);
        load::register(&executor, &rig.tenants).await?;
        end_of(journal, task).await;
        template.connect(Role::Login, "").await?.batch_execute("vacuum analyze").await?;
        Ok(rig)
    }

    pub fn system(&self) -> SharedSystem {
        self.system.clone()
    }

    /// The registered tenants, none of them touched.
    pub fn untouched(&self) -> Arc<Untouched> {
        Untouched::new(self.tenants.clone())
    }

    /// What is measured on, e.g. `PostgreSQL 15.18`.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn server_version(&self) -> Result<String, BenchError> {
        let session = self.server.database("postgres").connect(Role::Login, "").await?;
        let row = session.query_one("select split_part(version(), ' (', 1)", &[]).await?;
        Ok(row.get(0))
    }

    /// Another database that begins as the template.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub async fn copy(&self, name: &str) -> Result<Database, BenchError> {
        server::copy(&self.server, TEMPLATE, name).await
    }

    /// One measurement of Daybook, with a writer and caches of its own.
    ///
    /// # Errors
    /// When anything fails.
    pub async fn daybook(
        &self,
        database: &Database,
        load: Load,
        tasks: usize,
        warm_percent: u8,
        seconds: f64,
    ) -> Result<Figures, BenchError> {
        let started = Journal::start(database, self.system(), JournalOptions::new(Real.uuid_v4()));
        self.measure(database, started, load, || Pace::of(tasks, warm_percent, seconds)).await
    }

    /// With a writer that has just been started.
    pub(crate) async fn measure(
        &self,
        database: &Database,
        (journal, task): (Journal, JoinHandle<()>),
        load: Load,
        pace: impl FnOnce() -> Pace,
    ) -> Result<Figures, BenchError> {
        let watcher = database.connect(Role::Login, "").await?;
        journal.ready(deadline()).await?;
        let pace = pace();
        let run = async {
            match load {
                Load::Raw => load::raw(&journal, pace).await,
                Load::Command => {
                    let executor = executor(database, journal.clone(), &self.files, &self.system);
                    load::commands(&executor, &self.untouched(), pace).await
                }
            }
        };
        let figures = watched(pace, run, async || server::cpu(&watcher).await).await;
        end_of(journal, task).await;
        figures
    }
}

/// A run with the processor time that it took.
///
/// # Errors
/// When the run fails, or the one who is asked for processor time so far.
pub async fn watched(
    pace: Pace,
    run: impl Future<Output = Result<Figures, BenchError>>,
    used: impl AsyncFn() -> Result<Cpu, BenchError>,
) -> Result<Figures, BenchError> {
    let watch = async {
        tokio::time::sleep_until(pace.begin.into()).await;
        let (machine, before) = (Machine::now(), used().await?);
        tokio::time::sleep_until(pace.end.into()).await;
        Ok::<_, BenchError>((before, used().await?, Machine::now().since(machine)))
    };
    let (figures, used) = tokio::join!(run, watch);
    let (mut figures, (before, after, machine)) = (figures?, used?);
    #[allow(clippy::cast_precision_loss)]
    let operations = figures.operations as f64;
    figures.cpu = Cpu {
        client_us: (after.client_us - before.client_us) / operations,
        server_us: (after.server_us - before.server_us) / operations,
    };
    let own_us = after.client_us - before.client_us + after.server_us - before.server_us;
    figures.others = machine.others(own_us);
    Ok(figures)
}

pub(crate) fn executor(
    database: &Database,
    journal: Journal,
    files: &Arc<KeyFiles>,
    system: &SharedSystem,
) -> Executor {
    let keys = KeyStore::new(database.pool(Role::Writer, 8, BY_KEY), files.clone(), system.clone());
    let sealer = Sealer::new(Arc::new(keys), system.clone());
    Executor::new(journal, sealer, files.clone(), system.clone())
}

pub(crate) fn deadline() -> tokio::time::Instant {
    tokio::time::Instant::now() + Duration::from_secs(20)
}

pub(crate) async fn end_of(journal: Journal, task: JoinHandle<()>) {
    journal.shutdown().await;
    // What it would tell of a panic has been printed already.
    let _ = task.await;
}
