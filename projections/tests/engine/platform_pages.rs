//! Pages of accounts, members, modules and grants: whole, in order, and by an index.

use crate::harness::World;
use crate::platform::{NAMES, models};
use chrono::{DateTime, TimeDelta, Utc};
use daybook_domain::{PLATFORM_TENANT, TenantId};
use daybook_projections::engine::Lanes;
use daybook_projections::platform::accounts::{self, AccountField, AccountFilter, AccountOrderBy};
use daybook_projections::platform::grants::{self, GrantField, GrantFilter, GrantView, Tables};
use daybook_projections::platform::members::{self, MemberField, MemberFilter};
use daybook_projections::platform::modules::{self, ModuleField, ModuleFilter, ModuleOrderBy};
use daybook_projections::read::{Direction, Keyset, Page, SortKey};
use daybook_projections::{Accounts, Members, Modules, ReadError, ReadSession, Scope};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

const DIRECTIONS: [Direction; 2] = [Direction::Ascending, Direction::Descending];

/// Two tenants of equally many rows, put there directly; times and names with many ties.
const FILL: &str = "
 insert into read.accounts_v1 select $1::uuid, md5('a' || n)::uuid, 'N' || n % 97, 'n' || n % 97, false,
     'E' || n % 4001 || '@x.example', 'e' || n % 4001 || '@x.example', false,
     case n % 9 when 0 then 'DEACTIVATED' else 'ACTIVE' end, null, 1,
     timestamptz '2024-01-01' + (n * 7919 % 101) * interval '1 s', now(), n, n
 from generate_series(1, $2::int) n;
 insert into read.members_v1 select t, md5('m' || n)::uuid, md5('a' || n)::uuid, '{member}',
     case n % 9 when 0 then 'ENDED' else 'ACTIVE' end, null, 1,
     timestamptz '2024-01-01' + (n * 7919 % 101) * interval '1 s', now(), n, n
 from generate_series(1, $2::int) n, unnest($3::uuid[]) t;
 insert into read.modules_v1 select t, md5('o' || n)::uuid, 'k' || n, 'N' || n % 97, 'n' || n % 97, '1.0.0',
     case n % 9 when 0 then 'DISABLED' else 'ENABLED' end, null, null, '{reader,planner}', 1,
     timestamptz '2024-01-01' + (n * 7919 % 101) * interval '1 s', now(), n, n
 from generate_series(1, $2::int) n, unnest($3::uuid[]) t;
 insert into read.grants_v1 select t, md5('g' || n)::uuid, md5('m' || n % 200)::uuid, md5('o' || n % 150)::uuid,
     (array['reader', 'planner', 'gone'])[1 + n % 3], null,
     case n % 4 when 0 then timestamptz '2024-06-01' end, case when n % 10 < 7 then 'REVOKED' else 'GRANTED' end, 'r', 1,
     timestamptz '2024-01-01' + (n * 7919 % 101) * interval '1 s', now(), n, n
 from generate_series(1, $2::int) n, unnest($3::uuid[]) t";

pub(crate) fn tenants() -> [TenantId; 2] {
    [1, 2].map(|n| TenantId(Uuid::from_u128(n)))
}

pub(crate) async fn filled(count: i32) -> World {
    let world = World::new().await;
    let (projections, task) = world.start_all(&models());
    for name in NAMES {
        projections.progress().wait(name, Lanes::All, 0, crate::harness::soon()).await.unwrap();
    }
    projections.shutdown();
    task.await.unwrap();
    let session = world.db.superuser().await;
    let tenants: Vec<Uuid> = tenants().iter().map(|tenant| tenant.0).collect();
    for statement in FILL.split(';') {
        let all: [&(dyn ToSql + Sync); 3] = [&PLATFORM_TENANT.0, &count, &tenants];
        // A statement has only the parameters that it names.
        let text = if statement.contains("$3") { statement.replace("$3", "$1") } else { statement.to_owned() };
        let first: &(dyn ToSql + Sync) = if statement.contains("$3") { all[2] } else { all[0] };
        session.execute(&text, &[first, all[1]]).await.unwrap();
    }
    for name in NAMES {
        session.batch_execute(&format!("analyze read.{name}_v1")).await.unwrap();
    }
    world
}

/// Read before the end of every term of [`FILL`].
fn now() -> DateTime<Utc> {
    "2024-05-01T00:00:00Z".parse().unwrap()
}

async fn grants_page(
    session: &ReadSession,
    filter: &GrantFilter,
    direction: Direction,
    page: &Page<Keyset>,
) -> (Vec<GrantView>, bool, bool) {
    let slice = grants::page(session, tenants()[0], filter, now(), direction, page).await.unwrap();
    (slice.rows, slice.has_next, slice.has_previous)
}

