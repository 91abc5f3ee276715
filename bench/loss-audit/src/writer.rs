//! A client that writes as fast as it is answered, and repeats what was not answered with the same id until it is.

use crate::client::{Api, NoAnswer};
use crate::history::{Ask, Log, Written};
use rand::rngs::StdRng;
use rand::{Rng, RngExt};
use serde_json::{Value, json};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use uuid::Uuid;

const REGISTER: &str = "mutation($i: RegisterTenantInput!) { r: registerTenant(input: $i) {
    position userErrors { code } row: tenant { id version } } }";
const RENAME: &str = "mutation($i: RenameTenantInput!) { r: renameTenant(input: $i) {
    position userErrors { code } row: tenant { id version } } }";
const DEVICE: &str = "mutation($i: RegisterDeviceInput!) { r: registerDevice(input: $i) {
    position userErrors { code } row: device { id } } }";
const READINGS: &str = "mutation($i: RecordReadingsInput!) { r: recordReadings(input: $i) {
    position userErrors { code } accepted duplicates rejected } }";
const TENANT: &str = "query($t: UUID!, $p: Position!) { tenant(id: $t, atLeast: $p) { name version } }";

const STEP_S: i64 = 900;
/// 2000-01-01
const FIRST_SLOT_S: i64 = 946_684_800;
const DEVICES_MAX: usize = 4;
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(30);
/// A version that no tenant comes to have.
const NO_VERSION: i64 = 1_000_000_000;

/// What all writers share.
pub struct Load {
    pub api: Api,
    pub stop: AtomicBool,
    pub progress: Progress,
    /// Tenants that several write to.
    pub shared: Vec<Uuid>,
    /// However often it is repeated, an answer comes within this.
    pub patience: Duration,
    /// Who wants to know of a new tenant: its id, and the position of its registration.
    pub registered: mpsc::UnboundedSender<(Uuid, String)>,
}

/// Acknowledgements, and how long there was none.
pub struct Progress(Mutex<Counted>);

struct Counted {
    count: u64,
    last: Instant,
    longest: Duration,
}

impl Progress {
    pub fn new(now: Instant) -> Self {
        Progress(Mutex::new(Counted { count: 0, last: now, longest: Duration::ZERO }))
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn acknowledge(&self, now: Instant) {
        let mut counted = self.counted();
        counted.longest = counted.longest.max(now.saturating_duration_since(counted.last));
        (counted.count, counted.last) = (counted.count + 1, now);
    }

    pub fn count(&self) -> u64 {
        self.counted().count
    }

    /// The longest time without one since this was asked last, that which goes on included.
    pub fn longest_pause(&self, now: Instant) -> Duration {
        let mut counted = self.counted();
        let pause = counted.longest.max(now.saturating_duration_since(counted.last));
        counted.longest = Duration::ZERO;
        pause
    }
}

/// A tenant that nobody else writes to.
struct Own {
    tenant: Uuid,
    version: i64,
    devices: Vec<Device>,
}

struct Device {
    id: Uuid,
    slot_s: i64,
}

pub struct Writer {
    load: Arc<Load>,
    log: Log<Written>,
    random: StdRng,
    /// It goes to the next one when this one does not answer.
    node: usize,
    own: Option<Own>,
    count: u64,
    name: String,
    gives_up: bool,
}

/// What came of one command.
enum Outcome {
    Done(Value),
    Refused,
    /// Whether it was done is not known.
    Open,
}

impl Writer {
    pub fn new(load: Arc<Load>, log: Log<Written>, random: StdRng, node: usize, name: &str) -> Self {
        Writer { load, log, random, node, own: None, count: 0, name: name.to_owned(), gives_up: true }
    }

    /// One that repeats until its patience ends.
    pub fn stubborn(mut self) -> Self {
        self.gives_up = false;
        self
    }

