//! Modules: the parts of the platform that a tenant uses, registered from their manifests.

use super::loaders::{VersionsKey, load};
use super::manifests::{ManifestInput, ModuleIntegration, ModuleResource, ModuleRole, ModuleRoute, sent};
use super::target::{Target, target_inputs};
use crate::graphql::audit::door::{denied, sees};
use crate::graphql::errors::{Code, UserError, error};
use crate::graphql::filters::{DateTimeFilter, IdFilter, TextFilter, enum_filter, filter, filter_input};
use crate::graphql::paging::{OrderDirection, PageArgs, connection};
use crate::graphql::reads::failed;
use crate::graphql::request::{Receipt, at_least, call, credential, parts, permit, receipt, tenant_of};
use crate::graphql::scalars::{BigInt, Position};
use async_graphql::connection::Connection;
use async_graphql::{ComplexObject, Context, Enum, InputObject, Json, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use daybook_app::authorize;
use daybook_domain::platform::ModuleCommand;
use daybook_domain::platform::module::Keyword;
use daybook_domain::value::Reason;
use daybook_domain::{Action, InvalidValue, TenantId};
use daybook_projections::engine::Lanes;
use daybook_projections::platform::module_versions::{VERSIONS_MAX, VersionRow};
use daybook_projections::platform::modules::{self, ModuleField, ModuleOrderBy};
use daybook_projections::read::filter::Filter;
use daybook_projections::{ModuleVersions, Modules, ReadModel, Scope};
use uuid::Uuid;

pub(super) use daybook_projections::platform::modules::ModuleRow;

const READ_MODELS: &[&str] = &[Modules::NAME];

/// Whether a module may be used.
#[derive(Enum, Clone, Copy, PartialEq, Eq, Debug)]
#[graphql(remote = "daybook_projections::platform::modules::ModuleStatus")]
pub enum ModuleStatus {
    /// Known, and not enabled yet.
    Registered,
    /// May be used by those to whom it is granted.
    Enabled,
    /// Until it is enabled again.
    Disabled,
    /// For good; its key is free for another module.
    Retired,
}

/// A part of the platform that a tenant uses.
#[derive(SimpleObject, Clone)]
#[graphql(complex)]
pub struct Module {
    /// Stays the same through its versions.
    pub id: Uuid,
    /// Id of the tenant.
    pub tenant: Uuid,
    /// Unique among the tenant's modules that are not retired, e.g. `"bess-sizing"`.
    pub key: String,
    /// E.g. `"Battery sizing"`.
    pub name: String,
    /// The module's own version by the rules of semver.org, e.g. `"1.4.0"`.
    pub release: String,
    /// Whether it may be used.
    pub status: ModuleStatus,
    /// Why it is disabled or retired.
    pub reason: Option<String>,
    /// What it is for. Null when it does not say so, or once retired.
    pub description: Option<String>,
    /// Who made it, e.g. `"Ampyr Energy Tech"`. Null when it does not say so, or once retired.
    pub author: Option<String>,
    /// The name of an icon, e.g. `"battery"`. Null when it does not say so, or once retired.
    pub icon: Option<String>,
    /// Where it is shown, e.g. `"planning"`. Null when it does not say so, or once retired.
    pub category: Option<String>,
    /// How it is part of the platform. Null once retired.
    pub integration: Option<ModuleIntegration>,
    /// The roles in which it can be granted, by their keys. None once retired.
    pub roles: Vec<ModuleRole>,
    /// Its entries in a menu, in its order. None once retired.
    pub routes: Vec<ModuleRoute>,
    /// What it starts with: keys of its choosing; booleans, whole numbers and texts.
    pub settings: Json<serde_json::Value>,
    /// Services of the platform that it needs, e.g. `["audit", "storage"]`. None once retired.
    pub dependencies: Vec<String>,
    /// How much of something it may use. None once retired.
    pub resources: Vec<ModuleResource>,
    /// Number of changes so far; send it back as `expectedVersion` to change only what you have seen.
    pub version: BigInt,
    /// When it was registered.
    pub registered_at: DateTime<Utc>,
    /// When it changed last.
    pub changed_at: DateTime<Utc>,
}

impl From<ModuleRow> for Module {
    fn from(row: ModuleRow) -> Self {
        let manifest = row.manifest;
        let manifest = manifest.as_deref();
        let word = |word: &Option<Keyword>| word.as_ref().map(|word| word.as_str().to_owned());
        let about = manifest.map(|m| &m.about);
        let description = manifest.map(|m| m.description.as_str()).filter(|text| !text.is_empty());
        Module {
            id: row.module_id,
            tenant: row.tenant_id,
            key: row.key,
            name: row.name,
            release: row.module_version,
            status: row.status.into(),
            reason: row.reason,
            description: description.map(str::to_owned),
            author: about.and_then(|about| about.author.as_ref()).map(|name| name.as_str().to_owned()),
            icon: about.and_then(|about| word(&about.icon)),
            category: about.and_then(|about| word(&about.category)),
            dependencies: manifest
                .map(|m| m.dependencies.iter().map(|word| word.as_str().to_owned()).collect())
                .unwrap_or_default(),
            resources: manifest.map(|m| m.resources.iter().map(ModuleResource::from).collect()).unwrap_or_default(),
            integration: manifest.map(|m| ModuleIntegration::from(&m.integration)),
            roles: manifest.map(|m| m.roles.iter().map(ModuleRole::from).collect()).unwrap_or_default(),
            routes: manifest.map(|m| m.routes.iter().map(ModuleRoute::from).collect()).unwrap_or_default(),
            settings: Json(
                manifest.and_then(|m| serde_json::to_value(&m.settings).ok()).unwrap_or_else(|| serde_json::json!({})),
            ),
            version: BigInt(row.version),
            registered_at: row.registered_at,
            changed_at: row.changed_at,
        }
    }
}

/// A version that a module was brought to.
#[derive(SimpleObject, Clone)]
pub struct ModuleRelease {
    /// E.g. `"1.4.0"`.
    pub release: String,
    /// When the module was brought to it.
    pub released_at: DateTime<Utc>,
    /// The module's `version` after it.
    pub version: BigInt,
    /// Parts of the manifest that differ from the version before, e.g. `["roles", "settings"]`; of the first one, none.
    pub changed: Vec<String>,
    /// Keys of roles that are gone with it, e.g. `["planner"]`.
    pub roles_removed: Vec<String>,
    /// The moment of it: the audit trail has who did it and every value.
    pub position: Position,
}

#[ComplexObject]
impl Module {
    /// The versions of its manifest, the latest first; at most 200.
    async fn versions(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "How many, 1–200.", default = 50)] first: i32,
    ) -> Result<Vec<ModuleRelease>> {
        let first = u16::try_from(first).ok().filter(|first| (1..=VERSIONS_MAX).contains(first));
        let Some(first) = first else {
            return Err(error(Code::BadUserInput, format!("first is from 1 to {VERSIONS_MAX}")));
        };
        let tenant = TenantId(self.tenant);
        at_least(ctx, &[ModuleVersions::NAME], Lanes::Of(tenant), None).await?;
        let rows = load(ctx, VersionsKey(tenant, self.id, first)).await?.unwrap_or_default();
        let opaque = &parts(ctx)?.opaque;
        let release = |row: VersionRow| ModuleRelease {
            release: row.release,
            released_at: row.released_at,
            version: BigInt(row.version),
            changed: row.changed,
            roles_removed: row.roles_removed,
            position: Position(opaque.position(tenant, u64::try_from(row.tenant_position).unwrap_or_default())),
        };
        Ok(rows.into_iter().map(release).collect())
    }
}

