//! Pages of tenants: whole, in order, and by an index.

use crate::harness::World;
use daybook_projections::platform::tenants::{
    self, TenantCursor, TenantField, TenantFilter, TenantOrder, TenantOrderBy, TenantRow, page_query,
};
use daybook_projections::read::filter::Test;
use daybook_projections::read::{Direction, Page, ReadSession};
use daybook_projections::{Model, ReadError, Scope, Tenants};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio_postgres::types::ToSql;

const ORDERS: [TenantOrder; 4] = [
    TenantOrder { by: TenantOrderBy::RegisteredAt, direction: Direction::Ascending },
    TenantOrder { by: TenantOrderBy::RegisteredAt, direction: Direction::Descending },
    TenantOrder { by: TenantOrderBy::Name, direction: Direction::Ascending },
    TenantOrder { by: TenantOrderBy::Name, direction: Direction::Descending },
];

/// Many rows, put there directly; names and times with many ties.
async fn with_tenants(count: i32) -> World {
    let world = World::new().await;
    let (projections, task) = world.start(Model::of::<Tenants>());
    projections
        .progress()
        .wait("tenants", daybook_projections::engine::Lanes::All, 0, crate::harness::soon())
        .await
        .unwrap();
    projections.shutdown();
    task.await.unwrap();
    let session = world.db.superuser().await;
    session
        .execute(
            "insert into read.tenants_v1 select md5(n::text)::uuid, 'N' || n % 97, 'n' || n % 97, 'FREE', 'ACTIVE', null, '{}',
                 null, null, null, false, null, null, 1, timestamptz '2024-01-01' + (n * 7919 % 101) * interval '1 s', now(), n, n
             from generate_series(1, $1) n",
            &[&count],
        )
        .await
        .unwrap();
    session.batch_execute("analyze read.tenants_v1").await.unwrap();
    world
}

async fn page(session: &ReadSession, order: TenantOrder, page: &Page<TenantCursor>) -> (Vec<TenantRow>, bool, bool) {
    let slice = tenants::page(session, &TenantFilter::default(), order, page).await.unwrap();
    (slice.rows, slice.has_next, slice.has_previous)
}

#[tokio::test]
async fn pages_have_no_gap_or_duplicate() {
    let world = with_tenants(300).await;
    let session = world.reader().begin(Scope::Platform).await.unwrap();
    let mut rng = StdRng::seed_from_u64(11);
    for order in ORDERS {
        let (mut expected, _, _) = page(&session, order, &Page::first(1_000, None)).await;
        assert_eq!(expected.len(), 300);
        let read = expected.clone();
        expected.sort_by(|a, b| {
            let key = |row: &TenantRow| match row.cursor(order.by) {
                TenantCursor::RegisteredAt(at, id) => (at.to_rfc3339(), id),
                TenantCursor::Name(name, id) => (name, id),
            };
            match order.direction {
                Direction::Ascending => key(a).cmp(&key(b)),
                Direction::Descending => key(b).cmp(&key(a)),
            }
        });
        assert_eq!(read, expected, "{order:?}");
        for _ in 0..5 {
            let (mut forwards, mut after, mut more) = (Vec::new(), None, true);
            while more {
                let size = rng.random_range(1..60);
                let (rows, has_next, has_previous) = page(&session, order, &Page::first(size, after.clone())).await;
                assert_eq!(has_previous, after.is_some());
                assert!(rows.len() == usize::from(size) || !has_next);
                after = rows.last().map(|row| row.cursor(order.by));
                forwards.extend(rows);
                more = has_next;
            }
            assert_eq!(forwards, expected);
            let (mut backwards, mut before, mut more) = (Vec::new(), None, true);
            while more {
                let size = rng.random_range(1..60);
                let (rows, has_next, has_previous) = page(&session, order, &Page::last(size, before.clone())).await;
                assert_eq!(has_next, before.is_some());
                before = rows.first().map(|row| row.cursor(order.by));
                backwards.splice(0..0, rows);
                more = has_previous;
            }
            assert_eq!(backwards, expected);
            let (a, b) = (rng.random_range(0..150), rng.random_range(150..300));
            let between = Page {
                after: Some(expected[a].cursor(order.by)),
                before: Some(expected[b].cursor(order.by)),
                ..Page::first(300, None)
            };
            let (rows, has_next, _) = page(&session, order, &between).await;
            assert_eq!((rows.as_slice(), has_next), (&expected[a + 1..b], false));
        }
    }
    assert_eq!(tenants::count(&session, &TenantFilter::default()).await.unwrap(), 300);
    let foreign = Page::first(1, Some(TenantCursor::Name(String::new(), uuid::Uuid::nil())));
    assert!(matches!(
        tenants::page(&session, &TenantFilter::default(), ORDERS[0], &foreign).await,
        Err(ReadError::ForeignCursor)
    ));
}

