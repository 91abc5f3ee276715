//! Who may use what: granted, changed, taken away, asked about, watched.

use crate::harness::{World, admin, code, id, manifest, refusals};
use futures_util::StreamExt;
use serde_json::{Value, json};
use std::io::Write;
use std::sync::{Arc, Mutex};
use uuid::Uuid;

const GRANTS: &str = "query($f: GrantFilter, $o: AsOf) { grants(filter: $f, asOf: $o) { totalCount edges { node {
    id role allowed denial member { status } module { status release } } } } }";

async fn allowed(w: &World, tenant: Uuid, as_of: Value) -> Vec<Uuid> {
    let filter = json!({ "f": { "allowedNow": { "eq": true } }, "o": as_of });
    let data = w.data(&admin(tenant), GRANTS, filter).await;
    let ids: Vec<Uuid> =
        data["grants"]["edges"].as_array().unwrap().iter().map(|edge| id(&edge["node"]["id"])).collect();
    assert_eq!(data["grants"]["totalCount"], ids.len().to_string());
    ids
}

#[tokio::test]
async fn what_is_granted_allows_until_anything_of_it_ends() {
    let w = World::new().await;
    let tenant = w.tenant("Acme").await;
    let boss = admin(tenant);
    let account = w.account(1).await;
    let member = w.member(&boss, account).await;
    let module = w.module(&boss, "sizing").await;
    let payload = w.grant(&boss, member, module, "reader").await;
    assert_eq!((&payload["grant"]["allowed"], &payload["grant"]["denial"]), (&json!(true), &Value::Null));
    let grant = id(&payload["grant"]["id"]);
    let granted_at = payload["position"].clone();
    let unknown = w.grant(&boss, member, module, "owner").await;
    assert_eq!(refusals(&unknown), [("MODULE_ROLE_UNKNOWN", json!(["input", "role"]))]);
    assert_eq!(allowed(&w, tenant, Value::Null).await, [grant]);

    let denial = async |expected: Value| {
        let data = w.data(&boss, "query($i: UUID!) { grant(id: $i) { allowed denial } }", json!({ "i": grant })).await;
        assert_eq!(data["grant"], json!({ "allowed": expected.is_null(), "denial": expected }));
        assert_eq!(allowed(&w, tenant, Value::Null).await.is_empty(), !expected.is_null());
    };
    denial(Value::Null).await;
    w.mutate(&boss, "disableModule", json!({ "id": module, "reason": "broken" }), "").await;
    denial(json!("MODULE_NOT_ENABLED")).await;
    assert_eq!(refusals(&w.grant(&boss, member, module, "planner").await)[0].0, "MODULE_NOT_ENABLED");
    w.mutate(&boss, "enableModule", json!({ "id": module }), "").await;
    denial(Value::Null).await;
    w.mutate(&boss, "endMembership", json!({ "id": member, "reason": "left" }), "").await;
    denial(json!("MEMBERSHIP_ENDED")).await;
    w.mutate(&boss, "rejoinMember", json!({ "id": member, "roles": ["VIEWER"] }), "").await;
    denial(Value::Null).await;
    let upgrade = json!({ "id": module, "manifest": manifest("sizing", "2.0.0", &["planner"]) });
    let upgraded = w.mutate(&boss, "upgradeModule", upgrade, "").await["position"].clone();
    denial(json!("ROLE_GONE")).await;
    w.mutate(&boss, "revokeAccess", json!({ "id": grant, "reason": "over" }), "").await;
    denial(json!("REVOKED")).await;

    // The past is as it was, with its members and modules.
    assert_eq!(allowed(&w, tenant, json!({ "position": granted_at })).await, [grant]);
    assert_eq!(allowed(&w, tenant, json!({ "position": upgraded })).await, Vec::<Uuid>::new());
    let then = w.data(&boss, GRANTS, json!({ "o": { "position": granted_at } })).await;
    let node = &then["grants"]["edges"][0]["node"];
    assert_eq!(node["module"], json!({ "status": "ENABLED", "release": "1.0.0" }));
    assert_eq!(node["member"]["status"], "ACTIVE");
    assert_eq!(allowed(&w, tenant, json!({ "time": "2020-01-01T00:00:00Z" })).await, Vec::<Uuid>::new());
    // And filtered as the present is.
    for (filter, found) in [
        (json!({ "role": { "startsWith": "read" }, "until": { "isNull": true } }), 1),
        (json!({ "not": { "role": { "like": "%der" } } }), 0),
        (json!({ "until": { "lt": "2100-01-01T00:00:00Z" } }), 0),
        (json!({ "or": [{ "until": { "ne": "2100-01-01T00:00:00Z" } }, { "member": { "in": [] } }] }), 1),
    ] {
        for as_of in [json!({ "position": granted_at }), Value::Null] {
            let then = w.data(&boss, GRANTS, json!({ "f": filter, "o": as_of })).await;
            assert_eq!(then["grants"]["totalCount"], found.to_string(), "{filter} {as_of}");
            assert_eq!(then["grants"]["edges"].as_array().unwrap().len(), found, "{filter} {as_of}");
        }
    }
    for wrong in
        [json!({}), json!({ "time": "2020-01-01T00:00:00Z", "position": granted_at }), json!({ "position": "x" })]
    {
        assert_eq!(code(&w.ask(&boss, GRANTS, json!({ "o": wrong })).await), "BAD_USER_INPUT");
    }
}

