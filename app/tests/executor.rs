//! Commands, from the credential to the durable answer.

use daybook_app::{Call, Credential, Denied, ExecuteError, Executed, Executor, authorize};
use daybook_domain::platform::Tenant;
use daybook_domain::platform::tenant::{Domain, Name, Plan, Reason, TenantCommand, TenantError};
use daybook_domain::{Action, Actor, ActorKind, PLATFORM_TENANT, Role, TenantId};
use daybook_store::database::Role as Session;
use daybook_store::journal::{AppendError, Journal};
use daybook_store::keys::{KeyFiles, KeyStore, Sealer};
use daybook_store::system::{Real, System};
use daybook_testing::{TestDatabase, system, tenant};
use futures_util::future::join_all;
use std::collections::BTreeSet;
use std::sync::Arc;
use uuid::Uuid;

type Answer = Result<Executed<Tenant>, ExecuteError<TenantError>>;

struct Setting {
    db: TestDatabase,
    journal: Journal,
    files: Arc<KeyFiles>,
    sealer: Sealer,
    executor: Executor,
    _keys: tempfile::TempDir,
}

impl Setting {
    async fn start() -> Self {
        let db = TestDatabase::new().await;
        let (journal, _) = db.journal().await;
        let directory = tempfile::tempdir().expect("a directory");
        let files = Arc::new(KeyFiles::open(directory.path(), true, "daybook.test", &Real).expect("keys"));
        let keys = KeyStore::new(db.database().pool(Session::Writer, 2, ""), files.clone(), system());
        let sealer = Sealer::new(Arc::new(keys), system());
        let executor = Executor::new(journal.clone(), sealer.clone(), files.clone(), system());
        Setting { db, journal, files, sealer, executor, _keys: directory }
    }

    /// An executor with a memory of its own on the same journal.
    fn another(&self) -> Executor {
        Executor::new(self.journal.clone(), self.sealer.clone(), self.files.clone(), system())
    }

    async fn registered(&self, domain: Option<&str>) -> TenantId {
        let t = tenant();
        execute(&self.executor, &platform(), t, register(domain), Call::default()).await.expect("registered");
        t
    }

    async fn count(&self, what: &str) -> i64 {
        let sql = format!("select count(*) from journal.{what}");
        self.db.superuser().await.query_one(&sql, &[]).await.expect("a count").get(0)
    }
}

fn credential(role: Role, home: TenantId, actor: u128) -> Credential {
    let actor = Actor { id: Uuid::from_u128(actor), kind: ActorKind::Account };
    Credential::new(actor, home, vec![role], None)
}

fn platform() -> Credential {
    credential(Role::PlatformAdmin, PLATFORM_TENANT, 1)
}

fn register(domain: Option<&str>) -> TenantCommand {
    let name = Name::parse("First").expect("a name");
    let domain = domain.map(|d| Domain::parse(d).expect("a domain"));
    TenantCommand::Register { name, plan: Plan::Free, contact: None, domain }
}

fn rename(text: &str) -> TenantCommand {
    TenantCommand::Rename { name: Name::parse(text).expect("a name") }
}

fn suspend() -> TenantCommand {
    TenantCommand::Suspend { reason: Reason::parse("unpaid").expect("a reason") }
}

fn sent(id: u128) -> Call {
    Call { command_id: Some(Uuid::from_u128(id)), ..Call::default() }
}

async fn execute(executor: &Executor, who: &Credential, t: TenantId, command: TenantCommand, call: Call) -> Answer {
    let authorized = authorize(who, t, command).expect("permitted");
    executor.execute::<Tenant>(authorized, t.0, call).await
}

fn name_of(state: &Tenant) -> &str {
    state.profile().expect("an open tenant").name.as_str()
}

#[tokio::test]
async fn a_command_is_answered_with_its_state_its_version_and_its_place() {
    let s = Setting::start().await;
    let t = tenant();
    let registered = execute(&s.executor, &platform(), t, register(None), Call::default()).await.expect("registered");
    assert_eq!(registered.version, Some(1));
    let renamed = execute(&s.executor, &platform(), t, rename("Second"), Call::default()).await.expect("renamed");
    assert_eq!((renamed.version, renamed.outcome.last_tenant_position), (Some(2), 2));
    assert_eq!(name_of(&renamed.state.expect("a state")), "Second");
    assert!(s.journal.durable().borrow().position >= renamed.outcome.last_position);
    let again = execute(&s.executor, &platform(), t, rename("Second"), Call::default()).await.expect("already so");
    assert_eq!((again.version, again.outcome.last_tenant_position), (Some(2), 2));
    assert_eq!(s.count("events").await, 2);

    let row = s.db.superuser().await.query_one("select metadata from journal.events where position = 2", &[]).await;
    let metadata: daybook_store::metadata::Metadata =
        serde_json::from_str(row.expect("the row").get(0)).expect("metadata");
    assert_eq!((metadata.command.as_str(), metadata.actor), ("tenant.rename", Uuid::from_u128(1)));
}

