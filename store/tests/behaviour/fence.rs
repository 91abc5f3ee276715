//! One writer at a time: the lease decides who tries, the fence who may.

use daybook_store::journal::machine::Config;
use daybook_store::journal::{AppendError, Journal, JournalOptions, Known, StreamId, StreamKey};
use daybook_store::system::{Micros, Real, System};
use daybook_testing::{TestDatabase, append, event, system, tenant, test_config};
use futures_util::future::join_all;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use uuid::Uuid;

const LONG: Micros = 600 * 1_000_000;

/// A node of its own.
fn node(db: &TestDatabase, lease_ttl_us: Micros, append_timeout: Duration) -> (Journal, JoinHandle<()>) {
    let mut options = JournalOptions::new(Real.uuid_v4());
    options.writer = Config { lease_ttl_us, lease_renew_us: lease_ttl_us / 4, ..test_config() };
    options.append_timeout = append_timeout;
    Journal::start(db.database(), system(), options)
}

async fn leads(journal: &Journal, within: Duration) -> Option<u64> {
    journal.ready(Instant::now() + within).await.ok().map(|seen| seen.epoch)
}

async fn count(db: &TestDatabase, what: &str) -> i64 {
    db.superuser().await.query_one(&format!("select count(*) from journal.{what}"), &[]).await.expect("a count").get(0)
}

#[tokio::test]
async fn while_one_node_holds_the_lease_another_does_not_write() {
    let db = TestDatabase::new().await;
    let (first, _first) = node(&db, 1_000_000, Duration::from_secs(10));
    let epoch = leads(&first, Duration::from_secs(20)).await.expect("a writer");
    let (second, _second) = node(&db, 1_000_000, Duration::from_millis(200));
    let t = tenant();
    // Longer than the lease, so that it was renewed.
    assert_eq!(leads(&second, Duration::from_millis(1_500)).await, None);
    let refused = second.append(append(t, Uuid::from_u128(1), 0, vec![event("{}")]), Known::default()).await;
    assert!(matches!(refused, Err(AppendError::Unavailable(_))), "{refused:?}");
    first.append(append(t, Uuid::from_u128(1), 0, vec![event("{}")]), Known::default()).await.expect("an append");
    assert_eq!(first.epoch(), Some(epoch), "the other one only asked");
    assert_eq!(count(&db, "events").await, 1);
}

#[tokio::test]
async fn after_a_shutdown_the_next_node_leads_at_once() {
    let db = TestDatabase::new().await;
    let (first, task) = node(&db, LONG, Duration::from_secs(10));
    let epoch = leads(&first, Duration::from_secs(20)).await.expect("a writer");
    let t = tenant();
    first.append(append(t, Uuid::from_u128(1), 0, vec![event("{}")]), Known::default()).await.expect("an append");
    first.shutdown().await;
    task.await.expect("the writer ends");
    let refused = first.append(append(t, Uuid::from_u128(1), 1, vec![event("{}")]), Known::default()).await;
    assert!(matches!(&refused, Err(AppendError::Unavailable(why)) if why.contains("shutting down")), "{refused:?}");

    // The lease was for ten minutes: it was given back.
    let (second, _task) = node(&db, LONG, Duration::from_secs(10));
    let next = leads(&second, Duration::from_secs(20)).await.expect("a writer");
    assert!(next > epoch);
    second.append(append(t, Uuid::from_u128(1), 1, vec![event("{}")]), Known::default()).await.expect("an append");
}

#[tokio::test]
async fn a_shutdown_finishes_what_was_handed_in_before_it() {
    let db = TestDatabase::new().await;
    let (journal, task) = db.journal().await;
    let t = tenant();
    let first = journal.append(append(t, Uuid::from_u128(1), 0, vec![event("{}")]), Known::default()).await;
    let known = Known { versions_at: Some(first.expect("an append").seen), unused_at: None };
    let last =
        join_all((0..50u128).map(|n| journal.append(append(t, Uuid::from_u128(9 + n), 0, vec![event("{}")]), known)));
    let (answers, ()) = tokio::join!(last, journal.shutdown());
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    task.await.expect("the writer ends");
    assert_eq!(count(&db, "events").await, 51);
}

