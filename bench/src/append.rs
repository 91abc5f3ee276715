//! `append`: the cells of the table, interleaved, and the table.

use crate::baseline::{self, Way};
use crate::error::BenchError;
use crate::limit;
use crate::load::{self, Cpu, Figures, Pace, Untouched};
use crate::machine::{self, Machine};
use crate::server::{self, Latency};
use daybook_app::Executor;
use daybook_domain::TenantId;
use daybook_store::journal::{BY_KEY, Journal, JournalOptions};
use daybook_store::keys::{KeyFiles, KeyStore, Sealer};
use daybook_store::system::{Real, SharedSystem, System};
use daybook_store::{Database, Role};
use daybook_testing::TestServer;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    /// Measured time of one measurement.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Measurements of each kind in a cell; the table shows their medians.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Callers at the same time.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 32, 128])]
    writers: Vec<usize>,
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Latency::Disk, Latency::TwoMs])]
    latency: Vec<Latency>,
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Load::Raw, Load::Command])]
    load: Vec<Load>,
    /// How many of a hundred operations go to a stream whose state is known.
    #[arg(long, default_value_t = 80, value_parser = clap::value_parser!(u8).range(0..=100))]
    warm: u8,
    /// Sessions of one transaction per append, at most; fewer callers have as many as they are.
    #[arg(long, default_value_t = 128)]
    sessions: usize,
    /// Events in one of Daybook's batches, at most [default: the writer's own].
    #[arg(long)]
    batch: Option<usize>,
    /// Connections that flush [default: the writer's own].
    #[arg(long)]
    flushers: Option<usize>,
    /// Tenants to register beforehand; every command on an unknown stream takes one.
    #[arg(long, default_value_t = 30_000)]
    tenants: usize,
    /// Events of the COPY that shows the limit.
    #[arg(long, default_value_t = 200_000)]
    copy: usize,
    /// Also with a writer that writes nothing: what all writers have in common, and so the most that any can do.
    #[arg(long)]
    ceiling: bool,
    /// How often a measurement is repeated while others take more than a tenth of the machine; the least
    /// disturbed one counts.
    #[arg(long, default_value_t = 0)]
    repeats: usize,
    /// Directory on the disk to be measured [default: that of temporary files].
    #[arg(long)]
    disk_dir: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Load {
    /// `Journal::append`.
    Raw,
    /// `Executor::execute` of an authorized command.
    Command,
}

impl Load {
    fn name(self) -> &'static str {
        match self {
            Load::Raw => "raw append",
            Load::Command => "whole command",
        }
    }
}

/// Runs every cell.
///
/// # Errors
/// When anything fails: then there is no table.
pub(crate) async fn run(options: Options) -> Result<String, BenchError> {
    let mut table = String::from(
        "| latency | fsync / commit µs | load | writers | Daybook events/s | p50 / p99 ms | CPU µs | one tx per append | p50 / p99 ms | CPU µs | ratio | others % |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for latency in &options.latency {
        let bench = Bench::start(*latency, &options).await?;
        for writers in &options.writers {
            bench.cell(*writers, &options, &mut table).await?;
        }
        let copied = limit::copy(&bench.ours, options.copy).await?;
        // Writing to a String cannot fail.
        let _ = writeln!(table, "| {latency} | | limit: COPY, one connection | | {copied:.0} | | | | | | | |");
        bench.server.stop().await;
    }
    Ok(table)
}

/// Not measured: sessions, caches and statements get ready.
const WARM_UP: Duration = Duration::from_millis(700);
/// How long a repeated measurement waits for the machine to be idle.
const IDLE_WAIT: Duration = Duration::from_secs(60);
/// Share of the machine that others may take in a measurement that counts at once.
const OTHERS_MAX: f64 = 0.1;

/// One server with two databases that begin alike.
struct Bench {
    server: TestServer,
    latency: Latency,
    ours: Database,
    theirs: Database,
    system: SharedSystem,
    files: Arc<KeyFiles>,
    tenants: Arc<Vec<TenantId>>,
    // Where the key files are, for as long as they are used.
    _keys: tempfile::TempDir,
}

