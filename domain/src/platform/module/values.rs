//! The values that only a module has: keys, version, permissions, paths, addresses.

use crate::value::{InvalidValue, text_newtype};
use serde::{Deserialize, Serialize};
use std::fmt;

text_newtype!(
    /// What a module is called in addresses and subjects, e.g. `bess-sizing`. One module of a tenant has it.
    ModuleKey
);
text_newtype!(
    /// What a role is called within its module, e.g. `engineer`.
    RoleKey
);
text_newtype!(
    /// What a role of a module may do, in the module's own words, e.g. `project.edit:own`.
    Permission
);
text_newtype!(
    /// A version by the rules of semver.org, e.g. `1.4.0-rc.1`.
    ModuleVersion
);
text_newtype!(
    /// A path within the module, e.g. `/projects/recent`.
    RoutePath
);
text_newtype!(
    /// Where a module lives, an address of the scheme https. Kept for ever in clear, so no place for secrets.
    ModuleUrl
);
text_newtype!(
    /// A word for programs: an icon, a category, a framework, a service.
    Keyword
);
text_newtype!(
    /// What a module is for, in some lines. Empty if nobody has said so.
    #[derive(Default)]
    Description
);

impl ModuleKey {
    pub const BYTES_MAX: usize = 63;

    /// `[a-z][a-z0-9-]{0,62}`.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let message = "a module's key is a small letter, then at most 62 of a-z, 0-9 and -";
        word(&["key"], text, Self::BYTES_MAX, b"-", message).map(Self)
    }
}

impl RoleKey {
    pub const BYTES_MAX: usize = 63;

    /// `[a-z][a-z0-9_-]{0,62}`. Never begins with `$`, which marks personal fields in a payload.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let message = "a role's key is a small letter, then at most 62 of a-z, 0-9, _ and -";
        word(&["role"], text, Self::BYTES_MAX, b"_-", message).map(Self)
    }
}

impl Permission {
    pub const BYTES_MAX: usize = 64;

    /// Everything that can be done in a module.
    pub const EVERYTHING: &'static str = "*";

    /// As [`Permission::parse`], or `*`.
    pub fn parse_of_role(text: &str) -> Result<Self, InvalidValue> {
        match text {
            Self::EVERYTHING => Ok(Self(text.to_owned())),
            _ => Self::parse(text),
        }
    }

    pub fn is_everything(&self) -> bool {
        self.0 == Self::EVERYTHING
    }

    /// `[a-z][a-z0-9_.:-]{0,63}`.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let message = "a permission is a small letter, then at most 63 of a-z, 0-9, _, ., : and -";
        word(&["permission"], text, Self::BYTES_MAX, b"_.:-", message).map(Self)
    }
}

impl ModuleVersion {
    pub const BYTES_MAX: usize = 64;

    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let path: &[&str] = &["version"];
        if text.len() > Self::BYTES_MAX {
            return Err(InvalidValue::new(path, "TOO_LONG", "a version has at most 64 bytes"));
        }
        let malformed =
            |_| InvalidValue::new(path, "MALFORMED", "a version is three numbers such as 1.4.0, see semver.org");
        semver::Version::parse(text).map(|version| Self(version.to_string())).map_err(malformed)
    }

    /// Whether it comes after `other` in the order of semver.org, in which build metadata counts for nothing.
    pub fn is_above(&self, other: &Self) -> bool {
        match (semver::Version::parse(&self.0), semver::Version::parse(&other.0)) {
            (Ok(version), Ok(other)) => version.cmp_precedence(&other).is_gt(),
            // History may hold what no version is today; any version is above that.
            (Ok(_), Err(_)) => true,
            (Err(_), _) => false,
        }
    }
}

impl RoutePath {
    pub const BYTES_MAX: usize = 200;

    /// `/` or `/segment/segment…` of letters, digits and `-._~`. Neither `//`, which an address would take for a host,
    /// nor `.` and `..`, which would lead out of the module.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let path: &[&str] = &["path"];
        if text.len() > Self::BYTES_MAX {
            return Err(InvalidValue::new(path, "TOO_LONG", "a route's path has at most 200 bytes"));
        }
        let is_segment = |segment: &str| {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
            !matches!(segment, "" | "." | "..") && segment.bytes().all(plain)
        };
        match text.strip_prefix('/') {
            Some("") => Ok(Self(text.to_owned())),
            Some(segments) if segments.split('/').all(is_segment) => Ok(Self(text.to_owned())),
            Some(_) | None => Err(InvalidValue::new(
                path,
                "MALFORMED",
                "a route's path is / or /word/word, each word of letters, digits and -._~",
            )),
        }
    }
}

impl ModuleUrl {
    pub const BYTES_MAX: usize = 2_048;

