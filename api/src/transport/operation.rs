//! One operation on a socket or an event stream, in a task of its own: what it answers goes into the queue of either.
//!
//! It knows nothing of sockets and streams. Where there is no room it waits, holding one finished answer and nothing else.

use std::{panic::AssertUnwindSafe, sync::Arc};

use async_graphql::{Executor, ServerError, parser::types::OperationType};
use futures_util::StreamExt;
use tokio::sync::mpsc;

use crate::metrics::Running;

use super::{
    Authenticate, Params, Surroundings, Transport,
    context::{AtLeast, CorrelationId},
    execute,
    fault::{Outcome, code, code_of, coded},
    order::Order,
    panicked, position,
    prepare::{Prepared, prepare},
};

/// What a kind of operation is called in logs and metrics.
pub(super) fn kind(kind: OperationType) -> &'static str {
    match kind {
        OperationType::Query => "query",
        OperationType::Mutation => "mutation",
        OperationType::Subscription => "subscription",
    }
}

/// As much of an operation's name as a line of log takes.
pub(super) fn short(name: &str) -> String {
    name.chars().take(64).collect()
}

/// The one line of log of an operation, written when it ends, however it ends.
struct Line {
    what: &'static str,
    correlation: CorrelationId,
    name: Option<String>,
    running: Running,
}

impl Drop for Line {
    fn drop(&mut self) {
        tracing::info!(
            correlation.id = self.correlation.as_str(),
            duration_ms = self.running.elapsed().as_secs_f64() * 1_000.0,
            operation.name = self.name.as_deref(),
            operation.kind = self.running.kind(),
            operation.outcome = self.running.outcome(),
            "{}",
            self.what
        );
    }
}

/// How an operation's answers are written for whoever asked: as messages of a socket, or as events of a stream.
pub(super) trait Speak: Send + Sync + 'static {
    type Message: Send + 'static;
    /// What the operation's line of log is called.
    const LINE: &'static str;

    /// What came of it; more may follow. `at`: where a mutation's write went.
    fn next(&self, outcome: &Outcome, at: Option<AtLeast>) -> Result<Self::Message, serde_json::Error>;
    /// Why it ends here. Nothing follows.
    fn error(&self, errors: &[ServerError]) -> Result<Self::Message, serde_json::Error>;
    /// Nothing follows.
    fn complete(&self) -> Result<Self::Message, serde_json::Error>;
}

/// An operation that runs; dropping it cancels it.
pub(super) struct Task(tokio::task::AbortHandle);

impl Task {
    pub(super) fn spawn(operation: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(operation).abort_handle())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs one operation and hands over what it answers.
pub(super) struct Runner<E, A: Authenticate, S: Speak> {
    pub(super) transport: Arc<Transport<E, A>>,
    pub(super) speak: S,
    pub(super) answers: mpsc::Sender<S::Message>,
}

impl<E: Executor, A: Authenticate, S: Speak> Runner<E, A, S> {
    /// From its parameters to its end.
    pub(super) async fn run(self, params: Params, mut surroundings: Surroundings<A::Credential>) {
        match params.at_least() {
            Ok(None) => {}
            Ok(Some(at_least)) => surroundings.at_least = Some(at_least),
            Err(()) => {
                return self.refuse(coded(code::BAD_USER_INPUT, "`extensions.atLeast` is not a position", None)).await;
            }
        }
        let limits = &self.transport.settings.limits;
        match std::panic::catch_unwind(AssertUnwindSafe(|| prepare(params, limits))) {
            Ok(Ok(prepared)) => self.carry_out(prepared, surroundings).await,
            Ok(Err(error)) => self.refuse(error).await,
            Err(_) => {
                self.hand_over(panicked(&surroundings.correlation)).await;
            }
        }
    }

    /// Tells why it is not executed.
    pub(super) async fn refuse(self, error: ServerError) {
        self.hand_over(Outcome::Refused(vec![error])).await;
    }

    /// Executes it and follows it to its end.
    pub(super) async fn carry_out(self, prepared: Prepared, surroundings: Surroundings<A::Credential>) {
        let correlation = surroundings.correlation.clone();
        let mut line = Line {
            what: S::LINE,
            correlation: correlation.clone(),
            name: prepared.request.operation_name.as_deref().map(short),
            running: self.transport.settings.metrics.begin(kind(prepared.kind)),
        };
        let request = surroundings.attach(prepared.request);
        match prepared.kind {
            OperationType::Query | OperationType::Mutation => {
                let outcome = execute(&self.transport.executor, request, &prepared.order, &correlation).await;
                line.running.ended(outcome.label());
                drop(line);
                if self.hand_over(outcome).await {
                    self.complete().await;
                }
            }
            OperationType::Subscription => self.follow(request, &prepared.order, &correlation, &mut line.running).await,
        }
    }

    async fn follow(
        &self,
        request: async_graphql::Request,
        order: &Order,
        correlation: &CorrelationId,
        running: &mut Running,
    ) {
        let mut stream = AssertUnwindSafe(self.transport.executor.execute_stream(request, None)).catch_unwind();
        while let Some(item) = stream.next().await {
            let outcome = item
                .map_or_else(|_| panicked(correlation), |response| Outcome::of(order.arranged(response), correlation));
            let told = outcome.label();
            if !self.hand_over(outcome).await {
                running.ended(told);
                return;
            }
        }
        running.ended("OK");
        self.complete().await;
    }

    /// Whether the operation goes on. What was refused, and a code that ends a stream, are the last word.
    async fn hand_over(&self, outcome: Outcome) -> bool {
        let (message, last) = match &outcome {
            Outcome::Refused(errors) => (self.speak.error(errors), true),
            Outcome::Executed(response) if response.errors.iter().any(|error| ends_stream(code_of(error))) => {
                (self.speak.error(&response.errors), true)
            }
            Outcome::Executed(response) => {
                let at = position(response).and_then(|value| AtLeast::parse(value.to_str().ok()?));
                (self.speak.next(&outcome, at), false)
            }
        };
        match message {
            Ok(message) => self.queue(message).await && !last,
            Err(error) => {
                tracing::error!(error = %error, "an answer could not be written as JSON");
                self.complete().await;
                false
            }
        }
    }

    async fn complete(&self) {
        if let Ok(message) = self.speak.complete() {
            self.queue(message).await;
        }
    }

    /// Waits for room; false when whoever asked is gone.
    async fn queue(&self, message: S::Message) -> bool {
        self.answers.send(message).await.is_ok()
    }
}

fn ends_stream(code: Option<&str>) -> bool {
    matches!(code, Some(code::CURSOR_EXPIRED | code::LAGGING))
}
