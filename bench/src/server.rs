//! The PostgreSQL that is measured: its latency, its databases, and how its disk does at the moment.

use crate::error::BenchError;
use crate::load::Cpu;
use daybook_store::schema::migrate;
use daybook_store::system::Real;
use daybook_store::{Database, Role};
use daybook_testing::TestServer;
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What a commit costs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Latency {
    /// Whatever the disk takes.
    Disk,
    /// In memory, and every flush of the log waits 2 ms first: the same on every machine.
    #[value(name = "2ms")]
    TwoMs,
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Latency::Disk => "disk",
            Latency::TwoMs => "2 ms",
        })
    }
}

/// Starts a server for one latency. It ends with the value.
///
/// # Errors
/// When the machine has nothing of that latency.
pub async fn start(
    latency: Latency,
    disk_dir: Option<PathBuf>,
    connections_max: usize,
) -> Result<TestServer, BenchError> {
    let connections = connections_max.to_string();
    match latency {
        Latency::Disk => {
            let directory = disk_dir.unwrap_or_else(std::env::temp_dir);
            if in_memory(&directory)? {
                return Err(BenchError::NotADisk(directory));
            }
            Ok(TestServer::start_in(directory, &[("max_connections", &connections)]).await)
        }
        Latency::TwoMs => {
            let memory = Path::new("/dev/shm");
            if !memory.is_dir() {
                return Err(BenchError::NoMemoryFileSystem);
            }
            let settings =
                [("max_connections", connections.as_str()), ("commit_delay", "2000"), ("commit_siblings", "0")];
            Ok(TestServer::start_in(memory.to_owned(), &settings).await)
        }
    }
}

/// Whether a directory would be lost with the power.
fn in_memory(directory: &Path) -> Result<bool, BenchError> {
    const TMPFS: u64 = 0x0102_1994;
    const RAMFS: u64 = 0x8584_58f6;
    let found = rustix::fs::statfs(directory)
        .map_err(|e| BenchError::Probe { path: directory.to_owned(), source: e.into() })?;
    Ok([TMPFS, RAMFS].iter().any(|kind| u64::try_from(found.f_type).is_ok_and(|f| f == *kind)))
}

/// Makes a database with Daybook's schema.
///
/// # Errors
/// When there is one of that name.
pub async fn create(server: &TestServer, name: &str) -> Result<Database, BenchError> {
    let admin = server.database("postgres").connect(Role::Login, "").await?;
    admin.batch_execute(&format!("create database {name} encoding 'UTF8' template template0")).await?;
    let database = server.database(name);
    migrate(&database, &Real).await?;
    Ok(database)
}

/// Copies a database to which nobody is connected any more.
///
/// # Errors
/// When somebody stays connected.
pub async fn copy(server: &TestServer, from: &str, to: &str) -> Result<Database, BenchError> {
    let admin = server.database("postgres").connect(Role::Login, "").await?;
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let result = admin.batch_execute(&format!("create database {to} template {from} strategy file_copy")).await;
        match result {
            Ok(()) => return Ok(server.database(to)),
            // Sessions that have just been dropped take a moment to be gone.
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// How the storage does at the moment.
pub struct Probe {
    /// Median of writing 8 KiB and waiting until it is on the disk.
    pub fsync: Duration,
    /// Median of the smallest synchronous commit.
    pub commit: Duration,
}

const PROBES: usize = 31;

/// # Errors
/// When nothing can be written there.
pub async fn probe(server: &TestServer, database: &Database) -> Result<Probe, BenchError> {
    let directory = server.directory().to_owned();
    let failed = |source| BenchError::Probe { path: directory.clone(), source };
    let mut fsyncs = Vec::with_capacity(PROBES);
    let mut file = tempfile::tempfile_in(&directory).map_err(failed)?;
    let page = [0x5a_u8; 8192];
    for _ in 0..PROBES {
        let begun = Instant::now();
        file.write_all(&page).and_then(|()| file.sync_data()).map_err(failed)?;
        fsyncs.push(begun.elapsed());
    }
    let session = database.connect(Role::Writer, "-c synchronous_commit=on").await?;
    let statement = session.prepare("select pg_logical_emit_message(true, 'daybook', '')").await?;
    let mut commits = Vec::with_capacity(PROBES);
    for _ in 0..PROBES {
        let begun = Instant::now();
        session.query(&statement, &[]).await?;
        commits.push(begun.elapsed());
    }
    fsyncs.sort_unstable();
    commits.sort_unstable();
    Ok(Probe { fsync: fsyncs[PROBES / 2], commit: commits[PROBES / 2] })
}

/// Processor time that this process and the server's have used so far. Zero where the system does not tell.
///
/// # Errors
/// When the server cannot be asked.
pub async fn cpu(session: &tokio_postgres::Client) -> Result<Cpu, BenchError> {
    let rows = session.query("select pid from pg_stat_activity", &[]).await?;
    let server_us = rows.iter().map(|row| used_us(&row.get::<_, i32>(0).to_string())).sum();
    Ok(Cpu { client_us: used_us("self"), server_us })
}

/// Processor time of a process that runs, µs, by its number or `self`. Zero where the system does not tell.
pub fn used_us(process: &str) -> f64 {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{process}/task")) else { return 0.0 };
    threads
        .flatten()
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("schedstat")).ok())
        .filter_map(|text| text.split(' ').next()?.parse::<f64>().ok())
        .sum::<f64>()
        / 1_000.0
}
