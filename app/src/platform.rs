//! Commands of the platform that more than one aggregate has a say in.
//!
//! A grant knows neither its member nor its module, a membership does not know its account, and none of them knows
//! whether its tenant may work. Here they are looked at before the command is decided. What is of the same tenant is
//! also named in the append, so that nobody can disable a module between the look and the write. Refuses to check permissions: those came with [`Authorized`].

mod access;

pub use access::{ConsentRefused, RoleRefused};

use crate::authorize::Authorized;
use crate::executor::{Alone, Beside, Call, ExecuteError, Executed, Executor, Looked, LookedAt};
use cqrs_es::Aggregate;
use daybook_domain::platform::account::Account;
use daybook_domain::platform::grant::{AccessGrant, AccessGrantCommand, AccessGrantError, RoleKey};
use daybook_domain::platform::membership::{Membership, MembershipCommand, MembershipError, RoleName};
use daybook_domain::platform::module::{Module, ModuleCommand, ModuleError};
use daybook_domain::platform::role::{DefinedRole, role_id};
use daybook_domain::platform::service::{Service, ServiceCommand, ServiceError};
use daybook_domain::platform::tenant::Tenant;
use daybook_domain::rules::HELD_MAX;
use daybook_domain::{AccountId, MembershipId, ModuleId, PLATFORM_TENANT, Refusal, TenantId};
use daybook_store::journal::{StreamId, StreamKey};
use uuid::Uuid;

/// Why nothing happens in a tenant.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TenantRefused {
    #[error("there is no such tenant; let the platform register it first")]
    NoSuchTenant,
    #[error("the tenant is suspended; let the platform reopen it first")]
    Suspended,
    #[error("the tenant is closed for good; work in another one")]
    Closed,
}

impl Refusal for TenantRefused {
    fn code(&self) -> &'static str {
        match self {
            Self::NoSuchTenant => "TENANT_NOT_REGISTERED",
            Self::Suspended => "TENANT_SUSPENDED",
            Self::Closed => "TENANT_CLOSED",
        }
    }

    fn path(&self) -> &'static [&'static str] {
        &["tenant"]
    }
}

/// Why a module refuses a command.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ModuleRefused {
    #[error(transparent)]
    Module(#[from] ModuleError),
    #[error(transparent)]
    Tenant(#[from] TenantRefused),
}

impl Refusal for ModuleRefused {
    fn code(&self) -> &'static str {
        match self {
            Self::Module(refusal) => refusal.code(),
            Self::Tenant(refusal) => refusal.code(),
        }
    }

    fn path(&self) -> &'static [&'static str] {
        match self {
            Self::Module(refusal) => refusal.path(),
            Self::Tenant(refusal) => refusal.path(),
        }
    }
}

/// Why a service account refuses a command.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ServiceRefused {
    #[error(transparent)]
    Service(#[from] ServiceError),
    #[error(transparent)]
    Tenant(#[from] TenantRefused),
}

impl Refusal for ServiceRefused {
    fn code(&self) -> &'static str {
        match self {
            Self::Service(refusal) => refusal.code(),
            Self::Tenant(refusal) => refusal.code(),
        }
    }

    fn path(&self) -> &'static [&'static str] {
        match self {
            Self::Service(refusal) => refusal.path(),
            Self::Tenant(refusal) => refusal.path(),
        }
    }
}

