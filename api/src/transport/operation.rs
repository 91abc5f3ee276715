//! One operation on a socket, in a task of its own: what it answers goes into the socket's queue.
//!
//! It knows nothing of the socket. Where there is no room it waits, holding one finished answer and nothing else.

use std::{panic::AssertUnwindSafe, sync::Arc};

use async_graphql::{Executor, parser::types::OperationType};
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
    prepare::prepare,
    protocol::Outgoing,
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

/// The one line of log of an operation on a socket, written when it ends, however it ends.
struct Line {
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
            "socket operation"
        );
    }
}

/// A message of an operation on its way to the socket.
pub(super) struct Answer {
    pub(super) id: Arc<str>,
    pub(super) number: u64,
    pub(super) text: String,
    /// Nothing follows.
    pub(super) last: bool,
    /// Where a mutation's write went.
    pub(super) position: Option<AtLeast>,
}

/// Runs one operation and hands over what it answers.
pub(super) struct Runner<E, A: Authenticate> {
    pub(super) transport: Arc<Transport<E, A>>,
    pub(super) id: Arc<str>,
    pub(super) number: u64,
    pub(super) answers: mpsc::Sender<Answer>,
}

impl<E: Executor, A: Authenticate> Runner<E, A> {
    pub(super) async fn run(self, params: Params, mut surroundings: Surroundings<A::Credential>) {
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
        let mut line = Line {
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
                if self.hand_over(outcome, false).await {
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
            if !self.hand_over(outcome, false).await {
                running.ended(told);
                return;
            }
        }
        running.ended("OK");
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
