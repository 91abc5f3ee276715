//! A session: what one login led to, on one device, until it ends. Its stream lives in the platform's tenant.
//!
//! It knows no secret: the refresh tokens that carry it on are kept elsewhere, hashed, and a generation is all that is
//! known of them here. Whether its account and its membership still stand is theirs to say, at each request.

mod state;
mod values;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

pub use crate::value::Reason;
pub use state::Session;
pub use values::{Ending, Method};

use crate::action::{Action, Guarded};
use crate::aggregate::{EventSourced, Refusal};
use crate::context::Context;
use crate::ids::{AccountId, MembershipId, PLATFORM_TENANT, TenantId};
use crate::platform::membership_id;
use crate::snapshot::SnapshotForm;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What can be asked of a session. Its JSON form is for the hash of a request; it is never read back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionCommand {
    Start {
        account: AccountId,
        /// The tenant that it is in at first.
        tenant: TenantId,
        /// The account's membership there; none in the platform's own tenant.
        membership: Option<MembershipId>,
        method: Method,
        /// Of the account's sessions at this moment.
        account_generation: u64,
        /// When it ends at the latest, whatever happens.
        expires_at: DateTime<Utc>,
    },
    /// Its refresh token was exchanged for the next one.
    Refresh {
        /// Of the next one; the first has 0.
        generation: u64,
    },
    SwitchTenant {
        tenant: TenantId,
        membership: Option<MembershipId>,
    },
    End {
        how: Ending,
    },
}

impl Guarded for SessionCommand {
    fn action(&self) -> Action {
        match self {
            Self::Start { .. } => Action::SessionStart,
            Self::Refresh { .. } => Action::SessionRefresh,
            Self::SwitchTenant { .. } => Action::SessionSwitchTenant,
            Self::End { .. } => Action::SessionEnd,
        }
    }
}

/// What happened to a session. A payload in the journal is the inner object; its tag is in the event's type.
// The lines below are the descriptions in the published schemas.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SessionEvent {
    /// An account is logged in. From where is in the metadata.
    Started {
        account: AccountId,
        /// The tenant that it is in.
        tenant: TenantId,
        /// The account's membership there; none in the platform's own tenant.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(with = "MembershipId")]
        membership: Option<MembershipId>,
        method: Method,
        /// The session has ended once the account's sessions have a higher one.
        account_generation: u64,
        /// When it ends at the latest, whatever happens.
        expires_at: DateTime<Utc>,
    },
    /// The refresh token was exchanged for the next one.
    Refreshed {
        /// How often that has happened.
        generation: u64,
    },
    /// The session is in another tenant now.
    TenantSwitched {
        tenant: TenantId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(with = "MembershipId")]
        membership: Option<MembershipId>,
    },
    /// The session has ended for good.
    Ended { how: Ending },
}

impl cqrs_es::DomainEvent for SessionEvent {
    fn event_type(&self) -> String {
        let event = match self {
            Self::Started { .. } => "started",
            Self::Refreshed { .. } => "refreshed",
            Self::TenantSwitched { .. } => "tenant_switched",
            Self::Ended { .. } => "ended",
        };
        format!("platform.session.{event}")
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}

impl crate::Versioned for SessionEvent {}

/// Why a session refuses a command.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SessionError {
    #[error("there is no such session; log in")]
    NotStarted,
    #[error("the session has been started already; log in for another one")]
    AlreadyStarted,
    #[error("the session has ended; log in again")]
    Ended,
    #[error("the session is too old; log in again")]
    Expired,
    #[error("the refresh token is not the one that is due")]
    OtherGeneration,
    #[error("a session is started in the platform's tenant; use that tenant's id")]
    ForeignStream,
    #[error("the membership is not the account's in that tenant; the platform's own tenant has none")]
    ForeignMembership,
}

impl Refusal for SessionError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotStarted => "SESSION_NOT_STARTED",
            Self::AlreadyStarted => "SESSION_ALREADY_STARTED",
            Self::Ended => "SESSION_ENDED",
            Self::Expired => "SESSION_EXPIRED",
            Self::OtherGeneration => "SESSION_OTHER_GENERATION",
            Self::ForeignStream => "SESSION_FOREIGN_STREAM",
            Self::ForeignMembership => "SESSION_FOREIGN_MEMBERSHIP",
        }
    }

    fn path(&self) -> &'static [&'static str] {
        &[]
    }
}

crate::cqrs_aggregate!(
    Session,
    type = "session",
    command = SessionCommand,
    event = SessionEvent,
    error = SessionError
);

impl EventSourced for Session {
    const CONTEXT: &'static str = "platform";
    /// One that is refreshed every few minutes for days has thousands of events.
    const SNAPSHOT: Option<SnapshotForm<Self>> = Some(SnapshotForm::version(1));

    fn decide(&self, context: &Context, command: SessionCommand) -> Result<Vec<SessionEvent>, SessionError> {
        use {Session::*, SessionCommand as C, SessionError as Refused, SessionEvent as E};
        let already_so = || Ok(vec![]);

        match (self, command) {
            (Absent, C::Start { account, tenant, membership, method, account_generation, expires_at }) => {
                if context.tenant != PLATFORM_TENANT {
                    return Err(Refused::ForeignStream);
                }
                own(account, tenant, membership)?;
                Ok(vec![E::Started { account, tenant, membership, method, account_generation, expires_at }])
            }
            (Active { .. } | Ended { .. }, C::Start { .. }) => Err(Refused::AlreadyStarted),

            (Active { generation: due, expires_at, .. }, C::Refresh { generation }) => {
                match generation.checked_sub(*due) {
                    Some(0) => already_so(),
                    // The clock ends it, whether or not anybody has written that down.
                    Some(1) if context.now >= *expires_at => Err(Refused::Expired),
                    Some(1) => Ok(vec![E::Refreshed { generation }]),
                    _ => Err(Refused::OtherGeneration),
                }
            }

            (Active { tenant: now_in, membership: as_member, .. }, C::SwitchTenant { tenant, membership })
                if (*now_in, *as_member) == (tenant, membership) =>
            {
                already_so()
            }
            (Active { account, expires_at, .. }, C::SwitchTenant { tenant, membership }) => {
                own(*account, tenant, membership)?;
                match context.now >= *expires_at {
                    true => Err(Refused::Expired),
                    false => Ok(vec![E::TenantSwitched { tenant, membership }]),
                }
            }
            (Ended { .. }, C::Refresh { .. } | C::SwitchTenant { .. }) => Err(Refused::Ended),

            (Active { .. }, C::End { how }) => Ok(vec![E::Ended { how }]),
            (Ended { .. }, C::End { .. }) => already_so(),

            (Absent, C::Refresh { .. } | C::SwitchTenant { .. } | C::End { .. }) => Err(Refused::NotStarted),
        }
    }
}

/// Whose membership it is follows from its id.
fn own(account: AccountId, tenant: TenantId, membership: Option<MembershipId>) -> Result<(), SessionError> {
    let due = (tenant != PLATFORM_TENANT).then(|| membership_id(tenant, account));
    match membership == due {
        true => Ok(()),
        false => Err(SessionError::ForeignMembership),
    }
}
