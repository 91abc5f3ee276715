//! Content negotiation of GraphQL over HTTP: which body is read, which is written.

use axum::http::{HeaderMap, HeaderValue, header};

/// The two ways to write a GraphQL response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// `application/graphql-response+json`: the status says whether the document was executed.
    GraphqlResponse,
    /// `application/json`: 200 for every well-formed request, as older clients expect.
    Json,
}

impl Format {
    /// The `Content-Type` of the answer.
    pub(crate) fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::GraphqlResponse => "application/graphql-response+json; charset=utf-8",
            Self::Json => "application/json; charset=utf-8",
        })
    }
}

/// What a client takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// How a single answer is written; `None` when the client takes neither.
    pub(crate) format: Option<Format>,
    pub(crate) stream: EventStream,
}

/// Whether the client takes `text/event-stream`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventStream {
    Refused,
    /// As much as a single answer, or less: for a subscription, which has more than one.
    Possible,
    /// Rather than a single answer: for every operation.
    Preferred,
}

/// Chooses by `Accept`.
///
/// The new type and the event stream are used only when named; a wildcard or nothing at all gets `application/json`.
pub(crate) fn accepted(headers: &HeaderMap) -> Accepted {
    let single = |format| Accepted { format, stream: EventStream::Refused };
    let mut ranges = Vec::new();
    for value in headers.get_all(header::ACCEPT) {
        let Ok(value) = value.to_str() else { return single(None) };
        ranges.extend(value.split(',').filter(|range| !range.trim().is_empty()).filter_map(range));
    }
    if ranges.is_empty() {
        let any = headers.get(header::ACCEPT).is_none_or(|value| value.is_empty());
        return single(any.then_some(Format::Json));
    }
    // The most specific range decides, whatever its weight.
    let weight = |names: &[&str]| {
        names.iter().find_map(|name| ranges.iter().find(|(range, _)| range == name)).map_or(0, |(_, q)| *q)
    };
    let named = weight(&["application/graphql-response+json"]);
    let json = weight(&["application/json", "application/*", "*/*"]);
    let format = match (named, json) {
        (0, 0) => None,
        (named, json) if named >= json => Some(Format::GraphqlResponse),
        _ => Some(Format::Json),
    };
    let stream = match weight(&["text/event-stream"]) {
        0 => EventStream::Refused,
        stream if stream > named.max(json) => EventStream::Preferred,
        _ => EventStream::Possible,
    };
    Accepted { format, stream }
}

/// A media range and its weight in thousandths. A range of another charset than UTF-8 does not count.
fn range(text: &str) -> Option<(String, u32)> {
    let (name, parameters) = media_type(text);
    let mut weight = 1000;
    for (key, value) in parameters {
        match key.as_str() {
            "q" => weight = thousandths(&value)?,
            "charset" if !utf8(&value) => return None,
            _ => {}
        }
    }
    Some((name, weight))
}

fn thousandths(text: &str) -> Option<u32> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let fraction: u32 = format!("{fraction:0<3}").parse().ok()?;
    match (whole, fraction) {
        ("0", fraction) => Some(fraction),
        ("1", 0) => Some(1000),
        _ => None,
    }
}

/// Whether the body is JSON in UTF-8. Everything that a web form can send without asking first is refused.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return false;
    };
    let Ok(value) = value.to_str() else { return false };
    let (name, parameters) = media_type(value);
    name == "application/json" && parameters.iter().all(|(key, value)| key != "charset" || utf8(value))
}

fn utf8(charset: &str) -> bool {
    charset.eq_ignore_ascii_case("utf-8") || charset.eq_ignore_ascii_case("utf8")
}

fn media_type(text: &str) -> (String, Vec<(String, String)>) {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default().to_ascii_lowercase();
    let parameters = parts
        .filter_map(|part| part.split_once('='))
        .map(|(key, value)| (key.trim().to_ascii_lowercase(), value.trim().trim_matches('"').to_owned()))
        .collect();
    (name, parameters)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(value: &'static str) -> Option<Format> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static(value));
        accepted(&headers).format
    }

    #[test]
    fn an_event_stream_is_written_when_it_is_named() {
        use EventStream::*;
        for (value, stream, format) in [
            ("text/event-stream", Preferred, None),
            ("text/event-stream; charset=utf-8", Preferred, None),
            ("text/event-stream, application/json;q=0.5", Preferred, Some(Format::Json)),
            (
                "application/graphql-response+json, application/json, text/event-stream",
                Possible,
                Some(Format::GraphqlResponse),
            ),
            ("text/event-stream;q=0.1, */*", Possible, Some(Format::Json)),
            ("text/event-stream;q=0, */*", Refused, Some(Format::Json)),
            ("text/*, */*", Refused, Some(Format::Json)),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(value));
            assert_eq!(accepted(&headers), Accepted { format, stream }, "{value}");
        }
    }

    #[test]
    fn the_new_type_is_used_when_it_is_named() {
        use Format::*;
        for (value, format) in [
            ("application/graphql-response+json", Some(GraphqlResponse)),
            (
                "application/graphql-response+json; charset=utf-8, application/json; charset=utf-8",
                Some(GraphqlResponse),
            ),
            ("application/json, application/graphql-response+json", Some(GraphqlResponse)),
            ("application/json, application/graphql-response+json;q=0.9", Some(Json)),
            ("application/graphql-response+json;q=0, */*", Some(Json)),
            ("application/json;q=0, */*", None),
            ("application/json", Some(Json)),
            ("text/html, */*;q=0.1", Some(Json)),
            ("*/*", Some(Json)),
            ("application/*", Some(Json)),
            ("", Some(Json)),
            ("text/html", None),
            ("application/json; charset=utf-16", None),
            ("application/json;q=2", None),
        ] {
            assert_eq!(accept(value), format, "{value}");
        }
        assert_eq!(accepted(&HeaderMap::new()).format, Some(Json));
    }

    #[test]
    fn only_json_in_utf8_is_read() {
        let judge = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(value));
            is_json(&headers)
        };
        assert!(judge("application/json") && judge("Application/JSON; charset=\"UTF-8\""));
        for refused in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "application/json; charset=utf-16",
            "text/plain; application/json",
            "application/jsonp",
            "",
        ] {
            assert!(!judge(refused), "{refused}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }
}