#[tokio::test]
async fn pages_of_grants_have_no_gap_or_duplicate() {
    let world = filled(300).await;
    let session = world.reader().begin(Scope::Tenant(tenants()[0])).await.unwrap();
    let mut rng = StdRng::seed_from_u64(5);
    for allowed in [None, Some(true), Some(false)] {
        let filter = allowed.map_or_else(GrantFilter::default, |a| GrantFilter::equals(GrantField::Allowed, a));
        let count = grants::count(&session, tenants()[0], &filter, now()).await.unwrap();
        for direction in DIRECTIONS {
            let (expected, _, _) = grants_page(&session, &filter, direction, &Page::first(1_000, None)).await;
            assert_eq!(expected.len() as u64, count);
            let place = |view: &GrantView| (view.grant.granted_at, view.grant.grant_id);
            let mut sorted = expected.clone();
            sorted.sort_by_key(place);
            if direction == Direction::Descending {
                sorted.reverse();
            }
            assert_eq!(sorted, expected);
            let (mut forwards, mut after, mut more) = (Vec::new(), None, true);
            while more {
                let size = rng.random_range(1..40);
                let (rows, has_next, _) = grants_page(&session, &filter, direction, &Page::first(size, after)).await;
                after = rows.last().map(|view| view.grant.cursor());
                forwards.extend(rows);
                more = has_next;
            }
            assert_eq!(forwards, expected);
            let (mut backwards, mut before, mut more) = (Vec::new(), None, true);
            while more {
                let size = rng.random_range(1..40);
                let (rows, _, has_previous) =
                    grants_page(&session, &filter, direction, &Page::last(size, before)).await;
                before = rows.first().map(|view| view.grant.cursor());
                backwards.splice(0..0, rows);
                more = has_previous;
            }
            assert_eq!(backwards, expected);
        }
    }
    let foreign = Page::first(1, Some(Keyset { key: SortKey::Text(String::new()), id: Uuid::nil() }));
    let filter = GrantFilter::default();
    let refused = grants::page(&session, tenants()[0], &filter, now(), Direction::Ascending, &foreign).await;
    assert!(matches!(refused, Err(ReadError::ForeignCursor)));
}

pub(crate) type Query = (String, Vec<Box<dyn ToSql + Sync + Send>>);

pub(crate) async fn plan(session: &ReadSession, (sql, parameters): &Query) -> String {
    let parameters: Vec<&(dyn ToSql + Sync)> = parameters.iter().map(|p| &**p as &(dyn ToSql + Sync)).collect();
    let explain = format!("explain (analyze, costs off, timing off, summary off) {sql}");
    let rows = session.query(&explain, &parameters).await.unwrap();
    rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>().join("\n")
}

/// The pages that a list is asked for, at both ends and from the middle.
fn pages(middle: SortKey) -> Vec<Page<Keyset>> {
    let cursor = Keyset { key: middle, id: Uuid::from_u128(u128::MAX / 2) };
    vec![
        Page::first(50, None),
        Page::last(50, None),
        Page::first(50, Some(cursor.clone())),
        Page::last(50, Some(cursor)),
    ]
}

