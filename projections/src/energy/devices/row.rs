//! A device's row, and how events change it.

use crate::engine::{OpenedEvent, signed};
use crate::read::ReadError;
use chrono::{DateTime, Utc};
use daybook_domain::energy::DeviceEvent;
use daybook_domain::energy::device::{DeviceKind, Direction, Site};
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;
use uuid::Uuid;

/// Whether a device is in service.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum DeviceStatus {
    Active,
    Decommissioned,
}

impl DeviceStatus {
    pub const ALL: &'static [DeviceStatus] = &[DeviceStatus::Active, DeviceStatus::Decommissioned];

    pub fn as_str(self) -> &'static str {
        match self {
            DeviceStatus::Active => "ACTIVE",
            DeviceStatus::Decommissioned => "DECOMMISSIONED",
        }
    }
}

/// A device as it is now. Its JSON form is what change rows hold.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeviceRow {
    pub tenant_id: Uuid,
    pub device_id: Uuid,
    pub name: String,
    /// The name in lower case: what it is sorted by.
    pub name_key: String,
    pub kind: DeviceKind,
    pub serial: Option<String>,
    pub serial_key: Option<String>,
    pub site_name: String,
    /// Of the IANA database.
    pub time_zone: String,
    pub resolution_s: i32,
    pub direction: Direction,
    pub max_power_w: i64,
    pub status: DeviceStatus,
    /// The end of its service.
    pub decommissioned_at: Option<DateTime<Utc>>,
    /// Why it is out of service.
    pub reason: Option<String>,
    /// Events in the device's stream: what an `expectedVersion` is compared with.
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
    "device_id",
    "name",
    "name_key",
    "kind",
    "serial",
    "serial_key",
    "site_name",
    "time_zone",
    "resolution_s",
    "direction",
    "max_power_w",
    "status",
    "decommissioned_at",
    "reason",
    "version",
    "registered_at",
    "changed_at",
    "tenant_position",
    "position",
];

impl DeviceRow {
    /// From [`COLUMNS`].
    pub(super) fn from_row(row: &Row) -> Result<Self, ReadError> {
        let damaged = || ReadError::Damaged { read_model: "devices" };
        let status: &str = row.get(12);
        Ok(DeviceRow {
            tenant_id: row.get(0),
            device_id: row.get(1),
            name: row.get(2),
            name_key: row.get(3),
            kind: DeviceKind::parse(row.get(4)).map_err(|_| damaged())?,
            serial: row.get(5),
            serial_key: row.get(6),
            site_name: row.get(7),
            time_zone: row.get(8),
            resolution_s: row.get(9),
            direction: Direction::parse(row.get(10)).map_err(|_| damaged())?,
            max_power_w: row.get(11),
            status: DeviceStatus::ALL.iter().copied().find(|s| s.as_str() == status).ok_or_else(damaged)?,
            decommissioned_at: row.get(13),
            reason: row.get(14),
            version: row.get(15),
            registered_at: row.get(16),
            changed_at: row.get(17),
            tenant_position: row.get(18),
            position: row.get(19),
        })
    }

    fn name(&mut self, name: &str) {
        name.clone_into(&mut self.name);
        self.name_key = name.to_lowercase();
    }

    fn site(&mut self, site: &Site) {
        site.name.as_str().clone_into(&mut self.site_name);
        site.time_zone.as_str().clone_into(&mut self.time_zone);
    }
}

/// History is not judged: as in the aggregate, what happens to a device that is not there changes nothing.
pub(super) fn folded(row: Option<DeviceRow>, happened: DeviceEvent, event: &OpenedEvent) -> Option<DeviceRow> {
    use DeviceEvent as E;
    let mut row = match (row, happened) {
        (_, E::Registered { name, kind, serial, site, resolution_s, direction, max_power_w }) => {
            let mut row = DeviceRow {
                tenant_id: event.tenant.0,
                device_id: event.stream_id,
                name: String::new(),
                name_key: String::new(),
                kind,
                serial: serial.as_ref().map(|serial| serial.as_str().to_owned()),
                serial_key: serial.as_ref().map(|serial| serial.key()),
                site_name: String::new(),
                time_zone: String::new(),
                resolution_s: i32::try_from(resolution_s.seconds()).unwrap_or(i32::MAX),
                direction,
                max_power_w: signed(max_power_w.watts()),
                status: DeviceStatus::Active,
                decommissioned_at: None,
                reason: None,
                version: 0,
                registered_at: event.recorded_at,
                changed_at: event.recorded_at,
                tenant_position: 0,
                position: 0,
            };
            row.name(name.as_str());
            row.site(&site);
            row
        }
        (None, _) => return None,
        (Some(mut row), happened) => {
            match happened {
                E::Renamed { name } => row.name(name.as_str()),
                E::SiteChanged { site } => row.site(&site),
                E::MaxPowerChanged { max_power_w } => row.max_power_w = signed(max_power_w.watts()),
                E::Decommissioned { at, reason } if row.status == DeviceStatus::Active => {
                    row.status = DeviceStatus::Decommissioned;
                    row.decommissioned_at = Some(at);
                    row.reason = Some(reason.as_str().to_owned());
                }
                E::Decommissioned { .. } | E::Registered { .. } => {}
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
