//! What a role does, as its whole transition table.

use super::*;
use crate::platform::testing::{self, TENANT, check_calls, check_transitions, fold, name, reason};
use crate::rules::{ActionPattern, Effect};

const TRANSITIONS: &str = "
command           absent                defined               removed
role.define       defined               ROLE_ALREADY_DEFINED  defined
role.define-same  defined               already-so            defined
role.change       ROLE_NOT_DEFINED      changed               ROLE_NOT_DEFINED
role.change-same  ROLE_NOT_DEFINED      already-so            ROLE_NOT_DEFINED
role.change-other ROLE_NOT_DEFINED      ROLE_KEY_DIFFERS      ROLE_NOT_DEFINED
role.remove       ROLE_NOT_DEFINED      removed               already-so
";

fn key(text: &str) -> RoleName {
    RoleName::parse(text).expect("a key")
}

fn context() -> Context {
    testing::context(role_id(TENANT, &key("sales")))
}

fn definition(title: &str) -> Definition {
    let action = ActionPattern::parse("device.read").expect("an action");
    Definition {
        key: key("sales"),
        name: name(title),
        description: Description::default(),
        rules: vec![Rule { effect: Effect::Allow, action, condition: None, own: false }],
        fields: vec![],
        preset: None,
    }
}

fn command_of(row: &str) -> RoleCommand {
    match row {
        "role.define" => RoleCommand::Define(definition("Other")),
        "role.define-same" => RoleCommand::Define(definition("Sales")),
        "role.change" => RoleCommand::Change(definition("Other")),
        "role.change-same" => RoleCommand::Change(definition("Sales")),
        "role.change-other" => RoleCommand::Change(Definition { key: key("doctor"), ..definition("Sales") }),
        "role.remove" => RoleCommand::Remove { reason: reason("nobody needs it") },
        other => panic!("no command for the row {other}"),
    }
}

fn history_of(column: &str) -> Vec<RoleEvent> {
    let Definition { key, name, description, rules, fields, preset } = definition("Sales");
    let defined = RoleEvent::Defined { key, name, description, rules, fields, preset };
    match column {
        "absent" => vec![],
        "defined" => vec![defined],
        "removed" => vec![defined, RoleEvent::Removed { reason: reason("over") }],
        other => panic!("no history for the column {other}"),
    }
}

#[test]
fn every_command_in_every_state_does_what_the_table_says() {
    fn column_of(role: &DefinedRole) -> &'static str {
        match role {
            DefinedRole::Absent => "absent",
            DefinedRole::Defined(_) => "defined",
            DefinedRole::Removed { .. } => "removed",
        }
    }
    let columns = ["absent", "defined", "removed"];
    check_transitions::<DefinedRole>(TRANSITIONS, &context(), &columns, command_of, history_of, column_of);
}

#[test]
fn a_decision_is_repeatable_and_reads_back_as_it_was_written() {
    let rows = ["role.define", "role.change", "role.remove", "role.remove", "role.define-same", "role.change-other"];
    let calls: Vec<_> = rows.iter().map(|row| (context(), command_of(row))).collect();
    check_calls::<DefinedRole>(&calls, &[], |_, _| {});
}

#[test]
fn a_role_under_another_id_is_refused() {
    testing::given::<DefinedRole>(testing::context(uuid::Uuid::from_u128(9)), vec![])
        .when(command_of("role.define"))
        .then_expect_error(RoleError::ForeignStream);
}

#[test]
fn a_removed_role_says_nothing() {
    assert!(fold::<DefinedRole>(history_of("removed")).rules().is_none());
    assert_eq!(fold::<DefinedRole>(history_of("defined")).rules().expect("rules").key, "sales");
}
