//! Filters: the database and the interpreter in memory agree, a page shows every row once, and an index serves.

use crate::harness::{World, soon};
use crate::platform_pages::{by_index, filled, plan, tenants};
use chrono::{DateTime, TimeDelta, Utc};
use daybook_domain::{PLATFORM_TENANT, TenantId};
use daybook_projections::audit::{self, AuditField, AuditRow, DeniedField, DeniedRow, denied_page};
use daybook_projections::energy::devices::{self, DeviceField, DeviceOrder, DeviceOrderBy};
use daybook_projections::engine::Lanes;
use daybook_projections::platform::accounts::{self, AccountField, AccountFilter, AccountOrderBy};
use daybook_projections::platform::grants::{self, GrantField, GrantFilter, Tables};
use daybook_projections::platform::members::{self, MemberField, MemberFilter};
use daybook_projections::platform::modules::{self, ModuleField, ModuleFilter, ModuleOrderBy};
use daybook_projections::platform::tenants::{self as tenant_rows, TenantField, TenantOrder, TenantOrderBy};
use daybook_projections::read::condition::RowRule;
use daybook_projections::read::filter::{Field, Filter, Pattern, Test, Value};
use daybook_projections::read::{Direction, Page, Slice};
use daybook_projections::{Accounts, Members, Modules, ReadError, Scope, read_models};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::fmt::Debug;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

const TREES: usize = 120;
const ROWS: usize = 240;

/// Whom the rows belong to, and somebody else who has the same.
const OWN: TenantId = TenantId(Uuid::from_u128(0xA));
const OTHER: TenantId = TenantId(Uuid::from_u128(0xB));

/// Names that mean something to patterns, to SQL, or to whoever sorts texts.
const NAMES: [&str; 16] = [
    "a",
    "ab",
    "ab%",
    "a_b",
    "a\\b",
    "a\\",
    "abc",
    "abd",
    "b",
    "z'; drop table x; --",
    "ä",
    "äb",
    "\u{d7ff}",
    "\u{e000}",
    "😀",
    "\u{10ffff}x",
];

fn moment(n: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::microseconds(1_700_000_000_000_000 + n)
}

fn now() -> DateTime<Utc> {
    moment(5)
}

fn pick<'a, T>(rng: &mut StdRng, from: &'a [T]) -> &'a T {
    &from[rng.random_range(0..from.len())]
}

