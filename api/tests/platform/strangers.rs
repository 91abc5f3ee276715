//! What the platform does not show to those who may not see it.

use crate::harness::{World, admin, code, credential, platform, refusals};
use daybook_domain::{Role, TenantId};
use serde_json::{Value, json};
use uuid::Uuid;

#[tokio::test]
async fn another_tenants_things_look_as_if_they_did_not_exist() {
    let w = World::new().await;
    let (own, other) = (w.tenant("Own").await, w.tenant("Other").await);
    let account = w.account(1).await;
    let member = w.member(&admin(other), account).await;
    let module = w.module(&admin(other), "sizing").await;
    let grant = w.grant(&admin(other), member, module, "reader").await["grant"]["id"].clone();
    let stranger = admin(own);
    let absent = json!(Uuid::from_u128(99));
    for (noun, id) in [("member", &json!(member)), ("module", &json!(module)), ("grant", &grant)] {
        // In its own tenant, in the other one, in none at all: the same answer.
        let query = format!("query($i: UUID!, $t: UUID) {{ {noun}(id: $i, tenant: $t) {{ id version }} }}");
        let answers = [
            (id, Value::Null),
            (id, json!(other)),
            (&absent, Value::Null),
            (&absent, json!(other)),
            (id, json!(Uuid::from_u128(98))),
        ];
        for (asked, tenant) in answers {
            let answer = w.ask(&stranger, &query, json!({ "i": asked, "t": tenant })).await;
            assert_eq!(answer, json!({ "data": { noun: null } }), "{noun} {tenant}");
        }
        // Lists: the same refusal for a tenant that exists and for one that does not.
        let list = format!("query($t: UUID) {{ {noun}s(tenant: $t) {{ totalCount edges {{ cursor }} }} }}");
        let existing = w.ask(&stranger, &list, json!({ "t": other })).await;
        assert_eq!(code(&existing), "FORBIDDEN");
        assert_eq!(existing, w.ask(&stranger, &list, json!({ "t": Uuid::from_u128(98) })).await);
        let mine = w.data(&stranger, &list, json!({ "t": null })).await;
        assert_eq!(mine[format!("{noun}s")], json!({ "totalCount": "0", "edges": [] }));
    }
    // Changing them: in the other tenant forbidden, in one's own they are not there.
    for (field, id, refusal) in [
        ("endMembership", &json!(member), "MEMBERSHIP_NOT_ADDED"),
        ("disableModule", &json!(module), "MODULE_NOT_REGISTERED"),
        ("revokeAccess", &grant, "GRANT_NOT_GRANTED"),
    ] {
        let input = json!({ "id": id, "reason": "mine" });
        assert_eq!(refusals(&w.mutate(&stranger, field, input, "").await)[0].0, refusal);
        let upper = format!("{}{}", field[..1].to_uppercase(), &field[1..]);
        let mutation = format!("mutation($i: {upper}Input!) {{ {field}(input: $i) {{ position }} }}");
        for tenant in [other, Uuid::from_u128(98)] {
            let input = json!({ "i": { "tenant": tenant, "id": id, "reason": "mine" } });
            assert_eq!(code(&w.ask(&stranger, &mutation, input).await), "FORBIDDEN");
        }
    }
    // A grant across tenants: neither the member nor the module is there.
    let input = json!({ "member": member, "module": module, "role": "reader", "reason": "x" });
    let across = w.mutate(&stranger, "grantAccess", input, "").await;
    assert_eq!(refusals(&across), [("MEMBERSHIP_NOT_ADDED", json!(["input", "member"]))]);
    let position = w.mutate(&admin(other), "enableModule", json!({ "id": module }), "").await["position"].clone();
    let past = "query($p: Position!) { grants(asOf: { position: $p }) { edges { cursor } } }";
    assert_eq!(code(&w.ask(&stranger, past, json!({ "p": position })).await), "BAD_USER_INPUT");
}

