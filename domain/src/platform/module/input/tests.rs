//! What may be written in a manifest, and what a refusal says about the rest.

use super::*;
use serde_json::{Value, json};

/// A manifest with something in every field.
pub(in super::super) fn full() -> Value {
    json!({
        "key": "bess-sizing",
        "name": "BESS sizing",
        "version": "1.2.0",
        "description": "Sizes battery storage.",
        "integration": {"kind": "external", "url": "https://bess.example.com/start"},
        "roles": [
            {"key": "engineer", "name": "Engineer", "permissions": ["project.create", "project.edit:own"]},
            {"key": "viewer", "name": "Viewer"},
        ],
        "routes": [
            {"path": "/", "name": "Overview"},
            {"path": "/projects", "name": "Projects", "permission": "project.create"},
        ],
        "settings": {"currency": "EUR", "horizon_years": 20, "beta": false},
    })
}

/// The full manifest with another value at a place such as `/roles/0/key`; null takes the field away.
fn with(place: &str, value: Value) -> Value {
    let mut manifest = full();
    let (parent, field) = place.rsplit_once('/').expect("a place begins with /");
    match manifest.pointer_mut(parent).expect("there is such a place") {
        Value::Object(object) if value.is_null() => {
            object.remove(field);
        }
        Value::Object(object) => {
            object.insert(field.to_owned(), value);
        }
        Value::Array(items) => items[field.parse::<usize>().expect("an index")] = value,
        other => panic!("{other} has no fields"),
    }
    manifest
}

fn refusal(manifest: &Value) -> InvalidValue {
    match Manifest::read(manifest) {
        Err(refusal) => refusal,
        Ok(_) => panic!("{manifest} was accepted"),
    }
}

const AS_TOML: &str = r#"
key = "bess-sizing"
name = "BESS sizing"
version = "1.2.0"
description = "Sizes battery storage."
integration = { kind = "external", url = "https://bess.example.com/start" }

[[roles]]
key = "engineer"
name = "Engineer"
permissions = ["project.create", "project.edit:own"]

[[roles]]
key = "viewer"
name = "Viewer"

[[routes]]
path = "/"
name = "Overview"

[[routes]]
path = "/projects"
name = "Projects"
permission = "project.create"

[settings]
currency = "EUR"
horizon_years = 20
beta = false
"#;

fn read_toml(text: &str) -> Result<Manifest, InvalidValue> {
    Manifest::read(toml::Deserializer::parse(text).expect("TOML"))
}

#[test]
fn a_manifest_says_the_same_in_toml_and_in_json() {
    let manifest = Manifest::read(full()).expect("a manifest");
    assert_eq!(read_toml(AS_TOML), Ok(manifest.clone()));
    assert_eq!(manifest.roles.len(), 2);
    assert_eq!(manifest.routes[1].permission.as_ref().map(Permission::as_str), Some("project.create"));
}

#[test]
fn a_manifest_needs_only_key_name_version_integration_and_a_role() {
    let least = json!({
        "key": "notes",
        "name": "Notes",
        "version": "0.1.0",
        "integration": {"kind": "embedded"},
        "roles": [{"key": "user", "name": "User"}],
    });
    let manifest = Manifest::read(&least).expect("a manifest");
    let stored = json!({
        "key": "notes",
        "name": "Notes",
        "version": "0.1.0",
        "integration": {"kind": "embedded"},
        "roles": {"user": {"name": "User", "permissions": []}},
    });
    assert_eq!(serde_json::to_value(&manifest).expect("serializes"), stored);
    assert_eq!(serde_json::from_value::<Manifest>(stored).expect("decodes"), manifest);
}

#[test]
fn a_value_that_is_none_is_refused_with_its_place_in_the_manifest() {
    for (place, value, code, path, names) in [
        ("/key", json!("Bess"), "MALFORMED", "key", "key: "),
        ("/name", json!(" "), "EMPTY", "name", "name: "),
        ("/version", json!("1.2"), "MALFORMED", "version", "version: "),
        ("/description", json!("a\u{0}"), "FORBIDDEN_CHARACTER", "description", "description: "),
        ("/integration/kind", json!("popup"), "UNKNOWN_VALUE", "integration", "integration.kind: "),
        ("/integration/kind", json!("embedded"), "MALFORMED", "integration", "integration.url: "),
        ("/integration/url", json!("http://a.example"), "MALFORMED", "integration", "integration.url: "),
        ("/integration/url", Value::Null, "EMPTY", "integration", "integration.url: "),
        ("/roles", json!([]), "EMPTY", "roles", "roles: "),
        ("/roles/1/key", json!("View"), "MALFORMED", "roles", "roles[1].key: "),
        ("/roles/1/key", json!("engineer"), "DUPLICATE", "roles", "roles[1].key: "),
        ("/roles/0/name", json!("a\nb"), "FORBIDDEN_CHARACTER", "roles", "roles[0].name: "),
        ("/roles/0/permissions/1", json!("All"), "MALFORMED", "roles", "roles[0].permissions[1]: "),
        ("/roles/0/permissions/1", json!("project.create"), "DUPLICATE", "roles", "roles[0].permissions[1]: "),
        ("/routes/1/path", json!("//evil.example"), "MALFORMED", "routes", "routes[1].path: "),
        ("/routes/1/path", json!("/"), "DUPLICATE", "routes", "routes[1].path: "),
        ("/routes/0/name", json!(""), "EMPTY", "routes", "routes[0].name: "),
        ("/routes/1/permission", json!("P"), "MALFORMED", "routes", "routes[1].permission: "),
        ("/routes/1/permission", json!("project.delete"), "UNKNOWN_VALUE", "routes", "routes[1].permission: "),
        ("/settings/$subject", json!("x"), "MALFORMED", "settings", "settings: "),
        ("/settings/rate", json!(1.5), "MALFORMED", "settings", "settings.rate: "),
        ("/settings/nested", json!({"a": 1}), "MALFORMED", "settings", "settings.nested: "),
    ] {
        let refused = refusal(&with(place, value));
        assert_eq!((refused.code, refused.path), (code, ["manifest", path].as_slice()), "{place}: {refused}");
        assert!(refused.message.starts_with(names), "{place}: {refused}");
    }
}

