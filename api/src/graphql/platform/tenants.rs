//! Tenants: register, change, ask, watch.

use crate::graphql::audit::door::{denied, sees};
use crate::graphql::changes::{ChangeKind, changes};
use crate::graphql::errors::UserError;
use crate::graphql::filters::{DateTimeFilter, IdFilter, TextFilter, enum_filter, filter, filter_input};
use crate::graphql::guard::guarded;
use crate::graphql::paging::{OrderDirection, PageArgs, connection};
use crate::graphql::reads::failed;
use crate::graphql::request::{Receipt, at_least, call, credential, parts, permit, receipt, resume};
use crate::graphql::scalars::{BigInt, Position};
use crate::graphql::sight::Sight;
use async_graphql::connection::Connection;
use async_graphql::{ComplexObject, Context, Enum, InputObject, Json, Object, Result, SimpleObject, Subscription};
use chrono::{DateTime, Utc};
use daybook_app::{Call, authorize};
use daybook_domain::personal::Personal;
use daybook_domain::platform::tenant::{Contact, SETTINGS_MAX, SettingKey, SettingValue};
use daybook_domain::platform::{Tenant as TenantAggregate, TenantCommand};
use daybook_domain::rules::Verdict;
use daybook_domain::value::{Domain, Name, Reason};
use daybook_domain::{Action, InvalidValue, PLATFORM_TENANT, SubjectId, TenantId};
use daybook_projections::engine::Lanes;
use daybook_projections::platform::tenants::{self, TenantField, TenantOrder, TenantOrderBy, TenantRow, Tenants};
use daybook_projections::read::filter::Filter;
use daybook_projections::{ReadModel, Scope};
use futures_util::{Stream, StreamExt};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

const READ_MODELS: &[&str] = &[Tenants::NAME];

/// What to sort tenants by.
#[derive(Enum, Clone, Copy, PartialEq, Eq, Debug, Default)]
#[graphql(name = "TenantOrderField")]
pub enum OrderField {
    #[default]
    RegisteredAt,
    /// Upper and lower case alike.
    Name,
}

/// How to sort tenants.
#[derive(InputObject, Clone, Copy, Default)]
#[graphql(name = "TenantOrder")]
pub struct Order {
    /// What to sort by.
    #[graphql(default)]
    pub field: OrderField,
    /// Which way.
    #[graphql(default)]
    pub direction: OrderDirection,
}

impl Order {
    fn list(self) -> String {
        format!("tenants v1 {:?} {:?}", self.field, self.direction)
    }

    fn order(self) -> TenantOrder {
        let by = match self.field {
            OrderField::RegisteredAt => TenantOrderBy::RegisteredAt,
            OrderField::Name => TenantOrderBy::Name,
        };
        TenantOrder { by, direction: self.direction.into() }
    }
}

/// What a tenant has booked.
#[derive(Enum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plan {
    Free,
    Pro,
    Enterprise,
}

impl From<Plan> for daybook_domain::platform::tenant::Plan {
    fn from(plan: Plan) -> Self {
        match plan {
            Plan::Free => Self::Free,
            Plan::Pro => Self::Pro,
            Plan::Enterprise => Self::Enterprise,
        }
    }
}

impl From<daybook_domain::platform::tenant::Plan> for Plan {
    fn from(plan: daybook_domain::platform::tenant::Plan) -> Self {
        use daybook_domain::platform::tenant::Plan as P;
        match plan {
            P::Free => Self::Free,
            P::Pro => Self::Pro,
            P::Enterprise => Self::Enterprise,
        }
    }
}

/// Whether a tenant can work.
#[derive(Enum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum TenantStatus {
    Active,
    /// Reopened or closed by the platform only.
    Suspended,
    /// For good.
    Closed,
}

impl From<TenantStatus> for daybook_projections::platform::tenants::TenantStatus {
    fn from(status: TenantStatus) -> Self {
        match status {
            TenantStatus::Active => Self::Active,
            TenantStatus::Suspended => Self::Suspended,
            TenantStatus::Closed => Self::Closed,
        }
    }
}

