//! What a text may say, and what is said of the rest: where, which field, and what to do.

use super::super::values::Permission;
use super::*;
use crate::platform::module::{IntegrationKind, RoleKey};
use proptest::prelude::*;
use serde_json::json;

/// The form of the enterprise platform, with every field that it has, and the ones that it has not.
const FULL: &str = r#"# What the module says of itself.
id: bess-sizing
name: BESS Sizing
version: 1.2.0
description: >
  Sizes battery
  storage.
author: Ampyr Energy Tech
icon: battery
category: planning

integration:
  type: embedded          # embedded | iframe | api | external
  entry_point: /modules/bess-sizing
  api_prefix: /api/v1/bess-sizing
  ui_framework: streamlit

roles:
  - name: admin
    display_name: Administrator
    permissions: ["*"]
  - name: engineer
    display_name: Engineer
    permissions: [project.create, "project.edit:own"]
    inherits: [viewer]
  - name: viewer
    permissions: [project.read]

dependencies:
  - storage
  - audit

resources:
  max_items_per_user: 100
  max_file_size_mb: 50

routes:
  - {path: /projects, name: Projects, permission: project.read}

settings:
  currency: EUR
  horizon_years: 20
  beta: false
"#;

fn told(text: &str) -> Vec<String> {
    read(text).expect_err("a fault").iter().map(|fault| format!("{} {fault}", fault.code)).collect()
}

/// The one fault of the full manifest with one line replaced.
fn fault(line: &str, by: &str) -> String {
    assert!(FULL.contains(line), "{line} is in the manifest");
    let told = told(&FULL.replacen(line, by, 1));
    assert_eq!(told.len(), 1, "{told:?}");
    told[0].clone()
}

#[test]
fn a_manifest_is_read_with_every_field() {
    let manifest = read(FULL).expect("a manifest");
    let stored = json!({
        "key": "bess-sizing",
        "name": "BESS Sizing",
        "version": "1.2.0",
        "description": "Sizes battery storage.",
        "about": {"author": "Ampyr Energy Tech", "icon": "battery", "category": "planning"},
        "integration": {
            "kind": "embedded", "entry_point": "/modules/bess-sizing", "api_prefix": "/api/v1/bess-sizing",
            "ui_framework": "streamlit",
        },
        "roles": {
            "admin": {"name": "Administrator", "permissions": ["*"]},
            "engineer": {"name": "Engineer", "permissions": ["project.create", "project.edit:own", "project.read"]},
            "viewer": {"name": "viewer", "permissions": ["project.read"]},
        },
        "routes": [{"path": "/projects", "name": "Projects", "permission": "project.read"}],
        "settings": {"currency": "EUR", "horizon_years": 20, "beta": false},
        "dependencies": ["audit", "storage"],
        "resources": {"max_items_per_user": 100, "max_file_size_mb": 50},
    });
    assert_eq!(serde_json::to_value(&manifest).expect("serializes"), stored);
    assert_eq!(serde_json::from_value::<Manifest>(stored).expect("decodes"), manifest);
    let may = |role: &str, permission: &str| {
        let role = &manifest.roles[&RoleKey::parse(role).expect("a role")];
        role.may(&Permission::parse(permission).expect("a permission"))
    };
    assert!(may("admin", "anything.at.all") && may("engineer", "project.read") && !may("viewer", "project.create"));
}

