//! `rules`: what it costs to ask who may do what.
//!
//! A list with a rule beside the same list without, in turn: plan, buffers and time. Authorizing a command. And what somebody may
//! do, asked of members at random, in a tenant of few and in one of many.

use crate::error::BenchError;
use crate::figures::middle;
use crate::rig::{deadline, end_of, executor};
use crate::server::{self, Latency};
use daybook_app::{Call, Credential, Executor, Rules, authorize};
use daybook_domain::condition::{Claims, Condition};
use daybook_domain::energy::{Device, DeviceCommand};
use daybook_domain::platform::membership::{MembershipCommand, Roles, membership_id};
use daybook_domain::platform::module::Description;
use daybook_domain::platform::role::{Definition, RoleCommand, role_id};
use daybook_domain::platform::{DefinedRole, Membership};
use daybook_domain::rules::{ActionPattern, Effect, RoleName, Rule, find};
use daybook_domain::value::Name;
use daybook_domain::{AccountId, Actor, ActorKind, Role, TenantId};
use daybook_projections::energy::devices::{DeviceFilter, DeviceOrder, DeviceOrderBy, page_query};
use daybook_projections::read::condition::RowRule;
use daybook_projections::read::{Direction, Page};
use daybook_projections::{Devices, ReadModel};
use daybook_store::journal::recent::Recent;
use daybook_store::journal::{Journal, JournalOptions};
use daybook_store::keys::KeyFiles;
use daybook_store::system::{Real, SharedSystem, System};
use daybook_store::{Database, Role as Session};
use daybook_testing::TestServer;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;
use tokio::task::JoinSet;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

#[derive(clap::Args, Debug)]
pub struct Options {
    /// Devices of the tenant whose list is read.
    #[arg(long, default_value_t = 100_000)]
    devices: i64,
    /// Interleaved measurements of the list; the medians count.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Pages read in a measurement.
    #[arg(long, default_value_t = 400)]
    pages: usize,
    /// Members of the large tenant; of the small one a hundredth.
    #[arg(long, default_value_t = 100_000)]
    members: u64,
    /// Roles of the large tenant; of the small one a hundredth.
    #[arg(long, default_value_t = 1_000)]
    roles: u64,
    /// Questions put to each of both tenants.
    #[arg(long, default_value_t = 200_000)]
    questions: u64,
    /// Whole commands of members at random, in each of both tenants, in turn.
    #[arg(long, default_value_t = 20_000)]
    commands: u64,
}

/// Roles that a member holds.
const HELD: u64 = 3;
/// Commands under way at once while a tenant is filled.
const FILL_TASKS: usize = 64;

/// # Errors
/// When anything fails.
pub async fn run(options: Options) -> Result<String, BenchError> {
    // Nothing waits 2 ms here, which would hide everything else.
    let server = server::start(Latency::Disk, None, 60).await?;
    let mut table = String::from("| | measured |\n|---|---|\n");
    list(&server, &options, &mut table).await?;
    members(&server, &options, &mut table).await?;
    Ok(table)
}

/// What nobody is denied: every row fits, so that both lists are the same.
fn everywhere() -> RowRule {
    let json = json!({ "not": { "site": { "eq": "Nowhere" } }, "maxPowerW": { "lte": 1_000_000 }, "or": [
        { "kind": { "in": ["pv", "wind", "meter"] } }, { "name": { "startsWith": "Device" } },
    ] });
    let vocabulary = daybook_domain::energy::device::RESOURCE.vocabulary();
    // A literal: that it fits is seen by running this once.
    let condition = Condition::parse("condition", &json, vocabulary).unwrap_or(Condition::FALSE);
    RowRule { condition, claims: Claims::default() }
}

