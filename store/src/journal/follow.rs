//! The follower: reads the journal in order and hands out only what survives any crash.
//!
//! On the writer's node the writer tells what is durable. Elsewhere the follower makes sure itself:
//! it reads, then runs one synchronous commit *on the same session*, then hands out. Were the flush
//! on another session, a crash in between could take the rows back while the flush succeeds.

use super::BY_KEY;
use super::driver::{Durable, FLUSH};
use super::recent::Recent;
use super::recorded::{COLUMNS, RecordedEvent, signed, unsigned};
use crate::database::{Database, DatabaseError, Role};
use std::time::Duration;
use tokio::sync::watch;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};

/// A page is read in far less; a connection that gives nothing for so long is lost.
const LOOK_MAX: Duration = Duration::from_secs(30);

/// What a follower wants next and whether what it got is whole. Sans-IO, so that the simulation
/// runs the same code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The last position handed out.
    pub position: u64,
}

/// The journal has a hole, which it never has: what was read must not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("position {found} came where {expected} was due: run `daybook verify`")]
pub struct Hole {
    pub expected: u64,
    pub found: u64,
}

impl Cursor {
    /// The range (after, up to) to read, given what is durable; `None` when there is nothing new.
    pub fn wanted(&self, durable: u64, page: u64) -> Option<(u64, u64)> {
        (durable > self.position).then(|| (self.position, durable.min(self.position + page)))
    }

