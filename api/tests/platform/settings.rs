//! A tenant's settings with their history, and its domain.

use crate::harness::{World, admin, code, credential, platform, refusals};
use daybook_domain::{Role, TenantId};
use serde_json::{Value, json};
use uuid::Uuid;

#[tokio::test]
async fn settings_are_told_with_their_history() {
    let w = World::new().await;
    let tenant = w.tenant("Acme").await;
    let boss = admin(tenant);
    let change = async |set: Value, unset: Value| {
        let input = json!({ "id": tenant, "set": set, "unset": unset });
        w.mutate(&boss, "changeTenantSettings", input, "tenant { settings }").await
    };
    change(json!({ "invoice.due_days": 30, "logo": "a" }), json!(null)).await;
    // Something else in between.
    w.mutate(&boss, "renameTenant", json!({ "id": tenant, "name": "Acme Ltd" }), "").await;
    let last = change(json!({ "invoice.due_days": 14, "beta": true }), json!(["logo"])).await;
    assert_eq!(last["tenant"]["settings"], json!({ "invoice.due_days": 14, "beta": true }));
    // Already so: no history of it.
    change(json!({ "beta": true }), json!(["logo"])).await;

    let query = "query($f: Int, $a: String) { settingsHistory(first: $f, after: $a) {
        nodes { position version actor actorKind truncated changes { key old new masked } }
        pageInfo { hasNextPage endCursor } } }";
    let history = w.data(&boss, query, json!({})).await["settingsHistory"].take();
    let nodes = history["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 2, "{history}");
    let expected = json!([
        { "key": "beta", "old": null, "new": true, "masked": false },
        { "key": "invoice.due_days", "old": 30, "new": 14, "masked": false },
        { "key": "logo", "old": "a", "new": null, "masked": false },
    ]);
    assert_eq!((&nodes[0]["changes"], &nodes[0]["truncated"]), (&expected, &json!(false)));
    assert_eq!((&nodes[0]["position"], &nodes[0]["version"]), (&last["position"], &json!("4")));
    assert_eq!((&nodes[0]["actor"], &nodes[0]["actorKind"]), (&json!(boss.actor.id), &json!("ACCOUNT")));
    let first = json!([
        { "key": "invoice.due_days", "old": null, "new": 30, "masked": false },
        { "key": "logo", "old": null, "new": "a", "masked": false },
    ]);
    assert_eq!(nodes[1]["changes"], first);
    // A page at a time.
    let page = w.data(&boss, query, json!({ "f": 1 })).await["settingsHistory"].take();
    assert_eq!((&page["nodes"][0], &page["pageInfo"]["hasNextPage"]), (&nodes[0], &json!(true)));
    let after = json!({ "f": 1, "a": page["pageInfo"]["endCursor"] });
    let page = w.data(&boss, query, after).await["settingsHistory"].take();
    assert_eq!((&page["nodes"][0], &page["pageInfo"]["hasNextPage"]), (&nodes[1], &json!(false)));

    // Neither to who may not read the trail, nor to another tenant.
    let member = credential(Role::Member, TenantId(tenant), Uuid::from_u128(9));
    assert_eq!(code(&w.ask(&member, query, json!({})).await), "FORBIDDEN");
    let other = admin(w.tenant("Other").await);
    let of = "query($t: UUID) { settingsHistory(tenant: $t) { nodes { version } } }";
    assert_eq!(code(&w.ask(&other, of, json!({ "t": tenant })).await), "FORBIDDEN");
    assert_eq!(w.data(&other, of, json!({})).await["settingsHistory"]["nodes"], json!([]));
}

#[tokio::test]
async fn every_setting_at_fault_is_named() {
    let w = World::new().await;
    let tenant = w.tenant("Acme").await;
    let boss = admin(tenant);
    let input = json!({ "id": tenant, "set": { "good": 1, "rate": 1.5, "Bad": 1, "long": "x".repeat(2_001) },
                        "unset": ["$x", "fine"] });
    let refused = w.mutate(&boss, "changeTenantSettings", input.clone(), "").await;
    let mut told = refusals(&refused);
    told.sort_by_key(|(_, path)| path.to_string());
    let expected = [
        ("MALFORMED", json!(["input", "set", "Bad"])),
        ("TOO_LONG", json!(["input", "set", "long"])),
        ("MALFORMED", json!(["input", "set", "rate"])),
        ("MALFORMED", json!(["input", "unset", "$x"])),
    ];
    assert_eq!(told, expected);
    let many: serde_json::Map<_, _> = (0..101).map(|n| (format!("k{n}"), json!(n))).collect();
    let refused = w.mutate(&boss, "changeTenantSettings", json!({ "id": tenant, "set": many }), "").await;
    assert_eq!(refusals(&refused), [("TENANT_TOO_MANY_SETTINGS", json!(["input", "set"]))]);
    let query = "query($t: UUID!) { tenant(id: $t) { settings version } }";
    let unchanged = w.data(&boss, query, json!({ "t": tenant })).await;
    assert_eq!(unchanged["tenant"], json!({ "settings": {}, "version": "1" }), "all or none");
    let member = credential(Role::Member, TenantId(tenant), Uuid::from_u128(9));
    let mutation = "mutation($i: ChangeTenantSettingsInput!) { changeTenantSettings(input: $i) { position } }";
    assert_eq!(code(&w.ask(&member, mutation, json!({ "i": input })).await), "FORBIDDEN");
}

#[tokio::test]
async fn a_domain_is_one_tenants_alone_until_it_is_released() {
    let w = World::new().await;
    let (one, other) = (w.tenant("One").await, w.tenant("Other").await);
    let claim = async |tenant: Uuid, domain: &str| {
        let input = json!({ "id": tenant, "domain": domain });
        w.mutate(&platform(), "claimTenantDomain", input, "tenant { domain }").await
    };
    assert_eq!(claim(one, "Acme.example").await["tenant"]["domain"], "acme.example");
    assert_eq!(refusals(&claim(other, "acme.EXAMPLE").await), [("TAKEN", json!(["input", "domain"]))]);
    assert_eq!(refusals(&claim(other, "acme").await), [("MALFORMED", json!(["input", "domain"]))]);
    // Another one instead: the first is free again.
    assert_eq!(claim(one, "acme.org").await["tenant"]["domain"], "acme.org");
    assert_eq!(claim(other, "acme.example").await["tenant"]["domain"], "acme.example");
    let released = w.mutate(&platform(), "releaseTenantDomain", json!({ "id": one }), "tenant { domain }").await;
    assert_eq!(released["tenant"]["domain"], Value::Null);
    assert_eq!(claim(other, "acme.org").await["userErrors"], json!([]));
    // Whose a domain is, the platform knows.
    let mutation = "mutation($i: ClaimTenantDomainInput!) { claimTenantDomain(input: $i) { position } }";
    let input = json!({ "i": { "id": one, "domain": "bank.example" } });
    assert_eq!(code(&w.ask(&admin(one), mutation, input).await), "FORBIDDEN");
}
