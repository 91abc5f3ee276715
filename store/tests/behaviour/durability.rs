//! Nothing is told before it is durable: not an answer, not a refusal, not an event.
//!
//! The server waits for a standby that never comes, so a synchronous commit does not return until
//! the test lets it. The writer's own commits do not wait: what they wrote is visible, not durable.

use daybook_store::database::{Database, Role};
use daybook_store::journal::follow::{Follower, Source};
use daybook_store::journal::machine::{Config, Plant};
use daybook_store::journal::{Append, AppendError, Journal, JournalOptions, Known, Outcome, StreamId, StreamKey};
use daybook_store::schema::migrate_with;
use daybook_store::system::{Micros, Real, System};
use daybook_testing::{PARTITION_SIZE, TestServer, append, event, system, tenant, test_config};
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::Client;
use uuid::Uuid;

const NEVER: Micros = 3_600 * 1_000_000;
/// Whether somebody's commit waits for the standby.
const WAITS: &str = "select count(*) > 0 from pg_stat_activity where wait_event = 'SyncRep' and $1 = ''";

struct Setting {
    server: TestServer,
    superuser: Client,
    journal: Journal,
    database: Database,
}

impl Setting {
    async fn start(plant: Option<Plant>) -> Self {
        let server = TestServer::start(&[]).await;
        let database = server.database("postgres");
        migrate_with(&database, &Real, PARTITION_SIZE).await.expect("migrations");
        let superuser = database.connect(Role::Login, "-c synchronous_commit=local").await.expect("a session");
        let mut options = JournalOptions::new(Real.uuid_v4());
        // The lease is renewed by a synchronous commit, which would wait as well.
        options.writer = Config { plant, lease_ttl_us: NEVER, lease_renew_us: NEVER, ..test_config() };
        options.append_timeout = Duration::from_secs(60);
        let (journal, _) = Journal::start(&database, system(), options);
        journal.ready(Instant::now() + Duration::from_secs(20)).await.expect("a writer");
        Setting { server, superuser, journal, database }
    }

    async fn standbys(&self, names: &str) {
        self.superuser
            .batch_execute(&format!("alter system set synchronous_standby_names = '{names}'"))
            .await
            .expect("a setting");
        self.superuser.batch_execute("select pg_reload_conf()").await.expect("a reload");
        // New sessions see it once the postmaster has; those that run, at their next command.
        self.until("select current_setting('synchronous_standby_names') = $1", names).await;
        let probe =
            async || self.database.connect(Role::Login, "-c synchronous_commit=local").await.expect("a session");
        loop {
            let row = probe().await.query_one("select current_setting('synchronous_standby_names')", &[]).await;
            if row.expect("a setting").get::<_, String>(0) == names {
                return;
            }
        }
    }

    async fn is(&self, condition: &str, parameter: &str) -> bool {
        self.superuser.query_one(condition, &[&parameter]).await.expect("an answer").get(0)
    }

    async fn until(&self, condition: &str, parameter: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.is(condition, parameter).await {
            assert!(Instant::now() < deadline, "never: {condition}");
            tokio::task::yield_now().await;
        }
    }

    /// Until an event of this type is visible and a flush is waiting.
    async fn visible(&self, events: &str) {
        self.until("select count(*) = $1::text::bigint from journal.events", events).await;
    }

    async fn flush_waits(&self) {
        self.until(WAITS, "").await;
    }

    fn spawn(&self, append: Append, known: Known) -> tokio::task::JoinHandle<Result<Outcome, AppendError>> {
        let journal = self.journal.clone();
        tokio::spawn(async move { journal.append(append, known).await })
    }
}

