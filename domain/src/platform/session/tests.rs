//! What a session does, as sentences, and its whole transition table.

use super::*;
use crate::platform::testing::{self, TENANT, at, check_transitions, reason};
use cqrs_es::DomainEvent;
use uuid::Uuid;

pub(super) const ACCOUNT: AccountId = AccountId(Uuid::from_u128(3));
const OTHER: TenantId = TenantId(Uuid::from_u128(8));

/// Every (state, command) pair. A command that repeats what is so already has a row of its own.
const TRANSITIONS: &str = "
command                       absent                      active                      ended
session.start                 started                     SESSION_ALREADY_STARTED     SESSION_ALREADY_STARTED
session.start-foreign         SESSION_FOREIGN_MEMBERSHIP  SESSION_ALREADY_STARTED     SESSION_ALREADY_STARTED
session.refresh               SESSION_NOT_STARTED         refreshed                   SESSION_ENDED
session.refresh-same          SESSION_NOT_STARTED         already-so                  SESSION_ENDED
session.refresh-early         SESSION_NOT_STARTED         SESSION_OTHER_GENERATION    SESSION_ENDED
session.refresh-late          SESSION_NOT_STARTED         SESSION_OTHER_GENERATION    SESSION_ENDED
session.switchTenant          SESSION_NOT_STARTED         tenant_switched             SESSION_ENDED
session.switchTenant-same     SESSION_NOT_STARTED         already-so                  SESSION_ENDED
session.switchTenant-foreign  SESSION_NOT_STARTED         SESSION_FOREIGN_MEMBERSHIP  SESSION_ENDED
session.end                   SESSION_NOT_STARTED         ended                       already-so
";

pub(super) fn context() -> Context {
    Context { tenant: PLATFORM_TENANT, ..testing::context(Uuid::from_u128(5)) }
}

pub(super) fn start(tenant: TenantId, membership: Option<MembershipId>) -> SessionCommand {
    SessionCommand::Start {
        account: ACCOUNT,
        tenant,
        membership,
        method: Method::Password,
        account_generation: 4,
        expires_at: at(24),
    }
}

fn member(tenant: TenantId) -> Option<MembershipId> {
    Some(membership_id(tenant, ACCOUNT))
}

fn started() -> SessionEvent {
    SessionEvent::Started {
        account: ACCOUNT,
        tenant: TENANT,
        membership: member(TENANT),
        method: Method::Password,
        account_generation: 4,
        expires_at: at(24),
    }
}

fn command_of(row: &str) -> SessionCommand {
    use SessionCommand as C;
    match row {
        "session.start" => start(TENANT, member(TENANT)),
        "session.start-foreign" => start(TENANT, member(OTHER)),
        "session.refresh" => C::Refresh { generation: 3 },
        "session.refresh-same" => C::Refresh { generation: 2 },
        "session.refresh-early" => C::Refresh { generation: 4 },
        "session.refresh-late" => C::Refresh { generation: 1 },
        "session.switchTenant" => C::SwitchTenant { tenant: OTHER, membership: member(OTHER) },
        "session.switchTenant-same" => C::SwitchTenant { tenant: TENANT, membership: member(TENANT) },
        "session.switchTenant-foreign" => C::SwitchTenant { tenant: PLATFORM_TENANT, membership: member(TENANT) },
        "session.end" => C::End { how: Ending::Revoked { reason: Some(reason("lost")) } },
        other => panic!("no command for the row {other}"),
    }
}

fn history_of(column: &str) -> Vec<SessionEvent> {
    let active =
        || vec![started(), SessionEvent::Refreshed { generation: 1 }, SessionEvent::Refreshed { generation: 2 }];
    match column {
        "absent" => vec![],
        "active" => active(),
        "ended" => [active(), vec![SessionEvent::Ended { how: Ending::LoggedOut }]].concat(),
        other => panic!("no history for the column {other}"),
    }
}

#[test]
fn every_command_in_every_state_does_what_the_table_says() {
    fn column_of(session: &Session) -> &'static str {
        match session {
            Session::Absent => "absent",
            Session::Active { .. } => "active",
            Session::Ended { .. } => "ended",
        }
    }
    let columns = ["absent", "active", "ended"];
    check_transitions::<Session>(TRANSITIONS, &context(), &columns, command_of, history_of, column_of);
}

#[test]
fn a_session_is_started_with_all_it_was_given() {
    testing::given::<Session>(context(), vec![])
        .when(start(TENANT, member(TENANT)))
        .then_expect_events(vec![started()]);
}

#[test]
fn a_session_in_the_platforms_tenant_has_no_membership() {
    testing::given::<Session>(context(), vec![]).when(start(PLATFORM_TENANT, None)).inspect_result().expect("started");
    testing::given::<Session>(context(), vec![])
        .when(start(TENANT, None))
        .then_expect_error(SessionError::ForeignMembership);
}

#[test]
fn a_session_is_not_started_in_a_tenant_of_the_customers() {
    testing::given::<Session>(testing::context(Uuid::from_u128(5)), vec![])
        .when(start(TENANT, member(TENANT)))
        .then_expect_error(SessionError::ForeignStream);
}

#[test]
fn the_clock_ends_a_session_that_nobody_has_ended() {
    let late = Context { now: at(24), ..context() };
    testing::given::<Session>(late, history_of("active"))
        .when(command_of("session.refresh"))
        .then_expect_error(SessionError::Expired);
    testing::given::<Session>(late, history_of("active"))
        .when(command_of("session.switchTenant"))
        .then_expect_error(SessionError::Expired);
    testing::given::<Session>(late, history_of("active"))
        .when(SessionCommand::End { how: Ending::Expired })
        .then_expect_events(vec![SessionEvent::Ended { how: Ending::Expired }]);
}

#[test]
fn every_event_has_its_type_and_version() {
    assert_eq!(started().event_type(), "platform.session.started");
    assert_eq!(started().event_version(), "1");
}
