//! `POST /v1/readings`: readings in batches of any size up to a limit, as CSV, NDJSON or a JSON array.
//!
//! The body is read as it comes and recorded part by part, so memory does not grow with it; a file's order is kept,
//! because local times of a repeated hour are told apart by nothing else. Every row is accepted, a duplicate, or refused
//! with its index and a reason. Refuses to hold a number as binary floating point, to guess a unit, and to drop a row
//! silently: a call that breaks off says in its problem document what was recorded until then.

mod answer;
mod array;
mod csv;
mod lines;
mod rows;

#[cfg(test)]
mod tests;

pub use rows::ROW_BYTES_MAX;

use crate::graphql::Parts;
use crate::graphql::audit::door::count_ingest;
use crate::transport::{
    Authenticate, CORRELATION_HEADER, Caller, CorrelationId, IDEMPOTENCY_HEADER, Rates, bearer, command_id,
    idempotency_key, is_for,
};
use answer::{Problem, done};
use axum::Router;
use axum::body::BodyDataStream;
use axum::extract::Request;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use daybook_app::energy::Recording;
use daybook_app::{Call, Credential, verdict};
use daybook_domain::{Action, TenantId};
use futures_util::StreamExt;
use rows::Rows;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use uuid::Uuid;

/// The path.
pub const PATH: &str = "/v1/readings";

/// What a call may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a body.
    pub body_bytes_max: u64,
    /// Rows of a body.
    pub rows_max: u64,
    /// Calls at the same time; others are told to come back.
    pub calls_max: usize,
    /// How long the next bytes of a body may take.
    pub idle_max: Duration,
    /// How long a body may be waited for in all before its pace counts.
    pub grace: Duration,
    /// Bytes that must have come then for each second of waiting: whoever sends one at a time would have one of the calls
    /// for ever.
    pub bytes_per_s_min: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            body_bytes_max: 64 << 20,
            rows_max: 1_000_000,
            calls_max: 16,
            idle_max: Duration::from_secs(30),
            grace: Duration::from_secs(60),
            bytes_per_s_min: 1_024,
        }
    }
}

/// How long what a caller may do is taken for known while a body comes.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Who sends a body, as they were when it was asked about last.
struct Asked<'a> {
    token: &'a str,
    credential: &'a Credential,
    tenant: TenantId,
    at: Instant,
}

struct Endpoint<A> {
    parts: Arc<Parts>,
    authenticate: A,
    limits: Limits,
    calls: Arc<Semaphore>,
    rates: Rates,
}

/// The route.
pub fn router<A: Authenticate<Credential = Credential>>(
    parts: Arc<Parts>,
    authenticate: A,
    limits: Limits,
    rates: Rates,
) -> Router {
    let calls = Arc::new(Semaphore::new(limits.calls_max));
    let endpoint = Arc::new(Endpoint { parts, authenticate, limits, calls, rates });
    Router::new().route(PATH, any(move |request: Request| answer_to(endpoint.clone(), request)))
}

async fn answer_to<A: Authenticate<Credential = Credential>>(endpoint: Arc<Endpoint<A>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let correlation = parts.extensions.get::<CorrelationId>().cloned().or_else(|| CorrelationId::of(&parts.headers));
    let correlation = correlation.unwrap_or_else(|| CorrelationId::from(endpoint.parts.system.uuid_v7()));
    let mut body = body.into_data_stream();
    let mut response = match endpoint.serve(&parts, &mut body, &correlation).await {
        Ok(response) => response,
        Err(problem) => {
            if problem.lets_the_rest_in() {
                drain(&mut body, endpoint.limits.body_bytes_max).await;
            }
            problem.of(&correlation).into_response()
        }
    };
    if let Some(value) = correlation.header() {
        response.headers_mut().insert(CORRELATION_HEADER, value);
    }
    response
}

/// How long the rest of a body that is refused may take.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// Lets the rest of a body come in, within bounds: a sender that is cut off while it sends does not see the answer.
async fn drain(body: &mut BodyDataStream, bytes_max: u64) {
    let draining = async {
        let mut bytes = 0u64;
        while let Some(Ok(chunk)) = body.next().await {
            bytes += chunk.len() as u64;
            if bytes > bytes_max {
                break;
            }
        }
    };
    // Late or not: the answer goes out.
    let _ = tokio::time::timeout(DRAIN_MAX, draining).await;
}

