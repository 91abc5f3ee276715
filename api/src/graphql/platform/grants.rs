//! Grants: who may use what, now or at an earlier moment.

use super::loaders::{MemberKey, MemberSwitchKey, ModuleKey, PlatformSwitchKey, load};
use super::members::Member;
use super::modules::Module;
use crate::graphql::filters::{BooleanFilter, DateTimeFilter, IdFilter, TextFilter, filter_input};
use crate::graphql::paging::OrderDirection;
use crate::graphql::reads::failed;
use crate::graphql::request::{Receipt, credential, parts};
use crate::graphql::scalars::BigInt;
use async_graphql::{ComplexObject, Context, Enum, InputObject, Result, SimpleObject};
use chrono::{DateTime, Utc};
use daybook_app::{Credential, may};
use daybook_domain::platform::membership_id;
use daybook_domain::{AccountId, Action, ActorKind, TenantId};
use daybook_projections::platform::grants::access::{Surroundings, access};
use daybook_projections::platform::grants::{self, Access, GrantField, GrantRow, GrantView, Past};
use daybook_projections::{Grants, Members, ModuleSwitches, Modules, ReadModel, Scope};
use std::sync::Arc;
use uuid::Uuid;

/// Whether a grant allows depends on four read models.
pub(super) const READ_MODELS: &[&str] = &[Grants::NAME, Members::NAME, Modules::NAME, ModuleSwitches::NAME];

/// Whether a grant was revoked. Whether it has expired, `denial` tells.
#[derive(Enum, Clone, Copy, PartialEq, Eq, Debug)]
#[graphql(remote = "daybook_projections::platform::grants::GrantStatus")]
pub enum GrantStatus {
    /// Not revoked; it may be out of its time all the same.
    Granted,
    /// Until the role is granted anew.
    Revoked,
}

/// Why a grant allows nothing: the first that holds, in this order.
#[derive(Enum, Clone, Copy, PartialEq, Eq, Debug)]
#[graphql(remote = "daybook_projections::platform::grants::Denial")]
pub enum GrantDenial {
    /// It was taken back.
    Revoked,
    /// Its `until` has come.
    Expired,
    /// Its `from` has not come yet.
    NotYet,
    /// Its member has left.
    MembershipEnded,
    /// The platform has switched its module off, for all tenants.
    OffOnPlatform,
    /// Its module is not enabled in the tenant, or retired.
    ModuleNotEnabled,
    /// Its module is switched off for the member.
    OffForMember,
    /// The module's manifest has no such role any more.
    RoleGone,
}

/// That a member may use a module in one of its roles.
#[derive(SimpleObject, Clone)]
#[graphql(complex)]
pub struct Grant {
    /// Follows from member, module and role: granted anew, it is the same grant.
    pub id: Uuid,
    /// Id of the tenant.
    pub tenant: Uuid,
    /// The key of a role of the module, e.g. `"planner"`.
    pub role: String,
    /// The first moment at which it allows. Null: at once.
    pub from: Option<DateTime<Utc>>,
    /// The first moment at which it denies again. Null: without an end.
    pub until: Option<DateTime<Utc>>,
    /// Whether it was revoked.
    pub status: GrantStatus,
    /// Why it was granted, changed or revoked: of the last of these.
    pub reason: String,
    /// Number of changes so far; send it back as `expectedVersion` to change only what you have seen.
    pub version: BigInt,
    /// When the role was granted last.
    pub granted_at: DateTime<Utc>,
    /// When the grant changed last.
    pub changed_at: DateTime<Utc>,
    #[graphql(skip)]
    row: GrantRow,
    /// What it comes to, if that has been asked already.
    #[graphql(skip)]
    access: Option<Access>,
    /// The moment it was looked at in, if not the present.
    #[graphql(skip)]
    past: Option<Arc<Past>>,
}

impl Grant {
    pub(super) fn of(view: GrantView) -> Self {
        Grant { access: Some(view.access), ..Grant::present(view.grant) }
    }

    /// As it is, whatever it comes to.
    // Not From: the field `from` has taken the name.
    pub(super) fn present(row: GrantRow) -> Self {
        Grant {
            id: row.grant_id,
            tenant: row.tenant_id,
            role: row.role.clone(),
            from: row.from_at,
            until: row.until_at,
            status: row.status.into(),
            reason: row.reason.clone(),
            version: BigInt(row.version),
            granted_at: row.granted_at,
            changed_at: row.changed_at,
            row,
            access: None,
            past: None,
        }
    }

    pub(super) fn of_past(view: GrantView, past: Arc<Past>) -> Self {
        Grant { past: Some(past), ..Grant::of(view) }
    }

    fn scope(&self) -> TenantId {
        TenantId(self.tenant)
    }

    async fn access(&self, ctx: &Context<'_>) -> Result<Access> {
        if let Some(access) = self.access {
            return Ok(access);
        }
        let member = load(ctx, MemberKey(self.scope(), self.row.membership_id)).await?;
        let module = load(ctx, ModuleKey(self.scope(), self.row.module_id)).await?;
        let pair = MemberSwitchKey(self.scope(), self.row.membership_id, self.row.module_id);
        let off_on_platform = match &module {
            Some(module) => load(ctx, PlatformSwitchKey(module.key.clone())).await?.is_some(),
            None => false,
        };
        let around = Surroundings {
            off_on_platform,
            off_for_member: load(ctx, pair).await?.is_some(),
            member: member.map(|member| member.status),
            module: module.as_ref().map(|module| module.status),
            role_held: module.is_some_and(|module| module.role_keys.contains(&self.row.role)),
        };
        Ok(access(&self.row, around, parts(ctx)?.system.utc()))
    }
}

