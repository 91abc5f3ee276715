//! What did happen: the journal, its keys and its database.
//!
//! Refuses to know what the events mean: that is the domain's. Refuses to decide who may write
//! them: that is the application's.

pub mod access;
pub mod checkpoints;
pub mod codec;
mod combine;
pub mod cqrs;
pub mod database;
pub mod export;
pub mod identity;
pub mod journal;
pub mod keys;
pub mod metadata;
pub mod schema;
pub mod snapshots;
pub mod system;
pub mod verify;

pub use database::{Database, DatabaseError, Pool, Role};
