//! Service accounts and their keys, as machines and administrators meet them.

use crate::harness::admin;
use crate::identity::{closed, socket};
use crate::site::{FIXED, Site};
use daybook_testing::system;
use serde_json::{Value, json};
use uuid::Uuid;

struct Service {
    site: Site,
    tenant: Uuid,
    id: Value,
}

const KEYS: &str = "serviceAccount { status version keys { id scopes good lastUsedAt replaces revokedReason } }";

impl Service {
    async fn new() -> Self {
        let site = Site::new().await;
        let tenant = site.world.tenant("Acme").await;
        let input = json!({ "name": "Meter reader", "roles": ["MEMBER"] });
        let fields = "serviceAccount { id status roles }";
        let mut made = site.world.mutate(&admin(tenant), "registerServiceAccount", input, fields).await;
        assert_eq!(made["serviceAccount"]["roles"], json!(["MEMBER"]), "{made}");
        let id = made["serviceAccount"]["id"].take();
        Service { site, tenant, id }
    }

    async fn mutate(&self, field: &str, mut input: Value) -> Value {
        input["id"] = self.id.clone();
        let more = if field.starts_with("issue") || field.starts_with("rotate") { "key keyId" } else { "" };
        self.site.world.mutate(&admin(self.tenant), field, input, &format!("{more} {KEYS}")).await
    }

