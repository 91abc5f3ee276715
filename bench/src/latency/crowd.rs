//! A crowd that listens: thousands of subscriptions of one tenant on one node, each event for a few of them.
//!
//! A real `daybook serve`, spoken to as in [`super`]. Every subscription is on a socket of its own and filters the
//! tenant's events by two subjects: a device that it shares with a few others, and one that all have in common. Devices
//! are renamed on a fixed schedule, and every time counts from the scheduled moment.

use super::listen::{self, Socket};
use super::program::{Api, Program};
use super::{LINGER, LatencyError, PATIENCE, ms};
use futures_util::StreamExt;
use hdrhistogram::Histogram;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

#[derive(clap::Args, Debug)]
pub struct Options {
    /// The program to measure.
    #[arg(long, default_value = "target/release/daybook")]
    pub program: PathBuf,
    /// Subscriptions, each on a socket of its own; one caller may have 5,000.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    pub count: u32,
    /// Subscriptions that are told of the same event.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    pub each: u32,
    /// Mutations a second, of one event each.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub rate: u32,
    /// Measured time.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub seconds: u32,
    /// Directory on the disk to be measured [default: that of temporary files].
    #[arg(long)]
    pub disk_dir: Option<PathBuf>,
}

const SUBSCRIPTION: &str = "subscription($t: UUID!, $a: Position!, $d: [UUID!]!) {
    events(tenant: $t, after: $a, filter: { subjectId: { in: $d } }) { position node { ordinal } } }";
const RENAME: &str = "mutation($i: RenameDeviceInput!) { renameDevice(input: $i) {
    position userErrors { code message } } }";
const PLACE: &str = "the subscription";
/// Sockets that are opened at the same time.
const OPENING_MAX: usize = 32;
/// Mutations without an answer, at most.
const IN_FLIGHT_MAX: usize = 1_024;
/// Between the last preparation and the first mutation.
const RUN_UP: Duration = Duration::from_millis(100);
const POLL: Duration = Duration::from_millis(10);
/// Latencies beyond this count as this.
const LATENCY_US_MAX: u64 = 60_000_000;
/// The promise.
const P99_MS_MAX: f64 = 1_000.0;
const KIB_MAX: f64 = 32.0;

/// What became of the events.
pub struct Told {
    options: String,
    /// Deliveries: events times those that should hear of each.
    pub due: usize,
    pub missed: usize,
    pub doubled: usize,
    pub out_of_order: usize,
    /// Told to somebody who had not asked for it.
    pub strange: usize,
    /// µs since the scheduled moment.
    pub each: Histogram<u64>,
    /// Of the event that all are told of.
    pub all: Histogram<u64>,
    /// The program's memory without subscriptions, with them, and when the last event was delivered.
    pub resident_kib: [u64; 3],
    count: u32,
}

impl Told {
    /// The larger of both, since what was touched once stays.
    fn kib_each(&self) -> f64 {
        let [before, open, after] = self.resident_kib;
        #[allow(clippy::cast_precision_loss)]
        let more = open.max(after).saturating_sub(before) as f64;
        more / f64::from(self.count.max(1))
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |times: &Histogram<u64>, quantile| ms(times.value_at_quantile(quantile));
        let met = |is_met: bool| if is_met { "met" } else { "**not met**" };
        let [before, open, after] = self.resident_kib;
        let wrong = self.missed + self.doubled + self.out_of_order + self.strange;
        let p99 = at(&self.each, 0.99);
        writeln!(f, "{}\n", self.options)?;
        writeln!(f, "| | measured | target | |\n|---|---|---|---|")?;
        writeln!(f, "| deliveries due | {} | | |", self.due)?;
        writeln!(
            f,
            "| delivered after, p50 / p99 / max ms | {:.1} / {p99:.1} / {:.1} | p99 ≤ {P99_MS_MAX} | {} |",
            at(&self.each, 0.5),
            ms(self.each.max()),
            met(p99 <= P99_MS_MAX)
        )?;
        writeln!(
            f,
            "| the event for all, p50 / p99 / max ms | {:.1} / {:.1} / {:.1} | p99 ≤ {P99_MS_MAX} | {} |",
            at(&self.all, 0.5),
            at(&self.all, 0.99),
            ms(self.all.max()),
            met(at(&self.all, 0.99) <= P99_MS_MAX)
        )?;
        writeln!(
            f,
            "| missed, doubled, out of order, not asked for | {}, {}, {}, {} | 0 | {} |",
            self.missed,
            self.doubled,
            self.out_of_order,
            self.strange,
            met(wrong == 0)
        )?;
        write!(
            f,
            "| memory of `daybook serve`: without, open, after (MiB); KiB a subscription | {}, {}, {}; {:.1} | ≤ {KIB_MAX} | {} |",
            before / 1_024,
            open / 1_024,
            after / 1_024,
            self.kib_each(),
            met(self.kib_each() <= KIB_MAX)
        )
    }
}

