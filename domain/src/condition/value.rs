//! What can be compared.

use chrono::{DateTime, SubsecRound, Utc};
use uuid::Uuid;

/// A value of one of five kinds. Texts are ordered by code point.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Value {
    Flag(bool),
    Id(Uuid),
    Text(String),
    At(DateTime<Utc>),
    Whole(i64),
}

/// What kind of value something is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    Flag,
    Id,
    Text,
    At,
    Whole,
}

impl Value {
    pub fn kind(&self) -> Kind {
        match self {
            Value::Flag(_) => Kind::Flag,
            Value::Id(_) => Kind::Id,
            Value::Text(_) => Kind::Text,
            Value::At(_) => Kind::At,
            Value::Whole(_) => Kind::Whole,
        }
    }
}

impl Kind {
    /// How a value of it is written, for messages.
    pub fn written(self) -> &'static str {
        match self {
            Kind::Flag => "true or false",
            Kind::Id => r#"an id such as "0190f3e0-0000-7000-8000-000000000001""#,
            Kind::Text => "a text",
            Kind::At => r#"a moment such as "2025-01-31T12:00:00Z""#,
            Kind::Whole => "a whole number",
        }
    }

    /// Whether one value of it can be smaller than another.
    pub fn is_ordered(self) -> bool {
        matches!(self, Kind::Text | Kind::At | Kind::Whole)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Value::Flag(value)
    }
}

impl From<Uuid> for Value {
    fn from(value: Uuid) -> Self {
        Value::Id(value)
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Value::Text(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Value::Text(value.to_owned())
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Value::Whole(value)
    }
}

impl From<DateTime<Utc>> for Value {
    /// To the microsecond, as far as moments are stored.
    fn from(value: DateTime<Utc>) -> Self {
        Value::At(value.trunc_subsecs(6))
    }
}
