//! What clients see of a read model that cannot apply an event.

use crate::harness::{World, admin, code, id};
use async_graphql::futures_util::StreamExt;
use daybook_domain::TenantId;
use daybook_store::journal::{Append, Known, NewEvent, StreamAppend, StreamId};
use daybook_store::system::{Real, System};
use daybook_testing::command;
use serde_json::{Value, json};
use uuid::Uuid;

const MODULES: &str = "{ modules { edges { node { id name } } } }";

/// An event of a stream that no version of the program can read.
async fn poison(w: &World, tenant: Uuid, stream: StreamId, version: u64, event_type: &str) {
    let tenant = TenantId(tenant);
    let event = NewEvent {
        event_id: Real.uuid_v7(),
        event_type: event_type.into(),
        event_version: 1,
        payload: "7".into(),
        metadata: "{}".into(),
    };
    let append = Append {
        tenant,
        command: command(tenant),
        streams: vec![StreamAppend { stream, expected: version, events: vec![event] }],
        reads: vec![],
        claims: vec![],
        releases: vec![],
        not_after: None,
    };
    w.parts.executor.journal().append(append, Known::default()).await.unwrap();
}

#[tokio::test]
async fn a_query_that_touches_a_parked_stream_says_stale_and_others_do_not() {
    let w = World::new().await;
    let (poor, rich) = (w.tenant("Poor").await, w.tenant("Rich").await);
    let bad = w.module(&admin(poor), "bad").await;
    let good = w.module(&admin(poor), "good").await;
    w.module(&admin(rich), "good").await;
    poison(&w, poor, StreamId { kind: "module", id: bad }, 2, "platform.module.disabled").await;
    // Another module of the same tenant goes on, and its author sees his write.
    let disabled = json!({ "id": good, "reason": "because" });
    let disabled = w.mutate(&admin(poor), "disableModule", disabled, "module { id status }").await;
    assert_eq!((id(&disabled["module"]["id"]), &disabled["module"]["status"]), (good, &json!("DISABLED")));

    let answer = w.ask(&admin(poor), MODULES, json!({})).await;
    assert_eq!(answer["extensions"]["stale"], json!(["modules"]), "{answer}");
    assert_eq!(answer["data"]["modules"]["edges"].as_array().unwrap().len(), 2);
    for (who, query) in [(admin(poor), "{ members { edges { node { id } } } }"), (admin(rich), MODULES)] {
        let answer = w.ask(&who, query, json!({})).await;
        assert_eq!(answer["extensions"]["stale"], Value::Null, "{answer}");
    }

    // A subscription would have to leave a change out, so it ends.
    poison(&w, poor, StreamId { kind: "tenant", id: poor }, 1, "platform.tenant.renamed").await;
    let request = World::request(&admin(poor), "subscription { tenantChanged { position } }", json!({}));
    let first = w.schema.execute_stream(request).next().await.unwrap();
    assert_eq!(code(&serde_json::to_value(first).unwrap()), "STALE");
}
