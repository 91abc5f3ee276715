//! The schema over a real journal and real read models, asked as a transport asks it.

use async_graphql::{Request, Variables};
use daybook_api::graphql::audit::AuditParts;
use daybook_api::graphql::introspection::Introspection;
use daybook_api::graphql::opaque::Opaque;
use daybook_api::graphql::{DaybookSchema, Parts, Reads, schema};
use daybook_app::energy::Ingest;
use daybook_app::identity::heard::{self, Heard};
use daybook_app::identity::{Identity, IdentityOptions, IdentityParts};
use daybook_app::{Credential, Executor, Rules, SNAPSHOT_EVERY, Snapshots};
use daybook_domain::{Actor, ActorKind, PLATFORM_TENANT, Role, TenantId};
use daybook_projections::engine::Options;
use daybook_projections::{Projections, read_models};
use daybook_store::access::{AccessLog, AccessOptions};
use daybook_store::database::Role as Session;
use daybook_store::identity::Secrets;
use daybook_store::journal::follow::Source;
use daybook_store::journal::recent::Recent;
use daybook_store::keys::{KeyFiles, KeyStore, Sealer};
use daybook_store::snapshots::Snapshots as SnapshotTable;
use daybook_store::system::Real;
use daybook_testing::{TestDatabase, system};
use serde_json::{Value, json};
use std::sync::Arc;
use uuid::Uuid;

/// Hashes that are cheap, so that tests are quick.
pub(crate) fn options() -> IdentityOptions {
    let mut options = IdentityOptions::default();
    (options.hash.memory_kib, options.hash.passes) = (64, 1);
    options
}

pub(crate) struct World {
    pub(crate) schema: DaybookSchema,
    pub(crate) parts: Arc<Parts>,
    // The last handle stops the engine.
    _projections: Projections,
    pub(crate) db: TestDatabase,
    files: Arc<KeyFiles>,
    options: IdentityOptions,
    _keys: tempfile::TempDir,
}

pub(crate) fn credential(role: Role, home: TenantId, actor: Uuid) -> Credential {
    Credential::new(Actor { id: actor, kind: ActorKind::Account }, home, vec![role], None)
}

pub(crate) fn platform() -> Credential {
    credential(Role::PlatformAdmin, PLATFORM_TENANT, Uuid::from_u128(1))
}

pub(crate) fn admin(tenant: Uuid) -> Credential {
    credential(Role::TenantAdmin, TenantId(tenant), Uuid::from_u128(2))
}

pub(crate) fn id(value: &Value) -> Uuid {
    value.as_str().unwrap_or_else(|| panic!("no id: {value}")).parse().unwrap()
}

pub(crate) fn code(answer: &Value) -> &str {
    answer["errors"][0]["extensions"]["code"].as_str().unwrap_or_default()
}