/// Why access is not granted.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GrantRefused {
    #[error(transparent)]
    Grant(#[from] AccessGrantError),
    #[error(transparent)]
    Tenant(#[from] TenantRefused),
    #[error("there is no such member in this tenant; add the account to the tenant first")]
    NoSuchMember,
    #[error("the membership has ended; let the account rejoin before granting it access")]
    MembershipEnded,
    #[error("there is no such module in this tenant; register it first")]
    NoSuchModule,
    #[error("the module is not enabled; enable it before granting access to it")]
    ModuleNotEnabled,
    #[error("the module is retired for good; grant access to another one")]
    ModuleRetired,
    #[error("the module has no role of this key; see the roles of its manifest")]
    NoSuchRole,
}

impl Refusal for GrantRefused {
    fn code(&self) -> &'static str {
        match self {
            Self::Grant(refusal) => refusal.code(),
            Self::Tenant(refusal) => refusal.code(),
            Self::NoSuchMember => "MEMBERSHIP_NOT_ADDED",
            Self::MembershipEnded => "MEMBERSHIP_ENDED",
            Self::NoSuchModule => "MODULE_NOT_REGISTERED",
            Self::ModuleNotEnabled => "MODULE_NOT_ENABLED",
            Self::ModuleRetired => "MODULE_RETIRED",
            Self::NoSuchRole => "MODULE_ROLE_UNKNOWN",
        }
    }

    fn path(&self) -> &'static [&'static str] {
        match self {
            Self::Grant(refusal) => refusal.path(),
            Self::Tenant(refusal) => refusal.path(),
            Self::NoSuchMember | Self::MembershipEnded => &["member"],
            Self::NoSuchModule | Self::ModuleNotEnabled | Self::ModuleRetired => &["module"],
            Self::NoSuchRole => &["role"],
        }
    }
}

/// Why an account does not become a member.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum JoinRefused {
    #[error(transparent)]
    Membership(#[from] MembershipError),
    #[error(transparent)]
    Tenant(#[from] TenantRefused),
    #[error("there is no such account; let the platform register it first")]
    NoSuchAccount,
    #[error("the account is deactivated; let the platform reactivate it first")]
    AccountDeactivated,
    #[error("the tenant has no role {0}; define it first, or leave it out")]
    NoSuchRole(RoleName),
    #[error("there is no such module in this tenant; register it first")]
    NoSuchModule,
    #[error("the module is retired for good; nobody can use it any more")]
    ModuleRetired,
}

impl Refusal for JoinRefused {
    fn code(&self) -> &'static str {
        match self {
            Self::Membership(refusal) => refusal.code(),
            Self::Tenant(refusal) => refusal.code(),
            Self::NoSuchAccount => "ACCOUNT_NOT_REGISTERED",
            Self::AccountDeactivated => "ACCOUNT_DEACTIVATED",
            Self::NoSuchRole(_) => "ROLE_NOT_DEFINED",
            Self::NoSuchModule => "MODULE_NOT_REGISTERED",
            Self::ModuleRetired => "MODULE_RETIRED",
        }
    }

    fn path(&self) -> &'static [&'static str] {
        match self {
            Self::Membership(refusal) => refusal.path(),
            Self::Tenant(refusal) => refusal.path(),
            Self::NoSuchAccount | Self::AccountDeactivated => &["account"],
            Self::NoSuchRole(_) => &["customRoles"],
            Self::NoSuchModule | Self::ModuleRetired => &["module"],
        }
    }
}

impl Executor {
    /// Carries out a command of a grant. To grant, the membership must be active, the module enabled, and the role one
    /// of its manifest, at the moment at which the grant is written.
    ///
    /// # Errors
    /// [`ExecuteError::Refused`] with a [`GrantRefused`]; everything else as [`Executor::execute`].
    pub async fn execute_grant(
        &self,
        authorized: Authorized<AccessGrantCommand>,
        id: Uuid,
        call: Call,
    ) -> Result<Executed<AccessGrant>, ExecuteError<GrantRefused>> {
        let granting = match &authorized.command {
            AccessGrantCommand::Grant { membership, module, role, .. } => {
                Granting(Some((*membership, *module, role.clone())))
            }
            // To shorten or revoke a grant, nobody else is asked.
            AccessGrantCommand::ChangeExpiry { .. } | AccessGrantCommand::Revoke { .. } => Granting(None),
        };
        self.execute_beside(authorized, id, call, &InTenant(granting)).await
    }

