//! What a person says of themselves, and how they like things: personal data all of it, the account's own.

use super::AccountError;
use crate::context::Context;
use crate::personal::Personal;
use crate::platform::tenant::{SettingKey, SettingValue};
use crate::value::{InvalidValue, text_newtype};
use chrono_tz::Tz;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// Preferences of one account.
pub const PREFERENCES_MAX: usize = 50;
/// Characters of a preference that is a text.
const PREFERENCE_CHARS_MAX: usize = 500;

text_newtype!(
    /// Where a picture of a person is, an address of the scheme https.
    AvatarUrl
);
text_newtype!(
    /// Language and region by BCP 47, e.g. `de-AT`.
    Locale
);
text_newtype!(
    /// A time zone of the IANA data base, e.g. `Europe/Berlin`.
    ZoneName
);

impl AvatarUrl {
    pub const BYTES_MAX: usize = 2_048;

    /// An absolute address in its normal form, without user and password.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let path: &[&str] = &["avatarUrl"];
        let malformed = |why: &str| {
            InvalidValue::new(
                path,
                "MALFORMED",
                format!("an avatar's url looks like https://example.com/me.png: {why}"),
            )
        };
        // The parser would drop them without a word.
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(InvalidValue::new(path, "FORBIDDEN_CHARACTER", "an avatar's url holds no spaces; remove them"));
        }
        let too_long = || InvalidValue::new(path, "TOO_LONG", "an avatar's url has at most 2048 bytes");
        if text.len() > Self::BYTES_MAX {
            return Err(too_long());
        }
        let url = url::Url::parse(text).map_err(|_| malformed("this is no absolute address"))?;
        if url.scheme() != "https" {
            return Err(malformed("its scheme is https"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(malformed("it holds no user and password"));
        }
        if url.as_str().len() > Self::BYTES_MAX {
            return Err(too_long());
        }
        Ok(Self(url.into()))
    }
}

impl Locale {
    pub const BYTES_MAX: usize = 35;

    /// A language of two or three letters, then subtags of letters and digits. Whether anybody speaks it is not asked.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let mut tags = text.split('-');
        let is_language = |tag: &str| (2..=3).contains(&tag.len()) && tag.bytes().all(|b| b.is_ascii_lowercase());
        let is_subtag = |tag: &str| (2..=8).contains(&tag.len()) && tag.bytes().all(|b| b.is_ascii_alphanumeric());
        match text.len() <= Self::BYTES_MAX && tags.next().is_some_and(is_language) && tags.all(is_subtag) {
            true => Ok(Self(text.to_owned())),
            false => {
                let message = "a locale is a language and perhaps a region, e.g. de or de-AT";
                Err(InvalidValue::new(&["locale"], "MALFORMED", message))
            }
        }
    }
}

impl ZoneName {
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let zone: Tz = text.parse().map_err(|_| {
            let message = "a time zone is one of the IANA data base, e.g. Europe/Berlin";
            InvalidValue::new(&["timeZone"], "UNKNOWN_VALUE", message)
        })?;
        Ok(Self(zone.name().to_owned()))
    }
}

/// The value of a preference: a flag, a whole number or a short text.
pub fn parse_preference(json: &serde_json::Value) -> Result<SettingValue, InvalidValue> {
    let path: &[&str] = &["value"];
    match SettingValue::parse(json).map_err(|refused| refused.at(path))? {
        SettingValue::Text(text) if text.chars().count() > PREFERENCE_CHARS_MAX => {
            let message = format!("a preference's text has at most {PREFERENCE_CHARS_MAX} characters");
            Err(InvalidValue::new(path, "TOO_LONG", message))
        }
        value => Ok(value),
    }
}

/// What a person says of themselves besides the name.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Details {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Personal<AvatarUrl>")]
    pub avatar_url: Option<Personal<AvatarUrl>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Personal<Locale>")]
    pub locale: Option<Personal<Locale>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Personal<ZoneName>")]
    pub time_zone: Option<Personal<ZoneName>>,
}

/// One of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Detail {
    AvatarUrl,
    Locale,
    TimeZone,
}

impl Details {
    pub fn is_empty(&self) -> bool {
        *self == Details::default()
    }

