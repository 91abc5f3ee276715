//! The two loads: raw appends, and whole commands through authorization, cache, decision and sealing.
//!
//! Each of N tasks waits for its answer before it asks again, as callers do. Every task keeps a set of
//! streams and rotates through it; now and then it trades one of them for a stream that nobody has
//! touched in this measurement, so that not everything is warm.

use crate::error::BenchError;
use chrono::{DateTime, Utc};
use daybook_app::energy::{Ingest, SentRow};
use daybook_app::{Call, Credential, Executor, authorize};
use daybook_domain::energy::device::{Direction, MaxPower, Resolution, Site};
use daybook_domain::energy::local_time::Stamp;
use daybook_domain::energy::readings::Quality;
use daybook_domain::energy::values::DeviceKind;
use daybook_domain::energy::{Device, DeviceCommand};
use daybook_domain::platform::tenant::{Name, Plan, SettingKey, SettingValue, Tenant, TenantCommand};
use daybook_domain::{Actor, ActorKind, Role, TenantId};
use daybook_store::journal::{Append, CommandStamp, Journal, Known, NewEvent, Seen, StreamAppend, StreamId};
use daybook_store::system::{Real, System};
use hdrhistogram::Histogram;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use uuid::Uuid;

/// Streams that one task rotates through.
pub const STREAMS: usize = 16;
/// Tenants among which raw appends are spread.
const RAW_TENANTS: usize = 16;
/// Bytes of a payload and of a metadata of a raw append.
pub const RAW_BYTES: usize = 250;
/// When imported readings begin: 10,000 days later is still in the past.
const IMPORT_FROM: DateTime<Utc> = DateTime::from_timestamp(915_148_800, 0).expect("the beginning of 1999");
/// Latencies beyond this count as this.
const LATENCY_US_MAX: u64 = 60_000_000;

/// How hard and how long.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub tasks: usize,
    pub warm_percent: usize,
    /// Before it nothing is measured: sessions, caches and statements get ready.
    pub begin: Instant,
    pub end: Instant,
}

/// Not measured: sessions, caches and statements get ready.
const WARM_UP: Duration = Duration::from_millis(700);

impl Pace {
    /// From now on.
    pub fn of(tasks: usize, warm_percent: u8, seconds: f64) -> Self {
        let begin = Instant::now() + WARM_UP;
        let end = begin + Duration::from_secs_f64(seconds);
        Pace { tasks, warm_percent: usize::from(warm_percent), begin, end }
    }
}

/// What a measurement gave.
#[derive(Clone, Debug)]
pub struct Figures {
    pub operations: u64,
    pub per_second: f64,
    pub p50_us: u64,
    pub p99_us: u64,
    /// Per operation. What others do on the machine disturbs it least.
    pub cpu: Cpu,
    /// Share of the machine that everybody else took meanwhile.
    pub others: f64,
}

/// Processor time, µs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu {
    pub client_us: f64,
    pub server_us: f64,
}

/// One task's doing, one operation at a time.
pub trait Operation: Send + 'static {
    /// `cold`: on a stream that nobody has touched in this measurement.
    fn once(&mut self, cold: bool) -> impl Future<Output = Result<(), BenchError>> + Send;
}

