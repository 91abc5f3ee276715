//! A service account: a machine that works in one tenant, and its keys. Its stream lives in that tenant.
//!
//! It knows no secret: a key is an id here, with what it may do and until when; the text that a machine sends is
//! kept elsewhere, hashed. A key does nothing that the account's roles do not permit, and of that only what its scopes name.

mod state;
mod values;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

pub use crate::platform::membership::TenantRole;
pub use crate::value::{Name, Reason};
pub use state::{Key, Service};
pub use values::Scope;

use crate::action::{Action, Guarded};
use crate::aggregate::{EventSourced, Refusal};
use crate::context::Context;
use crate::ids::{ApiKeyId, PLATFORM_TENANT};
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Keys that a service account may have at once.
pub const KEYS_MAX: usize = 20;
/// Keys that are remembered of it, those that are over among them. Beyond, those that were revoked are forgotten first,
/// then those that were over first: to it they are no keys of its own any more.
pub const REMEMBERED_MAX: usize = 100;

/// What can be asked of a service account. Its JSON form is for the hash of a request; it is never read back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceCommand {
    Register {
        name: Name,
        /// At least one.
        roles: BTreeSet<TenantRole>,
    },
    IssueKey {
        key: ApiKeyId,
        /// At least one.
        scopes: BTreeSet<Scope>,
        expires_at: Option<DateTime<Utc>>,
    },
    /// A new key in the place of an old one, which is good for a while longer.
    RotateKey {
        old: ApiKeyId,
        new: ApiKeyId,
        /// Of the old one, if that is not over before.
        overlap_until: DateTime<Utc>,
        /// Of the new one.
        expires_at: Option<DateTime<Utc>>,
    },
    RevokeKey {
        key: ApiKeyId,
        reason: Reason,
    },
    Deactivate {
        reason: Reason,
    },
}

impl Guarded for ServiceCommand {
    fn action(&self) -> Action {
        match self {
            Self::Register { .. } => Action::ServiceRegister,
            Self::IssueKey { .. } => Action::ServiceIssueKey,
            Self::RotateKey { .. } => Action::ServiceRotateKey,
            Self::RevokeKey { .. } => Action::ServiceRevokeKey,
            Self::Deactivate { .. } => Action::ServiceDeactivate,
        }
    }
}

/// What happened to a service account. A payload in the journal is the inner object; its tag is in the event's type.
// The lines below are the descriptions in the published schemas.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServiceEvent {
    /// A machine may work in the tenant, once it has a key.
    Registered { name: Name, roles: BTreeSet<TenantRole> },
    /// It has one more key. The key itself was shown once and is kept hashed, elsewhere.
    KeyIssued {
        key: ApiKeyId,
        scopes: BTreeSet<Scope>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(with = "DateTime<Utc>")]
        expires_at: Option<DateTime<Utc>>,
    },
    /// A new key of the same scopes has taken the place of an old one.
    KeyRotated {
        old: ApiKeyId,
        new: ApiKeyId,
        /// Until when the old one is good.
        overlap_until: DateTime<Utc>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(with = "DateTime<Utc>")]
        expires_at: Option<DateTime<Utc>>,
    },
    /// A key is good for nothing any more.
    KeyRevoked { key: ApiKeyId, reason: Reason },
    /// None of its keys is good for anything any more, for good.
    Deactivated { reason: Reason },
}

impl cqrs_es::DomainEvent for ServiceEvent {
    fn event_type(&self) -> String {
        let event = match self {
            Self::Registered { .. } => "registered",
            Self::KeyIssued { .. } => "key_issued",
            Self::KeyRotated { .. } => "key_rotated",
            Self::KeyRevoked { .. } => "key_revoked",
            Self::Deactivated { .. } => "deactivated",
        };
        format!("platform.service.{event}")
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}

impl crate::Versioned for ServiceEvent {}

/// Why a service account refuses a command.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ServiceError {
    #[error("there is no such service account; register it first")]
    NotRegistered,
    #[error("the service account is registered already; register another one under an id of its own")]
    AlreadyRegistered,
    #[error("the service account is deactivated for good; register another one")]
    Deactivated,
    #[error("a service account has at least one role")]
    NoRole,
    #[error("a key has at least one scope, the name of a permission such as readings.record")]
    NoScope,
    #[error("the end of a key lies in the future; give a later moment")]
    ExpiryPast,
    #[error("a service account has at most {KEYS_MAX} keys; revoke one first")]
    TooManyKeys,
    #[error("the service account has no such key")]
    NoSuchKey,
    #[error("there has been a key of this id; issue another one")]
    KeyExists,
    #[error("the key is revoked or over; issue a new one")]
    KeyOver,
    #[error("the platform's own tenant has no service accounts; register it in another tenant")]
    PlatformTenant,
}

