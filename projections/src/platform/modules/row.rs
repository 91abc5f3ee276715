//! A module's row, and how events change it.

use super::super::text_enum;
use crate::engine::{OpenedEvent, signed};
use crate::read::ReadError;
use chrono::{DateTime, Utc};
use daybook_domain::platform::{Manifest, ModuleEvent};
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;
use tokio_postgres::types::Json;
use uuid::Uuid;

text_enum! {
    /// Whether a module may be used.
    ModuleStatus {
        /// Known, and not enabled yet.
        Registered = "REGISTERED",
        Enabled = "ENABLED",
        Disabled = "DISABLED",
        /// For good.
        Retired = "RETIRED",
    }
}

/// A module as it is now. Its JSON form is what change rows hold.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ModuleRow {
    pub tenant_id: Uuid,
    pub module_id: Uuid,
    pub key: String,
    pub name: String,
    /// The name in lower case: what it is sorted by.
    pub name_key: String,
    /// Of the module itself, e.g. `1.4.0`.
    pub module_version: String,
    pub status: ModuleStatus,
    /// While disabled, or once retired.
    pub reason: Option<String>,
    /// None once retired.
    pub manifest: Option<Box<Manifest>>,
    /// The keys of the manifest's roles: those that can be used.
    pub role_keys: Vec<String>,
    /// Events in the module's stream: what an `expectedVersion` is compared with.
    pub version: i64,
    pub registered_at: DateTime<Utc>,
    pub changed_at: DateTime<Utc>,
    /// Of the last event, within the tenant.
    pub tenant_position: i64,
    /// Of the last event, in the journal; never shown outside.
    pub position: i64,
}

/// In the order of the fields.
pub(super) const COLUMNS: &[&str] = &[
    "tenant_id",
    "module_id",
    "key",
    "name",
    "name_key",
    "module_version",
    "status",
    "reason",
    "manifest",
    "role_keys",
    "version",
    "registered_at",
    "changed_at",
    "tenant_position",
    "position",
];

impl ModuleRow {
    /// From [`COLUMNS`].
    pub(super) fn from_row(row: &Row) -> Result<Self, ReadError> {
        let manifest: Option<Json<Box<Manifest>>> =
            row.try_get(8).map_err(|_| ReadError::Damaged { read_model: "modules" })?;
        Ok(ModuleRow {
            tenant_id: row.get(0),
            module_id: row.get(1),
            key: row.get(2),
            name: row.get(3),
            name_key: row.get(4),
            module_version: row.get(5),
            status: ModuleStatus::from_column(row.get(6), "modules")?,
            reason: row.get(7),
            manifest: manifest.map(|Json(manifest)| manifest),
            role_keys: row.get(9),
            version: row.get(10),
            registered_at: row.get(11),
            changed_at: row.get(12),
            tenant_position: row.get(13),
            position: row.get(14),
        })
    }

    fn manifest(&mut self, manifest: Box<Manifest>) {
        manifest.name.as_str().clone_into(&mut self.name);
        self.name_key = self.name.to_lowercase();
        manifest.version.as_str().clone_into(&mut self.module_version);
        self.role_keys = manifest.roles.keys().map(|key| key.as_str().to_owned()).collect();
        self.manifest = Some(manifest);
    }
}

/// History is not judged: as in the aggregate, what happens to a module that is retired changes nothing but how much
/// has happened.
pub(in super::super) fn folded(
    row: Option<ModuleRow>,
    happened: ModuleEvent,
    event: &OpenedEvent,
) -> Option<ModuleRow> {
    use ModuleEvent as E;
    let mut row = match (row, happened) {
        (_, E::Registered { manifest }) => {
            let mut row = ModuleRow {
                tenant_id: event.tenant.0,
                module_id: event.stream_id,
                key: manifest.key.as_str().to_owned(),
                name: String::new(),
                name_key: String::new(),
                module_version: String::new(),
                status: ModuleStatus::Registered,
                reason: None,
                manifest: None,
                role_keys: Vec::new(),
                version: 0,
                registered_at: event.recorded_at,
                changed_at: event.recorded_at,
                tenant_position: 0,
                position: 0,
            };
            row.manifest(manifest);
            row
        }
        (None, _) => return None,
        (Some(row), _) if row.status == ModuleStatus::Retired => row,
        (Some(mut row), happened) => {
            match happened {
                E::Upgraded { change } => {
                    if let Some(manifest) = row.manifest.take() {
                        row.manifest(Box::new(manifest.changed(*change)));
                    }
                }
                E::Enabled {} => {
                    row.status = ModuleStatus::Enabled;
                    row.reason = None;
                }
                E::Disabled { reason } => {
                    row.status = ModuleStatus::Disabled;
                    row.reason = Some(reason.as_str().to_owned());
                }
                E::Retired { reason } => {
                    row.status = ModuleStatus::Retired;
                    row.reason = Some(reason.as_str().to_owned());
                    row.manifest = None;
                    row.role_keys.clear();
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
