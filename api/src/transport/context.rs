//! What the headers of a request say about it: who asks, under which name, how new the answer must be.

use axum::http::{HeaderMap, HeaderValue, header};
use uuid::Uuid;

use super::{AT_LEAST_HEADER, CORRELATION_HEADER, IDEMPOTENCY_HEADER, LAST_EVENT_HEADER, TENANT_HEADER};

/// Names one request in logs, events and error messages. 1–128 letters, digits, `.`, `_`, `:`, `-`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CorrelationId(String);

impl CorrelationId {
    /// `None` when the text is too long or has other characters.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=128).contains(&text.len());
        let clean = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-'));
        (fits && clean).then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// From `X-Correlation-Id`, when it is there once and valid.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        Self::parse(single(headers, CORRELATION_HEADER)?)
    }

    pub(crate) fn header(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.0).ok()
    }
}

impl From<Uuid> for CorrelationId {
    fn from(id: Uuid) -> Self {
        Self(id.to_string())
    }
}

/// The opaque position that the answer must have seen. The transport only checks that it is short and printable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AtLeast(pub String);

impl AtLeast {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let fits = (1..=256).contains(&text.len());
        (fits && text.bytes().all(|byte| byte.is_ascii_graphic())).then(|| Self(text.to_owned()))
    }

    /// From `Daybook-At-Least`; `Err` when it is there but not a position.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Option<Self>, ()> {
        if !headers.contains_key(AT_LEAST_HEADER) {
            return Ok(None);
        }
        single(headers, AT_LEAST_HEADER).and_then(Self::parse).map(Some).ok_or(())
    }

    /// From `Last-Event-ID`; an empty one says that no event had an id. `Err` when it is there but not a position.
    pub(crate) fn last_event(headers: &HeaderMap) -> Result<Option<Self>, ()> {
        match headers.contains_key(LAST_EVENT_HEADER).then(|| single(headers, LAST_EVENT_HEADER)) {
            None | Some(Some("")) => Ok(None),
            Some(text) => text.and_then(Self::parse).map(Some).ok_or(()),
        }
    }
}

/// The text of `Idempotency-Key`; `Err` when it is there but not 1–255 printable characters, or there twice.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, ()> {
    if !headers.contains_key(IDEMPOTENCY_HEADER) {
        return Ok(None);
    }
    // A structured field, as the draft standard has it, wears quotes.
    let text = single(headers, IDEMPOTENCY_HEADER).map(|text| text.trim().trim_matches('"'));
    let fits = |text: &&str| (1..=255).contains(&text.len()) && text.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
    text.filter(fits).map(Some).ok_or(())
}

/// Whether `X-Tenant-ID`, if it is there, names this tenant.
pub(crate) fn is_for(headers: &HeaderMap, tenant: Option<Uuid>) -> bool {
    let told = || single(headers, TENANT_HEADER).and_then(|text| text.trim().parse().ok());
    !headers.contains_key(TENANT_HEADER) || tenant.is_none_or(|tenant| told() == Some(tenant))
}

/// The token of `Authorization: Bearer …`; `None` when the header is missing, doubled or of another scheme.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    bearer_of(single(headers, header::AUTHORIZATION.as_str())?)
}

/// The token of a header value.
pub(crate) fn bearer_of(value: &str) -> Option<&str> {
    let (scheme, token) = value.trim().split_once(' ')?;
    let token = token.trim_start();
    let clean = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    (scheme.eq_ignore_ascii_case("bearer") && clean).then_some(token)
}

fn single<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_token_is_read_and_nothing_else() {
        assert_eq!(bearer_of("Bearer abc"), Some("abc"));
        assert_eq!(bearer_of("bearer  abc "), Some("abc"));
        for other in ["", "Bearer", "Bearer ", "Basic abc", "abc", "Bearer a b", "Bearerabc"] {
            assert_eq!(bearer_of(other), None, "{other}");
        }
    }

    #[test]
    fn a_tenant_that_is_named_is_the_credentials_own() {
        let own = Uuid::from_u128(7);
        let told = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(TENANT_HEADER, value.parse().unwrap());
            }
            is_for(&headers, Some(own))
        };
        let own = own.to_string();
        assert!(told(&[]) && told(&[&own]) && told(&[&own.to_uppercase()]));
        for other in
            [&["00000000-0000-0000-0000-000000000008"][..], &[""], &["*"], &[&own, &own], &[&format!("{own}, x")]]
        {
            assert!(!told(other), "{other:?}");
        }
    }

    #[test]
    fn a_correlation_id_is_short_and_plain() {
        assert!(CorrelationId::parse("order-17:retry_2.a").is_some());
        for other in ["", "a b", "a\nb", "ä", &"x".repeat(129)] {
            assert_eq!(CorrelationId::parse(other), None, "{other}");
        }
    }
}
