//! Values that are right by construction: text from outside becomes one of these types or a refusal.
//!
//! `parse` is the only door for input. `Deserialize` is for history and checks nothing: what was once
//! accepted must decode for ever, also after a rule has become stricter. So commands implement no
//! `Deserialize`, and a message here never repeats the input, which may be anybody's data.

use crate::aggregate::Refusal;
use serde::{Deserialize, Serialize};
use std::fmt;

/// An input that is not a value of its type.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct InvalidValue {
    /// Path of the input field, e.g. `["contact", "email"]`.
    pub path: &'static [&'static str],
    /// UPPER_SNAKE, stable: `EMPTY`, `TOO_LONG`, `FORBIDDEN_CHARACTER`, `MALFORMED`, `UNKNOWN_VALUE`,
    /// `TOO_MANY`, `DUPLICATE`.
    pub code: &'static str,
    /// Names the thing and the remedy.
    pub message: String,
}

impl InvalidValue {
    pub fn new(path: &'static [&'static str], code: &'static str, message: impl Into<String>) -> Self {
        Self { path, code, message: message.into() }
    }

    /// The same refusal for an input field of another name.
    pub fn at(self, path: &'static [&'static str]) -> Self {
        Self { path, ..self }
    }
}

impl Refusal for InvalidValue {
    fn code(&self) -> &'static str {
        self.code
    }

    fn path(&self) -> &'static [&'static str] {
        self.path
    }
}

macro_rules! text_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}
pub(crate) use text_newtype;

text_newtype!(
    /// A name that people read, on one line.
    Name
);
text_newtype!(
    /// A DNS name in its normal form: lower case, without the dot of the root, other scripts in their `xn--` form.
    Domain
);
text_newtype!(
    /// Why something was done, in the words of whoever did it. Kept for ever in clear, so no place for personal data.
    Reason
);

impl Name {
    pub const CHARS_MAX: usize = 200;

    /// 1–200 characters after trimming, none of which breaks or reorders the line around it.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        one_line(&["name"], "a name", text, Self::CHARS_MAX).map(Self)
    }
}

impl Reason {
    pub const CHARS_MAX: usize = 500;

    /// 1–500 characters after trimming; line breaks and tabs are fine, other control characters are not.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let path: &[&str] = &["reason"];
        let text = sized(path, "a reason", text.trim(), Self::CHARS_MAX)?;
        if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
            return Err(forbidden(path, "a reason"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl Domain {
    pub const BYTES_MAX: usize = 253;

    /// At least two labels of letters, digits and inner hyphens, e.g. `example.com`; the last one is not a number,
    /// so that an IP address is none.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let path: &[&str] = &["domain"];
        let malformed = |why: &str| {
            InvalidValue::new(path, "MALFORMED", format!("a domain is a DNS name such as example.com: {why}"))
        };
        let text = text.trim();
        if !text.is_ascii() {
            return Err(malformed("write other scripts in their xn-- form"));
        }
        let text = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if text.len() > Self::BYTES_MAX {
            return Err(InvalidValue::new(path, "TOO_LONG", "a domain has at most 253 characters"));
        }
        let labels: Vec<&str> = text.split('.').collect();
        if labels.len() < 2 {
            return Err(malformed("it needs a dot between two labels"));
        }
        for label in &labels {
            let inner = |c: char| c.is_ascii_alphanumeric() || c == '-';
            if label.is_empty()
                || label.len() > 63
                || label.starts_with('-')
                || label.ends_with('-')
                || !label.chars().all(inner)
            {
                return Err(malformed("each label has 1 to 63 letters, digits and inner hyphens"));
            }
        }
        if labels.last().is_some_and(|last| last.chars().all(|c| c.is_ascii_digit())) {
            return Err(malformed("the last label is not a number"));
        }
        Ok(Self(text))
    }
}

/// An e-mail address: the domain in lower case, the rest as written. Personal: `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct EmailAddress(String);

impl EmailAddress {
    pub const BYTES_MAX: usize = 254;

    /// A light check: something, an `@`, a [`Domain`]. Whether anybody reads it, only a mail can tell.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let path: &[&str] = &["email"];
        let malformed = || InvalidValue::new(path, "MALFORMED", "an e-mail address looks like somebody@example.com");
        let text = text.trim();
        if text.len() > Self::BYTES_MAX {
            return Err(InvalidValue::new(path, "TOO_LONG", "an e-mail address has at most 254 bytes"));
        }
        let (local, domain) = text.rsplit_once('@').ok_or_else(malformed)?;
        // Quoted local parts are legal and unheard of; refusing them keeps header injection out.
        let refused = |c: char| !is_plain(c) || c.is_whitespace() || "@<>()[],:;\\\"".contains(c);
        if local.is_empty() || local.len() > 64 || local.chars().any(refused) {
            return Err(malformed());
        }
        let domain = Domain::parse(domain).map_err(|_| malformed())?;
        Ok(Self(format!("{local}@{domain}")))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EmailAddress(…)")
    }
}

/// Trimmed text of 1 to `chars_max` characters on one line; `what` is its name with an article.
pub(crate) fn one_line(
    path: &'static [&'static str],
    what: &str,
    text: &str,
    chars_max: usize,
) -> Result<String, InvalidValue> {
    let text = sized(path, what, text.trim(), chars_max)?;
    match text.chars().all(is_plain) {
        true => Ok(text.to_owned()),
        false => Err(forbidden(path, what)),
    }
}

