//! What a field can be asked, by the type of its values. Operators have no default: one that is given as null is refused.

use super::{Conditions, Operators};
use crate::graphql::scalars::BigInt;
use async_graphql::{InputObject, MaybeUndefined};
use chrono::{DateTime, Utc};
use daybook_projections::read::filter::Value;
use uuid::Uuid;

/// A condition on an id, e.g. `{ in: ["0190f3e0-0000-7000-8000-000000000001"] }`. Every operator that is given must hold.
#[derive(InputObject, Default)]
pub struct IdFilter {
    /// Exactly this one, e.g. `"0190f3e0-0000-7000-8000-000000000001"`.
    pub eq: MaybeUndefined<Uuid>,
    /// Any but this one, also none at all, e.g. `"0190f3e0-0000-7000-8000-000000000001"`.
    pub ne: MaybeUndefined<Uuid>,
    /// One of these, at most 200, e.g. `["0190f3e0-0000-7000-8000-000000000001"]`. Nothing is one of `[]`.
    #[graphql(name = "in")]
    pub among: MaybeUndefined<Vec<Uuid>>,
    /// None of these, at most 200, also none at all, e.g. `["0190f3e0-0000-7000-8000-000000000001"]`.
    pub not_in: MaybeUndefined<Vec<Uuid>>,
    /// Whether there is none, e.g. `true`.
    pub is_null: MaybeUndefined<bool>,
}

/// A condition on a text, e.g. `{ startsWith: "Roof" }`. Every operator that is given must hold. Texts have 1–300
/// characters and are ordered by code point; where a field says so, upper and lower case are alike.
#[derive(InputObject, Default)]
pub struct TextFilter {
    /// Exactly this one, e.g. `"Roof, south"`.
    pub eq: MaybeUndefined<String>,
    /// Any but this one, also none at all, e.g. `"Roof, south"`.
    pub ne: MaybeUndefined<String>,
    /// One of these, at most 200, e.g. `["Roof, south", "Roof, north"]`. Nothing is one of `[]`.
    #[graphql(name = "in")]
    pub among: MaybeUndefined<Vec<String>>,
    /// None of these, at most 200, also none at all, e.g. `["Roof, south"]`.
    pub not_in: MaybeUndefined<Vec<String>>,
    /// Before this one, e.g. `"M"`.
    pub lt: MaybeUndefined<String>,
    /// This one or before it, e.g. `"M"`.
    pub lte: MaybeUndefined<String>,
    /// After this one, e.g. `"M"`.
    pub gt: MaybeUndefined<String>,
    /// This one or after it, e.g. `"M"`.
    pub gte: MaybeUndefined<String>,
    /// The whole text is like this: `%` stands for any number of characters, `_` for exactly one, and a backslash takes
    /// the next character as it is. E.g. `"roof%south"`. Reads on until a page is full: prefer `startsWith`.
    pub like: MaybeUndefined<String>,
    /// Begins with these characters, none of which has a meaning of its own, e.g. `"Roof"`.
    pub starts_with: MaybeUndefined<String>,
    /// Whether there is none, e.g. `true`.
    pub is_null: MaybeUndefined<bool>,
}

/// A condition on a moment, e.g. `{ gte: "2025-01-01T00:00:00Z", lt: "2025-02-01T00:00:00Z" }`, to the microsecond. Every
/// operator that is given must hold.
#[derive(InputObject, Default)]
pub struct DateTimeFilter {
    /// Exactly then, e.g. `"2025-01-01T00:00:00Z"`.
    pub eq: MaybeUndefined<DateTime<Utc>>,
    /// At any other moment, or never, e.g. `"2025-01-01T00:00:00Z"`.
    pub ne: MaybeUndefined<DateTime<Utc>>,
    /// At one of these, at most 200, e.g. `["2025-01-01T00:00:00Z"]`. Nothing is at one of `[]`.
    #[graphql(name = "in")]
    pub among: MaybeUndefined<Vec<DateTime<Utc>>>,
    /// At none of these, at most 200, or never, e.g. `["2025-01-01T00:00:00Z"]`.
    pub not_in: MaybeUndefined<Vec<DateTime<Utc>>>,
    /// Earlier, e.g. `"2025-01-01T00:00:00+01:00"`.
    pub lt: MaybeUndefined<DateTime<Utc>>,
    /// Then or earlier, e.g. `"2025-01-01T00:00:00Z"`.
    pub lte: MaybeUndefined<DateTime<Utc>>,
    /// Later, e.g. `"2025-01-01T00:00:00Z"`.
    pub gt: MaybeUndefined<DateTime<Utc>>,
    /// Then or later, e.g. `"2025-01-01T00:00:00Z"`.
    pub gte: MaybeUndefined<DateTime<Utc>>,
    /// Whether there is none, e.g. `true`.
    pub is_null: MaybeUndefined<bool>,
}

/// A condition on a whole number of 64 bits, e.g. `{ gte: "100", lt: "200" }`. Every operator that is given must hold.
#[derive(InputObject, Default)]
pub struct BigIntFilter {
    /// Exactly this one, e.g. `"100"`.
    pub eq: MaybeUndefined<BigInt>,
    /// Any but this one, also none at all, e.g. `"100"`.
    pub ne: MaybeUndefined<BigInt>,
    /// One of these, at most 200, e.g. `["100", "101"]`. Nothing is one of `[]`.
    #[graphql(name = "in")]
    pub among: MaybeUndefined<Vec<BigInt>>,
    /// None of these, at most 200, also none at all, e.g. `["100", "101"]`.
    pub not_in: MaybeUndefined<Vec<BigInt>>,
    /// Less, e.g. `"100"`.
    pub lt: MaybeUndefined<BigInt>,
    /// As much or less, e.g. `"100"`.
    pub lte: MaybeUndefined<BigInt>,
    /// More, e.g. `"100"`.
    pub gt: MaybeUndefined<BigInt>,
    /// As much or more, e.g. `"100"`.
    pub gte: MaybeUndefined<BigInt>,
    /// Whether there is none, e.g. `true`.
    pub is_null: MaybeUndefined<bool>,
}

/// A condition on a truth value, e.g. `{ eq: true }`.
#[derive(InputObject, Default)]
pub struct BooleanFilter {
    /// Exactly this one, e.g. `true`.
    pub eq: MaybeUndefined<bool>,
    /// The other one, e.g. `true`.
    pub ne: MaybeUndefined<bool>,
}

/// The operators that an input object has.
macro_rules! conditions {
    ($($name:ident: $($operator:ident)+;)+) => {$(
        impl Conditions for $name {
            fn operators(self) -> Operators {
                Operators::default()$(.$operator(self.$operator))+
            }
        }
    )+};
}

conditions! {
    IdFilter: eq ne among not_in is_null;
    TextFilter: eq ne among not_in lt lte gt gte like starts_with is_null;
    DateTimeFilter: eq ne among not_in lt lte gt gte is_null;
    BigIntFilter: eq ne among not_in lt lte gt gte is_null;
    BooleanFilter: eq ne;
}

impl From<BigInt> for Value {
    fn from(BigInt(value): BigInt) -> Self {
        Value::Whole(value)
    }
}
