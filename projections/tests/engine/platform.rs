//! Accounts, members, modules and grants: rows equal the aggregates, rebuilt rows equal live ones, and what a grant
//! comes to is the same by SQL, by rows, by the past and by the aggregates.

use crate::harness::World;
use chrono::{DateTime, TimeDelta, Utc};
use daybook_domain::platform::grant::{AccessGrantCommand, GrantTerm, RoleKey, grant_id};
use daybook_domain::platform::membership::{MembershipCommand, RoleName, Roles, TenantRole, membership_id};
use daybook_domain::platform::module::{IntegrationInput, ManifestInput, ModuleCommand, ModuleKey, RoleInput};
use daybook_domain::platform::{
    AccessGrant, Account, AccountCommand, HeldRole, Manifest, Membership, Module, ModuleSwitch, ModuleSwitchCommand,
    module_switch_id,
};
use daybook_domain::value::{EmailAddress, Name, Reason};
use daybook_domain::{
    AccountId, Actor, ActorKind, Context, EventIds, EventSourced, ModuleId, PLATFORM_TENANT, Personal, SubjectId,
    TenantId,
};
use daybook_projections::platform::accounts::{self, AccountField, AccountFilter, AccountOrderBy};
use daybook_projections::platform::grants::{self, Access, GrantField, GrantFilter, Moment, PastError};
use daybook_projections::platform::members::{self, MemberStatus};
use daybook_projections::platform::modules::{self, ModuleStatus};
use daybook_projections::read::filter::{Asked, Builder, Test};
use daybook_projections::read::{Direction, Keyset, Page};
use daybook_projections::{
    Accounts, Grants, Members, Model, ModuleSwitches, ModuleVersions, Modules, Projections, ReadSession, Scope,
};
use daybook_store::system::{Real, System};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

pub(crate) const NAMES: [&str; 6] = ["accounts", "members", "modules", "module_versions", "module_switches", "grants"];

pub(crate) fn models() -> [Model; 6] {
    [
        Model::of::<Accounts>(),
        Model::of::<Members>(),
        Model::of::<Modules>(),
        Model::of::<ModuleVersions>(),
        Model::of::<ModuleSwitches>(),
        Model::of::<Grants>(),
    ]
}

const ROLES: [&str; 3] = ["planner", "reader", "owner"];

fn reason(text: &str) -> Reason {
    Reason::parse(text).unwrap()
}

/// A state and how many events have made it.
type Stream<A> = (A, u64);

/// The platform as the aggregates know it.
#[derive(Clone, Default)]
struct State {
    accounts: BTreeMap<Uuid, Stream<Account>>,
    members: BTreeMap<(TenantId, Uuid), Stream<Membership>>,
    modules: BTreeMap<(TenantId, Uuid), Stream<Module>>,
    grants: BTreeMap<(TenantId, Uuid), Stream<AccessGrant>>,
    switches: BTreeMap<Uuid, Stream<ModuleSwitch>>,
}

impl State {
    /// Whether the platform lets modules of a key be used.
    fn is_on(&self, key: &ModuleKey) -> bool {
        !matches!(self.switches.get(&module_switch_id(key)), Some((ModuleSwitch::Off { .. }, _)))
    }

    /// The grants of a tenant that allow at a moment.
    fn allowed(&self, tenant: TenantId, now: DateTime<Utc>) -> BTreeSet<Uuid> {
        let allows = |state: &AccessGrant| {
            let AccessGrant::Granted { of, .. } = state else { return false };
            let member = self.members.get(&(tenant, of.membership.0));
            let module = self.modules.get(&(tenant, of.module.0));
            state.allows_at(now)
                && matches!(member, Some((state @ Membership::Active { .. }, _)) if !state.modules_off().contains(&of.module))
                && matches!(module, Some((Module::Enabled { manifest }, _))
                    if manifest.roles.contains_key(&of.role) && self.is_on(&manifest.key))
        };
        let of_tenant = self.grants.iter().filter(|((of, _), _)| *of == tenant);
        of_tenant.filter(|(_, (state, _))| allows(state)).map(|((_, id), _)| *id).collect()
    }
}

