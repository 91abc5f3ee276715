//! The command line of the measurements; see the library.

use clap::{Parser, Subcommand};
use daybook_bench::{append, error, fairness, insert, latency, logins, rebuild, rules, volume};
use std::process::ExitCode;

#[derive(Parser)]
#[command(about = "Measures Daybook against the simpler way, interleaved, on a PostgreSQL of its own.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Appends and whole commands per second, against one transaction per append.
    Append(append::Options),
    /// What one tenant's commands cost beside another tenant's import.
    Fairness(fairness::Options),
    /// What the writer's statement costs, by the size of the batch.
    Insert(insert::Options),
    /// From a mutation to a subscription and to NATS, at a steady rate, against a running `daybook serve`.
    Latency(latency::Options),
    /// What many logins at once take, and what they cost everybody else, against a running `daybook serve`.
    Logins(logins::Options),
    /// Read models made from a full journal, events per second, against COPY of their rows.
    Rebuild(rebuild::Options),
    /// What it costs to ask who may do what: lists, commands, many members and roles.
    Rules(rules::Options),
    /// Appends, start and reading on an empty journal and on one of many events.
    Volume(volume::Options),
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn,refinery_core=error".into()),
        )
        .init();
    let result = match Cli::parse().command {
        Command::Append(options) => append::run(options).await,
        Command::Fairness(options) => fairness::run(options).await,
        Command::Insert(options) => insert::run(options).await,
        Command::Rebuild(options) => rebuild::run(options).await,
        Command::Rules(options) => rules::run(options).await,
        Command::Volume(options) => volume::run(options).await,
        Command::Latency(options) => latency::run(options).await.map_err(error::BenchError::from),
        Command::Logins(options) => logins::run(options).await.map_err(error::BenchError::from),
    };
    match result {
        Ok(table) => {
            println!("{table}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}", daybook_testing::chain(&error));
            ExitCode::FAILURE
        }
    }
}
