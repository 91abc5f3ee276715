//! `catch-up`: everything that was recorded, read from the beginning and decoded.
//!
//! Events as Daybook's executor writes them, a copy of each for postgres-es in its own table of the same database. Both
//! sides read in one task and decode in another.

use crate::targets::Targets;
use crate::{failed, postgres_es};
use cqrs_es::persist::PersistedEventRepository;
use daybook_bench::error::BenchError;
use daybook_bench::figures::middle;
use daybook_bench::rig::{Load, Rig};
use daybook_bench::server::Latency;
use daybook_domain::TenantId;
use daybook_domain::platform::Tenant;
use daybook_domain::platform::tenant::TenantEvent;
use daybook_store::codec;
use daybook_store::journal::follow::{Follower, Source};
use daybook_store::journal::{Append, CommandStamp, Journal, JournalOptions, Known, NewEvent, StreamAppend, StreamId};
use daybook_store::system::{Real, System};
use daybook_store::{Database, DatabaseError, Role};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

#[derive(clap::Args, Debug)]
pub struct Options {
    #[arg(long, default_value_t = 300_000, value_parser = clap::value_parser!(u64).range(1_000..=10_000_000))]
    events: u64,
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Where the database is.
    #[arg(long, value_enum, default_value_t = Latency::Disk)]
    latency: Latency,
    /// Directory on the disk to be measured [default: that of temporary files].
    #[arg(long)]
    disk_dir: Option<PathBuf>,
}

/// Events of a stream, and streams of an append.
const STREAM_EVENTS: usize = 10;
const APPEND_STREAMS: usize = 10;
/// Appends under way.
const APPENDS_MAX: usize = 32;
/// As read models read when they are built.
const PAGE: u64 = 1_000;
/// Pages that are read before they are decoded.
const PAGES_AHEAD: usize = 4;
const RATIO: f64 = 1.5;
const PER_SECOND: f64 = 300_000.0;
const TIMEOUT: Duration = Duration::from_secs(20);

/// Both in turn.
///
/// # Errors
/// When anything fails or is not read: then there is no table.
pub async fn run(options: &Options) -> Result<String, BenchError> {
    let rig = Rig::start(options.latency, options.disk_dir.clone(), 100, 1_000).await?;
    let database = rig.copy("bench_catch_up").await?;
    // A few events of every kind by the executor itself.
    rig.daybook(&database, Load::Command, 1, 80, 0.2).await?;
    let (journal, task) = Journal::start(&database, rig.system(), JournalOptions::new(Real.uuid_v4()));
    journal.ready(tokio::time::Instant::now() + TIMEOUT).await?;
    let samples = samples(&database).await?;
    eprintln!("{}: recording {} events", options.latency, options.events);
    fill(&journal, &samples, options.events).await?;
    postgres_es::adopt(&database).await?;
    let session = database.connect(Role::Login, "").await?;
    session.batch_execute("vacuum analyze journal.events").await.map_err(DatabaseError::Query)?;
    let last = journal.durable().borrow().position;

    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 1..=options.rounds {
        let our = follow(&database, &journal, last).await?;
        let their = stream(&database, last).await?;
        eprintln!("round {round}: {our:.0}/s against {their:.0}/s");
        ours.push(our);
        theirs.push(their);
    }
    let version = rig.server_version().await?;
    journal.shutdown().await;
    // What it would tell of a panic has been printed already.
    let _ = task.await;
    rig.server.stop().await;

    let (our, their) = (middle(ours.clone()), middle(theirs.clone()));
    let mut targets = Targets::default();
    targets.at_least("catch-up, times postgres-es", our / their, "×", RATIO);
    targets.at_least("catch-up", our, " events/s", PER_SECOND);
    Ok(format!(
        "{version}. {last} events, payload {} and metadata {} bytes for the most part, {STREAM_EVENTS} a stream.\n\n\
         | | events/s (slowest to fastest round) | in which order |\n|---|---|---|\n\
         | Daybook's follower | {our:.0} ({}) | the order of recording |\n\
         | postgres-es's `stream_all_events` | {their:.0} ({}) | by number within the stream, streams mixed |\n\n{}",
        samples.later.payload.len(),
        samples.later.metadata.len(),
        span(&ours),
        span(&theirs),
        targets.table()
    ))
}

fn span(rates: &[f64]) -> String {
    let (low, high) = rates.iter().fold((f64::MAX, 0f64), |(low, high), rate| (low.min(*rate), high.max(*rate)));
    format!("{low:.0}–{high:.0}")
}

/// What an event of a stream is made of.
struct Sample {
    event_type: String,
    payload: String,
    metadata: String,
}

struct Samples {
    first: Sample,
    later: Sample,
}

