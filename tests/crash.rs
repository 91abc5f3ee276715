//! kill -9 of Daybook and of every process of its PostgreSQL, under load: every acknowledged write
//! is in the journal exactly once, positions are dense, the audit trees are whole.
//!
//! `DAYBOOK_CRASH_KILLS` sets the number of kills (10 unless told), `DAYBOOK_CRASH_SEED` their order.

mod support;

use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::Server;
use tokio_postgres::NoTls;
use uuid::Uuid;

const CLIENTS: usize = 16;
/// However often it has to be repeated, an answer comes within this.
const PATIENCE: Duration = Duration::from_secs(60);

/// What clients were told.
#[derive(Default)]
struct History {
    /// Command id → the name it gave.
    acknowledged: Mutex<HashMap<Uuid, (Uuid, String)>>,
    unresolved: AtomicU64,
    acknowledged_count: AtomicU64,
}

struct Found {
    acknowledged: usize,
    lost: Vec<Uuid>,
    doubled: Vec<Uuid>,
    altered: Vec<Uuid>,
    events: i64,
    dense: bool,
    verified: bool,
}

impl Found {
    fn is_clean(&self) -> bool {
        self.lost.is_empty() && self.doubled.is_empty() && self.altered.is_empty() && self.dense && self.verified
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// One client: registers a tenant, then renames it as fast as it is answered. A command without an
/// answer is repeated with the same id until there is one.
async fn client(url: String, token: String, history: Arc<History>, stop: Arc<AtomicBool>, mut random: StdRng) {
    let http = reqwest::Client::builder().timeout(Duration::from_secs(15)).build().unwrap();
    let mut tenant = None;
    let mut turn = 0u64;
    while !stop.load(Ordering::Relaxed) {
        turn += 1;
        let command = Uuid::from_u128(random.random());
        let name = format!("name {turn} {}", random.random::<u32>());
        let (query, input) = match tenant {
            None => (
                "mutation($i: RegisterTenantInput!) { r: registerTenant(input: $i) { tenant { id } userErrors { code } } }",
                json!({ "name": name, "plan": "FREE", "clientMutationId": command }),
            ),
            Some(id) => (
                "mutation($i: RenameTenantInput!) { r: renameTenant(input: $i) { tenant { id } userErrors { code } } }",
                json!({ "id": id, "name": name, "clientMutationId": command }),
            ),
        };
        let asked = Instant::now();
        let answer = loop {
            let sent = http
                .post(&url)
                .bearer_auth(&token)
                .json(&json!({ "query": query, "variables": { "i": input } }))
                .send()
                .await;
            if let Ok(response) = sent
                && let Ok(body) = response.json::<Value>().await
                && body.get("errors").is_none()
                && body["data"]["r"]["userErrors"].as_array().is_some_and(Vec::is_empty)
            {
                break Some(body);
            }
            if asked.elapsed() > PATIENCE {
                break None;
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        };
        let Some(answer) = answer else {
            history.unresolved.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let id: Uuid = match tenant {
            Some(id) => id,
            None => answer["data"]["r"]["tenant"]["id"].as_str().and_then(|t| t.parse().ok()).expect("a tenant id"),
        };
        tenant = Some(id);
        history.acknowledged.lock().unwrap().insert(command, (id, name));
        history.acknowledged_count.fetch_add(1, Ordering::Relaxed);
    }
}

async fn campaign(kills: u64, seed: u64, environment: &[(&str, &str)]) -> Found {
    let mut random = StdRng::seed_from_u64(seed);
    let mut server = Server::start(environment).await;
    let history = Arc::new(History::default());
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let random = StdRng::seed_from_u64(random.random());
            tokio::spawn(client(server.graphql_url(), server.token(), history.clone(), stop.clone(), random))
        })
        .collect();
    for kill in 1..=kills {
        // Let some work be acknowledged between two kills, or there is nothing to lose.
        let before = history.acknowledged_count.load(Ordering::Relaxed);
        let more = 50 + random.random_range(0..400);
        let since = Instant::now();
        while history.acknowledged_count.load(Ordering::Relaxed) < before + more {
            assert!(since.elapsed() < PATIENCE, "no progress after kill {}: {}", kill - 1, server.log_tail());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let loaded = since.elapsed();
        let killed = match random.next_u32() % 3 {
            0 => {
                server.kill_daybook();
                "Daybook"
            }
            1 => {
                server.kill_postgres();
                "PostgreSQL"
            }
            _ => {
                server.kill_postgres();
                server.kill_daybook();
                "both"
            }
        };
        let since = Instant::now();
        if !server.is_running() {
            server.start_again().await;
        }
        let at = history.acknowledged_count.load(Ordering::Relaxed);
        while history.acknowledged_count.load(Ordering::Relaxed) == at && since.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        eprintln!(
            "kill {kill}/{kills} ({killed}): {at} acknowledged, {more} of them in {loaded:.1?}, next one after {:.1?}",
            since.elapsed()
        );
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(history.unresolved.load(Ordering::Relaxed), 0, "commands without an answer: {}", server.log_tail());
    check(server, &history).await
}

/// Reads the journal itself, past everything that could hide a fault.
async fn check(mut server: Server, history: &History) -> Found {
    server.stop().await;
    let verified = server.verify().await;
    let database = server.open_database().await;
    let (db, connection) = tokio_postgres::connect(&database.url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let rows = db
        .query(
            "select (metadata::jsonb->>'command_id')::uuid, stream_id, payload::jsonb->>'name' from journal.events",
            &[],
        )
        .await
        .unwrap();
    let mut stored: HashMap<Uuid, Vec<(Uuid, String)>> = HashMap::new();
    for row in &rows {
        stored.entry(row.get(0)).or_default().push((row.get(1), row.get(2)));
    }
    let row = db
        .query_one("select count(*), coalesce(min(position), 1), coalesce(max(position), 0) from journal.events", &[])
        .await
        .unwrap();
    let (events, first, last): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
    let acknowledged = history.acknowledged.lock().unwrap().clone();
    let mut found = Found {
        acknowledged: acknowledged.len(),
        lost: vec![],
        doubled: vec![],
        altered: vec![],
        events,
        dense: first == 1 && last == events,
        verified,
    };
    for (command, what) in &acknowledged {
        match stored.get(command).map(Vec::as_slice) {
            None | Some([]) => found.lost.push(*command),
            Some([one]) if one == what => {}
            Some([_]) => found.altered.push(*command),
            Some(_) => found.doubled.push(*command),
        }
    }
    found.doubled.extend(stored.iter().filter(|(_, events)| events.len() > 1).map(|(command, _)| *command));
    drop(db);
    database.close().await;
    eprintln!(
        "{} acknowledged, {} events, {} lost, {} doubled, {} altered, dense: {}, verified: {}",
        found.acknowledged,
        found.events,
        found.lost.len(),
        found.doubled.len(),
        found.altered.len(),
        found.dense,
        found.verified
    );
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_write_survives_kill_9_of_both_processes_exactly_once() {
    let seed = number("DAYBOOK_CRASH_SEED", 1);
    let found = campaign(number("DAYBOOK_CRASH_KILLS", 10), seed, &[]).await;
    assert!(found.is_clean(), "seed {seed}: {} lost {:?}", found.lost.len(), found.lost.first());
}

/// The campaign itself on trial: a writer that answers before the flush must be caught.
#[cfg(feature = "plants")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_campaign_catches_a_writer_that_answers_before_the_flush() {
    let mut caught = 0;
    for seed in 1..=5 {
        let found = campaign(6, seed, &[("DAYBOOK_PLANT", "answer-before-flush")]).await;
        eprintln!("seed {seed}: {} acknowledged writes lost", found.lost.len());
        caught += usize::from(!found.is_clean());
        if caught > 0 {
            return;
        }
    }
    panic!("five campaigns against a planted fault found nothing");
}