    /// A new tenant; none when there is no answer in time.
    ///
    /// # Errors
    /// When the history cannot be written.
    pub async fn tenant(&mut self) -> io::Result<Option<Uuid>> {
        self.register().await?;
        Ok(self.own.as_ref().map(|own| own.tenant))
    }

    /// Writes, and reads what it wrote; whether both were answered in time.
    ///
    /// # Errors
    /// When the history cannot be written.
    pub async fn probe(&mut self) -> io::Result<bool> {
        let Some(tenant) = self.own.as_ref().map(|own| own.tenant) else { return Ok(false) };
        let name = self.text();
        match self.carry_out(Ask::RenameTenant { tenant, name: name.clone(), expected: None }, true).await? {
            Outcome::Done(row) => self.read(tenant, &row, name).await,
            Outcome::Refused | Outcome::Open => Ok(false),
        }
    }

    /// Until told to stop.
    ///
    /// # Errors
    /// When the history cannot be written.
    pub async fn run(mut self) -> io::Result<()> {
        while !self.load.stop.load(Ordering::Relaxed) {
            self.turn().await?;
        }
        Ok(())
    }

    async fn turn(&mut self) -> io::Result<()> {
        let Some(own) = &self.own else {
            return self.register().await;
        };
        let (tenant, version, devices) = (own.tenant, own.version, own.devices.len());
        match self.random.random_range(0..100) {
            0..10 if devices < DEVICES_MAX => self.register_device(tenant).await,
            10..30 if devices > 0 => self.record(tenant, false).await,
            30..40 if devices > 0 => self.record(tenant, true).await,
            40..45 => self.refused(tenant).await,
            45..55 if !self.load.shared.is_empty() => self.rename_shared().await,
            55..70 => self.rename_own(tenant, Some(version)).await,
            _ => self.rename_own(tenant, None).await,
        }
    }

    fn text(&mut self) -> String {
        self.count += 1;
        format!("{} {} {}", self.name, self.count, self.random.next_u32())
    }

    async fn register(&mut self) -> io::Result<()> {
        let ask = Ask::RegisterTenant { name: self.text() };
        if let Outcome::Done(row) = self.carry_out(ask, true).await?
            && let (Some(tenant), Some(position)) = (id_of(&row), row["position"].as_str())
        {
            self.own = Some(Own { tenant, version: version_of(&row).unwrap_or(1), devices: vec![] });
            // Nobody may want to know.
            let _ = self.load.registered.send((tenant, position.to_owned()));
        }
        Ok(())
    }

    /// Renames its own tenant; told the version, it can never be a conflict.
    async fn rename_own(&mut self, tenant: Uuid, expected: Option<i64>) -> io::Result<()> {
        let name = self.text();
        match self.carry_out(Ask::RenameTenant { tenant, name: name.clone(), expected }, true).await? {
            Outcome::Done(row) => {
                if let (Some(own), Some(version)) = (&mut self.own, version_of(&row)) {
                    own.version = version;
                }
                if self.random.random_range(0..4) == 0 {
                    self.read(tenant, &row, name).await?;
                }
            }
            Outcome::Refused => {}
            // What is still under way may come in between from now on.
            Outcome::Open => self.own = None,
        }
        Ok(())
    }

    async fn rename_shared(&mut self) -> io::Result<()> {
        let tenant = self.load.shared[self.random.random_range(0..self.load.shared.len())];
        let name = self.text();
        // Among many it may lose every time, and be told so.
        self.carry_out(Ask::RenameTenant { tenant, name, expected: None }, false).await?;
        Ok(())
    }

    /// What has to be refused, and to leave nothing.
    async fn refused(&mut self, tenant: Uuid) -> io::Result<()> {
        let ask = match self.random.random_range(0..3) {
            0 => Ask::RenameTenant { tenant, name: String::new(), expected: None },
            1 => Ask::RenameTenant { tenant: Uuid::from_u128(self.random.random()), name: self.text(), expected: None },
            _ => Ask::RenameTenant { tenant, name: self.text(), expected: Some(NO_VERSION) },
        };
        self.carry_out(ask, false).await?;
        Ok(())
    }

