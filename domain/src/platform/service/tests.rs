//! What a service account does, as sentences, and its whole transition table.

use super::*;
use crate::platform::testing::{self, at, check_transitions, fold, name, reason};
use cqrs_es::DomainEvent;
use uuid::Uuid;

pub(super) const OLD: ApiKeyId = ApiKeyId(Uuid::from_u128(11));
pub(super) const NEW: ApiKeyId = ApiKeyId(Uuid::from_u128(12));

/// Every (state, command) pair. A command that repeats what is so already has a row of its own.
const TRANSITIONS: &str = "
command                    absent                  active                      deactivated
service.register           registered              SERVICE_ALREADY_REGISTERED  SERVICE_ALREADY_REGISTERED
service.register-none      SERVICE_NO_ROLE         SERVICE_ALREADY_REGISTERED  SERVICE_ALREADY_REGISTERED
service.issueKey           SERVICE_NOT_REGISTERED  key_issued                  SERVICE_DEACTIVATED
service.issueKey-same      SERVICE_NOT_REGISTERED  already-so                  SERVICE_DEACTIVATED
service.issueKey-other     SERVICE_NOT_REGISTERED  SERVICE_KEY_EXISTS          SERVICE_DEACTIVATED
service.issueKey-none      SERVICE_NOT_REGISTERED  SERVICE_NO_SCOPE            SERVICE_DEACTIVATED
service.issueKey-past      SERVICE_NOT_REGISTERED  SERVICE_EXPIRY_PAST         SERVICE_DEACTIVATED
service.rotateKey          SERVICE_NOT_REGISTERED  key_rotated                 SERVICE_DEACTIVATED
service.rotateKey-unknown  SERVICE_NOT_REGISTERED  SERVICE_NO_SUCH_KEY         SERVICE_DEACTIVATED
service.revokeKey          SERVICE_NOT_REGISTERED  key_revoked                 SERVICE_DEACTIVATED
service.revokeKey-unknown  SERVICE_NOT_REGISTERED  SERVICE_NO_SUCH_KEY         SERVICE_DEACTIVATED
service.deactivate         SERVICE_NOT_REGISTERED  deactivated                 already-so
";

pub(super) fn context() -> Context {
    testing::context(Uuid::from_u128(5))
}

pub(super) fn scopes(names: &[&str]) -> BTreeSet<Scope> {
    names.iter().map(|name| Scope::parse(name).expect("a permission")).collect()
}

fn registered() -> ServiceEvent {
    ServiceEvent::Registered { name: name("Meter reader"), roles: BTreeSet::from([TenantRole::Member]) }
}

fn issued() -> ServiceEvent {
    ServiceEvent::KeyIssued { key: OLD, scopes: scopes(&["readings.record"]), expires_at: Some(at(24)) }
}

fn rotate(old: ApiKeyId, new: ApiKeyId) -> ServiceCommand {
    ServiceCommand::RotateKey { old, new, overlap_until: at(2), expires_at: None }
}

fn command_of(row: &str) -> ServiceCommand {
    use ServiceCommand as C;
    let issue = |key, names: &[&str], expires_at| C::IssueKey { key, scopes: scopes(names), expires_at };
    match row {
        "service.register" => C::Register { name: name("Meter reader"), roles: BTreeSet::from([TenantRole::Member]) },
        "service.register-none" => C::Register { name: name("Meter reader"), roles: BTreeSet::new() },
        "service.issueKey" => issue(NEW, &["readings.record", "device.list"], None),
        "service.issueKey-same" => issue(OLD, &["readings.record"], Some(at(24))),
        "service.issueKey-other" => issue(OLD, &["device.list"], Some(at(24))),
        "service.issueKey-none" => issue(NEW, &[], None),
        "service.issueKey-past" => issue(NEW, &["device.list"], Some(at(0))),
        "service.rotateKey" => rotate(OLD, NEW),
        "service.rotateKey-unknown" => rotate(NEW, ApiKeyId(Uuid::from_u128(13))),
        "service.revokeKey" => C::RevokeKey { key: OLD, reason: reason("lost") },
        "service.revokeKey-unknown" => C::RevokeKey { key: NEW, reason: reason("lost") },
        "service.deactivate" => C::Deactivate { reason: reason("another reason") },
        other => panic!("no command for the row {other}"),
    }
}

fn history_of(column: &str) -> Vec<ServiceEvent> {
    match column {
        "absent" => vec![],
        "active" => vec![registered(), issued()],
        "deactivated" => vec![registered(), issued(), ServiceEvent::Deactivated { reason: reason("gone") }],
        other => panic!("no history for the column {other}"),
    }
}

fn given(history: Vec<ServiceEvent>) -> cqrs_es::test::AggregateTestExecutor<Service> {
    testing::given(context(), history)
}

#[test]
fn every_command_in_every_state_does_what_the_table_says() {
    fn column_of(service: &Service) -> &'static str {
        match service {
            Service::Absent => "absent",
            Service::Active { .. } => "active",
            Service::Deactivated { .. } => "deactivated",
        }
    }
    let columns = ["absent", "active", "deactivated"];
    check_transitions::<Service>(TRANSITIONS, &context(), &columns, command_of, history_of, column_of);
}

