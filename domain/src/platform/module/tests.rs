//! What a module does, as sentences, and its whole transition table.

use super::input::tests::full;
use super::*;
use crate::platform::testing::{self, check_transitions, fold, reason, through_json};
use cqrs_es::DomainEvent;
use serde_json::json;
use uuid::Uuid;

/// Every (state, command) pair. A command that repeats what is so already has a row of its own.
const TRANSITIONS: &str = "
command                   absent                 registered                 enabled                    disabled                   retired
module.register           registered             MODULE_ALREADY_REGISTERED  MODULE_ALREADY_REGISTERED  MODULE_ALREADY_REGISTERED  MODULE_ALREADY_REGISTERED
module.upgrade            MODULE_NOT_REGISTERED  upgraded                   upgraded                   upgraded                   MODULE_RETIRED
module.upgrade-same       MODULE_NOT_REGISTERED  already-so                 already-so                 already-so                 MODULE_RETIRED
module.upgrade-lower      MODULE_NOT_REGISTERED  MODULE_VERSION_NOT_HIGHER  MODULE_VERSION_NOT_HIGHER  MODULE_VERSION_NOT_HIGHER  MODULE_RETIRED
module.upgrade-rewritten  MODULE_NOT_REGISTERED  MODULE_VERSION_NOT_HIGHER  MODULE_VERSION_NOT_HIGHER  MODULE_VERSION_NOT_HIGHER  MODULE_RETIRED
module.upgrade-other      MODULE_NOT_REGISTERED  MODULE_OTHER_KEY           MODULE_OTHER_KEY           MODULE_OTHER_KEY           MODULE_RETIRED
module.enable             MODULE_NOT_REGISTERED  enabled                    already-so                 enabled                    MODULE_RETIRED
module.disable            MODULE_NOT_REGISTERED  already-so                 disabled                   already-so                 MODULE_RETIRED
module.activate           MODULE_NOT_REGISTERED  enabled                    already-so                 enabled                    MODULE_RETIRED
module.activate-off       MODULE_NOT_REGISTERED  already-so                 disabled                   already-so                 MODULE_RETIRED
module.retire             MODULE_NOT_REGISTERED  retired                    retired                    retired                    already-so
";

pub(super) fn context() -> Context {
    testing::context(Uuid::from_u128(3))
}

fn manifest(change: impl FnOnce(&mut serde_json::Value)) -> Box<Manifest> {
    let mut json = full();
    change(&mut json);
    Box::new(Manifest::read(&json).expect("a manifest"))
}

fn version(text: &str) -> Box<Manifest> {
    manifest(|json| json["version"] = json!(text))
}

fn command_of(row: &str) -> ModuleCommand {
    use ModuleCommand as C;
    let upgrade = |manifest| C::Upgrade { manifest };
    match row {
        "module.register" => C::Register { manifest: version("1.2.0") },
        "module.upgrade" => upgrade(version("1.3.0")),
        "module.upgrade-same" => upgrade(version("1.2.0")),
        "module.upgrade-lower" => upgrade(version("1.1.9")),
        "module.upgrade-rewritten" => upgrade(manifest(|json| json["name"] = json!("Another name"))),
        "module.upgrade-other" => upgrade(manifest(|json| {
            json["key"] = json!("other");
            json["version"] = json!("2.0.0");
        })),
        "module.enable" => C::Enable,
        "module.disable" => C::Disable { reason: reason("another reason") },
        "module.activate" => C::Activate { active: true, reason: reason("another reason") },
        "module.activate-off" => C::Activate { active: false, reason: reason("another reason") },
        "module.retire" => C::Retire { reason: reason("another reason") },
        other => panic!("no command for the row {other}"),
    }
}

fn registered() -> ModuleEvent {
    ModuleEvent::Registered { manifest: version("1.2.0") }
}

fn retired() -> ModuleEvent {
    ModuleEvent::Retired { reason: reason("replaced") }
}

