//! Rebuilding: the next version beside the one that answers.

use crate::harness::{Histories, World, soon};
use crate::tally::{Tally, blame, forgive, one_tenant_per_lane, tally};
use daybook_domain::platform::Tenant;
use daybook_projections::engine::{Lanes, RebuildError};
use daybook_projections::platform::tenants::{self, TenantFilter, TenantStatus};
use daybook_projections::{Model, Reader, Scope, Tenants};
use std::sync::atomic::{AtomicBool, Ordering};
use tokio_postgres::Client;
use uuid::Uuid;

async fn texts(session: &Client, sql: &str) -> Vec<String> {
    session.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

fn rows(version: u32) -> String {
    format!("select to_json(t)::text from read.tenants_v{version} t order by tenant_id")
}

fn changes(version: u32) -> String {
    format!(
        "select row(tenant_id, tenant_position, key, position, before, after, recorded_at)::text
         from projection.changes where read_model = 'tenants' and version = {version} order by position"
    )
}

#[tokio::test]
async fn rebuild_equals_live_and_both_equal_the_aggregates() {
    let mut world = World::new().await;
    for (seed, page) in (0..).zip([7, 50, 1_000]) {
        world.options.page = page;
        let (projections, task) = world.start(Model::of::<Tenants>());
        let mut histories = Histories::new(seed, 25);
        // Later rounds go on with the tenants of earlier ones only under other ids.
        histories.tenants = histories
            .tenants
            .into_keys()
            .map(|tenant| {
                (
                    daybook_domain::TenantId(Uuid::from_u128(tenant.0.as_u128() + (u128::from(seed) << 32))),
                    Default::default(),
                )
            })
            .collect();
        let last = histories.write(&world, 150).await;
        world.reached(&projections, "tenants", last).await;
        let session = world.db.superuser().await;
        let live = u32::try_from(seed).unwrap() + 1;
        let (live_rows, live_changes) = (texts(&session, &rows(live)).await, texts(&session, &changes(live)).await);

        let mut reports = Vec::new();
        let rebuilt = Model::of::<Tenants>().rebuild(&world.parts(), &mut |at| reports.push(at)).await.unwrap();
        assert_eq!(
            (rebuilt.old_version, rebuilt.version, rebuilt.position, rebuilt.dropped),
            (live, live + 1, last, true)
        );
        assert!(reports.is_sorted_by_key(|at| at.position) && reports.last().unwrap().position == last);
        assert_eq!(texts(&session, &rows(live + 1)).await, live_rows);
        assert_eq!(texts(&session, &changes(live + 1)).await, live_changes);
        assert!(live_changes.len() >= 150);

        let reader = world.reader().begin(Scope::Platform).await.unwrap();
        for (tenant, (state, version)) in &histories.tenants {
            let row = tenants::tenant(&reader, *tenant).await.unwrap();
            assert_eq!(row.is_some(), *state != Tenant::Absent);
            let Some(row) = row else { continue };
            assert_eq!(row.version, i64::try_from(*version).unwrap());
            let status = match state {
                Tenant::Absent => panic!("a tenant that is absent has no row"),
                Tenant::Active { .. } => TenantStatus::Active,
                Tenant::Suspended { .. } => TenantStatus::Suspended,
                Tenant::Closed { .. } => TenantStatus::Closed,
            };
            assert_eq!(row.status, status);
            let profile = state.profile();
            assert_eq!(row.domain.as_deref(), profile.and_then(|p| p.domain.as_ref()).map(|d| d.as_str()));
            assert_eq!(row.settings, profile.map(|p| p.settings.clone()).unwrap_or_default());
            let contact = profile.and_then(|p| p.contact.as_ref());
            assert_eq!(row.contact_subject, contact.map(|c| c.subject().0));
            assert_eq!(row.contact_name.as_deref(), contact.and_then(|c| c.value()).map(|c| c.name.as_str()));
            if let Some(profile) = profile {
                assert_eq!((row.name.as_str(), row.plan), (profile.name.as_str(), profile.plan));
                assert_eq!(row.name_key, profile.name.as_str().to_lowercase());
            }
        }
        reader.finish().await.unwrap();
        projections.shutdown();
        task.await.unwrap();
    }
}

/// Reads all the time; every read must succeed, and see at least the tenants seen before.
async fn keep_reading(reader: Reader, stop: &AtomicBool) -> usize {
    let (mut reads, mut most) = (0, 0);
    while !stop.load(Ordering::SeqCst) {
        let session = reader.begin(Scope::Platform).await.unwrap();
        tokio::task::yield_now().await;
        let count = tenants::count(&session, &TenantFilter::default()).await.unwrap();
        assert!(count >= most, "{count} tenants after {most}");
        (reads, most) = (reads + 1, count);
        session.finish().await.unwrap();
    }
    reads
}

#[tokio::test]
async fn writers_and_readers_do_not_notice_a_rebuild() {
    let world = World::new().await;
    let (projections, _task) = world.start(Model::of::<Tenants>());
    let mut histories = Histories::new(9, 40);
    let last = histories.write(&world, 100).await;
    world.reached(&projections, "tenants", last).await;
    let (stop, rebuilt) = (AtomicBool::new(false), AtomicBool::new(false));
    let reading = keep_reading(world.reader(), &stop);
    let writing = async {
        let mut writes = 0;
        while !rebuilt.load(Ordering::SeqCst) || writes < 50 {
            let Some(position) = histories.step(&world).await else { continue };
            writes += 1;
            // Each sees its own write in whichever version answers.
            projections.progress().wait("tenants", Lanes::All, position, soon()).await.unwrap();
            let session = world.reader().begin(Scope::Platform).await.unwrap();
            let table = session.table::<Tenants>().unwrap();
            let found = session
                .query(&format!("select from {table} where position = $1"), &[&(position as i64)])
                .await
                .unwrap();
            assert_eq!(found.len(), 1, "the write at {position} is not in {table}");
            session.finish().await.unwrap();
        }
        stop.store(true, Ordering::SeqCst);
    };
    let rebuilding = async {
        for version in 2..=4 {
            let done = Model::of::<Tenants>().rebuild(&world.parts(), &mut |_| {}).await.unwrap();
            assert_eq!((done.version, done.dropped), (version, true));
        }
        rebuilt.store(true, Ordering::SeqCst);
    };
    let (reads, (), ()) = tokio::join!(reading, writing, rebuilding);
    assert!(reads > 10, "only {reads} reads");
    let session = world.db.superuser().await;
    let tables =
        texts(&session, "select relname::text from pg_class where relname like 'tenants_v%' and relkind = 'r'").await;
    assert_eq!(tables, ["tenants_v4"]);
    assert_eq!(texts(&session, "select distinct version::text from projection.checkpoints").await, ["4"]);
    assert_eq!(texts(&session, "select distinct version::text from projection.changes").await, ["4"]);
    assert_eq!(projections.health().models[0].version, 4);
}

#[tokio::test]
async fn a_query_that_began_before_the_switch_ends_undisturbed() {
    let world = World::new().await;
    let (projections, _task) = world.start(Model::of::<Tenants>());
    let mut histories = Histories::new(1, 10);
    let last = histories.write(&world, 30).await;
    world.reached(&projections, "tenants", last).await;
    // It knows which version answers, and has not touched its table yet.
    let early = world.reader().begin(Scope::Platform).await.unwrap();
    let parts = world.parts();
    let rebuild = tokio::spawn(async move { Model::of::<Tenants>().rebuild(&parts, &mut |_| {}).await });
    crate::harness::until(|| async {
        let late = world.reader().begin(Scope::Platform).await.unwrap();
        let version = late.version::<Tenants>().unwrap();
        late.finish().await.unwrap();
        version == 2
    })
    .await;
    assert!(!rebuild.is_finished(), "it waits for the early reader");
    assert_eq!(early.version::<Tenants>().unwrap(), 1);
    assert!(tenants::count(&early, &TenantFilter::default()).await.unwrap() > 0);
    early.finish().await.unwrap();
    assert!(rebuild.await.unwrap().unwrap().dropped);
}

#[tokio::test]
async fn what_was_written_while_the_switch_waited_is_in_the_version_that_answers_then() {
    let world = World::new().await;
    let (projections, _task) = world.start(Model::of::<Tally>());
    let tenants = one_tenant_per_lane();
    let stream = Uuid::from_u128(78);
    let first = world.append(tenants[0], "tally", stream, 0, vec![tally("one")]).await;
    world.reached(&projections, "tally", first).await;
    let mut holding = world.db.superuser().await;
    let held = holding.transaction().await.unwrap();
    let lane = "select from projection.checkpoints where version = 1 and lane = 0 for update";
    held.execute(lane, &[]).await.unwrap();
    let parts = world.parts();
    let rebuild = tokio::spawn(async move { Model::of::<Tally>().rebuild(&parts, &mut |_| {}).await });
    let session = world.db.superuser().await;
    let waits = "select exists (select from pg_stat_activity where wait_event_type = 'Lock'
                 and datname = current_database() and query like '%for update%')";
    crate::harness::until(|| async { session.query_one(waits, &[]).await.unwrap().get(0) }).await;
    // The rebuild has seen all there was; now there is more, and the version that answers has it.
    let last = world.append(tenants[5], "tally", stream, 0, vec![tally("two")]).await;
    projections.progress().wait("tally", Lanes::Of(tenants[5]), last, soon()).await.unwrap();
    held.rollback().await.unwrap();
    let rebuilt = rebuild.await.unwrap().unwrap();
    assert!(rebuilt.position >= last, "switched at {} without the write at {last}", rebuilt.position);
    world.reached(&projections, "tally", last).await;
    assert_eq!(texts(&session, "select seen::text from read.tally_v2 order by tenant_id").await, ["1", "1"]);
}

