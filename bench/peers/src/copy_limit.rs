//! `copy-limit`: appends of very many writers beside the fastest way to put the same rows into the same tables.

use crate::targets::Targets;
use daybook_bench::error::BenchError;
use daybook_bench::figures::{cpu, medians, middle, ms, span};
use daybook_bench::limit;
use daybook_bench::rig::{Load, Rig};
use daybook_bench::server::Latency;
use std::fmt::Write as _;
use std::path::PathBuf;

#[derive(clap::Args, Debug)]
pub struct Options {
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Latency::TwoMs, Latency::Disk])]
    latency: Vec<Latency>,
    /// Callers at the same time, each waiting for its answer.
    #[arg(long, default_value_t = 1_024)]
    writers: usize,
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Measured time of one measurement.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Events of one COPY.
    #[arg(long, default_value_t = 200_000)]
    events: usize,
    /// Directory on the disk to be measured [default: that of temporary files].
    #[arg(long)]
    disk_dir: Option<PathBuf>,
}

/// How many of a hundred appends go to a stream that the caller has written to before.
const WARM: u8 = 80;
const SHARE_PERCENT: f64 = 50.0;

/// Both in turn, each in a database of its own.
///
/// # Errors
/// When anything fails: then there is no table.
pub async fn run(options: &Options) -> Result<String, BenchError> {
    let mut table = String::from(
        "| latency | writers | Daybook appends/s | p50 / p99 ms | CPU µs | COPY, rows of as many events/s | share |\n\
         |---|---|---|---|---|---|---|\n",
    );
    let (mut targets, mut version) = (Targets::default(), String::new());
    for latency in &options.latency {
        let rig = Rig::start(*latency, options.disk_dir.clone(), 100, 0).await?;
        version = rig.server_version().await?;
        let (ours, copied) = (rig.copy("bench_ours").await?, rig.copy("bench_copied").await?);
        let (mut appends, mut copies) = (Vec::new(), Vec::new());
        for round in 1..=options.rounds {
            let figures = rig.daybook(&ours, Load::Raw, options.writers, WARM, options.seconds).await?;
            let copy = limit::copy(&copied, options.events).await?;
            eprintln!("{latency}, round {round}: {:.0}/s of {copy:.0}/s", figures.per_second);
            appends.push(figures);
            copies.push(copy);
        }
        let (figures, copy) = (medians(&appends), middle(copies));
        let share = figures.per_second / copy * 100.0;
        // Writing to a String cannot fail.
        let _ = writeln!(
            table,
            "| {latency} | {} | {:.0} ({}) | {:.2} / {:.2} | {} | {copy:.0} | **{share:.0} %** |",
            options.writers,
            figures.per_second,
            span(&appends),
            ms(figures.p50_us),
            ms(figures.p99_us),
            cpu(figures.cpu),
        );
        let what = format!("{latency}, {} writers: share of COPY", options.writers);
        targets.at_least(&what, share, " %", SHARE_PERCENT);
        rig.server.stop().await;
    }
    Ok(format!("{version}.\n\n{table}\n{}", targets.table()))
}
