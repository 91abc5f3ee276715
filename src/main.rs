//! The `daybook` program. It only composes: every part lives in a crate of its own.

// A program exports nothing: `pub` here means "for the other files".
#![allow(unreachable_pub)]

mod backup;
mod base;
mod config;
mod exit;
mod logs;
mod operator;
mod server;
mod settings;
mod verbs;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use config::Common;
use std::process::ExitCode;

/// An event-sourced backend whose journal is its audit trail.
///
/// Without a DATABASE_URL, Daybook keeps a private PostgreSQL in its data directory: there is
/// nothing else to set up. Every setting can be given by flag, by environment variable or in the file
/// daybook.toml; `daybook config` shows which value is in force from where.
#[derive(Parser)]
#[command(version, about, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: Verb,
}

const EXAMPLES: &str = "\
Examples:
  daybook serve                                   start everything on 127.0.0.1:4000
  daybook --data-dir /srv/daybook serve           keep the data elsewhere
  DATABASE_URL=postgres://daybook@db/daybook daybook migrate
  daybook verify --format json                    check the journal, answer for a program
  daybook backup --into /mnt/backup/2026-03-01    while it serves
  daybook completion zsh > ~/.zfunc/_daybook

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 verification failed, 4 unavailable.";

#[derive(Subcommand)]
enum Verb {
    /// Run the server: GraphQL over HTTP and WebSocket
    #[command(
        after_help = "Example:\n  daybook serve --listen 127.0.0.1:4000\n\nWithout tokens in the configuration, a platform administrator's token is made and kept in the file admin.token of the data directory."
    )]
    Serve(verbs::serve::Arguments),
    /// Show a living system: real data through the public API, then events as they come
    #[command(
        after_help = "Example:\n  daybook demo\n  daybook demo --exit-after-load --data-dir /tmp/demo\n\nKeeps its data in a directory of its own (`demo` beside the usual one, or --data-dir); the next start goes on where this one was."
    )]
    Demo(verbs::demo::Arguments),
    /// Bring the database to this version's schema
    #[command(after_help = "Example:\n  DATABASE_URL=postgres://daybook@db/daybook daybook migrate")]
    Migrate,
    /// Build a read model anew from the journal, beside the one that answers
    #[command(
        after_help = "Example:\n  daybook rebuild tenants\n\nSafe while the server runs: queries go on with the old version until the new one has caught up."
    )]
    Rebuild(verbs::rebuild::Arguments),
    /// How the read models stand; try or skip events that cannot be applied
    #[command(
        after_help = "Example:\n  daybook projections list\n  daybook projections parked devices\n  daybook projections retry devices --stream device/018f…\n  daybook projections skip devices --position 1200 --reason \"Written by a defect that is mended\"\n\nAn event that cannot be applied parks its stream: all others go on. A retry and a skip are carried out by the server that writes; a skip is recorded in the platform's journal before it takes effect."
    )]
    Projections(verbs::projections::Arguments),
    /// Check that nothing in the journal was altered
    #[command(
        after_help = "Example:\n  daybook verify\n\nRecomputes every leaf and every head and compares them with the signed checkpoints outside the database.\nExit code 3 when anything differs; the first bad position is named."
    )]
    Verify(verbs::verify::Arguments),
    /// Write a tenant's log to a file that anybody can check with the key alone
    #[command(
        after_help = "Example:\n  daybook export --tenant 018f… --output acme.jsonl\n  daybook verify --export acme.jsonl --key \"$(cat daybook.vkey)\"\n\nOne JSON object per line: the signed checkpoint first, then every event that it signs. Personal fields stay sealed."
    )]
    Export(verbs::export::Arguments),
    /// Print what a tenant looked like at a moment of its past
    #[command(
        after_help = "Example:\n  daybook replay --tenant 018f… --until 2026-03-01T12:00:00Z\n  daybook replay --tenant 018f… --until 1200 --format json\n\nFolds the tenant's events anew, in memory, up to that moment; changes nothing."
    )]
    Replay(verbs::replay::Arguments),
    /// Write down everything that a restore needs, while the server runs or not
    #[command(
        after_help = "Example:\n  daybook backup --into /mnt/backup/2026-03-01\n\nWrites the database (pg_dump), the keys and the signed checkpoints into a new directory. Keep the keys apart from the rest: together they tell everything."
    )]
    Backup(verbs::backup::Arguments),
    /// Make a new data directory from a backup
    #[command(
        after_help = "Example:\n  daybook --data-dir /srv/daybook-restored restore --from /mnt/backup/2026-03-01\n\nThe journal gets a new incarnation: positions and cursors that clients hold are refused, never guessed."
    )]
    Restore(verbs::restore::Arguments),
    /// Make an administrator of the platform, with a password
    #[command(
        after_help = "Example:\n  daybook admin create --email ada@example.com --name \"Ada Lovelace\"\n  daybook admin create --email ada@example.com --password-file /run/secrets/ada\n\nWorks while the server runs and while it does not. The password is asked for, read from a file or, where there is no terminal, from the first line of standard input; never from an argument."
    )]
    Admin(verbs::admin::Arguments),
    /// Show every setting, its value and where that comes from; secrets are masked
    #[command(after_help = "Example:\n  daybook config\n  DAYBOOK_LISTEN=0.0.0.0:80 daybook config --format json")]
    Config(verbs::config::Arguments),
    /// Write the published contracts (event schemas, samples, permissions, GraphQL) below a directory
    #[command(after_help = "Example:\n  daybook schemas --into schemas")]
    Schemas(verbs::schemas::Arguments),
    /// What can be said of a module's manifest: is it in order?
    #[command(after_help = "Example:\n  daybook modules check module.yaml")]
    Modules(verbs::modules::Arguments),
    /// Print a completion script for your shell
    #[command(after_help = "Example:\n  daybook completion bash > /etc/bash_completion.d/daybook")]
    Completion { shell: clap_complete::Shell },
}

fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
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
    if let Verb::Modules(arguments) = &cli.verb {
        return match verbs::modules::run(arguments) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => failure.report(),
        };
    }
    let common = match &cli.verb {
        Verb::Demo(_) => verbs::demo::common(&cli.common),
        _ => cli.common.clone(),
    };
    let settled = match common.settle() {
        Ok(settled) => settled,
        Err(message) => return exit::Failure::usage(message).report(),
    };
    if let Verb::Config(arguments) = &cli.verb {
        return match verbs::config::run(&settled, arguments, &matches) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => failure.report(),
        };
    }
    if let Err(failure) = logs::start(&settled.log, settled.log_format) {
        return failure.report();
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return exit::Failure::failed(&error).report(),
    };
    let done = runtime.block_on(async {
        match &cli.verb {
            Verb::Serve(arguments) => verbs::serve::run(settled, arguments).await,
            Verb::Demo(arguments) => verbs::demo::run(settled, arguments).await,
            Verb::Migrate => verbs::migrate::run(settled).await,
            Verb::Rebuild(arguments) => verbs::rebuild::run(settled, arguments).await,
            Verb::Projections(arguments) => verbs::projections::run(settled, arguments).await,
            Verb::Verify(arguments) => verbs::verify::run(settled, arguments).await,
            Verb::Export(arguments) => verbs::export::run(settled, arguments).await,
            Verb::Replay(arguments) => verbs::replay::run(settled, arguments).await,
            Verb::Backup(arguments) => verbs::backup::run(settled, arguments).await,
            Verb::Restore(arguments) => verbs::restore::run(settled, arguments).await,
            Verb::Admin(arguments) => verbs::admin::run(settled, arguments).await,
            Verb::Config(_) | Verb::Schemas(_) | Verb::Modules(_) | Verb::Completion { .. } => Ok(()),
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
