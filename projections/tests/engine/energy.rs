//! Devices and readings: whole, in order, by an index, and the same after a rebuild.

use crate::harness::{World, soon};
use chrono::{DateTime, Duration, NaiveDate, Utc};
use cqrs_es::DomainEvent;
use daybook_domain::TenantId;
use daybook_domain::energy::device::{DeviceKind, Direction as Flow, MaxPower, Reason, Resolution, Serial, Site};
use daybook_domain::energy::readings::{Quality, Run};
use daybook_domain::energy::values::{DeviceId, readings_stream};
use daybook_domain::energy::{DeviceEvent, ReadingsEvent};
use daybook_domain::value::Name;
use daybook_projections::energy::devices::{
    self, DeviceField, DeviceFilter, DeviceOrder, DeviceOrderBy, DeviceStatus, Devices, page_query,
};
use daybook_projections::energy::live;
use daybook_projections::energy::readings::{
    self, ReadingRow, ReadingsSeries, Span, Totals, hourly_query, raw_query, totals_query,
};
use daybook_projections::engine::{LaneStatus, Lanes, lane_of};
use daybook_projections::read::condition::RowRule;
use daybook_projections::read::filter::Test;
use daybook_projections::read::{Direction, Page, ReadSession, Slice};
use daybook_projections::{Model, ReadError, Scope};
use daybook_store::codec;
use daybook_store::journal::NewEvent;
use daybook_store::system::{Real, System};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

fn tenant(n: u128) -> TenantId {
    TenantId(Uuid::from_u128(n << 64 | 11))
}

fn day(n: i64) -> NaiveDate {
    NaiveDate::from_ymd_opt(2016, 1, 1).unwrap() + Duration::days(n)
}

fn new_event(event: &impl DomainEvent) -> NewEvent {
    let encoded = codec::encode(event).unwrap();
    NewEvent {
        event_id: Real.uuid_v7(),
        event_type: encoded.event_type,
        event_version: encoded.event_version,
        payload: encoded.payload,
        metadata: "{}".into(),
    }
}

fn recorded(device: Uuid, day: NaiveDate, from_slot: u16, wh: Vec<i64>) -> ReadingsEvent {
    let runs = vec![Run { from_slot, quality: Quality::Measured, wh }];
    ReadingsEvent::Recorded { device: DeviceId(device), day, resolution_s: Resolution::parse(900).unwrap(), runs }
}

fn span(tenant: TenantId) -> Span {
    let instant = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
    Span { tenant, from: instant("2000-01-01T00:00:00Z"), to: instant("2100-01-01T00:00:00Z") }
}

async fn append(world: &World, of: TenantId, version: u64, event: ReadingsEvent) -> u64 {
    let ReadingsEvent::Recorded { device, day, .. } = &event;
    world.append(of, "readings", readings_stream(*device, *day), version, vec![new_event(&event)]).await
}

/// The readings of a device, added up.
async fn totals(session: &ReadSession, of: TenantId, device: Uuid) -> Totals {
    let totals = readings::totals(session, &span(of), &[device]).await.unwrap();
    assert_eq!(totals.len(), 1);
    totals[&device]
}

async fn raw_page(session: &ReadSession, span: &Span, device: Uuid, page: &Page<DateTime<Utc>>) -> Slice<ReadingRow> {
    let pages = readings::raw_pages(session, span, &[Uuid::nil(), device], page).await.unwrap();
    assert!(!pages.contains_key(&Uuid::nil()));
    pages[&device].clone()
}

/// The hours of a device, added up.
async fn hourly(session: &ReadSession, of: TenantId, device: Uuid) -> Totals {
    let (mut totals, mut after) = (Totals::default(), None);
    loop {
        let mut pages = readings::hourly_pages(session, &span(of), &[device], &Page::first(200, after)).await.unwrap();
        let page = pages.remove(&device).unwrap();
        for row in &page.rows {
            totals.count += u64::try_from(row.count).unwrap();
            totals.sum_wh += row.sum_wh;
        }
        after = page.rows.last().map(|row| row.hour);
        if !page.has_next {
            return totals;
        }
    }
}

const ROWS: &str = "select row(t.*)::text from read.readings_v{} t order by tenant_id, device_id, start";
const HOURS: &str = "select row(t.*)::text from read.readings_hourly_v{} t order by tenant_id, device_id, hour";

