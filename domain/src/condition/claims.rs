//! What is known of the caller, by name. It comes from the credential, never from a request.

use super::Value;
use std::collections::BTreeMap;

/// One thing that is known of a caller.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Claim {
    One(Value),
    Many(Vec<Value>),
}

/// All of them. One that is not there makes a comparison with it unknown.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Claims(BTreeMap<String, Claim>);

impl Claims {
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.to_owned(), Claim::One(value.into()));
        self
    }

    #[must_use]
    pub fn with_many(mut self, name: &str, values: Vec<Value>) -> Self {
        self.0.insert(name.to_owned(), Claim::Many(values));
        self
    }

    /// A claim that is one value.
    pub fn one(&self, name: &str) -> Option<&Value> {
        match self.0.get(name)? {
            Claim::One(value) => Some(value),
            Claim::Many(_) => None,
        }
    }

    /// A claim that is a list.
    pub fn many(&self, name: &str) -> Option<&[Value]> {
        match self.0.get(name)? {
            Claim::Many(values) => Some(values),
            Claim::One(_) => None,
        }
    }
}
