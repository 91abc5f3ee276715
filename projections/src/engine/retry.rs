//! Parked streams are tried again, later and later, in the order of their events, until none is left.

use super::apply::open_events;
use super::lane::{Lane, Step};
use super::parking::{self, Left, Parked, ParkedStreams, Place, StreamName};
use super::projected::Projected;
use daybook_store::database::DatabaseError;
use daybook_store::journal::RecordedEvent;
use daybook_store::journal::log::{self, Part};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// When which stream is tried again.
pub(super) struct Retries {
    streams: BTreeMap<StreamName, Retry>,
    /// One retry, then work again if there is some: neither keeps the other waiting.
    rested: bool,
}

struct Retry {
    at: Instant,
    tries: u32,
}

impl Retries {
    pub(super) fn of(parked: &ParkedStreams, now: Instant) -> Self {
        let streams = parked.keys().map(|stream| (stream.clone(), Retry { at: now, tries: 0 }));
        Retries { streams: streams.collect(), rested: true }
    }

    pub(super) fn add(&mut self, stream: StreamName, pause: Duration) {
        self.streams.insert(stream, Retry { at: Instant::now() + pause, tries: 1 });
    }

    /// Leaves only what is parked, and adds what is new.
    pub(super) fn keep(&mut self, parked: &ParkedStreams) {
        self.streams.retain(|stream, _| parked.contains_key(stream));
        for stream in parked.keys().filter(|stream| !self.streams.contains_key(stream)).cloned().collect::<Vec<_>>() {
            self.add(stream, Duration::ZERO);
        }
    }

    /// All of them now.
    pub(super) fn hurry(&mut self) {
        let now = Instant::now();
        self.streams.values_mut().for_each(|retry| *retry = Retry { at: now, tries: 0 });
    }

    fn next(&self) -> Option<(&StreamName, Instant)> {
        self.streams.iter().map(|(stream, retry)| (stream, retry.at)).min_by_key(|(_, at)| *at)
    }

    /// Whether one is to be tried before anything else; every other time it is not.
    pub(super) fn are_due(&mut self) -> bool {
        self.rested = !self.rested;
        !self.rested && self.next().is_some_and(|(_, at)| at <= Instant::now())
    }

    /// Waits until one is due; for ever where none is parked.
    pub(super) async fn due(&self) {
        match self.next() {
            Some((_, at)) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }
}

/// Why a page of a stream was not applied.
enum Refused {
    /// The lane or the stream is not as it was thought to be.
    Moved,
    Database(DatabaseError),
}

impl From<DatabaseError> for Refused {
    fn from(error: DatabaseError) -> Self {
        Refused::Database(error)
    }
}

/// What became of a page.
enum Page {
    /// All of it is in the rows; there is more.
    More(Parked),
    Done,
    /// It does not get past its first event.
    Stuck(Parked),
}

impl<M: Projected> Lane<M> {
    /// Tries the stream that is due first.
    pub(super) async fn retry_next(&mut self) -> Step {
        let Some((stream, _)) = self.retries.next() else { return Step::Retried };
        let stream = stream.clone();
        let mut page_max = self.context.parts.options.batch_max.max(1);
        loop {
            let Some(parked) = self.set.parked(self.number).get(&stream).cloned() else {
                self.retries.streams.remove(&stream);
                return Step::Retried;
            };
            match self.retry_page(&parked, page_max).await {
                Ok(Page::Done) => {
                    self.note(&stream, None);
                    self.retries.streams.remove(&stream);
                    tracing::info!(
                        read_model = M::NAME,
                        lane = self.number,
                        position = parked.first.position,
                        "a parked stream goes on"
                    );
                    return Step::Retried;
                }
                Ok(Page::More(left)) => self.note(&stream, Some(left)),
                Ok(Page::Stuck(left)) => {
                    self.note(&stream, Some(left));
                    return self.postpone(&stream);
                }
                Err(Refused::Moved) => return Step::Moved,
                // Which event of the page it is, is found by going one by one.
                Err(Refused::Database(error)) if page_max > 1 && parking::is_of_the_event(&error) => page_max = 1,
                Err(Refused::Database(error)) => {
                    if parking::is_of_the_event(&error) {
                        match self.note_reason(&parked, &error.to_string()).await {
                            Ok(left) => self.note(&stream, Some(left)),
                            Err(Refused::Moved) => return Step::Moved,
                            Err(Refused::Database(_)) => {}
                        }
                    } else {
                        tracing::debug!(read_model = M::NAME, %error, "a parked stream is tried again later");
                    }
                    return self.postpone(&stream);
                }
            }
        }
    }