    async fn register_device(&mut self, tenant: Uuid) -> io::Result<()> {
        let (name, serial) = (self.text(), format!("{:x}", self.random.next_u64()));
        match self.carry_out(Ask::RegisterDevice { tenant, name, serial }, true).await? {
            Outcome::Done(row) => {
                if let (Some(own), Some(id)) = (&mut self.own, id_of(&row)) {
                    own.devices.push(Device { id, slot_s: FIRST_SLOT_S });
                }
            }
            Outcome::Refused => {}
            Outcome::Open => self.own = None,
        }
        Ok(())
    }

    async fn record(&mut self, tenant: Uuid, ingest: bool) -> io::Result<()> {
        let rows = if ingest { 20..200 } else { 1..10 };
        let count = self.random.random_range(rows);
        let wh: Vec<i64> = (0..count).map(|_| self.random.random_range(0..4_000)).collect();
        let Some(own) = &mut self.own else { return Ok(()) };
        let device = self.random.random_range(0..own.devices.len());
        let device = &mut own.devices[device];
        let (id, from_s) = (device.id, device.slot_s);
        // Never asked for again by another command, whatever becomes of this one.
        device.slot_s += i64::from(count) * STEP_S;
        let ask = Ask::RecordReadings { tenant, device: id, from_s, step_s: STEP_S, wh, ingest };
        if matches!(self.carry_out(ask, true).await?, Outcome::Open) {
            self.own = None;
        }
        Ok(())
    }

    /// Reads one's own write: at its position, it must show. Whether there was an answer in time.
    async fn read(&mut self, tenant: Uuid, row: &Value, name: String) -> io::Result<bool> {
        let (Some(position), Some(written)) = (row["position"].as_str(), version_of(row)) else { return Ok(false) };
        // At another node, where there is one.
        let mut node = self.node + 1;
        let asked = Instant::now();
        while asked.elapsed() < self.load.patience {
            let variables = json!({ "t": tenant, "p": position });
            if let Ok(data) = self.load.api.ask(node, TENANT, variables, None).await {
                let (read, read_name) = (version_of_row(&data["tenant"]), data["tenant"]["name"].as_str());
                let (position, read_name) = (position.to_owned(), read_name.map(str::to_owned));
                self.log.write(&Written::Read { tenant, position, written, name, read, read_name })?;
                return Ok(true);
            }
            node += 1;
            tokio::time::sleep(PAUSE).await;
        }
        Ok(false)
    }

