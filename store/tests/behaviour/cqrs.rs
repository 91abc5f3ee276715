//! The framework of cqrs-es runs on the journal as on any event store.

use cqrs_es::{AggregateContext, AggregateError, CqrsFramework, EventEnvelope, EventStore, Query};
use daybook_domain::platform::Tenant;
use daybook_domain::platform::tenant::{Contact, Domain, Name, Plan, Reason, TenantCommand, TenantError, TenantEvent};
use daybook_domain::{Actor, ActorKind, Context, EventIds, Personal, SubjectId, TenantId};
use daybook_store::cqrs::TenantStore;
use daybook_store::database::Role;
use daybook_store::journal::Journal;
use daybook_store::keys::{KeyFiles, KeyStore, Sealer};
use daybook_store::system::{Real, System};
use daybook_testing::{TestDatabase, system, tenant};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use uuid::Uuid;

type Heard = Arc<Mutex<Vec<(usize, TenantEvent)>>>;

struct Setting {
    db: TestDatabase,
    journal: Journal,
    files: Arc<KeyFiles>,
    sealer: Sealer,
    _keys: tempfile::TempDir,
}

impl Setting {
    async fn start() -> Self {
        let db = TestDatabase::new().await;
        let (journal, _) = db.journal().await;
        let directory = tempfile::tempdir().expect("a directory");
        let files = Arc::new(KeyFiles::open(directory.path(), true, "daybook.test", &Real).expect("keys"));
        let keys = KeyStore::new(db.database().pool(Role::Writer, 2, ""), files.clone(), system());
        let sealer = Sealer::new(Arc::new(keys), system());
        Setting { db, journal, files, sealer, _keys: directory }
    }

    fn store(&self, tenant: TenantId) -> TenantStore<Tenant> {
        let (journal, sealer, files) = (self.journal.clone(), self.sealer.clone(), self.files.clone());
        TenantStore::new(journal, sealer, files, system(), tenant, actor())
    }

    fn framework(&self, tenant: TenantId, heard: &Heard) -> CqrsFramework<Tenant, TenantStore<Tenant>> {
        let ids = EventIds { seed: Real.uuid_v4() };
        let context = Context { id: tenant.0, tenant, actor: actor(), now: Real.utc(), ids };
        CqrsFramework::new(self.store(tenant), vec![Box::new(Listening(heard.clone()))], context)
    }

    async fn events(&self) -> i64 {
        let row = self.db.superuser().await.query_one("select count(*) from journal.events", &[]).await;
        row.expect("a count").get(0)
    }
}

struct Listening(Heard);

impl Query<Tenant> for Listening {
    fn dispatch<'a: 'f, 'b: 'f, 'c: 'f, 'f>(
        &'a self,
        _: &'b str,
        events: &'c [EventEnvelope<Tenant>],
    ) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + 'f>> {
        let events = events.iter().map(|e| (e.sequence, e.payload.clone()));
        self.0.lock().expect("no panic elsewhere").extend(events);
        Box::pin(async {})
    }
}

fn actor() -> Actor {
    Actor { id: Uuid::from_u128(1), kind: ActorKind::Account }
}

fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

fn register(domain: Option<&str>) -> TenantCommand {
    let contact = Contact::parse("Ada", "ada@example.com").expect("a contact");
    TenantCommand::Register {
        name: name("First"),
        plan: Plan::Free,
        contact: Some(Personal::known(SubjectId(Uuid::from_u128(2)), contact)),
        domain: domain.map(|d| Domain::parse(d).expect("a domain")),
    }
}

