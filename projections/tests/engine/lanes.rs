//! Lanes: each at its own pace, none skipping anything.

use crate::harness::{World, soon, until};
use crate::tally::{Tally, forgive, one_tenant_per_lane, tally};
use daybook_projections::Model;
use daybook_projections::engine::{LaneStatus, Lanes, WaitError};
use daybook_testing::event;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

const STREAM: Uuid = Uuid::from_u128(1);

async fn seen(world: &World, tenant: daybook_domain::TenantId) -> i64 {
    let rows =
        world.db.superuser().await.query("select seen from read.tally_v1 where tenant_id = $1", &[&tenant.0]).await;
    rows.unwrap().first().map_or(0, |row| row.get(0))
}

#[tokio::test]
async fn idle_lanes_advance() {
    let world = World::new().await;
    let (projections, _task) = world.start(Model::of::<Tally>());
    let tenants = one_tenant_per_lane();
    let first = world.append(tenants[0], "tally", STREAM, 0, vec![tally("one")]).await;
    world.reached(&projections, "tally", first).await;
    // Of a type that the read model does not want: then no lane has anything to do.
    let last = world.append(tenants[1], "thing", STREAM, 0, vec![event("{}")]).await;
    world.reached(&projections, "tally", last).await;

    let session = world.db.superuser().await;
    // In memory at once; in the database a little later.
    let checkpoints = "select position, count(*), count(distinct xmin::text) from projection.checkpoints group by 1";
    until(|| async {
        let rows = session.query(checkpoints, &[]).await.unwrap();
        let rows: Vec<(i64, i64, i64)> = rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
        // All eight, by one statement.
        rows == [(last as i64, 8, 1)]
    })
    .await;
    assert!(projections.health().is_well());
    assert_eq!(projections.health().models[0].lanes.len(), 8);
}

#[tokio::test]
async fn a_failing_lane_does_not_stop_the_others_and_skips_nothing() {
    let world = World::new().await;
    let tenants = one_tenant_per_lane();
    let (poor, rich, odd) = (tenants[3], tenants[5], tenants[6]);
    let fussy = [81, 82, 83].map(Uuid::from_u128);
    // Refused in the fold, refused by the table, and a fold that panics; each after an event that is fine.
    let write = async |tenant, stream, what| {
        world.append(tenant, "tally", stream, 0, vec![tally("good"), tally(what), tally("good")]).await - 1
    };
    let bad = write(poor, fussy[0], "bad").await;
    let huge = write(rich, fussy[1], "huge").await;
    let panic = write(odd, fussy[2], "panic").await;
    let (projections, _task) = world.start(Model::of::<Tally>());
    let mut last = 0;
    for n in 0..30 {
        for tenant in [tenants[0], tenants[7]] {
            last = world.append(tenant, "tally", STREAM, n, vec![tally("good")]).await;
        }
    }
    for tenant in [tenants[0], tenants[7], tenants[1]] {
        projections.progress().wait("tally", Lanes::Of(tenant), last, soon()).await.unwrap();
    }
    assert_eq!(seen(&world, tenants[0]).await, 30);

    let stopped = projections.progress().wait("tally", Lanes::Of(poor), bad, soon()).await;
    assert_eq!(stopped, Err(WaitError::Stopped { reason: "a bad event".into() }));
    let stopped = projections.progress().wait("tally", Lanes::Of(rich), huge, soon()).await;
    assert_eq!(stopped, Err(WaitError::Stopped { reason: "PostgreSQL refused a statement (23514)".into() }));
    let stopped = projections.progress().wait("tally", Lanes::Of(odd), panic, soon()).await;
    assert!(matches!(&stopped, Err(WaitError::Stopped { reason }) if reason.contains("panicked")), "{stopped:?}");
    let health = projections.health();
    assert!(!health.is_well());
    let lane = &health.models[0].lanes[3];
    assert_eq!(lane.status, LaneStatus::Stopped { reason: "a bad event".into(), position: bad });
    assert_eq!((lane.position, lane.lag), (bad - 1, last + 1 - bad));
    let lane = &health.models[0].lanes[5];
    assert!(matches!(lane.status, LaneStatus::Stopped { position, .. } if position == huge), "{lane:?}");
    assert_eq!(lane.position, huge - 1);
    for tenant in [poor, rich, odd] {
        assert_eq!(seen(&world, tenant).await, 1, "what came before is applied");
    }

    fussy.into_iter().for_each(forgive);
    until(|| async { projections.health().is_well() }).await;
    world.reached(&projections, "tally", last).await;
    for tenant in [poor, rich, odd] {
        assert_eq!(seen(&world, tenant).await, 3, "nothing was skipped");
    }
}

#[tokio::test]
async fn a_slow_lane_is_running_with_a_lag_and_catches_up_on_what_was_dealt_past_it() {
    let world = World::new().await;
    let (projections, _task) = world.start(Model::of::<Tally>());
    let tenants = one_tenant_per_lane();
    let first = world.append(tenants[2], "tally", STREAM, 0, vec![tally("one")]).await;
    world.reached(&projections, "tally", first).await;

    let mut other = world.db.superuser().await;
    let held = other.transaction().await.unwrap();
    held.execute("select from projection.checkpoints where read_model = 'tally' and lane = 2 for update", &[])
        .await
        .unwrap();
    let mut last = first;
    // More pages than its queue holds.
    for n in 0..30 {
        world.append(tenants[2], "tally", STREAM, n + 1, vec![tally("more")]).await;
        last = world.append(tenants[4], "tally", STREAM, n, vec![tally("more")]).await;
        projections.progress().wait("tally", Lanes::Of(tenants[4]), last, soon()).await.unwrap();
    }
    let lane = projections.health().models[0].lanes[2].clone();
    assert_eq!((lane.status, lane.position, lane.lag), (LaneStatus::Running, first, last - first));
    let late = projections.progress().wait("tally", Lanes::All, last, Instant::now() + Duration::from_millis(1)).await;
    assert_eq!(late, Err(WaitError::TooLate { current: first }));

    held.rollback().await.unwrap();
    world.reached(&projections, "tally", last).await;
    assert_eq!(seen(&world, tenants[2]).await, 31);
    assert!(projections.health().is_well());
}

#[tokio::test]
async fn a_row_that_the_fold_removes_is_gone_and_can_come_back() {
    let world = World::new().await;
    let (projections, _task) = world.start(Model::of::<Tally>());
    let tenant = one_tenant_per_lane()[0];
    let last = world.append(tenant, "tally", STREAM, 0, vec![tally("one"), tally("gone")]).await;
    world.reached(&projections, "tally", last).await;
    assert_eq!(seen(&world, tenant).await, 0);
    let last = world
        .append(tenant, "tally", STREAM, 2, vec![tally("gone"), tally("two"), tally("gone"), tally("three")])
        .await;
    world.reached(&projections, "tally", last).await;
    assert_eq!(seen(&world, tenant).await, 1);
    let changes = world.db.superuser().await;
    let changes = changes
        .query("select tenant_position, before is null, after is null from projection.changes order by 1", &[])
        .await;
    let changes: Vec<(i64, bool, bool)> =
        changes.unwrap().iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    // The removal of what was not there, the third event, changed nothing.
    assert_eq!(changes, [(1, true, false), (2, false, true), (4, true, false), (5, false, true), (6, true, false)]);
}
