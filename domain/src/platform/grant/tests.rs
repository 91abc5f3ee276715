//! What a grant does, as sentences, and its whole transition table.

use super::*;
use crate::platform::testing::{self, TENANT, at, check_transitions, fold, reason};
use cqrs_es::DomainEvent;

pub(super) const MEMBERSHIP: MembershipId = MembershipId(Uuid::from_u128(3));
pub(super) const MODULE: ModuleId = ModuleId(Uuid::from_u128(4));

/// Every (state, command) pair, decided at hour 0. A grant that has not begun or has ended is a state of its own here,
/// for the clock's sake. What is granted ends at hour 9, the same term as that of `live` in the rows `-same`.
const TRANSITIONS: &str = "
command                   absent                  pending                      live                    expired                 revoked
grant.grant               granted                 GRANT_ALREADY_GRANTED        GRANT_ALREADY_GRANTED   granted                 granted
grant.grant-same          granted                 GRANT_ALREADY_GRANTED        already-so              granted                 granted
grant.grant-past          GRANT_ENDS_IN_THE_PAST  GRANT_ENDS_IN_THE_PAST       GRANT_ENDS_IN_THE_PAST  GRANT_ENDS_IN_THE_PAST  GRANT_ENDS_IN_THE_PAST
grant.changeExpiry        GRANT_NOT_GRANTED       expiry_changed               expiry_changed          GRANT_EXPIRED           GRANT_REVOKED
grant.changeExpiry-same   GRANT_NOT_GRANTED       already-so                   already-so              GRANT_EXPIRED           GRANT_REVOKED
grant.changeExpiry-never  GRANT_NOT_GRANTED       expiry_changed               expiry_changed          GRANT_EXPIRED           GRANT_REVOKED
grant.changeExpiry-past   GRANT_NOT_GRANTED       GRANT_ENDS_IN_THE_PAST       GRANT_ENDS_IN_THE_PAST  GRANT_EXPIRED           GRANT_REVOKED
grant.changeExpiry-early  GRANT_NOT_GRANTED       GRANT_ENDS_BEFORE_IT_BEGINS  expiry_changed          GRANT_EXPIRED           GRANT_REVOKED
grant.revoke              GRANT_NOT_GRANTED       revoked                      revoked                 already-so              already-so
";

pub(super) fn role(text: &str) -> RoleKey {
    RoleKey::parse(text).expect("a role's key")
}

pub(super) fn context() -> Context {
    testing::context(grant_id(TENANT, MEMBERSHIP, MODULE, &role("engineer")))
}

pub(super) fn grant(from: Option<DateTime<Utc>>, until: Option<DateTime<Utc>>) -> AccessGrantCommand {
    AccessGrantCommand::Grant {
        membership: MEMBERSHIP,
        module: MODULE,
        role: role("engineer"),
        term: GrantTerm { from, until },
        reason: reason("needs it"),
    }
}

pub(super) fn granted(from: Option<DateTime<Utc>>, until: Option<DateTime<Utc>>) -> AccessGrantEvent {
    AccessGrantEvent::Granted {
        membership: MEMBERSHIP,
        module: MODULE,
        role: role("engineer"),
        from,
        until,
        reason: reason("needs it"),
    }
}

fn command_of(row: &str) -> AccessGrantCommand {
    let change = |until| AccessGrantCommand::ChangeExpiry { until, reason: reason("another reason") };
    match row {
        "grant.grant" => grant(Some(at(5)), None),
        "grant.grant-same" => grant(None, Some(at(9))),
        "grant.grant-past" => grant(None, Some(at(-1))),
        "grant.changeExpiry" => change(Some(at(8))),
        "grant.changeExpiry-same" => change(Some(at(9))),
        "grant.changeExpiry-never" => change(None),
        "grant.changeExpiry-past" => change(Some(at(0))),
        "grant.changeExpiry-early" => change(Some(at(1))),
        "grant.revoke" => AccessGrantCommand::Revoke { reason: reason("another reason") },
        other => panic!("no command for the row {other}"),
    }
}

fn history_of(column: &str) -> Vec<AccessGrantEvent> {
    match column {
        "absent" => vec![],
        "pending" => vec![granted(Some(at(4)), Some(at(9)))],
        "live" => vec![granted(None, Some(at(9)))],
        "expired" => vec![granted(None, Some(at(0)))],
        "revoked" => vec![granted(None, None), AccessGrantEvent::Revoked { reason: reason("left") }],
        other => panic!("no history for the column {other}"),
    }
}