/// Two tenants with rows of every kind, absent values among them. Ids differ, and all else has ties.
async fn with_rows(rng: &mut StdRng) -> World {
    let world = World::new().await;
    let (projections, task) = world.start_all(&read_models());
    for model in ["tenants", "accounts", "members", "modules", "grants", "devices", "audit"] {
        projections.progress().wait(model, Lanes::All, 0, soon()).await.unwrap();
    }
    projections.shutdown();
    task.await.unwrap();
    let session = world.db.superuser().await;
    for tenant in [OWN, OTHER] {
        for n in 0..i64::try_from(ROWS).unwrap() {
            let id = Uuid::from_u128(rng.random());
            let (name, other) = (*pick(rng, &NAMES), *pick(rng, &NAMES));
            let none = rng.random_range(0..4) == 0;
            let (at, until) = (moment(rng.random_range(0..9)), moment(rng.random_range(0..9)));
            let text = (!none).then_some(other);
            let few = Uuid::from_u128(rng.random_range(0..5));
            let status = |rng: &mut StdRng, of: &[&'static str]| *pick(rng, of);
            let state = status(rng, &["ACTIVE", "DECOMMISSIONED"]);
            let kind = status(rng, &["PV", "WIND", "METER"]);
            let insert =
                "insert into read.devices_v1 values ($1, $2, $3, $3, $4, $5, $5, 's', 'UTC', 900, 'NET', 1, $6,
                null, null, 1, $7, $7, $8, $8)";
            let values: [&(dyn ToSql + Sync); 8] = [&tenant.0, &id, &name, &kind, &text, &state, &at, &n];
            session.execute(insert, &values).await.unwrap();

            // Like rows of people whose data was erased.
            let (key, erased) = (if none { "" } else { other }, none);
            let state = status(rng, &["ACTIVE", "DEACTIVATED"]);
            let insert =
                "insert into read.accounts_v1 values ($1, $2, 'N', $3, $4, 'E', $5, false, $6, null, 1, $7, $7,
                $8, $8)";
            let email = if rng.random_range(0..4) == 0 { "" } else { name };
            let of = if tenant == OWN { PLATFORM_TENANT } else { OTHER };
            let values: [&(dyn ToSql + Sync); 8] = [&of.0, &id, &key, &erased, &email, &state, &at, &n];
            session.execute(insert, &values).await.unwrap();

            let state = status(rng, &["GRANTED", "REVOKED"]);
            let until = (!none).then_some(until);
            let insert = "insert into read.grants_v1 values ($1, $2, $3, $4, $5, null, $6, $7, 'r', 1, $8, $8, $9, $9)";
            let module = Uuid::from_u128(rng.random_range(0..5));
            let values: [&(dyn ToSql + Sync); 9] = [&tenant.0, &id, &few, &module, &name, &until, &state, &at, &n];
            session.execute(insert, &values).await.unwrap();

            let (actor, command) = ((!none).then_some(few), (rng.random_range(0..4) > 0).then_some(id));
            // Time follows position within a tenant.
            let (at, position) = (moment(n / 20), n + 1);
            let insert =
                "insert into read.audit_v1 values ($1, $2, $3, $4, $5, null, null, null, $6, $7, $8, $9, 1, $10)";
            let values: [&(dyn ToSql + Sync); 10] =
                [&tenant.0, &position, &id, &at, &actor, &command, &text, &name, &few, &kind];
            session.execute(insert, &values).await.unwrap();

            let state = status(rng, &["ACTIVE", "SUSPENDED", "CLOSED"]);
            let plan = status(rng, &["FREE", "PRO"]);
            let insert =
                "insert into read.tenants_v1 values ($1, $2, $2, $3, $4, $5, '{}', null, null, null, false, null,
                null, 1, $6, $6, 1, 1)";
            let values: [&(dyn ToSql + Sync); 6] = [&id, &name, &plan, &state, &text, &at];
            session.execute(insert, &values).await.unwrap();

            let kind = status(rng, &["command", "read"]);
            let insert =
                "insert into projection.denied_attempts (tenant_id, minute, kind, actor, action, target, first_at,
                last_at, count) values ($1, $2, $3, $4, 'x', $5, now(), now(), 1)";
            let values: [&(dyn ToSql + Sync); 5] = [&tenant.0, &at, &kind, &actor, &id.to_string()];
            session.execute(insert, &values).await.unwrap();
        }
        let insert = "insert into read.members_v1 select $1::uuid, md5(n::text)::uuid, md5((n % 7)::text)::uuid, '{}',
            (array['ACTIVE', 'ENDED'])[1 + n % 2], null, 1, timestamptz 'epoch' + n % 13 * interval '1 s', now(), n, n
            from generate_series(0, 59) n";
        session.execute(insert, &[&tenant.0]).await.unwrap();
        // Grants name these.
        let insert = "insert into read.members_v1 select $1::uuid, ('00000000-0000-0000-0000-00000000000' || n)::uuid, md5('x')::uuid,
            '{}', (array['ACTIVE', 'ENDED'])[1 + n % 2], null, 1, timestamptz 'epoch', now(), n, n from generate_series(0, 3) n";
        session.execute(insert, &[&tenant.0]).await.unwrap();
        let insert = "insert into read.modules_v1 select $1::uuid, ('00000000-0000-0000-0000-00000000000' || n)::uuid,
            ($2::text[])[1 + n], 'N', ($2::text[])[5 - n], '1.0.0', (array['ENABLED', 'DISABLED'])[1 + n % 2], null, null,
            $2, 1, timestamptz 'epoch' + n % 2 * interval '1 s', now(), n, n from generate_series(0, 3) n";
        session.execute(insert, &[&tenant.0, &NAMES.map(str::to_owned).to_vec()]).await.unwrap();
    }
    session.batch_execute("analyze").await.unwrap();
    world
}

