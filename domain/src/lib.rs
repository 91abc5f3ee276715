//! What may happen: aggregates, their commands and events, and the rules between them.
//!
//! No IO, no clock, no SQL and no randomness: everything a decision needs comes in as an argument,
//! so that a decision can be replayed years later and gives the same answer.

pub mod aggregate;
pub mod context;
pub mod ids;

pub use aggregate::{EventSourced, KeyChange, KeyScope, Refusal};
pub use context::{Actor, ActorKind, Context, EventIds};
pub use ids::{SubjectId, TenantId, PLATFORM_TENANT};
