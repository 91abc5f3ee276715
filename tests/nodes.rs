//! Two real nodes on one real PostgreSQL: either serves everything, and one writes, whichever is killed or paused.

mod support;

use daybook_testing::TestServer;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::Server;
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(60);

struct Scene {
    database: TestServer,
    first: Server,
    second: Server,
}

impl Scene {
    /// The first one writes.
    async fn new() -> Self {
        let database = TestServer::start(&[("max_connections", "200")]).await;
        let first = Server::start_on(&database.url(), None).await;
        let second = Server::start_on(&database.url(), Some(&first)).await;
        assert_eq!((writer(&first).await, writer(&second).await), ("leading".into(), "elsewhere".into()));
        Scene { database, first, second }
    }

    /// Every renaming in the journal: the command that asked for it, and the name.
    async fn renamings(&self) -> Vec<(Uuid, String)> {
        let (client, connection) = tokio_postgres::connect(&self.database.url(), tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let dense =
            "select count(*) = coalesce(max(position), 0) and count(*) = count(distinct position) from journal.events";
        assert!(client.query_one(dense, &[]).await.unwrap().get::<_, bool>(0), "positions are 1..N");
        let rows = client
            .query(
                "select (metadata::jsonb->>'command_id')::uuid, payload::jsonb->>'name' from journal.events
                 where event_type = 'platform.tenant.renamed' order by position",
                &[],
            )
            .await
            .unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }
}

async fn writer(server: &Server) -> String {
    let health: Value = reqwest::get(server.url("/health/ready")).await.unwrap().json().await.unwrap();
    health["writer"].as_str().unwrap().to_owned()
}

async fn until_writer(server: &Server, is: &str) {
    let since = Instant::now();
    while writer(server).await != is {
        assert!(since.elapsed() < PATIENCE, "not {is}: {}", server.log_tail());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A client of one node.
#[derive(Clone)]
struct Client {
    http: reqwest::Client,
    url: String,
    token: String,
}

impl Client {
    fn of(server: &Server) -> Self {
        let http = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
        Client { http, url: server.graphql_url(), token: server.token() }
    }

    async fn ask(&self, query: &str, variables: Value) -> reqwest::Result<Value> {
        let request = self.http.post(&self.url).bearer_auth(&self.token);
        request.json(&json!({ "query": query, "variables": variables })).send().await?.json().await
    }

    async fn register(&self, name: &str) -> (Uuid, Value) {
        let query = "mutation($i: RegisterTenantInput!) { r: registerTenant(input: $i) { tenant { id } position userErrors { code } } }";
        let answer = self.ask(query, json!({ "i": { "name": name, "plan": "FREE" } })).await.unwrap();
        let payload = &answer["data"]["r"];
        let id = payload["tenant"]["id"].as_str().unwrap_or_else(|| panic!("{answer}")).parse().unwrap();
        (id, payload["position"].clone())
    }

    /// Without an id of the client's own, so that nobody but the server could tell a repeat.
    async fn rename(&self, id: Uuid, name: &str) -> reqwest::Result<Value> {
        let query = "mutation($i: RenameTenantInput!) { r: renameTenant(input: $i) { tenant { name } position userErrors { code } } }";
        self.ask(query, json!({ "i": { "id": id, "name": name } })).await
    }

    async fn name(&self, id: Uuid, at_least: &Value) -> Value {
        let query = "query($id: UUID!, $p: Position) { tenant(id: $id, atLeast: $p) { name } }";
        let mut answer = self.ask(query, json!({ "id": id, "p": at_least })).await.unwrap();
        assert!(answer.get("errors").is_none(), "{answer}");
        answer["data"]["tenant"]["name"].take()
    }
}

#[tokio::test]
async fn either_node_serves_commands_queries_and_subscriptions() {
    let scene = Scene::new().await;
    let (first, second) = (Client::of(&scene.first), Client::of(&scene.second));
    let (id, registered) = second.register("Acme 0").await;
    let query = format!("subscription {{ tenantChanged(id: \"{id}\", after: {registered}) {{ node {{ name }} }} }}");
    let mut heard = Vec::new();
    let mut streams = Vec::new();
    for client in [&first, &second] {
        let request = client.http.post(&client.url).bearer_auth(&client.token).header("accept", "text/event-stream");
        streams.push(request.json(&json!({ "query": query })).send().await.unwrap());
        heard.push(String::new());
    }
    for turn in 1..=10 {
        let (writes, reads) = if turn % 2 == 0 { (&first, &second) } else { (&second, &first) };
        let name = format!("Acme {turn}");
        let answer = writes.rename(id, &name).await.unwrap();
        let renamed = &answer["data"]["r"];
        assert_eq!(renamed["userErrors"], json!([]), "{answer}");
        // What was written on one is in the next answer of the other.
        assert_eq!(reads.name(id, &renamed["position"]).await, json!(name));
        assert_eq!(writes.name(id, &renamed["position"]).await, json!(name));
    }
    for (stream, heard) in streams.iter_mut().zip(&mut heard) {
        while !heard.contains("Acme 10") {
            let chunk = tokio::time::timeout(PATIENCE, stream.chunk()).await.expect("more").unwrap().expect("more");
            heard.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        let names: Vec<usize> = (1..=10).map(|turn| heard.matches(&format!("\"Acme {turn}\"")).count()).collect();
        assert_eq!(names, [1; 10], "{heard}");
    }
    assert_eq!(writer(&scene.second).await, "elsewhere", "one writer all the time");
    assert_eq!(scene.renamings().await.len(), 10);
}

/// What clients of a node were told while something happened to the writer.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: Vec<tokio::task::JoinHandle<Told>>,
}

/// What one client was told.
#[derive(Default)]
struct Told {
    done: Vec<String>,
    unknown: Vec<(Uuid, String)>,
    unavailable: usize,
    longest: Duration,
}

impl Load {
    /// Eight clients, each with a tenant of its own, that rename it as fast as they are answered.
    async fn on(client: Client) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut clients = Vec::new();
        for number in 0..8 {
            let (id, _) = client.register(&format!("Tenant {number}")).await;
            let (client, stop, answered) = (client.clone(), stop.clone(), answered.clone());
            clients.push(tokio::spawn(async move {
                let mut told = Told::default();
                for turn in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let name = format!("{id} turn {turn}");
                    let since = Instant::now();
                    let answer = client.rename(id, &name).await.expect("the node that is asked lives");
                    told.longest = told.longest.max(since.elapsed());
                    if answer["data"]["r"]["userErrors"] == json!([]) {
                        told.done.push(name);
                        answered.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    let extensions = &answer["errors"][0]["extensions"];
                    match extensions["code"].as_str() {
                        Some("UNKNOWN_OUTCOME") => {
                            told.unknown.push((extensions["commandId"].as_str().unwrap().parse().unwrap(), name));
                        }
                        Some("UNAVAILABLE") => told.unavailable += 1,
                        // Written, and no read model can tell yet: as good as unknown here.
                        Some("STALE") => told.unknown.push((Uuid::nil(), name)),
                        _ => panic!("{answer}"),
                    }
                }
                told
            }));
        }
        Load { stop, answered, clients }
    }

    /// Until so many more are answered.
    async fn more(&self, more: usize) {
        let (before, since) = (self.answered.load(Ordering::Relaxed), Instant::now());
        while self.answered.load(Ordering::Relaxed) < before + more {
            assert!(since.elapsed() < PATIENCE, "nothing is answered any more");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Every acknowledged renaming is there once, and nothing that nobody asked for.
    async fn check(self, scene: &Scene) {
        self.stop.store(true, Ordering::Relaxed);
        let mut told = Vec::new();
        for client in self.clients {
            told.push(client.await.unwrap());
        }
        let mut counts: HashMap<String, usize> = HashMap::new();
        for (_, name) in scene.renamings().await {
            *counts.entry(name).or_default() += 1;
        }
        let mut expected = 0;
        for Told { done, unknown, .. } in &told {
            expected += done.len();
            for name in done {
                assert_eq!(counts.get(name), Some(&1), "{name}");
            }
            for (command, name) in unknown {
                let count = counts.get(name).copied().unwrap_or(0);
                assert!(count <= 1, "{name} of {command} {count} times");
                expected += count;
            }
        }
        assert_eq!(counts.values().sum::<usize>(), expected, "{counts:?}");
        eprintln!(
            "{expected} renamings; nobody waited longer than {:.1?}; {} times an outcome unknown, {} times unavailable",
            told.iter().map(|told| told.longest).max().unwrap_or_default(),
            told.iter().map(|told| told.unknown.len()).sum::<usize>(),
            told.iter().map(|told| told.unavailable).sum::<usize>(),
        );
    }
}

#[tokio::test]
async fn a_killed_writer_is_a_pause_for_clients_of_the_other_node() {
    let mut scene = Scene::new().await;
    let load = Load::on(Client::of(&scene.second)).await;
    for _ in 0..2 {
        load.more(200).await;
        scene.first.kill_daybook();
        until_writer(&scene.second, "leading").await;
        load.more(100).await;
        // Back as the one that does not write; then it is made the writer, and killed again.
        scene.first.start_again().await;
        assert_eq!(writer(&scene.first).await, "elsewhere");
        scene.second.pause();
        until_writer(&scene.first, "leading").await;
        scene.second.proceed();
        until_writer(&scene.second, "elsewhere").await;
    }
    load.more(100).await;
    load.check(&scene).await;
    assert!(scene.first.verify().await);
}

#[tokio::test]
async fn a_paused_writer_wakes_up_collides_and_hands_over_from_then_on() {
    let scene = Scene::new().await;
    // Clients of the one that is paused: what they were promised holds as well.
    let (here, there) = (Load::on(Client::of(&scene.first)).await, Load::on(Client::of(&scene.second)).await);
    for _ in 0..2 {
        here.more(100).await;
        there.more(100).await;
        scene.first.pause();
        until_writer(&scene.second, "leading").await;
        there.more(50).await;
        scene.first.proceed();
        until_writer(&scene.first, "elsewhere").await;
        here.more(50).await;
        scene.second.pause();
        until_writer(&scene.first, "leading").await;
        here.more(50).await;
        scene.second.proceed();
        until_writer(&scene.second, "elsewhere").await;
    }
    // Together: each looks at all there is.
    here.stop.store(true, Ordering::Relaxed);
    there.stop.store(true, Ordering::Relaxed);
    let both = Load { clients: here.clients.into_iter().chain(there.clients).collect(), ..there };
    both.check(&scene).await;
    assert!(scene.first.verify().await);
}

#[tokio::test]
async fn what_was_decided_on_one_node_counts_on_the_other() {
    let scene = Scene::new().await;
    let (first, second) = (Client::of(&scene.first), Client::of(&scene.second));
    let nodes = [&first, &second];
    let (id, _) = first.register("Acme").await;
    let change = async |client: &Client, field: &str, more: Value| {
        let upper = format!("{}{}", field[..1].to_uppercase(), &field[1..]);
        let query = format!(
            "mutation($i: {upper}Input!) {{ r: {field}(input: $i) {{ tenant {{ version }} userErrors {{ code }} }} }}"
        );
        let mut input = json!({ "id": id });
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = client.ask(&query, json!({ "i": input })).await.unwrap();
        assert!(answer.get("errors").is_none(), "{answer}");
        answer["data"]["r"].clone()
    };
    let codes = |payload: &Value| {
        payload["userErrors"].as_array().unwrap().iter().map(|e| e["code"].clone()).collect::<Vec<_>>()
    };
    let mut version = 1;
    for turn in 0..4 {
        let (here, there) = (nodes[turn % 2], nodes[(turn + 1) % 2]);
        assert!(codes(&change(here, "suspendTenant", json!({ "reason": "unpaid" })).await).is_empty());
        // The other node remembers it as it was, and may not go by that.
        let refused = change(there, "renameTenant", json!({ "name": "No" })).await;
        assert_eq!(codes(&refused), ["TENANT_SUSPENDED"], "{refused}");
        assert!(codes(&change(here, "reopenTenant", json!({})).await).is_empty());
        version += 2;
        // And not by what it has just refused for.
        let renamed = change(
            there,
            "renameTenant",
            json!({ "name": format!("Acme {turn}"), "expectedVersion": version.to_string() }),
        )
        .await;
        assert!(codes(&renamed).is_empty(), "{renamed}");
        version += 1;
        assert_eq!(renamed["tenant"]["version"], json!(version.to_string()));
        // The version that only the other one has written.
        let again = change(
            here,
            "renameTenant",
            json!({ "name": format!("Acme {turn} again"), "expectedVersion": version.to_string() }),
        )
        .await;
        assert!(codes(&again).is_empty(), "{again}");
        version += 1;
    }
    for (here, there) in [(&first, &second), (&second, &first)] {
        let post = async || {
            let request = there.http.post(there.url.replace("/graphql", &format!("/v1/readings?tenant={id}")));
            let request = request.bearer_auth(&there.token).header("content-type", "text/csv");
            request.body("device,time,energy_wh\n").send().await.unwrap().status().as_u16()
        };
        let open = post().await;
        assert!(codes(&change(here, "suspendTenant", json!({ "reason": "unpaid" })).await).is_empty());
        assert_ne!(post().await, open, "readings for a tenant that the other node has suspended");
        assert!(codes(&change(here, "reopenTenant", json!({})).await).is_empty());
        assert_eq!(post().await, open);
    }
}

#[tokio::test]
async fn a_writer_that_is_stopped_in_good_order_finishes_and_the_other_goes_on() {
    let mut scene = Scene::new().await;
    let load = Load::on(Client::of(&scene.second)).await;
    load.more(100).await;
    scene.first.stop().await;
    until_writer(&scene.second, "leading").await;
    load.more(100).await;
    load.check(&scene).await;
}
