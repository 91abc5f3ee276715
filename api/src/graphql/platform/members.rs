//! Members: accounts that work in a tenant, and as what.

use super::loaders::{PersonKey, load};
use super::target::{Target, target_inputs};
use crate::graphql::audit::door::{denied, sees};
use crate::graphql::filters::{DateTimeFilter, IdFilter, enum_filter, filter, filter_input};
use crate::graphql::paging::{OrderDirection, PageArgs, connection};
use crate::graphql::reads::failed;
use crate::graphql::request::{Receipt, at_least, call, credential, parts, permit, receipt, tenant_of};
use crate::graphql::scalars::{BigInt, Position};
use async_graphql::connection::Connection;
use async_graphql::{ComplexObject, Context, Enum, InputObject, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use daybook_app::authorize;
use daybook_domain::platform::membership::RoleName;
use daybook_domain::platform::{HeldRole, MembershipCommand, Roles, TenantRole, membership_id};
use daybook_domain::value::Reason;
use daybook_domain::{AccountId, Action, InvalidValue, TenantId};
use daybook_projections::engine::Lanes;
use daybook_projections::platform::members::{self, MemberField};
use daybook_projections::read::filter::Filter;
use daybook_projections::{Members, ReadModel, Scope};
use uuid::Uuid;

pub(super) use daybook_projections::platform::members::MemberRow;

const READ_MODELS: &[&str] = &[Members::NAME];

/// What a member may do in its tenant; see the permission table.
#[derive(Enum, Clone, Copy, PartialEq, Eq, Debug)]
#[graphql(remote = "daybook_domain::platform::TenantRole")]
pub enum MemberRole {
    /// Runs the tenant.
    TenantAdmin,
    /// Works in it.
    Member,
    /// Looks at it.
    Viewer,
}

/// Whether a membership holds.
#[derive(Enum, Clone, Copy, PartialEq, Eq, Debug)]
#[graphql(remote = "daybook_projections::platform::members::MemberStatus")]
pub enum MemberStatus {
    /// Works in the tenant.
    Active,
    /// Until the account rejoins.
    Ended,
}

/// The person behind a membership. Personal data: it can be erased.
#[derive(SimpleObject, Clone)]
pub struct Person {
    /// E.g. `"Ada Lovelace"`. Null once erased.
    pub name: Option<String>,
    /// E.g. `"ada@example.com"`. Null once erased.
    pub email: Option<String>,
    /// True when the person's data was erased.
    pub erased: bool,
}

/// An account that works in a tenant, or did.
#[derive(SimpleObject, Clone)]
#[graphql(complex)]
pub struct Member {
    /// Follows from tenant and account: who comes back is the same member.
    pub id: Uuid,
    /// Id of the tenant.
    pub tenant: Uuid,
    /// Id of the account.
    pub account: Uuid,
    /// Built-in roles; none once ended.
    pub roles: Vec<MemberRole>,
    /// Keys of roles of the tenant's making, e.g. `["sales_manager"]`; none once ended.
    pub custom_roles: Vec<String>,
    /// Whether it holds.
    pub status: MemberStatus,
    /// Why it has ended.
    pub reason: Option<String>,
    /// Number of changes so far; send it back as `expectedVersion` to change only what you have seen.
    pub version: BigInt,
    /// When the account became a member for the first time.
    pub added_at: DateTime<Utc>,
    /// When the membership changed last.
    pub changed_at: DateTime<Utc>,
}

#[ComplexObject]
impl Member {
    /// The person behind it, as long as they are a member. Needs the permission `membership.readPerson`.
    async fn person(&self, ctx: &Context<'_>) -> Result<Option<Person>> {
        permit(ctx, Action::MembershipReadPerson, TenantId(self.tenant))?;
        // Who has left has taken the right with them to see what became of their name and address.
        if self.status != MemberStatus::Active {
            return Ok(None);
        }
        let row = load(ctx, PersonKey(self.account)).await?;
        Ok(row.map(|row| Person { name: row.name, email: row.email, erased: row.name_erased || row.email_erased }))
    }
}

impl From<MemberRow> for Member {
    fn from(row: MemberRow) -> Self {
        let (mut roles, mut custom_roles) = (Vec::new(), Vec::new());
        for role in row.roles {
            match role {
                HeldRole::BuiltIn(role) => roles.push(MemberRole::from(role)),
                HeldRole::Custom(key) => custom_roles.push(key.as_str().to_owned()),
            }
        }
        Member {
            id: row.membership_id,
            tenant: row.tenant_id,
            account: row.account_id,
            roles,
            custom_roles,
            status: row.status.into(),
            reason: row.ended_reason,
            version: BigInt(row.version),
            added_at: row.added_at,
            changed_at: row.changed_at,
        }
    }
}

/// What to sort members by.
#[derive(Enum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum MemberOrderField {
    /// When they became members for the first time.
    #[default]
    AddedAt,
}