#[tokio::test]
async fn every_page_is_read_by_an_index_under_the_row_policies() {
    let world = with_tenants(5_000).await;
    let session = world.reader().begin(Scope::Platform).await.unwrap();
    let table = session.table::<Tenants>().unwrap();
    for order in ORDERS {
        let (rows, _, _) = page(&session, order, &Page::first(2_500, None)).await;
        let middle = rows.last().unwrap().cursor(order.by);
        for asked in [
            Page::first(50, None),
            Page::last(50, None),
            Page::first(50, Some(middle.clone())),
            Page::last(50, Some(middle.clone())),
        ] {
            let (sql, parameters) =
                page_query(&table, Scope::Platform, &TenantFilter::default(), order, &asked).unwrap();
            let parameters: Vec<&(dyn ToSql + Sync)> = parameters.iter().map(|p| &**p as &(dyn ToSql + Sync)).collect();
            let plan = session
                .query(&format!("explain (analyze, costs off, timing off, summary off) {sql}"), &parameters)
                .await
                .unwrap();
            let plan: Vec<&str> = plan.iter().map(|row| row.get(0)).collect();
            let plan = plan.join("\n");
            assert!(!plan.contains("Sort") && !plan.contains("Seq Scan"), "{order:?} {asked:?}\n{plan}");
            let bounded = asked.after.is_some() || asked.before.is_some();
            assert_eq!(plan.contains("Index Cond: (ROW("), bounded, "{order:?} {asked:?}\n{plan}");
            assert!(!plan.contains("Rows Removed"), "{order:?} {asked:?}\n{plan}");
        }
    }
    use TenantField::*;
    let is = |field, test| TenantFilter::Is(field, test);
    let not_active = TenantFilter::Not(Box::new(TenantFilter::equals(Status, "ACTIVE")));
    let either = TenantFilter::Or(vec![TenantFilter::equals(Plan, "PRO"), TenantFilter::equals(Name, "n5")]);
    for (filter, index) in [
        (is(Name, Test::StartsWith("n96".into())), "by_name"),
        (is(Name, Test::In(vec!["n5".into(), "n6".into()])), "by_name"),
        (TenantFilter::equals(Plan, "PRO"), "by_plan"),
        (is(Status, Test::In(vec!["CLOSED".into(), "SUSPENDED".into()])), "by_status"),
        (TenantFilter::equals(Domain, "acme.example"), "by_domain"),
        (is(Domain, Test::StartsWith("acme.".into())), "by_domain"),
        (TenantFilter::equals(Id, uuid::Uuid::from_u128(7)), "pkey"),
        (is(Domain, Test::IsNull(false)), "by_registration"),
        (not_active, "by_registration"),
        (either, "by_registration"),
    ] {
        let (sql, parameters) =
            page_query(&table, Scope::Platform, &filter, ORDERS[0], &Page::first(50, None)).unwrap();
        let found = crate::platform_pages::plan(&session, &(sql, parameters)).await;
        assert!(found.contains(index) && !found.contains("Seq Scan"), "{index} {filter:?}\n{found}");
        assert!(index != "by_registration" || !found.contains("Sort"), "{filter:?}\n{found}");
    }
    session.finish().await.unwrap();

    let one = daybook_domain::TenantId(uuid::Uuid::from_u128(0xc4ca_4238_a0b9_2382_0dcc_509a_6f75_849b));
    let session = world.reader().begin(Scope::Tenant(one)).await.unwrap();
    assert!(tenants::tenant(&session, one).await.unwrap().is_some());
    // Alone in its scope, it is not looked for among all the others.
    for order in ORDERS {
        let (rows, has_next, _) = page(&session, order, &Page::first(50, None)).await;
        assert_eq!((rows.len(), has_next), (1, false));
        let (sql, _) =
            page_query(&table, session.scope(), &TenantFilter::default(), order, &Page::first(50, None)).unwrap();
        let plan = session.query(&format!("explain (costs off) {sql}"), &[&51i64, &one.0]).await.unwrap();
        let plan: Vec<&str> = plan.iter().map(|row| row.get(0)).collect();
        assert!(plan.join("\n").contains("Index Cond: (tenant_id ="), "{plan:#?}");
    }
    assert_eq!(tenants::count(&session, &TenantFilter::default()).await.unwrap(), 1);
    session.finish().await.unwrap();
}
