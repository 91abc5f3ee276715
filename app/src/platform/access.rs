//! Commands of roles and consents: their tenant must be active.

use super::{InTenant, TenantRefused};
use crate::authorize::Authorized;
use crate::executor::{Alone, Call, ExecuteError, Executed, Executor};
use daybook_domain::Refusal;
use daybook_domain::platform::consent::{Consent, ConsentCommand, ConsentError};
use daybook_domain::platform::role::{DefinedRole, RoleCommand, RoleError};
use uuid::Uuid;

/// Why a role refuses a command.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RoleRefused {
    #[error(transparent)]
    Role(#[from] RoleError),
    #[error(transparent)]
    Tenant(#[from] TenantRefused),
}

impl Refusal for RoleRefused {
    fn code(&self) -> &'static str {
        match self {
            Self::Role(refusal) => refusal.code(),
            Self::Tenant(refusal) => refusal.code(),
        }
    }

    fn path(&self) -> &'static [&'static str] {
        match self {
            Self::Role(refusal) => refusal.path(),
            Self::Tenant(refusal) => refusal.path(),
        }
    }
}

/// Why a consent refuses a command.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConsentRefused {
    #[error(transparent)]
    Consent(#[from] ConsentError),
    #[error(transparent)]
    Tenant(#[from] TenantRefused),
}

impl Refusal for ConsentRefused {
    fn code(&self) -> &'static str {
        match self {
            Self::Consent(refusal) => refusal.code(),
            Self::Tenant(refusal) => refusal.code(),
        }
    }

    fn path(&self) -> &'static [&'static str] {
        match self {
            Self::Consent(refusal) => refusal.path(),
            Self::Tenant(refusal) => refusal.path(),
        }
    }
}

impl Executor {
    /// Carries out a command of a role.
    ///
    /// # Errors
    /// [`ExecuteError::Refused`] with a [`RoleRefused`]; everything else as [`Executor::execute`].
    pub async fn execute_role(
        &self,
        authorized: Authorized<RoleCommand>,
        id: Uuid,
        call: Call,
    ) -> Result<Executed<DefinedRole>, ExecuteError<RoleRefused>> {
        self.execute_beside(authorized, id, call, &InTenant(Alone)).await
    }

    /// Carries out a command of a consent.
    ///
    /// # Errors
    /// [`ExecuteError::Refused`] with a [`ConsentRefused`]; everything else as [`Executor::execute`].
    pub async fn execute_consent(
        &self,
        authorized: Authorized<ConsentCommand>,
        id: Uuid,
        call: Call,
    ) -> Result<Executed<Consent>, ExecuteError<ConsentRefused>> {
        self.execute_beside(authorized, id, call, &InTenant(Alone)).await
    }
}