enum_filter! {
    /// A condition on the plan of a tenant, e.g. `{ ne: FREE }`. Every operator that is given must hold.
    PlanFilter of Plan as daybook_domain::platform::tenant::Plan, "`PRO`.", "`[PRO, ENTERPRISE]`."
}

enum_filter! {
    /// A condition on the status of a tenant, e.g. `{ eq: ACTIVE }`. Every operator that is given must hold.
    TenantStatusFilter of TenantStatus as daybook_projections::platform::tenants::TenantStatus,
    "`ACTIVE`.", "`[ACTIVE, SUSPENDED]`."
}

filter_input! {
    /// Which tenants; everything that is given must hold. E.g. `{ name: { startsWith: "ac" }, status: { ne: CLOSED } }`.
    TenantFilter on TenantField {
        /// The id, e.g. `{ in: ["0190f3e0-0000-7000-8000-000000000001"] }`.
        id: IdFilter => TenantField::Id,
        /// The name, upper and lower case alike, e.g. `{ startsWith: "acme" }`.
        name: TextFilter => TenantField::Name,
        /// What it has booked, e.g. `{ in: [PRO, ENTERPRISE] }`.
        plan: PlanFilter => TenantField::Plan,
        /// Whether it can work, e.g. `{ eq: SUSPENDED }`.
        status: TenantStatusFilter => TenantField::Status,
        /// The DNS name, upper and lower case alike, e.g. `{ eq: "acme.example" }`; null where there is none.
        domain: TextFilter => TenantField::Domain,
        /// When it was registered, e.g. `{ gte: "2025-01-01T00:00:00Z" }`.
        registered_at: DateTimeFilter => TenantField::RegisteredAt,
    }
}

/// The person to turn to. Personal data: it can be erased.
#[derive(SimpleObject, Clone, Debug)]
pub struct TenantContact {
    /// E.g. `"Ada Lovelace"`; null once erased.
    pub name: Option<String>,
    /// E.g. `"ada@example.com"`; null once erased.
    pub email: Option<String>,
    /// True when the person's data was erased.
    pub erased: bool,
}

/// An organisation that owns everything else.
#[derive(SimpleObject, Clone)]
#[graphql(complex)]
pub struct Tenant {
    /// Chosen when it was registered.
    pub id: Uuid,
    /// E.g. `"Acme"`.
    pub name: String,
    pub plan: Plan,
    pub status: TenantStatus,
    /// DNS name, unique on the platform, e.g. `"acme.example"`.
    pub domain: Option<String>,
    /// The tenant's own settings: keys of its choosing; booleans, whole numbers and texts.
    pub settings: Json<serde_json::Value>,
    /// Why it is suspended or closed.
    pub reason: Option<String>,
    /// Number of changes so far; send it back as `expectedVersion` to change only what you have seen.
    pub version: BigInt,
    /// When it was registered.
    pub registered_at: DateTime<Utc>,
    /// When it changed last.
    pub changed_at: DateTime<Utc>,
    #[graphql(skip)]
    pub contact_row: Option<TenantContact>,
}

#[ComplexObject]
impl Tenant {
    /// The person to turn to. Needs the permission `tenant.readContact`.
    async fn contact(&self, ctx: &Context<'_>) -> Result<Option<TenantContact>> {
        permit(ctx, Action::TenantReadContact, TenantId(self.id))?;
        Ok(self.contact_row.clone())
    }
}

/// What a mutation of a tenant led to.
#[derive(SimpleObject)]
#[graphql(complex)]
pub struct TenantPayload {
    #[graphql(flatten)]
    receipt: Receipt,
}

#[ComplexObject]
impl TenantPayload {
    /// The tenant after the change. Null when the business refused, or when the caller may not read it.
    async fn tenant(&self, ctx: &Context<'_>) -> Result<Option<Tenant>> {
        match self.receipt.shown(ctx, Action::TenantRead, READ_MODELS).await? {
            Some(written) => one(ctx, written.tenant).await,
            None => Ok(None),
        }
    }
}

/// The row of a tenant that the caller may read.
async fn one(ctx: &Context<'_>, tenant: TenantId) -> Result<Option<Tenant>> {
    let reader = parts(ctx)?.reads.reader();
    let scope = Scope::Tenant(tenant);
    let row = reader.transaction(scope, async |session| tenants::tenant(session, tenant).await).await;
    Ok(row.map_err(failed)?.map(Tenant::from))
}

