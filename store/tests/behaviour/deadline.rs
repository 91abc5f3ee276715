//! Deadlines and recorded times: what counts is the time that is written down, and it never goes back.

use daybook_store::journal::{AppendError, Journal, JournalOptions, Known};
use daybook_store::system::{Micros, Now, Real, System, utc};
use daybook_testing::{TestDatabase, append, event, tenant, test_config};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use uuid::Uuid;

const SECOND: Micros = 1_000_000;
/// 2026-01-01T00:00:00Z
const START: Micros = 1_767_225_600 * SECOND;

/// Two clocks that stand still until they are set.
struct Clocks {
    wall_us: AtomicI64,
    mono_us: AtomicI64,
}

impl Clocks {
    fn at(wall_us: Micros) -> Arc<Self> {
        Arc::new(Clocks { wall_us: AtomicI64::new(wall_us), mono_us: AtomicI64::new(77 * SECOND) })
    }

    fn jump(&self, by_us: Micros) {
        self.wall_us.fetch_add(by_us, Ordering::SeqCst);
    }
}

impl System for Clocks {
    fn now(&self) -> Now {
        Now { wall_us: self.wall_us.load(Ordering::SeqCst), mono_us: self.mono_us.load(Ordering::SeqCst) }
    }

    fn random(&self, bytes: &mut [u8]) {
        Real.random(bytes);
    }
}

fn start(db: &TestDatabase, clocks: &Arc<Clocks>) -> (Journal, JoinHandle<()>) {
    let mut options = JournalOptions::new(Real.uuid_v4());
    options.writer = test_config();
    Journal::start(db.database(), clocks.clone(), options)
}

async fn leading(db: &TestDatabase, clocks: &Arc<Clocks>) -> (Journal, JoinHandle<()>) {
    let (journal, task) = start(db, clocks);
    journal.ready(Instant::now() + Duration::from_secs(20)).await.expect("a writer");
    (journal, task)
}

#[tokio::test]
async fn a_deadline_in_the_past_is_too_late_and_one_in_the_future_is_met() {
    let db = TestDatabase::new().await;
    let clocks = Clocks::at(START);
    let (journal, _task) = leading(&db, &clocks).await;
    let t = tenant();
    let until = |n: u128, not_after: Micros| {
        let mut append = append(t, Uuid::from_u128(n), 0, vec![event("{}")]);
        append.not_after = Some(not_after);
        append
    };
    assert_eq!(journal.append(until(1, START - 1), Known::default()).await, Err(AppendError::TooLate));
    // Inclusive.
    let met = journal.append(until(2, START), Known::default()).await.expect("in time");
    assert_eq!(met.recorded_at_us, START);
    journal.append(until(3, START + SECOND), Known::default()).await.expect("in time");
    let rows =
        db.superuser().await.query("select stream_id from journal.events order by position", &[]).await.expect("rows");
    assert_eq!(rows.iter().map(|r| r.get(0)).collect::<Vec<Uuid>>(), [Uuid::from_u128(2), Uuid::from_u128(3)]);
}

#[tokio::test]
async fn a_deadline_is_compared_with_the_time_that_would_be_recorded() {
    let db = TestDatabase::new().await;
    let clocks = Clocks::at(START + 3 * SECOND);
    let (journal, _task) = leading(&db, &clocks).await;
    let t = tenant();
    let mut append = append(t, Uuid::from_u128(1), 0, vec![event("{}")]);
    // The clock goes back a little; the recorded time does not, and it is past the deadline.
    clocks.jump(-3 * SECOND);
    append.not_after = Some(START + SECOND);
    assert_eq!(journal.append(append.clone(), Known::default()).await, Err(AppendError::TooLate));
    append.not_after = Some(START + 3 * SECOND);
    let met = journal.append(append, Known::default()).await.expect("in time");
    assert_eq!(met.recorded_at_us, START + 3 * SECOND);
}

