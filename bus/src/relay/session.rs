//! One session: from the checkpoint on, over one connection, until something fails or the relay halts.

use super::checkpoint::{Checkpoint, StreamKey};
use super::server::{self, Link};
use super::{Inner, RelayError, RelayOptions, chain};
use crate::cloud_event::{CloudEvent, CloudEventError, Positions, subject};
use async_nats::jetstream::Context;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::publish::PublishAck;
use daybook_store::database::DatabaseError;
use daybook_store::journal::RecordedEvent;
use daybook_store::journal::follow::{FollowError, Follower};
use futures_util::stream::{FuturesOrdered, StreamExt};
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// Media type of a CloudEvent in structured form.
const CONTENT_TYPE: &str = "application/cloudevents+json";
/// How long what is under way may take when the relay halts.
const DRAIN: Duration = Duration::from_secs(2);
/// What headers add to a message, at most.
const HEADER_BYTES: usize = 512;

type Acknowledged = Pin<Box<dyn Future<Output = Result<PublishAck, PublishError>> + Send>>;

type Saving<'a> = Pin<Box<dyn Future<Output = Result<Checkpoint, DatabaseError>> + Send + 'a>>;

/// An event on its way, or one that need not go.
enum Way {
    Sent(Acknowledged),
    /// Found in the stream at this sequence.
    Found(u64),
    Internal,
}

/// What the server must have stored last when it takes the next message. Sequences would not do all along:
/// a stranger's message in place of a refused one would make the one after it fit.
enum Follows {
    Sequence(u64),
    Message(Uuid),
}

struct Done {
    position: u64,
    bytes: usize,
    how: Result<How, PublishError>,
}

enum How {
    Published(PublishAck),
    Found(u64),
    Internal,
}

/// `Ok` when halted.
pub(super) async fn run(inner: &Inner, halt: impl Future<Output = ()>) -> Result<(), RelayError> {
    tokio::pin!(halt);
    let opening = open(inner);
    let (link, mut pipeline, follower) = tokio::select! {
        () = &mut halt => return Ok(()),
        opened = opening => opened?,
    };
    let ended = relay(inner, &link, &mut pipeline, follower, halt).await;
    if !matches!(ended, Err(RelayError::Lost)) {
        // What is not acknowledged by then is found in the stream next time.
        let _ = tokio::time::timeout(DRAIN, drain(inner, &mut pipeline)).await;
    }
    if pipeline.at.position > pipeline.saved.position {
        let saved = save(inner, pipeline.stream.clone(), pipeline.at).await;
        return ended.and(saved.map(drop).map_err(RelayError::from));
    }
    ended
}

async fn open(inner: &Inner) -> Result<(Link, Pipeline, Follower), RelayError> {
    let parts = &inner.parts;
    let options = &parts.options;
    let link = Link::open(options).await?;
    let target = server::target(&link.jetstream, &options.stream).await?;
    let saved = inner.checkpoints.load(&target.key).await?;
    let there = server::after(&target, saved.sequence).await?;
    let last_sequence = target.stream.cached_info().state.last_sequence;
    if target.made {
        tracing::info!(nats.stream = options.stream, "a stream was made; it gets the whole history");
    }
    if !target.differs.is_empty() {
        let differs = target.differs.join(", ");
        tracing::warn!(nats.stream = options.stream, differs, "the stream is not as Daybook makes it, and stays so");
    }
    tracing::info!(nats.server = options.place(), nats.stream = options.stream, after = saved.position, "relaying");
    inner.board.relaying(saved.position);
    let follower = Follower::new(parts.database.clone(), inner.source(), saved.position, options.page);
    let pipeline = Pipeline {
        jetstream: link.jetstream.clone(),
        max_payload: link.client.max_payload(),
        options: options.clone(),
        positions: parts.positions.clone(),
        stream: target.key,
        there,
        follows: Follows::Sequence(last_sequence),
        waiting: VecDeque::new(),
        flight: FuturesOrdered::new(),
        bytes: 0,
        at: saved,
        saved,
    };
    Ok((link, pipeline, follower))
}