    /// Accepts positions that were read, in order.
    ///
    /// # Errors
    /// [`Hole`]; the cursor stays where it was.
    pub fn accept(&mut self, positions: impl Iterator<Item = u64>) -> Result<(), Hole> {
        let mut last = self.position;
        for found in positions {
            if found != last + 1 {
                return Err(Hole { expected: last + 1, found });
            }
            last = found;
        }
        self.position = last;
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Hole(#[from] Hole),
}

/// Who says what is durable.
#[derive(Clone)]
pub enum Source {
    /// The writer, on this node.
    Writer(watch::Receiver<Durable>),
    /// The writer as well; its last events are read once for everybody on this node.
    Recent(Recent),
    /// Nobody: read, flush, hand out. Asked again when polling.
    Journal,
    /// As [`Source::Journal`], and asked at once when another node's bell rings ([`super::bell::listen`]).
    Bell(watch::Receiver<u64>),
}

/// Reads the journal from a position on, for ever.
pub struct Follower {
    database: Database,
    source: Source,
    cursor: Cursor,
    page: u64,
    session: Option<Session>,
    /// The node's own reader is late: read here.
    overdue: bool,
    /// Without a writer's word: up to here everything is known to be durable.
    flushed: u64,
    wanted: fn(&str) -> bool,
    /// The safety net under the bell.
    poll: Duration,
}

impl Follower {
    /// `after`: the last position already handled, 0 for the beginning. `page`: events per read.
    pub fn new(database: Database, source: Source, after: u64, page: u64) -> Self {
        Follower {
            database,
            source,
            cursor: Cursor { position: after },
            page,
            session: None,
            overdue: false,
            flushed: 0,
            wanted: |_| true,
            poll: Duration::from_millis(250),
        }
    }

    /// Looks this often without being told to.
    #[must_use]
    pub fn polling_every(self, poll: Duration) -> Self {
        Follower { poll, ..self }
    }

    /// Hands out events of these types only; the position goes over the others.
    #[must_use]
    pub fn only(self, wanted: fn(&str) -> bool) -> Self {
        Follower { wanted, ..self }
    }

    /// Up to here everything has been handed out, or was not wanted.
    pub fn position(&self) -> u64 {
        self.cursor.position
    }

    /// The next events, oldest first; waits until there are some, wanted or not. Cancel-safe.
    ///
    /// # Errors
    /// When the database cannot be asked; the same call may be repeated, nothing is skipped.
    pub async fn next(&mut self) -> Result<Vec<RecordedEvent>, FollowError> {
        loop {
            let before = self.cursor.position;
            let events = self.poll_once().await?;
            if self.cursor.position > before {
                return Ok(events);
            }
            match &mut self.source {
                Source::Recent(recent) => {
                    match recent.past(before, self.poll).await {
                        Some(read) => self.overdue = !read,
                        // As below: the writer's last word stands.
                        None => std::future::pending::<()>().await,
                    }
                }
                Source::Writer(durable) => {
                    let after = self.cursor.position;
                    if durable.wait_for(|d| d.position > after).await.is_err() {
                        // The writer has ended; its last word stands. Nothing more will come here.
                        std::future::pending::<()>().await;
                    }
                }
                Source::Journal => tokio::time::sleep(self.poll).await,
                Source::Bell(rings) => {
                    // Rung, silent for a while, or the listener gone: look in any case.
                    if let Ok(Err(_)) = tokio::time::timeout(self.poll, rings.changed()).await {
                        tokio::time::sleep(self.poll).await;
                    }
                }
            }
        }
    }

    /// What there is now, possibly nothing.
    ///
    /// # Errors
    /// As [`Follower::next`].
    pub async fn poll_once(&mut self) -> Result<Vec<RecordedEvent>, FollowError> {
        // Given up, the session is gone with the look, and the next look opens another.
        tokio::time::timeout(LOOK_MAX, self.look()).await.unwrap_or(Err(DatabaseError::Lost.into()))
    }

    async fn look(&mut self) -> Result<Vec<RecordedEvent>, FollowError> {
        let durable = match &mut self.source {
            Source::Writer(durable) => durable.borrow_and_update().position,
            Source::Recent(recent) => {
                if let Some((last, events)) = recent.after(self.cursor.position, self.page, self.wanted) {
                    // Checked for holes when it was read.
                    self.cursor.position = last;
                    // At the head no session is needed.
                    self.session = None;
                    return Ok(events);
                }
                let overdue = std::mem::take(&mut self.overdue);
                match recent.head() {
                    head if head > self.cursor.position => head,
                    _ if overdue => recent.durable().borrow().position,
                    _ => return Ok(Vec::new()),
                }
            }
            Source::Journal => u64::MAX,
            Source::Bell(rings) => {
                rings.borrow_and_update();
                u64::MAX
            }
        };
        let Some((after, up_to)) = self.cursor.wanted(durable, self.page) else { return Ok(Vec::new()) };
        let told = matches!(self.source, Source::Writer(_) | Source::Recent(_));
        let session = match self.session.take() {
            Some(session) if !session.client.is_closed() => session,
            _ => Session::open(&self.database).await?,
        };
        // Without a writer's word the next event is looked for wherever it is: a hole wider than a
        // page must not look like the end of the journal.
        let mut events = session.read(after, if told { up_to } else { u64::MAX }, self.page).await?;
        let last = events.last().map_or(after, |e| e.position);
        if !told && last > self.flushed {
            // A full page is one of many: one flush for all that this session sees by now.
            let full = events.len() as u64 >= self.page;
            let seen = if full { session.head().await?.max(last) } else { last };
            session.client.query(FLUSH, &[]).await.map_err(DatabaseError::Query)?;
            self.flushed = seen;
        }
        if told && last < up_to {
            return Err(Hole { expected: last + 1, found: up_to }.into());
        }
        self.cursor.accept(events.iter().map(|e| e.position))?;
        // Kept only after success: an error leaves no doubtful session behind.
        self.session = Some(session);
        events.retain(|event| (self.wanted)(&event.event_type));
        Ok(events)
    }
}

/// What a follower reads over.
struct Session {
    client: Client,
    read: Statement,
}

impl Session {
    async fn open(database: &Database) -> Result<Self, DatabaseError> {
        let client = database.connect(Role::Projector, &format!("-c synchronous_commit=on {BY_KEY}")).await?;
        let sql = format!(
            "select {COLUMNS} from journal.events e where e.position > $1 and e.position <= $2 order by e.position limit $3"
        );
        let read = client.prepare(&sql).await.map_err(DatabaseError::Query)?;
        Ok(Session { client, read })
    }

    /// The last position that this session sees.
    async fn head(&self) -> Result<u64, DatabaseError> {
        let sql = "select coalesce((select last_position from journal.batches order by batch desc limit 1), 0)";
        let row = self.client.query_one(sql, &[]).await.map_err(DatabaseError::Query)?;
        Ok(unsigned(row.get(0)))
    }

    async fn read(&self, after: u64, up_to: u64, page: u64) -> Result<Vec<RecordedEvent>, DatabaseError> {
        let parameters: [&(dyn ToSql + Sync); 3] = [&signed(after), &signed(up_to), &signed(page)];
        let rows = self.client.query(&self.read, &parameters).await.map_err(DatabaseError::Query)?;
        Ok(rows.iter().map(|row| RecordedEvent::from_row(row, 0)).collect())
    }
}
