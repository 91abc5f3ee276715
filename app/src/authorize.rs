//! Who may do what. The one door between a request and the executor.

use daybook_domain::{Action, Actor, Guarded, Role, TenantId};
use std::collections::BTreeSet;
use std::sync::Arc;
use uuid::Uuid;

/// Who asks, as the token says. Nothing in it comes from the request itself.
#[derive(Clone, Debug)]
pub struct Credential {
    pub actor: Actor,
    /// The tenant the credential belongs to.
    pub tenant: TenantId,
    pub roles: Vec<Role>,
    pub session: Option<Uuid>,
    /// Of what the roles permit, only this; everything where there is none.
    pub scopes: Option<Arc<BTreeSet<Action>>>,
}

/// The caller may not do this, or may not know whether there is something to do it to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{action} is not permitted")]
pub struct Denied {
    pub action: Action,
}

/// Whether a credential permits an action in a tenant.
pub fn may(credential: &Credential, action: Action, target: TenantId) -> bool {
    let in_scope = credential.scopes.as_ref().is_none_or(|scopes| scopes.contains(&action));
    in_scope && credential.roles.iter().any(|role| role.allows_in(action, credential.tenant, target))
}

/// A command that its caller may carry out, in this tenant. Only [`authorize`] makes one.
#[derive(Debug)]
pub struct Authorized<C> {
    pub(crate) command: C,
    pub(crate) action: Action,
    pub(crate) tenant: TenantId,
    pub(crate) credential: Credential,
}

/// Checks a command against its caller's roles.
///
/// # Errors
/// [`Denied`].
pub fn authorize<C: Guarded>(credential: &Credential, tenant: TenantId, command: C) -> Result<Authorized<C>, Denied> {
    let action = command.action();
    if !may(credential, action, tenant) {
        return Err(Denied { action });
    }
    Ok(Authorized { command, action, tenant, credential: credential.clone() })
}
