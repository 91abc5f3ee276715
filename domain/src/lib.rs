//! What may happen: aggregates, their commands and events, and the rules between them.
//!
//! No IO, no clock, no SQL and no randomness: everything a decision needs comes in as an argument,
//! so that a decision can be replayed years later and gives the same answer.

pub mod action;
pub mod aggregate;
pub mod condition;
pub mod context;
pub mod energy;
pub mod ids;
pub mod personal;
pub mod platform;
pub mod registry;
pub mod role;
pub mod rules;
pub mod snapshot;
pub mod upcast;
pub mod value;

pub use action::{Action, ActionKind, Guarded};
pub use aggregate::{EventSourced, KeyChange, KeyScope, Refusal};
pub use context::{Actor, ActorKind, Context, EventIds};
pub use ids::{
    AccountId, ApiKeyId, CredentialId, MembershipId, ModuleId, PLATFORM_TENANT, SessionId, SubjectId, TenantId,
};
pub use personal::Personal;
pub use role::{Reach, Role};
pub use snapshot::SnapshotForm;
pub use upcast::Versioned;
pub use value::InvalidValue;
