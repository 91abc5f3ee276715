//! kill -9 of PostgreSQL between a projector's commit and its flush: what was told before is shown again, or nothing is.

use crate::harness::{World, soon, until};
use crate::tally::{Tally, one_tenant_per_lane, tally};
use daybook_domain::TenantId;
use daybook_projections::engine::{Lanes, Parts};
use daybook_projections::{Model, Projections, ReadError, ReadModel, Reader, Scope};
use daybook_store::database::Role;
use daybook_store::journal::follow::Source;
use daybook_store::journal::{Durable, Seen, Standing};
use daybook_testing::process::{self, Signal};
use daybook_testing::{TestDatabase, test_config};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

const STREAM: Uuid = Uuid::from_u128(1);
/// A commit may be flushed by chance; hardly this often in a row.
const CRASHES_MAX: u64 = 12;

/// An engine that hears of the writer only through the test, so that nobody tells it of a crash.
struct Node {
    projections: Projections,
    reader: Reader,
    told: watch::Sender<Durable>,
    _task: JoinHandle<()>,
    _stands: watch::Sender<Standing>,
}

impl Node {
    fn start(world: &World, keeps: bool) -> Self {
        let (told, durable) = watch::channel(*world.journal.durable().borrow());
        let leading = keeps.then_some(Seen { epoch: 1, batch: 1 });
        let (stands, standing) = watch::channel(Standing { leading, stopped: None });
        let parts = Parts { source: Source::Writer(durable), ..world.parts() };
        let (projections, task) = Projections::start_beside(parts, &[Model::of::<Tally>()], standing);
        let reader = world.reader().keeping_to(projections.progress().clone());
        Node { projections, reader, told, _task: task, _stands: stands }
    }

    /// Everything up to here is durable.
    fn hears(&self, position: u64) {
        self.told.send_modify(|durable| durable.position = position);
    }

    async fn shows(&self, tenant: TenantId, position: u64) {
        self.projections.progress().wait("tally", Lanes::Of(tenant), position, soon()).await.unwrap();
    }

    async fn seen(&self, tenant: TenantId) -> Result<i64, ReadError> {
        seen(&self.reader, tenant).await
    }
}

/// How many events of a tenant are in the rows.
async fn seen(reader: &Reader, tenant: TenantId) -> Result<i64, ReadError> {
    let session = reader.begin(Scope::Tenant(tenant)).await?;
    let table = session.table::<Tally>()?;
    let rows = session.query(&format!("select seen from {table} where tenant_id = $1"), &[&tenant.0]).await?;
    session.finish().await?;
    Ok(rows.first().map_or(0, |row| row.get(0)))
}

/// Nothing is flushed here but what somebody waits for.
async fn world() -> World {
    let never = 3_600 * 1_000_000;
    let writer =
        daybook_store::journal::machine::Config { lease_ttl_us: never, lease_renew_us: never, ..test_config() };
    let mut world = World::on(TestDatabase::alone().await, writer).await;
    world.options.store_every = Duration::from_secs(3_600);
    world
}

/// Writes until a crash has taken back the rows of the last event, while the event is there; says how many events there are, and
/// the position of the last.
async fn crash_between_commit_and_flush(world: &mut World, tenant: TenantId, nodes: &[&Node]) -> (i64, u64) {
    for n in 0..CRASHES_MAX {
        let superuser = world.db.superuser().await;
        // What there is so far stays: the read model itself, too.
        for node in nodes {
            until(|| async { node.projections.health().models[0].version == 1 }).await;
        }
        superuser.batch_execute("checkpoint").await.unwrap();
        let walwriter = "select pid from pg_stat_activity where backend_type = 'walwriter'";
        let walwriter: i32 = superuser.query_one(walwriter, &[]).await.unwrap().get(0);
        process::signal(&[u32::try_from(walwriter).unwrap()], Signal::STOP);
        let epoch = world.journal.epoch();
        let position = world.append(tenant, "tally", STREAM, n, vec![tally("x")]).await;
        for node in nodes {
            node.hears(position);
            node.shows(tenant, position).await;
        }
        let count = i64::try_from(n).unwrap() + 1;
        for node in nodes {
            assert_eq!(node.seen(tenant).await.unwrap(), count);
        }
        world.db.server().kill();
        let deadline = soon();
        // It may need a moment to be seen as dead.
        while world.db.server().recover().await.is_err() || world.db.database().connect(Role::Login, "").await.is_err()
        {
            assert!(tokio::time::Instant::now() < deadline, "the server does not come back");
        }
        let rows = world.db.superuser().await;
        let sql = format!("select seen from {} where tenant_id = $1", Tally::table(1));
        // Nobody reads as the engine's reader: this one is told nothing and believes the rows.
        let there = rows.query(&sql, &[&tenant.0]).await.unwrap().first().map_or(0, |row| row.get::<_, i64>(0));
        let events = rows.query_one("select count(*) from journal.events", &[]).await.unwrap();
        assert_eq!(events.get::<_, i64>(0), count, "an event that was acknowledged");
        if there < count {
            return (count, position);
        }
        // The writer has noticed.
        until(|| async { world.journal.epoch() > epoch }).await;
    }
    panic!("{CRASHES_MAX} crashes took nothing back");
}

#[tokio::test]
async fn what_was_told_is_shown_after_a_crash_although_nobody_has_told_of_it() {
    let mut world = world().await;
    let tenant = one_tenant_per_lane()[0];
    let node = Node::start(&world, true);
    let (count, position) = crash_between_commit_and_flush(&mut world, tenant, &[&node]).await;
    // Memory still says so.
    node.shows(tenant, position).await;
    assert_eq!(node.seen(tenant).await.unwrap(), count, "the answer shows what was there before the write");
    assert_eq!(node.seen(one_tenant_per_lane()[1]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_node_that_does_not_keep_it_waits_for_the_one_that_does() {
    let mut world = world().await;
    let tenant = one_tenant_per_lane()[0];
    let (keeper, beside) = (Node::start(&world, true), Node::start(&world, false));
    let (count, _) = crash_between_commit_and_flush(&mut world, tenant, &[&keeper, &beside]).await;
    let reader = beside.reader.clone();
    let reading = tokio::spawn(async move { seen(&reader, tenant).await });
    // It has looked, and found the server in another life.
    let looked = "select count(*) from projection.life";
    let session = world.db.superuser().await;
    until(|| async { session.query_one(looked, &[]).await.unwrap().get::<_, i64>(0) == 1 }).await;
    assert!(!reading.is_finished(), "it shows what was there before the write");
    // The keeper hears of a new epoch at last.
    keeper.told.send_modify(|durable| durable.seen.epoch += 1);
    assert_eq!(reading.await.unwrap().unwrap(), count);
}

#[tokio::test]
async fn what_does_not_come_back_is_not_shown_and_other_tenants_are() {
    let mut world = world().await;
    let tenants = one_tenant_per_lane();
    let (keeper, beside) = (Node::start(&world, true), Node::start(&world, false));
    crash_between_commit_and_flush(&mut world, tenants[0], &[&keeper, &beside]).await;
    // Nobody wakes the keeper up.
    let begun = tokio::time::Instant::now();
    let refused = beside.seen(tenants[0]).await;
    assert!(matches!(refused, Err(ReadError::TakenBack { read_model: "tally" })), "{refused:?}");
    assert_eq!(beside.seen(tenants[1]).await.unwrap(), 0);
    assert!(begun.elapsed() < Duration::from_secs(20), "a wait that is bounded, and once");
}
