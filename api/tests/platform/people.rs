//! Accounts, members and modules, through mutations and queries.

use crate::harness::{World, admin, code, id, manifest, platform, refusals};
use serde_json::{Value, json};
use uuid::Uuid;

#[tokio::test]
async fn an_account_is_registered_changed_and_found() {
    let w = World::new().await;
    let fields = "account { id name email erased status reason version }";
    let input = json!({ "name": "Ada", "email": "Ada@X.example", "clientMutationId": Uuid::from_u128(5) });
    let first = w.mutate(&platform(), "registerAccount", input.clone(), fields).await;
    assert_eq!(first["account"]["email"], "Ada@x.example");
    let repeat = w.mutate(&platform(), "registerAccount", input, fields).await;
    assert_eq!((&repeat["account"]["id"], &repeat["deduplicated"]), (&first["account"]["id"], &json!(true)));
    let taken = json!({ "name": "Thief", "email": "ADA@x.example" });
    let taken = w.mutate(&platform(), "registerAccount", taken, fields).await;
    assert_eq!(refusals(&taken), [("TAKEN", json!(["input", "email"]))]);
    let bad = w.mutate(&platform(), "registerAccount", json!({ "name": "x", "email": "nobody" }), fields).await;
    assert_eq!(refusals(&bad), [("MALFORMED", json!(["input", "email"]))]);

    let account = id(&first["account"]["id"]);
    let renamed = json!({ "id": account, "name": "Ada King", "expectedVersion": "1" });
    let renamed = w.mutate(&platform(), "renameAccount", renamed, fields).await;
    assert_eq!((&renamed["account"]["name"], &renamed["account"]["version"]), (&json!("Ada King"), &json!("2")));
    w.mutate(&platform(), "changeAccountEmail", json!({ "id": account, "email": "king@x.example" }), fields).await;
    let gone = w.mutate(&platform(), "deactivateAccount", json!({ "id": account, "reason": "lost" }), fields).await;
    assert_eq!((&gone["account"]["status"], &gone["account"]["reason"]), (&json!("DEACTIVATED"), &json!("lost")));
    let query = "query($f: AccountFilter!) { accounts(filter: $f) { totalCount edges { node { email status } } } }";
    let filter = json!({ "f": { "email": { "eq": "KING@X.example" }, "status": { "eq": "DEACTIVATED" } } });
    let found = w.data(&platform(), query, filter).await;
    assert_eq!(found["accounts"]["totalCount"], "1");
    assert_eq!(found["accounts"]["edges"][0]["node"]["email"], "king@x.example");
    let back = w.mutate(&platform(), "reactivateAccount", json!({ "id": account }), fields).await;
    assert_eq!((&back["account"]["status"], &back["account"]["reason"]), (&json!("ACTIVE"), &Value::Null));
}

#[tokio::test]
async fn pages_of_accounts_have_no_gap_in_any_order() {
    let w = World::new().await;
    for n in 0..7 {
        w.account(n).await;
    }
    for order in ["REGISTERED_AT", "NAME", "EMAIL"] {
        let query = format!(
            "query($a: String) {{ accounts(first: 3, after: $a, orderBy: {{ field: {order}, direction: DESC }})
             {{ edges {{ node {{ email }} }} pageInfo {{ hasNextPage endCursor }} }} }}"
        );
        let (mut seen, mut after) = (Vec::new(), Value::Null);
        loop {
            let data = w.data(&platform(), &query, json!({ "a": after })).await;
            let page = &data["accounts"];
            seen.extend(page["edges"].as_array().unwrap().iter().map(|edge| edge["node"]["email"].clone()));
            after = page["pageInfo"]["endCursor"].clone();
            if page["pageInfo"]["hasNextPage"] == false {
                break;
            }
        }
        let expected: Vec<Value> = (0..7).rev().map(|n| json!(format!("ada{n}@x.example"))).collect();
        assert_eq!(seen, expected, "{order}");
        let other = if order == "NAME" { "EMAIL" } else { "NAME" };
        let foreign = format!(
            "query($a: String) {{ accounts(after: $a, orderBy: {{ field: {other}, direction: DESC }}) {{ edges {{ cursor }} }} }}"
        );
        assert_eq!(code(&w.ask(&platform(), &foreign, json!({ "a": after })).await), "BAD_USER_INPUT");
    }
}

#[tokio::test]
async fn a_member_joins_changes_leaves_and_comes_back() {
    let w = World::new().await;
    let tenant = w.tenant("Acme").await;
    let boss = admin(tenant);
    let account = w.account(1).await;
    let fields = "member { id account roles status reason version person { name email } }";
    let nobody = w.mutate(&boss, "addMember", json!({ "account": Uuid::nil(), "roles": ["VIEWER"] }), fields).await;
    assert_eq!(refusals(&nobody), [("ACCOUNT_NOT_REGISTERED", json!(["input", "account"]))]);
    let none = w.mutate(&boss, "addMember", json!({ "account": account, "roles": [] }), fields).await;
    assert_eq!(refusals(&none), [("MEMBERSHIP_NO_ROLE", json!(["input", "roles"]))]);
    let added = w.mutate(&boss, "addMember", json!({ "account": account, "roles": ["VIEWER"] }), fields).await;
    assert_eq!(added["member"]["person"], json!({ "name": "Ada 1", "email": "ada1@x.example" }));
    let member = id(&added["member"]["id"]);
    let changed = json!({ "id": member, "roles": ["MEMBER", "TENANT_ADMIN"] });
    let changed = w.mutate(&boss, "changeMemberRoles", changed, fields).await;
    assert_eq!(changed["member"]["roles"], json!(["TENANT_ADMIN", "MEMBER"]));
    let ended = w.mutate(&boss, "endMembership", json!({ "id": member, "reason": "left" }), fields).await;
    assert_eq!((&ended["member"]["status"], &ended["member"]["roles"]), (&json!("ENDED"), &json!([])));
    assert_eq!(ended["member"]["person"], Value::Null, "who has left is not looked after");
    let query = "{ members(filter: { status: { eq: ENDED } }) { totalCount edges { node { id reason } } } }";
    let data = w.data(&boss, query, json!({})).await;
    assert_eq!(data["members"]["edges"][0]["node"], json!({ "id": member, "reason": "left" }));
    let back = w.mutate(&boss, "rejoinMember", json!({ "id": member, "roles": ["VIEWER"] }), fields).await;
    assert_eq!((&back["member"]["status"], &back["member"]["version"]), (&json!("ACTIVE"), &json!("4")));
    let query = "query($a: UUID!) { members(filter: { account: { eq: $a } }) { totalCount } }";
    assert_eq!(w.data(&boss, query, json!({ "a": account })).await["members"]["totalCount"], "1");
}

