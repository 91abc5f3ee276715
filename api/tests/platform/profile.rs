//! One's own profile and preferences: one's own alone.

use crate::harness::{World, code, credential, platform, refusals};
use daybook_app::Credential;
use daybook_domain::{Actor, ActorKind, PLATFORM_TENANT, Role, TenantId};
use serde_json::{Value, json};
use uuid::Uuid;

const FIELDS: &str = "profile { name avatarUrl locale timeZone } preferences { key value }";

/// Somebody in a session; whether it is still open is what the token is checked for, not the resolver.
fn in_session(tenant: Uuid, account: Uuid) -> Credential {
    let actor = Actor { id: account, kind: ActorKind::Account };
    Credential::new(actor, TenantId(tenant), vec![Role::Member], Some(Uuid::from_u128(77)))
}

#[tokio::test]
async fn a_profile_is_changed_piece_by_piece() {
    let w = World::new().await;
    let tenant = w.tenant("Acme").await;
    let (ada, grace) = (w.account(1).await, w.account(2).await);
    let who = in_session(tenant, ada);
    let me = "{ me { profile { name avatarUrl locale timeZone } preferences { key value } } }";
    let before = w.data(&who, me, json!({})).await["me"].take();
    let nothing = json!({ "name": "Ada 1", "avatarUrl": null, "locale": null, "timeZone": null });
    assert_eq!(before, json!({ "profile": nothing, "preferences": [] }));

    let input = json!({ "name": "Ada Lovelace", "avatarUrl": "https://Example.com/ada.png", "locale": "en-GB",
                        "timeZone": "Europe/London", "clientMutationId": Uuid::from_u128(5) });
    let changed = w.mutate(&who, "updateMyProfile", input.clone(), FIELDS).await;
    let whole = json!({ "name": "Ada Lovelace", "avatarUrl": "https://example.com/ada.png", "locale": "en-GB",
                        "timeZone": "Europe/London" });
    assert_eq!((&changed["profile"], &changed["userErrors"]), (&whole, &json!([])));
    assert_eq!(w.mutate(&who, "updateMyProfile", input, FIELDS).await["deduplicated"], true);
    // Null removes, what is left out stays.
    let changed = w.mutate(&who, "updateMyProfile", json!({ "avatarUrl": null, "locale": "de" }), FIELDS).await;
    let rest = json!({ "name": "Ada Lovelace", "avatarUrl": null, "locale": "de", "timeZone": "Europe/London" });
    assert_eq!(changed["profile"], rest);
    assert_eq!(w.data(&who, me, json!({})).await["me"]["profile"], rest);
    // The name is the account's, which administrators see as ever, and nothing else of it.
    let query = "query($i: UUID!, $p: Position!) { account(id: $i, atLeast: $p) { name version } }";
    let seen = w.data(&platform(), query, json!({ "i": ada, "p": changed["position"] })).await["account"].take();
    assert_eq!(seen, json!({ "name": "Ada Lovelace", "version": "4" }));
    let others = w.data(&in_session(tenant, grace), me, json!({})).await["me"]["profile"].take();
    assert_eq!(others["name"], "Ada 2");

    let bad =
        json!({ "name": " ", "avatarUrl": "http://x.example/a", "locale": "English", "timeZone": "Mars/Olympus" });
    let refused = w.mutate(&who, "updateMyProfile", bad, FIELDS).await;
    let expected = [
        ("EMPTY", json!(["input", "name"])),
        ("MALFORMED", json!(["input", "avatarUrl"])),
        ("MALFORMED", json!(["input", "locale"])),
        ("UNKNOWN_VALUE", json!(["input", "timeZone"])),
    ];
    assert_eq!(refusals(&refused), expected);
    assert_eq!(refused["profile"], Value::Null);
}

#[tokio::test]
async fn preferences_are_set_and_removed_and_nobody_elses() {
    let w = World::new().await;
    let tenant = w.tenant("Acme").await;
    let (ada, grace) = (w.account(1).await, w.account(2).await);
    let who = in_session(tenant, ada);
    let set = async |key: &str, value: Value| {
        w.mutate(&who, "setMyPreference", json!({ "key": key, "value": value }), FIELDS).await
    };
    set("theme", json!("dark-secret")).await;
    set("page.size", json!(50)).await;
    let both = set("tips", json!(false)).await;
    let expected = json!([
        { "key": "page.size", "value": 50 }, { "key": "theme", "value": "dark-secret" }, { "key": "tips", "value": false },
    ]);
    assert_eq!(both["preferences"], expected);
    let removed = set("theme", Value::Null).await;
    assert_eq!(removed["preferences"].as_array().unwrap().len(), 2);
    set("theme", json!("dark-secret")).await;
    for (key, value, refused, field) in [
        ("Theme", json!(1), "MALFORMED", "key"),
        ("a", json!(1.5), "MALFORMED", "value"),
        ("a", json!({}), "MALFORMED", "value"),
        ("a", json!("x".repeat(501)), "TOO_LONG", "value"),
    ] {
        assert_eq!(refusals(&set(key, value).await), [(refused, json!(["input", field]))], "{key}");
    }
    for n in 0..47 {
        set(&format!("k{n}"), json!(n)).await;
    }
    assert_eq!(refusals(&set("more", json!(1)).await), [("ACCOUNT_TOO_MANY_PREFERENCES", json!(["input", "key"]))]);

    let theirs = w.data(&in_session(tenant, grace), "{ me { preferences { key } } }", json!({})).await;
    assert_eq!(theirs["me"]["preferences"], json!([]));
    // Without a session, e.g. with a token of the configuration or as a service, there is nothing to set.
    let mutation = "mutation { setMyPreference(input: { key: \"a\", value: 1 }) { position userErrors { code } } }";
    let service = Actor { id: Uuid::from_u128(7), kind: ActorKind::Service };
    let service = Credential::new(service, TenantId(tenant), vec![Role::Member], None);
    for other in [credential(Role::Member, TenantId(tenant), ada), service] {
        let answer = w.ask(&other, mutation, json!({})).await;
        let written = &answer["data"]["setMyPreference"]["position"];
        assert!(written.is_null() && (code(&answer) == "UNAUTHENTICATED" || answer["errors"].is_null()), "{answer}");
    }
    assert_eq!(
        w.data(&who, "{ me { preferences { key } } }", json!({})).await["me"]["preferences"].as_array().unwrap().len(),
        50
    );

    // The trail of the platform tells that, not what; the journal has it encrypted.
    let trail = "query($i: UUID!) { auditTrail(first: 200, filter: { subjectId: { eq: $i } }) {
        nodes { eventType changes { path old new masked } } } }";
    let trail = w.data(&platform(), trail, json!({ "i": ada })).await;
    assert!(trail.to_string().contains("platform.account.preference_set"), "{trail}");
    assert!(trail.to_string().contains("preferences") && !trail.to_string().contains("dark-secret"), "{trail}");
    let stored = "select count(*), count(*) filter (where payload::text like '%dark-secret%') from journal.events
        where tenant_id = $1 and event_type = 'platform.account.preference_set'";
    let row = w.db.superuser().await.query_one(stored, &[&PLATFORM_TENANT.0]).await.unwrap();
    assert!(row.get::<_, i64>(0) > 40 && row.get::<_, i64>(1) == 0);
}
