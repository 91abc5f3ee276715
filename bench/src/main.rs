//! Measures what Daybook promises about speed, each figure beside the simpler way it is compared with.
//!
//! It brings its own PostgreSQL and leaves nothing behind. It refuses to compare figures of different
//! runs: machines and disks change between two of them, so whatever is compared is interleaved in one.

mod append;
mod baseline;
mod error;
mod insert;
mod latency;
mod limit;
mod load;
mod machine;
mod server;

use clap::{Parser, Subcommand};
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
    /// What the writer's statement costs, by the size of the batch.
    Insert(insert::Options),
    /// From a mutation to a subscription and to NATS, at a steady rate, against a running `daybook serve`.
    Latency(latency::Options),
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
        Command::Insert(options) => insert::run(options).await,
        Command::Latency(options) => latency::run(options).await.map_err(error::BenchError::from),
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
