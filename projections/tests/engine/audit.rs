//! The audit trail: a row per event, pages without gap or double, and each filter by an index.

use crate::harness::{Histories, World, registered, soon};
use chrono::{DateTime, TimeDelta, Utc};
use daybook_domain::TenantId;
use daybook_projections::audit::{
    self, AuditCursor, AuditField, AuditFilter, AuditRow, DeniedCursor, DeniedField, DeniedFilter, Trail, Wanted,
    denied_page, denied_query, history, history_query, history_within, page_query,
};
use daybook_projections::engine::Lanes;
use daybook_projections::read::filter::Test;
use daybook_projections::read::{Page, ReadSession};
use daybook_projections::{Audit, Model, Scope};
use daybook_store::access::AttemptKind;
use daybook_store::journal::NewEvent;
use daybook_store::system::{Real, System};
use std::collections::BTreeSet;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

const TENANT: TenantId = TenantId(Uuid::from_u128(0xA));

async fn all(session: &ReadSession, tenant: TenantId) -> Vec<AuditRow> {
    let filter = AuditFilter::default();
    audit::page(session, tenant, &filter, &Page::first(10_000, None)).await.unwrap().rows
}

#[tokio::test]
async fn every_event_has_one_row_whatever_it_is_and_a_rebuild_gives_the_same() {
    let world = World::new().await;
    let (projections, task) = world.start(Model::series::<Audit>());
    let mut histories = Histories::new(5, 60);
    let mut last = histories.write(&world, 120).await;
    // Of a type that no program knows, with metadata that nobody can read, and sealed under a key that is lost.
    let strange = |metadata: &str, payload: &str| NewEvent {
        event_id: Real.uuid_v7(),
        event_type: "test.thing.happened".into(),
        event_version: 9,
        payload: payload.into(),
        metadata: metadata.into(),
    };
    let sealed = r#"{"x":{"$subject":"00000000-0000-0000-0000-0000000000ff","sealed":"AAAA"}}"#;
    for (n, event) in [strange("{}", "{}"), strange("not json", "{}"), strange("{}", sealed)].into_iter().enumerate() {
        last = world.append(TENANT, "thing", Uuid::from_u128(n as u128), 0, vec![event]).await;
    }
    world.reached(&projections, "audit", last).await;
    let tenants: Vec<TenantId> = histories.tenants.keys().copied().chain([TENANT]).collect();
    let mut live = Vec::new();
    for tenant in &tenants {
        let session = world.reader().begin(Scope::Tenant(*tenant)).await.unwrap();
        let rows = all(&session, *tenant).await;
        let positions: Vec<u64> = rows.iter().rev().map(|row| row.tenant_position).collect();
        assert_eq!(positions, (1..=rows.len() as u64).collect::<Vec<_>>(), "newest first, without a gap");
        assert!(rows.iter().all(|row| row.tenant == *tenant));
        // And nothing of anybody else.
        for other in tenants.iter().filter(|other| *other != tenant) {
            assert_eq!(all(&session, *other).await, []);
        }
        live.push(rows);
        session.finish().await.unwrap();
    }
    assert_eq!(live.iter().map(Vec::len).sum::<usize>() as u64, last, "as many rows as events");
    Model::series::<Audit>().rebuild(&world.parts(), &mut |_| {}).await.unwrap();
    for (tenant, live) in tenants.iter().zip(live) {
        let session = world.reader().begin(Scope::Tenant(*tenant)).await.unwrap();
        assert_eq!(session.series_version::<Audit>().unwrap(), 2);
        assert_eq!(all(&session, *tenant).await, live);
    }
    projections.shutdown();
    task.await.unwrap();
}

#[tokio::test]
async fn pages_have_no_gap_and_no_double_while_events_are_appended() {
    let world = World::new().await;
    let (projections, _task) = world.start(Model::series::<Audit>());
    let renamed = |n: u64| registered(&format!("Co {n}"), None);
    let mut last = 0;
    for n in 0..40 {
        last = world.append_tenant(TENANT, n, &[renamed(n)]).await;
    }
    world.reached(&projections, "audit", last).await;
    let (mut seen, mut after, mut appended) = (Vec::new(), None, 40);
    loop {
        let session = world.reader().begin(Scope::Tenant(TENANT)).await.unwrap();
        let slice = audit::page(&session, TENANT, &AuditFilter::default(), &Page::first(7, after)).await.unwrap();
        session.finish().await.unwrap();
        after = slice.rows.last().map(AuditRow::cursor);
        seen.extend(slice.rows.iter().map(|row| row.tenant_position));
        if !slice.has_next {
            break;
        }
        let last = world.append_tenant(TENANT, appended, &[renamed(appended)]).await;
        appended += 1;
        world.reached(&projections, "audit", last).await;
    }
    assert_eq!(seen, (1..=40).rev().collect::<Vec<u64>>());
    let session = world.reader().begin(Scope::Tenant(TENANT)).await.unwrap();
    let newer = Page { after: None, before: Some(AuditCursor(40)), ..Page::first(200, None) };
    let newer = audit::page(&session, TENANT, &AuditFilter::default(), &newer).await.unwrap();
    assert_eq!(newer.rows.len() as u64, appended - 40);
}

