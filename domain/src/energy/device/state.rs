//! The state of a device, folded from its events. It judges nothing: what happened, happened.

use super::{
    DeviceEvent, DeviceId, DeviceKind, Direction, MaxPower, Name, ReadingRules, Reason, Resolution, Serial, Site,
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// A device as its events have made it. Snapshots hold its JSON form.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Device {
    #[default]
    Absent,
    Active {
        profile: Profile,
    },
    /// Out of service; its readings stay, and late ones may still come.
    Decommissioned {
        profile: Profile,
        at: DateTime<Utc>,
        reason: Reason,
    },
}

/// What a registered device is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Profile {
    pub name: Name,
    pub kind: DeviceKind,
    pub serial: Option<Serial>,
    pub site: Site,
    pub resolution_s: Resolution,
    pub direction: Direction,
    pub max_power_w: MaxPower,
}

impl Device {
    /// What the device is; nothing before it is registered.
    pub fn profile(&self) -> Option<&Profile> {
        match self {
            Device::Active { profile } | Device::Decommissioned { profile, .. } => Some(profile),
            Device::Absent => None,
        }
    }

    /// What readings of the device must obey; `id` is the id of its stream. None before it is registered.
    pub fn rules(&self, id: DeviceId) -> Option<ReadingRules> {
        let until = match self {
            Device::Absent | Device::Active { .. } => None,
            Device::Decommissioned { at, .. } => Some(*at),
        };
        self.profile().map(|profile| ReadingRules {
            device: id,
            resolution: profile.resolution_s,
            direction: profile.direction,
            max_power: profile.max_power_w,
            until,
        })
    }

    /// History is not judged: an event that this state would not have produced changes what it can.
    pub(super) fn apply_event(&mut self, event: DeviceEvent) {
        use {Device::*, DeviceEvent as E};
        *self = match (std::mem::take(self), event) {
            (_, E::Registered { name, kind, serial, site, resolution_s, direction, max_power_w }) => {
                Active { profile: Profile { name, kind, serial, site, resolution_s, direction, max_power_w } }
            }
            (Active { profile }, E::Decommissioned { at, reason }) => Decommissioned { profile, at, reason },
            (Active { profile }, change) => Active { profile: profile.changed(change) },
            (Decommissioned { profile, at, reason }, change) => {
                Decommissioned { profile: profile.changed(change), at, reason }
            }
            (Absent, _) => Absent,
        };
    }
}

impl Profile {
    fn changed(mut self, event: DeviceEvent) -> Self {
        use DeviceEvent as E;
        match event {
            E::Renamed { name } => self.name = name,
            E::SiteChanged { site } => self.site = site,
            E::MaxPowerChanged { max_power_w } => self.max_power_w = max_power_w,
            // These change the device's state, not its profile.
            E::Registered { .. } | E::Decommissioned { .. } => {}
        }
        self
    }
}