async fn list(server: &TestServer, options: &Options, table: &mut String) -> Result<(), BenchError> {
    let database = server::create(server, "bench_rules_list").await?;
    let tenant = TenantId(Real.uuid_v4());
    let owner = database.connect(Session::Login, "").await?;
    owner.batch_execute(&Devices::create_sql(1)).await?;
    owner.batch_execute(&Devices::index_sql(1)).await?;
    let name = Devices::table(1);
    let fill = format!(
        "insert into {name} select $1::uuid, md5(n::text)::uuid, 'Device ' || n, 'device ' || n, 'pv', null, null,
         'Site ' || n % 50, 'UTC', 900, 'export', 1000, 'ACTIVE', null, null, 1,
         timestamptz '2025-01-01' + n * interval '1 s', now(), n, n from generate_series(1, $2::bigint) n"
    );
    owner.execute(&fill, &[&tenant.0, &options.devices]).await?;
    owner.batch_execute("vacuum analyze").await?;

    let reader = database.connect(Session::Reader, "").await?;
    reader.execute("select set_config('app.tenant', $1, false)", &[&tenant.to_string()]).await?;
    let order = DeviceOrder { by: DeviceOrderBy::RegisteredAt, direction: Direction::Descending };
    let mut plans: Vec<Plan> = Vec::new();
    let mut times: [Vec<f64>; 2] = [Vec::new(), Vec::new()];
    let statements: Vec<_> = [RowRule::all(), everywhere()]
        .iter()
        .map(|rule| page_query(&name, tenant, &DeviceFilter::default(), rule, order, &Page::first(50, None)))
        .collect::<Result<_, _>>()
        .map_err(|error| BenchError::Execute(Box::new(error)))?;
    for (sql, parameters) in &statements {
        let parameters: Vec<&(dyn ToSql + Sync)> = parameters.iter().map(|p| &**p as &(dyn ToSql + Sync)).collect();
        let explain = format!("explain (analyze, buffers, format json) {sql}");
        // The second time: the first one fills what is shared.
        reader.query(&explain, &parameters).await?;
        let row = reader.query_one(&explain, &parameters).await?;
        plans.push(Plan::of(&row.get::<_, Value>(0)[0]["Plan"]));
    }
    for _ in 0..options.rounds {
        for ((sql, parameters), times) in statements.iter().zip(&mut times) {
            let parameters: Vec<&(dyn ToSql + Sync)> = parameters.iter().map(|p| &**p as &(dyn ToSql + Sync)).collect();
            let statement = reader.prepare(sql).await?;
            let begun = Instant::now();
            for _ in 0..options.pages {
                reader.query(&statement, &parameters).await?;
            }
            #[allow(clippy::cast_precision_loss)]
            times.push(begun.elapsed().as_secs_f64() * 1e6 / options.pages as f64);
        }
    }
    let ratios: Vec<f64> = times[1].iter().zip(&times[0]).map(|(with, without)| with / without).collect();
    let [without, with] = times.map(middle);
    let same = |same: bool| if same { "the same" } else { "ANOTHER" };
    // Writing to a String cannot fail.
    let _ = writeln!(
        table,
        "| the first 50 of {} devices without rules / with a rule of four comparisons | {without:.0} / {with:.0} µs; ratio of medians {:.2}, of rounds {} |\n\
         | their plan | {}: {} |\n| their buffers | {}: {} and {} |",
        options.devices,
        with / without,
        ratios.iter().map(|ratio| format!("{ratio:.2}")).collect::<Vec<_>>().join(" "),
        same(plans[0].nodes == plans[1].nodes),
        plans[1].nodes.join(" > "),
        same(plans[0].buffers == plans[1].buffers),
        plans[0].buffers,
        plans[1].buffers,
    );
    Ok(())
}

/// How a statement was carried out.
struct Plan {
    nodes: Vec<String>,
    buffers: i64,
}

impl Plan {
    fn of(plan: &Value) -> Self {
        let mut nodes = Vec::new();
        walk(plan, &mut nodes);
        let blocks = |name: &str| plan[name].as_i64().unwrap_or_default();
        Plan { nodes, buffers: blocks("Shared Hit Blocks") + blocks("Shared Read Blocks") }
    }
}

