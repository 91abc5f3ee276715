//! What holds for any sequence of commands to a service account, sensible or not.

use super::tests::{context, scopes};
use super::*;
use crate::platform::testing::{at, check_calls, fold, name, reason};
use cqrs_es::DomainEvent;
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use uuid::Uuid;

fn any_key() -> impl Strategy<Value = ApiKeyId> {
    (0..4u128).prop_map(|n| ApiKeyId(Uuid::from_u128(n)))
}

fn any_scopes() -> impl Strategy<Value = BTreeSet<Scope>> {
    proptest::sample::subsequence(vec!["readings.record", "device.list"], 0..=2).prop_map(|names| scopes(&names))
}

fn any_end() -> impl Strategy<Value = Option<DateTime<Utc>>> {
    proptest::option::of((0..48i64).prop_map(at))
}

fn any_roles() -> impl Strategy<Value = BTreeSet<TenantRole>> {
    btree_set(proptest::sample::select(TenantRole::ALL), 0..2)
}

fn any_command() -> impl Strategy<Value = ServiceCommand> {
    use ServiceCommand as C;
    prop_oneof![
        2 => any_roles().prop_map(|roles| C::Register { name: name("x"), roles }),
        4 => (any_key(), any_scopes(), any_end()).prop_map(|(key, scopes, expires_at)| C::IssueKey { key, scopes, expires_at }),
        3 => (any_key(), any_key(), 0..48i64, any_end()).prop_map(|(old, new, hour, expires_at)| {
            C::RotateKey { old, new, overlap_until: at(hour), expires_at }
        }),
        2 => any_key().prop_map(|key| C::RevokeKey { key, reason: reason("x") }),
        1 => Just(C::Deactivate { reason: reason("x") }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn a_decision_is_repeatable_and_survives_its_own_journal(commands in vec((any_command(), 0..48i64), 0..20)) {
        let calls: Vec<_> =
            commands.into_iter().map(|(command, hour)| (Context { now: at(hour), ..context() }, command)).collect();
        check_calls::<Service>(&calls, &["SERVICE_ALREADY_REGISTERED"], |_, _| {});
    }

    #[test]
    fn a_key_that_was_revoked_is_never_good_again(commands in vec(any_command(), 0..20), key in any_key()) {
        let register = ServiceCommand::Register { name: name("x"), roles: BTreeSet::from([TenantRole::Viewer]) };
        let (mut history, mut revoked) = (Vec::new(), false);
        for command in std::iter::once(register).chain(commands) {
            let service: Service = fold(history.clone());
            let events = service.decide(&context(), command).unwrap_or_default();
            prop_assert!(events.iter().all(|event| event.event_type().starts_with("platform.service.")));
            revoked |= events.iter().any(|event| matches!(event, ServiceEvent::KeyRevoked { key: gone, .. } if *gone == key));
            history.extend(events);
            let service: Service = fold(history.clone());
            let good = service.keys().any(|(id, known)| id == key && known.is_good(at(0)));
            prop_assert!(!(revoked && good));
        }
    }
}
