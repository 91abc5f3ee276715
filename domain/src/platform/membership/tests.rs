//! What a membership does, as sentences, and its whole transition table.

use super::TenantRole::{Member, TenantAdmin, Viewer};
use super::*;
use crate::platform::testing::{self, TENANT, check_transitions, fold, reason};
use cqrs_es::DomainEvent;

pub(super) const ACCOUNT: AccountId = AccountId(Uuid::from_u128(3));

/// Every (state, command) pair. A command that repeats what is so already has a row of its own.
const TRANSITIONS: &str = "
command                       absent                active                     ended
membership.add                added                 MEMBERSHIP_ALREADY_MEMBER  MEMBERSHIP_ENDED
membership.add-same           added                 already-so                 MEMBERSHIP_ENDED
membership.add-none           MEMBERSHIP_NO_ROLE    MEMBERSHIP_ALREADY_MEMBER  MEMBERSHIP_ENDED
membership.changeRoles        MEMBERSHIP_NOT_ADDED  roles_changed              MEMBERSHIP_ENDED
membership.changeRoles-same   MEMBERSHIP_NOT_ADDED  already-so                 MEMBERSHIP_ENDED
membership.changeRoles-none   MEMBERSHIP_NOT_ADDED  MEMBERSHIP_NO_ROLE         MEMBERSHIP_ENDED
membership.end                MEMBERSHIP_NOT_ADDED  ended                      already-so
membership.rejoin             MEMBERSHIP_NOT_ADDED  MEMBERSHIP_ALREADY_MEMBER  rejoined
membership.rejoin-same        MEMBERSHIP_NOT_ADDED  already-so                 rejoined
membership.rejoin-none        MEMBERSHIP_NOT_ADDED  MEMBERSHIP_ALREADY_MEMBER  MEMBERSHIP_NO_ROLE
";

pub(super) fn context() -> Context {
    testing::context(membership_id(TENANT, ACCOUNT).0)
}

fn command_of(row: &str) -> MembershipCommand {
    use MembershipCommand as C;
    let roles = match row.split_once('-').map(|(_, variant)| variant) {
        Some("same") => Roles::from([Member, Viewer]),
        Some("none") => Roles::default(),
        _ => Roles::from([TenantAdmin, Viewer]),
    };
    match row.split('-').next() {
        Some("membership.add") => C::Add { account: ACCOUNT, roles },
        Some("membership.changeRoles") => C::ChangeRoles { roles },
        Some("membership.end") => C::End { reason: reason("another reason") },
        Some("membership.rejoin") => C::Rejoin { roles },
        other => panic!("no command for the row {other:?}"),
    }
}

fn added() -> MembershipEvent {
    MembershipEvent::Added { account: ACCOUNT, roles: [Member, Viewer].into(), custom: [].into() }
}

fn history_of(column: &str) -> Vec<MembershipEvent> {
    match column {
        "absent" => vec![],
        "active" => vec![added()],
        "ended" => vec![added(), MembershipEvent::Ended { reason: reason("left") }],
        other => panic!("no history for the column {other}"),
    }
}

#[test]
fn every_command_in_every_state_does_what_the_table_says() {
    fn column_of(membership: &Membership) -> &'static str {
        match membership {
            Membership::Absent => "absent",
            Membership::Active { .. } => "active",
            Membership::Ended { .. } => "ended",
        }
    }
    let columns = ["absent", "active", "ended"];
    check_transitions::<Membership>(TRANSITIONS, &context(), &columns, command_of, history_of, column_of);
}

#[test]
fn the_id_of_a_membership_never_changes_and_differs_by_tenant_and_account() {
    let id = membership_id(TENANT, ACCOUNT);
    assert_eq!(id.to_string(), "f361c732-87f7-5a07-bab2-e7248fa97ceb", "streams of before are found by this id");
    assert_ne!(membership_id(TenantId(Uuid::from_u128(8)), ACCOUNT), id);
    assert_ne!(membership_id(TENANT, AccountId(Uuid::from_u128(8))), id);
}

#[test]
fn a_membership_under_another_id_is_refused() {
    let elsewhere = testing::context(Uuid::from_u128(9));
    testing::given::<Membership>(elsewhere, vec![])
        .when(command_of("membership.add"))
        .then_expect_error(MembershipError::ForeignStream);
}

#[test]
fn nobody_becomes_a_member_of_the_platforms_own_tenant() {
    let id = membership_id(PLATFORM_TENANT, ACCOUNT).0;
    let platform = Context { tenant: PLATFORM_TENANT, ..testing::context(id) };
    testing::given::<Membership>(platform, vec![])
        .when(command_of("membership.add"))
        .then_expect_error(MembershipError::PlatformTenant);
}

#[test]
fn an_event_holds_only_the_roles_that_change() {
    let changed = MembershipEvent::RolesChanged {
        added: [TenantAdmin].into(),
        removed: [Member].into(),
        custom_added: [].into(),
        custom_removed: [].into(),
    };
    testing::given::<Membership>(context(), vec![added()])
        .when(command_of("membership.changeRoles"))
        .then_expect_events(vec![changed.clone()]);
    let held: Vec<_> = fold::<Membership>(vec![added(), changed]).roles().collect();
    assert_eq!(held, [TenantAdmin, Viewer]);
}

