//! Conditions that filters are made of. An operator is a member, so that others can be added beside it.

use async_graphql::InputObject;
use uuid::Uuid;

/// A condition on an id.
#[derive(InputObject, Clone, Copy)]
pub struct IdFilter {
    /// Exactly this one.
    pub eq: Uuid,
}

/// A condition on a text.
#[derive(InputObject, Clone)]
pub struct TextFilter {
    /// Exactly this one.
    pub eq: String,
}

/// A condition on a truth value.
#[derive(InputObject, Clone, Copy)]
pub struct BooleanFilter {
    /// Exactly this one.
    pub eq: bool,
}
