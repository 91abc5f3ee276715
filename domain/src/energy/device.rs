//! A device: something at a site whose energy is measured in slots of one length.
//!
//! It says what a reading of it must be ([`Device::rules`]) and holds none: they have streams of their own
//! ([`super::readings`]). Its resolution, kind and direction never change, or its old readings would mean something else:
//! register another device. A site's name is kept for ever in clear, so it is no place for a person's name.

mod resource;
mod state;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod transitions;

pub use super::values::{DeviceId, DeviceKind, Direction, MaxPower, ReadingRules, Resolution, Serial, Site, TimeZone};
pub use crate::value::{Name, Reason};
pub use resource::{DEVICE_FIELDS, RESOURCE, field_of};
pub use state::{Device, Profile};

use crate::action::{Action, Guarded};
use crate::aggregate::{EventSourced, KeyChange, KeyScope, Refusal};
use crate::condition::Value;
use crate::context::Context;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The kind of the unique key that a device's serial number takes, within its tenant.
pub const SERIAL_KEY: &str = "device.serial";

/// What can be asked of a device. Its JSON form is for the hash of a request; it is never read back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceCommand {
    Register {
        name: Name,
        kind: DeviceKind,
        serial: Option<Serial>,
        site: Site,
        resolution_s: Resolution,
        direction: Direction,
        max_power_w: MaxPower,
    },
    Rename {
        name: Name,
    },
    ChangeSite {
        site: Site,
    },
    ChangeMaxPower {
        max_power_w: MaxPower,
    },
    Decommission {
        reason: Reason,
    },
}

impl Guarded for DeviceCommand {
    fn action(&self) -> Action {
        match self {
            Self::Register { .. } => Action::DeviceRegister,
            Self::Rename { .. } => Action::DeviceRename,
            Self::ChangeSite { .. } => Action::DeviceChangeSite,
            Self::ChangeMaxPower { .. } => Action::DeviceChangeMaxPower,
            Self::Decommission { .. } => Action::DeviceDecommission,
        }
    }

    fn sets(&self) -> &'static [&'static str] {
        match self {
            Self::Register { serial: Some(_), .. } => &["serial"],
            Self::Register { .. }
            | Self::Rename { .. }
            | Self::ChangeSite { .. }
            | Self::ChangeMaxPower { .. }
            | Self::Decommission { .. } => &[],
        }
    }
}

/// What happened to a device. A payload in the journal is the inner object; its tag is in the event's type.
// The lines below are the descriptions in the published schemas.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeviceEvent {
    /// A device came into service.
    Registered {
        name: Name,
        kind: DeviceKind,
        /// The serial number that no other device in service of the tenant has. Absent if none is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(with = "Serial")]
        serial: Option<Serial>,
        site: Site,
        resolution_s: Resolution,
        direction: Direction,
        max_power_w: MaxPower,
    },
    /// The device has a new name.
    Renamed { name: Name },
    /// The device stands elsewhere, or its site is described anew.
    SiteChanged { site: Site },
    /// The device can carry another power. Readings already taken stay.
    MaxPowerChanged { max_power_w: MaxPower },
    /// The device is out of service, for good, and its serial number is free again. Readings up to then may still come.
    Decommissioned {
        /// The end of its service.
        at: DateTime<Utc>,
        reason: Reason,
    },
}

impl cqrs_es::DomainEvent for DeviceEvent {
    fn event_type(&self) -> String {
        let event = match self {
            Self::Registered { .. } => "registered",
            Self::Renamed { .. } => "renamed",
            Self::SiteChanged { .. } => "site_changed",
            Self::MaxPowerChanged { .. } => "max_power_changed",
            Self::Decommissioned { .. } => "decommissioned",
        };
        format!("energy.device.{event}")
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}

impl crate::Versioned for DeviceEvent {}

/// Why a device refuses a command.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DeviceError {
    #[error("there is no such device; register it first")]
    NotRegistered,
    #[error("the device is registered already; register another one under an id of its own")]
    AlreadyRegistered,
    #[error("the device is decommissioned for good; register a new one")]
    Decommissioned,
    #[error(
        "slots of {resolution} do not begin on the hours of {zone}, which are odd in UTC; register a device with a finer resolution"
    )]
    ResolutionTooCoarse { zone: TimeZone, resolution: Resolution },
}