async fn texts(world: &World, sql: &str, version: u32) -> Vec<String> {
    let sql = sql.replace("{}", &version.to_string());
    let rows = world.db.superuser().await.query(&sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn rows_and_hours_add_up_to_what_was_recorded_also_after_a_rebuild() {
    let world = World::new().await;
    let (projections, task) = world.start(Model::series::<ReadingsSeries>());
    let mut rng = StdRng::seed_from_u64(5);
    let mut expected: BTreeMap<(TenantId, Uuid), Totals> = BTreeMap::new();
    let mut last = 0;
    // Days in several months and the next year, each in two events, of devices in several lanes.
    for n in 0..90 {
        let (of, device) = (tenant(n % 5), Uuid::from_u128(100 + n % 10));
        let day = day(i64::try_from(n).unwrap() * 5);
        for (version, from_slot) in [(0, 0), (1, 50)] {
            let wh: Vec<i64> = (0..rng.random_range(1..46)).map(|_| rng.random_range(-1_000..10_000)).collect();
            let totals = expected.entry((of, device)).or_default();
            totals.count += wh.len() as u64;
            totals.sum_wh += wh.iter().sum::<i64>();
            last = append(&world, of, version, recorded(device, day, from_slot, wh)).await;
        }
    }
    world.reached(&projections, "readings", last).await;
    let (rows, hours) = (texts(&world, ROWS, 1).await, texts(&world, HOURS, 1).await);
    assert!(rows.len() > 3_000, "{} rows", rows.len());
    for ((of, device), totals) in &expected {
        let session = world.reader().begin(Scope::Tenant(*of)).await.unwrap();
        assert_eq!(self::totals(&session, *of, *device).await, *totals);
        assert_eq!(hourly(&session, *of, *device).await, *totals);
        // Another tenant's rows are not there, whatever is asked for.
        assert_eq!(self::totals(&session, tenant(77), *device).await, Totals::default());
        let all = session.query("select distinct tenant_id from read.readings_v1", &[]).await.unwrap();
        assert_eq!(all.iter().map(|row| row.get(0)).collect::<Vec<Uuid>>(), [of.0]);
        session.finish().await.unwrap();
    }
    let rebuilt = Model::series::<ReadingsSeries>().rebuild(&world.parts(), &mut |_| {}).await.unwrap();
    assert_eq!((rebuilt.version, rebuilt.position, rebuilt.dropped), (2, last, true));
    assert_eq!(texts(&world, ROWS, 2).await, rows);
    assert_eq!(texts(&world, HOURS, 2).await, hours);
    let left = "select count(*) from pg_class c join pg_namespace n on n.oid = c.relnamespace
                where n.nspname = 'read' and c.relname like 'readings%v1%'";
    let left: i64 = world.db.superuser().await.query_one(left, &[]).await.unwrap().get(0);
    assert_eq!(left, 0, "the old version's partitions are gone with it");
    // The new version goes on.
    let event = recorded(Uuid::from_u128(100), day(2_000), 0, vec![7]);
    let last = append(&world, tenant(0), 0, event).await;
    world.reached(&projections, "readings", last).await;
    assert_eq!(texts(&world, ROWS, 2).await.len(), rows.len() + 1);
    projections.shutdown();
    task.await.unwrap();
}

#[tokio::test]
async fn a_slot_that_history_gives_twice_is_counted_once() {
    let world = World::new().await;
    let (projections, _task) = world.start(Model::series::<ReadingsSeries>());
    let device = Uuid::from_u128(1);
    append(&world, tenant(1), 0, recorded(device, day(0), 0, vec![10, 20])).await;
    let last = append(&world, tenant(1), 1, recorded(device, day(0), 1, vec![99, 30])).await;
    world.reached(&projections, "readings", last).await;
    let session = world.reader().begin(Scope::Tenant(tenant(1))).await.unwrap();
    let expected = Totals { count: 3, sum_wh: 60 };
    assert_eq!(totals(&session, tenant(1), device).await, expected);
    assert_eq!(hourly(&session, tenant(1), device).await, expected);
}

#[tokio::test]
async fn an_event_that_cannot_be_read_parks_its_stream_and_no_other() {
    let world = World::new().await;
    let (projections, _task) = world.start(Model::series::<ReadingsSeries>());
    let (bad, good) = (tenant(1), (2..).map(tenant).find(|t| lane_of(*t, 4) != lane_of(tenant(1), 4)).unwrap());
    let device = Uuid::from_u128(1);
    append(&world, bad, 0, recorded(device, day(0), 0, vec![5])).await;
    let mut poison = new_event(&recorded(device, day(1), 0, vec![1]));
    poison.payload = "{\"device\": 7}".into();
    let stopped = world.append(bad, "readings", Uuid::from_u128(9), 0, vec![poison]).await;
    let last = append(&world, good, 0, recorded(device, day(0), 0, vec![6])).await;
    projections.progress().wait("readings", Lanes::Of(good), last, soon()).await.unwrap();
    let waited = projections.progress().wait("readings", Lanes::Of(bad), stopped, soon()).await;
    assert!(matches!(waited, Err(daybook_projections::engine::WaitError::Parked { .. })), "{waited:?}");
    append(&world, bad, 1, recorded(device, day(0), 1, vec![4])).await;
    world.reached(&projections, "readings", last + 1).await;
    let health = projections.health();
    let lane = &health.models[0].lanes[usize::from(lane_of(bad, 4))];
    assert_eq!((&lane.status, lane.parked), (&LaneStatus::Running, 1));
    // What came before it and after it in other streams is there, once.
    let session = world.reader().begin(Scope::Tenant(bad)).await.unwrap();
    assert_eq!(totals(&session, bad, device).await, Totals { count: 2, sum_wh: 9 });
}

async fn plan(session: &ReadSession, sql: &str, parameters: &[Box<dyn ToSql + Sync + Send>]) -> String {
    let parameters: Vec<&(dyn ToSql + Sync)> = parameters.iter().map(|p| &**p as &(dyn ToSql + Sync)).collect();
    let sql = format!("explain (analyze, costs off, timing off, summary off) {sql}");
    let rows = session.query(&sql, &parameters).await.unwrap();
    rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>().join("\n")
}

fn assert_by_index(plan: &str) {
    assert!(!plan.contains("Sort") && !plan.contains("Seq Scan") && !plan.contains("Rows Removed"), "{plan}");
    assert!(plan.contains("Index Cond"), "{plan}");
}

#[tokio::test]
async fn every_page_of_readings_is_read_by_an_index_and_of_its_months_alone() {
    let world = World::new().await;
    let (projections, _task) = world.start(Model::series::<ReadingsSeries>());
    let (of, device) = (tenant(1), Uuid::from_u128(1));
    let mut last = 0;
    for n in 0..120 {
        for device in 1..4 {
            let event = recorded(Uuid::from_u128(device), day(n), 0, (0..96).collect());
            last = append(&world, of, 0, event).await;
        }
    }
    world.reached(&projections, "readings", last).await;
    world.db.superuser().await.batch_execute("analyze").await.unwrap();
    let session = world.reader().begin(Scope::Tenant(of)).await.unwrap();
    let at = |text: &str| Some(text.parse::<DateTime<Utc>>().unwrap());
    let span = Span { from: at("2016-02-05T00:00:00Z").unwrap(), to: at("2016-03-05T00:00:00Z").unwrap(), ..span(of) };
    let several = [device, Uuid::from_u128(2), Uuid::from_u128(3)];
    let middle = at("2016-02-20T00:00:00Z");
    for page in [
        Page::first(50, None),
        Page::last(50, None),
        Page::first(50, middle),
        Page::last(50, middle),
        // Cursors outside the span do not widen it.
        Page { before: at("2017-01-01T00:00:00Z"), ..Page::first(50, at("2001-01-01T00:00:00Z")) },
    ] {
        let (sql, parameters) = raw_query(1, &span, &several, &page);
        let raw = plan(&session, &sql, &parameters).await;
        assert_by_index(&raw);
        assert!(!raw.contains("2016_01") && !raw.contains("2016_04"), "{raw}");
        let (sql, parameters) = hourly_query(1, &span, &several, &page);
        assert_by_index(&plan(&session, &sql, &parameters).await);
        let rows = raw_page(&session, &span, device, &page).await.rows;
        assert_eq!(rows.len(), 50);
        assert!(rows.is_sorted_by_key(|row| row.start));
        assert!(rows.iter().all(|row| (span.from..span.to).contains(&row.start)));
    }
    let (sql, parameters) = totals_query(1, &span, &several);
    assert_by_index(&plan(&session, &sql, &parameters).await);
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = raw_page(&session, &span, device, &Page::first(97, after)).await;
        after = page.rows.last().map(|row| row.start);
        all.extend(page.rows);
        if !page.has_next {
            break;
        }
    }
    assert_eq!(all.len(), 29 * 96);
    assert!(all.windows(2).all(|pair| pair[1].start - pair[0].start == Duration::minutes(15)));
}

#[tokio::test]
async fn what_a_device_recorded_is_found_in_the_log_in_order_and_by_an_index() {
    let world = World::new().await;
    let (of, device) = (tenant(1), Uuid::from_u128(1));
    for n in 0..40 {
        append(&world, of, 0, recorded(device, day(n), 0, vec![n])).await;
        append(&world, of, 0, recorded(Uuid::from_u128(2), day(n), 0, vec![n])).await;
        append(&world, tenant(2), 0, recorded(device, day(n), 0, vec![n])).await;
    }
    world.db.superuser().await.batch_execute("analyze").await.unwrap();
    let session = world.reader().begin(Scope::Tenant(of)).await.unwrap();
    let page = live::recorded_after(&session, of, device, 10, 60).await.unwrap();
    // The 61st to the 120th event of the journal are not durable, as far as the caller says.
    let found: Vec<u64> = page.recorded.iter().map(|recorded| recorded.tenant_position).collect();
    assert_eq!(found, (11..40).step_by(2).collect::<Vec<u64>>());
    assert_eq!(page.up_to, 40);
    assert_eq!(live::head(&session, of, 60).await.unwrap(), 40);
    assert_eq!(live::head(&session, of, 0).await.unwrap(), 0);
    let none = live::recorded_after(&session, of, device, page.up_to, 60).await.unwrap();
    assert_eq!((none.recorded.len(), none.up_to), (0, 40));
    let parameters: Vec<Box<dyn ToSql + Sync + Send>> =
        vec![Box::new(of.0), Box::new(70_i64), Box::new(i64::MAX), Box::new(device.to_string()), Box::new(1_070_i64)];
    let plan = plan(&session, live::QUERY, &parameters).await;
    // The other partitions are empty.
    assert!(!plan.contains("Seq Scan on events_p000000") && !plan.contains("Rows Removed"), "{plan}");
    assert!(plan.contains("(tenant_position > '70'::bigint) AND (tenant_position <= '1070'::bigint))"), "{plan}");
    assert!(plan.contains("Index Cond: ((tenant_id ="), "{plan}");
}

fn registered(n: i64) -> DeviceEvent {
    DeviceEvent::Registered {
        name: Name::parse(&format!("N{}", n % 17)).unwrap(),
        kind: DeviceKind::ALL[usize::try_from(n).unwrap() % DeviceKind::ALL.len()],
        serial: (n % 3 > 0).then(|| Serial::parse(&format!("sn {n}")).unwrap()),
        site: Site::parse("Home", "Europe/Berlin").unwrap(),
        resolution_s: Resolution::parse(900).unwrap(),
        direction: Flow::Net,
        max_power_w: MaxPower::parse(10_000).unwrap(),
    }
}

async fn append_device(world: &World, of: TenantId, id: Uuid, version: u64, events: &[DeviceEvent]) -> u64 {
    world.append(of, "device", id, version, events.iter().map(new_event).collect()).await
}

#[tokio::test]
async fn a_device_is_shown_as_its_events_made_it_also_after_a_rebuild() {
    let world = World::new().await;
    let (projections, _task) = world.start(Model::of::<Devices>());
    let (of, id) = (tenant(1), Uuid::from_u128(7));
    let history = [
        DeviceEvent::Renamed { name: Name::parse("Nobody's").unwrap() },
        registered(1),
        DeviceEvent::Renamed { name: Name::parse("Äther").unwrap() },
        DeviceEvent::SiteChanged { site: Site::parse("Barn", "Europe/Lisbon").unwrap() },
        DeviceEvent::MaxPowerChanged { max_power_w: MaxPower::parse(5).unwrap() },
    ];
    let last = append_device(&world, of, id, 0, &history).await;
    world.reached(&projections, "devices", last).await;
    let session = world.reader().begin(Scope::Tenant(of)).await.unwrap();
    let row = devices::device(&session, of, id).await.unwrap().unwrap();
    session.finish().await.unwrap();
    assert_eq!((row.name.as_str(), row.name_key.as_str()), ("Äther", "äther"));
    assert_eq!((row.site_name.as_str(), row.time_zone.as_str()), ("Barn", "Europe/Lisbon"));
    assert_eq!((row.max_power_w, row.resolution_s, row.version), (5, 900, 5));
    assert_eq!((row.serial.as_deref(), row.serial_key.as_deref()), (Some("sn 1"), Some("SN1")));
    assert_eq!((row.status, row.decommissioned_at), (DeviceStatus::Active, None));
    let at = "2016-05-01T12:00:00Z".parse().unwrap();
    let ended = DeviceEvent::Decommissioned { at, reason: Reason::parse("broken").unwrap() };
    let last = append_device(&world, of, id, 5, &[ended]).await;
    world.reached(&projections, "devices", last).await;
    let rows = "select row(t.*)::text from read.devices_v{} t order by device_id";
    let live = texts(&world, rows, 1).await;
    Model::of::<Devices>().rebuild(&world.parts(), &mut |_| {}).await.unwrap();
    assert_eq!(texts(&world, rows, 2).await, live);
    let session = world.reader().begin(Scope::Tenant(of)).await.unwrap();
    let row = devices::device(&session, of, id).await.unwrap().unwrap();
    assert_eq!((row.status, row.decommissioned_at), (DeviceStatus::Decommissioned, Some(at)));
    assert_eq!((row.reason.as_deref(), row.version), (Some("broken"), 6));
    session.finish().await.unwrap();
    let session = world.reader().begin(Scope::Tenant(tenant(2))).await.unwrap();
    assert!(devices::device(&session, of, id).await.unwrap().is_none(), "another tenant sees nothing");
}

#[tokio::test]
async fn every_page_of_devices_is_read_by_an_index_under_the_row_policies() {
    let world = World::new().await;
    let (projections, _task) = world.start(Model::of::<Devices>());
    let mut last = 0;
    for n in 0..600 {
        let of = tenant(u128::from(n % 5 == 0) + 1);
        last = append_device(&world, of, Uuid::from_u128(n + 1), 0, &[registered(i64::try_from(n).unwrap())]).await;
    }
    world.reached(&projections, "devices", last).await;
    world.db.superuser().await.batch_execute("analyze read.devices_v1").await.unwrap();
    let of = tenant(1);
    let session = world.reader().begin(Scope::Tenant(of)).await.unwrap();
    let table = session.table::<Devices>().unwrap();
    let is = |field, test| DeviceFilter::Is(field, test);
    let not = |filter| DeviceFilter::Not(Box::new(filter));
    let filters = [
        DeviceFilter::default(),
        DeviceFilter::equals(DeviceField::Kind, DeviceKind::Pv.as_str()),
        not(DeviceFilter::equals(DeviceField::Kind, DeviceKind::Pv.as_str())),
        DeviceFilter::Or(vec![
            DeviceFilter::equals(DeviceField::Kind, DeviceKind::Pv.as_str()),
            not(is(DeviceField::Serial, Test::StartsWith("SN1".into()))),
        ]),
        is(DeviceField::Serial, Test::IsNull(true)),
        DeviceFilter::equals(DeviceField::Status, "ACTIVE"),
        // Of these an index finds a few, which may be sorted.
        DeviceFilter::equals(DeviceField::Serial, "SN1"),
        is(DeviceField::Serial, Test::StartsWith("SN1".into())),
        is(DeviceField::Name, Test::StartsWith("n16".into())),
        is(DeviceField::Kind, Test::In(vec![DeviceKind::Pv.as_str().into(), DeviceKind::Wind.as_str().into()])),
    ];
    for (nth, filter) in filters.iter().enumerate() {
        for by in [DeviceOrderBy::RegisteredAt, DeviceOrderBy::Name] {
            for direction in [Direction::Ascending, Direction::Descending] {
                let order = DeviceOrder { by, direction };
                let all = devices::page(&session, of, filter, &RowRule::all(), order, &Page::first(1_000, None))
                    .await
                    .unwrap()
                    .rows;
                assert_eq!(all.len() as u64, devices::count(&session, of, filter, &RowRule::all()).await.unwrap());
                let (mut read, mut after) = (Vec::new(), None);
                loop {
                    let page = Page::first(33, after.clone());
                    let (sql, parameters) = page_query(&table, of, filter, &RowRule::all(), order, &page).unwrap();
                    let plan = plan(&session, &sql, &parameters).await;
                    assert!(
                        !plan.contains("Seq Scan") && (nth > 5 || !plan.contains("Sort")),
                        "{order:?} {filter:?}\n{plan}"
                    );
                    let slice = devices::page(&session, of, filter, &RowRule::all(), order, &page).await.unwrap();
                    after = slice.rows.last().map(|row| row.cursor(by));
                    read.extend(slice.rows);
                    if !slice.has_next {
                        break;
                    }
                }
                assert_eq!(read, all);
            }
        }
    }
    let order = DeviceOrder { by: DeviceOrderBy::Name, direction: Direction::Ascending };
    let foreign = Page::first(1, Some(devices::DeviceCursor::RegisteredAt(DateTime::<Utc>::UNIX_EPOCH, Uuid::nil())));
    let refused = devices::page(&session, of, &filters[0], &RowRule::all(), order, &foreign).await;
    assert!(matches!(refused, Err(ReadError::ForeignCursor)));
}
