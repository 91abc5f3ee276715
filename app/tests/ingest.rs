//! Readings, from rows to events: each row judged by itself, each call resumable.

use chrono::{DateTime, Duration, NaiveDateTime, Utc};
use daybook_app::energy::{Ingest, IngestError, Report, SentRow};
use daybook_app::{Call, Credential, Executor, authorize};
use daybook_domain::energy::device::{Direction, MaxPower, Resolution, Serial, Site};
use daybook_domain::energy::local_time::Stamp;
use daybook_domain::energy::readings::Quality;
use daybook_domain::energy::values::DeviceKind;
use daybook_domain::energy::{Device, DeviceCommand};
use daybook_domain::platform::Tenant;
use daybook_domain::platform::tenant::{Name, Plan, Reason, TenantCommand};
use daybook_domain::{Actor, ActorKind, PLATFORM_TENANT, Role, TenantId};
use daybook_store::database::Role as Session;
use daybook_store::journal::AppendError;
use daybook_store::keys::{KeyFiles, KeyStore, Sealer};
use daybook_store::system::Real;
use daybook_testing::{TestDatabase, system, tenant};
use futures_util::future::join_all;
use std::sync::Arc;
use uuid::Uuid;

struct Setting {
    db: TestDatabase,
    executor: Executor,
    ingest: Ingest,
    tenant: TenantId,
    files: Arc<KeyFiles>,
    sealer: Sealer,
    _keys: tempfile::TempDir,
}

const PV: Uuid = Uuid::from_u128(0x0198_f000_0000_7000_8000_0000_0000_00a1);

fn credential(role: Role, home: TenantId) -> Credential {
    let actor = Actor { id: Uuid::from_u128(1), kind: ActorKind::Service };
    Credential::new(actor, home, vec![role], None)
}

impl Setting {
    async fn start() -> Self {
        let db = TestDatabase::new().await;
        let (journal, _) = db.journal().await;
        let directory = tempfile::tempdir().expect("a directory");
        let files = Arc::new(KeyFiles::open(directory.path(), true, "daybook.test", &Real).expect("keys"));
        let keys = KeyStore::new(db.database().pool(Session::Writer, 2, ""), files.clone(), system());
        let sealer = Sealer::new(Arc::new(keys), system());
        let executor = Executor::new(journal, sealer.clone(), files.clone(), system());
        let tenant = tenant();
        let platform = credential(Role::PlatformAdmin, PLATFORM_TENANT);
        let register = TenantCommand::Register {
            name: Name::parse("Acme").expect("a name"),
            plan: Plan::Free,
            contact: None,
            domain: None,
        };
        let register = authorize(&platform, tenant, register).expect("permitted");
        executor.execute::<Tenant>(register, tenant.0, Call::default()).await.expect("registered");
        let ingest = Ingest::new(executor.clone());
        let setting = Setting { db, executor, ingest, tenant, files, sealer, _keys: directory };
        setting.register(PV, "PV-1", "Europe/Berlin").await;
        setting
    }

    /// Another process on the same journal: it remembers nothing.
    fn another(&self) -> Ingest {
        let journal = self.executor.journal().clone();
        Ingest::new(Executor::new(journal, self.sealer.clone(), self.files.clone(), system()))
    }

    async fn device(&self, id: Uuid, command: DeviceCommand) {
        let who = credential(Role::TenantAdmin, self.tenant);
        let authorized = authorize(&who, self.tenant, command).expect("permitted");
        self.executor.execute::<Device>(authorized, id, Call::default()).await.expect("done");
    }

    async fn register(&self, id: Uuid, serial: &str, zone: &str) {
        let command = DeviceCommand::Register {
            name: Name::parse(serial).expect("a name"),
            kind: DeviceKind::Pv,
            serial: Some(Serial::parse(serial).expect("a serial")),
            site: Site::parse("Home", zone).expect("a site"),
            resolution_s: Resolution::parse(900).expect("a resolution"),
            direction: Direction::Export,
            max_power_w: MaxPower::parse(40_000).expect("a power"),
        };
        self.device(id, command).await;
    }

    async fn send(&self, ingest: &Ingest, call: Call, rows: Vec<SentRow>) -> Result<Report, IngestError> {
        let who = credential(Role::Member, self.tenant);
        let mut recording = ingest.begin(&who, self.tenant, call).await?;
        // In pieces, as they come from a body.
        for piece in rows.chunks(700) {
            recording.record(piece.to_vec()).await?;
        }
        recording.finish().await.cloned()
    }

    async fn count(&self, what: &str) -> i64 {
        let sql = format!("select count(*) from journal.{what}");
        self.db.superuser().await.query_one(&sql, &[]).await.expect("a count").get(0)
    }
}

fn time(text: &str) -> DateTime<Utc> {
    text.parse().expect("a time")
}

fn row(index: u64, device: &str, start: DateTime<Utc>, energy_wh: i64) -> SentRow {
    SentRow { index, device: device.to_owned(), time: Stamp::Instant(start), energy_wh, quality: Quality::Measured }
}

