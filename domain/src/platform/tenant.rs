//! A tenant: the organisation that owns everything else. Its stream lives in its own tenant.
//!
//! It knows nothing of who its people are (memberships) nor of how many other tenants there are: that its
//! domain is nobody else's is the journal's to check, by the keys that [`Tenant::keys`] names.

mod state;
mod values;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod transitions;

pub use crate::value::{Domain, EmailAddress, Name, Reason};
pub use state::{Profile, Tenant};
pub use values::{Contact, Plan, SettingKey, SettingValue};

use crate::action::{Action, Guarded};
use crate::aggregate::{EventSourced, KeyChange, KeyScope, Refusal};
use crate::context::Context;
use crate::personal::Personal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A tenant has at most so many settings.
pub const SETTINGS_MAX: usize = 100;

/// The kind of the unique key that a tenant's domain takes.
pub const DOMAIN_KEY: &str = "tenant.domain";

/// What can be asked of a tenant. Its JSON form is for the hash of a request; it is never read back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TenantCommand {
    Register {
        name: Name,
        plan: Plan,
        contact: Option<Personal<Contact>>,
        domain: Option<Domain>,
    },
    Rename {
        name: Name,
    },
    ChangePlan {
        plan: Plan,
    },
    ChangeSettings {
        set: BTreeMap<SettingKey, SettingValue>,
        unset: BTreeSet<SettingKey>,
    },
    ChangeContact {
        contact: Option<Personal<Contact>>,
    },
    /// Instead of the one it has, if any.
    ClaimDomain {
        domain: Domain,
    },
    ReleaseDomain,
    Suspend {
        reason: Reason,
    },
    Reopen,
    Close {
        reason: Reason,
    },
}

impl Guarded for TenantCommand {
    fn action(&self) -> Action {
        match self {
            Self::Register { .. } => Action::TenantRegister,
            Self::Rename { .. } => Action::TenantRename,
            Self::ChangePlan { .. } => Action::TenantChangePlan,
            Self::ChangeSettings { .. } => Action::TenantChangeSettings,
            Self::ChangeContact { .. } => Action::TenantChangeContact,
            Self::ClaimDomain { .. } => Action::TenantClaimDomain,
            Self::ReleaseDomain => Action::TenantReleaseDomain,
            Self::Suspend { .. } => Action::TenantSuspend,
            Self::Reopen => Action::TenantReopen,
            Self::Close { .. } => Action::TenantClose,
        }
    }
}

/// What happened to a tenant. A payload in the journal is the inner object; its tag is in the event's type.
// The lines below are the descriptions in the published schemas.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TenantEvent {
    /// A tenant came into being.
    Registered {
        name: Name,
        plan: Plan,
        /// Absent if the tenant names nobody.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(with = "Personal<Contact>")]
        contact: Option<Personal<Contact>>,
        /// The domain that is this tenant's alone, until it is closed. Absent if it claims none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(with = "Domain")]
        domain: Option<Domain>,
    },
    /// The tenant has a new name.
    Renamed { name: Name },
    /// The tenant is on another plan.
    PlanChanged { plan: Plan },
    /// Some settings have new values, others are gone. Settings that are in neither stay as they were.
    SettingsChanged { set: BTreeMap<SettingKey, SettingValue>, unset: BTreeSet<SettingKey> },
    /// Another person is the contact, or nobody.
    ContactChanged {
        /// Absent if the tenant names nobody any more.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(with = "Personal<Contact>")]
        contact: Option<Personal<Contact>>,
    },
    /// The domain is this tenant's alone, until it is released or the tenant closed. The one of before is free again.
    DomainClaimed { domain: Domain },
    /// The tenant has no domain any more, and what it had is free again.
    DomainReleased {},
    /// The tenant may not work until it is reopened.
    Suspended { reason: Reason },
    /// The suspension is over.
    Reopened {},
    /// The tenant is closed, for good, and its domain is free again.
    Closed { reason: Reason },
}