struct Story {
    rng: StdRng,
    tenants: Vec<TenantId>,
    state: State,
    /// After each append: whose it was, its journal position, and everything as it was then.
    moments: Vec<(TenantId, u64, State)>,
}

fn context(tenant: TenantId, id: Uuid) -> Context {
    let actor = Actor { id: Uuid::nil(), kind: ActorKind::System };
    Context { id, tenant, actor, now: Real.utc(), ids: EventIds { seed: Uuid::nil() } }
}

async fn carry_out<A: EventSourced>(
    world: &World,
    tenant: TenantId,
    id: Uuid,
    (state, version): &mut Stream<A>,
    command: A::Command,
) -> Option<u64> {
    let events = state.decide(&context(tenant, id), command).unwrap_or_default();
    if events.is_empty() {
        return None;
    }
    let position = world.append_events(tenant, A::TYPE, id, *version, &events).await;
    *version += events.len() as u64;
    events.into_iter().for_each(|event| state.apply(event));
    Some(position)
}

fn manifest(rng: &mut StdRng, key: u128, release: u64) -> Box<Manifest> {
    let roles = ROLES.iter().filter(|_| rng.random_range(0..4) > 0).map(|key| RoleInput {
        key: (*key).into(),
        name: key.to_uppercase(),
        permissions: vec!["view".into(), format!("{key}.edit")],
    });
    let mut roles: Vec<RoleInput> = roles.collect();
    if roles.is_empty() {
        roles.push(RoleInput { key: "reader".into(), name: "Reader".into(), permissions: vec![] });
    }
    let input = ManifestInput {
        key: format!("m{key}"),
        name: ["Äther", "beta", "Beta"][rng.random_range(0..3)].into(),
        version: format!("1.{release}.0"),
        description: "It \"works\" ü".into(),
        integration: IntegrationInput { kind: "api".into(), url: Some("https://m.example/a".into()) },
        roles,
        routes: vec![],
        settings: [("a.b".to_owned(), serde_json::json!(i64::MIN))].into(),
    };
    Box::new(input.check().unwrap())
}

impl Story {
    fn new(seed: u64, tenants: u128) -> Self {
        let tenants = (1..=tenants).map(|n| TenantId(Uuid::from_u128(n << 64 | 9))).collect();
        Story { rng: StdRng::seed_from_u64(seed), tenants, state: State::default(), moments: Vec::new() }
    }

    fn account(&mut self) -> Uuid {
        Uuid::from_u128(0xacc << 32 | self.rng.random_range(0..6u128))
    }

    fn module(&mut self) -> Uuid {
        Uuid::from_u128(0xb0d << 32 | self.rng.random_range(0..3u128))
    }

    async fn step(&mut self, world: &World) {
        let tenant = self.tenants[self.rng.random_range(0..self.tenants.len())];
        let (of, position) = match self.rng.random_range(0..10) {
            0 if self.rng.random_range(0..3) == 0 => (PLATFORM_TENANT, self.step_switch(world).await),
            0 => (PLATFORM_TENANT, self.step_account(world).await),
            1..=2 => (tenant, self.step_member(world, tenant).await),
            3..=4 => (tenant, self.step_module(world, tenant).await),
            _ => (tenant, self.step_grant(world, tenant).await),
        };
        if let Some(position) = position {
            self.moments.push((of, position, self.state.clone()));
        }
    }

    async fn step_account(&mut self, world: &World) -> Option<u64> {
        use AccountCommand as C;
        let id = self.account();
        let n = self.rng.random_range(0..1_000);
        let name = Personal::known(SubjectId(id), Name::parse(&format!("Ädä {n}")).unwrap());
        let email = EmailAddress::parse(&format!("Ada{n}@example.com")).unwrap();
        let email = Personal::known(SubjectId(id), email);
        let command = match self.rng.random_range(0..6) {
            0..=1 => C::Register { email, name },
            2 => C::Rename { name },
            3 => C::ChangeEmail { email },
            4 => C::Deactivate { reason: reason("lost") },
            _ => C::Reactivate,
        };
        let stream = self.state.accounts.entry(id).or_default();
        carry_out(world, PLATFORM_TENANT, id, stream, command).await
    }

