//! The query page at `/graphiql`: GraphiQL from the binary, so that it works where no other host can be reached.
//!
//! Everything is public and says nothing about anybody's data: a page, its script and style sheet, made by
//! `script/graphiql` and committed compressed. The page asks `/graphql` with a token that stays in the browser's tab;
//! no token is accepted here, in a URL or otherwise.
//!
//! | path | caching |
//! |---|---|
//! | `/graphiql` | asked again every time, answered with 304 while it is the same |
//! | `/graphiql/<edition>/<file>` | for ever: the edition is a hash of the files |

use axum::{
    Router,
    body::Body,
    extract::Path,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::Response,
    routing::get,
};
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// A query that the page offers: as a tab on the first visit, and in its menu ever after.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Example {
    /// Shown in the menu, e.g. `"Newest readings"`; unique among the examples.
    pub name: String,
    /// A document with one operation; its name titles the tab.
    pub query: String,
    /// The operation's variables, an object, if it has any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variables: Option<Value>,
}

impl Example {
    /// Without variables.
    pub fn new(name: &str, query: &str) -> Self {
        Self { name: name.to_owned(), query: query.to_owned(), variables: None }
    }

    /// With variables.
    #[must_use]
    pub fn with(mut self, variables: Value) -> Self {
        self.variables = Some(variables);
        self
    }
}

/// Examples that hold for every Daybook, whatever is in it.
pub fn examples() -> Vec<Example> {
    // Nobody's tenant: a person puts an id in its place.
    let nil = "00000000-0000-0000-0000-000000000000";
    vec![
        Example::new("Tenants", include_str!("../graphiql/examples/tenants.graphql")),
        Example::new("Register a tenant", include_str!("../graphiql/examples/register_tenant.graphql"))
            .with(json!({ "name": "Acme" })),
        Example::new("Watch a tenant", include_str!("../graphiql/examples/tenant_changed.graphql"))
            .with(json!({ "id": nil, "after": null })),
        Example::new("Watch everything", include_str!("../graphiql/examples/events.graphql"))
            .with(json!({ "tenant": null, "after": null, "filter": { "eventType": { "startsWith": "platform." } } })),
    ]
}

/// A file of the page, gzipped.
struct Asset {
    name: &'static str,
    content_type: &'static str,
    packed: &'static [u8],
}

const ASSETS: [Asset; 3] = [
    Asset {
        name: "graphiql.css",
        content_type: "text/css; charset=utf-8",
        packed: include_bytes!("../graphiql/assets/graphiql.css.gz"),
    },
    Asset {
        name: "graphiql.js",
        content_type: "text/javascript; charset=utf-8",
        packed: include_bytes!("../graphiql/assets/graphiql.js.gz"),
    },
    Asset {
        name: "licences.txt",
        content_type: "text/plain; charset=utf-8",
        packed: include_bytes!("../graphiql/assets/licences.txt.gz"),
    },
];

/// What a browser may do with an answer.
const GUARDS: [(HeaderName, &str); 5] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

const POLICY: &str = "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `GET /graphiql` and the files it needs. The page asks `graphql` beside itself, so it also works behind a proxy
/// that puts a prefix before both.
pub fn router(examples: &[Example]) -> Router {
    let edition: Arc<str> = edition().into();
    let page = Arc::new(Page::new(&edition, examples));
    Router::new().route("/graphiql", get(async move |headers: HeaderMap| page.answer(&headers))).route(
        "/graphiql/{edition}/{file}",
        get(
            async move |Path((asked, file)): Path<(String, String)>, headers: HeaderMap| {
                if *asked == *edition { asset(&edition, &file, &headers) } else { absent() }
            },
        ),
    )
}

/// The page, ready to be sent.
struct Page {
    html: Bytes,
    tag: String,
}

impl Page {
    fn new(edition: &str, examples: &[Example]) -> Self {
        // Nothing in it may end the script element that it stands in.
        let settings = json!({ "endpoint": "graphql", "examples": examples }).to_string().replace('<', "\\u003c");
        let html = include_str!("../graphiql/page.html").replace("{edition}", edition).replace("{settings}", &settings);
        Self { tag: format!("\"{}\"", hex(&Sha256::digest(&html))), html: html.into() }
    }