/// One measurement.
///
/// # Errors
/// When the program cannot be run or asked, or a subscription ends.
pub async fn run(options: &Options) -> Result<Told, LatencyError> {
    let program = Program::start(&options.program, options.disk_dir.clone(), None).await?;
    let told = measure(options, &program).await;
    if told.is_err() {
        // It is gone in a moment.
        eprintln!("The end of the program's log:\n{}\n", program.log_tail());
    }
    told
}

async fn measure(options: &Options, program: &Program) -> Result<Told, LatencyError> {
    let api = Api::new(program)?;
    let tenant = api.register_tenant().await?;
    let (mut devices, mut after) = (Vec::new(), String::new());
    // The last one is everybody's.
    for n in 0..=options.count.div_ceil(options.each) {
        let (device, position) = api.register_device(tenant, n).await?;
        devices.push(device);
        after = position;
    }
    let shared = devices.pop().ok_or(LatencyError::Ended("the list of devices"))?;
    let renamer = Renamer { api, tenant };
    let resident_kib_before = program.resident_kib();
    let mut crowd = Crowd::gather(options, program, tenant, &devices, shared, &after).await?;
    // Whoever has heard this is there.
    let first = renamer.rename(shared, "All here".into()).await?;
    crowd.until(options.count as usize, Instant::now() + PATIENCE).await?;
    let resident_kib_open = program.resident_kib();

    let total = options.rate * options.seconds;
    let start = Instant::now() + RUN_UP;
    let (permits, mut under_way) = (Arc::new(Semaphore::new(IN_FLIGHT_MAX)), JoinSet::new());
    for n in 0..total {
        let due = start + Duration::from_secs(1) * n / options.rate;
        // In the middle, while the others go on.
        let device = if n == total / 2 { None } else { Some(n as usize % devices.len()) };
        tokio::time::sleep_until(due.into()).await;
        let permit = permits.clone().try_acquire_owned().map_err(|_| LatencyError::TooSlow(IN_FLIGHT_MAX))?;
        let (renamer, id) = (renamer.clone(), device.map_or(shared, |device| devices[device]));
        under_way.spawn(async move {
            let position = renamer.rename(id, format!("Name {n}")).await?;
            drop(permit);
            Ok::<_, LatencyError>((position, Event { due: Some(due), device }))
        });
    }
    let mut events = HashMap::from([(first, Event { due: None, device: None })]);
    while let Some(renamed) = under_way.join_next().await {
        let (position, event) = renamed??;
        events.insert(position, event);
    }
    let listeners = listeners(options.count as usize, devices.len());
    let due = events.values().map(|event| event.listeners(&listeners)).sum();
    crowd.until(due, Instant::now() + PATIENCE).await?;
    tokio::time::sleep(LINGER).await;
    let resident_kib = [resident_kib_before, resident_kib_open, program.resident_kib()];
    let heard = crowd.end().await?;
    let options_told = format!(
        "{} subscriptions on {} sockets, {} devices, {} events/s for {} s, each for {} subscriptions, one for all.",
        options.count,
        options.count,
        devices.len(),
        options.rate,
        options.seconds,
        options.each
    );
    Ok(judge(options_told, options.count, &events, &listeners, &heard, resident_kib))
}

/// What a position is of.
struct Event {
    /// When it was scheduled; `None` for the roll call, which is not measured.
    due: Option<Instant>,
    /// Its number; `None` for the one that all listen to.
    device: Option<usize>,
}

impl Event {
    fn listeners(&self, listeners: &[usize]) -> usize {
        self.device.map_or(listeners.iter().sum(), |device| listeners[device])
    }
}

