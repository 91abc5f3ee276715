use crate::harness::{STREAM, World, reached, soon, until};
use async_nats::jetstream::stream::Config;
use daybook_bus::{Relay, RelayState};
use daybook_store::journal::Standing;
use daybook_store::system::{Real, System};
use daybook_testing::tenant;
use std::time::Duration;
use tokio::sync::watch;

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_killed_between_publish_and_checkpoint_is_followed_by_one_that_repeats_nothing() {
    let world = World::new().await;
    // A window that is over at once: the server will not recognise what is sent twice.
    let config = Config {
        name: STREAM.into(),
        subjects: vec!["daybook.>".into()],
        duplicate_window: Duration::from_millis(100),
        ..Config::default()
    };
    world.jetstream().await.create_stream(config).await.unwrap();
    let mut parts = world.parts();
    parts.options.save_after = u64::MAX;
    parts.options.save_every = Duration::from_secs(3_600);
    let (relay, task) = Relay::start(parts);
    let tenant = tenant();
    let first = world.rename(tenant, 0, 400).await;
    reached(&relay, first).await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert_eq!(world.checkpoints().await, []);
    let stream = world.jetstream().await.get_stream(STREAM).await.unwrap();
    let over = stream.cached_info().state.last_timestamp.unix_timestamp() + 2;
    until("the end of the window", || Real.utc().timestamp() > over).await;
    let (relay, _task) = world.relay();
    let last = world.rename(tenant, 400, 100).await;
    reached(&relay, last).await;
    world.assert_all_there().await;
    assert_eq!(relay.status().found, 400);
    assert_eq!(relay.status().published, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_halts_notes_how_far_it_came() {
    let world = World::new().await;
    let (relay, task) = world.relay();
    let tenant = tenant();
    let last = world.rename(tenant, 0, 30).await;
    reached(&relay, last).await;
    relay.shutdown();
    soon("the end", task).await.unwrap();
    assert_eq!(world.checkpoints().await, [(i64::try_from(last).unwrap(), 30)]);
    assert_eq!(relay.status().state, RelayState::Waiting);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_leader_relays_and_the_next_one_goes_on_from_the_checkpoint() {
    let world = World::new().await;
    let leads = world.journal.standing().borrow().clone();
    let (first_standing, standing) = watch::channel(leads.clone());
    let (first, _first_task) = Relay::start(daybook_bus::relay::Parts { standing, ..world.parts() });
    let (second_standing, standing) = watch::channel(Standing::default());
    let (second, _second_task) = Relay::start(daybook_bus::relay::Parts { standing, ..world.parts() });
    let tenant = tenant();
    let half = world.rename(tenant, 0, 50).await;
    reached(&first, half).await;
    assert_eq!(second.status().state, RelayState::Waiting);
    first_standing.send_replace(Standing::default());
    until("the first stands down", || first.status().state == RelayState::Waiting).await;
    let last = world.rename(tenant, 50, 50).await;
    second_standing.send_replace(leads);
    reached(&second, last).await;
    world.assert_all_there().await;
    assert_eq!((first.status().published, second.status().published), (50, 50));
    assert_eq!(second.status().found, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_relays_that_both_believe_to_lead_do_not_interleave() {
    let world = World::new().await;
    let (one, _one_task) = world.relay();
    let (two, _two_task) = world.relay();
    let tenant = tenant();
    let mut last = 0;
    for round in 0..20 {
        last = world.rename(tenant, round * 50, 50).await;
    }
    soon("the head", async { tokio::join!(one.reached(last), two.reached(last)) }).await;
    world.assert_all_there().await;
}
