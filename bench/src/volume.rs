//! `volume`: what becomes of speed and memory when the journal has grown.

use crate::error::BenchError;
use crate::load::{self, Pace, text};
use crate::server::{self, Latency};
use daybook_domain::TenantId;
use daybook_store::Database;
use daybook_store::journal::follow::{Follower, Source};
use daybook_store::journal::{Append, CommandStamp, Journal, JournalOptions, Known, NewEvent, StreamAppend, StreamId};
use daybook_store::system::{Real, System};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::{JoinHandle, JoinSet};

#[derive(clap::Args, Debug)]
pub struct Options {
    /// Events of the full journal.
    #[arg(long, default_value_t = 10_000_000)]
    events: u64,
    /// Directory on the disk for it; about 1 kB an event [default: that of temporary files].
    #[arg(long)]
    disk_dir: Option<PathBuf>,
    /// Callers while the rate of appends is measured.
    #[arg(long, default_value_t = 32)]
    writers: usize,
    /// Measurements of each journal, in turn; the table shows their medians.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Measured time of one measurement.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
}

/// Events of an append while the journal is filled.
const FILL_EVENTS: u64 = 10;
const FILL_TASKS: usize = 64;
const FILL_TENANTS: u64 = 1_000;
/// Bytes of a payload and of a metadata.
const BYTES: usize = 200;
/// Events per read of the follower.
const PAGE: u64 = 5_000;
const PATIENCE: Duration = Duration::from_secs(60);

/// # Errors
/// When anything fails.
pub async fn run(options: Options) -> Result<String, BenchError> {
    let server = server::start(Latency::Disk, options.disk_dir.clone(), 200).await?;
    let (full, empty) = (server::create(&server, "bench_full").await?, server::create(&server, "bench_empty").await?);
    let mut table = String::from("| | events | measured |\n|---|---|---|\n");

    let (journal, task, _) = start(&full).await?;
    let filled = fill(&journal, options.events).await?;
    stop(journal, task).await;
    let tenths: Vec<f64> = filled.tenths.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
    if let (Some(first), Some(last)) = (tenths.first(), tenths.last()) {
        #[allow(clippy::cast_precision_loss)]
        let tenth = options.events as f64 / 10.0;
        // Writing to a String cannot fail.
        let _ = writeln!(
            table,
            "| filling it, {FILL_EVENTS} events an append, {FILL_TASKS} callers | {} | first tenth {:.0}/s, last tenth {:.0}/s |",
            options.events,
            tenth / first,
            tenth / last
        );
    }

    for (name, database) in [("empty", &empty), ("full", &full)] {
        let (journal, task, took) = start(database).await?;
        let events = journal.durable().borrow().position;
        let _ = writeln!(
            table,
            "| from start to writing, {name} journal | {events} | {:.0} ms |",
            took.as_secs_f64() * 1e3
        );
        stop(journal, task).await;
    }

    let mut rates = [Vec::new(), Vec::new()];
    let (first, first_task, _) = start(&empty).await?;
    let (second, second_task, _) = start(&full).await?;
    for round in 0..options.rounds {
        for (journal, rates) in [&first, &second].into_iter().zip(&mut rates) {
            let begin = Instant::now() + Duration::from_millis(700);
            let end = begin + Duration::from_secs_f64(options.seconds);
            let pace = Pace { tasks: options.writers, warm_percent: 80, begin, end };
            rates.push(load::raw(journal, pace).await?.per_second);
        }
        eprintln!(
            "round {}/{}: empty {:.0}/s, full {:.0}/s",
            round + 1,
            options.rounds,
            rates[0][round],
            rates[1][round]
        );
    }
    stop(first, first_task).await;
    stop(second, second_task).await;
    let [empty_rate, full_rate] = rates.map(median);
    let _ = writeln!(table, "| raw appends, {} callers, empty journal | | {empty_rate:.0}/s |", options.writers);
    let _ = writeln!(
        table,
        "| raw appends, {} callers, full journal | {} | {full_rate:.0}/s, {:.2} of the empty one's (at least 0.85) |",
        options.writers,
        options.events,
        full_rate / empty_rate
    );

    let (rates, memory) = catch_up(&full, options.events).await?;
    if let (Some(first), Some(last)) = (rates.first(), rates.last()) {
        let _ = writeln!(
            table,
            "| a follower from the first event to the last | {} | first tenth {first:.0}/s, last tenth {last:.0}/s |",
            options.events
        );
    }
    let _ = writeln!(
        table,
        "| memory of this process: before, after filling, at most while following | | {} MiB, {} MiB, {} MiB |",
        filled.memory_before >> 20,
        filled.memory_after >> 20,
        memory >> 20
    );
    server.stop().await;
    Ok(table)
}

