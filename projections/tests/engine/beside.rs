//! Read models that another node keeps: whoever waits for them here waits for what is in the rows.

use crate::harness::{World, soon, until};
use crate::tally::{FreesTheStuck, Tally, blame, forgive, is_one_stuck, one_tenant_per_lane, tally};
use daybook_domain::TenantId;
use daybook_projections::engine::{Lanes, WaitError};
use daybook_projections::read::Scope;
use daybook_projections::{Model, Projections, ReadModel};
use daybook_store::journal::{Seen, Standing};
use daybook_testing::event;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use uuid::Uuid;

const STREAM: Uuid = Uuid::from_u128(1);

fn standing(leads: bool) -> Standing {
    Standing { leading: leads.then_some(Seen { epoch: 1, batch: 1 }), stopped: None }
}

/// A node of its own, and the means to make it the keeper.
struct Node {
    projections: Projections,
    _task: JoinHandle<()>,
    stands: watch::Sender<Standing>,
}

fn node(world: &World, leads: bool) -> Node {
    let (stands, standing) = watch::channel(standing(leads));
    let (projections, task) = Projections::start_beside(world.parts(), &[Model::of::<Tally>()], standing);
    Node { projections, _task: task, stands }
}

impl Node {
    fn keeps(&self, leads: bool) {
        self.stands.send_replace(standing(leads));
    }
}

/// How many events of a tenant are in the rows of the version that answers.
async fn seen(world: &World, tenant: TenantId) -> i64 {
    let session = world.reader().begin(Scope::Tenant(tenant)).await.unwrap();
    let table = session.table::<Tally>().unwrap();
    let rows = session.query(&format!("select seen from {table} where tenant_id = $1"), &[&tenant.0]).await.unwrap();
    let seen = rows.first().map_or(0, |row| row.get(0));
    session.finish().await.unwrap();
    seen
}

#[tokio::test]
async fn who_waits_on_a_node_that_does_not_keep_it_sees_what_was_written() {
    let mut world = World::new().await;
    // What changes nothing keeps nobody waiting for a checkpoint, which may follow much later.
    world.options.store_every = Duration::from_secs(3_600);
    let tenants = one_tenant_per_lane();
    let (keeper, beside) = (node(&world, true), node(&world, false));
    until(|| async { beside.projections.health().models[0].version == 1 }).await;
    for round in 0..6u64 {
        for tenant in &tenants[..4] {
            let position = world.append(*tenant, "tally", STREAM, round, vec![tally("x")]).await;
            beside.projections.progress().wait("tally", Lanes::Of(*tenant), position, soon()).await.unwrap();
            assert_eq!(seen(&world, *tenant).await, i64::try_from(round).unwrap() + 1);
        }
    }
    for n in 0..40u64 {
        let position = world.append(tenants[0], "other", STREAM, n, vec![event("{}")]).await;
        beside.projections.progress().wait("tally", Lanes::All, position, soon()).await.unwrap();
    }
    assert!(keeper.projections.health().is_well() && beside.projections.health().is_well());
    assert_eq!(beside.projections.health().models[0].version, 1);
}

#[tokio::test]
async fn while_nobody_keeps_it_a_wait_ends_at_its_deadline() {
    let world = World::new().await;
    let tenant = one_tenant_per_lane()[0];
    let (keeper, beside) = (node(&world, true), node(&world, false));
    let first = world.append(tenant, "tally", STREAM, 0, vec![tally("x")]).await;
    beside.projections.progress().wait("tally", Lanes::Of(tenant), first, soon()).await.unwrap();
    keeper.keeps(false);
    keeper.projections.progress().wait("tally", Lanes::Of(tenant), first, soon()).await.unwrap();
    let second = world.append(tenant, "tally", STREAM, 1, vec![tally("x")]).await;
    let deadline = Instant::now() + Duration::from_millis(300);
    for node in [&keeper, &beside] {
        let waited = node.projections.progress().wait("tally", Lanes::Of(tenant), second, deadline).await;
        assert!(matches!(waited, Err(WaitError::TooLate { current }) if current < second), "{waited:?}");
    }
    assert_eq!(seen(&world, tenant).await, 1);
    // The other one takes it up where it was left.
    beside.keeps(true);
    for node in [&keeper, &beside] {
        node.projections.progress().wait("tally", Lanes::Of(tenant), second, soon()).await.unwrap();
    }
    assert_eq!(seen(&world, tenant).await, 2);
}

