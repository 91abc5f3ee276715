//! Scalars of our own. GraphQL's Int is 32 bits, which neither a version nor an amount fits.

use async_graphql::{InputValueError, InputValueResult, Scalar, ScalarType, Value};

/// An opaque moment in a tenant's history: the cursor of subscriptions, and what to send back
/// (`atLeast`, header `Daybook-At-Least`) to read at least that much. Take it as it is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position(pub String);

#[Scalar(name = "Position")]
impl ScalarType for Position {
    fn parse(value: Value) -> InputValueResult<Self> {
        match value {
            Value::String(text) if (1..=256).contains(&text.len()) => Ok(Position(text)),
            _ => Err(InputValueError::custom("a position is a text that an answer carried")),
        }
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.clone())
    }
}

/// A whole number of 64 bits, as a string, e.g. `"9007199254740993"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BigInt(pub i64);

impl From<u64> for BigInt {
    fn from(value: u64) -> Self {
        BigInt(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

#[Scalar(name = "BigInt")]
impl ScalarType for BigInt {
    fn parse(value: Value) -> InputValueResult<Self> {
        let number = match &value {
            Value::String(text) => text.parse().ok(),
            Value::Number(number) => number.as_i64(),
            _ => None,
        };
        number.map(BigInt).ok_or_else(|| InputValueError::custom("a whole number of 64 bits, as a string"))
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.to_string())
    }
}
