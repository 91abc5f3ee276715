//! Crashes: of the engine, of its sessions, of two engines into each other.

use crate::harness::{World, soon, until};
use crate::tally::{Tally, one_tenant_per_lane, tally};
use daybook_domain::TenantId;
use daybook_projections::engine::{Lanes, Parts, lane_of};
use daybook_projections::{Model, Projections, ReadModel};
use daybook_store::journal::follow::Source;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::watch;
use uuid::Uuid;

const STREAM: Uuid = Uuid::from_u128(1);

/// Writes one event per tenant and round; gives the last position.
async fn write(world: &World, tenants: &[TenantId], rounds: std::ops::Range<u64>) -> u64 {
    let mut last = 0;
    for n in rounds {
        for tenant in tenants {
            last = world.append(*tenant, "tally", STREAM, n, vec![tally("x")]).await;
        }
    }
    last
}

/// The rows are exactly what the journal says, and there is a change row for every event.
async fn assert_exact(world: &World, tenants: &[TenantId], rounds: i64) {
    let session = world.db.superuser().await;
    let rows = session.query("select tenant_id, seen, last from read.tally_v1", &[]).await.unwrap();
    let rows: BTreeMap<Uuid, (i64, i64)> = rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect();
    assert_eq!(rows, tenants.iter().map(|tenant| (tenant.0, (rounds, rounds))).collect());
    let wrong = session
        .query_one(
            "select count(*) from projection.changes c full join journal.events e using (position)
             where c.position is null or e.position is null
                or coalesce((c.before->>'seen')::bigint, 0) + 1 <> (c.after->>'seen')::bigint
                or (c.after->>'last')::bigint <> e.sequence",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(wrong.get::<_, i64>(0), 0);
}

#[tokio::test]
async fn rows_and_checkpoint_commit_together() {
    let world = World::new().await;
    let tenants = one_tenant_per_lane();
    let (projections, _task) = world.start(Model::of::<Tally>());
    let first = write(&world, &tenants, 0..1).await;
    world.reached(&projections, "tally", first).await;
    let session = world.db.superuser().await;
    let watching = async {
        let mut states = 0;
        loop {
            // One statement, one snapshot.
            let rows = session
                .query(
                    "select t.tenant_id, t.seen, t.last, e.position, c.lane, c.position,
                            (select max(x.sequence) from journal.events x where x.tenant_id = t.tenant_id and x.position <= c.position)
                     from read.tally_v1 t
                     join journal.stream_events e using (tenant_id) join projection.checkpoints c on c.read_model = 'tally'
                     where e.sequence = t.last",
                    &[],
                )
                .await
                .unwrap();
            for row in
                rows.iter().filter(|row| i32::from(lane_of(TenantId(row.get(0)), Tally::LANES)) == row.get::<_, i32>(4))
            {
                let (seen, last, due): (i64, i64, i64) = (row.get(1), row.get(2), row.get(6));
                assert_eq!((seen, last), (due, due), "rows at another state than their checkpoint");
                states += 1;
            }
            if projections.progress().position("tally", Lanes::All).unwrap() >= 40 * 8 {
                return states;
            }
        }
    };
    let (states, last) = tokio::join!(watching, write(&world, &tenants, 1..40));
    assert!(states > 8, "the states in between were looked at");
    world.reached(&projections, "tally", last).await;
    assert_exact(&world, &tenants, 40).await;
}

#[tokio::test]
async fn a_crash_between_pages_applies_nothing_twice() {
    let world = World::new().await;
    let tenants = one_tenant_per_lane();
    let mut rng = StdRng::seed_from_u64(3);
    let rounds = 60;
    let last = write(&world, &tenants, 0..rounds).await;
    let mut crashes = 0;
    loop {
        let (projections, task) = world.start(Model::of::<Tally>());
        let progress = projections.progress();
        // Somewhere in the middle of whatever it does then.
        let all = progress.wait("tally", Lanes::All, last, soon());
        let tenant = tenants[rng.random_range(0..tenants.len())];
        progress.wait("tally", Lanes::All, 0, soon()).await.unwrap();
        let at = progress.position("tally", Lanes::Of(tenant)).unwrap() + rng.random_range(1..60);
        tokio::select! {
            biased;
            done = all => { done.unwrap(); break }
            past = progress.past("tally", Lanes::Of(tenant), at.min(last - 1)) => { past.unwrap(); }
        }
        for _ in 0..rng.random_range(0..20) {
            tokio::task::yield_now().await;
        }
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        crashes += 1;
        assert!(crashes < 500, "it makes no headway");
    }
    assert!(crashes >= 3, "it was stopped only {crashes} times");
    assert_exact(&world, &tenants, rounds as i64).await;
}

#[tokio::test]
async fn sessions_that_are_cut_off_lose_nothing_and_repeat_nothing() {
    let world = World::new().await;
    let tenants = one_tenant_per_lane();
    let (projections, _task) = world.start(Model::of::<Tally>());
    let session = world.db.superuser().await;
    let mut last = 0;
    for round in 0..30 {
        last = write(&world, &tenants, round..round + 1).await;
        // Those of the engine, by what they are set to; the writer's stay.
        session
            .execute(
                "select pg_terminate_backend(pid) from pg_stat_activity
                 where datname = current_database() and query like '%projection.%' and pid <> pg_backend_pid()",
                &[],
            )
            .await
            .unwrap();
    }
    // A lane that was cut off several times in a row says so until its next try, and waits are told.
    until(|| async { projections.progress().position("tally", Lanes::All) == Ok(last) }).await;
    assert_exact(&world, &tenants, 30).await;
}

#[tokio::test]
async fn two_engines_at_once_apply_everything_once() {
    let world = World::new().await;
    let tenants = one_tenant_per_lane();
    let (one, _one) = world.start(Model::of::<Tally>());
    let (two, _two) = world.start(Model::of::<Tally>());
    let last = write(&world, &tenants, 0..40).await;
    world.reached(&one, "tally", last).await;
    world.reached(&two, "tally", last).await;
    assert!(one.health().is_well() && two.health().is_well());
    assert_exact(&world, &tenants, 40).await;
}

#[tokio::test]
async fn an_engine_that_is_shut_down_goes_on_where_it_was() {
    let world = World::new().await;
    let tenants = one_tenant_per_lane();
    let (projections, task) = world.start(Model::of::<Tally>());
    let last = write(&world, &tenants, 0..5).await;
    world.reached(&projections, "tally", last).await;
    projections.shutdown();
    task.await.unwrap();
    let last = write(&world, &tenants, 5..10).await;
    let (projections, _task) = world.start(Model::of::<Tally>());
    world.reached(&projections, "tally", last).await;
    assert_exact(&world, &tenants, 10).await;
}

#[tokio::test]
async fn what_a_crash_of_the_database_took_back_is_applied_again_without_waiting_for_another_event() {
    let world = World::new().await;
    let tenants = one_tenant_per_lane();
    let (told, durable) = watch::channel(*world.journal.durable().borrow());
    let mut parts = Parts { source: Source::Writer(durable), ..world.parts() };
    // Nor for the clock.
    parts.options.store_every = Duration::from_secs(3_600);
    let (projections, _task) = Projections::start(parts, &[Model::of::<Tally>()]);
    let last = write(&world, &tenants, 0..3).await;
    told.send_replace(*world.journal.durable().borrow());
    world.reached(&projections, "tally", last).await;
    assert_exact(&world, &tenants, 3).await;
    // The projector does not wait for the disk: its last commits are gone, the events are not.
    let taken_back = "delete from read.tally_v1; delete from projection.changes;
                      update projection.checkpoints set position = 0";
    world.db.superuser().await.batch_execute(taken_back).await.unwrap();
    // The writer lost its session as well, and comes back in the next epoch.
    told.send_modify(|durable| durable.seen.epoch += 1);
    until(|| async {
        let rows = world.db.superuser().await.query("select from read.tally_v1 where seen = 3", &[]).await.unwrap();
        rows.len() == tenants.len()
    })
    .await;
    world.reached(&projections, "tally", last).await;
    assert_exact(&world, &tenants, 3).await;
}
