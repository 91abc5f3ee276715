//! What one may use of modules: for a launcher, and for modules that ask what their user may do.

use super::grants::{READ_MODELS, own_membership};
use super::manifests::{ModuleIntegration, ModuleRole, ModuleRoute};
use super::modules::ModuleRow;
use crate::graphql::reads::failed;
use crate::graphql::request::{at_least, credential, parts};
use async_graphql::{Context, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use daybook_domain::platform::module::{Permission, RoleKey};
use daybook_domain::{PLATFORM_TENANT, TenantId};
use daybook_projections::engine::Lanes;
use daybook_projections::platform::grants::{self, GrantField, GrantView};
use daybook_projections::platform::modules;
use daybook_projections::read::filter::{Filter, Test};
use daybook_projections::read::{Direction, Page};
use daybook_projections::{ModuleSwitches, ReadModel, Scope};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// Grants that are looked at of one member.
pub(super) const GRANTS_MAX: u16 = 200;

/// A module that you may use now.
#[derive(SimpleObject)]
pub struct MyModule {
    pub id: Uuid,
    /// E.g. `"bess-sizing"`.
    pub key: String,
    /// E.g. `"Battery sizing"`.
    pub name: String,
    /// Its version, e.g. `"1.4.0"`.
    pub release: String,
    pub description: Option<String>,
    pub icon: Option<String>,
    pub category: Option<String>,
    /// How to begin it.
    pub integration: ModuleIntegration,
    /// Its entries in a menu that you may visit.
    pub routes: Vec<ModuleRoute>,
    /// In which roles you may use it.
    pub roles: Vec<ModuleRole>,
    /// What you may do in it, in its own words; `"*"` is everything.
    pub permissions: Vec<String>,
    /// When the last of your grants of it ends. Null: without an end.
    pub until: Option<DateTime<Utc>>,
}

/// Waits until everything shows that this node knows to be recorded, so that what was switched off or revoked counts from the next
/// request on.
pub(super) async fn fresh(ctx: &Context<'_>, tenant: TenantId) -> Result<()> {
    at_least(ctx, READ_MODELS, Lanes::Of(tenant), None).await?;
    let parts = parts(ctx)?;
    let recorded = parts.executor.journal().durable().borrow().position;
    parts.reads.wait(READ_MODELS, Lanes::Of(tenant), recorded).await?;
    // What is off for all tenants is in the platform's lane.
    parts.reads.wait(&[ModuleSwitches::NAME], Lanes::Of(PLATFORM_TENANT), recorded).await
}

fn mine(row: ModuleRow, of: &[&GrantView]) -> Option<MyModule> {
    let manifest = row.manifest?;
    let held: BTreeSet<&str> = of.iter().map(|view| view.grant.role.as_str()).collect();
    let roles: Vec<_> = manifest.roles.iter().filter(|(key, _)| held.contains(key.as_str())).collect();
    let may = |permission: &Permission| roles.iter().any(|(_, role)| role.may(permission));
    let mut permissions: BTreeSet<&str> =
        roles.iter().flat_map(|(_, role)| &role.permissions).map(Permission::as_str).collect();
    if permissions.contains(Permission::EVERYTHING) {
        permissions = [Permission::EVERYTHING].into();
    }
    let word = |word: &Option<daybook_domain::platform::module::Keyword>| word.as_ref().map(|w| w.as_str().to_owned());
    let until = of.iter().map(|view| view.grant.until_at).max_by_key(|until| (until.is_none(), *until));
    let description = manifest.description.as_str();
    Some(MyModule {
        id: row.module_id,
        key: row.key,
        name: row.name,
        release: row.module_version,
        description: (!description.is_empty()).then(|| description.to_owned()),
        icon: word(&manifest.about.icon),
        category: word(&manifest.about.category),
        integration: ModuleIntegration::from(&manifest.integration),
        routes: manifest
            .routes
            .iter()
            .filter(|route| route.permission.as_ref().is_none_or(may))
            .map(ModuleRoute::from)
            .collect(),
        roles: roles.iter().map(|(key, role): &(&RoleKey, _)| ModuleRole::from((*key, *role))).collect(),
        permissions: permissions.into_iter().map(str::to_owned).collect(),
        until: until.flatten(),
    })
}

#[derive(Default)]
pub struct LauncherQuery;

#[Object]
impl LauncherQuery {
    /// The modules that you may use in your own tenant at this moment, by name: those that are on for everybody, for the
    /// tenant and for you, and granted to you. Of at most 200 grants.
    async fn my_modules(&self, ctx: &Context<'_>) -> Result<Vec<MyModule>> {
        let credential = credential(ctx)?;
        let tenant = credential.tenant;
        let Some(own) = own_membership(credential, tenant) else { return Ok(Vec::new()) };
        fresh(ctx, tenant).await?;
        let parts = parts(ctx)?;
        let now = parts.system.utc();
        let is = |field, value| Filter::Is(field, Test::Eq(value));
        let filter = Filter::And(vec![is(GrantField::Member, own.into()), is(GrantField::Allowed, true.into())]);
        let page = Page::first(GRANTS_MAX, None);
        let read = parts.reads.reader().transaction(Scope::Tenant(tenant), async |session| {
            let views = grants::page(session, tenant, &filter, now, Direction::Ascending, &page).await?.rows;
            let ids: BTreeSet<Uuid> = views.iter().map(|view| view.grant.module_id).collect();
            let ids: Vec<Uuid> = ids.into_iter().collect();
            Ok((views, modules::by_ids(session, tenant, &ids).await?))
        });
        let (views, rows) = read.await.map_err(failed)?;
        let mut by_module: BTreeMap<Uuid, Vec<&GrantView>> = BTreeMap::new();
        views.iter().for_each(|view| by_module.entry(view.grant.module_id).or_default().push(view));
        let of = |row: ModuleRow| by_module.get(&row.module_id).and_then(|views| mine(row, views));
        let mut modules: Vec<MyModule> = rows.into_iter().filter_map(of).collect();
        modules.sort_by(|one, other| (&one.name, one.id).cmp(&(&other.name, other.id)));
        Ok(modules)
    }
}
