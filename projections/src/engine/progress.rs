//! How far each lane is: what readers wait for, and what health reports.
//!
//! Lives in this process. A position tells that everything up to it is in the rows; the checkpoint in the
//! database follows it, at once where rows change and a little later where nothing does.

use super::model::lane_of;
use daybook_domain::TenantId;
use daybook_store::journal::Durable;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;
use tokio::time::Instant;

/// Whether a lane goes on. A slow one is `Running`, with a lag.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LaneStatus {
    Running,
    /// It tries again by itself, later and later.
    Stopped {
        reason: String,
        /// The event that it does not get past.
        position: u64,
    },
}

#[derive(Clone, Debug)]
pub(super) struct LaneState {
    pub(super) position: u64,
    pub(super) status: LaneStatus,
}

/// The lanes of the version that is kept up to date.
pub(super) struct LaneSet {
    version: u32,
    /// The writer's epoch in which the checkpoints were read; 0 while there is none.
    epoch: Arc<AtomicU64>,
    lanes: Vec<watch::Sender<LaneState>>,
    /// Their checkpoints in the database. Behind the position only by events that change nothing.
    stored: Vec<AtomicU64>,
}

impl LaneSet {
    pub(super) fn version(&self) -> u32 {
        self.version
    }

    /// The first epoch there is.
    pub(super) fn set_epoch(&self, epoch: u64) {
        self.epoch.store(epoch, Ordering::Relaxed);
    }

    pub(super) fn count(&self) -> u16 {
        u16::try_from(self.lanes.len()).unwrap_or(u16::MAX)
    }

    pub(super) fn position(&self, lane: u16) -> u64 {
        self.lanes[usize::from(lane)].borrow().position
    }

    pub(super) fn stored(&self, lane: u16) -> u64 {
        self.stored[usize::from(lane)].load(Ordering::Relaxed)
    }

    pub(super) fn set_stored(&self, lane: u16, position: u64) {
        self.stored[usize::from(lane)].store(position, Ordering::Relaxed);
    }

    /// Moves a lane that stands at `after`; `false` where it does not. One step: the lane may be moving itself.
    pub(super) fn advance_from(&self, lane: u16, after: u64, up_to: u64) -> bool {
        let mut stood = false;
        self.lanes[usize::from(lane)].send_if_modified(|state| {
            stood = state.position == after;
            if stood {
                state.position = up_to;
            }
            stood && up_to != after
        });
        stood
    }

    /// Also backwards: a crash of the database may have taken the last commits back.
    pub(super) fn set_position(&self, lane: u16, position: u64) {
        self.lanes[usize::from(lane)]
            .send_if_modified(|state| std::mem::replace(&mut state.position, position) != position);
    }

    /// `true` when that is news.
    pub(super) fn set_status(&self, lane: u16, status: LaneStatus) -> bool {
        self.lanes[usize::from(lane)].send_if_modified(|state| {
            let news = state.status != status;
            state.status = status;
            news
        })
    }
}

struct ModelProgress {
    lanes: watch::Sender<Arc<LaneSet>>,
    /// Why the read model as a whole gets no events; `None` while it does.
    trouble: watch::Sender<Option<String>>,
    /// The last position dealt out to the lanes.
    dealt: AtomicU64,
}

/// Which lanes a reader depends on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lanes {
    /// That of a tenant.
    Of(TenantId),
    /// Every one: a query across tenants.
    All,
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WaitError {
    #[error("the read model has reached position {current} within the time allowed; ask again later")]
    TooLate { current: u64 },
    #[error("the read model has stopped: {reason}")]
    Stopped { reason: String },
    #[error("there is no read model {0} here; name one that this program lists")]
    Unknown(String),
}

/// A shared handle; cloning is cheap.
#[derive(Clone)]
pub struct Progress {
    models: Arc<BTreeMap<&'static str, ModelProgress>>,
    /// Of the writer, where it is known.
    durable: Option<watch::Receiver<Durable>>,
}

