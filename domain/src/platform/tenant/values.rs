//! The values that only a tenant has: plan, contact, settings.

use crate::value::{EmailAddress, InvalidValue, one_line, text_newtype};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a tenant pays for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Plan {
    Free,
    Pro,
    Enterprise,
}

impl Plan {
    pub const ALL: &'static [Plan] = &[Plan::Free, Plan::Pro, Plan::Enterprise];

    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let plan = Self::ALL.iter().copied().find(|plan| plan.as_str() == text);
        plan.ok_or_else(|| InvalidValue::new(&["plan"], "UNKNOWN_VALUE", "a plan is FREE, PRO or ENTERPRISE"))
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Plan::Free => "FREE",
            Plan::Pro => "PRO",
            Plan::Enterprise => "ENTERPRISE",
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The person to turn to. Always inside a [`crate::Personal`]; `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Contact {
    pub name: String,
    pub email: EmailAddress,
}

impl Contact {
    pub const NAME_CHARS_MAX: usize = 200;

    pub fn parse(name: &str, email: &str) -> Result<Self, InvalidValue> {
        Ok(Self {
            name: one_line(&["contact", "name"], "a contact's name", name, Self::NAME_CHARS_MAX)?,
            email: EmailAddress::parse(email).map_err(|refusal| refusal.at(&["contact", "email"]))?,
        })
    }
}

impl fmt::Debug for Contact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Contact(…)")
    }
}

text_newtype!(
    /// The key of a setting: dotted lower-case words, e.g. `invoice.due_days`.
    SettingKey
);

impl SettingKey {
    pub const BYTES_MAX: usize = 64;

    /// `[a-z][a-z0-9_.]{0,63}`. Never begins with `$`, which marks personal fields in a payload.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let first = text.starts_with(|c: char| c.is_ascii_lowercase());
        let rest = text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.'));
        if !first || !rest || text.len() > Self::BYTES_MAX {
            let message = "a setting's key is a small letter, then at most 63 of a-z, 0-9, _ and .";
            return Err(InvalidValue::new(&["settings"], "MALFORMED", message));
        }
        Ok(Self(text.to_owned()))
    }
}

/// The value of a setting. No fractions: binary floating point is not what people mean by them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum SettingValue {
    Flag(bool),
    Whole(i64),
    Text(String),
}

impl SettingValue {
    pub const CHARS_MAX: usize = 2_000;

    /// Up to 2,000 characters, possibly none, without U+0000.
    pub fn text(text: &str) -> Result<Self, InvalidValue> {
        let refuse = |code, message: &str| Err(InvalidValue::new(&["settings"], code, message));
        if text.chars().count() > Self::CHARS_MAX {
            return refuse("TOO_LONG", "a setting's text has at most 2000 characters");
        }
        if text.contains('\0') {
            return refuse("FORBIDDEN_CHARACTER", "a setting's text holds no U+0000; remove it");
        }
        Ok(Self::Text(text.to_owned()))
    }

    /// From JSON: true, false, a whole number of 64 bits, or text.
    pub fn parse(json: &serde_json::Value) -> Result<Self, InvalidValue> {
        use serde_json::Value as J;
        let malformed = || {
            let message =
                "a setting's value is true, false, a whole number of 64 bits or a text; write fractions as text";
            InvalidValue::new(&["settings"], "MALFORMED", message)
        };
        match json {
            J::Bool(flag) => Ok(Self::Flag(*flag)),
            J::Number(number) => number.as_i64().map(Self::Whole).ok_or_else(malformed),
            J::String(text) => Self::text(text),
            J::Null | J::Array(_) | J::Object(_) => Err(malformed()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_plan_is_known_by_its_one_spelling() {
        for plan in Plan::ALL {
            assert_eq!(Plan::parse(plan.as_str()), Ok(*plan));
            assert_eq!(serde_json::to_value(plan).expect("serializes"), json!(plan.as_str()));
        }
        assert_eq!(Plan::parse("pro").expect_err("case matters").code, "UNKNOWN_VALUE");
    }

    #[test]
    fn a_contact_names_the_field_at_fault_and_never_shows_itself() {
        assert_eq!(Contact::parse(" ", "ada@example.com").expect_err("empty").path, ["contact", "name"]);
        assert_eq!(Contact::parse("Ada", "ada").expect_err("no address").path, ["contact", "email"]);
        assert_eq!(Contact::parse("A\0da", "ada@example.com").expect_err("U+0000").code, "FORBIDDEN_CHARACTER");
        assert_eq!(format!("{:?}", Contact::parse("Ada", "ada@example.com")), "Ok(Contact(…))");
    }

    #[test]
    fn a_setting_key_can_never_pass_for_a_personal_field() {
        for key in ["$subject", "$", "", "A", "1a", ".a", "a-b", "a b", "ä", "a\0", "a$", &"a".repeat(65)] {
            assert_eq!(SettingKey::parse(key).map_err(|refusal| refusal.code), Err("MALFORMED"), "{key:?}");
        }
        for key in ["a", "invoice.due_days", &"a".repeat(64)] {
            assert_eq!(SettingKey::parse(key).expect("a key").as_str(), key);
        }
    }

    #[test]
    fn a_setting_is_a_flag_a_whole_number_or_a_text() {
        for (json, value) in [
            (json!(true), SettingValue::Flag(true)),
            (json!(i64::MIN), SettingValue::Whole(i64::MIN)),
            (json!(""), SettingValue::Text(String::new())),
            (json!("1.5"), SettingValue::Text("1.5".to_owned())),
        ] {
            assert_eq!(SettingValue::parse(&json).as_ref(), Ok(&value));
            assert_eq!(serde_json::to_value(&value).expect("serializes"), json);
            assert_eq!(serde_json::from_value::<SettingValue>(json).expect("decodes"), value);
        }
        for json in [json!(1.5), json!(1.0), json!(1e3), json!(u64::MAX), json!(null), json!([]), json!({})] {
            assert_eq!(SettingValue::parse(&json).map_err(|refusal| refusal.code), Err("MALFORMED"), "{json}");
            assert!(serde_json::from_value::<SettingValue>(json).is_err());
        }
        assert_eq!(SettingValue::text("a\0").expect_err("U+0000").code, "FORBIDDEN_CHARACTER");
        assert_eq!(SettingValue::text(&"ß".repeat(2_001)).expect_err("too long").code, "TOO_LONG");
        assert!(SettingValue::text(&"ß".repeat(2_000)).is_ok());
    }
}
