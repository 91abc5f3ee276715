//! One file per verb of the command line.

pub mod migrate;
pub mod rebuild;
pub mod schemas;
pub mod serve;
pub mod verify;
