//! `auditTrail`: every event of a tenant, newest first.

use super::detail::{Change, Hidden, PageDetails};
use crate::graphql::filters::{BigIntFilter, DateTimeFilter, IdFilter, OrBare, TextFilter, filter, filter_input};
use crate::graphql::paging::{PageArgs, connection};
use crate::graphql::reads::failed;
use crate::graphql::request::{at_least, parts, permit, tenant_of};
use crate::graphql::scalars::{BigInt, Position};
use async_graphql::connection::{Connection, EmptyFields};
use async_graphql::{ComplexObject, Context, Enum, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use daybook_domain::{Action, TenantId};
use daybook_projections::audit::{self, AuditField, AuditRow};
use daybook_projections::engine::Lanes;
use daybook_projections::{Audit, Scope, SeriesModel};
use std::sync::Arc;
use uuid::Uuid;

/// What kind of party acted.
#[derive(Enum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum ActorKind {
    /// A person, signed in.
    Account,
    /// A machine with a credential of its own.
    Service,
    /// Daybook itself.
    System,
}

pub(super) fn kind_of(text: Option<&str>) -> Option<ActorKind> {
    match text {
        Some("account") => Some(ActorKind::Account),
        Some("service") => Some(ActorKind::Service),
        Some("system") => Some(ActorKind::System),
        _ => None,
    }
}

/// What an event is about.
#[derive(SimpleObject, Clone)]
pub struct AuditSubject {
    /// E.g. `tenant`, `membership`, `device`.
    #[graphql(name = "type")]
    pub kind: String,
    pub id: Uuid,
}

/// One event: who did what, when, and what it changed.
#[derive(SimpleObject, Clone)]
#[graphql(complex)]
pub struct AuditEntry {
    /// The moment of the event: read with `atLeast`, or subscribe `after` it.
    pub position: Position,
    /// 1, 2, 3 … within the tenant, without a gap: the event's place in the tenant's audit tree, which `daybook verify`
    /// checks, is one less.
    pub ordinal: BigInt,
    pub recorded_at: DateTime<Utc>,
    pub event_id: Uuid,
    /// E.g. `platform.tenant.renamed`.
    pub event_type: String,
    /// Who did it.
    pub actor: Option<Uuid>,
    pub actor_kind: Option<ActorKind>,
    /// For whom, if the actor acted for another.
    pub on_behalf_of: Option<Uuid>,
    /// The permission that the command needed, e.g. `tenant.rename`.
    pub command: Option<String>,
    /// The `clientMutationId`, or the id that was made up in its place.
    pub command_id: Option<Uuid>,
    /// Binds everything that one request caused; answers carry it as `X-Correlation-Id`.
    pub correlation_id: Option<String>,
    pub subject: AuditSubject,
    /// The subject's version after the event.
    pub sequence: BigInt,
    #[graphql(skip)]
    page: Arc<PageDetails>,
}

#[ComplexObject]
impl AuditEntry {
    /// Old and new values, by path; at most 200. Of readings, how many and of when.
    async fn changes(&self, ctx: &Context<'_>) -> Result<Vec<Change>> {
        let detail = self.page.of_event(ctx, self.event_id).await?;
        let hidden = Hidden::of(ctx, self.page.tenant(), &self.subject.kind)?;
        Ok(detail.changes.iter().map(|change| hidden.seen(Change::from(change))).collect())
    }

    /// True when old values are left out because more than 5,000 events or 16 MiB would have to be read for this page, or
    /// when there are more changes than are told.
    async fn truncated(&self, ctx: &Context<'_>) -> Result<bool> {
        Ok(self.page.of_event(ctx, self.event_id).await?.truncated)
    }

    /// True when a key is missing or a field damaged, so that the content cannot be read. This is a fault, no erasure.
    async fn sealed(&self, ctx: &Context<'_>) -> Result<bool> {
        Ok(self.page.of_event(ctx, self.event_id).await?.sealed)
    }

    /// True when something of it was about a person whose data has been erased.
    async fn erased(&self, ctx: &Context<'_>) -> Result<bool> {
        let detail = self.page.of_event(ctx, self.event_id).await?;
        Ok(detail.caller_erased || detail.changes.iter().any(|change| change.erased))
    }

    /// Where the request came from, e.g. `192.0.2.7`. Personal data of the actor.
    async fn ip(&self, ctx: &Context<'_>) -> Result<Option<String>> {
        Ok(self.page.of_event(ctx, self.event_id).await?.ip.clone())
    }

    /// The program that sent the request. Personal data of the actor.
    async fn user_agent(&self, ctx: &Context<'_>) -> Result<Option<String>> {
        Ok(self.page.of_event(ctx, self.event_id).await?.user_agent.clone())
    }
}

