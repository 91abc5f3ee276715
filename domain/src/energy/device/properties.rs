//! What holds for any sequence of commands, sensible or not.

use super::tests::{context, power, resolution, site};
use super::*;
use cqrs_es::test::TestFramework;
use cqrs_es::{Aggregate, DomainEvent};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn any_name() -> impl Strategy<Value = Name> {
    "[A-C]".prop_filter_map("no name", |text| Name::parse(&text).ok())
}

fn any_reason() -> impl Strategy<Value = Reason> {
    "[a-c]{1,3}".prop_filter_map("no reason", |text| Reason::parse(&text).ok())
}

fn any_site() -> impl Strategy<Value = Site> {
    let zones = proptest::sample::select(vec!["UTC", "Europe/Berlin", "Asia/Kolkata"]);
    ("[AB]", zones).prop_map(|(name, zone)| site(&name, zone))
}

fn any_power() -> impl Strategy<Value = MaxPower> {
    (1_i64..4).prop_map(power)
}

fn any_serial() -> impl Strategy<Value = Option<Serial>> {
    proptest::option::of("[ab]".prop_filter_map("no serial", |text| Serial::parse(&text).ok()))
}

fn any_resolution() -> impl Strategy<Value = Resolution> {
    proptest::sample::select(Resolution::ALL_S.map(i64::from).to_vec()).prop_map(resolution)
}

fn any_command() -> impl Strategy<Value = DeviceCommand> {
    use DeviceCommand as C;
    let kind = proptest::sample::select(DeviceKind::ALL);
    let direction = proptest::sample::select(Direction::ALL);
    prop_oneof![
        3 => (any_name(), kind, any_serial(), any_site(), any_resolution(), direction, any_power()).prop_map(
            |(name, kind, serial, site, resolution_s, direction, max_power_w)| C::Register {
                name, kind, serial, site, resolution_s, direction, max_power_w
            }
        ),
        2 => any_name().prop_map(|name| C::Rename { name }),
        2 => any_site().prop_map(|site| C::ChangeSite { site }),
        2 => any_power().prop_map(|max_power_w| C::ChangeMaxPower { max_power_w }),
        1 => any_reason().prop_map(|reason| C::Decommission { reason }),
    ]
}

/// An event that no decision need have led to.
fn any_event() -> impl Strategy<Value = DeviceEvent> {
    use DeviceEvent as E;
    prop_oneof![
        (any_name(), any_serial(), any_site(), any_resolution()).prop_map(|(name, serial, site, resolution_s)| {
            let (kind, direction, max_power_w) = (DeviceKind::Load, Direction::Net, power(1));
            E::Registered { name, kind, serial, site, resolution_s, direction, max_power_w }
        }),
        any_name().prop_map(|name| E::Renamed { name }),
        any_site().prop_map(|site| E::SiteChanged { site }),
        any_power().prop_map(|max_power_w| E::MaxPowerChanged { max_power_w }),
        any_reason().prop_map(|reason| E::Decommissioned { at: context().now, reason }),
    ]
}

fn applied(device: &Device, events: &[DeviceEvent]) -> Device {
    let mut device = device.clone();
    events.iter().cloned().for_each(|event| device.apply(event));
    device
}

fn through_json<T: Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
    let text = serde_json::to_string(value).expect("serializes");
    serde_json::from_str(&text).expect("decodes")
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn a_decision_is_the_same_each_time_and_carried_out_twice_it_changes_nothing(commands in vec(any_command(), 0..20)) {
        let mut device = Device::default();
        for command in commands {
            let decided = device.decide(&context(), command.clone());
            prop_assert_eq!(&decided, &device.decide(&context(), command.clone()));
            if let Ok(events) = decided {
                let after = applied(&device, &events);
                prop_assert_eq!(events.is_empty(), after == device, "no events means already so, and only that");
                match after.decide(&context(), command) {
                    Ok(again) => prop_assert_eq!(again, vec![]),
                    Err(refusal) => prop_assert_eq!(refusal, DeviceError::AlreadyRegistered),
                }
                device = after;
            }
        }
    }

    #[test]
    fn what_is_written_down_gives_the_same_device_when_read_back(commands in vec(any_command(), 0..20)) {
        let (mut device, mut replayed) = (Device::default(), Device::default());
        for command in commands {
            for event in device.decide(&context(), command).unwrap_or_default() {
                replayed.apply(through_json(&event));
                device.apply(event);
            }
            prop_assert_eq!(&replayed, &device);
            prop_assert_eq!(&through_json(&device), &device, "a snapshot is the state");
        }
    }

    #[test]
    fn a_serial_number_is_held_exactly_while_the_device_is_in_service(commands in vec(any_command(), 0..20)) {
        let (mut device, mut held) = (Device::default(), BTreeSet::new());
        for command in commands {
            let events = device.decide(&context(), command).unwrap_or_default();
            for change in device.keys(&events) {
                let changed = if change.claim { held.insert(change.key) } else { held.remove(&change.key) };
                prop_assert!(changed, "a key is taken once and released once");
            }
            device = applied(&device, &events);
            let in_service = matches!(device, Device::Active { .. });
            let serial = device.profile().filter(|_| in_service).and_then(|profile| profile.serial.as_ref());
            prop_assert_eq!(held.iter().cloned().collect::<Vec<_>>(), serial.map(Serial::key).into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn no_history_makes_a_device_panic(events in vec(any_event(), 0..20), command in any_command()) {
        let device = applied(&Device::default(), &events);
        let decided = device.decide(&context(), command);
        prop_assert!(decided.iter().flatten().all(|event| event.event_type().starts_with("energy.device.")));
    }

    #[test]
    fn the_adapter_for_foreign_stores_decides_as_the_executor_does(history in vec(any_event(), 0..6), command in any_command()) {
        let decided = applied(&Device::default(), &history).decide(&context(), command.clone());
        let handled = TestFramework::<Device>::with(context()).given(history).when(command).inspect_result();
        prop_assert_eq!(decided, handled);
    }

    #[test]
    fn every_slot_of_a_device_in_service_begins_on_its_sites_hours(commands in vec(any_command(), 0..20)) {
        let mut device = Device::default();
        for command in commands {
            let events = device.decide(&context(), command).unwrap_or_default();
            device = applied(&device, &events);
            prop_assert!(device.profile().is_none_or(|profile| profile.site.time_zone.suits(profile.resolution_s)));
        }
    }
}