async fn start(database: &Database) -> Result<(Journal, JoinHandle<()>, Duration), BenchError> {
    let begun = Instant::now();
    let (journal, task) = Journal::start(database, Arc::new(Real), JournalOptions::new(Real.uuid_v4()));
    journal.ready(tokio::time::Instant::now() + PATIENCE).await?;
    Ok((journal, task, begun.elapsed()))
}

async fn stop(journal: Journal, task: JoinHandle<()>) {
    journal.shutdown().await;
    // One that panicked has ended as well.
    let _ = task.await;
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

struct Filled {
    /// When each tenth was there, from the beginning on.
    tenths: Vec<Instant>,
    memory_before: u64,
    memory_after: u64,
}

/// Streams of ten events each, among a thousand tenants.
async fn fill(journal: &Journal, events: u64) -> Result<Filled, BenchError> {
    let memory_before = resident_bytes();
    let tenants: Arc<Vec<TenantId>> = Arc::new((0..FILL_TENANTS).map(|_| TenantId(Real.uuid_v4())).collect());
    let (next, appends) = (Arc::new(AtomicU64::new(0)), events.div_ceil(FILL_EVENTS));
    let (payload, metadata) = (text(BYTES), text(BYTES));
    let mut tasks = JoinSet::new();
    let mut tenths = vec![Instant::now()];
    for _ in 0..FILL_TASKS {
        let (journal, tenants, next) = (journal.clone(), tenants.clone(), next.clone());
        let (payload, metadata) = (payload.clone(), metadata.clone());
        tasks.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= appends {
                    return Ok::<(), BenchError>(());
                }
                let tenant = tenants[usize::try_from(number % FILL_TENANTS).unwrap_or_default()];
                journal.append(append(tenant, &payload, &metadata), Known::default()).await?;
            }
        });
    }
    let mut durable = journal.durable();
    for tenth in 1..=10 {
        loop {
            tokio::select! {
                biased;
                _ = durable.wait_for(|durable| durable.position >= events * tenth / 10) => break,
                Some(ended) = tasks.join_next() => ended.map_err(|panic| BenchError::Execute(Box::new(panic)))??,
            }
        }
        tenths.push(Instant::now());
        eprintln!("{tenth}0 % of {events} events");
    }
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(|panic| BenchError::Execute(Box::new(panic)))??;
    }
    Ok(Filled { tenths, memory_before, memory_after: resident_bytes() })
}

fn append(tenant: TenantId, payload: &str, metadata: &str) -> Append {
    let event = || NewEvent {
        event_id: Real.uuid_v7(),
        event_type: "bench.thing.happened".into(),
        event_version: 1,
        payload: payload.to_owned(),
        metadata: metadata.to_owned(),
    };
    let mut hash_key = [0; 32];
    Real.random(&mut hash_key);
    Append {
        tenant,
        command: CommandStamp { tenant, id: Real.uuid_v7(), digest: [7; 32], hash_key, fresh: true },
        streams: vec![StreamAppend {
            stream: StreamId { kind: "thing", id: Real.uuid_v4() },
            expected: 0,
            events: (0..FILL_EVENTS).map(|_| event()).collect(),
        }],
        reads: vec![],
        claims: vec![],
        releases: vec![],
        not_after: None,
    }
}

/// Reads all of it; events per second of each tenth, and the most memory seen.
async fn catch_up(database: &Database, events: u64) -> Result<(Vec<f64>, u64), BenchError> {
    let mut follower = Follower::new(database.clone(), Source::Journal, 0, PAGE);
    let (mut rates, mut memory) = (Vec::new(), 0);
    for tenth in 1..=10 {
        let (from, begun) = (follower.position(), Instant::now());
        while follower.position() < events * tenth / 10 {
            let page = follower.next().await?;
            memory = memory.max(resident_bytes());
            drop(page);
        }
        #[allow(clippy::cast_precision_loss)]
        rates.push((follower.position() - from) as f64 / begun.elapsed().as_secs_f64());
    }
    Ok((rates, memory))
}

/// Memory of this process; 0 where the system does not tell.
fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()).map_or(0, |kb| kb * 1024)
}