    async fn step_switch(&mut self, world: &World) -> Option<u64> {
        let key = ModuleKey::parse(&format!("m{}", self.rng.random_range(0..3))).unwrap();
        let id = module_switch_id(&key);
        let active = self.rng.random_range(0..3) > 0;
        let command = ModuleSwitchCommand::Turn { key, active, reason: reason("a hole") };
        carry_out(world, PLATFORM_TENANT, id, self.state.switches.entry(id).or_default(), command).await
    }

    async fn step_member(&mut self, world: &World, tenant: TenantId) -> Option<u64> {
        use MembershipCommand as C;
        let account = AccountId(self.account());
        let id = membership_id(tenant, account).0;
        let built_in = (0..2).map(|_| TenantRole::ALL[self.rng.random_range(0..TenantRole::ALL.len())]).collect();
        let own = |n: u32| RoleName::parse(&format!("own{n}")).unwrap();
        let custom = (0..self.rng.random_range(0..3)).map(own).collect();
        let roles = Roles { built_in, custom };
        let (module, active) = (ModuleId(self.module()), self.rng.random_range(0..3) > 0);
        let command = match self.rng.random_range(0..10) {
            7..=9 => C::SwitchModule { module, active, reason: reason("exam") },
            0..=2 => C::Add { account, roles },
            3 => C::ChangeRoles { roles },
            4 => C::End { reason: reason("left") },
            _ => C::Rejoin { roles },
        };
        carry_out(world, tenant, id, self.state.members.entry((tenant, id)).or_default(), command).await
    }

    async fn step_module(&mut self, world: &World, tenant: TenantId) -> Option<u64> {
        use ModuleCommand as C;
        let id = self.module();
        let stream = self.state.modules.entry((tenant, id)).or_default();
        let manifest = manifest(&mut self.rng, id.as_u128() & 0xff, stream.1);
        let command = match self.rng.random_range(0..20) {
            0..=4 => C::Register { manifest },
            5..=8 => C::Upgrade { manifest },
            9..=15 => C::Enable,
            16..=18 => C::Disable { reason: reason("broken") },
            _ => C::Retire { reason: reason("old") },
        };
        carry_out(world, tenant, id, stream, command).await
    }

    async fn step_grant(&mut self, world: &World, tenant: TenantId) -> Option<u64> {
        use AccessGrantCommand as C;
        let membership = membership_id(tenant, AccountId(self.account()));
        let module = ModuleId(self.module());
        let role = RoleKey::parse(ROLES[self.rng.random_range(0..3)]).unwrap();
        let id = grant_id(tenant, membership, module, &role);
        let mut hours = |from: i64, to: i64| Real.utc() + TimeDelta::hours(self.rng.random_range(from..to));
        let (from, until) = (hours(-5, 20), hours(21, 50));
        let coin = self.rng.random_range(0..4);
        let (from, until) = ((coin & 1 > 0).then_some(from), (coin & 2 > 0).then_some(until));
        let command = match self.rng.random_range(0..8) {
            0..=4 => C::Grant { membership, module, role, term: GrantTerm { from, until }, reason: reason("needed") },
            5..=6 => C::ChangeExpiry { until, reason: reason("longer") },
            _ => C::Revoke { reason: reason("over") },
        };
        carry_out(world, tenant, id, self.state.grants.entry((tenant, id)).or_default(), command).await
    }
}

async fn told(story_seed: u64, steps: usize) -> (World, Projections, Story) {
    let world = World::new().await;
    let (projections, _) = world.start_all(&models());
    let mut story = Story::new(story_seed, 3);
    for _ in 0..steps {
        story.step(&world).await;
    }
    let last = story.moments.last().unwrap().1;
    for name in NAMES {
        world.reached(&projections, name, last).await;
    }
    (world, projections, story)
}

