//! What the load came to, and whether the read models hold exactly what the file does.

use super::data::Day;
use super::load::Loaded;
use crate::exit::Failure;
use crate::server::Server;
use daybook_projections::engine::Lanes;
use daybook_store::Role;
use daybook_store::verify::{Evidence, VerifyOptions, verify};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// How long the read models may take after the last acknowledgement.
const PATIENCE: Duration = Duration::from_secs(300);

/// What the file says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Expected {
    pub readings: u64,
    pub energy_wh: i64,
}

impl Expected {
    pub fn of(days: &[Day]) -> Self {
        let values = days.iter().flat_map(|day| &day.slots).flat_map(|(_, values)| values);
        values.fold(Expected::default(), |all, value| Expected {
            readings: all.readings + 1,
            energy_wh: all.energy_wh + value,
        })
    }
}

/// What the read models say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    pub raw: Expected,
    pub hourly: Expected,
    pub hours: u64,
    /// From the last acknowledgement until both models had seen everything.
    pub lag: Duration,
}

/// Waits until both reading models have reached the head, and adds them up.
pub async fn wait(server: &Server, tenant: Uuid, expected: &Expected) -> Result<Seen, Failure> {
    let since = Instant::now();
    let head = server.journal.durable().borrow().position;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    server
        .projections
        .progress()
        .wait("readings", Lanes::All, head, deadline)
        .await
        .map_err(|e| Failure::failed(&e))?;
    let seen = Seen { lag: since.elapsed(), ..sums(server, tenant).await? };
    if seen.holds(expected) {
        return Ok(seen);
    }
    Err(Failure::verification(format!(
        "the read models hold {seen:?}, and the file {expected:?}: run `daybook verify`"
    )))
}

/// What is there already, if that is everything.
pub async fn loaded(server: &Server, tenant: Uuid, expected: &Expected) -> Result<Option<Seen>, Failure> {
    Ok(Some(sums(server, tenant).await?).filter(|seen| seen.holds(expected)))
}

impl Seen {
    /// After a restart there may be more than the file's: the slots that came one by one.
    fn holds(&self, expected: &Expected) -> bool {
        self.raw == self.hourly
            && self.raw.readings >= expected.readings
            && (self.raw.readings > expected.readings || self.raw.energy_wh == expected.energy_wh)
    }
}

async fn sums(server: &Server, tenant: Uuid) -> Result<Seen, Failure> {
    let client = server.database.connect(Role::Projector, "").await.map_err(|e| Failure::failed(&e))?;
    let version: i32 = client
        .query_one("select version from projection.live where read_model = 'readings'", &[])
        .await
        .map_err(|e| Failure::failed(&e))?
        .get(0);
    let sums = format!(
        "select (select count(*) from read.readings_v{version} where tenant_id = $1),
                (select coalesce(sum(energy_wh), 0)::bigint from read.readings_v{version} where tenant_id = $1),
                (select coalesce(sum(count), 0)::bigint from read.readings_hourly_v{version} where tenant_id = $1),
                (select coalesce(sum(sum_wh), 0)::bigint from read.readings_hourly_v{version} where tenant_id = $1),
                (select count(*) from read.readings_hourly_v{version} where tenant_id = $1)"
    );
    let row = client.query_one(&sums, &[&tenant]).await.map_err(|e| Failure::failed(&e))?;
    let count = |n: usize| u64::try_from(row.get::<_, i64>(n)).unwrap_or_default();
    Ok(Seen {
        raw: Expected { readings: count(0), energy_wh: row.get(1) },
        hourly: Expected { readings: count(2), energy_wh: row.get(3) },
        hours: count(4),
        lag: Duration::ZERO,
    })
}

/// # Errors
/// When the journal cannot be verified, or is not what was written.
#[allow(clippy::cast_precision_loss)]
pub async fn print(
    server: &Server,
    loaded: &Loaded,
    expected: &Expected,
    seen: &Seen,
    acknowledged: Duration,
    took: Duration,
) -> Result<(), Failure> {
    let events = server.journal.durable().borrow().position;
    let key = server.files.signer().verifier();
    let evidence = Evidence { checkpoints: &server.checkpoints, verifier: &key };
    let since = Instant::now();
    let report = verify(&server.database, Some(evidence), VerifyOptions::default()).await;
    let report = report.map_err(|e| Failure::failed(&e))?;
    let per_second = |n: u64, took: Duration| n as f64 / took.as_secs_f64().max(0.001);
    let recorded = loaded.recorded;
    println!(
        "readings      {} accepted, {} known already, {} rejected",
        recorded.accepted, recorded.duplicates, recorded.rejected
    );
    println!(
        "time          {:.1} s to the last acknowledgement, {:.1} s until both read models agreed with the file ({:.0} readings/s)",
        acknowledged.as_secs_f64(),
        took.as_secs_f64(),
        per_second(expected.readings, took)
    );
    println!("events        {events} in the journal ({:.0}/s)", per_second(events, took));
    println!("rows          {} readings, {} hours, {} Wh in both", seen.raw.readings, seen.hours, seen.raw.energy_wh);
    println!("lag           {:.0} ms from the last acknowledgement to the read models", seen.lag.as_secs_f64() * 1e3);
    if let (Some(middle), Some(late)) =
        (loaded.calls.get(loaded.calls.len() / 2), loaded.calls.get(loaded.calls.len() * 99 / 100))
    {
        println!(
            "calls         {}: p50 {:.0} ms, p99 {:.0} ms",
            loaded.calls.len(),
            middle.as_secs_f64() * 1e3,
            late.as_secs_f64() * 1e3
        );
    }
    println!(
        "verified      {} events, {} signed checkpoints, {} findings, in {:.1} s",
        report.events,
        report.checkpoints_checked,
        report.findings.len() as u64 + report.findings_left_out,
        since.elapsed().as_secs_f64()
    );
    match report.findings.first() {
        None => Ok(()),
        Some(finding) => Err(Failure::verification(finding.to_string())),
    }
}