impl Refusal for ServiceError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotRegistered => "SERVICE_NOT_REGISTERED",
            Self::AlreadyRegistered => "SERVICE_ALREADY_REGISTERED",
            Self::Deactivated => "SERVICE_DEACTIVATED",
            Self::NoRole => "SERVICE_NO_ROLE",
            Self::NoScope => "SERVICE_NO_SCOPE",
            Self::ExpiryPast => "SERVICE_EXPIRY_PAST",
            Self::TooManyKeys => "SERVICE_TOO_MANY_KEYS",
            Self::NoSuchKey => "SERVICE_NO_SUCH_KEY",
            Self::KeyExists => "SERVICE_KEY_EXISTS",
            Self::KeyOver => "SERVICE_KEY_OVER",
            Self::PlatformTenant => "SERVICE_PLATFORM_TENANT",
        }
    }

    fn path(&self) -> &'static [&'static str] {
        match self {
            Self::NoRole => &["roles"],
            Self::NoScope => &["scopes"],
            Self::ExpiryPast => &["expiresAt"],
            Self::NoSuchKey | Self::KeyOver => &["key"],
            Self::NotRegistered
            | Self::AlreadyRegistered
            | Self::Deactivated
            | Self::TooManyKeys
            | Self::KeyExists
            | Self::PlatformTenant => &[],
        }
    }
}

crate::cqrs_aggregate!(
    Service,
    type = "service",
    command = ServiceCommand,
    event = ServiceEvent,
    error = ServiceError
);

impl EventSourced for Service {
    const CONTEXT: &'static str = "platform";

    fn decide(&self, context: &Context, command: ServiceCommand) -> Result<Vec<ServiceEvent>, ServiceError> {
        use {Service::*, ServiceCommand as C, ServiceError as Refused, ServiceEvent as E};
        let already_so = || Ok(vec![]);

        match (self, command) {
            (Absent, C::Register { name, roles }) => {
                // A role held there would reach every account.
                if context.tenant == PLATFORM_TENANT {
                    return Err(Refused::PlatformTenant);
                }
                match roles.is_empty() {
                    true => Err(Refused::NoRole),
                    false => Ok(vec![E::Registered { name, roles }]),
                }
            }
            (Active { .. } | Deactivated { .. }, C::Register { .. }) => Err(Refused::AlreadyRegistered),

            (Active { keys, .. }, C::IssueKey { key, scopes, expires_at }) => {
                if let Some(known) = keys.get(&key) {
                    let same = !known.revoked && (&known.scopes, known.expires_at) == (&scopes, expires_at);
                    return if same { already_so() } else { Err(Refused::KeyExists) };
                }
                if scopes.is_empty() {
                    return Err(Refused::NoScope);
                }
                future(context, expires_at)?;
                self.room(context)?;
                Ok(vec![E::KeyIssued { key, scopes, expires_at }])
            }
            (Active { keys, .. }, C::RotateKey { old, new, overlap_until, expires_at }) => {
                let Some(replaced) = keys.get(&old) else { return Err(Refused::NoSuchKey) };
                if let Some(known) = keys.get(&new) {
                    let same = known.replaces == Some(old) && known.expires_at == expires_at;
                    return if same { already_so() } else { Err(Refused::KeyExists) };
                }
                if !replaced.is_good(context.now) {
                    return Err(Refused::KeyOver);
                }
                future(context, expires_at)?;
                self.room(context)?;
                let overlap_until = replaced.expires_at.map_or(overlap_until, |end| end.min(overlap_until));
                Ok(vec![E::KeyRotated { old, new, overlap_until, expires_at }])
            }
            (Active { keys, .. }, C::RevokeKey { key, reason }) => match keys.get(&key) {
                None => Err(Refused::NoSuchKey),
                Some(known) if known.revoked => already_so(),
                Some(_) => Ok(vec![E::KeyRevoked { key, reason }]),
            },
            (Active { .. }, C::Deactivate { reason }) => Ok(vec![E::Deactivated { reason }]),

            (Deactivated { .. }, C::Deactivate { .. }) => already_so(),
            (Deactivated { .. }, C::IssueKey { .. } | C::RotateKey { .. } | C::RevokeKey { .. }) => {
                Err(Refused::Deactivated)
            }
            (Absent, C::IssueKey { .. } | C::RotateKey { .. } | C::RevokeKey { .. } | C::Deactivate { .. }) => {
                Err(Refused::NotRegistered)
            }
        }
    }
}

impl Service {
    fn room(&self, context: &Context) -> Result<(), ServiceError> {
        let good = self.keys().filter(|(_, key)| key.is_good(context.now)).count();
        if good < KEYS_MAX { Ok(()) } else { Err(ServiceError::TooManyKeys) }
    }
}

fn future(context: &Context, expires_at: Option<DateTime<Utc>>) -> Result<(), ServiceError> {
    match expires_at.is_some_and(|end| end <= context.now) {
        true => Err(ServiceError::ExpiryPast),
        false => Ok(()),
    }
}