impl AuditEntry {
    pub(super) fn of(row: AuditRow, position: Position, page: Arc<PageDetails>) -> Self {
        AuditEntry {
            position,
            ordinal: BigInt::from(row.tenant_position),
            recorded_at: row.recorded_at,
            event_id: row.event_id,
            event_type: row.event_type,
            actor: row.actor,
            actor_kind: kind_of(row.actor_kind.as_deref()),
            on_behalf_of: row.on_behalf_of,
            command: row.command,
            command_id: row.command_id,
            correlation_id: row.correlation,
            subject: AuditSubject { kind: row.stream_type, id: row.stream_id },
            sequence: BigInt::from(row.sequence),
            page,
        }
    }
}

filter_input! {
    /// Which events; everything that is given must hold. E.g. what two people did to devices in January:
    /// `{ actor: { in: ["0190f3e0-0000-7000-8000-000000000001"] }, subjectType: { eq: "device" },
    /// from: "2025-01-01T00:00:00Z", to: "2025-02-01T00:00:00Z" }`. A bare value is read as `{ eq: … }`.
    AuditTrailFilter on AuditField {
        /// Its number within the tenant, e.g. `{ gt: "100" }`.
        ordinal: BigIntFilter => AuditField::Ordinal,
        /// When it was recorded, e.g. `{ gte: "2025-01-01T00:00:00Z" }`.
        recorded_at: DateTimeFilter => AuditField::RecordedAt,
        /// Who did it, e.g. `{ eq: "0190f3e0-0000-7000-8000-000000000001" }`.
        actor: OrBare<IdFilter> => AuditField::Actor,
        /// What kind of thing it was done to, e.g. `{ in: ["device", "readings"] }`.
        subject_type: OrBare<TextFilter> => AuditField::SubjectType,
        /// What it was done to, e.g. `{ eq: "0190f3e0-0000-7000-8000-000000000001" }`.
        subject_id: OrBare<IdFilter> => AuditField::Subject,
        /// E.g. `{ eq: "platform.tenant.renamed" }` or `{ startsWith: "platform." }`.
        event_type: OrBare<TextFilter> => AuditField::EventType,
        /// The `clientMutationId`, e.g. `{ eq: "0190f3e0-0000-7000-8000-000000000001" }`.
        command_id: OrBare<IdFilter> => AuditField::CommandId,
        /// The `X-Correlation-Id` of the request, e.g. `{ eq: "import-7" }`.
        correlation_id: OrBare<TextFilter> => AuditField::Correlation,
    }
    span AuditField::RecordedAt, std::convert::identity, {
        /// Recorded then or later, e.g. `"2025-01-01T00:00:00Z"`.
        from,
        /// Recorded before then, e.g. `"2025-02-01T00:00:00Z"`.
        to,
    }
}

fn list(tenant: TenantId) -> String {
    format!("auditTrail v1 {tenant}")
}

#[derive(Default)]
pub struct TrailQuery;

#[Object]
impl TrailQuery {
    /// Every event of a tenant, newest first: who did what, when, and the old and new values. Needs the permission
    /// `audit.read`. What is recorded while you page comes before the first page, so nothing is missed or seen twice.
    #[allow(clippy::too_many_arguments)]
    async fn audit_trail(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Whose; your own tenant unless told.")] tenant: Option<Uuid>,
        #[graphql(desc = "Which events; all unless told.")] filter: Option<AuditTrailFilter>,
        #[graphql(desc = "How many, 1–200; 50 unless told.")] first: Option<i32>,
        #[graphql(desc = "Continue after this cursor.")] after: Option<String>,
        #[graphql(desc = "Wait until this moment shows, e.g. the `position` of a mutation.")] at_least: Option<
            Position,
        >,
    ) -> Result<Connection<String, AuditEntry, EmptyFields>> {
        let tenant = tenant_of(ctx, tenant)?;
        permit(ctx, Action::AuditRead, tenant)?;
        let parts = parts(ctx)?;
        let filter = self::filter(filter)?;
        let page = PageArgs::new(first, after, None, None)?.page(&parts.opaque, &list(tenant))?;
        self::at_least(ctx, &[Audit::NAME], Lanes::Of(tenant), at_least).await?;
        let read = parts
            .reads
            .reader()
            .transaction(Scope::Tenant(tenant), async |session| audit::page(session, tenant, &filter, &page).await);
        let slice = read.await.map_err(failed)?;
        let details = Arc::new(PageDetails::of(tenant, &slice.rows));
        connection(&parts.opaque, &list(tenant), slice, EmptyFields, AuditRow::cursor, |row| {
            let position = Position(parts.opaque.position(tenant, row.tenant_position));
            AuditEntry::of(row, position, details.clone())
        })
    }
}
