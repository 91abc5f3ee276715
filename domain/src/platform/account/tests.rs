//! What an account does, as sentences, and its whole transition table.

use super::*;
use crate::ids::SubjectId;
use crate::platform::testing::{self, check_transitions, fold, reason};
use cqrs_es::DomainEvent;
use uuid::Uuid;

pub(super) const ID: Uuid = Uuid::from_u128(3);

/// Every (state, command) pair. A command that repeats what is so already has a row of its own.
/// Deactivating has ended the sessions once more.
const TRANSITIONS: &str = "
command                    absent                  active                      deactivated
account.register           registered              ACCOUNT_ALREADY_REGISTERED  ACCOUNT_ALREADY_REGISTERED
account.register-same      registered              ACCOUNT_ALREADY_REGISTERED  ACCOUNT_ALREADY_REGISTERED
account.rename             ACCOUNT_NOT_REGISTERED  renamed                     ACCOUNT_DEACTIVATED
account.rename-same        ACCOUNT_NOT_REGISTERED  already-so                  ACCOUNT_DEACTIVATED
account.changeEmail        ACCOUNT_NOT_REGISTERED  email_changed               ACCOUNT_DEACTIVATED
account.changeEmail-same   ACCOUNT_NOT_REGISTERED  already-so                  ACCOUNT_DEACTIVATED
account.changeProfile           ACCOUNT_NOT_REGISTERED  profile_changed        ACCOUNT_DEACTIVATED
account.changeProfile-same      ACCOUNT_NOT_REGISTERED  already-so             ACCOUNT_DEACTIVATED
account.setPreference           ACCOUNT_NOT_REGISTERED  preference_set         ACCOUNT_DEACTIVATED
account.setPreference-same      ACCOUNT_NOT_REGISTERED  already-so             ACCOUNT_DEACTIVATED
account.setPreference-none      ACCOUNT_NOT_REGISTERED  preference_removed     ACCOUNT_DEACTIVATED
account.deactivate         ACCOUNT_NOT_REGISTERED  deactivated                 already-so
account.reactivate         ACCOUNT_NOT_REGISTERED  already-so                  reactivated
account.setPassword        ACCOUNT_NOT_REGISTERED  password_set                ACCOUNT_DEACTIVATED
account.setPassword-same   ACCOUNT_NOT_REGISTERED  already-so                  ACCOUNT_DEACTIVATED
account.grantPlatformRole       ACCOUNT_NOT_REGISTERED  already-so             ACCOUNT_DEACTIVATED
account.revokePlatformRole      ACCOUNT_NOT_REGISTERED  platform_role_revoked  platform_role_revoked
account.revokeSessions          ACCOUNT_NOT_REGISTERED  sessions_revoked       already-so
account.revokeSessions-same     ACCOUNT_NOT_REGISTERED  already-so             already-so
account.revokeSessions-far      ACCOUNT_NOT_REGISTERED  ACCOUNT_OTHER_SESSIONS  sessions_revoked
";

pub(super) fn context() -> Context {
    Context { tenant: PLATFORM_TENANT, ..testing::context(ID) }
}

pub(super) fn own<T>(value: T) -> Personal<T> {
    Personal::known(SubjectId(ID), value)
}

pub(super) fn email(text: &str) -> Personal<EmailAddress> {
    own(EmailAddress::parse(text).expect("an e-mail address"))
}

pub(super) fn name(text: &str) -> Personal<Name> {
    own(testing::name(text))
}

fn registered() -> AccountEvent {
    AccountEvent::Registered { email: email("Ada@example.com"), name: name("Ada") }
}

const CREDENTIAL: CredentialId = CredentialId(Uuid::from_u128(7));

/// Registered, with a password and a role.
fn in_use() -> Vec<AccountEvent> {
    vec![
        registered(),
        AccountEvent::PasswordSet { credential: CREDENTIAL },
        AccountEvent::PlatformRoleGranted { role: PlatformRole::PlatformAdmin },
        AccountEvent::ProfileChanged { set: locale("en"), unset: [].into() },
        AccountEvent::PreferenceSet { key: key("theme"), value: own(SettingValue::Whole(1)) },
    ]
}

