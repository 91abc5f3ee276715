//! What holds for any manifests and any sequence of commands to a module, sensible or not.

use super::tests::context;
use super::*;
use crate::platform::testing::{applied, check_calls, fold, reason, through_json};
use cqrs_es::DomainEvent;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn any_input() -> impl Strategy<Value = ManifestInput> {
    let integration = prop_oneof![
        Just(IntegrationInput { kind: "embedded".to_owned(), url: None }),
        "[ab]"
            .prop_map(|host| IntegrationInput { kind: "api".to_owned(), url: Some(format!("https://{host}.example")) }),
    ];
    let roles = btree_map("[a-c]", ("[A-B]", btree_set("p[0-3]", 0..3)), 1..4).prop_map(|roles| {
        let role = |(key, (name, permissions)): (String, (String, BTreeSet<String>))| RoleInput {
            key,
            name,
            permissions: permissions.into_iter().collect(),
        };
        roles.into_iter().map(role).collect::<Vec<_>>()
    });
    let routes = btree_map("/[a-c]", "[A-B]", 0..3).prop_map(|routes| {
        let route = |(path, name)| RouteInput { path, name, permission: None };
        routes.into_iter().map(route).collect::<Vec<_>>()
    });
    let settings = btree_map("[a-c]", any::<i64>().prop_map(serde_json::Value::from), 0..3);
    ("[ab]", "[A-C]", "[12]\\.[0-3]\\.0", "[xy]?", integration, roles, routes, settings).prop_map(
        |(key, name, version, description, integration, roles, routes, settings)| ManifestInput {
            key,
            name,
            version,
            description,
            integration,
            roles,
            routes,
            settings,
        },
    )
}

fn any_manifest() -> impl Strategy<Value = Box<Manifest>> {
    any_input().prop_filter_map("no manifest", |input| input.check().ok().map(Box::new))
}

fn any_command() -> impl Strategy<Value = ModuleCommand> {
    use ModuleCommand as C;
    prop_oneof![
        3 => any_manifest().prop_map(|manifest| C::Register { manifest }),
        4 => any_manifest().prop_map(|manifest| C::Upgrade { manifest }),
        2 => Just(C::Enable),
        2 => "[a-c]".prop_map(|text| C::Disable { reason: reason(&text) }),
        2 => any::<bool>().prop_map(|active| C::Activate { active, reason: reason("x") }),
        1 => "[a-c]".prop_map(|text| C::Retire { reason: reason(&text) }),
    ]
}

/// An event that no decision need have led to.
fn any_event() -> impl Strategy<Value = ModuleEvent> {
    use ModuleEvent as E;
    prop_oneof![
        any_manifest().prop_map(|manifest| E::Registered { manifest }),
        (any_manifest(), any_manifest())
            .prop_map(|(held, next)| E::Upgraded { change: Box::new(held.change_to(&next)) }),
        Just(E::Enabled {}),
        Just(E::Disabled { reason: reason("x") }),
        Just(E::Retired { reason: reason("x") }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn a_manifest_after_its_change_is_the_next_one(held in any_manifest(), next in any_manifest()) {
        let next = Box::new(Manifest { key: held.key.clone(), ..*next });
        let change = through_json(&held.change_to(&next));
        let gone: BTreeSet<_> = held.roles.keys().filter(|key| !next.roles.contains_key(*key)).cloned().collect();
        prop_assert_eq!(&change.roles_removed, &gone);
        prop_assert_eq!(held.clone().changed(change), *next);
        let unchanged = held.change_to(&held);
        prop_assert_eq!(serde_json::to_value(unchanged).expect("serializes"), serde_json::json!({"version": held.version.as_str()}));
    }

    #[test]
    fn a_decision_is_repeatable_and_survives_its_own_journal(commands in vec(any_command(), 0..15)) {
        let calls: Vec<_> = commands.into_iter().map(|command| (context(), command)).collect();
        check_calls::<Module>(&calls, &["MODULE_ALREADY_REGISTERED"], |_, _| {});
    }

    #[test]
    fn versions_only_rise_and_the_key_stays_and_is_held_until_the_end(commands in vec(any_command(), 0..15)) {
        let (mut module, mut held) = (Module::default(), BTreeSet::new());
        for command in commands {
            let events = module.decide(&context(), command).unwrap_or_default();
            for change in module.keys(&events) {
                let changed = if change.claim { held.insert(change.key) } else { held.remove(&change.key) };
                prop_assert!(changed, "a key is taken once and released once");
            }
            let after = applied(&module, &events);
            if let (Some(before), Some(next)) = (module.manifest(), after.manifest()) {
                prop_assert_eq!(&before.key, &next.key);
                prop_assert!(before == next || next.version.is_above(&before.version));
            }
            let key = after.manifest().map(|manifest| manifest.key.as_str());
            prop_assert_eq!(held.iter().map(String::as_str).collect::<Vec<_>>(), key.into_iter().collect::<Vec<_>>());
            module = after;
        }
    }

    #[test]
    fn no_history_makes_a_module_panic(events in vec(any_event(), 0..15), command in any_command()) {
        let decided = fold::<Module>(events).decide(&context(), command);
        prop_assert!(decided.iter().flatten().all(|event| event.event_type().starts_with("platform.module.")));
    }

    #[test]
    fn no_manifest_makes_the_check_panic(
        texts in vec("\\PC{0,30}", 4),
        url in option::of("(https://)?\\PC{0,20}"),
        path in "(/[a-z.]{0,5}){0,3}\\PC{0,5}",
    ) {
        let mut texts = texts.into_iter();
        let mut text = || texts.next().unwrap_or_default();
        let input = ManifestInput {
            key: text(),
            name: text(),
            version: text(),
            description: text(),
            integration: IntegrationInput { kind: "api".to_owned(), url },
            roles: vec![RoleInput { key: "a".to_owned(), name: "A".to_owned(), permissions: vec![] }],
            routes: vec![RouteInput { path, name: "A".to_owned(), permission: None }],
            settings: Default::default(),
        };
        if let Err(refusal) = input.check() {
            prop_assert_eq!(refusal.path.first(), Some(&"manifest"));
        }
    }
}
