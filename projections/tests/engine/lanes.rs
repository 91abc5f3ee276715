//! Lanes: each at its own pace, none skipping anything.

use crate::harness::{World, soon, until};
use crate::tally::{Tally, one_tenant_per_lane, tally};
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
async fn a_lane_that_cannot_write_stops_with_the_reason_and_goes_on_when_it_can() {
    let world = World::new().await;
    let tenants = one_tenant_per_lane();
    let (projections, _task) = world.start(Model::of::<Tally>());
    let first = world.append(tenants[3], "tally", STREAM, 0, vec![tally("good")]).await;
    world.reached(&projections, "tally", first).await;
    let session = world.db.superuser().await;
    // No event is at fault: another one would fare no better, so nothing is parked.
    session.batch_execute("revoke insert on read.tally_v1 from daybook_projector").await.unwrap();
    let bad = world.append(tenants[3], "tally", STREAM, 1, vec![tally("good")]).await;
    let stopped = projections.progress().wait("tally", Lanes::Of(tenants[3]), bad, soon()).await;
    let reason = "PostgreSQL refused a statement (42501)".to_owned();
    assert_eq!(stopped, Err(WaitError::Stopped { reason: reason.clone() }));
    let health = projections.health();
    let lane = &health.models[0].lanes[3];
    assert_eq!(lane.status, LaneStatus::Stopped { reason: reason.clone(), position: bad });
    assert_eq!((health.is_well(), lane.position, lane.lag, lane.parked), (false, first, 1, 0));
    let written = "select stopped_position, stopped_reason from projection.checkpoints where lane = 3";
    until(|| async {
        let row = session.query_one(written, &[]).await.unwrap();
        (row.get(0), row.get(1)) == (Some(bad as i64), Some(reason.clone()))
    })
    .await;

    session.batch_execute("grant insert on read.tally_v1 to daybook_projector").await.unwrap();
    until(|| async { projections.health().is_well() }).await;
    world.reached(&projections, "tally", bad).await;
    assert_eq!(seen(&world, tenants[3]).await, 2, "nothing was skipped");
    let row = session.query_one(written, &[]).await.unwrap();
    assert_eq!((row.get(0), row.get(1)), (None::<i64>, None::<String>));
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