#[test]
fn a_rotated_key_is_good_until_the_overlap_is_over_and_the_new_one_from_the_start() {
    let rotated = ServiceEvent::KeyRotated { old: OLD, new: NEW, overlap_until: at(2), expires_at: None };
    given(history_of("active")).when(rotate(OLD, NEW)).then_expect_events(vec![rotated.clone()]);
    let service: Service = fold([history_of("active"), vec![rotated]].concat());
    let good = |hour| service.keys().filter(|(_, key)| key.is_good(at(hour))).map(|(id, _)| id).collect::<Vec<_>>();
    assert_eq!((good(1), good(2)), (vec![OLD, NEW], vec![NEW]));
    let scopes_of = |id| service.keys().find(|(key, _)| *key == id).map(|(_, key)| key.scopes.clone());
    assert_eq!(scopes_of(NEW), scopes_of(OLD));
}

#[test]
fn an_overlap_never_makes_an_old_key_good_for_longer() {
    let late = ServiceCommand::RotateKey { old: OLD, new: NEW, overlap_until: at(100), expires_at: None };
    let rotated = ServiceEvent::KeyRotated { old: OLD, new: NEW, overlap_until: at(24), expires_at: None };
    given(history_of("active")).when(late).then_expect_events(vec![rotated]);
}

#[test]
fn a_key_that_is_revoked_or_over_is_not_rotated() {
    let revoked = ServiceEvent::KeyRevoked { key: OLD, reason: reason("lost") };
    given([history_of("active"), vec![revoked.clone()]].concat())
        .when(rotate(OLD, NEW))
        .then_expect_error(ServiceError::KeyOver);
    let late = Context { now: at(24), ..context() };
    testing::given::<Service>(late, history_of("active"))
        .when(ServiceCommand::RotateKey { old: OLD, new: NEW, overlap_until: at(30), expires_at: None })
        .then_expect_error(ServiceError::KeyOver);
    given([history_of("active"), vec![revoked]].concat())
        .when(command_of("service.issueKey-same"))
        .then_expect_error(ServiceError::KeyExists);
}

#[test]
fn there_is_an_end_to_the_keys_of_an_account() {
    let key = |n: u128| ServiceEvent::KeyIssued {
        key: ApiKeyId(Uuid::from_u128(n)),
        scopes: scopes(&["device.list"]),
        expires_at: None,
    };
    let full: Vec<_> = std::iter::once(registered()).chain((100..).take(KEYS_MAX).map(key)).collect();
    given(full).when(command_of("service.issueKey")).then_expect_error(ServiceError::TooManyKeys);
}

#[test]
fn the_platforms_own_tenant_has_no_service_accounts() {
    let platform = Context { tenant: PLATFORM_TENANT, ..context() };
    testing::given::<Service>(platform, vec![])
        .when(command_of("service.register"))
        .then_expect_error(ServiceError::PlatformTenant);
}

#[test]
fn a_scope_is_a_permission_that_there_is() {
    assert_eq!(Scope::parse("readings.record").expect("one").action(), Some(Action::ReadingsRecord));
    for text in ["*", "", "readings", "READINGS.RECORD", "readings.record "] {
        assert_eq!(Scope::parse(text).expect_err("none").code, "UNKNOWN_VALUE", "{text}");
    }
    let gone: Scope = serde_json::from_str("\"readings.forget\"").expect("history is not judged");
    assert_eq!(gone.action(), None);
}

#[test]
fn every_event_has_its_type_and_version() {
    assert_eq!(issued().event_type(), "platform.service.key_issued");
    assert_eq!(issued().event_version(), "1");
}

#[test]
fn keys_that_are_over_are_forgotten_one_day_and_those_that_are_good_never() {
    let issued = |n: u128, expires_at| ServiceEvent::KeyIssued {
        key: ApiKeyId(Uuid::from_u128(n)),
        scopes: scopes(&["readings.record"]),
        expires_at,
    };
    let mut history = vec![registered(), issued(1, None), issued(2, Some(at(20)))];
    for n in 10..10 + 3 * REMEMBERED_MAX as u128 {
        // Every other one is revoked, the rest ends by the clock.
        history.push(issued(n, Some(at(1))));
        if n % 2 == 0 {
            history.push(ServiceEvent::KeyRevoked { key: ApiKeyId(Uuid::from_u128(n)), reason: reason("lost") });
        }
    }
    let service: Service = fold(history);
    let known: Vec<u128> = service.keys().map(|(id, _)| id.0.as_u128()).collect();
    assert_eq!(known.len(), REMEMBERED_MAX);
    assert!(known.starts_with(&[1, 2]), "{known:?}");
    let good: Vec<u128> = service.keys().filter(|(_, key)| key.is_good(at(2))).map(|(id, _)| id.0.as_u128()).collect();
    assert_eq!(good, [1, 2]);
}