#[test]
fn a_field_that_is_misspelt_missing_or_of_another_type_is_named() {
    for (place, value, names) in [
        ("/rolls", json!([]), "rolls"),
        ("/integration/entry", json!("x"), "integration.entry"),
        ("/roles/1/rights", json!([]), "roles[1].rights"),
        ("/routes/0/icon", json!("x"), "routes[0].icon"),
        ("/key", Value::Null, "missing field `key`"),
        ("/roles", Value::Null, "missing field `roles`"),
        ("/roles/1/key", Value::Null, "roles[1]: missing field `key`"),
        ("/version", json!(1.2), "version: "),
        ("/roles/0/permissions", json!("all"), "roles[0].permissions: "),
        ("/settings", json!([]), "settings: "),
    ] {
        let refused = refusal(&with(place, value));
        assert_eq!((refused.code, refused.path), ("MALFORMED", ["manifest"].as_slice()), "{place}");
        assert!(refused.message.contains(names), "{place}: {refused}");
    }
    for text in [json!("x"), json!([]), json!(null), json!(1)] {
        assert_eq!(refusal(&text).code, "MALFORMED");
    }
}

#[test]
fn a_fault_in_toml_is_told_on_one_line() {
    for (text, names) in [
        (AS_TOML.replace("permissions =", "rights ="), "roles[0].rights"),
        (AS_TOML.replace("beta = false", "beta = 1979-05-27"), "settings.beta"),
        (AS_TOML.replace("\"1.2.0\"", "1.2"), "version"),
    ] {
        let refused = read_toml(&text).expect_err("a fault");
        assert!(refused.message.contains(names) && refused.message.lines().count() == 1, "{refused}");
    }
}

#[test]
fn the_message_about_a_huge_or_strange_field_is_short_and_on_one_line() {
    for manifest in
        [json!({"x".repeat(100_000): 1}), json!({"a\nb\u{1b}[31m": 1}), json!({"key": ["x".repeat(100_000)]})]
    {
        let refused = refusal(&manifest);
        assert!(refused.message.len() < 1_500, "{} bytes", refused.message.len());
        assert!(!refused.message.chars().any(char::is_control), "{refused}");
    }
}

#[test]
fn every_list_has_an_end() {
    let role = |n: usize| json!({"key": format!("r{n}"), "name": "Role"});
    let route = |n: usize| json!({"path": format!("/{n}"), "name": "Route"});
    let list = |count: usize, item: &dyn Fn(usize) -> Value| Value::Array((0..count).map(item).collect());
    let settings = |count: usize| Value::Object((0..count).map(|n| (format!("k{n}"), json!(n))).collect());
    let permission = |n: usize| json!(format!("p{n}"));

    for (place, max, path, of) in [
        ("/roles", Manifest::ROLES_MAX, "roles", &(|n| list(n, &role)) as &dyn Fn(usize) -> Value),
        ("/roles/1/permissions", Manifest::PERMISSIONS_MAX, "roles", &|n| list(n, &permission)),
        ("/routes", Manifest::ROUTES_MAX, "routes", &|n| list(n, &route)),
        ("/settings", Manifest::SETTINGS_MAX, "settings", &settings),
    ] {
        // No route may need what the many roles don't have.
        let mut manifest = with("/routes/1/permission", Value::Null);
        for (count, outcome) in [(max, Ok(())), (max + 1, Err(("TOO_MANY", ["manifest", path].as_slice())))] {
            let (parent, field) = place.rsplit_once('/').expect("a place begins with /");
            manifest.pointer_mut(parent).expect("a place")[field] = of(count);
            let read = Manifest::read(&manifest).map(|_| ()).map_err(|refused| (refused.code, refused.path));
            assert_eq!(read, outcome, "{count} at {place}");
        }
    }
}

#[test]
fn a_manifest_within_all_other_limits_can_still_be_too_long() {
    let settings: serde_json::Map<_, _> = (0..40).map(|n| (format!("k{n}"), json!("x".repeat(2_000)))).collect();
    let refused = refusal(&with("/settings", Value::Object(settings)));
    assert_eq!((refused.code, refused.path), ("TOO_LONG", ["manifest"].as_slice()));
}
