//! Carries out the writer's effects against PostgreSQL.
//!
//! One task owns the state machine. A session is one set of connections: the writer's, the
//! flushers' and a control connection; the first error on any of them ends it as a whole, because
//! an answer must never rest on a connection that is younger than the commit it vouches for.

use super::BY_KEY;
use super::append::Seen;
use super::machine::{
    Answer, Backend, Do, Effect, Input, JournalHead, Prepared, RefusedBy, SessionInput, Ticket, Writer,
};
use super::recorded::{signed, unsigned};
use super::rows;
use crate::database::{Database, DatabaseError, Role};
use crate::system::{Micros, SharedSystem, utc};
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, Statement};
use uuid::Uuid;

/// How the writer stands, for health and for everybody who waits for it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Standing {
    /// `Some` while this node may write: since this moment.
    pub leading: Option<Seen>,
    /// Why it stopped for good.
    pub stopped: Option<String>,
}

/// What survives any crash, as far as this node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Durable {
    pub seen: Seen,
    pub position: u64,
}

/// Who measures the writer at work. Called on its task: must not wait.
pub trait Meter: Send + Sync + 'static {
    /// How many requests have no answer yet.
    fn waiting(&self, requests: usize);
    /// A batch was committed, durable or not.
    fn committed(&self, events: u64, took: Duration);
    /// A flusher's commit came back.
    fn flushed(&self, took: Duration);
    /// `kind`: one of a few words ([`Answer::kind`]).
    fn answered(&self, kind: &'static str);
}

/// Nobody.
pub(super) struct Unmeasured;

impl Meter for Unmeasured {
    fn waiting(&self, _: usize) {}
    fn committed(&self, _: u64, _: Duration) {}
    fn flushed(&self, _: Duration) {}
    fn answered(&self, _: &'static str) {}
}

/// What callers send to the one who writes.
pub enum Message {
    Append(Box<Prepared>, oneshot::Sender<Answer>),
    /// Finish what is queued, then end.
    Shutdown,
}

/// The place of the writer behind a [`super::Journal`]: who sits in it answers every request that
/// arrives, and tells who leads and what is durable.
pub struct Seat {
    pub requests: mpsc::Receiver<Message>,
    pub standing: watch::Sender<Standing>,
    pub durable: watch::Sender<Durable>,
    /// Rung when nobody is seen to hold the lease.
    pub lease_free: Arc<Notify>,
}

/// After so many callers in a row who came alone, a commit waits for the disk itself: that spares them the
/// way to a flusher and back, and keeps nobody waiting. The first two at a time end it.
const ALONE_MIN: u32 = 16;

/// A statement that hangs longer than this ends the session.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);

struct Session {
    writer: Client,
    insert: rows::Statements,
    /// The last batch whose own commit waited for the disk.
    flushed: AtomicU64,
    flushers: Vec<(Client, Statement)>,
    control: Client,
    backend: Backend,
    /// Of the lease, once it was granted.
    epoch: AtomicI64,
}

pub(super) struct Driver {
    pub(super) database: Database,
    pub(super) system: SharedSystem,
    pub(super) machine: Writer,
    pub(super) flushers: usize,
    pub(super) lease_ttl_us: Micros,
    pub(super) node: Uuid,
    pub(super) address: Option<String>,
    pub(super) seat: Seat,
    pub(super) meter: Arc<dyn Meter>,
}

type Step = Pin<Box<dyn Future<Output = (u64, StepDone)> + Send>>;

enum StepDone {
    Input(SessionInput),
    Opened(Box<Session>),
}

/// What is under way.
#[derive(Default)]
struct Desk {
    steps: FuturesUnordered<Step>,
    waiting: HashMap<Ticket, oneshot::Sender<Answer>>,
    session: Option<(u64, Arc<Session>)>,
    next_ticket: Ticket,
    /// How many requests in a row found nobody else waiting.
    alone: u32,
}

impl Desk {
    fn message(&mut self, message: Option<Message>) -> Input {
        let Some(Message::Append(mut request, answer)) = message else { return Input::Shutdown };
        self.next_ticket += 1;
        self.alone = if self.waiting.is_empty() { self.alone.saturating_add(1) } else { 0 };
        request.ticket = self.next_ticket;
        self.waiting.insert(self.next_ticket, answer);
        Input::Request(request)
    }

