//! One WebSocket: `graphql-transport-ws` from the handshake to the close frame.
//!
//! One task owns the socket; every operation runs in a task of its own and hands its answers over a short queue. A
//! peer that does not read therefore stops its subscriptions, not the process: operations wait with one finished
//! answer each (and hold nothing else), and the socket is dropped after the send timeout.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_graphql::{Executor, ServerError};
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::http::HeaderMap;
use serde_json::{Map, Value};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout},
};

use super::{
    Authenticate, NotAuthenticated, Params, Stirred, Surroundings, Transport,
    caller::Caller,
    context::{AtLeast, CorrelationId, bearer_of, is_for},
    fault::{Outcome, code, coded, too_often},
    limits::SocketLimits,
    operation::{Runner, Speak, Task},
    protocol::{Close, Incoming, NAME, Outgoing, no_payload},
    sockets::{Full, Seat},
    strangers::Stranger,
};

/// How long until a token is asked about again that could not be.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// How long a close frame may take to be answered.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Who opened the socket, as far as the handshake tells.
pub(super) struct Peer {
    /// The token of the handshake, for clients that can send headers.
    pub(super) bearer: Option<String>,
    /// Those of the handshake that name a tenant.
    pub(super) headers: HeaderMap,
    pub(super) correlation: CorrelationId,
    pub(super) at_least: Option<AtLeast>,
    pub(super) caller: Caller,
    /// Its place among the sockets, until it is known whose it is.
    pub(super) stranger: Option<Stranger>,
}

/// Sets the sizes and the subprotocol of a handshake.
pub(super) fn configure(offer: WebSocketUpgrade, limits: &SocketLimits) -> WebSocketUpgrade {
    offer
        .protocols([NAME])
        .max_message_size(limits.message_bytes_max)
        .max_frame_size(limits.message_bytes_max)
        // The defaults are 128 KiB each, for every idle socket.
        .read_buffer_size(8 * 1024)
        .write_buffer_size(8 * 1024)
}

/// Serves a socket until either side ends it.
pub(super) async fn run<E: Executor, A: Authenticate>(transport: Arc<Transport<E, A>>, socket: WebSocket, peer: Peer) {
    let acceptable = socket.protocol().is_some_and(|protocol| protocol == NAME);
    let (answers, waiting) = mpsc::channel(transport.settings.limits.socket.send_buffer_messages.max(1));
    let mut session = Session {
        transport,
        socket,
        token: None,
        credential: None,
        stirred: Box::pin(std::future::pending()),
        seat: None,
        at_least: peer.at_least.clone(),
        peer,
        operations: HashMap::new(),
        started: 0,
        answers,
    };
    let end = if acceptable { session.serve(waiting).await } else { End::Close(Close::Subprotocol) };
    // Dropping them first cancels every stream while the peer takes its time to answer.
    session.operations.clear();
    tracing::debug!(correlation.id = session.peer.correlation.as_str(), ?end, "a socket ends");
    if let End::Close(close) = end {
        // The peer is gone or does not answer: either way it has been told.
        let _ = timeout(CLOSE_TIMEOUT, farewell(&mut session.socket, &close)).await;
    }
}

/// Why serving stopped.
#[derive(Debug)]
enum End {
    Close(Close),
    /// The connection broke, the peer fell silent or does not read.
    Drop,
}

impl From<Close> for End {
    fn from(close: Close) -> Self {
        Self::Close(close)
    }
}

/// Sends the close frame and reads until the peer has answered it: closing the connection over unread input could
/// reset it before the peer sees the code.
async fn farewell(socket: &mut WebSocket, close: &Close) {
    // A peer that closed first has its answer queued already; reading on sends it.
    if *close != Close::Normal {
        let frame = CloseFrame { code: close.code(), reason: close.reason().into() };
        if socket.send(Message::Close(Some(frame))).await.is_err() {
            return;
        }
    }
    while let Some(Ok(_)) = socket.recv().await {}
}

/// An operation that runs.
struct Operation {
    /// Tells this operation from an earlier one of the same id, whose answers may still be in the queue.
    number: u64,
    _task: Task,
}

/// A message of an operation on its way to the socket.
struct Answer {
    id: Arc<str>,
    number: u64,
    text: String,
    /// Nothing follows.
    last: bool,
    /// Where a mutation's write went.
    position: Option<AtLeast>,
}

/// Whose answers they are. After `error` the protocol allows nothing.
struct Voice {
    id: Arc<str>,
    number: u64,
}

impl Voice {
    fn answer(
        &self,
        message: &Outgoing<'_>,
        last: bool,
        position: Option<AtLeast>,
    ) -> Result<Answer, serde_json::Error> {
        Ok(Answer { id: self.id.clone(), number: self.number, text: message.text()?, last, position })
    }
}

impl Speak for Voice {
    type Message = Answer;
    const LINE: &'static str = "socket operation";