#[tokio::test]
async fn a_refusal_writes_nothing_and_poisons_nothing() {
    let s = Setting::start().await;
    let t = tenant();
    let refused = execute(&s.executor, &platform(), t, rename("Nobody"), sent(1)).await;
    assert!(matches!(refused, Err(ExecuteError::Refused(TenantError::NotRegistered))), "{refused:?}");
    assert_eq!((s.count("events").await, s.count("commands").await), (0, 0));
    execute(&s.executor, &platform(), t, register(None), Call::default()).await.expect("registered");
    for _ in 0..3 {
        let refused = execute(&s.executor, &platform(), t, register(None), Call::default()).await;
        assert!(matches!(refused, Err(ExecuteError::Refused(TenantError::AlreadyRegistered))), "{refused:?}");
    }
    // A refusal is not recorded: the same id may succeed once the reason is gone.
    let renamed = execute(&s.executor, &platform(), t, rename("Nobody"), sent(1)).await.expect("renamed");
    assert!(!renamed.outcome.deduplicated);
    assert_eq!(s.count("events").await, 2);
}

#[tokio::test]
async fn a_repeat_is_answered_though_its_stream_has_moved_on() {
    let s = Setting::start().await;
    let t = s.registered(None).await;
    let first = execute(&s.executor, &platform(), t, rename("Second"), sent(7)).await.expect("renamed");
    execute(&s.executor, &platform(), t, rename("Third"), Call::default()).await.expect("renamed");
    execute(&s.executor, &platform(), t, suspend(), Call::default()).await.expect("suspended");
    // Decided now, it would be refused.
    for executor in [&s.executor, &s.another()] {
        let repeat = execute(executor, &platform(), t, rename("Second"), sent(7)).await.expect("the original answer");
        assert!(repeat.outcome.deduplicated && repeat.state.is_none());
        assert_eq!(repeat.outcome.last_tenant_position, first.outcome.last_tenant_position);
    }
    let reused = AppendError::CommandReused(Uuid::from_u128(7));
    let append_error = |answer: Answer| match answer {
        Err(ExecuteError::Append(error)) => error,
        other => panic!("{other:?}"),
    };
    // Another content, another precondition, another actor.
    let other = execute(&s.executor, &platform(), t, rename("Other"), sent(7)).await;
    assert_eq!(append_error(other), reused);
    let call = Call { expected_version: Some(1), ..sent(7) };
    assert_eq!(append_error(execute(&s.executor, &platform(), t, rename("Second"), call).await), reused);
    let somebody = credential(Role::TenantAdmin, t, 2);
    assert_eq!(append_error(execute(&s.executor, &somebody, t, rename("Second"), sent(7)).await), reused);
    assert_eq!(s.count("events").await, 4);
}

#[tokio::test]
async fn repeats_at_the_same_time_are_carried_out_once() {
    let s = Setting::start().await;
    let t = s.registered(None).await;
    let who = platform();
    let others = s.another();
    let answers = join_all((0..16).map(|n| {
        let executor = if n % 2 == 0 { &s.executor } else { &others };
        execute(executor, &who, t, rename("Second"), sent(7))
    }))
    .await;
    let outcomes: Vec<_> = answers.into_iter().map(|a| a.expect("an answer").outcome).collect();
    assert_eq!(outcomes.iter().filter(|o| !o.deduplicated).count(), 1);
    assert!(outcomes.iter().all(|o| o.last_tenant_position == 2));
    assert_eq!(s.count("events").await, 2);
}