    fn done(&mut self, (number, done): (u64, StepDone)) -> Input {
        let input = match done {
            StepDone::Opened(opened) => {
                self.session = Some((number, Arc::new(*opened)));
                SessionInput::Connected
            }
            StepDone::Input(input) => input,
        };
        Input::Session(number, input)
    }
}

impl Driver {
    pub(super) async fn run(mut self) {
        let mut desk = Desk::default();
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !self.machine.is_stopped() {
            let mut inputs = Vec::with_capacity(16);
            tokio::select! {
                biased;
                Some(done) = desk.steps.next(), if !desk.steps.is_empty() => inputs.push(desk.done(done)),
                message = self.seat.requests.recv() => inputs.push(desk.message(message)),
                () = self.seat.lease_free.notified() => inputs.push(Input::LeaseFree),
                _ = tick.tick() => inputs.push(Input::Tick),
            }
            if self.respond(&mut desk, inputs).await {
                // The flush leaves before a batch is built; whoever asks meanwhile is in that batch.
                tokio::task::yield_now().await;
                self.respond(&mut desk, Vec::new()).await;
            }
            let mut effects = Vec::new();
            self.machine.fill(self.system.now(), &mut effects);
            self.carry_out(&mut desk, effects).await;
            self.meter.waiting(desk.waiting.len());
        }
        for (_, waiting) in desk.waiting {
            // The caller may have given up.
            let _ = waiting.send(Answer::Unknown);
        }
    }

    /// Takes these inputs and every request that is there already. Whether a flush has begun.
    async fn respond(&mut self, desk: &mut Desk, mut inputs: Vec<Input>) -> bool {
        while let Ok(message) = self.seat.requests.try_recv() {
            inputs.push(desk.message(Some(message)));
        }
        let mut effects = Vec::new();
        self.machine.respond(self.system.now(), inputs, &mut effects);
        self.carry_out(desk, effects).await
    }

    /// Whether a flush is among what was begun.
    async fn carry_out(&mut self, desk: &mut Desk, effects: Vec<Effect>) -> bool {
        let mut flushes = false;
        for effect in effects {
            match effect {
                Effect::Answer(ticket, answer) => {
                    self.meter.answered(answer.kind());
                    if let Some(waiting) = desk.waiting.remove(&ticket) {
                        // The caller may have given up; the outcome stands all the same.
                        let _ = waiting.send(answer);
                    }
                }
                Effect::Durable { seen, position } => {
                    self.seat.durable.send_replace(Durable { seen, position });
                }
                Effect::Leading(seen) => {
                    tracing::info!(
                        journal.epoch = seen.epoch,
                        journal.batch = seen.batch,
                        "this node is the writer now"
                    );
                    self.seat.standing.send_replace(Standing { leading: Some(seen), stopped: None });
                }
                Effect::NotLeading => {
                    self.seat.standing.send_if_modified(|s| s.leading.take().is_some());
                }
                Effect::Stopped(reason) => {
                    tracing::info!(reason, "the writer has stopped");
                    self.seat.standing.send_replace(Standing { leading: None, stopped: Some(reason) });
                }
                Effect::HangUp(number) => {
                    desk.session.take_if(|(n, _)| *n == number);
                    // Whatever was under way belongs to the session that is gone.
                    desk.steps.clear();
                }
                Effect::Do(number, Do::Connect) => desk.steps.push(self.connect(number)),
                Effect::Do(_, Do::ReleaseLease) => {
                    if let Some((_, session)) = &desk.session {
                        let release = release_lease(session, self.node);
                        // Best effort: without it the next node waits for the lease to expire.
                        let _ = tokio::time::timeout(Duration::from_secs(1), release).await;
                    }
                }
                Effect::Do(number, step) => {
                    if let Some((_, session)) = desk.session.as_ref().filter(|(n, _)| *n == number) {
                        flushes |= matches!(step, Do::Flush { .. });
                        let mut step = self.step(number, session.clone(), step, desk.alone > ALONE_MIN);
                        // A statement leaves when its future is first looked at.
                        match futures_util::poll!(&mut step) {
                            Poll::Ready(done) => desk.steps.push(Box::pin(std::future::ready(done))),
                            Poll::Pending => desk.steps.push(step),
                        }
                    }
                }
            }
        }
        flushes
    }

    fn connect(&self, number: u64) -> Step {
        let (database, flushers) = (self.database.clone(), self.flushers);
        Box::pin(async move {
            match within(open(&database, flushers)).await {
                Ok(session) => (number, StepDone::Opened(Box::new(session))),
                Err(reason) => {
                    tracing::debug!(reason, "the writer cannot connect yet");
                    (number, StepDone::Input(SessionInput::Lost(reason)))
                }
            }
        })
    }

