//! Service accounts: machines that work in a tenant, and their keys.

use super::sessions::told;
use super::target::{Target, target_inputs};
use crate::graphql::audit::door::denied;
use crate::graphql::errors::{Code, error, internal, of_execution};
use crate::graphql::paging::{PageArgs, connection};
use crate::graphql::platform::members::MemberRole;
use crate::graphql::reads::failed;
use crate::graphql::request::{Receipt, at_least, call, credential, parts, permit, receipt, tenant_of};
use crate::graphql::scalars::{BigInt, Position};
use async_graphql::connection::{Connection, EmptyFields};
use async_graphql::{ComplexObject, Context, Enum, InputObject, Object, Result, SimpleObject};
use chrono::{DateTime, TimeDelta, Utc};
use daybook_app::identity::{IssuedKey, KeyError, KeyRequest};
use daybook_app::platform::ServiceRefused;
use daybook_app::{ExecuteError, authorize};
use daybook_domain::platform::service::Scope as KeyScope;
use daybook_domain::platform::{Service, ServiceCommand, TenantRole};
use daybook_domain::value::{Name, Reason};
use daybook_domain::{Action, ApiKeyId, InvalidValue, TenantId};
use daybook_projections::engine::Lanes;
use daybook_projections::platform::services::{self, KeyRow, ServiceRow};
use daybook_projections::{ReadModel, Scope, Services};
use std::collections::{BTreeSet, HashMap};
use uuid::Uuid;

const READ_MODELS: &[&str] = &[Services::NAME];
/// How long a rotated key is good unless told.
const OVERLAP_HOURS: i32 = 24;
/// The longest overlap.
const OVERLAP_HOURS_MAX: i32 = 24 * 30;

/// Whether a service account may work.
#[derive(Enum, Clone, Copy, PartialEq, Eq, Debug)]
#[graphql(remote = "daybook_projections::platform::services::ServiceStatus")]
pub enum ServiceStatus {
    /// May work, with a key that is good.
    Active,
    /// For good.
    Deactivated,
}

/// A key of a service account, without its secret.
#[derive(SimpleObject, Clone)]
pub struct ApiKey {
    pub id: Uuid,
    /// Names of the permissions that it is for, of those that the roles of the account give, e.g. `["readings.record"]`.
    pub scopes: Vec<String>,
    pub issued_at: DateTime<Utc>,
    /// Null: without an end.
    pub expires_at: Option<DateTime<Utc>>,
    pub revoked_at: Option<DateTime<Utc>>,
    pub revoked_reason: Option<String>,
    /// The key in whose place it came.
    pub replaces: Option<Uuid>,
    /// Whether it lets anybody in at this moment.
    pub good: bool,
    /// When it was used last, some seconds late. Null: never.
    pub last_used_at: Option<DateTime<Utc>>,
}

/// A machine that works in a tenant.
#[derive(SimpleObject, Clone)]
#[graphql(complex)]
pub struct ServiceAccount {
    pub id: Uuid,
    /// Id of the tenant.
    pub tenant: Uuid,
    /// E.g. `"Meter reader"`.
    pub name: String,
    pub roles: Vec<MemberRole>,
    pub status: ServiceStatus,
    /// Why it is deactivated.
    pub reason: Option<String>,
    /// Number of changes so far; send it back as `expectedVersion` to change only what you have seen.
    pub version: BigInt,
    pub registered_at: DateTime<Utc>,
    pub changed_at: DateTime<Utc>,
    #[graphql(skip)]
    rows: Vec<KeyRow>,
}

