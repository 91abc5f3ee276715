//! Commands that more than one aggregate has a say in: what is granted, is granted to a member, of a module that is
//! enabled, in a role that it has, at the moment at which the grant is written.

use daybook_app::platform::{GrantRefused, JoinRefused, ModuleRefused, TenantRefused};
use daybook_app::{Call, Credential, ExecuteError, Executor, authorize};
use daybook_domain::platform::grant::{AccessGrantCommand, GrantTerm, RoleKey, grant_id};
use daybook_domain::platform::membership::{MembershipCommand, TenantRole, membership_id};
use daybook_domain::platform::module::{IntegrationInput, ManifestInput, ModuleCommand, RoleInput};
use daybook_domain::platform::tenant::{Plan, TenantCommand};
use daybook_domain::platform::{AccessGrant, Account, AccountCommand, Manifest, Membership, Module, Tenant};
use daybook_domain::value::{EmailAddress, Name, Reason};
use daybook_domain::{
    AccountId, Actor, ActorKind, MembershipId, ModuleId, PLATFORM_TENANT, Personal, Refusal, Role, SubjectId, TenantId,
};
use daybook_store::database::Role as Session;
use daybook_store::keys::{KeyFiles, KeyStore, Sealer};
use daybook_store::system::Real;
use daybook_testing::{TestDatabase, system, tenant};
use futures_util::future::join_all;
use std::sync::Arc;
use uuid::Uuid;

struct Setting {
    db: TestDatabase,
    executor: Executor,
    /// With a memory of its own, on the same journal.
    another: Executor,
    tenant: TenantId,
    _keys: tempfile::TempDir,
}

fn who() -> Credential {
    let actor = Actor { id: Uuid::from_u128(1), kind: ActorKind::Account };
    Credential::new(actor, PLATFORM_TENANT, vec![Role::PlatformAdmin], None)
}

fn reason() -> Reason {
    Reason::parse("because").expect("a reason")
}

fn role(key: &str) -> RoleKey {
    RoleKey::parse(key).expect("a role")
}

fn account_id(n: u128) -> AccountId {
    AccountId(Uuid::from_u128(0xacc << 32 | n))
}

fn module_id(n: u128) -> ModuleId {
    ModuleId(Uuid::from_u128(0xb0d << 32 | n))
}

fn manifest(key: u128, version: &str, roles: &[&str]) -> Box<Manifest> {
    let role = |key: &&str| RoleInput { key: (*key).into(), name: (*key).into(), permissions: vec![] };
    let input = ManifestInput {
        key: format!("m{key}"),
        name: "Module".into(),
        version: version.into(),
        description: String::new(),
        integration: IntegrationInput { kind: "embedded".into(), url: None },
        roles: roles.iter().map(role).collect(),
        routes: vec![],
        settings: Default::default(),
    };
    Box::new(input.check().expect("a manifest"))
}

/// The code of a refusal, or what else it was.
fn code<T: std::fmt::Debug, R: Refusal>(answer: Result<T, ExecuteError<R>>) -> String {
    match answer {
        Ok(_) => "done".into(),
        Err(ExecuteError::Refused(refusal)) => refusal.code().into(),
        Err(other) => panic!("{other:?}"),
    }
}

type Granted = Result<daybook_app::Executed<AccessGrant>, ExecuteError<GrantRefused>>;

impl Setting {
    async fn start() -> Self {
        let db = TestDatabase::new().await;
        let (journal, _) = db.journal().await;
        let directory = tempfile::tempdir().expect("a directory");
        let files = Arc::new(KeyFiles::open(directory.path(), true, "daybook.test", &Real).expect("keys"));
        let keys = KeyStore::new(db.database().pool(Session::Writer, 2, ""), files.clone(), system());
        let sealer = Sealer::new(Arc::new(keys), system());
        let executor = Executor::new(journal.clone(), sealer.clone(), files.clone(), system());
        let another = Executor::new(journal, sealer, files, system());
        let s = Setting { db, executor, another, tenant: tenant(), _keys: directory };
        let name = Name::parse("First").expect("a name");
        s.tenant(TenantCommand::Register { name, plan: Plan::Free, contact: None, domain: None }).await;
        s
    }

    async fn tenant(&self, command: TenantCommand) {
        let authorized = authorize(&who(), self.tenant, command).expect("permitted");
        self.executor.execute::<Tenant>(authorized, self.tenant.0, Call::default()).await.expect("done");
    }

    async fn account(&self, n: u128, command: AccountCommand) -> String {
        let authorized = authorize(&who(), PLATFORM_TENANT, command).expect("permitted");
        code(self.executor.execute::<Account>(authorized, account_id(n).0, Call::default()).await)
    }

    async fn registered(&self, n: u128) {
        let subject = SubjectId(account_id(n).0);
        let email = Personal::known(subject, EmailAddress::parse(&format!("a{n}@x.example")).expect("an address"));
        let name = Personal::known(subject, Name::parse("Ada").expect("a name"));
        assert_eq!(self.account(n, AccountCommand::Register { email, name }).await, "done");
    }