/// A value to compare with: most often one that a row has.
fn any_value<F: Field>(rng: &mut StdRng, field: F, rows: &[F::Row]) -> Option<Value> {
    let value = (0..20).find_map(|_| field.value(pick(rng, rows)));
    Some(match value? {
        Value::Text(_) if rng.random_range(0..3) == 0 => Value::from(*pick(rng, &NAMES)),
        Value::At(at) => Value::from(at + TimeDelta::microseconds(rng.random_range(-1..=1))),
        Value::Whole(whole) => Value::from(whole + rng.random_range(-1..=1)),
        Value::Id(_) if rng.random_range(0..5) == 0 => Value::from(Uuid::from_u128(99)),
        value => value,
    })
}

fn any_test<F: Field>(rng: &mut StdRng, field: F, rows: &[F::Row]) -> Test {
    let Some(value) = any_value(rng, field, rows) else { return Test::IsNull(true) };
    let several = |rng: &mut StdRng| {
        let count = rng.random_range(0..4);
        (0..count).filter_map(|_| any_value(rng, field, rows)).collect::<Vec<_>>()
    };
    let operators = match value {
        Value::Flag(_) => 2,
        Value::Id(_) => 5,
        Value::At(_) | Value::Whole(_) => 9,
        Value::Text(_) => 11,
    };
    match rng.random_range(0..operators) {
        0 => Test::Eq(value),
        1 => Test::Ne(value),
        2 => Test::In(several(rng)),
        3 => Test::NotIn(several(rng)),
        4 => Test::IsNull(rng.random()),
        5 => Test::Lt(value),
        6 => Test::Lte(value),
        7 => Test::Gt(value),
        8 => Test::Gte(value),
        other => {
            let Value::Text(text) = value else { return Test::Eq(value) };
            let keep = rng.random_range(0..=text.chars().count());
            let start: String = text.chars().take(keep).collect();
            if other == 9 {
                return Test::StartsWith(start);
            }
            let escaped: String = start.chars().flat_map(|c| ['\\', c]).collect();
            let pattern = match rng.random_range(0..5) {
                0 => format!("{escaped}%"),
                1 => format!("%{escaped}"),
                2 => format!("_{escaped}%"),
                3 => format!("%{escaped}_%_"),
                _ => escaped,
            };
            Test::Like(Pattern::parse(&pattern, str::to_owned).unwrap())
        }
    }
}

fn any_tree<F: Field>(rng: &mut StdRng, fields: &[F], rows: &[F::Row], depth: usize) -> Filter<F> {
    let several = |rng: &mut StdRng| {
        let count = rng.random_range(0..4);
        (0..count).map(|_| any_tree(rng, fields, rows, depth - 1)).collect::<Vec<_>>()
    };
    match rng.random_range(0..if depth == 0 { 1 } else { 5 }) {
        1 => Filter::And(several(rng)),
        2 => Filter::Or(several(rng)),
        3 => Filter::Not(Box::new(any_tree(rng, fields, rows, depth - 1))),
        _ => {
            let field = *pick(rng, fields);
            Filter::Is(field, any_test(rng, field, rows))
        }
    }
}

/// What the database answers is what the interpreter says, forwards, backwards, counted, and of the complement.
async fn agrees<F, C>(
    rng: &mut StdRng,
    fields: &[F],
    page: impl AsyncFn(&Filter<F>, &Page<C>) -> Result<Slice<F::Row>, ReadError>,
    count: impl AsyncFn(&Filter<F>) -> Option<u64>,
    cursor: impl Fn(&F::Row) -> C,
) where
    F: Field<Row: Clone + PartialEq + Debug>,
    C: Clone,
{
    let all = page(&Filter::default(), &Page::first(10_000, None)).await.unwrap().rows;
    assert!(all.len() > 3, "{} rows", all.len());
    let (mut some, mut none) = (0, 0);
    for _ in 0..TREES {
        let tree = any_tree(rng, fields, &all, 4);
        let not = Filter::Not(Box::new(tree.clone()));
        let (expected, others): (Vec<F::Row>, Vec<F::Row>) = all.iter().cloned().partition(|row| tree.holds(row));
        if expected.is_empty() {
            none += 1
        } else {
            some += 1
        }
        for (filter, expected) in [(&tree, &expected), (&not, &others)] {
            let forwards = rng.random_range(0..2) == 0;
            let (mut read, mut at) = (Vec::new(), None);
            loop {
                let size = rng.random_range(1..150);
                let asked = if forwards { Page::first(size, at) } else { Page::last(size, at) };
                let slice = page(filter, &asked).await.unwrap_or_else(|error| panic!("{error:?}\n{filter:#?}"));
                let (more, edge) = match forwards {
                    true => (slice.has_next, slice.rows.last().map(&cursor)),
                    false => (slice.has_previous, slice.rows.first().map(&cursor)),
                };
                at = edge;
                let place = if forwards { read.len() } else { 0 };
                read.splice(place..place, slice.rows);
                if !more {
                    break;
                }
            }
            assert_eq!(read, *expected, "{filter:#?}");
            if let Some(count) = count(filter).await {
                assert_eq!(count, expected.len() as u64, "{filter:#?}");
            }
        }
    }
    assert!(some > TREES / 4 && none > 0, "of {TREES} trees, {some} hold of some rows and {none} of none");
}