    /// Those of `set` that differ, and those of `unset` that are there and not set.
    pub(super) fn change_to(&self, set: Details, unset: &BTreeSet<Detail>) -> (Details, BTreeSet<Detail>) {
        fn differs<T: PartialEq>(held: &Option<T>, next: Option<T>) -> Option<T> {
            next.filter(|next| held.as_ref() != Some(next))
        }
        let is_gone = |detail: &Detail| match detail {
            Detail::AvatarUrl => self.avatar_url.is_some() && set.avatar_url.is_none(),
            Detail::Locale => self.locale.is_some() && set.locale.is_none(),
            Detail::TimeZone => self.time_zone.is_some() && set.time_zone.is_none(),
        };
        let unset = unset.iter().copied().filter(is_gone).collect();
        let set = Details {
            avatar_url: differs(&self.avatar_url, set.avatar_url),
            locale: differs(&self.locale, set.locale),
            time_zone: differs(&self.time_zone, set.time_zone),
        };
        (set, unset)
    }

    pub(super) fn change(&mut self, set: Details, unset: &BTreeSet<Detail>) {
        for detail in unset {
            match detail {
                Detail::AvatarUrl => self.avatar_url = None,
                Detail::Locale => self.locale = None,
                Detail::TimeZone => self.time_zone = None,
            }
        }
        self.avatar_url = set.avatar_url.or(self.avatar_url.take());
        self.locale = set.locale.or(self.locale.take());
        self.time_zone = set.time_zone.or(self.time_zone.take());
    }

    /// Refuses what is another person's, and what nobody could read.
    pub(super) fn own(&self, context: &Context) -> Result<(), AccountError> {
        fn of<T>(context: &Context, field: &Option<Personal<T>>) -> Result<(), AccountError> {
            let Some(field) = field else { return Ok(()) };
            super::own(context, field, AccountError::ForeignDetail, AccountError::DetailErased)
        }
        of(context, &self.avatar_url)?;
        of(context, &self.locale)?;
        of(context, &self.time_zone)
    }
}

/// Whose preference it is, as [`Details::own`].
pub(super) fn own_preference(context: &Context, value: &Personal<SettingValue>) -> Result<(), AccountError> {
    super::own(context, value, AccountError::ForeignDetail, AccountError::DetailErased)
}

/// The key of a preference.
pub fn parse_key(text: &str) -> Result<SettingKey, InvalidValue> {
    SettingKey::parse(text).map_err(|refused| refused.at(&["key"]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn outcome<T: fmt::Display>(parsed: Result<T, InvalidValue>) -> String {
        parsed.map_or_else(|refusal| refusal.code.to_owned(), |value| value.to_string())
    }

    #[test]
    fn what_a_person_says_of_themselves_is_checked() {
        for (url, expected) in [
            ("https://Example.com/me.png", "https://example.com/me.png"),
            ("http://example.com/me.png", "MALFORMED"),
            ("javascript:alert(1)", "MALFORMED"),
            ("data:image/png;base64,AA", "MALFORMED"),
            ("https://ada:x@example.com/", "MALFORMED"),
            ("https://exa mple.com/", "FORBIDDEN_CHARACTER"),
            (&format!("https://example.com/{}", "a".repeat(2_048)), "TOO_LONG"),
        ] {
            assert_eq!(outcome(AvatarUrl::parse(url)), expected, "{url}");
        }
        for locale in ["de", "de-AT", "zh-Hant-TW", "gsw"] {
            assert_eq!(outcome(Locale::parse(locale)), locale);
        }
        for locale in ["", "d", "DE", "de_AT", "de-", "de-A", "german", "de-AT\0", &"de-abcdefgh".repeat(4)] {
            assert_eq!(outcome(Locale::parse(locale)), "MALFORMED", "{locale:?}");
        }
        assert_eq!(outcome(ZoneName::parse("Europe/Berlin")), "Europe/Berlin");
        for zone in ["", "Berlin", "europe/berlin", "Mars/Olympus", "Europe/Berlin "] {
            assert_eq!(outcome(ZoneName::parse(zone)), "UNKNOWN_VALUE", "{zone:?}");
        }
    }

    #[test]
    fn a_preference_is_small() {
        assert_eq!(parse_preference(&json!("x".repeat(500))), SettingValue::text(&"x".repeat(500)));
        let refused =
            |value: serde_json::Value| parse_preference(&value).map_err(|refused| (refused.path, refused.code));
        assert_eq!(refused(json!("ß".repeat(501))), Err((["value"].as_slice(), "TOO_LONG")));
        for value in [json!(1.5), json!({}), json!([]), json!(null)] {
            assert_eq!(refused(value), Err((["value"].as_slice(), "MALFORMED")));
        }
        assert_eq!(parse_key("$subject").map_err(|refused| refused.path), Err(["key"].as_slice()));
    }
}
