//! A grant: that a member may use a module in one of its roles, from when until when. Its stream lives in the tenant.
//!
//! Its id follows from member, module and role, so that there is at most one grant of each triple without a unique
//! key, and granting anew after an expiry or a revocation continues the same stream. An expired grant denies by the
//! clock and not by an event, which might come late: see [`GrantTerm::allows_at`].
//!
//! It does not see the membership and the module: that they are there, and that the module knows the role, is for
//! whoever sends the command to check, and for whoever reads a grant to check again.

mod state;
mod term;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

pub use crate::platform::module::RoleKey;
pub use crate::value::Reason;
pub use state::{AccessGrant, GrantOf};
pub use term::GrantTerm;

use crate::action::{Action, Guarded};
use crate::aggregate::{EventSourced, Refusal};
use crate::context::Context;
use crate::ids::{MembershipId, ModuleId, TenantId};
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The one grant of a role in a module to a member: UUIDv5, in the tenant's namespace, of the 16 bytes of the
/// membership's id, the 16 bytes of the module's and the role's key.
pub fn grant_id(tenant: TenantId, membership: MembershipId, module: ModuleId, role: &RoleKey) -> Uuid {
    let name = [membership.0.as_bytes(), module.0.as_bytes(), role.as_str().as_bytes()].concat();
    Uuid::new_v5(&tenant.0, &name)
}

/// What can be asked of a grant. Its JSON form is for the hash of a request; it is never read back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AccessGrantCommand {
    /// Also after an expiry or a revocation.
    Grant {
        membership: MembershipId,
        module: ModuleId,
        role: RoleKey,
        term: GrantTerm,
        reason: Reason,
    },
    /// To end a grant now, revoke it.
    ChangeExpiry {
        /// None: from now on without an end.
        until: Option<DateTime<Utc>>,
        reason: Reason,
    },
    Revoke {
        reason: Reason,
    },
}

impl Guarded for AccessGrantCommand {
    fn action(&self) -> Action {
        match self {
            Self::Grant { .. } => Action::GrantGrant,
            Self::ChangeExpiry { .. } => Action::GrantChangeExpiry,
            Self::Revoke { .. } => Action::GrantRevoke,
        }
    }
}

/// What happened to a grant. A payload in the journal is the inner object; its tag is in the event's type.
// The lines below are the descriptions in the published schemas.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AccessGrantEvent {
    /// A member may use a module in one of its roles. Whatever was granted here before counts no more.
    Granted {
        membership: MembershipId,
        module: ModuleId,
        role: RoleKey,
        /// The first moment at which it allows. Absent if that is at once.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(with = "DateTime<Utc>")]
        from: Option<DateTime<Utc>>,
        /// The first moment at which it denies again. Absent if it has no end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(with = "DateTime<Utc>")]
        until: Option<DateTime<Utc>>,
        reason: Reason,
    },
    /// The grant ends at another moment, or never.
    ExpiryChanged {
        /// The first moment at which it denies again. Absent if it has no end any more.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(with = "DateTime<Utc>")]
        until: Option<DateTime<Utc>>,
        reason: Reason,
    },
    /// The grant allows nothing any more.
    Revoked { reason: Reason },
}

impl cqrs_es::DomainEvent for AccessGrantEvent {
    fn event_type(&self) -> String {
        let event = match self {
            Self::Granted { .. } => "granted",
            Self::ExpiryChanged { .. } => "expiry_changed",
            Self::Revoked { .. } => "revoked",
        };
        format!("platform.grant.{event}")
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}

impl crate::Versioned for AccessGrantEvent {}

/// Why a grant refuses a command.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AccessGrantError {
    #[error("there is no such grant; grant the role first")]
    NotGranted,
    #[error("the role is granted already, for another time; change the expiry, or revoke it first")]
    AlreadyGranted,
    #[error("the grant has expired; grant the role anew")]
    Expired,
    #[error("the grant was revoked; grant the role anew")]
    Revoked,
    #[error("a grant has its id from its membership, module and role; use their UUIDv5 in the tenant")]
    ForeignStream,
    #[error("a grant ends in the future; name a later end, or revoke the grant to end it now")]
    EndsInThePast,
    #[error("a grant ends after it begins; name a later end")]
    EndsBeforeItBegins,
    #[error("a grant begins between the years 1970 and 9999; name another beginning or none")]
    BeginsOutOfRange,
    #[error("a grant ends between the years 1970 and 9999; name an earlier end or none")]
    EndsOutOfRange,
}

