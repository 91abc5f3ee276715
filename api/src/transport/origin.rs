//! Which web pages may open a socket, and which may read answers over HTTP.
//!
//! A browser sends cookies and, for WebSockets, asks nobody before it connects to a foreign host, so the server has
//! to look at `Origin` itself. Programs that are no browsers send none and are let through to the token check.

use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, HeaderName, Method, Uri, header};
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::{AT_LEAST_HEADER, CORRELATION_HEADER, LAST_EVENT_HEADER, POSITION_HEADER, TENANT_HEADER};

/// Origins that are welcome.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum OriginPolicy {
    /// Pages of the host that the request itself names.
    #[default]
    SameHost,
    /// Pages of the same host, and of these origins (`https://app.example.com`, no path, default ports left out).
    SameHostAnd(Vec<String>),
}

impl OriginPolicy {
    /// Whether a request with these headers may go on. No `Origin` at all is welcome, `null` is not.
    pub fn admits(&self, headers: &HeaderMap) -> bool {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let Some(origin) = origins.next() else {
            return true;
        };
        let (Ok(origin), None) = (origin.to_str(), origins.next()) else {
            return false;
        };
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        if host.is_some_and(|host| same_host(origin, host)) {
            return true;
        }
        match self {
            Self::SameHost => false,
            Self::SameHostAnd(list) => list.iter().any(|known| known.eq_ignore_ascii_case(origin)),
        }
    }

    /// Lets pages of listed origins ask these routes and read their answers.
    pub fn welcome(&self, router: Router) -> Router {
        match self.cross_origin() {
            Some(layer) => router.layer(layer),
            None => router,
        }
    }

    /// Answers to preflights from listed origins; pages of the same host need none. No cookies: the token is a header.
    pub(crate) fn cross_origin(&self) -> Option<CorsLayer> {
        let Self::SameHostAnd(_) = self else { return None };
        let policy = self.clone();
        let names = |names: &[&'static str]| names.iter().map(|name| HeaderName::from_static(name)).collect::<Vec<_>>();
        let sent = [
            "authorization",
            "content-type",
            "idempotency-key",
            "traceparent",
            CORRELATION_HEADER,
            AT_LEAST_HEADER,
            LAST_EVENT_HEADER,
            TENANT_HEADER,
        ];
        let layer = CorsLayer::new()
            .allow_origin(AllowOrigin::predicate(move |_, request| policy.admits(&request.headers)))
            .allow_methods([Method::GET, Method::POST])
            .allow_headers(names(&sent))
            .expose_headers(names(&["retry-after", CORRELATION_HEADER, POSITION_HEADER]))
            .max_age(Duration::from_secs(600));
        Some(layer)
    }
}

fn same_host(origin: &str, host: &str) -> bool {
    let Ok(uri) = origin.parse::<Uri>() else { return false };
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return false;
    };
    let default_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return false,
    };
    let bare = |name: &str| name.strip_suffix(default_port).unwrap_or(name).to_ascii_lowercase();
    bare(authority.as_str()) == bare(host)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn admits(policy: &OriginPolicy, origin: &'static str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("day.example:8080"));
        headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
        policy.admits(&headers)
    }

    #[test]
    fn the_same_host_is_admitted_and_any_other_is_not() {
        let policy = OriginPolicy::SameHost;
        assert!(admits(&policy, "http://day.example:8080"));
        assert!(admits(&policy, "http://DAY.example:8080"));
        for foreign in [
            "http://day.example",
            "http://day.example:8081",
            "http://evil.example",
            "http://day.example:8080.evil.example",
            "http://day.example:8080@evil.example",
            "null",
            "",
            "file:///x",
        ] {
            assert!(!admits(&policy, foreign), "{foreign}");
        }
    }

    #[test]
    fn a_listed_origin_is_admitted_by_its_whole_name_only() {
        let policy = OriginPolicy::SameHostAnd(vec!["https://app.example".into()]);
        assert!(admits(&policy, "https://app.example"));
        assert!(!admits(&policy, "http://app.example"));
        assert!(!admits(&policy, "https://app.example.evil"));
    }

    #[test]
    fn a_program_without_an_origin_is_admitted() {
        assert!(OriginPolicy::SameHost.admits(&HeaderMap::new()));
    }

    #[tokio::test]
    async fn a_page_that_is_welcome_may_ask_and_read_and_another_may_not() {
        let routes = || Router::new().route("/thing", axum::routing::post(async || "thing"));
        let ask = async |policy: &OriginPolicy, origin: &str| {
            let request = axum::extract::Request::options("/thing").header("host", "day.example");
            let request = request.header("origin", origin).header("access-control-request-method", "POST");
            let request = request.body(axum::body::Body::empty()).unwrap();
            let answer = tower::ServiceExt::oneshot(policy.welcome(routes()), request).await.unwrap();
            answer.headers().get("access-control-allow-origin").map(|allowed| allowed.to_str().unwrap().to_owned())
        };
        let policy = OriginPolicy::SameHostAnd(vec!["https://app.example".into()]);
        assert_eq!(ask(&policy, "https://app.example").await.as_deref(), Some("https://app.example"));
        assert_eq!(ask(&policy, "https://evil.example").await, None);
        assert_eq!(ask(&OriginPolicy::SameHost, "https://app.example").await, None);
    }

    #[test]
    fn two_origins_are_refused() {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("a"));
        headers.append(header::ORIGIN, HeaderValue::from_static("http://a"));
        headers.append(header::ORIGIN, HeaderValue::from_static("http://b"));
        assert!(!OriginPolicy::SameHost.admits(&headers));
    }
}
