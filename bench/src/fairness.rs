//! `fairness`: one tenant's commands alone, and beside another tenant's import.

use crate::error::BenchError;
use crate::figures::{median, ms};
use crate::load::{self, Figures, Pace};
use crate::rig::{deadline, end_of, executor};
use crate::server::{self, Latency};
use daybook_app::Executor;
use daybook_domain::TenantId;
use daybook_store::Role;
use daybook_store::journal::{Journal, JournalOptions};
use daybook_store::keys::KeyFiles;
use daybook_store::system::{Real, SharedSystem, System};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio_postgres::Client;
use uuid::Uuid;

#[derive(clap::Args, Debug)]
pub struct Options {
    /// Measured time of one measurement.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Measurements of each kind, in turn; the table shows their medians.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Callers of the tenant that is measured.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8])]
    writers: Vec<usize>,
    /// Calls of the import at the same time.
    #[arg(long, default_value_t = 2)]
    importers: usize,
    /// Events of one call of the import.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    events: u64,
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Latency::Disk, Latency::TwoMs])]
    latency: Vec<Latency>,
    /// What one tenant may have of a batch [default: the writer's own].
    #[arg(long)]
    share: Option<usize>,
    /// Directory on the disk to be measured [default: that of temporary files].
    #[arg(long)]
    disk_dir: Option<PathBuf>,
}

/// Not measured: caches get warm, and the import gets going.
const WARM_UP: Duration = Duration::from_secs(1);

/// # Errors
/// When anything fails: then there is no table.
pub async fn run(options: Options) -> Result<String, BenchError> {
    let mut table = String::from(
        "| latency | callers | alone: commands/s (p50 / p99 ms) | beside an import | ratio p50 / p99 | import events/s |\n\
         |---|---|---|---|---|---|\n",
    );
    for latency in &options.latency {
        measure(*latency, &options, &mut table).await?;
    }
    Ok(table)
}

async fn measure(latency: Latency, options: &Options, table: &mut String) -> Result<(), BenchError> {
    let server = server::start(latency, options.disk_dir.clone(), 100).await?;
    let system: SharedSystem = Arc::new(Real);
    let keys = tempfile::tempdir().map_err(|source| BenchError::Probe { path: std::env::temp_dir(), source })?;
    let files = Arc::new(KeyFiles::open(keys.path(), true, "bench.example", &Real)?);
    let database = server::create(&server, "bench_fairness").await?;
    let mut journal_options = JournalOptions::new(Real.uuid_v4());
    let config = &mut journal_options.writer;
    config.batch_share_max = options.share.unwrap_or(config.batch_share_max);
    let (journal, task) = Journal::start(&database, system.clone(), journal_options);
    let watcher = database.connect(Role::Login, "").await?;
    journal.ready(deadline()).await?;
    let executor = executor(&database, journal.clone(), &files, &system);

    let tenant = TenantId(Real.uuid_v4());
    let devices = load::devices(&executor, tenant, options.writers.iter().copied().max().unwrap_or(1)).await?;
    for writers in &options.writers {
        let (mut alone, mut beside, mut imported) = (vec![], vec![], vec![]);
        for round in 1..=options.rounds {
            alone.push(commands(&executor, tenant, &devices, *writers, options).await?);
            let import = Import::start(&executor, options).await?;
            let before = (import.events(&watcher).await?, Instant::now());
            beside.push(commands(&executor, tenant, &devices, *writers, options).await?);
            #[allow(clippy::cast_precision_loss)]
            imported.push((import.events(&watcher).await? - before.0) as f64 / before.1.elapsed().as_secs_f64());
            import.stop().await?;
            if let (Some(alone), Some(beside), Some(imported)) = (alone.last(), beside.last(), imported.last()) {
                eprintln!(
                    "{latency}, {writers} callers, round {round}: {} alone, {} beside an import of {imported:.0} events/s",
                    told(alone),
                    told(beside),
                );
            }
        }
        let (p50, p99) = (|f: &Figures| f.p50_us, |f: &Figures| f.p99_us);
        let of = |figures: &[Figures], us: fn(&Figures) -> u64| ms(median(figures.iter().map(us).collect()));
        let per_second = |figures: &[Figures]| median(figures.iter().map(|f| f.operations).collect());
        imported.sort_unstable_by(f64::total_cmp);
        #[allow(clippy::cast_precision_loss)]
        let (alone_rate, beside_rate) =
            (per_second(&alone) as f64 / options.seconds, per_second(&beside) as f64 / options.seconds);
        // Writing to a String cannot fail.
        let _ = writeln!(
            table,
            "| {latency} | {writers} | {alone_rate:.0} ({:.2} / {:.2}) | {beside_rate:.0} ({:.2} / {:.2}) | **{:.2} / {:.2}** | {:.0} |",
            of(&alone, p50),
            of(&alone, p99),
            of(&beside, p50),
            of(&beside, p99),
            of(&beside, p50) / of(&alone, p50),
            of(&beside, p99) / of(&alone, p99),
            imported[imported.len() / 2],
        );
    }
    end_of(journal, task).await;
    server.stop().await;
    Ok(())
}

async fn commands(
    executor: &Executor,
    tenant: TenantId,
    devices: &[Uuid],
    writers: usize,
    options: &Options,
) -> Result<Figures, BenchError> {
    let begin = Instant::now() + WARM_UP;
    let end = begin + Duration::from_secs_f64(options.seconds);
    let pace = Pace { tasks: writers, warm_percent: 100, begin, end };
    load::renames(executor, tenant, &devices[..writers], pace).await
}

fn told(figures: &Figures) -> String {
    format!("{:.0}/s (p50 {:.2}, p99 {:.2} ms)", figures.per_second, ms(figures.p50_us), ms(figures.p99_us))
}

/// Another tenant, which imports until it is stopped.
struct Import {
    tenant: TenantId,
    calls: JoinSet<Result<(), BenchError>>,
}

impl Import {
    async fn start(executor: &Executor, options: &Options) -> Result<Self, BenchError> {
        let tenant = TenantId(Real.uuid_v4());
        let mut calls = JoinSet::new();
        for device in load::devices(executor, tenant, options.importers).await? {
            let (executor, events) = (executor.clone(), options.events);
            calls.spawn(async move {
                // As many slots as a day has; longer than any measurement.
                for slot in 0..96 {
                    load::import(&executor, tenant, device, slot, events).await?;
                }
                Ok(())
            });
        }
        Ok(Import { tenant, calls })
    }

    /// Events that it has recorded so far.
    async fn events(&self, session: &Client) -> Result<i64, BenchError> {
        let size = "select size from journal.tenant_heads where tenant_id = $1 order by size desc limit 1";
        Ok(session.query_opt(size, &[&self.tenant.0]).await?.map_or(0, |row| row.get(0)))
    }

    async fn stop(mut self) -> Result<(), BenchError> {
        // A call that failed before is no import.
        while let Some(ended) = self.calls.try_join_next() {
            ended.map_err(|panic| BenchError::Execute(Box::new(panic)))??;
        }
        self.calls.shutdown().await;
        Ok(())
    }
}
