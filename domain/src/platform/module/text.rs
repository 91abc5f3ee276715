//! A manifest as a person writes it: a text in YAML or JSON (`module.yaml`), read with the place of every fault.
//!
//! JSON is read as what it is, a part of YAML. All faults are told at once, each with line, column, field and what to do. Refuses
//! what could be a bomb: texts, depths and expanded aliases have limits; tags and further documents are refused.

mod read;
mod schema;
mod tree;

#[cfg(test)]
mod tests;

pub use schema::schema;

use super::Manifest;
use std::fmt;

/// Of a text.
pub const BYTES_MAX: usize = 131_072;
/// Faults that are told of one text.
pub const FAULTS_MAX: usize = 20;

/// What is wrong with a text, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    pub at: Place,
    /// The field, e.g. `["roles", "1", "name"]`; empty for the text as a whole.
    pub path: Vec<String>,
    /// As in [`crate::value::InvalidValue`]; `SYNTAX` for what is no YAML.
    pub code: &'static str,
    /// Names the thing and the remedy.
    pub message: String,
}

/// A place in a text, both counted from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

impl Fault {
    /// The field as people write it, e.g. `roles[1].name`; empty for the text as a whole.
    pub fn field(&self) -> String {
        self.path.iter().fold(String::new(), |field, step| match step.parse::<usize>() {
            Ok(nth) => format!("{field}[{nth}]"),
            Err(_) if field.is_empty() => step.clone(),
            Err(_) => format!("{field}.{step}"),
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.is_empty() {
            true => write!(f, "{}: {}", self.at, self.message),
            false => write!(f, "{}: {}: {}", self.at, self.field(), self.message),
        }
    }
}

/// Reads and checks a manifest.
///
/// # Errors
/// What is wrong with it, in the order of the text: at least one fault, at most [`FAULTS_MAX`].
pub fn read(text: &str) -> Result<Manifest, Vec<Fault>> {
    let tree = tree::parse(text).map_err(|fault| vec![fault])?;
    read::manifest(&tree)
}
