//! What the platform does not show to those who may not see it.

use crate::harness::{World, admin, code, credential, platform, refusals};
use crate::site::{PATIENCE, Site, text};
use daybook_app::Credential;
use daybook_domain::{Action, Role, TenantId};
use futures_util::StreamExt;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
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

/// Attacks 1 and 2.
#[tokio::test]
async fn attack_01_02_nobody_sorts_filters_or_counts_by_a_field_that_is_hidden_from_them() {
    let site = Site::new().await;
    let tenant = site.world.tenant("Acme").await;
    let viewer = site.person(1, tenant, "VIEWER").await;
    let tokens = site.login(&viewer).await;
    let access = text(&tokens, "accessToken");
    // The list is theirs to see, the people behind it are not.
    let members = site.graphql(Some(access), "{ members { totalCount } }", json!({})).await;
    assert_eq!(members.body["data"]["members"]["totalCount"], "1", "{}", members.body);
    for arguments in [
        "orderBy: { field: EMAIL }",
        "orderBy: { field: NAME }",
        "filter: { email: { startsWith: \"ada\" } }",
        "filter: { not: { name: { eq: \"Ada 1\" } } }",
        "filter: { person: { email: { eq: \"ada1@x.example\" } } }",
    ] {
        let query = format!("{{ members({arguments}) {{ totalCount }} }}");
        let refused = site.graphql(Some(access), &query, json!({})).await;
        assert_eq!(refused.code(), "BAD_USER_INPUT", "{arguments}: {}", refused.body);
        assert_eq!(refused.body["data"]["members"], Value::Null, "{arguments}");
    }
    // Whether the address is there or not.
    for email in ["ada1@x.example", "nobody@x.example"] {
        let query = format!("{{ accounts(filter: {{ email: {{ eq: \"{email}\" }} }}) {{ totalCount }} }}");
        let refused = site.graphql(Some(access), &query, json!({})).await;
        assert_eq!(refused.code(), "FORBIDDEN", "{email}: {}", refused.body);
        assert_eq!(refused.body["data"]["accounts"], Value::Null, "{email}");
    }
}

/// Attack 13, of changes and readings; of `events` it is in `tests/events.rs`.
#[tokio::test]
async fn attack_13_a_subscription_asks_for_the_permission_that_a_query_asks_for() {
    let w = World::new().await;
    let (own, other) = (w.tenant("Own").await, w.tenant("Other").await);
    let input = json!({ "name": "Meter", "kind": "METER", "serial": "SN 1", "resolutionS": 900, "direction": "IMPORT",
        "maxPowerW": "40000", "site": { "name": "Mill Lane", "timeZone": "Europe/Berlin" } });
    let device = w.mutate(&admin(other), "registerDevice", input, "device { id }").await["device"]["id"].take();
    assert!(device.is_string(), "{device}");
    let absent = json!(Uuid::from_u128(98));
    let first = async |who: &Credential, query: &str, variables: Value| {
        let mut stream = std::pin::pin!(w.schema.execute_stream(World::request(who, query, variables)));
        let answer = tokio::time::timeout(PATIENCE, stream.next()).await.expect("an answer in time");
        serde_json::to_value(answer.expect("an answer")).unwrap()
    };
    let tenants = "subscription($t: UUID) { tenantChanged(id: $t) { position node { name } } }";
    let grants = "subscription($t: UUID) { grantChanged(tenant: $t) { position node { role } } }";
    let readings = "subscription($t: UUID, $d: UUID!) { readings(device: $d, tenant: $t) { position } }";
    // Another tenant's, be it there or not: the same answer.
    for query in [tenants, grants, readings] {
        let of = |tenant: Value| match query == readings {
            true => json!({ "t": tenant, "d": device }),
            false => json!({ "t": tenant }),
        };
        let existing = first(&admin(own), query, of(json!(other))).await;
        assert_eq!(code(&existing), "FORBIDDEN", "{query}: {existing}");
        assert_eq!(existing, first(&admin(own), query, of(absent.clone())).await, "{query}");
    }
    // Another tenant's device, as if it were one's own, looks like one that is nowhere.
    let foreign = first(&admin(own), readings, json!({ "t": null, "d": device })).await;
    assert_eq!(code(&foreign), "NOT_FOUND", "{foreign}");
    assert_eq!(foreign, first(&admin(own), readings, json!({ "t": null, "d": absent })).await);
    // One's own tenant's, without the role or outside of a key's scopes.
    let scopes = Some(Arc::new(BTreeSet::from([Action::TenantRead])));
    let narrow = Credential { scopes, ..admin(own) };
    let of = |role| credential(role, TenantId(own), Uuid::from_u128(3));
    for (who, query) in
        [(of(Role::Member), grants), (of(Role::Viewer), grants), (narrow.clone(), grants), (narrow, readings)]
    {
        let refused = first(&who, query, json!({ "t": null, "d": device })).await;
        assert_eq!(code(&refused), "FORBIDDEN", "{query}: {refused}");
    }
}

/// Attack 23.
#[tokio::test]
async fn attack_23_the_past_is_read_with_the_permissions_of_now() {
    let site = Site::new().await;
    let tenant = site.world.tenant("Acme").await;
    let ada = site.person(1, tenant, "TENANT_ADMIN").await;
    let module = site.world.module(&admin(tenant), "sizing").await;
    let granted = site.world.grant(&admin(tenant), ada.member, module, "planner").await;
    let tokens = site.login(&ada).await;
    let access = text(&tokens, "accessToken");
    // A moment at which she was permitted.
    let query = "query($p: Position!) { grants(asOf: { position: $p }) { totalCount } }";
    let then = json!({ "p": granted["position"] });
    let seen = site.graphql(Some(access), query, then.clone()).await;
    assert_eq!(seen.body["data"]["grants"]["totalCount"], "1", "{}", seen.body);
    let down = json!({ "id": ada.member, "roles": ["VIEWER"] });
    site.world.mutate(&admin(tenant), "changeMemberRoles", down, "member { id }").await;
    let refused = site.graphql(Some(access), query, then.clone()).await;
    assert_eq!(refused.code(), "FORBIDDEN", "{}", refused.body);
    assert_eq!(refused.body["data"]["grants"], Value::Null);
    let end = json!({ "id": ada.member, "reason": "left" });
    site.world.mutate(&admin(tenant), "endMembership", end, "member { id }").await;
    assert_eq!(site.graphql(Some(access), query, then).await.status, 401);
}