#[test]
fn a_manifest_says_the_same_as_json() {
    let as_json = json!({
        "id": "bess-sizing", "name": "BESS Sizing", "version": "1.2.0",
        "description": "Sizes battery storage.\n",
        "author": "Ampyr Energy Tech", "icon": "battery", "category": "planning",
        "integration": {
            "type": "embedded", "entry_point": "/modules/bess-sizing", "api_prefix": "/api/v1/bess-sizing",
            "ui_framework": "streamlit",
        },
        "roles": [
            {"name": "admin", "display_name": "Administrator", "permissions": ["*"]},
            {"name": "engineer", "display_name": "Engineer",
             "permissions": ["project.create", "project.edit:own"], "inherits": ["viewer"]},
            {"name": "viewer", "permissions": ["project.read"]},
        ],
        "dependencies": ["storage", "audit"],
        "resources": {"max_items_per_user": 100, "max_file_size_mb": 50},
        "routes": [{"path": "/projects", "name": "Projects", "permission": "project.read"}],
        "settings": {"currency": "EUR", "horizon_years": 20, "beta": false},
    });
    let manifest = read(FULL);
    for text in [as_json.to_string(), format!("{as_json:#}"), format!("{as_json:#}").replace("  ", "\t")] {
        assert_eq!(read(&text), manifest, "{text}");
    }
    let broken = format!("{as_json:#}").replace("\"1.2.0\"", "1.2");
    assert_eq!(
        told(&broken),
        [
            "MALFORMED line 60, column 14: version: this is a text, and here is a number; put it into quotes to make it one"
        ]
    );
}

#[test]
fn the_least_manifest_is_short() {
    let least = "id: notes\nname: Notes\nversion: 0.1.0\nintegration: {type: embedded}\nroles: [{name: user}]\n";
    assert!(read(least).is_ok());
    let elsewhere = least.replace("{type: embedded}", "{type: external, entry_point: 'https://notes.example/'}");
    let manifest = read(&elsewhere).expect("a manifest");
    assert_eq!(manifest.integration.kind, IntegrationKind::External);
    assert_eq!(manifest.integration.url.as_ref().map(|url| url.as_str()), Some("https://notes.example/"));
    assert!(manifest.integration.entry_point.is_none());
}

#[test]
fn a_fault_is_told_with_line_column_field_and_remedy() {
    for (line, by, told) in [
        ("id: bess-sizing", "id: Bess", "MALFORMED line 2, column 5: id: a module's key is"),
        ("id: bess-sizing\n", "", "EMPTY line 2, column 1: id: id is missing; add it"),
        (
            "version: 1.2.0",
            "version: 1.2",
            "MALFORMED line 4, column 10: version: this is a text, and here is a number; put",
        ),
        ("version: 1.2.0", "version: '1.2'", "MALFORMED line 4, column 10: version: a version is three numbers"),
        (
            "author: Ampyr",
            "autor: Ampyr",
            "UNKNOWN_FIELD line 8, column 1: a manifest has no field autor: there are id, ",
        ),
        ("icon: battery", "icon: [a]", "MALFORMED line 9, column 7: icon: this is a text, and here is a list"),
        ("type: embedded", "type: popup", "UNKNOWN_VALUE line 13, column 9: integration.type: a module is embedded, "),
        (
            "type: embedded ",
            "type: iframe ",
            "MALFORMED line 14, column 16: integration.entry_point: a module's url looks",
        ),
        (
            "/modules/bess",
            "//evil.example/",
            "MALFORMED line 14, column 16: integration.entry_point: a route's path is",
        ),
        (
            "    permissions: [\"*\"]",
            "    permissions: All",
            "MALFORMED line 21, column 18: roles[0].permissions: this is a list",
        ),
        ("project.create,", "Create,", "MALFORMED line 24, column 19: roles[1].permissions[0]: a permission is"),
        ("[viewer]", "[looker]", "UNKNOWN_VALUE line 22, column 5: roles[1].inherits: the manifest has no role looker"),
        ("- name: viewer", "- name: engineer", "DUPLICATE line 26, column 5: roles[2]: a role of this name is there"),
        ("  - storage", "  - storrage", "UNKNOWN_VALUE line 30, column 5: dependencies[0]: a module depends on"),
        ("  - audit", "  - storage", "DUPLICATE line 31, column 5: dependencies[1]: it is there already"),
        ("user: 100", "user: -1", "MALFORMED line 34, column 23: resources.max_items_per_user: a limit is a whole"),
        ("user: 100", "user: 1.5", "MALFORMED line 34, column 23: resources.max_items_per_user: a limit is a whole"),
        ("user: 100", "user: 99999999999999999999", "MALFORMED line 34, column 23: resources.max_items_per_user: a "),
        ("path: /projects", "path: projects", "MALFORMED line 38, column 12: routes[0].path: a route's path is"),
        (
            "horizon_years: 20",
            "horizon_years: [20]",
            "MALFORMED line 42, column 18: settings.horizon_years: a setting's",
        ),
        ("currency: EUR", "Currency: EUR", "MALFORMED line 41, column 3: settings: a setting's key is"),
        ("name: BESS Sizing", "name: BESS Sizing\nname: Again", "DUPLICATE line 4, column 1: name is there already"),
        ("icon: battery", "icon: !icon battery", "SYNTAX line 9, column 7: a manifest has no tags"),
        ("icon: battery", "icon: *battery", "SYNTAX line 9, column 7: this is no YAML: "),
        ("icon: battery", "icon: battery\n---\n", "SYNTAX line 10, column 1: a manifest is one document"),
        ("icon: battery", "icon: \"battery", "SYNTAX line "),
    ] {
        let fault = fault(line, by);
        assert!(fault.starts_with(told), "{by}: {fault}");
    }
}