#[ComplexObject]
impl ServiceAccount {
    /// Its keys, in the order in which they were issued, revoked and expired ones among them.
    async fn keys(&self, ctx: &Context<'_>) -> Result<Vec<ApiKey>> {
        let parts = parts(ctx)?;
        let ids: Vec<ApiKeyId> = self.rows.iter().map(|key| ApiKeyId(key.id)).collect();
        let used = match ids.is_empty() {
            true => HashMap::new(),
            false => parts.identity.last_uses(&ids).await.map_err(|e| internal(&e))?,
        };
        let (now, active) = (parts.system.utc(), self.status == ServiceStatus::Active);
        let keys = self.rows.iter().cloned().map(|key| ApiKey {
            good: active && key.revoked_at.is_none() && key.expires_at.is_none_or(|end| now < end),
            last_used_at: used.get(&ApiKeyId(key.id)).copied(),
            id: key.id,
            scopes: key.scopes.into_iter().collect(),
            issued_at: key.issued_at,
            expires_at: key.expires_at,
            revoked_at: key.revoked_at,
            revoked_reason: key.revoked_reason,
            replaces: key.replaces,
        });
        Ok(keys.collect())
    }
}

impl From<ServiceRow> for ServiceAccount {
    fn from(row: ServiceRow) -> Self {
        ServiceAccount {
            id: row.service_id,
            tenant: row.tenant_id,
            name: row.name,
            roles: row.roles.into_iter().map(MemberRole::from).collect(),
            status: row.status.into(),
            reason: row.deactivated_reason,
            version: BigInt(row.version),
            registered_at: row.registered_at,
            changed_at: row.changed_at,
            rows: row.keys,
        }
    }
}

/// What a mutation of a service account led to.
#[derive(SimpleObject)]
#[graphql(complex)]
pub struct ServiceAccountPayload {
    #[graphql(flatten)]
    receipt: Receipt,
}

#[ComplexObject]
impl ServiceAccountPayload {
    /// The account after the change. Null when the business refused, or when the caller may not read it.
    async fn service_account(&self, ctx: &Context<'_>) -> Result<Option<ServiceAccount>> {
        match self.receipt.shown(ctx, Action::ServiceList, READ_MODELS).await? {
            Some(written) => one(ctx, written.tenant, written.id).await,
            None => Ok(None),
        }
    }
}

/// A new key. It is shown here and nowhere else, ever again.
#[derive(SimpleObject)]
#[graphql(complex)]
pub struct ApiKeyPayload {
    #[graphql(flatten)]
    receipt: Receipt,
    /// Send it as `Authorization: Bearer dbk_…`. Null when the business refused, or when this answers a repeat.
    pub key: Option<String>,
    /// Its id, by which it is revoked.
    pub key_id: Option<Uuid>,
}

#[ComplexObject]
impl ApiKeyPayload {
    /// The account after the change. Null when the business refused, or when the caller may not read it.
    async fn service_account(&self, ctx: &Context<'_>) -> Result<Option<ServiceAccount>> {
        match self.receipt.shown(ctx, Action::ServiceList, READ_MODELS).await? {
            Some(written) => one(ctx, written.tenant, written.id).await,
            None => Ok(None),
        }
    }
}

async fn one(ctx: &Context<'_>, tenant: TenantId, id: Uuid) -> Result<Option<ServiceAccount>> {
    let reader = parts(ctx)?.reads.reader();
    let row = reader.transaction(Scope::Tenant(tenant), async |session| services::service(session, tenant, id).await);
    Ok(row.await.map_err(failed)?.map(ServiceAccount::from))
}

/// A machine to let into a tenant.
#[derive(InputObject)]
pub struct RegisterServiceAccountInput {
    /// Id of the tenant; your own unless told.
    pub tenant: Option<Uuid>,
    /// 1–200 characters, e.g. `"Meter reader"`.
    pub name: String,
    /// At least one.
    pub roles: Vec<MemberRole>,
    /// Id of this command, chosen by you: a repeat with the same id gives the same answer and no second account.
    pub client_mutation_id: Option<Uuid>,
}