    /// A key with these scopes, and its id.
    async fn key(&self, scopes: &[&str]) -> (String, Value) {
        let made = self.mutate("issueApiKey", json!({ "scopes": scopes })).await;
        (made["key"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned(), made["keyId"].clone())
    }
}

#[tokio::test]
async fn a_key_does_what_its_scopes_name_and_its_accounts_roles_permit() {
    let service = Service::new().await;
    let site = &service.site;
    let (key, _) = service.key(&["tenant.read", "tenant.rename"]).await;
    assert!(key.starts_with("dbk_"));
    let me = site
        .graphql(Some(&key), "{ me { kind actor tenant roles scopes account { id } memberships { id } } }", json!({}))
        .await;
    let expected = json!({
        "kind": "SERVICE", "actor": service.id, "tenant": service.tenant, "roles": ["member"],
        "scopes": ["tenant.rename", "tenant.read"], "account": null, "memberships": [],
    });
    assert_eq!(me.body["data"]["me"], expected, "{}", me.body);
    let read =
        site.graphql(Some(&key), "query($t: UUID!) { tenant(id: $t) { name } }", json!({ "t": service.tenant })).await;
    assert_eq!(read.body["data"]["tenant"]["name"], "Acme", "{}", read.body);
    // In its roles, not in its scopes.
    assert_eq!(site.graphql(Some(&key), "{ members { totalCount } }", json!({})).await.code(), "FORBIDDEN");
    // In its scopes, not in its roles.
    let rename = site.mutate(&key, "renameTenant", json!({ "id": service.tenant, "name": "x" }), "tenant { id }").await;
    assert_eq!(rename.code(), "FORBIDDEN");
    // It is of no session.
    assert_eq!(
        site.mutate(&key, "switchTenant", json!({ "tenant": service.tenant }), "tokens { session }").await.code(),
        "UNAUTHENTICATED"
    );
    assert_eq!(site.mutate(&key, "revokeAllSessions", json!({ "reason": "x" }), "ended").await.code(), "FORBIDDEN");
}

#[tokio::test]
async fn what_a_machine_does_is_written_down_as_its_own() {
    let service = Service::new().await;
    let (key, _) = service.key(&["device.register"]).await;
    let site = &service.site;
    let boss = json!({ "name": "Boss", "roles": ["TENANT_ADMIN"] });
    let made = site.world.mutate(&admin(service.tenant), "registerServiceAccount", boss, "serviceAccount { id }").await;
    let boss = Service { id: made["serviceAccount"]["id"].clone(), tenant: service.tenant, site: service.site };
    let (strong, _) = boss.key(&["tenant.rename"]).await;
    let input = json!({ "id": boss.tenant, "name": "By a machine" });
    let renamed = boss.site.mutate(&strong, "renameTenant", input.clone(), "position").await;
    assert_eq!(renamed.body["data"]["a"]["userErrors"], json!([]), "{}", renamed.body);
    assert_eq!(boss.site.mutate(&key, "renameTenant", input, "position").await.code(), "FORBIDDEN");
    let query = "query($t: UUID!, $p: Position) { auditTrail(tenant: $t, first: 1, atLeast: $p) { nodes { eventType actor actorKind } } }";
    let variables = json!({ "t": boss.tenant, "p": renamed.body["data"]["a"]["position"] });
    let trail = boss.site.graphql(Some(FIXED), query, variables).await;
    let expected = json!([{ "eventType": "platform.tenant.renamed", "actor": boss.id, "actorKind": "SERVICE" }]);
    assert_eq!(trail.body["data"]["auditTrail"]["nodes"], expected, "{}", trail.body);
}

/// Attack 38.
#[tokio::test]
async fn attack_38_a_key_that_was_rotated_or_revoked_lets_nobody_in() {
    let service = Service::new().await;
    let site = &service.site;
    let (first, first_id) = service.key(&["tenant.read"]).await;
    assert_eq!(site.asks(&first).await, 200);
    // With an overlap both are good, without one only the new one is.
    let made = service.mutate("rotateApiKey", json!({ "key": first_id, "overlapHours": 1 })).await;
    let (second, second_id) = (made["key"].as_str().unwrap().to_owned(), made["keyId"].clone());
    assert_eq!((site.asks(&first).await, site.asks(&second).await), (200, 200));
    let made = service.mutate("rotateApiKey", json!({ "key": second_id, "overlapHours": 0 })).await;
    let (third, third_id) = (made["key"].as_str().unwrap().to_owned(), made["keyId"].clone());
    assert_eq!((site.asks(&second).await, site.asks(&third).await), (401, 200));
    assert_eq!(made["serviceAccount"]["keys"][2]["replaces"], second_id);
    service.mutate("revokeApiKey", json!({ "key": first_id, "reason": "published" })).await;
    assert_eq!((site.asks(&first).await, site.asks(&third).await), (401, 200));
    // What was revoked stays so, whatever is done with its id.
    let again = service.mutate("rotateApiKey", json!({ "key": first_id })).await;
    assert_eq!(again["userErrors"][0]["code"], "SERVICE_KEY_OVER", "{again}");
    service.mutate("deactivateServiceAccount", json!({ "reason": "sold" })).await;
    assert_eq!(site.asks(&third).await, 401);
    let none = service.mutate("issueApiKey", json!({ "scopes": ["tenant.read"] })).await;
    assert_eq!(
        (&none["userErrors"][0]["code"], &none["key"]),
        (&json!("SERVICE_DEACTIVATED"), &Value::Null),
        "{third_id}"
    );
}

#[tokio::test]
async fn a_key_that_is_over_or_changed_lets_nobody_in() {
    let service = Service::new().await;
    let soon = system().utc() + chrono::TimeDelta::seconds(2);
    let made = service.mutate("issueApiKey", json!({ "scopes": ["tenant.read"], "expiresAt": soon })).await;
    let key = made["key"].as_str().unwrap();
    service.site.refused(key).await;
    let (good, _) = service.key(&["tenant.read"]).await;
    let flipped = format!("{}{}", &good[..good.len() - 1], if good.ends_with('A') { "B" } else { "A" });
    for wrong in [flipped.as_str(), &good[..40], "dbk_", &format!("{good}A"), &good.to_lowercase()] {
        assert_eq!(service.site.asks(wrong).await, 401, "{wrong}");
    }
    assert_eq!(service.site.asks(&good).await, 200);
}

#[tokio::test]
async fn keys_are_listed_with_their_last_use_and_without_their_secret() {
    let service = Service::new().await;
    let site = &service.site;
    let (key, _) = service.key(&["tenant.read"]).await;
    assert_eq!(site.asks(&key).await, 200);
    site.world.parts.identity.write_uses().await;
    let query = "query($t: UUID) { serviceAccounts(tenant: $t) { nodes { name keys { scopes good lastUsedAt } } } }";
    let listed = site.graphql(Some(FIXED), query, json!({ "t": service.tenant })).await;
    let node = &listed.body["data"]["serviceAccounts"]["nodes"][0];
    assert!(node["keys"][0]["lastUsedAt"].is_string() && node["keys"][0]["good"] == true, "{}", listed.body);
    assert!(!listed.body.to_string().contains("dbk_"));
    // A tenant's own, and of those who may.
    assert_eq!(site.graphql(Some(&key), query, json!({})).await.code(), "FORBIDDEN");
    let superuser = site.world.db.superuser().await;
    let secret = &key[30..];
    let sql =
        "select count(*) from journal.events where payload like '%' || $1 || '%' or metadata like '%' || $1 || '%'";
    assert_eq!(superuser.query_one(sql, &[&secret]).await.unwrap().get::<_, i64>(0), 0);
}

#[tokio::test]
async fn a_scope_that_is_none_and_a_repeat_are_refused() {
    let service = Service::new().await;
    for wrong in [json!(["*"]), json!(["readings"]), json!([])] {
        let refused = service.mutate("issueApiKey", json!({ "scopes": wrong })).await;
        assert_eq!(refused["userErrors"][0]["path"], json!(["input", "scopes"]), "{refused}");
    }
    let input = json!({ "id": service.id, "tenant": service.tenant, "scopes": ["tenant.read"], "clientMutationId": Uuid::from_u128(1) });
    assert_eq!(service.site.mutate(FIXED, "issueApiKey", input, "key").await.code(), "BAD_USER_INPUT");
}

#[tokio::test]
async fn a_socket_of_a_machine_ends_with_its_key() {
    let service = Service::new().await;
    let (key, id) = service.key(&["tenant.read"]).await;
    let mut of_key = socket(&service.site, &key).await;
    let soon = system().utc() + chrono::TimeDelta::seconds(2);
    let made = service.mutate("issueApiKey", json!({ "scopes": ["tenant.read"], "expiresAt": soon })).await;
    let mut of_short = socket(&service.site, made["key"].as_str().unwrap()).await;
    // Long before the next ping.
    let (code, _, took) = closed(&mut of_short).await;
    assert!(code == 4403 && took < std::time::Duration::from_secs(10), "{code} after {took:?}");
    service.mutate("revokeApiKey", json!({ "key": id, "reason": "published" })).await;
    let (code, reason, took) = closed(&mut of_key).await;
    assert_eq!((code, reason.as_str()), (4403, "The token is no longer good: connect again with a new one"));
    assert!(took < std::time::Duration::from_secs(1), "{took:?}");
}

/// Attacks 10 and 12.
#[tokio::test]
async fn attack_10_12_a_mutation_shows_its_caller_nothing_that_it_may_not_read() {
    let site = Site::new().await;
    let tenant = site.world.tenant("Acme").await;
    let ada = site.person(1, tenant, "MEMBER").await;
    let input = json!({ "name": "Clerk", "roles": ["TENANT_ADMIN"] });
    let mut made = site.world.mutate(&admin(tenant), "registerServiceAccount", input, "serviceAccount { id }").await;
    let clerk = Service { site, tenant, id: made["serviceAccount"]["id"].take() };
    let (blind, _) = clerk.key(&["tenant.rename", "membership.changeRoles"]).await;
    let (half, _) = clerk.key(&["membership.changeRoles", "membership.read"]).await;
    let (seeing, _) = clerk.key(&["membership.changeRoles", "membership.read", "membership.readPerson"]).await;
    let site = &clerk.site;

    // It is done, and told to have been done.
    let input = json!({ "id": tenant, "name": "Unseen" });
    let renamed = site.mutate(&blind, "renameTenant", input, "position tenant { name contact { email } }").await;
    let payload = &renamed.body["data"]["a"];
    assert_eq!((&payload["userErrors"], &payload["tenant"]), (&json!([]), &Value::Null), "{}", renamed.body);
    assert!(payload["position"].is_string(), "{}", renamed.body);

    let change = async |key: &str, role: &str| {
        let input = json!({ "id": ada.member, "roles": [role] });
        site.mutate(key, "changeMemberRoles", input, "position member { roles person { email } }").await
    };
    let changed = change(&blind, "VIEWER").await;
    let payload = &changed.body["data"]["a"];
    assert!(payload["position"].is_string() && payload["member"].is_null(), "{}", changed.body);
    let changed = change(&half, "MEMBER").await;
    assert_eq!(changed.code(), "FORBIDDEN", "{}", changed.body);
    let member = &changed.body["data"]["a"]["member"];
    assert_eq!((&member["roles"], &member["person"]), (&json!(["MEMBER"]), &Value::Null), "{}", changed.body);
    assert!(!changed.body.to_string().contains(&ada.email), "{}", changed.body);
    let changed = change(&seeing, "VIEWER").await;
    assert_eq!(changed.body["data"]["a"]["member"]["person"]["email"], json!(ada.email), "{}", changed.body);
}

/// Attack 38, from inside.
#[tokio::test]
async fn attack_38_a_key_makes_no_key_that_is_good_for_more_than_itself() {
    let site = Site::new().await;
    let tenant = site.world.tenant("Acme").await;
    let input = json!({ "name": "Clerk", "roles": ["TENANT_ADMIN"] });
    let mut made = site.world.mutate(&admin(tenant), "registerServiceAccount", input, "serviceAccount { id }").await;
    let clerk = Service { site, tenant, id: made["serviceAccount"]["id"].take() };
    let (narrow, _) = clerk.key(&["service.issueKey", "service.rotateKey"]).await;
    let (_, strong) = clerk.key(&["tenant.rename"]).await;
    let site = &clerk.site;
    let wide = json!({ "id": clerk.id, "scopes": ["service.issueKey", "tenant.rename"] });
    assert_eq!(site.mutate(&narrow, "issueApiKey", wide, "key").await.code(), "FORBIDDEN");
    let rotate = json!({ "id": clerk.id, "key": strong });
    assert_eq!(site.mutate(&narrow, "rotateApiKey", rotate, "key").await.code(), "FORBIDDEN");
    let same = json!({ "id": clerk.id, "scopes": ["service.issueKey"] });
    let issued = site.mutate(&narrow, "issueApiKey", same, "key userErrors { code }").await;
    assert!(issued.body["data"]["a"]["key"].is_string(), "{}", issued.body);
}
