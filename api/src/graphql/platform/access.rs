//! Why somebody may do something, or may not, of the platform or in a module; and what one may do oneself.

use super::launcher::{GRANTS_MAX, fresh};
use super::roles::RoleEffect;
use crate::graphql::energy::devices;
use crate::graphql::errors::{Code, error};
use crate::graphql::reads::failed;
use crate::graphql::request::{credential, parts, permit, tenant_of};
use crate::graphql::sight::{sight, unreadable};
use async_graphql::{Context, Enum, Json, Object, Result, SimpleObject};
use daybook_app::verdict;
use daybook_domain::condition::{Record, Truth, Value};
use daybook_domain::platform::membership_id;
use daybook_domain::platform::module::RoleKey;
use daybook_domain::platform::module::action::{ModuleAction, rules_of};
use daybook_domain::rules::{ActionPattern, Considered, Effect, Verdict};
use daybook_domain::{AccountId, Action, ActorKind, TenantId};
use daybook_projections::Scope;
use daybook_projections::energy::devices::DeviceRow;
use daybook_projections::platform::grants::{self, Access, Denial, GrantField};
use daybook_projections::platform::modules::ModuleStatus;
use daybook_projections::platform::{module_switches, modules};
use daybook_projections::read::filter::{Filter, Test};
use daybook_projections::read::{Direction, Page};
use std::sync::Arc;
use uuid::Uuid;

/// Whether a rule holds of a record.
#[derive(Enum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum RuleTruth {
    /// It does.
    True,
    /// It does not.
    False,
    /// It needs what is not known, e.g. because no record was named. A rule that allows does not, one that denies does.
    Unknown,
}

/// A rule that is about an action, and what it says.
#[derive(SimpleObject)]
pub struct ConsideredRule {
    /// The key of its role, e.g. `"sales_manager"` or, of a built-in one, `"viewer"`.
    pub role: String,
    /// Its place in the role, counted from 0; null for a built-in role.
    pub rule: Option<i32>,
    /// Whether it gives or takes.
    pub effect: RoleEffect,
    /// Whether it holds.
    pub holds: RuleTruth,
    /// Of which records it holds; null: of all.
    pub condition: Option<Json<serde_json::Value>>,
    /// Whether it holds of one's own records only.
    pub own: bool,
}

/// Why an account may do something in a tenant, or may not.
#[derive(SimpleObject)]
pub struct AccessExplanation {
    /// Whether it may.
    pub allowed: bool,
    /// Why, for a person, e.g. `"rule 2 of the role doctor denies invoice.read, and a denial wins"`.
    pub reason: String,
    /// The rule that decided. Null where none allows.
    pub decided_by: Option<ConsideredRule>,
    /// Every rule of every role held that is about the action.
    pub considered: Vec<ConsideredRule>,
    /// Of an action in a module: the level that decided. Null where a rule of a role of the tenant's making did, or none.
    pub level: Option<AccessLevel>,
}

/// What decides about access to a module: each must allow, and the first that does not decides.
#[derive(Enum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum AccessLevel {
    /// The platform has switched the module off, for all tenants.
    Platform,
    /// The tenant has no such module, or has not enabled it.
    Tenant,
    /// The module is switched off for the member.
    Member,
    /// A grant gives a role of the module, or no longer does.
    Grant,
}

/// Whether one may do something.
#[derive(Enum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum PermissionExtent {
    /// On all records.
    All,
    /// On those that rules say.
    Some,
}

/// Something that one may do in one's own tenant.
#[derive(SimpleObject)]
pub struct Permission {
    /// E.g. `"device.read"`.
    pub action: String,
    /// On which records.
    pub extent: PermissionExtent,
}

fn considered(of: Considered) -> ConsideredRule {
    ConsideredRule {
        role: of.role,
        rule: of.rule.and_then(|rule| i32::try_from(rule).ok()),
        effect: of.effect.into(),
        holds: match of.truth {
            Truth::True => RuleTruth::True,
            Truth::False => RuleTruth::False,
            Truth::Unknown => RuleTruth::Unknown,
        },
        condition: of.condition.map(Json),
        own: of.own,
    }
}

/// A record that a question is about; of one that was not named nothing is known.
struct Named(Option<DeviceRow>);