/// Runs N tasks and counts what ended within the measured time.
///
/// # Errors
/// The first operation's that failed.
pub async fn drive<O: Operation>(pace: Pace, mut make: impl FnMut(usize) -> O) -> Result<Figures, BenchError> {
    let Pace { begin, end, .. } = pace;
    let mut tasks = JoinSet::new();
    for n in 0..pace.tasks {
        let mut operation = make(n);
        tasks.spawn(async move {
            let mut latencies = histogram();
            // Another phase for every task, so that cold operations do not come in waves.
            for count in n.. {
                let cold = count * (100 - pace.warm_percent) % 100 < 100 - pace.warm_percent;
                let asked = Instant::now();
                if asked >= end {
                    break;
                }
                operation.once(cold).await?;
                let answered = Instant::now();
                if answered >= begin && answered < end {
                    let us = u64::try_from((answered - asked).as_micros()).unwrap_or(LATENCY_US_MAX);
                    latencies.saturating_record(us);
                }
            }
            Ok::<_, BenchError>(latencies)
        });
    }
    let mut all = histogram();
    while let Some(task) = tasks.join_next().await {
        let latencies = task.map_err(|panic| BenchError::Execute(Box::new(panic)))??;
        // Same bounds on both sides, so nothing can be out of range.
        let _ = all.add(latencies);
    }
    if all.is_empty() {
        return Err(BenchError::NothingMeasured);
    }
    #[allow(clippy::cast_precision_loss)]
    let per_second = all.len() as f64 / (end - begin).as_secs_f64();
    Ok(Figures {
        operations: all.len(),
        per_second,
        p50_us: all.value_at_quantile(0.5),
        p99_us: all.value_at_quantile(0.99),
        cpu: Cpu::default(),
        others: 0.0,
    })
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(LATENCY_US_MAX, 3).expect("the bounds are those of the documentation")
}

/// A stream as its task remembers it.
#[derive(Clone, Copy)]
struct Warm {
    tenant: TenantId,
    id: Uuid,
    version: u64,
    seen: Seen,
}

struct Raw {
    journal: Journal,
    tenants: Arc<Vec<TenantId>>,
    texts: Arc<(String, String)>,
    streams: Vec<Warm>,
    at: usize,
}

/// Raw appends of single events.
pub(crate) async fn raw(journal: &Journal, pace: Pace) -> Result<Figures, BenchError> {
    let tenants: Arc<Vec<TenantId>> = Arc::new((0..RAW_TENANTS).map(|_| TenantId(Real.uuid_v4())).collect());
    let texts = Arc::new((text(RAW_BYTES), text(RAW_BYTES)));
    drive(pace, |n| Raw {
        journal: journal.clone(),
        tenants: tenants.clone(),
        texts: texts.clone(),
        streams: vec![],
        at: n,
    })
    .await
}