#[tokio::test]
async fn an_expected_version_that_is_not_there_is_a_conflict_with_both_versions() {
    let s = Setting::start().await;
    let t = s.registered(None).await;
    let expecting = |version| Call { expected_version: Some(version), ..Call::default() };
    for wrong in [0, 2] {
        for executor in [&s.executor, &s.another()] {
            let refused = execute(executor, &platform(), t, rename("Second"), expecting(wrong)).await;
            assert!(
                matches!(refused, Err(ExecuteError::Conflict { kind: "tenant", expected, actual: 1 }) if expected == wrong),
                "{refused:?}"
            );
        }
    }
    // Sixteen who all saw version 1: one is first, and nobody else is tried again behind their back.
    let who = platform();
    let names: Vec<_> = (0..16).map(|n| format!("Name {n}")).collect();
    let answers = join_all(names.iter().map(|n| execute(&s.executor, &who, t, rename(n), expecting(1)))).await;
    assert_eq!(answers.iter().filter(|a| a.is_ok()).count(), 1);
    let conflicts = answers.iter().filter(|a| matches!(a, Err(ExecuteError::Conflict { expected: 1, actual: 2, .. })));
    assert_eq!(conflicts.count(), 15);
    assert_eq!(s.count("events").await, 2);
}

#[tokio::test]
async fn a_state_that_was_overtaken_unnoticed_refuses_nothing() {
    let s = Setting::start().await;
    let t = s.registered(None).await;
    // As when the caller of a command goes away before its answer: the memory stays behind the journal.
    let unnoticed = s.another();
    execute(&unnoticed, &platform(), t, rename("Second"), Call::default()).await.expect("renamed");
    let expecting = Call { expected_version: Some(2), ..Call::default() };
    let renamed = execute(&s.executor, &platform(), t, rename("Third"), expecting).await.expect("it is version 2");
    assert_eq!(renamed.version, Some(3));
    execute(&s.executor, &platform(), t, suspend(), Call::default()).await.expect("suspended");
    execute(&unnoticed, &platform(), t, TenantCommand::Reopen, Call::default()).await.expect("reopened");
    execute(&s.executor, &platform(), t, rename("Fourth"), Call::default()).await.expect("it is open again");
}

#[tokio::test]
async fn thirty_two_renames_at_once_all_succeed_one_version_each() {
    let s = Setting::start().await;
    let t = s.registered(None).await;
    let who = platform();
    let names: Vec<_> = (0..32).map(|n| format!("Name {n}")).collect();
    let answers = join_all(names.iter().map(|n| execute(&s.executor, &who, t, rename(n), Call::default()))).await;
    let mut versions = BTreeSet::new();
    for (name, answer) in names.iter().zip(answers) {
        let executed = answer.unwrap_or_else(|e| panic!("{name}: {e:?}"));
        assert_eq!(name_of(&executed.state.expect("a state")), name);
        versions.insert(executed.version.expect("a version"));
    }
    assert_eq!(versions, (2..=33).collect());
    assert_eq!(s.count("events").await, 33);
}

#[tokio::test]
async fn who_lacks_the_role_is_denied_before_anything_is_looked_at() {
    let s = Setting::start().await;
    let (a, b) = (s.registered(None).await, s.registered(None).await);
    let denied = |who: &Credential, t: TenantId, command: TenantCommand| authorize(who, t, command).err();
    let renaming = Some(Denied { action: Action::TenantRename });
    for role in [Role::Member, Role::Viewer] {
        assert_eq!(denied(&credential(role, a, 5), a, rename("Mine")), renaming, "{role}");
    }
    let admin = credential(Role::TenantAdmin, a, 5);
    assert_eq!(denied(&admin, b, rename("Mine")), renaming);
    // The same answer for a tenant that does not exist: nobody learns which do.
    assert_eq!(denied(&admin, tenant(), rename("Mine")), renaming);
    assert_eq!(denied(&admin, a, suspend()), Some(Denied { action: Action::TenantSuspend }));
    let nobody = Credential { roles: vec![], ..platform() };
    assert_eq!(denied(&nobody, a, rename("Mine")), renaming);
    execute(&s.executor, &admin, a, rename("Mine"), Call::default()).await.expect("its own tenant");
    assert_eq!(s.count("events").await, 3);
}

#[tokio::test]
async fn states_remembered_from_another_epoch_are_loaded_again() {
    let s = Setting::start().await;
    let t = s.registered(None).await;
    let before = execute(&s.executor, &platform(), t, rename("Second"), Call::default()).await.expect("renamed");
    let epoch = before.outcome.seen.epoch;
    let superuser = s.db.superuser().await;
    let cut = "select pg_terminate_backend(backend_pid) from journal.lease";
    assert!(superuser.query_one(cut, &[]).await.expect("a cut").get::<_, bool>(0));

    // Another executor changes the tenant, in a new epoch; this one still remembers it from the old one.
    let suspended = execute(&s.another(), &platform(), t, suspend(), Call::default()).await.expect("suspended");
    assert!(suspended.outcome.seen.epoch > epoch);
    let refused = execute(&s.executor, &platform(), t, rename("Third"), Call::default()).await;
    assert!(matches!(refused, Err(ExecuteError::Refused(TenantError::Suspended))), "{refused:?}");
    let reopened =
        execute(&s.executor, &platform(), t, TenantCommand::Reopen, Call::default()).await.expect("reopened");
    assert!(reopened.outcome.seen.epoch > epoch);
    assert_eq!(reopened.version, Some(4));
    assert_eq!(name_of(&reopened.state.expect("a state")), "Second");
}