/// What to sort modules by.
#[derive(Enum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ModuleOrderField {
    /// When they were registered.
    #[default]
    RegisteredAt,
    /// Upper and lower case alike.
    Name,
}

/// How to sort modules.
#[derive(InputObject, Clone, Copy, Default)]
pub struct ModuleOrder {
    /// What to sort by.
    #[graphql(default)]
    pub field: ModuleOrderField,
    /// Which way.
    #[graphql(default)]
    pub direction: OrderDirection,
}

enum_filter! {
    /// A condition on the status of a module, e.g. `{ ne: RETIRED }`. Every operator that is given must hold.
    ModuleStatusFilter of ModuleStatus as daybook_projections::platform::modules::ModuleStatus,
    "`ENABLED`.", "`[ENABLED, DISABLED]`."
}

filter_input! {
    /// Which modules; everything that is given must hold. E.g. `{ key: { startsWith: "bess-" }, status: { ne: RETIRED } }`.
    ModuleFilter on ModuleField {
        /// The id, e.g. `{ eq: "0190f3e0-0000-7000-8000-000000000001" }`.
        id: IdFilter => ModuleField::Id,
        /// The key, upper and lower case apart, e.g. `{ eq: "bess-sizing" }`.
        key: TextFilter => ModuleField::Key,
        /// The name, upper and lower case alike, e.g. `{ startsWith: "battery" }`.
        name: TextFilter => ModuleField::Name,
        /// The status, e.g. `{ in: [ENABLED, DISABLED] }`.
        status: ModuleStatusFilter => ModuleField::Status,
        /// When it was registered, e.g. `{ gte: "2025-01-01T00:00:00Z" }`.
        registered_at: DateTimeFilter => ModuleField::RegisteredAt,
    }
}