target_inputs! {
    /// Id of the service account.
    id,
    /// Change only if the service account still has this version; `CONFLICT` otherwise.
    expected_version;

    /// A service account and what its new key is for.
    IssueApiKeyInput {
        /// Names of permissions, at least one, e.g. `["readings.record"]`.
        scopes: Vec<String>,
        /// The first moment at which it is good no more. Null: without an end.
        expires_at: Option<DateTime<Utc>>,
    }
    /// A key to be followed by a new one of the same scopes.
    RotateApiKeyInput {
        /// Id of the key.
        key: Uuid,
        /// How long the old one is still good, 0–720; 24 unless told.
        overlap_hours: Option<i32>,
        /// Of the new one: the first moment at which it is good no more. Null: without an end.
        expires_at: Option<DateTime<Utc>>,
    }
    /// A key to revoke.
    RevokeApiKeyInput {
        /// Id of the key.
        key: Uuid,
        /// 1–500 characters.
        reason: String,
    }
    /// A service account to deactivate, for good.
    DeactivateServiceAccountInput {
        /// 1–500 characters.
        reason: String,
    }
}

async fn carry_out(
    ctx: &Context<'_>,
    target: Target,
    command: Result<ServiceCommand, InvalidValue>,
) -> Result<ServiceAccountPayload> {
    let command = match command {
        Ok(command) => command,
        Err(invalid) => return Ok(ServiceAccountPayload { receipt: Receipt::refused(invalid) }),
    };
    let authorized = authorize(credential(ctx)?, target.tenant, command).map_err(|d| denied(ctx, &d, target.tenant))?;
    let call = call(ctx, target.command_id, target.expected_version)?;
    let executed = parts(ctx)?.executor.execute_service(authorized, target.id, call).await;
    Ok(ServiceAccountPayload { receipt: receipt(ctx, target.id, executed)? })
}

async fn make_key(
    ctx: &Context<'_>,
    target: Target,
    request: Result<KeyRequest, InvalidValue>,
) -> Result<ApiKeyPayload> {
    let refused = |receipt| ApiKeyPayload { receipt, key: None, key_id: None };
    let request = match request {
        Ok(request) => request,
        Err(invalid) => return Ok(refused(Receipt::refused(invalid))),
    };
    if target.command_id.is_some() {
        // A repeat could not be answered: the key is kept nowhere.
        return Err(error(Code::BadUserInput, "a key is shown once: leave out clientMutationId and Idempotency-Key"));
    }
    let call = call(ctx, None, target.expected_version)?;
    let made = parts(ctx)?.identity.make_key(credential(ctx)?, target.tenant, target.id, request, call).await;
    match made {
        Ok(IssuedKey { id, text, executed }) => {
            let executed = Ok::<_, ExecuteError<ServiceRefused>>(executed);
            let receipt = receipt::<Service, _>(ctx, target.id, executed)?;
            Ok(ApiKeyPayload { receipt, key: Some(text.to_string()), key_id: Some(id.0) })
        }
        Err(KeyError::Identity(daybook_app::identity::LoginError::Denied(refused))) => {
            Err(denied(ctx, &refused, target.tenant))
        }
        Err(KeyError::Identity(failure)) => Ok(refused(Receipt::refused(told(ctx, failure)?))),
        Err(KeyError::Service(failure)) => Ok(refused(Receipt::refused(of_execution(failure)?))),
    }
}

#[derive(Default)]
pub struct ServiceAccountMutation;

#[Object]
impl ServiceAccountMutation {
    /// Lets a machine into a tenant. It comes in with keys that are issued to it.
    async fn register_service_account(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The machine and its roles.")] input: RegisterServiceAccountInput,
    ) -> Result<ServiceAccountPayload> {
        let tenant = tenant_of(ctx, input.tenant)?;
        // The id follows from the command, so a repeat is about the same account.
        let command_id = input.client_mutation_id.map_or_else(|| parts(ctx).map(|p| p.system.uuid_v7()), Ok)?;
        let id = Uuid::new_v5(&credential(ctx)?.actor.id, command_id.as_bytes());
        let roles: BTreeSet<TenantRole> = input.roles.iter().map(|role| TenantRole::from(*role)).collect();
        let command = Name::parse(&input.name).map(|name| ServiceCommand::Register { name, roles });
        let target = Target { tenant, id, expected_version: None, command_id: input.client_mutation_id };
        carry_out(ctx, target, command).await
    }