#[tokio::test]
async fn commands_through_a_lost_writer_are_carried_out_once() {
    let s = Setting::start().await;
    let tenants = [s.registered(None).await, s.registered(None).await, s.registered(None).await];
    let who = platform();
    let superuser = s.db.superuser().await;
    let clients = join_all(tenants.iter().enumerate().map(|(client, t)| {
        let (executor, who) = (&s.executor, &who);
        async move {
            for n in 0..40u128 {
                let id = 1_000 * (client as u128 + 1) + n;
                let text = format!("Name {n}");
                loop {
                    match execute(executor, who, *t, rename(&text), sent(id)).await {
                        Ok(_) => break,
                        Err(ExecuteError::Append(
                            AppendError::Unavailable(_) | AppendError::UnknownOutcome(_) | AppendError::Stale,
                        )) => {}
                        Err(error) => panic!("{error:?}"),
                    }
                }
            }
        }
    }));
    let cuts = async {
        for reach in [20u64, 50, 80] {
            let mut durable = s.journal.durable();
            durable.wait_for(|d| d.position >= reach).await.expect("a writer");
            superuser.execute("select pg_terminate_backend(backend_pid) from journal.lease", &[]).await.expect("a cut");
        }
    };
    tokio::join!(clients, cuts);
    assert_eq!(s.count("events").await, 3 + 3 * 40);
    let row = superuser
        .query_one(
            "select count(distinct payload) from journal.events where event_type = 'platform.tenant.renamed'",
            &[],
        )
        .await
        .expect("a count");
    assert_eq!(row.get::<_, i64>(0), 40);
}

#[tokio::test]
async fn a_domain_belongs_to_one_tenant_until_it_is_closed() {
    let s = Setting::start().await;
    let first = s.registered(Some("one.example")).await;
    let second = tenant();
    let taken = execute(&s.executor, &platform(), second, register(Some("ONE.example")), Call::default()).await;
    assert!(matches!(taken, Err(ExecuteError::Append(AppendError::KeyTaken { kind: "tenant.domain" }))), "{taken:?}");
    let other = execute(&s.executor, &platform(), second, register(Some("two.example")), Call::default()).await;
    other.expect("another domain");
    let close = TenantCommand::Close { reason: Reason::parse("moved").expect("a reason") };
    execute(&s.executor, &platform(), first, close, Call::default()).await.expect("closed");
    s.registered(Some("one.example")).await;
    let row = s.db.superuser().await.query_one("select string_agg(c::text, '') from journal.claims c", &[]).await;
    let claims: String = row.expect("the claims").get(0);
    assert!(!claims.contains("one.example"), "a domain in clear text: {claims}");
}

#[tokio::test]
async fn of_many_who_register_one_domain_at_once_exactly_one_gets_it() {
    let s = Setting::start().await;
    let who = platform();
    let tries = (0..20).map(|_| execute(&s.executor, &who, tenant(), register(Some("one.example")), Call::default()));
    let answers = join_all(tries).await;
    assert_eq!(answers.iter().filter(|a| a.is_ok()).count(), 1);
    let taken = |a: &&Answer| matches!(a, Err(ExecuteError::Append(AppendError::KeyTaken { .. })));
    assert_eq!(answers.iter().filter(taken).count(), 19);
}

#[tokio::test]
async fn a_command_past_its_deadline_is_too_late() {
    let s = Setting::start().await;
    let t = s.registered(None).await;
    let until = |seconds| Call { not_after: Some(Real.utc() + chrono::TimeDelta::seconds(seconds)), ..Call::default() };
    let late = execute(&s.executor, &platform(), t, rename("Late"), until(-1)).await;
    assert!(matches!(late, Err(ExecuteError::Append(AppendError::TooLate))), "{late:?}");
    execute(&s.executor, &platform(), t, rename("In time"), until(60)).await.expect("in time");
}