    /// Carries out a command of a membership. Whoever is added or rejoins must have an active account, and roles of the
    /// tenant's making must be defined.
    ///
    /// # Errors
    /// [`ExecuteError::Refused`] with a [`JoinRefused`]; everything else as [`Executor::execute`].
    pub async fn execute_membership(
        &self,
        authorized: Authorized<MembershipCommand>,
        id: Uuid,
        call: Call,
    ) -> Result<Executed<Membership>, ExecuteError<JoinRefused>> {
        let (joining, roles) = match &authorized.command {
            MembershipCommand::Add { account, roles } => (Joining::Account(*account), Some(roles)),
            MembershipCommand::Rejoin { roles } => (Joining::AgainAs(id), Some(roles)),
            MembershipCommand::ChangeRoles { roles } => (Joining::Nobody, Some(roles)),
            MembershipCommand::End { .. } => (Joining::Nobody, None),
            MembershipCommand::SwitchModule { module, .. } => {
                let module = *module;
                return self.execute_beside(authorized, id, call, &InTenant(Switching(module))).await;
            }
        };
        // Too many are refused by the membership itself.
        let roles = roles.iter().flat_map(|roles| &roles.custom).take(HELD_MAX).cloned().collect();
        self.execute_beside(authorized, id, call, &InTenant(Holding { joining, roles })).await
    }

    /// Carries out a command of a module.
    ///
    /// # Errors
    /// [`ExecuteError::Refused`] with a [`ModuleRefused`]; everything else as [`Executor::execute`].
    pub async fn execute_module(
        &self,
        authorized: Authorized<ModuleCommand>,
        id: Uuid,
        call: Call,
    ) -> Result<Executed<Module>, ExecuteError<ModuleRefused>> {
        self.execute_beside(authorized, id, call, &InTenant(Alone)).await
    }

    /// Carries out a command of a service account. What takes something away is done in any tenant.
    ///
    /// # Errors
    /// [`ExecuteError::Refused`] with a [`ServiceRefused`]; everything else as [`Executor::execute`].
    pub async fn execute_service(
        &self,
        authorized: Authorized<ServiceCommand>,
        id: Uuid,
        call: Call,
    ) -> Result<Executed<Service>, ExecuteError<ServiceRefused>> {
        match &authorized.command {
            ServiceCommand::Register { .. } | ServiceCommand::IssueKey { .. } | ServiceCommand::RotateKey { .. } => {
                self.execute_beside(authorized, id, call, &InTenant(Alone)).await
            }
            ServiceCommand::RevokeKey { .. } | ServiceCommand::Deactivate { .. } => {
                self.execute_beside(authorized, id, call, &Alone).await
            }
        }
    }
}

/// The tenant has a say first: it must be active.
struct InTenant<B>(B);

impl<R: From<TenantRefused> + Send, B: Beside<R>> Beside<R> for InTenant<B> {
    async fn look(&self, executor: &Executor, tenant: TenantId) -> Result<Looked<R>, ExecuteError<R>>
    where
        R: std::error::Error + 'static,
    {
        // The platform's own tenant was registered by nobody.
        if tenant == PLATFORM_TENANT {
            return self.0.look(executor, tenant).await;
        }
        let (at, state) = look::<Tenant, R>(executor, tenant, tenant.0).await?;
        let refusal = match state {
            Tenant::Active { .. } => None,
            Tenant::Absent => Some(TenantRefused::NoSuchTenant),
            Tenant::Suspended { .. } => Some(TenantRefused::Suspended),
            Tenant::Closed { .. } => Some(TenantRefused::Closed),
        };
        if let Some(refusal) = refusal {
            return Ok(Looked { at: vec![at], refusal: Some(refusal.into()) });
        }
        let mut looked = self.0.look(executor, tenant).await?;
        looked.at.push(at);
        Ok(looked)
    }
}

struct Granting(Option<(MembershipId, ModuleId, RoleKey)>);

