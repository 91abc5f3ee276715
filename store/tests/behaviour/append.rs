//! An append gives dense positions, and a load gives back the same bytes.

use daybook_store::journal::{Known, StreamId, StreamKey};
use daybook_testing::{TestDatabase, append, event, tenant};
use uuid::Uuid;

#[tokio::test]
async fn positions_are_dense_and_bytes_come_back_as_they_went() {
    let db = TestDatabase::new().await;
    let (journal, task) = db.journal().await;
    let tenant = tenant();
    let stream = Uuid::from_u128(1);
    let odd = r#"{"b": 1.0,  "a":"é\n"}"#;

    let first =
        journal.append(append(tenant, stream, 0, vec![event(odd), event("{}")]), Known::default()).await.unwrap();
    let second = journal.append(append(tenant, stream, 2, vec![event("{}")]), Known::default()).await.unwrap();

    assert_eq!((first.first_tenant_position, first.last_tenant_position, first.last_position), (1, 2, 2));
    assert_eq!((second.first_tenant_position, second.last_position), (3, 3));
    let key = StreamKey { tenant, stream: StreamId { kind: "thing", id: stream } };
    let loaded = journal.load(&key, 0).await.unwrap();
    assert_eq!(loaded.events.iter().map(|e| e.sequence).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(loaded.events[0].payload, odd);
    assert_eq!(journal.durable().borrow().position, 3);
    journal.shutdown().await;
    task.await.unwrap();
}