impl Refusal for DeviceError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotRegistered => "DEVICE_NOT_REGISTERED",
            Self::AlreadyRegistered => "DEVICE_ALREADY_REGISTERED",
            Self::Decommissioned => "DEVICE_DECOMMISSIONED",
            Self::ResolutionTooCoarse { .. } => "DEVICE_RESOLUTION_TOO_COARSE",
        }
    }

    fn path(&self) -> &'static [&'static str] {
        match self {
            Self::ResolutionTooCoarse { .. } => &["site", "timeZone"],
            Self::NotRegistered | Self::AlreadyRegistered | Self::Decommissioned => &[],
        }
    }
}

crate::cqrs_aggregate!(Device, type = "device", command = DeviceCommand, event = DeviceEvent, error = DeviceError);

impl EventSourced for Device {
    const CONTEXT: &'static str = "energy";
    /// A stream without an end: it is renamed, moved and set anew for decades.
    const SNAPSHOT: Option<crate::SnapshotForm<Self>> = Some(crate::SnapshotForm::version(1));

    fn decide(&self, context: &Context, command: DeviceCommand) -> Result<Vec<DeviceEvent>, DeviceError> {
        use {Device::*, DeviceCommand as C, DeviceError as Refused, DeviceEvent as E};
        let already_so = || Ok(vec![]);

        match (self, command) {
            (Absent, C::Register { name, kind, serial, site, resolution_s, direction, max_power_w }) => {
                suits(&site, resolution_s)?;
                Ok(vec![E::Registered { name, kind, serial, site, resolution_s, direction, max_power_w }])
            }
            (Active { .. } | Decommissioned { .. }, C::Register { .. }) => Err(Refused::AlreadyRegistered),

            (Active { profile }, C::Rename { name }) if profile.name == name => already_so(),
            (Active { .. }, C::Rename { name }) => Ok(vec![E::Renamed { name }]),
            (Active { profile }, C::ChangeSite { site }) => {
                if profile.site == site {
                    return already_so();
                }
                suits(&site, profile.resolution_s)?;
                Ok(vec![E::SiteChanged { site }])
            }
            (Active { profile }, C::ChangeMaxPower { max_power_w }) if profile.max_power_w == max_power_w => {
                already_so()
            }
            (Active { .. }, C::ChangeMaxPower { max_power_w }) => Ok(vec![E::MaxPowerChanged { max_power_w }]),

            (Active { .. }, C::Decommission { reason }) => Ok(vec![E::Decommissioned { at: context.now, reason }]),
            (Decommissioned { .. }, C::Decommission { .. }) => already_so(),

            (Decommissioned { .. }, C::Rename { .. } | C::ChangeSite { .. } | C::ChangeMaxPower { .. }) => {
                Err(Refused::Decommissioned)
            }
            (Absent, C::Rename { .. } | C::ChangeSite { .. } | C::ChangeMaxPower { .. } | C::Decommission { .. }) => {
                Err(Refused::NotRegistered)
            }
        }
    }

    fn field(&self, id: Uuid, field: &str) -> Option<Value> {
        field_of(self, id, field)
    }

    fn keys(&self, events: &[DeviceEvent]) -> Vec<KeyChange> {
        let key =
            |serial: &Serial, claim| KeyChange { scope: KeyScope::Tenant, kind: SERIAL_KEY, key: serial.key(), claim };
        let mut held = match self {
            Device::Active { profile } => profile.serial.clone(),
            Device::Absent | Device::Decommissioned { .. } => None,
        };
        let mut changes = Vec::new();
        for event in events {
            match event {
                DeviceEvent::Registered { serial, .. } => {
                    changes.extend(serial.as_ref().map(|serial| key(serial, true)));
                    held = serial.clone();
                }
                DeviceEvent::Decommissioned { .. } => changes.extend(held.take().map(|serial| key(&serial, false))),
                DeviceEvent::Renamed { .. } | DeviceEvent::SiteChanged { .. } | DeviceEvent::MaxPowerChanged { .. } => {
                }
            }
        }
        changes
    }
}

/// Slots that begin between the site's hours could never be added up to them.
fn suits(site: &Site, resolution: Resolution) -> Result<(), DeviceError> {
    match site.time_zone.suits(resolution) {
        true => Ok(()),
        false => Err(DeviceError::ResolutionTooCoarse { zone: site.time_zone.clone(), resolution }),
    }
}