#[tokio::test]
async fn the_database_and_memory_agree_on_every_filter_and_pages_show_each_row_once() {
    let mut rng = StdRng::seed_from_u64(17);
    let world = with_rows(&mut rng).await;
    let reader = world.reader();
    let own = reader.begin(Scope::Tenant(OWN)).await.unwrap();
    for (by, direction) in
        [(DeviceOrderBy::Name, Direction::Ascending), (DeviceOrderBy::RegisteredAt, Direction::Descending)]
    {
        let order = DeviceOrder { by, direction };
        use DeviceField::*;
        agrees(
            &mut rng,
            &[Id, Name, Kind, Serial, Status, RegisteredAt],
            async |filter, page| devices::page(&own, OWN, filter, &RowRule::all(), order, page).await,
            async |filter| Some(devices::count(&own, OWN, filter, &RowRule::all()).await.unwrap()),
            |row| row.cursor(by),
        )
        .await;
    }
    let platform = reader.begin(Scope::Tenant(PLATFORM_TENANT)).await.unwrap();
    {
        use AccountField::*;
        agrees(
            &mut rng,
            &[Id, Name, Email, Status, RegisteredAt],
            async |filter, page| {
                accounts::page(&platform, filter, AccountOrderBy::Email, Direction::Descending, page).await
            },
            async |filter| Some(accounts::count(&platform, filter).await.unwrap()),
            |row| row.cursor(AccountOrderBy::Email),
        )
        .await;
    }
    {
        use GrantField::*;
        agrees(
            &mut rng,
            &[Id, Member, Module, Role, Until, GrantedAt, Allowed],
            async |filter, page| grants::page(&own, OWN, filter, now(), Direction::Ascending, page).await,
            async |filter| Some(grants::count(&own, OWN, filter, now()).await.unwrap()),
            |view| view.grant.cursor(),
        )
        .await;
    }
    {
        use MemberField::*;
        agrees(
            &mut rng,
            &[Id, Account, Status, AddedAt],
            async |filter, page| members::page(&own, OWN, filter, Direction::Ascending, page).await,
            async |filter| Some(members::count(&own, OWN, filter).await.unwrap()),
            |row| row.cursor(),
        )
        .await;
    }
    {
        use ModuleField::*;
        agrees(
            &mut rng,
            &[Id, Key, Name, Status, RegisteredAt],
            async |filter, page| {
                modules::page(&own, OWN, filter, ModuleOrderBy::Name, Direction::Descending, page).await
            },
            async |filter| Some(modules::count(&own, OWN, filter).await.unwrap()),
            |row| row.cursor(ModuleOrderBy::Name),
        )
        .await;
    }
    {
        use AuditField::*;
        agrees(
            &mut rng,
            &[Ordinal, RecordedAt, Actor, SubjectType, Subject, EventType, CommandId, Correlation],
            async |filter, page| audit::page(&own, OWN, filter, page).await,
            async |_| None,
            AuditRow::cursor,
        )
        .await;
    }
    {
        use DeniedField::*;
        agrees(
            &mut rng,
            &[Actor, Kind, Minute],
            async |filter, page| denied_page(&own, OWN, filter, page).await,
            async |_| None,
            DeniedRow::cursor,
        )
        .await;
    }
    let everyone = reader.begin(Scope::Platform).await.unwrap();
    let order = TenantOrder { by: TenantOrderBy::Name, direction: Direction::Ascending };
    {
        use TenantField::*;
        agrees(
            &mut rng,
            &[Id, Name, Plan, Status, Domain, RegisteredAt],
            async |filter, page| tenant_rows::page(&everyone, filter, order, page).await,
            async |filter| Some(tenant_rows::count(&everyone, filter).await.unwrap()),
            |row| row.cursor(TenantOrderBy::Name),
        )
        .await;
    }
}