    fn step(&self, number: u64, session: Arc<Session>, step: Do, alone: bool) -> Step {
        let (node, address, ttl_us) = (self.node, self.address.clone(), self.lease_ttl_us);
        let (meter, since) = (self.meter.clone(), Instant::now());
        let events = match &step {
            Do::Commit(batch) => Some(batch.last_position + 1 - batch.first_position),
            _ => None,
        };
        Box::pin(async move {
            let input = match within(take_step(&session, step, alone, node, address, ttl_us)).await {
                Ok(input) => input,
                Err(reason) => {
                    tracing::warn!(reason, "the writer lost its session");
                    SessionInput::Lost(reason)
                }
            };
            match (&input, events) {
                (SessionInput::Committed { .. }, Some(events)) => meter.committed(events, since.elapsed()),
                (SessionInput::Flushed { .. }, _) => meter.flushed(since.elapsed()),
                _ => {}
            }
            (number, StepDone::Input(input))
        })
    }
}

async fn release_lease(session: &Session, node: Uuid) -> Result<u64, Error> {
    session.control.execute("update journal.lease set expires_at = '-infinity' where holder_id = $1", &[&node]).await
}

async fn within<T>(step: impl Future<Output = Result<T, DatabaseError>>) -> Result<T, String> {
    match tokio::time::timeout(STEP_TIMEOUT, step).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(describe(&error)),
        Err(_) => Err(format!("no answer from the database within {STEP_TIMEOUT:?}")),
    }
}

fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

async fn open(database: &Database, flushers: usize) -> Result<Session, DatabaseError> {
    // Off: commits follow each other without waiting for the disk; the flushers wait for it.
    let writer = database.connect(Role::Writer, &format!("-c synchronous_commit=off {BY_KEY}")).await?;
    let insert = rows::Statements::prepare(&writer).await.map_err(DatabaseError::Query)?;
    let control = database.connect(Role::Login, "-c synchronous_commit=on -c lock_timeout=2s").await?;
    let pid: i32 = writer.query_one("select pg_backend_pid()", &[]).await.map_err(DatabaseError::Query)?.get(0);
    // Asked as the login: a session in a lesser role does not see when its own backend started.
    let row = control
        .query_one(
            "select (extract(epoch from backend_start) * 1000000)::bigint from pg_stat_activity where pid = $1",
            &[&pid],
        )
        .await
        .map_err(DatabaseError::Query)?;
    let backend = Backend { pid, started_us: row.get(0) };
    let mut open_flushers = Vec::with_capacity(flushers);
    for _ in 0..flushers {
        let flusher = database.connect(Role::Writer, "-c synchronous_commit=on").await?;
        let flush = flusher.prepare(FLUSH).await.map_err(DatabaseError::Query)?;
        open_flushers.push((flusher, flush));
    }
    Ok(Session {
        writer,
        insert,
        flushed: AtomicU64::new(0),
        flushers: open_flushers,
        control,
        backend,
        epoch: AtomicI64::new(0),
    })
}

/// Writes one tiny record and commits synchronously: everything committed before is durable after.
pub(super) const FLUSH: &str = "select pg_logical_emit_message(true, 'daybook', '')";

