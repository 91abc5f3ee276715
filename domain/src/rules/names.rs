//! Names within rules.

use crate::value::{InvalidValue, text_newtype};
use serde::{Deserialize, Serialize};
use std::fmt;

text_newtype!(
    /// What a rule is about: `device.read`, everything of a resource (`device.*`), or everything (`*`).
    ActionPattern
);
text_newtype!(
    /// A field of a resource, e.g. `device.serial`.
    FieldPath
);
text_newtype!(
    /// What a role of a tenant is called, e.g. `sales_manager`. Never one of the built-in roles.
    RoleName
);

/// Names of the built-in roles, in every spelling: a role that is called so would be taken for one.
const RESERVED: &[&str] = &["platform_admin", "tenant_admin", "member", "viewer"];

impl ActionPattern {
    pub const BYTES_MAX: usize = 100;

    /// One to four words with dots between them; the last may be `*`.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let words: Vec<&str> = text.split('.').collect();
        let (last, before) = words.split_last().unwrap_or((&"", &[]));
        let fits = text.len() <= Self::BYTES_MAX
            && words.len() <= 4
            && before.iter().all(|word| is_word(word))
            && (*last == "*" || (!before.is_empty() && is_word(last)));
        match fits {
            true => Ok(Self(text.to_owned())),
            false => Err(InvalidValue::new(
                &["rules"],
                "MALFORMED",
                "an action looks like device.read, device.* or *: words of letters, digits, _ and - with dots between them",
            )),
        }
    }

    /// Of something that may be done in a module; `*` is everything in it.
    pub(crate) fn of_module(key: &str, permission: &str) -> Self {
        Self(format!("{}.{key}.{permission}", crate::platform::module::action::MODULES))
    }

    /// Whether it is about this action.
    pub fn covers(&self, action: &str) -> bool {
        match self.0.strip_suffix('*') {
            // The dot before the star stays, so that `device.*` is not about `devices.read`.
            Some(start) => action.starts_with(start),
            None => action == self.0,
        }
    }

    /// The resource it names; none for everything.
    pub fn resource(&self) -> Option<&str> {
        match self.0.split('.').next() {
            Some("*") | None => None,
            Some(resource) => Some(resource),
        }
    }
}

impl FieldPath {
    pub const BYTES_MAX: usize = 100;

    /// A resource and a field of it.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let fits = text.len() <= Self::BYTES_MAX
            && text.split_once('.').is_some_and(|(resource, field)| is_word(resource) && is_word(field));
        match fits {
            true => Ok(Self(text.to_owned())),
            false => Err(InvalidValue::new(&["fields"], "MALFORMED", "a field looks like device.serial")),
        }
    }

    pub fn is(&self, resource: &str, field: &str) -> bool {
        self.0.split_once('.') == Some((resource, field))
    }
}

impl RoleName {
    pub const BYTES_MAX: usize = 63;

    /// `[a-z][a-z0-9_-]{0,62}`, and no name of a built-in role.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let is_inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-');
        if RESERVED.contains(&text.replace('-', "_").as_str()) {
            let message = "this is the name of a built-in role; choose another key";
            return Err(InvalidValue::new(&["key"], "RESERVED", message));
        }
        let fits = text.starts_with(|c: char| c.is_ascii_lowercase()) && text.bytes().all(is_inner);
        match fits && text.len() <= Self::BYTES_MAX {
            true => Ok(Self(text.to_owned())),
            false => Err(InvalidValue::new(
                &["key"],
                "MALFORMED",
                "a role's key is a small letter, then at most 62 of a-z, 0-9, _ and -",
            )),
        }
    }
}

fn is_word(text: &str) -> bool {
    let is_inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    text.starts_with(|c: char| c.is_ascii_lowercase()) && text.len() <= 63 && text.bytes().all(is_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_covers_what_it_names_and_nothing_else() {
        for (pattern, action, covers) in [
            ("*", "device.read", true),
            ("device.*", "device.read", true),
            ("device.*", "devices.read", false),
            ("device.*", "device", false),
            ("device.read", "device.read", true),
            ("device.read", "device.readings", false),
            ("module.users.*", "module.users.manage", true),
        ] {
            let parsed = ActionPattern::parse(pattern).expect(pattern);
            assert_eq!(parsed.covers(action), covers, "{pattern} covers {action}");
        }
        for wrong in
            ["", "device", ".read", "device.", "*.read", "device.*.x", "Device.read", "a.b.c.d.e", "a b.c", "**"]
        {
            assert!(ActionPattern::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_key_is_never_that_of_a_built_in_role() {
        for key in ["tenant_admin", "tenant-admin", "member", "viewer", "platform_admin"] {
            assert_eq!(RoleName::parse(key).expect_err(key).code, "RESERVED");
        }
        assert!(RoleName::parse("junior_hr").is_ok());
        assert!(RoleName::parse("Junior HR").is_err());
    }
}
