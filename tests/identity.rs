//! Administrators from the command line, and sessions that end on every node.

mod support;

use daybook_testing::TestServer;
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};
use support::{Server, daybook};

const PASSWORD: &str = "correct horse battery";
const PATIENCE: Duration = Duration::from_secs(60);

/// `daybook admin create`, with the password on standard input.
fn create(server: &Server, email: &str, password: &str) -> Output {
    let mut command = daybook(server.home());
    command.args(["admin", "create", "--email", email, "--name", "Ada Lovelace"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It may have ended before it has read anything.
    let _ = writeln!(child.stdin.take().unwrap(), "{password}");
    child.wait_with_output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

async fn post(url: &str, token: Option<&str>, body: Value) -> (u16, Value) {
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
    let mut request = client.post(url).json(&body);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap_or_default())
}

async fn log_in(server: &Server, email: &str, password: &str) -> (u16, Value) {
    post(&server.url("/auth/login"), None, json!({ "email": email, "password": password })).await
}

/// The access token of a new session.
async fn login(server: &Server, email: &str) -> String {
    let (status, body) = log_in(server, email, PASSWORD).await;
    assert_eq!(status, 200, "{body}");
    body["accessToken"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_administrator_is_made_while_the_server_runs_and_while_it_does_not() {
    let mut server = Server::start(&[]).await;
    let output = create(&server, "ada@example.com", PASSWORD);
    assert!(output.status.success(), "{}", said(&output));
    let token = login(&server, "ada@example.com").await;
    let tenants = json!({ "query": "{ tenants { totalCount } me { account { name } platform } }" });
    let (_, body) = post(&server.graphql_url(), Some(&token), tenants).await;
    assert_eq!(body["data"]["me"], json!({ "account": { "name": "Ada Lovelace" }, "platform": true }), "{body}");

    let again = create(&server, "ADA@example.com", PASSWORD);
    assert_eq!(again.status.code(), Some(1), "{}", said(&again));
    assert!(said(&again).contains("already") && said(&again).contains("grantPlatformAdmin"), "{}", said(&again));
    let short = create(&server, "grace@example.com", "short");
    assert_eq!(short.status.code(), Some(2), "{}", said(&short));
    assert!(said(&short).contains("at least 10 characters"), "{}", said(&short));
    let address = create(&server, "grace", PASSWORD);
    assert!(address.status.code() == Some(2) && said(&address).contains("--email"), "{}", said(&address));

    server.stop().await;
    let file = server.home().join("password");
    std::fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    let output = daybook(server.home())
        .args(["admin", "create", "--email", "grace@example.com", "--password-file"])
        .arg(&file)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    server.start_again().await;
    login(&server, "grace@example.com").await;
    // A session goes on over a restart.
    let (status, body) =
        post(&server.graphql_url(), Some(&token), json!({ "query": "{ mySessions { current } }" })).await;
    assert_eq!((status, &body["data"]["mySessions"][0]["current"]), (200, &json!(true)), "{body}");
    assert!(!server.log().contains(PASSWORD));
    server.stop().await;
    assert!(server.verify().await);
}

/// Attack 45, of tokens.
#[tokio::test]
async fn attack_45_no_token_of_before_a_restore_lets_anybody_in() {
    let mut server = Server::start(&[]).await;
    let created = create(&server, "ada@example.com", PASSWORD);
    assert!(created.status.success(), "{}", said(&created));
    let (status, tokens) = log_in(&server, "ada@example.com", PASSWORD).await;
    assert_eq!(status, 200, "{tokens}");
    let access = tokens["accessToken"].as_str().unwrap();
    assert_eq!(asks(&server, access).await.0, 200);
    let backup = server.home().join("backup");
    let from = backup.to_str().unwrap();
    let output = daybook(server.home()).args(["backup", "--into", from]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    // Somebody has them, so she ends them and takes another password.
    let changed = mutate_as(
        &server,
        access,
        "changePassword",
        json!({ "current": PASSWORD, "new": "another horse battery" }),
        "tokens { accessToken refreshToken }",
    )
    .await;
    let after = &changed["tokens"];
    assert_eq!(asks(&server, access).await.0, 401);
    assert_eq!(asks(&server, after["accessToken"].as_str().unwrap()).await.0, 200);
    server.stop().await;

    let other = tempfile::Builder::new().prefix("daybook-restore-").tempdir().unwrap();
    std::fs::set_permissions(other.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let output = daybook(other.path()).args(["restore", "--from", from]).output().unwrap();
    let told = said(&output);
    assert!(output.status.success(), "{told}");
    for advice in ["1 sessions of before have ended", "1 passwords and 0 API keys", "setPassword", "revokeApiKey"] {
        assert!(told.contains(advice), "{advice} is not in: {told}");
    }
    server.replace_data(&other.path().join("data"));
    server.start_again().await;
    // To the copy, her session has never ended; of the one that came after it knows nothing.
    for tokens in [&tokens, after] {
        let access = tokens["accessToken"].as_str().unwrap();
        assert_eq!(asks(&server, access).await.0, 401);
        let me = post(&server.url("/auth/refresh"), None, json!({ "refreshToken": tokens["refreshToken"] })).await;
        assert_eq!(me.0, 401, "{}", me.1);
    }
    // As the operator was told.
    assert_eq!(log_in(&server, "ada@example.com", "another horse battery").await.0, 401);
    let (status, fresh) = log_in(&server, "ada@example.com", PASSWORD).await;
    assert_eq!(status, 200, "{fresh}");
    assert_eq!(asks(&server, fresh["accessToken"].as_str().unwrap()).await.0, 200);
    server.stop().await;
    assert!(server.verify().await);
}

/// Attack 41, of all that is ever logged.
#[tokio::test]
async fn attack_41_nothing_that_lets_anybody_in_is_in_the_log_however_much_is_logged() {
    let mut server = Server::start(&[("DAYBOOK_LOG", "trace")]).await;
    let (wrong, second, given) = ("wrong horse battery", "another horse battery", "given by the administrator");
    let created = create(&server, "ada@example.com", PASSWORD);
    assert!(created.status.success(), "{}", said(&created));
    let mut secrets = vec![PASSWORD.to_owned(), wrong.into(), second.into(), given.into(), server.token()];
    let mut keep = |tokens: &Value| {
        for field in ["accessToken", "refreshToken", "key"] {
            let secret = tokens[field].as_str().unwrap_or_default();
            // Whole, and the part that is secret: what is before it names a session or a key.
            secrets.extend(secret.get(30..).map(|rest| rest.rsplit('.').next().unwrap_or_default().to_owned()));
        }
    };
    let refresh = async |tokens: &Value| {
        post(&server.url("/auth/refresh"), None, json!({ "refreshToken": tokens["refreshToken"] })).await
    };
    assert_eq!(log_in(&server, "ada@example.com", wrong).await.0, 401);
    assert_eq!(log_in(&server, wrong, wrong).await.0, 401);
    let first = log_in(&server, "ada@example.com", PASSWORD).await.1;
    let next = refresh(&first).await.1;
    let last = refresh(&next).await.1;
    [&first, &next, &last].into_iter().for_each(&mut keep);
    let access = last["accessToken"].as_str().unwrap();
    assert_eq!(asks(&server, access).await.0, 200);
    // Changed, tampered with, too late, in a cookie.
    let broken = format!("{access}x");
    assert_eq!(asks(&server, &broken).await.0, 401);
    assert_eq!(refresh(&json!({ "refreshToken": broken })).await.0, 401);
    let change = json!({ "current": wrong, "new": second });
    let input = json!({ "query": "mutation($i: ChangePasswordInput!) { changePassword(input: $i) { tokens { session } } }",
                        "variables": { "i": change } });
    assert_eq!(
        post(&server.graphql_url(), Some(access), input).await.1["errors"][0]["extensions"]["code"],
        "UNAUTHENTICATED"
    );
    let fields = "tokens { accessToken refreshToken account }";
    let change = json!({ "current": PASSWORD, "new": second });
    let changed = mutate_as(&server, access, "changePassword", change, fields).await["tokens"].clone();
    keep(&changed);
    assert_eq!(refresh(&first).await.0, 401);
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
    let cookie = format!("__Host-daybook_refresh={}", changed["refreshToken"].as_str().unwrap());
    let request = client.post(server.url("/auth/refresh")).header("cookie", cookie).json(&json!({}));
    let answer = request.send().await.unwrap();
    let set = answer.headers()["set-cookie"].to_str().unwrap();
    keep(&json!({ "refreshToken": set.split(';').next().unwrap().split_once('=').unwrap().1 }));
    keep(&answer.json().await.unwrap());
    // Keys, used, rotated and revoked.
    let made = mutate(&server, "registerTenant", json!({ "name": "Acme", "plan": "FREE" }), "tenant { id }").await;
    let tenant = &made["tenant"]["id"];
    let input = json!({ "tenant": tenant, "name": "Meter reader", "roles": ["MEMBER"] });
    let service = mutate(&server, "registerServiceAccount", input, "serviceAccount { id }").await;
    let service = &service["serviceAccount"]["id"];
    let input = json!({ "tenant": tenant, "id": service, "scopes": ["tenant.read"] });
    let issued = mutate(&server, "issueApiKey", input, "key keyId").await;
    let input = json!({ "tenant": tenant, "id": service, "key": issued["keyId"], "overlapHours": 1 });
    let rotated = mutate(&server, "rotateApiKey", input, "key keyId").await;
    for key in [&issued, &rotated] {
        keep(key);
        assert_eq!(asks(&server, key["key"].as_str().unwrap()).await.0, 200);
    }
    let input = json!({ "tenant": tenant, "id": service, "key": rotated["keyId"], "reason": "published" });
    mutate(&server, "revokeApiKey", input, "position").await;
    assert_eq!(asks(&server, rotated["key"].as_str().unwrap()).await.0, 401);
    let input = json!({ "account": changed["account"], "password": given });
    mutate(&server, "setPassword", input, "position").await;
    let input = json!({ "account": changed["account"], "hash": "plain" });
    let query = "mutation($i: SetPasswordInput!) { setPassword(input: $i) { userErrors { message } } }";
    post(&server.graphql_url(), Some(&server.token()), json!({ "query": query, "variables": { "i": input } })).await;
    server.stop().await;

    // What is kept of them in the tables, too.
    let open = server.open_database().await;
    let (client, connection) = tokio_postgres::connect(&open.url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let sql = "select hash from identity.passwords union all select encode(hash, 'hex') from identity.api_keys
               union all select encode(current_hash, 'hex') from identity.refresh_tokens";
    let kept: Vec<String> = client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    assert!(kept.len() >= 4, "{}", kept.len());
    secrets.extend(kept.iter().map(|hash| hash.rsplit('$').next().unwrap_or_default().to_owned()));
    drop(client);
    open.close().await;

    let log = server.log();
    assert!(log.contains("TRACE") && log.contains("DEBUG"), "the log is not as verbose as it can be");
    assert!(secrets.len() >= 20 && secrets.iter().all(|secret| secret.len() >= 10), "{}", secrets.len());
    for secret in secrets {
        assert!(!log.contains(&secret), "{} is in the log", secret);
    }
}

/// Two nodes of one journal.
struct Scene {
    first: Server,
    second: Server,
    // Stopped last.
    _database: TestServer,
}

impl Scene {
    async fn new() -> Self {
        let database = TestServer::start(&[("max_connections", "200")]).await;
        let first = Server::start_on(&database.url(), None).await;
        let second = Server::start_on(&database.url(), Some(&first)).await;
        Scene { first, second, _database: database }
    }
}

/// A field of a mutation, asked by the administrator of the configuration.
async fn mutate(server: &Server, field: &str, input: Value, fields: &str) -> Value {
    mutate_as(server, &server.token(), field, input, fields).await
}

async fn mutate_as(server: &Server, token: &str, field: &str, input: Value, fields: &str) -> Value {
    let upper = format!("{}{}", field[..1].to_uppercase(), &field[1..]);
    let query =
        format!("mutation($i: {upper}Input!) {{ a: {field}(input: $i) {{ {fields} userErrors {{ message }} }} }}");
    let body = json!({ "query": query, "variables": { "i": input } });
    let (_, answer) = post(&server.graphql_url(), Some(token), body).await;
    assert!(answer.get("errors").is_none(), "{answer}");
    assert_eq!(answer["data"]["a"]["userErrors"], json!([]), "{answer}");
    answer["data"]["a"].clone()
}

async fn asks(server: &Server, token: &str) -> (u16, Value) {
    post(&server.graphql_url(), Some(token), json!({ "query": "{ me { session tenant } }" })).await
}

/// Waits until a token is refused.
async fn refused(server: &Server, token: &str) {
    refused_with(server, token, 401).await;
}

async fn refused_with(server: &Server, token: &str, status: u16) {
    let since = Instant::now();
    while asks(server, token).await.0 != status {
        assert!(since.elapsed() < PATIENCE, "still let in: {}", server.log_tail());
    }
}

#[tokio::test]
async fn a_session_that_is_ended_on_one_node_is_over_on_the_other_within_a_second() {
    let scene = Scene::new().await;
    let made =
        mutate(&scene.first, "registerAccount", json!({ "name": "Ada", "email": "ada@example.com" }), "account { id }")
            .await;
    let id = &made["account"]["id"];
    mutate(&scene.first, "grantPlatformAdmin", json!({ "id": id }), "position").await;
    mutate(&scene.first, "setPassword", json!({ "account": id, "password": PASSWORD }), "position").await;
    for (here, there) in [(&scene.first, &scene.second), (&scene.second, &scene.first)] {
        let token = login(here, "ada@example.com").await;
        // Either knows it at once.
        let mut session = Value::Null;
        for node in [here, there] {
            let (status, body) = asks(node, &token).await;
            assert_eq!(status, 200, "{body}");
            session = body["data"]["me"]["session"].clone();
        }
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        let request = client.post(there.graphql_url()).bearer_auth(&token).header("accept", "text/event-stream");
        let query = json!({ "query": "subscription { events { __typename } }" });
        let mut stream = request.json(&query).send().await.unwrap();
        assert_eq!(stream.status(), 200);
        mutate(here, "revokeSession", json!({ "id": session, "reason": "lost" }), "ended").await;
        let since = Instant::now();
        let over = async { while stream.chunk().await.ok().flatten().is_some() {} };
        tokio::time::timeout(PATIENCE, over).await.expect("the stream ends");
        let stream_took = since.elapsed();
        refused(there, &token).await;
        eprintln!("the stream ended after {stream_took:.0?}, requests were refused after {:.0?}", since.elapsed());
        assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
    }
}

#[tokio::test]
async fn a_key_that_is_revoked_on_one_node_is_refused_by_the_other_within_a_second() {
    let scene = Scene::new().await;
    let made = mutate(&scene.first, "registerTenant", json!({ "name": "Acme", "plan": "FREE" }), "tenant { id }").await;
    let tenant = &made["tenant"]["id"];
    let input = json!({ "tenant": tenant, "name": "Meter reader", "roles": ["MEMBER"] });
    let made = mutate(&scene.first, "registerServiceAccount", input, "serviceAccount { id }").await;
    let service = &made["serviceAccount"]["id"];
    for (here, there) in [(&scene.first, &scene.second), (&scene.second, &scene.first)] {
        let input = json!({ "tenant": tenant, "id": service, "scopes": ["tenant.read"] });
        let made = mutate(here, "issueApiKey", input, "key keyId").await;
        let key = made["key"].as_str().unwrap();
        for node in [here, there] {
            assert_eq!(asks(node, key).await.0, 200);
        }
        let input = json!({ "tenant": tenant, "id": service, "key": made["keyId"], "reason": "published" });
        mutate(here, "revokeApiKey", input, "position").await;
        let since = Instant::now();
        refused(there, key).await;
        eprintln!("the key was refused after {:.0?}", since.elapsed());
        assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
        assert_eq!(asks(here, key).await.0, 401);
    }
}

#[tokio::test]
async fn attack_16_a_tenant_that_is_suspended_on_one_node_reads_nothing_on_the_other_within_a_second() {
    let scene = Scene::new().await;
    let made = mutate(&scene.first, "registerTenant", json!({ "name": "Acme", "plan": "FREE" }), "tenant { id }").await;
    let tenant = &made["tenant"]["id"];
    let input = json!({ "tenant": tenant, "name": "Meter reader", "roles": ["MEMBER"] });
    let made = mutate(&scene.first, "registerServiceAccount", input, "serviceAccount { id }").await;
    let input = json!({ "tenant": tenant, "id": made["serviceAccount"]["id"], "scopes": ["tenant.read"] });
    let made = mutate(&scene.first, "issueApiKey", input, "key").await;
    let key = made["key"].as_str().unwrap();
    for (here, there) in [(&scene.first, &scene.second), (&scene.second, &scene.first)] {
        assert_eq!(asks(there, key).await.0, 200);
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        let request = client.post(there.graphql_url()).bearer_auth(key).header("accept", "text/event-stream");
        let query = json!({ "query": "subscription { tenantChanged { position } }" });
        let mut stream = request.json(&query).send().await.unwrap();
        assert_eq!(stream.status(), 200);
        mutate(here, "suspendTenant", json!({ "id": tenant, "reason": "unpaid" }), "position").await;
        let since = Instant::now();
        let over = async { while stream.chunk().await.ok().flatten().is_some() {} };
        tokio::time::timeout(PATIENCE, over).await.expect("the stream ends");
        let stream_took = since.elapsed();
        refused_with(there, key, 403).await;
        eprintln!("the stream ended after {stream_took:.0?}, requests were refused after {:.0?}", since.elapsed());
        assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
        mutate(here, "reopenTenant", json!({ "id": tenant }), "position").await;
        let since = Instant::now();
        while asks(there, key).await.0 != 200 {
            assert!(since.elapsed() < PATIENCE, "still shut: {}", there.log_tail());
        }
    }
}
