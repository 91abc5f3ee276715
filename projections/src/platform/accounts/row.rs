//! An account's row, and how events change it.

use super::super::text_enum;
use crate::engine::{OpenedEvent, signed};
use crate::read::ReadError;
use chrono::{DateTime, Utc};
use daybook_domain::Personal;
use daybook_domain::platform::AccountEvent;
use daybook_domain::value::{EmailAddress, Name};
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;
use uuid::Uuid;

text_enum! {
    /// Whether an account may be used.
    AccountStatus {
        Active = "ACTIVE",
        Deactivated = "DEACTIVATED",
    }
}

/// An account as it is now. Its JSON form is what change rows hold.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountRow {
    /// The platform's.
    pub tenant_id: Uuid,
    /// Also the subject of its personal data.
    pub account_id: Uuid,
    pub name: Option<String>,
    /// The name in lower case: what it is sorted by. Empty once erased.
    pub name_key: String,
    pub name_erased: bool,
    pub email: Option<String>,
    /// The address in lower case: what it is found by. Empty once erased.
    pub email_key: String,
    pub email_erased: bool,
    pub status: AccountStatus,
    /// While deactivated.
    pub deactivated_reason: Option<String>,
    /// Events in the account's stream: what an `expectedVersion` is compared with.
    pub version: i64,
    pub registered_at: DateTime<Utc>,
    pub changed_at: DateTime<Utc>,
    /// Of the last event, within the platform's tenant.
    pub tenant_position: i64,
    /// Of the last event, in the journal; never shown outside.
    pub position: i64,
}

/// Accounts are people: they do not end up in logs.
impl std::fmt::Debug for AccountRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccountRow")
            .field("account_id", &self.account_id)
            .field("status", &self.status)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// In the order of the fields.
pub(super) const COLUMNS: &[&str] = &[
    "tenant_id",
    "account_id",
    "name",
    "name_key",
    "name_erased",
    "email",
    "email_key",
    "email_erased",
    "status",
    "deactivated_reason",
    "version",
    "registered_at",
    "changed_at",
    "tenant_position",
    "position",
];

impl AccountRow {
    /// From [`COLUMNS`].
    pub(super) fn from_row(row: &Row) -> Result<Self, ReadError> {
        Ok(AccountRow {
            tenant_id: row.get(0),
            account_id: row.get(1),
            name: row.get(2),
            name_key: row.get(3),
            name_erased: row.get(4),
            email: row.get(5),
            email_key: row.get(6),
            email_erased: row.get(7),
            status: AccountStatus::from_column(row.get(8), "accounts")?,
            deactivated_reason: row.get(9),
            version: row.get(10),
            registered_at: row.get(11),
            changed_at: row.get(12),
            tenant_position: row.get(13),
            position: row.get(14),
        })
    }

    fn name(&mut self, name: &Personal<Name>) {
        self.name = name.value().map(|name| name.as_str().to_owned());
        self.name_key = self.name.as_deref().unwrap_or_default().to_lowercase();
        self.name_erased = name.is_erased();
    }

    fn email(&mut self, email: &Personal<EmailAddress>) {
        self.email = email.value().map(|email| email.as_str().to_owned());
        self.email_key = self.email.as_deref().unwrap_or_default().to_lowercase();
        self.email_erased = email.is_erased();
    }
}

/// History is not judged, as in the aggregate.
pub(super) fn folded(row: Option<AccountRow>, happened: AccountEvent, event: &OpenedEvent) -> Option<AccountRow> {
    use AccountEvent as E;
    let mut row = match (row, happened) {
        (_, E::Registered { email, name }) => {
            let mut row = AccountRow {
                tenant_id: event.tenant.0,
                account_id: event.stream_id,
                name: None,
                name_key: String::new(),
                name_erased: false,
                email: None,
                email_key: String::new(),
                email_erased: false,
                status: AccountStatus::Active,
                deactivated_reason: None,
                version: 0,
                registered_at: event.recorded_at,
                changed_at: event.recorded_at,
                tenant_position: 0,
                position: 0,
            };
            row.name(&name);
            row.email(&email);
            row
        }
        (None, _) => return None,
        (Some(mut row), happened) => {
            match happened {
                E::Renamed { name } => row.name(&name),
                E::EmailChanged { email } => row.email(&email),
                E::Deactivated { reason } => {
                    row.status = AccountStatus::Deactivated;
                    row.deactivated_reason = Some(reason.as_str().to_owned());
                }
                E::Reactivated {} => {
                    row.status = AccountStatus::Active;
                    row.deactivated_reason = None;
                }
                // These change how the person comes in.
                // Nobody's but the account's own to see.
                E::ProfileChanged { .. }
                | E::PreferenceSet { .. }
                | E::PreferenceRemoved { .. }
                | E::PasswordSet { .. }
                | E::PlatformRoleGranted { .. }
                | E::PlatformRoleRevoked { .. }
                | E::SessionsRevoked { .. }
                | E::Registered { .. } => {}
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