/// How to sort members.
#[derive(InputObject, Clone, Copy, Default)]
pub struct MemberOrder {
    /// What to sort by.
    #[graphql(default)]
    pub field: MemberOrderField,
    /// Which way.
    #[graphql(default)]
    pub direction: OrderDirection,
}

enum_filter! {
    /// A condition on the status of a membership, e.g. `{ eq: ACTIVE }`. Every operator that is given must hold.
    MemberStatusFilter of MemberStatus as daybook_projections::platform::members::MemberStatus,
    "`ACTIVE`.", "`[ACTIVE]`."
}

filter_input! {
    /// Which members; everything that is given must hold. E.g. `{ status: { eq: ACTIVE } }`.
    MemberFilter on MemberField {
        /// The id of the membership, e.g. `{ eq: "0190f3e0-0000-7000-8000-000000000001" }`.
        id: IdFilter => MemberField::Id,
        /// The account behind it, e.g. `{ in: ["0190f3e0-0000-7000-8000-000000000001"] }`.
        account: IdFilter => MemberField::Account,
        /// The status, e.g. `{ eq: ENDED }`.
        status: MemberStatusFilter => MemberField::Status,
        /// When the account became a member for the first time, e.g. `{ gte: "2025-01-01T00:00:00Z" }`.
        added_at: DateTimeFilter => MemberField::AddedAt,
    }
}

/// What a mutation of a membership led to.
#[derive(SimpleObject)]
#[graphql(complex)]
pub struct MemberPayload {
    #[graphql(flatten)]
    receipt: Receipt,
}

#[ComplexObject]
impl MemberPayload {
    /// The member after the change. Null when the business refused, or when the caller may not read it.
    async fn member(&self, ctx: &Context<'_>) -> Result<Option<Member>> {
        match self.receipt.shown(ctx, Action::MembershipRead, READ_MODELS).await? {
            Some(written) => one(ctx, written.tenant, written.id).await,
            None => Ok(None),
        }
    }
}

async fn one(ctx: &Context<'_>, tenant: TenantId, id: Uuid) -> Result<Option<Member>> {
    let reader = parts(ctx)?.reads.reader();
    let row = reader.transaction(Scope::Tenant(tenant), async |session| members::member(session, tenant, id).await);
    Ok(row.await.map_err(failed)?.map(Member::from))
}

/// An account to make a member of a tenant.
#[derive(InputObject)]
pub struct AddMemberInput {
    /// Id of the tenant; your own unless told.
    pub tenant: Option<Uuid>,
    /// Id of the account.
    pub account: Uuid,
    /// Built-in roles. At least one role of either kind.
    pub roles: Vec<MemberRole>,
    /// Keys of roles of the tenant's making, e.g. `["sales_manager"]`; none unless told.
    #[graphql(default)]
    pub custom_roles: Vec<String>,
    /// Id of this command, chosen by you: a repeat with the same id gives the same answer.
    pub client_mutation_id: Option<Uuid>,
}

target_inputs! {
    /// Id of the membership.
    id,
    /// Change only if the membership still has this version; `CONFLICT` otherwise.
    expected_version;

    /// A membership and its new roles.
    ChangeMemberRolesInput {
        /// All built-in roles from now on. At least one role of either kind.
        roles: Vec<MemberRole>,
        /// Keys of all roles of the tenant's making from now on; none unless told.
        custom_roles: Option<Vec<String>>,
    }
    /// A membership to end.
    EndMembershipInput {
        /// 1–500 characters.
        reason: String,
    }
    /// A membership that has ended, to go on.
    RejoinMemberInput {
        /// All built-in roles from now on; those of before count no more. At least one role of either kind.
        roles: Vec<MemberRole>,
        /// Keys of all roles of the tenant's making from now on; none unless told.
        custom_roles: Option<Vec<String>>,
    }
}

async fn carry_out(
    ctx: &Context<'_>,
    target: Target,
    command: Result<MembershipCommand, InvalidValue>,
) -> Result<MemberPayload> {
    let command = match command {
        Ok(command) => command,
        Err(invalid) => return Ok(MemberPayload { receipt: Receipt::refused(invalid) }),
    };
    let authorized = authorize(credential(ctx)?, target.tenant, command).map_err(|d| denied(ctx, &d, target.tenant))?;
    let call = call(ctx, target.command_id, target.expected_version)?;
    let executed = parts(ctx)?.executor.execute_membership(authorized, target.id, call).await;
    parts(ctx)?.rules.wrote(target.tenant, "membership", target.id);
    Ok(MemberPayload { receipt: receipt(ctx, target.id, executed)? })
}

fn set(roles: &[MemberRole], custom: &[String]) -> Result<Roles, InvalidValue> {
    let custom = custom.iter().map(|key| RoleName::parse(key).map_err(|invalid| invalid.at(&["customRoles"])));
    Ok(Roles {
        built_in: roles.iter().map(|role| TenantRole::from(*role)).collect(),
        custom: custom.collect::<Result<_, _>>()?,
    })
}

#[derive(Default)]
pub struct MemberMutation;