/// A JSON object of so many bytes.
pub fn text(bytes: usize) -> String {
    let mut text = String::from(r#"{"note":""#);
    for n in 0..bytes.saturating_sub(text.len() + 2) {
        text.push(char::from(b"abcdefghijklmnopqrstuvwxyz"[n * 7 % 26]));
    }
    text.push_str("\"}");
    text
}

impl Operation for Raw {
    async fn once(&mut self, cold: bool) -> Result<(), BenchError> {
        self.at += 1;
        let slot = self.at % STREAMS;
        // A new stream's version is not known to the caller: it is looked up.
        let warm = if cold { None } else { self.streams.get(slot % self.streams.len().max(1)).copied() };
        let (tenant, id, version) = match warm {
            Some(warm) => (warm.tenant, warm.id, warm.version),
            None => (self.tenants[self.at % RAW_TENANTS], Real.uuid_v4(), 0),
        };
        let known = Known { versions_at: warm.map(|w| w.seen), unused_at: None };
        let event = NewEvent {
            event_id: Real.uuid_v7(),
            event_type: "bench.thing.happened".into(),
            event_version: 1,
            payload: self.texts.0.clone(),
            metadata: self.texts.1.clone(),
        };
        let mut hash_key = [0; 32];
        Real.random(&mut hash_key);
        let append = Append {
            tenant,
            command: CommandStamp { tenant, id: Real.uuid_v7(), digest: [7; 32], hash_key, fresh: true },
            streams: vec![StreamAppend {
                stream: StreamId { kind: "thing", id },
                expected: version,
                events: vec![event],
            }],
            reads: vec![],
            claims: vec![],
            releases: vec![],
            not_after: None,
        };
        let outcome = self.journal.append(append, known).await?;
        let now = Warm { tenant, id, version: version + 1, seen: outcome.seen };
        let count = self.streams.len();
        match (warm, count < STREAMS) {
            (None, true) => self.streams.push(now),
            (None, false) => self.streams[slot] = now,
            (Some(_), _) => self.streams[slot % count] = now,
        }
        Ok(())
    }
}

/// Tenants that exist and that one measurement has not touched yet.
pub struct Untouched {
    tenants: Arc<Vec<TenantId>>,
    next: AtomicUsize,
}

impl Untouched {
    pub fn new(tenants: Arc<Vec<TenantId>>) -> Arc<Self> {
        Arc::new(Untouched { tenants, next: AtomicUsize::new(0) })
    }

    fn take(&self) -> Result<TenantId, BenchError> {
        let taken = self.tenants.get(self.next.fetch_add(1, Ordering::Relaxed));
        taken.copied().ok_or(BenchError::TooFewTenants(self.tenants.len()))
    }
}

/// The one who asks for everything. Its key exists in every tenant from the registration on.
pub const ACTOR: Actor =
    Actor { id: Uuid::from_u128(0xbe7c_0000_0000_8000_8000_0000_0000_0001), kind: ActorKind::Account };

/// What surrounds every command.
pub fn call() -> Call {
    Call {
        correlation: "bench".into(),
        ip: Some("2001:db8::1".into()),
        user_agent: Some("Mozilla/5.0 (X11; Linux x86_64) bench".into()),
        ..Call::default()
    }
}

/// What one task asks for: a setting of one tenant after the other changes.
pub struct Rota {
    untouched: Arc<Untouched>,
    run: Uuid,
    tenants: Vec<TenantId>,
    at: usize,
}

impl Rota {
    /// Of task `n` of a run.
    pub fn new(untouched: Arc<Untouched>, run: Uuid, n: usize) -> Self {
        Rota { untouched, run, tenants: vec![], at: n * 1_000_003 }
    }

    /// # Errors
    /// When there are no more tenants that nobody has touched.
    pub fn next(&mut self, cold: bool) -> Result<(TenantId, TenantCommand), BenchError> {
        self.at += 1;
        let slot = self.at % STREAMS;
        let tenant = if cold || self.tenants.is_empty() {
            let tenant = self.untouched.take()?;
            match self.tenants.get_mut(slot) {
                Some(place) => *place = tenant,
                None => self.tenants.push(tenant),
            }
            tenant
        } else {
            self.tenants[slot % self.tenants.len()]
        };
        let key = SettingKey::parse("bench.note").map_err(refused)?;
        // Never the same twice: a change to what is already so would append nothing.
        let note = SettingValue::text(&format!("{}{:0>144}", self.run, self.at)).map_err(refused)?;
        Ok((tenant, TenantCommand::ChangeSettings { set: BTreeMap::from([(key, note)]), unset: BTreeSet::new() }))
    }
}

struct Commands {
    executor: Executor,
    rota: Rota,
}

/// Whole commands: one setting of a tenant changes, with the caller's address and browser sealed.
pub(crate) async fn commands(
    executor: &Executor,
    untouched: &Arc<Untouched>,
    pace: Pace,
) -> Result<Figures, BenchError> {
    let run = Real.uuid_v4();
    drive(pace, |n| Commands { executor: executor.clone(), rota: Rota::new(untouched.clone(), run, n) }).await
}

impl Operation for Commands {
    async fn once(&mut self, cold: bool) -> Result<(), BenchError> {
        let (tenant, command) = self.rota.next(cold)?;
        let credential = Credential::new(ACTOR, tenant, vec![Role::TenantAdmin], Some(ACTOR.id));
        let authorized = authorize(&credential, tenant, command).map_err(refused)?;
        self.executor.execute::<Tenant>(authorized, tenant.0, call()).await.map_err(refused)?;
        Ok(())
    }
}

struct Renames {
    executor: Executor,
    tenant: TenantId,
    device: Uuid,
    at: usize,
}

/// Whole commands of one tenant: every caller renames a device of its own.
pub(crate) async fn renames(
    executor: &Executor,
    tenant: TenantId,
    devices: &[Uuid],
    pace: Pace,
) -> Result<Figures, BenchError> {
    drive(pace, |n| Renames { executor: executor.clone(), tenant, device: devices[n % devices.len()], at: 0 }).await
}

impl Operation for Renames {
    async fn once(&mut self, _cold: bool) -> Result<(), BenchError> {
        self.at += 1;
        // Never the same twice, also in the next measurement.
        let name = Name::parse(&format!("Device {}", Real.uuid_v4())).map_err(refused)?;
        device(&self.executor, self.tenant, self.device, DeviceCommand::Rename { name }).await
    }
}

/// A tenant with so many devices.
pub(crate) async fn devices(executor: &Executor, tenant: TenantId, count: usize) -> Result<Vec<Uuid>, BenchError> {
    register(executor, &Arc::new(vec![tenant])).await?;
    let mut devices = Vec::with_capacity(count);
    for n in 0..count {
        let id = Real.uuid_v7();
        let register = DeviceCommand::Register {
            name: Name::parse(&format!("Device {n}")).map_err(refused)?,
            kind: DeviceKind::Pv,
            serial: None,
            site: Site::parse("Roof", "UTC").map_err(refused)?,
            resolution_s: Resolution::parse(900).map_err(refused)?,
            direction: Direction::Export,
            max_power_w: MaxPower::parse(40_000).map_err(refused)?,
        };
        device(executor, tenant, id, register).await?;
        devices.push(id);
    }
    Ok(devices)
}

async fn device(executor: &Executor, tenant: TenantId, id: Uuid, command: DeviceCommand) -> Result<(), BenchError> {
    let authorized = authorize(&admin(tenant), tenant, command).map_err(refused)?;
    executor.execute::<Device>(authorized, id, call()).await.map_err(refused)?;
    Ok(())
}

fn admin(tenant: TenantId) -> Credential {
    Credential::new(ACTOR, tenant, vec![Role::TenantAdmin], Some(ACTOR.id))
}

/// One call of so many readings of a device, one a day: as many events, in as many appends as that takes. `slot` is
/// which quarter of an hour of each day.
pub(crate) async fn import(
    executor: &Executor,
    tenant: TenantId,
    device: Uuid,
    slot: u64,
    events: u64,
) -> Result<(), BenchError> {
    let ingest = Ingest::new(executor.clone());
    let mut recording = ingest.begin(&admin(tenant), tenant, call()).await.map_err(refused)?;
    let row = |index: u64| {
        let minutes = i64::try_from(index * 24 * 60 + slot * 15).unwrap_or_default();
        SentRow {
            index,
            device: device.to_string(),
            time: Stamp::Instant(IMPORT_FROM + chrono::TimeDelta::minutes(minutes)),
            energy_wh: 1_000,
            quality: Quality::Measured,
        }
    };
    recording.record((0..events).map(row).collect()).await.map_err(refused)?;
    let report = recording.finish().await.map_err(refused)?;
    if report.accepted == events { Ok(()) } else { Err(BenchError::Rejected(events - report.accepted)) }
}

/// Registers so many tenants, so that commands find them.
pub(crate) async fn register(executor: &Executor, tenants: &Arc<Vec<TenantId>>) -> Result<(), BenchError> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..256 {
        let (executor, tenants, next) = (executor.clone(), tenants.clone(), next.clone());
        tasks.spawn(async move {
            while let Some(tenant) = tenants.get(next.fetch_add(1, Ordering::Relaxed)) {
                let name = Name::parse(&format!("Tenant {tenant}")).map_err(refused)?;
                let command = TenantCommand::Register { name, plan: Plan::Pro, contact: None, domain: None };
                let credential = Credential::new(ACTOR, *tenant, vec![Role::PlatformAdmin], None);
                let authorized = authorize(&credential, *tenant, command).map_err(refused)?;
                executor.execute::<Tenant>(authorized, tenant.0, call()).await.map_err(refused)?;
            }
            Ok::<(), BenchError>(())
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.map_err(|panic| BenchError::Execute(Box::new(panic)))??;
    }
    Ok(())
}

fn refused(error: impl std::error::Error + Send + Sync + 'static) -> BenchError {
    BenchError::Execute(Box::new(error))
}
