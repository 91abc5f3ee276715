//! How far each lane is: what readers wait for, and what health reports.
//!
//! Lives in this process. A position tells that everything up to it is in the rows; the checkpoint in the
//! database follows it, at once where rows change and a little later where nothing does.
//!
//! What is told here was seen in one life of the server ([`super::life`]) and holds in that one. A set of lanes that is begun in the
//! next life knows from the set before it what was told, and until it has reached that again it vouches for nothing.

mod told;

use super::life::Life;
use super::model::lane_of;
use super::parking::{Parked, ParkedStreams, StreamName};
use super::report::LaneState as State;
use daybook_domain::TenantId;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// Beyond either of them a lane is slow: journal positions behind, and since when.
pub(super) const SLOW_POSITIONS: u64 = 10_000;
pub(super) const SLOW_AFTER: Duration = Duration::from_secs(10);
/// Moments that are remembered of what was dealt, and how far apart they are.
const MARKS_MAX: usize = 512;
const MARKS_APART: Duration = Duration::from_millis(100);
/// When which positions were dealt, as long as a lane is behind them, so that a lag can be told in seconds.
struct Marks {
    marks: VecDeque<Mark>,
    /// How exact that is; less so when the lag is long.
    apart: Duration,
}

impl Default for Marks {
    fn default() -> Self {
        Marks { marks: VecDeque::new(), apart: MARKS_APART }
    }
}

struct Mark {
    /// The last position dealt by then, and since when the first one after the mark before.
    up_to: u64,
    since: Instant,
}

impl Marks {
    fn add(&mut self, up_to: u64, now: Instant) {
        self.push(Mark { up_to, since: now });
        while self.marks.len() > MARKS_MAX {
            self.apart *= 2;
            for mark in std::mem::take(&mut self.marks) {
                self.push(mark);
            }
        }
    }

    /// Into the last one, if that is as young.
    fn push(&mut self, mark: Mark) {
        match self.marks.back_mut() {
            Some(last) if mark.up_to <= last.up_to => {}
            Some(last) if mark.since.saturating_duration_since(last.since) < self.apart => last.up_to = mark.up_to,
            _ => self.marks.push_back(mark),
        }
    }

    /// No lane is behind these any more.
    fn forget(&mut self, position: u64) {
        while self.marks.pop_front_if(|mark| mark.up_to <= position).is_some() {}
        if self.marks.is_empty() {
            self.apart = MARKS_APART;
        }
    }

    /// How long what comes after a position has been there.
    fn behind(&self, position: u64, now: Instant) -> Duration {
        let next = self.marks.partition_point(|mark| mark.up_to <= position);
        self.marks.get(next).map(|mark| now.saturating_duration_since(mark.since)).unwrap_or_default()
    }
}

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
    /// What was told in earlier lives of the server; below it, rows that were shown are missing.
    floor: u64,
    pub(super) status: LaneStatus,
    /// Streams of which not everything up to the position is in the rows.
    pub(super) parked: Arc<ParkedStreams>,
}

impl LaneState {
    fn parked_of(&self, lanes: Lanes) -> impl Iterator<Item = &Parked> {
        self.parked.values().filter(move |parked| match lanes {
            Lanes::All => true,
            Lanes::Of(tenant) => parked.stream.tenant == tenant,
        })
    }
}

/// The lanes of the version that is kept up to date.
pub(super) struct LaneSet {
    version: u32,
    /// In which its checkpoints were read; nothing of another one moves it.
    life: Option<Life>,
    lanes: Vec<watch::Sender<LaneState>>,
    /// Their checkpoints in the database. Behind the position only by events that change nothing.
    stored: Vec<AtomicU64>,
    /// Rung when parked streams are to be tried at once.
    retries: Vec<Notify>,
    /// Rung by a reader that is in another life of the server.
    doubt: Notify,
    /// Since when readers find that this set does not vouch for what was told.
    doubted: OnceLock<Instant>,
}

impl LaneSet {
    /// None, of no version.
    fn none() -> Self {
        LaneSet {
            version: 0,
            life: None,
            lanes: Vec::new(),
            stored: Vec::new(),
            retries: Vec::new(),
            doubt: Notify::new(),
            doubted: OnceLock::new(),
        }
    }

    pub(super) fn life(&self) -> Option<Life> {
        self.life
    }

