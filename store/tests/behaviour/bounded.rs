//! The writer's memory has limits, and what exceeds them is told, never lost and never trusted.

use daybook_store::journal::machine::Config;
use daybook_store::journal::{AppendError, Known};
use daybook_testing::{TestDatabase, append, event, tenant, test_config};
use futures_util::future::join_all;
use uuid::Uuid;

async fn events(db: &TestDatabase) -> i64 {
    db.superuser().await.query_one("select count(*) from journal.events", &[]).await.expect("a count").get(0)
}

#[tokio::test]
async fn a_full_queue_refuses_what_is_too_much_and_writes_the_rest() {
    let db = TestDatabase::new().await;
    let (journal, _task) = db.journal_with(Config { queue_requests_max: 4, ..test_config() }).await;
    let t = tenant();
    let first = journal.append(append(t, Uuid::from_u128(1), 0, vec![event("{}")]), Known::default()).await;
    let known = Known { versions_at: Some(first.expect("an append").seen), unused_at: None };
    let appends: Vec<_> = (0..50u128).map(|n| append(t, Uuid::from_u128(100 + n), 0, vec![event("{}")])).collect();
    let answers = join_all(appends.iter().map(|a| journal.append(a.clone(), known))).await;
    let written = answers.iter().filter(|a| a.is_ok()).count();
    assert!((4..50).contains(&written), "{written} of 50 with room for 4");
    assert_eq!(answers.iter().filter(|a| **a == Err(AppendError::Overloaded)).count(), 50 - written);
    assert_eq!(events(&db).await, 1 + written as i64);
    // Later, there is room again.
    for (append, answer) in appends.into_iter().zip(answers) {
        if answer.is_err() {
            journal.append(append, known).await.expect("an append");
        }
    }
    assert_eq!(events(&db).await, 51);
}

#[tokio::test]
async fn a_queue_is_full_by_bytes_too() {
    let db = TestDatabase::new().await;
    let big = format!(r#"{{"a":"{}"}}"#, "x".repeat(10_000));
    let (journal, _task) = db.journal_with(Config { queue_bytes_max: 35_000, ..test_config() }).await;
    let t = tenant();
    let first = journal.append(append(t, Uuid::from_u128(1), 0, vec![event("{}")]), Known::default()).await;
    let known = Known { versions_at: Some(first.expect("an append").seen), unused_at: None };
    let appends = (0..20u128).map(|n| journal.append(append(t, Uuid::from_u128(100 + n), 0, vec![event(&big)]), known));
    let answers = join_all(appends).await;
    let written = answers.iter().filter(|a| a.is_ok()).count();
    assert!((3..20).contains(&written), "{written} of 20 with room for 3");
    assert_eq!(answers.iter().filter(|a| **a == Err(AppendError::Overloaded)).count(), 20 - written);
}

#[tokio::test]
async fn what_was_seen_before_the_window_is_looked_up_again() {
    let db = TestDatabase::new().await;
    let (journal, _task) = db.journal_with(Config { window_entries_max: 4, heads_max: 1, ..test_config() }).await;
    let t = tenant();
    let first = journal.append(append(t, Uuid::from_u128(1), 0, vec![event("{}")]), Known::default()).await;
    let long_ago = Known { versions_at: Some(first.expect("an append").seen), unused_at: None };
    journal.append(append(t, Uuid::from_u128(1), 1, vec![event("{}")]), long_ago).await.expect("an append");
    // Everything about the first stream leaves the window, and its tenant's tree leaves the heads.
    let others: Vec<_> = (0..5).map(|_| tenant()).collect();
    for n in 0..20u128 {
        let other = others[n as usize % others.len()];
        journal
            .append(append(other, Uuid::from_u128(n + 10), 0, vec![event("{}")]), Known::default())
            .await
            .expect("an append");
    }
    // What was true long ago is not believed: the stream has moved since.
    let stale = journal.append(append(t, Uuid::from_u128(1), 1, vec![event("{}")]), long_ago).await;
    assert!(matches!(stale, Err(AppendError::Conflict { expected: 1, actual: 2, .. })), "{stale:?}");
    // What still is true is found to be so, with the tenant's tree.
    let third = journal.append(append(t, Uuid::from_u128(1), 2, vec![event("{}")]), long_ago).await.expect("an append");
    assert_eq!((third.first_tenant_position, third.last_tenant_position), (3, 3));
}

#[tokio::test]
async fn a_repeat_is_recognised_after_its_command_has_left_the_window() {
    let db = TestDatabase::new().await;
    let (journal, _task) = db.journal_with(Config { window_entries_max: 4, heads_max: 1, ..test_config() }).await;
    let t = tenant();
    let mut command = append(t, Uuid::from_u128(1), 0, vec![event("{}")]);
    command.command.fresh = false;
    let before = journal.earlier(&command.command).await.expect("an answer").expect_err("unused");
    let first = journal.append(command.clone(), Known::default()).await.expect("an append");
    for n in 0..20u128 {
        let other = append(tenant(), Uuid::from_u128(n + 10), 0, vec![event("{}")]);
        journal.append(other, Known::default()).await.expect("an append");
    }
    // The caller says that the id was unused, and it was, back then.
    let known = Known { versions_at: Some(before), unused_at: Some(before) };
    let repeat = journal.append(command, known).await.expect("an answer");
    assert!(repeat.deduplicated);
    assert_eq!(repeat.last_position, first.last_position);
    assert_eq!(events(&db).await, 21);
}

#[tokio::test]
async fn many_tenants_write_through_tiny_memories_without_a_wrong_tree() {
    let db = TestDatabase::new().await;
    let tiny = Config { window_entries_max: 8, heads_max: 2, batch_events_max: 6, ..test_config() };
    let (journal, _task) = db.journal_with(tiny).await;
    let tenants: Vec<_> = (0..10).map(|_| tenant()).collect();
    let writers: Vec<_> = (0..20usize)
        .map(|writer| {
            let (journal, t) = (journal.clone(), tenants[writer % 10]);
            tokio::spawn(async move {
                let mut known = Known::default();
                for version in 0..15 {
                    let append = append(t, Uuid::from_u128(writer as u128 + 1), version, vec![event("{}")]);
                    let outcome = journal.append(append, known).await.expect("an append");
                    known = Known { versions_at: Some(outcome.seen), unused_at: None };
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("a writer");
    }
    assert_eq!(events(&db).await, 300);
    let wrong = db
        .superuser()
        .await
        .query_one(
            "select count(*) from (
                 select tenant_position - row_number() over (partition by tenant_id order by position) as off
                 from journal.events) e where off <> 0",
            &[],
        )
        .await
        .expect("a count");
    assert_eq!(wrong.get::<_, i64>(0), 0, "tenant positions are not dense");
}