/// What a mutation of a module led to.
#[derive(SimpleObject)]
#[graphql(complex)]
pub struct ModulePayload {
    #[graphql(flatten)]
    receipt: Receipt,
}

#[ComplexObject]
impl ModulePayload {
    /// The module after the change. Null when the business refused, or when the caller may not read it.
    async fn module(&self, ctx: &Context<'_>) -> Result<Option<Module>> {
        match self.receipt.shown(ctx, Action::ModuleRead, READ_MODELS).await? {
            Some(written) => one(ctx, written.tenant, written.id).await,
            None => Ok(None),
        }
    }
}

async fn one(ctx: &Context<'_>, tenant: TenantId, id: Uuid) -> Result<Option<Module>> {
    let reader = parts(ctx)?.reads.reader();
    let row = reader.transaction(Scope::Tenant(tenant), async |session| modules::module(session, tenant, id).await);
    Ok(row.await.map_err(failed)?.map(Module::from))
}

/// A module to register.
#[derive(InputObject)]
pub struct RegisterModuleInput {
    /// Id of the tenant; your own unless told.
    pub tenant: Option<Uuid>,
    /// What the module says of itself. Either this or `text`.
    pub manifest: Option<ManifestInput>,
    /// The same as a text in YAML or JSON, as in a file `module.yaml`: the published schema `module.schema.json` has its
    /// fields. At most 131,072 bytes.
    pub text: Option<String>,
    /// Id of this command, chosen by you: a repeat with the same id gives the same answer and no second module.
    pub client_mutation_id: Option<Uuid>,
}

target_inputs! {
    /// Id of the module.
    id,
    /// Change only if the module still has this version; `CONFLICT` otherwise.
    expected_version;

    /// A module and its new manifest.
    UpgradeModuleInput {
        /// The whole manifest of a later version under the same key. A role that it lacks is gone. Either this or `text`.
        manifest: Option<ManifestInput>,
        /// The same as a text in YAML or JSON: see `registerModule`.
        text: Option<String>,
    }
    /// A module to enable.
    EnableModuleInput {}
    /// A module to disable.
    DisableModuleInput {
        /// 1–500 characters.
        reason: String,
    }
    /// A module to retire.
    RetireModuleInput {
        /// 1–500 characters.
        reason: String,
    }
}

fn refused(faults: Vec<UserError>) -> ModulePayload {
    ModulePayload { receipt: Receipt::refused_all(faults) }
}

async fn carry_out(
    ctx: &Context<'_>,
    target: Target,
    command: Result<ModuleCommand, InvalidValue>,
) -> Result<ModulePayload> {
    let command = match command {
        Ok(command) => command,
        Err(invalid) => return Ok(ModulePayload { receipt: Receipt::refused(invalid) }),
    };
    let authorized = authorize(credential(ctx)?, target.tenant, command).map_err(|d| denied(ctx, &d, target.tenant))?;
    let call = call(ctx, target.command_id, target.expected_version)?;
    let executed = parts(ctx)?.executor.execute_module(authorized, target.id, call).await;
    Ok(ModulePayload { receipt: receipt(ctx, target.id, executed)? })
}

#[derive(Default)]
pub struct ModuleMutation;

#[Object]
impl ModuleMutation {
    /// Registers a module from its manifest. It can be granted once it is enabled.
    async fn register_module(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The module to register.")] input: RegisterModuleInput,
    ) -> Result<ModulePayload> {
        let tenant = tenant_of(ctx, input.tenant)?;
        // Nobody has a text read who may not send one.
        permit(ctx, Action::ModuleRegister, tenant)?;
        // The id follows from the command, so a repeat is about the same module.
        let command_id = input.client_mutation_id.map_or_else(|| parts(ctx).map(|p| p.system.uuid_v7()), Ok)?;
        let id = Uuid::new_v5(&credential(ctx)?.actor.id, command_id.as_bytes());
        let target = Target { tenant, id, expected_version: None, command_id: input.client_mutation_id };
        match sent(input.manifest, input.text.as_deref()) {
            Ok(manifest) => carry_out(ctx, target, Ok(ModuleCommand::Register { manifest })).await,
            Err(faults) => Ok(refused(faults)),
        }
    }

    /// Brings a module to a later version of its manifest. Grants of roles that are gone allow nothing any more.
    async fn upgrade_module(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The module and its new manifest.")] input: UpgradeModuleInput,
    ) -> Result<ModulePayload> {
        let target = input.target(ctx)?;
        permit(ctx, Action::ModuleUpgrade, target.tenant)?;
        match sent(input.manifest, input.text.as_deref()) {
            Ok(manifest) => carry_out(ctx, target, Ok(ModuleCommand::Upgrade { manifest })).await,
            Err(faults) => Ok(refused(faults)),
        }
    }

