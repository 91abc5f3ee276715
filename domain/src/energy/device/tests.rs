//! What a device does, as sentences. The whole table is in `transitions`.

use super::transitions::{command_of, history_of};
use super::*;
use crate::context::{Actor, ActorKind, EventIds};
use crate::ids::TenantId;
use cqrs_es::test::TestFramework;
use cqrs_es::{Aggregate, DomainEvent};
use uuid::Uuid;

pub(super) const ID: DeviceId = DeviceId(Uuid::from_u128(7));

pub(super) fn context() -> Context {
    Context {
        id: ID.0,
        tenant: TenantId(Uuid::from_u128(8)),
        actor: Actor { id: Uuid::from_u128(1), kind: ActorKind::Account },
        now: "2026-05-01T12:00:00Z".parse().expect("a time"),
        ids: EventIds { seed: Uuid::from_u128(2) },
    }
}

pub(super) fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

pub(super) fn reason(text: &str) -> Reason {
    Reason::parse(text).expect("a reason")
}

pub(super) fn site(name: &str, zone: &str) -> Site {
    Site::parse(name, zone).expect("a site")
}

pub(super) fn serial(text: &str) -> Option<Serial> {
    Some(Serial::parse(text).expect("a serial"))
}

pub(super) fn power(watts: i64) -> MaxPower {
    MaxPower::parse(watts).expect("a power")
}

pub(super) fn resolution(seconds: i64) -> Resolution {
    Resolution::parse(seconds).expect("a resolution")
}

pub(super) fn registered() -> DeviceEvent {
    DeviceEvent::Registered {
        name: name("Roof"),
        kind: DeviceKind::Pv,
        serial: serial("pv-1"),
        site: site("Home", "Europe/Berlin"),
        resolution_s: resolution(900),
        direction: Direction::Export,
        max_power_w: power(10_000),
    }
}

pub(super) fn decommissioned() -> DeviceEvent {
    DeviceEvent::Decommissioned { at: context().now, reason: reason("sold") }
}

pub(super) fn given(events: Vec<DeviceEvent>) -> cqrs_es::test::AggregateTestExecutor<Device> {
    TestFramework::with(context()).given(events)
}

pub(super) fn fold(events: Vec<DeviceEvent>) -> Device {
    let mut device = Device::default();
    events.into_iter().for_each(|event| device.apply(event));
    device
}

#[test]
fn a_device_is_registered_with_all_it_was_given() {
    given(vec![]).when(command_of("device.register")).then_expect_events(vec![registered()]);
}

#[test]
fn a_device_is_decommissioned_at_the_time_of_the_call() {
    let ended = DeviceEvent::Decommissioned { at: context().now, reason: reason("another reason") };
    given(vec![registered()]).when(command_of("device.decommission")).then_expect_events(vec![ended]);
}

#[test]
fn a_decommissioned_device_stays_so_without_a_second_event() {
    given(vec![registered(), decommissioned()]).when(command_of("device.decommission")).then_expect_events(vec![]);
}

#[test]
fn slots_that_begin_between_the_sites_hours_are_refused() {
    let india = site("Plant", "Asia/Kolkata");
    let refused = |resolution| DeviceError::ResolutionTooCoarse { zone: india.time_zone.clone(), resolution };
    let register = |seconds| DeviceCommand::Register {
        name: name("Feeder"),
        kind: DeviceKind::Meter,
        serial: None,
        site: india.clone(),
        resolution_s: resolution(seconds),
        direction: Direction::Import,
        max_power_w: power(1),
    };
    given(vec![]).when(register(3600)).then_expect_error(refused(resolution(3600)));
    assert_eq!(Device::Absent.decide(&context(), register(1800)).map(|events| events.len()), Ok(1));

    let DeviceEvent::Registered { name, kind, serial, site, direction, max_power_w, .. } = registered() else {
        panic!("registered() registers");
    };
    let resolution_s = resolution(3600);
    let hourly = DeviceEvent::Registered { name, kind, serial, site, resolution_s, direction, max_power_w };
    let moved = DeviceCommand::ChangeSite { site: india.clone() };
    given(vec![hourly]).when(moved).then_expect_error(refused(resolution_s));
}

#[test]
fn a_refusal_of_a_zone_names_the_zone_and_the_resolution() {
    let zone = TimeZone::parse("Asia/Kolkata").expect("a zone");
    let refusal = DeviceError::ResolutionTooCoarse { zone, resolution: resolution(3600) };
    assert!(refusal.to_string().contains("3600 s") && refusal.to_string().contains("Asia/Kolkata"), "{refusal}");
    assert_eq!(refusal.path(), ["site", "timeZone"]);
}

#[test]
fn registering_takes_the_serial_number_within_the_tenant_and_decommissioning_gives_it_back() {
    let change = |claim| KeyChange { scope: KeyScope::Tenant, kind: "device.serial", key: "PV-1".to_owned(), claim };
    assert_eq!(Device::Absent.keys(&[registered()]), [change(true)]);
    assert_eq!(fold(history_of("active")).keys(&[decommissioned()]), [change(false)]);
    assert_eq!(fold(history_of("decommissioned")).keys(&[decommissioned()]), []);
    assert_eq!(fold(history_of("active")).keys(&[DeviceEvent::Renamed { name: name("New") }]), []);
}

#[test]
fn readings_obey_what_the_device_is() {
    assert_eq!(Device::Absent.rules(ID), None);
    let rules = ReadingRules {
        device: ID,
        resolution: resolution(900),
        direction: Direction::Export,
        max_power: power(10_000),
        until: None,
    };
    assert_eq!(fold(vec![registered()]).rules(ID), Some(rules));
    let raised = DeviceEvent::MaxPowerChanged { max_power_w: power(12_000) };
    assert_eq!(
        fold(vec![registered(), raised, decommissioned()]).rules(ID),
        Some(ReadingRules { max_power: power(12_000), until: Some(context().now), ..rules })
    );
}

#[test]
fn every_event_has_its_type_and_version() {
    assert_eq!(registered().event_type(), "energy.device.registered");
    let raised = DeviceEvent::MaxPowerChanged { max_power_w: power(1) };
    assert_eq!(raised.event_type(), "energy.device.max_power_changed");
    assert_eq!(registered().event_version(), "1");
}

#[test]
fn a_payload_says_its_units_and_leaves_out_what_is_not_known() {
    let mut payload = serde_json::to_value(registered()).expect("serializes")["registered"].take();
    assert_eq!(
        payload,
        serde_json::json!({
            "name": "Roof", "kind": "PV", "serial": "pv-1",
            "site": {"name": "Home", "time_zone": "Europe/Berlin"},
            "resolution_s": 900, "direction": "EXPORT", "max_power_w": 10_000,
        })
    );
    payload.as_object_mut().expect("an object").remove("serial");
    let bare: DeviceEvent = serde_json::from_value(serde_json::json!({"registered": payload})).expect("decodes");
    assert!(!serde_json::to_string(&bare).expect("serializes").contains("serial"));
}
