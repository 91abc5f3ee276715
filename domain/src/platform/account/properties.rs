//! What holds for any sequence of commands to an account, sensible or not.

use super::tests::{ID, context, email, key, locale, name, own};
use super::*;
use crate::ids::SubjectId;
use crate::platform::testing::{applied, check_calls, fold, reason};
use cqrs_es::DomainEvent;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeSet;
use uuid::Uuid;

fn any_email() -> impl Strategy<Value = Personal<EmailAddress>> {
    prop_oneof![
        6 => "[abA]@(x|X|y)\\.example".prop_map(|text| email(&text)),
        1 => Just(Personal::Erased { subject: SubjectId(ID) }),
    ]
}

fn any_name() -> impl Strategy<Value = Personal<Name>> {
    prop_oneof![
        6 => "[A-C]".prop_map(|text| name(&text)),
        1 => Just(Personal::Erased { subject: SubjectId(ID) }),
        1 => Just(Personal::Erased { subject: SubjectId(Uuid::from_u128(9)) }),
    ]
}

fn any_command() -> impl Strategy<Value = AccountCommand> {
    use AccountCommand as C;
    prop_oneof![
        3 => (any_email(), any_name()).prop_map(|(email, name)| C::Register { email, name }),
        2 => any_name().prop_map(|name| C::Rename { name }),
        4 => any_email().prop_map(|email| C::ChangeEmail { email }),
        2 => (any_name(), prop_oneof![Just(Details::default()), Just(locale("de")), Just(locale("en"))], any::<bool>())
            .prop_map(|(name, set, unset)| C::ChangeProfile {
                name: Some(name),
                set,
                unset: if unset { [Detail::Locale].into() } else { [].into() },
            }),
        2 => ("[ab]", proptest::option::of(0..2_i64)).prop_map(|(text, value)| C::SetPreference {
            key: key(&text),
            value: value.map(|value| own(SettingValue::Whole(value))),
        }),
        1 => "[a-c]".prop_map(|text| C::Deactivate { reason: reason(&text) }),
        1 => Just(C::Reactivate),
        1 => (0..3u128).prop_map(|n| C::SetPassword { credential: CredentialId(Uuid::from_u128(n)) }),
        1 => Just(C::GrantPlatformRole { role: PlatformRole::PlatformAdmin }),
        1 => Just(C::RevokePlatformRole { role: PlatformRole::PlatformAdmin }),
        1 => (0..4u64).prop_map(|generation| C::RevokeSessions { generation, reason: reason("x") }),
    ]
}

/// An event that no decision need have led to.
fn any_event() -> impl Strategy<Value = AccountEvent> {
    use AccountEvent as E;
    prop_oneof![
        (any_email(), any_name()).prop_map(|(email, name)| E::Registered { email, name }),
        any_name().prop_map(|name| E::Renamed { name }),
        any_email().prop_map(|email| E::EmailChanged { email }),
        Just(E::ProfileChanged { set: locale("de"), unset: [Detail::Locale, Detail::AvatarUrl].into() }),
        "[ab]".prop_map(|text| E::PreferenceSet { key: key(&text), value: own(SettingValue::Whole(1)) }),
        "[ab]".prop_map(|text| E::PreferenceRemoved { key: key(&text) }),
        Just(E::Deactivated { reason: reason("x") }),
        Just(E::Reactivated {}),
        (0..3u128).prop_map(|n| E::PasswordSet { credential: CredentialId(Uuid::from_u128(n)) }),
        Just(E::PlatformRoleGranted { role: PlatformRole::PlatformAdmin }),
        Just(E::PlatformRoleRevoked { role: PlatformRole::PlatformAdmin }),
        (0..4u64).prop_map(|generation| E::SessionsRevoked { generation, reason: reason("x") }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn a_decision_is_repeatable_and_survives_its_own_journal(commands in vec(any_command(), 0..20)) {
        let calls: Vec<_> = commands.into_iter().map(|command| (context(), command)).collect();
        check_calls::<Account>(&calls, &["ACCOUNT_ALREADY_REGISTERED"], |_, _| {});
    }

    #[test]
    fn an_account_holds_exactly_the_key_of_its_address(commands in vec(any_command(), 0..20)) {
        let (mut account, mut held) = (Account::default(), BTreeSet::new());
        for command in commands {
            let events = account.decide(&context(), command).unwrap_or_default();
            let changes = account.keys(&events);
            let keys: BTreeSet<_> = changes.iter().map(|change| &change.key).collect();
            prop_assert_eq!(keys.len(), changes.len(), "no key is both taken and released in one append");
            for change in changes {
                let changed = if change.claim { held.insert(change.key) } else { held.remove(&change.key) };
                prop_assert!(changed, "a key is taken once and released once");
            }
            account = applied(&account, &events);
            let address = account.profile().and_then(|profile| email_key(&profile.email));
            prop_assert_eq!(held.iter().cloned().collect::<Vec<_>>(), address.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn no_history_makes_an_account_panic(events in vec(any_event(), 0..20), command in any_command()) {
        let account: Account = fold(events);
        let decided = account.decide(&context(), command);
        prop_assert!(decided.iter().flatten().all(|event| event.event_type().starts_with("platform.account.")));
    }
}
