//! The `daybook` program. It only composes: every part lives in a crate of its own.

// A program exports nothing: `pub` here means "for the other files".
#![allow(unreachable_pub)]

mod base;
mod config;
mod exit;
mod verbs;

use clap::{CommandFactory, Parser, Subcommand};
use config::Common;
use std::io::IsTerminal;
use std::process::ExitCode;

/// An event-sourced backend whose journal is its audit trail.
///
/// Without a DATABASE_URL, Daybook keeps a private PostgreSQL in its data directory: there is
/// nothing else to set up.
#[derive(Parser)]
#[command(version, about, after_help = "Example:\n  daybook serve\n  daybook verify --format json")]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run the server: GraphQL over HTTP and WebSocket
    #[command(
        after_help = "Example:\n  daybook serve --listen 127.0.0.1:4000\n\nWithout tokens in the configuration, a platform administrator's token is made and kept in the file admin.token of the data directory."
    )]
    Serve(verbs::serve::Arguments),
    /// Bring the database to this version's schema
    #[command(after_help = "Example:\n  DATABASE_URL=postgres://daybook@db/daybook daybook migrate")]
    Migrate,
    /// Build a read model anew from the journal, beside the one that answers
    #[command(
        after_help = "Example:\n  daybook rebuild tenants\n\nSafe while the server runs: queries go on with the old version until the new one has caught up."
    )]
    Rebuild(verbs::rebuild::Arguments),
    /// Check that nothing in the journal was altered
    #[command(
        after_help = "Example:\n  daybook verify\n\nRecomputes every leaf and every head and compares them with the signed checkpoints outside the database.\nExit code 3 when anything differs; the first bad position is named."
    )]
    Verify(verbs::verify::Arguments),
    /// Write the published contracts (event schemas, samples, permissions, GraphQL) below a directory
    #[command(after_help = "Example:\n  daybook schemas --into schemas")]
    Schemas(verbs::schemas::Arguments),
    /// Print a completion script for your shell
    #[command(after_help = "Example:\n  daybook completion bash > /etc/bash_completion.d/daybook")]
    Completion { shell: clap_complete::Shell },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Verb::Completion { shell } = cli.verb {
        clap_complete::generate(shell, &mut Cli::command(), "daybook", &mut std::io::stdout());
        return ExitCode::SUCCESS;
    }
    if let Verb::Schemas(arguments) = &cli.verb {
        return match verbs::schemas::run(arguments) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => failure.report(),
        };
    }
    if let Err(failure) = start_logging(&cli.common.log) {
        return failure.report();
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return exit::Failure::failed(&error).report(),
    };
    let done = runtime.block_on(async {
        let settled = cli.common.settle().map_err(exit::Failure::usage)?;
        match &cli.verb {
            Verb::Serve(arguments) => verbs::serve::run(settled, arguments).await,
            Verb::Migrate => verbs::migrate::run(settled).await,
            Verb::Rebuild(arguments) => verbs::rebuild::run(settled, arguments).await,
            Verb::Verify(arguments) => verbs::verify::run(settled, arguments).await,
            Verb::Schemas(_) | Verb::Completion { .. } => Ok(()),
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Log lines go to standard error: readable on a terminal, JSON elsewhere.
/// Never logged: tokens, keys, payloads, personal data, connection strings.
fn start_logging(filter: &str) -> Result<(), exit::Failure> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .map_err(|e| exit::Failure::usage(format!("--log {filter:?} cannot be understood: {e}")))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        builder.with_target(false).init();
    } else {
        builder.json().flatten_event(true).init();
    }
    Ok(())
}
