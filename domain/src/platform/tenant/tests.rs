//! What a tenant does, as sentences. The whole table is in `transitions`.

use super::transitions::{command_of, history_of};
use super::*;
use crate::context::{Actor, ActorKind, EventIds};
use crate::ids::{SubjectId, TenantId};
use cqrs_es::test::TestFramework;
use cqrs_es::{Aggregate, DomainEvent};
use uuid::Uuid;

pub(super) fn context() -> Context {
    let id = Uuid::from_u128(7);
    Context {
        id,
        tenant: TenantId(id),
        actor: Actor { id: Uuid::from_u128(1), kind: ActorKind::Account },
        now: chrono::DateTime::UNIX_EPOCH,
        ids: EventIds { seed: Uuid::from_u128(2) },
    }
}

pub(super) fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

pub(super) fn reason(text: &str) -> Reason {
    Reason::parse(text).expect("a reason")
}

pub(super) fn contact(person: &str) -> Option<Personal<Contact>> {
    let value = Contact::parse(person, "somebody@example.com").expect("a contact");
    Some(Personal::known(SubjectId(Uuid::from_u128(3)), value))
}

fn erased() -> Option<Personal<Contact>> {
    Some(Personal::Erased { subject: SubjectId(Uuid::from_u128(3)) })
}

pub(super) fn domain(text: &str) -> Option<Domain> {
    Some(Domain::parse(text).expect("a domain"))
}

pub(super) fn set(pairs: &[(&str, i64)]) -> BTreeMap<SettingKey, SettingValue> {
    pairs.iter().map(|(key, value)| (SettingKey::parse(key).expect("a key"), SettingValue::Whole(*value))).collect()
}

pub(super) fn unset(keys: &[&str]) -> BTreeSet<SettingKey> {
    keys.iter().map(|key| SettingKey::parse(key).expect("a key")).collect()
}

pub(super) fn registered() -> TenantEvent {
    TenantEvent::Registered {
        name: name("Old"),
        plan: Plan::Free,
        contact: contact("Ada"),
        domain: domain("old.example"),
    }
}

pub(super) fn suspended() -> TenantEvent {
    TenantEvent::Suspended { reason: reason("unpaid") }
}

pub(super) fn closed() -> TenantEvent {
    TenantEvent::Closed { reason: reason("moved") }
}

pub(super) fn given(events: Vec<TenantEvent>) -> cqrs_es::test::AggregateTestExecutor<Tenant> {
    TestFramework::with(context()).given(events)
}

pub(super) fn fold(events: Vec<TenantEvent>) -> Tenant {
    let mut tenant = Tenant::default();
    events.into_iter().for_each(|event| tenant.apply(event));
    tenant
}

#[test]
fn a_tenant_is_registered_with_all_it_was_given() {
    given(vec![]).when(command_of("tenant.register-same")).then_expect_events(vec![registered()]);
}

#[test]
fn a_tenant_is_not_registered_in_the_stream_of_another_tenant() {
    let foreign = Context { tenant: TenantId(Uuid::from_u128(8)), ..context() };
    let framework = TestFramework::<Tenant>::with(foreign).given_no_previous_events();
    framework.when(command_of("tenant.register")).then_expect_error(TenantError::ForeignStream);
}

#[test]
fn a_suspended_tenant_stays_suspended_without_a_second_event() {
    given(vec![registered(), suspended()]).when(command_of("tenant.suspend")).then_expect_events(vec![]);
}

#[test]
fn a_reopened_tenant_is_as_it_was_before_its_suspension() {
    let before = fold(vec![registered()]);
    assert_eq!(fold(vec![registered(), suspended(), TenantEvent::Reopened {}]), before);
}

#[test]
fn a_contact_changed_during_a_suspension_is_there_afterwards() {
    let changed = TenantEvent::ContactChanged { contact: contact("Grace") };
    let tenant = fold(vec![registered(), suspended(), changed, TenantEvent::Reopened {}]);
    assert_eq!(tenant.profile().expect("open").contact, contact("Grace"));
}

#[test]
fn a_closed_tenant_keeps_nothing_personal() {
    let tenant = fold(vec![registered(), closed()]);
    assert_eq!(tenant, Tenant::Closed { name: name("Old"), reason: reason("moved") });
    assert!(!serde_json::to_string(&tenant).expect("serializes").contains("$subject"));
}

#[test]
fn a_settings_event_holds_only_what_changes() {
    let settled = TenantEvent::SettingsChanged { set: set(&[("a", 1), ("b", 2)]), unset: unset(&[]) };
    let command = TenantCommand::ChangeSettings { set: set(&[("a", 1), ("b", 3), ("c", 4)]), unset: unset(&["d"]) };
    let changed = TenantEvent::SettingsChanged { set: set(&[("b", 3), ("c", 4)]), unset: unset(&[]) };
    given(vec![registered(), settled]).when(command).then_expect_events(vec![changed]);
}

#[test]
fn a_setting_that_is_unset_is_gone() {
    let settled = TenantEvent::SettingsChanged { set: set(&[("a", 1), ("b", 2)]), unset: unset(&[]) };
    let removed = TenantEvent::SettingsChanged { set: set(&[]), unset: unset(&["a"]) };
    let tenant = fold(vec![registered(), settled, removed]);
    assert_eq!(tenant.profile().expect("open").settings, set(&[("b", 2)]));
}

