//! A command is carried out once, however often it is sent, and every repeat gets its one true answer.

use daybook_domain::TenantId;
use daybook_store::journal::{Append, AppendError, Journal, JournalOptions, Known, Outcome};
use daybook_store::system::{Real, System};
use daybook_testing::{TestDatabase, append, event, system, tenant, test_config};
use futures_util::future::join_all;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// An append whose command id came from a client: it may have been used before.
fn sent(tenant: TenantId, stream: u128, expected: u64, events: usize) -> Append {
    let events = (0..events).map(|_| event("{}")).collect();
    let mut append = append(tenant, Uuid::from_u128(stream), expected, events);
    append.command.fresh = false;
    append
}

async fn count(db: &TestDatabase, what: &str) -> i64 {
    db.superuser().await.query_one(&format!("select count(*) from journal.{what}"), &[]).await.expect("a count").get(0)
}

fn repeated(first: &Outcome, repeat: &Outcome) {
    assert!(!first.deduplicated && repeat.deduplicated);
    let plain =
        |o: &Outcome| (o.tenant, o.first_tenant_position, o.last_tenant_position, o.last_position, o.recorded_at_us);
    assert_eq!(plain(first), plain(repeat));
    assert_eq!(first.stream_ids, repeat.stream_ids);
}

#[tokio::test]
async fn a_repeat_gets_the_original_outcome_and_writes_nothing() {
    let db = TestDatabase::new().await;
    let (journal, _task) = db.journal().await;
    let t = tenant();
    let command = sent(t, 1, 0, 2);
    let first = journal.append(command.clone(), Known::default()).await.expect("an append");
    // The stream moves on; the repeat is still answered, not refused as a conflict.
    journal.append(sent(t, 1, 2, 1), Known::default()).await.expect("an append");
    for _ in 0..3 {
        // A repeat brings events and a hash key of its own.
        let mut again = sent(t, 1, 0, 2);
        again.command.id = command.command.id;
        again.command.hash_key = [42; 32];
        repeated(&first, &journal.append(again, Known::default()).await.expect("an answer"));
    }
    let told = journal.earlier(&command.command).await.expect("an answer").expect("an earlier outcome");
    repeated(&first, &told);
    assert_eq!(count(&db, "events").await, 3);
}

#[tokio::test]
async fn a_repeat_is_not_refused_while_its_first_attempt_is_on_its_way() {
    let db = TestDatabase::new().await;
    let (journal, _task) = db.journal().await;
    let t = tenant();
    journal.append(sent(t, 1, 0, 1), Known::default()).await.expect("an append");

    // The first attempt hangs in the database; reading goes on.
    let superuser = db.superuser().await;
    superuser.batch_execute("begin; lock table journal.commands in share mode").await.expect("a lock");
    let (first, other) = (sent(t, 1, 1, 1), sent(t, 1, 7, 1));
    let spawn = |append: Append| {
        let journal = journal.clone();
        tokio::spawn(async move { journal.append(append, Known::default()).await })
    };
    let hanging = spawn(first.clone());
    let waits = "select count(*) = 1 from pg_locks where not granted and relation = 'journal.commands'::regclass";
    let watcher = db.superuser().await;
    while !watcher.query_one(waits, &[]).await.expect("an answer").get::<_, bool>(0) {
        tokio::task::yield_now().await;
    }
    // Both are conflicts as far as anybody can look up; one of them is the repeat of what hangs.
    let mut repeat = sent(t, 1, 0, 1);
    repeat.command.id = first.command.id;
    let (repeat, question) = (spawn(repeat), {
        let (journal, stamp) = (journal.clone(), first.command.clone());
        let seen = journal.earlier(&stamp).await.expect("an answer").expect_err("an unused id");
        tokio::spawn(async move { journal.refusable(&stamp, seen).await })
    });
    let other = spawn(other);
    superuser.batch_execute("commit").await.expect("an end");
    let first = hanging.await.expect("a task").expect("an append");
    repeated(&first, &repeat.await.expect("a task").expect("the one true outcome"));
    repeated(&first, &question.await.expect("a task").expect("an answer").expect("the one true outcome"));
    let refused = other.await.expect("a task");
    assert!(matches!(refused, Err(AppendError::Conflict { expected: 7, .. })), "{refused:?}");
    let unused = sent(t, 1, 7, 1).command;
    let seen = journal.earlier(&unused).await.expect("an answer").expect_err("an unused id");
    assert_eq!(journal.refusable(&unused, seen).await, Ok(None));
    assert_eq!(count(&db, "events").await, 2);
}

