//! A consent's row, and how events change it.

use super::super::text_enum;
use crate::engine::{OpenedEvent, signed};
use crate::read::ReadError;
use chrono::{DateTime, Utc};
use daybook_domain::platform::ConsentEvent;
use daybook_domain::platform::consent::ConsentAction;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use tokio_postgres::Row;
use uuid::Uuid;

text_enum! {
    /// Whether a consent was taken back. Whether it has ended, the clock tells.
    ConsentStatus {
        Granted = "GRANTED",
        Revoked = "REVOKED",
    }
}

/// A consent as it is now. Its JSON form is what change rows hold.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ConsentRow {
    /// The customer.
    pub tenant_id: Uuid,
    pub consent_id: Uuid,
    pub provider_id: Uuid,
    pub actions: BTreeSet<ConsentAction>,
    /// None: of all sites.
    pub site: Option<String>,
    /// None: of all devices.
    pub devices: BTreeSet<Uuid>,
    pub status: ConsentStatus,
    pub until_at: DateTime<Utc>,
    /// Of the last event.
    pub reason: String,
    /// Events in the consent's stream: what an `expectedVersion` is compared with.
    pub version: i64,
    pub granted_at: DateTime<Utc>,
    pub changed_at: DateTime<Utc>,
    /// Of the last event, within the customer.
    pub tenant_position: i64,
    /// Of the last event, in the journal; never shown outside.
    pub position: i64,
}

/// In the order of the fields.
pub(super) const COLUMNS: &[&str] = &[
    "tenant_id",
    "consent_id",
    "provider_id",
    "actions",
    "site",
    "devices",
    "status",
    "until_at",
    "reason",
    "version",
    "granted_at",
    "changed_at",
    "tenant_position",
    "position",
];

impl ConsentRow {
    /// From [`COLUMNS`].
    pub(super) fn from_row(row: &Row) -> Result<Self, ReadError> {
        let actions: Vec<String> = row.get(3);
        let action = |text: String| {
            serde_json::from_value(text.into()).map_err(|_| ReadError::Damaged { read_model: "consents" })
        };
        let devices: Vec<Uuid> = row.get(5);
        Ok(ConsentRow {
            tenant_id: row.get(0),
            consent_id: row.get(1),
            provider_id: row.get(2),
            actions: actions.into_iter().map(action).collect::<Result<_, _>>()?,
            site: row.get(4),
            devices: devices.into_iter().collect(),
            status: ConsentStatus::from_column(row.get(6), "consents")?,
            until_at: row.get(7),
            reason: row.get(8),
            version: row.get(9),
            granted_at: row.get(10),
            changed_at: row.get(11),
            tenant_position: row.get(12),
            position: row.get(13),
        })
    }

    /// Whether it allows anything at a moment.
    pub fn holds_at(&self, now: DateTime<Utc>) -> bool {
        self.status == ConsentStatus::Granted && now < self.until_at
    }
}

/// History is not judged, as in the aggregate.
pub(super) fn folded(row: Option<ConsentRow>, happened: ConsentEvent, event: &OpenedEvent) -> Option<ConsentRow> {
    use ConsentEvent as E;
    let mut row = match (row, happened) {
        (_, E::Granted { provider, scope, until, reason }) => ConsentRow {
            tenant_id: event.tenant.0,
            consent_id: event.stream_id,
            provider_id: provider.0,
            actions: scope.actions,
            site: scope.site.map(|site| site.as_str().to_owned()),
            devices: scope.devices,
            status: ConsentStatus::Granted,
            until_at: until,
            reason: reason.as_str().to_owned(),
            version: 0,
            granted_at: event.recorded_at,
            changed_at: event.recorded_at,
            tenant_position: 0,
            position: 0,
        },
        (None, E::Revoked { .. }) => return None,
        (Some(row), E::Revoked { reason }) => {
            ConsentRow { status: ConsentStatus::Revoked, reason: reason.as_str().to_owned(), ..row }
        }
    };
    row.version = signed(event.sequence);
    row.changed_at = event.recorded_at;
    row.tenant_position = signed(event.tenant_position);
    row.position = signed(event.position);
    Some(row)
}
