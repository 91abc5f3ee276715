//! Events that cannot be applied: their stream is left aside, in order and for as long as it takes; all others go on.

use crate::harness::{World, soon, until};
use crate::tally::{Tally, blame, forgive, one_tenant_per_lane, tally};
use daybook_domain::TenantId;
use daybook_projections::engine::{LaneStatus, Lanes, RebuildError, SkipError, StreamName, WaitError};
use daybook_projections::{Model, Projections, ReadError, ReadModel, Scope};
use daybook_store::system::{Real, System};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::Duration;
use uuid::Uuid;

const FINE: Uuid = Uuid::from_u128(1);

fn tenant() -> TenantId {
    one_tenant_per_lane()[3]
}

fn parked(projections: &Projections) -> usize {
    projections.progress().parked("tally", Lanes::All).unwrap()
}

async fn texts(world: &World, sql: &str) -> Vec<String> {
    world.db.superuser().await.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

async fn rows(world: &World, version: u32) -> Vec<String> {
    texts(world, &format!("select to_json(t)::text from read.tally_v{version} t order by tenant_id, id")).await
}

async fn changes(world: &World, version: u32) -> Vec<String> {
    let sql = format!(
        "select row(tenant_id, tenant_position, key, position, before, after)::text from projection.changes
         where version = {version} order by position"
    );
    texts(world, &sql).await
}

/// Events seen of each stream of the tenant.
async fn seen(world: &World, stream: Uuid) -> i64 {
    let session = world.db.superuser().await;
    let row = session.query_opt("select seen from read.tally_v1 where id = $1", &[&stream]).await.unwrap();
    row.map_or(0, |row| row.get(0))
}

/// A rebuild leads to the very rows and changes that answer now.
async fn assert_as_rebuilt(world: &World) {
    let (live_rows, live_changes) = (rows(world, 1).await, changes(world, 1).await);
    let rebuilt = Model::of::<Tally>().rebuild(&world.parts(), &mut |_| {}).await.unwrap();
    assert_eq!(rebuilt.version, 2);
    assert_eq!(rows(world, 2).await, live_rows);
    assert_eq!(changes(world, 2).await, live_changes);
}

#[tokio::test]
async fn a_poisoned_stream_does_not_hold_up_the_others_of_its_lane_and_catches_up_in_order() {
    let world = World::new().await;
    let tenant = tenant();
    let fussy = [81, 82, 83].map(Uuid::from_u128);
    // Refused in the fold, refused by the table, and a fold that panics; each between events that are fine.
    let mut firsts = Vec::new();
    for (stream, what) in fussy.into_iter().zip(["bad", "huge", "panic"]) {
        let events = vec![tally("good"), tally(what), tally("good")];
        firsts.push(world.append(tenant, "tally", stream, 0, events).await - 1);
    }
    let (projections, _task) = world.start(Model::of::<Tally>());
    let mut last = 0;
    for n in 0..30 {
        last = world.append(tenant, "tally", FINE, n, vec![tally("good")]).await;
        world.append(tenant, "tally", fussy[0], n + 3, vec![tally("good")]).await;
    }
    projections.progress().wait("tally", Lanes::Of(tenant), last, soon()).await.unwrap();
    assert_eq!((seen(&world, FINE).await, parked(&projections)), (30, 3));
    for (stream, first) in fussy.into_iter().zip(&firsts) {
        assert_eq!(seen(&world, stream).await, 1, "what came before is applied, what is behind is not");
        let told = projections.progress().wait("tally", Lanes::Of(tenant), *first, soon()).await;
        assert!(matches!(&told, Err(WaitError::Parked { .. })), "{told:?}");
    }
    let reasons = texts(&world, "select reason from projection.parked order by position").await;
    assert_eq!(reasons[..2], ["a bad event", "PostgreSQL refused a statement (23514)"]);
    assert!(reasons[2].contains("panicked"), "{reasons:?}");
    let health = projections.health();
    assert!(health.is_well(), "the lane runs: {health:?}");
    assert_eq!((&health.models[0].lanes[3].status, health.models[0].lanes[3].parked), (&LaneStatus::Running, 3));

    fussy.into_iter().for_each(forgive);
    until(|| async { parked(&projections) == 0 }).await;
    assert_eq!([seen(&world, fussy[0]).await, seen(&world, fussy[1]).await], [33, 3]);
    projections.progress().wait("tally", Lanes::All, last, soon()).await.unwrap();
    world.reached(&projections, "tally", last + 1).await;
    assert_eq!(texts(&world, "select reason from projection.parked").await, [""; 0]);
    assert_as_rebuilt(&world).await;
}

#[tokio::test]
async fn an_event_whose_personal_fields_do_not_open_parks_its_stream_only() {
    let world = World::new().await;
    let (projections, _task) = world.start(Model::of::<Tally>());
    let mut sealed = tally("good");
    sealed.payload = format!("{{\"what\":{{\"$subject\":\"{}\",\"sealed\":\"AAAA\"}}}}", Uuid::from_u128(5));
    world.append(tenant(), "tally", Uuid::from_u128(80), 0, vec![sealed, tally("good")]).await;
    let last = world.append(tenant(), "tally", FINE, 0, vec![tally("good")]).await;
    world.reached(&projections, "tally", last).await;
    assert_eq!((parked(&projections), seen(&world, FINE).await, seen(&world, Uuid::from_u128(80)).await), (1, 1, 0));
    let reasons = texts(&world, "select reason from projection.parked").await;
    assert!(reasons[0].contains("restore the key tables"), "{reasons:?}");
}

#[tokio::test]
async fn tenants_of_the_same_lane_are_not_told_of_each_others_parked_streams() {
    let world = World::new().await;
    let lane = |tenant| daybook_projections::engine::lane_of(tenant, Tally::LANES);
    let poor = tenant();
    let rich = (1u128..).map(|n| TenantId(Uuid::from_u128(n))).find(|t| *t != poor && lane(*t) == lane(poor)).unwrap();
    let (projections, _task) = world.start(Model::of::<Tally>());
    let first = world.append(poor, "tally", Uuid::from_u128(84), 0, vec![tally("bad")]).await;
    let fine = world.append(rich, "tally", FINE, 0, vec![tally("good")]).await;
    let last = world.append(poor, "tally", Uuid::from_u128(84), 1, vec![tally("good")]).await;
    let progress = projections.progress();
    progress.wait("tally", Lanes::Of(rich), last, soon()).await.unwrap();
    for parked in [first, last] {
        let told = progress.wait("tally", Lanes::Of(poor), parked, soon()).await;
        assert_eq!(told, Err(WaitError::Parked { streams: 1, reason: "a bad event".into() }));
    }
    progress.wait("tally", Lanes::All, fine, soon()).await.unwrap();
    let count = |lanes| progress.parked("tally", lanes).unwrap();
    assert_eq!((count(Lanes::Of(rich)), count(Lanes::Of(poor)), count(Lanes::All)), (0, 1, 1));
    // What comes after in other streams is all there.
    let after = world.append(poor, "tally", FINE, 0, vec![tally("good")]).await;
    progress.wait("tally", Lanes::Of(poor), after, soon()).await.unwrap();
}

#[tokio::test]
async fn crashes_while_streams_are_parked_and_freed_lose_nothing_and_repeat_nothing() {
    let mut world = World::new().await;
    // Lanes without events get somewhere as well before the next crash.
    world.options.store_every = Duration::from_millis(1);
    let tenants = one_tenant_per_lane();
    let streams = [85, 86, 87].map(Uuid::from_u128);
    let mut last = 0;
    for round in 0..40 {
        for tenant in &tenants[..3] {
            for stream in streams {
                let what = if round == 7 || round == 30 { "bad" } else { "good" };
                last = world.append(*tenant, "tally", stream, round, vec![tally(what)]).await;
            }
        }
    }
    let mut rng = StdRng::seed_from_u64(11);
    let mut crashes = 0;
    loop {
        let (projections, task) = world.start(Model::of::<Tally>());
        if crashes > 15 {
            // One after the other, so that a crash may come between the pages of any.
            streams.iter().take(crashes / 8).copied().for_each(forgive);
        }
        let state = || (projections.progress().position("tally", Lanes::All), parked(&projections));
        projections.progress().wait("tally", Lanes::All, 0, soon()).await.unwrap();
        let before = state();
        let done = || crashes > 40 && state() == (Ok(last), 0);
        // Wherever that is in what it does next.
        let some = rng.random_range(0..4);
        for _ in 0..some {
            tokio::time::timeout(Duration::from_millis(50), until(|| async { done() || state() != before })).await.ok();
            tokio::task::yield_now().await;
        }
        if done() {
            break;
        }
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        crashes += 1;
        assert!(crashes < 600, "it makes no headway");
    }
    for stream in streams {
        let sql = format!("select seen::text || '/' || last from read.tally_v1 where id = '{stream}'");
        assert_eq!(texts(&world, &sql).await, ["40/40"; 3]);
    }
    assert_as_rebuilt(&world).await;
}

#[tokio::test]
async fn beyond_so_many_parked_streams_the_lane_stops_and_says_so() {
    let mut world = World::new().await;
    world.options.parked_max = 3;
    let (projections, _task) = world.start(Model::of::<Tally>());
    let streams = [88, 89, 90, 91].map(Uuid::from_u128);
    let mut last = 0;
    for stream in streams {
        last = world.append(tenant(), "tally", stream, 0, vec![tally("bad")]).await;
    }
    let stopped = projections.progress().wait("tally", Lanes::Of(tenant()), last, soon()).await;
    let reason = "3 streams are parked, the most there may be, and now: a bad event".to_owned();
    assert_eq!(stopped, Err(WaitError::Stopped { reason }));
    assert!(!projections.health().is_well());
    assert_eq!(texts(&world, "select count(*)::text from projection.parked").await, ["3"]);
    // Room for it as soon as one of them is free.
    forgive(streams[1]);
    until(|| async { projections.health().is_well() && seen(&world, streams[1]).await == 1 }).await;
    until(|| async { projections.progress().position("tally", Lanes::All) == Ok(last) }).await;
    streams.into_iter().for_each(forgive);
    until(|| async { parked(&projections) == 0 }).await;
    assert_as_rebuilt(&world).await;
}

#[tokio::test]
async fn a_parked_stream_is_tried_at_once_by_command_and_after_a_start() {
    let mut world = World::new().await;
    // Never by itself.
    world.options.unpark_min = Duration::from_secs(3_600);
    world.options.unpark_max = Duration::from_secs(3_600);
    let (projections, task) = world.start(Model::of::<Tally>());
    let streams = [92, 93].map(Uuid::from_u128);
    let mut last = 0;
    for stream in streams {
        last = world.append(tenant(), "tally", stream, 0, vec![tally("good"), tally("bad"), tally("good")]).await;
    }
    until(|| async { parked(&projections) == 2 }).await;
    forgive(streams[0]);
    let name = StreamName { tenant: tenant(), kind: "tally".into(), id: streams[0] };
    projections.progress().retry("tally", Some(&name)).unwrap();
    until(|| async { parked(&projections) == 1 }).await;
    assert_eq!(seen(&world, streams[0]).await, 3);
    projections.shutdown();
    task.await.unwrap();

    forgive(streams[1]);
    let (projections, _task) = world.start(Model::of::<Tally>());
    projections.progress().wait("tally", Lanes::All, 0, soon()).await.unwrap();
    until(|| async { parked(&projections) == 0 }).await;
    world.reached(&projections, "tally", last).await;
    assert_eq!(seen(&world, streams[1]).await, 3);
    assert_as_rebuilt(&world).await;
}

#[tokio::test]
async fn a_skip_drops_exactly_the_first_parked_event_in_every_version() {
    let world = World::new().await;
    let (projections, _task) = world.start(Model::of::<Tally>());
    let stream = Uuid::from_u128(94);
    let events = ["good", "bad", "good", "bad", "good"].map(tally);
    let last = world.append(tenant(), "tally", stream, 0, events.into()).await;
    let [first, second] = [last - 3, last - 1];
    until(|| async { parked(&projections) == 1 }).await;
    // Refused while the event is not skipped where it is parked.
    let refused = Model::of::<Tally>().rebuild(&world.parts(), &mut |_| {}).await;
    assert!(matches!(refused, Err(RebuildError::Event { position, .. }) if position == first), "{refused:?}");
    for wrong in [first - 1, first + 1, second, last] {
        let refused = projections.skip("tally", wrong, Real.utc()).await;
        assert!(matches!(refused, Err(SkipError::NotParked { .. })), "{wrong}: {refused:?}");
    }
    projections.skip("tally", first, Real.utc()).await.unwrap();
    // Now the next one is the first.
    until(|| async { texts(&world, "select position::text from projection.parked").await == [second.to_string()] })
        .await;
    assert_eq!(seen(&world, stream).await, 2);
    projections.skip("tally", second, Real.utc()).await.unwrap();
    until(|| async { parked(&projections) == 0 }).await;
    projections.skip("tally", second, Real.utc()).await.unwrap();
    assert_eq!(seen(&world, stream).await, 3);
    assert_as_rebuilt(&world).await;
    // Also where the rebuild could apply it.
    forgive(stream);
    let rebuilt = Model::of::<Tally>().rebuild(&world.parts(), &mut |_| {}).await.unwrap();
    assert_eq!((rebuilt.version, rows(&world, 3).await.len()), (3, 1));
    assert!(rows(&world, 3).await[0].contains("\"seen\":3"), "{:?}", rows(&world, 3).await);
    blame(stream);
}

#[tokio::test]
async fn changes_are_handed_out_in_order_or_not_yet() {
    let world = World::new().await;
    let (projections, _task) = world.start(Model::of::<Tally>());
    let stream = Uuid::from_u128(95);
    world.append(tenant(), "tally", FINE, 0, vec![tally("good")]).await;
    world.append(tenant(), "tally", stream, 0, vec![tally("bad"), tally("good")]).await;
    let last = world.append(tenant(), "tally", FINE, 1, vec![tally("good")]).await;
    projections.progress().wait("tally", Lanes::Of(tenant()), last, soon()).await.unwrap();
    let reader = world.reader();
    let read = async |after| {
        let session = reader.begin(Scope::Tenant(tenant())).await.unwrap();
        let until = session.changed_until::<Tally>(tenant()).await.unwrap();
        let changes = session.changes_after::<Tally>(tenant(), after, 10).await;
        session.finish().await.unwrap();
        (until, changes.map(|changes| changes.iter().map(|change| change.tenant_position).collect::<Vec<_>>()))
    };
    let (until_then, changes) = read(0).await;
    assert_eq!((until_then, changes.unwrap()), (1, vec![1]));
    let (_, waits) = read(1).await;
    assert!(matches!(waits, Err(ReadError::Parked { read_model: "tally" })), "{waits:?}");
    forgive(stream);
    until(|| async { parked(&projections) == 0 }).await;
    let (until_then, changes) = read(1).await;
    assert_eq!((until_then, changes.unwrap()), (4, vec![2, 3, 4]));
}

#[tokio::test]
async fn two_engines_at_once_park_and_free_everything_once() {
    let world = World::new().await;
    let stream = Uuid::from_u128(96);
    let (one, _one) = world.start(Model::of::<Tally>());
    let (two, _two) = world.start(Model::of::<Tally>());
    let mut last = 0;
    for n in 0..30 {
        let what = if n == 4 { "bad" } else { "good" };
        world.append(tenant(), "tally", stream, n, vec![tally(what)]).await;
        last = world.append(tenant(), "tally", FINE, n, vec![tally("good")]).await;
        if n == 20 {
            forgive(stream);
        }
    }
    for engine in [&one, &two] {
        world.reached(engine, "tally", last).await;
        until(|| async { parked(engine) == 0 }).await;
    }
    assert_eq!((seen(&world, stream).await, seen(&world, FINE).await), (30, 30));
    assert_as_rebuilt(&world).await;
}