    async fn member(&self, id: MembershipId, command: MembershipCommand) -> String {
        let authorized = authorize(&who(), self.tenant, command).expect("permitted");
        let answer: Result<daybook_app::Executed<Membership>, ExecuteError<JoinRefused>> =
            self.executor.execute_membership(authorized, id.0, Call::default()).await;
        code(answer)
    }

    async fn add(&self, n: u128) -> String {
        let command = MembershipCommand::Add { account: account_id(n), roles: [TenantRole::Member].into() };
        self.member(membership_id(self.tenant, account_id(n)), command).await
    }

    async fn module(&self, executor: &Executor, n: u128, command: ModuleCommand) -> String {
        let authorized = authorize(&who(), self.tenant, command).expect("permitted");
        let answer: Result<daybook_app::Executed<Module>, ExecuteError<ModuleRefused>> =
            executor.execute_module(authorized, module_id(n).0, Call::default()).await;
        code(answer)
    }

    async fn enabled(&self, n: u128, roles: &[&str]) {
        let register = ModuleCommand::Register { manifest: manifest(n, "1.0.0", roles) };
        assert_eq!(self.module(&self.executor, n, register).await, "done");
        assert_eq!(self.module(&self.executor, n, ModuleCommand::Enable).await, "done");
    }

    async fn grant(&self, executor: &Executor, account: u128, module: u128, key: &str, call: Call) -> Granted {
        let membership = membership_id(self.tenant, account_id(account));
        let (module, role) = (module_id(module), role(key));
        let id = grant_id(self.tenant, membership, module, &role);
        let command =
            AccessGrantCommand::Grant { membership, module, role, term: GrantTerm::default(), reason: reason() };
        executor.execute_grant(authorize(&who(), self.tenant, command).expect("permitted"), id, call).await
    }

    async fn granted(&self, account: u128, module: u128, key: &str) -> String {
        code(self.grant(&self.executor, account, module, key, Call::default()).await)
    }
}

#[tokio::test]
async fn access_is_granted_to_an_active_member_of_an_enabled_module_in_a_role_that_it_has() {
    let s = Setting::start().await;
    assert_eq!(s.granted(1, 1, "reader").await, "MEMBERSHIP_NOT_ADDED");
    s.registered(1).await;
    assert_eq!(s.add(1).await, "done");
    assert_eq!(s.granted(1, 1, "reader").await, "MODULE_NOT_REGISTERED");
    let register = ModuleCommand::Register { manifest: manifest(1, "1.0.0", &["reader"]) };
    assert_eq!(s.module(&s.executor, 1, register).await, "done");
    assert_eq!(s.granted(1, 1, "reader").await, "MODULE_NOT_ENABLED");
    assert_eq!(s.module(&s.executor, 1, ModuleCommand::Enable).await, "done");
    assert_eq!(s.granted(1, 1, "planner").await, "MODULE_ROLE_UNKNOWN");
    assert_eq!(s.granted(1, 1, "reader").await, "done");

    let upgrade = ModuleCommand::Upgrade { manifest: manifest(1, "2.0.0", &["planner"]) };
    assert_eq!(s.module(&s.executor, 1, upgrade).await, "done");
    assert_eq!(s.granted(1, 1, "reader").await, "MODULE_ROLE_UNKNOWN");
    assert_eq!(s.granted(1, 1, "planner").await, "done");
    let id = membership_id(s.tenant, account_id(1));
    assert_eq!(s.member(id, MembershipCommand::End { reason: reason() }).await, "done");
    assert_eq!(s.granted(1, 1, "planner").await, "MEMBERSHIP_ENDED");
    assert_eq!(s.module(&s.executor, 1, ModuleCommand::Retire { reason: reason() }).await, "done");
    let roles = [TenantRole::Viewer].into();
    assert_eq!(s.member(id, MembershipCommand::Rejoin { roles }).await, "done");
    assert_eq!(s.granted(1, 1, "planner").await, "MODULE_RETIRED");
}

#[tokio::test]
async fn to_take_access_away_nobody_else_is_asked() {
    let s = Setting::start().await;
    s.registered(1).await;
    s.add(1).await;
    s.enabled(1, &["reader"]).await;
    assert_eq!(s.granted(1, 1, "reader").await, "done");
    assert_eq!(s.module(&s.executor, 1, ModuleCommand::Retire { reason: reason() }).await, "done");
    let membership = membership_id(s.tenant, account_id(1));
    assert_eq!(s.member(membership, MembershipCommand::End { reason: reason() }).await, "done");
    let id = grant_id(s.tenant, membership, module_id(1), &role("reader"));
    let revoke = AccessGrantCommand::Revoke { reason: reason() };
    let authorized = authorize(&who(), s.tenant, revoke).expect("permitted");
    assert_eq!(code(s.executor.execute_grant(authorized, id, Call::default()).await), "done");
}