fn walk(plan: &Value, nodes: &mut Vec<String>) {
    let text = |name: &str| plan[name].as_str().unwrap_or_default();
    nodes.push(format!("{} {}", text("Node Type"), text("Index Name")).trim().to_owned());
    plan["Plans"].as_array().into_iter().flatten().for_each(|inner| walk(inner, nodes));
}

async fn members(server: &TestServer, options: &Options, table: &mut String) -> Result<(), BenchError> {
    let database = server::create(server, "bench_rules_members").await?;
    let system: SharedSystem = Arc::new(Real);
    let keys = tempfile::tempdir().map_err(|source| BenchError::Probe { path: "keys".into(), source })?;
    let files = Arc::new(KeyFiles::open(keys.path(), true, "bench.example", &Real)?);
    let (journal, task) = Journal::start(&database, system.clone(), JournalOptions::new(Real.uuid_v4()));
    journal.ready(deadline()).await?;
    let filling = executor(&database, journal.clone(), &files, &system);
    let sizes = [(options.members / 100, options.roles / 100), (options.members, options.roles)];
    let mut tenants = Vec::new();
    for (members, roles) in sizes {
        let tenant = TenantId(Real.uuid_v4());
        fill(&filling, tenant, members.max(1), roles.max(HELD)).await?;
        tenants.push((tenant, members.max(1), roles.max(HELD)));
    }
    drop(filling);
    let mut p99s = Vec::new();
    for (tenant, members, roles) in &tenants {
        // A node that has just been started.
        let fresh = executor(&database, journal.clone(), &files, &system);
        let rules = Rules::new(fresh, system.clone());
        let (recent, reading) = Recent::start(Database::clone(&database), journal.durable());
        let following = rules.follow(recent);
        let [cold, warm] = ask(&rules, *tenant, *members, options.questions).await?;
        let _ = writeln!(
            table,
            "| a member's rules and a command authorized by them, {members} members, {roles} roles | \
             first time p50 {:.1}, p99 {:.1} µs; remembered p50 {:.1}, p99 {:.1} µs |",
            cold.0, cold.1, warm.0, warm.1
        );
        p99s.push((cold.1, warm.1));
        following.abort();
        reading.abort();
    }
    let _ = writeln!(
        table,
        "| p99 of many against few | first time {:.2}, remembered {:.2} |",
        p99s[1].0 / p99s[0].0,
        p99s[1].1 / p99s[0].1
    );
    bare(&sizes, options.questions, table);
    let fresh = executor(&database, journal.clone(), &files, &system);
    let rules = Rules::new(fresh.clone(), system.clone());
    let (recent, reading) = Recent::start(Database::clone(&database), journal.durable());
    let following = rules.follow(recent);
    whole(&fresh, &rules, &tenants, options.commands, table).await?;
    following.abort();
    reading.abort();
    alone(table)?;
    end_of(journal, task).await;
    Ok(())
}

fn account(tenant: TenantId, n: u64) -> Uuid {
    Uuid::new_v5(&tenant.0, &n.to_be_bytes())
}

fn key(n: u64) -> RoleName {
    // Fits by its form.
    RoleName::parse(&format!("role{n}")).unwrap_or_else(|_| unreachable!("a role's key"))
}

fn definition(n: u64) -> Result<Definition, BenchError> {
    let rule = |action: &str, condition: Option<Value>| -> Result<Rule, BenchError> {
        let action = ActionPattern::parse(action).map_err(refused)?;
        Ok(Rule { effect: Effect::Allow, action, condition, own: false })
    };
    let rules = vec![
        rule("device.read", None)?,
        rule(
            "device.rename",
            Some(json!({
                "or": [{ "site": { "eq": format!("Site {n}") } }, { "site": { "eq": "Roof" } }], "maxPowerW": { "lt": 100_000 },
            })),
        )?,
        rule("grant.*", None)?,
    ];
    let name = Name::parse("A role").map_err(refused)?;
    Ok(Definition { key: key(n), name, description: Description::default(), rules, fields: vec![], preset: None })
}

