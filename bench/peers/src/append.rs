//! `append`: whole commands and raw appends, in interleaved rounds.

use crate::targets::Targets;
use crate::{fsync, postgres_es, umadb};
use daybook_bench::error::BenchError;
use daybook_bench::figures::{cpu, median, medians, ms, span};
use daybook_bench::load::{Figures, Pace};
use daybook_bench::rig::{Load, Rig};
use daybook_bench::server::{self, Latency};
use daybook_store::Database;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

#[derive(clap::Args, Debug)]
pub struct Options {
    /// What a commit costs: 2 ms each, in memory, or whatever the disk takes.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Latency::TwoMs, Latency::Disk])]
    latency: Vec<Latency>,
    /// Callers at the same time, each waiting for its answer.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 32, 128])]
    writers: Vec<usize>,
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Load::Command, Load::Raw])]
    load: Vec<Load>,
    /// Measurements of each kind in a cell; the tables show their medians.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Measured time of one measurement.
    #[arg(long, default_value_t = 1.5)]
    seconds: f64,
    /// How many of a hundred operations go to a stream that the caller has written to before.
    #[arg(long, default_value_t = 80, value_parser = clap::value_parser!(u8).range(0..=100))]
    warm: u8,
    /// Tenants to register beforehand; every command on an unknown stream takes one.
    #[arg(long, default_value_t = 20_000)]
    tenants: usize,
    /// Directory on the disk to be measured [default: that of temporary files].
    #[arg(long)]
    disk_dir: Option<PathBuf>,
}

/// Connections of postgres-es besides as many as there are writers; the better of both counts.
const CONNECTIONS: usize = 16;
const PROBE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Side {
    Daybook(Load),
    PostgresEs(Load, usize),
    /// With an append condition, or without.
    UmaDb(bool),
}

/// What one cell gave.
struct Cell {
    latency: Latency,
    writers: usize,
    fsync_us: u128,
    commit_us: u128,
    sides: Vec<(Side, Vec<Figures>)>,
}

impl Cell {
    /// The best of those sides, by their medians.
    fn best(&self, wanted: impl Fn(Side) -> bool) -> Option<(Side, Figures, &[Figures])> {
        let those = self.sides.iter().filter(|(side, _)| wanted(*side));
        those
            .map(|(side, figures)| (*side, medians(figures), figures.as_slice()))
            .max_by(|a, b| a.1.per_second.total_cmp(&b.1.per_second))
    }

    fn daybook(&self, load: Load) -> Option<(Side, Figures, &[Figures])> {
        self.best(|side| side == Side::Daybook(load))
    }

    fn postgres_es(&self, load: Load) -> Option<(Side, Figures, &[Figures])> {
        self.best(|side| matches!(side, Side::PostgresEs(of, _) if of == load))
    }

    fn umadb(&self) -> Option<(Side, Figures, &[Figures])> {
        self.best(|side| matches!(side, Side::UmaDb(_)))
    }
}

/// Runs every cell.
///
/// # Errors
/// When anything fails: then there are no tables.
pub async fn run(options: &Options) -> Result<String, BenchError> {
    let (mut cells, mut probes) = (Vec::new(), String::new());
    for latency in &options.latency {
        let connections = options.writers.iter().copied().max().unwrap_or_default().max(CONNECTIONS) + 100;
        let tenants = if options.load.contains(&Load::Command) { options.tenants } else { 0 };
        let rig = Rig::start(*latency, options.disk_dir.clone(), connections, tenants).await?;
        if probes.is_empty() {
            probes = format!("{}.\n\n", rig.server_version().await?);
        }
        if *latency == Latency::Disk {
            let writes = fsync::probe(rig.server.directory(), PROBE)?;
            // Writing to a String cannot fail.
            let _ = writeln!(probes, "The disk: {writes:.0} writes of 4 KiB a second, each with an fdatasync.\n");
            eprint!("{probes}");
        }
        let bench = Bench::start(rig, options).await?;
        for writers in &options.writers {
            cells.push(bench.cell(*writers, options).await?);
        }
        bench.rig.server.stop().await;
    }
    Ok(format!("{probes}{}\n{}\n{}", commands(&cells), raw(&cells), promised(&cells)))
}

