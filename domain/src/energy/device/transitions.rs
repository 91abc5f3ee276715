//! The whole transition table of a device as text: what every command does in every state.

use super::tests::{decommissioned, fold, given, name, power, reason, registered, resolution, serial, site};
use super::*;
use cqrs_es::DomainEvent;
use std::collections::BTreeSet;

/// Every (state, command) pair. A command that repeats what is so already has a row of its own.
const TRANSITIONS: &str = "
command                      absent                 active                     decommissioned
device.register              registered             DEVICE_ALREADY_REGISTERED  DEVICE_ALREADY_REGISTERED
device.rename                DEVICE_NOT_REGISTERED  renamed                    DEVICE_DECOMMISSIONED
device.rename-same           DEVICE_NOT_REGISTERED  already-so                 DEVICE_DECOMMISSIONED
device.changeSite            DEVICE_NOT_REGISTERED  site_changed               DEVICE_DECOMMISSIONED
device.changeSite-same       DEVICE_NOT_REGISTERED  already-so                 DEVICE_DECOMMISSIONED
device.changeMaxPower        DEVICE_NOT_REGISTERED  max_power_changed          DEVICE_DECOMMISSIONED
device.changeMaxPower-same   DEVICE_NOT_REGISTERED  already-so                 DEVICE_DECOMMISSIONED
device.decommission          DEVICE_NOT_REGISTERED  decommissioned             already-so
";

pub(super) fn command_of(row: &str) -> DeviceCommand {
    use DeviceCommand as C;
    match row {
        "device.register" => C::Register {
            name: name("Roof"),
            kind: DeviceKind::Pv,
            serial: serial("pv-1"),
            site: site("Home", "Europe/Berlin"),
            resolution_s: resolution(900),
            direction: Direction::Export,
            max_power_w: power(10_000),
        },
        "device.rename" => C::Rename { name: name("South roof") },
        "device.rename-same" => C::Rename { name: name("Roof") },
        "device.changeSite" => C::ChangeSite { site: site("Barn", "Europe/Lisbon") },
        "device.changeSite-same" => C::ChangeSite { site: site("Home", "Europe/Berlin") },
        "device.changeMaxPower" => C::ChangeMaxPower { max_power_w: power(12_000) },
        "device.changeMaxPower-same" => C::ChangeMaxPower { max_power_w: power(10_000) },
        "device.decommission" => C::Decommission { reason: reason("another reason") },
        other => panic!("no command for the row {other}"),
    }
}

pub(super) fn history_of(column: &str) -> Vec<DeviceEvent> {
    match column {
        "absent" => vec![],
        "active" => vec![registered()],
        "decommissioned" => vec![registered(), decommissioned()],
        other => panic!("no history for the column {other}"),
    }
}

#[test]
fn every_command_in_every_state_does_what_the_table_says() {
    let mut rows =
        TRANSITIONS.lines().filter(|line| !line.is_empty()).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let columns = rows.next().expect("a header");
    for row in rows {
        assert_eq!(row.len(), columns.len(), "{row:?}");
        assert_eq!(command_of(row[0]).action().as_str(), row[0].trim_end_matches("-same"));
        for (column, expected) in columns.iter().zip(&row).skip(1) {
            let outcome = match given(history_of(column)).when(command_of(row[0])).inspect_result() {
                Ok(events) => match events.as_slice() {
                    [] => "already-so".to_owned(),
                    [event] => event.event_type().trim_start_matches("energy.device.").to_owned(),
                    many => panic!("{} events where the table has room for one", many.len()),
                },
                Err(refusal) => refusal.code().to_owned(),
            };
            assert_eq!(&outcome, expected, "{} while {column}", row[0]);
        }
    }
}

/// The columns are the variants of the state, the rows the actions that are commands: the compiler asks about a
/// new state in `column_of`, and a new command needs a new action.
#[test]
fn the_table_covers_every_state_and_every_command() {
    fn column_of(device: &Device) -> &'static str {
        match device {
            Device::Absent => "absent",
            Device::Active { .. } => "active",
            Device::Decommissioned { .. } => "decommissioned",
        }
    }
    let mut lines = TRANSITIONS.lines().filter(|line| !line.is_empty());
    for column in lines.next().expect("a header").split_whitespace().skip(1) {
        assert_eq!(column_of(&fold(history_of(column))), column);
    }
    let rows: BTreeSet<_> =
        lines.filter_map(|line| line.split_whitespace().next()).filter(|row| !row.ends_with("-same")).collect();
    let commands = Action::ALL
        .iter()
        .filter(|action| action.as_str().starts_with("device.") && action.kind() == crate::ActionKind::Command);
    assert_eq!(rows, commands.map(|action| action.as_str()).collect());
}