    /// An absolute address in its normal form, without user and password. A name says nothing of where it leads:
    /// whoever calls the address has to refuse inner ones.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let path: &[&str] = &["url"];
        let malformed = |why: &str| {
            InvalidValue::new(path, "MALFORMED", format!("a module's url looks like https://example.com/start: {why}"))
        };
        if text.len() > Self::BYTES_MAX {
            return Err(InvalidValue::new(path, "TOO_LONG", "a module's url has at most 2048 bytes"));
        }
        // The parser would drop them without a word.
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(InvalidValue::new(path, "FORBIDDEN_CHARACTER", "a module's url holds no spaces; remove them"));
        }
        let url = url::Url::parse(text).map_err(|_| malformed("this is no absolute address"))?;
        if url.scheme() != "https" {
            return Err(malformed("its scheme is https"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(malformed("it holds no user and password"));
        }
        if url.as_str().len() > Self::BYTES_MAX {
            return Err(InvalidValue::new(
                path,
                "TOO_LONG",
                "a module's url has at most 2048 bytes in its normal form",
            ));
        }
        Ok(Self(url.into()))
    }
}

impl Keyword {
    pub const BYTES_MAX: usize = 63;

    /// `[A-Za-z0-9][A-Za-z0-9_.:-]{0,62}`.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let is_inner = |b: u8| b.is_ascii_alphanumeric() || b"_.:-".contains(&b);
        let fits = text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.bytes().all(is_inner);
        match fits && text.len() <= Self::BYTES_MAX {
            true => Ok(Self(text.to_owned())),
            false => Err(InvalidValue::new(
                &["keyword"],
                "MALFORMED",
                "this is one word: a letter or a digit, then at most 62 letters, digits, _ . : and -",
            )),
        }
    }
}

impl Description {
    pub const CHARS_MAX: usize = 2_000;

    /// Up to 2,000 characters after trimming, possibly none; line breaks and tabs are fine.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let (path, text): (&[&str], _) = (&["description"], text.trim());
        if text.chars().count() > Self::CHARS_MAX {
            return Err(InvalidValue::new(path, "TOO_LONG", "a description has at most 2000 characters"));
        }
        if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
            let message = "a description holds no control characters; remove them";
            return Err(InvalidValue::new(path, "FORBIDDEN_CHARACTER", message));
        }
        Ok(Self(text.to_owned()))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A small letter, then small letters, digits and what `others` holds.
