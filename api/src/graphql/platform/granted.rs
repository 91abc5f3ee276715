//! The queries and the subscription of grants.

use super::grants::{Grant, GrantFilter, GrantOrder, READ_MODELS, own_membership, view};
use crate::graphql::changes::{ChangeKind, changes};
use crate::graphql::errors::{Code, error, internal};
use crate::graphql::filters::filter;
use crate::graphql::guard::guarded;
use crate::graphql::paging::{PageArgs, connection};
use crate::graphql::reads::failed;
use crate::graphql::request::{at_least, credential, parts, permit, resume, tenant_of};
use crate::graphql::scalars::{BigInt, Position};
use crate::graphql::sight::Sight;
use async_graphql::connection::Connection;
use async_graphql::{Context, InputObject, Object, Result, SimpleObject, Subscription};
use chrono::{DateTime, Utc};
use daybook_app::may;
use daybook_domain::rules::Verdict;
use daybook_domain::{Action, PLATFORM_TENANT, TenantId};
use daybook_projections::engine::Lanes;
use daybook_projections::platform::grants::{self, GrantField, GrantRow, Moment, Past, PastError};
use daybook_projections::read::filter::Filter;
use daybook_projections::{Grants, Scope};
use futures_util::{Stream, StreamExt};
use std::sync::Arc;
use uuid::Uuid;

/// A moment of the past: one of the two.
#[derive(InputObject)]
pub struct AsOf {
    /// Right after this moment of the tenant's history, e.g. the `position` of a mutation.
    pub position: Option<Position>,
    /// With all that was recorded by then, e.g. `"2025-01-31T12:00:00Z"`.
    pub time: Option<DateTime<Utc>>,
}

#[derive(Default)]
pub struct GrantQuery;

#[Object]
impl GrantQuery {
    /// One grant of a tenant. Null when there is none with this id, or none that you may read. Needs the permission
    /// `grant.read`, unless it is your own.
    async fn grant(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Id of the grant.")] id: Uuid,
        #[graphql(desc = "Id of the tenant; your own unless told.")] tenant: Option<Uuid>,
        #[graphql(desc = "Wait until this moment shows, e.g. the `position` of a mutation.")] at_least: Option<
            Position,
        >,
    ) -> Result<Option<Grant>> {
        let (tenant, credential) = (tenant_of(ctx, tenant)?, credential(ctx)?);
        let own = own_membership(credential, tenant);
        let may_all = may(credential, Action::GrantRead, tenant);
        if !may_all && own.is_none() {
            return Ok(None);
        }
        self::at_least(ctx, READ_MODELS, Lanes::Of(tenant), at_least).await?;
        let found = view(ctx, tenant, id).await?;
        Ok(found.filter(|view| may_all || own == Some(view.grant.membership_id)).map(Grant::of))
    }

    /// Who may use what in a tenant, a page at a time, revoked and expired grants among them. Needs the permission
    /// `grant.list`, unless the filter asks for your own membership.
    #[allow(clippy::too_many_arguments)]
    async fn grants(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Id of the tenant; your own unless told.")] tenant: Option<Uuid>,
        #[graphql(desc = "Which grants; all unless told.")] filter: Option<GrantFilter>,
        #[graphql(desc = "As it was at an earlier moment; as it is now unless told. What you may see is judged by \
                          your rights of today.")]
        as_of: Option<AsOf>,
        #[graphql(desc = "How many from the start, 1–200; 50 unless told.")] first: Option<i32>,
        #[graphql(desc = "Continue after this cursor.")] after: Option<String>,
        #[graphql(desc = "How many from the end, 1–200.")] last: Option<i32>,
        #[graphql(desc = "Continue before this cursor.")] before: Option<String>,
        #[graphql(desc = "What to sort by; the id decides between equals.", default)] order_by: GrantOrder,
        #[graphql(desc = "Wait until this moment shows.")] at_least: Option<Position>,
    ) -> Result<Connection<String, Grant, GrantCount>> {
        let tenant = tenant_of(ctx, tenant)?;
        let filter = self::filter(filter)?;
        let own = own_membership(credential(ctx)?, tenant);
        if !own.is_some_and(|own| filter.implies(GrantField::Member, &own.into())) {
            permit(ctx, Action::GrantList, tenant)?;
        }
        let parts = parts(ctx)?;
        let moment = as_of.map(|as_of| moment(ctx, tenant, as_of)).transpose()?;
        let kind = if moment.is_some() { "of the past" } else { "now" };
        let list = format!("grants v1 {tenant} {kind} {:?} {:?}", order_by.field, order_by.direction);
        let page = PageArgs::new(first, after, last, before)?.page(&parts.opaque, &list)?;
        let direction = order_by.direction.into();
        self::at_least(ctx, READ_MODELS, Lanes::Of(tenant), at_least).await?;
        let reader = parts.reads.reader();
        let scope = Scope::Tenant(tenant);
        if let Some(moment) = moment {
            let shown = parts.reads.shown(READ_MODELS, tenant)?;
            let past = reader.transaction(scope, async |s| grants::past(s, tenant, moment, shown).await).await;
            let mut past = past.map_err(of_past)?;
            // Of the platform's own journal.
            let off = reader.transaction(Scope::Tenant(PLATFORM_TENANT), async |s| {
                grants::off_on_platform(s, past.at, past.up_to).await
            });
            past.off_on_platform = off.await.map_err(of_past)?;
            let past = Arc::new(past);
            let slice = past.page(&filter, direction, &page).map_err(failed)?;
            let count = GrantCount { tenant, filter, of: Counted::Past(past.clone()) };
            return connection(
                &parts.opaque,
                &list,
                slice,
                count,
                |view| view.grant.cursor(),
                |view| Grant::of_past(view, past.clone()),
            );
        }
        let now = parts.system.utc();
        let slice = reader
            .transaction(scope, async |session| grants::page(session, tenant, &filter, now, direction, &page).await)
            .await
            .map_err(failed)?;
        let count = GrantCount { tenant, filter, of: Counted::Now(now) };
        connection(&parts.opaque, &list, slice, count, |view| view.grant.cursor(), Grant::of)
    }
}