#[tokio::test]
async fn each_role_may_what_the_permission_table_says() {
    let w = World::new().await;
    let tenant = w.tenant("Acme").await;
    let boss = admin(tenant);
    let account = w.account(1).await;
    let member = w.member(&boss, account).await;
    let module = w.module(&boss, "sizing").await;
    let grant = w.grant(&boss, member, module, "reader").await["grant"]["id"].clone();
    let of = |role| credential(role, TenantId(tenant), account);
    for role in [Role::Member, Role::Viewer] {
        let who = of(role);
        for query in
            ["{ accounts { edges { cursor } } }", "{ grants { edges { cursor } } }", "{ tenants { edges { cursor } } }"]
        {
            assert_eq!(code(&w.ask(&who, query, json!({})).await), "FORBIDDEN", "{role} {query}");
        }
        let account = w.data(&who, "query($i: UUID!) { account(id: $i) { id } }", json!({ "i": account })).await;
        assert_eq!(account["account"], Value::Null);
        let seen = w.data(&who, "{ members { totalCount } modules { totalCount } }", json!({})).await;
        assert_eq!((&seen["members"]["totalCount"], &seen["modules"]["totalCount"]), (&json!("1"), &json!("1")));
        let person = w.ask(&who, "{ members { edges { node { person { email } } } } }", json!({})).await;
        assert_eq!(code(&person) == "FORBIDDEN", role == Role::Viewer, "{person}");
        // One's own grants need no permission; anybody else's do.
        let own = "query($m: UUID!) { grants(filter: { member: { eq: $m } }) { edges { node { id } } } }";
        let mine = w.data(&who, own, json!({ "m": member })).await;
        assert_eq!(mine["grants"]["edges"][0]["node"]["id"], grant);
        let others = w.ask(&who, own, json!({ "m": Uuid::from_u128(7) })).await;
        assert_eq!(code(&others), "FORBIDDEN");
        // Whatever else is asked, only what is one's own in any case is one's own.
        let list = "query($f: GrantFilter) { grants(filter: $f) { totalCount edges { node { id } } } }";
        let (own, other) = (json!({ "eq": member }), json!({ "eq": Uuid::from_u128(7) }));
        for filter in [
            json!({ "member": own, "role": { "startsWith": "read" }, "not": { "allowedNow": { "eq": false } } }),
            json!({ "and": [{ "member": own }, { "or": [{ "role": { "eq": "x" } }, { "allowedNow": { "ne": false } }] }] }),
            json!({ "or": [{ "member": own }, { "member": own, "role": { "eq": "planner" } }] }),
        ] {
            let mine = w.data(&who, list, json!({ "f": filter })).await["grants"].take();
            assert_eq!(mine, json!({ "totalCount": "1", "edges": [{ "node": { "id": grant } }] }), "{filter}");
        }
        for filter in [
            json!({ "or": [{ "member": own }, { "member": other }] }),
            json!({ "or": [{ "member": own }, { "role": { "eq": "reader" } }] }),
            json!({ "not": { "not": { "member": own } } }),
            json!({ "not": { "member": other } }),
            json!({ "member": { "in": [member, Uuid::from_u128(7)] } }),
            json!({ "or": [] }),
            json!({}),
        ] {
            assert_eq!(code(&w.ask(&who, list, json!({ "f": filter })).await), "FORBIDDEN", "{filter}");
        }
        let one = w.data(&who, "query($i: UUID!) { grant(id: $i) { role } }", json!({ "i": grant })).await;
        assert_eq!(one["grant"]["role"], "reader");
        let colleague = credential(role, TenantId(tenant), Uuid::from_u128(77));
        let one = w.data(&colleague, "query($i: UUID!) { grant(id: $i) { role } }", json!({ "i": grant })).await;
        assert_eq!(one["grant"], Value::Null);
        let revoke = "mutation($i: UUID!) { revokeAccess(input: { id: $i, reason: \"x\" }) { position } }";
        assert_eq!(code(&w.ask(&who, revoke, json!({ "i": grant })).await), "FORBIDDEN");
    }
    // The platform reaches into a tenant by naming it, and sees nobody without.
    let inside = "query($t: UUID!) { members(tenant: $t) { totalCount } }";
    let inside = w.data(&platform(), inside, json!({ "t": tenant })).await;
    assert_eq!(inside["members"]["totalCount"], "1");
    assert_eq!(w.data(&platform(), "{ members { totalCount } }", json!({})).await["members"]["totalCount"], "0");
    let input = json!({ "tenant": Uuid::from_u128(98), "account": account, "roles": ["MEMBER"] });
    let nowhere = w.mutate(&platform(), "addMember", input, "").await;
    assert_eq!(refusals(&nowhere), [("TENANT_NOT_REGISTERED", json!(["input", "tenant"]))]);
}
