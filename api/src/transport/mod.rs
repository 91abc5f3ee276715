//! GraphQL over HTTP, over Server-Sent Events and over WebSocket, to the letter of the three specifications.
//!
//! The handlers are ours; parsing, validation and execution are async-graphql's, behind its `Executor`. What the
//! library leaves open is closed here: mutations by GET or from a web form, batches, aliases without end, documents
//! that exhaust the stack, wrong close codes, variables that were left out. Nothing here knows the schema, a tenant
//! or a permission: a request carries its [`Authenticate::Credential`], [`CorrelationId`] and, when asked for,
//! [`AtLeast`] as data, and the resolvers do the rest.
//!
//! An event stream (`Accept: text/event-stream`) is an HTTP request like any other whose answer goes on: what is said of
//! HTTP holds for it.
//!
//! | | HTTP | an operation on a socket |
//! |---|---|---|
//! | credential | `Authorization: Bearer …`, and `X-Tenant-ID` must be its tenant | the same in the payload of `connection_init` or in the handshake |
//! | correlation id | `X-Correlation-Id` | `extensions.correlationId` |
//! | command id of a lone mutation | `Idempotency-Key` | |
//! | at least as new as | `Daybook-At-Least` or `extensions.atLeast` | `extensions.atLeast`, else the socket's last write |
//! | go on after | `Last-Event-ID` or the argument `after` | the argument `after` |

mod caller;
mod context;
mod cost;
mod edge;
pub mod fault;
mod http;
mod idempotency;
mod limits;
mod listen;
mod negotiate;
mod nulls;
mod operation;
mod order;
mod origin;
mod params;
mod prepare;
mod problem;
mod protocol;
mod rate;
mod resume;
mod rewrite;
mod scan;
mod sockets;
mod sse;
mod strangers;
mod ws;

use std::{panic::AssertUnwindSafe, pin::Pin, sync::Arc};

use async_graphql::{Executor, Response};
use axum::{Router, extract::Request, routing::any};
use daybook_app::identity::Shut;
use futures_util::FutureExt;
use tokio::sync::watch;
use uuid::Uuid;

pub use caller::{Caller, Network, NetworkError};
pub use context::{AtLeast, CorrelationId};
pub(crate) use context::{bearer, idempotency_key, is_for};
pub(crate) use edge::method_word;
pub use edge::{Edge, TRACE_HEADER, surround};
pub(crate) use idempotency::command_id;
pub use limits::{Limits, SocketLimits};
pub use listen::{Patience, serve};
pub(crate) use negotiate::is_json;
pub use nulls::SpecNulls;
pub use origin::OriginPolicy;
pub use rate::{RateLimits, Rates, TooOften};
pub use sockets::Sockets;
pub use strangers::StrangerLimits;

use crate::metrics::Metrics;
use fault::{Outcome, internal};
use order::Order;
use params::Params;

/// The response header that tells the position of the caller's write; resolvers set it, the transport passes it on.
pub const POSITION_HEADER: &str = "daybook-position";
/// The request header that asks for an answer at least as new as a position.
pub const AT_LEAST_HEADER: &str = "daybook-at-least";
/// The header that names a request in logs and events; echoed, or made up when absent.
pub const CORRELATION_HEADER: &str = "x-correlation-id";

/// The request header with which an event stream is taken up again: the `id` of the last event that came.
pub const LAST_EVENT_HEADER: &str = "last-event-id";

/// The request header that makes a mutation repeatable: the command id of the one mutation in the document.
pub const IDEMPOTENCY_HEADER: &str = "idempotency-key";

/// The request header that names the tenant a caller means to work in. It widens nothing: it must be the one of the
/// credential.
pub const TENANT_HEADER: &str = "x-tenant-id";

/// Why a token lets nobody in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotAuthenticated {
    /// Nobody holds it, or not any more.
    Unknown,
    /// Somebody does, and their tenant lets nobody in.
    Shut(Shut),
    /// That cannot be told at the moment.
    Unavailable,
}

/// Resolves when a token is to be asked about again.
pub type Stirred = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Who is behind a bearer token.
pub trait Authenticate: Send + Sync + 'static {
    /// What resolvers find in their context.
    type Credential: Clone + Send + Sync + 'static;

    /// The credential of a token. The token is as sent, without `Bearer`.
    fn authenticate(&self, bearer: &str) -> impl Future<Output = Result<Self::Credential, NotAuthenticated>> + Send;

    /// Under whose id the command ids of this caller's `Idempotency-Key`s are made: the same key of another caller is
    /// another command.
    fn namespace(credential: &Self::Credential) -> Uuid;

    /// The tenant that a credential is of, where there are tenants.
    fn tenant(_credential: &Self::Credential) -> Option<Uuid> {
        None
    }

    /// Resolves once something about who is behind the token has changed since this call, or its time is up. Sockets and
    /// event streams wait for it.
    fn stirred(&self, _bearer: &str) -> Stirred {
        Box::pin(std::future::pending())
    }

    /// Whether one credential allows what another does.
    fn is_same(_one: &Self::Credential, _other: &Self::Credential) -> bool {
        true
    }
}