#[test]
fn all_faults_are_told_at_once_in_the_order_of_the_text() {
    let text =
        FULL.replace("version: 1.2.0", "version: 1").replace("id: bess", "id: BESS").replace("user: 100", "user: x");
    let lines: Vec<usize> = read(&text).expect_err("faults").iter().map(|fault| fault.at.line).collect();
    assert_eq!(lines, [2, 4, 34]);
    let many: String = (0..100).map(|n| format!("x{n}: 1\n")).collect();
    assert_eq!(read(&many).expect_err("faults").len(), FAULTS_MAX);
}

#[test]
fn a_role_that_inherits_in_a_circle_is_refused() {
    let text = "id: a\nname: A\nversion: 1.0.0\nintegration: {type: embedded}\nroles:\n\
                - {name: a, inherits: [b]}\n- {name: b, inherits: [c]}\n- {name: c, inherits: [a], permissions: [x]}\n";
    let told = told(text);
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[0].contains("roles[0].inherits: the role inherits from itself"), "{told:?}");
    let open = read(&text.replace("inherits: [a], ", "")).expect("no circle");
    assert!(open.roles.values().all(|role| role.permissions.len() == 1), "everybody has what is at the end");
}

#[test]
fn what_is_no_manifest_is_said_to_be_none() {
    for (text, starts) in [
        ("", "EMPTY line 1, column 1: there is no manifest here"),
        ("# nothing\n", "EMPTY line 1, column 1: there is no manifest here"),
        ("hello", "MALFORMED line 1, column 1: a manifest has fields"),
        ("[1, 2]", "MALFORMED line 1, column 1: a manifest has fields"),
        ("{", "SYNTAX line "),
        ("a: b: c", "SYNTAX line 1"),
        ("? [a]\n: b", "SYNTAX line 1"),
        ("\u{0}", "SYNTAX line 1"),
    ] {
        let told = told(text);
        assert!(told[0].starts_with(starts), "{text:?}: {told:?}");
    }
}

