//! How a command is carried out: authorize, decide, append, answer. Used by the API and the bus alike.
//!
//! Refuses to run a command that nobody authorized: [`Executor::execute`] takes [`Authorized`] only.

mod authorize;
mod cache;
mod executor;

pub use authorize::{Authorized, Credential, Denied, authorize, may};
pub use executor::{Call, ExecuteError, Executed, Executor};