/// How many subscriptions listen to each device: number n listens to device n, and so on in turn.
fn listeners(count: usize, devices: usize) -> Vec<usize> {
    (0..devices).map(|device| (count + devices - 1 - device) / devices).collect()
}

#[derive(Clone)]
struct Renamer {
    api: Api,
    tenant: Uuid,
}

impl Renamer {
    /// The position of the event.
    async fn rename(&self, device: Uuid, name: String) -> Result<String, LatencyError> {
        let input = json!({ "tenant": self.tenant, "id": device, "name": name });
        let data: Value = self.api.ask(RENAME, &json!({ "i": input })).await?;
        let position = data.pointer("/renameDevice/position").and_then(Value::as_str);
        Ok(position.ok_or_else(|| LatencyError::Refused(data.to_string()))?.to_owned())
    }
}

/// An event, as it was told.
struct Arrival {
    at: Instant,
    position: String,
    ordinal: u64,
}

/// What one subscription was told, in that order.
struct Heard {
    device: usize,
    arrivals: Vec<Arrival>,
}

struct Crowd {
    tasks: JoinSet<Result<Heard, LatencyError>>,
    count: Arc<AtomicUsize>,
    finish: watch::Sender<bool>,
}

impl Crowd {
    async fn gather(
        options: &Options,
        program: &Program,
        tenant: Uuid,
        devices: &[Uuid],
        shared: Uuid,
        after: &str,
    ) -> Result<Self, LatencyError> {
        let (finish, finished) = watch::channel(false);
        let count = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        let opening = futures_util::stream::iter((0..options.count as usize).map(|n| {
            let device = n % devices.len();
            let variables = json!({ "t": tenant, "a": after, "d": [devices[device], shared] });
            async move { Ok::<_, LatencyError>((device, listen::open(program, SUBSCRIPTION, &variables).await?)) }
        }));
        let mut opening = opening.buffer_unordered(OPENING_MAX);
        while let Some(open) = opening.next().await {
            let (device, socket) = open?;
            tasks.spawn(hear(device, socket, count.clone(), finished.clone()));
        }
        drop(opening);
        Ok(Crowd { tasks, count, finish })
    }