#[ComplexObject]
impl Grant {
    /// Whether it allows at the moment of the query, or at that of `asOf`: it is neither revoked nor out of its time,
    /// the membership is active, the module enabled, and the role in its manifest.
    async fn allowed(&self, ctx: &Context<'_>) -> Result<bool> {
        Ok(self.access(ctx).await? == Access::Allowed)
    }

    /// Why it allows nothing. Null when it allows.
    async fn denial(&self, ctx: &Context<'_>) -> Result<Option<GrantDenial>> {
        Ok(match self.access(ctx).await? {
            Access::Allowed => None,
            Access::Denied(denial) => Some(denial.into()),
        })
    }

    /// Who may. Null when you may not read the member.
    async fn member(&self, ctx: &Context<'_>) -> Result<Option<Member>> {
        if !may(credential(ctx)?, Action::MembershipRead, self.scope()) {
            return Ok(None);
        }
        let row = match &self.past {
            Some(past) => past.members.get(&self.row.membership_id).cloned(),
            None => load(ctx, MemberKey(self.scope(), self.row.membership_id)).await?,
        };
        Ok(row.map(Member::from))
    }

    /// Use what. Null when you may not read the module.
    async fn module(&self, ctx: &Context<'_>) -> Result<Option<Module>> {
        if !may(credential(ctx)?, Action::ModuleRead, self.scope()) {
            return Ok(None);
        }
        let row = match &self.past {
            Some(past) => past.modules.get(&self.row.module_id).cloned(),
            None => load(ctx, ModuleKey(self.scope(), self.row.module_id)).await?,
        };
        Ok(row.map(Module::from))
    }
}

/// What to sort grants by.
#[derive(Enum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum GrantOrderField {
    /// When the role was granted last.
    #[default]
    GrantedAt,
}

/// How to sort grants.
#[derive(InputObject, Clone, Copy, Default)]
pub struct GrantOrder {
    /// What to sort by.
    #[graphql(default)]
    pub field: GrantOrderField,
    /// Which way.
    #[graphql(default)]
    pub direction: OrderDirection,
}

filter_input! {
    /// Which grants; everything that is given must hold. E.g. those that allow now and end before February:
    /// `{ allowedNow: { eq: true }, until: { lt: "2025-02-01T00:00:00Z" } }`.
    GrantFilter on GrantField {
        /// The id, e.g. `{ eq: "0190f3e0-0000-7000-8000-000000000001" }`.
        id: IdFilter => GrantField::Id,
        /// The membership, e.g. `{ eq: "0190f3e0-0000-7000-8000-000000000001" }`.
        member: IdFilter => GrantField::Member,
        /// The module, e.g. `{ in: ["0190f3e0-0000-7000-8000-000000000001"] }`.
        module: IdFilter => GrantField::Module,
        /// The key of the role, upper and lower case apart, e.g. `{ eq: "planner" }`.
        role: TextFilter => GrantField::Role,
        /// The first moment at which it denies again, e.g. `{ lt: "2025-02-01T00:00:00Z" }`; null without an end.
        until: DateTimeFilter => GrantField::Until,
        /// When the role was granted last, e.g. `{ gte: "2025-01-01T00:00:00Z" }`.
        granted_at: DateTimeFilter => GrantField::GrantedAt,
        /// Whether it allows now, or at the moment of `asOf`, e.g. `{ eq: true }`.
        allowed_now: BooleanFilter => GrantField::Allowed,
    }
}

/// The membership that the caller itself has in a tenant, if it is a person of that tenant. Its grants need no
/// permission.
pub(super) fn own_membership(credential: &Credential, tenant: TenantId) -> Option<Uuid> {
    let is_own = credential.tenant == tenant && credential.actor.kind == ActorKind::Account;
    is_own.then(|| membership_id(tenant, AccountId(credential.actor.id)).0)
}

/// What a mutation of a grant led to.
#[derive(SimpleObject)]
#[graphql(complex)]
pub struct GrantPayload {
    #[graphql(flatten)]
    pub(super) receipt: Receipt,
}

#[ComplexObject]
impl GrantPayload {
    /// The grant after the change. Null when the business refused, or when the caller may not read it.
    async fn grant(&self, ctx: &Context<'_>) -> Result<Option<Grant>> {
        match self.receipt.shown(ctx, Action::GrantRead, READ_MODELS).await? {
            Some(written) => Ok(view(ctx, written.tenant, written.id).await?.map(Grant::of)),
            None => Ok(None),
        }
    }
}

/// A grant of a tenant, and what it comes to now.
pub(super) async fn view(ctx: &Context<'_>, tenant: TenantId, id: Uuid) -> Result<Option<GrantView>> {
    let parts = parts(ctx)?;
    let now = parts.system.utc();
    let reader = parts.reads.reader();
    let scope = Scope::Tenant(tenant);
    let found = reader.transaction(scope, async |session| grants::by_ids(session, tenant, &[id], now).await).await;
    Ok(found.map_err(failed)?.pop())
}
