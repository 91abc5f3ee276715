//! `daybook config`

use crate::config::{Serving, Settled};
use crate::exit::Failure;
use crate::settings::{effective, flag};
use clap::{ArgMatches, Args, ValueEnum};

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    serving: Serving,
    /// How to print the settings
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

pub fn run(settled: &Settled, arguments: &Arguments, matches: &ArgMatches) -> Result<(), Failure> {
    let of_verb = matches.subcommand().map(|(_, matches)| matches);
    let all: Vec<&ArgMatches> = std::iter::once(matches).chain(of_verb).collect();
    let settings = effective(settled, &arguments.serving, &all);
    match arguments.format {
        Format::Json => println!("{:#}", serde_json::json!(settings)),
        Format::Text => {
            let wide = settings.iter().map(|s| s.value.chars().count()).max().unwrap_or(0);
            for s in &settings {
                let flag = s.flag.map(flag).unwrap_or_default();
                let environment = s.environment.unwrap_or_default();
                let source = s.source.as_str();
                println!("{:<16} {:<wide$}  {source:<12} {flag:<18} {environment}", s.key, s.value);
            }
        }
    }
    Ok(())
}
