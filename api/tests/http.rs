//! GraphQL over HTTP, through a real connection.

mod toy;

use daybook_api::transport::OriginPolicy;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, header};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use toy::{Server, Setup, TOKEN, serve};

const NEW: &str = "application/graphql-response+json";

async fn start() -> Server {
    serve(Setup::default()).await.unwrap()
}

fn post(server: &Server) -> RequestBuilder {
    Client::new().post(server.url()).bearer_auth(TOKEN).header(header::ACCEPT, NEW)
}

fn get(server: &Server, pairs: &[(&str, &str)]) -> RequestBuilder {
    let url = reqwest::Url::parse_with_params(&server.url(), pairs).unwrap();
    Client::new().get(url).bearer_auth(TOKEN)
}

async fn ask(server: &Server, body: Value) -> (StatusCode, Value) {
    read(post(server).json(&body).send().await.unwrap()).await
}

async fn query(server: &Server, text: &str) -> (StatusCode, Value) {
    ask(server, json!({ "query": text })).await
}

async fn read(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    (status, response.json().await.unwrap())
}

fn code(body: &Value) -> &str {
    body["errors"][0]["extensions"]["code"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_query_sees_who_asks_under_which_name_and_how_new() {
    let server = start().await;
    let request = post(&server)
        .header("x-correlation-id", "order-17")
        .header("daybook-at-least", "p9")
        .json(&json!({ "query": "{ caller correlation atLeast }" }));
    let response = request.send().await.unwrap();
    assert_eq!(response.headers()["x-correlation-id"], "order-17");
    assert_eq!(response.headers()["content-type"], format!("{NEW}; charset=utf-8"));
    let (status, body) = read(response).await;
    assert_eq!(status, 200);
    assert_eq!(body, json!({ "data": { "caller": "toy", "correlation": "order-17", "atLeast": "p9" } }));
}

#[tokio::test]
async fn a_correlation_id_that_is_no_id_is_replaced() {
    let server = start().await;
    let request = post(&server).header("x-correlation-id", "a b").json(&json!({ "query": "{ correlation }" }));
    let response = request.send().await.unwrap();
    let name = response.headers()["x-correlation-id"].to_str().unwrap().to_owned();
    assert_eq!(name.len(), 36);
    assert_eq!(read(response).await.1["data"]["correlation"], name);
}

#[tokio::test]
async fn the_position_of_a_write_is_passed_on() {
    let server = start().await;
    let response = post(&server).json(&json!({ "query": "mutation { bump }" })).send().await.unwrap();
    assert_eq!(response.headers()["daybook-position"], "p1");
}

#[tokio::test]
async fn without_a_known_token_nothing_is_read() {
    let server = start().await;
    let client = Client::new();
    let plain = || client.post(server.url()).json(&json!({ "query": "mutation { bump }" }));
    for request in [
        plain(),
        plain().bearer_auth("wrong"),
        plain().basic_auth(TOKEN, None::<&str>),
        plain().header("authorization", format!("Bearer {TOKEN}")).header("authorization", "Bearer x"),
    ] {
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
        assert!(response.headers().contains_key("x-correlation-id"));
        let (status, body) = read(response).await;
        assert_eq!((status.as_u16(), code(&body)), (401, "UNAUTHENTICATED"));
    }
    assert_eq!(server.state.bumps.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_mutation_comes_only_as_json_by_post() {
    let server = start().await;
    let body = r#"{"query":"mutation { bump }"}"#;
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json; charset=utf-16",
    ] {
        let request = post(&server).header(header::CONTENT_TYPE, kind).body(body);
        assert_eq!(request.send().await.unwrap().status(), 415, "{kind}");
    }
    assert_eq!(post(&server).body(body).send().await.unwrap().status(), 415);
    let packed =
        post(&server).header(header::CONTENT_TYPE, "application/json").header(header::CONTENT_ENCODING, "gzip");
    assert_eq!(packed.body(body).send().await.unwrap().status(), 415);
    for text in ["mutation { bump }", "query a { caller } mutation b { bump }", "subscription { count }"] {
        let name = if text.starts_with("query") { "b" } else { "" };
        let response = get(&server, &[("query", text), ("operationName", name)]).send().await.unwrap();
        assert_eq!(
            (response.status().as_u16(), response.headers()["allow"].to_str().unwrap()),
            (405, "POST"),
            "{text}"
        );
    }
    for method in [Method::PUT, Method::DELETE, Method::PATCH, Method::HEAD, Method::OPTIONS] {
        let response = Client::new().request(method, server.url()).bearer_auth(TOKEN).send().await.unwrap();
        assert_eq!((response.status().as_u16(), response.headers()["allow"].to_str().unwrap()), (405, "GET, POST"));
    }
    assert_eq!(server.state.bumps.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_query_comes_by_get_unless_that_is_switched_off() {
    let server = start().await;
    let pairs = [("query", "query($n: Int) { withDefault(n: $n) }"), ("variables", r#"{"n":5}"#)];
    let (status, body) = read(get(&server, &pairs).send().await.unwrap()).await;
    assert_eq!((status.as_u16(), &body["data"]["withDefault"]), (200, &json!(5)));
    let mut setup = Setup::default();
    setup.limits.get_queries = false;
    let server = serve(setup).await.unwrap();
    let response = get(&server, &pairs).send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers()["allow"].to_str().unwrap()), (405, "POST"));
}

#[tokio::test]
async fn a_batch_is_refused() {
    let server = start().await;
    let (status, body) = ask(&server, json!([{ "query": "{ caller }" }])).await;
    assert_eq!((status.as_u16(), code(&body)), (400, "BAD_USER_INPUT"));
    assert!(body["errors"][0]["message"].as_str().unwrap().contains("one operation per request"));
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused_whether_announced_or_not() {
    let server = start().await;
    let long = vec![b' '; 1024 * 1024 + 1];
    let request = || post(&server).header(header::CONTENT_TYPE, "application/json");
    let (status, body) = read(request().body(long.clone()).send().await.unwrap()).await;
    assert_eq!((status.as_u16(), code(&body)), (413, "LIMIT_EXCEEDED"));

    let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let head = format!(
        "POST /graphql HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n",
        long.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // The server answers and closes without reading all of it.
    let _ = stream.write_all(&long).await;
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 413");
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_given_up() {
    let mut setup = Setup::default();
    setup.limits.body_timeout = std::time::Duration::from_millis(50);
    let server = serve(setup).await.unwrap();
    let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let head = format!(
        "POST /graphql HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{{"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 408");
}

#[tokio::test]
async fn a_refused_document_is_400_for_new_clients_and_200_for_old_ones() {
    let server = start().await;
    for (text, part) in [
        ("{", "expected"),
        ("{ nothing }", "nothing"),
        ("query($id: UUID!) { id(id: $id) }", "`$id` of type `UUID!` needs a value"),
        ("query a { caller } query b { caller }", "has 2 operations"),
        (&format!("{{ {} }}", "caller ".repeat(21)), "21 root fields"),
        (&format!("{{ caller {} }}", "[".repeat(60_000)), "tokens"),
        ("subscription { count }", "WebSocket"),
    ] {
        let (status, body) = query(&server, text).await;
        assert_eq!(status, 400, "{text:.40} {body}");
        assert!(body["errors"][0]["message"].as_str().unwrap().contains(part), "{body}");
        assert!(matches!(code(&body), "BAD_USER_INPUT" | "LIMIT_EXCEEDED"), "{body}");
        assert_eq!(body.get("data"), None);
        let old = Client::new().post(server.url()).bearer_auth(TOKEN).json(&json!({ "query": text }));
        let well_formed = !text.starts_with("subscription");
        assert_eq!(old.send().await.unwrap().status(), if well_formed { 200 } else { 400 }, "{text:.40}");
    }
    let unnamed = json!({ "query": "query a { caller }", "operationName": "b" });
    assert_eq!(ask(&server, unnamed).await.0, 400);
}

#[tokio::test]
async fn a_client_that_takes_neither_format_gets_406() {
    let server = start().await;
    let request = Client::new().post(server.url()).bearer_auth(TOKEN).header(header::ACCEPT, "text/html");
    assert_eq!(request.json(&json!({ "query": "{ caller }" })).send().await.unwrap().status(), 406);
}

#[tokio::test]
async fn a_variable_that_is_left_out_is_absent_and_not_null() {
    let server = start().await;
    let text = "query($x: Int, $n: Int) { presence(x: $x) nested(input: { x: $x }) withDefault(n: $n) }";
    for (variables, expected) in [
        (json!({}), json!({ "presence": "ABSENT", "nested": "ABSENT", "withDefault": 7 })),
        (json!({ "x": null, "n": 1 }), json!({ "presence": "NULL", "nested": "NULL", "withDefault": 1 })),
        (json!({ "x": 1, "n": 2 }), json!({ "presence": "PRESENT", "nested": "PRESENT", "withDefault": 2 })),
    ] {
        let (status, body) = ask(&server, json!({ "query": text, "variables": variables })).await;
        assert_eq!((status.as_u16(), &body["data"]), (200, &expected), "{body}");
    }
    // Through a fragment, beside another operation, with a variable that is really unused still reported.
    let text = "query a($x: Int) { ...f } query b { caller } fragment f on Query { presence(x: $x) }";
    let (_, body) = ask(&server, json!({ "query": text, "operationName": "a" })).await;
    assert_eq!(body["data"]["presence"], "ABSENT", "{body}");
    let (status, body) = query(&server, "query($x: Int, $unused: Int) { presence(x: $x) }").await;
    assert_eq!(status, 400);
    assert!(body["errors"][0]["message"].as_str().unwrap().contains("unused"), "{body}");
}

#[tokio::test]
async fn errors_carry_a_code_and_faults_no_detail() {
    let server = start().await;
    for (text, expected) in [
        ("{ coded(code: \"FORBIDDEN\") }", "FORBIDDEN"),
        ("{ coded(code: \"INTERNAL\") }", "INTERNAL"),
        ("{ uncoded }", "INTERNAL"),
        ("{ broken }", "INTERNAL"),
        ("{ short(text: \"long\") }", "BAD_USER_INPUT"),
        ("{ id(id: \"x\") }", "BAD_USER_INPUT"),
    ] {
        let response = post(&server).json(&json!({ "query": text })).send().await.unwrap();
        let name = response.headers()["x-correlation-id"].to_str().unwrap().to_owned();
        let (_, body) = read(response).await;
        assert_eq!(code(&body), expected, "{body}");
        if expected == "INTERNAL" {
            assert!(!body.to_string().contains("hunter2"), "{body}");
            assert_eq!(body["errors"][0]["extensions"]["correlationId"], name);
            assert_eq!(
                body["data"].as_object().map(|fields| fields.values().all(Value::is_null)),
                Some(true),
                "{body}"
            );
        }
    }
}

#[tokio::test]
async fn a_failed_field_is_null_or_nulls_the_nearest_parent_that_may_be_null() {
    let server = start().await;
    for (text, data, paths) in [
        ("{ uncoded caller }", json!({ "uncoded": null, "caller": "toy" }), json!([["uncoded"]])),
        ("{ row(id: 1) { id lenient } }", json!({ "row": { "id": 1, "lenient": null } }), json!([["row", "lenient"]])),
        ("{ caller row(id: 1) { id strict } }", json!(null), json!([["row", "strict"]])),
        (
            "{ caller maybeRow(id: 1) { parent { parent { strict } } } }",
            json!({ "caller": "toy", "maybeRow": null }),
            json!([["maybeRow", "parent", "parent", "strict"]]),
        ),
        ("{ rows { strict } caller }", json!({ "rows": null, "caller": "toy" }), json!([["rows", 1, "strict"]])),
        (
            "{ maybeRows { strict } }",
            json!({ "maybeRows": [{ "strict": 0 }, null, { "strict": 2 }] }),
            json!([["maybeRows", 1, "strict"]]),
        ),
        ("{ caller strictRows { strict } }", json!(null), json!([["strictRows", 1, "strict"]])),
        (
            "{ grid { strict } }",
            json!({ "grid": [[{ "strict": 0 }, { "strict": 2 }], null, [{ "strict": 4 }]] }),
            json!([["grid", 1, 0, "strict"], ["grid", 1, 1, "strict"]]),
        ),
    ] {
        let (status, body) = query(&server, text).await;
        let told: Vec<_> = body["errors"].as_array().unwrap().iter().map(|error| error["path"].clone()).collect();
        assert_eq!((status.as_u16(), &body["data"], json!(told)), (200, &data, paths), "{text} {body}");
        assert!(body.as_object().unwrap().contains_key("data"));
    }
}

#[tokio::test]
async fn a_listed_page_may_read_answers_and_another_may_not() {
    let origins = OriginPolicy::SameHostAnd(vec!["https://app.example".into()]);
    let server = serve(Setup { origins, ..Setup::default() }).await.unwrap();
    for (origin, welcome) in [("https://app.example", true), ("https://evil.example", false)] {
        let preflight = Client::new()
            .request(Method::OPTIONS, server.url())
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization,content-type");
        let answer = post(&server).header("origin", origin).json(&json!({ "query": "{ caller }" }));
        for response in [preflight.send().await.unwrap(), answer.send().await.unwrap()] {
            let allowed = response.headers().get("access-control-allow-origin").map(|value| value.to_str().unwrap());
            assert_eq!(allowed, welcome.then_some(origin));
        }
    }
}

#[tokio::test]
async fn only_the_first_errors_of_a_document_are_told() {
    let server = start().await;
    let unknown: String = (0..100).map(|n| format!("nothing{n} ")).collect();
    let (status, body) = query(&server, &format!("{{ items {{ {unknown} }} }}")).await;
    assert_eq!((status.as_u16(), body["errors"].as_array().unwrap().len()), (400, 20));
}

#[tokio::test]
async fn a_panic_is_an_internal_error_and_the_server_goes_on() {
    let server = start().await;
    let (status, body) = query(&server, "{ boom }").await;
    assert_eq!((status.as_u16(), code(&body)), (500, "INTERNAL"));
    assert!(!body.to_string().contains("hunter2"));
    assert_eq!(query(&server, "{ caller }").await.0, 200);
}

#[tokio::test]
async fn a_position_that_is_none_is_refused() {
    let server = start().await;
    let request = post(&server).header("daybook-at-least", "a b").json(&json!({ "query": "{ caller }" }));
    assert_eq!(request.send().await.unwrap().status(), 400);
    let body = json!({ "query": "{ atLeast }", "extensions": { "atLeast": "p3" } });
    assert_eq!(ask(&server, body).await.1["data"]["atLeast"], "p3");
    assert_eq!(ask(&server, json!({ "query": "{ atLeast }", "extensions": { "atLeast": 3 } })).await.0, 400);
}
