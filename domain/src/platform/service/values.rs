//! What a key may be used for.

use crate::action::Action;
use crate::value::{InvalidValue, text_newtype};
use serde::{Deserialize, Serialize};
use std::fmt;

text_newtype!(
    /// The name of a permission, e.g. `readings.record`.
    Scope
);

impl Scope {
    /// One of the permissions that there are.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        match Action::from_name(text) {
            Some(action) => Ok(Scope(action.as_str().to_owned())),
            None => Err(InvalidValue::new(
                &["scopes"],
                "UNKNOWN_VALUE",
                "a scope is the name of a permission, such as readings.record",
            )),
        }
    }

    /// What it permits; nothing once there is no such permission any more.
    pub fn action(&self) -> Option<Action> {
        Action::from_name(&self.0)
    }
}