#[tokio::test]
async fn whoever_keeps_it_and_even_if_both_do_every_event_is_in_the_rows_once() {
    let world = World::new().await;
    let tenants = one_tenant_per_lane();
    let nodes = [node(&world, true), node(&world, false)];
    let mut last = 0;
    for round in 0..24u64 {
        // One, the other, none, both.
        nodes[0].keeps(round / 3 % 4 == 0 || round / 3 % 4 == 3);
        nodes[1].keeps(round / 3 % 4 == 1 || round / 3 % 4 == 3);
        for tenant in &tenants[..4] {
            last = world.append(*tenant, "tally", STREAM, round, vec![tally("x")]).await;
        }
    }
    nodes[0].keeps(false);
    nodes[1].keeps(true);
    for node in &nodes {
        node.projections.progress().wait("tally", Lanes::All, last, soon()).await.unwrap();
    }
    for tenant in &tenants[..4] {
        assert_eq!(seen(&world, *tenant).await, 24);
    }
}

#[tokio::test]
async fn a_rebuild_is_noticed_where_it_is_not_kept() {
    let world = World::new().await;
    let tenant = one_tenant_per_lane()[0];
    let (_keeper, beside) = (node(&world, true), node(&world, false));
    let first = world.append(tenant, "tally", STREAM, 0, vec![tally("x")]).await;
    beside.projections.progress().wait("tally", Lanes::Of(tenant), first, soon()).await.unwrap();
    assert_eq!(Tally::NAME, "tally");
    let rebuilt = Model::of::<Tally>().rebuild(&world.parts(), &mut |_| {}).await.unwrap();
    assert_eq!(rebuilt.version, 2);
    until(|| async { beside.projections.health().models[0].version == 2 }).await;
    let second = world.append(tenant, "tally", STREAM, 1, vec![tally("x")]).await;
    beside.projections.progress().wait("tally", Lanes::Of(tenant), second, soon()).await.unwrap();
    assert_eq!(seen(&world, tenant).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_keeper_that_is_paused_in_a_transaction_does_not_hold_its_rows_against_the_next() {
    let world = World::new().await;
    let frees = FreesTheStuck;
    let tenant = one_tenant_per_lane()[0];
    let paused = node(&world, true);
    let first = world.append(tenant, "tally", STREAM, 0, vec![tally("x")]).await;
    paused.projections.progress().wait("tally", Lanes::Of(tenant), first, soon()).await.unwrap();
    let second = world.append(tenant, "tally", STREAM, 1, vec![tally("stuck")]).await;
    until(|| async { is_one_stuck() }).await;
    let next = node(&world, true);
    next.projections.progress().wait("tally", Lanes::Of(tenant), second, soon()).await.unwrap();
    assert!(is_one_stuck(), "it was paused all the while");
    assert_eq!(seen(&world, tenant).await, 2);
    paused.keeps(false);
    drop(frees);
    let third = world.append(tenant, "tally", STREAM, 2, vec![tally("x")]).await;
    for node in [&paused, &next] {
        node.projections.progress().wait("tally", Lanes::Of(tenant), third, soon()).await.unwrap();
    }
    assert_eq!(seen(&world, tenant).await, 3);
}

#[tokio::test]
async fn what_is_parked_where_it_is_kept_is_told_here_and_its_end_too() {
    let world = World::new().await;
    let tenants = one_tenant_per_lane();
    let stream = Uuid::from_u128(0xbe51de);
    let (keeper, beside) = (node(&world, true), node(&world, false));
    let good = world.append(tenants[0], "tally", STREAM, 0, vec![tally("x")]).await;
    let bad = world.append(tenants[1], "tally", stream, 0, vec![tally("bad")]).await;
    let wait =
        async |tenant, position| beside.projections.progress().wait("tally", Lanes::Of(tenant), position, soon()).await;
    let parked = wait(tenants[1], bad).await;
    assert!(matches!(parked, Err(WaitError::Parked { streams: 1, .. })), "{parked:?}");
    wait(tenants[0], good).await.unwrap();
    assert_eq!(beside.projections.progress().parked("tally", Lanes::All).unwrap(), 1);
    forgive(stream);
    keeper.projections.progress().retry("tally", None).unwrap();
    until(|| async { beside.projections.progress().parked("tally", Lanes::All).unwrap() == 0 }).await;
    wait(tenants[1], bad).await.unwrap();
    assert_eq!(seen(&world, tenants[1]).await, 1);
    blame(stream);
}