#[Object]
impl MemberMutation {
    /// Makes an account a member of a tenant. Refused when there is no such account, or it is deactivated.
    async fn add_member(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The account and its roles.")] input: AddMemberInput,
    ) -> Result<MemberPayload> {
        let tenant = tenant_of(ctx, input.tenant)?;
        let account = AccountId(input.account);
        let target = Target {
            tenant,
            id: membership_id(tenant, account).0,
            expected_version: None,
            command_id: input.client_mutation_id,
        };
        let roles = set(&input.roles, &input.custom_roles);
        carry_out(ctx, target, roles.map(|roles| MembershipCommand::Add { account, roles })).await
    }

    /// Gives a member other roles.
    async fn change_member_roles(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The membership and its roles.")] input: ChangeMemberRolesInput,
    ) -> Result<MemberPayload> {
        let roles = set(&input.roles, input.custom_roles.as_deref().unwrap_or_default());
        carry_out(ctx, input.target(ctx)?, roles.map(|roles| MembershipCommand::ChangeRoles { roles })).await
    }

    /// Ends a membership. What was granted to it allows nothing until the account rejoins.
    async fn end_membership(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The membership and why.")] input: EndMembershipInput,
    ) -> Result<MemberPayload> {
        let command = Reason::parse(&input.reason).map(|reason| MembershipCommand::End { reason });
        carry_out(ctx, input.target(ctx)?, command).await
    }

    /// Makes an account a member again whose membership has ended.
    async fn rejoin_member(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The membership and its roles.")] input: RejoinMemberInput,
    ) -> Result<MemberPayload> {
        let roles = set(&input.roles, input.custom_roles.as_deref().unwrap_or_default());
        carry_out(ctx, input.target(ctx)?, roles.map(|roles| MembershipCommand::Rejoin { roles })).await
    }
}

#[derive(Default)]
pub struct MemberQuery;

#[Object]
impl MemberQuery {
    /// One member of a tenant. Null when there is none with this id, or none that you may read.
    async fn member(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Id of the membership.")] id: Uuid,
        #[graphql(desc = "Id of the tenant; your own unless told.")] tenant: Option<Uuid>,
        #[graphql(desc = "Wait until this moment shows, e.g. the `position` of a mutation.")] at_least: Option<
            Position,
        >,
    ) -> Result<Option<Member>> {
        let tenant = tenant_of(ctx, tenant)?;
        if !sees(ctx, Action::MembershipRead, tenant)? {
            return Ok(None);
        }
        self::at_least(ctx, READ_MODELS, Lanes::Of(tenant), at_least).await?;
        one(ctx, tenant, id).await
    }

    /// The members of a tenant, a page at a time, former ones among them. Needs the permission `membership.list`.
    #[allow(clippy::too_many_arguments)]
    async fn members(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Id of the tenant; your own unless told.")] tenant: Option<Uuid>,
        #[graphql(desc = "Which members; all unless told.")] filter: Option<MemberFilter>,
        #[graphql(desc = "How many from the start, 1–200; 50 unless told.")] first: Option<i32>,
        #[graphql(desc = "Continue after this cursor.")] after: Option<String>,
        #[graphql(desc = "How many from the end, 1–200.")] last: Option<i32>,
        #[graphql(desc = "Continue before this cursor.")] before: Option<String>,
        #[graphql(desc = "What to sort by; the id decides between equals.", default)] order_by: MemberOrder,
        #[graphql(desc = "Wait until this moment shows.")] at_least: Option<Position>,
    ) -> Result<Connection<String, Member, MemberCount>> {
        let tenant = tenant_of(ctx, tenant)?;
        permit(ctx, Action::MembershipList, tenant)?;
        let opaque = &parts(ctx)?.opaque;
        let list = format!("members v1 {tenant} {:?} {:?}", order_by.field, order_by.direction);
        let page = PageArgs::new(first, after, last, before)?.page(opaque, &list)?;
        let (filter, direction) = (self::filter(filter)?, order_by.direction.into());
        self::at_least(ctx, READ_MODELS, Lanes::Of(tenant), at_least).await?;
        let reader = parts(ctx)?.reads.reader();
        let slice = reader
            .transaction(Scope::Tenant(tenant), async |session| {
                members::page(session, tenant, &filter, direction, &page).await
            })
            .await
            .map_err(failed)?;
        connection(opaque, &list, slice, MemberCount { tenant, filter }, MemberRow::cursor, Member::from)
    }
}

/// Counted only when asked for.
pub struct MemberCount {
    tenant: TenantId,
    filter: Filter<MemberField>,
}

#[Object]
impl MemberCount {
    /// How many members there are on all pages.
    async fn total_count(&self, ctx: &Context<'_>) -> Result<BigInt> {
        let reader = parts(ctx)?.reads.reader();
        let count = reader.transaction(Scope::Tenant(self.tenant), async |session| {
            members::count(session, self.tenant, &self.filter).await
        });
        Ok(BigInt::from(count.await.map_err(failed)?))
    }
}