#[tokio::test]
async fn the_same_id_with_another_content_is_refused_wherever_it_is_recognised() {
    let db = TestDatabase::new().await;
    let (journal, _task) = db.journal().await;
    let t = tenant();
    let command = sent(t, 1, 0, 1);
    let seen = journal.append(command.clone(), Known::default()).await.expect("an append").seen;
    let mut other = sent(t, 2, 0, 1);
    other.command.id = command.command.id;
    other.command.digest = [8; 32];
    let reused = Err(AppendError::CommandReused(command.command.id));
    // Found by the look-up, then by the writer itself, to which the caller says that it looked before.
    assert_eq!(journal.append(other.clone(), Known::default()).await, reused);
    let before = daybook_store::journal::Seen { batch: seen.batch - 1, ..seen };
    let known = Known { versions_at: Some(before), unused_at: Some(before) };
    assert_eq!(journal.append(other.clone(), known).await, reused);
    assert_eq!(journal.earlier(&other.command).await, Err(AppendError::CommandReused(command.command.id)));
    // Ids are the tenant's own.
    let mut elsewhere = other;
    elsewhere.tenant = tenant();
    elsewhere.command.tenant = elsewhere.tenant;
    journal.append(elsewhere, Known::default()).await.expect("another tenant's command");
    assert_eq!(count(&db, "events").await, 2);
}

#[tokio::test]
async fn a_command_that_produced_nothing_is_recorded_with_an_expiry_and_answered() {
    let db = TestDatabase::new().await;
    let (journal, _task) = db.journal().await;
    let t = tenant();
    journal.append(sent(t, 1, 0, 3), Known::default()).await.expect("an append");
    let nothing = sent(t, 1, 3, 0);
    let first = journal.append(nothing.clone(), Known::default()).await.expect("an answer");
    assert_eq!((first.first_tenant_position, first.last_tenant_position, first.last_position), (4, 3, 3));
    repeated(&first, &journal.append(nothing.clone(), Known::default()).await.expect("an answer"));
    assert_eq!(count(&db, "events").await, 3);

    let rows = db
        .superuser()
        .await
        .query(
            "select command_id, (extract(epoch from expires_at - recorded_at) * 1000000)::bigint
             from journal.commands order by expires_at nulls first",
            &[],
        )
        .await
        .expect("the records");
    let records: Vec<(Uuid, Option<i64>)> = rows.iter().map(|r| (r.get(0), r.get(1))).collect();
    assert_eq!(records.len(), 2);
    assert_eq!(records[0].1, None, "what produced events is kept for ever");
    assert_eq!(records[1], (nothing.command.id, Some(test_config().nothing_kept_us)));
}

#[tokio::test]
async fn an_expired_record_can_go_and_its_id_is_then_free() {
    let db = TestDatabase::new().await;
    let mut config = test_config();
    config.nothing_kept_us = 0;
    let (journal, _task) = db.journal_with(config).await;
    let t = tenant();
    let nothing = sent(t, 1, 0, 0);
    journal.append(nothing.clone(), Known::default()).await.expect("an answer");
    journal.append(sent(t, 1, 0, 1), Known::default()).await.expect("an append");
    let writer = db.database().connect(daybook_store::Role::Writer, "").await.expect("a session");
    let gone = writer.execute("delete from journal.commands where expires_at < clock_timestamp()", &[]).await;
    assert_eq!(gone.expect("a purge"), 1);
    assert!(journal.earlier(&nothing.command).await.expect("an answer").is_err(), "the record is gone");
}

#[tokio::test]
async fn once_erased_a_record_is_answered_from_its_id_alone() {
    let db = TestDatabase::new().await;
    let (journal, _task) = db.journal().await;
    let t = tenant();
    let command = sent(t, 1, 0, 1);
    let first = journal.append(command.clone(), Known::default()).await.expect("an append");
    let writer = db.database().connect(daybook_store::Role::Writer, "").await.expect("a session");
    let erased = writer.execute("update journal.commands set hash_key = null", &[]).await;
    assert_eq!(erased.expect("an erasure"), 1);
    let mut other = sent(t, 1, 0, 1);
    other.command.id = command.command.id;
    other.command.digest = [8; 32];
    repeated(&first, &journal.append(other, Known::default()).await.expect("an answer"));
    writer.execute("update journal.commands set hash_key = '\\x01'", &[]).await.expect_err("a key never comes back");
    assert_eq!(count(&db, "events").await, 1);
}

#[tokio::test]
async fn a_repeat_while_the_first_is_in_flight_waits_for_it() {
    let db = TestDatabase::new().await;
    let (journal, _task) = db.journal().await;
    let t = tenant();
    let seen = journal.append(sent(t, 9, 0, 1), Known::default()).await.expect("an append").seen;
    // Nobody looks anything up, so all of them are before the writer at once.
    let known = Known { versions_at: Some(seen), unused_at: Some(seen) };
    let command = sent(t, 1, 0, 1);
    let answers = join_all((0..10).map(|_| journal.append(command.clone(), known))).await;
    let outcomes: Vec<_> = answers.into_iter().map(|a| a.expect("an answer")).collect();
    let (first, repeats): (Vec<_>, Vec<_>) = outcomes.iter().partition(|o| !o.deduplicated);
    assert_eq!((first.len(), repeats.len()), (1, 9));
    repeats.iter().for_each(|r| repeated(first[0], r));
    assert_eq!(count(&db, "events").await, 2);
}

