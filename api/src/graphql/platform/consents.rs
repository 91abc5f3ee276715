//! Consents: what other tenants, providers, may read of a tenant, and what a provider may read of others.

use super::target::{Target, target_inputs};
use crate::graphql::audit::door::{denied, sees};
use crate::graphql::filters::{DateTimeFilter, IdFilter, filter, filter_input};
use crate::graphql::paging::{OrderDirection, PageArgs, connection};
use crate::graphql::reads::failed;
use crate::graphql::request::{Receipt, at_least, call, credential, parts, permit, receipt, tenant_of};
use crate::graphql::scalars::{BigInt, Position};
use async_graphql::connection::Connection;
use async_graphql::{ComplexObject, Context, Enum, InputObject, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use daybook_app::authorize;
use daybook_domain::platform::consent::{ConsentAction as Consented, ConsentCommand, ConsentScope, consent_id};
use daybook_domain::value::{Name, Reason};
use daybook_domain::{Action, InvalidValue, TenantId};
use daybook_projections::engine::Lanes;
use daybook_projections::platform::consents::{self as rows, ConsentField, ConsentRow, Side};
use daybook_projections::read::filter::Filter;
use daybook_projections::{Consents, ReadModel, Scope};
use uuid::Uuid;

const READ_MODELS: &[&str] = &[Consents::NAME];

/// What can be consented to: reading, and of these things only.
#[derive(Enum, Clone, Copy, PartialEq, Eq, Debug)]
#[graphql(remote = "daybook_domain::platform::consent::ConsentAction")]
pub enum ConsentAction {
    /// Devices, with their sites.
    ReadDevices,
    /// What they measured.
    ReadReadings,
}

/// Whether a consent was taken back. Whether it has ended, `inForce` tells.
#[derive(Enum, Clone, Copy, PartialEq, Eq, Debug)]
#[graphql(remote = "daybook_projections::platform::consents::ConsentStatus")]
pub enum ConsentStatus {
    /// Not revoked; it may have ended all the same.
    Granted,
    /// Until it is given anew.
    Revoked,
}

/// That a tenant, the customer, lets another one, the provider, read certain things.
#[derive(SimpleObject, Clone)]
#[graphql(complex)]
pub struct Consent {
    /// Follows from customer and provider: given anew, it is the same consent.
    pub id: Uuid,
    /// Id of the tenant that has consented.
    pub customer: Uuid,
    /// Id of the tenant that may read.
    pub provider: Uuid,
    /// What may be read.
    pub actions: Vec<ConsentAction>,
    /// The name of the site it is about; null: all.
    pub site: Option<String>,
    /// Ids of the devices it is about; empty: all.
    pub devices: Vec<Uuid>,
    /// Whether it was taken back.
    pub status: ConsentStatus,
    /// The first moment at which it allows nothing any more.
    pub until: DateTime<Utc>,
    /// Why it was given or revoked: of the last of these.
    pub reason: String,
    /// Number of changes so far; send it back as `expectedVersion` to change only what you have seen.
    pub version: BigInt,
    /// When it was given last.
    pub granted_at: DateTime<Utc>,
    /// When it changed last.
    pub changed_at: DateTime<Utc>,
    #[graphql(skip)]
    row: ConsentRow,
}

#[ComplexObject]
impl Consent {
    /// Whether it allows at the moment of the query.
    async fn in_force(&self, ctx: &Context<'_>) -> Result<bool> {
        Ok(self.row.holds_at(parts(ctx)?.system.utc()))
    }
}

impl From<ConsentRow> for Consent {
    fn from(row: ConsentRow) -> Self {
        Consent {
            id: row.consent_id,
            customer: row.tenant_id,
            provider: row.provider_id,
            actions: row.actions.iter().map(|action| ConsentAction::from(*action)).collect(),
            site: row.site.clone(),
            devices: row.devices.iter().copied().collect(),
            status: row.status.into(),
            until: row.until_at,
            reason: row.reason.clone(),
            version: BigInt(row.version),
            granted_at: row.granted_at,
            changed_at: row.changed_at,
            row,
        }
    }
}

/// How to sort consents.
#[derive(InputObject, Clone, Copy, Default)]
pub struct ConsentOrder {
    /// Which way, by when they were given last.
    #[graphql(default)]
    pub direction: OrderDirection,
}

filter_input! {
    /// Which consents; everything that is given must hold. E.g. those of this year: `{ grantedAt: { gte: "2025-01-01T00:00:00Z" } }`.
    ConsentFilter on ConsentField {
        /// The id, e.g. `{ eq: "0190f3e0-0000-7000-8000-000000000001" }`.
        id: IdFilter => ConsentField::Id,
        /// The tenant that has consented, e.g. `{ eq: "0190f3e0-0000-7000-8000-000000000001" }`.
        customer: IdFilter => ConsentField::Customer,
        /// The tenant that may read, e.g. `{ eq: "0190f3e0-0000-7000-8000-000000000001" }`.
        provider: IdFilter => ConsentField::Provider,
        /// When it was given last, e.g. `{ gte: "2025-01-01T00:00:00Z" }`.
        granted_at: DateTimeFilter => ConsentField::GrantedAt,
    }
}

/// What a mutation of a consent led to.
#[derive(SimpleObject)]
#[graphql(complex)]
pub struct ConsentPayload {
    #[graphql(flatten)]
    receipt: Receipt,
}

#[ComplexObject]
impl ConsentPayload {
    /// The consent after the change. Null when the business refused, or when the caller may not read it.
    async fn consent(&self, ctx: &Context<'_>) -> Result<Option<Consent>> {
        match self.receipt.shown(ctx, Action::ConsentRead, READ_MODELS).await? {
            Some(written) => one(ctx, written.tenant, written.id).await,
            None => Ok(None),
        }
    }
}

async fn one(ctx: &Context<'_>, tenant: TenantId, id: Uuid) -> Result<Option<Consent>> {
    let reader = parts(ctx)?.reads.reader();
    let row = reader.transaction(Scope::Tenant(tenant), async |session| rows::consent(session, tenant, id).await);
    Ok(row.await.map_err(failed)?.map(Consent::from))
}

/// Who may read what, until when and why.
#[derive(InputObject)]
pub struct GrantConsentInput {
    /// Id of the tenant that consents; your own unless told.
    pub tenant: Option<Uuid>,
    /// Id of the tenant that may read.
    pub provider: Uuid,
    /// At least one.
    pub actions: Vec<ConsentAction>,
    /// The name of the one site it is about; all unless told.
    pub site: Option<String>,
    /// Ids of the devices it is about, at most 200; all unless told.
    pub devices: Option<Vec<Uuid>>,
    /// The first moment at which it allows nothing any more: in the future, and at most five years from now.
    pub until: DateTime<Utc>,
    /// 1–500 characters.
    pub reason: String,
    /// Consent only if the consent to this provider still has this version, 0 if there was none; `CONFLICT` otherwise.
    pub expected_version: Option<BigInt>,
    /// Id of this command, chosen by you: a repeat with the same id gives the same answer.
    pub client_mutation_id: Option<Uuid>,
}

target_inputs! {
    /// Id of the consent.
    id,
    /// Change only if the consent still has this version; `CONFLICT` otherwise.
    expected_version;

    /// A consent to take back.
    RevokeConsentInput {
        /// 1–500 characters.
        reason: String,
    }
}

async fn carry_out(
    ctx: &Context<'_>,
    target: Target,
    command: Result<ConsentCommand, InvalidValue>,
) -> Result<ConsentPayload> {
    let command = match command {
        Ok(command) => command,
        Err(invalid) => return Ok(ConsentPayload { receipt: Receipt::refused(invalid) }),
    };
    let authorized = authorize(credential(ctx)?, target.tenant, command).map_err(|d| denied(ctx, &d, target.tenant))?;
    let call = call(ctx, target.command_id, target.expected_version)?;
    let executed = parts(ctx)?.executor.execute_consent(authorized, target.id, call).await;
    parts(ctx)?.rules.wrote(target.tenant, "consent", target.id);
    Ok(ConsentPayload { receipt: receipt(ctx, target.id, executed)? })
}

#[derive(Default)]
pub struct ConsentMutation;

#[Object]
impl ConsentMutation {
    /// Lets another tenant read certain things of this one, until a moment. What was consented to before counts no more.
    async fn grant_consent(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Who may read what, until when and why.")] input: GrantConsentInput,
    ) -> Result<ConsentPayload> {
        let tenant = tenant_of(ctx, input.tenant)?;
        let provider = TenantId(input.provider);
        let target = Target {
            tenant,
            id: consent_id(tenant, provider),
            expected_version: input.expected_version,
            command_id: input.client_mutation_id,
        };
        let command = || {
            let actions = input.actions.iter().map(|action| Consented::from(*action)).collect();
            let site = input.site.as_deref().map(Name::parse).transpose().map_err(|invalid| invalid.at(&["site"]))?;
            let devices = input.devices.unwrap_or_default().into_iter().collect();
            let scope = ConsentScope::new(actions, site, devices)?;
            Ok(ConsentCommand::Grant { provider, scope, until: input.until, reason: Reason::parse(&input.reason)? })
        };
        carry_out(ctx, target, command()).await
    }

    /// Takes a consent back, now. Streams of the provider end.
    async fn revoke_consent(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The consent and why.")] input: RevokeConsentInput,
    ) -> Result<ConsentPayload> {
        let command = Reason::parse(&input.reason).map(|reason| ConsentCommand::Revoke { reason });
        carry_out(ctx, input.target(ctx)?, command).await
    }
}

#[derive(Default)]
pub struct ConsentQuery;

#[Object]
impl ConsentQuery {
    /// One consent that a tenant has given. Null when there is none with this id, or none that you may read.
    async fn consent(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Id of the consent.")] id: Uuid,
        #[graphql(desc = "Id of the tenant; your own unless told.")] tenant: Option<Uuid>,
        #[graphql(desc = "Wait until this moment shows, e.g. the `position` of a mutation.")] at_least: Option<
            Position,
        >,
    ) -> Result<Option<Consent>> {
        let tenant = tenant_of(ctx, tenant)?;
        if !sees(ctx, Action::ConsentRead, tenant)? {
            return Ok(None);
        }
        self::at_least(ctx, READ_MODELS, Lanes::Of(tenant), at_least).await?;
        one(ctx, tenant, id).await
    }

    /// What a tenant has consented to, a page at a time, what was revoked or has ended among it. Needs the permission
    /// `consent.list`.
    #[allow(clippy::too_many_arguments)]
    async fn consents(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Id of the tenant; your own unless told.")] tenant: Option<Uuid>,
        #[graphql(desc = "Which consents; all unless told.")] filter: Option<ConsentFilter>,
        #[graphql(desc = "How many from the start, 1–200; 50 unless told.")] first: Option<i32>,
        #[graphql(desc = "Continue after this cursor.")] after: Option<String>,
        #[graphql(desc = "How many from the end, 1–200.")] last: Option<i32>,
        #[graphql(desc = "Continue before this cursor.")] before: Option<String>,
        #[graphql(desc = "How to sort.", default)] order_by: ConsentOrder,
        #[graphql(desc = "Wait until this moment shows.")] at_least: Option<Position>,
    ) -> Result<Connection<String, Consent, ConsentCount>> {
        let tenant = tenant_of(ctx, tenant)?;
        permit(ctx, Action::ConsentList, tenant)?;
        self::at_least(ctx, READ_MODELS, Lanes::Of(tenant), at_least).await?;
        let args = PageArgs::new(first, after, last, before)?;
        page(ctx, tenant, Side::Customer, filter, args, order_by).await
    }

    /// What other tenants have consented to that yours may read, a page at a time. Needs the permission `consent.use`.
    #[allow(clippy::too_many_arguments)]
    async fn customers(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which consents; all unless told.")] filter: Option<ConsentFilter>,
        #[graphql(desc = "How many from the start, 1–200; 50 unless told.")] first: Option<i32>,
        #[graphql(desc = "Continue after this cursor.")] after: Option<String>,
        #[graphql(desc = "How many from the end, 1–200.")] last: Option<i32>,
        #[graphql(desc = "Continue before this cursor.")] before: Option<String>,
        #[graphql(desc = "How to sort.", default)] order_by: ConsentOrder,
        #[graphql(desc = "Wait until this moment shows.")] at_least: Option<Position>,
    ) -> Result<Connection<String, Consent, ConsentCount>> {
        let tenant = credential(ctx)?.tenant;
        permit(ctx, Action::ConsentUse, tenant)?;
        // Of whatever tenant they are.
        self::at_least(ctx, READ_MODELS, Lanes::All, at_least).await?;
        let args = PageArgs::new(first, after, last, before)?;
        page(ctx, tenant, Side::Provider, filter, args, order_by).await
    }
}

async fn page(
    ctx: &Context<'_>,
    tenant: TenantId,
    side: Side,
    filter: Option<ConsentFilter>,
    args: PageArgs,
    order_by: ConsentOrder,
) -> Result<Connection<String, Consent, ConsentCount>> {
    let opaque = &parts(ctx)?.opaque;
    let list = format!("consents v1 {tenant} {side:?} {:?}", order_by.direction);
    let page = args.page(opaque, &list)?;
    let (filter, direction) = (self::filter(filter)?, order_by.direction.into());
    let reader = parts(ctx)?.reads.reader();
    let slice = reader
        .transaction(Scope::Tenant(tenant), async |session| {
            rows::page(session, tenant, side, &filter, direction, &page).await
        })
        .await
        .map_err(failed)?;
    connection(opaque, &list, slice, ConsentCount { tenant, side, filter }, ConsentRow::cursor, Consent::from)
}

/// Counted only when asked for.
pub struct ConsentCount {
    tenant: TenantId,
    side: Side,
    filter: Filter<ConsentField>,
}

#[Object]
impl ConsentCount {
    /// How many consents there are on all pages.
    async fn total_count(&self, ctx: &Context<'_>) -> Result<BigInt> {
        let reader = parts(ctx)?.reads.reader();
        let count = reader.transaction(Scope::Tenant(self.tenant), async |session| {
            rows::count(session, self.tenant, self.side, &self.filter).await
        });
        Ok(BigInt::from(count.await.map_err(failed)?))
    }
}