async fn texts(world: &World, sql: &str) -> Vec<String> {
    let session = world.db.superuser().await;
    session.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn rows_equal_the_aggregates_and_rebuilt_rows_equal_live_ones() {
    let (world, _projections, story) = told(1, 400).await;
    let platform = world.reader().begin(Scope::Tenant(PLATFORM_TENANT)).await.unwrap();
    for (id, (state, version)) in &story.state.accounts {
        let row = accounts::account(&platform, *id).await.unwrap();
        assert_eq!(row.is_some(), *state != Account::Absent);
        let (Some(row), Some(profile)) = (row, state.profile()) else { continue };
        assert_eq!(row.version, i64::try_from(*version).unwrap());
        assert_eq!(row.name.as_deref(), profile.name.value().map(Name::as_str));
        assert_eq!(row.email.as_deref(), profile.email.value().map(EmailAddress::as_str));
        assert_eq!(row.email_key, row.email.as_deref().unwrap_or_default().to_lowercase());
        let deactivated = matches!(state, Account::Deactivated { .. });
        assert_eq!(
            (row.status.as_str() == "DEACTIVATED", row.deactivated_reason.is_some()),
            (deactivated, deactivated)
        );
    }
    platform.finish().await.unwrap();
    for ((tenant, id), (state, version)) in &story.state.members {
        let session = world.reader().begin(Scope::Tenant(*tenant)).await.unwrap();
        let row = members::member(&session, *tenant, *id).await.unwrap();
        session.finish().await.unwrap();
        assert_eq!(row.is_some(), *state != Membership::Absent);
        let Some(row) = row else { continue };
        assert_eq!(row.version, i64::try_from(*version).unwrap());
        let custom = state.custom_roles().cloned().map(HeldRole::Custom);
        assert_eq!(row.roles, state.roles().map(HeldRole::BuiltIn).chain(custom).collect());
        assert_eq!(row.status == MemberStatus::Active, matches!(state, Membership::Active { .. }));
    }
    for ((tenant, id), (state, version)) in &story.state.modules {
        let session = world.reader().begin(Scope::Tenant(*tenant)).await.unwrap();
        let row = modules::module(&session, *tenant, *id).await.unwrap();
        session.finish().await.unwrap();
        assert_eq!(row.is_some(), *state != Module::Absent);
        let Some(row) = row else { continue };
        assert_eq!(row.version, i64::try_from(*version).unwrap());
        assert_eq!(row.manifest.as_deref(), state.manifest());
        let status = match state {
            Module::Absent => panic!("a module that is absent has no row"),
            Module::Registered { .. } => ModuleStatus::Registered,
            Module::Enabled { .. } => ModuleStatus::Enabled,
            Module::Disabled { .. } => ModuleStatus::Disabled,
            Module::Retired { .. } => ModuleStatus::Retired,
        };
        assert_eq!(row.status, status);
    }
    for (name, model) in NAMES.iter().zip(models()) {
        let rows = |version: u32| format!("select to_json(t)::text from read.{name}_v{version} t order by 1");
        let changes = |version: u32| {
            format!(
                "select row(tenant_id, tenant_position, key, position, before, after, recorded_at)::text
                 from projection.changes where read_model = '{name}' and version = {version} order by position"
            )
        };
        let (live, live_changes) = (texts(&world, &rows(1)).await, texts(&world, &changes(1)).await);
        assert!(!live.is_empty() && live_changes.len() >= live.len() && live_changes.len() > 2, "{name}");
        let rebuilt = model.rebuild(&world.parts(), &mut |_| {}).await.unwrap();
        assert_eq!((rebuilt.old_version, rebuilt.version), (1, 2));
        assert_eq!(texts(&world, &rows(2)).await, live, "{name}");
        assert_eq!(texts(&world, &changes(2)).await, live_changes, "{name}");
    }
}

fn everything() -> Page<Keyset> {
    Page::first(1_000, None)
}

async fn allowed_by_sql(session: &ReadSession, tenant: TenantId, now: DateTime<Utc>, allowed: bool) -> BTreeSet<Uuid> {
    let filter = GrantFilter::equals(GrantField::Allowed, allowed);
    let slice = grants::page(session, tenant, &filter, now, Direction::Ascending, &everything()).await.unwrap();
    assert_eq!(grants::count(session, tenant, &filter, now).await.unwrap(), slice.rows.len() as u64);
    assert!(slice.rows.iter().all(|view| (view.access == Access::Allowed) == allowed));
    slice.rows.into_iter().map(|view| view.grant.grant_id).collect()
}

#[tokio::test]
async fn who_may_use_what_is_the_same_by_sql_by_rows_and_by_the_aggregates() {
    let (world, _projections, story) = told(2, 500).await;
    let (mut allowed_in_all, mut denied_in_all) = (0, 0);
    for tenant in &story.tenants {
        let session = world.reader().begin(Scope::Tenant(*tenant)).await.unwrap();
        // Long after the last event only the clock moves.
        for hours in [0, 1, 10, 19, 22, 35, 49, 51, 100_000] {
            let now = Real.utc() + TimeDelta::hours(hours);
            let expected = story.state.allowed(*tenant, now);
            assert_eq!(allowed_by_sql(&session, *tenant, now, true).await, expected, "{hours} h");
            let (any, whole) = (GrantFilter::default(), everything());
            let all = grants::page(&session, *tenant, &any, now, Direction::Ascending, &whole).await.unwrap().rows;
            let by_rows = all.iter().filter(|view| view.access == Access::Allowed).map(|view| view.grant.grant_id);
            assert_eq!(by_rows.collect::<BTreeSet<_>>(), expected);
            let denied = allowed_by_sql(&session, *tenant, now, false).await;
            assert_eq!(denied.len() + expected.len(), all.len());
            allowed_in_all += expected.len();
            denied_in_all += denied.len();
        }
    }
    assert!(allowed_in_all > 20 && denied_in_all > 20, "{allowed_in_all} {denied_in_all}");
}

#[tokio::test]
async fn the_past_is_as_it_was() {
    let (world, _projections, story) = told(3, 300).await;
    let last = story.moments.last().unwrap().1;
    let superuser = world.db.superuser().await;
    let platform = world.reader().begin(Scope::Tenant(PLATFORM_TENANT)).await.unwrap();
    let mut looked = 0;
    for (tenant, position, state) in story.moments.iter().step_by(7) {
        if *tenant == PLATFORM_TENANT {
            continue;
        }
        let sql = "select tenant_position, recorded_at from journal.events where position = $1";
        let row = superuser.query_one(sql, &[&i64::try_from(*position).unwrap()]).await.unwrap();
        let (tenant_position, recorded_at): (i64, DateTime<Utc>) = (row.get(0), row.get(1));
        let session = world.reader().begin(Scope::Tenant(*tenant)).await.unwrap();
        let moment = Moment::Position(u64::try_from(tenant_position).unwrap());
        let mut past = grants::past(&session, *tenant, moment, last).await.unwrap();
        assert_eq!((past.at, past.up_to), (recorded_at, *position));
        past.off_on_platform = grants::off_on_platform(&platform, past.at, past.up_to).await.unwrap();
        let allowed = GrantFilter::equals(GrantField::Allowed, true);
        let page = past.page(&allowed, Direction::Ascending, &everything()).unwrap();
        let ids: BTreeSet<Uuid> = page.rows.iter().map(|view| view.grant.grant_id).collect();
        assert_eq!(ids, state.allowed(*tenant, recorded_at));
        // Two appends never share a microsecond here, or the later one would be seen as well.
        let later = superuser
            .query_one(
                "select count(*) from journal.events where recorded_at = $1 and position > $2",
                &[&recorded_at, &i64::try_from(*position).unwrap()],
            )
            .await
            .unwrap();
        if later.get::<_, i64>(0) == 0 {
            let by_time = grants::past(&session, *tenant, Moment::Time(recorded_at), last).await.unwrap();
            assert_eq!((by_time.grants, by_time.members), (past.grants, past.members));
        }
        looked += 1;
    }
    assert!(looked > 10);
    let tenant = story.tenants[0];
    let session = world.reader().begin(Scope::Tenant(tenant)).await.unwrap();
    let none = grants::past(&session, tenant, Moment::Position(0), last).await.unwrap();
    assert_eq!(none.count(&GrantFilter::default()), 0);
    let future = grants::past(&session, tenant, Moment::Position(1_000_000), last).await;
    assert!(matches!(future, Err(PastError::NoSuchPosition)), "{future:?}");
    // What is not durable is not shown, whatever the moment.
    let early = grants::past(&session, tenant, Moment::Time(Real.utc()), 0).await.unwrap();
    assert_eq!(early.count(&GrantFilter::default()), 0);
}

#[tokio::test]
async fn another_tenants_people_modules_and_grants_are_not_there() {
    let (world, _projections, story) = told(4, 300).await;
    let (own, other) = (story.tenants[0], story.tenants[1]);
    let session = world.reader().begin(Scope::Tenant(own)).await.unwrap();
    let now = Real.utc();
    let filter = GrantFilter::default();
    for (tenant, there) in [(own, true), (other, false)] {
        let grants = grants::page(&session, tenant, &filter, now, Direction::Ascending, &everything()).await.unwrap();
        assert_eq!(!grants.rows.is_empty(), there);
        assert_eq!(members::count(&session, tenant, &Default::default()).await.unwrap() > 0, there);
        assert_eq!(modules::count(&session, tenant, &Default::default()).await.unwrap() > 0, there);
        let past = grants::past(&session, tenant, Moment::Time(now), u64::MAX).await.unwrap();
        assert_eq!(past.count(&filter) > 0, there);
        let ids: Vec<Uuid> = story.state.grants.keys().filter(|(t, _)| *t == tenant).map(|(_, id)| *id).collect();
        assert_eq!(!grants::by_ids(&session, tenant, &ids, now).await.unwrap().is_empty(), there);
    }
    // People are the platform's: a session of a tenant sees none of them.
    assert_eq!(accounts::count(&session, &AccountFilter::default()).await.unwrap(), 0);
    let platform = world.reader().begin(Scope::Tenant(PLATFORM_TENANT)).await.unwrap();
    assert!(accounts::count(&platform, &AccountFilter::default()).await.unwrap() > 0);
    let (any, whole) = (AccountFilter::default(), everything());
    let all = accounts::page(&platform, &any, AccountOrderBy::Email, Direction::Ascending, &whole).await.unwrap().rows;
    assert!(all.is_sorted_by_key(|row| row.email_key.clone()));
    let upper = all[0].email.as_deref().unwrap_or_default().to_uppercase();
    let asked = Asked::Is(Test::Eq(upper.into()));
    let any_case: AccountFilter = Builder::new("filter").is(AccountField::Email, asked).unwrap();
    let found = accounts::count(&platform, &any_case).await.unwrap();
    assert!(found >= 1);
}

#[tokio::test]
async fn a_look_at_the_past_does_not_walk_the_whole_journal() {
    let (world, _projections, story) = told(5, 60).await;
    let tenant = story.tenants[0];
    let session = world.db.superuser().await;
    // As many readings beside them as a tenant may have.
    session
        .execute(
            "insert into journal.stream_events
             select $1, 'readings', md5(n::text)::uuid, 1, 1000000 + n from generate_series(1, 50000) n",
            &[&tenant.0],
        )
        .await
        .unwrap();
    session.batch_execute("analyze journal.stream_events; analyze journal.events").await.unwrap();
    let reader = world.reader().begin(Scope::Tenant(tenant)).await.unwrap();
    let sql = format!("explain (analyze, costs off, timing off, summary off) {}", grants::past_query());
    let rows = reader.query(&sql, &[&tenant.0, &i64::MAX, &Real.utc()]).await.unwrap();
    let plan: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let plan = plan.join("\n");
    assert!(!plan.contains("Seq Scan on stream_events") && plan.contains("stream_type"), "{plan}");
    assert!(!plan.contains("Rows Removed by Filter: 5"), "{plan}");
}