    /// Asks until there is an answer. `is_right`: there is no reason to refuse it.
    ///
    /// # Errors
    /// When the history cannot be written.
    async fn carry_out(&mut self, ask: Ask, is_right: bool) -> io::Result<Outcome> {
        let command = Uuid::from_u128(self.random.random());
        self.log.write(&Written::Invoked { command, ask: ask.clone() })?;
        // Some give up, as those do that are shut down themselves.
        let attempts_max = if self.gives_up && self.random.random_range(0..20) == 0 { 1 } else { u32::MAX };
        let asked = Instant::now();
        let mut attempts = 0;
        while attempts < attempts_max && asked.elapsed() < self.load.patience {
            attempts += 1;
            match self.attempt(command, &ask).await.map_err(|no| again_if_only_busy(no, &ask)) {
                Ok(row) => {
                    let position = row["position"].as_str().map(str::to_owned);
                    let (id, version) = (id_of(&row), version_of(&row));
                    self.log.write(&Written::Acknowledged { command, position, id, version })?;
                    self.load.progress.acknowledge(Instant::now());
                    return Ok(Outcome::Done(row));
                }
                Err(NoAnswer::Refused(code)) => {
                    self.log.write(&Written::Refused { command, code, is_wrong: is_right })?;
                    return Ok(Outcome::Refused);
                }
                Err(NoAnswer::Again(why)) => {
                    self.log.write(&Written::Unanswered { command, why })?;
                    self.node += 1;
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        self.log.write(&Written::Abandoned { command })?;
        Ok(Outcome::Open)
    }

    async fn attempt(&mut self, command: Uuid, ask: &Ask) -> Result<Value, NoAnswer> {
        let api = self.load.api.clone();
        let (query, mut input, rows) = match ask {
            Ask::RegisterTenant { name } => (REGISTER, json!({ "name": name, "plan": "FREE" }), 0),
            Ask::RenameTenant { tenant, name, expected } => {
                (RENAME, json!({ "id": tenant, "name": name, "expectedVersion": expected.map(|v| v.to_string()) }), 0)
            }
            Ask::RegisterDevice { tenant, name, serial } => {
                let site = json!({ "name": "Audit", "timeZone": "UTC" });
                let input = json!({ "tenant": tenant, "name": name, "kind": "METER", "serial": serial, "site": site,
                    "resolutionS": STEP_S, "direction": "IMPORT", "maxPowerW": "40000" });
                (DEVICE, input, 0)
            }
            Ask::RecordReadings { tenant, device, from_s, step_s, wh, ingest } => {
                let times = (0..).map(|slot| time(from_s + slot * step_s));
                if *ingest {
                    let mut csv = String::from("device,time,value,unit\n");
                    csv.extend(times.zip(wh).map(|(time, wh)| format!("{device},{time},{wh},Wh\n")));
                    let report = api.ingest(self.node, *tenant, &csv, command).await?;
                    return all_rows(report, wh.len());
                }
                let rows: Vec<Value> = times
                    .zip(wh)
                    .map(|(time, wh)| json!({ "device": device, "time": time, "value": wh.to_string(), "unit": "WH" }))
                    .collect();
                (READINGS, json!({ "tenant": tenant, "rows": rows }), wh.len())
            }
        };
        // Both ways of naming a command are used.
        let key = command.as_u128().is_multiple_of(2).then_some(command);
        if key.is_none() {
            input["clientMutationId"] = json!(command);
        }
        let mut data = api.ask(self.node, query, json!({ "i": input }), key).await?;
        let answer = data["r"].take();
        if let Some(error) = answer["userErrors"].get(0) {
            return Err(NoAnswer::Refused(error["code"].as_str().unwrap_or("a user error").into()));
        }
        if rows == 0 { Ok(answer) } else { all_rows(answer, rows) }
    }
}

/// Readings that meet an earlier attempt of the same call are told to be sent again.
fn again_if_only_busy(no: NoAnswer, ask: &Ask) -> NoAnswer {
    match (no, ask) {
        (NoAnswer::Refused(code), Ask::RecordReadings { .. }) if code == "CONFLICT" => NoAnswer::Again(code),
        (no, _) => no,
    }
}

/// All rows are recorded, now or by an earlier attempt.
fn all_rows(answer: Value, rows: usize) -> Result<Value, NoAnswer> {
    let number = |name: &str| {
        let value = &answer[name];
        value.as_u64().or_else(|| value.as_str()?.parse().ok()).unwrap_or(0)
    };
    let recorded = number("accepted") + number("duplicates");
    if usize::try_from(recorded) == Ok(rows) {
        return Ok(answer);
    }
    Err(NoAnswer::Refused(format!("{recorded} of {rows} rows recorded")))
}

fn time(unix_s: i64) -> String {
    chrono::DateTime::from_timestamp(unix_s, 0).map(|time| time.to_rfc3339()).unwrap_or_default()
}

fn id_of(answer: &Value) -> Option<Uuid> {
    answer["row"]["id"].as_str()?.parse().ok()
}

fn version_of(answer: &Value) -> Option<i64> {
    version_of_row(&answer["row"])
}

fn version_of_row(row: &Value) -> Option<i64> {
    row["version"].as_str()?.parse().ok()
}
