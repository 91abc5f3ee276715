use crate::harness::{STREAM, World, reached, soon, until};
use async_nats::jetstream::stream::{Config, StorageType};
use daybook_testing::tenant;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_is_made_when_there_is_none() {
    let world = World::new().await;
    let (relay, _task) = world.relay();
    let last = world.rename(tenant(), 0, 1).await;
    reached(&relay, last).await;
    let stream = world.jetstream().await.get_stream(STREAM).await.unwrap();
    let config = &stream.cached_info().config;
    assert_eq!(config.subjects, ["daybook.>"]);
    assert_eq!(config.storage, StorageType::File);
    assert_eq!(config.duplicate_window, Duration::from_secs(600));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_with_settings_of_its_own_is_used_and_not_changed() {
    let world = World::new().await;
    let own = Config {
        name: STREAM.into(),
        subjects: vec!["daybook.>".into(), "other.>".into()],
        storage: StorageType::Memory,
        max_age: Duration::from_secs(86_400),
        ..Config::default()
    };
    let jetstream = world.jetstream().await;
    let before = jetstream.create_stream(own).await.unwrap().cached_info().config.clone();
    let (relay, _task) = world.relay();
    let last = world.rename(tenant(), 0, 10).await;
    reached(&relay, last).await;
    world.assert_all_there().await;
    assert_eq!(jetstream.get_stream(STREAM).await.unwrap().cached_info().config, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_stream_of_that_name_is_left_alone_and_told_of() {
    let world = World::new().await;
    let foreign = Config { name: STREAM.into(), subjects: vec!["weather.>".into()], ..Config::default() };
    let jetstream = world.jetstream().await;
    jetstream.create_stream(foreign.clone()).await.unwrap();
    let (relay, _task) = world.relay();
    let last = world.rename(tenant(), 0, 3).await;
    until("the trouble is told", || relay.status().trouble().is_some()).await;
    let reason = relay.status().trouble().unwrap().to_owned();
    assert!(reason.contains("DAYBOOK") && reason.contains("weather.>"), "{reason}");
    let left = jetstream.get_stream(STREAM).await.unwrap();
    assert_eq!(left.cached_info().config.subjects, ["weather.>"]);
    assert_eq!(left.cached_info().state.messages, 0);
    // Whoever made it corrects it: the relay goes on by itself.
    jetstream.update_stream(Config { subjects: vec!["daybook.>".into()], ..foreign }).await.unwrap();
    reached(&relay, last).await;
    world.assert_all_there().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subjects_that_another_stream_takes_are_told_of() {
    let world = World::new().await;
    let other = Config { name: "OTHER".into(), subjects: vec!["daybook.*.energy.>".into()], ..Config::default() };
    world.jetstream().await.create_stream(other).await.unwrap();
    let (relay, _task) = world.relay();
    until("the trouble is told", || relay.status().trouble().is_some()).await;
    let status = relay.status();
    assert!(status.trouble().unwrap().contains("another stream takes"), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_lost_is_made_anew_with_the_whole_history() {
    let world = World::new().await;
    let (relay, task) = world.relay();
    let tenant = tenant();
    let half = world.rename(tenant, 0, 40).await;
    reached(&relay, half).await;
    relay.shutdown();
    soon("the end", task).await.unwrap();
    world.delete_stream().await;
    let (relay, _task) = world.relay();
    let last = world.rename(tenant, 40, 10).await;
    reached(&relay, last).await;
    world.assert_all_there().await;
    assert_eq!(relay.status().published, 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_taken_away_while_the_relay_runs_is_made_anew() {
    let world = World::new().await;
    let (relay, _task) = world.relay();
    let tenant = tenant();
    let half = world.rename(tenant, 0, 40).await;
    reached(&relay, half).await;
    world.delete_stream().await;
    let last = world.rename(tenant, 40, 10).await;
    reached(&relay, last).await;
    world.assert_all_there().await;
}
