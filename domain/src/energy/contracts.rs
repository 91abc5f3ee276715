//! The contracts of the energy events: devices and readings.
//!
//! Nothing ever leaves this list: see [`crate::registry`].

use super::{Device, Readings};
use crate::registry::{EventContract, PUBLIC, event};
use serde_json::json;

/// Every version of every event here. A new one is one entry; `cargo run -- schemas` does the rest.
pub(crate) fn event_contracts() -> Vec<EventContract> {
    [devices(), readings()].concat()
}

fn devices() -> Vec<EventContract> {
    let home = || json!({"name": "12 Mill Lane", "time_zone": "Europe/Berlin"});

    vec![
        event::<Device>(
            "registered",
            "1",
            PUBLIC,
            vec![
                json!({
                    "name": "Roof, south", "kind": "PV", "serial": "SB-5000-1234", "site": home(),
                    "resolution_s": 900, "direction": "EXPORT", "max_power_w": 9_800,
                }),
                json!({
                    "name": "Grid", "kind": "METER", "site": {"name": "Substation 4", "time_zone": "Asia/Kolkata"},
                    "resolution_s": 60, "direction": "NET", "max_power_w": 10_000_000_000_u64,
                }),
                json!({
                    "name": "Wallbox", "kind": "EV_CHARGER", "site": home(),
                    "resolution_s": 3600, "direction": "IMPORT", "max_power_w": 22_000,
                }),
            ],
        ),
        event::<Device>("renamed", "1", PUBLIC, vec![json!({"name": "Roof, east"})]),
        event::<Device>("site_changed", "1", PUBLIC, vec![json!({"site": home()})]),
        event::<Device>("max_power_changed", "1", PUBLIC, vec![json!({"max_power_w": 12_000})]),
        event::<Device>(
            "decommissioned",
            "1",
            PUBLIC,
            vec![json!({"at": "2026-05-01T12:00:00Z", "reason": "Replaced by a new inverter"})],
        ),
    ]
}

fn readings() -> Vec<EventContract> {
    const DEVICE: &str = "0198f000-0000-7000-8000-000000000007";

    vec![event::<Readings>(
        "recorded",
        "1",
        PUBLIC,
        vec![
            json!({
                "device": DEVICE, "day": "2016-03-27", "resolution_s": 900,
                "runs": [{"from_slot": 12, "wh": [250, 263, 0, 241]}],
            }),
            json!({
                "device": DEVICE, "day": "2016-10-30", "resolution_s": 3600,
                "runs": [
                    {"from_slot": 0, "wh": [1_200, -800]},
                    {"from_slot": 2, "quality": "ESTIMATED", "wh": [900]},
                    {"from_slot": 23, "quality": "SUBSTITUTED", "wh": [1_000_000_000_000_i64]},
                ],
            }),
        ],
    )]
}
