//! A consent: that another tenant, a provider, may read certain things of this one, until when. Its stream lives in the tenant
//! that consents, the customer.
//!
//! Its id follows from both tenants, so there is at most one consent for each provider, and consenting anew continues the same
//! stream. It is explicit and ends by itself: an end that has come denies by the clock, not by an event. It gives nothing
//! but reading, whatever the provider's people may do at home.

mod scope;
mod state;

#[cfg(test)]
mod tests;

pub use crate::value::Reason;
pub use scope::{ConsentAction, ConsentScope, DEVICES_MAX};
pub use state::{Consent, ConsentOf};

use crate::action::{Action, Guarded};
use crate::aggregate::{EventSourced, Refusal};
use crate::context::Context;
use crate::ids::TenantId;
use chrono::{DateTime, TimeDelta, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A consent lasts at most so many days.
pub const DAYS_MAX: i64 = 366 * 5;

/// The one consent of a customer to a provider: UUIDv5, in the customer's namespace, of `consent:` and the provider's id.
pub fn consent_id(customer: TenantId, provider: TenantId) -> Uuid {
    Uuid::new_v5(&customer.0, format!("consent:{provider}").as_bytes())
}

/// What can be asked of a consent. Its JSON form is for the hash of a request; it is never read back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ConsentCommand {
    /// Also after it has ended. What was consented to before counts no more.
    Grant {
        provider: TenantId,
        scope: ConsentScope,
        until: DateTime<Utc>,
        reason: Reason,
    },
    Revoke {
        reason: Reason,
    },
}

impl Guarded for ConsentCommand {
    fn action(&self) -> Action {
        match self {
            Self::Grant { .. } => Action::ConsentGrant,
            Self::Revoke { .. } => Action::ConsentRevoke,
        }
    }
}

/// What happened to a consent. A payload in the journal is the inner object; its tag is in the event's type.
// The lines below are the descriptions in the published schemas.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConsentEvent {
    /// Another tenant may read what is in the scope. Whatever was consented to before counts no more.
    Granted {
        /// The tenant that may read.
        provider: TenantId,
        #[serde(flatten)]
        scope: ConsentScope,
        /// The first moment at which it allows nothing any more.
        until: DateTime<Utc>,
        reason: Reason,
    },
    /// The consent allows nothing any more.
    Revoked { reason: Reason },
}

impl cqrs_es::DomainEvent for ConsentEvent {
    fn event_type(&self) -> String {
        let event = match self {
            Self::Granted { .. } => "granted",
            Self::Revoked { .. } => "revoked",
        };
        format!("platform.consent.{event}")
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}

impl crate::Versioned for ConsentEvent {}

/// Why a consent refuses a command.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConsentError {
    #[error("there is no such consent; give it first")]
    NotGranted,
    #[error("the end has come already; name a later one, or revoke the consent")]
    UntilPast,
    #[error("a consent lasts at most {DAYS_MAX} days; name an earlier end, and consent anew then")]
    UntilTooFar,
    #[error("a tenant needs no consent of its own; name another tenant")]
    ToOneself,
    #[error("a consent has its id from customer and provider; use the UUIDv5 of the provider in the customer")]
    ForeignStream,
}

impl Refusal for ConsentError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotGranted => "CONSENT_NOT_GRANTED",
            Self::UntilPast => "CONSENT_UNTIL_PAST",
            Self::UntilTooFar => "CONSENT_UNTIL_TOO_FAR",
            Self::ToOneself => "CONSENT_TO_ONESELF",
            Self::ForeignStream => "CONSENT_FOREIGN_STREAM",
        }
    }

    fn path(&self) -> &'static [&'static str] {
        match self {
            Self::UntilPast | Self::UntilTooFar => &["until"],
            Self::ToOneself | Self::ForeignStream => &["provider"],
            Self::NotGranted => &[],
        }
    }
}

crate::cqrs_aggregate!(Consent, type = "consent", command = ConsentCommand, event = ConsentEvent, error = ConsentError);

impl EventSourced for Consent {
    const CONTEXT: &'static str = "platform";

    fn decide(&self, context: &Context, command: ConsentCommand) -> Result<Vec<ConsentEvent>, ConsentError> {
        use {Consent::*, ConsentCommand as C, ConsentError as Refused, ConsentEvent as E};

        match (self, command) {
            (Granted(held), C::Grant { provider, scope, until, .. })
                if (held.provider, &held.scope, held.until) == (provider, &scope, until) =>
            {
                Ok(vec![])
            }
            (Absent | Granted(_) | Revoked(_), C::Grant { provider, scope, until, reason }) => {
                if provider == context.tenant {
                    return Err(Refused::ToOneself);
                }
                if context.id != consent_id(context.tenant, provider) {
                    return Err(Refused::ForeignStream);
                }
                if until <= context.now {
                    return Err(Refused::UntilPast);
                }
                if until - context.now > TimeDelta::days(DAYS_MAX) {
                    return Err(Refused::UntilTooFar);
                }
                Ok(vec![E::Granted { provider, scope, until, reason }])
            }
            (Granted(_), C::Revoke { reason }) => Ok(vec![E::Revoked { reason }]),
            (Revoked(_), C::Revoke { .. }) => Ok(vec![]),
            (Absent, C::Revoke { .. }) => Err(Refused::NotGranted),
        }
    }
}
