//! Operations, as whoever runs the program meets them: headers, metrics, logs, configuration, backup.
//! What goes wrong around it is in `faults.rs`.

mod support;

use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Output;
use support::{Server, daybook};
use tokio_postgres::NoTls;

const REGISTER: &str = "mutation Register($i: RegisterTenantInput!) {
    registerTenant(input: $i) { tenant { id } position deduplicated userErrors { code message } } }";

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

impl Answer {
    async fn of(request: reqwest::RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Answer { status, headers, body: response.json().await.unwrap_or(Value::Null) }
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }
}

async fn ask(server: &Server, headers: &[(&str, &str)], query: &str, variables: Value) -> Answer {
    let mut request = reqwest::Client::new().post(server.graphql_url()).bearer_auth(server.token());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Answer::of(request.json(&json!({ "query": query, "variables": variables }))).await
}

async fn register(server: &Server, headers: &[(&str, &str)], name: &str) -> Answer {
    ask(server, headers, REGISTER, json!({ "i": { "name": name } })).await
}

fn run(home: &Path, arguments: &[&str]) -> Output {
    daybook(home).args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test]
async fn every_answer_names_its_request_and_a_mutation_its_position() {
    let server = Server::start(&[]).await;
    let http = reqwest::Client::new();
    for path in ["/health/live", "/health/ready", "/metrics", "/graphql", "/graphiql", "/nowhere"] {
        let request = http.get(server.url(path)).header("x-correlation-id", "order-17");
        assert_eq!(Answer::of(request).await.header("x-correlation-id"), "order-17", "{path}");
        let made = Answer::of(http.get(server.url(path)).header("x-correlation-id", "no id at all")).await;
        let made = made.header("x-correlation-id");
        assert!(made.parse::<uuid::Uuid>().is_ok(), "{path}: {made}");
    }
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let answer = register(&server, &[("traceparent", trace)], "Acme").await;
    assert_eq!(answer.header("x-correlation-id"), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(answer.header("traceparent"), trace);
    assert_eq!(answer.header("daybook-position"), answer.body["data"]["registerTenant"]["position"], "{}", answer.body);
}

#[tokio::test]
async fn an_idempotency_key_makes_a_lone_mutation_repeatable() {
    let server = Server::start(&[]).await;
    let key = [("idempotency-key", "order-17")];
    let (first, again) = (register(&server, &key, "Acme").await, register(&server, &key, "Acme").await);
    let payload = |answer: &Answer| answer.body["data"]["registerTenant"].clone();
    assert_eq!(payload(&first)["deduplicated"], false, "{}", first.body);
    assert_eq!(payload(&again)["deduplicated"], true, "{}", again.body);
    assert_eq!(payload(&first)["tenant"]["id"], payload(&again)["tenant"]["id"]);
    // Another content under the same key is no repeat.
    let other = register(&server, &key, "Bolt").await;
    assert_eq!(other.body["errors"][0]["extensions"]["code"], "CONFLICT", "{}", other.body);
    // What the input names itself wins over the header.
    let own = "01900000-0000-7000-8000-000000000017";
    let named = ask(&server, &key, REGISTER, json!({ "i": { "name": "Bolt", "clientMutationId": own } })).await;
    assert_eq!(payload(&named)["deduplicated"], false, "{}", named.body);
    let by_uuid = register(&server, &[("idempotency-key", own)], "Bolt").await;
    assert_eq!(payload(&by_uuid)["tenant"]["id"], payload(&named)["tenant"]["id"], "{}", by_uuid.body);
    assert_eq!(payload(&by_uuid)["deduplicated"], true);

    let two = "mutation { a: registerTenant(input: { name: \"A\" }) { position }
                          b: registerTenant(input: { name: \"B\" }) { position } }";
    let refused = ask(&server, &key, two, json!({})).await;
    assert_eq!(refused.body["errors"][0]["extensions"]["code"], "BAD_USER_INPUT", "{}", refused.body);
    assert!(refused.body["errors"][0]["message"].as_str().unwrap().contains("one mutation"), "{}", refused.body);
    let long = "x".repeat(256);
    let refused = register(&server, &[("idempotency-key", &long)], "Acme").await;
    assert_eq!(refused.status, 400, "{}", refused.body);
}

#[tokio::test]
async fn address_and_program_of_the_caller_are_in_the_journal_and_sealed() {
    let mut server = Server::start_configured("trusted_proxies = [\"127.0.0.0/8\"]").await;
    let headers =
        [("x-forwarded-for", "198.51.100.77"), ("user-agent", "curious-agent/7"), ("x-correlation-id", "order-17")];
    let answer = register(&server, &headers, "Acme").await;
    assert!(answer.body.get("errors").is_none(), "{}", answer.body);
    server.stop().await;
    let open = server.open_database().await;
    let (client, connection) = tokio_postgres::connect(&open.url, NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let metadata: String =
        client.query_one("select metadata from journal.events order by position limit 1", &[]).await.unwrap().get(0);
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    assert_eq!(metadata["correlation"], "order-17");
    for member in ["ip", "user_agent"] {
        assert!(metadata[member].is_object(), "{member} is not there: {metadata}");
    }
    let text = metadata.to_string();
    assert!(!text.contains("198.51.100") && !text.contains("curious"), "{text}");
    drop(client);
    let _ = connection.await;
    open.close().await;
}

#[tokio::test]
async fn metrics_tell_how_much_and_never_whose() {
    let server = Server::start(&[]).await;
    let name = "Zebra Unlimited";
    let answer = register(&server, &[], name).await;
    let id = answer.body["data"]["registerTenant"]["tenant"]["id"].as_str().unwrap().to_owned();
    ask(&server, &[], "{ tenants { edges { node { name } } } }", json!({})).await;
    ask(&server, &[], "{ nonsense }", json!({})).await;
    let scrape = async || {
        let response = reqwest::get(server.url("/metrics")).await.unwrap();
        let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
        assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
        response.text().await.unwrap()
    };
    let text = scrape().await;
    for line in [
        "daybook_graphql_operations_total{kind=\"mutation\",outcome=\"OK\"} 1",
        "daybook_graphql_operations_total{kind=\"query\",outcome=\"OK\"} 1",
        "daybook_graphql_operations_total{kind=\"query\",outcome=\"BAD_USER_INPUT\"} 1",
        "daybook_graphql_operation_seconds_count{kind=\"mutation\"} 1",
        "daybook_http_answers_total{method=\"POST\",route=\"/graphql\",status=\"200\"}",
        "daybook_journal_position_durable ",
        "daybook_journal_writer 1",
        "daybook_journal_flush_events_count ",
        "daybook_journal_batch_events_sum 1.0",
        "daybook_journal_commit_seconds_count ",
        "daybook_journal_flush_seconds_count ",
        "daybook_journal_requests_waiting 0",
        "daybook_journal_requests_total{answer=\"done\"} 1",
        "daybook_access_log_lost 0",
        "daybook_read_model_lag_positions{read_model=\"tenants\"} 0",
        "daybook_read_model_lanes_stopped{read_model=\"tenants\"} 0",
        "daybook_sockets_open 0",
        "daybook_process_start_time_seconds ",
        "# EOF",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
    assert!(!text.contains(name) && !text.contains(&id), "{text}");
    // A path that nobody serves makes no series of its own.
    reqwest::get(server.url(&format!("/{id}"))).await.unwrap();
    let text = scrape().await;
    assert!(text.contains("route=\"(none)\",status=\"404\"") && !text.contains(&id), "{text}");
}

#[tokio::test]
async fn a_request_is_one_line_of_log_and_no_secret_is_in_it() {
    let server = Server::start(&[("DAYBOOK_LOG", "debug"), ("DAYBOOK_LOG_FORMAT", "json")]).await;
    let input = json!({ "name": "Secretive Corp", "domain": "hidden.example",
        "contact": { "name": "Ada Topsecret", "email": "ada@hidden.example" } });
    let headers = [("x-correlation-id", "order-17"), ("user-agent", "curious-agent/7")];
    let answer = ask(&server, &headers, REGISTER, json!({ "i": input })).await;
    assert!(answer.body.get("errors").is_none(), "{}", answer.body);
    let stranger = reqwest::Client::new().post(server.graphql_url()).bearer_auth("a-token-that-is-not-known");
    assert_eq!(Answer::of(stranger.json(&json!({ "query": "{ tenants { totalCount } }" }))).await.status, 401);
    reqwest::get(server.url("/graphql?query=%7Bwhispered%7D")).await.unwrap();
    reqwest::get(server.url("/a-path-with-a-whispered-key")).await.unwrap();

    let log = server.log();
    let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let requests: Vec<&Value> =
        lines.iter().filter(|line| line["message"] == "request" && line["correlation.id"] == "order-17").collect();
    let [line] = requests[..] else { panic!("{} lines of one request:\n{log}", requests.len()) };
    for (field, value) in [
        ("level", json!("INFO")),
        ("http.method", json!("POST")),
        ("http.route", json!("/graphql")),
        ("http.status", json!(200)),
        ("operation.name", json!("Register")),
        ("operation.kind", json!("mutation")),
        ("operation.outcome", json!("OK")),
    ] {
        assert_eq!(line[field], value, "{field}: {line}");
    }
    assert!(line["duration_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{line}");
    let token = server.token();
    for secret in [
        "Secretive",
        "hidden.example",
        "Topsecret",
        "curious-agent",
        "a-token-that",
        "whispered",
        "127.0.0.1:0",
        &token,
    ] {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
}

#[test]
fn config_shows_every_setting_its_source_and_no_secret() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("data")).unwrap();
    let file = "listen = \"127.0.0.1:7\"\nlog = \"warn\"\ndatabase_url = \"postgres://u:opensesame@db/daybook\"\n
        [[tokens]]\ntoken = \"a-very-secret-token-of-mine\"\nactor = \"00000000-0000-0000-0000-000000000001\"\nroles = [\"platformAdmin\"]";
    std::fs::write(home.path().join("data/daybook.toml"), file).unwrap();
    let output = daybook(home.path())
        .args(["config", "--format", "json", "--origins", "https://a.example,https://b.example"])
        .env("DAYBOOK_LOG", "error")
        .output()
        .unwrap();
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    let shown: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let of = |key: &str| {
        let found = shown.iter().find(|s| s["key"] == key).unwrap();
        (found["value"].as_str().unwrap(), found["source"].as_str().unwrap())
    };
    assert_eq!(of("log"), ("error", "environment"));
    assert_eq!(of("listen"), ("127.0.0.1:7", "file"));
    assert_eq!(of("origins"), ("https://a.example, https://b.example", "flag"));
    assert_eq!(of("trusted_proxies"), ("(none)", "default"));
    assert_eq!(of("database_url"), ("postgres://u:***@db/daybook", "file"));
    assert_eq!(of("data_dir").1, "flag");
    assert!(!said.contains("opensesame") && !said.contains("a-very-secret"), "{said}");
    let table = text(&run(home.path(), &["config"]));
    assert!(
        table.lines().any(|l| l.starts_with("listen ") && l.contains(" file ") && l.contains("DAYBOOK_LISTEN")),
        "{table}"
    );
    assert!(!table.contains("opensesame") && !table.contains("a-very-secret"), "{table}");
}

#[test]
fn help_teaches_by_example_and_completion_knows_every_verb() {
    let home = tempfile::tempdir().unwrap();
    let verbs =
        ["serve", "demo", "migrate", "rebuild", "verify", "replay", "export", "backup", "restore", "config", "schemas"];
    for verb in verbs {
        let output = run(home.path(), &[verb, "--help"]);
        let said = text(&output);
        assert!(output.status.success() && said.contains("Example") && said.contains(verb), "{said}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let output = run(home.path(), &["completion", shell]);
        let script = text(&output);
        assert!(output.status.success(), "{script}");
        for verb in verbs {
            assert!(script.contains(verb), "{shell} does not know {verb}");
        }
    }
}

#[tokio::test]
async fn a_backup_taken_while_serving_restores_into_a_journal_that_verifies_under_a_new_incarnation() {
    let mut server = Server::start(&[]).await;
    let answer = register(&server, &[("idempotency-key", "order-17")], "Acme").await;
    let position = answer.header("daybook-position").to_owned();
    let backup = server.home().join("backup");
    let into = backup.to_str().unwrap();
    let output = run(server.home(), &["backup", "--into", into]);
    assert!(output.status.success(), "{}", text(&output));
    // A second one does not write over the first.
    let output = run(server.home(), &["backup", "--into", into]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    register(&server, &[], "After the backup").await;
    server.stop().await;

    let other = tempfile::Builder::new().prefix("daybook-restore-").tempdir().unwrap();
    std::fs::set_permissions(other.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let output = run(other.path(), &["restore", "--from", into]);
    assert!(output.status.success(), "{}", text(&output));
    let verified = run(other.path(), &["verify"]);
    assert!(verified.status.success(), "{}", text(&verified));
    assert!(text(&verified).starts_with("1 events of 1 tenants"), "{}", text(&verified));
    let output = run(other.path(), &["restore", "--from", into]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("is there already"), "{}", text(&output));

    // The restored one takes the place of the first.
    server.replace_data(&other.path().join("data"));
    server.start_again().await;
    let query = "{ tenants { edges { node { name } } } }";
    let names = ask(&server, &[], query, json!({})).await;
    assert_eq!(names.body["data"]["tenants"]["edges"], json!([{ "node": { "name": "Acme" } }]), "{}", names.body);
    let old = ask(&server, &[("daybook-at-least", &position)], query, json!({})).await;
    assert!(old.body.to_string().contains("before a restore"), "{}", old.body);
    // It goes on where the backup ended, commands and all.
    let again = register(&server, &[("idempotency-key", "order-17")], "Acme").await;
    assert_eq!(again.body["data"]["registerTenant"]["deduplicated"], true, "{}", again.body);
    let next = register(&server, &[], "After the restore").await;
    assert_ne!(next.header("daybook-position"), "", "{}", next.body);
    server.stop().await;
    assert!(server.verify().await);
}

#[tokio::test]
async fn a_backup_restores_into_a_postgresql_of_yours_and_out_of_it_again() {
    let server = Server::start(&[]).await;
    register(&server, &[], "Acme").await;
    let first = server.home().join("first");
    let output = run(server.home(), &["backup", "--into", first.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output));

    let yours = daybook_testing::TestServer::start(&[]).await;
    let (client, connection) = tokio_postgres::connect(&yours.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("create database restored template template0 encoding 'UTF8'").await.unwrap();
    let url = yours.url().replace("dbname=postgres", "dbname=restored");
    let other = tempfile::tempdir().unwrap();
    let second = other.path().join("second");
    for arguments in [
        &["restore", "--from", first.to_str().unwrap()][..],
        &["verify"],
        &["backup", "--into", second.to_str().unwrap()],
    ] {
        let output = run(other.path(), &[&["--database-url", &url], arguments].concat());
        assert!(output.status.success(), "{arguments:?}: {}", text(&output));
    }
    for file in ["backup.json", "database.dump", "keys/root.key", "keys/signing.key"] {
        assert!(second.join(file).is_file(), "{file} is not in the backup");
    }
    // Not over what is there.
    let again = tempfile::tempdir().unwrap();
    let output = run(again.path(), &["--database-url", &url, "restore", "--from", second.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("holds a journal already"), "{}", text(&output));
    yours.stop().await;
}

#[test]
fn a_backup_that_is_not_complete_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let from = home.path().join("half");
    std::fs::create_dir(&from).unwrap();
    let output = run(home.path(), &["restore", "--from", from.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("no complete backup") && text(&output).contains("backup.json"), "{}", text(&output));
    assert!(!home.path().join("data").exists(), "a refused restore leaves nothing behind");
}

#[test]
fn a_start_that_fails_stops_the_database_that_it_started() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let data = directory.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::set_permissions(&data, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let config = "[[tokens]]\ntoken = \"short\"\nactor = \"5b0f8f3e-6f0c-4f0b-9d43-0f1f3f0a7a11\"\nroles = []\n";
    std::fs::write(data.join("daybook.toml"), config).unwrap();
    let output = run(directory.path(), &["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("shorter than 20 characters"), "{}", text(&output));
    assert!(data.join("postgres").exists(), "no database was started, so nothing is shown");
    assert!(!data.join("postgres").join("postmaster.pid").exists());
}

#[test]
fn a_manifest_is_checked_without_a_server_and_every_fault_has_its_place() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("module.yaml");
    let manifest = "id: notes\nname: Notes\nversion: 1.0.0\nintegration: {type: embedded}\nroles: [{name: user}]\n";
    let check = |arguments: &[&str]| run(home.path(), &[&["modules", "check"], arguments].concat());
    let name = file.to_str().unwrap();

    std::fs::write(&file, manifest).unwrap();
    let good = check(&[name]);
    assert_eq!((good.status.code(), text(&good).trim()), (Some(0), "notes 1.0.0 is in order; its roles are user."));

    std::fs::write(&file, manifest.replace("1.0.0", "1.0").replace("embedded", "popup")).unwrap();
    let bad = check(&[name]);
    assert_eq!(bad.status.code(), Some(1));
    let told = String::from_utf8(bad.stdout).unwrap();
    let lines: Vec<&str> = told.lines().collect();
    assert!(lines[0].starts_with(&format!("{name}:3:10: version: this is a text")), "{told}");
    assert!(lines[1].starts_with(&format!("{name}:4:21: integration.type: a module is embedded")), "{told}");
    assert_eq!(lines.len(), 2, "{told}");
    let as_json: Value = serde_json::from_slice(&check(&[name, "--format", "json"]).stdout).unwrap();
    assert_eq!((&as_json["valid"], &as_json["faults"][0]["line"]), (&json!(false), &json!(3)), "{as_json}");

    std::fs::write(&file, [0xff, 0xfe]).unwrap();
    assert!(text(&check(&[name])).contains("UTF-8"));
    assert_eq!(check(&["nowhere.yaml"]).status.code(), Some(2));
    assert_eq!(check(&[]).status.code(), Some(2));
    assert!(text(&check(&["--help"])).contains("daybook modules check module.yaml"));
    // Nothing was begun for it.
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1);
}
