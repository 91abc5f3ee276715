//! Long streams: loaded from snapshots or from their first event, the state is the same; and what old versions of
//! events are read as disturbs no version.

mod till;

use daybook_app::{Call, Credential, Executed, Executor, Snapshots, authorize};
use daybook_domain::{Actor, ActorKind, Personal, Role, SubjectId, TenantId};
use daybook_store::database::Role as Session;
use daybook_store::journal::{Journal, Known, NewEvent, StreamId, StreamKey};
use daybook_store::keys::{KeyFiles, KeyStore, Sealer};
use daybook_store::snapshots::Snapshots as Table;
use daybook_store::system::{Real, System};
use daybook_testing::{TestDatabase, append, system, tenant};
use std::sync::Arc;
use std::time::Duration;
use till::{Till, TillCommand};
use uuid::Uuid;

const TILL: Uuid = Uuid::from_u128(0x7111);

struct Setting {
    db: TestDatabase,
    journal: Journal,
    files: Arc<KeyFiles>,
    sealer: Sealer,
    tenant: TenantId,
    _keys: tempfile::TempDir,
}

impl Setting {
    async fn start() -> Self {
        let db = TestDatabase::new().await;
        let (journal, _) = db.journal().await;
        let directory = tempfile::tempdir().expect("a directory");
        let files = Arc::new(KeyFiles::open(directory.path(), true, "daybook.test", &Real).expect("keys"));
        let keys = KeyStore::new(db.database().pool(Session::Writer, 2, ""), files.clone(), system());
        let sealer = Sealer::new(Arc::new(keys), system());
        Setting { db, journal, files, sealer, tenant: tenant(), _keys: directory }
    }

    /// Another process, which remembers nothing and uses no snapshots.
    fn plain(&self) -> Executor {
        Executor::new(self.journal.clone(), self.sealer.clone(), self.files.clone(), system())
    }

    /// Another process, which keeps a state every so many events.
    fn every(&self, every: u64) -> Executor {
        let table = Table::new(self.db.database().pool(Session::Writer, 1, ""));
        let (snapshots, _) = Snapshots::start(table, self.journal.clone(), self.sealer.clone(), system(), every);
        self.plain().with_snapshots(snapshots)
    }

    async fn run(&self, executor: &Executor, command: TillCommand) -> Executed<Till> {
        let actor = Actor { id: Uuid::from_u128(1), kind: ActorKind::Account };
        let who = Credential::new(actor, self.tenant, vec![Role::TenantAdmin], None);
        let authorized = authorize(&who, self.tenant, command).expect("permitted");
        executor.execute::<Till>(authorized, TILL, Call::default()).await.expect("done")
    }

    async fn deposit(&self, executor: &Executor, cents: impl IntoIterator<Item = u64>) -> Executed<Till> {
        self.run(executor, TillCommand::Deposit { cents: cents.into_iter().collect() }).await
    }

    /// State and version, as a process finds them that has not seen the stream before.
    async fn loaded(&self, executor: &Executor) -> (Till, u64) {
        let executed = self.deposit(executor, []).await;
        (executed.state.expect("a state"), executed.version.expect("a version"))
    }

    fn key(&self) -> StreamKey {
        StreamKey { tenant: self.tenant, stream: StreamId { kind: "till", id: TILL } }
    }

    async fn tamper(&self, sql: &str) -> u64 {
        let superuser = self.db.superuser().await;
        superuser.batch_execute("set session_replication_role = replica").await.expect("no guards");
        superuser.execute(sql, &[]).await.expect(sql)
    }

    /// Sequence of the snapshot that there is.
    async fn kept(&self) -> Option<i64> {
        let sql = "select sequence from journal.snapshots where stream_id = $1";
        let row = self.db.superuser().await.query_opt(sql, &[&TILL]).await.expect("an answer");
        row.map(|row| row.get(0))
    }

