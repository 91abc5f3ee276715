//! Writes the generated contracts of the domain below a folder, `schemas` if none is named.
//! It removes nothing: samples of events that are no longer produced stay.

use std::fs;
use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let root = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "schemas".to_owned()));
    for (path, content) in daybook_domain::registry::contract_files() {
        let path = root.join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, content)?;
    }
    Ok(())
}
