//! `daybook schemas`: the published contracts, generated and committed.

use crate::exit::Failure;
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub struct Arguments {
    /// Directory to write below
    #[arg(long, default_value = "schemas", value_name = "DIR")]
    into: PathBuf,
}

/// Every generated file: path below `schemas/` and content.
pub fn files() -> Vec<(String, String)> {
    let mut files = daybook_domain::registry::contract_files();
    files.push((daybook_bus::asyncapi::PATH.into(), daybook_bus::asyncapi::document()));
    files.push(("access.txt".into(), daybook_api::declared::table()));
    files.push(("openapi.json".into(), daybook_api::openapi::text()));
    files.push(("schema.graphql".into(), daybook_api::graphql::sdl()));
    files
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    for (path, content) in files() {
        let path = arguments.into.join(path);
        let written = match path.parent() {
            Some(parent) => std::fs::create_dir_all(parent).and_then(|()| std::fs::write(&path, content)),
            None => std::fs::write(&path, content),
        };
        written.map_err(|e| Failure { code: 1, message: format!("{} cannot be written: {e}", path.display()) })?;
    }
    println!("Wrote {} files below {}.", files().len(), arguments.into.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    /// `cargo run -- schemas` brings them up to date.
    #[test]
    fn the_committed_contracts_are_what_the_code_says() {
        for (path, content) in super::files() {
            let committed = std::fs::read_to_string(format!("schemas/{path}")).unwrap_or_default();
            assert!(committed == content, "schemas/{path} is out of date: run `cargo run -- schemas`");
        }
    }
}
