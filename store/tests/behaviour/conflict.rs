//! An append that was decided on another version is refused alone, as a whole, and says so.

use daybook_store::journal::{Append, AppendError, Known, StreamAppend, StreamId, StreamKey};
use daybook_testing::{TestDatabase, append, event, tenant};
use futures_util::future::join_all;
use uuid::Uuid;

fn stream(id: u128) -> StreamId {
    StreamId { kind: "thing", id: Uuid::from_u128(id) }
}

/// Adds another stream to an append.
fn also(mut to: Append, id: u128, expected: u64) -> Append {
    to.streams.push(StreamAppend { stream: stream(id), expected, events: vec![event("{}")] });
    to
}

async fn events(db: &TestDatabase) -> i64 {
    db.superuser().await.query_one("select count(*) from journal.events", &[]).await.expect("a count").get(0)
}

#[tokio::test]
async fn a_wrong_expected_version_names_the_stream_and_both_versions_and_writes_nothing() {
    let db = TestDatabase::new().await;
    let (journal, _task) = db.journal().await;
    let tenant = tenant();
    let one = Uuid::from_u128(1);
    journal.append(append(tenant, one, 0, vec![event("{}"), event("{}")]), Known::default()).await.expect("an append");
    for expected in [0, 1, 3] {
        let refused = journal.append(append(tenant, one, expected, vec![event("{}")]), Known::default()).await;
        assert_eq!(refused, Err(AppendError::Conflict { stream: stream(1), expected, actual: 2 }));
    }
    let text = AppendError::Conflict { stream: stream(1), expected: 3, actual: 2 }.to_string();
    assert!(text.contains(&format!("thing/{one}")) && text.contains("2 events, not 3"), "{text}");
    assert_eq!(events(&db).await, 2);
    let commands: i64 =
        db.superuser().await.query_one("select count(*) from journal.commands", &[]).await.expect("a count").get(0);
    assert_eq!(commands, 1, "a refusal is not recorded");
}

#[tokio::test]
async fn the_neighbours_of_a_refused_append_in_its_batch_are_written() {
    let db = TestDatabase::new().await;
    let (journal, _task) = db.journal().await;
    let tenant = tenant();
    let first = append(tenant, Uuid::from_u128(1), 0, vec![event("{}"), event("{}")]);
    let first = journal.append(first, Known::default()).await.expect("an append");
    // Nothing needs a look-up, so all of these reach the writer together.
    let known = Known { versions_at: Some(first.seen), unused_at: None };
    let mut appends: Vec<_> =
        (0..30u128).map(|n| append(tenant, Uuid::from_u128(100 + n), 0, vec![event("{}")])).collect();
    appends.insert(15, append(tenant, Uuid::from_u128(1), 1, vec![event("{}")]));
    let mut answers = join_all(appends.into_iter().map(|a| journal.append(a, known))).await;
    assert_eq!(answers.remove(15), Err(AppendError::Conflict { stream: stream(1), expected: 1, actual: 2 }));
    let batches: Vec<_> = answers.into_iter().map(|a| a.expect("a neighbour is written").seen.batch).collect();
    assert!(batches.iter().all(|b| *b == batches[0]), "not one batch, so nothing is shown: {batches:?}");
    assert_eq!(events(&db).await, 32);
}

#[tokio::test]
async fn an_append_to_several_streams_is_written_as_a_whole_or_not_at_all() {
    let db = TestDatabase::new().await;
    let (journal, _task) = db.journal().await;
    let tenant = tenant();
    let both = also(append(tenant, Uuid::from_u128(1), 0, vec![event("{}")]), 2, 0);
    let both = journal.append(both, Known::default()).await.expect("an append");
    assert_eq!(both.stream_ids, [Uuid::from_u128(1), Uuid::from_u128(2)]);
    assert_eq!((both.first_tenant_position, both.last_tenant_position), (1, 2));

    let mixed = also(also(append(tenant, Uuid::from_u128(1), 1, vec![event("{}")]), 2, 7), 3, 0);
    let refused = journal.append(mixed, Known::default()).await;
    assert_eq!(refused, Err(AppendError::Conflict { stream: stream(2), expected: 7, actual: 1 }));
    assert_eq!(events(&db).await, 2);
    for (id, length) in [(1, 1), (2, 1), (3, 0)] {
        let loaded = journal.load(&StreamKey { tenant, stream: stream(id) }, 0).await.expect("a load");
        assert_eq!(loaded.events.len(), length, "stream {id}");
    }
}

#[tokio::test]
async fn a_stream_that_was_only_read_and_moved_is_a_conflict() {
    let db = TestDatabase::new().await;
    let (journal, _task) = db.journal().await;
    let tenant = tenant();
    let mut reading = append(tenant, Uuid::from_u128(2), 0, vec![event("{}")]);
    reading.reads = vec![(stream(1), 0)];
    // As if it was decided before the stream that was read got its first event.
    let before = journal.load(&StreamKey { tenant, stream: stream(1) }, 0).await.expect("a load").seen;
    journal
        .append(append(tenant, Uuid::from_u128(1), 0, vec![event("{}")]), Known::default())
        .await
        .expect("an append");

    for known in [Known::default(), Known { versions_at: Some(before), unused_at: None }] {
        let refused = journal.append(reading.clone(), known).await;
        assert_eq!(refused, Err(AppendError::Conflict { stream: stream(1), expected: 0, actual: 1 }));
    }
    reading.reads = vec![(stream(1), 1)];
    journal.append(reading, Known::default()).await.expect("decided on what is there");
    assert_eq!(events(&db).await, 2);
}

#[tokio::test]
async fn of_twenty_concurrent_appends_to_one_version_exactly_one_wins() {
    let db = TestDatabase::new().await;
    let (journal, _task) = db.journal().await;
    let tenant = tenant();
    for version in 0..5 {
        let tries = (0..20)
            .map(|_| journal.append(append(tenant, Uuid::from_u128(1), version, vec![event("{}")]), Known::default()));
        let (won, lost): (Vec<_>, Vec<_>) = join_all(tries).await.into_iter().partition(Result::is_ok);
        assert_eq!((won.len(), lost.len()), (1, 19));
        for answer in lost {
            let conflict = AppendError::Conflict { stream: stream(1), expected: version, actual: version + 1 };
            assert_eq!(answer, Err(conflict));
        }
    }
    assert_eq!(events(&db).await, 5);
}

#[tokio::test]
async fn the_same_stream_id_in_another_tenant_is_another_stream() {
    let db = TestDatabase::new().await;
    let (journal, _task) = db.journal().await;
    let (a, b) = (tenant(), tenant());
    for tenant in [a, b] {
        let first = append(tenant, Uuid::from_u128(1), 0, vec![event("{}")]);
        let first = journal.append(first, Known::default()).await.expect("an append");
        assert_eq!((first.first_tenant_position, first.last_tenant_position), (1, 1));
    }
}