#[test]
fn no_text_becomes_a_bomb() {
    // A billion laughs: nine levels of nine.
    let mut laughs = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (above, name) in ('a'..'j').zip('b'..='j') {
        let nine = vec![format!("*{above}"); 9].join(", ");
        laughs.push_str(&format!("{name}: &{name} [{nine}]\n"));
    }
    assert!(told(&laughs)[0].starts_with("TOO_LONG line 4"), "{:?}", told(&laughs));
    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(100_000), vec!["*a"; 100].join(", "));
    assert!(told(&long)[0].starts_with("TOO_LONG line 2"), "{:?}", told(&long));
    let deep = format!("a: {}{}", "[".repeat(tree::DEPTH_MAX), "]".repeat(tree::DEPTH_MAX));
    assert!(told(&deep)[0].starts_with("TOO_MANY line 1"), "{:?}", told(&deep));
    let deeper = format!("a: {}", "[".repeat(60_000));
    assert!(told(&deeper)[0].starts_with("SYNTAX line 1"), "{:?}", told(&deeper));
    // Deep by aliases only.
    let mut stairs = "a0: &a0 [[[x]]]\n".to_owned();
    (1..10).for_each(|n| stairs.push_str(&format!("a{n}: &a{n} [[[*a{}]]]\n", n - 1)));
    assert!(told(&stairs)[0].starts_with("TOO_MANY line 6"), "{:?}", told(&stairs));
    let itself = "a: &a [*a]";
    assert!(told(itself)[0].starts_with("SYNTAX line 1"), "{:?}", told(itself));
    let long = "x".repeat(BYTES_MAX + 1);
    assert!(told(&long)[0].starts_with("TOO_LONG line 1"), "{:?}", told(&long));
    // What is within all of that may still be too long to keep.
    let settings: String = (0..40).map(|n| format!("  k{n}: {}\n", "x".repeat(2_000))).collect();
    let kept = FULL.replace("settings:\n", &format!("settings:\n{settings}"));
    assert!(told(&kept)[0].starts_with("TOO_LONG"), "{:?}", told(&kept));
}

#[test]
fn an_alias_is_what_it_stands_for() {
    let text = FULL
        .replace("permissions: [project.read]", "permissions: &read [project.read]")
        .replace("dependencies:", "  - name: guest\n    permissions: *read\ndependencies:");
    let manifest = read(&text).expect("a manifest");
    let guest = RoleKey::parse("guest").expect("a role");
    assert_eq!(manifest.roles[&guest].permissions.len(), 1);
}

#[test]
fn a_message_is_short_and_on_one_line_whatever_is_in_the_text() {
    let name = "x".repeat(50_000);
    for text in [format!("{name}: 1"), "\"a\\nb\\e[31m\": 1".to_owned(), format!("id: [{name}]"), format!("*{name}")] {
        for told in told(&text) {
            assert!(told.len() < 1_000, "{} bytes", told.len());
            assert!(!told.chars().any(char::is_control), "{told}");
        }
    }
}

#[test]
fn the_schema_knows_the_fields_that_reading_knows() {
    let schema = schema();
    let names = |place: &str| -> Vec<String> {
        let object = schema.pointer(place).and_then(|of| of.as_object()).expect(place);
        object.keys().cloned().collect()
    };
    let sorted = |known: &[&str]| {
        let mut known: Vec<String> = known.iter().map(|name| (*name).to_owned()).collect();
        known.sort();
        known
    };
    for (place, known) in [
        ("/properties", super::read::MANIFEST),
        ("/properties/integration/properties", super::read::INTEGRATION),
        ("/properties/roles/items/properties", super::read::ROLE),
        ("/properties/routes/items/properties", super::read::ROUTE),
    ] {
        let mut found = names(place);
        found.sort();
        assert_eq!(found, sorted(known), "{place}");
        for name in known {
            assert_ne!(schema.pointer(&format!("{place}/{name}")), Some(&json!(false)), "{name} is described");
        }
    }
    // What must be there is what reading misses in an empty manifest.
    let missed: Vec<String> = read("{}").expect_err("faults").iter().map(Fault::field).collect();
    assert_eq!(schema["required"], json!(missed));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn no_text_makes_reading_panic(
        text in "([a-z*&!?:,#'\"\\[\\]{}|>%@~\\- \\t\\n0-9.]{0,8}|id|name|roles|version|\\PC){0,40}",
        cut in 0..FULL.len(),
        noise in "\\PC{0,4}",
    ) {
        for text in [text, format!("{}{noise}{}", &FULL[..cut], &FULL[cut..]), FULL[..cut].to_owned()] {
            if let Err(faults) = read(&text) {
                prop_assert!(!faults.is_empty() && faults.len() <= FAULTS_MAX);
                prop_assert!(faults.iter().all(|fault| fault.at.line >= 1 && fault.at.column >= 1 && !fault.message.is_empty()));
            }
        }
    }
}