#[tokio::test]
async fn the_recorded_time_never_goes_back_when_the_clock_does() {
    let db = TestDatabase::new().await;
    let clocks = Clocks::at(START);
    let (journal, _task) = leading(&db, &clocks).await;
    let t = tenant();
    let mut told = Vec::new();
    for (version, jump) in [0, 2, -4, 1, 4, -3].into_iter().enumerate() {
        clocks.jump(jump * SECOND);
        let append = append(t, Uuid::from_u128(1), version as u64, vec![event("{}")]);
        told.push(journal.append(append, Known::default()).await.expect("an append").recorded_at_us);
    }
    assert_eq!(told, [0, 2, 2, 2, 3, 3].map(|s| START + s * SECOND));
    let rows = db
        .superuser()
        .await
        .query("select recorded_at from journal.events order by position", &[])
        .await
        .expect("rows");
    let stored: Vec<chrono::DateTime<chrono::Utc>> = rows.iter().map(|r| r.get(0)).collect();
    assert_eq!(stored, told.iter().map(|us| utc(*us)).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_wall_clock_that_jumps_stops_the_writer_with_a_message() {
    for jump in [6, -6] {
        let db = TestDatabase::new().await;
        let clocks = Clocks::at(START);
        let (journal, task) = leading(&db, &clocks).await;
        let t = tenant();
        journal.append(append(t, Uuid::from_u128(1), 0, vec![event("{}")]), Known::default()).await.expect("an append");
        clocks.jump(jump * SECOND);
        let mut standing = journal.standing();
        let stopped = standing.wait_for(|s| s.stopped.is_some()).await.expect("a writer").stopped.clone();
        let reason = stopped.expect("a reason");
        assert!(reason.contains(&format!("jumped by {jump} s")) && reason.contains("time source"), "{reason}");
        task.await.expect("the writer ends");
        let refused = journal.append(append(t, Uuid::from_u128(1), 1, vec![event("{}")]), Known::default()).await;
        assert!(matches!(&refused, Err(AppendError::Unavailable(why)) if why.contains("jumped")), "{refused:?}");
    }
}

#[tokio::test]
async fn a_suspended_machine_is_no_jumping_clock() {
    let db = TestDatabase::new().await;
    let clocks = Clocks::at(START);
    let (journal, _task) = leading(&db, &clocks).await;
    // Nothing else runs between these two: the test has one thread.
    clocks.mono_us.fetch_add(3_600 * SECOND, Ordering::SeqCst);
    clocks.jump(3_600 * SECOND);
    let t = tenant();
    let answer = journal.append(append(t, Uuid::from_u128(1), 0, vec![event("{}")]), Known::default()).await;
    assert_eq!(answer.expect("an append").recorded_at_us, START + 3_600 * SECOND);
}

#[tokio::test]
async fn a_writer_whose_clock_stands_before_the_journal_does_not_start() {
    let db = TestDatabase::new().await;
    let clocks = Clocks::at(START);
    let (journal, task) = leading(&db, &clocks).await;
    let first = append(tenant(), Uuid::from_u128(1), 0, vec![event("{}")]);
    journal.append(first, Known::default()).await.expect("an append");
    journal.shutdown().await;
    task.await.expect("the writer ends");

    let (late, task) = start(&db, &Clocks::at(START - 60 * SECOND));
    let refused = late.ready(Instant::now() + Duration::from_secs(20)).await;
    assert!(
        matches!(&refused, Err(AppendError::Unavailable(why)) if why.contains("60 s before") && why.contains("set the clock")),
        "{refused:?}"
    );
    task.await.expect("the writer ends");

    let (again, _task) = leading(&db, &Clocks::at(START - 4 * SECOND)).await;
    let second = append(tenant(), Uuid::from_u128(2), 0, vec![event("{}")]);
    assert_eq!(again.append(second, Known::default()).await.expect("an append").recorded_at_us, START);
}
