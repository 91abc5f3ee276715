//! Who the caller is: account, tenant, roles, what they may use.

use super::grants::{Grant, own_membership};
use super::launcher::fresh;
use super::profile::{MyPreference, MyProfile, preferences_of, profile_of};
use super::sessions::{tenants_of, unreadable};
use crate::graphql::audit::trail::ActorKind as Kind;
use crate::graphql::reads::failed;
use crate::graphql::request::{credential, parts};
use async_graphql::{ComplexObject, Context, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use daybook_domain::platform::HeldRole;
use daybook_domain::{AccountId, ActorKind, PLATFORM_TENANT, Role};
use daybook_projections::Scope;
use daybook_projections::platform::grants::{self, GrantField};
use daybook_projections::read::filter::{Filter, Test};
use daybook_projections::read::{Direction, Page};
use uuid::Uuid;

/// Grants that are told of.
const GRANTS_MAX: u16 = 200;

/// Your login identity.
#[derive(SimpleObject)]
pub struct MyAccount {
    pub id: Uuid,
    /// Null once erased.
    pub name: Option<String>,
    /// Null once erased.
    pub email: Option<String>,
    /// Your roles in the whole platform, e.g. `["platformAdmin"]`. They count while you are in its own tenant.
    pub platform_roles: Vec<String>,
}

/// A membership of yours.
#[derive(SimpleObject)]
pub struct MyMembership {
    pub id: Uuid,
    /// Id of the tenant: go there with `switchTenant`.
    pub tenant: Uuid,
    /// E.g. `["tenantAdmin"]`.
    pub roles: Vec<String>,
    /// Keys of roles of the tenant's making, e.g. `["sales_manager"]`.
    pub custom_roles: Vec<String>,
    /// When you joined for the first time.
    pub added_at: DateTime<Utc>,
}

/// Who this request is of.
#[derive(SimpleObject)]
#[graphql(complex)]
pub struct Me {
    /// Id of the account or service account that acts.
    pub actor: Uuid,
    pub kind: Kind,
    /// Id of the tenant that the credential is of.
    pub tenant: Uuid,
    /// Whether that is the platform's own.
    pub platform: bool,
    /// Id of the session; null for what is no session.
    pub session: Option<Uuid>,
    /// What you are there, at this moment, e.g. `["member"]`.
    pub roles: Vec<String>,
    /// Names of the permissions that an API key is for; null where your roles alone decide.
    pub scopes: Option<Vec<String>>,
}

fn names(roles: impl Iterator<Item = Role>) -> Vec<String> {
    roles.map(|role| role.as_str().to_owned()).collect()
}

#[ComplexObject]
impl Me {
    /// Your account. Null for a service account, and for a token of the configuration that is of no account.
    async fn account(&self, ctx: &Context<'_>) -> Result<Option<MyAccount>> {
        if self.kind != Kind::Account {
            return Ok(None);
        }
        let known = parts(ctx)?.identity.account(AccountId(self.actor)).await.map_err(|e| unreadable(&e))?;
        Ok(known.profile().map(|profile| MyAccount {
            id: self.actor,
            name: profile.name.value().map(|name| name.as_str().to_owned()),
            email: profile.email.value().map(|email| email.as_str().to_owned()),
            platform_roles: names(profile.platform_roles.iter().map(|role| Role::from(*role))),
        }))
    }

    /// What you say of yourself. Null for what is no account.
    async fn profile(&self, ctx: &Context<'_>) -> Result<Option<MyProfile>> {
        if self.kind == Kind::Account { profile_of(ctx, self.actor).await } else { Ok(None) }
    }

    /// How you like things, by key; at most 50. None for what is no account.
    async fn preferences(&self, ctx: &Context<'_>) -> Result<Vec<MyPreference>> {
        if self.kind == Kind::Account { preferences_of(ctx, self.actor).await } else { Ok(Vec::new()) }
    }

    /// Your memberships that hold, in whatever tenants, in the order in which you joined; at most 200.
    async fn memberships(&self, ctx: &Context<'_>) -> Result<Vec<MyMembership>> {
        if self.kind != Kind::Account {
            return Ok(Vec::new());
        }
        let rows = tenants_of(ctx, AccountId(self.actor)).await?.into_iter().map(|row| {
            let (mut roles, mut custom_roles) = (Vec::new(), Vec::new());
            for role in row.roles {
                match role {
                    HeldRole::BuiltIn(role) => roles.push(Role::from(role).as_str().to_owned()),
                    HeldRole::Custom(key) => custom_roles.push(key.as_str().to_owned()),
                }
            }
            MyMembership { id: row.membership_id, tenant: row.tenant_id, roles, custom_roles, added_at: row.added_at }
        });
        Ok(rows.collect())
    }

    /// The modules that you may use in this tenant at this moment, and as what; at most 200.
    async fn modules(&self, ctx: &Context<'_>) -> Result<Vec<Grant>> {
        let credential = credential(ctx)?;
        let tenant = credential.tenant;
        let Some(own) = own_membership(credential, tenant) else { return Ok(Vec::new()) };
        fresh(ctx, tenant).await?;
        let parts = parts(ctx)?;
        let now = parts.system.utc();
        let is = |field, value| Filter::Is(field, Test::Eq(value));
        let filter = Filter::And(vec![is(GrantField::Member, own.into()), is(GrantField::Allowed, true.into())]);
        let page = Page::first(GRANTS_MAX, None);
        let scope = Scope::Tenant(tenant);
        let read = parts.reads.reader().transaction(scope, async |session| {
            grants::page(session, tenant, &filter, now, Direction::Ascending, &page).await
        });
        Ok(read.await.map_err(failed)?.rows.into_iter().map(Grant::of).collect())
    }
}

#[derive(Default)]
pub struct MeQuery;

#[Object]
impl MeQuery {
    /// Who you are, where, and what you may do there. Needs no permission.
    async fn me(&self, ctx: &Context<'_>) -> Result<Me> {
        let credential = credential(ctx)?;
        Ok(Me {
            actor: credential.actor.id,
            kind: match credential.actor.kind {
                ActorKind::Account => Kind::Account,
                ActorKind::Service => Kind::Service,
                ActorKind::System => Kind::System,
            },
            tenant: credential.tenant.0,
            platform: credential.tenant == PLATFORM_TENANT,
            session: credential.session,
            roles: names(credential.roles.iter().copied()),
            scopes: credential
                .scopes
                .as_ref()
                .map(|scopes| scopes.iter().map(|action| action.as_str().to_owned()).collect()),
        })
    }
}
