//! What holds for any sequence of commands to a grant, at any times.

use super::tests::{context, grant, granted};
use super::*;
use crate::platform::testing::{applied, at, check_calls, fold, reason};
use cqrs_es::DomainEvent;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn any_instant() -> impl Strategy<Value = DateTime<Utc>> {
    (-2_i64..12).prop_map(at)
}

fn any_command() -> impl Strategy<Value = AccessGrantCommand> {
    use AccessGrantCommand as C;
    prop_oneof![
        3 => (option::of(any_instant()), option::of(any_instant())).prop_map(|(from, until)| grant(from, until)),
        2 => option::of(any_instant()).prop_map(|until| C::ChangeExpiry { until, reason: reason("x") }),
        1 => "[a-c]".prop_map(|text| C::Revoke { reason: reason(&text) }),
    ]
}

/// Calls on one stream, each some hours after the one before.
fn any_calls() -> impl Strategy<Value = Vec<(Context, AccessGrantCommand)>> {
    vec((0_i64..3, any_command()), 0..20).prop_map(|calls| {
        let mut hour = 0;
        let timed = |(pause, command)| {
            hour += pause;
            (Context { now: at(hour), ..context() }, command)
        };
        calls.into_iter().map(timed).collect()
    })
}

/// An event that no decision need have led to.
fn any_event() -> impl Strategy<Value = AccessGrantEvent> {
    use AccessGrantEvent as E;
    prop_oneof![
        (option::of(any_instant()), option::of(any_instant())).prop_map(|(from, until)| granted(from, until)),
        option::of(any_instant()).prop_map(|until| E::ExpiryChanged { until, reason: reason("x") }),
        Just(E::Revoked { reason: reason("x") }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn a_decision_is_repeatable_and_survives_its_own_journal(calls in any_calls()) {
        check_calls::<AccessGrant>(&calls, &[], |_, _| {});
    }

    /// Told again from the calls that succeeded, without looking at any state.
    #[test]
    fn a_grant_allows_exactly_within_the_last_term_that_was_set(calls in any_calls()) {
        let (mut state, mut term) = (AccessGrant::default(), None::<(Option<DateTime<Utc>>, Option<DateTime<Utc>>)>);
        for (context, command) in calls {
            let Ok(events) = state.decide(&context, command.clone()) else { continue };
            state = applied(&state, &events);
            term = match (command, term) {
                (AccessGrantCommand::Grant { term, .. }, _) => Some((term.from, term.until)),
                (AccessGrantCommand::ChangeExpiry { until, .. }, Some((from, _))) => Some((from, until)),
                (AccessGrantCommand::ChangeExpiry { .. }, None) => None,
                (AccessGrantCommand::Revoke { .. }, _) => None,
            };
            for hour in (-3..15).map(at).filter(|hour| *hour >= context.now) {
                let within = term.is_some_and(|(from, until)| {
                    from.is_none_or(|from| hour >= from) && until.is_none_or(|until| hour < until)
                });
                prop_assert_eq!(state.allows_at(hour), within, "at {}", hour);
            }
        }
    }

    #[test]
    fn what_was_over_when_it_was_asked_for_never_allows(calls in any_calls()) {
        let mut state = AccessGrant::default();
        for (context, command) in calls {
            let allowed_before = state.allows_at(context.now);
            let until = match &command {
                AccessGrantCommand::Grant { term, .. } => term.until,
                AccessGrantCommand::ChangeExpiry { until, .. } => *until,
                AccessGrantCommand::Revoke { .. } => None,
            };
            let events = state.decide(&context, command).unwrap_or_default();
            state = applied(&state, &events);
            if until.is_some_and(|until| until <= context.now) {
                prop_assert_eq!(events, vec![]);
                prop_assert_eq!(state.allows_at(context.now), allowed_before);
            }
        }
    }

    #[test]
    fn no_history_makes_a_grant_panic(events in vec(any_event(), 0..20), command in any_command()) {
        let decided = fold::<AccessGrant>(events).decide(&context(), command);
        prop_assert!(decided.iter().flatten().all(|event| event.event_type().starts_with("platform.grant.")));
    }
}
