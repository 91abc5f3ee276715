//! The state of a tenant, folded from its events. It judges nothing: what happened, happened.

use super::{Contact, Domain, Name, Plan, Reason, SettingKey, SettingValue, TenantEvent};
use crate::personal::Personal;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A tenant as its events have made it. Snapshots hold its JSON form, personal fields sealed as in events.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tenant {
    #[default]
    Absent,
    Active {
        profile: Profile,
    },
    Suspended {
        profile: Profile,
        reason: Reason,
    },
    /// Nothing can happen any more, so nothing personal is kept either.
    Closed {
        name: Name,
        reason: Reason,
    },
}

/// What a tenant has while it is open.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Profile {
    pub name: Name,
    pub plan: Plan,
    pub contact: Option<Personal<Contact>>,
    pub domain: Option<Domain>,
    pub settings: BTreeMap<SettingKey, SettingValue>,
}

impl Tenant {
    /// What the tenant has while it is open; nothing before and after.
    pub fn profile(&self) -> Option<&Profile> {
        match self {
            Tenant::Active { profile } | Tenant::Suspended { profile, .. } => Some(profile),
            Tenant::Absent | Tenant::Closed { .. } => None,
        }
    }

    /// History is not judged: an event that this state would not have produced changes what it can.
    pub(super) fn apply_event(&mut self, event: TenantEvent) {
        use {Tenant::*, TenantEvent as E};
        *self = match (std::mem::take(self), event) {
            (_, E::Registered { name, plan, contact, domain }) => {
                Active { profile: Profile { name, plan, contact, domain, settings: BTreeMap::new() } }
            }
            (Active { profile } | Suspended { profile, .. }, E::Suspended { reason }) => Suspended { profile, reason },
            (Active { profile } | Suspended { profile, .. }, E::Reopened {}) => Active { profile },
            (Active { profile } | Suspended { profile, .. }, E::Closed { reason }) => {
                Closed { name: profile.name, reason }
            }
            (Active { profile }, change) => Active { profile: profile.changed(change) },
            (Suspended { profile, reason }, change) => Suspended { profile: profile.changed(change), reason },
            (unopened @ (Absent | Closed { .. }), _) => unopened,
        };
    }
}

impl Profile {
    fn changed(mut self, event: TenantEvent) -> Self {
        use TenantEvent as E;
        match event {
            E::Renamed { name } => self.name = name,
            E::PlanChanged { plan } => self.plan = plan,
            E::SettingsChanged { set, unset } => {
                self.settings.retain(|key, _| !unset.contains(key));
                self.settings.extend(set);
            }
            E::ContactChanged { contact } => self.contact = contact,
            E::DomainClaimed { domain } => self.domain = Some(domain),
            E::DomainReleased {} => self.domain = None,
            // These change the tenant's state, not its profile.
            E::Registered { .. } | E::Suspended { .. } | E::Reopened {} | E::Closed { .. } => {}
        }
        self
    }
}