impl Progress {
    pub(super) fn new(names: impl Iterator<Item = &'static str>, durable: Option<watch::Receiver<Durable>>) -> Self {
        let empty = || ModelProgress {
            lanes: watch::Sender::new(Arc::new(LaneSet {
                version: 0,
                epoch: Arc::default(),
                lanes: Vec::new(),
                stored: Vec::new(),
            })),
            trouble: watch::Sender::new(None),
            dealt: AtomicU64::new(0),
        };
        Progress { models: Arc::new(names.map(|name| (name, empty())).collect()), durable }
    }

    /// Whether positions in memory may say too much: another epoch has begun since the checkpoints were read, and a
    /// crash of the database in between may have taken back rows.
    fn is_doubtful(&self, epoch: &AtomicU64) -> bool {
        let epoch = epoch.load(Ordering::Relaxed);
        let now = self.durable.as_ref().map_or(epoch, |durable| durable.borrow().seen.epoch);
        epoch > 0 && now != epoch
    }

    fn model(&self, name: &'static str) -> &ModelProgress {
        self.models.get(name).expect("the engine asks only for the read models that it was started with")
    }

    /// Another version is kept from now on.
    pub(super) fn begin(&self, name: &'static str, version: u32, epoch: u64, positions: &[u64]) -> Arc<LaneSet> {
        let lane = |position: &u64| watch::Sender::new(LaneState { position: *position, status: LaneStatus::Running });
        let stored = positions.iter().copied().map(AtomicU64::new).collect();
        let (epoch, lanes) = (Arc::new(AtomicU64::new(epoch)), positions.iter().map(lane).collect());
        let set = Arc::new(LaneSet { version, epoch, lanes, stored });
        self.model(name).lanes.send_replace(set.clone());
        set
    }

    /// `true` when that is news.
    pub(super) fn set_trouble(&self, name: &'static str, reason: Option<String>) -> bool {
        self.model(name).trouble.send_if_modified(|now| {
            let news = *now != reason;
            *now = reason;
            news
        })
    }

    pub(super) fn set_dealt(&self, name: &'static str, position: u64) {
        self.model(name).dealt.store(position, Ordering::Relaxed);
    }

    /// Waits until these lanes of a read model have seen everything up to a journal position.
    ///
    /// # Errors
    /// [`WaitError::TooLate`] at the deadline; [`WaitError::Stopped`] at once when a lane that is
    /// still behind has stopped.
    pub async fn wait(
        &self,
        read_model: &str,
        lanes: Lanes,
        position: u64,
        deadline: Instant,
    ) -> Result<(), WaitError> {
        match tokio::time::timeout_at(deadline, self.reach(read_model, lanes, position)).await {
            Ok(reached) => reached,
            Err(_) => Err(WaitError::TooLate { current: self.position(read_model, lanes).unwrap_or(0) }),
        }
    }

    /// Waits until these lanes are past a position; says where they are then. For subscriptions: a
    /// stopped lane is waited for.
    ///
    /// # Errors
    /// [`WaitError::Unknown`].
    pub async fn past(&self, read_model: &str, lanes: Lanes, position: u64) -> Result<u64, WaitError> {
        self.each(read_model, lanes, |state| (state.position > position).then_some(Ok(()))).await?;
        Ok(self.position(read_model, lanes)?.max(position + 1))
    }

    /// The position that these lanes have all reached.
    ///
    /// # Errors
    /// [`WaitError::Unknown`].
    pub fn position(&self, read_model: &str, lanes: Lanes) -> Result<u64, WaitError> {
        let model = self.models.get(read_model).ok_or_else(|| WaitError::Unknown(read_model.to_owned()))?;
        let set = model.lanes.borrow().clone();
        Ok(chosen(&set, lanes).map(|lane| lane.borrow().position).min().unwrap_or(0))
    }

    async fn reach(&self, read_model: &str, lanes: Lanes, position: u64) -> Result<(), WaitError> {
        self.each(read_model, lanes, |state| match &state.status {
            _ if state.position >= position => Some(Ok(())),
            LaneStatus::Stopped { reason, .. } => Some(Err(WaitError::Stopped { reason: reason.clone() })),
            LaneStatus::Running => None,
        })
        .await
    }