    fn next(&self, outcome: &Outcome, at: Option<AtLeast>) -> Result<Answer, serde_json::Error> {
        self.answer(&Outgoing::Next { id: &self.id, payload: outcome }, false, at)
    }

    fn error(&self, errors: &[ServerError]) -> Result<Answer, serde_json::Error> {
        self.answer(&Outgoing::Error { id: &self.id, payload: errors }, true, None)
    }

    fn complete(&self) -> Result<Answer, serde_json::Error> {
        self.answer(&Outgoing::Complete { id: &self.id }, true, None)
    }
}

struct Session<E, A: Authenticate> {
    transport: Arc<Transport<E, A>>,
    socket: WebSocket,
    peer: Peer,
    /// Set by `connection_init`. Asked again for every operation and at every ping, so that a token which is revoked
    /// ends its sockets too.
    token: Option<String>,
    /// What the token allowed when it was asked about last.
    credential: Option<A::Credential>,
    /// When it is to be asked about again, before the next ping.
    stirred: Stirred,
    /// Held to the end, once it is known whose it is.
    seat: Option<Seat>,
    /// What this socket has written last, or the handshake asked for.
    at_least: Option<AtLeast>,
    operations: HashMap<Arc<str>, Operation>,
    started: u64,
    answers: mpsc::Sender<Answer>,
}