fn refused(error: impl std::error::Error + Send + Sync + 'static) -> BenchError {
    BenchError::Execute(Box::new(error))
}

async fn fill(executor: &Executor, tenant: TenantId, members: u64, roles: u64) -> Result<(), BenchError> {
    eprintln!("filling a tenant of {members} members and {roles} roles");
    let actor = Actor { id: Uuid::from_u128(1), kind: ActorKind::Account };
    let admin = Credential::new(actor, tenant, vec![Role::TenantAdmin], None);
    for n in 0..roles {
        let command = authorize(&admin, tenant, RoleCommand::Define(definition(n)?)).map_err(refused)?;
        executor.execute::<DefinedRole>(command, role_id(tenant, &key(n)), Call::default()).await.map_err(refused)?;
    }
    let mut tasks: JoinSet<Result<(), BenchError>> = JoinSet::new();
    for n in 0..members {
        while tasks.len() >= FILL_TASKS {
            if let Some(Ok(done)) = tasks.join_next().await {
                done?;
            }
        }
        let (executor, admin) = (executor.clone(), admin.clone());
        tasks.spawn(async move {
            let account = AccountId(account(tenant, n));
            let custom = (0..HELD).map(|k| key((n * HELD + k * 7) % roles)).collect();
            let command = MembershipCommand::Add { account, roles: Roles { built_in: [].into(), custom } };
            let command = authorize(&admin, tenant, command).map_err(refused)?;
            let id = membership_id(tenant, account).0;
            executor.execute::<Membership>(command, id, Call::default()).await.map_err(refused)?;
            Ok(())
        });
    }
    while let Some(Ok(done)) = tasks.join_next().await {
        done?;
    }
    Ok(())
}

/// The member that is next: spread, and the same each time.
fn spread(n: u64, members: u64) -> u64 {
    n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407) % members
}

/// Median and 99th percentile.
fn percentiles(mut times: Vec<f64>) -> (f64, f64) {
    times.sort_by(f64::total_cmp);
    let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or(f64::NAN);
    (at(50), at(99))
}

/// What the machine takes for it: one look into a map with an entry for every member, and into what that points to.
fn bare(sizes: &[(u64, u64)], questions: u64, table: &mut String) {
    let mut p99s = Vec::new();
    for (members, _) in sizes {
        let tenant = TenantId(Uuid::from_u128(7));
        let map: std::collections::HashMap<(TenantId, Uuid), Arc<[u64; 8]>> =
            (0..*members).map(|n| ((tenant, account(tenant, n)), Arc::new([n; 8]))).collect();
        let mut times = Vec::new();
        for n in 0..questions {
            let key = (tenant, account(tenant, spread(n, *members)));
            let begun = Instant::now();
            std::hint::black_box(map.get(&key).map(|entry| entry[3]));
            times.push(begun.elapsed().as_secs_f64() * 1e6);
        }
        let (p50, p99) = percentiles(times);
        let _ = writeln!(table, "| one look into a map of {members} | p50 {p50:.2}, p99 {p99:.2} µs |");
        p99s.push(p99);
    }
    let _ = writeln!(table, "| p99 of a look into the large map against the small one | {:.2} |", p99s[1] / p99s[0]);
}