/// As the executor wrote them.
async fn samples(database: &Database) -> Result<Samples, BenchError> {
    let session = database.connect(Role::Login, "").await?;
    let sample = async |event_type: &str| {
        let sql = "select payload, metadata from journal.events where event_type = $1 order by position limit 1";
        let row = session.query_one(sql, &[&event_type]).await.map_err(DatabaseError::Query)?;
        Ok::<_, BenchError>(Sample { event_type: event_type.to_owned(), payload: row.get(0), metadata: row.get(1) })
    };
    Ok(Samples {
        first: sample("platform.tenant.registered").await?,
        later: sample("platform.tenant.settings_changed").await?,
    })
}

/// Appends at least so many events, of many tenants.
async fn fill(journal: &Journal, samples: &Samples, events: u64) -> Result<(), BenchError> {
    let (permits, mut under_way) = (Arc::new(Semaphore::new(APPENDS_MAX)), JoinSet::new());
    for _ in 0..events.div_ceil((STREAM_EVENTS * APPEND_STREAMS) as u64) {
        // Never closed.
        let Ok(permit) = permits.clone().acquire_owned().await else { break };
        let (journal, append) = (journal.clone(), append(samples));
        under_way.spawn(async move {
            let appended = journal.append(append, Known::default()).await;
            drop(permit);
            appended
        });
    }
    while let Some(appended) = under_way.join_next().await {
        appended.map_err(failed("Daybook"))??;
    }
    Ok(())
}

fn append(samples: &Samples) -> Append {
    let event = |number: usize| {
        let sample = if number == 0 { &samples.first } else { &samples.later };
        NewEvent {
            event_id: Real.uuid_v7(),
            event_type: sample.event_type.clone(),
            event_version: 1,
            payload: sample.payload.clone(),
            metadata: sample.metadata.clone(),
        }
    };
    let stream = || StreamAppend {
        stream: StreamId { kind: "tenant", id: Real.uuid_v4() },
        expected: 0,
        events: (0..STREAM_EVENTS).map(event).collect(),
    };
    let tenant = TenantId(Real.uuid_v4());
    let mut hash_key = [0; 32];
    Real.random(&mut hash_key);
    Append {
        tenant,
        command: CommandStamp { tenant, id: Real.uuid_v7(), digest: [7; 32], hash_key, fresh: true },
        streams: (0..APPEND_STREAMS).map(|_| stream()).collect(),
        reads: vec![],
        claims: vec![],
        releases: vec![],
        not_after: None,
    }
}

/// Daybook's follower: events per second.
async fn follow(database: &Database, journal: &Journal, last: u64) -> Result<f64, BenchError> {
    let mut follower = Follower::new(database.clone(), Source::Writer(journal.durable()), 0, PAGE);
    let begun = Instant::now();
    let (pages, mut to_decode) = mpsc::channel(PAGES_AHEAD);
    let reader = tokio::spawn(async move {
        while follower.position() < last {
            let page = follower.next().await?;
            // Whoever decodes is gone only after an error.
            if pages.send(page).await.is_err() {
                break;
            }
        }
        Ok::<_, daybook_store::journal::follow::FollowError>(())
    });
    let mut count = 0;
    while let Some(page) = to_decode.recv().await {
        for event in page {
            let _: Vec<TenantEvent> = codec::decode(&event.origin(), &event.payload)
                .map_err(failed("Daybook's decoding"))?;
            // Its personal fields stay sealed: only their subject's key would make it a `Metadata`.
            let _: serde_json::Value = serde_json::from_str(&event.metadata).map_err(failed("Daybook's decoding"))?;
            count += 1;
        }
    }
    let taken = begun.elapsed();
    reader.await.map_err(failed("Daybook's follower"))?.map_err(failed("Daybook's follower"))?;
    per_second("Daybook's follower", count, last, taken)
}

/// What postgres-es replays queries with: events per second.
async fn stream(database: &Database, last: u64) -> Result<f64, BenchError> {
    let repository = postgres_es::repository(database, 2).await?;
    let begun = Instant::now();
    let mut events = repository.stream_all_events::<Tenant>().await.map_err(failed(postgres_es::NAME))?;
    let mut count = 0;
    while let Some(event) = events.next::<Tenant>(&[]).await {
        event.map_err(failed(postgres_es::NAME))?;
        count += 1;
    }
    per_second(postgres_es::NAME, count, last, begun.elapsed())
}

fn per_second(reader: &'static str, count: u64, last: u64, taken: Duration) -> Result<f64, BenchError> {
    if count != last {
        return Err(failed(reader)(format!("{count} of {last} events were read")));
    }
    #[allow(clippy::cast_precision_loss)]
    Ok(count as f64 / taken.as_secs_f64())
}
