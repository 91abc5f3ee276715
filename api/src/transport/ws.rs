//! One WebSocket: `graphql-transport-ws` from the handshake to the close frame.
//!
//! One task owns the socket; every operation runs in a task of its own and hands its answers over a short queue. A
//! peer that does not read therefore stops its subscriptions, not the process: operations wait with one finished
//! answer each (and hold nothing else), and the socket is dropped after the send timeout.

use std::{collections::HashMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use async_graphql::{Executor, parser::types::OperationType};
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use futures_util::StreamExt;
use serde_json::{Map, Value};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout},
};

use super::{
    Authenticate, Params, Surroundings, Transport,
    context::{AtLeast, CorrelationId, bearer_of},
    execute,
    fault::{Outcome, code, code_of, coded},
    limits::SocketLimits,
    panicked, position,
    prepare::prepare,
    protocol::{Close, Incoming, NAME, Outgoing, no_payload},
};

/// How long a close frame may take to be answered.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Who opened the socket, as far as the handshake tells.
pub(super) struct Peer {
    /// The token of the handshake, for clients that can send headers.
    pub(super) bearer: Option<String>,
    pub(super) correlation: CorrelationId,
    pub(super) at_least: Option<AtLeast>,
    pub(super) _permit: OwnedSemaphorePermit,
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
        credential: None,
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

/// An operation that runs; dropping it cancels it.
struct Operation {
    /// Tells this operation from an earlier one of the same id, whose answers may still be in the queue.
    number: u64,
    task: tokio::task::AbortHandle,
}

impl Drop for Operation {
    fn drop(&mut self) {
        self.task.abort();
    }
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

struct Session<E, A: Authenticate> {
    transport: Arc<Transport<E, A>>,
    socket: WebSocket,
    peer: Peer,
    /// Known after `connection_init`.
    credential: Option<A::Credential>,
    /// What this socket has written last, or the handshake asked for.
    at_least: Option<AtLeast>,
    operations: HashMap<Arc<str>, Operation>,
    started: u64,
    answers: mpsc::Sender<Answer>,
}

impl<E: Executor, A: Authenticate> Session<E, A> {
    async fn serve(&mut self, mut waiting: mpsc::Receiver<Answer>) -> End {
        let limits = self.transport.settings.limits.socket.clone();
        let mut shutdown = self.transport.settings.shutdown.clone();
        let stopping = async move {
            if shutdown.wait_for(|stop| *stop).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::pin!(stopping);
        let mut heard = Instant::now();
        let init_deadline = heard + limits.init_timeout;
        let mut pings = interval_at(heard + limits.ping_interval, limits.ping_interval);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let step = tokio::select! {
                () = &mut stopping => Err(Close::GoingAway.into()),
                () = sleep_until(init_deadline), if self.credential.is_none() => Err(Close::InitTimeout.into()),
                incoming = self.socket.recv() => {
                    heard = Instant::now();
                    match incoming {
                        Some(Ok(message)) => self.hear(message, &limits).await,
                        Some(Err(error)) => Err(broken(&error, &limits)),
                        None => Err(End::Drop),
                    }
                }
                Some(answer) = waiting.recv() => self.deliver(answer, &limits).await,
                _ = pings.tick() => {
                    if heard.elapsed() > limits.ping_interval * 2 {
                        Err(End::Drop)
                    } else {
                        self.send(Message::Ping(no_payload()), &limits).await
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
                if self.credential.is_some() {
                    return Err(Close::TooManyInits.into());
                }
                self.credential = Some(self.authenticate(&payload).ok_or(Close::Forbidden)?);
                self.say(&Outgoing::ConnectionAck, limits).await
            }
            Incoming::Ping(payload) => self.say(&Outgoing::Pong { payload }, limits).await,
            Incoming::Pong => Ok(()),
            Incoming::Complete { id } => {
                self.operations.remove(id.as_str());
                Ok(())
            }
            Incoming::Subscribe { id, params } => {
                let credential = self.credential.clone().ok_or(Close::Unauthorized)?;
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
                self.start(id.into(), params, credential);
                Ok(())
            }
        }
    }

    /// By the token of the payload; by that of the handshake only when the payload has none.
    fn authenticate(&self, payload: &Map<String, Value>) -> Option<A::Credential> {
        let mut told = payload.iter().filter(|(key, _)| key.eq_ignore_ascii_case("authorization"));
        let token = match (told.next(), told.next()) {
            (None, _) => self.peer.bearer.as_deref(),
            (Some((_, Value::String(value))), None) => bearer_of(value),
            _ => None,
        };
        self.transport.authenticate.authenticate(token?)
    }

    fn start(&mut self, id: Arc<str>, params: Params, credential: A::Credential) {
        let named = params.extension("correlationId").and_then(CorrelationId::parse);
        let correlation = named.unwrap_or_else(|| self.transport.new_correlation());
        self.started += 1;
        let runner = Runner {
            transport: self.transport.clone(),
            id: id.clone(),
            number: self.started,
            answers: self.answers.clone(),
        };
        let surroundings = Surroundings { credential, correlation, at_least: self.at_least.clone() };
        let task = tokio::spawn(runner.run(params, surroundings)).abort_handle();
        self.operations.insert(id, Operation { number: self.started, task });
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
                tracing::info!(correlation.id = self.peer.correlation.as_str(), "a socket does not read and is dropped");
                Err(End::Drop)
            }
        }
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

/// Runs one operation and hands over what it answers.
struct Runner<E, A: Authenticate> {
    transport: Arc<Transport<E, A>>,
    id: Arc<str>,
    number: u64,
    answers: mpsc::Sender<Answer>,
}

impl<E: Executor, A: Authenticate> Runner<E, A> {
    async fn run(self, params: Params, mut surroundings: Surroundings<A::Credential>) {
        let correlation = surroundings.correlation.clone();
        match params.at_least() {
            Ok(None) => {}
            Ok(Some(at_least)) => surroundings.at_least = Some(at_least),
            Err(()) => {
                let error = coded(code::BAD_USER_INPUT, "`extensions.atLeast` is not a position", None);
                self.hand_over(Outcome::Refused(vec![error]), true).await;
                return;
            }
        }
        let limits = &self.transport.settings.limits;
        let prepared = match std::panic::catch_unwind(AssertUnwindSafe(|| prepare(params, limits))) {
            Ok(Ok(prepared)) => prepared,
            Ok(Err(error)) => {
                self.hand_over(Outcome::Refused(vec![error]), true).await;
                return;
            }
            Err(_) => {
                self.hand_over(panicked(&correlation), true).await;
                return;
            }
        };
        let request = surroundings.attach(prepared.request);
        match prepared.kind {
            OperationType::Query | OperationType::Mutation => {
                let outcome = execute(&self.transport.executor, request, &correlation).await;
                if self.hand_over(outcome, false).await {
                    self.complete().await;
                }
            }
            OperationType::Subscription => self.follow(request, &correlation).await,
        }
    }

    async fn follow(&self, request: async_graphql::Request, correlation: &CorrelationId) {
        let mut stream = AssertUnwindSafe(self.transport.executor.execute_stream(request, None)).catch_unwind();
        while let Some(item) = stream.next().await {
            let outcome = item.map_or_else(|_| panicked(correlation), |response| Outcome::of(response, correlation));
            if !self.hand_over(outcome, false).await {
                return;
            }
        }
        self.complete().await;
    }

    /// Whether the operation goes on. What was refused, and a code that ends a stream, become `error`, after which the
    /// protocol allows nothing.
    async fn hand_over(&self, outcome: Outcome, last: bool) -> bool {
        let mut at = None;
        let (text, last) = match &outcome {
            Outcome::Refused(errors) => (Outgoing::Error { id: &self.id, payload: errors }.text(), true),
            Outcome::Executed(response) if response.errors.iter().any(|error| ends_stream(code_of(error))) => {
                (Outgoing::Error { id: &self.id, payload: &response.errors }.text(), true)
            }
            Outcome::Executed(response) => {
                at = position(response).and_then(|value| AtLeast::parse(value.to_str().ok()?));
                (Outgoing::Next { id: &self.id, payload: &outcome }.text(), last)
            }
        };
        match text {
            Ok(text) => self.queue(text, last, at).await && !last,
            Err(error) => {
                tracing::error!(error = %error, "an answer could not be written as JSON");
                self.complete().await;
                false
            }
        }
    }

    async fn complete(&self) {
        if let Ok(text) = (Outgoing::Complete { id: &self.id }).text() {
            self.queue(text, true, None).await;
        }
    }

    /// Waits for room; false when the socket is gone.
    async fn queue(&self, text: String, last: bool, position: Option<AtLeast>) -> bool {
        let answer = Answer { id: self.id.clone(), number: self.number, text, last, position };
        self.answers.send(answer).await.is_ok()
    }
}

fn ends_stream(code: Option<&str>) -> bool {
    matches!(code, Some(code::CURSOR_EXPIRED | code::LAGGING))
}
