//! What holds for any sequence of commands to a membership, sensible or not.

use super::tests::{ACCOUNT, context};
use super::*;
use crate::platform::testing::{check_calls, fold, reason};
use cqrs_es::DomainEvent;
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

fn any_built_in() -> impl Strategy<Value = BTreeSet<TenantRole>> {
    btree_set(proptest::sample::select(TenantRole::ALL), 0..3)
}

fn any_custom() -> impl Strategy<Value = BTreeSet<RoleName>> {
    btree_set("[a-c]".prop_map(|key| RoleName::parse(&key).expect("a key")), 0..3)
}

fn any_roles() -> impl Strategy<Value = Roles> {
    (any_built_in(), any_custom()).prop_map(|(built_in, custom)| Roles { built_in, custom })
}

fn any_command() -> impl Strategy<Value = MembershipCommand> {
    use MembershipCommand as C;
    prop_oneof![
        any_roles().prop_map(|roles| C::Add { account: ACCOUNT, roles }),
        any_roles().prop_map(|roles| C::ChangeRoles { roles }),
        "[a-c]".prop_map(|text| C::End { reason: reason(&text) }),
        any_roles().prop_map(|roles| C::Rejoin { roles }),
        (0..3_u128, any::<bool>()).prop_map(|(n, active)| C::SwitchModule {
            module: ModuleId(Uuid::from_u128(n)),
            active,
            reason: reason("x")
        }),
    ]
}

/// An event that no decision need have led to.
fn any_event() -> impl Strategy<Value = MembershipEvent> {
    use MembershipEvent as E;
    prop_oneof![
        (any_built_in(), any_custom()).prop_map(|(roles, custom)| E::Added { account: ACCOUNT, roles, custom }),
        (any_built_in(), any_built_in(), any_custom(), any_custom()).prop_map(
            |(added, removed, custom_added, custom_removed)| E::RolesChanged {
                added,
                removed,
                custom_added,
                custom_removed
            }
        ),
        Just(E::Ended { reason: reason("x") }),
        (any_built_in(), any_custom()).prop_map(|(roles, custom)| E::Rejoined { roles, custom }),
        (0..3_u128).prop_map(|n| E::ModuleSwitchedOff { module: ModuleId(Uuid::from_u128(n)), reason: reason("x") }),
        (0..3_u128).prop_map(|n| E::ModuleSwitchedOn { module: ModuleId(Uuid::from_u128(n)), reason: reason("x") }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn a_decision_is_repeatable_and_a_member_never_lacks_a_role(commands in vec(any_command(), 0..20)) {
        let calls: Vec<_> = commands.into_iter().map(|command| (context(), command)).collect();
        check_calls::<Membership>(&calls, &[], |_, membership| {
            let is_member = matches!(membership, Membership::Active { .. });
            let holds_some = membership.roles().next().is_some() || membership.custom_roles().next().is_some();
            assert_eq!(holds_some, is_member, "{membership:?}");
        });
    }

    #[test]
    fn no_history_makes_a_membership_panic(events in vec(any_event(), 0..20), command in any_command()) {
        let decided = fold::<Membership>(events).decide(&context(), command);
        prop_assert!(decided.iter().flatten().all(|event| event.event_type().starts_with("platform.membership.")));
    }
}
