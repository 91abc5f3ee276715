//! One operation as an event stream: the "GraphQL over Server-Sent Events Protocol" in its distinct connections mode,
//! `next` for every answer, then `complete`.
//!
//! A task of its own feeds the stream, so that a stop, a revoked token or a reader that does not read is noticed while
//! the connection is stuck. A stream that ends without `complete` was cut: whoever wants the rest asks again after the
//! last position. The protocol's single connection mode is absent: it needs state between requests, and a socket
//! serves the same end.

use std::{convert::Infallible, sync::Arc, time::Duration};

use async_graphql::{Executor, ServerError};
use axum::{
    http::{HeaderName, HeaderValue},
    response::{
        IntoResponse, Response,
        sse::{Event, Sse},
    },
};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};

use super::{
    Authenticate, NotAuthenticated, Surroundings, Transport,
    context::{AtLeast, CorrelationId},
    fault::Outcome,
    operation::{Runner, Speak, Task},
    prepare::Prepared,
    resume::Bookmark,
    sockets::Seat,
};

/// How long until a token is asked about again that could not be.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// Who asked, and what belongs to the stream for as long as it is open.
pub(super) struct Peer {
    /// Asked again at every keep-alive, so that a token which is revoked ends its streams too.
    pub(super) bearer: String,
    pub(super) seat: Seat,
}

/// Answers with the stream of an operation, or of why it was refused: what the validation finds is an answer of the
/// protocol, no status.
pub(super) fn open<E: Executor, A: Authenticate>(
    transport: Arc<Transport<E, A>>,
    prepared: Result<Prepared, ServerError>,
    surroundings: Surroundings<A::Credential>,
    peer: Peer,
) -> Response {
    let (answers, waiting) = mpsc::channel(transport.settings.limits.socket.send_buffer_messages.max(1));
    let (events, written) = mpsc::channel(1);
    let Peer { bearer, seat } = peer;
    let (correlation, credential) = (surroundings.correlation.clone(), surroundings.credential.clone());
    let feed = Feed { transport: transport.clone(), bearer, credential, correlation, events };
    let operation = async move {
        match prepared {
            Ok(mut prepared) => {
                let speak = Events { bookmark: std::mem::take(&mut prepared.bookmark) };
                Runner { transport, speak, answers }.carry_out(prepared, surroundings).await;
            }
            Err(error) => {
                Runner { transport, speak: Events::default(), answers }.refuse(error).await;
            }
        }
    };
    tokio::spawn(async move {
        let task = Task::spawn(operation);
        let end = feed.serve(waiting).await;
        // Cancels it, if it goes on.
        drop(task);
        tracing::debug!(correlation.id = feed.correlation.as_str(), ?end, "an event stream ends");
    });
    // The seat is given up with the connection, not with the operation.
    let stream = futures_util::stream::unfold((written, seat), |(mut written, seat)| async move {
        written.recv().await.map(|event| (Ok::<_, Infallible>(event), (written, seat)))
    });
    let mut response = Sse::new(stream).into_response();
    // A proxy that gathers an answer before it passes it on would gather for ever.
    response.headers_mut().insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

/// Writes answers as events.
#[derive(Default)]
struct Events {
    bookmark: Bookmark,
}

impl Events {
    fn told(&self, outcome: &Outcome, at: Option<AtLeast>) -> Result<Event, serde_json::Error> {
        let event = Event::default().event("next").data(serde_json::to_string(outcome)?);
        Ok(match at {
            Some(at) => event.id(at.0),
            None => event,
        })
    }
}

impl Speak for Events {
    type Message = Vec<Event>;
    const LINE: &'static str = "stream operation";

    fn next(&self, outcome: &Outcome, at: Option<AtLeast>) -> Result<Vec<Event>, serde_json::Error> {
        let marked = match outcome {
            Outcome::Executed(response) => self.bookmark.read(response),
            Outcome::Refused(_) => None,
        };
        Ok(vec![self.told(outcome, at.or(marked))?])
    }

    fn error(&self, errors: &[ServerError]) -> Result<Vec<Event>, serde_json::Error> {
        Ok(vec![self.told(&Outcome::Refused(errors.to_vec()), None)?, complete()])
    }

    fn complete(&self) -> Result<Vec<Event>, serde_json::Error> {
        Ok(vec![complete()])
    }
}

/// It has nothing to tell, but an event without data is none to a browser.
fn complete() -> Event {
    Event::default().event("complete").data("null")
}

/// Why feeding stopped.
#[derive(Debug)]
enum End {
    /// The operation has said its last word.
    Complete,
    /// The server stops, or the token is no longer good: the stream ends here, for the client to ask again.
    Over,
    /// The client went away.
    Gone,
    /// It does not read.
    Slow,
}

/// Puts the events of one stream where the connection takes them.
struct Feed<E, A: Authenticate> {
    transport: Arc<Transport<E, A>>,
    bearer: String,
    /// What the token allowed when the stream was opened.
    credential: Option<A::Credential>,
    correlation: CorrelationId,
    events: mpsc::Sender<Event>,
}

impl<E: Executor, A: Authenticate> Feed<E, A> {
    async fn serve(&self, mut waiting: mpsc::Receiver<Vec<Event>>) -> End {
        let every = self.transport.settings.limits.socket.ping_interval;
        let stopping = self.transport.stopping();
        tokio::pin!(stopping);
        let mut stirred = self.transport.authenticate.stirred(&self.bearer);
        // At once as well: it takes the headers through proxies that wait for a body.
        let mut comments = interval_at(Instant::now(), every);
        comments.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let step = tokio::select! {
                () = &mut stopping => Err(End::Over),
                () = self.events.closed() => Err(End::Gone),
                answer = waiting.recv() => match answer {
                    Some(events) => self.send_all(events).await,
                    None => Err(End::Complete),
                },
                () = &mut stirred => {
                    stirred = self.transport.authenticate.stirred(&self.bearer);
                    match self.is_good().await {
                        Ok(true) => Ok(()),
                        Ok(false) => Err(End::Over),
                        Err(_) => {
                            stirred = Box::pin(tokio::time::sleep(ASK_AGAIN));
                            Ok(())
                        }
                    }
                }
                _ = comments.tick() => match self.is_good().await {
                    Ok(false) => Err(End::Over),
                    Ok(true) | Err(_) => self.send(Event::default().comment("")).await,
                }
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    /// Whether the token is still good, and for the same.
    async fn is_good(&self) -> Result<bool, NotAuthenticated> {
        match self.transport.authenticate.authenticate(&self.bearer).await {
            Ok(now) => Ok(self.credential.as_ref().is_some_and(|before| A::is_same(before, &now))),
            Err(NotAuthenticated::Unknown | NotAuthenticated::Shut(_)) => Ok(false),
            Err(unavailable) => Err(unavailable),
        }
    }

    async fn send_all(&self, events: Vec<Event>) -> Result<(), End> {
        for event in events {
            self.send(event).await?;
        }
        Ok(())
    }

    /// Waits until the connection has taken the event before it.
    async fn send(&self, event: Event) -> Result<(), End> {
        match timeout(self.transport.settings.limits.socket.send_timeout, self.events.send(event)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Gone),
            Err(_) => {
                tracing::info!(
                    correlation.id = self.correlation.as_str(),
                    "an event stream is not read and is dropped"
                );
                Err(End::Slow)
            }
        }
    }
}