pub(super) fn locale(text: &str) -> Details {
    Details { locale: Some(own(Locale::parse(text).expect("a locale"))), ..Details::default() }
}

pub(super) fn key(text: &str) -> SettingKey {
    SettingKey::parse(text).expect("a key")
}

fn command_of(row: &str) -> AccountCommand {
    use AccountCommand as C;
    match row {
        "account.register" => C::Register { email: email("grace@example.com"), name: name("Grace") },
        "account.register-same" => C::Register { email: email("Ada@example.com"), name: name("Ada") },
        "account.rename" => C::Rename { name: name("Grace") },
        "account.rename-same" => C::Rename { name: name("Ada") },
        "account.changeEmail" => C::ChangeEmail { email: email("grace@example.com") },
        "account.changeEmail-same" => C::ChangeEmail { email: email("Ada@example.com") },
        "account.changeProfile" => {
            C::ChangeProfile { name: None, set: locale("de-AT"), unset: [Detail::TimeZone].into() }
        }
        "account.changeProfile-same" => {
            C::ChangeProfile { name: Some(name("Ada")), set: locale("en"), unset: [Detail::AvatarUrl].into() }
        }
        "account.setPreference" => C::SetPreference { key: key("theme"), value: Some(own(SettingValue::Whole(2))) },
        "account.setPreference-same" => {
            C::SetPreference { key: key("theme"), value: Some(own(SettingValue::Whole(1))) }
        }
        "account.setPreference-none" => C::SetPreference { key: key("theme"), value: None },
        "account.deactivate" => C::Deactivate { reason: reason("another reason") },
        "account.reactivate" => C::Reactivate,
        "account.setPassword" => C::SetPassword { credential: CredentialId(Uuid::from_u128(8)) },
        "account.setPassword-same" => C::SetPassword { credential: CREDENTIAL },
        "account.grantPlatformRole" => C::GrantPlatformRole { role: PlatformRole::PlatformAdmin },
        "account.revokePlatformRole" => C::RevokePlatformRole { role: PlatformRole::PlatformAdmin },
        "account.revokeSessions" => C::RevokeSessions { generation: 2, reason: reason("lost") },
        "account.revokeSessions-same" => C::RevokeSessions { generation: 1, reason: reason("lost") },
        "account.revokeSessions-far" => C::RevokeSessions { generation: 3, reason: reason("lost") },
        other => panic!("no command for the row {other}"),
    }
}

fn history_of(column: &str) -> Vec<AccountEvent> {
    match column {
        "absent" => vec![],
        "active" => in_use(),
        "deactivated" => [in_use(), vec![AccountEvent::Deactivated { reason: reason("left") }]].concat(),
        other => panic!("no history for the column {other}"),
    }
}

fn given(history: Vec<AccountEvent>) -> cqrs_es::test::AggregateTestExecutor<Account> {
    testing::given(context(), history)
}

#[test]
fn every_command_in_every_state_does_what_the_table_says() {
    fn column_of(account: &Account) -> &'static str {
        match account {
            Account::Absent => "absent",
            Account::Active { .. } => "active",
            Account::Deactivated { .. } => "deactivated",
        }
    }
    let columns = ["absent", "active", "deactivated"];
    check_transitions::<Account>(TRANSITIONS, &context(), &columns, command_of, history_of, column_of);
}

#[test]
fn a_profile_changes_in_what_differs_and_keeps_the_rest() {
    let zone = || Details { time_zone: Some(own(ZoneName::parse("Europe/Berlin").expect("a zone"))), ..locale("en") };
    let change = |set, unset: &[Detail]| AccountCommand::ChangeProfile {
        name: Some(name("Grace")),
        set,
        unset: unset.iter().copied().collect(),
    };
    let only_zone = Details { locale: None, ..zone() };
    given(in_use()).when(change(zone(), &[Detail::AvatarUrl])).then_expect_events(vec![
        AccountEvent::Renamed { name: name("Grace") },
        AccountEvent::ProfileChanged { set: only_zone.clone(), unset: [].into() },
    ]);
    let zoned = AccountEvent::ProfileChanged { set: only_zone, unset: [].into() };
    let gone = AccountEvent::ProfileChanged { set: Details::default(), unset: [Detail::Locale].into() };
    let state = fold::<Account>([in_use(), vec![zoned.clone(), gone.clone()]].concat());
    let details = &state.profile().expect("registered").details;
    assert_eq!((details.locale.is_none(), details.time_zone.is_some()), (true, true));
    let unset = AccountCommand::ChangeProfile { name: None, set: Details::default(), unset: [Detail::Locale].into() };
    given([in_use(), vec![zoned]].concat()).when(unset).then_expect_events(vec![gone]);
}

