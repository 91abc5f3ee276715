//! The audit trail and the access log as an auditor meets them, over HTTP against a running `daybook serve`.

mod support;

use serde_json::{Value, json};
use std::time::{Duration, Instant};
use support::Server;
use uuid::Uuid;

const PLATFORM: &str = "the-platform-administrator";
const ADMIN_A: &str = "the-administrator-of-a-token";
const MEMBER_A: &str = "a-mere-member-of-a-and-no-more";
const VIEWER_A: &str = "somebody-who-looks-at-a-only";
const ADMIN_B: &str = "the-administrator-of-b-token";

/// Two tenants with their people. Ids of tenants follow from who registers them with which command.
struct Scene {
    server: Server,
    http: reqwest::Client,
    a: Uuid,
    b: Uuid,
}

fn actor(token: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, token.as_bytes())
}

fn tenant(command: u128) -> Uuid {
    Uuid::new_v5(&actor(PLATFORM), Uuid::from_u128(command).as_bytes())
}

impl Scene {
    async fn new() -> Self {
        let (a, b) = (tenant(1), tenant(2));
        let mut config = format!(
            "[[tokens]]\ntoken = \"{PLATFORM}\"\nactor = \"{}\"\nroles = [\"platformAdmin\"]\n",
            actor(PLATFORM)
        );
        for (token, home, role) in
            [(ADMIN_A, a, "tenantAdmin"), (MEMBER_A, a, "member"), (VIEWER_A, a, "viewer"), (ADMIN_B, b, "tenantAdmin")]
        {
            config.push_str(&format!(
                "[[tokens]]\ntoken = \"{token}\"\nactor = \"{}\"\ntenant = \"{home}\"\nroles = [\"{role}\"]\n",
                actor(token)
            ));
        }
        let server = Server::start_configured(&config).await;
        let scene = Scene { server, http: reqwest::Client::new(), a, b };
        for (name, command) in [("Acme", 1), ("Bell", 2)] {
            let register = "mutation($i: RegisterTenantInput!) { registerTenant(input: $i) { tenant { id } userErrors { code } } }";
            let input = json!({ "name": name, "clientMutationId": Uuid::from_u128(command),
                                "contact": { "name": "Ada", "email": "ada@example.com" } });
            let data = scene.data(PLATFORM, register, json!({ "i": input })).await;
            assert_eq!(data["registerTenant"]["tenant"]["id"], json!(tenant(command)));
        }
        scene
    }

    async fn ask(&self, token: &str, query: &str, variables: Value) -> Value {
        let request = self.http.post(self.server.graphql_url()).bearer_auth(token);
        let request = request.header("X-Correlation-Id", "the-request").header("User-Agent", "auditor/1");
        request.json(&json!({ "query": query, "variables": variables })).send().await.unwrap().json().await.unwrap()
    }

    async fn data(&self, token: &str, query: &str, variables: Value) -> Value {
        let mut answer = self.ask(token, query, variables).await;
        assert!(answer.get("errors").is_none(), "{answer}");
        answer["data"].take()
    }

    async fn rename(&self, token: &str, id: Uuid, name: &str, command: u128) -> Value {
        let rename = "mutation($i: RenameTenantInput!) { renameTenant(input: $i) { position userErrors { code } } }";
        let input = json!({ "id": id, "name": name, "clientMutationId": Uuid::from_u128(command) });
        self.ask(token, rename, json!({ "i": input })).await
    }

