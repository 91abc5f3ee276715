//! Manifests as texts, and the versions that modules are brought to.

use crate::harness::{World, admin, code, id, manifest, refusals};
use serde_json::{Value, json};

const TEXT: &str = "id: bess-sizing
name: BESS Sizing
version: 1.0.0
author: Ampyr Energy Tech
icon: battery
category: planning
integration:
  type: embedded
  entry_point: /modules/bess-sizing
  api_prefix: /api/v1/bess-sizing
  ui_framework: streamlit
roles:
  - {name: admin, display_name: Administrator, permissions: ['*']}
  - {name: engineer, permissions: [project.create], inherits: [viewer]}
  - {name: viewer, permissions: [project.read]}
dependencies: [storage, audit]
resources: {max_items_per_user: 100}
";

const FIELDS: &str = "module { id key release author icon category dependencies resources { key limit }
    integration { kind url entryPoint apiPrefix uiFramework } roles { key name permissions } }";

#[tokio::test]
async fn a_module_is_registered_and_upgraded_from_a_text() {
    let w = World::new().await;
    let boss = admin(w.tenant("Acme").await);
    let registered = w.mutate(&boss, "registerModule", json!({ "text": TEXT }), FIELDS).await;
    assert_eq!(registered["userErrors"], json!([]));
    let module = &registered["module"];
    let expected = json!({
        "id": module["id"], "key": "bess-sizing", "release": "1.0.0", "author": "Ampyr Energy Tech", "icon": "battery",
        "category": "planning", "dependencies": ["audit", "storage"],
        "resources": [{ "key": "max_items_per_user", "limit": "100" }],
        "integration": {
            "kind": "EMBEDDED", "url": null, "entryPoint": "/modules/bess-sizing", "apiPrefix": "/api/v1/bess-sizing",
            "uiFramework": "streamlit",
        },
        "roles": [
            { "key": "admin", "name": "Administrator", "permissions": ["*"] },
            { "key": "engineer", "name": "engineer", "permissions": ["project.create", "project.read"] },
            { "key": "viewer", "name": "viewer", "permissions": ["project.read"] },
        ],
    });
    assert_eq!(*module, expected);

    let upgrade = |text: String| json!({ "id": module["id"], "text": text });
    let same = w.mutate(&boss, "upgradeModule", upgrade(TEXT.to_owned()), FIELDS).await;
    assert_eq!((&same["userErrors"], &same["module"]["release"]), (&json!([]), &json!("1.0.0")), "already so");
    for text in [TEXT.replace("BESS Sizing", "Other"), TEXT.replace("1.0.0", "0.9.0")] {
        let refused = w.mutate(&boss, "upgradeModule", upgrade(text), "").await;
        assert_eq!(refusals(&refused)[0].0, "MODULE_VERSION_NOT_HIGHER");
    }
    let next = TEXT.replace("1.0.0", "1.1.0").replace("battery", "cell");
    let next = next.lines().filter(|line| !line.contains("name: engineer")).collect::<Vec<_>>().join("\n");
    let upgraded = w.mutate(&boss, "upgradeModule", upgrade(next), FIELDS).await;
    assert_eq!((&upgraded["module"]["release"], &upgraded["module"]["icon"]), (&json!("1.1.0"), &json!("cell")));

    let query = "query($i: UUID!, $n: Int! = 50) { module(id: $i) { versions(first: $n) {
        release version changed rolesRemoved releasedAt position } } }";
    let versions = w.data(&boss, query, json!({ "i": module["id"] })).await["module"]["versions"].take();
    let told: Vec<Value> = versions
        .as_array()
        .unwrap()
        .iter()
        .map(|of| json!([of["release"], of["version"], of["changed"], of["rolesRemoved"]]))
        .collect();
    let latest = json!(["1.1.0", "2", ["about", "roles"], ["engineer"]]);
    assert_eq!(told, [latest.clone(), json!(["1.0.0", "1", [], []])]);
    assert_eq!(versions[0]["position"], upgraded["position"]);
    let one = w.data(&boss, query, json!({ "i": module["id"], "n": 1 })).await["module"]["versions"].take();
    assert_eq!(one.as_array().unwrap().len(), 1);
    assert_eq!(code(&w.ask(&boss, query, json!({ "i": module["id"], "n": 201 })).await), "BAD_USER_INPUT");

    // Of all modules of a page at once, each its own.
    let other = w.module(&boss, "other").await;
    let page = w.data(&boss, "{ modules { nodes { id versions { release } } } }", json!({})).await["modules"].take();
    let nodes = page["nodes"].as_array().unwrap();
    let of = |wanted: &Value| nodes.iter().find(|node| node["id"] == *wanted).unwrap()["versions"].clone();
    assert_eq!(of(&module["id"]), json!([{ "release": "1.1.0" }, { "release": "1.0.0" }]));
    assert_eq!(of(&json!(other)), json!([{ "release": "1.0.0" }]));
}

