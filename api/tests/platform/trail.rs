//! What the audit trail keeps from those who may audit and not see everything.

use crate::harness::{World, admin, platform};
use crate::rules::allow;
use daybook_app::Credential;
use daybook_domain::{Action, TenantId};
use futures_util::StreamExt;
use serde_json::{Value, json};
use std::pin::pin;
use uuid::Uuid;

/// Attack 17: who may audit, and not see the contact or a person.
#[tokio::test]
async fn attack_17_the_trail_tells_nobody_personal_values_that_they_may_not_read_elsewhere() {
    let w = World::new().await;
    let tenant = w.tenant("Acme").await;
    let boss = admin(tenant);
    let contact = json!({ "id": tenant, "contact": { "name": "Ada Lovelace", "email": "ada@acme.example" } });
    let changed = w.mutate(&boss, "changeTenantContact", contact, "tenant { contact { name } }").await;
    assert_eq!(changed["tenant"]["contact"]["name"], "Ada Lovelace", "{changed}");
    w.account(1).await;

    let fields = "eventType changes { path old new masked } sealed truncated";
    let trail = format!("query($t: UUID) {{ auditTrail(tenant: $t) {{ nodes {{ {fields} }} }} }}");
    let stream =
        format!("subscription($t: UUID, $a: Position) {{ events(tenant: $t, after: $a) {{ node {{ {fields} }} }} }}");
    // What somebody is told of one type of event, by page and by stream.
    let told = async |who: &Credential, tenant: Uuid, event_type: &str| {
        let page = w.data(who, &trail, json!({ "t": tenant })).await["auditTrail"]["nodes"].take();
        let from = w.parts.opaque.position(TenantId(tenant), 0);
        let request = World::request(who, &stream, json!({ "t": tenant, "a": from }));
        let mut events = pin!(w.schema.execute_stream(request));
        let streamed = loop {
            let next = serde_json::to_value(events.next().await.unwrap()).unwrap();
            assert!(next.get("errors").is_none(), "{next}");
            if next["data"]["events"]["node"]["eventType"] == event_type {
                break next["data"]["events"]["node"].clone();
            }
        };
        let paged = page.as_array().unwrap().iter().rev().find(|node| node["eventType"] == event_type).unwrap().clone();
        assert_eq!(paged, streamed, "both tell the same");
        paged
    };
    let scoped = |who: &Credential, actions: &[Action]| who.clone().scoped(actions.iter().copied().collect());
    w.role(&boss, "auditor", &[allow("audit.read")], &[]).await;
    w.role(&boss, "insider", &[allow("audit.read"), allow("tenant.readContact")], &[]).await;
    let (auditor, _) = w.holder(&boss, tenant, 2, "auditor").await;
    let (insider, _) = w.holder(&boss, tenant, 3, "insider").await;

    let contact_changed = "platform.tenant.contact_changed";
    let key = scoped(&boss, &[Action::AuditRead]);
    for who in [&key, &auditor] {
        let seen = told(who, tenant, contact_changed).await;
        assert!(!seen.to_string().contains("Ada") && !seen.to_string().contains("acme.example"), "{seen}");
        assert_eq!(seen["changes"], json!([{ "path": ["contact"], "old": null, "new": null, "masked": true }]));
        // What is nobody's is told.
        let registered = told(who, tenant, "platform.tenant.registered").await;
        assert!(registered["changes"].to_string().contains("Acme"), "{registered}");
    }
    for who in [&boss, &insider, &scoped(&boss, &[Action::AuditRead, Action::TenantReadContact])] {
        let seen = told(who, tenant, contact_changed).await;
        assert!(seen.to_string().contains("Ada Lovelace") && seen["changes"][0]["masked"] == false, "{seen}");
    }

    // Names and addresses of accounts, by a key of the platform.
    let accounts = daybook_domain::PLATFORM_TENANT.0;
    let registered = "platform.account.registered";
    let seen = told(&scoped(&platform(), &[Action::AuditRead]), accounts, registered).await;
    assert!(!seen.to_string().contains("Ada") && !seen.to_string().contains("x.example"), "{seen}");
    let personal: Vec<&Value> = seen["changes"].as_array().unwrap().iter().filter(|c| c["masked"] == true).collect();
    assert_eq!(personal.len(), 2, "{seen}");
    let seen = told(&scoped(&platform(), &[Action::AuditRead, Action::AccountRead]), accounts, registered).await;
    assert!(seen.to_string().contains("x.example"), "{seen}");
}

/// Attack 17: a denial wins over the right to audit, as it does over every other.
#[tokio::test]
async fn attack_17_the_trail_tells_no_value_of_what_a_role_denies() {
    let w = World::new().await;
    let tenant = w.tenant("Acme").await;
    let boss = admin(tenant);
    w.device(&boss, "Roof1", "Roof").await;
    let deny = json!({ "effect": "DENY", "action": "device.read" });
    w.role(&boss, "auditor", &[allow("audit.read"), allow("device.*"), deny], &[]).await;
    let (who, _) = w.holder(&boss, tenant, 1, "auditor").await;
    let trail = "{ auditTrail(filter: { subjectType: { eq: \"device\" } }) { nodes { changes { path new masked } } } }";
    let seen = w.data(&who, trail, json!({})).await["auditTrail"]["nodes"][0]["changes"].take();
    let seen = seen.as_array().unwrap();
    assert!(
        !seen.is_empty() && seen.iter().all(|change| change["masked"] == true && change["new"].is_null()),
        "{seen:?}"
    );
}