#[tokio::test]
async fn after_a_death_the_next_node_takes_over_when_the_lease_has_run_out() {
    let db = TestDatabase::new().await;
    let (first, task) = node(&db, 500_000, Duration::from_secs(10));
    let epoch = leads(&first, Duration::from_secs(20)).await.expect("a writer");
    let t = tenant();
    first.append(append(t, Uuid::from_u128(1), 0, vec![event("{}")]), Known::default()).await.expect("an append");
    let (second, _second) = node(&db, 500_000, Duration::from_secs(10));
    task.abort();
    task.await.expect_err("aborted");
    let next = leads(&second, Duration::from_secs(20)).await.expect("a takeover");
    assert!(next > epoch);
    let key = StreamKey { tenant: t, stream: StreamId { kind: "thing", id: Uuid::from_u128(1) } };
    assert_eq!(second.load_ready(&key).await.expect("a load").events.len(), 1);
    second.append(append(t, Uuid::from_u128(1), 1, vec![event("{}")]), Known::default()).await.expect("an append");
    let dead = first.append(append(t, Uuid::from_u128(1), 2, vec![event("{}")]), Known::default()).await;
    assert!(matches!(dead, Err(AppendError::Unavailable(_))), "{dead:?}");
    let rows = db.superuser().await.query("select epoch from journal.batches order by batch", &[]).await.expect("rows");
    assert!(rows.is_sorted_by_key(|r| r.get::<_, i64>(0)), "an epoch never falls");
}

/// A node whose thread can be stopped with all its connections open, like a machine that is paused.
struct Pausable {
    journal: Journal,
    runtime: tokio::runtime::Handle,
    end: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Pausable {
    fn start(db: &TestDatabase, lease_ttl_us: Micros, append_timeout: Duration) -> Self {
        let database = db.database().clone();
        let (tell, told) = std::sync::mpsc::channel();
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let handle = runtime.handle().clone();
            runtime.block_on(async move {
                let mut options = JournalOptions::new(Real.uuid_v4());
                options.writer = Config { lease_ttl_us, lease_renew_us: lease_ttl_us / 4, ..test_config() };
                options.append_timeout = append_timeout;
                let (journal, _task) = Journal::start(&database, system(), options);
                tell.send((journal, handle)).expect("the test listens");
                let _ = ended.await;
            });
        });
        let (journal, runtime) = told.recv().expect("a node");
        Pausable { journal, runtime, end: Some(end), thread: Some(thread) }
    }

    /// Returns once its thread stands still; it goes on when what is returned is dropped.
    fn pause(&self) -> std::sync::mpsc::Sender<()> {
        let (resume, resumed) = std::sync::mpsc::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        self.runtime.spawn(async move {
            tell.send(()).expect("the test listens");
            let _ = resumed.recv();
        });
        told.recv().expect("a pause");
        resume
    }
}

