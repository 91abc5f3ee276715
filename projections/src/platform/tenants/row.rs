//! A tenant's row, and how events change it.

use crate::engine::{OpenedEvent, signed};
use crate::read::ReadError;
use chrono::{DateTime, Utc};
use daybook_domain::Personal;
use daybook_domain::platform::TenantEvent;
use daybook_domain::platform::tenant::{Contact, Plan, SettingKey, SettingValue};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tokio_postgres::Row;
use tokio_postgres::types::Json;
use uuid::Uuid;

/// Whether a tenant may work.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TenantStatus {
    Active,
    Suspended,
    Closed,
}

impl TenantStatus {
    pub const ALL: &'static [TenantStatus] = &[TenantStatus::Active, TenantStatus::Suspended, TenantStatus::Closed];

    pub fn as_str(self) -> &'static str {
        match self {
            TenantStatus::Active => "ACTIVE",
            TenantStatus::Suspended => "SUSPENDED",
            TenantStatus::Closed => "CLOSED",
        }
    }
}

/// A tenant as it is now. Its JSON form is what change rows hold.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantRow {
    pub tenant_id: Uuid,
    pub name: String,
    /// The name in lower case: what it is sorted by.
    pub name_key: String,
    pub plan: Plan,
    pub status: TenantStatus,
    /// Held while the tenant is open.
    pub domain: Option<String>,
    pub settings: BTreeMap<SettingKey, SettingValue>,
    /// Whose personal data name and e-mail are, also after they were erased.
    pub contact_subject: Option<Uuid>,
    pub contact_name: Option<String>,
    pub contact_email: Option<String>,
    /// There was a contact; who it was has been erased.
    pub contact_erased: bool,
    /// While suspended.
    pub suspended_reason: Option<String>,
    /// Once closed.
    pub closed_reason: Option<String>,
    /// Events in the tenant's stream: what an `expectedVersion` is compared with.
    pub version: i64,
    pub registered_at: DateTime<Utc>,
    pub changed_at: DateTime<Utc>,
    /// Of the last event, within the tenant.
    pub tenant_position: i64,
    /// Of the last event, in the journal; never shown outside.
    pub position: i64,
}

/// Contacts are people: they do not end up in logs.
impl std::fmt::Debug for TenantRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TenantRow")
            .field("tenant_id", &self.tenant_id)
            .field("name", &self.name)
            .field("plan", &self.plan)
            .field("status", &self.status)
            .field("version", &self.version)
            .field("tenant_position", &self.tenant_position)
            .finish_non_exhaustive()
    }
}

/// In the order of the fields.
pub(super) const COLUMNS: &[&str] = &[
    "tenant_id",
    "name",
    "name_key",
    "plan",
    "status",
    "domain",
    "settings",
    "contact_subject",
    "contact_name",
    "contact_email",
    "contact_erased",
    "suspended_reason",
    "closed_reason",
    "version",
    "registered_at",
    "changed_at",
    "tenant_position",
    "position",
];

impl TenantRow {
    /// From [`COLUMNS`].
    pub(super) fn from_row(row: &Row) -> Result<Self, ReadError> {
        let damaged = || ReadError::Damaged { read_model: "tenants" };
        let status: &str = row.get(4);
        let Json(settings) = row.try_get(6).map_err(|_| damaged())?;
        Ok(TenantRow {
            tenant_id: row.get(0),
            name: row.get(1),
            name_key: row.get(2),
            plan: Plan::parse(row.get(3)).map_err(|_| damaged())?,
            status: TenantStatus::ALL.iter().copied().find(|s| s.as_str() == status).ok_or_else(damaged)?,
            domain: row.get(5),
            settings,
            contact_subject: row.get(7),
            contact_name: row.get(8),
            contact_email: row.get(9),
            contact_erased: row.get(10),
            suspended_reason: row.get(11),
            closed_reason: row.get(12),
            version: row.get(13),
            registered_at: row.get(14),
            changed_at: row.get(15),
            tenant_position: row.get(16),
            position: row.get(17),
        })
    }

    fn name(&mut self, name: &str) {
        name.clone_into(&mut self.name);
        self.name_key = name.to_lowercase();
    }

    fn contact(&mut self, contact: Option<&Personal<Contact>>) {
        let known = contact.and_then(Personal::value);
        self.contact_subject = contact.map(|contact| contact.subject().0);
        self.contact_name = known.map(|contact| contact.name.clone());
        self.contact_email = known.map(|contact| contact.email.as_str().to_owned());
        self.contact_erased = contact.is_some_and(Personal::is_erased);
    }
}

/// History is not judged: as in the aggregate, what happens to a tenant that is not open changes
/// nothing but how much has happened.
pub(super) fn folded(row: Option<TenantRow>, happened: TenantEvent, event: &OpenedEvent) -> Option<TenantRow> {
    use TenantEvent as E;
    let mut row = match (row, happened) {
        (_, E::Registered { name, plan, contact, domain }) => {
            let mut row = TenantRow {
                tenant_id: event.tenant.0,
                name: String::new(),
                name_key: String::new(),
                plan,
                status: TenantStatus::Active,
                domain: domain.map(|domain| domain.as_str().to_owned()),
                settings: BTreeMap::new(),
                contact_subject: None,
                contact_name: None,
                contact_email: None,
                contact_erased: false,
                suspended_reason: None,
                closed_reason: None,
                version: 0,
                registered_at: event.recorded_at,
                changed_at: event.recorded_at,
                tenant_position: 0,
                position: 0,
            };
            row.name(name.as_str());
            row.contact(contact.as_ref());
            row
        }
        (None, _) => return None,
        (Some(row), _) if row.status == TenantStatus::Closed => row,
        (Some(mut row), happened) => {
            match happened {
                E::Renamed { name } => row.name(name.as_str()),
                E::PlanChanged { plan } => row.plan = plan,
                E::SettingsChanged { set, unset } => {
                    row.settings.retain(|key, _| !unset.contains(key));
                    row.settings.extend(set);
                }
                E::ContactChanged { contact } => row.contact(contact.as_ref()),
                E::DomainClaimed { domain } => row.domain = Some(domain.as_str().to_owned()),
                E::DomainReleased {} => row.domain = None,
                E::Suspended { reason } => {
                    row.status = TenantStatus::Suspended;
                    row.suspended_reason = Some(reason.as_str().to_owned());
                }
                E::Reopened {} => {
                    row.status = TenantStatus::Active;
                    row.suspended_reason = None;
                }
                E::Closed { reason } => {
                    row.status = TenantStatus::Closed;
                    row.closed_reason = Some(reason.as_str().to_owned());
                    row.suspended_reason = None;
                    row.domain = None;
                    row.settings.clear();
                    row.contact(None);
                }
                E::Registered { .. } => {}
            }
            row
        }
    };
    row.version = signed(event.sequence);
    row.changed_at = event.recorded_at;
    row.tenant_position = signed(event.tenant_position);
    row.position = signed(event.position);
    Some(row)
}