fn module(n: u128) -> ModuleId {
    ModuleId(Uuid::from_u128(n))
}

fn switch(n: u128, active: bool) -> MembershipCommand {
    MembershipCommand::SwitchModule { module: module(n), active, reason: reason("exam") }
}

fn off(n: u128) -> MembershipEvent {
    MembershipEvent::ModuleSwitchedOff { module: module(n), reason: reason("exam") }
}

#[test]
fn a_module_is_switched_off_and_on_for_a_member() {
    let on = || MembershipEvent::ModuleSwitchedOn { module: module(1), reason: reason("exam") };
    let given = |history: Vec<MembershipEvent>| testing::given::<Membership>(context(), history);
    given(vec![added()]).when(switch(1, false)).then_expect_events(vec![off(1)]);
    given(vec![added(), off(1)]).when(switch(1, true)).then_expect_events(vec![on()]);
    // Already so.
    given(vec![added(), off(1)]).when(switch(1, false)).then_expect_events(vec![]);
    given(vec![added(), off(1), on()]).when(switch(1, true)).then_expect_events(vec![]);
    given(vec![added(), off(2)]).when(switch(1, true)).then_expect_events(vec![]);
    given(vec![]).when(switch(1, false)).then_expect_error(MembershipError::NotAdded);
    given(history_of("ended")).when(switch(1, false)).then_expect_error(MembershipError::Ended);
    assert_eq!(switch(1, false).action(), Action::ModuleActivate);
    assert_eq!(off(1).event_type(), "platform.membership.module_switched_off");
    assert_eq!(on().event_type(), "platform.membership.module_switched_on");
}

#[test]
fn what_is_off_stays_off_for_who_leaves_and_comes_back() {
    let back = MembershipEvent::Rejoined { roles: [Viewer].into(), custom: [].into() };
    let ended = MembershipEvent::Ended { reason: reason("left") };
    let state = fold::<Membership>(vec![added(), off(1), ended, back]);
    assert!(state.modules_off().contains(&module(1)) && state.modules_off().len() == 1);
}

#[test]
fn modules_off_have_an_end() {
    let many = (0..MODULES_OFF_MAX as u128).map(off);
    let history: Vec<_> = std::iter::once(added()).chain(many).collect();
    let given = |command| testing::given::<Membership>(context(), history.clone()).when(command);
    given(switch(9_999, false)).then_expect_error(MembershipError::TooManyModulesOff);
    given(switch(0, false)).then_expect_events(vec![]);
}

#[test]
fn who_left_holds_no_role_and_comes_back_only_with_new_ones() {
    assert_eq!(fold::<Membership>(history_of("ended")).roles().count(), 0);
    let back = MembershipEvent::Rejoined { roles: [Viewer].into(), custom: [].into() };
    let held: Vec<_> = fold::<Membership>([history_of("ended"), vec![back]].concat()).roles().collect();
    assert_eq!(held, [Viewer]);
}

fn role(key: &str) -> RoleName {
    RoleName::parse(key).expect("a key")
}

#[test]
fn roles_of_the_tenants_making_come_and_go_beside_the_built_in_ones() {
    let sales = || Roles { built_in: [].into(), custom: [role("sales")].into() };
    let changed = MembershipEvent::RolesChanged {
        added: [].into(),
        removed: [Member, Viewer].into(),
        custom_added: [role("sales")].into(),
        custom_removed: [].into(),
    };
    testing::given::<Membership>(context(), vec![added()])
        .when(MembershipCommand::ChangeRoles { roles: sales() })
        .then_expect_events(vec![changed.clone()]);
    let held = fold::<Membership>(vec![added(), changed.clone()]);
    assert!(held.roles().next().is_none() && held.custom_roles().eq([&role("sales")]));
    testing::given::<Membership>(context(), vec![added(), changed])
        .when(MembershipCommand::ChangeRoles { roles: sales() })
        .then_expect_events(vec![]);
}

#[test]
fn nobody_holds_more_roles_than_can_be_overlooked() {
    let custom = (0..=crate::rules::HELD_MAX).map(|n| role(&format!("r{n}"))).collect();
    testing::given::<Membership>(context(), vec![added()])
        .when(MembershipCommand::ChangeRoles { roles: Roles { built_in: [].into(), custom } })
        .then_expect_error(MembershipError::TooManyRoles);
}

#[test]
fn what_was_written_before_tenants_had_roles_is_read_as_ever() {
    let old = serde_json::json!({"added": {"account": ACCOUNT, "roles": ["member", "viewer"]}});
    assert_eq!(serde_json::from_value::<MembershipEvent>(old.clone()).expect("decodes"), added());
    assert_eq!(serde_json::to_value(added()).expect("serializes"), old);
}

#[test]
fn every_event_has_its_type_and_version() {
    assert_eq!(added().event_type(), "platform.membership.added");
    assert_eq!(added().event_version(), "1");
}
