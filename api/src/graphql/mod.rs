//! The schema: one file per context, resolvers that do nothing but translate.
//!
//! A resolver takes the credential from the request's data, never from an argument; asks `app` to carry
//! a command out; reads rows from `projections`; and says what failed in the client's terms.

pub mod errors;
pub mod opaque;
pub mod platform;
pub mod reads;
pub mod scalars;

use async_graphql::{MergedObject, MergedSubscription, Schema};
use daybook_app::Executor;
use daybook_store::system::SharedSystem;
use opaque::Opaque;
use std::sync::Arc;

pub use reads::Reads;

#[derive(MergedObject, Default)]
pub struct Query(platform::PlatformQuery);

#[derive(MergedObject, Default)]
pub struct Mutation(platform::PlatformMutation);

#[derive(MergedSubscription, Default)]
pub struct Subscription(platform::PlatformSubscription);

pub type DaybookSchema = Schema<Query, Mutation, Subscription>;

/// What resolvers work with.
pub struct Parts {
    pub executor: Executor,
    pub reads: Reads,
    pub opaque: Opaque,
    pub system: SharedSystem,
}

/// The schema, ready to serve.
pub fn schema(parts: Parts) -> DaybookSchema {
    Schema::build(Query::default(), Mutation::default(), Subscription::default())
        .extension(crate::transport::SpecNulls)
        .data(Arc::new(parts))
        .finish()
}

/// The schema as text: the committed contract `schemas/schema.graphql`.
pub fn sdl() -> String {
    Schema::build(Query::default(), Mutation::default(), Subscription::default()).finish().sdl()
}