fn metadata(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

#[tokio::test]
async fn commands_run_through_the_framework_and_are_heard_loaded_and_folded() {
    let s = Setting::start().await;
    let (t, heard) = (tenant(), Heard::default());
    let id = t.to_string();
    let framework = s.framework(t, &heard);
    let given = metadata(&[
        ("command", "tenant.register"),
        ("correlation", "request 7"),
        ("ip", "192.0.2.7"),
        ("session", "00000000-0000-0000-0000-000000000009"),
    ]);
    framework.execute_with_metadata(&id, register(None), given.clone()).await.expect("registered");
    framework.execute(&id, TenantCommand::Rename { name: name("Second") }).await.expect("renamed");
    // Already so: an answer without an event, and nothing for the queries.
    framework.execute(&id, TenantCommand::Rename { name: name("Second") }).await.expect("already so");
    let refused = framework.execute(&id, register(None)).await;
    assert!(matches!(refused, Err(AggregateError::UserError(TenantError::AlreadyRegistered))), "{refused:?}");
    assert_eq!(s.events().await, 2);

    let heard: Vec<usize> = heard.lock().expect("no panic elsewhere").iter().map(|(n, _)| *n).collect();
    assert_eq!(heard, [1, 2]);
    let store = s.store(t);
    let mut loading = store.load_aggregate(&id).await.expect("a load");
    let Tenant::Active { profile } = loading.aggregate() else { panic!("not active") };
    assert_eq!(profile.name, name("Second"));
    assert!(profile.contact.as_ref().is_some_and(|c| !c.is_erased()), "the contact was opened");
    let events = store.load_events(&id).await.expect("events");
    assert_eq!(events.iter().map(|e| e.sequence).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(events[1].payload, TenantEvent::Renamed { name: name("Second") });
    for (key, value) in given {
        assert_eq!(events[0].metadata.get(&key), Some(&value), "{key}");
    }
    assert_eq!(events[0].metadata["actor"], actor().id.to_string());
    let row =
        s.db.superuser()
            .await
            .query_one("select metadata || payload from journal.events where position = 1", &[])
            .await;
    let row: String = row.expect("the row").get(0);
    assert!(!row.contains("192.0.2.7") && !row.contains("ada@example.com"), "not sealed: {row}");
}

#[tokio::test]
async fn a_commit_on_an_older_state_is_a_conflict_and_writes_nothing() {
    let s = Setting::start().await;
    let (t, heard) = (tenant(), Heard::default());
    let id = t.to_string();
    let framework = s.framework(t, &heard);
    framework.execute(&id, register(None)).await.expect("registered");
    let store = s.store(t);
    let (first, second) =
        (store.load_aggregate(&id).await.expect("a load"), store.load_aggregate(&id).await.expect("a load"));
    let renamed = |text: &str| vec![TenantEvent::Renamed { name: name(text) }];
    let written = store.commit(renamed("One"), first, HashMap::new()).await.expect("a commit");
    assert_eq!(written.iter().map(|e| e.sequence).collect::<Vec<_>>(), [2]);
    let refused = store.commit(renamed("Two"), second, HashMap::new()).await;
    assert!(matches!(refused, Err(AggregateError::AggregateConflict)), "{refused:?}");
    assert_eq!(s.events().await, 2);
    framework.execute(&id, TenantCommand::Rename { name: name("Three") }).await.expect("loaded anew");

    // Several at once through the framework: each either is written or says that it met another.
    let names = ["a", "b", "c", "d", "e", "f"];
    let together = names.map(|n| {
        let framework = &framework;
        let id = &id;
        async move { framework.execute(id, TenantCommand::Rename { name: name(n) }).await }
    });
    let answers = futures_util::future::join_all(together).await;
    let written = answers.iter().filter(|a| a.is_ok()).count();
    assert!(answers.iter().all(|a| matches!(a, Ok(()) | Err(AggregateError::AggregateConflict))), "{answers:?}");
    assert!(written >= 1);
    assert_eq!(s.events().await, 3 + written as i64);
}

#[tokio::test]
async fn a_repeat_with_a_command_id_is_written_and_heard_once() {
    let s = Setting::start().await;
    let (t, heard) = (tenant(), Heard::default());
    let store = s.store(t);
    let id = t.to_string();
    let command = metadata(&[("command_id", "00000000-0000-0000-0000-000000000042")]);
    let registered =
        vec![TenantEvent::Registered { name: name("First"), plan: Plan::Free, contact: None, domain: None }];
    let (one, two) =
        (store.load_aggregate(&id).await.expect("a load"), store.load_aggregate(&id).await.expect("a load"));
    let first = store.commit(registered.clone(), one, command.clone()).await.expect("a commit");
    assert_eq!(first.len(), 1);
    assert!(store.commit(registered, two, command.clone()).await.expect("an answer").is_empty());
    assert_eq!(s.events().await, 1);
    // With another content it is another command.
    let reused =
        s.framework(t, &heard).execute_with_metadata(&id, TenantCommand::Rename { name: name("Other") }, command).await;
    assert!(
        matches!(&reused, Err(AggregateError::UnexpectedError(why)) if why.to_string().contains("used before")),
        "{reused:?}"
    );
    assert!(heard.lock().expect("no panic elsewhere").is_empty());
}

#[tokio::test]
async fn unique_keys_are_taken_and_released_through_the_framework() {
    let s = Setting::start().await;
    let (a, b, heard) = (tenant(), tenant(), Heard::default());
    let (first, second) = (s.framework(a, &heard), s.framework(b, &heard));
    first.execute(&a.to_string(), register(Some("one.example"))).await.expect("registered");
    let taken = second.execute(&b.to_string(), register(Some("one.example"))).await;
    assert!(
        matches!(&taken, Err(AggregateError::UnexpectedError(why)) if why.to_string().contains("tenant.domain")),
        "{taken:?}"
    );
    let reason = Reason::parse("moved").expect("a reason");
    first.execute(&a.to_string(), TenantCommand::Close { reason }).await.expect("closed");
    second.execute(&b.to_string(), register(Some("one.example"))).await.expect("free again");
}

#[tokio::test]
async fn what_has_no_place_in_the_journal_is_refused_by_name() {
    let s = Setting::start().await;
    let (t, heard) = (tenant(), Heard::default());
    let framework = s.framework(t, &heard);
    for (key, value) in [("colour", "red"), ("actor", "00000000-0000-0000-0000-000000000001"), ("session", "yesterday")]
    {
        let refused = framework.execute_with_metadata(&t.to_string(), register(None), metadata(&[(key, value)])).await;
        assert!(
            matches!(&refused, Err(AggregateError::UnexpectedError(why)) if why.to_string().contains(key)),
            "{refused:?}"
        );
    }
    let refused = framework.execute("tenant-7", register(None)).await;
    assert!(
        matches!(&refused, Err(AggregateError::UnexpectedError(why)) if why.to_string().contains("tenant-7")),
        "{refused:?}"
    );
    assert_eq!(s.events().await, 0);
}

#[tokio::test]
async fn a_handle_reaches_its_own_tenant_only() {
    let s = Setting::start().await;
    let (a, b, heard) = (tenant(), tenant(), Heard::default());
    s.framework(a, &heard).execute(&a.to_string(), register(None)).await.expect("registered");
    assert!(s.store(b).load_events(&a.to_string()).await.expect("an answer").is_empty());
    let mut absent = s.store(b).load_aggregate(&a.to_string()).await.expect("an answer");
    assert_eq!(*absent.aggregate(), Tenant::Absent);
}
