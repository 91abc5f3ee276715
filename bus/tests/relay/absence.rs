use crate::harness::{World, reached, until};
use daybook_bus::RelayState;
use daybook_testing::nats::NatsServer;
use daybook_testing::tenant;

#[tokio::test(flavor = "multi_thread")]
async fn after_an_absence_the_relay_resumes_where_it_was() {
    let mut world = World::new().await;
    let (relay, _task) = world.relay();
    let tenant = tenant();
    let before = world.rename(tenant, 0, 20).await;
    reached(&relay, before).await;
    world.nats.kill().await;
    until("the loss is noticed", || relay.status().trouble().is_some()).await;
    // The journal does not care.
    let mut last = before;
    for batch in 0..50 {
        last = world.rename(tenant, 20 + batch * 10, 10).await;
    }
    assert_eq!(last, before + 500);
    assert_eq!(relay.status().lag, 500);
    assert!(matches!(relay.status().state, RelayState::Away { reason } if reason.contains("NATS")));
    world.nats.restart().await;
    reached(&relay, last).await;
    world.assert_all_there().await;
    assert_eq!(relay.status().state, RelayState::Relaying);
    assert_eq!(relay.status().lag, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_again_and_again_in_mid_stream_gets_everything_once() {
    let mut world = World::new().await;
    let (relay, _task) = world.relay();
    let tenant = tenant();
    let mut last = 0;
    for round in 0..5 {
        let begun = relay.status().position;
        last = world.rename(tenant, round * 1_000, 1_000).await;
        reached(&relay, begun + 1).await;
        world.nats.kill().await;
        world.nats.restart().await;
    }
    reached(&relay, last).await;
    world.assert_all_there().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_jetstream_is_named_as_what_is_wrong() {
    let world = World::with(NatsServer::start_with(&[], false).await).await;
    let (relay, _task) = world.relay();
    until("the trouble is told", || relay.status().trouble().is_some()).await;
    let status = relay.status();
    assert!(status.trouble().unwrap().contains("--jetstream"), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_the_server_cannot_take_stops_the_relay_by_name_and_is_not_skipped() {
    let world = World::with(NatsServer::start_with(&["max_payload: 2000"], true).await).await;
    let (relay, _task) = world.relay();
    let tenant = tenant();
    let small = world.rename(tenant, 0, 3).await;
    let large = crate::harness::renamed(&"x".repeat(2_000));
    let id = large.event_id.to_string();
    world.append(tenant, 3, vec![large]).await;
    world.rename(tenant, 4, 3).await;
    until("the trouble is told", || relay.status().trouble().is_some_and(|reason| reason.contains("max_payload")))
        .await;
    assert!(relay.status().trouble().unwrap().contains(&id));
    assert_eq!(relay.status().position, small);
    assert_eq!(world.messages().await.len(), 3);
}