/// Makes a flush impossible and appends; whether the append is answered all the same.
async fn answered_without_a_flush(plant: Option<Plant>) -> bool {
    let setting = Setting::start(plant).await;
    let t = tenant();
    let first = setting.spawn(append(t, Uuid::from_u128(1), 0, vec![event("{}")]), Known::default());
    let first = first.await.expect("a task").expect("an append");
    assert_eq!(setting.journal.durable().borrow().position, 1);
    setting.standbys("nobody").await;

    let known = Known { versions_at: Some(first.seen), unused_at: None };
    let second = setting.spawn(append(t, Uuid::from_u128(1), 1, vec![event("{}")]), known);
    setting.visible("2").await;
    if plant.is_none() {
        setting.flush_waits().await;
    } else {
        // The planted writer answers on its own: wait for the answer, which must not exist.
        let answer = second.await.expect("a task").expect("an append");
        assert_eq!(answer.last_position, 2);
        setting.standbys("").await;
        return true;
    }
    let told = second.is_finished() || setting.journal.durable().borrow().position > 1;
    setting.standbys("").await;
    assert_eq!(second.await.expect("a task").expect("an append").last_position, 2);
    assert_eq!(setting.journal.durable().borrow().position, 2);
    told
}

#[tokio::test]
async fn an_append_is_answered_only_after_a_flush_that_began_after_its_commit() {
    assert!(!answered_without_a_flush(None).await);
}

#[tokio::test]
async fn a_writer_that_answers_before_the_flush_is_found_out_by_this() {
    assert!(answered_without_a_flush(Some(Plant::AnswerBeforeFlush)).await);
}

#[tokio::test]
async fn a_caller_who_comes_alone_waits_for_the_commit_itself_until_somebody_else_comes() {
    let setting = Setting::start(None).await;
    let t = tenant();
    let mut known = Known::default();
    let mut next = {
        let mut version = 0;
        move || {
            version += 1;
            append(t, Uuid::from_u128(1), version - 1, vec![event("{}")])
        }
    };
    for _ in 0..40 {
        let outcome = setting.spawn(next(), known).await.expect("a task").expect("an append");
        known = Known { versions_at: Some(outcome.seen), unused_at: None };
    }

    // The writer's own session waits for the disk: no flusher comes into it, and nothing is visible. It hears of
    // the setting a moment after the others; until then its commits do not wait.
    setting.standbys("nobody").await;
    let mut before = 40;
    let alone = loop {
        let alone = setting.spawn(next(), known);
        let waits = "select $1 = '' and exists (select from pg_stat_activity where wait_event = 'SyncRep'
                                                and pid = (select backend_pid from journal.lease))";
        while !alone.is_finished() && !setting.is(waits, "").await {
            tokio::task::yield_now().await;
        }
        if !alone.is_finished() {
            break alone;
        }
        let seen = alone.await.expect("a task").expect("an append").seen;
        known = Known { versions_at: Some(seen), unused_at: None };
        before += 1;
    };
    setting.visible(&before.to_string()).await;
    assert!(!alone.is_finished(), "an answer before the disk");
    assert_eq!(setting.journal.durable().borrow().position, before);
    // Somebody else, while it waits: nothing needs a look-up, and the writer takes whatever is there at its next
    // look, which the database's answers to these questions give it time for.
    let other = setting.spawn(append(t, Uuid::from_u128(2), 0, vec![event("{}")]), known);
    for _ in 0..20 {
        assert!(!setting.is("select count(*) > $1::text::bigint from journal.events", &before.to_string()).await);
    }
    setting.standbys("").await;
    let seen = alone.await.expect("a task").expect("an append").seen;
    assert_eq!(other.await.expect("a task").expect("an append").last_position, before + 2);

    // From now on commits follow each other again without waiting.
    setting.standbys("nobody").await;
    known = Known { versions_at: Some(seen), unused_at: None };
    let mut last = before + 3;
    let after = loop {
        let after = setting.spawn(next(), known);
        while !after.is_finished() && !setting.is(WAITS, "").await {
            tokio::task::yield_now().await;
        }
        if !after.is_finished() {
            break after;
        }
        // Its flusher had not heard of the setting either.
        let seen = after.await.expect("a task").expect("an append").seen;
        known = Known { versions_at: Some(seen), unused_at: None };
        last += 1;
        assert!(last < before + 16, "a flush never waits");
    };
    setting.visible(&last.to_string()).await;
    assert!(!after.is_finished(), "an answer before the flush");
    setting.standbys("").await;
    assert_eq!(after.await.expect("a task").expect("an append").last_position, last);
}