    fn answer(&self, headers: &HeaderMap) -> Response {
        let caching = [(header::CACHE_CONTROL, "no-cache"), (header::ETAG, self.tag.as_str())];
        if known(headers, &self.tag) {
            return answer(StatusCode::NOT_MODIFIED, &caching, Body::empty());
        }
        let [control, tag] = caching;
        let html = (header::CONTENT_TYPE, "text/html; charset=utf-8");
        answer(StatusCode::OK, &[html, control, tag], self.html.clone().into())
    }
}

fn asset(edition: &str, file: &str, headers: &HeaderMap) -> Response {
    let Some(asset) = ASSETS.iter().find(|asset| asset.name == file) else { return absent() };
    if !takes_gzip(headers) {
        let detail = format!("{file} is kept compressed: send `Accept-Encoding: gzip`");
        return problem(StatusCode::NOT_ACCEPTABLE, &detail);
    }
    let tag = format!("\"{edition}\"");
    let caching = [
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
        (header::VARY, "accept-encoding"),
        (header::ETAG, tag.as_str()),
    ];
    if known(headers, &tag) {
        return answer(StatusCode::NOT_MODIFIED, &caching, Body::empty());
    }
    let [control, vary, tag] = caching;
    let kind = (header::CONTENT_TYPE, asset.content_type);
    let coding = (header::CONTENT_ENCODING, "gzip");
    answer(StatusCode::OK, &[kind, coding, control, vary, tag], Bytes::from_static(asset.packed).into())
}

fn absent() -> Response {
    let detail = "This is no file of this version's page: load /graphiql again, which names the present ones";
    problem(StatusCode::NOT_FOUND, detail)
}

/// A problem document (RFC 9457).
fn problem(status: StatusCode, detail: &str) -> Response {
    let code = if status == StatusCode::NOT_FOUND { "NOT_FOUND" } else { "BAD_USER_INPUT" };
    let title = status.canonical_reason().unwrap_or_default();
    let body =
        json!({ "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail, "code": code });
    let headers = [
        (header::CONTENT_TYPE, "application/problem+json"),
        (header::CACHE_CONTROL, "no-store"),
        (header::VARY, "accept-encoding"),
    ];
    answer(status, &headers, body.to_string().into())
}

fn answer(status: StatusCode, headers: &[(HeaderName, &str)], body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    for (name, value) in GUARDS.iter().chain(headers) {
        // Every value is made here, of visible ASCII.
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// Names the present files: a hash of their names and contents, 16 hexadecimal digits.
fn edition() -> String {
    let mut hash = Sha256::new();
    for Asset { name, packed, .. } in ASSETS {
        hash.update(Sha256::digest(name));
        hash.update(Sha256::digest(packed));
    }
    hex(&hash.finalize())
}

/// The first eight bytes.
fn hex(hash: &[u8]) -> String {
    hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Whether the client has what the tag names (RFC 9110, 13.1.2: weak comparison).
fn known(headers: &HeaderMap, tag: &str) -> bool {
    items(headers, header::IF_NONE_MATCH).any(|item| item == "*" || item.strip_prefix("W/").unwrap_or(item) == tag)
}

/// Whether a gzipped answer is welcome (RFC 9110, 12.5.3: where nothing is said, every coding is).
fn takes_gzip(headers: &HeaderMap) -> bool {
    if !headers.contains_key(header::ACCEPT_ENCODING) {
        return true;
    }
    let welcome = |name: &str| {
        items(headers, header::ACCEPT_ENCODING).find_map(|item| {
            let (coding, parameters) = item.split_once(';').unwrap_or((item, ""));
            let weight = parameters.trim().strip_prefix("q=").unwrap_or("1");
            coding.trim().eq_ignore_ascii_case(name).then(|| weight.trim().parse::<f32>().is_ok_and(|q| q > 0.0))
        })
    };
    welcome("gzip").or_else(|| welcome("x-gzip")).or_else(|| welcome("*")).unwrap_or(false)
}

/// The items of a list header, over all its lines.
fn items(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(str::trim)
}

#[cfg(test)]
mod tests;