impl From<TenantRow> for Tenant {
    fn from(row: TenantRow) -> Self {
        use daybook_projections::platform::tenants::TenantStatus as S;
        let contact = row.contact_subject.map(|_| TenantContact {
            name: row.contact_name,
            email: row.contact_email,
            erased: row.contact_erased,
        });
        Tenant {
            id: row.tenant_id,
            name: row.name,
            plan: row.plan.into(),
            status: match row.status {
                S::Active => TenantStatus::Active,
                S::Suspended => TenantStatus::Suspended,
                S::Closed => TenantStatus::Closed,
            },
            domain: row.domain,
            settings: Json(serde_json::to_value(&row.settings).unwrap_or_default()),
            reason: row.closed_reason.or(row.suspended_reason),
            version: BigInt(row.version),
            registered_at: row.registered_at,
            changed_at: row.changed_at,
            contact_row: contact,
        }
    }
}

/// Names of the fields of [`Tenant`] that differ between two rows.
fn changed_fields(before: Option<&TenantRow>, after: Option<&TenantRow>) -> Vec<String> {
    let (Some(b), Some(a)) = (before, after) else { return Vec::new() };
    let differ = [
        ("name", b.name != a.name),
        ("plan", b.plan != a.plan),
        ("status", b.status != a.status),
        ("domain", b.domain != a.domain),
        ("settings", b.settings != a.settings),
        (
            "contact",
            (b.contact_subject, &b.contact_name, &b.contact_email)
                != (a.contact_subject, &a.contact_name, &a.contact_email),
        ),
        ("reason", (&b.suspended_reason, &b.closed_reason) != (&a.suspended_reason, &a.closed_reason)),
        ("version", b.version != a.version),
    ];
    differ.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name.to_owned()).collect()
}

/// A change of a tenant.
#[derive(SimpleObject)]
pub struct TenantChange {
    /// Resume after this with `after`.
    pub position: Position,
    /// What happened to it.
    pub change: ChangeKind,
    /// The tenant after the change.
    pub node: Option<Tenant>,
    /// Names of the fields that differ, e.g. `["name", "version"]`.
    pub changed_fields: Vec<String>,
}

#[derive(InputObject)]
pub struct ContactInput {
    /// 1–200 characters, e.g. `"Ada Lovelace"`.
    pub name: String,
    /// E.g. `"ada@example.com"`.
    pub email: String,
}

#[derive(InputObject)]
pub struct RegisterTenantInput {
    /// 1–200 characters, e.g. `"Acme"`.
    pub name: String,
    #[graphql(default_with = "Plan::Free")]
    pub plan: Plan,
    /// The person to turn to.
    pub contact: Option<ContactInput>,
    /// DNS name, unique on the platform, e.g. `"acme.example"`.
    pub domain: Option<String>,
    /// Id of this command, chosen by you: a repeat with the same id gives the same answer and no second tenant.
    pub client_mutation_id: Option<Uuid>,
}

