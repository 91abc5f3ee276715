//! A membership: an account that works in a tenant, and as what. Its stream lives in that tenant.
//!
//! It knows nothing of the person (that is the account) nor of the other members: whether the last administrator
//! leaves is for whoever sees all members to ask. Its roles are those of a tenant only, never the platform's.

mod state;
mod values;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

pub use crate::rules::RoleName;
pub use crate::value::Reason;
pub use state::Membership;
pub use values::{HeldRole, Roles, TenantRole};

use crate::action::{Action, Guarded};
use crate::aggregate::{EventSourced, Refusal};
use crate::context::Context;
use crate::ids::{AccountId, MembershipId, ModuleId, PLATFORM_TENANT, TenantId};
use crate::rules::HELD_MAX;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use uuid::Uuid;

/// Modules that are switched off for one member.
pub const MODULES_OFF_MAX: usize = 200;

/// The one membership of an account in a tenant: UUIDv5 of the account's 16 bytes in the tenant's namespace.
/// Who leaves and comes back continues the same stream.
pub fn membership_id(tenant: TenantId, account: AccountId) -> MembershipId {
    MembershipId(Uuid::new_v5(&tenant.0, account.0.as_bytes()))
}

/// What can be asked of a membership. Its JSON form is for the hash of a request; it is never read back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MembershipCommand {
    Add {
        account: AccountId,
        /// At least one.
        roles: Roles,
    },
    ChangeRoles {
        /// All roles from now on, at least one.
        roles: Roles,
    },
    End {
        reason: Reason,
    },
    Rejoin {
        /// All roles from now on, at least one; those of before count no more.
        roles: Roles,
    },
    /// Lets the member use a module that is granted to it, or not, whatever is granted.
    SwitchModule {
        module: ModuleId,
        active: bool,
        reason: Reason,
    },
}

impl Guarded for MembershipCommand {
    fn action(&self) -> Action {
        match self {
            Self::Add { .. } => Action::MembershipAdd,
            Self::ChangeRoles { .. } => Action::MembershipChangeRoles,
            Self::End { .. } => Action::MembershipEnd,
            Self::Rejoin { .. } => Action::MembershipRejoin,
            Self::SwitchModule { .. } => Action::ModuleActivate,
        }
    }
}

/// What happened to a membership. A payload in the journal is the inner object; its tag is in the event's type.
// The lines below are the descriptions in the published schemas.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MembershipEvent {
    /// An account is a member of the tenant.
    Added {
        account: AccountId,
        roles: BTreeSet<TenantRole>,
        /// Keys of roles of the tenant's making. Absent if there are none.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        custom: BTreeSet<RoleName>,
    },
    /// The member has other roles: some are new, others are gone. Roles that are in neither stay.
    RolesChanged {
        added: BTreeSet<TenantRole>,
        removed: BTreeSet<TenantRole>,
        /// As `added`, of roles of the tenant's making. Absent if there are none.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        custom_added: BTreeSet<RoleName>,
        /// As `removed`, of roles of the tenant's making. Absent if there are none.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        custom_removed: BTreeSet<RoleName>,
    },
    /// The account is no member any more, and has no role here.
    Ended { reason: Reason },
    /// The account is a member again, with these roles and no others.
    Rejoined {
        roles: BTreeSet<TenantRole>,
        /// Keys of roles of the tenant's making. Absent if there are none.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        custom: BTreeSet<RoleName>,
    },
    /// The member may not use a module, whatever is granted to it. Stays so when the account leaves and comes back.
    ModuleSwitchedOff { module: ModuleId, reason: Reason },
    /// What is granted to the member of a module counts again.
    ModuleSwitchedOn { module: ModuleId, reason: Reason },
}

impl cqrs_es::DomainEvent for MembershipEvent {
    fn event_type(&self) -> String {
        let event = match self {
            Self::Added { .. } => "added",
            Self::RolesChanged { .. } => "roles_changed",
            Self::Ended { .. } => "ended",
            Self::Rejoined { .. } => "rejoined",
            Self::ModuleSwitchedOff { .. } => "module_switched_off",
            Self::ModuleSwitchedOn { .. } => "module_switched_on",
        };
        format!("platform.membership.{event}")
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}

impl crate::Versioned for MembershipEvent {}

/// Why a membership refuses a command.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MembershipError {
    #[error("there is no such membership; add the account to the tenant first")]
    NotAdded,
    #[error("the account is a member already; change its roles instead")]
    AlreadyMember,
    #[error("the membership has ended; let the account rejoin")]
    Ended,
    #[error("a member has at least one role; end the membership to take the last one away")]
    NoRole,
    #[error("a member has at most {HELD_MAX} roles; put what they allow together into fewer")]
    TooManyRoles,
    #[error("a membership has its id from its tenant and account; use the UUIDv5 of the account in the tenant")]
    ForeignStream,
    #[error("a member has at most {MODULES_OFF_MAX} modules switched off; revoke its grants instead")]
    TooManyModulesOff,
    #[error("the platform's own tenant has no members; add the account to another tenant")]
    PlatformTenant,
}