#[test]
fn what_somebody_says_of_another_is_refused() {
    let foreign = Personal::known(SubjectId(Uuid::from_u128(9)), SettingValue::Flag(true));
    let prefer = |value| AccountCommand::SetPreference { key: key("theme"), value: Some(value) };
    given(in_use()).when(prefer(foreign)).then_expect_error(AccountError::ForeignDetail);
    let erased = Personal::Erased { subject: SubjectId(ID) };
    given(in_use()).when(prefer(erased)).then_expect_error(AccountError::DetailErased);
    let foreign = Some(Personal::known(SubjectId(Uuid::from_u128(9)), Locale::parse("en").expect("a locale")));
    let set = Details { locale: foreign, ..Details::default() };
    let change = AccountCommand::ChangeProfile { name: None, set, unset: [].into() };
    given(in_use()).when(change).then_expect_error(AccountError::ForeignDetail);
}

#[test]
fn preferences_have_an_end() {
    let set = |n: usize| AccountEvent::PreferenceSet { key: key(&format!("k{n}")), value: own(SettingValue::Whole(1)) };
    let full: Vec<_> = in_use().into_iter().chain((1..PREFERENCES_MAX).map(set)).collect();
    let prefer =
        |text: &str| AccountCommand::SetPreference { key: key(text), value: Some(own(SettingValue::Whole(7))) };
    given(full.clone()).when(prefer("more")).then_expect_error(AccountError::TooManyPreferences);
    let changed = AccountEvent::PreferenceSet { key: key("k1"), value: own(SettingValue::Whole(7)) };
    given(full).when(prefer("k1")).then_expect_events(vec![changed]);
}

#[test]
fn nothing_that_a_person_says_of_themselves_shows_in_debug_output() {
    let shown = format!("{:?} {:?}", fold::<Account>(in_use()), command_of("account.changeProfile"));
    assert!(!shown.contains("de-AT") && !shown.contains("Whole"), "{shown}");
}

#[test]
fn an_account_is_registered_with_all_it_was_given() {
    given(vec![]).when(command_of("account.register-same")).then_expect_events(vec![registered()]);
}

#[test]
fn an_account_is_not_registered_in_a_tenant_of_the_customers() {
    let customer = testing::context(ID);
    testing::given::<Account>(customer, vec![])
        .when(command_of("account.register"))
        .then_expect_error(AccountError::ForeignStream);
}

#[test]
fn the_personal_data_of_somebody_else_has_no_place_in_an_account() {
    let other = SubjectId(Uuid::from_u128(4));
    let (foreign_name, foreign_email) = (
        Personal::known(other, testing::name("Ada")),
        Personal::known(other, EmailAddress::parse("a@b.example").expect("an address")),
    );
    given(vec![])
        .when(AccountCommand::Register { email: foreign_email.clone(), name: name("Ada") })
        .then_expect_error(AccountError::ForeignEmail);
    given(vec![])
        .when(AccountCommand::Register { email: email("a@b.example"), name: foreign_name.clone() })
        .then_expect_error(AccountError::ForeignName);
    given(vec![registered()])
        .when(AccountCommand::Rename { name: foreign_name })
        .then_expect_error(AccountError::ForeignName);
    given(vec![registered()])
        .when(AccountCommand::ChangeEmail { email: foreign_email })
        .then_expect_error(AccountError::ForeignEmail);
}