impl Refusal for AccessGrantError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotGranted => "GRANT_NOT_GRANTED",
            Self::AlreadyGranted => "GRANT_ALREADY_GRANTED",
            Self::Expired => "GRANT_EXPIRED",
            Self::Revoked => "GRANT_REVOKED",
            Self::ForeignStream => "GRANT_FOREIGN_STREAM",
            Self::EndsInThePast => "GRANT_ENDS_IN_THE_PAST",
            Self::EndsBeforeItBegins => "GRANT_ENDS_BEFORE_IT_BEGINS",
            Self::BeginsOutOfRange | Self::EndsOutOfRange => "GRANT_TERM_OUT_OF_RANGE",
        }
    }

    fn path(&self) -> &'static [&'static str] {
        match self {
            Self::EndsInThePast | Self::EndsBeforeItBegins | Self::EndsOutOfRange => &["until"],
            Self::BeginsOutOfRange => &["from"],
            Self::NotGranted | Self::AlreadyGranted | Self::Expired | Self::Revoked | Self::ForeignStream => &[],
        }
    }
}

crate::cqrs_aggregate!(
    AccessGrant,
    type = "grant",
    command = AccessGrantCommand,
    event = AccessGrantEvent,
    error = AccessGrantError
);

impl EventSourced for AccessGrant {
    const CONTEXT: &'static str = "platform";

    fn decide(
        &self,
        context: &Context,
        command: AccessGrantCommand,
    ) -> Result<Vec<AccessGrantEvent>, AccessGrantError> {
        use {AccessGrant::*, AccessGrantCommand as C, AccessGrantError as Refused, AccessGrantEvent as E};
        let already_so = || Ok(vec![]);
        let is_over = |term: &GrantTerm| term.is_over_at(context.now);

        match (self, command) {
            (Absent | Granted { .. } | Revoked { .. }, C::Grant { membership, module, role, term, reason }) => {
                if context.id != grant_id(context.tenant, membership, module, &role) {
                    return Err(Refused::ForeignStream);
                }
                let term = term.checked(context.now)?;
                match self {
                    Granted { term: held, .. } if *held == term => already_so(),
                    Granted { term: held, .. } if !is_over(held) => Err(Refused::AlreadyGranted),
                    Absent | Granted { .. } | Revoked { .. } => {
                        let GrantTerm { from, until } = term;
                        Ok(vec![E::Granted { membership, module, role, from, until, reason }])
                    }
                }
            }

            (Granted { term, .. }, C::ChangeExpiry { .. }) if is_over(term) => Err(Refused::Expired),
            (Granted { term: held, .. }, C::ChangeExpiry { until, reason }) => {
                let term = GrantTerm { until, ..*held }.checked(context.now)?;
                match term == *held {
                    true => already_so(),
                    false => Ok(vec![E::ExpiryChanged { until: term.until, reason }]),
                }
            }
            (Revoked { .. }, C::ChangeExpiry { .. }) => Err(Refused::Revoked),

            // It denies already, and no later event can change that.
            (Granted { term, .. }, C::Revoke { .. }) if is_over(term) => already_so(),
            (Granted { .. }, C::Revoke { reason }) => Ok(vec![E::Revoked { reason }]),
            (Revoked { .. }, C::Revoke { .. }) => already_so(),

            (Absent, C::ChangeExpiry { .. } | C::Revoke { .. }) => Err(Refused::NotGranted),
        }
    }
}