#[tokio::test]
async fn a_module_is_registered_upgraded_switched_and_retired() {
    let w = World::new().await;
    let tenant = w.tenant("Acme").await;
    let boss = admin(tenant);
    let fields = "module { id key name release status reason description integration { kind url }
                  roles { key permissions } routes { path } settings version }";
    let bad = json!({ "manifest": manifest("sizing", "1", &["reader"]) });
    let bad = w.mutate(&boss, "registerModule", bad, fields).await;
    assert_eq!(refusals(&bad), [("MALFORMED", json!(["input", "manifest", "version"]))]);
    let input = json!({ "manifest": manifest("sizing", "1.0.0", &["reader"]), "clientMutationId": Uuid::from_u128(9) });
    let first = w.mutate(&boss, "registerModule", input.clone(), fields).await;
    let module = &first["module"];
    assert_eq!((&module["status"], &module["release"]), (&json!("REGISTERED"), &json!("1.0.0")));
    assert_eq!(module["integration"], json!({ "kind": "API", "url": "https://m.example/start" }));
    assert_eq!(module["roles"], json!([{ "key": "reader", "permissions": ["reader.view"] }]));
    assert_eq!(module["settings"], json!({ "a.b": 7, "c": true }));
    assert_eq!(w.mutate(&boss, "registerModule", input, fields).await["module"]["id"], module["id"]);
    let same = json!({ "manifest": manifest("sizing", "1.0.0", &["reader"]) });
    let same = w.mutate(&boss, "registerModule", same, fields).await;
    assert_eq!(refusals(&same), [("TAKEN", json!(["input", "key"]))]);
    let module = id(&module["id"]);
    let lower = json!({ "id": module, "manifest": manifest("sizing", "0.9.0", &["reader"]) });
    let lower = w.mutate(&boss, "upgradeModule", lower, fields).await;
    assert_eq!(refusals(&lower)[0].0, "MODULE_VERSION_NOT_HIGHER");
    let higher = json!({ "id": module, "manifest": manifest("sizing", "1.10.0", &["planner"]) });
    let higher = w.mutate(&boss, "upgradeModule", higher, fields).await;
    assert_eq!(higher["module"]["roles"][0]["key"], "planner");
    let off = w.mutate(&boss, "disableModule", json!({ "id": module, "reason": "broken" }), fields).await;
    // Not enabled yet, so there is nothing to disable.
    assert_eq!((&off["module"]["status"], &off["userErrors"]), (&json!("REGISTERED"), &json!([])));
    w.mutate(&boss, "enableModule", json!({ "id": module }), fields).await;
    let off = w.mutate(&boss, "disableModule", json!({ "id": module, "reason": "broken" }), fields).await;
    assert_eq!((&off["module"]["status"], &off["module"]["reason"]), (&json!("DISABLED"), &json!("broken")));
    let gone = w.mutate(&boss, "retireModule", json!({ "id": module, "reason": "old" }), fields).await;
    assert_eq!((&gone["module"]["status"], &gone["module"]["roles"]), (&json!("RETIRED"), &json!([])));
    // Its key is free again.
    w.module(&boss, "sizing").await;
    let query = "{ modules(filter: { key: { eq: \"sizing\" } }, orderBy: { field: NAME }) { totalCount edges { node { status } } } }";
    let data = w.data(&boss, query, json!({})).await;
    assert_eq!(data["modules"]["totalCount"], "2");
    let query = "{ modules(filter: { status: { eq: ENABLED } }) { totalCount } }";
    assert_eq!(w.data(&boss, query, json!({})).await["modules"]["totalCount"], "1");
}

#[tokio::test]
async fn a_read_that_takes_too_long_says_what_to_do() {
    let w = World::new().await;
    w.account(1).await;
    let superuser = w.db.superuser().await;
    superuser.batch_execute("begin; lock table read.accounts_v1").await.unwrap();
    let who = platform();
    let query = "{ accounts(filter: { name: { like: \"%a%\" } }) { nodes { id } } }";
    let asked = w.ask(&who, query, json!({}));
    // As the timeout does, but at once.
    let canceled = async {
        let waiting = "select pg_cancel_backend(pid) from pg_stat_activity where wait_event_type = 'Lock'
            and query like '%read.accounts_v1%' and pid <> pg_backend_pid()";
        let other = w.db.superuser().await;
        while other.query(waiting, &[]).await.unwrap().is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    let (answer, ()) = tokio::join!(asked, canceled);
    assert_eq!(code(&answer), "LIMIT_EXCEEDED", "{answer}");
    assert!(answer["errors"][0]["message"].as_str().unwrap().contains("narrow its filter"), "{answer}");
}