    /// Waits for what the background writes.
    async fn until_kept(&self, sequence: Option<i64>) {
        for _ in 0..500 {
            if self.kept().await == sequence {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the snapshot is at {:?}, not {sequence:?}", self.kept().await);
    }
}

#[tokio::test]
async fn four_deposits_of_one_are_four_and_not_six() {
    // A snapshot store that applies the events before the snapshot once more gives six.
    let s = Setting::start().await;
    let writing = s.every(2);
    s.deposit(&writing, [0; 120]).await;
    for _ in 0..4 {
        s.deposit(&writing, [1]).await;
    }
    s.until_kept(Some(124)).await;
    let (till, version) = s.loaded(&s.every(2)).await;
    assert_eq!((till.cents, till.deposits, version), (4, 124, 124));
}

#[tokio::test]
async fn random_histories_are_the_same_with_snapshots_and_without() {
    for seed in 1..=6_u64 {
        let s = Setting::start().await;
        let mut random = seed;
        let mut below = |n: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % n
        };
        let every = 1 + below(60);
        for _ in 0..20 {
            // Sometimes it is remembered, sometimes loaded.
            let executor = s.every(every);
            for _ in 0..below(3) {
                let cents: Vec<u64> = (0..below(30)).map(|_| below(1_000)).collect();
                s.deposit(&executor, cents).await;
            }
            if below(5) == 0 {
                let to = Personal::known(SubjectId(Uuid::from_u128(5 + u128::from(below(2)))), "Ada".to_owned());
                s.run(&executor, TillCommand::Hand { to }).await;
            }
            assert_eq!(s.loaded(&s.every(every)).await, s.loaded(&s.plain()).await, "seed {seed}, every {every}");
        }
    }
}

#[tokio::test]
async fn a_long_stream_is_loaded_from_the_snapshot_and_what_came_after_it() {
    let s = Setting::start().await;
    let writing = s.every(50);
    s.deposit(&writing, (0..1_010).map(|_| 1)).await;
    s.until_kept(Some(1_010)).await;
    s.deposit(&writing, [1; 7]).await;
    // Nothing before the snapshot can be read any more, and nobody asks for it.
    let damaged = s.tamper("update journal.events set payload = '{}' where sequence <= 1010").await;
    assert_eq!(damaged, 1_010);
    let (till, version) = s.loaded(&s.every(50)).await;
    assert_eq!((till.cents, version), (1_017, 1_017));
    // The event that the snapshot is of, and seven more.
    let after = s.journal.load_after(&s.key(), 1_009).await.expect("a tail");
    assert_eq!(after.events.len(), 8);
}

#[tokio::test]
async fn a_state_is_kept_when_enough_has_happened_since_the_last() {
    let s = Setting::start().await;
    let writing = s.every(200);
    s.deposit(&writing, [1; 150]).await;
    s.deposit(&writing, [1; 60]).await;
    s.until_kept(Some(210)).await;
    s.deposit(&writing, [1; 100]).await;
    s.deposit(&writing, [1; 100]).await;
    s.until_kept(Some(410)).await;
    // Who loads a stream that nobody has kept keeps it.
    s.tamper("delete from journal.snapshots").await;
    s.loaded(&s.every(200)).await;
    s.until_kept(Some(410)).await;
}

#[tokio::test]
async fn snapshots_that_are_gone_damaged_or_of_another_shape_change_nothing() {
    for spoil in [
        "delete from journal.snapshots",
        "update journal.snapshots set state = 'garbage'",
        "update journal.snapshots set state = '{\"cents\":1000000}'",
        "update journal.snapshots set shape = 6, state = '{\"cents\":1000000,\"deposits\":0,\"positions\":[]}'",
    ] {
        let s = Setting::start().await;
        s.deposit(&s.every(100), [1; 250]).await;
        s.until_kept(Some(250)).await;
        assert_eq!(s.tamper(spoil).await, 1, "{spoil}");
        let (till, version) = s.loaded(&s.every(100)).await;
        assert_eq!((till.cents, till.deposits, version), (250, 250, 250), "{spoil}");
        // And the next one is good again.
        s.deposit(&s.every(100), [1; 60]).await;
        s.until_kept(Some(310)).await;
        assert_eq!(s.loaded(&s.every(100)).await.0.cents, 310, "{spoil}");
    }
}

#[tokio::test]
async fn a_snapshot_of_an_event_that_is_not_in_the_journal_is_not_used() {
    let lie = "state = '{\"cents\":1000000,\"deposits\":0,\"positions\":[]}'";
    // Another event stands there since, or none.
    for spoil in ["event_id = gen_random_uuid()", "sequence = 120", "sequence = 400"] {
        let s = Setting::start().await;
        s.deposit(&s.every(100), [1; 250]).await;
        s.until_kept(Some(250)).await;
        s.tamper(&format!("update journal.snapshots set {spoil}, {lie}")).await;
        let loading = s.every(1_000);
        let (till, version) = s.loaded(&loading).await;
        assert_eq!((till.cents, version), (250, 250), "{spoil}");
        // It is of no use to anybody, and would keep an honest one from its place.
        s.until_kept(None).await;
    }
}

#[tokio::test]
async fn personal_data_in_a_snapshot_is_sealed_and_goes_with_the_person() {
    let s = Setting::start().await;
    let person = SubjectId(Uuid::from_u128(0xada));
    let writing = s.every(100);
    let to = Personal::known(person, "Ada Lovelace".to_owned());
    s.run(&writing, TillCommand::Hand { to: to.clone() }).await;
    s.deposit(&writing, [1; 249]).await;
    s.until_kept(Some(250)).await;
    let row = s.db.superuser().await.query_one("select state from journal.snapshots", &[]).await.expect("a snapshot");
    let state: String = row.get(0);
    assert!(state.contains("sealed") && !state.contains("Ada"), "{state}");
    assert_eq!(s.loaded(&s.every(100)).await.0.holder, Some(to));

    s.sealer.keys().erase(s.tenant, person).await.expect("erased");
    assert_eq!(s.kept().await, None);
    let (till, _) = s.loaded(&s.every(100)).await;
    assert!(till.holder.as_ref().is_some_and(Personal::is_erased) && till.cents == 249, "{till:?}");
    // Who still remembers the person keeps no snapshot of it; who does not, may.
    s.deposit(&writing, [1; 100]).await;
    s.deposit(&s.every(1), [1]).await;
    s.until_kept(Some(351)).await;
    let (till, _) = s.loaded(&s.every(1)).await;
    assert!(till.holder.as_ref().is_some_and(Personal::is_erased) && till.cents == 350, "{till:?}");
}

/// As programs of before have written it.
fn old(event: &str, version: u32, payload: &str) -> NewEvent {
    NewEvent {
        event_id: Real.uuid_v7(),
        event_type: format!("test.till.{event}"),
        event_version: version,
        payload: payload.to_owned(),
        metadata: "{}".to_owned(),
    }
}

#[tokio::test]
async fn events_of_old_versions_are_folded_as_they_are_read_today_and_counted_as_they_were_written() {
    let s = Setting::start().await;
    let mut history = append(
        s.tenant,
        TILL,
        0,
        vec![
            old("opened", 1, "{}"),
            old("deposited", 1, r#"{"list":[1,2,3]}"#),
            old("deposited", 2, r#"{"cents":4}"#),
            old("deposited", 1, r#"{"list":[]}"#),
            old("opened", 1, "{}"),
        ],
    );
    history.streams[0].stream.kind = "till";
    s.journal.append(history, Known::default()).await.expect("an append");
    let executed = s.deposit(&s.plain(), [5, 6]).await;
    let till = executed.state.expect("a state");
    assert_eq!((till.cents, till.deposits), (21, 6));
    // The second and third of the journal.
    assert_eq!(till.positions, [2, 2, 2, 3]);
    assert_eq!(executed.version, Some(7), "five were written before, and two now");
    assert_eq!(s.loaded(&s.plain()).await, (till, 7));
    // What is stored is what was written.
    let rows = s.db.superuser().await;
    let rows = rows.query("select payload from journal.events where event_version = 1 order by position", &[]).await;
    let payloads: Vec<String> = rows.expect("rows").iter().map(|row| row.get(0)).collect();
    assert_eq!(payloads, ["{}", r#"{"list":[1,2,3]}"#, r#"{"list":[]}"#, "{}"]);
}

#[tokio::test]
async fn a_snapshot_counts_what_was_written_where_the_last_events_are_read_as_several_or_none() {
    for (event, payload) in [("deposited", r#"{"list":[1,1,1]}"#), ("opened", "{}")] {
        let s = Setting::start().await;
        s.deposit(&s.plain(), [1; 150]).await;
        let mut later = append(s.tenant, TILL, 150, vec![old(event, 1, payload), old(event, 1, payload)]);
        later.streams[0].stream.kind = "till";
        s.journal.append(later, Known::default()).await.expect("an append");
        let without = s.loaded(&s.plain()).await;
        s.loaded(&s.every(10)).await;
        s.until_kept(Some(152)).await;
        assert_eq!(s.loaded(&s.every(10)).await, without);
        assert_eq!(s.deposit(&s.every(10), [1]).await.version, Some(153));
    }
}
