//! `append`: the cells of the table, interleaved, and the table.

use crate::baseline::{self, Way};
use crate::error::BenchError;
use crate::figures::{cpu, median, medians, ms, span};
use crate::limit;
use crate::load::{Figures, Pace};
use crate::machine;
use crate::rig::{Load, Rig};
use crate::server::{self, Latency};
use daybook_store::Database;
use daybook_store::journal::{Journal, JournalOptions};
use daybook_store::system::{Real, System};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

#[derive(clap::Args, Debug)]
pub struct Options {
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

/// Runs every cell.
///
/// # Errors
/// When anything fails: then there is no table.
pub async fn run(options: Options) -> Result<String, BenchError> {
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
        bench.rig.server.stop().await;
    }
    Ok(table)
}

/// How long a repeated measurement waits for the machine to be idle.
const IDLE_WAIT: Duration = Duration::from_secs(60);
/// Share of the machine that others may take in a measurement that counts at once.
const OTHERS_MAX: f64 = 0.1;

/// One server with two databases that begin alike.
struct Bench {
    rig: Rig,
    ours: Database,
    theirs: Database,
}

impl Bench {
    async fn start(latency: Latency, options: &Options) -> Result<Self, BenchError> {
        let count = if options.load.contains(&Load::Command) { options.tenants } else { 0 };
        let rig = Rig::start(latency, options.disk_dir.clone(), options.sessions + 100, count).await?;
        let (ours, theirs) = (rig.copy("bench_ours").await?, rig.copy("bench_theirs").await?);
        Ok(Bench { rig, ours, theirs })
    }

    async fn cell(&self, writers: usize, options: &Options, table: &mut String) -> Result<(), BenchError> {
        let mut probes = Vec::new();
        let mut figures: Vec<(Load, Vec<Figures>, Vec<Figures>)> =
            options.load.iter().map(|l| (*l, vec![], vec![])).collect();
        for round in 1..=options.rounds {
            let probe = server::probe(&self.rig.server, &self.ours).await?;
            for (load, ours, theirs) in &mut figures {
                let our = self.measure_quietly(*load, writers, options, None).await?;
                let their = self.measure_quietly(*load, writers, options, Some(Way::Transaction)).await?;
                eprintln!(
                    "{}, {writers} writers, round {round}, {}: {:.0}/s (p50 {:.2} ms, CPU {}) against {:.0}/s (p50 {:.2} ms, CPU {}): {:.2}; fsync {} µs, commit {} µs, others {:.0} and {:.0} %",
                    self.rig.latency,
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
                self.rig.latency,
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
                self.rig.latency,
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
        let (database, started) = if let Some(way) = baseline {
            let sessions = options.sessions.min(writers);
            let writer = baseline::sit(self.theirs.clone(), self.rig.system(), sessions, way);
            (&self.theirs, Journal::start_with(&self.theirs, journal_options, writer))
        } else {
            (&self.ours, Journal::start(&self.ours, self.rig.system(), journal_options))
        };
        let pace = || Pace::of(writers, options.warm, options.seconds);
        self.rig.measure(database, started, load, pace).await
    }
}