fn local(index: u64, text: &str, energy_wh: i64) -> SentRow {
    let local: NaiveDateTime = text.parse().expect("a local time");
    SentRow { time: Stamp::Local(local), ..row(index, "PV-1", DateTime::UNIX_EPOCH, energy_wh) }
}

/// Quarter-hours from the beginning of 2016.
fn rows(device: &str, count: i64) -> Vec<SentRow> {
    let start = time("2016-01-01T00:00:00Z");
    (0..count).map(|n| row(n.unsigned_abs(), device, start + Duration::minutes(15 * n), n % 1_000)).collect()
}

fn counts(report: &Report) -> (u64, u64, u64) {
    (report.accepted, report.duplicates, report.rejected)
}

fn named(id: u128) -> Call {
    Call { command_id: Some(Uuid::from_u128(id)), ..Call::default() }
}

#[tokio::test]
async fn a_call_is_one_event_a_device_and_day_and_an_append_a_part() {
    let s = Setting::start().await;
    let before = s.count("events").await;
    let report = s.send(&s.ingest, Call::default(), rows("pv-1", 96 * 250)).await.expect("recorded");
    assert_eq!(counts(&report), (96 * 250, 0, 0));
    assert_eq!(s.count("events").await - before, 250);
    // 199 days and the device are 200 streams; the rest is another append.
    assert_eq!(s.count("commands").await, 2 + 2);
    let (of, position, _) = report.written.expect("a position");
    assert_eq!((of, position), (s.tenant, 2 + 250));
}

#[tokio::test]
async fn a_repeated_row_is_a_duplicate_and_another_value_is_refused() {
    let s = Setting::start().await;
    s.send(&s.ingest, Call::default(), rows("PV-1", 100)).await.expect("recorded");
    let events = s.count("events").await;
    let mut half = rows(&PV.to_string(), 200);
    half[7].energy_wh += 1;
    let report = s.send(&s.another(), Call::default(), half.clone()).await.expect("recorded");
    assert_eq!(counts(&report), (100, 99, 1));
    let rejected = &report.rejections[0];
    assert_eq!((rejected.index, rejected.code, rejected.field), (7, "READING_CONFLICT", Some("value")));
    assert_eq!(s.count("events").await, events + 2, "one event for each of the two days");
    let report = s.send(&s.ingest, Call::default(), half).await.expect("recorded");
    assert_eq!(counts(&report), (0, 199, 1));
    assert_eq!(s.count("events").await, events + 2);
}

#[tokio::test]
async fn a_repeated_call_says_that_it_is_one_and_writes_nothing() {
    let s = Setting::start().await;
    let first = s.send(&s.ingest, named(7), rows("PV-1", 96 * 210)).await.expect("recorded");
    assert!(!first.repeated);
    let events = s.count("events").await;
    for ingest in [&s.ingest, &s.another()] {
        let again = s.send(ingest, named(7), rows("PV-1", 96 * 210)).await.expect("answered");
        assert_eq!(counts(&again), (0, 96 * 210, 0));
        assert_eq!((again.repeated, again.written), (true, first.written));
    }
    assert_eq!(s.count("events").await, events);
    let other = s.send(&s.ingest, named(7), rows("PV-1", 96)).await;
    assert!(matches!(other, Err(IngestError::Append(AppendError::CommandReused(_)))), "{other:?}");
}

#[tokio::test]
async fn a_call_that_was_cut_off_goes_on_where_it_was() {
    let s = Setting::start().await;
    let who = credential(Role::Member, s.tenant);
    let rows = rows("PV-1", 96 * 300);
    {
        let mut cut = s.ingest.begin(&who, s.tenant, named(9)).await.expect("begun");
        cut.record(rows[..96 * 250].to_vec()).await.expect("the first part");
        // Dropped: the second part is never recorded.
    }
    let whole = s.send(&s.another(), named(9), rows).await.expect("recorded");
    assert_eq!(counts(&whole), (96 * 101, 96 * 199, 0));
    assert_eq!(s.count("events").await, 2 + 300);
}

#[tokio::test]
async fn what_is_not_clear_is_refused_row_by_row() {
    let s = Setting::start().await;
    s.register(Uuid::from_u128(5), "B-2", "Europe/Berlin").await;
    let start = time("2016-03-01T00:00:00Z");
    let sent = vec![
        row(0, "PV-1", start, 10),
        row(1, "nobody", start, 10),
        row(2, &Uuid::from_u128(99).to_string(), start, 10),
        row(3, "PV-1", start + Duration::minutes(1), 10),
        row(4, "PV-1", start + Duration::minutes(15), -1),
        row(5, "PV-1", start + Duration::minutes(30), 10_001),
        row(6, "PV-1", time("2290-01-01T00:00:00Z"), 1),
        row(7, "PV-1", time("1970-01-01T00:00:00Z"), 1),
        row(8, "b - 2", start, 10),
        row(9, "", start, 10),
        local(10, "2016-03-27T02:15:00", 10),
    ];
    let report = s.send(&s.ingest, Call::default(), sent).await.expect("judged");
    assert_eq!(counts(&report), (2, 0, 9));
    let codes: Vec<(u64, &str)> = report.rejections.iter().map(|r| (r.index, r.code)).collect();
    assert_eq!(
        codes,
        [
            (1, "DEVICE_UNKNOWN"),
            (2, "DEVICE_UNKNOWN"),
            (3, "READING_MISALIGNED"),
            (4, "READING_NEGATIVE"),
            (5, "READING_ABSURD"),
            (6, "READING_IN_FUTURE"),
            (7, "READING_TOO_OLD"),
            (9, "DEVICE_UNKNOWN"),
            (10, "LOCAL_TIME_IN_GAP"),
        ]
    );
    assert!(report.rejections.iter().all(|r| !r.message.is_empty() && r.field.is_some()));
}