impl<A: Authenticate<Credential = Credential>> Endpoint<A> {
    async fn serve(
        &self,
        parts: &axum::http::request::Parts,
        body: &mut BodyDataStream,
        correlation: &CorrelationId,
    ) -> Result<Response, Problem> {
        if parts.method != axum::http::Method::POST {
            return Err(Problem::method());
        }
        let headers = &parts.headers;
        let token = bearer(headers).ok_or_else(Problem::unauthenticated)?;
        let credential = self.authenticate.authenticate(token).await.map_err(Problem::not_authenticated)?;
        if !is_for(headers, A::tenant(&credential)) {
            return Err(Problem::foreign_tenant());
        }
        self.rates.account(A::namespace(&credential), A::tenant(&credential)).map_err(|r| Problem::too_often(&r))?;
        let credential = self.parts.rules.complete(credential).await.map_err(Problem::rules)?;
        let mut rows = Rows::of(headers)?;
        let tenant = tenant(parts.uri.query(), &credential)?;
        let key = idempotency_key(headers).map_err(|()| {
            Problem::bad(format!("`{IDEMPOTENCY_HEADER}` is one text of 1 to 255 printable characters, once"))
        })?;
        let told = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if told.is_some_and(|bytes| bytes > self.limits.body_bytes_max) {
            return Err(self.too_large());
        }
        let _permit = self.calls.clone().try_acquire_owned().map_err(|_| Problem::busy())?;
        let caller = parts.extensions.get::<Caller>().cloned().unwrap_or_default();
        let call = Call {
            command_id: key.map(|key| command_id(key, A::namespace(&credential))),
            correlation: correlation.as_str().to_owned(),
            ip: caller.ip.map(|ip| ip.to_string()),
            user_agent: caller.user_agent,
            ..Call::default()
        };
        let mut recording = self.parts.ingest.begin(&credential, tenant, call).await.map_err(|failure| {
            count_ingest(&self.parts.audit.access, &credential, tenant, &failure);
            Problem::ingest(failure)
        })?;
        let asked = Asked { token, credential: &credential, tenant, at: Instant::now() };
        let received = self.receive(body, &mut rows, &mut recording, asked).await;
        let outcome = match received {
            // Where it stopped depends on more than what was sent: a repeat would make other parts.
            Err(problem) if !problem.is_of_the_content() => {
                recording.break_off();
                Err(problem)
            }
            // Also after a mistake in the body: the rows before it were whole, and the report speaks of all of them.
            received => received.and(recording.finish().await.map(|_| ()).map_err(Problem::ingest)),
        };
        let report = recording.report();
        if let Some((tenant, _, position)) = report.written {
            self.parts.reads.wrote(credential.actor.id, tenant, position);
        }
        match outcome {
            Ok(()) => Ok(done(report, &self.parts.opaque)),
            Err(problem) => Err(problem.after(report, &self.parts.opaque)),
        }
    }

    /// Reads the body to its end and records it.
    async fn receive(
        &self,
        body: &mut BodyDataStream,
        rows: &mut Rows,
        recording: &mut Recording,
        mut asked: Asked<'_>,
    ) -> Result<(), Problem> {
        let mut bytes = 0u64;
        let mut waited = Duration::ZERO;
        loop {
            let due = u128::from(self.limits.bytes_per_s_min) * waited.as_millis() / 1_000;
            if waited > self.limits.grace && u128::from(bytes) < due {
                return Err(Problem::dripping(self.limits.bytes_per_s_min));
            }
            let since = Instant::now();
            let next = tokio::time::timeout(self.limits.idle_max, body.next());
            let next = next.await.map_err(|_| Problem::slow(self.limits.idle_max))?;
            waited += since.elapsed();
            let chunk = match next {
                None => break,
                Some(chunk) => chunk.map_err(|_| Problem::broken_off())?,
            };
            bytes += chunk.len() as u64;
            if bytes > self.limits.body_bytes_max {
                return Err(self.too_large());
            }
            self.ask_again(&mut asked).await?;
            let fed = rows.feed(&chunk);
            self.record(rows, recording).await?;
            fed.map_err(Problem::of_the_content)?;
        }
        let ended = rows.end();
        self.record(rows, recording).await?;
        ended.map_err(Problem::of_the_content)
    }

    /// A body may come for hours: whoever is put out meanwhile, or may record something else, records no more of it.
    async fn ask_again(&self, asked: &mut Asked<'_>) -> Result<(), Problem> {
        if asked.at.elapsed() < ASK_AGAIN {
            return Ok(());
        }
        asked.at = Instant::now();
        let now = self.authenticate.authenticate(asked.token).await.map_err(Problem::not_authenticated)?;
        let now = self.parts.rules.complete(now).await.map_err(Problem::rules)?;
        let of = |credential: &Credential| {
            (verdict(credential, Action::ReadingsRecord, asked.tenant), credential.actor, credential.tenant)
        };
        match of(&now) == of(asked.credential) {
            true => Ok(()),
            false => Err(Problem::changed()),
        }
    }

    /// Hands on the rows that were read so far.
    async fn record(&self, rows: &mut Rows, recording: &mut Recording) -> Result<(), Problem> {
        let read = rows.take();
        if rows.count() > self.limits.rows_max {
            return Err(Problem::too_large(format!(
                "a call has at most {} rows: send the rest in another one",
                self.limits.rows_max
            )));
        }
        let mut sent = Vec::with_capacity(read.len());
        for row in read {
            match row {
                Ok(row) => sent.push(row),
                Err(rejected) => recording.reject(rejected),
            }
        }
        recording.record(sent).await.map_err(Problem::ingest)
    }

    fn too_large(&self) -> Problem {
        let most = self.limits.body_bytes_max;
        Problem::too_large(format!("a body has at most {most} bytes: send it in parts"))
    }
}

/// The tenant that the query names, else the caller's own. Naming one widens nothing: its permission is asked for.
fn tenant(query: Option<&str>, credential: &Credential) -> Result<TenantId, Problem> {
    let mut tenant = None;
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("tenant", id)) if tenant.is_none() => {
                let id: Uuid = id.parse().map_err(|_| Problem::bad("`tenant` is the id of a tenant, a UUID"))?;
                tenant = Some(TenantId(id));
            }
            _ => return Err(Problem::bad("the query has one parameter at most: `tenant`")),
        }
    }
    Ok(tenant.unwrap_or(credential.tenant))
}