#[tokio::test]
async fn refusals_repeats_and_followers_wait_for_what_they_rest_on() {
    let setting = Setting::start(None).await;
    let t = tenant();
    let first = setting.spawn(append(t, Uuid::from_u128(1), 0, vec![event("{}")]), Known::default());
    let first = first.await.expect("a task").expect("an append");
    let known = Known { versions_at: Some(first.seen), unused_at: None };
    setting.standbys("nobody").await;

    let mut command = append(t, Uuid::from_u128(1), 1, vec![event("{}")]);
    let original = setting.spawn(command.clone(), known);
    setting.visible("2").await;
    setting.flush_waits().await;
    // Refused by the writer and by the look-up; a repeat; the question for an earlier outcome.
    let by_writer = setting.spawn(append(t, Uuid::from_u128(1), 1, vec![event("{}")]), known);
    let by_look_up = setting.spawn(append(t, Uuid::from_u128(1), 1, vec![event("{}")]), Known::default());
    command.command.fresh = false;
    let repeat = setting.spawn(command.clone(), Known::default());
    let (journal, stamp) = (setting.journal.clone(), command.command.clone());
    let earlier = tokio::spawn(async move { journal.earlier(&stamp).await });
    let durable = setting.journal.durable();
    let mut local = Follower::new(setting.database.clone(), Source::Writer(durable.clone()), 1, 10);
    let mut remote = Follower::new(setting.database.clone(), Source::Journal, 1, 10);
    let remote = tokio::spawn(async move { remote.next().await.expect("events") });
    // Loading is allowed to see it: who answers from it waits.
    let key = StreamKey { tenant: t, stream: StreamId { kind: "thing", id: Uuid::from_u128(1) } };
    let loaded = setting.journal.load(&key, 0).await.expect("a load");
    assert_eq!(loaded.events.len(), 2);
    let journal = setting.journal.clone();
    let waiting = tokio::spawn(async move { journal.wait_durable(loaded.seen).await });
    // The follower on another node has read and waits for a flush of its own.
    setting
        .until(
            "select count(*) > 0 from pg_stat_activity where wait_event = 'SyncRep' and usename = current_user
                and query like $1 and pid <> all (select backend_pid from journal.lease)",
            "%pg_logical_emit_message%",
        )
        .await;
    setting.until("select count(*) >= 2 from pg_stat_activity where wait_event = 'SyncRep' and $1 = ''", "").await;

    assert!(local.poll_once().await.expect("an answer").is_empty(), "an event before it is durable");
    assert_eq!(durable.borrow().position, 1);
    for (name, finished) in [
        ("the append", original.is_finished()),
        ("the writer's refusal", by_writer.is_finished()),
        ("the look-up's refusal", by_look_up.is_finished()),
        ("the repeat", repeat.is_finished()),
        ("the earlier outcome", earlier.is_finished()),
        ("the follower elsewhere", remote.is_finished()),
        ("the wait", waiting.is_finished()),
    ] {
        assert!(!finished, "{name} came before anything was durable");
    }

    setting.standbys("").await;
    let original = original.await.expect("a task").expect("an append");
    let conflict = AppendError::Conflict { stream: key.stream.clone(), expected: 1, actual: 2 };
    assert_eq!(by_writer.await.expect("a task"), Err(conflict.clone()));
    assert_eq!(by_look_up.await.expect("a task"), Err(conflict));
    assert_eq!(repeat.await.expect("a task").expect("a repeat").last_position, original.last_position);
    assert_eq!(earlier.await.expect("a task").expect("an answer").expect("an outcome").last_position, 2);
    assert_eq!(remote.await.expect("a task").len(), 1);
    waiting.await.expect("a task").expect("durable");
    assert_eq!(local.next().await.expect("events").len(), 1);
    setting.journal.shutdown().await;
    setting.server.stop().await;
}