#[tokio::test]
async fn a_grant_has_its_time() {
    let w = World::new().await;
    let tenant = w.tenant("Acme").await;
    let boss = admin(tenant);
    let member = w.member(&boss, w.account(1).await).await;
    let module = w.module(&boss, "sizing").await;
    let fields = "grant { id from until allowed denial }";
    let input = |from: Value, until: Value| json!({ "member": member, "module": module, "role": "reader", "from": from, "until": until, "reason": "r" });
    let past = w.mutate(&boss, "grantAccess", input(Value::Null, json!("2020-01-01T00:00:00Z")), fields).await;
    assert_eq!(refusals(&past), [("GRANT_ENDS_IN_THE_PAST", json!(["input", "until"]))]);
    let later = input(json!("2090-01-01T00:00:00Z"), json!("2091-01-01T00:00:00Z"));
    let later = w.mutate(&boss, "grantAccess", later, fields).await;
    assert_eq!((&later["grant"]["allowed"], &later["grant"]["denial"]), (&json!(false), &json!("NOT_YET")));
    let again = w.mutate(&boss, "grantAccess", input(Value::Null, Value::Null), fields).await;
    assert_eq!(refusals(&again)[0].0, "GRANT_ALREADY_GRANTED");
    let change = json!({ "id": later["grant"]["id"], "until": null, "reason": "longer", "expectedVersion": "1" });
    let changed = w.mutate(&boss, "changeGrantExpiry", change, fields).await;
    assert_eq!(changed["grant"]["until"], Value::Null);
    // It begins later still, so the future of the clock decides: nothing has to be written for that.
    assert_eq!(allowed(&w, tenant, json!({ "time": "2090-06-01T00:00:00Z" })).await.len(), 1);
    assert_eq!(allowed(&w, tenant, Value::Null).await, Vec::<Uuid>::new());
}

/// Counts the lines that are logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// On one thread, so that everything that the request starts is heard.
#[tokio::test(flavor = "current_thread")]
async fn grants_with_members_people_and_modules_cost_a_statement_per_kind_and_not_per_row() {
    let w = World::new().await;
    let tenant = w.tenant("Acme").await;
    let boss = admin(tenant);
    let modules = [w.module(&boss, "one").await, w.module(&boss, "two").await, w.module(&boss, "three").await];
    let mut counts = Vec::new();
    for n in 0..12 {
        let member = w.member(&boss, w.account(n).await).await;
        w.grant(&boss, member, modules[n % 3], "reader").await;
        if n != 1 && n != 11 {
            continue;
        }
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter("daybook::sql=trace")
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        // The projections of this process read through sessions of their own, which are not counted.
        let guard = tracing::subscriber::set_default(subscriber);
        let query =
            "{ grants { edges { node { id allowed denial member { status person { email } } module { name } } } } }";
        let data = w.data(&boss, query, json!({})).await;
        drop(guard);
        let edges = data["grants"]["edges"].as_array().unwrap();
        assert_eq!(edges.len(), n + 1);
        assert!(edges.iter().all(|edge| edge["node"]["allowed"] == true && edge["node"]["module"]["name"].is_string()));
        assert!(edges.iter().all(|edge| edge["node"]["member"]["person"]["email"].is_string()));
        let log = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        counts.push(log.matches("daybook::sql").count());
    }
    assert_eq!(counts[0], counts[1], "more rows, more statements");
    // A page, members, people, modules: each a transaction of a look at the versions and a statement.
    assert_eq!(counts[0], 8);
}

#[tokio::test]
async fn changes_of_grants_stream_without_gap_or_duplicate() {
    let w = World::new().await;
    let tenant = w.tenant("Acme").await;
    let boss = admin(tenant);
    let member = w.member(&boss, w.account(1).await).await;
    let module = w.module(&boss, "sizing").await;
    let start = w.mutate(&boss, "enableModule", json!({ "id": module }), "").await["position"].clone();
    let first = w.grant(&boss, member, module, "reader").await;
    let subscription = "subscription($a: Position) { grantChanged(after: $a) {
        position change changedFields node { id role status allowed denial module { key } } } }";
    let after_first = {
        let request = World::request(&boss, subscription, json!({ "a": start }));
        let mut stream = std::pin::pin!(w.schema.execute_stream(request));
        let change = serde_json::to_value(stream.next().await.unwrap()).unwrap();
        let change = &change["data"]["grantChanged"];
        assert_eq!((&change["change"], &change["node"]["id"]), (&json!("CREATED"), &first["grant"]["id"]));
        assert_eq!((&change["node"]["allowed"], &change["node"]["module"]["key"]), (&json!(true), &json!("sizing")));
        let after_first = change["position"].clone();
        // The subscriber waits; the change comes.
        let second = w.grant(&boss, member, module, "planner");
        let (second, change) = tokio::join!(second, stream.next());
        let change = serde_json::to_value(change.unwrap()).unwrap();
        assert_eq!(change["data"]["grantChanged"]["node"]["id"], second["grant"]["id"]);
        after_first
    };
    w.mutate(&boss, "revokeAccess", json!({ "id": first["grant"]["id"], "reason": "over" }), "").await;
    let request = World::request(&boss, subscription, json!({ "a": after_first }));
    let rest: Vec<Value> =
        w.schema.execute_stream(request).take(2).map(|r| serde_json::to_value(r).unwrap()).collect().await;
    let node = |n: usize| rest[n]["data"]["grantChanged"].clone();
    assert_eq!((node(0)["node"]["role"].clone(), node(0)["change"].clone()), (json!("planner"), json!("CREATED")));
    assert_eq!(node(1)["changedFields"], json!(["status", "reason", "version"]));
    assert_eq!((node(1)["node"]["denial"].clone(), node(1)["change"].clone()), (json!("REVOKED"), json!("UPDATED")));
    let other = admin(w.tenant("Other").await);
    let request = World::request(&other, subscription, json!({ "a": after_first }));
    let foreign = w.schema.execute_stream(request).next().await.unwrap();
    assert_eq!(code(&serde_json::to_value(foreign).unwrap()), "BAD_USER_INPUT");
}
