use crate::harness::{World, event, reached};
use daybook_domain::registry::event_contracts;
use daybook_store::database::Role;
use daybook_store::keys::{KeyFiles, KeyStore, Sealer};
use daybook_store::system::Real;
use daybook_testing::{system, tenant};
use serde_json::{Value, json};
use std::sync::Arc;

const SUBJECT: &str = "0198f000-0000-7000-8000-000000000001";

/// Every string below `sealed`, and the whole text, of what the journal keeps.
async fn sealed_in_journal(world: &World) -> Vec<String> {
    let sql = "select payload, metadata from journal.events";
    let rows = world.db.superuser().await.query(sql, &[]).await.unwrap();
    let texts = rows.iter().flat_map(|row| [row.get::<_, String>(0), row.get(1)]);
    let sealed = |text: String| {
        let parts: Vec<String> = text.split("\"sealed\":\"").skip(1).map(str::to_owned).collect();
        parts.into_iter().map(|rest| rest.split('"').next().unwrap().to_owned())
    };
    texts.flat_map(sealed).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_personal_value_leaves_plain_or_sealed() {
    let world = World::new().await;
    let keys = tempfile::tempdir().unwrap();
    let files = KeyFiles::open(&keys.path().join("keys"), true, "daybook.test", &Real).unwrap();
    let store = KeyStore::new(world.db.database().pool(Role::Writer, 2, ""), Arc::new(files), system());
    let sealer = Sealer::new(Arc::new(store), system());
    let tenant = tenant();
    let contact = json!({"$subject": SUBJECT, "value": {"name": "Ada Lovelace", "email": "ada@example.com"}});
    let mut event = event("platform.tenant.contact_changed", &json!({ "contact": contact }).to_string());
    let mut metadata: Value = serde_json::from_str(&event.metadata).unwrap();
    metadata["ip"] = json!({"$subject": SUBJECT, "value": "192.0.2.77"});
    metadata["user_agent"] = json!({"$subject": SUBJECT, "value": "Mosaic/0.9"});
    metadata["session"] = json!("0198f000-0000-7000-8000-0000000000aa");
    event.payload = sealer.seal(tenant, event.event_id, event.payload).await.unwrap();
    event.metadata = sealer.seal(tenant, event.event_id, metadata.to_string()).await.unwrap();
    let (relay, _task) = world.relay();
    let last = world.append(tenant, 0, vec![event]).await;
    reached(&relay, last).await;

    let sealed = sealed_in_journal(&world).await;
    assert_eq!(sealed.len(), 3);
    let message = world.messages().await.remove(0);
    assert_eq!(message.json()["data"], json!({"contact": {"$subject": SUBJECT, "withheld": true}}));
    let secrets = ["Ada Lovelace", "ada@example.com", "192.0.2.77", "Mosaic", "0000000000aa"].map(str::to_owned);
    // Not in the message, and nowhere on the message server's disk.
    let mut files = vec![message.bytes];
    collect(world.nats.directory(), &mut files);
    assert!(files.len() > 3);
    assert!(files.iter().any(|bytes| contains(bytes, SUBJECT)));
    for secret in sealed.iter().chain(&secrets) {
        assert!(!files.iter().any(|bytes| contains(bytes, secret)), "{secret} has left");
    }
}

fn collect(folder: &std::path::Path, files: &mut Vec<Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => collect(&entry.path(), files),
            false => files.push(std::fs::read(entry.path()).unwrap()),
        }
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_public_event_of_the_registry_leaves_and_no_other() {
    let world = World::new().await;
    let tenant = tenant();
    let mut events = Vec::new();
    let mut public = Vec::new();
    for contract in event_contracts() {
        for sample in &contract.samples {
            // As the domain writes it, unsealed on purpose: what may not leave must not leave even so.
            let event = event(&contract.event_type, &sample.to_string());
            if contract.public {
                public.push(event.event_id.to_string());
            }
            events.push(event);
        }
    }
    let (relay, _task) = world.relay();
    let last = world.append(tenant, 0, events).await;
    reached(&relay, last).await;
    let messages = world.messages().await;
    assert_eq!(messages.iter().map(|message| message.id.clone()).collect::<Vec<_>>(), public);
    for message in &messages {
        let sent = message.json();
        assert_eq!(message.subject.split('.').count(), 5, "{}", message.subject);
        assert!(!contains(&message.bytes, "Ada"), "{sent}");
        assert!(!contains(&message.bytes, "\"value\""), "{sent}");
    }
}
