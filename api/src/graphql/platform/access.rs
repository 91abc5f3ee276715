//! Why somebody may do something, or may not; and what one may do oneself.

use super::roles::RoleEffect;
use crate::graphql::energy::devices;
use crate::graphql::errors::{Code, error};
use crate::graphql::request::{credential, parts, permit, tenant_of};
use crate::graphql::sight::{sight, unreadable};
use async_graphql::{Context, Enum, Json, Object, Result, SimpleObject};
use daybook_app::verdict;
use daybook_domain::condition::{Record, Truth, Value};
use daybook_domain::rules::{ActionPattern, Considered, Verdict};
use daybook_domain::{AccountId, Action, ActorKind, TenantId};
use daybook_projections::energy::devices::DeviceRow;
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
        #[graphql(desc = "What it would do, e.g. `\"device.rename\"`.")] action: String,
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
        let pattern = ActionPattern::parse(&action).ok().filter(|pattern| !pattern.as_str().ends_with('*'));
        if pattern.is_none() {
            return Err(error(Code::BadUserInput, "action is no name of an action: write e.g. device.read"));
        }
        let named = match resource {
            None => Named(None),
            Some(id) => Named(Some(record(ctx, tenant, &action, id).await?)),
        };
        let rules = &parts(ctx)?.rules;
        let explained = rules.explain(tenant, AccountId(account), &action, &named).await.map_err(|e| unreadable(&e))?;
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

/// The record that an action would be done to, if the caller may read it.
async fn record(ctx: &Context<'_>, tenant: TenantId, action: &str, id: Uuid) -> Result<DeviceRow> {
    if !action.starts_with("device.") && !action.starts_with("readings.") {
        return Err(error(Code::BadUserInput, "resource is for actions of devices and readings: leave it out"));
    }
    let found = match sight(ctx, Action::DeviceRead, tenant).await? {
        Some(sight) => devices::row(parts(ctx)?, tenant, id).await?.filter(|row| sight.shows(row)),
        None => None,
    };
    found.ok_or_else(|| error(Code::NotFound, "there is no such device: check its id and tenant"))
}