#[tokio::test]
async fn a_caller_that_went_away_learns_its_outcome_by_repeating() {
    let db = TestDatabase::new().await;
    let (journal, _task) = db.journal().await;
    let t = tenant();
    let seen = journal.append(sent(t, 9, 0, 1), Known::default()).await.expect("an append").seen;
    let known = Known { versions_at: Some(seen), unused_at: Some(seen) };
    let command = sent(t, 1, 0, 1);
    {
        let mut away = std::pin::pin!(journal.append(command.clone(), known));
        // One poll hands it to the writer.
        assert!(futures_util::poll!(away.as_mut()).is_pending());
    }
    let answer = journal.append(command, Known::default()).await.expect("an answer");
    assert_eq!((answer.first_tenant_position, answer.last_tenant_position), (2, 2));
    assert_eq!(count(&db, "events").await, 2);
}

/// Repeats until there is an answer; how often there was none.
async fn until_answered(journal: &Journal, append: &Append, unknown: &AtomicUsize) -> Outcome {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match journal.append(append.clone(), Known::default()).await {
            Ok(outcome) => return outcome,
            Err(AppendError::UnknownOutcome(id)) => {
                assert_eq!(id, append.command.id);
                unknown.fetch_add(1, Ordering::Relaxed);
            }
            Err(AppendError::Unavailable(_) | AppendError::Overloaded) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
        assert!(Instant::now() < deadline, "no answer");
    }
}

#[tokio::test]
async fn appends_whose_writer_is_cut_off_are_written_exactly_once() {
    const WRITERS: u128 = 12;
    const EACH: usize = 60;
    const CUTS: usize = 8;
    let db = TestDatabase::new().await;
    let mut options = JournalOptions::new(Real.uuid_v4());
    options.writer = test_config();
    // Shorter than a reconnection now and then, so that callers are left without an answer too.
    options.append_timeout = Duration::from_millis(60);
    let (journal, _task) = Journal::start(db.database(), system(), options);
    journal.ready(Instant::now() + Duration::from_secs(20)).await.expect("a writer");
    let t = tenant();
    let answered = Arc::new(AtomicUsize::new(0));
    let unknown = Arc::new(AtomicUsize::new(0));
    let writers: Vec<_> = (0..WRITERS)
        .map(|stream| {
            let (journal, answered, unknown) = (journal.clone(), answered.clone(), unknown.clone());
            tokio::spawn(async move {
                let mut told = Vec::new();
                for version in 0..EACH as u64 {
                    let command = sent(t, stream + 1, version, 1);
                    let outcome = until_answered(&journal, &command, &unknown).await;
                    answered.fetch_add(1, Ordering::Relaxed);
                    told.push((command.streams[0].events[0].event_id, command.command.id, outcome.last_position));
                }
                told
            })
        })
        .collect();
    let superuser = db.superuser().await;
    let first_epoch = journal.epoch();
    let all = usize::try_from(WRITERS).expect("few") * EACH;
    for cut in 0..CUTS {
        let reach = all * cut / (CUTS + 1);
        while answered.load(Ordering::Relaxed) < reach {
            tokio::task::yield_now().await;
        }
        superuser.execute("select pg_terminate_backend(backend_pid) from journal.lease", &[]).await.expect("a cut");
    }
    let mut told = BTreeMap::new();
    for writer in writers {
        for (event, command, position) in writer.await.expect("a writer") {
            told.insert(position, (event, command));
        }
    }
    assert_eq!(told.len(), all, "two answers with one position");
    assert!(journal.epoch() > first_epoch, "no cut hit the writer");
    let rows = superuser
        .query(
            "select e.position, e.event_id, c.command_id, e.tenant_position, e.sequence
             from journal.events e left join journal.commands c on c.last_position = e.position order by 1",
            &[],
        )
        .await
        .expect("the journal");
    assert_eq!(rows.len(), all, "lost or doubled");
    for (row, (position, (event, command))) in rows.iter().zip(&told) {
        assert_eq!(row.get::<_, i64>(0).cast_unsigned(), *position);
        assert_eq!((row.get::<_, Uuid>(1), row.get::<_, Uuid>(2)), (*event, *command));
        assert_eq!(row.get::<_, i64>(3), row.get::<_, i64>(0), "one tenant, so both positions agree");
    }
    assert_eq!(told.keys().copied().collect::<Vec<_>>(), (1..=all as u64).collect::<Vec<_>>());
}