/// The codes of a payload's user errors.
pub(crate) fn refusals(payload: &Value) -> Vec<(&str, Value)> {
    let errors = payload["userErrors"].as_array().unwrap();
    errors.iter().map(|error| (error["code"].as_str().unwrap(), error["path"].clone())).collect()
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(options()).await
    }

    pub(crate) async fn with(options: IdentityOptions) -> Self {
        Self::of(options, Introspection::default()).await
    }

    pub(crate) async fn introspected_by(introspection: Introspection) -> Self {
        Self::of(options(), introspection).await
    }

    async fn of(options: IdentityOptions, introspection: Introspection) -> Self {
        let db = TestDatabase::new().await;
        let (journal, _) = db.journal().await;
        let directory = tempfile::tempdir().unwrap();
        let files = Arc::new(KeyFiles::open(directory.path(), true, "daybook.test", &Real).unwrap());
        let keys = KeyStore::new(db.database().pool(Session::Writer, 2, ""), files.clone(), system());
        let sealer = Sealer::new(Arc::new(keys), system());
        let recent = Recent::start(db.database().clone(), journal.durable()).0;
        let (projections, _) = Projections::start(
            daybook_projections::Parts {
                database: db.database().clone(),
                source: Source::Recent(recent.clone()),
                sealer: sealer.clone(),
                system: system(),
                options: Options::default(),
            },
            &read_models(),
        );
        let heard = Arc::new(Heard::default());
        let executor = Executor::new(journal, sealer.clone(), files.clone(), system()).heard_by(heard.clone());
        // Ends with the test.
        heard::follow(heard.clone(), recent.clone());
        let (access, _) = AccessLog::start(db.database(), system(), files.derive("test"), AccessOptions::default());
        let identity = Identity::new(IdentityParts {
            executor: executor.clone(),
            heard,
            secrets: Secrets::new(db.database().pool(Session::Writer, 4, "")),
            access: access.clone(),
            journal: db.identity,
            options,
        })
        .unwrap();
        let rules = Rules::new(executor.clone(), system());
        drop(rules.follow(recent.clone()));
        let parts = Arc::new(Parts {
            rules,
            identity,
            ingest: Ingest::new(executor.clone()),
            executor,
            reads: Reads::new(db.database(), &projections),
            opaque: Opaque::new(files.derive("test"), db.identity),
            audit: AuditParts { sealer, access },
            recent,
            tails: Default::default(),
            introspection,
            system: system(),
        });
        World { schema: schema(parts.clone()), parts, _projections: projections, db, files, options, _keys: directory }
    }

    /// Another node that has just been started, with or without snapshots: nothing is in its memory, and it hears of all.
    pub(crate) async fn cold(&self, with_snapshots: bool) -> Identity {
        let (journal, sealer) = (self.parts.executor.journal().clone(), self.parts.audit.sealer.clone());
        let heard = Arc::new(Heard::default());
        let executor = Executor::new(journal.clone(), sealer.clone(), self.files.clone(), system());
        let executor = match with_snapshots {
            true => {
                let table = SnapshotTable::new(self.db.database().pool(Session::Writer, 1, ""));
                executor.with_snapshots(Snapshots::start(table, journal, sealer, system(), SNAPSHOT_EVERY).0)
            }
            false => executor,
        };
        heard::follow(heard.clone(), self.parts.recent.clone());
        while !heard.is_following() {
            tokio::task::yield_now().await;
        }
        Identity::new(IdentityParts {
            executor: executor.heard_by(heard.clone()),
            heard,
            secrets: Secrets::new(self.db.database().pool(Session::Writer, 2, "")),
            access: self.parts.audit.access.clone(),
            journal: self.db.identity,
            options: self.options,
        })
        .unwrap()
    }

    pub(crate) fn request(who: &Credential, query: &str, variables: Value) -> Request {
        Request::new(query).variables(Variables::from_json(variables)).data(who.clone())
    }

    pub(crate) async fn ask(&self, who: &Credential, query: &str, variables: Value) -> Value {
        let response = self.schema.execute(Self::request(who, query, variables)).await;
        serde_json::to_value(response).unwrap()
    }

    pub(crate) async fn data(&self, who: &Credential, query: &str, variables: Value) -> Value {
        let mut answer = self.ask(who, query, variables).await;
        assert!(answer.get("errors").is_none(), "{answer}\n{query}");
        answer["data"].take()
    }

    /// A mutation of one field, e.g. `grantAccess`, with its input; its payload, with these fields of what it changed.
    pub(crate) async fn mutate(&self, who: &Credential, field: &str, input: Value, fields: &str) -> Value {
        let upper = format!("{}{}", field[..1].to_uppercase(), &field[1..]);
        let query = format!(
            "mutation($i: {upper}Input!) {{ {field}(input: $i) {{ {fields} position deduplicated userErrors {{ path code message }} }} }}"
        );
        self.data(who, &query, json!({ "i": input })).await[field].take()
    }

    pub(crate) async fn tenant(&self, name: &str) -> Uuid {
        let payload = self.mutate(&platform(), "registerTenant", json!({ "name": name }), "tenant { id }").await;
        id(&payload["tenant"]["id"])
    }

    pub(crate) async fn account(&self, n: usize) -> Uuid {
        let input = json!({ "name": format!("Ada {n}"), "email": format!("ada{n}@x.example") });
        let payload = self.mutate(&platform(), "registerAccount", input, "account { id }").await;
        id(&payload["account"]["id"])
    }

    pub(crate) async fn member(&self, who: &Credential, account: Uuid) -> Uuid {
        let input = json!({ "account": account, "roles": ["MEMBER"] });
        id(&self.mutate(who, "addMember", input, "member { id }").await["member"]["id"])
    }

    /// Registered and enabled.
    pub(crate) async fn module(&self, who: &Credential, key: &str) -> Uuid {
        let input = json!({ "manifest": manifest(key, "1.0.0", &["reader", "planner"]) });
        let module = id(&self.mutate(who, "registerModule", input, "module { id }").await["module"]["id"]);
        let enabled = self.mutate(who, "enableModule", json!({ "id": module }), "module { status }").await;
        assert_eq!(enabled["module"]["status"], "ENABLED");
        module
    }

    pub(crate) async fn grant(&self, who: &Credential, member: Uuid, module: Uuid, role: &str) -> Value {
        let input = json!({ "member": member, "module": module, "role": role, "reason": "needed" });
        self.mutate(who, "grantAccess", input, "grant { id role allowed denial version status }").await
    }
}

pub(crate) fn manifest(key: &str, version: &str, roles: &[&str]) -> Value {
    let roles: Vec<Value> =
        roles.iter().map(|key| json!({ "key": key, "name": key, "permissions": [format!("{key}.view")] })).collect();
    json!({
        "key": key, "name": "Battery sizing", "version": version, "description": "What fits.",
        "integration": { "kind": "API", "url": "https://m.example/start" }, "roles": roles,
        "routes": [{ "path": "/a", "name": "A" }], "settings": { "a.b": 7, "c": true },
    })
}
