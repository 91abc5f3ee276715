//! `daybook modules`: what can be said of a module's manifest without a server.

use crate::exit::Failure;
use clap::{Args, Subcommand, ValueEnum};
use daybook_domain::platform::module::{Manifest, text};
use serde_json::json;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Read a manifest (module.yaml, or JSON), and say what is wrong with it and where
    #[command(
        after_help = "Example:\n  daybook modules check module.yaml\n  daybook modules check --format json - < module.yaml\n\nNeeds neither a server nor a database. Exit codes: 0 it is in order, 1 it has faults, 2 there is no such file.\nThe JSON Schema of manifests, for editors, is schemas/module.schema.json."
    )]
    Check {
        /// The manifest (`-`: standard input)
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// How to print the result
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Verb::Check { file, format } = &arguments.verb;
    let read = text::read(&content(file)?);
    match format {
        Format::Text => match &read {
            Ok(manifest) => println!("{}", summary(manifest)),
            // As compilers do, so that editors find the place.
            Err(faults) => faults.iter().for_each(|fault| {
                let field = fault.field();
                let field = if field.is_empty() { field } else { format!("{field}: ") };
                println!("{}:{}:{}: {field}{}", file.display(), fault.at.line, fault.at.column, fault.message);
            }),
        },
        Format::Json => println!("{:#}", told(&read)),
    }
    match read {
        Ok(_) => Ok(()),
        Err(faults) => {
            let count = if faults.len() == 1 { "1 fault".to_owned() } else { format!("{} faults", faults.len()) };
            Err(Failure { code: 1, message: format!("the manifest has {count}: correct them and check again") })
        }
    }
}

fn content(file: &Path) -> Result<String, Failure> {
    let (name, read) = match file == Path::new("-") {
        true => ("standard input".to_owned(), bounded(std::io::stdin().lock())),
        false => (file.display().to_string(), std::fs::File::open(file).and_then(bounded)),
    };
    read.map_err(|error| match error.kind() {
        ErrorKind::NotFound => Failure::usage(format!("there is no file {name}: correct its name")),
        ErrorKind::InvalidData => Failure { code: 1, message: format!("{name} is no text in UTF-8: save it as one") },
        _ => Failure { code: 1, message: format!("{name} cannot be read: {error}") },
    })
}

/// One byte more than may be, so that what is too long is seen to be.
fn bounded(from: impl Read) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    from.take(text::BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    let cut = bytes.len() > text::BYTES_MAX;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        // Perhaps within a character.
        Err(error) if cut => Ok(String::from_utf8_lossy(error.as_bytes()).into_owned()),
        Err(_) => Err(ErrorKind::InvalidData.into()),
    }
}

fn summary(manifest: &Manifest) -> String {
    let roles: Vec<&str> = manifest.roles.keys().map(|key| key.as_str()).collect();
    format!("{} {} is in order; its roles are {}.", manifest.key, manifest.version, roles.join(", "))
}

fn told(read: &Result<Manifest, Vec<text::Fault>>) -> serde_json::Value {
    match read {
        Ok(manifest) => json!({ "valid": true, "id": manifest.key, "version": manifest.version, "faults": [] }),
        Err(faults) => {
            let faults: Vec<_> = faults
                .iter()
                .map(|fault| {
                    json!({
                        "line": fault.at.line, "column": fault.at.column, "field": fault.field(),
                        "code": fault.code, "message": fault.message,
                    })
                })
                .collect();
            json!({ "valid": false, "faults": faults })
        }
    }
}
