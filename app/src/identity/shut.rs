//! Tenants that let nobody in: suspended ones until they are reopened, closed ones for good.
//!
//! Asked at every request of whoever belongs to a tenant, whatever the kind of their token. Who is of the platform is not
//! asked: it reads what a suspended tenant has, and reopens it.

use super::{Identity, Unreadable};
use daybook_domain::platform::Tenant;
use daybook_domain::{PLATFORM_TENANT, TenantId};
use tokio::sync::watch;

/// Why a tenant lets its own people in no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Shut {
    #[error("your tenant is suspended: have the platform reopen it, or log in to another tenant of yours")]
    Suspended,
    #[error("your tenant is closed for good: log in to another tenant of yours")]
    Closed,
}

impl Shut {
    /// Stable, for clients to match on.
    pub fn code(self) -> &'static str {
        match self {
            Shut::Suspended => "TENANT_SUSPENDED",
            Shut::Closed => "TENANT_CLOSED",
        }
    }
}

impl Identity {
    /// Whether a tenant lets its own people in, as this node knows it.
    ///
    /// # Errors
    /// When that cannot be told at the moment.
    pub async fn shut(&self, tenant: TenantId) -> Result<Option<Shut>, Unreadable> {
        if tenant == PLATFORM_TENANT {
            return Ok(None);
        }
        let known = self.inner.known.get::<Tenant>(tenant, tenant.0).await?;
        Ok(match &known.state {
            // A token of the configuration may be of a tenant that is still to come; there is nothing to read.
            Tenant::Absent | Tenant::Active { .. } => None,
            Tenant::Suspended { .. } => Some(Shut::Suspended),
            Tenant::Closed { .. } => Some(Shut::Closed),
        })
    }

    /// Hears when a tenant may be shut or open again.
    pub(super) fn listen_to_tenant(&self, tenant: TenantId) -> Option<watch::Receiver<u64>> {
        (tenant != PLATFORM_TENANT).then(|| self.inner.known.listen::<Tenant>(tenant, tenant.0))
    }

    /// Resolves when a tenant may be shut or open again: for tokens that depend on nothing else.
    pub fn tenant_stirred(&self, tenant: TenantId) -> impl Future<Output = ()> + Send + 'static {
        let moved = self.listen_to_tenant(tenant);
        async move {
            match moved {
                // An error: nobody tells any more, and asking again does no harm.
                Some(mut moved) => drop(moved.changed().await),
                None => std::future::pending().await,
            }
        }
    }
}
