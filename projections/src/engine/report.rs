//! How the read models stand by what the database knows: for who is not the node that keeps them up to date.

use super::parking::{self, Parked};
use super::progress::{SLOW_AFTER, SLOW_POSITIONS};
use super::unsigned;
use super::versions::version;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use daybook_store::database::DatabaseError;
use std::fmt;
use std::time::Duration;
use tokio_postgres::Client;

/// A lane that is behind and has not moved for so long is nobody's.
const STILL_AFTER: TimeDelta = TimeDelta::seconds(30);
/// Parked streams that are listed of one read model.
const LISTED_MAX: i64 = 10_000;

/// Whether a lane goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LaneState {
    Running,
    /// Far behind, and moving.
    Slow,
    Stopped,
}

impl fmt::Display for LaneState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            LaneState::Running => "running",
            LaneState::Slow => "slow",
            LaneState::Stopped => "stopped",
        })
    }
}

impl LaneState {
    /// Of a lane that goes on.
    pub(super) fn behind(positions: u64, since: Duration) -> Self {
        if positions > 0 && (positions > SLOW_POSITIONS || since > SLOW_AFTER) {
            LaneState::Slow
        } else {
            LaneState::Running
        }
    }
}

/// One read model.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ModelReport {
    pub read_model: String,
    /// The version that answers.
    pub version: u32,
    pub lanes: Vec<LaneReport>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LaneReport {
    pub lane: u16,
    pub position: u64,
    /// Journal positions it is behind, and since when the first of them has been there.
    pub lag: u64,
    pub behind: Duration,
    pub state: LaneState,
    /// Why it has stopped.
    pub reason: Option<String>,
    pub parked: u64,
}

impl ModelReport {
    pub fn position(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.position).min().unwrap_or(0)
    }

    pub fn lag(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.lag).max().unwrap_or(0)
    }

    pub fn behind(&self) -> Duration {
        self.lanes.iter().map(|lane| lane.behind).max().unwrap_or_default()
    }

    pub fn parked(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.parked).sum()
    }

    /// That of the worst lane.
    pub fn state(&self) -> LaneState {
        let any = |state| self.lanes.iter().any(|lane| lane.state == state);
        match (any(LaneState::Stopped), any(LaneState::Slow)) {
            (true, _) => LaneState::Stopped,
            (false, true) => LaneState::Slow,
            (false, false) => LaneState::Running,
        }
    }
}

const REPORT: &str = "
 select c.read_model, c.version, c.lane, c.position, greatest(h.head - c.position, 0), e.recorded_at, c.updated_at,
        c.stopped_reason, c.stopped_position,
        (select count(*) from projection.parked p
         where p.read_model = c.read_model and p.version = c.version and p.lane = c.lane)
 from projection.checkpoints c
 join projection.live using (read_model, version)
 cross join (select coalesce((select last_position from journal.batches order by batch desc limit 1), 0) as head) h
 left join lateral (select recorded_at from journal.events where position = c.position + 1 limit 1) e on true
 order by c.read_model, c.lane";

/// Every read model that has a version which answers.
///
/// # Errors
/// When the database cannot be asked.
pub async fn report(client: &Client, now: DateTime<Utc>) -> Result<Vec<ModelReport>, DatabaseError> {
    let rows = client.query(REPORT, &[]).await.map_err(DatabaseError::Query)?;
    let mut models: Vec<ModelReport> = Vec::new();
    for row in rows {
        let (read_model, version): (String, u32) = (row.get(0), version(row.get(1)));
        let (position, lag) = (unsigned(row.get(3)), unsigned(row.get(4)));
        let since: Option<DateTime<Utc>> = row.get(5);
        let behind = since.map(|since| (now - since).to_std().unwrap_or_default()).unwrap_or_default();
        let moved: DateTime<Utc> = row.get(6);
        let reason: Option<String> = row.get(7);
        let at: Option<i64> = row.get(8);
        let reason = match (reason, at) {
            (Some(reason), Some(at)) => Some(format!("event {at}: {reason}")),
            (None, _) | (_, None) if lag > 0 && now - moved > STILL_AFTER => {
                let moved = moved.to_rfc3339_opts(SecondsFormat::Secs, true);
                Some(format!("it has not moved since {moved}: is the server running?"))
            }
            (reason, _) => reason,
        };
        let state = if reason.is_some() { LaneState::Stopped } else { LaneState::behind(lag, behind) };
        let lane = u16::try_from(row.get::<_, i32>(2)).unwrap_or_default();
        let lane = LaneReport { lane, position, lag, behind, state, reason, parked: unsigned(row.get(9)) };
        match models.last_mut().filter(|model| model.read_model == read_model) {
            Some(model) => model.lanes.push(lane),
            None => models.push(ModelReport { read_model, version, lanes: vec![lane] }),
        }
    }
    Ok(models)
}

/// What is parked of the version of a read model that answers, oldest first; at most 10,000 streams.
///
/// # Errors
/// When the database cannot be asked.
pub async fn parked_streams(client: &Client, read_model: &str) -> Result<Vec<Parked>, DatabaseError> {
    let row = client
        .query_opt("select version from projection.live where read_model = $1", &[&read_model])
        .await
        .map_err(DatabaseError::Query)?;
    match row {
        Some(row) => parking::load(client, read_model, version(row.get(0)), None, LISTED_MAX).await,
        None => Ok(Vec::new()),
    }
}
