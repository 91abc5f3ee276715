//! `rebuild`: how fast a read model is made from a journal full of readings, against COPY of the same rows.

use crate::error::BenchError;
use crate::server::{self, Latency};
use chrono::{Days, NaiveDate};
use cqrs_es::DomainEvent;
use daybook_domain::TenantId;
use daybook_domain::energy::ReadingsEvent;
use daybook_domain::energy::readings::{DeviceId, Quality, Resolution, Run, readings_stream};
use daybook_projections::engine::Options as EngineOptions;
use daybook_projections::{Model, Parts, read_models};
use daybook_store::codec;
use daybook_store::journal::follow::Source;
use daybook_store::journal::{Append, CommandStamp, Journal, JournalOptions, Known, NewEvent, StreamAppend, StreamId};
use daybook_store::keys::{KeyFiles, KeyStore, Sealer};
use daybook_store::system::{Real, System};
use daybook_store::{Database, Role};
use futures_util::{SinkExt, TryStreamExt};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Events of one append.
const CHUNK: u64 = 1_500;

#[derive(clap::Args, Debug)]
pub struct Options {
    /// Events in the journal.
    #[arg(long, default_value_t = 300_000)]
    events: u64,
    /// Readings of each event: quarter hours of one device.
    #[arg(long, default_value_t = 4)]
    slots: u16,
    /// Devices of one tenant.
    #[arg(long, default_value_t = 100)]
    devices: u64,
    /// The read models to be made.
    #[arg(long, value_delimiter = ',', default_values = ["readings", "audit"])]
    models: Vec<String>,
    /// Events per transaction.
    #[arg(long, default_value_t = 20_000)]
    bulk: usize,
    /// Each is made so often; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Directory on the disk to be measured [default: in memory].
    #[arg(long)]
    disk_dir: Option<PathBuf>,
}

/// # Errors
/// When anything fails.
pub async fn run(options: Options) -> Result<String, BenchError> {
    let latency = if options.disk_dir.is_some() { Latency::Disk } else { Latency::TwoMs };
    let server = server::start(latency, options.disk_dir.clone(), 40).await?;
    let database = server::create(&server, "bench_rebuild").await?;
    fill(&database, &options).await?;
    let keys = tempfile::tempdir().map_err(|e| BenchError::Probe { path: "keys".into(), source: e })?;
    let files = KeyFiles::open(&keys.path().join("keys"), true, "daybook.bench", &Real)?;
    let system = Arc::new(Real);
    let store = KeyStore::new(database.pool(Role::Writer, 2, ""), Arc::new(files), system.clone());
    let parts = Parts {
        database: database.clone(),
        source: Source::Journal,
        sealer: Sealer::new(Arc::new(store), system.clone()),
        system,
        options: EngineOptions { bulk_max: options.bulk, ..EngineOptions::default() },
    };
    let session = database.connect(Role::Login, "").await?;
    session.batch_execute("analyze").await?;
    let mut table = String::from(
        "| read model | rebuild, events/s | rows/s | COPY of the rows, rows/s | rebuild : COPY |\n|---|---|---|---|---|\n",
    );
    for model in read_models().iter().filter(|model| options.models.iter().any(|name| name == model.name())) {
        let mut times = Vec::new();
        let mut copies = Vec::new();
        let mut rows = 0;
        for _ in 0..options.rounds.max(1) {
            let (took, version) = rebuilt(model, &parts).await?;
            times.push(took);
            let copied = copy(&database, model.name(), version).await?;
            rows = copied.0;
            copies.push(copied.1);
        }
        times.sort_unstable();
        copies.sort_unstable();
        let (took, copied) = (times[times.len() / 2].as_secs_f64(), copies[copies.len() / 2].as_secs_f64());
        #[allow(clippy::cast_precision_loss)]
        let (events, rows) = (options.events as f64, rows as f64);
        let _ = writeln!(
            table,
            "| {} | {:.0} | {:.0} | {:.0} | {:.1} |",
            model.name(),
            events / took,
            rows / took,
            rows / copied,
            took / copied
        );
    }
    server.stop().await;
    Ok(table)
}