    /// Makes a key. It is in this answer and nowhere else. It does what its scopes name and the account's roles permit.
    async fn issue_api_key(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The account and what the key is for.")] input: IssueApiKeyInput,
    ) -> Result<ApiKeyPayload> {
        let scopes = input.scopes.iter().map(|scope| KeyScope::parse(scope)).collect::<Result<BTreeSet<_>, _>>();
        let request = scopes.map(|scopes| KeyRequest::Issue { scopes, expires_at: input.expires_at });
        make_key(ctx, input.target(ctx)?, request).await
    }

    /// Makes a key of the same scopes in the place of another one, which is good for a while longer.
    async fn rotate_api_key(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The key and for how long it is still good.")] input: RotateApiKeyInput,
    ) -> Result<ApiKeyPayload> {
        let hours = input.overlap_hours.unwrap_or(OVERLAP_HOURS);
        if !(0..=OVERLAP_HOURS_MAX).contains(&hours) {
            return Err(error(Code::BadUserInput, format!("overlapHours is 0 to {OVERLAP_HOURS_MAX}")));
        }
        let request = KeyRequest::Rotate {
            old: ApiKeyId(input.key),
            overlap: TimeDelta::hours(i64::from(hours)),
            expires_at: input.expires_at,
        };
        make_key(ctx, input.target(ctx)?, Ok(request)).await
    }

    /// Makes a key good for nothing, at once.
    async fn revoke_api_key(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The key and why.")] input: RevokeApiKeyInput,
    ) -> Result<ServiceAccountPayload> {
        let reason = Reason::parse(&input.reason);
        let command = reason.map(|reason| ServiceCommand::RevokeKey { key: ApiKeyId(input.key), reason });
        carry_out(ctx, input.target(ctx)?, command).await
    }

    /// Makes every key of a service account good for nothing, at once and for good.
    async fn deactivate_service_account(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The account and why.")] input: DeactivateServiceAccountInput,
    ) -> Result<ServiceAccountPayload> {
        let command = Reason::parse(&input.reason).map(|reason| ServiceCommand::Deactivate { reason });
        carry_out(ctx, input.target(ctx)?, command).await
    }
}

fn list(tenant: TenantId) -> String {
    format!("serviceAccounts v1 {tenant}")
}

#[derive(Default)]
pub struct ServiceAccountQuery;

#[Object]
impl ServiceAccountQuery {
    /// The service accounts of a tenant, a page at a time, in the order of their registration. Needs the permission
    /// `service.list`.
    async fn service_accounts(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Id of the tenant; your own unless told.")] tenant: Option<Uuid>,
        #[graphql(desc = "How many, 1–200; 50 unless told.")] first: Option<i32>,
        #[graphql(desc = "Continue after this cursor.")] after: Option<String>,
        #[graphql(desc = "Wait until this moment shows, e.g. the `position` of a mutation.")] at_least: Option<
            Position,
        >,
    ) -> Result<Connection<String, ServiceAccount, EmptyFields>> {
        let tenant = tenant_of(ctx, tenant)?;
        permit(ctx, Action::ServiceList, tenant)?;
        let opaque = &parts(ctx)?.opaque;
        let page = PageArgs::new(first, after, None, None)?.page(opaque, &list(tenant))?;
        self::at_least(ctx, READ_MODELS, Lanes::Of(tenant), at_least).await?;
        let reader = parts(ctx)?.reads.reader();
        let slice = reader
            .transaction(Scope::Tenant(tenant), async |session| services::page(session, tenant, &page).await)
            .await
            .map_err(failed)?;
        connection(opaque, &list(tenant), slice, EmptyFields, ServiceRow::cursor, ServiceAccount::from)
    }
}