impl cqrs_es::DomainEvent for TenantEvent {
    fn event_type(&self) -> String {
        let event = match self {
            Self::Registered { .. } => "registered",
            Self::Renamed { .. } => "renamed",
            Self::PlanChanged { .. } => "plan_changed",
            Self::SettingsChanged { .. } => "settings_changed",
            Self::ContactChanged { .. } => "contact_changed",
            Self::DomainClaimed { .. } => "domain_claimed",
            Self::DomainReleased {} => "domain_released",
            Self::Suspended { .. } => "suspended",
            Self::Reopened {} => "reopened",
            Self::Closed { .. } => "closed",
        };
        format!("platform.tenant.{event}")
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}

impl crate::Versioned for TenantEvent {}

/// Why a tenant refuses a command.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TenantError {
    #[error("there is no such tenant; register it first")]
    NotRegistered,
    #[error("the tenant is registered already; register another one under an id of its own")]
    AlreadyRegistered,
    #[error("the tenant is suspended; reopen it first")]
    Suspended,
    #[error("the tenant is closed for good; register a new one")]
    Closed,
    #[error("a tenant is registered in the stream of its own tenant; use the tenant's id as the stream's id")]
    ForeignStream,
    #[error("a setting cannot be both set and unset; name it once")]
    SetAndUnset,
    #[error("a tenant has at most {SETTINGS_MAX} settings; unset some first")]
    TooManySettings,
    #[error("the contact was erased; name somebody else or nobody")]
    ContactErased,
}

impl Refusal for TenantError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotRegistered => "TENANT_NOT_REGISTERED",
            Self::AlreadyRegistered => "TENANT_ALREADY_REGISTERED",
            Self::Suspended => "TENANT_SUSPENDED",
            Self::Closed => "TENANT_CLOSED",
            Self::ForeignStream => "TENANT_FOREIGN_STREAM",
            Self::SetAndUnset => "TENANT_SETTING_SET_AND_UNSET",
            Self::TooManySettings => "TENANT_TOO_MANY_SETTINGS",
            Self::ContactErased => "TENANT_CONTACT_ERASED",
        }
    }

    fn path(&self) -> &'static [&'static str] {
        match self {
            Self::SetAndUnset => &["unset"],
            Self::TooManySettings => &["set"],
            Self::ContactErased => &["contact"],
            Self::NotRegistered | Self::AlreadyRegistered | Self::Suspended | Self::Closed | Self::ForeignStream => &[],
        }
    }
}

crate::cqrs_aggregate!(Tenant, type = "tenant", command = TenantCommand, event = TenantEvent, error = TenantError);

impl EventSourced for Tenant {
    const CONTEXT: &'static str = "platform";
    /// A stream without an end: its settings change for as long as it lives.
    const SNAPSHOT: Option<crate::SnapshotForm<Self>> = Some(crate::SnapshotForm::version(1));

    fn decide(&self, context: &Context, command: TenantCommand) -> Result<Vec<TenantEvent>, TenantError> {
        use {Tenant::*, TenantCommand as C, TenantError as Refused, TenantEvent as E};
        let already_so = || Ok(vec![]);

        match (self, command) {
            (Absent, C::Register { name, plan, contact, domain }) => {
                if context.id != context.tenant.0 {
                    return Err(Refused::ForeignStream);
                }
                readable(contact.as_ref())?;
                Ok(vec![E::Registered { name, plan, contact, domain }])
            }
            (Active { .. } | Suspended { .. } | Closed { .. }, C::Register { .. }) => Err(Refused::AlreadyRegistered),

            (Active { profile }, C::Rename { name }) if profile.name == name => already_so(),
            (Active { .. }, C::Rename { name }) => Ok(vec![E::Renamed { name }]),
            (Active { profile }, C::ChangePlan { plan }) if profile.plan == plan => already_so(),
            (Active { .. }, C::ChangePlan { plan }) => Ok(vec![E::PlanChanged { plan }]),
            (Active { profile }, C::ChangeSettings { set, unset }) => profile.change_settings(set, unset),
            (Active { profile }, C::ClaimDomain { domain }) if profile.domain.as_ref() == Some(&domain) => already_so(),
            (Active { .. }, C::ClaimDomain { domain }) => Ok(vec![E::DomainClaimed { domain }]),
            (Active { profile }, C::ReleaseDomain) if profile.domain.is_none() => already_so(),
            (Active { .. }, C::ReleaseDomain) => Ok(vec![E::DomainReleased {}]),
            (
                Suspended { .. },
                C::Rename { .. }
                | C::ChangePlan { .. }
                | C::ChangeSettings { .. }
                | C::ClaimDomain { .. }
                | C::ReleaseDomain,
            ) => Err(Refused::Suspended),

            // Also while suspended: somebody has to be reachable to end it.
            (Active { profile } | Suspended { profile, .. }, C::ChangeContact { contact }) => {
                if profile.contact == contact {
                    return already_so();
                }
                readable(contact.as_ref())?;
                Ok(vec![E::ContactChanged { contact }])
            }

            (Active { .. }, C::Suspend { reason }) => Ok(vec![E::Suspended { reason }]),
            (Suspended { .. }, C::Suspend { .. }) => already_so(),
            (Suspended { .. }, C::Reopen) => Ok(vec![E::Reopened {}]),
            (Active { .. }, C::Reopen) => already_so(),
            (Active { .. } | Suspended { .. }, C::Close { reason }) => Ok(vec![E::Closed { reason }]),
            (Closed { .. }, C::Close { .. }) => already_so(),

            (
                Closed { .. },
                C::Rename { .. }
                | C::ChangePlan { .. }
                | C::ChangeSettings { .. }
                | C::ChangeContact { .. }
                | C::ClaimDomain { .. }
                | C::ReleaseDomain
                | C::Suspend { .. }
                | C::Reopen,
            ) => Err(Refused::Closed),
            (
                Absent,
                C::Rename { .. }
                | C::ChangePlan { .. }
                | C::ChangeSettings { .. }
                | C::ChangeContact { .. }
                | C::ClaimDomain { .. }
                | C::ReleaseDomain
                | C::Suspend { .. }
                | C::Reopen
                | C::Close { .. },
            ) => Err(Refused::NotRegistered),
        }
    }