/// Makes the read model anew; how long that took and which version it is.
async fn rebuilt(model: &Model, parts: &Parts) -> Result<(Duration, u32), BenchError> {
    let begun = Instant::now();
    let rebuilt = model.rebuild(parts, &mut |_| {}).await.map_err(|e| BenchError::Execute(Box::new(e)))?;
    Ok((begun.elapsed(), rebuilt.version))
}

/// The rows of a version's table by COPY into another one with the same indexes: how many, and how long that took.
async fn copy(database: &Database, model: &str, version: u32) -> Result<(u64, Duration), BenchError> {
    let session = database.connect(Role::Login, "").await?;
    let table = format!("read.{model}_v{version}");
    session
        .batch_execute(&format!(
            "drop table if exists public.copied; create table public.copied (like {table} including all)"
        ))
        .await?;
    let from = session.copy_out(&format!("copy (select * from {table}) to stdout (format binary)")).await?;
    let data: Vec<_> = from.try_collect().await?;
    let begun = Instant::now();
    let into = session.copy_in("copy public.copied from stdin (format binary)").await?;
    let mut into = Box::pin(into);
    for piece in data {
        into.feed(piece).await?;
    }
    let rows = into.as_mut().finish().await?;
    Ok((rows, begun.elapsed()))
}

/// Fills the journal as meters would: every device a few quarter hours at a time, all devices in turn.
async fn fill(database: &Database, options: &Options) -> Result<(), BenchError> {
    let (journal, writer) = Journal::start(database, Arc::new(Real), JournalOptions::new(Real.uuid_v4()));
    journal.ready(tokio::time::Instant::now() + Duration::from_secs(20)).await?;
    let per_day = u64::from((96 / options.slots.max(1)).max(1));
    let day_of_all = per_day * options.devices.max(1);
    let mut next = 0;
    let mut versions = std::collections::HashMap::new();
    while next < options.events {
        let until = (next + CHUNK).min(options.events);
        let mut streams: std::collections::BTreeMap<Uuid, Vec<NewEvent>> = std::collections::BTreeMap::new();
        while next < until && streams.len() < 190 {
            let (days, within) = (next / day_of_all, next % day_of_all);
            let (device, nth) = (within / per_day, within % per_day);
            let day = NaiveDate::from_ymd_opt(2024, 1, 1).unwrap_or_default() + Days::new(days % 3_650);
            let device = DeviceId(Uuid::from_u128(u128::from(device) + 1));
            let from_slot = u16::try_from(nth).unwrap_or_default() * options.slots;
            let wh = (0..options.slots).map(|slot| i64::from(slot) * 7 + 120).collect();
            let resolution_s = Resolution::parse(900).map_err(|e| BenchError::Execute(Box::new(e)))?;
            let runs = vec![Run { from_slot, quality: Quality::Measured, wh }];
            let event = ReadingsEvent::Recorded { device, day, resolution_s, runs };
            let encoded = codec::encode(&event).map_err(|e| BenchError::Execute(Box::new(e)))?;
            streams.entry(readings_stream(device, day)).or_default().push(NewEvent {
                event_id: Real.uuid_v7(),
                event_type: event.event_type(),
                event_version: encoded.event_version,
                payload: encoded.payload,
                metadata: crate::load::text(250),
            });
            next += 1;
        }
        let tenant = TenantId(Uuid::from_u128(77));
        let streams = streams.into_iter().map(|(id, events)| {
            let version = versions.entry(id).or_insert(0);
            let expected = *version;
            *version += events.len() as u64;
            StreamAppend { stream: StreamId { kind: "readings", id }, expected, events }
        });
        let command = CommandStamp { tenant, id: Real.uuid_v7(), digest: [7; 32], hash_key: [9; 32], fresh: true };
        let append = Append {
            tenant,
            command,
            streams: streams.collect(),
            reads: vec![],
            claims: vec![],
            releases: vec![],
            not_after: None,
        };
        journal.append(append, Known::default()).await?;
    }
    journal.shutdown().await;
    // It has ended or was aborted: either way it writes nothing more.
    let _ = writer.await;
    Ok(())
}