async fn take_step(
    session: &Session,
    step: Do,
    alone: bool,
    node: Uuid,
    address: Option<String>,
    ttl_us: Micros,
) -> Result<SessionInput, DatabaseError> {
    let query = DatabaseError::Query;
    let control = &session.control;
    Ok(match step {
        Do::Connect | Do::ReleaseLease => SessionInput::Lost("not a step of a session".into()),
        Do::TakeLease => {
            let rows = control
                .query(
                    "with old as (select epoch, backend_pid, (extract(epoch from backend_start) * 1000000)::bigint as started_us, expires_at
                                  from journal.lease for update)
                     update journal.lease l
                     set epoch = l.epoch + 1, holder_id = $1, address = $2,
                         expires_at = clock_timestamp() + $3 * interval '1 microsecond'
                     from old where l.holder_id = $1 or old.expires_at < clock_timestamp()
                     returning l.epoch, old.backend_pid, old.started_us",
                    &[&node, &address, &(ttl_us as f64)],
                )
                .await
                .map_err(query)?;
            match rows.first() {
                Some(row) => {
                    session.epoch.store(row.get(0), Ordering::Relaxed);
                    let backend = row.get::<_, Option<i32>>(1).zip(row.get::<_, Option<i64>>(2));
                    SessionInput::LeaseGranted {
                        epoch: unsigned(row.get(0)),
                        previous: backend.map(|(pid, started_us)| Backend { pid, started_us }),
                    }
                }
                None => {
                    let row = control
                        .query_one("select (extract(epoch from expires_at - clock_timestamp()) * 1000000)::bigint from journal.lease", &[])
                        .await
                        .map_err(query)?;
                    SessionInput::LeaseHeld { retry_in_us: row.get(0) }
                }
            }
        }
        Do::EndBackend(old) => {
            // The pid alone may belong to somebody else by now; pid and start together do not.
            loop {
                let gone: bool = control
                    .query_one(
                        "select count(pg_terminate_backend(pid)) = 0 from pg_stat_activity
                         where pid = $1 and backend_start = $2",
                        &[&old.pid, &utc(old.started_us)],
                    )
                    .await
                    .map_err(query)?
                    .get(0);
                if gone {
                    break SessionInput::OldGone;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        Do::FirstFlush => {
            // Only now, when the old backend is gone, does the lease name this one in its place: had it
            // done so at once, a takeover that broke off in between would have left the old one to
            // nobody. The commit is synchronous, so it is the flush as well.
            let named = control
                .execute(
                    "update journal.lease set backend_pid = $1, backend_start = $2 where holder_id = $3 and epoch = $4",
                    &[
                        &session.backend.pid,
                        &utc(session.backend.started_us),
                        &node,
                        &session.epoch.load(Ordering::Relaxed),
                    ],
                )
                .await
                .map_err(query)?;
            if named == 1 { SessionInput::FirstFlushed } else { SessionInput::LeaseGone }
        }
        Do::ReadHead { epochs_from } => {
            let row = control
                .query_one(
                    "select coalesce(b.batch, 0), coalesce(b.last_position, 0),
                            coalesce((extract(epoch from b.recorded_at) * 1000000)::bigint, 0), i.partition_size,
                            (select count(*) from pg_inherits where inhparent = 'journal.events'::regclass)
                     from journal.identity i
                     left join (select * from journal.batches order by batch desc limit 1) b on true",
                    &[],
                )
                .await
                .map_err(query)?;
            let epochs = control
                .query(
                    "select batch, epoch from journal.batches where batch >= $1 order by batch limit 100000",
                    &[&signed(epochs_from)],
                )
                .await
                .map_err(query)?;
            let partition_size = unsigned(row.get(3));
            SessionInput::Head(JournalHead {
                batch: unsigned(row.get(0)),
                position: unsigned(row.get(1)),
                recorded_at_us: row.get(2),
                partition_size,
                partitions_up_to: unsigned(row.get(4)) * partition_size,
                epochs: epochs.iter().map(|r| (unsigned(r.get(0)), unsigned(r.get(1)))).collect(),
            })
        }
        Do::Commit(batch) => {
            let number = batch.number;
            match rows::insert(&session.writer, &session.insert, &batch, alone).await {
                Ok(()) => {
                    if alone {
                        session.flushed.store(number, Ordering::Relaxed);
                    }
                    SessionInput::Committed { batch: number }
                }
                Err(error) => match refusal(&error) {
                    Some(cause) => SessionInput::CommitRefused { batch: number, cause },
                    None => return Err(query(error)),
                },
            }
        }
        Do::Flush { slot, batch } => {
            if session.flushed.load(Ordering::Relaxed) < batch {
                let (flusher, flush) = &session.flushers[slot];
                flusher.query(flush, &[]).await.map_err(query)?;
            }
            SessionInput::Flushed { slot, batch }
        }
        Do::RenewLease => {
            let renewed = control
                .execute(
                    "update journal.lease set expires_at = clock_timestamp() + $3 * interval '1 microsecond'
                     where holder_id = $1 and epoch = $2",
                    &[&node, &session.epoch.load(Ordering::Relaxed), &(ttl_us as f64)],
                )
                .await
                .map_err(query)?;
            if renewed == 1 { SessionInput::Renewed } else { SessionInput::LeaseGone }
        }
        Do::EnsurePartitions { up_to } => {
            control.execute("select journal.ensure_partitions($1)", &[&signed(up_to)]).await.map_err(query)?;
            let size: i64 =
                control.query_one("select partition_size from journal.identity", &[]).await.map_err(query)?.get(0);
            SessionInput::PartitionsUpTo((up_to / unsigned(size) + 1) * unsigned(size))
        }
    })
}

/// A refusal by the database's own word: the transaction is rolled back and its outcome known.
/// Everything else leaves the outcome open, and ends the session.
fn refusal(error: &Error) -> Option<RefusedBy> {
    let db = error.as_db_error()?;
    match db.code() {
        &SqlState::UNIQUE_VIOLATION if db.constraint() == Some("batches_pkey") => Some(RefusedBy::Fence),
        &SqlState::DIVISION_BY_ZERO => Some(RefusedBy::Orphaned),
        code if ["22", "23", "54"].contains(&&code.code()[..2]) => {
            Some(RefusedBy::Data(format!("{} ({})", db.message(), code.code())))
        }
        _ => None,
    }
}
