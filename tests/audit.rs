//! History as an auditor meets it: exported, checked by somebody else, replayed.

mod support;

use serde_json::{Value, json};
use std::process::Output;
use support::Server;

async fn mutate(server: &Server, query: &str, variables: Value) -> Value {
    let response = reqwest::Client::new()
        .post(server.graphql_url())
        .bearer_auth(server.token())
        .json(&json!({ "query": query, "variables": variables }))
        .send()
        .await
        .unwrap();
    let answer: Value = response.json().await.unwrap();
    assert!(answer.get("errors").is_none(), "{answer}");
    answer["data"].clone()
}

fn run(server: &Server, arguments: &[&str]) -> Output {
    support::daybook(server.data_dir().parent().unwrap()).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Until everything that was written is signed.
async fn export(server: &Server, tenant: &str, events: usize, file: &str) -> Output {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let output = run(server, &["export", "--tenant", tenant, "--output", file]);
        if text(&output.stderr).contains(&format!("{events} events, as signed")) {
            return output;
        }
        assert!(std::time::Instant::now() < deadline, "{}", text(&output.stderr));
    }
}

#[tokio::test]
async fn a_tenants_history_is_exported_checked_elsewhere_and_replayed_to_any_moment() {
    let mut server = Server::start(&[]).await;
    let register = "mutation { registerTenant(input: { name: \"Acme\", plan: PRO }) { tenant { id } } }";
    let data = mutate(&server, register, json!({})).await;
    let tenant = data["registerTenant"]["tenant"]["id"].as_str().unwrap().to_owned();
    let rename =
        "mutation($i: UUID!, $n: String!) { renameTenant(input: { id: $i, name: $n }) { userErrors { code } } }";
    for name in ["Acme Two", "Acme Three"] {
        mutate(&server, rename, json!({ "i": tenant, "n": name })).await;
    }

    let file = server.data_dir().join("acme.jsonl");
    let path = file.to_str().unwrap();
    let done = export(&server, &tenant, 3, path).await;
    assert!(done.status.success(), "{}", text(&done.stderr));
    let exported = std::fs::read_to_string(&file).unwrap();
    assert_eq!(exported.lines().count(), 4);
    let key =
        serde_json::from_str::<Value>(exported.lines().next().unwrap()).unwrap()["key"].as_str().unwrap().to_owned();
    server.stop().await;

    // Elsewhere: an empty directory, no database, the key alone.
    let elsewhere = tempfile::tempdir().unwrap();
    let check = |file: &str| {
        let mut command = support::daybook(elsewhere.path());
        command.args(["verify", "--export", file, "--key", &key, "--format", "json"]).output().unwrap()
    };
    let good = check(path);
    let report: Value = serde_json::from_slice(&good.stdout).unwrap();
    assert!(good.status.success() && report["clean"] == true && report["events"] == 3, "{report}");
    let forged = elsewhere.path().join("forged.jsonl");
    std::fs::write(&forged, exported.replace("Acme Two", "Acme Ten")).unwrap();
    let bad = check(forged.to_str().unwrap());
    let report: Value = serde_json::from_slice(&bad.stdout).unwrap();
    assert_eq!(bad.status.code(), Some(3), "{report}");
    assert_eq!(report["findings"][0]["tenantPositions"], json!([2, 2]), "{report}");

    // The past, by position and by time; the server is not needed.
    let state = |until: &str| -> Value {
        let output = run(&server, &["replay", "--tenant", &tenant, "--until", until, "--format", "json"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let name = |state: &Value| state["state"]["tenants"][0]["name"].as_str().unwrap().to_owned();
    let second = state("2");
    assert_eq!((name(&second), &second["tenantPosition"]), ("Acme Two".to_owned(), &json!(2)));
    let first = state("1");
    assert_eq!(name(&state(first["recordedAt"].as_str().unwrap())), "Acme");
    assert_eq!(name(&state("2999-01-01T00:00:00Z")), "Acme Three");

    let wrong = run(&server, &["replay", "--tenant", &tenant, "--until", "yesterday"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("2026-03-01T12:00:00Z"), "{}", text(&wrong.stderr));
    let nobody = run(&server, &["export", "--tenant", "00000000-0000-0000-0000-0000000000aa"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(text(&nobody.stderr).contains("nothing of tenant"), "{}", text(&nobody.stderr));
    // What was started for it has ended, also when it failed.
    assert!(!server.data_dir().join("postgres").join("postmaster.pid").exists());
}
