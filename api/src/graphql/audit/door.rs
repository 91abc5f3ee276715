//! Where refusals are noticed: at the permission check, at the token check, at the origin check.
//!
//! Noticing never changes an answer and never waits.

use crate::graphql::errors;
use crate::graphql::request::{credential, parts};
use crate::transport::{Authenticate, NotAuthenticated, OriginPolicy, Stirred};
use async_graphql::{Context, Error, Result};
use axum::{
    Router,
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::Response,
};
use daybook_app::energy::IngestError;
use daybook_app::{Credential, Denied, may};
use daybook_domain::{Action, ActionKind, PLATFORM_TENANT, TenantId};
use daybook_store::access::{AccessLog, Attempt, AttemptKind};
use uuid::Uuid;

/// Counts a refusal, and makes the error of it.
pub(crate) fn denied(ctx: &Context<'_>, denied: &Denied, target: TenantId) -> Error {
    note(ctx, denied.action, target);
    errors::denied(denied)
}

/// Whether the caller may read this. A refusal is counted, but its caller is not told of it: what may not be seen looks
/// like what is not there.
pub(crate) fn sees(ctx: &Context<'_>, action: Action, target: TenantId) -> Result<bool> {
    let sees = may(credential(ctx)?, action, target);
    if !sees {
        note(ctx, action, target);
    }
    Ok(sees)
}

/// Counts a refusal that nobody is told of.
pub(crate) fn note(ctx: &Context<'_>, action: Action, target: TenantId) {
    if let (Ok(parts), Ok(credential)) = (parts(ctx), credential(ctx)) {
        count(&parts.audit.access, credential, action, target);
    }
}

/// Counts a refusal of a known caller: in its own tenant's log, whatever it aimed at.
pub fn count(access: &AccessLog, credential: &Credential, action: Action, target: TenantId) {
    access.record(Attempt {
        kind: match action.kind() {
            ActionKind::Command => AttemptKind::Command,
            ActionKind::Read => AttemptKind::Read,
        },
        tenant: credential.tenant,
        actor: Some(credential.actor.id),
        action: action.as_str(),
        target: Some(target.to_string()),
    });
}

/// Counts the refusal of a call that records readings, if it is one.
pub(crate) fn count_ingest(access: &AccessLog, credential: &Credential, tenant: TenantId, failure: &IngestError) {
    if let IngestError::Denied(denied) = failure {
        count(access, credential, denied.action, tenant);
    }
}

/// A token check that counts tokens which nobody holds.
pub struct Watched<A> {
    inner: A,
    access: AccessLog,
}

impl<A> Watched<A> {
    pub fn new(inner: A, access: AccessLog) -> Self {
        Watched { inner, access }
    }
}

impl<A: Authenticate> Authenticate for Watched<A> {
    type Credential = A::Credential;

    async fn authenticate(&self, bearer: &str) -> Result<A::Credential, NotAuthenticated> {
        let credential = self.inner.authenticate(bearer).await;
        if matches!(credential, Err(NotAuthenticated::Unknown)) {
            self.access.record(Attempt {
                kind: AttemptKind::UnknownToken,
                tenant: PLATFORM_TENANT,
                actor: None,
                action: "authenticate",
                target: Some(self.access.token_hash(bearer)),
            });
        }
        credential
    }

    fn namespace(credential: &A::Credential) -> Uuid {
        A::namespace(credential)
    }

    fn tenant(credential: &A::Credential) -> Option<Uuid> {
        A::tenant(credential)
    }

    fn stirred(&self, bearer: &str) -> Stirred {
        self.inner.stirred(bearer)
    }

    fn is_same(one: &A::Credential, other: &A::Credential) -> bool {
        A::is_same(one, other)
    }
}

/// Puts a layer around routes that counts sockets refused to pages of foreign origins.
pub fn watch_origins(router: Router, origins: OriginPolicy, access: AccessLog) -> Router {
    router.layer(from_fn_with_state((origins, access), pass))
}

async fn pass(State((origins, access)): State<(OriginPolicy, AccessLog)>, request: Request, next: Next) -> Response {
    let foreign = (!origins.admits(request.headers())).then(|| {
        let origin = request.headers().get(header::ORIGIN).map(|origin| origin.as_bytes()).unwrap_or_default();
        // A header of the caller's making: only what an origin is made of.
        let plain = |byte: &&u8| byte.is_ascii_alphanumeric() || b"-._:/[]".contains(byte);
        origin.iter().filter(plain).map(|byte| char::from(*byte)).collect::<String>()
    });
    let response = next.run(request).await;
    if let Some(origin) = foreign
        && response.status() == StatusCode::FORBIDDEN
    {
        access.record(Attempt {
            kind: AttemptKind::ForeignOrigin,
            tenant: PLATFORM_TENANT,
            actor: None,
            action: "connect",
            target: Some(origin),
        });
    }
    response
}
