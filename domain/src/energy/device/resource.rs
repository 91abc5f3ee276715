//! What rules may know of a device. Read models store the same under the same names.

use super::{Device, Profile};
use crate::condition::{Field, Kind, Value};
use crate::rules::Resource;
use std::borrow::Cow;
use uuid::Uuid;

/// Fields of a device that conditions may name.
pub const DEVICE_FIELDS: &[Field] = &[
    Field::new("id", Kind::Id),
    Field::new("name", Kind::Text),
    // E.g. `pv`.
    Field::new("kind", Kind::Text),
    Field::new("serial", Kind::Text),
    // The name of its site.
    Field::new("site", Kind::Text),
    Field::new("timeZone", Kind::Text),
    Field::new("resolutionS", Kind::Whole),
    Field::new("direction", Kind::Text),
    Field::new("maxPowerW", Kind::Whole),
    // `ACTIVE` or `DECOMMISSIONED`.
    Field::new("status", Kind::Text),
];

pub static RESOURCE: Resource = Resource {
    name: Cow::Borrowed("device"),
    fields: Cow::Borrowed(DEVICE_FIELDS),
    owner: None,
    hideable: &["serial"],
};

/// A field of a device; none before it is registered.
pub fn field_of(device: &Device, id: Uuid, field: &str) -> Option<Value> {
    let Profile { name, kind, serial, site, resolution_s, direction, max_power_w } = device.profile()?;
    match field {
        "id" => Some(id.into()),
        "name" => Some(name.as_str().into()),
        "kind" => Some(kind.as_str().into()),
        "serial" => serial.as_ref().map(|serial| serial.as_str().into()),
        "site" => Some(site.name.as_str().into()),
        "timeZone" => Some(site.time_zone.as_str().into()),
        "resolutionS" => Some(i64::from(resolution_s.seconds()).into()),
        "direction" => Some(direction.as_str().into()),
        "maxPowerW" => i64::try_from(max_power_w.watts()).ok().map(Value::from),
        "status" => Some(if matches!(device, Device::Active { .. }) { "ACTIVE" } else { "DECOMMISSIONED" }.into()),
        _ => None,
    }
}
