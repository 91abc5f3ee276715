//! What a page of the audit trail costs, and what it shows of people who were erased: the real schema, in this process.

use async_graphql::{Request, Response};
use daybook_api::graphql::audit::AuditParts;
use daybook_api::graphql::opaque::Opaque;
use daybook_api::graphql::{DaybookSchema, Parts, Reads, schema};
use daybook_app::energy::Ingest;
use daybook_app::identity::{Identity, IdentityOptions, IdentityParts};
use daybook_app::{Credential, Executor, Rules};
use daybook_domain::{Actor, ActorKind, Role, SubjectId, TenantId};
use daybook_projections::engine::{Lanes, Options};
use daybook_projections::{Audit, Model, Projections};
use daybook_store::access::{AccessLog, AccessOptions};
use daybook_store::database::{Pool, Role as Session};
use daybook_store::identity::Secrets;
use daybook_store::journal::follow::Source;
use daybook_store::journal::recent::Recent;
use daybook_store::journal::{Append, Journal, JournalOptions, Known, NewEvent, StreamAppend, StreamId};
use daybook_store::keys::{KeyFiles, KeyStore, Sealer};
use daybook_store::schema::migrate;
use daybook_store::system::{Real, System};
use daybook_testing::{TestServer, command, system, test_config};
use futures_util::{Stream, StreamExt};
use serde_json::{Value, json};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

const TENANT: TenantId = TenantId(Uuid::from_u128(0xA));
const ACTOR: Uuid = Uuid::from_u128(0xAC);

struct Setting {
    _server: TestServer,
    superuser: Pool,
    journal: Journal,
    sealer: Sealer,
    projections: Projections,
    parts: Option<Parts>,
    _keys: tempfile::TempDir,
}

impl Setting {
    /// A server that counts its statements.
    async fn start() -> Self {
        let server = TestServer::start(&[("shared_preload_libraries", "pg_stat_statements")]).await;
        let database = server.database("postgres");
        let migrated = migrate(&database, &Real).await.unwrap();
        let superuser = database.pool(Session::Login, 1, "");
        superuser.query("create extension pg_stat_statements", &[]).await.unwrap();
        let mut options = JournalOptions::new(Real.uuid_v4());
        options.writer = test_config();
        let (journal, _) = Journal::start(&database, system(), options);
        journal.ready(Instant::now() + Duration::from_secs(20)).await.unwrap();
        let keys = tempfile::tempdir().unwrap();
        let files = Arc::new(KeyFiles::open(&keys.path().join("keys"), true, "daybook.test", &Real).unwrap());
        // One sealer writes and another, whose memory is empty, reads.
        let sealer = || {
            let store = KeyStore::new(database.pool(Session::Writer, 2, ""), files.clone(), system());
            Sealer::new(Arc::new(store), system())
        };
        let (writes, reads) = (sealer(), sealer());
        let recent = Recent::start(database.clone(), journal.durable()).0;
        let (projections, _) = Projections::start(
            daybook_projections::Parts {
                database: database.clone(),
                source: Source::Recent(recent.clone()),
                sealer: writes.clone(),
                system: system(),
                options: Options::default(),
            },
            &[Model::series::<Audit>()],
        );
        let executor = Executor::new(journal.clone(), writes.clone(), files.clone(), system());
        let (access, _) = AccessLog::start(&database, system(), [1; 32], AccessOptions::default());
        let identity = Identity::new(IdentityParts {
            executor: executor.clone(),
            heard: Arc::default(),
            secrets: Secrets::new(database.pool(Session::Writer, 1, "")),
            access: access.clone(),
            journal: migrated.identity,
            options: IdentityOptions::default(),
        })
        .unwrap();
        let rules = Rules::new(executor.clone(), system());
        drop(rules.follow(recent.clone()));
        let parts = Parts {
            rules,
            identity,
            ingest: Ingest::new(executor.clone()),
            executor,
            reads: Reads::new(&database, &projections),
            opaque: Opaque::new([2; 32], migrated.identity),
            audit: AuditParts { sealer: reads, access },
            recent,
            tails: Default::default(),
            introspection: Default::default(),
            system: system(),
        };
        Setting { _server: server, superuser, journal, sealer: writes, projections, parts: Some(parts), _keys: keys }
    }

    fn schema(&mut self) -> DaybookSchema {
        schema(self.parts.take().unwrap())
    }