fn middle_time() -> SortKey {
    SortKey::At("2024-01-01T00:00:50Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::zero())
}

fn middle_of(by_time: bool, text: &str) -> SortKey {
    if by_time { middle_time() } else { SortKey::Text(text.to_owned()) }
}

/// No sorting but of what a tie leaves, no table read from end to end.
pub(crate) fn by_index(plan: &str, asked: &str) {
    assert!(!plan.contains("Seq Scan"), "{asked}\n{plan}");
    assert!(!plan.contains("Sort"), "{asked}\n{plan}");
    assert!(plan.contains("Index"), "{asked}\n{plan}");
}

#[tokio::test]
async fn every_list_of_the_platform_is_read_by_an_index_under_the_row_policies() {
    let world = filled(6_000).await;
    let platform = world.reader().begin(Scope::Tenant(PLATFORM_TENANT)).await.unwrap();
    let table = platform.table::<Accounts>().unwrap();
    for by in [AccountOrderBy::RegisteredAt, AccountOrderBy::Name, AccountOrderBy::Email] {
        for direction in DIRECTIONS {
            let middle = match by {
                AccountOrderBy::Email => middle_of(false, "e4@x.example"),
                AccountOrderBy::RegisteredAt | AccountOrderBy::Name => middle_of(by != AccountOrderBy::Name, "n5"),
            };
            for page in pages(middle) {
                let query = accounts::page_query(&table, &AccountFilter::default(), by, direction, &page).unwrap();
                by_index(&plan(&platform, &query).await, &format!("{by:?} {direction:?} {page:?}"));
            }
        }
    }
    let status = AccountFilter::equals(AccountField::Status, "DEACTIVATED");
    for page in pages(middle_time()) {
        let query = accounts::page_query(&table, &status, AccountOrderBy::RegisteredAt, DIRECTIONS[0], &page).unwrap();
        by_index(&plan(&platform, &query).await, &format!("deactivated {page:?}"));
    }
    let email = AccountFilter::equals(AccountField::Email, "e17@x.example");
    let page = Page::first(50, None);
    let query = accounts::page_query(&table, &email, AccountOrderBy::RegisteredAt, DIRECTIONS[0], &page).unwrap();
    let found = plan(&platform, &query).await;
    assert!(found.contains("by_email") && !found.contains("Seq Scan"), "{found}");

    let tenant = tenants()[0];
    let session = world.reader().begin(Scope::Tenant(tenant)).await.unwrap();
    let table = session.table::<Members>().unwrap();
    for filter in [
        MemberFilter::default(),
        MemberFilter::equals(MemberField::Status, "ENDED"),
        MemberFilter::equals(MemberField::Status, "ACTIVE"),
    ] {
        for direction in DIRECTIONS {
            for page in pages(middle_time()) {
                let query = members::page_query(&table, tenant, &filter, direction, &page).unwrap();
                by_index(&plan(&session, &query).await, &format!("{filter:?} {direction:?} {page:?}"));
            }
        }
    }
    let account = MemberFilter::equals(MemberField::Account, Uuid::from_u128(5));
    let query = members::page_query(&table, tenant, &account, DIRECTIONS[0], &Page::first(50, None)).unwrap();
    let found = plan(&session, &query).await;
    assert!(found.contains("by_account") && !found.contains("Seq Scan"), "{found}");

    let table = session.table::<Modules>().unwrap();
    for by in [ModuleOrderBy::RegisteredAt, ModuleOrderBy::Name] {
        for status in [None, Some("DISABLED")] {
            for page in pages(middle_of(by == ModuleOrderBy::RegisteredAt, "n5")) {
                let is = |status| ModuleFilter::equals(ModuleField::Status, status);
                let filter = status.map_or_else(ModuleFilter::default, is);
                let query = modules::page_query(&table, tenant, &filter, by, DIRECTIONS[1], &page).unwrap();
                by_index(&plan(&session, &query).await, &format!("{by:?} {status:?} {page:?}"));
            }
        }
    }
    let key = ModuleFilter::equals(ModuleField::Key, "k17");
    let page = Page::first(50, None);
    let query = modules::page_query(&table, tenant, &key, ModuleOrderBy::Name, DIRECTIONS[0], &page).unwrap();
    let found = plan(&session, &query).await;
    assert!(found.contains("by_key") && !found.contains("Seq Scan"), "{found}");
}

#[tokio::test]
async fn every_list_of_grants_is_read_by_an_index_with_its_members_and_modules() {
    let world = filled(6_000).await;
    let tenant = tenants()[0];
    let session = world.reader().begin(Scope::Tenant(tenant)).await.unwrap();
    let tables = Tables::of(&session).unwrap();
    let row = session
        .query("select membership_id, module_id from read.grants_v1 where role = 'reader' limit 1", &[])
        .await
        .unwrap();
    let (member, module): (Uuid, Uuid) = (row[0].get(0), row[0].get(1));
    let any = GrantFilter::default();
    let (of_member, allowed) =
        (GrantFilter::equals(GrantField::Member, member), |allowed| GrantFilter::equals(GrantField::Allowed, allowed));
    for (filter, index) in [
        (any.clone(), "by_time"),
        (of_member.clone(), "by_member"),
        (GrantFilter::equals(GrantField::Module, module), "by_module"),
        (GrantFilter::equals(GrantField::Role, "gone"), "by_role"),
        (allowed(true), "open"),
        (allowed(false), "by_time"),
        (GrantFilter::And(vec![of_member, allowed(true)]), "by_member"),
    ] {
        for direction in DIRECTIONS {
            for page in pages(middle_time()) {
                let query = grants::page_query(&tables, tenant, &filter, now(), direction, &page).unwrap();
                let plan = plan(&session, &query).await;
                let asked = format!("{filter:?} {direction:?} {page:?}");
                assert!(!plan.contains("Seq Scan on grants"), "{asked}\n{plan}");
                assert!(plan.contains(index), "{index} {asked}\n{plan}");
            }
        }
    }
}
