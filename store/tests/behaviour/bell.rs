//! A follower on a node without a writer hears of new events before it would poll, and misses none.

use daybook_store::journal::Known;
use daybook_store::journal::bell;
use daybook_store::journal::follow::{Follower, Source};
use daybook_testing::{TestDatabase, append, event, tenant};
use std::time::Duration;
use uuid::Uuid;

#[tokio::test]
async fn a_follower_elsewhere_wakes_by_the_bell_alone() {
    let db = TestDatabase::new().await;
    let (journal, _task) = db.journal().await;
    let _ringing = bell::ring(db.database().clone(), journal.durable(), journal.standing());
    let mut heard = bell::listen(db.database().clone());
    // Polling is out of reach, so that only the bell can wake it.
    let mut follower = Follower::new(db.database().clone(), Source::Bell(heard.clone()), 0, 100)
        .polling_every(Duration::from_secs(3_600));
    let tenant = tenant();
    let stream = Uuid::from_u128(5);
    // Until the first ring has arrived, nobody can be sure that the listener listens.
    let mut written = 0;
    while !heard.has_changed().unwrap() {
        journal.append(append(tenant, stream, written, vec![event("{}")]), Known::default()).await.unwrap();
        written += 1;
    }
    heard.borrow_and_update();
    let mut seen = 0;
    for _ in 0..20 {
        journal.append(append(tenant, stream, written, vec![event("{}")]), Known::default()).await.unwrap();
        written += 1;
        while seen < written {
            let events =
                tokio::time::timeout(Duration::from_secs(20), follower.next()).await.expect("the bell").unwrap();
            for event in events {
                seen += 1;
                assert_eq!(event.position, seen);
            }
        }
    }
}
