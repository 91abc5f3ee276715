use crate::harness::{World, internal, reached, renamed};
use daybook_bus::Relay;
use daybook_store::journal::Durable;
use daybook_store::journal::recent::Recent;
use daybook_testing::tenant;
use tokio::sync::watch;

#[tokio::test(flavor = "multi_thread")]
async fn public_events_arrive_once_and_in_order_and_the_others_stay() {
    let world = World::new().await;
    let (relay, _task) = world.relay();
    let (one, two) = (tenant(), tenant());
    world.append(one, 0, vec![renamed("a"), internal(), renamed("b")]).await;
    world.append(two, 0, vec![internal(), internal()]).await;
    world.rename(two, 2, 300).await;
    let last = world.append(one, 3, vec![internal()]).await;
    reached(&relay, last).await;
    world.assert_all_there().await;
    let messages = world.messages().await;
    assert_eq!(messages.len(), 302);
    assert!(messages.iter().all(|message| !message.subject.contains("account")));
    assert_eq!(relay.status().published, 302);
    assert_eq!(relay.status().lag, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_a_cloud_event_with_the_id_to_deduplicate_on() {
    let world = World::new().await;
    let (relay, _task) = world.relay();
    let tenant = tenant();
    let last = world.append(tenant, 0, vec![internal(), renamed("Acme")]).await;
    reached(&relay, last).await;
    let message = world.messages().await.remove(0);
    let sent = message.json();
    assert_eq!(message.subject, format!("daybook.{}.platform.tenant.renamed", tenant.0));
    assert_eq!(message.content_type, "application/cloudevents+json");
    assert_eq!(sent["id"], message.id.as_str());
    assert_eq!(sent["specversion"], "1.0");
    assert_eq!(sent["type"], "daybook.platform.tenant.renamed.v1");
    assert_eq!(sent["source"], format!("/tenants/{}", tenant.0));
    assert_eq!(sent["subject"], tenant.0.to_string());
    assert_eq!(sent["dataschema"], "urn:daybook:schema:platform.tenant.renamed.v1");
    assert_eq!(sent["correlationid"], "c-1");
    assert_eq!(sent["position"], format!("opaque:{}:2", tenant.0));
    assert_eq!(sent["data"], serde_json::json!({"name": "Acme"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_published_before_it_is_durable() {
    let world = World::new().await;
    let tenant = tenant();
    let last = world.rename(tenant, 0, 5).await;
    // A writer that has flushed two of the five.
    let durable = *world.journal.durable().borrow();
    let (told, durable) = watch::channel(Durable { position: last - 3, ..durable });
    let mut parts = world.parts();
    parts.recent = Recent::start(world.db.database().clone(), durable).0;
    let (relay, _task) = Relay::start(parts);
    reached(&relay, last - 3).await;
    assert_eq!(world.messages().await.len(), 2);
    told.send_modify(|durable| durable.position = last);
    reached(&relay, last).await;
    world.assert_all_there().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_in_the_stream_disturbs_neither_order_nor_completeness() {
    let world = World::new().await;
    let (relay, _task) = world.relay();
    let tenant = tenant();
    let mut last = world.rename(tenant, 0, 1).await;
    reached(&relay, last).await;
    let stranger = world.jetstream().await;
    for round in 0..5 {
        stranger.publish("daybook.stranger", "boo".into()).await.unwrap().await.unwrap();
        last = world.rename(tenant, 1 + round * 100, 100).await;
    }
    reached(&relay, last).await;
    let messages = world.messages().await;
    let own: Vec<String> = messages.iter().map(|m| m.id.clone()).filter(|id| !id.is_empty()).collect();
    assert_eq!(messages.len() - own.len(), 5);
    let written = world.public_ids().await;
    // The lists are too long to be printed.
    assert!(own == written, "{} of {} arrived, or not in order", own.len(), written.len());
    assert!(relay.status().failures > 0);
}