#[tokio::test]
async fn no_filter_shows_what_another_tenant_has() {
    let mut rng = StdRng::seed_from_u64(3);
    let world = with_rows(&mut rng).await;
    let own = world.reader().begin(Scope::Tenant(OWN)).await.unwrap();
    let order = DeviceOrder { by: DeviceOrderBy::Name, direction: Direction::Ascending };
    let everything: [Filter<DeviceField>; 4] = [
        Filter::default(),
        Filter::Not(Box::new(Filter::Or(vec![]))),
        Filter::Or(vec![Filter::default(), Filter::Is(DeviceField::Serial, Test::IsNull(true))]),
        Filter::Or(vec![
            Filter::Is(DeviceField::Name, Test::Eq("a".into())),
            Filter::Is(DeviceField::Name, Test::Ne("a".into())),
        ]),
    ];
    let page = Page::first(10_000, None);
    for filter in &everything {
        let rows = devices::page(&own, OWN, filter, &RowRule::all(), order, &page).await.unwrap().rows;
        assert_eq!(rows.len(), ROWS, "{filter:?}");
        assert!(rows.iter().all(|row| row.tenant_id == OWN.0));
        // Of another tenant, the row policies show nothing, whatever is asked for.
        assert_eq!(devices::page(&own, OTHER, filter, &RowRule::all(), order, &page).await.unwrap().rows, []);
        assert_eq!(devices::count(&own, OTHER, filter, &RowRule::all()).await.unwrap(), 0);
    }
}

fn is<F: Field>(field: F, test: Test) -> Filter<F> {
    Filter::Is(field, test)
}

fn not<F>(filter: Filter<F>) -> Filter<F> {
    Filter::Not(Box::new(filter))
}

fn like(text: &str) -> Test {
    Test::Like(Pattern::parse(text, str::to_owned).unwrap())
}

fn one_of(texts: &[&str]) -> Vec<Value> {
    texts.iter().map(|text| Value::from(*text)).collect()
}

#[tokio::test]
async fn every_operator_that_an_index_can_serve_is_served_by_it() {
    let world = filled(6_000).await;
    let tenant = tenants()[0];
    let session = world.reader().begin(Scope::Tenant(tenant)).await.unwrap();
    let page = Page::first(50, None);
    let table = session.table::<Modules>().unwrap();
    use ModuleField::*;
    let between =
        |from: &str, to: &str| Filter::And(vec![is(Key, Test::Gte(from.into())), is(Key, Test::Lt(to.into()))]);
    for (filter, index) in [
        (is(Key, Test::In(one_of(&["k17", "k18", "k4000"]))), "by_key"),
        (between("k170", "k18"), "by_key"),
        (Filter::And(vec![is(Key, Test::Gt("k17".into())), is(Key, Test::Lte("k171".into()))]), "by_key"),
        (is(Key, Test::StartsWith("k123".into())), "by_key"),
        (is(Key, like("k12_4%")), "by_key"),
        (is(Name, Test::Eq("n17".into())), "by_name"),
        (is(Name, Test::StartsWith("n9".into())), "by_name"),
        (is(Id, Test::Eq(Uuid::from_u128(7).into())), "pkey"),
        (is(Id, Test::In(vec![Uuid::from_u128(7).into(), Uuid::from_u128(8).into()])), "pkey"),
        (
            is(RegisteredAt, Test::Lt("2024-01-01T00:00:02Z".parse::<DateTime<Utc>>().unwrap().into())),
            "by_registration",
        ),
        // What is wrapped up does not keep the rest from its index.
        (
            Filter::And(vec![is(Key, Test::StartsWith("k123".into())), not(is(Status, Test::Eq("ENABLED".into())))]),
            "by_key",
        ),
    ] {
        let query =
            modules::page_query(&table, tenant, &filter, ModuleOrderBy::Name, Direction::Ascending, &page).unwrap();
        let found = plan(&session, &query).await;
        assert!(found.contains(index) && !found.contains("Seq Scan"), "{index} {filter:?}\n{found}");
    }
    let tables = Tables::of(&session).unwrap();
    let end: DateTime<Utc> = "2024-06-02T00:00:00Z".parse().unwrap();
    let late: GrantFilter = is(GrantField::Until, Test::Gt(end.into()));
    let query = grants::page_query(&tables, tenant, &late, end, Direction::Ascending, &page).unwrap();
    let found = plan(&session, &query).await;
    assert!(found.contains("by_end") && !found.contains("Seq Scan on grants"), "{found}");
    let platform = world.reader().begin(Scope::Tenant(PLATFORM_TENANT)).await.unwrap();
    let table = platform.table::<Accounts>().unwrap();
    for test in [Test::StartsWith("e17@".into()), Test::In(one_of(&["e17@x.example", "e18@x.example"])), like("e17@%")]
    {
        let filter: AccountFilter = is(AccountField::Email, test);
        let query =
            accounts::page_query(&table, &filter, AccountOrderBy::RegisteredAt, Direction::Ascending, &page).unwrap();
        let found = plan(&platform, &query).await;
        assert!(found.contains("by_email") && !found.contains("Seq Scan"), "{filter:?}\n{found}");
    }
}

