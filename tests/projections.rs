//! `daybook projections`, beside a server that runs: what operators see of events that cannot be applied, and decide.

mod support;

use serde_json::{Value, json};
use std::process::Output;
use std::time::{Duration, Instant};
use support::{Server, daybook};
use tokio_postgres::{Client, NoTls};

/// The database of the running server.
async fn database(server: &Server) -> Client {
    let note = std::fs::read_to_string(server.data_dir().join("postgres").join("postmaster.pid")).unwrap();
    let lines: Vec<&str> = note.lines().map(str::trim).collect();
    let url = format!("host='{}' port={} user={} dbname=daybook", lines[4], lines[3], daybook_keeper::SUPERUSER);
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn register(server: &Server, name: &str) -> Value {
    let query = "mutation($i: RegisterTenantInput!) { registerTenant(input: $i) { position userErrors { code } } }";
    let request = reqwest::Client::new().post(server.graphql_url()).bearer_auth(server.token());
    let answer = request.json(&json!({ "query": query, "variables": { "i": { "name": name } } })).send().await.unwrap();
    let answer: Value = answer.json().await.unwrap();
    assert!(answer.get("errors").is_none(), "{answer}");
    answer
}

async fn run(server: &Server, arguments: &[&str]) -> Output {
    let mut command = daybook(server.home());
    command.arg("projections").args(arguments).env("USER", "grace").env_remove("SUDO_USER");
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

async fn json_of(server: &Server, arguments: &[&str]) -> Value {
    let output = run(server, &[arguments, &["--format", "json"]].concat()).await;
    assert!(output.status.success(), "{}", told(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn tenants(server: &Server) -> Value {
    let models = json_of(server, &["list"]).await;
    models.as_array().unwrap().iter().find(|model| model["readModel"] == "tenants").unwrap().clone()
}

/// Waits until so many streams of the tenants are parked; the positions.
async fn parked(server: &Server, count: usize) -> Vec<u64> {
    let since = Instant::now();
    loop {
        let parked = json_of(server, &["parked", "tenants"]).await;
        let parked: Vec<u64> = parked.as_array().unwrap().iter().map(|p| p["position"].as_u64().unwrap()).collect();
        if parked.len() == count {
            return parked;
        }
        assert!(since.elapsed() < Duration::from_secs(30), "parked: {parked:?}");
    }
}

#[tokio::test]
async fn an_operator_sees_retries_and_skips_what_cannot_be_applied() {
    let server = Server::start(&[]).await;
    let database = database(&server).await;
    register(&server, "Fine").await;
    assert_eq!((&tenants(&server).await["state"], &tenants(&server).await["parked"]), (&json!("running"), &json!(0)));

    // As if the program had a defect: these names do not go into the table.
    let defect = "alter table read.tenants_v1 add constraint defect check (name not like 'Poison%')";
    database.batch_execute(defect).await.unwrap();
    register(&server, "Poison one").await;
    register(&server, "Poison two").await;
    register(&server, "Fine too").await;
    let positions = parked(&server, 2).await;
    assert_eq!(tenants(&server).await["parked"], 2);
    let listed = run(&server, &["list"]).await;
    assert!(told(&listed).contains("running, 2 streams parked"), "{}", told(&listed));
    let health: Value = reqwest::get(server.url("/health/ready")).await.unwrap().json().await.unwrap();
    assert_eq!((&health["status"], &health["degraded"]), (&json!("degraded"), &json!(["tenants"])), "{health}");

    // Refused by the command line, by the engine, and still in vain.
    let at = positions[0].to_string();
    for (arguments, code, said) in [
        (vec!["skip", "tenants", "--position", &at], 2, "--reason"),
        (vec!["skip", "tenants", "--position", &at, "--reason", " "], 2, "--reason"),
        (vec!["skip", "nothing", "--position", &at, "--reason", "x"], 2, "there is no read model"),
        (vec!["skip", "tenants", "--position", "1", "--reason", "x"], 1, "not the first event of a parked stream"),
        (vec!["retry", "tenants"], 1, "2 streams of tenants are still parked"),
    ] {
        let output = run(&server, &arguments).await;
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", told(&output));
        assert!(told(&output).contains(said), "{arguments:?}: {}", told(&output));
    }

    let skipped = run(&server, &["skip", "tenants", "--position", &at, "--reason", "Written by a defect"]).await;
    assert!(skipped.status.success(), "{}", told(&skipped));
    assert_eq!(parked(&server, 1).await, positions[1..]);
    // Who, what and why is in the journal; the name of who did it is sealed.
    let event = "select payload from journal.events where event_type = 'platform.projection.event_skipped'";
    let payload: Value = serde_json::from_str(database.query_one(event, &[]).await.unwrap().get(0)).unwrap();
    assert_eq!((&payload["position"], &payload["reason"]), (&json!(positions[0]), &json!("Written by a defect")));
    assert!(payload["operator"]["sealed"].is_string() && !payload.to_string().contains("grace"), "{payload}");

    database.batch_execute("alter table read.tenants_v1 drop constraint defect").await.unwrap();
    let retried = run(&server, &["retry", "tenants"]).await;
    assert!(retried.status.success() && told(&retried).contains("Nothing of tenants is parked"), "{}", told(&retried));
    let names = "select name from read.tenants_v1 where name ~ 'Poison|Fine' order by 1";
    let names: Vec<String> = database.query(names, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(names, ["Fine", "Fine too", "Poison two"]);
    let health: Value = reqwest::get(server.url("/health/ready")).await.unwrap().json().await.unwrap();
    assert_eq!(health["status"], "ready", "{health}");
}

#[tokio::test]
async fn what_is_asked_for_a_list_needs_no_server() {
    let mut server = Server::start(&[]).await;
    server.stop().await;
    let listed = run(&server, &["list"]).await;
    assert!(listed.status.success() && told(&listed).contains("tenants"), "{}", told(&listed));
}