    /// Lets a module be used by those to whom it is granted.
    async fn enable_module(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The module.")] input: EnableModuleInput,
    ) -> Result<ModulePayload> {
        carry_out(ctx, input.target(ctx)?, Ok(ModuleCommand::Enable)).await
    }

    /// Lets nobody use a module until it is enabled again. Grants of it stay, and allow nothing.
    async fn disable_module(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The module and why.")] input: DisableModuleInput,
    ) -> Result<ModulePayload> {
        let command = Reason::parse(&input.reason).map(|reason| ModuleCommand::Disable { reason });
        carry_out(ctx, input.target(ctx)?, command).await
    }

    /// Retires a module for good. Its key is free for another one.
    async fn retire_module(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The module and why.")] input: RetireModuleInput,
    ) -> Result<ModulePayload> {
        let command = Reason::parse(&input.reason).map(|reason| ModuleCommand::Retire { reason });
        carry_out(ctx, input.target(ctx)?, command).await
    }
}

#[derive(Default)]
pub struct ModuleQuery;

#[Object]
impl ModuleQuery {
    /// One module of a tenant. Null when there is none with this id, or none that you may read.
    async fn module(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Id of the module.")] id: Uuid,
        #[graphql(desc = "Id of the tenant; your own unless told.")] tenant: Option<Uuid>,
        #[graphql(desc = "Wait until this moment shows, e.g. the `position` of a mutation.")] at_least: Option<
            Position,
        >,
    ) -> Result<Option<Module>> {
        let tenant = tenant_of(ctx, tenant)?;
        if !sees(ctx, Action::ModuleRead, tenant)? {
            return Ok(None);
        }
        self::at_least(ctx, READ_MODELS, Lanes::Of(tenant), at_least).await?;
        one(ctx, tenant, id).await
    }

    /// The modules of a tenant, a page at a time, retired ones among them. Needs the permission `module.list`.
    #[allow(clippy::too_many_arguments)]
    async fn modules(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Id of the tenant; your own unless told.")] tenant: Option<Uuid>,
        #[graphql(desc = "Which modules; all unless told.")] filter: Option<ModuleFilter>,
        #[graphql(desc = "How many from the start, 1–200; 50 unless told.")] first: Option<i32>,
        #[graphql(desc = "Continue after this cursor.")] after: Option<String>,
        #[graphql(desc = "How many from the end, 1–200.")] last: Option<i32>,
        #[graphql(desc = "Continue before this cursor.")] before: Option<String>,
        #[graphql(desc = "What to sort by; the id decides between equals.", default)] order_by: ModuleOrder,
        #[graphql(desc = "Wait until this moment shows.")] at_least: Option<Position>,
    ) -> Result<Connection<String, Module, ModuleCount>> {
        let tenant = tenant_of(ctx, tenant)?;
        permit(ctx, Action::ModuleList, tenant)?;
        let opaque = &parts(ctx)?.opaque;
        let list = format!("modules v1 {tenant} {:?} {:?}", order_by.field, order_by.direction);
        let page = PageArgs::new(first, after, last, before)?.page(opaque, &list)?;
        let by = match order_by.field {
            ModuleOrderField::RegisteredAt => ModuleOrderBy::RegisteredAt,
            ModuleOrderField::Name => ModuleOrderBy::Name,
        };
        let (filter, direction) = (self::filter(filter)?, order_by.direction.into());
        self::at_least(ctx, READ_MODELS, Lanes::Of(tenant), at_least).await?;
        let reader = parts(ctx)?.reads.reader();
        let slice = reader
            .transaction(Scope::Tenant(tenant), async |session| {
                modules::page(session, tenant, &filter, by, direction, &page).await
            })
            .await
            .map_err(failed)?;
        connection(opaque, &list, slice, ModuleCount { tenant, filter }, |row| row.cursor(by), Module::from)
    }
}

/// Counted only when asked for.
pub struct ModuleCount {
    tenant: TenantId,
    filter: Filter<ModuleField>,
}

#[Object]
impl ModuleCount {
    /// How many modules there are on all pages.
    async fn total_count(&self, ctx: &Context<'_>) -> Result<BigInt> {
        let reader = parts(ctx)?.reads.reader();
        let count = reader.transaction(Scope::Tenant(self.tenant), async |session| {
            modules::count(session, self.tenant, &self.filter).await
        });
        Ok(BigInt::from(count.await.map_err(failed)?))
    }
}