impl Bench {
    async fn start(latency: Latency, options: &Options) -> Result<Self, BenchError> {
        let server = server::start(latency, options.disk_dir.clone(), options.sessions + 100).await?;
        let system: SharedSystem = Arc::new(Real);
        let keys = tempfile::tempdir().map_err(|source| BenchError::Probe { path: std::env::temp_dir(), source })?;
        let files = Arc::new(KeyFiles::open(keys.path(), true, "bench.example", &Real)?);
        let count = if options.load.contains(&Load::Command) { options.tenants } else { 0 };
        let tenants: Arc<Vec<TenantId>> = Arc::new((0..count).map(|_| TenantId(Real.uuid_v4())).collect());
        let template = server::create(&server, "bench_template").await?;
        {
            eprintln!("{latency}: registering {count} tenants");
            let (journal, task) = Journal::start(&template, system.clone(), JournalOptions::new(Real.uuid_v4()));
            journal.ready(deadline()).await?;
            let executor = executor(&template, journal.clone(), &files, &system);
            load::register(&executor, &tenants).await?;
            end_of(journal, task).await;
            template.connect(Role::Login, "").await?.batch_execute("vacuum analyze").await?;
        }
        let ours = server::copy(&server, "bench_template", "bench_ours").await?;
        let theirs = server::copy(&server, "bench_template", "bench_theirs").await?;
        Ok(Bench { server, latency, ours, theirs, system, files, tenants, _keys: keys })
    }

    async fn cell(&self, writers: usize, options: &Options, table: &mut String) -> Result<(), BenchError> {
        let mut probes = Vec::new();
        let mut figures: Vec<(Load, Vec<Figures>, Vec<Figures>)> =
            options.load.iter().map(|l| (*l, vec![], vec![])).collect();
        for round in 1..=options.rounds {
            let probe = server::probe(&self.server, &self.ours).await?;
            for (load, ours, theirs) in &mut figures {
                let our = self.measure_quietly(*load, writers, options, None).await?;
                let their = self.measure_quietly(*load, writers, options, Some(Way::Transaction)).await?;
                eprintln!(
                    "{}, {writers} writers, round {round}, {}: {:.0}/s (p50 {:.2} ms, CPU {}) against {:.0}/s (p50 {:.2} ms, CPU {}): {:.2}; fsync {} µs, commit {} µs, others {:.0} and {:.0} %",
                    self.latency,
                    load.name(),
                    our.per_second,
                    ms(our.p50_us),
                    cpu(our.cpu),
                    their.per_second,
                    ms(their.p50_us),
                    cpu(their.cpu),
                    our.per_second / their.per_second,
                    probe.fsync.as_micros(),
                    probe.commit.as_micros(),
                    our.others * 100.0,
                    their.others * 100.0,
                );
                ours.push(our);
                theirs.push(their);
            }
            probes.push(probe);
        }
        let fsync = median(probes.iter().map(|p| p.fsync.as_micros()).collect());
        let commit = median(probes.iter().map(|p| p.commit.as_micros()).collect());
        for (load, ours, theirs) in &figures {
            let (our, their) = (medians(ours), medians(theirs));
            let _ = writeln!(
                table,
                "| {} | {fsync} / {commit} | {} | {writers} | {:.0} ({}) | {:.2} / {:.2} | {} | {:.0} ({}) | {:.2} / {:.2} | {} | **{:.2}** | {:.0} / {:.0} |",
                self.latency,
                load.name(),
                our.per_second,
                span(ours),
                ms(our.p50_us),
                ms(our.p99_us),
                cpu(our.cpu),
                their.per_second,
                span(theirs),
                ms(their.p50_us),
                ms(their.p99_us),
                cpu(their.cpu),
                our.per_second / their.per_second,
                our.others * 100.0,
                their.others * 100.0,
            );
        }
        for load in options.load.iter().filter(|_| options.ceiling) {
            let mut most = Vec::new();
            for _ in 0..options.rounds {
                most.push(self.measure_quietly(*load, writers, options, Some(Way::Nothing)).await?);
            }
            let figures = medians(&most);
            let _ = writeln!(
                table,
                "| {} | | ceiling: {}, nothing written | {writers} | {:.0} ({}) | {:.2} / {:.2} | {} | | | | | {:.0} |",
                self.latency,
                load.name(),
                figures.per_second,
                span(&most),
                ms(figures.p50_us),
                ms(figures.p99_us),
                cpu(figures.cpu),
                figures.others * 100.0,
            );
        }
        Ok(())
    }