#[tokio::test]
async fn only_an_active_account_becomes_a_member() {
    let s = Setting::start().await;
    assert_eq!(s.add(1).await, "ACCOUNT_NOT_REGISTERED");
    s.registered(1).await;
    assert_eq!(s.account(1, AccountCommand::Deactivate { reason: reason() }).await, "done");
    assert_eq!(s.add(1).await, "ACCOUNT_DEACTIVATED");
    assert_eq!(s.account(1, AccountCommand::Reactivate).await, "done");
    assert_eq!(s.add(1).await, "done");
    let id = membership_id(s.tenant, account_id(1));
    assert_eq!(s.member(id, MembershipCommand::End { reason: reason() }).await, "done");
    assert_eq!(s.account(1, AccountCommand::Deactivate { reason: reason() }).await, "done");
    let roles = [TenantRole::Viewer].into();
    assert_eq!(s.member(id, MembershipCommand::Rejoin { roles }).await, "ACCOUNT_DEACTIVATED");
}

#[tokio::test]
async fn nothing_happens_in_a_tenant_that_is_not_there_or_may_not_work() {
    let mut s = Setting::start().await;
    s.registered(1).await;
    let register = || ModuleCommand::Register { manifest: manifest(1, "1.0.0", &["reader"]) };
    s.tenant(TenantCommand::Suspend { reason: reason() }).await;
    assert_eq!(s.add(1).await, "TENANT_SUSPENDED");
    assert_eq!(s.module(&s.executor, 1, register()).await, "TENANT_SUSPENDED");
    assert_eq!(s.granted(1, 1, "reader").await, "TENANT_SUSPENDED");
    s.tenant(TenantCommand::Close { reason: reason() }).await;
    assert_eq!(s.add(1).await, "TENANT_CLOSED");
    s.tenant = tenant();
    assert_eq!(s.add(1).await, "TENANT_NOT_REGISTERED");
    assert_eq!(TenantRefused::NoSuchTenant.path(), ["tenant"]);
}

#[tokio::test]
async fn a_repeated_grant_is_answered_though_the_module_is_gone() {
    let s = Setting::start().await;
    s.registered(1).await;
    s.add(1).await;
    s.enabled(1, &["reader"]).await;
    let call = || Call { command_id: Some(Uuid::from_u128(7)), ..Call::default() };
    let first = s.grant(&s.executor, 1, 1, "reader", call()).await.expect("granted");
    assert_eq!(s.module(&s.executor, 1, ModuleCommand::Retire { reason: reason() }).await, "done");
    for executor in [&s.executor, &s.another] {
        let repeat = s.grant(executor, 1, 1, "reader", call()).await.expect("the original answer");
        assert!(repeat.outcome.deduplicated);
        assert_eq!(repeat.outcome.last_tenant_position, first.outcome.last_tenant_position);
    }
}

#[tokio::test]
async fn no_grant_is_written_after_its_module_was_disabled() {
    let s = Setting::start().await;
    s.enabled(1, &["reader"]).await;
    for n in 0..24 {
        s.registered(n).await;
        assert_eq!(s.add(n).await, "done");
    }
    // Two executors that remember different things, grants on one side, switches on the other.
    let switching = async {
        for n in 0..24 {
            let command = if n % 2 == 0 { ModuleCommand::Disable { reason: reason() } } else { ModuleCommand::Enable };
            s.module(&s.another, 1, command).await;
        }
    };
    let granting = join_all((0..24).map(|n| s.grant(&s.executor, n, 1, "reader", Call::default())));
    let (answers, ()) = tokio::join!(granting, switching);
    let mut done = 0;
    for answer in answers {
        match answer {
            Ok(_) => done += 1,
            Err(ExecuteError::Refused(GrantRefused::ModuleNotEnabled)) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    let sql = "select event_type from journal.events
               where event_type in ('platform.module.enabled', 'platform.module.disabled', 'platform.grant.granted')
               order by position";
    let (mut enabled, mut grants) = (false, 0);
    for row in s.db.superuser().await.query(sql, &[]).await.expect("the journal") {
        match row.get::<_, &str>(0) {
            "platform.module.enabled" => enabled = true,
            "platform.module.disabled" => enabled = false,
            _ => {
                assert!(enabled, "a grant of a module that was disabled");
                grants += 1;
            }
        }
    }
    assert_eq!(grants, done);
}

#[tokio::test]
async fn states_remembered_from_another_epoch_have_no_say() {
    let s = Setting::start().await;
    s.registered(1).await;
    s.add(1).await;
    s.enabled(1, &["reader"]).await;
    let superuser = s.db.superuser().await;
    let cut = "select pg_terminate_backend(backend_pid) from journal.lease";
    assert!(superuser.query_one(cut, &[]).await.expect("a cut").get::<_, bool>(0));
    let disable = ModuleCommand::Disable { reason: reason() };
    assert_eq!(s.module(&s.another, 1, disable).await, "done");
    assert_eq!(s.granted(1, 1, "reader").await, "MODULE_NOT_ENABLED");
    assert_eq!(s.module(&s.executor, 1, ModuleCommand::Enable).await, "done");
    assert_eq!(s.granted(1, 1, "reader").await, "done");
}