#[tokio::test]
async fn a_rebuild_without_an_engine_is_found_by_the_next_one() {
    let world = World::new().await;
    let mut histories = Histories::new(4, 10);
    histories.write(&world, 20).await;
    // Nothing has ever been started: there is not even a first version.
    let done = Model::of::<Tenants>().rebuild(&world.parts(), &mut |_| {}).await.unwrap();
    assert_eq!((done.old_version, done.version), (1, 2));
    let last = histories.write(&world, 20).await;
    let (projections, _task) = world.start(Model::of::<Tenants>());
    world.reached(&projections, "tenants", last).await;
    assert_eq!(projections.health().models[0].version, 2);
}

#[tokio::test]
async fn one_rebuild_at_a_time_and_an_interrupted_one_leaves_no_trace() {
    let world = World::new().await;
    let mut histories = Histories::new(5, 10);
    let last = histories.write(&world, 60).await;
    let (projections, _task) = world.start(Model::of::<Tenants>());
    world.reached(&projections, "tenants", last).await;

    let session = world.db.superuser().await;
    let lock = "select pg_advisory_lock(hashtextextended('daybook.projection.tenants', 0))";
    session.execute(lock, &[]).await.unwrap();
    let busy = Model::of::<Tenants>().rebuild(&world.parts(), &mut |_| {}).await;
    assert!(matches!(busy, Err(RebuildError::Busy("tenants"))), "{busy:?}");
    session.execute("select pg_advisory_unlock_all()", &[]).await.unwrap();

    let parts = world.parts();
    let (begun, begins) = tokio::sync::oneshot::channel();
    let rebuild = tokio::spawn(async move {
        let mut begun = Some(begun);
        let mut report = |_| {
            if let Some(begun) = begun.take() {
                begun.send(()).unwrap();
            }
        };
        Model::of::<Tenants>().rebuild(&parts, &mut report).await
    });
    begins.await.unwrap();
    rebuild.abort();
    assert!(rebuild.await.unwrap_err().is_cancelled());
    // Its session, and with it the lease, ends a moment later.
    let done = loop {
        match Model::of::<Tenants>().rebuild(&world.parts(), &mut |_| {}).await {
            Err(RebuildError::Busy(_)) => tokio::task::yield_now().await,
            done => break done.unwrap(),
        }
    };
    assert_eq!((done.version, done.position, done.dropped), (2, last, true));
    assert_eq!(texts(&session, "select version::text from projection.versions").await, ["2"]);
}

#[tokio::test]
async fn a_rebuild_that_meets_an_event_it_cannot_apply_changes_nothing() {
    let stream = Uuid::from_u128(77);
    forgive(stream);
    let world = World::new().await;
    let (projections, _task) = world.start(Model::of::<Tally>());
    let tenant = one_tenant_per_lane()[0];
    let last = world.append(tenant, "tally", stream, 0, vec![tally("good"), tally("bad")]).await;
    world.reached(&projections, "tally", last).await;
    blame(stream);
    let refused = Model::of::<Tally>().rebuild(&world.parts(), &mut |_| {}).await;
    assert!(matches!(refused, Err(RebuildError::Event { position, .. }) if position == last), "{refused:?}");
    let last = world.append(tenant, "tally", stream, 2, vec![tally("good")]).await;
    world.reached(&projections, "tally", last).await;
    assert_eq!(projections.health().models[0].version, 1);
}