fn at(n: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::seconds(1_700_000_000 + n)
}

/// 50,000 rows of one tenant among those of others, put there directly.
async fn with_rows() -> World {
    let world = World::new().await;
    let (projections, task) = world.start(Model::series::<Audit>());
    projections.progress().wait("audit", Lanes::All, 0, soon()).await.unwrap();
    projections.shutdown();
    task.await.unwrap();
    let session = world.db.superuser().await;
    session
        .execute(
            "insert into read.audit_v1
             select t.id, n, md5(t.id::text || n)::uuid, timestamptz 'epoch' + (1700000000 + n) * interval '1 s',
                    md5('actor' || n % 40)::uuid, 'account', null, 'thing.do', md5('command' || n)::uuid,
                    'request-' || n / 3, (array['tenant', 'device', 'readings', 'grant'])[1 + n % 97 % 4],
                    md5('stream' || n % 500)::uuid, n, 'test.thing.happened' || n % 30
             from (values ($1::uuid, 50000), ($2::uuid, 5000), ($3::uuid, 5000)) t(id, rows), generate_series(1, t.rows) n",
            &[&TENANT.0, &Uuid::from_u128(1), &Uuid::from_u128(2)],
        )
        .await
        .unwrap();
    session.batch_execute("analyze read.audit_v1").await.unwrap();
    world
}

async fn md5(world: &World, text: &str) -> Uuid {
    world.db.superuser().await.query_one("select md5($1)::uuid", &[&text]).await.unwrap().get(0)
}

