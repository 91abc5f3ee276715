//! Measures what Daybook promises about speed, each figure beside the simpler way it is compared with.
//!
//! It brings its own PostgreSQL and leaves nothing behind. It refuses to compare figures of different
//! runs: machines and disks change between two of them, so whatever is compared is interleaved in one.
//! A library so that [the measurements beside other event stores](../../peers) are made in the same way.

pub mod append;
mod baseline;
pub mod error;
pub mod fairness;
pub mod figures;
pub mod insert;
pub mod latency;
pub mod limit;
pub mod load;
pub mod logins;
mod machine;
pub mod rebuild;
pub mod rig;
pub mod rules;
pub mod server;
pub mod volume;