    async fn trail(&self, token: &str, arguments: &str) -> Vec<Value> {
        let query = format!(
            "{{ auditTrail{arguments} {{ edges {{ node {{
                position ordinal recordedAt eventId eventType actor actorKind command commandId correlationId
                subject {{ type id }} sequence ip userAgent truncated sealed erased
                changes {{ path old new erased }} }} }} }} }}"
        );
        let data = self.data(token, &query, json!({})).await;
        data["auditTrail"]["edges"].as_array().unwrap().iter().map(|edge| edge["node"].clone()).collect()
    }

    async fn denied(&self, token: &str, arguments: &str) -> Vec<Value> {
        let query = format!(
            "{{ deniedAttempts{arguments} {{ edges {{ node {{ kind actor action target firstAt lastAt count }} }} }} }}"
        );
        let data = self.data(token, &query, json!({})).await;
        data["deniedAttempts"]["edges"].as_array().unwrap().iter().map(|edge| edge["node"].clone()).collect()
    }

    /// Rows appear within about a second.
    async fn denied_until(&self, token: &str, arguments: &str, done: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let since = Instant::now();
        loop {
            let rows = self.denied(token, arguments).await;
            if done(&rows) {
                return rows;
            }
            assert!(since.elapsed() < Duration::from_secs(20), "{rows:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn code(answer: &Value) -> &str {
    answer["errors"][0]["extensions"]["code"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn the_trail_tells_who_renamed_what_when_from_what_to_what() {
    let scene = Scene::new().await;
    let renamed = scene.rename(ADMIN_A, scene.a, "Zeta", 77).await;
    let position = renamed["data"]["renameTenant"]["position"].clone();
    let trail = scene.trail(ADMIN_A, "").await;
    assert_eq!(trail.len(), 2, "the registration and the rename, at once: {trail:#?}");
    let node = &trail[0];
    assert_eq!(node["position"], position);
    assert_eq!(node["ordinal"], "2");
    assert_eq!(node["eventType"], "platform.tenant.renamed");
    assert_eq!(node["actor"], json!(actor(ADMIN_A)));
    assert_eq!(node["actorKind"], "ACCOUNT");
    assert_eq!(node["command"], "tenant.rename");
    assert_eq!(node["commandId"], json!(Uuid::from_u128(77)));
    assert_eq!(node["correlationId"], "the-request");
    assert_eq!(node["subject"], json!({ "type": "tenant", "id": scene.a }));
    assert_eq!(node["sequence"], "2");
    assert_eq!(node["changes"], json!([{ "path": ["name"], "old": "Acme", "new": "Zeta", "erased": false }]));
    assert_eq!((&node["truncated"], &node["sealed"], &node["erased"]), (&json!(false), &json!(false), &json!(false)));
    assert_eq!(node["ip"], "127.0.0.1");
    assert_eq!(node["userAgent"], "auditor/1");
    let registered = &trail[1];
    assert_eq!(registered["actor"], json!(actor(PLATFORM)));
    let at = |node: &Value| chrono::DateTime::parse_from_rfc3339(node["recordedAt"].as_str().unwrap()).unwrap();
    assert!(at(registered) <= at(node));
    let contact = registered["changes"].as_array().unwrap().iter().find(|c| c["path"] == json!(["contact"])).unwrap();
    assert_eq!((&contact["old"], &contact["new"]["name"]), (&Value::Null, &json!("Ada")), "personal fields are opened");

    // Each filter finds the one and not the other.
    for filter in [
        format!("actor: \"{}\"", actor(ADMIN_A)),
        "eventType: \"platform.tenant.renamed\"".to_owned(),
        format!("commandId: \"{}\"", Uuid::from_u128(77)),
        format!("subjectId: \"{}\", eventType: \"platform.tenant.renamed\"", scene.a),
        format!("subjectType: \"tenant\", actor: \"{}\"", actor(ADMIN_A)),
        format!("from: \"{}\"", node["recordedAt"].as_str().unwrap()),
    ] {
        let found = scene.trail(ADMIN_A, &format!("(filter: {{ {filter} }})")).await;
        assert_eq!(found, trail[..1], "{filter}");
    }
    let to = format!("(filter: {{ to: \"{}\" }})", node["recordedAt"].as_str().unwrap());
    assert_eq!(scene.trail(ADMIN_A, &to).await, trail[1..]);
    assert_eq!(scene.trail(ADMIN_A, "(filter: { correlationId: \"the-request\" })").await, trail);
    assert_eq!(scene.trail(ADMIN_A, "(filter: { subjectType: \"device\" })").await, [] as [Value; 0]);
    // The platform names the tenant and sees the same.
    assert_eq!(scene.trail(PLATFORM, &format!("(tenant: \"{}\")", scene.a)).await, trail);
}

#[tokio::test]
async fn a_page_goes_on_where_the_last_ended_while_others_write() {
    let scene = Scene::new().await;
    for n in 0..9 {
        scene.rename(ADMIN_A, scene.a, &format!("Name {n}"), 100 + n).await;
    }
    let page = "query($a: String) { auditTrail(first: 3, after: $a) {
        edges { node { ordinal changes { old new } } } pageInfo { hasNextPage endCursor } } }";
    let (mut ordinals, mut after, mut n) = (Vec::new(), Value::Null, 9);
    loop {
        let data = scene.data(ADMIN_A, page, json!({ "a": after })).await;
        let connection = &data["auditTrail"];
        for edge in connection["edges"].as_array().unwrap() {
            let ordinal: u64 = edge["node"]["ordinal"].as_str().unwrap().parse().unwrap();
            if ordinal > 2 {
                let names = json!({ "old": format!("Name {}", ordinal - 3), "new": format!("Name {}", ordinal - 2) });
                assert_eq!(edge["node"]["changes"][0], names);
            }
            ordinals.push(ordinal);
        }
        if connection["pageInfo"]["hasNextPage"] == json!(false) {
            break;
        }
        after = connection["pageInfo"]["endCursor"].clone();
        scene.rename(ADMIN_A, scene.a, &format!("Name {n}"), 100 + n).await;
        n += 1;
    }
    assert_eq!(ordinals, (1..=10).rev().collect::<Vec<u64>>());
    // A cursor is good for its own list alone.
    for (token, query) in
        [(ADMIN_B, page), (ADMIN_A, "query($a: String) { deniedAttempts(after: $a) { edges { cursor } } }")]
    {
        assert_eq!(code(&scene.ask(token, query, json!({ "a": after })).await), "BAD_USER_INPUT", "{query}");
    }
}

#[tokio::test]
async fn a_denied_rename_is_in_the_log_of_its_tenant_and_in_no_other() {
    let scene = Scene::new().await;
    for _ in 0..3 {
        assert_eq!(code(&scene.rename(MEMBER_A, scene.a, "Mine", 5).await), "FORBIDDEN");
    }
    // A read that looks like nothing, and one that is refused.
    let hidden = scene.data(MEMBER_A, "query($i: UUID!) { tenant(id: $i) { name } }", json!({ "i": scene.b })).await;
    assert_eq!(hidden["tenant"], Value::Null);
    assert_eq!(code(&scene.ask(MEMBER_A, "{ auditTrail { edges { cursor } } }", json!({})).await), "FORBIDDEN");

    let total =
        |rows: &[Value]| rows.iter().map(|row| row["count"].as_str().unwrap().parse::<u64>().unwrap()).sum::<u64>();
    let rows = scene.denied_until(ADMIN_A, "", |rows| total(rows) >= 5).await;
    assert_eq!(total(&rows), 5, "{rows:#?}");
    let of = |action: &str| rows.iter().filter(|row| row["action"] == action).cloned().collect::<Vec<_>>();
    let rename = of("tenant.rename");
    assert_eq!(total(&rename), 3);
    assert!(rename.len() <= 2, "a minute may have turned in between: {rename:#?}");
    for row in &rows {
        assert_eq!(row["actor"], json!(actor(MEMBER_A)));
        assert!(row["firstAt"].as_str().unwrap() <= row["lastAt"].as_str().unwrap());
    }
    assert_eq!((&rename[0]["kind"], &rename[0]["target"]), (&json!("COMMAND"), &json!(scene.a)));
    assert_eq!(of("tenant.read")[0]["target"], json!(scene.b));
    assert_eq!(of("audit.read")[0]["kind"], "READ");
    assert_eq!(total(&scene.denied(ADMIN_A, "(filter: { kind: COMMAND })").await), 3);
    assert_eq!(
        scene.denied(ADMIN_A, &format!("(filter: {{ actor: \"{}\" }})", actor(ADMIN_B))).await,
        [] as [Value; 0]
    );

    // The other tenant's administrator sees neither, and is refused when it asks.
    assert_eq!(scene.denied(ADMIN_B, "").await, [] as [Value; 0]);
    let trail = scene.trail(ADMIN_B, "").await;
    assert!(trail.len() == 1 && trail[0]["subject"]["id"] == json!(scene.b), "{trail:#?}");
    for query in ["auditTrail", "deniedAttempts"] {
        let query = format!("{{ {query}(tenant: \"{}\") {{ edges {{ cursor }} }} }}", scene.a);
        assert_eq!(code(&scene.ask(ADMIN_B, &query, json!({})).await), "FORBIDDEN");
    }
    let rows = scene.denied_until(ADMIN_B, "", |rows| total(rows) >= 2).await;
    assert!(rows.iter().all(|row| row["target"] == json!(scene.a) && row["action"] == "audit.read"), "{rows:#?}");
}

#[tokio::test]
async fn readings_that_may_not_be_recorded_are_in_the_log_by_either_way() {
    let scene = Scene::new().await;
    let post = scene.http.post(scene.server.url("/v1/readings")).bearer_auth(VIEWER_A).json(&json!([]));
    assert_eq!(post.send().await.unwrap().status(), 403);
    let record = "mutation { recordReadings(input: { rows: [] }) { position } }";
    assert_eq!(code(&scene.ask(VIEWER_A, record, json!({})).await), "FORBIDDEN");
    let counted =
        |rows: &[Value]| rows.iter().map(|row| row["count"].as_str().unwrap().parse::<u64>().unwrap()).sum::<u64>();
    let rows = scene.denied_until(ADMIN_A, "", |rows| counted(rows) >= 2).await;
    assert!(rows.iter().all(|row| row["action"] == "readings.record" && row["actor"] == json!(actor(VIEWER_A))));
}

#[tokio::test]
async fn tokens_that_nobody_holds_and_foreign_pages_are_in_the_platforms_log() {
    let scene = Scene::new().await;
    let secret = "a-token-that-somebody-guessed-wrong";
    for _ in 0..4 {
        assert_eq!(code(&scene.ask(secret, "{ __typename }", json!({})).await), "UNAUTHENTICATED");
    }
    let socket = scene
        .http
        .get(scene.server.graphql_url())
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("Sec-WebSocket-Protocol", "graphql-transport-ws")
        .header("Origin", "https://evil.example<script>");
    assert_eq!(socket.send().await.unwrap().status(), 403);
    let rows = scene
        .denied_until(PLATFORM, "", |rows| {
            ["UNKNOWN_TOKEN", "FOREIGN_ORIGIN"].iter().all(|kind| rows.iter().any(|row| row["kind"] == *kind))
        })
        .await;
    let token = rows.iter().find(|row| row["kind"] == "UNKNOWN_TOKEN").unwrap();
    let hash = token["target"].as_str().unwrap();
    assert!(hash.len() == 8 && hash.bytes().all(|b| b.is_ascii_hexdigit()), "{hash}");
    assert!(!json!(rows).to_string().contains("guessed"), "no token in the log");
    let origin = rows.iter().find(|row| row["kind"] == "FOREIGN_ORIGIN").unwrap();
    assert_eq!(origin["target"], "https://evil.examplescript");
    // Of no tenant, so no tenant's administrator sees them.
    assert_eq!(scene.denied(ADMIN_A, "").await, [] as [Value; 0]);
}

#[tokio::test]
async fn what_cannot_be_asked_is_told_by_name() {
    let scene = Scene::new().await;
    for (arguments, names) in [
        ("(first: 0)", "first"),
        ("(first: 201)", "first"),
        ("(after: \"forged\")", "after"),
        ("(filter: { eventType: \"\" })", "eventType"),
        ("(filter: { subjectType: \"a\\u0000b\" })", "subjectType"),
        ("(filter: { from: \"2030-01-01T00:00:00Z\", to: \"2020-01-01T00:00:00Z\" })", "filter.from"),
        ("(atLeast: \"forged\")", "position"),
    ] {
        let query = format!("{{ auditTrail{arguments} {{ edges {{ cursor }} }} }}");
        let answer = scene.ask(ADMIN_A, &query, json!({})).await;
        assert_eq!(code(&answer), "BAD_USER_INPUT", "{arguments}: {answer}");
        assert!(answer["errors"][0]["message"].as_str().unwrap().contains(names), "{arguments}: {answer}");
    }
}
