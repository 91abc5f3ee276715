//! The mutations of grants.

use super::grants::GrantPayload;
use super::target::{Target, target_inputs};
use crate::graphql::audit::door::denied;
use crate::graphql::request::{Receipt, call, credential, parts, receipt, tenant_of};
use crate::graphql::scalars::BigInt;
use async_graphql::{Context, InputObject, Object, Result};
use chrono::{DateTime, Utc};
use daybook_app::authorize;
use daybook_domain::platform::grant::{AccessGrantCommand, GrantTerm, RoleKey, grant_id};
use daybook_domain::value::Reason;
use daybook_domain::{InvalidValue, MembershipId, ModuleId};
use uuid::Uuid;

/// Who may use what, in which role, when and why.
#[derive(InputObject)]
pub struct GrantAccessInput {
    /// Id of the tenant; your own unless told.
    pub tenant: Option<Uuid>,
    /// Id of the membership, which must be active.
    pub member: Uuid,
    /// Id of the module, which must be enabled.
    pub module: Uuid,
    /// The key of a role of the module, e.g. `"planner"`.
    pub role: String,
    /// The first moment at which it allows; at once unless told.
    pub from: Option<DateTime<Utc>>,
    /// The first moment at which it denies again, in the future; without an end unless told.
    pub until: Option<DateTime<Utc>>,
    /// 1–500 characters.
    pub reason: String,
    /// Grant only if the grant of this member, module and role still has this version, 0 if there was none;
    /// `CONFLICT` otherwise.
    pub expected_version: Option<BigInt>,
    /// Id of this command, chosen by you: a repeat with the same id gives the same answer.
    pub client_mutation_id: Option<Uuid>,
}

target_inputs! {
    /// Id of the grant.
    id,
    /// Change only if the grant still has this version; `CONFLICT` otherwise.
    expected_version;

    /// A grant and its new end.
    ChangeGrantExpiryInput {
        /// The first moment at which it denies again, in the future. Null: without an end.
        until: Option<DateTime<Utc>>,
        /// 1–500 characters.
        reason: String,
    }
    /// A grant to revoke.
    RevokeAccessInput {
        /// 1–500 characters.
        reason: String,
    }
}

async fn carry_out(
    ctx: &Context<'_>,
    target: Target,
    command: Result<AccessGrantCommand, InvalidValue>,
) -> Result<GrantPayload> {
    let command = match command {
        Ok(command) => command,
        Err(invalid) => return Ok(GrantPayload { receipt: Receipt::refused(invalid) }),
    };
    let authorized = authorize(credential(ctx)?, target.tenant, command).map_err(|d| denied(ctx, &d, target.tenant))?;
    let call = call(ctx, target.command_id, target.expected_version)?;
    let executed = parts(ctx)?.executor.execute_grant(authorized, target.id, call).await;
    Ok(GrantPayload { receipt: receipt(ctx, target.id, executed)? })
}

#[derive(Default)]
pub struct GrantMutation;

#[Object]
impl GrantMutation {
    /// Lets a member use a module in one of its roles. Refused unless the membership is active, the module enabled, and
    /// the role one of its manifest.
    async fn grant_access(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Who may use what, in which role, when and why.")] input: GrantAccessInput,
    ) -> Result<GrantPayload> {
        let tenant = tenant_of(ctx, input.tenant)?;
        let (membership, module) = (MembershipId(input.member), ModuleId(input.module));
        let role = match RoleKey::parse(&input.role) {
            Ok(role) => role,
            Err(invalid) => return Ok(GrantPayload { receipt: Receipt::refused(invalid) }),
        };
        let target = Target {
            tenant,
            id: grant_id(tenant, membership, module, &role),
            expected_version: input.expected_version,
            command_id: input.client_mutation_id,
        };
        let term = GrantTerm { from: input.from, until: input.until };
        let reason = Reason::parse(&input.reason);
        let command = reason.map(|reason| AccessGrantCommand::Grant { membership, module, role, term, reason });
        carry_out(ctx, target, command).await
    }

    /// Lets a grant end at another moment, or never.
    async fn change_grant_expiry(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The grant, its end and why.")] input: ChangeGrantExpiryInput,
    ) -> Result<GrantPayload> {
        let reason = Reason::parse(&input.reason);
        let command = reason.map(|reason| AccessGrantCommand::ChangeExpiry { until: input.until, reason });
        carry_out(ctx, input.target(ctx)?, command).await
    }

    /// Ends a grant now.
    async fn revoke_access(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The grant and why.")] input: RevokeAccessInput,
    ) -> Result<GrantPayload> {
        let command = Reason::parse(&input.reason).map(|reason| AccessGrantCommand::Revoke { reason });
        carry_out(ctx, input.target(ctx)?, command).await
    }
}
