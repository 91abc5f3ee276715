//! A read model that another node keeps: how far it is there, so that readers here can wait for it.
//!
//! The rows are in the database, whoever writes them. This node follows the journal as the keeper does and so knows
//! which lanes have something to do; only for those are the checkpoints asked. A lane that has nothing to do up to some
//! position has seen everything up to it, long before its checkpoint says so.

use super::life::{self, LIFE, Life};
use super::model::lane_of;
use super::parking::{self, Parked};
use super::progress::{LaneSet, LaneStatus};
use super::projected::Projected;
use super::runner::{Epoch, RunError};
use super::{Context, unsigned};
use daybook_store::database::DatabaseError;
use daybook_store::journal::follow::Follower;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio_postgres::Row;

/// How often the checkpoints of lanes with something to do are asked for.
const BUSY: Duration = Duration::from_millis(4);
/// How often they are asked for otherwise: another version may be the one that answers.
const IDLE: Duration = Duration::from_millis(500);

/// The lanes of the version that answers, as far as this node can tell.
struct Observed {
    set: Arc<LaneSet>,
    /// The last position up to which the journal was looked at here.
    seen: u64,
    /// The first and the last event of each lane up to there that change something and were not applied when they
    /// were looked at.
    wanted: Vec<(u64, u64)>,
}

impl Observed {
    /// An event that changes something in a lane.
    fn want(&mut self, lane: u16, position: u64) {
        let stored = self.set.stored(lane);
        let (first, last) = &mut self.wanted[usize::from(lane)];
        if stored >= *last {
            *first = position;
        }
        *last = position;
    }

    /// What the checkpoints and the events together say.
    fn settle(&self) {
        for (lane, (first, last)) in (0..).zip(&self.wanted) {
            let stored = self.set.stored(lane);
            let done = if stored >= *last { self.seen } else { first - 1 };
            self.set.set_position(lane, stored.max(done));
        }
    }

    fn is_busy(&self) -> bool {
        (0..).zip(&self.wanted).any(|(lane, (_, last))| self.set.stored(lane) < *last)
    }
}

/// Until another version answers or the database may have lost something.
pub(super) async fn observe<M: Projected>(context: &Arc<Context>, failures: &mut u32) -> Result<(), RunError> {
    let parts = &context.parts;
    let mut epoch = Epoch::of(&parts.source);
    let seen = parts.source_position();
    life::ensure(&context.pool, parts.system.uuid_v4()).await?;
    let Some(Looked { version, life, stored, parked, stopped }) = look::<M>(context).await? else {
        // Made by the node that keeps it.
        tokio::time::sleep(IDLE / 10).await;
        return Ok(());
    };
    let set = context.progress.begin(M::NAME, version, life, &stored, parked);
    tell(&set, stopped);
    context.progress.set_trouble(M::NAME, None);
    // Of what is before, the checkpoints alone tell.
    let mut observed = Observed { set, seen, wanted: vec![(1, seen); stored.len()] };
    observed.settle();
    let mut follower =
        Follower::new(parts.database.clone(), parts.source.clone(), seen, parts.options.page).only(M::wants);
    loop {
        let events = {
            let next = follower.next();
            // Not given up for the clock: half a read is a connection lost.
            tokio::pin!(next);
            let mut pause = BUSY;
            loop {
                tokio::select! {
                    events = &mut next => break events?,
                    () = tokio::time::sleep(if observed.is_busy() { pause } else { IDLE }) => match look::<M>(context).await? {
                        Some(now) if (now.version, now.life, now.stored.len()) == (version, life, observed.wanted.len()) => {
                            // Before the positions move: who waits for one must not miss what is parked.
                            observed.set.set_all_parked(now.parked);
                            let mut moved = false;
                            for (lane, stored) in (0..).zip(now.stored) {
                                moved |= observed.set.stored(lane) != stored;
                                observed.set.set_stored(lane, stored);
                            }
                            // A lane that stands still is not hurried by being looked at.
                            pause = if moved { BUSY } else { (pause * 2).min(IDLE) };
                            observed.settle();
                            tell(&observed.set, now.stopped);
                        }
                        _ => return Ok(()),
                    },
                    () = epoch.over() => return Ok(()),
                    () = observed.set.is_doubted() => return Ok(()),
                }
            }
        };
        *failures = 0;
        for event in &events {
            observed.want(lane_of(event.tenant, observed.set.count()), event.position);
        }
        observed.seen = follower.position();
        context.progress.set_dealt(M::NAME, observed.seen);
        observed.settle();
    }
}

/// The version that answers, and its lanes.
struct Looked {
    version: u32,
    life: Option<Life>,
    stored: Vec<u64>,
    stopped: Vec<LaneStatus>,
    parked: Vec<Parked>,
}

async fn look<M: Projected>(context: &Context) -> Result<Option<Looked>, RunError> {
    let session = context.pool.get().await?;
    let statement = session.prepare_cached(&LOOK).await.map_err(DatabaseError::Query)?;
    let rows = session.query(&statement, &[&M::NAME]).await.map_err(DatabaseError::Query)?;
    let Some(first) = rows.first() else { return Ok(None) };
    let version = u32::try_from(first.get::<_, i32>(0)).unwrap_or_default();
    let status = |row: &Row| match row.get::<_, Option<i64>>(2).zip(row.get(3)) {
        Some((position, reason)) => LaneStatus::Stopped { reason, position: unsigned(position) },
        None => LaneStatus::Running,
    };
    let limit = i64::try_from(rows.len().saturating_mul(context.parts.options.parked_max)).unwrap_or(i64::MAX);
    // In the snapshot of the checkpoints or after it: whatever they are past is parked by now, or applied.
    let parked = match first.get(4) {
        true => parking::load(&session, M::NAME, version, None, limit).await?,
        false => Vec::new(),
    };
    let stored = rows.iter().map(|row| unsigned(row.get(1))).collect();
    let life = Life::of(first, 5);
    Ok(Some(Looked { version, life, stored, stopped: rows.iter().map(status).collect(), parked }))
}

fn tell(set: &LaneSet, stopped: Vec<LaneStatus>) {
    for (lane, status) in (0..).zip(stopped) {
        set.set_status(lane, status);
    }
}

static LOOK: LazyLock<String> = LazyLock::new(|| {
    format!(
        "select l.version, c.position, c.stopped_position, c.stopped_reason,
                exists (select from projection.parked p where p.read_model = l.read_model and p.version = l.version), {LIFE}
         from projection.live l join projection.checkpoints c using (read_model, version)
         where l.read_model = $1 order by c.lane"
    )
});
