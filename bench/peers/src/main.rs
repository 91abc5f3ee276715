//! The command line; see the library.

use clap::{Parser, Subcommand};
use daybook_bench::error::{BenchError, chain};
use daybook_bench::latency::crowd;
use daybook_peers::page::PageError;
use daybook_peers::{append, catch_up, copy_limit, page, umadb};
use daybook_store::system::{Real, System};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(about = "Measures Daybook beside other event stores, interleaved, on the same machine and server.")]
struct Cli {
    /// Also write the figures into their place in this page.
    #[arg(long, global = true, value_name = "FILE")]
    report: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Whole commands and raw appends, beside postgres-es and UmaDB.
    ///
    ///     peers append --latency 2ms,disk --writers 1,8,32,128 --rounds 3 --report docs/peers.md
    #[command(verbatim_doc_comment)]
    Append(append::Options),
    /// Appends of very many writers, as a share of COPY of the same rows.
    CopyLimit(copy_limit::Options),
    /// Everything read from the beginning and decoded, beside postgres-es.
    CatchUp(catch_up::Options),
    /// Two thousand subscriptions on one `daybook serve`.
    Subscriptions(crowd::Options),
    /// UmaDB's own server, as `append` starts it.
    #[command(hide = true)]
    UmadbServer(umadb::ServerArguments),
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Bench(#[from] BenchError),
    #[error(transparent)]
    Page(#[from] PageError),
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn,refinery_core=error".into()),
        )
        .init();
    match run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<(), Failed> {
    let (place, figures) = match cli.command {
        Command::Append(options) => ("append", append::run(&options).await?),
        Command::CopyLimit(options) => ("copy-limit", copy_limit::run(&options).await?),
        Command::CatchUp(options) => ("catch-up", catch_up::run(&options).await?),
        Command::Subscriptions(options) => {
            ("subscriptions", crowd::run(&options).await.map_err(BenchError::from)?.to_string())
        }
        Command::UmadbServer(arguments) => return Ok(umadb::serve(arguments).await?),
    };
    println!("{figures}");
    if let Some(report) = cli.report {
        // With what it was measured with, so that it can be measured again.
        let line: Vec<String> = std::env::args().skip(1).collect();
        let figures = format!("`peers {}`, {}\n\n{figures}", line.join(" "), machine());
        page::put(&report, place, &figures)?;
    }
    Ok(())
}

/// Cores, memory and day.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok());
    let gib = kib.map_or(String::new(), |kib: u64| format!("{} GiB, ", kib.div_ceil(1_024 * 1_024)));
    format!("{cores} cores, {gib}{}", Real.utc().format("%Y-%m-%d"))
}