fn sized<'t>(
    path: &'static [&'static str],
    what: &str,
    text: &'t str,
    chars_max: usize,
) -> Result<&'t str, InvalidValue> {
    if text.is_empty() {
        return Err(InvalidValue::new(path, "EMPTY", format!("{what} is not empty")));
    }
    if text.chars().count() > chars_max {
        return Err(InvalidValue::new(path, "TOO_LONG", format!("{what} has at most {chars_max} characters")));
    }
    Ok(text)
}

fn forbidden(path: &'static [&'static str], what: &str) -> InvalidValue {
    InvalidValue::new(path, "FORBIDDEN_CHARACTER", format!("{what} holds no control characters; remove them"))
}

/// Neither a control character (U+0000 among them) nor one that breaks or reorders the line it is shown in:
/// a name in an audit trail must not be able to change how its neighbours read.
fn is_plain(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `input → normal form` or `input → code`, with U+0000 among the inputs of every type.
    fn check<T: fmt::Display>(parse: impl Fn(&str) -> Result<T, InvalidValue>, table: &[(&str, &str)]) {
        for (input, expected) in table {
            let outcome = match parse(input) {
                Ok(value) => value.to_string(),
                Err(refusal) => refusal.code.to_owned(),
            };
            assert_eq!(&outcome, expected, "{input:?}");
        }
    }

    #[test]
    fn a_name_is_trimmed_and_stays_on_its_line() {
        let (longest, too_long) = ("ß".repeat(200), "ß".repeat(201));
        check(
            Name::parse,
            &[
                ("  Müller & Söhne ", "Müller & Söhne"),
                (&longest, &longest),
                (&too_long, "TOO_LONG"),
                (" \t ", "EMPTY"),
                ("a\0b", "FORBIDDEN_CHARACTER"),
                ("a\nb", "FORBIDDEN_CHARACTER"),
                ("a\u{85}b", "FORBIDDEN_CHARACTER"),
                ("evil\u{202E}lanruoj", "FORBIDDEN_CHARACTER"),
                ("عربي", "عربي"),
            ],
        );
    }

    #[test]
    fn a_reason_may_have_several_lines() {
        let too_long = "x".repeat(501);
        check(
            Reason::parse,
            &[
                ("unpaid\nsince May", "unpaid\nsince May"),
                ("", "EMPTY"),
                (&too_long, "TOO_LONG"),
                ("a\0", "FORBIDDEN_CHARACTER"),
            ],
        );
    }

    #[test]
    fn two_spellings_of_a_domain_have_one_normal_form() {
        let label = "a".repeat(63);
        let (longest, too_long) =
            (format!("{label}.{label}.{label}.{}", &label[..61]), format!("{label}.{label}.{label}.{}", &label[..62]));
        check(
            Domain::parse,
            &[
                (" Example.COM. ", "example.com"),
                ("xn--mnchen-3ya.example", "xn--mnchen-3ya.example"),
                (&longest, &longest),
                (&too_long, "TOO_LONG"),
                ("münchen.example", "MALFORMED"),
                ("localhost", "MALFORMED"),
                ("192.0.2.1", "MALFORMED"),
                ("a..example", "MALFORMED"),
                ("-a.example", "MALFORMED"),
                ("a_b.example", "MALFORMED"),
                ("exam\0ple.com", "MALFORMED"),
                ("example.com..", "MALFORMED"),
                ("", "MALFORMED"),
            ],
        );
    }

    #[test]
    fn an_email_address_is_checked_lightly_and_keeps_its_local_part() {
        let email = |text: &str| EmailAddress::parse(text).map(|address| address.as_str().to_owned());
        check(
            email,
            &[
                (" Ada.L+books@Example.COM ", "Ada.L+books@example.com"),
                ("ada", "MALFORMED"),
                ("@example.com", "MALFORMED"),
                ("a@b@example.com", "MALFORMED"),
                ("a b@example.com", "MALFORMED"),
                ("a\r\nBcc:x@example.com", "MALFORMED"),
                ("a\0@example.com", "MALFORMED"),
                ("a@localhost", "MALFORMED"),
                (&format!("a@{}.example", "b".repeat(250)), "TOO_LONG"),
            ],
        );
    }

    #[test]
    fn a_refusal_never_repeats_the_input() {
        let refusal = EmailAddress::parse("secret person@example.com").expect_err("a space is refused");
        assert!(!refusal.to_string().contains("secret"));
        assert_eq!(format!("{:?}", EmailAddress::parse("ada@example.com")), "Ok(EmailAddress(…))");
    }

    #[test]
    fn history_decodes_also_what_parse_would_refuse_today() {
        let name: Name = serde_json::from_str("\"\"").expect("history is not judged again");
        assert_eq!(name.as_str(), "");
    }
}
