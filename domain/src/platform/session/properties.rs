//! What holds for any sequence of commands to a session, sensible or not.

use super::tests::{ACCOUNT, context, start};
use super::*;
use crate::platform::testing::{at, check_calls, fold};
use cqrs_es::DomainEvent;
use proptest::collection::vec;
use proptest::prelude::*;
use uuid::Uuid;

fn any_tenant() -> impl Strategy<Value = (TenantId, Option<MembershipId>)> {
    prop_oneof![
        4 => (7u128..9).prop_map(|n| {
            let tenant = TenantId(Uuid::from_u128(n));
            (tenant, Some(membership_id(tenant, ACCOUNT)))
        }),
        1 => Just((PLATFORM_TENANT, None)),
        1 => Just((TenantId(Uuid::from_u128(7)), None)),
    ]
}

fn any_ending() -> impl Strategy<Value = Ending> {
    proptest::sample::select(vec![
        Ending::LoggedOut,
        Ending::Revoked { reason: None },
        Ending::ReuseDetected,
        Ending::Expired,
    ])
}

fn any_command() -> impl Strategy<Value = SessionCommand> {
    use SessionCommand as C;
    prop_oneof![
        2 => any_tenant().prop_map(|(tenant, membership)| start(tenant, membership)),
        4 => (0..5u64).prop_map(|generation| C::Refresh { generation }),
        2 => any_tenant().prop_map(|(tenant, membership)| C::SwitchTenant { tenant, membership }),
        1 => any_ending().prop_map(|how| C::End { how }),
    ]
}

/// An event that no decision need have led to.
fn any_event() -> impl Strategy<Value = SessionEvent> {
    use SessionEvent as E;
    prop_oneof![
        any_tenant().prop_map(|(tenant, membership)| E::Started {
            account: ACCOUNT,
            tenant,
            membership,
            method: Method::Password,
            account_generation: 0,
            expires_at: at(1),
        }),
        (0..5u64).prop_map(|generation| E::Refreshed { generation }),
        any_tenant().prop_map(|(tenant, membership)| E::TenantSwitched { tenant, membership }),
        any_ending().prop_map(|how| E::Ended { how }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn a_decision_is_repeatable_and_survives_its_own_journal(commands in vec((any_command(), 0..48i64), 0..20)) {
        let calls: Vec<_> =
            commands.into_iter().map(|(command, hour)| (Context { now: at(hour), ..context() }, command)).collect();
        check_calls::<Session>(&calls, &["SESSION_ALREADY_STARTED"], |_, _| {});
    }

    #[test]
    fn what_has_ended_never_goes_on(events in vec(any_event(), 0..20), command in any_command()) {
        let session: Session = fold(events);
        let decided = session.decide(&context(), command);
        prop_assert!(decided.iter().flatten().all(|event| event.event_type().starts_with("platform.session.")));
        if matches!(session, Session::Ended { .. }) {
            prop_assert!(decided.iter().flatten().next().is_none());
        }
    }
}