    /// An event of a stream of its own, unless told; gives back its journal position.
    async fn append(&self, stream: Uuid, expected: u64, event: &str, payload: Value, sealed: bool) -> u64 {
        let event_id = Real.uuid_v7();
        let metadata = json!({
            "actor": ACTOR, "actor_kind": "account", "command": "account.register", "command_id": event_id,
            "correlation": "c", "ip": { "$subject": ACTOR, "value": "192.0.2.7" }
        });
        let payload = match sealed {
            true => self.sealer.seal(TENANT, event_id, payload.to_string()).await.unwrap(),
            false => payload.to_string(),
        };
        let event = NewEvent {
            event_id,
            event_type: format!("platform.account.{event}"),
            event_version: 1,
            payload,
            metadata: self.sealer.seal(TENANT, event_id, metadata.to_string()).await.unwrap(),
        };
        let append = Append {
            tenant: TENANT,
            command: command(TENANT),
            streams: vec![StreamAppend {
                stream: StreamId { kind: "account", id: stream },
                expected,
                events: vec![event],
            }],
            reads: vec![],
            claims: vec![],
            releases: vec![],
            not_after: None,
        };
        self.journal.append(append, Known::default()).await.unwrap().last_position
    }

    async fn shown(&self, position: u64) {
        let deadline = Instant::now() + Duration::from_secs(30);
        self.projections.progress().wait("audit", Lanes::All, position, deadline).await.unwrap();
    }

    /// Statements of readers, and look-ups of keys, so far.
    async fn statements(&self) -> i64 {
        let sql = "select coalesce(sum(calls), 0)::bigint from pg_stat_statements
                   where userid = 'daybook_reader'::regrole or query like '%keys.subject_keys%'";
        self.superuser.query(sql, &[]).await.unwrap()[0].get(0)
    }
}

fn person(stream: Uuid) -> Value {
    json!({
        "email": { "$subject": stream, "value": "ada@example.com" },
        "name": { "$subject": stream, "value": "Ada" }
    })
}

fn renamed(stream: Uuid) -> Value {
    json!({ "name": { "$subject": stream, "value": "Countess" } })
}

const NODE: &str = "eventType sealed erased ip truncated changes { path old new erased }";

/// Who may see whom accounts are of, which a tenant's administrator may not.
fn auditor() -> Credential {
    Credential::new(Actor { id: ACTOR, kind: ActorKind::Account }, TENANT, vec![Role::PlatformAdmin], None)
}

async fn page(schema: &DaybookSchema, first: u32) -> Vec<Value> {
    let query = format!("{{ auditTrail(first: {first}) {{ edges {{ node {{ {NODE} }} }} }} }}");
    let response = schema.execute(Request::new(query).data(auditor())).await;
    assert!(response.errors.is_empty(), "{:?}", response.errors);
    let data = response.data.into_json().unwrap();
    data["auditTrail"]["edges"].as_array().unwrap().iter().map(|edge| edge["node"].clone()).collect()
}

/// A subscription to every event after a position; its next item.
struct Listener(Pin<Box<dyn Stream<Item = Response> + Send>>);

impl Listener {
    fn new(schema: &DaybookSchema, after: &str) -> Self {
        let query = format!("subscription {{ events(after: \"{after}\") {{ node {{ {NODE} }} }} }}");
        Listener(Box::pin(schema.execute_stream(Request::new(query).data(auditor()))))
    }

    async fn event(&mut self) -> Value {
        let response = tokio::time::timeout(Duration::from_secs(30), self.0.next()).await.unwrap().unwrap();
        assert!(response.errors.is_empty(), "{:?}", response.errors);
        response.data.into_json().unwrap()["events"]["node"].take()
    }
}

#[tokio::test]
async fn old_and_new_values_of_a_hundred_streams_cost_as_many_statements_as_of_one() {
    let mut setting = Setting::start().await;
    let mut last = 0;
    let streams: Vec<Uuid> = (1..=100).map(Uuid::from_u128).collect();
    for stream in &streams {
        setting.append(*stream, 0, "registered", person(*stream), true).await;
    }
    for stream in &streams {
        last = setting.append(*stream, 1, "renamed", renamed(*stream), true).await;
    }
    setting.shown(last).await;
    let schema = setting.schema();
    let before = setting.statements().await;
    let one = page(&schema, 1).await;
    let between = setting.statements().await;
    let all = page(&schema, 200).await;
    let after = setting.statements().await;
    assert_eq!((one.len(), all.len()), (1, 200));
    assert_eq!(between - before, after - between, "one event and two hundred of a hundred people");
    assert!((1..=12).contains(&(between - before)), "{}", between - before);
    for node in &all[..100] {
        assert_eq!(node["changes"], json!([{ "path": ["name"], "old": "Ada", "new": "Countess", "erased": false }]));
        assert_eq!((&node["ip"], &node["truncated"]), (&json!("192.0.2.7"), &json!(false)));
    }
}