fn word(
    path: &'static [&'static str],
    text: &str,
    bytes_max: usize,
    others: &[u8],
    message: &str,
) -> Result<String, InvalidValue> {
    let is_inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || others.contains(&b);
    let is_word = text.starts_with(|c: char| c.is_ascii_lowercase()) && text.bytes().all(is_inner);
    match is_word && text.len() <= bytes_max {
        true => Ok(text.to_owned()),
        false => Err(InvalidValue::new(path, "MALFORMED", message)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome<T: fmt::Display>(parsed: Result<T, InvalidValue>) -> String {
        parsed.map_or_else(|refusal| refusal.code.to_owned(), |value| value.to_string())
    }

    #[test]
    fn a_key_is_fit_for_an_address_and_for_a_subject() {
        for key in ["a", "bess-sizing", "x9", &"a".repeat(63)] {
            assert_eq!(outcome(ModuleKey::parse(key)), key);
            assert_eq!(outcome(RoleKey::parse(key)), key);
        }
        for key in ["", "A", "9a", "-a", "a.b", "a b", "a*", "a>", "$a", "ä", "a\0", "a/b", " a", &"a".repeat(64)] {
            assert_eq!(outcome(ModuleKey::parse(key)), "MALFORMED", "{key:?}");
            assert_eq!(outcome(RoleKey::parse(key)), "MALFORMED", "{key:?}");
        }
    }

    #[test]
    fn a_permission_may_be_qualified() {
        for permission in ["view", "project.edit:own", "a_b-c.d", &"p".repeat(64)] {
            assert_eq!(outcome(Permission::parse(permission)), permission);
        }
        for permission in ["", ".a", ":own", "Project", "a b", "*", "a\0", &"p".repeat(65)] {
            assert_eq!(outcome(Permission::parse(permission)), "MALFORMED", "{permission:?}");
        }
    }

    #[test]
    fn only_a_role_may_do_everything() {
        assert!(Permission::parse_of_role("*").expect("everything").is_everything());
        assert!(!Permission::parse_of_role("project.edit:own").expect("a permission").is_everything());
        for permission in ["**", "project.*", " *", ""] {
            assert_eq!(outcome(Permission::parse_of_role(permission)), "MALFORMED", "{permission:?}");
        }
    }

    #[test]
    fn a_keyword_is_one_word() {
        for word in ["react", "mdi:battery-50", "Energy", "3d_view", &"k".repeat(63)] {
            assert_eq!(outcome(Keyword::parse(word)), word);
        }
        for word in ["", "two words", ":x", "a/b", "<b>", "a\0", "ä", &"k".repeat(64)] {
            assert_eq!(outcome(Keyword::parse(word)), "MALFORMED", "{word:?}");
        }
    }

    #[test]
    fn a_version_is_that_of_semver() {
        for version in ["0.0.0", "1.2.3", "1.0.0-rc.1+build.5"] {
            assert_eq!(outcome(ModuleVersion::parse(version)), version);
        }
        for version in ["", "1", "1.2", "v1.2.3", "01.2.3", "1.2.3.4", " 1.2.3", "1.2.99999999999999999999", "1.2.3\0"]
        {
            assert_eq!(outcome(ModuleVersion::parse(version)), "MALFORMED", "{version:?}");
        }
        assert_eq!(outcome(ModuleVersion::parse(&format!("1.2.3-{}", "a".repeat(59)))), "TOO_LONG");
    }

    #[test]
    fn versions_rise_in_the_order_of_semver() {
        let rising = ["0.9.9", "1.0.0-alpha", "1.0.0-alpha.2", "1.0.0-alpha.11", "1.0.0", "1.2.0", "1.10.0", "2.0.0"];
        let versions: Vec<_> = rising.iter().map(|text| ModuleVersion::parse(text).expect("a version")).collect();
        for (n, version) in versions.iter().enumerate() {
            for (m, other) in versions.iter().enumerate() {
                assert_eq!(version.is_above(other), n > m, "{version} above {other}");
            }
        }
        let (built, rebuilt) = (ModuleVersion::parse("1.0.0+a"), ModuleVersion::parse("1.0.0+b"));
        assert!(!rebuilt.expect("a version").is_above(&built.expect("a version")), "a build is no new version");
        let ancient: ModuleVersion = serde_json::from_str("\"2\"").expect("history is not judged again");
        assert!(versions[0].is_above(&ancient) && !ancient.is_above(&versions[0]));
    }

    #[test]
    fn a_path_stays_within_its_module() {
        for path in ["/", "/projects", "/projects/recent.html", "/a-b_c~d/1", &format!("/{}", "a".repeat(199))] {
            assert_eq!(outcome(RoutePath::parse(path)), path);
        }
        for path in [
            "",
            "projects",
            "//evil.example",
            "/a//b",
            "/a/",
            "/../admin",
            "/a/./b",
            "/a/..",
            "/a?b",
            "/a#b",
            "/a\\b",
            "/%2e%2e",
            "/a b",
            "/a\0",
            "https://a.example",
        ] {
            assert_eq!(outcome(RoutePath::parse(path)), "MALFORMED", "{path:?}");
        }
        assert_eq!(outcome(RoutePath::parse(&format!("/{}", "a".repeat(200)))), "TOO_LONG");
    }

    #[test]
    fn a_url_is_https_and_holds_no_password() {
        for (url, expected) in [
            ("HTTPS://Example.COM", "https://example.com/"),
            ("https://example.com:443/a/../b", "https://example.com/b"),
            ("https://example.com:8443/start?lang=de", "https://example.com:8443/start?lang=de"),
            ("https://münchen.example/", "https://xn--mnchen-3ya.example/"),
            ("http://example.com/", "MALFORMED"),
            ("javascript:alert(1)", "MALFORMED"),
            ("data:text/html,x", "MALFORMED"),
            ("file:///etc/passwd", "MALFORMED"),
            ("//example.com/", "MALFORMED"),
            ("/start", "MALFORMED"),
            ("https://", "MALFORMED"),
            ("https://ada:secret@example.com/", "MALFORMED"),
            ("https://ada@example.com/", "MALFORMED"),
            ("", "MALFORMED"),
            (" https://example.com/", "FORBIDDEN_CHARACTER"),
            ("https://exam\nple.com/", "FORBIDDEN_CHARACTER"),
            ("https://example.com/\0", "FORBIDDEN_CHARACTER"),
            (&format!("https://example.com/{}", "a".repeat(2_029)), "TOO_LONG"),
            // Three bytes here are nine in the normal form.
            (&format!("https://example.com/{}", "€".repeat(500)), "TOO_LONG"),
        ] {
            assert_eq!(outcome(ModuleUrl::parse(url)), expected, "{url:?}");
        }
    }

    #[test]
    fn a_description_may_be_empty_and_have_several_lines() {
        assert_eq!(outcome(Description::parse(" two\nlines ")), "two\nlines");
        assert!(Description::parse(" ").expect("no description is one").is_empty());
        assert_eq!(outcome(Description::parse("a\0")), "FORBIDDEN_CHARACTER");
        assert_eq!(outcome(Description::parse(&"ß".repeat(2_001))), "TOO_LONG");
        assert!(Description::parse(&"ß".repeat(2_000)).is_ok());
    }
}
