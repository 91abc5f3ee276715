//! Writes the generated AsyncAPI document below a folder, `schemas` if none is named.

use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let root = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "schemas".to_owned()));
    std::fs::write(root.join(daybook_bus::asyncapi::PATH), daybook_bus::asyncapi::document())
}
