//! The access log: bounded whatever comes, nothing lost while the database is away, gone after its retention.

use chrono::{DateTime, Utc};
use daybook_domain::TenantId;
use daybook_store::access::{AccessLog, AccessOptions, Attempt, AttemptKind};
use daybook_store::system::{Now, Real, SharedSystem, System, utc};
use daybook_testing::{TestDatabase, tenant};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::Client;
use uuid::Uuid;

/// A clock that stands still until it is set.
struct Clock(AtomicI64);

impl System for Clock {
    fn now(&self) -> Now {
        let us = self.0.load(Ordering::SeqCst);
        Now { wall_us: us, mono_us: us }
    }

    fn random(&self, bytes: &mut [u8]) {
        Real.random(bytes);
    }
}

const NOON: i64 = 1_700_049_600_000_000;
const MINUTE: i64 = 60_000_000;

fn clock() -> Arc<Clock> {
    Arc::new(Clock(AtomicI64::new(NOON)))
}

fn often() -> AccessOptions {
    AccessOptions { flush_every: Duration::from_millis(5), ..AccessOptions::default() }
}

fn start(db: &TestDatabase, clock: &Arc<Clock>, options: AccessOptions) -> (AccessLog, tokio::task::JoinHandle<()>) {
    let system: SharedSystem = clock.clone();
    AccessLog::start(db.database(), system, [7; 32], options)
}

fn rename(tenant: TenantId, actor: u128, target: Option<&str>) -> Attempt {
    Attempt {
        kind: AttemptKind::Command,
        tenant,
        actor: Some(Uuid::from_u128(actor)),
        action: "tenant.rename",
        target: target.map(str::to_owned),
    }
}

/// Rows and attempts.
async fn counts(session: &Client) -> (i64, i64) {
    let sql = "select count(*), coalesce(sum(count), 0)::bigint from projection.denied_attempts";
    let row = session.query_one(sql, &[]).await.expect("an answer");
    (row.get(0), row.get(1))
}

async fn until(session: &Client, done: impl Fn((i64, i64)) -> bool) -> (i64, i64) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let counted = counts(session).await;
        if done(counted) {
            return counted;
        }
        assert!(Instant::now() < deadline, "{counted:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_burst_of_a_hundred_thousand_of_one_kind_is_one_row_with_its_count() {
    let db = TestDatabase::new().await;
    let (clock, who) = (clock(), tenant());
    let (log, task) = start(&db, &clock, often());
    for n in 0..100_000 {
        log.record(rename(who, 1, None));
        clock.0.store(NOON + n, Ordering::SeqCst);
        if n % 1_000 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let session = db.superuser().await;
    assert_eq!(until(&session, |(_, attempts)| attempts == 100_000).await, (1, 100_000));
    let row = session.query_one("select first_at, last_at, minute from projection.denied_attempts", &[]).await;
    let row = row.expect("a row");
    let times: [DateTime<Utc>; 3] = [row.get(0), row.get(1), row.get(2)];
    assert_eq!(times, [utc(NOON), utc(NOON + 99_998), utc(NOON)]);
    assert_eq!(log.lost(), 0);
    log.shutdown();
    task.await.expect("an end");
}

#[tokio::test]
async fn different_attempts_have_rows_of_their_own_and_each_minute_begins_anew() {
    let db = TestDatabase::new().await;
    let (clock, who) = (clock(), tenant());
    let (log, task) = start(&db, &clock, often());
    let session = db.superuser().await;
    for attempt in [rename(who, 1, None), rename(who, 2, None), rename(who, 1, Some("x")), rename(tenant(), 1, None)] {
        log.record(attempt.clone());
        log.record(attempt);
    }
    log.record(Attempt { kind: AttemptKind::Read, ..rename(who, 1, None) });
    assert_eq!(until(&session, |(_, attempts)| attempts == 9).await, (5, 9));
    log.record(rename(who, 1, None));
    assert_eq!(until(&session, |(_, attempts)| attempts == 10).await, (5, 10), "added to its row");
    clock.0.store(NOON + MINUTE, Ordering::SeqCst);
    log.record(rename(who, 1, None));
    // What the end finds is written too.
    log.shutdown();
    task.await.expect("an end");
    assert_eq!(counts(&session).await, (6, 11));
}

#[tokio::test]
async fn while_rows_cannot_be_written_nobody_waits_and_nothing_is_lost() {
    let db = TestDatabase::new().await;
    let (clock, who) = (clock(), tenant());
    let session = db.superuser().await;
    session.batch_execute("alter table projection.denied_attempts rename to away").await.expect("a rename");
    let (log, task) = start(&db, &clock, often());
    for n in 0..500 {
        log.record(rename(who, n % 5, None));
        tokio::time::sleep(Duration::from_micros(100)).await;
    }
    session.batch_execute("alter table projection.away rename to denied_attempts").await.expect("a rename");
    assert_eq!(until(&session, |(_, attempts)| attempts == 500).await, (5, 500));
    log.shutdown();
    task.await.expect("an end");
}

#[tokio::test]
async fn rows_go_after_their_retention_and_not_before() {
    let db = TestDatabase::new().await;
    let (clock, who) = (clock(), tenant());
    let options =
        AccessOptions { retention: Duration::from_secs(3_600), purge_every: Duration::from_millis(5), ..often() };
    let session = db.superuser().await;
    session
        .execute(
            "insert into projection.denied_attempts (tenant_id, minute, kind, action, target, first_at, last_at, count)
             select $1, $2::timestamptz - n * interval '1 s', 'read', 'x', n::text, now(), now(), 1
             from generate_series(1, 12000) n",
            &[&who.0, &utc(NOON)],
        )
        .await
        .expect("rows");
    let (log, task) = start(&db, &clock, options);
    // An hour is 3,600 seconds; 8,400 rows are more than one step deletes.
    assert_eq!(until(&session, |(rows, _)| rows <= 3_600).await.0, 3_600);
    clock.0.store(NOON + 30 * MINUTE, Ordering::SeqCst);
    assert_eq!(until(&session, |(rows, _)| rows <= 1_800).await.0, 1_800);
    log.shutdown();
    task.await.expect("an end");
}

#[tokio::test]
async fn a_token_is_told_from_another_and_cannot_be_told_from_its_hash() {
    let db = TestDatabase::new().await;
    let (log, task) = start(&db, &clock(), often());
    let system: SharedSystem = clock();
    let (other, other_task) = AccessLog::start(db.database(), system, [8; 32], often());
    let hash = log.token_hash("a token");
    assert_eq!(hash, log.token_hash("a token"));
    assert_ne!(hash, log.token_hash("a tokem"));
    assert_ne!(hash, other.token_hash("a token"), "keyed: no list of hashes of usual passwords helps");
    assert_eq!(hash.len(), 8);
    for (log, task) in [(log, task), (other, other_task)] {
        log.shutdown();
        task.await.expect("an end");
    }
}