    /// Waits until every chosen lane has been decided upon, also across a change of the version.
    async fn each(
        &self,
        read_model: &str,
        lanes: Lanes,
        decide: impl Fn(&LaneState) -> Option<Result<(), WaitError>>,
    ) -> Result<(), WaitError> {
        let model = self.models.get(read_model).ok_or_else(|| WaitError::Unknown(read_model.to_owned()))?;
        let mut current = model.lanes.subscribe();
        'version: loop {
            let set = current.borrow_and_update().clone();
            let receivers: Vec<_> = chosen(&set, lanes).map(watch::Sender::subscribe).collect();
            let epoch = set.epoch.clone();
            drop(set);
            if receivers.is_empty() {
                // Nothing has been started yet. The sender lives as long as `self`.
                let _ = current.changed().await;
                continue;
            }
            for mut receiver in receivers {
                let mut decided = None;
                tokio::select! {
                    biased;
                    reached = receiver.wait_for(|state| { decided = decide(state); decided.is_some() }) => {
                        if reached.is_err() {
                            continue 'version;
                        }
                    }
                    _ = current.changed() => continue 'version,
                }
                if let Some(decided) = decided {
                    decided?;
                }
            }
            if self.is_doubtful(&epoch) {
                // The runner is about to read the checkpoints again.
                let _ = current.changed().await;
                continue;
            }
            return Ok(());
        }
    }

    /// `durable`: the end of the journal, as far as the caller knows.
    pub(super) fn health(&self, durable: u64) -> Health {
        let models = self.models.iter().map(|(name, model)| {
            let set = model.lanes.borrow().clone();
            let head = durable.max(model.dealt.load(Ordering::Relaxed));
            let lanes = set.lanes.iter().enumerate().map(|(number, lane)| {
                let LaneState { position, status } = lane.borrow().clone();
                let lane = u16::try_from(number).unwrap_or(u16::MAX);
                LaneHealth { lane, position, lag: head.saturating_sub(position), status }
            });
            ModelHealth {
                read_model: name,
                version: set.version,
                trouble: model.trouble.borrow().clone(),
                lanes: lanes.collect(),
            }
        });
        Health { models: models.collect() }
    }
}

fn chosen(set: &LaneSet, lanes: Lanes) -> impl Iterator<Item = &watch::Sender<LaneState>> {
    let count = set.count();
    set.lanes.iter().enumerate().filter_map(move |(number, lane)| match lanes {
        Lanes::All => Some(lane),
        Lanes::Of(tenant) => (number == usize::from(lane_of(tenant, count))).then_some(lane),
    })
}

/// How every read model is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Health {
    pub models: Vec<ModelHealth>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ModelHealth {
    pub read_model: &'static str,
    /// 0 before the first look at the database.
    pub version: u32,
    /// Why no lane gets anything, e.g. the database is gone.
    pub trouble: Option<String>,
    pub lanes: Vec<LaneHealth>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LaneHealth {
    pub lane: u16,
    /// Journal position up to which it has seen everything.
    pub position: u64,
    /// Journal positions it is behind.
    pub lag: u64,
    pub status: LaneStatus,
}

impl Health {
    /// Whether nothing has stopped. Lag alone is no illness.
    pub fn is_well(&self) -> bool {
        let runs = |lane: &LaneHealth| lane.status == LaneStatus::Running;
        self.models.iter().all(|model| model.trouble.is_none() && model.version > 0 && model.lanes.iter().all(runs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_moves_only_from_where_it_is_thought_to_stand() {
        let progress = Progress::new(["tally"].into_iter(), None);
        let set = progress.begin("tally", 1, 0, &[5, 7]);
        let mut seen = set.lanes[0].subscribe();
        assert!(!set.advance_from(0, 4, 9), "it stands at 5");
        assert_eq!((set.position(0), seen.has_changed().unwrap()), (5, false));
        assert!(set.advance_from(0, 5, 9));
        assert_eq!((set.position(0), seen.borrow_and_update().position), (9, 9));
        // The lane itself was faster.
        set.set_position(1, 12);
        assert!(!set.advance_from(1, 7, 10));
        assert_eq!((set.position(1), set.stored(1)), (12, 7));
    }
}