    /// Waits until so many have arrived, or the deadline; what is missing then is found later.
    async fn until(&mut self, count: usize, deadline: Instant) -> Result<(), LatencyError> {
        while self.count.load(Ordering::Relaxed) < count && Instant::now() < deadline {
            if let Some(ended) = self.tasks.try_join_next() {
                ended??;
                return Err(LatencyError::Ended(PLACE));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    async fn end(mut self) -> Result<Vec<Heard>, LatencyError> {
        self.finish.send_replace(true);
        let mut heard = Vec::new();
        while let Some(ended) = self.tasks.join_next().await {
            heard.push(ended??);
        }
        Ok(heard)
    }
}

async fn hear(
    device: usize,
    mut socket: Socket,
    count: Arc<AtomicUsize>,
    mut finished: watch::Receiver<bool>,
) -> Result<Heard, LatencyError> {
    let mut arrivals = Vec::new();
    loop {
        tokio::select! {
            biased;
            told = socket.next() => {
                if let Some(arrival) = arrival(&told.ok_or(LatencyError::Ended(PLACE))??)? {
                    count.fetch_add(1, Ordering::Relaxed);
                    arrivals.push(arrival);
                }
            }
            // An error says that the sender is gone, which ends this as well.
            _ = finished.wait_for(|finished| *finished) => return Ok(Heard { device, arrivals }),
        }
    }
}

#[derive(Deserialize)]
struct Next {
    #[serde(rename = "type")]
    kind: String,
    payload: Payload,
}

#[derive(Deserialize)]
struct Payload {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    events: Recorded,
}

#[derive(Deserialize)]
struct Recorded {
    position: String,
    /// None in a heartbeat.
    node: Option<Node>,
}

#[derive(Deserialize)]
struct Node {
    ordinal: String,
}

fn arrival(message: &Message) -> Result<Option<Arrival>, LatencyError> {
    let at = Instant::now();
    let Message::Text(text) = message else { return Ok(None) };
    let unexpected = || LatencyError::Unexpected(text.to_string());
    let Next { kind, payload } = serde_json::from_str(text).map_err(|_| unexpected())?;
    let Recorded { position, node } = payload.data.events;
    match node {
        _ if kind != "next" => Err(unexpected()),
        None => Ok(None),
        Some(node) => Ok(Some(Arrival { at, position, ordinal: node.ordinal.parse().map_err(|_| unexpected())? })),
    }
}

fn judge(
    options: String,
    count: u32,
    events: &HashMap<String, Event>,
    listeners: &[usize],
    heard: &[Heard],
    resident_kib: [u64; 3],
) -> Told {
    let due = events.values().map(|event| event.listeners(listeners)).sum();
    let histogram = || Histogram::new_with_max(LATENCY_US_MAX, 3).expect("the bounds are those of the documentation");
    let (each, all) = (histogram(), histogram());
    let mut told =
        Told { options, due, missed: 0, doubled: 0, out_of_order: 0, strange: 0, each, all, resident_kib, count };
    let mut arrived = 0;
    for heard in heard {
        let (mut last, mut known) = (0, std::collections::HashSet::new());
        for arrival in &heard.arrivals {
            let event = events.get(&arrival.position);
            let Some(event) = event.filter(|event| event.device.is_none_or(|device| device == heard.device)) else {
                told.strange += 1;
                continue;
            };
            if !known.insert(&arrival.position) {
                told.doubled += 1;
                continue;
            }
            arrived += 1;
            told.out_of_order += usize::from(arrival.ordinal <= last);
            last = arrival.ordinal;
            let Some(due) = event.due else { continue };
            let us = u64::try_from(arrival.at.saturating_duration_since(due).as_micros()).unwrap_or(LATENCY_US_MAX);
            let times = if event.device.is_some() { &mut told.each } else { &mut told.all };
            times.saturating_record(us);
        }
    }
    told.missed = told.due - arrived;
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three subscriptions of two devices; an event of device 0, one of device 1, and one for all, 5 ms late each.
    fn told(change: impl FnOnce(&mut Vec<Heard>)) -> Told {
        let start = Instant::now();
        let event = |n: u64, device| (format!("p{n}"), Event { due: Some(start + Duration::from_millis(n)), device });
        let events = HashMap::from([event(1, Some(0)), event(2, Some(1)), event(3, None)]);
        let arrival =
            |n: u64| Arrival { at: start + Duration::from_millis(n + 5), position: format!("p{n}"), ordinal: n };
        let heard = |device| Heard { device, arrivals: vec![arrival(device as u64 + 1), arrival(3)] };
        let mut all = vec![heard(0), heard(1), heard(0)];
        change(&mut all);
        judge(String::new(), 3, &events, &listeners(3, 2), &all, [1_024, 2_048, 1_060])
    }

    #[test]
    fn every_delivery_is_due_once_and_its_time_counts_from_the_schedule() {
        let told = told(|_| ());
        assert_eq!((told.due, told.missed, told.doubled, told.out_of_order, told.strange), (6, 0, 0, 0, 0));
        assert_eq!((told.each.len(), told.all.len()), (3, 3));
        assert!((4_990..=5_010).contains(&told.each.max()), "{}", told.each.max());
        assert!((341.0..342.0).contains(&told.kib_each()), "{}", told.kib_each());
    }

    #[test]
    fn what_is_missing_double_out_of_order_or_not_asked_for_is_counted() {
        let of = |told: Told| (told.missed, told.doubled, told.out_of_order, told.strange);
        assert_eq!(of(told(|heard| drop(heard[1].arrivals.pop()))), (1, 0, 0, 0));
        assert_eq!(of(told(|heard| heard[1].arrivals.swap(0, 1))), (0, 0, 1, 0));
        assert_eq!(of(told(|heard| heard[1].device = 0)), (1, 0, 0, 1));
        let twice = told(|heard| {
            let again = heard[2].arrivals.pop().unwrap();
            let Arrival { at, ref position, ordinal } = again;
            let double = Arrival { at, position: position.clone(), ordinal };
            heard[2].arrivals.extend([again, double]);
        });
        assert_eq!(of(twice), (0, 1, 0, 0));
    }

    #[test]
    fn listeners_are_shared_out_evenly() {
        assert_eq!(listeners(2_000, 100), vec![20; 100]);
        assert_eq!(listeners(5, 2), [3, 2]);
    }
}