async fn plan(session: &ReadSession, sql: &str, parameters: &[Box<dyn ToSql + Sync + Send>]) -> String {
    let parameters: Vec<&(dyn ToSql + Sync)> = parameters.iter().map(|p| &**p as &(dyn ToSql + Sync)).collect();
    let sql = format!("explain (analyze, costs off, timing off, summary off) {sql}");
    let lines = session.query(&sql, &parameters).await.unwrap();
    lines.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn each_filter_is_read_by_an_index_under_the_row_policies() {
    let world = with_rows().await;
    let actor = md5(&world, "actor7").await;
    let stream = md5(&world, "stream7").await;
    let command = md5(&world, "command777").await;
    let none = AuditFilter::default;
    let is = |field, value: &str| AuditFilter::equals(field, value);
    let time = |test| AuditFilter::Is(AuditField::RecordedAt, test);
    let span = || AuditFilter::And(vec![time(Test::Gte(at(20_000).into())), time(Test::Lt(at(20_500).into()))]);
    let filters = [
        ("none", none(), "audit_v1_pkey", 50_000),
        ("actor", AuditFilter::equals(AuditField::Actor, actor), "by_actor", 1_250),
        ("subject type", is(AuditField::SubjectType, "readings"), "by_subject_type", 12_500),
        ("subject", AuditFilter::equals(AuditField::Subject, stream), "by_subject", 100),
        ("event type", is(AuditField::EventType, "test.thing.happened7"), "by_event_type", 1_666),
        ("command", AuditFilter::equals(AuditField::CommandId, command), "by_command", 1),
        ("correlation", is(AuditField::Correlation, "request-77"), "by_correlation", 3),
        ("span", span(), "audit_v1_pkey", 500),
        (
            "actor and span",
            AuditFilter::And(vec![AuditFilter::equals(AuditField::Actor, actor), span()]),
            "by_actor",
            12,
        ),
    ];
    let session = world.reader().begin(Scope::Tenant(TENANT)).await.unwrap();
    let trail = Trail { table: "read.audit_v1".into(), tenant: TENANT };
    for (name, filter, index, expected) in filters {
        let whole = audit::page(&session, TENANT, &filter, &Page::first(60_000, None)).await.unwrap().rows;
        assert!(whole.len().abs_diff(expected) <= 1 + expected / 20, "{name}: {} rows", whole.len());
        let first_page = whole.len().min(50);
        let middle = whole[whole.len() / 2].cursor();
        for asked in [Page::first(50, None), Page::first(50, Some(middle))] {
            let (sql, parameters) = page_query(&trail, &filter, &asked);
            let plan = plan(&session, &sql, &parameters).await;
            assert!(plan.contains(index), "{name}: by {index}\n{plan}");
            assert!(!plan.contains("Seq Scan") && !plan.contains("Sort"), "{name}\n{plan}");
            assert!(!plan.contains("Rows Removed"), "{name} reads what it does not show\n{plan}");
            assert_eq!(plan.contains("_by_time"), name.contains("span"), "{name}: bounds by their own index\n{plan}");
        }
        let page = audit::page(&session, TENANT, &filter, &Page::first(50, None)).await.unwrap();
        assert_eq!(page.rows, whole[..first_page], "{name}");
    }
    let is = |field, test| AuditFilter::Is(field, test);
    let other = md5(&world, "stream8").await;
    let positions = [Test::Gte(20_000.into()), Test::Lt(20_050.into())].map(|test| is(AuditField::Ordinal, test));
    for (filter, index, may_sort) in [
        (AuditFilter::And(positions.to_vec()), "Index Cond: ((tenant_id = ", false),
        (is(AuditField::Subject, Test::In(vec![stream.into(), other.into()])), "by_subject", true),
        (is(AuditField::Correlation, Test::StartsWith("request-7777".into())), "by_correlation", true),
        (is(AuditField::EventType, Test::StartsWith("test.thing.happened2".into())), "audit_v1", true),
        // No index for these: in the order of the trail until the page is full.
        (is(AuditField::Actor, Test::Ne(actor.into())), "audit_v1_pkey", false),
        (is(AuditField::Correlation, Test::IsNull(false)), "audit_v1_pkey", false),
        (AuditFilter::Not(Box::new(span())), "audit_v1_pkey", false),
        (
            AuditFilter::Or(vec![
                AuditFilter::equals(AuditField::Actor, actor),
                is(AuditField::SubjectType, Test::NotIn(vec!["readings".into(), "grant".into()])),
            ]),
            "audit_v1_pkey",
            false,
        ),
    ] {
        let (sql, parameters) = page_query(&trail, &filter, &Page::first(50, None));
        let plan = plan(&session, &sql, &parameters).await;
        assert!(plan.contains(index) && !plan.contains("Seq Scan"), "{filter:?} by {index}\n{plan}");
        assert!(may_sort || !plan.contains("Sort"), "{filter:?}\n{plan}");
    }
}

#[tokio::test]
async fn a_span_without_events_shows_none() {
    let world = with_rows().await;
    let session = world.reader().begin(Scope::Tenant(TENANT)).await.unwrap();
    let rows = async |from: Option<i64>, to: Option<i64>| {
        let bounds = [from.map(|from| Test::Gte(at(from).into())), to.map(|to| Test::Lt(at(to).into()))];
        let is = |test| AuditFilter::Is(AuditField::RecordedAt, test);
        let filter = AuditFilter::And(bounds.into_iter().flatten().map(is).collect());
        let rows = audit::page(&session, TENANT, &filter, &Page::first(60_000, None)).await.unwrap().rows;
        rows.iter().map(|row| row.tenant_position).collect::<Vec<_>>()
    };
    assert_eq!(rows(Some(50_001), None).await, Vec::<u64>::new(), "after the last");
    assert_eq!(rows(None, Some(1)).await, Vec::<u64>::new(), "before the first");
    assert_eq!(rows(Some(-99), Some(3)).await, [2, 1], "from is in, to is out");
    assert_eq!(rows(Some(49_999), Some(99_999)).await, [50_000, 49_999]);
}

#[tokio::test]
async fn what_came_before_a_page_is_one_statement_by_indexes_and_only_the_tenants() {
    let world = World::new().await;
    let other = TenantId(Uuid::from_u128(0xB));
    for tenant in [TENANT, other] {
        for n in 0..20 {
            world.append_tenant(tenant, n * 10, &vec![registered("Co", None); 10]).await;
        }
    }
    let session = world.reader().begin(Scope::Tenant(TENANT)).await.unwrap();
    let wanted = |tenant: TenantId, sequence: u64, folded: bool| Wanted {
        stream_type: "tenant".into(),
        stream_id: tenant.0,
        sequence,
        folded,
    };
    let key = ("tenant".to_owned(), TENANT.0);
    let read = history(&session, TENANT, &[wanted(TENANT, 150, true), wanted(other, 3, true)]).await.unwrap();
    assert_eq!(read.keys().collect::<Vec<_>>(), [&key], "another tenant's stream is not there");
    assert!(read[&key].whole);
    let sequences: Vec<u64> = read[&key].events.iter().map(|event| event.sequence).collect();
    assert_eq!(sequences, (1..=150).collect::<Vec<_>>());
    let read = history(&session, TENANT, &[wanted(TENANT, 150, false), wanted(TENANT, 7, false)]).await.unwrap();
    assert!(!read[&key].whole);
    assert_eq!(read[&key].events.iter().map(|event| event.sequence).collect::<Vec<_>>(), [7, 150]);
    // What would be too large is left out, but for the events asked about.
    let read = history_within(&session, TENANT, &[wanted(TENANT, 150, true)], 1_000).await.unwrap();
    assert!(!read[&key].whole);
    assert_eq!(read[&key].events.iter().map(|event| event.sequence).collect::<Vec<_>>(), [150]);
    // As another tenant, the row policies leave nothing.
    assert!(history(&session, other, &[wanted(other, 3, true)]).await.unwrap().is_empty());

    let superuser = world.db.superuser().await;
    superuser.batch_execute("analyze journal.stream_events; analyze journal.events").await.unwrap();
    let parameters: Vec<Box<dyn ToSql + Sync + Send>> = vec![
        Box::new(TENANT.0),
        Box::new(vec!["tenant".to_owned()]),
        Box::new(vec![TENANT.0]),
        Box::new(vec![1i64]),
        Box::new(vec![150i64]),
        Box::new(vec![true]),
        Box::new(1i64 << 20),
    ];
    let plan = plan(&session, &history_query(), &parameters).await;
    assert!(plan.contains("stream_events_pkey"), "{plan}");
    // Partitions without a row may be planned like that; they are not looked into.
    let scans = |line: &&str| line.contains("Seq Scan") && !line.contains("never executed");
    assert_eq!(plan.lines().filter(scans).count(), 0, "{plan}");
}

#[tokio::test]
async fn denied_attempts_are_read_by_an_index_in_pages() {
    let world = World::new().await;
    let superuser = world.db.superuser().await;
    superuser
        .execute(
            "insert into projection.denied_attempts (tenant_id, minute, kind, actor, action, target, first_at, last_at, count)
             select t.id, timestamptz 'epoch' + (1700000040 + n / 10 * 60) * interval '1 s', (array['command', 'read'])[1 + n % 2],
                    md5('actor' || n % 50)::uuid, 'thing.do', n::text, now(), now(), n
             from (values ($1::uuid, 50000), ($2::uuid, 5000)) t(id, rows), generate_series(1, t.rows) n",
            &[&TENANT.0, &Uuid::from_u128(1)],
        )
        .await
        .unwrap();
    superuser.batch_execute("analyze projection.denied_attempts").await.unwrap();
    let actor = md5(&world, "actor7").await;
    let none = DeniedFilter::default;
    let minute = |test| DeniedFilter::Is(DeniedField::Minute, test);
    let span = [Test::Gte(at(40 + 60_000).into()), Test::Lt(at(40 + 66_000).into())];
    let filters = [
        (none(), "denied_attempts_newest", 50_000),
        (DeniedFilter::equals(DeniedField::Actor, actor), "denied_attempts_by_actor", 1_000),
        (DeniedFilter::equals(DeniedField::Kind, AttemptKind::Read.as_str()), "denied_attempts_by_kind", 25_000),
        (DeniedFilter::And(span.into_iter().map(minute).collect()), "denied_attempts_newest", 1_000),
    ];
    let session = world.reader().begin(Scope::Tenant(TENANT)).await.unwrap();
    for (filter, index, expected) in filters {
        let (mut seen, mut after): (BTreeSet<i64>, Option<DeniedCursor>) = Default::default();
        loop {
            let page = Page::first(20_000, after);
            let slice = denied_page(&session, TENANT, &filter, &page).await.unwrap();
            after = slice.rows.last().map(|row| row.cursor());
            assert!(slice.rows.is_sorted_by_key(|row| std::cmp::Reverse(row.minute)));
            assert!(slice.rows.iter().all(|row| seen.insert(row.id)), "{filter:?}: a row twice");
            if !slice.has_next {
                break;
            }
        }
        assert_eq!(seen.len(), expected, "{filter:?}");
        for asked in [Page::first(50, None), Page::first(50, Some(DeniedCursor(at(63_040), 31_000)))] {
            let (sql, parameters) = denied_query(TENANT, &filter, &asked);
            let plan = plan(&session, &sql, &parameters).await;
            assert!(plan.contains(index), "{filter:?}: by {index}\n{plan}");
            assert!(!plan.contains("Seq Scan") && !plan.contains("Sort"), "{filter:?}\n{plan}");
            assert!(!plan.contains("Rows Removed"), "{filter:?}\n{plan}");
        }
    }
    let other = world.reader().begin(Scope::Tenant(TenantId(Uuid::from_u128(3)))).await.unwrap();
    assert_eq!(denied_page(&other, TENANT, &none(), &Page::first(10, None)).await.unwrap().rows, []);
}