async fn relay(
    inner: &Inner,
    link: &Link,
    pipeline: &mut Pipeline,
    follower: Follower,
    mut halt: Pin<&mut impl Future<Output = ()>>,
) -> Result<(), RelayError> {
    let mut lost = link.lost.clone();
    let mut save_at = None;
    let mut saving: Option<Saving<'_>> = None;
    let mut reading = Box::pin(read(follower));
    loop {
        pipeline.fill().await?;
        let idle = saving.is_none();
        // The next page is read while the last one is on its way.
        let has_room = pipeline.waiting.len() < pipeline.options.in_flight_max;
        let save_due = async {
            match save_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let saved = async {
            match &mut saving {
                Some(saving) => saving.await,
                None => std::future::pending().await,
            }
        };
        // Its guard must not be held while something else is awaited.
        let gone = async { drop(lost.wait_for(|lost| *lost).await) };
        tokio::select! {
            () = &mut halt => return Ok(()),
            () = gone => return Err(RelayError::Lost),
            Some(done) = pipeline.flight.next(), if !pipeline.flight.is_empty() => {
                pipeline.acknowledged(inner, done)?;
                if save_at.is_none() {
                    save_at = Some(Instant::now() + inner.parts.options.save_every);
                }
            }
            (follower, events) = &mut reading, if has_room => {
                pipeline.waiting.extend(events?);
                reading.set(read(follower));
            }
            saved = saved => {
                pipeline.saved = saved?;
                saving = None;
            }
            () = save_due, if idle => save_at = Some(Instant::now()),
        }
        let is_due = save_at.is_some_and(|at| at <= Instant::now());
        let is_much = pipeline.at.position - pipeline.saved.position >= inner.parts.options.save_after;
        // Beside the rest: a commit takes its time, and nobody needs to wait for this one.
        if saving.is_none() && (is_due || is_much) {
            saving = Some(Box::pin(save(inner, pipeline.stream.clone(), pipeline.at)));
            save_at = None;
        }
    }
}

/// One read from begin to end: given up half-way, it would cost the follower its connection.
async fn read(mut follower: Follower) -> (Follower, Result<Vec<RecordedEvent>, FollowError>) {
    let events = follower.next().await;
    (follower, events)
}

async fn save(inner: &Inner, stream: StreamKey, at: Checkpoint) -> Result<Checkpoint, DatabaseError> {
    inner.checkpoints.save(&stream, at).await.map(|()| at)
}

async fn drain(inner: &Inner, pipeline: &mut Pipeline) -> Result<(), RelayError> {
    while let Some(done) = pipeline.flight.next().await {
        pipeline.acknowledged(inner, done)?;
    }
    Ok(())
}

/// Events between the journal and the stream.
struct Pipeline {
    jetstream: Context,
    max_payload: usize,
    options: RelayOptions,
    positions: Positions,
    stream: StreamKey,
    /// Published after the checkpoint by an earlier session.
    there: HashMap<Uuid, u64>,
    follows: Follows,
    /// Read, not yet on the way.
    waiting: VecDeque<RecordedEvent>,
    flight: FuturesOrdered<Pin<Box<dyn Future<Output = Done> + Send>>>,
    /// In flight.
    bytes: usize,
    /// Acknowledged without a gap.
    at: Checkpoint,
    saved: Checkpoint,
}

impl Pipeline {
    /// Sends on as much as may be under way.
    async fn fill(&mut self) -> Result<(), RelayError> {
        while self.flight.len() < self.options.in_flight_max.max(1)
            && self.bytes < self.options.in_flight_bytes_max
            && let Some(event) = self.waiting.pop_front()
        {
            let (bytes, way) = self.send(&event).await?;
            self.bytes += bytes;
            let position = event.position;
            self.flight.push_back(Box::pin(async move {
                let how = match way {
                    Way::Sent(acknowledged) => acknowledged.await.map(How::Published),
                    Way::Found(sequence) => Ok(How::Found(sequence)),
                    Way::Internal => Ok(How::Internal),
                };
                Done { position, bytes, how }
            }));
        }
        Ok(())
    }

    async fn send(&mut self, event: &RecordedEvent) -> Result<(usize, Way), RelayError> {
        let Some(cloud_event) = CloudEvent::of(event, &self.positions)? else { return Ok((0, Way::Internal)) };
        if let Some(sequence) = self.there.remove(&event.event_id) {
            return Ok((0, Way::Found(sequence)));
        }
        let json = |source| CloudEventError::Json { event: event.event_id, source };
        let payload = serde_json::to_vec(&cloud_event).map_err(json)?;
        let bytes = payload.len() + HEADER_BYTES;
        if bytes > self.max_payload {
            return Err(RelayError::TooLarge { event: event.event_id, bytes, max: self.max_payload });
        }
        let message = PublishMessage::build()
            .payload(payload.into())
            .message_id(event.event_id.to_string())
            .header("Content-Type", CONTENT_TYPE)
            .expected_stream(&self.stream.name);
        let message = match self.follows {
            Follows::Sequence(last) => message.expected_last_sequence(last),
            Follows::Message(last) => message.expected_last_message_id(last.to_string()),
        };
        let acknowledged = self.jetstream.send_publish(subject(event), message).await.map_err(refused)?;
        self.follows = Follows::Message(event.event_id);
        Ok((bytes, Way::Sent(acknowledged.into_future())))
    }

    fn acknowledged(&mut self, inner: &Inner, done: Done) -> Result<(), RelayError> {
        self.bytes -= done.bytes;
        let (published, found) = match done.how.map_err(refused)? {
            How::Published(ack) => {
                self.at.sequence = self.at.sequence.max(ack.sequence);
                // It was there after all, out of sight; what was to follow it does not.
                if ack.duplicate {
                    self.at.position = done.position;
                    inner.board.acknowledged(self.at.position, 0, 1);
                    return Err(RelayError::Overtaken);
                }
                (1, 0)
            }
            How::Found(sequence) => {
                self.at.sequence = self.at.sequence.max(sequence);
                (0, 1)
            }
            How::Internal => (0, 0),
        };
        self.at.position = done.position;
        inner.board.acknowledged(self.at.position, published, found);
        Ok(())
    }
}

fn refused(error: PublishError) -> RelayError {
    match error.kind() {
        PublishErrorKind::WrongLastSequence | PublishErrorKind::WrongLastMessageId => RelayError::Overtaken,
        _ => RelayError::Server { what: "take a message", reason: chain(&error) },
    }
}