impl Refusal for MembershipError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotAdded => "MEMBERSHIP_NOT_ADDED",
            Self::AlreadyMember => "MEMBERSHIP_ALREADY_MEMBER",
            Self::Ended => "MEMBERSHIP_ENDED",
            Self::NoRole => "MEMBERSHIP_NO_ROLE",
            Self::TooManyRoles => "MEMBERSHIP_TOO_MANY_ROLES",
            Self::TooManyModulesOff => "MEMBERSHIP_TOO_MANY_MODULES_OFF",
            Self::ForeignStream => "MEMBERSHIP_FOREIGN_STREAM",
            Self::PlatformTenant => "MEMBERSHIP_PLATFORM_TENANT",
        }
    }

    fn path(&self) -> &'static [&'static str] {
        match self {
            Self::NoRole | Self::TooManyRoles => &["roles"],
            Self::TooManyModulesOff => &["module"],
            Self::ForeignStream => &["account"],
            Self::NotAdded | Self::AlreadyMember | Self::Ended | Self::PlatformTenant => &[],
        }
    }
}

crate::cqrs_aggregate!(
    Membership,
    type = "membership",
    command = MembershipCommand,
    event = MembershipEvent,
    error = MembershipError
);

impl EventSourced for Membership {
    const CONTEXT: &'static str = "platform";

    fn decide(&self, context: &Context, command: MembershipCommand) -> Result<Vec<MembershipEvent>, MembershipError> {
        use {Membership::*, MembershipCommand as C, MembershipError as Refused, MembershipEvent as E};
        let already_so = || Ok(vec![]);

        match (self, command) {
            (Absent, C::Add { account, roles }) => {
                // A role held there would reach every account.
                if context.tenant == PLATFORM_TENANT {
                    return Err(Refused::PlatformTenant);
                }
                if context.id != membership_id(context.tenant, account).0 {
                    return Err(Refused::ForeignStream);
                }
                let Roles { built_in, custom } = some(roles)?;
                Ok(vec![E::Added { account, roles: built_in, custom }])
            }
            (Active { account: member, roles: held, .. }, C::Add { account, roles }) => {
                match (*member, held) == (account, &roles) {
                    true => already_so(),
                    false => Err(Refused::AlreadyMember),
                }
            }
            (Ended { .. }, C::Add { .. }) => Err(Refused::Ended),

            (Active { roles: held, .. }, C::ChangeRoles { roles }) => {
                let roles = some(roles)?;
                if roles == *held {
                    return already_so();
                }
                Ok(vec![E::RolesChanged {
                    added: &roles.built_in - &held.built_in,
                    removed: &held.built_in - &roles.built_in,
                    custom_added: &roles.custom - &held.custom,
                    custom_removed: &held.custom - &roles.custom,
                }])
            }
            (Ended { .. }, C::ChangeRoles { .. }) => Err(Refused::Ended),

            (Active { .. }, C::End { reason }) => Ok(vec![E::Ended { reason }]),
            (Ended { .. }, C::End { .. }) => already_so(),

            (Ended { .. }, C::Rejoin { roles }) => {
                let Roles { built_in, custom } = some(roles)?;
                Ok(vec![E::Rejoined { roles: built_in, custom }])
            }
            (Active { roles: held, .. }, C::Rejoin { roles }) => match *held == roles {
                true => already_so(),
                false => Err(Refused::AlreadyMember),
            },

            (Active { modules_off, .. }, C::SwitchModule { module, active, reason }) => {
                match (modules_off.contains(&module), active) {
                    (true, true) => Ok(vec![E::ModuleSwitchedOn { module, reason }]),
                    (false, false) if modules_off.len() >= MODULES_OFF_MAX => Err(Refused::TooManyModulesOff),
                    (false, false) => Ok(vec![E::ModuleSwitchedOff { module, reason }]),
                    (true, false) | (false, true) => already_so(),
                }
            }
            (Ended { .. }, C::SwitchModule { .. }) => Err(Refused::Ended),

            (Absent, C::ChangeRoles { .. } | C::End { .. } | C::Rejoin { .. } | C::SwitchModule { .. }) => {
                Err(Refused::NotAdded)
            }
        }
    }
}

fn some(roles: Roles) -> Result<Roles, MembershipError> {
    match roles.built_in.len() + roles.custom.len() {
        0 => Err(MembershipError::NoRole),
        1..=HELD_MAX => Ok(roles),
        _ => Err(MembershipError::TooManyRoles),
    }
}