impl Record for Named {
    fn value(&self, field: &str) -> Option<Value> {
        self.0.as_ref()?.value(field)
    }
}

#[derive(Default)]
pub struct AccessQuery;

#[Object]
impl AccessQuery {
    /// Why an account may do something in a tenant, or may not: which rule decides, and all that were considered. Needs
    /// the permission `access.explain`, unless it is about yourself; of a record, you must be able to read it.
    async fn explain_access(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Id of the account.")] account: Uuid,
        #[graphql(desc = "What it would do, e.g. `\"device.rename\"`, or in a module \
                          `\"modules.bess-sizing.project.create\"`.")]
        action: String,
        #[graphql(desc = "Id of the device it would do it to; without, rules with conditions are unknown.")]
        resource: Option<Uuid>,
        #[graphql(desc = "Id of the tenant; your own unless told.")] tenant: Option<Uuid>,
    ) -> Result<AccessExplanation> {
        let tenant = tenant_of(ctx, tenant)?;
        let asks = credential(ctx)?;
        let is_own = asks.tenant == tenant && asks.actor.kind == ActorKind::Account && asks.actor.id == account;
        if !is_own {
            permit(ctx, Action::AccessExplain, tenant)?;
        }
        if let Some(of) = ModuleAction::parse(&action) {
            if resource.is_some() {
                return Err(not_of_devices());
            }
            return in_module(ctx, tenant, AccountId(account), of).await;
        }
        let pattern = ActionPattern::parse(&action).ok().filter(|pattern| !pattern.as_str().ends_with('*'));
        if pattern.is_none() {
            return Err(error(Code::BadUserInput, "action is no name of an action: write e.g. device.read"));
        }
        let named = match resource {
            None => Named(None),
            Some(id) => Named(Some(record(ctx, tenant, &action, id).await?)),
        };
        let rules = &parts(ctx)?.rules;
        let explained =
            rules.explain(tenant, AccountId(account), &action, Vec::new(), &named).await.map_err(|e| unreadable(&e))?;
        let explanation = explained.explanation;
        let reason = match explained.is_member {
            true => explanation.words,
            false => "the account is no member of the tenant".to_owned(),
        };
        Ok(AccessExplanation {
            allowed: explanation.allowed,
            reason,
            decided_by: explanation.decided.map(considered),
            considered: explanation.considered.into_iter().map(considered).collect(),
            level: None,
        })
    }

    /// What you may do in your own tenant: each action that is permitted on some records or on all.
    async fn my_permissions(&self, ctx: &Context<'_>) -> Result<Vec<Permission>> {
        let credential = credential(ctx)?;
        let of = |action: &Action| {
            let extent = match verdict(credential, *action, credential.tenant) {
                Verdict::Never => return None,
                Verdict::Always => PermissionExtent::All,
                Verdict::If(_) => PermissionExtent::Some,
            };
            Some(Permission { action: action.as_str().to_owned(), extent })
        };
        Ok(Action::ALL.iter().filter_map(of).collect())
    }
}

fn not_of_devices() -> async_graphql::Error {
    error(Code::BadUserInput, "resource is for actions of devices and readings: leave it out")
}

/// The record that an action would be done to, if the caller may read it.
async fn record(ctx: &Context<'_>, tenant: TenantId, action: &str, id: Uuid) -> Result<DeviceRow> {
    if !action.starts_with("device.") && !action.starts_with("readings.") {
        return Err(not_of_devices());
    }
    let found = match sight(ctx, Action::DeviceRead, tenant).await? {
        Some(sight) => devices::row(parts(ctx)?, tenant, id).await?.filter(|row| sight.shows(row)),
        None => None,
    };
    found.ok_or_else(|| error(Code::NotFound, "there is no such device: check its id and tenant"))
}

fn words(denial: Denial) -> &'static str {
    match denial {
        Denial::Revoked => "it was revoked",
        Denial::Expired => "it has expired",
        Denial::NotYet => "it has not begun",
        Denial::MembershipEnded => "the membership has ended",
        Denial::OffOnPlatform => "the platform has switched the module off",
        Denial::ModuleNotEnabled => "the module is not enabled in the tenant",
        Denial::OffForMember => "the module is switched off for the member",
        Denial::RoleGone => "the module has no such role any more",
    }
}

