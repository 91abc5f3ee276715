//! What integrators hear: a running `daybook serve` beside a real NATS server.

mod support;

use daybook_testing::nats::NatsServer;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use support::Server;

async fn data(server: &Server, query: &str, variables: Value) -> Value {
    let request = reqwest::Client::new().post(server.graphql_url()).bearer_auth(server.token());
    let answer = request.json(&json!({ "query": query, "variables": variables })).send().await.unwrap();
    let mut answer: Value = answer.json().await.unwrap();
    assert!(answer.get("errors").is_none(), "{answer}");
    answer["data"].take()
}

async fn health(server: &Server) -> (u16, Value) {
    let response = reqwest::get(server.url("/health/ready")).await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

async fn until_health(server: &Server, status: &str) {
    let since = Instant::now();
    loop {
        let (code, body) = health(server).await;
        // Nothing that NATS does makes the rest unready.
        assert_eq!(code, 200, "{body}");
        if body["status"] == status {
            return;
        }
        assert!(since.elapsed() < Duration::from_secs(30), "{body}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Subject and content of a message of the stream, once it is there.
async fn message(nats: &NatsServer, sequence: u64) -> (String, Value) {
    let jetstream = async_nats::jetstream::new(async_nats::connect(nats.url()).await.unwrap());
    let since = Instant::now();
    loop {
        if let Ok(stream) = jetstream.get_stream("DAYBOOK").await
            && let Ok(message) = stream.get_raw_message(sequence).await
        {
            return (message.subject.to_string(), serde_json::from_slice(&message.payload).unwrap());
        }
        assert!(since.elapsed() < Duration::from_secs(30), "message {sequence} does not come");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_mutation_did_is_heard_outside_also_when_nats_was_away_meanwhile() {
    let mut nats = NatsServer::start().await;
    let server = Server::start(&[("NATS_URL", &nats.url())]).await;
    let registered =
        data(&server, "mutation { registerTenant(input: { name: \"Acme\" }) { tenant { id } position } }", json!({}))
            .await;
    let payload = &registered["registerTenant"];
    let tenant = payload["tenant"]["id"].as_str().unwrap().to_owned();
    let (subject, sent) = message(&nats, 1).await;
    assert_eq!(subject, format!("daybook.{tenant}.platform.tenant.registered"));
    assert_eq!(sent["data"]["name"], "Acme");
    // The very position that the mutation was answered with: a subscription can be taken up there.
    assert_eq!(sent["position"], payload["position"]);
    until_health(&server, "ready").await;

    nats.kill().await;
    until_health(&server, "degraded").await;
    assert_eq!(health(&server).await.1["degraded"], json!(["nats"]));
    let rename = "mutation($i: UUID!) { renameTenant(input: { id: $i, name: \"Beta\" }) { position } }";
    let renamed = data(&server, rename, json!({ "i": tenant })).await;
    nats.restart().await;
    let (subject, sent) = message(&nats, 2).await;
    assert_eq!(subject, format!("daybook.{tenant}.platform.tenant.renamed"));
    assert_eq!(sent["position"], renamed["renameTenant"]["position"]);
    until_health(&server, "ready").await;
    let metrics = reqwest::get(server.url("/metrics")).await.unwrap().text().await.unwrap();
    assert!(metrics.contains("daybook_nats_published 2"), "{metrics}");
    assert!(metrics.contains("daybook_nats_connected 1"), "{metrics}");
}

#[test]
fn an_address_that_cannot_be_one_is_refused_before_anything_is_started() {
    let directory = tempfile::tempdir().unwrap();
    let refused = support::daybook(directory.path()).args(["serve", "--nats-url", "http://["]).output().unwrap();
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{told}");
    assert!(told.contains("nats://host:4222"), "{told}");
    assert!(!directory.path().join("data").exists());
}
