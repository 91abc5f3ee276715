//! Who may ask what there is, and what the others learn from mistakes: nothing.

use crate::harness::{World, admin, code, credential, platform};
use crate::rules::allow;
use crate::site::Site;
use daybook_api::graphql::introspection::Introspection;
use daybook_app::Credential;
use daybook_domain::{Action, Role, TenantId};
use serde_json::{Value, json};
use uuid::Uuid;

const SCHEMA: &str = "{ __schema { queryType { name } types { name } } }";
/// However it is asked.
const WAYS: [&str; 5] = [
    SCHEMA,
    "{ __type(name: \"Tenant\") { fields { name } } }",
    "{ me { tenant } ...F } fragment F on Query { s: __schema { types { name } } }",
    "{ ... on Query { __type(name: \"Device\") { name } } }",
    "query A { me { tenant } } query B { __schema { types { name } } }",
];
/// Misspelt, near to something that there is.
const MISSPELT: [&str; 3] = ["{ tenantz { totalCount } }", "{ me { tenent } }", "{ devices(firzt: 1) { totalCount } }"];

async fn ask(w: &World, who: &Credential, query: &str) -> Value {
    let mut request = World::request(who, query, json!({}));
    if query.contains("query B") {
        request = request.operation_name("A");
    }
    serde_json::to_value(w.schema.execute(request).await).unwrap()
}

/// That it is told everything, or nothing.
async fn assert_sees(w: &World, who: &Credential, sees: bool) {
    for query in WAYS {
        let answer = ask(w, who, query).await;
        if sees {
            assert!(answer.get("errors").is_none(), "{query}: {answer}");
        } else {
            assert_eq!((code(&answer), answer["data"].is_null()), ("FORBIDDEN", true), "{query}: {answer}");
            assert!(answer["errors"][0]["message"].as_str().unwrap().contains(": "), "a remedy: {answer}");
        }
    }
    for query in MISSPELT {
        let answer = ask(w, who, query).await;
        let message = answer["errors"][0]["message"].as_str().unwrap();
        assert!(message.starts_with("Unknown "), "{query}: {answer}");
        assert_eq!(message.contains("Did you mean"), sees, "{query}: {answer}");
    }
    // What tells nothing is everybody's.
    let answer = ask(w, who, "{ __typename me { __typename tenant } }").await;
    assert_eq!(answer["data"]["me"]["__typename"], "Me", "{answer}");
}

/// Attack 21.
#[tokio::test]
async fn attack_21_only_who_may_introspects_and_is_told_what_a_misspelt_name_may_mean() {
    let w = World::new().await;
    let tenant = w.tenant("Acme").await;
    let boss = admin(tenant);
    let of = |role| credential(role, TenantId(tenant), Uuid::from_u128(3));
    for (who, sees) in [(platform(), true), (boss.clone(), true), (of(Role::Member), false), (of(Role::Viewer), false)]
    {
        assert_sees(&w, &who, sees).await;
    }
    // By a role of the tenant's making, until it says otherwise.
    let role = w.role(&boss, "developer", &[allow("schema.read"), allow("tenant.read")], &[]).await;
    let (developer, _) = w.holder(&boss, tenant, 1, "developer").await;
    assert_sees(&w, &developer, true).await;
    let change = json!({ "id": role["role"]["id"], "key": "developer", "name": "Less", "rules": [allow("tenant.read")], "fields": [] });
    w.mutate(&boss, "changeRole", change, "role { version }").await;
    assert_sees(&w, &developer, false).await;
    // A key needs it among its scopes.
    let scoped = |actions: &[Action]| boss.clone().scoped(actions.iter().copied().collect());
    assert_sees(&w, &scoped(&[Action::TenantRead]), false).await;
    assert_sees(&w, &scoped(&[Action::SchemaRead]), true).await;
    // It is counted.
    let denied = "query($t: UUID) { deniedAttempts(tenant: $t) { nodes { action } } }";
    let since = std::time::Instant::now();
    loop {
        let answer = w.ask(&boss, denied, json!({ "t": tenant })).await;
        if answer["data"]["deniedAttempts"].to_string().contains("schema.read") {
            break;
        }
        assert!(since.elapsed() < crate::site::PATIENCE, "not counted: {answer}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Attack 21, by the configuration, and by who has no credential.
#[tokio::test]
async fn attack_21_the_configuration_opens_introspection_to_members_or_closes_it_for_all() {
    let viewer = |tenant| credential(Role::Viewer, TenantId(tenant), Uuid::from_u128(3));
    for (policy, of_viewer, of_platform) in
        [(Introspection::Members, true, true), (Introspection::Nobody, false, false)]
    {
        let w = World::introspected_by(policy).await;
        let tenant = w.tenant("Acme").await;
        assert_sees(&w, &viewer(tenant), of_viewer).await;
        assert_sees(&w, &platform(), of_platform).await;
    }
    // A stranger may log in, and learns no name by it.
    let site = Site::new().await;
    let login = "mutation { login(input: { email: \"a\", password: \"b\" }) { tokenz { session } } }";
    let answer = site.graphql(None, login, json!({})).await;
    let text = answer.body.to_string();
    assert!(text.contains("tokenz") && !text.contains("Did you mean") && !text.contains("tokens"), "{text}");
    // GraphiQL asks with the token of its tab.
    let asked = site.graphql(Some(crate::site::FIXED), SCHEMA, json!({})).await;
    assert_eq!(asked.body["data"]["__schema"]["queryType"]["name"], "Query", "{}", asked.body);
    let tenant = site.world.tenant("Acme").await;
    let ada = site.person(1, tenant, "MEMBER").await;
    let tokens = site.login(&ada).await;
    let refused = site.graphql(tokens["accessToken"].as_str(), SCHEMA, json!({})).await;
    assert_eq!(refused.code(), "FORBIDDEN", "{}", refused.body);
}