struct Bench {
    rig: Rig,
    ours: Database,
    theirs: Database,
    umadb: Option<umadb::Server>,
}

impl Bench {
    async fn start(rig: Rig, options: &Options) -> Result<Self, BenchError> {
        let (ours, theirs) = (rig.copy("bench_ours").await?, rig.copy("bench_postgres_es").await?);
        postgres_es::adopt(&theirs).await?;
        let umadb = match rig.latency == Latency::Disk && options.load.contains(&Load::Raw) {
            true => Some(umadb::Server::start(&options.disk_dir.clone().unwrap_or_else(std::env::temp_dir)).await?),
            false => None,
        };
        Ok(Bench { rig, ours, theirs, umadb })
    }

    async fn cell(&self, writers: usize, options: &Options) -> Result<Cell, BenchError> {
        let mut sides = Vec::new();
        for load in &options.load {
            sides.push(Side::Daybook(*load));
            sides.push(Side::PostgresEs(*load, writers));
            // With fewer writers the rest of the connections would idle.
            if writers > CONNECTIONS {
                sides.push(Side::PostgresEs(*load, CONNECTIONS));
            }
            if *load == Load::Raw && self.umadb.is_some() {
                sides.extend([Side::UmaDb(true), Side::UmaDb(false)]);
            }
        }
        let mut sides: Vec<(Side, Vec<Figures>)> = sides.into_iter().map(|side| (side, vec![])).collect();
        let mut probes = Vec::new();
        for round in 1..=options.rounds {
            probes.push(server::probe(&self.rig.server, &self.ours).await?);
            for (side, all) in &mut sides {
                let figures = self.measure(*side, writers, options).await?;
                eprintln!(
                    "{}, {writers} writers, round {round}, {side:?}: {:.0}/s, p50 {:.2} ms, p99 {:.2} ms, CPU {}, others {:.0} %",
                    self.rig.latency,
                    figures.per_second,
                    ms(figures.p50_us),
                    ms(figures.p99_us),
                    cpu(figures.cpu),
                    figures.others * 100.0,
                );
                all.push(figures);
            }
        }
        Ok(Cell {
            latency: self.rig.latency,
            writers,
            fsync_us: median(probes.iter().map(|p| p.fsync.as_micros()).collect()),
            commit_us: median(probes.iter().map(|p| p.commit.as_micros()).collect()),
            sides,
        })
    }

    async fn measure(&self, side: Side, writers: usize, options: &Options) -> Result<Figures, BenchError> {
        let pace = || Pace::of(writers, options.warm, options.seconds);
        match (side, &self.umadb) {
            (Side::Daybook(load), _) => {
                self.rig.daybook(&self.ours, load, writers, options.warm, options.seconds).await
            }
            (Side::PostgresEs(load, connections), _) => {
                let connections = u32::try_from(connections).unwrap_or(u32::MAX);
                postgres_es::measure(&self.theirs, load, connections, self.rig.untouched(), pace).await
            }
            (Side::UmaDb(guarded), Some(umadb)) => umadb.measure(guarded, writers, pace).await,
            (Side::UmaDb(_), None) => Err(BenchError::NothingMeasured),
        }
    }
}

/// Rate, its span, and times.
fn rate((_, figures, all): &(Side, Figures, &[Figures])) -> String {
    format!(
        "{:.0} ({}) | {:.2} / {:.2} | {}",
        figures.per_second,
        span(all),
        ms(figures.p50_us),
        ms(figures.p99_us),
        cpu(figures.cpu)
    )
}

fn connections(side: Side) -> String {
    match side {
        Side::PostgresEs(_, connections) => connections.to_string(),
        Side::Daybook(_) | Side::UmaDb(_) => String::new(),
    }
}