#[tokio::test]
async fn the_repeated_hour_of_a_file_in_order_is_two_hours() {
    let s = Setting::start().await;
    let hour = ["02:00", "02:15", "02:30", "02:45", "02:00", "02:15", "02:30", "02:45", "03:00"];
    let sent = (0..).zip(hour).map(|(n, at)| local(n, &format!("2016-10-30T{at}:00"), 100)).collect();
    let report = s.send(&s.ingest, Call::default(), sent).await.expect("recorded");
    assert_eq!(counts(&report), (9, 0, 0));
    let sql = "select payload from journal.events where event_type = 'energy.readings.recorded'";
    let payload: String = s.db.superuser().await.query_one(sql, &[]).await.expect("one event").get(0);
    assert!(payload.contains("\"from_slot\":0,\"wh\":[100,100,100,100,100,100,100,100,100]"), "{payload}");
}

#[tokio::test]
async fn calls_at_the_same_time_write_each_slot_once() {
    let s = Setting::start().await;
    let others: Vec<Ingest> = (0..4).map(|_| s.another()).collect();
    let calls = others.iter().map(|ingest| s.send(ingest, Call::default(), rows("PV-1", 96 * 20)));
    let reports: Vec<Report> = join_all(calls).await.into_iter().map(|report| report.expect("recorded")).collect();
    assert_eq!(reports.iter().map(|r| r.accepted).sum::<u64>(), 96 * 20);
    assert_eq!(reports.iter().map(|r| r.duplicates).sum::<u64>(), 96 * 20 * 3);
    assert_eq!(s.count("events").await, 2 + 20);
}

#[tokio::test]
async fn a_device_that_changes_is_seen_changed_at_once() {
    let s = Setting::start().await;
    let other = s.another();
    s.send(&other, Call::default(), rows("PV-1", 10)).await.expect("recorded");
    s.device(PV, DeviceCommand::ChangeMaxPower { max_power_w: MaxPower::parse(4).expect("a power") }).await;
    // The other process still remembers 40 kW; its append looks at the device and is refused.
    let start = time("2016-01-02T00:00:00Z");
    let sent = vec![row(0, "PV-1", start, 1), row(1, "PV-1", start + Duration::minutes(15), 2)];
    let report = s.send(&other, Call::default(), sent).await.expect("judged anew");
    assert_eq!(counts(&report), (1, 0, 1));
    assert_eq!(report.rejections[0].code, "READING_ABSURD");
}

#[tokio::test]
async fn nobody_records_in_a_tenant_that_is_not_there_not_active_or_not_theirs() {
    let s = Setting::start().await;
    let platform = credential(Role::PlatformAdmin, PLATFORM_TENANT);
    let viewer = credential(Role::Viewer, s.tenant);
    let foreign = credential(Role::TenantAdmin, tenant());
    for who in [&viewer, &foreign] {
        assert!(matches!(s.ingest.begin(who, s.tenant, Call::default()).await, Err(IngestError::Denied(_))));
    }
    let unknown = s.ingest.begin(&platform, tenant(), Call::default()).await;
    assert!(matches!(unknown, Err(IngestError::UnknownTenant)));
    let suspend = TenantCommand::Suspend { reason: Reason::parse("unpaid").expect("a reason") };
    let suspend = authorize(&platform, s.tenant, suspend).expect("permitted");
    s.executor.execute::<Tenant>(suspend, s.tenant.0, Call::default()).await.expect("suspended");
    let suspended = s.ingest.begin(&platform, s.tenant, Call::default()).await;
    assert!(matches!(suspended, Err(IngestError::TenantNotActive)));
}

#[tokio::test]
async fn a_day_of_many_events_is_known_whole() {
    let s = Setting::start().await;
    // Every row of its own call is an event of its own.
    for row in rows("PV-1", 30) {
        s.send(&s.ingest, Call::default(), vec![row]).await.expect("recorded");
    }
    let report = s.send(&s.another(), Call::default(), rows("PV-1", 96 * 3)).await.expect("recorded");
    assert_eq!(counts(&report), (96 * 3 - 30, 30, 0));
}
