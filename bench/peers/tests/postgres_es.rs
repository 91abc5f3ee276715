//! An unmodified postgres-es loads aggregates from a database that Daybook wrote.

use cqrs_es::persist::PersistedEventStore;
use cqrs_es::{AggregateContext, CqrsFramework, EventStore};
use daybook_domain::platform::Tenant;
use daybook_domain::platform::tenant::{Domain, Name, Plan, Reason, SettingKey, SettingValue, TenantCommand};
use daybook_domain::{Actor, ActorKind, Context, EventIds, TenantId};
use daybook_store::cqrs::TenantStore;
use daybook_store::database::Role;
use daybook_store::journal::Journal;
use daybook_store::keys::{KeyFiles, KeyStore, Sealer};
use daybook_store::system::{Real, System};
use daybook_testing::{TestDatabase, system, tenant};
use postgres_es::PostgresEventRepository;
use sqlx::postgres::PgPoolOptions;
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

type Framework = CqrsFramework<Tenant, TenantStore<Tenant>>;

struct Ours {
    db: TestDatabase,
    journal: Journal,
    files: Arc<KeyFiles>,
    sealer: Sealer,
    _keys: tempfile::TempDir,
}

impl Ours {
    async fn start() -> Self {
        let db = TestDatabase::new().await;
        let (journal, _) = db.journal().await;
        let directory = tempfile::tempdir().expect("a directory");
        let files = KeyFiles::open(&directory.path().join("keys"), true, "daybook.test", &Real).expect("keys");
        let files = Arc::new(files);
        let keys = KeyStore::new(db.database().pool(Role::Writer, 2, ""), files.clone(), system());
        let sealer = Sealer::new(Arc::new(keys), system());
        Ours { db, journal, files, sealer, _keys: directory }
    }

    fn store(&self, tenant: TenantId) -> TenantStore<Tenant> {
        let (journal, sealer, files) = (self.journal.clone(), self.sealer.clone(), self.files.clone());
        TenantStore::new(journal, sealer, files, system(), tenant, actor())
    }

    fn framework(&self, tenant: TenantId) -> Framework {
        let ids = EventIds { seed: Real.uuid_v4() };
        let context = Context { id: tenant.0, tenant, actor: actor(), now: Real.utc(), ids };
        CqrsFramework::new(self.store(tenant), vec![], context)
    }

    /// As a reader of this tenant would connect: row policies in force, or as the owner of everything.
    async fn theirs(&self, reader_of: Option<TenantId>) -> PersistedEventStore<PostgresEventRepository, Tenant> {
        let options = daybook_peers::postgres_es::options(self.db.database()).await.expect("where the server is");
        let options = match reader_of {
            None => options,
            Some(tenant) => options.options([("role", "daybook_reader"), ("app.tenant", &tenant.to_string())]),
        };
        let pool = PgPoolOptions::new().max_connections(2).connect_with(options).await.expect("a pool");
        let tables = PostgresEventRepository::new(pool).with_tables("journal.postgres_es_events", "snapshots");
        PersistedEventStore::new_event_store(tables)
    }
}

fn actor() -> Actor {
    Actor { id: Uuid::from_u128(1), kind: ActorKind::Service }
}

fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

/// A tenant with a history; without a contact, whose key postgres-es does not have.
async fn written(ours: &Ours) -> TenantId {
    let tenant = tenant();
    let framework = ours.framework(tenant);
    let set = BTreeMap::from([
        (SettingKey::parse("invoice.due_days").expect("a key"), SettingValue::Whole(30)),
        (SettingKey::parse("invoice.footer").expect("a key"), SettingValue::text("„Danke“ \"é\"\n").expect("a text")),
    ]);
    let domain = Domain::parse(&format!("{}.example", tenant.0.simple())).expect("a domain");
    let commands = [
        TenantCommand::Register { name: name("First"), plan: Plan::Free, contact: None, domain: Some(domain) },
        TenantCommand::Rename { name: name("Second") },
        TenantCommand::ChangePlan { plan: Plan::Enterprise },
        TenantCommand::ChangeSettings { set, unset: Default::default() },
        TenantCommand::Suspend { reason: Reason::parse("unpaid").expect("a reason") },
        TenantCommand::Reopen,
    ];
    for command in commands {
        framework.execute(&tenant.to_string(), command).await.expect("an answer");
    }
    tenant
}

#[tokio::test]
async fn an_unmodified_postgres_es_loads_the_tenant_that_we_wrote() {
    let ours = Ours::start().await;
    let tenant = written(&ours).await;
    let id = tenant.to_string();
    let mut here = ours.store(tenant).load_aggregate(&id).await.expect("our load");
    assert!(matches!(here.aggregate(), Tenant::Active { profile } if profile.name == name("Second")));

    for reader_of in [None, Some(tenant)] {
        let theirs = ours.theirs(reader_of).await;
        let mut there = theirs.load_aggregate(&id).await.expect("their load");
        assert_eq!(there.aggregate(), here.aggregate());

        let (our_events, their_events) =
            (ours.store(tenant).load_events(&id).await.expect("ours"), theirs.load_events(&id).await.expect("theirs"));
        assert_eq!(their_events.len(), 6);
        for (ours, theirs) in our_events.iter().zip(&their_events) {
            assert_eq!((ours.sequence, &ours.payload), (theirs.sequence, &theirs.payload));
            assert_eq!(ours.aggregate_id, theirs.aggregate_id);
        }
    }
}

#[tokio::test]
async fn the_reader_of_another_tenant_loads_nothing_through_postgres_es() {
    let ours = Ours::start().await;
    let (mine, other) = (written(&ours).await, written(&ours).await);
    let theirs = ours.theirs(Some(mine)).await;
    assert!(theirs.load_events(&other.to_string()).await.expect("an answer").is_empty());
    let mut absent = theirs.load_aggregate(&other.to_string()).await.expect("an answer");
    assert_eq!(*absent.aggregate(), Tenant::Absent);
    assert_eq!(theirs.load_events(&mine.to_string()).await.expect("an answer").len(), 6);
}

#[tokio::test]
async fn postgres_es_cannot_write_past_the_journal() {
    let ours = Ours::start().await;
    let tenant = written(&ours).await;
    let row = ours.db.superuser().await.query_one("select count(*) from journal.events", &[]).await.expect("a count");
    let before: i64 = row.get(0);
    let socket_reader = ours.theirs(Some(tenant)).await;
    let context = socket_reader.load_aggregate(&tenant.to_string()).await.expect("their load");
    let renamed = daybook_domain::platform::tenant::TenantEvent::Renamed { name: name("Third") };
    socket_reader.commit(vec![renamed], context, Default::default()).await.expect_err("the view takes no rows");
    let row = ours.db.superuser().await.query_one("select count(*) from journal.events", &[]).await.expect("a count");
    assert_eq!(row.get::<_, i64>(0), before);
}