    fn postpone(&mut self, stream: &StreamName) -> Step {
        if let Some(retry) = self.retries.streams.get_mut(stream) {
            retry.tries = retry.tries.saturating_add(1);
            retry.at = Instant::now() + self.context.parts.options.unpark_pause(retry.tries);
        }
        Step::Retried
    }

    /// What is left of a stream, for those who wait and ask.
    fn note(&self, stream: &StreamName, left: Option<Parked>) {
        let mut parked = self.set.parked(self.number);
        let streams = Arc::make_mut(&mut parked);
        match left {
            Some(left) => streams.insert(stream.clone(), left),
            None => streams.remove(stream),
        };
        self.set.set_parked(self.number, parked);
    }

    /// Applies the next events of a parked stream in one transaction, as far as they can be.
    async fn retry_page(&mut self, parked: &Parked, page_max: usize) -> Result<Page, Refused> {
        let stored = self.set.stored(self.number);
        let (page, more) = {
            let session = self.context.pool.get().await?;
            self.skips = parking::skips(&session, M::NAME).await?;
            read_page(&session, parked, page_max).await?
        };
        let wanted: Vec<RecordedEvent> = page.into_iter().filter(|event| M::wants(&event.event_type)).collect();
        let places: Vec<Place> = wanted.iter().map(Place::of).collect();
        let wanted = wanted.into_iter().filter(|event| !self.skips.contains(&event.position)).collect();
        // Opened before a session is taken: opening may need one of its own.
        let (events, mut stop) = open_events::<M>(&self.context.parts.sealer, wanted).await;
        let times = self.times();
        let mut session = self.context.pool.get().await?;
        let tx = session.transaction().await.map_err(DatabaseError::Query)?;
        if !parking::hold(&tx, M::NAME, self.set.version(), stored, parked).await? {
            return Err(Refused::Moved);
        }
        if !events.is_empty()
            && let Some(refused) = M::write(&tx, self.set.version(), &events, times.keep_since).await?
        {
            stop = Some(refused);
        }
        let (left, tried) = match (&stop, more) {
            (Some(stop), _) => {
                let reached = places.iter().position(|place| place.position == stop.position).unwrap_or_default();
                let left = Left::From { place: places[reached], fewer: reached as u64 };
                (left, Some(stop.error.reason()))
            }
            (None, Some(place)) => (Left::From { place, fewer: places.len() as u64 }, None),
            (None, None) => (Left::Nothing, None),
        };
        let tried_for = tried.as_deref().map(|reason| (reason, times.now));
        parking::leave(&tx, M::NAME, self.set.version(), parked, &left, tried_for).await?;
        tx.commit().await.map_err(DatabaseError::Query)?;
        Ok(match (left, tried) {
            (Left::Nothing, _) => Page::Done,
            (Left::From { place, fewer }, tried) => {
                let events = parked.events.saturating_sub(fewer).max(1);
                let left = Parked { first: place, events, ..parked.clone() };
                match tried {
                    Some(reason) => Page::Stuck(Parked { reason, tried_at: times.now, ..left }),
                    None => Page::More(left),
                }
            }
        })
    }

    /// Writes down why the first event was refused this time.
    async fn note_reason(&self, parked: &Parked, reason: &str) -> Result<Parked, Refused> {
        let mut session = self.context.pool.get().await?;
        let tx = session.transaction().await.map_err(DatabaseError::Query)?;
        let (version, stored) = (self.set.version(), self.set.stored(self.number));
        if !parking::hold(&tx, M::NAME, version, stored, parked).await? {
            return Err(Refused::Moved);
        }
        let now = self.context.parts.system.utc();
        let left = Left::From { place: parked.first, fewer: 0 };
        parking::leave(&tx, M::NAME, version, parked, &left, Some((reason, now))).await?;
        tx.commit().await.map_err(DatabaseError::Query)?;
        Ok(Parked { reason: reason.to_owned(), tried_at: now, ..parked.clone() })
    }
}

/// The next parked events of a stream, and where the one after them is.
async fn read_page(
    session: &tokio_postgres::Client,
    parked: &Parked,
    page_max: usize,
) -> Result<(Vec<RecordedEvent>, Option<Place>), DatabaseError> {
    let StreamName { tenant, kind, id } = &parked.stream;
    let part = Part { tenant: *tenant, kind, id: *id, from: parked.first.sequence, up_to: parked.last_position };
    let mut page = log::stream(session, part, page_max + 1).await?;
    let more = (page.len() > page_max).then(|| page.pop()).flatten();
    Ok((page, more.as_ref().map(Place::of)))
}
