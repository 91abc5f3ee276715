//! Who may do what. The one door between a request and the executor.
//!
//! Deny wins, unknown denies, and what nothing allows is denied. Where a permission depends on the record, [`authorize`] gives an
//! [`Authorized`] that the executor judges by the record's old and new image: see [`crate::executor`].

use daybook_domain::condition::{Claims, Condition, Value};
use daybook_domain::platform::membership_id;
use daybook_domain::rules::{FieldAccess, Permissions, Verdict};
use daybook_domain::{AccountId, Action, Actor, ActorKind, Guarded, Role, TenantId};
use std::collections::BTreeSet;
use std::sync::Arc;
use uuid::Uuid;

/// Who asks, as the token says. Nothing in it comes from the request itself.
#[derive(Clone, Debug)]
pub struct Credential {
    pub actor: Actor,
    /// The tenant the credential belongs to.
    pub tenant: TenantId,
    /// Built-in roles.
    pub roles: Vec<Role>,
    pub session: Option<Uuid>,
    /// Of what the roles permit, only this; everything where there is none.
    pub scopes: Option<Arc<BTreeSet<Action>>>,
    /// What the roles of the tenant's making come to that the actor holds: see [`crate::rules::Rules::complete`].
    pub permissions: Arc<Permissions>,
}

/// The caller may not do this, or may not know whether there is something to do it to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{action} is not permitted")]
pub struct Denied {
    pub action: Action,
}

impl Credential {
    /// With built-in roles only.
    pub fn new(actor: Actor, tenant: TenantId, roles: Vec<Role>, session: Option<Uuid>) -> Self {
        Credential { actor, tenant, roles, session, scopes: None, permissions: Arc::default() }
    }

    /// Of what the roles permit, only this.
    #[must_use]
    pub fn scoped(self, scopes: BTreeSet<Action>) -> Self {
        Credential { scopes: Some(Arc::new(scopes)), ..self }
    }

    /// With the roles of the tenant's making as well.
    #[must_use]
    pub fn with_permissions(self, permissions: Arc<Permissions>) -> Self {
        Credential { permissions, ..self }
    }

    /// What conditions may know of the caller.
    pub fn claims(&self) -> Claims {
        let built_in = self.roles.iter().map(|role| Value::from(role.as_str()));
        let custom = self.permissions.roles().iter().map(|role| Value::from(role.key.as_str()));
        let claims = Claims::default()
            .with("account", self.actor.id)
            .with("tenant", self.tenant.0)
            .with_many("roles", built_in.chain(custom).collect());
        match self.actor.kind {
            ActorKind::Account => claims.with("member", membership_id(self.tenant, AccountId(self.actor.id)).0),
            ActorKind::Service | ActorKind::System => claims,
        }
    }

    /// What the caller may do with a field of a tenant's records.
    pub fn field(&self, target: TenantId, resource: &str, field: &str) -> FieldAccess {
        // Of others' records, roles at home say nothing; consents have no fields.
        if target == self.tenant { self.permissions.field(resource, field) } else { FieldAccess::default() }
    }
}

/// Whether a credential permits an action in a tenant, perhaps only on some of its records.
pub fn verdict(credential: &Credential, action: Action, target: TenantId) -> Verdict {
    // Of what the roles permit, only this.
    if credential.scopes.as_ref().is_some_and(|scopes| !scopes.contains(&action)) {
        return Verdict::Never;
    }
    let built_in = credential.roles.iter().any(|role| role.allows_in(action, credential.tenant, target));
    match target == credential.tenant {
        true => credential.permissions.verdict(action, built_in),
        false if built_in => Verdict::Always,
        false => Verdict::Never,
    }
}

/// Whether a credential permits an action in a tenant, whatever the record.
pub fn may(credential: &Credential, action: Action, target: TenantId) -> bool {
    verdict(credential, action, target) == Verdict::Always
}

/// A command that its caller may carry out, in this tenant. Only [`authorize`] makes one.
#[derive(Debug)]
pub struct Authorized<C> {
    pub(crate) command: C,
    pub(crate) action: Action,
    pub(crate) tenant: TenantId,
    pub(crate) credential: Credential,
    /// Of which records; none of all.
    pub(crate) condition: Option<Arc<Condition>>,
}

/// Checks a command against its caller's roles.
///
/// # Errors
/// [`Denied`].
pub fn authorize<C: Guarded>(credential: &Credential, tenant: TenantId, command: C) -> Result<Authorized<C>, Denied> {
    let action = command.action();
    let condition = match verdict(credential, action, tenant) {
        Verdict::Never => return Err(Denied { action }),
        Verdict::Always => None,
        Verdict::If(condition) => Some(condition),
    };
    let resource = action.as_str().split('.').next().unwrap_or_default();
    if command.sets().iter().any(|field| credential.field(tenant, resource, field).read_only) {
        return Err(Denied { action });
    }
    Ok(Authorized { command, action, tenant, credential: credential.clone(), condition })
}