/// Why an account may do something in a module, or may not: the levels first, then grants and rules.
async fn in_module(
    ctx: &Context<'_>,
    tenant: TenantId,
    account: AccountId,
    of: ModuleAction,
) -> Result<AccessExplanation> {
    fresh(ctx, tenant).await?;
    let parts = parts(ctx)?;
    let (member, now, key) = (membership_id(tenant, account).0, parts.system.utc(), of.key.as_str());
    let read = parts.reads.reader().transaction(Scope::Tenant(tenant), async |session| {
        let off = module_switches::of_keys(session, &[key.to_owned()]).await?.pop();
        let Some(module) = modules::by_key(session, tenant, key).await? else { return Ok((off, None)) };
        let of_member = module_switches::of_members(session, tenant, &[(member, module.module_id)]).await?.pop();
        let is = |field, value| Filter::Is(field, Test::Eq(value));
        let filter =
            Filter::And(vec![is(GrantField::Member, member.into()), is(GrantField::Module, module.module_id.into())]);
        let page = Page::first(GRANTS_MAX, None);
        let views = grants::page(session, tenant, &filter, now, Direction::Descending, &page).await?.rows;
        Ok((off, Some((module, of_member, views))))
    });
    let (off_on_platform, found) = read.await.map_err(failed)?;
    let (mut granted, mut lost) = (Vec::new(), Vec::new());
    let mut decided = off_on_platform.map(|off| {
        let reason = format!("the platform has switched the module {key} off for all tenants: {}", off.reason);
        (AccessLevel::Platform, reason)
    });
    match &found {
        None => {
            let reason = format!("the tenant has no module {key}");
            decided = decided.or(Some((AccessLevel::Tenant, reason)));
        }
        Some((module, off_for_member, views)) => {
            if module.status != ModuleStatus::Enabled {
                let why = module.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
                let reason = format!("the module {key} is not enabled in the tenant{why}");
                decided = decided.or(Some((AccessLevel::Tenant, reason)));
            }
            if let Some(off) = off_for_member {
                let reason = format!("the module {key} is switched off for the member: {}", off.reason);
                decided = decided.or(Some((AccessLevel::Member, reason)));
            }
            for view in views {
                let role = RoleKey::parse(&view.grant.role).ok();
                let defined = role.and_then(|role| module.manifest.as_ref()?.roles.get_key_value(&role));
                match (view.access, defined) {
                    (Access::Allowed, Some((role, defined))) => {
                        granted.push(Arc::new(rules_of(&of.key, role, defined)))
                    }
                    (Access::Denied(denial), _) => lost.push((format!("{key}/{}", view.grant.role), denial)),
                    (Access::Allowed, None) => {}
                }
            }
        }
    }
    let explained = parts.rules.explain(tenant, account, &of.to_string(), granted, &Named(None)).await;
    let explained = explained.map_err(|e| unreadable(&e))?;
    let explanation = explained.explanation;
    let is_of_grant = |rule: &Considered| rule.role.contains('/');
    let mut allowed = explanation.allowed;
    let mut decided_by = explanation.decided;
    let (level, reason) = match (explained.is_member, decided, lost.first()) {
        (false, _, _) => {
            (allowed, decided_by) = (false, None);
            (None, "the account is no member of the tenant".to_owned())
        }
        (true, Some((level, reason)), _) => {
            (allowed, decided_by) = (false, None);
            (Some(level), reason)
        }
        // Nothing allows it, and something would have.
        (true, None, Some((role, denial))) if !allowed && decided_by.is_none() => {
            (Some(AccessLevel::Grant), format!("the grant of the role {role} allows nothing: {}", words(*denial)))
        }
        (true, None, _) => {
            (decided_by.as_ref().filter(|rule| is_of_grant(rule)).map(|_| AccessLevel::Grant), explanation.words)
        }
    };
    let lost = lost.into_iter().map(|(role, _)| ConsideredRule {
        role,
        rule: None,
        effect: Effect::Allow.into(),
        holds: RuleTruth::False,
        condition: None,
        own: false,
    });
    Ok(AccessExplanation {
        allowed,
        reason,
        decided_by: decided_by.map(considered),
        considered: explanation.considered.into_iter().map(considered).chain(lost).collect(),
        level,
    })
}