#[test]
fn every_command_in_every_state_does_what_the_table_says() {
    fn column_of(grant: &AccessGrant) -> &'static str {
        match grant {
            AccessGrant::Absent => "absent",
            AccessGrant::Granted { term, .. } if term.is_over_at(at(0)) => "expired",
            AccessGrant::Granted { term, .. } if term.allows_at(at(0)) => "live",
            AccessGrant::Granted { .. } => "pending",
            AccessGrant::Revoked { .. } => "revoked",
        }
    }
    let columns = ["absent", "pending", "live", "expired", "revoked"];
    check_transitions::<AccessGrant>(TRANSITIONS, &context(), &columns, command_of, history_of, column_of);
}

#[test]
fn only_a_live_grant_allows() {
    for column in ["absent", "pending", "live", "expired", "revoked"] {
        let allows = fold::<AccessGrant>(history_of(column)).allows_at(at(0));
        assert_eq!(allows, column == "live", "{column}");
    }
}

#[test]
fn a_grant_denies_from_its_end_on_without_any_event() {
    let grant: AccessGrant = fold(vec![granted(Some(at(1)), Some(at(2)))]);
    let allowed: Vec<_> = (0..4).filter(|hour| grant.allows_at(at(*hour))).collect();
    assert_eq!(allowed, [1]);
}

#[test]
fn the_id_of_a_grant_never_changes_and_differs_by_each_of_its_parts() {
    let (engineer, viewer) = (role("engineer"), role("viewer"));
    let id = grant_id(TENANT, MEMBERSHIP, MODULE, &engineer);
    assert_eq!(id.to_string(), "11854772-e3a9-528a-a6dd-237a39c02ccc", "streams of before are found by this id");
    assert_ne!(grant_id(TenantId(Uuid::from_u128(8)), MEMBERSHIP, MODULE, &engineer), id);
    assert_ne!(grant_id(TENANT, MembershipId(Uuid::from_u128(8)), MODULE, &engineer), id);
    assert_ne!(grant_id(TENANT, MEMBERSHIP, ModuleId(Uuid::from_u128(8)), &engineer), id);
    assert_ne!(grant_id(TENANT, MEMBERSHIP, MODULE, &viewer), id);
}

#[test]
fn a_grant_under_another_id_is_refused_in_every_state() {
    let elsewhere = testing::context(Uuid::from_u128(9));
    for column in ["absent", "pending", "live", "expired", "revoked"] {
        testing::given::<AccessGrant>(elsewhere, history_of(column))
            .when(command_of("grant.grant"))
            .then_expect_error(AccessGrantError::ForeignStream);
    }
}

#[test]
fn a_role_granted_anew_after_its_expiry_is_an_event_in_the_same_stream() {
    testing::given::<AccessGrant>(context(), history_of("expired"))
        .when(grant(None, Some(at(9))))
        .then_expect_events(vec![granted(None, Some(at(9)))]);
    let anew: AccessGrant = fold([history_of("expired"), vec![granted(None, Some(at(9)))]].concat());
    assert!(anew.allows_at(at(0)));
}

#[test]
fn a_role_granted_anew_after_a_revocation_has_only_its_new_term() {
    let anew: AccessGrant = fold([history_of("revoked"), vec![granted(Some(at(1)), Some(at(2)))]].concat());
    assert!(!anew.allows_at(at(0)) && anew.allows_at(at(1)) && !anew.allows_at(at(2)));
}

#[test]
fn an_end_that_differs_by_less_than_a_microsecond_is_the_same() {
    let precise = at(9) + chrono::TimeDelta::nanoseconds(999);
    let same = AccessGrantCommand::ChangeExpiry { until: Some(precise), reason: reason("x") };
    testing::given::<AccessGrant>(context(), history_of("live")).when(same).then_expect_events(vec![]);
}

#[test]
fn a_grant_without_an_end_leaves_the_end_out() {
    let payload = serde_json::to_value(AccessGrantEvent::ExpiryChanged { until: None, reason: reason("for good") });
    assert_eq!(payload.expect("serializes"), serde_json::json!({"expiry_changed": {"reason": "for good"}}));
}

#[test]
fn every_event_has_its_type_and_version() {
    assert_eq!(granted(None, None).event_type(), "platform.grant.granted");
    assert_eq!(granted(None, None).event_version(), "1");
}
