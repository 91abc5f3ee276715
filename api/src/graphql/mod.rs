//! The schema: one file per context, resolvers that do nothing but translate.
//!
//! A resolver takes the credential from the request's data, never from an argument; asks `app` to carry
//! a command out; reads rows from `projections`; and says what failed in the client's terms.

pub mod audit;
pub mod changes;
pub mod energy;
pub mod errors;
pub mod filters;
mod guard;
pub mod introspection;
pub mod opaque;
pub mod paging;
pub mod platform;
pub mod reads;
pub mod request;
pub mod scalars;
mod sight;
pub mod stale;
pub mod tail;

use async_graphql::{MergedObject, MergedSubscription, Schema};
use daybook_app::energy::Ingest;
use daybook_app::identity::Identity;
use daybook_app::{Executor, Rules};
use daybook_store::journal::recent::Recent;
use daybook_store::system::SharedSystem;
use introspection::Introspection;
use opaque::Opaque;
use std::sync::Arc;

pub use reads::Reads;

#[derive(MergedObject, Default)]
pub struct Query(platform::PlatformQuery, energy::EnergyQuery, audit::AuditQuery);

#[derive(MergedObject, Default)]
pub struct Mutation(platform::PlatformMutation, energy::EnergyMutation);

#[derive(MergedSubscription, Default)]
pub struct Subscription(platform::PlatformSubscription, energy::EnergySubscription, audit::AuditSubscription);

pub type DaybookSchema = Schema<Query, Mutation, Subscription>;

/// What resolvers work with.
pub struct Parts {
    pub executor: Executor,
    pub identity: Identity,
    pub ingest: Ingest,
    pub reads: Reads,
    pub opaque: Opaque,
    pub audit: audit::AuditParts,
    /// What callers hold.
    pub rules: Rules,
    /// Who may ask what there is.
    pub introspection: Introspection,
    pub system: SharedSystem,
    /// What was recorded last.
    pub recent: Recent,
    /// Who listens to what is recorded.
    pub tails: tail::Tails,
}

/// The schema, ready to serve.
pub fn schema(parts: impl Into<Arc<Parts>>) -> DaybookSchema {
    let parts = parts.into();
    Schema::build(Query::default(), Mutation::default(), Subscription::default())
        .extension(crate::transport::SpecNulls)
        .extension(stale::TellStale)
        .extension(sight::CompleteCredential(parts.rules.clone()))
        // After it: what a role allows is part of the credential then.
        .extension(introspection::Gate(parts.introspection))
        .data(platform::loaders::Rows::loader(parts.reads.reader().clone()))
        .data(energy::loader::Series::loader(parts.reads.reader().clone()))
        .data::<Arc<Parts>>(parts)
        .finish()
}

/// The schema as text: the committed contract `schemas/schema.graphql`.
pub fn sdl() -> String {
    Schema::build(Query::default(), Mutation::default(), Subscription::default()).finish().sdl()
}