impl Beside<GrantRefused> for Granting {
    async fn look(
        &self,
        executor: &Executor,
        tenant: TenantId,
    ) -> Result<Looked<GrantRefused>, ExecuteError<GrantRefused>> {
        let Some((membership, module, role)) = &self.0 else {
            return Ok(Looked { at: Vec::new(), refusal: None });
        };
        let (member_at, member) = look::<Membership, _>(executor, tenant, membership.0).await?;
        let (module_at, module) = look::<Module, _>(executor, tenant, module.0).await?;
        let refusal = match member {
            Membership::Absent => Some(GrantRefused::NoSuchMember),
            Membership::Ended { .. } => Some(GrantRefused::MembershipEnded),
            Membership::Active { .. } => match module {
                Module::Absent => Some(GrantRefused::NoSuchModule),
                Module::Registered { .. } | Module::Disabled { .. } => Some(GrantRefused::ModuleNotEnabled),
                Module::Retired { .. } => Some(GrantRefused::ModuleRetired),
                Module::Enabled { manifest } if !manifest.roles.contains_key(role) => Some(GrantRefused::NoSuchRole),
                Module::Enabled { .. } => None,
            },
        };
        Ok(Looked { at: vec![member_at, module_at], refusal })
    }
}

/// Who joins, and the tenant's own roles that they hold from then on.
struct Holding {
    joining: Joining,
    roles: Vec<RoleName>,
}

impl Beside<JoinRefused> for Holding {
    async fn look(
        &self,
        executor: &Executor,
        tenant: TenantId,
    ) -> Result<Looked<JoinRefused>, ExecuteError<JoinRefused>> {
        let mut looked = self.joining.look(executor, tenant).await?;
        for key in &self.roles {
            if looked.refusal.is_some() {
                break;
            }
            let (at, role) = look::<DefinedRole, _>(executor, tenant, role_id(tenant, key)).await?;
            looked.at.push(at);
            looked.refusal = role.definition().is_none().then(|| JoinRefused::NoSuchRole(key.clone()));
        }
        Ok(looked)
    }
}

/// The module that is switched for a member.
struct Switching(ModuleId);

impl Beside<JoinRefused> for Switching {
    async fn look(
        &self,
        executor: &Executor,
        tenant: TenantId,
    ) -> Result<Looked<JoinRefused>, ExecuteError<JoinRefused>> {
        let (at, module) = look::<Module, _>(executor, tenant, self.0.0).await?;
        let refusal = match module {
            Module::Absent => Some(JoinRefused::NoSuchModule),
            Module::Retired { .. } => Some(JoinRefused::ModuleRetired),
            Module::Registered { .. } | Module::Enabled { .. } | Module::Disabled { .. } => None,
        };
        Ok(Looked { at: vec![at], refusal })
    }
}

enum Joining {
    Account(AccountId),
    /// The account that this membership was of.
    AgainAs(Uuid),
    Nobody,
}

impl Beside<JoinRefused> for Joining {
    async fn look(
        &self,
        executor: &Executor,
        tenant: TenantId,
    ) -> Result<Looked<JoinRefused>, ExecuteError<JoinRefused>> {
        let account = match self {
            Joining::Nobody => None,
            Joining::Account(account) => Some(*account),
            Joining::AgainAs(membership) => match look::<Membership, _>(executor, tenant, *membership).await?.1 {
                Membership::Active { account, .. } | Membership::Ended { account, .. } => Some(account),
                // The membership itself says that there is none.
                Membership::Absent => None,
            },
        };
        let Some(account) = account else { return Ok(Looked { at: Vec::new(), refusal: None }) };
        let (at, account) = look::<Account, _>(executor, PLATFORM_TENANT, account.0).await?;
        let refusal = match account {
            Account::Absent => Some(JoinRefused::NoSuchAccount),
            Account::Deactivated { .. } => Some(JoinRefused::AccountDeactivated),
            Account::Active { .. } => None,
        };
        Ok(Looked { at: vec![at], refusal })
    }
}

async fn look<A, R>(executor: &Executor, tenant: TenantId, id: Uuid) -> Result<(LookedAt, A), ExecuteError<R>>
where
    A: daybook_domain::EventSourced + Send + Sync + 'static,
    R: std::error::Error + 'static,
{
    let key = StreamKey { tenant, stream: StreamId { kind: <A as Aggregate>::TYPE, id } };
    let cached = executor.present_state::<A, R>(&key).await?;
    Ok((LookedAt { key, version: cached.version, seen: cached.seen }, cached.state.clone()))
}