    fn keys(&self, events: &[TenantEvent]) -> Vec<KeyChange> {
        let key = |domain: &Domain, claim| KeyChange {
            scope: KeyScope::Platform,
            kind: DOMAIN_KEY,
            key: domain.as_str().to_owned(),
            claim,
        };
        let mut held = self.profile().and_then(|profile| profile.domain.clone());
        let mut changes = Vec::new();
        for event in events {
            match event {
                TenantEvent::Registered { domain, .. } => {
                    changes.extend(domain.as_ref().map(|domain| key(domain, true)));
                    held = domain.clone();
                }
                TenantEvent::DomainClaimed { domain } => {
                    if held.as_ref() != Some(domain) {
                        changes.extend(held.take().map(|held| key(&held, false)));
                        changes.push(key(domain, true));
                        held = Some(domain.clone());
                    }
                }
                TenantEvent::DomainReleased {} | TenantEvent::Closed { .. } => {
                    changes.extend(held.take().map(|domain| key(&domain, false)))
                }
                TenantEvent::Renamed { .. }
                | TenantEvent::PlanChanged { .. }
                | TenantEvent::SettingsChanged { .. }
                | TenantEvent::ContactChanged { .. }
                | TenantEvent::Suspended { .. }
                | TenantEvent::Reopened {} => {}
            }
        }
        changes
    }
}

/// An event that nobody could ever read is not worth writing.
fn readable(contact: Option<&Personal<Contact>>) -> Result<(), TenantError> {
    match contact.is_some_and(Personal::is_erased) {
        true => Err(TenantError::ContactErased),
        false => Ok(()),
    }
}

impl Profile {
    /// The event holds what really changes, so that an audit line never shows a change to the same value.
    fn change_settings(
        &self,
        set: BTreeMap<SettingKey, SettingValue>,
        unset: BTreeSet<SettingKey>,
    ) -> Result<Vec<TenantEvent>, TenantError> {
        if unset.iter().any(|key| set.contains_key(key)) {
            return Err(TenantError::SetAndUnset);
        }
        let set: BTreeMap<_, _> =
            set.into_iter().filter(|(key, value)| self.settings.get(key) != Some(value)).collect();
        let unset: BTreeSet<_> = unset.into_iter().filter(|key| self.settings.contains_key(key)).collect();
        if set.is_empty() && unset.is_empty() {
            return Ok(vec![]);
        }
        let added = set.keys().filter(|key| !self.settings.contains_key(key)).count();
        if self.settings.len() + added - unset.len() > SETTINGS_MAX {
            return Err(TenantError::TooManySettings);
        }
        Ok(vec![TenantEvent::SettingsChanged { set, unset }])
    }
}