impl<E: Executor, A: Authenticate> Session<E, A> {
    async fn serve(&mut self, mut waiting: mpsc::Receiver<Answer>) -> End {
        let limits = self.transport.settings.limits.socket.clone();
        let stopping = self.transport.stopping();
        let put_out = self.peer.stranger.as_mut().map(Stranger::put_out);
        let put_out = async {
            match put_out {
                Some(put_out) => put_out.await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(stopping, put_out);
        let mut heard = Instant::now();
        let init_deadline = heard + limits.init_timeout;
        let mut pings = interval_at(heard + limits.ping_interval, limits.ping_interval);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let step = tokio::select! {
                () = &mut stopping => Err(Close::GoingAway.into()),
                () = &mut put_out, if self.token.is_none() => Err(End::Drop),
                () = sleep_until(init_deadline), if self.token.is_none() => Err(Close::InitTimeout.into()),
                incoming = self.socket.recv() => {
                    heard = Instant::now();
                    match incoming {
                        Some(Ok(message)) => self.hear(message, &limits).await,
                        Some(Err(error)) => Err(broken(&error, &limits)),
                        None => Err(End::Drop),
                    }
                }
                () = &mut self.stirred => self.ask_again().await,
                Some(answer) = waiting.recv() => self.deliver(answer, &limits).await,
                _ = pings.tick() => {
                    if heard.elapsed() > limits.ping_interval * 2 {
                        Err(End::Drop)
                    } else {
                        match self.ask_again().await {
                            Ok(()) => self.send(Message::Ping(no_payload()), &limits).await,
                            end => end,
                        }
                    }
                }
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    async fn hear(&mut self, message: Message, limits: &SocketLimits) -> Result<(), End> {
        let text = match message {
            Message::Text(text) => text,
            Message::Ping(_) | Message::Pong(_) => return Ok(()),
            Message::Binary(_) => return Err(Close::Invalid("binary instead of text".into()).into()),
            // The library answers it while the connection is read to its end.
            Message::Close(_) => return Err(Close::Normal.into()),
        };
        match Incoming::parse(&text)? {
            Incoming::Init(payload) => {
                if self.token.is_some() {
                    return Err(Close::TooManyInits.into());
                }
                let token = self.token_of(&payload).ok_or(Close::Forbidden)?;
                // Before the question, so that nothing can change unnoticed between it and the wait.
                self.stirred = self.transport.authenticate.stirred(&token);
                let credential = self.transport.authenticate.authenticate(&token).await.map_err(refused)?;
                if !is_for(&self.peer.headers, A::tenant(&credential)) {
                    return Err(Close::Forbidden.into());
                }
                self.token = Some(token);
                self.sit(&credential)?;
                self.credential = Some(credential);
                self.say(&Outgoing::ConnectionAck, limits).await
            }
            Incoming::Ping(payload) => self.say(&Outgoing::Pong { payload }, limits).await,
            Incoming::Pong => Ok(()),
            Incoming::Complete { id } => {
                self.operations.remove(id.as_str());
                Ok(())
            }
            Incoming::Subscribe { id, params } => {
                if self.token.is_none() {
                    return Err(Close::Unauthorized.into());
                }
                self.ask_again().await?;
                let credential = self.credential.clone().ok_or(Close::Forbidden)?;
                if self.operations.contains_key(id.as_str()) {
                    return Err(Close::SubscriberExists(id).into());
                }
                if self.operations.len() >= limits.operations_per_socket_max {
                    let message = format!(
                        "This socket runs {} operations already: complete one or open another socket",
                        limits.operations_per_socket_max
                    );
                    let errors = [coded(code::LIMIT_EXCEEDED, message, None)];
                    return self.say(&Outgoing::Error { id: &id, payload: &errors }, limits).await;
                }
                let rates = &self.transport.settings.rates;
                if let Err(refused) = rates.account(A::namespace(&credential), A::tenant(&credential)) {
                    let errors = [too_often(&refused)];
                    return self.say(&Outgoing::Error { id: &id, payload: &errors }, limits).await;
                }
                self.start(id.into(), params, credential);
                Ok(())
            }
        }
    }

    /// Whether the token is still good, and for the same.
    async fn ask_again(&mut self) -> Result<(), End> {
        let Some(token) = self.token.clone() else { return Ok(()) };
        self.stirred = self.transport.authenticate.stirred(&token);
        match self.transport.authenticate.authenticate(&token).await {
            Ok(now) if self.credential.as_ref().is_some_and(|before| A::is_same(before, &now)) => Ok(()),
            // What runs was begun with what was allowed before.
            Ok(_) => Err(Close::Changed.into()),
            Err(NotAuthenticated::Unknown) => Err(Close::Over.into()),
            Err(NotAuthenticated::Shut(shut)) => Err(Close::Shut(shut).into()),
            Err(NotAuthenticated::Unavailable) => {
                self.stirred = Box::pin(tokio::time::sleep(ASK_AGAIN));
                Ok(())
            }
        }
    }

    /// Counts the socket as its caller's.
    fn sit(&mut self, credential: &A::Credential) -> Result<(), Close> {
        let seat = self.transport.settings.sockets.seat(A::namespace(credential)).map_err(|full| match full {
            Full::All => Close::Full,
            Full::Own => Close::TooMany,
        })?;
        self.seat = Some(seat);
        self.peer.stranger = None;
        Ok(())
    }

    /// The token of the payload; that of the handshake only when the payload has none.
    fn token_of(&self, payload: &Map<String, Value>) -> Option<String> {
        let mut told = payload.iter().filter(|(key, _)| key.eq_ignore_ascii_case("authorization"));
        match (told.next(), told.next()) {
            (None, _) => self.peer.bearer.clone(),
            (Some((_, Value::String(value))), None) => bearer_of(value).map(str::to_owned),
            _ => None,
        }
    }

    fn start(&mut self, id: Arc<str>, params: Params, credential: A::Credential) {
        let named = params.extension("correlationId").and_then(CorrelationId::parse);
        let correlation = named.unwrap_or_else(|| self.transport.new_correlation());
        self.started += 1;
        let runner = Runner {
            transport: self.transport.clone(),
            speak: Voice { id: id.clone(), number: self.started },
            answers: self.answers.clone(),
        };
        let surroundings = Surroundings {
            credential: Some(credential),
            correlation,
            at_least: self.at_least.clone(),
            caller: self.peer.caller.clone(),
        };
        let operation = Operation { number: self.started, _task: Task::spawn(runner.run(params, surroundings)) };
        self.operations.insert(id, operation);
    }

    async fn deliver(&mut self, answer: Answer, limits: &SocketLimits) -> Result<(), End> {
        if self.operations.get(&answer.id).is_none_or(|operation| operation.number != answer.number) {
            return Ok(());
        }
        if answer.position.is_some() {
            self.at_least = answer.position;
        }
        if answer.last {
            self.operations.remove(&answer.id);
        }
        self.send(Message::Text(answer.text.into()), limits).await
    }

    async fn say(&mut self, message: &Outgoing<'_>, limits: &SocketLimits) -> Result<(), End> {
        let text = message.text().map_err(|_| End::Drop)?;
        self.send(Message::Text(text.into()), limits).await
    }

    async fn send(&mut self, message: Message, limits: &SocketLimits) -> Result<(), End> {
        match timeout(limits.send_timeout, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Drop),
            Err(_) => {
                tracing::info!(
                    correlation.id = self.peer.correlation.as_str(),
                    "a socket does not read and is dropped"
                );
                Err(End::Drop)
            }
        }
    }
}

/// The close of a socket that is not let in.
fn refused(why: NotAuthenticated) -> Close {
    match why {
        NotAuthenticated::Unknown => Close::Forbidden,
        NotAuthenticated::Shut(shut) => Close::Shut(shut),
        NotAuthenticated::Unavailable => Close::Unavailable,
    }
}

/// The close that a frame deserves which the library could not read. Its error types are not public; the wording
/// only chooses between codes.
fn broken(error: &axum::Error, limits: &SocketLimits) -> End {
    let text = error.to_string().to_ascii_lowercase();
    if text.contains("too long") || text.contains("space limit") {
        End::Close(Close::TooBig(limits.message_bytes_max))
    } else if text.contains("utf-8") {
        End::Close(Close::NotText)
    } else {
        End::Close(Close::Broken)
    }
}
