use crate::harness::{STREAM, World, reached, soon};
use async_nats::jetstream::consumer::{DeliverPolicy, push};
use daybook_testing::tenant;
use futures_util::StreamExt;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// Printed, not asserted: the machine decides.
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_hears_of_everything_while_it_happens() {
    const EVENTS: u64 = 1_000;
    let world = World::new().await;
    let (relay, _task) = world.relay();
    let tenant = tenant();
    let first = world.rename(tenant, 0, 1).await;
    reached(&relay, first).await;
    let jetstream = world.jetstream().await;
    let config = push::OrderedConfig {
        deliver_subject: "hear.daybook".into(),
        filter_subject: format!("daybook.{}.>", tenant.0),
        deliver_policy: DeliverPolicy::New,
        ..push::OrderedConfig::default()
    };
    let stream = jetstream.get_stream(STREAM).await.unwrap();
    let mut messages = stream.create_consumer(config).await.unwrap().messages().await.unwrap();
    let hearing = tokio::spawn(async move {
        let mut heard = HashMap::new();
        while heard.len() < usize::try_from(EVENTS).unwrap() {
            let message = messages.next().await.unwrap().unwrap();
            let id = message.headers.as_ref().and_then(|headers| headers.get("Nats-Msg-Id")).unwrap().to_string();
            heard.insert(id, Instant::now());
        }
        heard
    });
    let (mut asked, mut answered) = (HashMap::new(), Vec::new());
    let mut pace = tokio::time::interval(Duration::from_millis(2));
    for n in 0..EVENTS {
        pace.tick().await;
        let event = crate::harness::renamed(&format!("name {n}"));
        let at = Instant::now();
        asked.insert(event.event_id.to_string(), at);
        world.append(tenant, 1 + n, vec![event]).await;
        answered.push(at.elapsed());
    }
    let heard = soon("the last message", hearing).await.unwrap();
    let told = |what: &str, mut latencies: Vec<Duration>| {
        latencies.sort();
        let at = |share: usize| latencies[latencies.len() * share / 100];
        println!("{what}: p50 {:?}, p99 {:?}, longest {:?}", at(50), at(99), latencies[latencies.len() - 1]);
    };
    told("append to answer", answered);
    told("append to consumer", asked.iter().map(|(id, at)| heard[id].duration_since(*at)).collect());
    assert_eq!(heard.len(), asked.len());
}

/// As after an absence: how fast the relay catches up is printed, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_history_is_caught_up_with() {
    const EVENTS: u64 = 20_000;
    let world = World::new().await;
    let tenant = tenant();
    let mut last = 0;
    for batch in 0..EVENTS / 1_000 {
        last = world.rename(tenant, batch * 1_000, 1_000).await;
    }
    let begun = Instant::now();
    let (relay, _task) = world.relay();
    reached(&relay, last).await;
    println!("{EVENTS} events relayed in {:?}", begun.elapsed());
    assert_eq!(relay.status().published, EVENTS);
    let stream = world.jetstream().await.get_stream(STREAM).await.unwrap();
    assert_eq!(stream.cached_info().state.messages, EVENTS);
}
