//! A row that the database refuses fails its own append, not its neighbours in the batch.

use daybook_store::journal::{AppendError, Known, Outcome};
use daybook_testing::{TestDatabase, append, event, tenant};
use futures_util::future::join_all;
use uuid::Uuid;

/// Appends so many at once, some of which the database does not take.
async fn batch_with(appends: usize, poisoned: &[usize]) -> (TestDatabase, Vec<Result<Outcome, AppendError>>) {
    let db = TestDatabase::new().await;
    let check = "alter table journal.events add constraint no_poison check (payload not like '%poison%')";
    db.superuser().await.batch_execute(check).await.expect("a constraint");
    let (journal, task) = db.journal().await;
    let t = tenant();
    let first = journal.append(append(t, Uuid::from_u128(1), 0, vec![event("{}")]), Known::default()).await;
    let known = Known { versions_at: Some(first.expect("an append").seen), unused_at: None };
    let appends = (0..appends).map(|n| {
        let payload = if poisoned.contains(&n) { r#"{"a":"poison"}"# } else { "{}" };
        journal.append(append(t, Uuid::from_u128(100 + n as u128), 0, vec![event("{}"), event(payload)]), known)
    });
    let answers = join_all(appends).await;
    journal.shutdown().await;
    task.await.expect("the writer ends");
    (db, answers)
}

#[tokio::test]
async fn an_append_that_the_database_refuses_fails_alone() {
    // Of the larger number, a second batch is sent before the first is committed, and is refused with it.
    for (appends, poisoned) in [
        (51, vec![0]),
        (51, vec![23]),
        (51, vec![50]),
        (51, vec![7, 8, 40]),
        (200, vec![3]),
        (200, vec![120]),
        (200, vec![0, 99, 100, 131, 199]),
    ] {
        let (db, answers) = batch_with(appends, &poisoned).await;
        for (n, answer) in answers.iter().enumerate() {
            match answer {
                Ok(_) => assert!(!poisoned.contains(&n), "{n} of {poisoned:?} was written"),
                Err(AppendError::Database(why)) => {
                    assert!(poisoned.contains(&n), "{n} failed with {poisoned:?}");
                    assert!(why.contains("no_poison") && why.contains("23514"), "{why}");
                    assert!(!why.contains(r#"{"a""#), "the refusal shows the payload: {why}");
                }
                Err(error) => panic!("{n}: {error:?}"),
            }
        }
        // Nothing of a refused append stays, not even its sound first event, and there is no hole.
        let rows =
            db.superuser().await.query("select position, tenant_position from journal.events order by 1", &[]).await;
        let positions: Vec<(i64, i64)> = rows.expect("rows").iter().map(|r| (r.get(0), r.get(1))).collect();
        let written = 1 + 2 * (appends as i64 - poisoned.len() as i64);
        assert_eq!(positions, (1..=written).map(|p| (p, p)).collect::<Vec<_>>());
        let row = db.superuser().await.query_one("select count(*) from journal.commands", &[]).await.expect("a count");
        assert_eq!(row.get::<_, i64>(0), 1 + appends as i64 - poisoned.len() as i64);
    }
}

#[tokio::test]
async fn the_command_of_a_refused_append_can_be_sent_again() {
    let db = TestDatabase::new().await;
    let superuser = db.superuser().await;
    let check = "alter table journal.events add constraint no_poison check (payload not like '%poison%')";
    superuser.batch_execute(check).await.expect("a constraint");
    let (journal, _task) = db.journal().await;
    let mut command = append(tenant(), Uuid::from_u128(1), 0, vec![event(r#"{"a":"poison"}"#)]);
    command.command.fresh = false;
    let refused = journal.append(command.clone(), Known::default()).await;
    assert!(matches!(refused, Err(AppendError::Database(_))), "{refused:?}");
    superuser.batch_execute("alter table journal.events drop constraint no_poison").await.expect("the remedy");
    let outcome = journal.append(command, Known::default()).await.expect("an append");
    assert!(!outcome.deduplicated);
    assert_eq!(outcome.last_position, 1);
}