/// A member asks, is authorized by its roles and the device's record, and the command is written.
async fn whole(
    executor: &Executor,
    rules: &Rules,
    tenants: &[(TenantId, u64, u64)],
    commands: u64,
    table: &mut String,
) -> Result<(), BenchError> {
    let mut devices = Vec::new();
    for (tenant, ..) in tenants {
        devices.push(crate::load::devices(executor, *tenant, 200).await?);
    }
    // Everybody once: what the first time costs is told above.
    for &(tenant, members, _) in tenants {
        for n in 0..members {
            let actor = Actor { id: account(tenant, n), kind: ActorKind::Account };
            rules.complete(Credential::new(actor, tenant, vec![], None)).await.map_err(refused)?;
        }
    }
    let mut times = vec![Vec::new(); tenants.len()];
    for n in 0..commands {
        for ((&(tenant, members, _), devices), times) in tenants.iter().zip(&devices).zip(&mut times) {
            let actor = Actor { id: account(tenant, spread(n, members)), kind: ActorKind::Account };
            let credential = Credential::new(actor, tenant, vec![], None);
            let name = Name::parse(&format!("Device {}", Real.uuid_v4())).map_err(refused)?;
            #[allow(clippy::cast_possible_truncation)]
            let device = devices[n as usize % devices.len()];
            let begun = Instant::now();
            let complete = rules.complete(credential).await.map_err(refused)?;
            let authorized = authorize(&complete, tenant, DeviceCommand::Rename { name }).map_err(refused)?;
            executor.execute::<Device>(authorized, device, Call::default()).await.map_err(refused)?;
            times.push(begun.elapsed().as_secs_f64() * 1e6);
        }
    }
    let mut p99s = Vec::new();
    for ((_, members, roles), times) in tenants.iter().zip(times) {
        let (p50, p99) = percentiles(times);
        let _ = writeln!(
            table,
            "| a whole command of a member at random, on disk, {members} members, {roles} roles | p50 {p50:.0}, p99 {p99:.0} µs |"
        );
        p99s.push(p99);
    }
    let _ = writeln!(table, "| p99 of a whole command, many against few | {:.2} |", p99s[1] / p99s[0]);
    Ok(())
}

/// Median and 99th percentile in µs: of members that are asked about for the first time, and of those remembered.
async fn ask(rules: &Rules, tenant: TenantId, members: u64, questions: u64) -> Result<[(f64, f64); 2], BenchError> {
    let mut asked = std::collections::HashSet::new();
    let mut times: [Vec<f64>; 2] = [Vec::new(), Vec::new()];
    for n in 0..questions {
        let member = spread(n, members);
        let actor = Actor { id: account(tenant, member), kind: ActorKind::Account };
        let credential = Credential::new(actor, tenant, vec![], None);
        let command = DeviceCommand::Rename { name: Name::parse("New").map_err(refused)? };
        let begun = Instant::now();
        let complete = rules.complete(credential).await.map_err(refused)?;
        let authorized = authorize(&complete, tenant, command).map_err(refused)?;
        let took = begun.elapsed().as_secs_f64() * 1e6;
        std::hint::black_box(authorized);
        times[usize::from(!asked.insert(member))].push(took);
    }
    Ok(times.map(percentiles))
}

/// The door alone.
fn alone(table: &mut String) -> Result<(), BenchError> {
    const TIMES: u32 = 100_000;
    let tenant = TenantId(Real.uuid_v4());
    let actor = Actor { id: Real.uuid_v4(), kind: ActorKind::Account };
    let roles = (0..20).map(definition).collect::<Result<Vec<_>, _>>()?.into_iter().map(|of| {
        let rules =
            daybook_domain::rules::RoleRules { key: of.key.as_str().to_owned(), rules: of.rules, fields: of.fields };
        Arc::new(rules)
    });
    let many = Arc::new(daybook_domain::rules::Permissions::compile(roles.collect(), find));
    let built_in = Credential::new(actor, tenant, vec![Role::TenantAdmin], None);
    let custom = Credential::new(actor, tenant, vec![], None).with_permissions(many);
    for (name, credential) in [("built-in roles", &built_in), ("20 roles with 20 conditions", &custom)] {
        let name_of = Name::parse("New").map_err(refused)?;
        let begun = Instant::now();
        for _ in 0..TIMES {
            let command = DeviceCommand::Rename { name: name_of.clone() };
            std::hint::black_box(authorize(credential, tenant, command).map_err(refused)?);
        }
        let us = begun.elapsed().as_secs_f64() * 1e6 / f64::from(TIMES);
        let _ = writeln!(table, "| authorizing a command, {name} | {us:.2} µs |");
    }
    Ok(())
}
