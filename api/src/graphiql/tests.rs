use super::*;
use async_graphql::parser::{parse_query, types::DocumentOperations};
use axum::{body::to_bytes, http::Request};
use tower::ServiceExt;

async fn get_with(path: &str, headers: &[(HeaderName, &str)]) -> (StatusCode, HeaderMap, Bytes) {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    let response = router(&examples()).oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    (parts.status, parts.headers, to_bytes(body, usize::MAX).await.unwrap())
}

fn path_of(file: &str) -> String {
    format!("/graphiql/{}/{file}", edition())
}

/// What the page's script reads.
fn settings_of(page: &str) -> Value {
    let (_, rest) = page.split_once("id=\"settings\">").unwrap();
    serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
}

#[tokio::test]
async fn the_page_names_files_that_are_there() {
    let (status, _, page) = get_with("/graphiql", &[]).await;
    assert_eq!(status, StatusCode::OK);
    let page = std::str::from_utf8(&page).unwrap();
    let named: Vec<_> = page.split('"').filter(|text| text.starts_with("graphiql/")).collect();
    assert_eq!(named.len(), 2, "{page}");
    for name in named {
        let (status, headers, body) = get_with(&format!("/{name}"), &[(header::ACCEPT_ENCODING, "br, gzip")]).await;
        assert_eq!(status, StatusCode::OK, "{name}");
        assert_eq!(headers[header::CONTENT_ENCODING], "gzip");
        assert_eq!(headers[header::CACHE_CONTROL], "public, max-age=31536000, immutable");
        assert!(body.starts_with(&[0x1f, 0x8b]), "{name} is not gzip");
    }
}

#[tokio::test]
async fn the_page_names_no_other_host_and_runs_no_inline_script() {
    let (_, headers, page) = get_with("/graphiql", &[]).await;
    let page = std::str::from_utf8(&page).unwrap();
    assert!(!page.contains("://") && !page.contains("//"), "{page}");
    for script in page.split("<script").skip(1) {
        assert!(script.starts_with(" type=\"application/json\"") || script.contains(" src="), "{script}");
    }
    let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.contains("default-src 'self'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
}

#[tokio::test]
async fn every_answer_carries_the_guards() {
    for path in ["/graphiql".to_owned(), path_of("graphiql.js"), path_of("nothing.js")] {
        let (_, headers, _) = get_with(&path, &[]).await;
        for (name, value) in GUARDS {
            assert_eq!(headers[&name], value, "{path} {name}");
        }
    }
}

#[tokio::test]
async fn what_the_browser_has_is_not_sent_again() {
    for path in ["/graphiql".to_owned(), path_of("graphiql.css")] {
        let (_, headers, _) = get_with(&path, &[]).await;
        let tag = headers[header::ETAG].to_str().unwrap().to_owned();
        for list in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".to_owned()] {
            let (status, headers, body) = get_with(&path, &[(header::IF_NONE_MATCH, &list)]).await;
            assert_eq!((status, body.len()), (StatusCode::NOT_MODIFIED, 0), "{path} {list}");
            assert_eq!(headers[header::ETAG], tag);
        }
        let (status, _, body) = get_with(&path, &[(header::IF_NONE_MATCH, "\"other\"")]).await;
        assert!(status == StatusCode::OK && !body.is_empty());
    }
}

#[tokio::test]
async fn a_client_that_refuses_gzip_is_told_what_to_send() {
    let path = path_of("graphiql.js");
    for refused in ["identity", "gzip;q=0", "gzip; q=0.0, *", "br, *;q=0", ""] {
        let (status, headers, body) = get_with(&path, &[(header::ACCEPT_ENCODING, refused)]).await;
        assert_eq!(status, StatusCode::NOT_ACCEPTABLE, "{refused}");
        assert_eq!(headers[header::CONTENT_TYPE], "application/problem+json");
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert!(body["detail"].as_str().unwrap().contains("Accept-Encoding: gzip"), "{body}");
    }
    for welcome in ["gzip", "GZIP;q=0.5", "br, *", "deflate, gzip;q=1.0, *;q=0"] {
        let (status, ..) = get_with(&path, &[(header::ACCEPT_ENCODING, welcome)]).await;
        assert_eq!(status, StatusCode::OK, "{welcome}");
    }
}

#[tokio::test]
async fn a_file_of_another_version_is_not_found_and_not_remembered() {
    for path in ["/graphiql/0000000000000000/graphiql.js".to_owned(), path_of("nothing.js")] {
        let (status, headers, body) = get_with(&path, &[]).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert_eq!(headers[header::CACHE_CONTROL], "no-store");
        assert!(String::from_utf8_lossy(&body).contains("load /graphiql again"));
    }
}

#[test]
fn an_example_cannot_end_the_element_that_it_stands_in() {
    let hostile = Example::new("</script><script>", "{ a } # {edition} <!--").with(json!({ "x": "</SCRIPT>" }));
    let page = Page::new("e", std::slice::from_ref(&hostile));
    let html = std::str::from_utf8(&page.html).unwrap();
    assert_eq!(html.to_ascii_lowercase().matches("</script>").count(), 2, "{html}");
    let settings = settings_of(html);
    assert_eq!(settings["endpoint"], "graphql");
    assert_eq!(settings["examples"][0], serde_json::to_value(&hostile).unwrap());
}

#[test]
fn every_example_is_one_named_operation_and_gives_the_variables_it_declares() {
    for Example { name, query, variables } in examples() {
        let document = parse_query(&query).unwrap_or_else(|error| panic!("{name}: {error}"));
        let DocumentOperations::Multiple(operations) = document.operations else { panic!("{name} has no name") };
        assert_eq!(operations.len(), 1, "{name}");
        let operation = operations.into_values().next().unwrap().node;
        let mut declared: Vec<_> =
            operation.variable_definitions.iter().map(|variable| variable.node.name.node.to_string()).collect();
        declared.sort();
        let given = variables.unwrap_or_else(|| json!({}));
        let given: Vec<_> = given.as_object().unwrap().keys().cloned().collect();
        assert_eq!(given, declared, "{name}");
    }
}