fn moment(ctx: &Context<'_>, tenant: TenantId, as_of: AsOf) -> Result<Moment> {
    match (as_of.position, as_of.time) {
        (Some(Position(text)), None) => {
            let refused = |why: &str| error(Code::BadUserInput, format!("asOf.position cannot be used: {why}"));
            let (of, position) = parts(ctx)?.opaque.read_position(&text).map_err(|e| refused(&e.to_string()))?;
            if of == tenant { Ok(Moment::Position(position)) } else { Err(refused("it is one of another tenant")) }
        }
        (None, Some(time)) => Ok(Moment::Time(time)),
        _ => Err(error(Code::BadUserInput, "asOf names a moment in one way: give either position or time")),
    }
}

fn of_past(failure: PastError) -> async_graphql::Error {
    match failure {
        PastError::Read(failure) => failed(failure),
        PastError::TooMuch => error(Code::LimitExceeded, failure.to_string()),
        PastError::NoSuchPosition => error(Code::Stale, failure.to_string()),
        PastError::Event(ref cause) => internal(cause),
    }
}

/// Counted only when asked for.
pub struct GrantCount {
    tenant: TenantId,
    filter: Filter<GrantField>,
    of: Counted,
}

enum Counted {
    Now(DateTime<Utc>),
    Past(Arc<Past>),
}

#[Object]
impl GrantCount {
    /// How many grants there are on all pages.
    async fn total_count(&self, ctx: &Context<'_>) -> Result<BigInt> {
        let now = match &self.of {
            Counted::Past(past) => return Ok(BigInt::from(past.count(&self.filter))),
            Counted::Now(now) => *now,
        };
        let reader = parts(ctx)?.reads.reader();
        let count = reader.transaction(Scope::Tenant(self.tenant), async |session| {
            grants::count(session, self.tenant, &self.filter, now).await
        });
        Ok(BigInt::from(count.await.map_err(failed)?))
    }
}

/// A change of a grant.
#[derive(SimpleObject)]
pub struct GrantChange {
    /// Resume after this with `after`.
    pub position: Position,
    /// What happened to it.
    pub change: ChangeKind,
    /// The grant after the change.
    pub node: Option<Grant>,
    /// Names of the fields that differ, e.g. `["until", "version"]`.
    pub changed_fields: Vec<String>,
}

/// Names of the fields of [`Grant`] that differ between two rows.
fn changed_fields(before: Option<&GrantRow>, after: Option<&GrantRow>) -> Vec<String> {
    let (Some(b), Some(a)) = (before, after) else { return Vec::new() };
    let differ = [
        ("from", b.from_at != a.from_at),
        ("until", b.until_at != a.until_at),
        ("status", b.status != a.status),
        ("reason", b.reason != a.reason),
        ("grantedAt", b.granted_at != a.granted_at),
        ("version", b.version != a.version),
    ];
    differ.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name.to_owned()).collect()
}

#[derive(Default)]
pub struct GrantSubscription;

#[Subscription]
impl GrantSubscription {
    /// Every change of a tenant's grants after a position, without gap or duplicate, then those to come. Without
    /// `after`, from now on. What the clock, a membership or a module does to a grant is no change of it. Ends with
    /// `CURSOR_EXPIRED` when the position is older than what is kept. Needs the permission `grant.list`.
    async fn grant_changed(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Id of the tenant; your own unless told.")] tenant: Option<Uuid>,
        #[graphql(desc = "The last position you have seen.")] after: Option<Position>,
    ) -> Result<impl Stream<Item = Result<GrantChange>> + use<>> {
        let parts = parts(ctx)?.clone();
        let tenant = tenant_of(ctx, tenant)?;
        permit(ctx, Action::GrantList, tenant)?;
        let sight = Sight::of(Verdict::Always, credential(ctx)?);
        let after = match after {
            None => parts.reads.now::<Grants>(tenant).await?,
            Some(position) => resume(ctx, tenant, position)?,
        };
        let changed = changes::<Grants>(parts.clone(), tenant, after).map(move |change| {
            let change = change?;
            Ok(GrantChange {
                position: Position(parts.opaque.position(tenant, change.tenant_position)),
                change: ChangeKind::of(&change),
                changed_fields: changed_fields(change.before.as_ref(), change.after.as_ref()),
                node: change.after.map(Grant::present),
            })
        });
        guarded(ctx, Action::GrantList, tenant, sight, changed)
    }
}