#[tokio::test]
async fn a_fault_in_a_text_is_a_user_error_with_its_line() {
    let w = World::new().await;
    let tenant = w.tenant("Acme").await;
    let boss = admin(tenant);
    let register = "mutation($i: RegisterModuleInput!) { registerModule(input: $i) {
        module { id } userErrors { path code message line column } } }";
    let faults = async |input: Value| {
        let mut answer = w.data(&boss, register, json!({ "i": input })).await;
        assert_eq!(answer["registerModule"]["module"], Value::Null);
        answer["registerModule"]["userErrors"].take()
    };
    let text = TEXT.replace("id: bess", "id: Bess").replace("viewer]", "looker]").replace("1.0.0", "1.0");
    let told = faults(json!({ "text": text })).await;
    let places: Vec<Value> = told
        .as_array()
        .unwrap()
        .iter()
        .map(|fault| json!([fault["path"], fault["code"], fault["line"], fault["column"]]))
        .collect();
    assert_eq!(
        places,
        [
            json!([["input", "text", "id"], "MALFORMED", 1, 5]),
            json!([["input", "text", "version"], "MALFORMED", 3, 10]),
            json!([["input", "text", "roles", "1", "inherits"], "UNKNOWN_VALUE", 14, 5]),
        ]
    );
    let message = told[1]["message"].as_str().unwrap();
    assert!(message.starts_with("line 3, column 10: version: this is a text"), "{message}");
    assert_eq!(faults(json!({ "text": "a: b: c" })).await[0]["code"], "SYNTAX");
    assert_eq!(faults(json!({})).await[0]["path"], json!(["input", "manifest"]));
    let twice = json!({ "text": TEXT, "manifest": manifest("a", "1.0.0", &["user"]) });
    assert_eq!(faults(twice).await[0]["path"], json!(["input", "text"]));
    // Other refusals have no line.
    let bad = faults(json!({ "manifest": manifest("a", "1", &["user"]) })).await;
    assert_eq!((&bad[0]["line"], &bad[0]["path"]), (&Value::Null, &json!(["input", "manifest", "version"])));

    // Who may not register is not told what is wrong with a text.
    let (account, plain) = (w.account(1).await, daybook_domain::Role::Member);
    let plain = crate::harness::credential(plain, daybook_domain::TenantId(tenant), account);
    assert_eq!(code(&w.ask(&plain, register, json!({ "i": { "text": "a: b: c" } })).await), "FORBIDDEN");
    let module = id(&w.mutate(&boss, "registerModule", json!({ "text": TEXT }), FIELDS).await["module"]["id"]);
    let upgrade = "mutation($i: UpgradeModuleInput!) { upgradeModule(input: $i) { userErrors { code } } }";
    let answer = w.ask(&plain, upgrade, json!({ "i": { "id": module, "text": "a: b: c" } })).await;
    assert_eq!(code(&answer), "FORBIDDEN");
}
