//! `deniedAttempts`: what was refused to whom, counted per minute.

use crate::graphql::filters::{IdFilter, OrBare, enum_filter, filter, filter_input};
use crate::graphql::paging::{PageArgs, connection};
use crate::graphql::reads::failed;
use crate::graphql::request::{parts, permit, tenant_of};
use crate::graphql::scalars::BigInt;
use async_graphql::connection::{Connection, EmptyFields};
use async_graphql::{Context, Enum, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use daybook_domain::{Action, TenantId};
use daybook_projections::Scope;
use daybook_projections::audit::{DeniedField, DeniedRow, denied_page, minute_of};
use daybook_store::access::AttemptKind;
use uuid::Uuid;

/// What was refused.
#[derive(Enum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeniedKind {
    /// A command that the caller's roles do not permit.
    Command,
    /// A read that they do not permit.
    Read,
    /// A token that nobody holds. In the platform's log.
    UnknownToken,
    /// A web page of a foreign origin that wanted a socket. In the platform's log.
    ForeignOrigin,
    /// A login with a wrong password, or of nobody. In the platform's log.
    FailedLogin,
}

impl From<DeniedKind> for AttemptKind {
    fn from(kind: DeniedKind) -> Self {
        match kind {
            DeniedKind::Command => Self::Command,
            DeniedKind::Read => Self::Read,
            DeniedKind::UnknownToken => Self::UnknownToken,
            DeniedKind::ForeignOrigin => Self::ForeignOrigin,
            DeniedKind::FailedLogin => Self::FailedLogin,
        }
    }
}

impl From<AttemptKind> for DeniedKind {
    fn from(kind: AttemptKind) -> Self {
        match kind {
            AttemptKind::Command => Self::Command,
            AttemptKind::Read => Self::Read,
            AttemptKind::UnknownToken => Self::UnknownToken,
            AttemptKind::ForeignOrigin => Self::ForeignOrigin,
            AttemptKind::FailedLogin => Self::FailedLogin,
        }
    }
}

/// Attempts of one minute that have everything else in common.
#[derive(SimpleObject, Clone)]
pub struct DeniedAttempt {
    pub kind: DeniedKind,
    /// Who tried; null for unknown callers, and in a minute with too many to tell apart.
    pub actor: Option<Uuid>,
    /// The permission that was missing, e.g. `tenant.rename`; `authenticate`, `login` or `connect` where it did not come to that.
    pub action: String,
    /// What it was aimed at: a tenant's id, 8 digits of the keyed hash of a token or of an e-mail address, or an origin. Null in a minute with too
    /// many to tell apart.
    pub target: Option<String>,
    pub first_at: DateTime<Utc>,
    pub last_at: DateTime<Utc>,
    /// How many times in that minute.
    pub count: BigInt,
}

impl From<DeniedRow> for DeniedAttempt {
    fn from(row: DeniedRow) -> Self {
        DeniedAttempt {
            kind: row.kind.into(),
            actor: row.actor,
            action: row.action,
            target: row.target,
            first_at: row.first_at,
            last_at: row.last_at,
            count: BigInt::from(row.count),
        }
    }
}

enum_filter! {
    /// A condition on what was refused, e.g. `{ eq: COMMAND }`. Every operator that is given must hold.
    DeniedKindFilter of DeniedKind as AttemptKind, "`COMMAND`.", "`[COMMAND, READ]`."
}

filter_input! {
    /// Which attempts; everything that is given must hold. E.g. `{ kind: { in: [UNKNOWN_TOKEN, FOREIGN_ORIGIN] } }`. A bare
    /// value is read as `{ eq: … }`.
    DeniedAttemptsFilter on DeniedField {
        /// Who tried, e.g. `{ eq: "0190f3e0-0000-7000-8000-000000000001" }`.
        actor: OrBare<IdFilter> => DeniedField::Actor,
        /// What was refused, e.g. `{ eq: READ }`.
        kind: OrBare<DeniedKindFilter> => DeniedField::Kind,
    }
    span DeniedField::Minute, minute_of, {
        /// In the minute of that moment or later, e.g. `"2025-01-01T00:00:00Z"`.
        from,
        /// In minutes that begin before then, e.g. `"2025-02-01T00:00:00Z"`.
        to,
    }
}

fn list(tenant: TenantId) -> String {
    format!("deniedAttempts v1 {tenant}")
}

#[derive(Default)]
pub struct DenialsQuery;

#[Object]
impl DenialsQuery {
    /// What was refused to a tenant's callers, newest first, counted per minute. Needs the permission `audit.read`. Rows
    /// appear about a second after the fact and are kept for 90 days. Callers that nobody knows are in the platform's log.
    async fn denied_attempts(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Whose; your own tenant unless told.")] tenant: Option<Uuid>,
        #[graphql(desc = "Which attempts; all unless told.")] filter: Option<DeniedAttemptsFilter>,
        #[graphql(desc = "How many, 1–200; 50 unless told.")] first: Option<i32>,
        #[graphql(desc = "Continue after this cursor.")] after: Option<String>,
    ) -> Result<Connection<String, DeniedAttempt, EmptyFields>> {
        let tenant = tenant_of(ctx, tenant)?;
        permit(ctx, Action::AuditRead, tenant)?;
        let parts = parts(ctx)?;
        let filter = self::filter(filter)?;
        let page = PageArgs::new(first, after, None, None)?.page(&parts.opaque, &list(tenant))?;
        let read = parts
            .reads
            .reader()
            .transaction(Scope::Tenant(tenant), async |session| denied_page(session, tenant, &filter, &page).await);
        let slice = read.await.map_err(failed)?;
        connection(&parts.opaque, &list(tenant), slice, EmptyFields, DeniedRow::cursor, DeniedAttempt::from)
    }
}