    pub(super) fn version(&self) -> u32 {
        self.version
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

    pub(super) fn parked(&self, lane: u16) -> Arc<ParkedStreams> {
        self.lanes[usize::from(lane)].borrow().parked.clone()
    }

    /// The position stays: the runner may be moving it.
    pub(super) fn set_parked(&self, lane: u16, parked: Arc<ParkedStreams>) {
        self.lanes[usize::from(lane)].send_modify(|state| state.parked = parked);
    }

    /// Of every lane; what is parked where it was is no news.
    pub(super) fn set_all_parked(&self, parked: Vec<Parked>) {
        let mut by_lane = by_lane(parked);
        for (number, lane) in self.lanes.iter().enumerate() {
            let parked = by_lane.remove(&number).unwrap_or_default();
            lane.send_if_modified(|state| {
                let news = !(state.parked.is_empty() && parked.is_empty());
                if news {
                    state.parked = Arc::new(parked);
                }
                news
            });
        }
    }

    /// Position and what is parked, in one step: who waits for the position must not miss the rest.
    pub(super) fn set_position_and_parked(&self, lane: u16, position: u64, parked: Arc<ParkedStreams>) {
        self.lanes[usize::from(lane)].send_modify(|state| {
            state.position = position;
            state.parked = parked;
        });
    }

    /// Parked streams of the lane are to be tried at once; ends when somebody asks for that.
    pub(super) async fn retry_asked(&self, lane: u16) {
        self.retries[usize::from(lane)].notified().await;
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

fn by_lane(parked: Vec<Parked>) -> BTreeMap<usize, ParkedStreams> {
    let mut by_lane: BTreeMap<usize, ParkedStreams> = BTreeMap::new();
    for parked in parked {
        by_lane.entry(usize::from(parked.lane)).or_default().insert(parked.stream.clone(), parked);
    }
    by_lane
}

struct ModelProgress {
    lanes: watch::Sender<Arc<LaneSet>>,
    /// Why the read model as a whole gets no events; `None` while it does.
    trouble: watch::Sender<Option<String>>,
    /// The last position dealt out to the lanes.
    dealt: AtomicU64,
    marks: Mutex<Marks>,
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
    #[error("what was written there is parked with {streams} streams: {reason}")]
    Parked { streams: usize, reason: String },
    #[error("there is no read model {0} here; name one that this program lists")]
    Unknown(String),
}

/// A shared handle; cloning is cheap.
#[derive(Clone)]
pub struct Progress {
    models: Arc<BTreeMap<&'static str, ModelProgress>>,
}

impl Progress {
    pub(super) fn new(names: impl Iterator<Item = &'static str>) -> Self {
        let empty = || ModelProgress {
            lanes: watch::Sender::new(Arc::new(LaneSet::none())),
            trouble: watch::Sender::new(None),
            dealt: AtomicU64::new(0),
            marks: Mutex::default(),
        };
        Progress { models: Arc::new(names.map(|name| (name, empty())).collect()) }
    }

    fn model(&self, name: &'static str) -> &ModelProgress {
        self.models.get(name).expect("the engine asks only for the read models that it was started with")
    }

    /// These lanes are kept from now on; nothing moves those before them any more.
    pub(super) fn begin(
        &self,
        name: &'static str,
        version: u32,
        life: Option<Life>,
        positions: &[u64],
        parked: Vec<Parked>,
    ) -> Arc<LaneSet> {
        let (mut by_lane, model) = (by_lane(parked), self.model(name));
        let before = model.lanes.borrow().clone();
        let lane = |(number, position): (u16, &u64)| {
            let floor = before.leaves(number, version, life);
            let parked = Arc::new(by_lane.remove(&usize::from(number)).unwrap_or_default());
            watch::Sender::new(LaneState { position: *position, floor, status: LaneStatus::Running, parked })
        };
        let set = Arc::new(LaneSet {
            version,
            life,
            lanes: (0..).zip(positions).map(lane).collect(),
            stored: positions.iter().copied().map(AtomicU64::new).collect(),
            retries: positions.iter().map(|_| Notify::new()).collect(),
            ..LaneSet::none()
        });
        model.lanes.send_replace(set.clone());
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
        let model = self.model(name);
        model.dealt.store(position, Ordering::Relaxed);
        let slowest = model.lanes.borrow().lanes.iter().map(|lane| lane.borrow().position).min();
        let mut marks = model.marks.lock().unwrap_or_else(PoisonError::into_inner);
        marks.forget(slowest.unwrap_or(0));
        marks.add(position, Instant::now());
    }

    /// Waits until these lanes of a read model have seen everything up to a journal position.
    ///
    /// # Errors
    /// [`WaitError::TooLate`] at the deadline; [`WaitError::Stopped`] at once when a lane that is
    /// still behind has stopped; [`WaitError::Parked`] when the event of that position may be one of those
    /// that were left aside with their stream.
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

    /// How many streams of these lanes a read model shows only the beginning of. Asks nobody: cheap enough for every query.
    ///
    /// # Errors
    /// [`WaitError::Unknown`].
    pub fn parked(&self, read_model: &str, lanes: Lanes) -> Result<usize, WaitError> {
        let model = self.models.get(read_model).ok_or_else(|| WaitError::Unknown(read_model.to_owned()))?;
        let set = model.lanes.borrow().clone();
        Ok(chosen(&set, lanes).map(|lane| lane.borrow().parked_of(lanes).count()).sum())
    }

    /// Has the lanes of a read model, or that of one stream, try what they have parked, now.
    ///
    /// # Errors
    /// [`WaitError::Unknown`].
    pub fn retry(&self, read_model: &str, stream: Option<&StreamName>) -> Result<(), WaitError> {
        let model = self.models.get(read_model).ok_or_else(|| WaitError::Unknown(read_model.to_owned()))?;
        let set = model.lanes.borrow().clone();
        let asked = stream.map(|stream| usize::from(lane_of(stream.tenant, set.count())));
        for (number, retry) in set.retries.iter().enumerate() {
            if asked.is_none_or(|asked| asked == number) {
                retry.notify_one();
            }
        }
        Ok(())
    }

    async fn reach(&self, read_model: &str, lanes: Lanes, position: u64) -> Result<(), WaitError> {
        self.each(read_model, lanes, |state| match &state.status {
            _ if state.position >= position => {
                let mut parked = state.parked_of(lanes).filter(|parked| parked.may_hold(position));
                Some(match parked.next() {
                    None => Ok(()),
                    Some(one) => Err(WaitError::Parked { streams: 1 + parked.count(), reason: one.reason.clone() }),
                })
            }
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
            return Ok(());
        }
    }

    /// `durable`: the end of the journal, as far as the caller knows.
    pub(super) fn health(&self, durable: u64) -> Health {
        let models = self.models.iter().map(|(name, model)| {
            let set = model.lanes.borrow().clone();
            let head = durable.max(model.dealt.load(Ordering::Relaxed));
            let (marks, now) = (model.marks.lock().unwrap_or_else(PoisonError::into_inner), Instant::now());
            let lanes = set.lanes.iter().enumerate().map(|(number, lane)| {
                let LaneState { position, status, parked, .. } = lane.borrow().clone();
                let lane = u16::try_from(number).unwrap_or(u16::MAX);
                let (lag, behind) = (head.saturating_sub(position), marks.behind(position, now));
                LaneHealth { lane, position, lag, behind, status, parked: parked.len() }
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
    /// Since when this node has known of what it is behind.
    pub behind: Duration,
    pub status: LaneStatus,
    /// Streams that are left aside.
    pub parked: usize,
}

impl LaneHealth {
    /// Slow is told from stopped: the one moves.
    pub fn state(&self) -> State {
        match self.status {
            LaneStatus::Running => State::behind(self.lag, self.behind),
            LaneStatus::Stopped { .. } => State::Stopped,
        }
    }
}

impl ModelHealth {
    /// That of the worst lane.
    pub fn state(&self) -> State {
        let any = |state| self.lanes.iter().any(|lane| lane.state() == state);
        match (self.trouble.is_some() || any(State::Stopped), any(State::Slow)) {
            (true, _) => State::Stopped,
            (false, true) => State::Slow,
            (false, false) => State::Running,
        }
    }

    /// Streams that are left aside.
    pub fn parked(&self) -> usize {
        self.lanes.iter().map(|lane| lane.parked).sum()
    }
}

impl Health {
    /// Whether nothing has stopped. Lag alone is no illness, nor is a stream that is parked: all others go on.
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
        let progress = Progress::new(["tally"].into_iter());
        let set = progress.begin("tally", 1, None, &[5, 7], Vec::new());
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
    #[test]
    fn a_lag_is_told_in_seconds_also_after_many_marks() {
        let (begun, mut marks) = (Instant::now(), Marks::default());
        let at = |seconds: u64| begun + Duration::from_secs(seconds);
        for second in 0..5_000 {
            marks.add((second + 1) * 10, at(second));
        }
        assert!(marks.marks.len() <= MARKS_MAX);
        assert_eq!(marks.behind(50_000, at(5_000)), Duration::ZERO);
        assert!(marks.behind(49_999, at(5_000)).as_secs() <= 20);
        assert_eq!(marks.behind(0, at(5_000)).as_secs(), 5_000);
        let middle = marks.behind(25_000, at(5_000)).as_secs();
        assert!((2_500..2_600).contains(&middle), "{middle}");
        // What nobody is behind any more makes room for exact ones, and what comes at once is one mark.
        marks.forget(50_000);
        assert!(marks.marks.is_empty());
        marks.add(50_010, at(5_000));
        marks.add(50_020, at(5_000));
        assert_eq!((marks.behind(50_015, at(5_003)).as_secs(), marks.marks.back().unwrap().up_to), (3, 50_020));
    }

    #[test]
    fn slow_is_told_from_stopped() {
        let lane = |lag, seconds, status| {
            LaneHealth { lane: 0, position: 5, lag, behind: Duration::from_secs(seconds), status, parked: 1 }.state()
        };
        let stopped = LaneStatus::Stopped { reason: "no room".into(), position: 6 };
        for (lag, seconds, status, state) in [
            (0, 0, LaneStatus::Running, State::Running),
            (10_000, 10, LaneStatus::Running, State::Running),
            (10_001, 0, LaneStatus::Running, State::Slow),
            (1, 11, LaneStatus::Running, State::Slow),
            (0, 11, LaneStatus::Running, State::Running),
            (1, 0, stopped, State::Stopped),
        ] {
            assert_eq!(lane(lag, seconds, status), state, "{lag} {seconds}");
        }
    }
}
