//! What mutations of devices take.

use super::{DeviceKind, EnergyDirection};
use crate::graphql::scalars::BigInt;
use async_graphql::InputObject;
use daybook_domain::InvalidValue;
use daybook_domain::energy::device::Site as SiteValue;
use uuid::Uuid;

/// Where a device stands.
#[derive(InputObject)]
pub struct SiteInput {
    /// 1–200 characters, e.g. `"12 Mill Lane"`. Kept for ever in clear: no person's name.
    pub name: String,
    /// Of the IANA database, e.g. `"Europe/Berlin"`.
    pub time_zone: String,
}

impl SiteInput {
    pub(super) fn parse(&self) -> Result<SiteValue, InvalidValue> {
        SiteValue::parse(&self.name, &self.time_zone)
    }
}

/// A device to register.
#[derive(InputObject)]
pub struct RegisterDeviceInput {
    /// The tenant it belongs to; your own unless told.
    pub tenant: Option<Uuid>,
    /// 1–200 characters, e.g. `"Roof, south"`.
    pub name: String,
    /// What it is. Never changes.
    pub kind: DeviceKind,
    /// 1–64 characters as printed on the device; unique among the tenant's devices in service.
    pub serial: Option<String>,
    /// Where it stands.
    pub site: SiteInput,
    /// The length of a slot in seconds: 60, 300, 600, 900, 1800 or 3600. Never changes.
    pub resolution_s: i32,
    /// Which way its energy flows. Never changes.
    pub direction: EnergyDirection,
    /// What it can carry at most, 1 to 10000000000 watts.
    pub max_power_w: BigInt,
    /// Id of this command, chosen by you: a repeat with the same id gives the same answer and no second device.
    pub client_mutation_id: Option<Uuid>,
}

macro_rules! device_inputs {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty),* $(,)? })+) => {$(
        $(#[$doc])*
        #[derive(InputObject)]
        pub struct $name {
            /// The tenant of the device; your own unless told.
            pub tenant: Option<Uuid>,
            /// Id of the device.
            pub id: Uuid,
            $($(#[$field_doc])* pub $field: $type,)*
            /// Change only if the device still has this version; `CONFLICT` otherwise.
            pub expected_version: Option<BigInt>,
            /// Id of this command, chosen by you: a repeat with the same id gives the same answer.
            pub client_mutation_id: Option<Uuid>,
        }

        impl $name {
            pub(super) fn target(&self) -> Target {
                Target {
                    tenant: self.tenant,
                    id: self.id,
                    expected_version: self.expected_version,
                    command_id: self.client_mutation_id,
                }
            }
        }
    )+};
}

device_inputs! {
    /// Another name for a device.
    RenameDeviceInput {
        /// 1–200 characters, e.g. `"Roof, east"`.
        name: String,
    }
    /// Another place for a device.
    ChangeDeviceSiteInput {
        /// Where it stands now.
        site: SiteInput,
    }
    /// Another limit for a device.
    ChangeDeviceMaxPowerInput {
        /// What it can carry at most, 1 to 10000000000 watts. Readings already taken stay.
        max_power_w: BigInt,
    }
    /// The end of a device's service.
    DecommissionDeviceInput {
        /// 1–500 characters.
        reason: String,
    }
}

/// What a mutation is about.
pub(super) struct Target {
    pub(super) tenant: Option<Uuid>,
    pub(super) id: Uuid,
    pub(super) expected_version: Option<BigInt>,
    pub(super) command_id: Option<Uuid>,
}