fn history_of(column: &str) -> Vec<ModuleEvent> {
    let more = match column {
        "absent" => return vec![],
        "registered" => vec![],
        "enabled" => vec![ModuleEvent::Enabled {}],
        "disabled" => vec![ModuleEvent::Enabled {}, ModuleEvent::Disabled { reason: reason("broken") }],
        "retired" => vec![retired()],
        other => panic!("no history for the column {other}"),
    };
    [vec![registered()], more].concat()
}

#[test]
fn every_command_in_every_state_does_what_the_table_says() {
    fn column_of(module: &Module) -> &'static str {
        match module {
            Module::Absent => "absent",
            Module::Registered { .. } => "registered",
            Module::Enabled { .. } => "enabled",
            Module::Disabled { .. } => "disabled",
            Module::Retired { .. } => "retired",
        }
    }
    let columns = ["absent", "registered", "enabled", "disabled", "retired"];
    check_transitions::<Module>(TRANSITIONS, &context(), &columns, command_of, history_of, column_of);
}

#[test]
fn an_upgrade_holds_only_what_differs_and_says_which_roles_are_gone() {
    let next = manifest(|json| {
        json["version"] = json!("2.0.0");
        json["description"] = json!("");
        json["roles"] = json!([
            {"key": "engineer", "name": "Engineer", "permissions": ["project.create"]},
            {"key": "auditor", "name": "Auditor"},
        ]);
        json["settings"] = json!({"currency": "EUR", "horizon_years": 25});
    });
    let events = testing::given::<Module>(context(), vec![registered()])
        .when(ModuleCommand::Upgrade { manifest: next.clone() })
        .inspect_result()
        .expect("an upgrade");
    let payload = json!([{"upgraded": {"change": {
        "version": "2.0.0",
        "description": "",
        "roles": {
            "engineer": {"name": "Engineer", "permissions": ["project.create"]},
            "auditor": {"name": "Auditor", "permissions": []},
        },
        "roles_removed": ["viewer"],
        "settings": {"horizon_years": 25},
        "settings_removed": ["beta"],
    }}}]);
    assert_eq!(serde_json::to_value(&events).expect("serializes"), payload);
    let upgraded: Module = fold([vec![registered()], events].concat());
    assert_eq!(upgraded.manifest(), Some(&*next));
}

#[test]
fn an_upgrade_changes_neither_whether_the_module_is_enabled_nor_why_it_is_not() {
    let change = Box::new(version("1.2.0").change_to(&version("1.3.0")));
    for column in ["registered", "enabled", "disabled"] {
        let upgraded: Module =
            fold([history_of(column), vec![ModuleEvent::Upgraded { change: change.clone() }]].concat());
        let same: Module = fold(
            history_of(column)
                .into_iter()
                .map(|event| match event {
                    ModuleEvent::Registered { .. } => ModuleEvent::Registered { manifest: version("1.3.0") },
                    other => other,
                })
                .collect(),
        );
        assert_eq!(upgraded, same, "{column}");
    }
}

#[test]
fn registering_takes_the_key_within_the_tenant_and_retiring_gives_it_back() {
    let change =
        |claim| KeyChange { scope: KeyScope::Tenant, kind: "module.key", key: "bess-sizing".to_owned(), claim };
    assert_eq!(Module::Absent.keys(&[registered()]), [change(true)]);
    for column in ["registered", "enabled", "disabled"] {
        assert_eq!(fold::<Module>(history_of(column)).keys(&[retired()]), [change(false)], "{column}");
        assert_eq!(fold::<Module>(history_of(column)).keys(&[ModuleEvent::Enabled {}]), [], "{column}");
    }
}

#[test]
fn a_manifest_in_an_event_bears_fields_of_a_later_release() {
    let mut payload = serde_json::to_value(version("1.2.0")).expect("serializes");
    payload["icon"] = json!("battery");
    payload["roles"]["viewer"]["color"] = json!("red");
    assert_eq!(serde_json::from_value::<Manifest>(payload).expect("history is not judged"), *version("1.2.0"));
}

#[test]
fn every_event_has_its_type_and_version() {
    assert_eq!(registered().event_type(), "platform.module.registered");
    assert_eq!(registered().event_version(), "1");
    assert_eq!(through_json(&registered()), registered());
}