macro_rules! tenant_inputs {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty),* $(,)? })+) => {$(
        $(#[$doc])*
        #[derive(InputObject)]
        pub struct $name {
            /// Id of the tenant.
            pub id: Uuid,
            $($(#[$field_doc])* pub $field: $type,)*
            /// Change only if the tenant still has this version; `CONFLICT` otherwise.
            pub expected_version: Option<BigInt>,
            /// Id of this command, chosen by you: a repeat with the same id gives the same answer.
            pub client_mutation_id: Option<Uuid>,
        }

        impl $name {
            fn target(&self) -> Target {
                Target { id: self.id, expected_version: self.expected_version, command_id: self.client_mutation_id }
            }
        }
    )+};
}

tenant_inputs! {
    RenameTenantInput {
        /// 1–200 characters, e.g. `"Acme Ltd"`.
        name: String,
    }
    ChangeTenantPlanInput { plan: Plan }
    ChangeTenantSettingsInput {
        /// Settings to set, e.g. `{"locale": "de-DE", "fiscal.year_start": 4}`. Values are booleans, whole numbers or texts.
        set: Option<Json<serde_json::Map<String, serde_json::Value>>>,
        /// Keys to remove.
        unset: Option<Vec<String>>,
    }
    ChangeTenantContactInput {
        /// Null removes the contact.
        contact: Option<ContactInput>,
    }
    ClaimTenantDomainInput {
        /// DNS name, e.g. `"acme.example"`.
        domain: String,
    }
    ReleaseTenantDomainInput {}
    SuspendTenantInput {
        /// 1–500 characters, shown to the tenant.
        reason: String,
    }
    ReopenTenantInput {}
    CloseTenantInput {
        /// 1–500 characters.
        reason: String,
    }
}

struct Target {
    id: Uuid,
    expected_version: Option<BigInt>,
    command_id: Option<Uuid>,
}

#[derive(Default)]
pub struct TenantQuery;

#[Object]
impl TenantQuery {
    /// One tenant. Null when there is none with this id, or none that you may read.
    async fn tenant(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Id of the tenant.")] id: Uuid,
        #[graphql(desc = "Wait until this moment shows, e.g. the `position` of a mutation.")] at_least: Option<
            Position,
        >,
    ) -> Result<Option<Tenant>> {
        let target = TenantId(id);
        if !sees(ctx, Action::TenantRead, target)? {
            return Ok(None);
        }
        self::at_least(ctx, READ_MODELS, Lanes::Of(target), at_least).await?;
        one(ctx, target).await
    }

    /// All tenants, a page at a time. Needs the permission `tenant.list`, which is the platform's alone.
    #[allow(clippy::too_many_arguments)]
    async fn tenants(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which tenants; all unless told.")] filter: Option<TenantFilter>,
        #[graphql(desc = "How many from the start, 1–200; 50 unless told.")] first: Option<i32>,
        #[graphql(desc = "Continue after this cursor.")] after: Option<String>,
        #[graphql(desc = "How many from the end, 1–200.")] last: Option<i32>,
        #[graphql(desc = "Continue before this cursor.")] before: Option<String>,
        #[graphql(desc = "What to sort by; the id decides between equals.", default)] order_by: Order,
        #[graphql(desc = "Wait until this moment shows.")] at_least: Option<Position>,
    ) -> Result<Connection<String, Tenant, TotalCount>> {
        permit(ctx, Action::TenantList, PLATFORM_TENANT)?;
        let filter = self::filter(filter)?;
        let args = PageArgs::new(first, after, last, before)?;
        let (opaque, list) = (&parts(ctx)?.opaque, order_by.list());
        let page = args.page(opaque, &list)?;
        self::at_least(ctx, READ_MODELS, Lanes::All, at_least).await?;
        let reader = parts(ctx)?.reads.reader();
        let order = order_by.order();
        let slice = reader
            .transaction(Scope::Platform, async |session| tenants::page(session, &filter, order, &page).await)
            .await
            .map_err(failed)?;
        connection(opaque, &list, slice, TotalCount(filter), |row| row.cursor(order.by), Tenant::from)
    }
}

/// Counted only when asked for.
pub struct TotalCount(Filter<TenantField>);

#[Object]
impl TotalCount {
    /// How many tenants there are on all pages.
    async fn total_count(&self, ctx: &Context<'_>) -> Result<BigInt> {
        let reader = parts(ctx)?.reads.reader();
        let count = reader.transaction(Scope::Platform, async |session| tenants::count(session, &self.0).await).await;
        Ok(BigInt::from(count.map_err(failed)?))
    }
}

#[derive(Default)]
pub struct TenantMutation;

#[Object]
impl TenantMutation {
    /// Registers a tenant. Needs the permission `tenant.register`, which is the platform's alone.
    async fn register_tenant(&self, ctx: &Context<'_>, input: RegisterTenantInput) -> Result<TenantPayload> {
        let parts = parts(ctx)?;
        let credential = credential(ctx)?;
        // The id follows from the command, so a repeat is about the same tenant.
        let command_id = input.client_mutation_id.unwrap_or_else(|| parts.system.uuid_v7());
        let id = Uuid::new_v5(&credential.actor.id, command_id.as_bytes());
        let command = || -> Result<TenantCommand, InvalidValue> {
            Ok(TenantCommand::Register {
                name: Name::parse(&input.name)?,
                plan: input.plan.into(),
                contact: input.contact.as_ref().map(|c| contact(c, id)).transpose()?,
                domain: input.domain.as_deref().map(Domain::parse).transpose()?,
            })
        };
        let target = Target { id, expected_version: None, command_id: input.client_mutation_id.map(|_| command_id) };
        carry_out(ctx, target, command(), Some(PLATFORM_TENANT)).await
    }

    /// Gives a tenant another name.
    async fn rename_tenant(&self, ctx: &Context<'_>, input: RenameTenantInput) -> Result<TenantPayload> {
        let command = Name::parse(&input.name).map(|name| TenantCommand::Rename { name });
        carry_out(ctx, input.target(), command, None).await
    }

    /// Books another plan. The platform's alone.
    async fn change_tenant_plan(&self, ctx: &Context<'_>, input: ChangeTenantPlanInput) -> Result<TenantPayload> {
        let command = Ok(TenantCommand::ChangePlan { plan: input.plan.into() });
        carry_out(ctx, input.target(), command, None).await
    }

    /// Sets and removes settings, all or none: at most 100, each named where it is at fault.
    async fn change_tenant_settings(
        &self,
        ctx: &Context<'_>,
        input: ChangeTenantSettingsInput,
    ) -> Result<TenantPayload> {
        // Who may not change them is not told what is wrong with them.
        permit(ctx, Action::TenantChangeSettings, TenantId(input.id))?;
        match settings(input.set.as_ref().map(|Json(set)| set), input.unset.as_deref().unwrap_or_default()) {
            Ok((set, unset)) => {
                carry_out(ctx, input.target(), Ok(TenantCommand::ChangeSettings { set, unset }), None).await
            }
            Err(faults) => Ok(TenantPayload { receipt: Receipt::refused_all(faults) }),
        }
    }

    /// Names another person to turn to, or nobody.
    async fn change_tenant_contact(&self, ctx: &Context<'_>, input: ChangeTenantContactInput) -> Result<TenantPayload> {
        // A new subject per command: two contacts are two persons, erased apart.
        let seed = input.client_mutation_id.map_or_else(|| parts(ctx).map(|p| p.system.uuid_v7()), Ok)?;
        let contact = input.contact.as_ref().map(|c| contact(c, Uuid::new_v5(&input.id, seed.as_bytes()))).transpose();
        carry_out(ctx, input.target(), contact.map(|contact| TenantCommand::ChangeContact { contact }), None).await
    }

    /// Makes a domain this tenant's alone, instead of the one it has. The platform's alone: it knows whose a domain is.
    async fn claim_tenant_domain(&self, ctx: &Context<'_>, input: ClaimTenantDomainInput) -> Result<TenantPayload> {
        let command = Domain::parse(&input.domain).map(|domain| TenantCommand::ClaimDomain { domain });
        carry_out(ctx, input.target(), command, None).await
    }

    /// Takes a tenant's domain from it; it is free again. The platform's alone.
    async fn release_tenant_domain(&self, ctx: &Context<'_>, input: ReleaseTenantDomainInput) -> Result<TenantPayload> {
        carry_out(ctx, input.target(), Ok(TenantCommand::ReleaseDomain), None).await
    }

    /// Stops a tenant's work until it is reopened. The platform's alone.
    async fn suspend_tenant(&self, ctx: &Context<'_>, input: SuspendTenantInput) -> Result<TenantPayload> {
        let command = Reason::parse(&input.reason).map(|reason| TenantCommand::Suspend { reason });
        carry_out(ctx, input.target(), command, None).await
    }

    /// Lets a suspended tenant work again. The platform's alone.
    async fn reopen_tenant(&self, ctx: &Context<'_>, input: ReopenTenantInput) -> Result<TenantPayload> {
        carry_out(ctx, input.target(), Ok(TenantCommand::Reopen), None).await
    }

    /// Closes a tenant for good. The platform's alone.
    async fn close_tenant(&self, ctx: &Context<'_>, input: CloseTenantInput) -> Result<TenantPayload> {
        let command = Reason::parse(&input.reason).map(|reason| TenantCommand::Close { reason });
        carry_out(ctx, input.target(), command, None).await
    }
}

/// Settings to set and keys to remove.
type Settings = (BTreeMap<SettingKey, SettingValue>, BTreeSet<SettingKey>);

/// Settings as they were sent, or what is wrong with each.
fn settings(
    sent: Option<&serde_json::Map<String, serde_json::Value>>,
    removed: &[String],
) -> Result<Settings, Vec<UserError>> {
    let (mut set, mut unset, mut faults) = (BTreeMap::new(), BTreeSet::new(), Vec::new());
    let mut fault = |field: &str, key: &str, refused: InvalidValue| {
        // What was sent may be anything.
        let key: String = key.chars().filter(|c| !c.is_control()).take(SettingKey::BYTES_MAX).collect();
        if faults.len() < SETTINGS_MAX {
            faults.push(UserError::new(&[field, &key], refused.code, refused.message));
        }
    };
    for (key, value) in sent.into_iter().flatten() {
        match SettingKey::parse(key).and_then(|parsed| Ok((parsed, SettingValue::parse(value)?))) {
            Ok((key, value)) => {
                set.insert(key, value);
            }
            Err(refused) => fault("set", key, refused),
        }
    }
    for key in removed {
        match SettingKey::parse(key) {
            Ok(parsed) => {
                unset.insert(parsed);
            }
            Err(refused) => fault("unset", key, refused),
        }
    }
    if faults.is_empty() { Ok((set, unset)) } else { Err(faults) }
}

/// The contact as a person of their own, with an encryption key of their own.
fn contact(input: &ContactInput, seed: Uuid) -> Result<Personal<Contact>, InvalidValue> {
    let subject = SubjectId(Uuid::new_v5(&seed, b"contact"));
    Ok(Personal::known(subject, Contact::parse(&input.name, &input.email)?))
}

async fn carry_out(
    ctx: &Context<'_>,
    target: Target,
    command: Result<TenantCommand, InvalidValue>,
    record_in: Option<TenantId>,
) -> Result<TenantPayload> {
    let command = match command {
        Ok(command) => command,
        Err(invalid) => return Ok(TenantPayload { receipt: Receipt::refused(invalid) }),
    };
    let authorized =
        authorize(credential(ctx)?, TenantId(target.id), command).map_err(|d| denied(ctx, &d, TenantId(target.id)))?;
    let call = Call { record_in, ..call(ctx, target.command_id, target.expected_version)? };
    let executed = parts(ctx)?.executor.execute::<TenantAggregate>(authorized, target.id, call).await;
    Ok(TenantPayload { receipt: receipt(ctx, target.id, executed)? })
}

#[derive(Default)]
pub struct TenantSubscription;

#[Subscription]
impl TenantSubscription {
    /// Every change of a tenant after a position, without gap or duplicate, then those to come. Without `after`,
    /// from now on. Ends with `CURSOR_EXPIRED` when the position is older than what is kept.
    async fn tenant_changed(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Id of the tenant; your own unless told.")] id: Option<Uuid>,
        #[graphql(desc = "The last position you have seen.")] after: Option<Position>,
    ) -> Result<impl Stream<Item = Result<TenantChange>> + use<>> {
        let parts = parts(ctx)?.clone();
        let tenant = id.map_or(credential(ctx)?.tenant, TenantId);
        permit(ctx, Action::TenantRead, tenant)?;
        let sight = Sight::of(Verdict::Always, credential(ctx)?);
        let after = match after {
            None => parts.reads.now::<Tenants>(tenant).await?,
            Some(position) => resume(ctx, tenant, position)?,
        };
        let changed = changes::<Tenants>(parts.clone(), tenant, after).map(move |change| {
            let change = change?;
            Ok(TenantChange {
                position: Position(parts.opaque.position(tenant, change.tenant_position)),
                change: ChangeKind::of(&change),
                changed_fields: changed_fields(change.before.as_ref(), change.after.as_ref()),
                node: change.after.map(Tenant::from),
            })
        });
        guarded(ctx, Action::TenantRead, tenant, sight, changed)
    }
}