#[test]
fn a_setting_is_not_both_set_and_unset() {
    let command = TenantCommand::ChangeSettings { set: set(&[("a", 1)]), unset: unset(&["a"]) };
    given(vec![registered()]).when(command).then_expect_error(TenantError::SetAndUnset);
}

#[test]
fn the_hundred_and_first_setting_needs_one_unset() {
    let keys: Vec<String> = (0..SETTINGS_MAX).map(|n| format!("k{n}")).collect();
    let full =
        TenantEvent::SettingsChanged { set: keys.iter().flat_map(|key| set(&[(key, 1)])).collect(), unset: unset(&[]) };
    let one_more = TenantCommand::ChangeSettings { set: set(&[("more", 1)]), unset: unset(&[]) };
    given(vec![registered(), full.clone()]).when(one_more).then_expect_error(TenantError::TooManySettings);

    let exchange = TenantCommand::ChangeSettings { set: set(&[("more", 1)]), unset: unset(&["k0"]) };
    let exchanged = TenantEvent::SettingsChanged { set: set(&[("more", 1)]), unset: unset(&["k0"]) };
    given(vec![registered(), full]).when(exchange).then_expect_events(vec![exchanged]);
}

#[test]
fn an_erased_contact_is_not_written_again() {
    given(vec![registered()])
        .when(TenantCommand::ChangeContact { contact: erased() })
        .then_expect_error(TenantError::ContactErased);
    let register = TenantCommand::Register { name: name("New"), plan: Plan::Pro, contact: erased(), domain: None };
    given(vec![]).when(register).then_expect_error(TenantError::ContactErased);
}

#[test]
fn a_contact_that_was_erased_can_be_named_anew() {
    let history =
        vec![TenantEvent::Registered { name: name("Old"), plan: Plan::Free, contact: erased(), domain: None }];
    let named = TenantEvent::ContactChanged { contact: contact("Ada") };
    given(history).when(command_of("tenant.changeContact-same")).then_expect_events(vec![named]);
}

#[test]
fn registering_takes_the_domain_for_the_whole_platform_and_closing_gives_it_back() {
    let change =
        |claim| KeyChange { scope: KeyScope::Platform, kind: "tenant.domain", key: "old.example".to_owned(), claim };
    assert_eq!(Tenant::Absent.keys(&[registered()]), [change(true)]);
    for column in ["active", "suspended"] {
        assert_eq!(fold(history_of(column)).keys(&[closed()]), [change(false)], "{column}");
    }
    assert_eq!(fold(history_of("active")).keys(&[suspended()]), []);
}

#[test]
fn a_domain_is_claimed_instead_of_the_one_of_before_and_released() {
    let change =
        |key: &str, claim| KeyChange { scope: KeyScope::Platform, kind: "tenant.domain", key: key.to_owned(), claim };
    let claimed = |text: &str| TenantEvent::DomainClaimed { domain: domain(text).expect("a domain") };
    let active = fold(history_of("active"));
    assert_eq!(active.keys(&[claimed("new.example")]), [change("old.example", false), change("new.example", true)]);
    assert_eq!(active.keys(&[claimed("old.example")]), []);
    assert_eq!(active.keys(&[TenantEvent::DomainReleased {}]), [change("old.example", false)]);
    let free = fold(vec![registered(), TenantEvent::DomainReleased {}]);
    assert_eq!(free.profile().expect("open").domain, None);
    assert_eq!(free.keys(&[claimed("new.example")]), [change("new.example", true)]);
    given(vec![registered(), TenantEvent::DomainReleased {}])
        .when(TenantCommand::ReleaseDomain)
        .then_expect_events(vec![]);
}

#[test]
fn a_tenant_without_a_domain_takes_and_gives_back_nothing() {
    let plain = TenantEvent::Registered { name: name("Old"), plan: Plan::Free, contact: None, domain: None };
    assert_eq!(Tenant::Absent.keys(std::slice::from_ref(&plain)), []);
    assert_eq!(fold(vec![plain]).keys(&[closed()]), []);
}

#[test]
fn every_event_has_its_type_and_version() {
    assert_eq!(registered().event_type(), "platform.tenant.registered");
    assert_eq!(TenantEvent::PlanChanged { plan: Plan::Pro }.event_type(), "platform.tenant.plan_changed");
    assert_eq!(registered().event_version(), "1");
}

#[test]
fn a_missing_optional_is_absent_from_the_payload() {
    let bare = TenantEvent::Registered { name: name("Old"), plan: Plan::Free, contact: None, domain: None };
    assert_eq!(
        serde_json::to_value(bare).expect("serializes"),
        serde_json::json!({"registered": {"name": "Old", "plan": "FREE"}})
    );
    assert_eq!(
        serde_json::to_value(TenantEvent::Reopened {}).expect("serializes"),
        serde_json::json!({"reopened": {}})
    );
}

#[test]
fn nothing_of_a_contact_shows_in_debug_output() {
    let shown = format!("{:?} {:?} {:?}", registered(), command_of("tenant.changeContact"), fold(vec![registered()]));
    for secret in ["Ada", "Grace", "somebody"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}