/// Whatever the planner believes of them, and however few rows they leave.
#[tokio::test]
async fn a_filter_that_no_index_serves_walks_the_order_of_the_tenant() {
    let world = filled(6_000).await;
    let tenant = tenants()[0];
    let session = world.reader().begin(Scope::Tenant(tenant)).await.unwrap();
    let table = session.table::<Modules>().unwrap();
    use ModuleField::*;
    let filters: Vec<ModuleFilter> = vec![
        is(Key, Test::Ne("k17".into())),
        is(Key, Test::NotIn(one_of(&["k17", "k18"]))),
        is(Key, like("%7")),
        is(Key, like("%no such%")),
        // They say the same, and the planner would take each for another.
        Filter::And(["%17", "%n17", "%17%", "n_7", "%1_", "%7"].map(|pattern| is(Name, like(pattern))).to_vec()),
        is(Key, like("k%7")),
        is(Status, Test::Ne("ENABLED".into())),
        not(is(Status, Test::Eq("ENABLED".into()))),
        not(Filter::Or(vec![is(Status, Test::Eq("ENABLED".into())), is(Name, Test::StartsWith("n1".into()))])),
        Filter::Or(vec![is(Key, Test::Eq("k17".into())), is(Name, Test::Eq("n3".into()))]),
        Filter::Or(vec![is(Key, Test::Eq("none".into())), is(Key, Test::Eq("nobody".into()))]),
        Filter::Or(vec![
            is(Key, like("%1")),
            not(Filter::And(vec![is(Name, like("%2%")), is(Status, Test::IsNull(false))])),
        ]),
    ];
    for filter in &filters {
        for (by, index) in [(ModuleOrderBy::Name, "by_name"), (ModuleOrderBy::RegisteredAt, "by_registration")] {
            for direction in [Direction::Ascending, Direction::Descending] {
                for page in [Page::first(50, None), Page::last(50, None)] {
                    let query = modules::page_query(&table, tenant, filter, by, direction, &page).unwrap();
                    let found = plan(&session, &query).await;
                    by_index(&found, &format!("{filter:?}"));
                    assert!(found.contains(index), "{index} {filter:?}\n{found}");
                    assert!(
                        found.contains("Index Cond: ((tenant_id = ") || found.contains("Index Cond: (tenant_id = "),
                        "{found}"
                    );
                }
            }
        }
    }
    let table = session.table::<Members>().unwrap();
    let former: MemberFilter = not(is(MemberField::Status, Test::Eq("ACTIVE".into())));
    let query = members::page_query(&table, tenant, &former, Direction::Ascending, &Page::first(50, None)).unwrap();
    let found = plan(&session, &query).await;
    by_index(&found, "former members");
    assert!(found.contains("by_addition"), "{found}");
}