impl Drop for Pausable {
    fn drop(&mut self) {
        drop(self.end.take());
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

#[tokio::test]
async fn a_writer_that_was_paused_through_a_takeover_writes_nothing_more() {
    let db = TestDatabase::new().await;
    let paused = Pausable::start(&db, 500_000, Duration::from_secs(3));
    let epoch = leads(&paused.journal, Duration::from_secs(20)).await.expect("a writer");
    let t = tenant();
    let first = paused.journal.append(append(t, Uuid::from_u128(1), 0, vec![event("{}")]), Known::default()).await;
    let seen = first.expect("an append").seen;

    let resume = paused.pause();
    let (second, _second) = node(&db, 60_000_000, Duration::from_secs(10));
    let next = leads(&second, Duration::from_secs(20)).await.expect("a takeover");
    assert!(next > epoch);
    // It still believes that it leads, and has work.
    assert_eq!(paused.journal.epoch(), Some(epoch));
    let journal = paused.journal.clone();
    let late = join_all((0..10u128).map(|n| {
        let known = Known { versions_at: Some(seen), unused_at: None };
        let mut append = append(t, Uuid::from_u128(1), 1, vec![event(r#"{"late":true}"#)]);
        append.streams[0].stream.id = Uuid::from_u128(100 + n);
        append.streams[0].expected = 0;
        let journal = journal.clone();
        async move { journal.append(append, known).await }
    }));
    let late = tokio::spawn(late);
    let won = second.append(append(t, Uuid::from_u128(1), 1, vec![event(r#"{"late":false}"#)]), Known::default()).await;
    assert_eq!(won.expect("an append").last_position, 2);
    drop(resume);

    for answer in late.await.expect("the late appends") {
        let error = answer.expect_err("it does not lead");
        let honest = matches!(error, AppendError::Unavailable(_) | AppendError::UnknownOutcome(_) | AppendError::Stale);
        assert!(honest, "{error:?}");
    }
    let mut standing = paused.journal.standing();
    standing.wait_for(|s| s.leading.is_none()).await.expect("it steps down");
    let late = "events where payload like '%true%'";
    assert_eq!(count(&db, late).await, 0);
    assert_eq!(count(&db, "events").await, 2);
    assert_eq!(second.epoch(), Some(next), "the one that took over still leads");
}

#[tokio::test]
async fn a_writer_that_finds_the_next_batch_taken_steps_down_and_loses_nothing() {
    let db = TestDatabase::new().await;
    let (journal, _task) = db.journal().await;
    let t = tenant();
    let first = journal.append(append(t, Uuid::from_u128(1), 0, vec![event("{}")]), Known::default()).await;
    let seen = first.expect("an append").seen;
    // As a successor does, behind its back.
    let forged = "insert into journal.batches (batch, epoch, first_position, last_position, recorded_at)
                  select batch + 1, epoch, last_position + 1, last_position, recorded_at
                  from journal.batches order by batch desc limit 1";
    db.superuser().await.execute(forged, &[]).await.expect("a batch");

    let known = Known { versions_at: Some(seen), unused_at: None };
    let appends: Vec<_> = (0..20u128).map(|n| append(t, Uuid::from_u128(100 + n), 0, vec![event("{}")])).collect();
    let answers = join_all(appends.iter().map(|a| journal.append(a.clone(), known))).await;
    for (append, answer) in appends.iter().zip(answers) {
        let id = append.streams[0].events[0].event_id;
        let row =
            db.superuser().await.query_one("select count(*) from journal.events where event_id = $1", &[&id]).await;
        let written: i64 = row.expect("a count").get(0);
        match answer {
            Ok(_) => assert_eq!(written, 1),
            // Decided on what was seen in an epoch that is over: it says so, and wrote nothing.
            Err(AppendError::Stale | AppendError::Unavailable(_)) => assert_eq!(written, 0),
            Err(error) => panic!("{error}"),
        }
        // Once more, and it is there once.
        let mut again = append.clone();
        again.command.fresh = false;
        journal.append(again, Known::default()).await.expect("an answer");
        let row =
            db.superuser().await.query_one("select count(*) from journal.events where event_id = $1", &[&id]).await;
        assert_eq!(row.expect("a count").get::<_, i64>(0), 1);
    }
    assert!(journal.epoch() > Some(seen.epoch));
    let rows = db.superuser().await.query("select position from journal.events order by 1", &[]).await.expect("rows");
    assert_eq!(rows.iter().map(|r| r.get::<_, i64>(0)).collect::<Vec<_>>(), (1..=21).collect::<Vec<_>>());
}
