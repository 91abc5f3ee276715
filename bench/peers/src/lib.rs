//! Event stores of others beside Daybook, on the same machine and the same server, interleaved in one run.
//!
//! What they need (sqlx 0.8, gRPC) must not reach the workspace that ships, so this is one of its own. Each of them is
//! used as its documentation says, with its defaults. It refuses to compare figures of different runs.

pub mod append;
pub mod catch_up;
pub mod copy_limit;
pub mod fsync;
pub mod page;
pub mod postgres_es;
pub mod targets;
pub mod umadb;

use daybook_bench::error::BenchError;

/// An error of one of the others.
pub fn failed<E: Into<Box<dyn std::error::Error + Send + Sync>>>(peer: &'static str) -> impl Fn(E) -> BenchError {
    move |source| BenchError::Peer { peer, source: source.into() }
}