    /// The least disturbed of a few measurements.
    async fn measure_quietly(
        &self,
        load: Load,
        writers: usize,
        options: &Options,
        baseline: Option<Way>,
    ) -> Result<Figures, BenchError> {
        let mut best: Option<Figures> = None;
        for _ in 0..=options.repeats {
            if options.repeats > 0 {
                machine::wait_until_idle(IDLE_WAIT).await;
            }
            let figures = self.measure(load, writers, options, baseline).await?;
            let quiet = figures.others <= OTHERS_MAX;
            if best.as_ref().is_none_or(|b| figures.others < b.others) {
                best = Some(figures);
            }
            if quiet {
                break;
            }
        }
        best.ok_or(BenchError::NothingMeasured)
    }

    /// One measurement, with a journal and caches of its own.
    async fn measure(
        &self,
        load: Load,
        writers: usize,
        options: &Options,
        baseline: Option<Way>,
    ) -> Result<Figures, BenchError> {
        let mut journal_options = JournalOptions::new(Real.uuid_v4());
        let config = &mut journal_options.writer;
        config.batch_events_max = options.batch.unwrap_or(config.batch_events_max);
        config.flushers = options.flushers.unwrap_or(config.flushers);
        let (database, (journal, task)) = if let Some(way) = baseline {
            let sessions = options.sessions.min(writers);
            let writer = baseline::sit(self.theirs.clone(), self.system.clone(), sessions, way);
            (&self.theirs, Journal::start_with(&self.theirs, journal_options, writer))
        } else {
            (&self.ours, Journal::start(&self.ours, self.system.clone(), journal_options))
        };
        let watcher = database.connect(Role::Login, "").await?;
        journal.ready(deadline()).await?;
        let begin = Instant::now() + WARM_UP;
        let end = begin + Duration::from_secs_f64(options.seconds);
        let pace = Pace { tasks: writers, warm_percent: usize::from(options.warm), begin, end };
        let run = async {
            match load {
                Load::Raw => load::raw(&journal, pace).await,
                Load::Command => {
                    let executor = executor(database, journal.clone(), &self.files, &self.system);
                    load::commands(&executor, &Untouched::new(self.tenants.clone()), pace).await
                }
            }
        };
        let watch = async {
            tokio::time::sleep_until(begin.into()).await;
            let (machine, before) = (Machine::now(), server::cpu(&watcher).await?);
            tokio::time::sleep_until(end.into()).await;
            Ok::<_, BenchError>((before, server::cpu(&watcher).await?, Machine::now().since(machine)))
        };
        let (figures, used) = tokio::join!(run, watch);
        end_of(journal, task).await;
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

pub(crate) fn median<T: Ord + Copy>(mut values: Vec<T>) -> T {
    values.sort_unstable();
    values[values.len() / 2]
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Client and server, µs per operation.
fn cpu(cpu: Cpu) -> String {
    format!("{:.0} + {:.0}", cpu.client_us, cpu.server_us)
}

fn medians(figures: &[Figures]) -> Figures {
    Figures {
        per_second: middle(figures.iter().map(|f| f.per_second).collect()),
        p50_us: median(figures.iter().map(|f| f.p50_us).collect()),
        p99_us: median(figures.iter().map(|f| f.p99_us).collect()),
        others: middle(figures.iter().map(|f| f.others).collect()),
        operations: median(figures.iter().map(|f| f.operations).collect()),
        cpu: Cpu {
            client_us: middle(figures.iter().map(|f| f.cpu.client_us).collect()),
            server_us: middle(figures.iter().map(|f| f.cpu.server_us).collect()),
        },
    }
}

/// Slowest to fastest.
fn span(figures: &[Figures]) -> String {
    let (low, high) =
        figures.iter().fold((f64::MAX, 0f64), |(low, high), f| (low.min(f.per_second), high.max(f.per_second)));
    format!("{low:.0}–{high:.0}")
}

#[allow(clippy::cast_precision_loss)]
pub(crate) fn ms(us: u64) -> f64 {
    us as f64 / 1_000.0
}