#[tokio::test]
async fn an_event_that_a_hundred_listen_to_costs_as_many_statements_as_with_one() {
    let mut setting = Setting::start().await;
    let stream = Uuid::from_u128(1);
    setting.append(stream, 0, "registered", person(stream), true).await;
    let start = setting.parts.as_ref().unwrap().opaque.position(TENANT, 1);
    let schema = setting.schema();
    let mut listeners = Vec::new();
    let (mut version, mut costs) = (1, Vec::new());
    for count in [1, 100] {
        listeners.resize_with(count, || Listener::new(&schema, &start));
        // The first events find out that nobody is behind any more.
        let mut before = 0;
        for round in 0..10 {
            if round == 5 {
                before = setting.statements().await;
            }
            let name = format!("name {version}");
            let rename = json!({ "name": { "$subject": stream, "value": name } });
            setting.append(stream, version, "renamed", rename, true).await;
            version += 1;
            // Who has begun later has more to hear.
            futures_util::future::join_all(
                listeners
                    .iter_mut()
                    .map(|listener| async { while listener.event().await["changes"][0]["new"] != *name {} }),
            )
            .await;
        }
        costs.push(setting.statements().await - before);
    }
    // Where it takes seconds until all are told, the values are read again.
    assert!(costs[1] < 10 * costs[0], "of five events, for one and for a hundred: {costs:?}");
}

#[tokio::test]
async fn who_listens_is_told_of_the_erased_and_the_sealed_as_who_pages() {
    let mut setting = Setting::start().await;
    let [erased, kept, lost] = [1, 2, 3].map(Uuid::from_u128);
    setting.append(erased, 0, "registered", person(erased), true).await;
    setting.append(kept, 0, "registered", person(kept), true).await;
    setting.append(erased, 1, "renamed", renamed(erased), true).await;
    let missing =
        json!({ "name": { "$subject": lost, "sealed": "AAAA" }, "email": { "$subject": lost, "sealed": "AAAA" } });
    let last = setting.append(lost, 0, "registered", missing, false).await;
    setting.shown(last).await;
    setting.sealer.keys().erase(TENANT, SubjectId(erased)).await.unwrap();
    let start = setting.parts.as_ref().unwrap().opaque.position(TENANT, 0);
    let schema = setting.schema();
    let mut paged = page(&schema, 10).await;
    paged.reverse();
    let mut listener = Listener::new(&schema, &start);
    for expected in paged {
        assert_eq!(listener.event().await, expected);
    }
}

#[tokio::test]
async fn who_was_erased_is_erased_here_and_what_does_not_open_is_sealed_and_neither_hides_the_others() {
    let mut setting = Setting::start().await;
    let [erased, kept, lost] = [1, 2, 3].map(Uuid::from_u128);
    setting.append(erased, 0, "registered", person(erased), true).await;
    setting.append(kept, 0, "registered", person(kept), true).await;
    setting.append(kept, 1, "renamed", renamed(kept), true).await;
    setting.append(erased, 1, "renamed", renamed(erased), true).await;
    // Sealed under a key that is nowhere.
    let missing =
        json!({ "name": { "$subject": lost, "sealed": "AAAA" }, "email": { "$subject": lost, "sealed": "AAAA" } });
    let last = setting.append(lost, 0, "registered", missing, false).await;
    setting.shown(last).await;
    setting.sealer.keys().erase(TENANT, SubjectId(erased)).await.unwrap();
    let schema = setting.schema();
    let nodes = page(&schema, 10).await;
    let told: Vec<(&Value, &Value)> = nodes.iter().map(|node| (&node["sealed"], &node["erased"])).collect();
    let (yes, no) = (&json!(true), &json!(false));
    assert_eq!(told, [(yes, no), (no, yes), (no, no), (no, no), (no, yes)], "newest first: {nodes:#?}");
    assert_eq!(nodes[0]["changes"], json!([]));
    assert_eq!(nodes[1]["changes"], json!([{ "path": ["name"], "old": null, "new": null, "erased": true }]));
    assert_eq!(nodes[2]["changes"], json!([{ "path": ["name"], "old": "Ada", "new": "Countess", "erased": false }]));
    let registered = nodes[4]["changes"].as_array().unwrap();
    let status = registered.iter().find(|change| change["path"] == json!(["status"])).unwrap();
    assert_eq!(status["new"], "active", "what is not personal stays");
    assert!(!json!(nodes[4]).to_string().contains("Ada"));
}
