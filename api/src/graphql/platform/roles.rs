//! Roles of a tenant's own making: rules as data.

use super::target::{Target, target_inputs};
use crate::graphql::audit::door::{denied, sees};
use crate::graphql::errors::UserError;
use crate::graphql::filters::{IdFilter, TextFilter, enum_filter, filter, filter_input};
use crate::graphql::paging::{OrderDirection, PageArgs, connection};
use crate::graphql::reads::failed;
use crate::graphql::request::{Receipt, at_least, call, credential, parts, permit, receipt, tenant_of};
use crate::graphql::scalars::{BigInt, Position};
use async_graphql::connection::Connection;
use async_graphql::{ComplexObject, Context, Enum, InputObject, Json, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use daybook_app::authorize;
use daybook_domain::platform::module::Description;
use daybook_domain::platform::role::{Definition, RoleCommand, role_id};
use daybook_domain::rules::{self, RoleName, find, parse_fields, parse_rules, preset, preset_keys};
use daybook_domain::value::{Name, Reason};
use daybook_domain::{Action, InvalidValue, TenantId};
use daybook_projections::engine::Lanes;
use daybook_projections::platform::roles::{self as rows, RoleField, RoleRow};
use daybook_projections::read::filter::Filter;
use daybook_projections::{ReadModel, Roles, Scope};
use uuid::Uuid;

const READ_MODELS: &[&str] = &[Roles::NAME];

/// Whether a rule gives or takes.
#[derive(Enum, Clone, Copy, PartialEq, Eq, Debug)]
#[graphql(remote = "daybook_domain::rules::Effect")]
pub enum RoleEffect {
    /// Permits.
    Allow,
    /// Forbids, and wins over every rule that allows.
    Deny,
}

/// What shows of a field.
#[derive(Enum, Clone, Copy, PartialEq, Eq, Debug)]
#[graphql(remote = "daybook_domain::rules::FieldRead")]
pub enum FieldVisibility {
    /// All of it.
    Show,
    /// Its last four characters, if that is less than half.
    Mask,
    /// Nothing, and nothing can be asked by it.
    Hide,
}

/// Whether a role says anything.
#[derive(Enum, Clone, Copy, PartialEq, Eq, Debug)]
#[graphql(remote = "daybook_projections::platform::roles::RoleStatus")]
pub enum RoleStatus {
    /// It does.
    Defined,
    /// Not until it is defined anew.
    Removed,
}

/// A rule of a role.
#[derive(SimpleObject, Clone)]
pub struct RoleRule {
    /// Whether it gives or takes.
    pub effect: RoleEffect,
    /// What it is about, e.g. `"device.read"`, `"device.*"` or `"*"`.
    pub action: String,
    /// Of which records it holds; null: of all. See `docs/rules.md`.
    pub condition: Option<Json<serde_json::Value>>,
    /// Whether it holds of one's own records only.
    pub own: bool,
}

/// A rule of a role as it is sent.
#[derive(InputObject)]
pub struct RoleRuleInput {
    /// Whether it gives or takes.
    pub effect: RoleEffect,
    /// What it is about, e.g. `"device.read"`, `"device.*"` or `"*"`.
    pub action: String,
    /// Of which records it holds, e.g. `{"site": {"eq": "Roof"}}`; of all unless told.
    pub condition: Option<Json<serde_json::Value>>,
    /// Whether it holds of one's own records only.
    #[graphql(default)]
    pub own: bool,
}

/// What a role keeps of a field from those who hold it.
#[derive(SimpleObject, Clone)]
#[graphql(name = "RoleField")]
pub struct FieldOfRole {
    /// E.g. `"device.serial"`.
    pub field: String,
    /// What shows of it.
    pub read: FieldVisibility,
    /// Whether commands that set it are denied.
    pub read_only: bool,
}

/// A field rule as it is sent.
#[derive(InputObject)]
pub struct RoleFieldInput {
    /// E.g. `"device.serial"`.
    pub field: String,
    /// What shows of it.
    pub read: FieldVisibility,
    /// Whether commands that set it are denied.
    #[graphql(default)]
    pub read_only: bool,
}

/// A role that a tenant has made. Deny wins, and what no rule of any role allows is denied.
#[derive(SimpleObject, Clone)]
pub struct Role {
    /// Follows from tenant and key: defined anew, it is the same role.
    pub id: Uuid,
    /// Id of the tenant.
    pub tenant: Uuid,
    /// What members hold it by, e.g. `"sales_manager"`.
    pub key: String,
    /// E.g. `"Sales manager"`.
    pub name: String,
    /// What it is for; empty if nobody has said so.
    pub description: String,
    /// Whether it says anything.
    pub status: RoleStatus,
    /// None once removed.
    pub rules: Vec<RoleRule>,
    /// What it keeps of fields.
    pub fields: Vec<FieldOfRole>,
    /// The preset that it was copied from.
    pub preset: Option<String>,
    /// Number of changes so far; send it back as `expectedVersion` to change only what you have seen.
    pub version: BigInt,
    /// When it was defined last.
    pub defined_at: DateTime<Utc>,
    /// When it changed last.
    pub changed_at: DateTime<Utc>,
}

fn rule_of(rule: rules::Rule) -> RoleRule {
    RoleRule {
        effect: rule.effect.into(),
        action: rule.action.as_str().to_owned(),
        condition: rule.condition.map(Json),
        own: rule.own,
    }
}

fn field_of(rule: rules::FieldRule) -> FieldOfRole {
    FieldOfRole { field: rule.field.as_str().to_owned(), read: rule.read.into(), read_only: rule.read_only }
}

impl From<RoleRow> for Role {
    fn from(row: RoleRow) -> Self {
        Role {
            id: row.role_id,
            tenant: row.tenant_id,
            key: row.key,
            name: row.name,
            description: row.description,
            status: row.status.into(),
            rules: row.rules.into_iter().map(rule_of).collect(),
            fields: row.fields.into_iter().map(field_of).collect(),
            preset: row.preset,
            version: BigInt(row.version),
            defined_at: row.defined_at,
            changed_at: row.changed_at,
        }
    }
}

/// A role of a preset, to be copied into a tenant.
#[derive(SimpleObject)]
pub struct PresetRole {
    /// The key that it gets.
    pub key: String,
    /// E.g. `"Sales manager"`.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// What it says.
    pub rules: Vec<RoleRule>,
    /// What it keeps of fields.
    pub fields: Vec<FieldOfRole>,
}

/// Roles for one kind of business.
#[derive(SimpleObject)]
pub struct RolePreset {
    /// E.g. `"erp"`.
    pub key: String,
    /// E.g. `"ERP and CRM"`.
    pub name: String,
    /// What is copied.
    pub roles: Vec<PresetRole>,
}

/// How to sort roles.
#[derive(InputObject, Clone, Copy, Default)]
pub struct RoleOrder {
    /// Which way, by their keys.
    #[graphql(default)]
    pub direction: OrderDirection,
}

enum_filter! {
    /// A condition on the status of a role, e.g. `{ eq: DEFINED }`. Every operator that is given must hold.
    RoleStatusFilter of RoleStatus as daybook_projections::platform::roles::RoleStatus, "`DEFINED`.", "`[DEFINED]`."
}

filter_input! {
    /// Which roles; everything that is given must hold. E.g. `{ status: { eq: DEFINED } }`.
    RoleFilter on RoleField {
        /// The id, e.g. `{ eq: "0190f3e0-0000-7000-8000-000000000001" }`.
        id: IdFilter => RoleField::Id,
        /// The key, e.g. `{ startsWith: "sales" }`.
        key: TextFilter => RoleField::Key,
        /// The status, e.g. `{ eq: DEFINED }`.
        status: RoleStatusFilter => RoleField::Status,
    }
}

/// What a mutation of a role led to.
#[derive(SimpleObject)]
#[graphql(complex)]
pub struct RolePayload {
    #[graphql(flatten)]
    receipt: Receipt,
}

#[ComplexObject]
impl RolePayload {
    /// The role after the change. Null when the business refused, or when the caller may not read it.
    async fn role(&self, ctx: &Context<'_>) -> Result<Option<Role>> {
        match self.receipt.shown(ctx, Action::RoleRead, READ_MODELS).await? {
            Some(written) => one(ctx, written.tenant, written.id).await,
            None => Ok(None),
        }
    }
}

/// What became of the roles of a preset.
#[derive(SimpleObject)]
pub struct InstallRolesPayload {
    /// One for each role of the preset. One that the tenant has already, and has changed, stays as it is.
    pub roles: Vec<RolePayload>,
    /// What the business refuses of the request as a whole.
    pub user_errors: Vec<UserError>,
}

async fn one(ctx: &Context<'_>, tenant: TenantId, id: Uuid) -> Result<Option<Role>> {
    let reader = parts(ctx)?.reads.reader();
    let row = reader.transaction(Scope::Tenant(tenant), async |session| rows::role(session, tenant, id).await);
    Ok(row.await.map_err(failed)?.map(Role::from))
}

/// A role to define.
#[derive(InputObject)]
pub struct DefineRoleInput {
    /// Id of the tenant; your own unless told.
    pub tenant: Option<Uuid>,
    /// A small letter, then at most 62 of a-z, 0-9, _ and -; none of `tenant_admin`, `member` and `viewer`.
    pub key: String,
    /// 1–200 characters.
    pub name: String,
    /// Up to 2,000 characters.
    #[graphql(default)]
    pub description: String,
    /// At most 200.
    pub rules: Vec<RoleRuleInput>,
    /// At most 100.
    #[graphql(default)]
    pub fields: Vec<RoleFieldInput>,
    /// Id of this command, chosen by you: a repeat with the same id gives the same answer.
    pub client_mutation_id: Option<Uuid>,
}

/// The roles of a preset, to be copied.
#[derive(InputObject)]
pub struct InstallRolesInput {
    /// Id of the tenant; your own unless told.
    pub tenant: Option<Uuid>,
    /// Which: see `rolePresets`.
    pub preset: String,
}

target_inputs! {
    /// Id of the role.
    id,
    /// Change only if the role still has this version; `CONFLICT` otherwise.
    expected_version;

    /// A role and all that it says from now on.
    ChangeRoleInput {
        /// Its key, which stays.
        key: String,
        /// 1–200 characters.
        name: String,
        /// Up to 2,000 characters.
        description: Option<String>,
        /// All of them; at most 200.
        rules: Vec<RoleRuleInput>,
        /// All of them; at most 100.
        fields: Option<Vec<RoleFieldInput>>,
    }
    /// A role to remove.
    RemoveRoleInput {
        /// 1–500 characters.
        reason: String,
    }
}

fn definition(
    key: &str,
    name: &str,
    description: &str,
    sent: &[RoleRuleInput],
    fields: &[RoleFieldInput],
) -> Result<Definition, InvalidValue> {
    let rules = sent.iter().map(|rule| {
        (rule.effect.into(), rule.action.as_str(), rule.condition.as_ref().map(|Json(json)| json.clone()), rule.own)
    });
    let fields = fields.iter().map(|rule| (rule.field.as_str(), rule.read.into(), rule.read_only));
    Ok(Definition {
        key: RoleName::parse(key)?,
        name: Name::parse(name)?,
        description: Description::parse(description)?,
        rules: parse_rules(rules.collect(), find)?,
        fields: parse_fields(fields.collect(), find)?,
        preset: None,
    })
}

async fn carry_out(
    ctx: &Context<'_>,
    target: Target,
    command: Result<RoleCommand, InvalidValue>,
) -> Result<RolePayload> {
    let command = match command {
        Ok(command) => command,
        Err(invalid) => return Ok(RolePayload { receipt: Receipt::refused(invalid) }),
    };
    let authorized = authorize(credential(ctx)?, target.tenant, command).map_err(|d| denied(ctx, &d, target.tenant))?;
    let call = call(ctx, target.command_id, target.expected_version)?;
    let executed = parts(ctx)?.executor.execute_role(authorized, target.id, call).await;
    parts(ctx)?.rules.wrote(target.tenant, "role", target.id);
    Ok(RolePayload { receipt: receipt(ctx, target.id, executed)? })
}

async fn define(
    ctx: &Context<'_>,
    tenant: TenantId,
    definition: Definition,
    command_id: Option<Uuid>,
) -> Result<RolePayload> {
    let id = role_id(tenant, &definition.key);
    let target = Target { tenant, id, expected_version: None, command_id };
    carry_out(ctx, target, Ok(RoleCommand::Define(definition))).await
}

#[derive(Default)]
pub struct RoleMutation;

#[Object]
impl RoleMutation {
    /// Defines a role of the tenant's own making.
    async fn define_role(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The role and what it says.")] input: DefineRoleInput,
    ) -> Result<RolePayload> {
        let tenant = tenant_of(ctx, input.tenant)?;
        match definition(&input.key, &input.name, &input.description, &input.rules, &input.fields) {
            Ok(definition) => define(ctx, tenant, definition, input.client_mutation_id).await,
            Err(invalid) => Ok(RolePayload { receipt: Receipt::refused(invalid) }),
        }
    }

    /// Copies the roles of a preset into a tenant, whose own they are from then on. Carried out again, it defines what is
    /// missing.
    async fn install_roles(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which preset, and where.")] input: InstallRolesInput,
    ) -> Result<InstallRolesPayload> {
        let tenant = tenant_of(ctx, input.tenant)?;
        permit(ctx, Action::RoleDefine, tenant)?;
        let preset = match preset(&input.preset) {
            Ok(preset) => preset,
            Err(invalid) => return Ok(InstallRolesPayload { roles: vec![], user_errors: vec![invalid.into()] }),
        };
        let mut roles = Vec::with_capacity(preset.roles.len());
        for role in preset.roles {
            let description = match Description::parse(&role.description) {
                Ok(description) => description,
                Err(invalid) => return Ok(InstallRolesPayload { roles, user_errors: vec![invalid.into()] }),
            };
            let (key, of) = (role.key, Some(preset.key.to_owned()));
            let definition =
                Definition { key, name: role.name, description, rules: role.rules, fields: role.fields, preset: of };
            roles.push(define(ctx, tenant, definition, None).await?);
        }
        Ok(InstallRolesPayload { roles, user_errors: vec![] })
    }

    /// Lets a role say something else, to all who hold it.
    async fn change_role(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The role and what it says.")] input: ChangeRoleInput,
    ) -> Result<RolePayload> {
        let fields = input.fields.as_deref().unwrap_or_default();
        let description = input.description.as_deref().unwrap_or_default();
        let definition = definition(&input.key, &input.name, description, &input.rules, fields);
        carry_out(ctx, input.target(ctx)?, definition.map(RoleCommand::Change)).await
    }

    /// Removes a role. Who holds it is allowed and denied nothing by it any more.
    async fn remove_role(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The role and why.")] input: RemoveRoleInput,
    ) -> Result<RolePayload> {
        let command = Reason::parse(&input.reason).map(|reason| RoleCommand::Remove { reason });
        carry_out(ctx, input.target(ctx)?, command).await
    }
}

#[derive(Default)]
pub struct RoleQuery;

#[Object]
impl RoleQuery {
    /// One role of a tenant's own making. Null when there is none with this id, or none that you may read.
    async fn role(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Id of the role.")] id: Uuid,
        #[graphql(desc = "Id of the tenant; your own unless told.")] tenant: Option<Uuid>,
        #[graphql(desc = "Wait until this moment shows, e.g. the `position` of a mutation.")] at_least: Option<
            Position,
        >,
    ) -> Result<Option<Role>> {
        let tenant = tenant_of(ctx, tenant)?;
        if !sees(ctx, Action::RoleRead, tenant)? {
            return Ok(None);
        }
        self::at_least(ctx, READ_MODELS, Lanes::Of(tenant), at_least).await?;
        one(ctx, tenant, id).await
    }

    /// The roles of a tenant's own making by their keys, a page at a time, removed ones among them. Needs the permission
    /// `role.list`.
    #[allow(clippy::too_many_arguments)]
    async fn roles(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Id of the tenant; your own unless told.")] tenant: Option<Uuid>,
        #[graphql(desc = "Which roles; all unless told.")] filter: Option<RoleFilter>,
        #[graphql(desc = "How many from the start, 1–200; 50 unless told.")] first: Option<i32>,
        #[graphql(desc = "Continue after this cursor.")] after: Option<String>,
        #[graphql(desc = "How many from the end, 1–200.")] last: Option<i32>,
        #[graphql(desc = "Continue before this cursor.")] before: Option<String>,
        #[graphql(desc = "How to sort.", default)] order_by: RoleOrder,
        #[graphql(desc = "Wait until this moment shows.")] at_least: Option<Position>,
    ) -> Result<Connection<String, Role, RoleCount>> {
        let tenant = tenant_of(ctx, tenant)?;
        permit(ctx, Action::RoleList, tenant)?;
        let opaque = &parts(ctx)?.opaque;
        let list = format!("roles v1 {tenant} {:?}", order_by.direction);
        let page = PageArgs::new(first, after, last, before)?.page(opaque, &list)?;
        let (filter, direction) = (self::filter(filter)?, order_by.direction.into());
        self::at_least(ctx, READ_MODELS, Lanes::Of(tenant), at_least).await?;
        let reader = parts(ctx)?.reads.reader();
        let slice = reader
            .transaction(Scope::Tenant(tenant), async |session| {
                rows::page(session, tenant, &filter, direction, &page).await
            })
            .await
            .map_err(failed)?;
        connection(opaque, &list, slice, RoleCount { tenant, filter }, RoleRow::cursor, Role::from)
    }

    /// Roles that come with Daybook, to be copied by `installRoles`. Everybody who is signed in may read them.
    async fn role_presets(&self, ctx: &Context<'_>) -> Result<Vec<RolePreset>> {
        credential(ctx)?;
        let presets = preset_keys().filter_map(|key| preset(key).ok());
        Ok(presets
            .map(|preset| RolePreset {
                key: preset.key.to_owned(),
                name: preset.name.as_str().to_owned(),
                roles: preset.roles.into_iter().map(preset_role).collect(),
            })
            .collect())
    }
}

fn preset_role(role: rules::PresetRole) -> PresetRole {
    PresetRole {
        key: role.key.as_str().to_owned(),
        name: role.name.as_str().to_owned(),
        description: role.description,
        rules: role.rules.into_iter().map(rule_of).collect(),
        fields: role.fields.into_iter().map(field_of).collect(),
    }
}

/// Counted only when asked for.
pub struct RoleCount {
    tenant: TenantId,
    filter: Filter<RoleField>,
}

#[Object]
impl RoleCount {
    /// How many roles there are on all pages.
    async fn total_count(&self, ctx: &Context<'_>) -> Result<BigInt> {
        let reader = parts(ctx)?.reads.reader();
        let count = reader.transaction(Scope::Tenant(self.tenant), async |session| {
            rows::count(session, self.tenant, &self.filter).await
        });
        Ok(BigInt::from(count.await.map_err(failed)?))
    }
}
