//! What a consent does, as its whole transition table, and until when it allows.

use super::*;
use crate::platform::testing::{self, TENANT, at, check_calls, check_transitions, fold, reason};
use crate::value::Name;

const PROVIDER: TenantId = TenantId(Uuid::from_u128(70));

const TRANSITIONS: &str = "
command             absent                  granted                 revoked
consent.grant       granted                 granted                 granted
consent.grant-same  granted                 already-so              granted
consent.grant-past  CONSENT_UNTIL_PAST      CONSENT_UNTIL_PAST      CONSENT_UNTIL_PAST
consent.grant-far   CONSENT_UNTIL_TOO_FAR   CONSENT_UNTIL_TOO_FAR   CONSENT_UNTIL_TOO_FAR
consent.grant-own   CONSENT_TO_ONESELF      CONSENT_TO_ONESELF      CONSENT_TO_ONESELF
consent.revoke      CONSENT_NOT_GRANTED     revoked                 already-so
";

fn context() -> Context {
    testing::context(consent_id(TENANT, PROVIDER))
}

fn scope() -> ConsentScope {
    let site = Name::parse("12 Mill Lane").expect("a name");
    ConsentScope::new([ConsentAction::ReadDevices].into(), Some(site), [].into()).expect("a scope")
}

fn command_of(row: &str) -> ConsentCommand {
    let (provider, until) = match row.split_once('-').map(|(_, variant)| variant) {
        Some("past") => (PROVIDER, at(0)),
        Some("far") => (PROVIDER, at(24 * (DAYS_MAX + 1))),
        Some("own") => (TENANT, at(24)),
        Some("same") => (PROVIDER, at(24)),
        _ => (PROVIDER, at(48)),
    };
    match row.split('-').next() {
        Some("consent.grant") => ConsentCommand::Grant { provider, scope: scope(), until, reason: reason("advice") },
        Some("consent.revoke") => ConsentCommand::Revoke { reason: reason("enough") },
        other => panic!("no command for the row {other:?}"),
    }
}

fn history_of(column: &str) -> Vec<ConsentEvent> {
    let granted = ConsentEvent::Granted { provider: PROVIDER, scope: scope(), until: at(24), reason: reason("advice") };
    match column {
        "absent" => vec![],
        "granted" => vec![granted],
        "revoked" => vec![granted, ConsentEvent::Revoked { reason: reason("enough") }],
        other => panic!("no history for the column {other}"),
    }
}

#[test]
fn every_command_in_every_state_does_what_the_table_says() {
    fn column_of(consent: &Consent) -> &'static str {
        match consent {
            Consent::Absent => "absent",
            Consent::Granted(_) => "granted",
            Consent::Revoked(_) => "revoked",
        }
    }
    let columns = ["absent", "granted", "revoked"];
    check_transitions::<Consent>(TRANSITIONS, &context(), &columns, command_of, history_of, column_of);
}

#[test]
fn a_decision_is_repeatable_and_reads_back_as_it_was_written() {
    let rows = ["consent.revoke", "consent.grant", "consent.grant-same", "consent.revoke", "consent.grant-own"];
    let calls: Vec<_> = rows.iter().map(|row| (context(), command_of(row))).collect();
    check_calls::<Consent>(&calls, &[], |_, _| {});
}

#[test]
fn a_consent_allows_up_to_its_end_and_not_at_it() {
    let consent = fold::<Consent>(history_of("granted"));
    assert!(consent.at(at(24) - TimeDelta::microseconds(1)).is_some());
    assert!(consent.at(at(24)).is_none());
    assert!(fold::<Consent>(history_of("revoked")).at(at(1)).is_none());
}

#[test]
fn a_scope_is_to_reading_only_and_of_the_devices_that_it_names() {
    for action in Action::ALL.iter().filter(|action| action.kind() == crate::ActionKind::Command) {
        assert!(ConsentAction::ALL.iter().all(|consented| !consented.actions().contains(action)), "{action}");
    }
    assert!(scope().covers(Action::DeviceList) && !scope().covers(Action::ReadingsRead));
    let everything = ConsentScope::new([ConsentAction::ReadReadings].into(), None, [].into()).expect("a scope");
    assert_eq!(everything.condition(), crate::condition::Condition::TRUE);
    assert_ne!(scope().condition(), crate::condition::Condition::TRUE);
    let many = (0..=DEVICES_MAX as u128).map(Uuid::from_u128).collect();
    assert!(ConsentScope::new([ConsentAction::ReadDevices].into(), None, many).is_err());
    assert!(ConsentScope::new([].into(), None, [].into()).is_err());
}
