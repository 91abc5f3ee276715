//! Whether a module is on: for all tenants, for one, for one member. Off at any of these levels, it gives no access.

use crate::graphql::audit::door::denied;
use crate::graphql::errors::UserError;
use crate::graphql::request::{Receipt, call, credential, parts, permit, receipt};
use crate::graphql::scalars::BigInt;
use async_graphql::{Context, Enum, InputObject, Object, Result, SimpleObject};
use daybook_app::authorize;
use daybook_domain::platform::module::ModuleKey;
use daybook_domain::platform::{MembershipCommand, ModuleCommand, ModuleSwitchCommand, module_switch_id};
use daybook_domain::value::Reason;
use daybook_domain::{Action, ModuleId, PLATFORM_TENANT, TenantId};
use uuid::Uuid;

/// For whom a module is on or off.
#[derive(Enum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum ModuleActivationScope {
    /// For one tenant: as `enableModule` and `disableModule`.
    Tenant,
    /// For one member. What is not switched off is on.
    Member,
    /// For all tenants: every module of a key. What is not switched off is on. The platform's alone.
    Platform,
}

/// What to switch on or off, and for whom.
#[derive(InputObject)]
pub struct SetModuleActivationInput {
    /// For whom.
    pub scope: ModuleActivationScope,
    /// Id of the tenant; your own unless told. Not for `PLATFORM`.
    pub tenant: Option<Uuid>,
    /// Id of the module, for `TENANT` and `MEMBER`.
    pub module: Option<Uuid>,
    /// Id of the membership, for `MEMBER`.
    pub member: Option<Uuid>,
    /// Key of the modules, e.g. `"bess-sizing"`, for `PLATFORM`.
    pub key: Option<String>,
    /// On or off.
    pub active: bool,
    /// 1–500 characters.
    pub reason: String,
    /// Change only if the module, the membership or the platform's switch still has this version; `CONFLICT` otherwise.
    pub expected_version: Option<BigInt>,
    /// Id of this command, chosen by you: a repeat with the same id gives the same answer.
    pub client_mutation_id: Option<Uuid>,
}

/// What switching a module led to.
#[derive(SimpleObject)]
pub struct ModuleActivationPayload {
    #[graphql(flatten)]
    receipt: Receipt,
    /// Whether it is on at this level now. Null when the business refused.
    active: Option<bool>,
}

#[derive(Default)]
pub struct ActivationMutation;

#[Object]
impl ActivationMutation {
    /// Switches a module on or off: for all tenants, for one, or for one of its members. Off at any level it gives no
    /// access from the next request on; grants of it stay, and count nothing. Needs the permission `module.activate`,
    /// for all tenants in the platform's own.
    async fn set_module_activation(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What to switch, and for whom.")] input: SetModuleActivationInput,
    ) -> Result<ModuleActivationPayload> {
        let tenant = match input.scope {
            ModuleActivationScope::Platform => PLATFORM_TENANT,
            ModuleActivationScope::Tenant | ModuleActivationScope::Member => {
                input.tenant.map_or(credential(ctx)?.tenant, TenantId)
            }
        };
        // Who may not is not told what is missing.
        permit(ctx, Action::ModuleActivate, tenant)?;
        let receipt = match target(&input) {
            Ok((target, reason)) => carry_out(ctx, tenant, target, input.active, reason, &input).await?,
            Err(refused) => Receipt::refused(refused),
        };
        let active = receipt.position.is_some().then_some(input.active);
        Ok(ModuleActivationPayload { receipt, active })
    }
}

enum Target {
    Module(Uuid),
    Member(Uuid, ModuleId),
    Key(ModuleKey),
}

fn target(input: &SetModuleActivationInput) -> Result<(Target, Reason), UserError> {
    use ModuleActivationScope as S;
    let missing = |field: &str| UserError::new(&[field], "EMPTY", format!("{field} is missing; add it for this scope"));
    let target = match input.scope {
        S::Tenant => Target::Module(input.module.ok_or_else(|| missing("module"))?),
        S::Member => {
            let member = input.member.ok_or_else(|| missing("member"))?;
            Target::Member(member, ModuleId(input.module.ok_or_else(|| missing("module"))?))
        }
        S::Platform => Target::Key(ModuleKey::parse(input.key.as_deref().ok_or_else(|| missing("key"))?)?),
    };
    let foreign = [
        ("module", input.module.is_some() && input.scope == S::Platform),
        ("tenant", input.tenant.is_some() && input.scope == S::Platform),
        ("member", input.member.is_some() && input.scope != S::Member),
        ("key", input.key.is_some() && input.scope != S::Platform),
    ];
    if let Some((field, _)) = foreign.iter().find(|(_, given)| *given) {
        return Err(UserError::new(&[field], "MALFORMED", format!("{field} is not for this scope; leave it out")));
    }
    Ok((target, Reason::parse(&input.reason)?))
}

async fn carry_out(
    ctx: &Context<'_>,
    tenant: TenantId,
    target: Target,
    active: bool,
    reason: Reason,
    input: &SetModuleActivationInput,
) -> Result<Receipt> {
    let (credential, parts) = (credential(ctx)?, parts(ctx)?);
    let call = call(ctx, input.client_mutation_id, input.expected_version)?;
    match target {
        Target::Module(id) => {
            let command = ModuleCommand::Activate { active, reason };
            let authorized = authorize(credential, tenant, command).map_err(|of| denied(ctx, &of, tenant))?;
            receipt(ctx, id, parts.executor.execute_module(authorized, id, call).await)
        }
        Target::Member(id, module) => {
            let command = MembershipCommand::SwitchModule { module, active, reason };
            let authorized = authorize(credential, tenant, command).map_err(|of| denied(ctx, &of, tenant))?;
            let executed = parts.executor.execute_membership(authorized, id, call).await;
            parts.rules.wrote(tenant, "membership", id);
            receipt(ctx, id, executed)
        }
        Target::Key(key) => {
            let id = module_switch_id(&key);
            let command = ModuleSwitchCommand::Turn { key, active, reason };
            let authorized = authorize(credential, tenant, command).map_err(|of| denied(ctx, &of, tenant))?;
            let executed = parts.executor.execute::<daybook_domain::platform::ModuleSwitch>(authorized, id, call).await;
            receipt(ctx, id, executed)
        }
    }
}