fn commands(cells: &[Cell]) -> String {
    let mut table = String::from(
        "Whole commands a second (slowest to fastest round), p50 / p99 ms, CPU µs of client + server per command:\n\n\
         | latency | writers | fsync / commit µs | Daybook | p50 / p99 | CPU | postgres-es | p50 / p99 | CPU | its connections | ratio |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for cell in cells {
        let (Some(ours), Some(theirs)) = (cell.daybook(Load::Command), cell.postgres_es(Load::Command)) else {
            continue;
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            table,
            "| {} | {} | {} / {} | {} | {} | {} | **{:.2}** |",
            cell.latency,
            cell.writers,
            cell.fsync_us,
            cell.commit_us,
            rate(&ours),
            rate(&theirs),
            connections(theirs.0),
            ours.1.per_second / theirs.1.per_second,
        );
    }
    table
}

fn raw(cells: &[Cell]) -> String {
    let mut table = String::from(
        "Raw appends of one event; postgres-es by its repository, without the framework; UmaDB with a condition on the stream, \
         and without:\n\n\
         | latency | writers | by | events/s | p50 / p99 | CPU | Daybook does |\n|---|---|---|---|---|---|---|\n",
    );
    for cell in cells {
        let Some(ours) = cell.daybook(Load::Raw) else { continue };
        let rows = [
            ("Daybook".to_owned(), Some(ours.clone())),
            ("postgres-es".to_owned(), cell.postgres_es(Load::Raw)),
            ("UmaDB, condition".to_owned(), cell.best(|side| side == Side::UmaDb(true))),
            ("UmaDB, no condition".to_owned(), cell.best(|side| side == Side::UmaDb(false))),
        ];
        for (by, figures) in rows {
            let Some(figures) = figures else { continue };
            let by = match connections(figures.0).as_str() {
                "" => by,
                connections => format!("{by}, {connections} connections"),
            };
            let ratio = match figures.0 {
                Side::Daybook(_) => String::new(),
                Side::PostgresEs(..) | Side::UmaDb(_) => format!("**{:.2}**", ours.1.per_second / figures.1.per_second),
            };
            let _ = writeln!(table, "| {} | {} | {by} | {} | {ratio} |", cell.latency, cell.writers, rate(&figures));
        }
    }
    table
}

fn promised(cells: &[Cell]) -> String {
    let mut targets = Targets::default();
    for cell in cells {
        let place = format!("{}, {} writers", cell.latency, cell.writers);
        if let (Some((_, ours, _)), Some((_, theirs, _))) =
            (cell.daybook(Load::Command), cell.postgres_es(Load::Command))
        {
            let ratio = ours.per_second / theirs.per_second;
            let least = match (cell.latency, cell.writers) {
                (_, 1) => Some(1.0),
                (_, 8) => Some(1.3),
                (_, 32) => Some(2.5),
                (Latency::TwoMs, 128) => Some(10.0),
                _ => None,
            };
            if let Some(least) = least {
                targets.at_least(&format!("{place}: commands, times postgres-es"), ratio, "×", least);
            }
            match (cell.latency, cell.writers) {
                (_, 1 | 8 | 32) => {
                    let slower = ms(ours.p50_us) / ms(theirs.p50_us);
                    targets.at_most(&format!("{place}: commands, p50, times postgres-es's"), slower, "×", 1.05);
                }
                (Latency::TwoMs, 128) => {
                    targets.at_most(&format!("{place}: commands, p99"), ms(ours.p99_us), " ms", 8.0);
                }
                _ => {}
            }
        }
        if let (Latency::Disk, 32, Some((_, ours, _))) = (cell.latency, cell.writers, cell.daybook(Load::Raw)) {
            let peers = [
                ("postgres-es without its framework", cell.postgres_es(Load::Raw), 5.0),
                ("postgres-es with its framework", cell.postgres_es(Load::Command), 5.0),
                ("UmaDB, the faster way", cell.umadb(), 2.0),
            ];
            for (peer, figures, least) in peers {
                if let Some((_, theirs, _)) = figures {
                    let what = format!("{place}: raw appends, times {peer}");
                    targets.at_least(&what, ours.per_second / theirs.per_second, "×", least);
                }
            }
        }
    }
    targets.table()
}
