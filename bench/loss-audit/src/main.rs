//! `loss-audit`: see the library.

use clap::Parser;
use loss_audit::campaign::{self, BOUND, Options};
use loss_audit::fault::Kind;
use loss_audit::report;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(about = "Faults under load against a real Daybook, and an independent check that nothing was lost.")]
struct Cli {
    /// What the faults, their moments and the load follow from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    faults: u16,
    /// Clients that write, each as fast as it is answered.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u8).range(1..=128))]
    writers: u8,
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    nodes: u8,
    /// The program [default: `daybook` beside this one].
    #[arg(long)]
    daybook: Option<PathBuf>,
    /// Only these faults.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Kind>,
    /// Write the report there, as Markdown.
    #[arg(long)]
    report: Option<PathBuf>,
    /// Leave histories, journal and logs when something is found.
    #[arg(long)]
    keep: bool,
}

const FOUND: u8 = 1;
/// Wrong usage, or it could not be carried out.
const FAILED: u8 = 2;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join("daybook")));
    let Some(program) = cli.daybook.or(beside).filter(|program| program.is_file()) else {
        eprintln!("there is no daybook beside this program: build it with cargo build, or name one with --daybook");
        return ExitCode::from(FAILED);
    };
    let options = Options {
        seed: cli.seed,
        faults: usize::from(cli.faults),
        writers: usize::from(cli.writers),
        nodes: usize::from(cli.nodes),
        program,
        only: cli.only,
        bound: BOUND,
        keep: cli.keep,
        environment: std::env::var("DAYBOOK_PLANT").map(|plant| ("DAYBOOK_PLANT".into(), plant)).into_iter().collect(),
    };
    let outcome = tokio::select! {
        outcome = campaign::run(&options) => outcome,
        // Everything that was started goes with this program.
        _ = tokio::signal::ctrl_c() => return ExitCode::from(130),
    };
    match outcome {
        Ok(outcome) => {
            let text = report::markdown(&options, &outcome);
            println!("{text}");
            if let Some(path) = cli.report
                && let Err(error) = std::fs::write(&path, text)
            {
                eprintln!("{} cannot be written: {error}", path.display());
                return ExitCode::from(FAILED);
            }
            if outcome.verdict.is_clean() { ExitCode::SUCCESS } else { ExitCode::from(FOUND) }
        }
        Err(error) => {
            eprintln!("{}", daybook_testing::chain(&error));
            ExitCode::from(FAILED)
        }
    }
}