impl<A: Authenticate> Authenticate for Arc<A> {
    type Credential = A::Credential;

    fn authenticate(&self, bearer: &str) -> impl Future<Output = Result<A::Credential, NotAuthenticated>> + Send {
        self.as_ref().authenticate(bearer)
    }

    fn namespace(credential: &A::Credential) -> Uuid {
        A::namespace(credential)
    }

    fn tenant(credential: &A::Credential) -> Option<Uuid> {
        A::tenant(credential)
    }

    fn stirred(&self, bearer: &str) -> Stirred {
        self.as_ref().stirred(bearer)
    }

    fn is_same(one: &A::Credential, other: &A::Credential) -> bool {
        A::is_same(one, other)
    }
}

/// Everything that the endpoint needs to be told.
#[derive(Clone)]
pub struct Settings {
    pub limits: Limits,
    pub origins: OriginPolicy,
    /// Makes up correlation ids.
    pub ids: Arc<dyn Fn() -> Uuid + Send + Sync>,
    /// Counts the open sockets and event streams; keep a clone to wait for their end.
    pub sockets: Sockets,
    /// Turns true when the server stops: sockets are closed with 1001, event streams end, new ones are refused. A
    /// dropped sender changes nothing.
    pub shutdown: watch::Receiver<bool>,
    /// Counts operations.
    pub metrics: Metrics,
    /// How often an account and its tenant may ask.
    pub rates: Rates,
    /// Mutations that need no credential: a document of nothing else may come without one, and is executed without one.
    pub open: &'static [&'static str],
}

/// `GET` and `POST /graphql`, event streams and the WebSocket upgrade on the same path.
pub fn router<E: Executor, A: Authenticate>(executor: E, authenticate: A, settings: Settings) -> Router {
    let transport = Arc::new(Transport { executor, authenticate, settings });
    let cross_origin = transport.settings.origins.cross_origin();
    let router = Router::new()
        .merge(crate::graphiql::router(&crate::graphiql::examples()))
        .route("/graphql", any(move |request: Request| http::answer(transport.clone(), request)));
    match cross_origin {
        Some(layer) => router.layer(layer),
        None => router,
    }
}

/// The endpoint, shared by all requests and sockets.
struct Transport<E, A> {
    executor: E,
    authenticate: A,
    settings: Settings,
}

impl<E: Executor, A: Authenticate> Transport<E, A> {
    fn new_correlation(&self) -> CorrelationId {
        CorrelationId::from((self.settings.ids)())
    }

    /// Waits until the server stops.
    fn stopping(&self) -> impl Future<Output = ()> + Send + use<E, A> {
        let mut shutdown = self.settings.shutdown.clone();
        async move {
            if shutdown.wait_for(|stop| *stop).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// What surrounds an operation.
struct Surroundings<C> {
    /// None for what needs none.
    credential: Option<C>,
    correlation: CorrelationId,
    at_least: Option<AtLeast>,
    caller: Caller,
}

impl<C: Clone + Send + Sync + 'static> Surroundings<C> {
    fn attach(&self, request: async_graphql::Request) -> async_graphql::Request {
        let request = request.data(self.correlation.clone()).data(self.caller.clone());
        let request = match &self.credential {
            Some(credential) => request.data(credential.clone()),
            None => request,
        };
        match &self.at_least {
            Some(at_least) => request.data(at_least.clone()),
            None => request,
        }
    }
}

/// Executes a query or mutation. A panic in a resolver ends here.
async fn execute<E: Executor>(
    executor: &E,
    request: async_graphql::Request,
    order: &Order,
    correlation: &CorrelationId,
) -> Outcome {
    let response = AssertUnwindSafe(executor.execute(request)).catch_unwind().await;
    response.map_or_else(|_| panicked(correlation), |response| Outcome::of(order.arranged(response), correlation))
}

/// The answer in place of a panic; the panic hook has written down where it happened.
fn panicked(correlation: &CorrelationId) -> Outcome {
    tracing::error!(correlation.id = correlation.as_str(), "a resolver panicked");
    Outcome::Refused(vec![internal(correlation)])
}

/// The position header of a response, if a resolver set it.
fn position(response: &Response) -> Option<&axum::http::HeaderValue> {
    response.http_headers.get(POSITION_HEADER)
}
