//! How a command is carried out: authorize, decide, append, answer. Used by the API and the bus alike.
//!
//! Refuses to run a command that nobody authorized: [`Executor::execute`] takes [`Authorized`] only.

pub mod audit;
mod authorize;
mod cache;
pub mod energy;
mod executor;
pub mod identity;
pub mod platform;
pub mod rules;
mod snapshots;

pub use authorize::{Authorized, Credential, Denied, authorize, may, verdict};
pub use executor::{Call, ExecuteError, Executed, Executor};
pub use rules::Rules;
pub use snapshots::{SNAPSHOT_EVERY, Snapshots};