#[test]
fn what_was_erased_is_not_written_again_but_can_be_replaced() {
    let subject = SubjectId(ID);
    given(vec![registered()])
        .when(AccountCommand::Rename { name: Personal::Erased { subject } })
        .then_expect_error(AccountError::NameErased);
    given(vec![registered()])
        .when(AccountCommand::ChangeEmail { email: Personal::Erased { subject } })
        .then_expect_error(AccountError::EmailErased);

    let erased = AccountEvent::Registered { email: Personal::Erased { subject }, name: Personal::Erased { subject } };
    given(vec![erased.clone()])
        .when(command_of("account.changeEmail"))
        .then_expect_events(vec![AccountEvent::EmailChanged { email: email("grace@example.com") }]);
    let changed = AccountEvent::EmailChanged { email: email("grace@example.com") };
    assert_eq!(fold::<Account>(vec![erased]).keys(&[changed]), [change("grace@example.com", true)]);
}

#[test]
fn a_reactivated_account_is_as_it_was_before_and_none_of_its_sessions_is() {
    let back = [history_of("deactivated"), vec![AccountEvent::Reactivated {}]].concat();
    let (back, before): (Account, Account) = (fold(back), fold(history_of("active")));
    let (Some(back), Some(before)) = (back.profile(), before.profile()) else { panic!("two accounts") };
    assert_eq!(*back, Profile { generation: before.generation + 1, ..before.clone() });
}

fn change(key: &str, claim: bool) -> KeyChange {
    KeyChange { scope: KeyScope::Platform, kind: "account.email", key: key.to_owned(), claim }
}

#[test]
fn an_address_is_taken_for_the_whole_platform_whatever_its_case() {
    assert_eq!(Account::Absent.keys(&[registered()]), [change("ada@example.com", true)]);
}

#[test]
fn another_address_frees_the_old_one_and_another_spelling_keeps_it() {
    let active: Account = fold(history_of("active"));
    let moved = AccountEvent::EmailChanged { email: email("grace@example.com") };
    assert_eq!(active.keys(&[moved]), [change("ada@example.com", false), change("grace@example.com", true)]);

    let respelled = AccountEvent::EmailChanged { email: email("ADA@example.com") };
    given(vec![registered()])
        .when(AccountCommand::ChangeEmail { email: email("ADA@example.com") })
        .then_expect_events(vec![respelled.clone()]);
    assert_eq!(active.keys(&[respelled]), []);
}

#[test]
fn a_deactivated_account_keeps_its_address() {
    let active: Account = fold(history_of("active"));
    assert_eq!(active.keys(&[AccountEvent::Deactivated { reason: reason("left") }]), []);
    let deactivated: Account = fold(history_of("deactivated"));
    assert_eq!(deactivated.keys(&[AccountEvent::Reactivated {}]), []);
}

#[test]
fn a_new_password_ends_the_sessions_of_before() {
    let before: Account = fold(vec![registered()]);
    let after: Account = fold(vec![registered(), AccountEvent::PasswordSet { credential: CREDENTIAL }]);
    let generation = |account: &Account| account.profile().map(|profile| profile.generation);
    assert_eq!((generation(&before), generation(&after)), (Some(0), Some(1)));
}

#[test]
fn a_platform_role_is_granted_once_and_is_gone_when_revoked() {
    let role = PlatformRole::PlatformAdmin;
    given(vec![registered()])
        .when(AccountCommand::GrantPlatformRole { role })
        .then_expect_events(vec![AccountEvent::PlatformRoleGranted { role }]);
    given(vec![registered()]).when(AccountCommand::RevokePlatformRole { role }).then_expect_events(vec![]);
    let back = [history_of("active"), vec![AccountEvent::PlatformRoleRevoked { role }]].concat();
    assert!(fold::<Account>(back).profile().is_some_and(|profile| profile.platform_roles.is_empty()));
}

#[test]
fn every_event_has_its_type_and_version() {
    assert_eq!(registered().event_type(), "platform.account.registered");
    assert_eq!(registered().event_version(), "1");
}

#[test]
fn nothing_of_a_person_shows_in_debug_output() {
    let shown =
        format!("{:?} {:?} {:?}", registered(), command_of("account.rename-same"), fold::<Account>(vec![registered()]));
    for secret in ["Ada", "example.com"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}
