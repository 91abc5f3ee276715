//! Roles of a tenant's making, consents, and why somebody may or may not: on every path that reads or writes.

use crate::harness::{World, admin, code, id, refusals};
use chrono::{DateTime, TimeDelta, Utc};
use daybook_app::Credential;
use daybook_domain::{Actor, ActorKind, TenantId};
use futures_util::StreamExt;
use serde_json::{Value, json};
use std::pin::pin;
use uuid::Uuid;

/// Somebody without a built-in role.
fn account_of(tenant: Uuid, account: Uuid) -> Credential {
    Credential::new(Actor { id: account, kind: ActorKind::Account }, TenantId(tenant), vec![], None)
}

pub(crate) fn allow(action: &str) -> Value {
    json!({ "effect": "ALLOW", "action": action })
}

pub(crate) fn on_the_roof(action: &str) -> Value {
    json!({ "effect": "ALLOW", "action": action, "condition": { "site": { "eq": "Roof" } } })
}

impl World {
    pub(crate) async fn device(&self, who: &Credential, name: &str, site: &str) -> Value {
        let input = json!({
            "name": name, "kind": "PV", "serial": format!("{name}-12345678"), "resolutionS": 900, "direction": "EXPORT",
            "site": { "name": site, "timeZone": "Europe/Berlin" }, "maxPowerW": "10000",
        });
        self.mutate(who, "registerDevice", input, "device { id }").await["device"]["id"].clone()
    }

    pub(crate) async fn role(&self, who: &Credential, key: &str, rules: &[Value], fields: &[Value]) -> Value {
        let input = json!({ "key": key, "name": key, "rules": rules, "fields": fields });
        self.mutate(who, "defineRole", input, "role { id key version }").await
    }

    /// A member that holds only this role.
    pub(crate) async fn holder(&self, who: &Credential, tenant: Uuid, n: usize, role: &str) -> (Credential, Uuid) {
        let account = self.account(n).await;
        let input = json!({ "account": account, "roles": [], "customRoles": [role] });
        let member = self.mutate(who, "addMember", input, "member { id customRoles }").await;
        assert_eq!(member["member"]["customRoles"], json!([role]), "{member}");
        (account_of(tenant, account), id(&member["member"]["id"]))
    }

    /// The answer's code to a mutation, or its first refusal, or `done`.
    pub(crate) async fn outcome(&self, who: &Credential, field: &str, input: Value) -> String {
        let upper = format!("{}{}", field[..1].to_uppercase(), &field[1..]);
        let query = format!("mutation($i: {upper}Input!) {{ {field}(input: $i) {{ userErrors {{ code }} }} }}");
        let answer = self.ask(who, &query, json!({ "i": input })).await;
        let refused = answer["data"][field]["userErrors"][0]["code"].as_str().map(str::to_owned);
        match code(&answer) {
            "" => refused.unwrap_or_else(|| "done".to_owned()),
            code => code.to_owned(),
        }
    }
}

const DEVICES: &str = "{ devices(orderBy: { field: NAME }) { totalCount nodes { name serial maskedFields } } }";

#[tokio::test]
async fn a_role_with_a_condition_shows_and_changes_its_records_only() {
    let w = World::new().await;
    let tenant = w.tenant("Acme").await;
    let boss = admin(tenant);
    let (roof, cellar) = (w.device(&boss, "Roof1", "Roof").await, w.device(&boss, "Cellar1", "Cellar").await);
    let rules: Vec<Value> =
        ["device.read", "device.list", "readings.read", "device.rename", "device.changeSite", "device.register"]
            .map(on_the_roof)
            .to_vec();
    let fields = [json!({ "field": "device.serial", "read": "MASK", "readOnly": true })];
    let defined = w.role(&boss, "roofer", &rules, &fields).await;
    assert_eq!(defined["role"]["version"], "1", "{defined}");
    let (who, _) = w.holder(&boss, tenant, 1, "roofer").await;

    // Queries: lists, counts, single records, fields.
    let shown = w.data(&who, DEVICES, json!({})).await["devices"].take();
    let expected = json!({ "name": "Roof1", "serial": "…5678", "maskedFields": ["serial"] });
    assert_eq!(shown, json!({ "totalCount": "1", "nodes": [expected] }));
    let one = "query($i: UUID!) { device(id: $i) { name readingTotals(from: \"2025-01-01T00:00:00Z\", to: \"2025-01-02T00:00:00Z\") { count } } }";
    assert_eq!(w.data(&who, one, json!({ "i": roof })).await["device"]["name"], "Roof1");
    assert_eq!(w.data(&who, one, json!({ "i": cellar })).await["device"], Value::Null);
    let filtered = "{ devices(filter: { serial: { startsWith: \"roof\" } }) { totalCount } }";
    assert_eq!(code(&w.ask(&who, filtered, json!({})).await), "FORBIDDEN");
    let not = "{ devices(filter: { not: { serial: { startsWith: \"roof\" } } }) { totalCount } }";
    assert_eq!(code(&w.ask(&who, not, json!({})).await), "FORBIDDEN");

    // Commands: the old image and the new one.
    let rename = |id: &Value| json!({ "id": id, "name": "Renamed" });
    assert_eq!(w.outcome(&who, "renameDevice", rename(&cellar)).await, "FORBIDDEN");
    let hidden = w.outcome(&who, "renameDevice", json!({ "id": cellar, "name": "x", "expectedVersion": "7" })).await;
    assert_eq!(hidden, "FORBIDDEN", "not even that it has another version");
    assert_eq!(w.outcome(&who, "renameDevice", rename(&json!(Uuid::from_u128(9)))).await, "FORBIDDEN");
    assert_eq!(w.outcome(&who, "renameDevice", rename(&roof)).await, "done");
    let site = |name: &str| json!({ "id": roof, "site": { "name": name, "timeZone": "Europe/Berlin" } });
    assert_eq!(w.outcome(&who, "changeDeviceSite", site("Cellar")).await, "FORBIDDEN", "out of one's sight");
    let device = |site: &str, serial: Value| {
        json!({ "name": "New", "kind": "PV", "serial": serial, "resolutionS": 900, "direction": "EXPORT",
                "site": { "name": site, "timeZone": "Europe/Berlin" }, "maxPowerW": "1" })
    };
    assert_eq!(w.outcome(&who, "registerDevice", device("Cellar", Value::Null)).await, "FORBIDDEN");
    assert_eq!(w.outcome(&who, "registerDevice", device("Roof", json!("S1"))).await, "FORBIDDEN", "read-only");
    assert_eq!(w.outcome(&who, "registerDevice", device("Roof", Value::Null)).await, "done");
    assert_eq!(w.outcome(&who, "decommissionDevice", json!({ "id": roof, "reason": "x" })).await, "FORBIDDEN");

    // A role that says something else says it to who holds it, at once; a removed one says nothing.
    let change = json!({ "id": defined["role"]["id"], "key": "roofer", "name": "Cellar", "rules": [
        { "effect": "ALLOW", "action": "device.*", "condition": { "site": { "eq": "Cellar" } } },
    ] });
    w.mutate(&boss, "changeRole", change, "role { version }").await;
    assert_eq!(w.data(&who, DEVICES, json!({})).await["devices"]["nodes"][0]["serial"], "Cellar1-12345678");
    w.mutate(&boss, "removeRole", json!({ "id": defined["role"]["id"], "reason": "over" }), "").await;
    assert_eq!(code(&w.ask(&who, DEVICES, json!({})).await), "FORBIDDEN");
}

#[tokio::test]
async fn a_denial_wins_over_a_built_in_role_and_every_explanation_names_its_rule() {
    let w = World::new().await;
    let tenant = w.tenant("Acme").await;
    let boss = admin(tenant);
    let device = w.device(&boss, "Roof1", "Roof").await;
    let denial = json!({ "effect": "DENY", "action": "device.rename", "condition": { "site": { "eq": "Roof" } } });
    w.role(&boss, "no_roof", &[denial], &[]).await;
    let account = w.account(1).await;
    let input = json!({ "account": account, "roles": ["TENANT_ADMIN"], "customRoles": ["no_roof"] });
    w.mutate(&boss, "addMember", input, "").await;
    let who = crate::harness::credential(daybook_domain::Role::TenantAdmin, TenantId(tenant), account);
    assert_eq!(w.outcome(&who, "renameDevice", json!({ "id": device, "name": "x" })).await, "FORBIDDEN");
    let other = w.device(&boss, "Cellar1", "Cellar").await;
    assert_eq!(w.outcome(&who, "renameDevice", json!({ "id": other, "name": "x" })).await, "done");

    let explain = "query($a: UUID!, $n: String!, $r: UUID) { explainAccess(account: $a, action: $n, resource: $r) {
        allowed reason decidedBy { role rule effect holds } considered { role } } }";
    let ask = async |action: &str, record: &Value| {
        let variables = json!({ "a": account, "n": action, "r": record });
        w.data(&boss, explain, variables).await["explainAccess"].take()
    };
    let denied = ask("device.rename", &device).await;
    assert_eq!(denied["allowed"], false);
    let expected = "rule 1 of the role no_roof, which has a condition, denies device.rename, and a denial wins";
    assert_eq!(denied["reason"], expected);
    assert_eq!(denied["decidedBy"], json!({ "role": "no_roof", "rule": 0, "effect": "DENY", "holds": "TRUE" }));
    assert_eq!(denied["considered"], json!([{ "role": "tenantAdmin" }, { "role": "no_roof" }]));
    assert_eq!(ask("device.rename", &other).await["reason"], "the built-in role tenantAdmin allows device.rename");
    assert_eq!(ask("device.rename", &Value::Null).await["allowed"], false, "unknown denies");
    assert_eq!(ask("tenant.suspend", &Value::Null).await["reason"], "no rule of any role held is about tenant.suspend");
    // About oneself everybody may ask, about others not.
    let (plain, _) = w.holder(&boss, tenant, 2, "no_roof").await;
    let own = json!({ "a": plain.actor.id, "n": "device.read", "r": null });
    assert_eq!(w.data(&plain, explain, own).await["explainAccess"]["allowed"], false);
    let others = json!({ "a": account, "n": "device.read", "r": null });
    assert_eq!(code(&w.ask(&plain, explain, others).await), "FORBIDDEN");
    let stranger = json!({ "a": Uuid::from_u128(5), "n": "device.read", "r": null });
    let stranger = w.data(&boss, explain, stranger).await["explainAccess"]["reason"].take();
    assert_eq!(stranger, "the account is no member of the tenant");
}

#[tokio::test]
async fn presets_are_copied_and_bad_roles_are_refused_at_their_place() {
    let w = World::new().await;
    let tenant = w.tenant("Acme").await;
    let boss = admin(tenant);
    for preset in ["energy", "enterprise", "erp", "inventory", "smb"] {
        let query = "mutation($i: InstallRolesInput!) { installRoles(input: $i) { userErrors { code } roles {
            role { key preset status } userErrors { code } } } }";
        let installed = w.data(&boss, query, json!({ "i": { "preset": preset } })).await["installRoles"].take();
        assert_eq!(installed["userErrors"], json!([]));
        for role in installed["roles"].as_array().unwrap() {
            assert_eq!((&role["role"]["preset"], &role["userErrors"]), (&json!(preset), &json!([])), "{role}");
        }
    }
    let list = w.data(&boss, "{ roles(first: 50) { totalCount nodes { key rules { action } } } }", json!({})).await;
    assert_eq!(list["roles"]["totalCount"], "20", "{list}");
    let (manager, _) = w.holder(&boss, tenant, 1, "energy_manager").await;
    assert_eq!(w.data(&manager, DEVICES, json!({})).await["devices"]["totalCount"], "0");
    let mine = w.data(&manager, "{ myPermissions { action extent } }", json!({})).await;
    let mine: Vec<&str> =
        mine["myPermissions"].as_array().unwrap().iter().filter_map(|p| p["action"].as_str()).collect();
    assert_eq!(mine, ["device.read", "device.list", "readings.read"]);
    assert_eq!(w.outcome(&manager, "defineRole", json!({ "key": "x", "name": "x", "rules": [] })).await, "FORBIDDEN");

    let refused = async |rules: Value| {
        let input = json!({ "key": "bad", "name": "Bad", "rules": rules });
        let payload = w.mutate(&boss, "defineRole", input, "").await;
        payload["userErrors"][0].clone()
    };
    let platforms = refused(json!([allow("device.read"), allow("tenant.suspend")])).await;
    assert_eq!(platforms["code"], "FORBIDDEN_ACTION");
    assert!(platforms["message"].as_str().unwrap().starts_with("rule 2: tenant.suspend"), "{platforms}");
    let typo = json!([{ "effect": "ALLOW", "action": "device.read", "condition": { "sight": { "eq": "x" } } }]);
    assert!(refused(typo).await["message"].as_str().unwrap().contains("condition.sight is no field"));
    let unknown = json!({ "account": w.account(2).await, "roles": [], "customRoles": ["nobody"] });
    let unknown = w.mutate(&boss, "addMember", unknown, "").await;
    assert_eq!(refusals(&unknown), [("ROLE_NOT_DEFINED", json!(["input", "customRoles"]))]);
}

fn at(time: DateTime<Utc>) -> Value {
    json!(time.to_rfc3339())
}

#[tokio::test]
async fn a_provider_reads_under_a_consent_and_its_streams_end_with_it() {
    let w = World::new().await;
    let (customer, provider, nosy) = (w.tenant("Home").await, w.tenant("Power").await, w.tenant("Nosy").await);
    let (owner, boss) = (admin(customer), admin(provider));
    let (mill, other) = (w.device(&owner, "Mill", "Mill Lane").await, w.device(&owner, "Else", "Elsewhere").await);
    w.role(&boss, "advisor", &[allow("consent.use")], &[]).await;
    let (who, _) = w.holder(&boss, provider, 1, "advisor").await;
    let devices = "query($t: UUID) { devices(tenant: $t) { totalCount nodes { name } } }";
    let of = json!({ "t": customer });
    assert_eq!(code(&w.ask(&who, devices, of.clone()).await), "FORBIDDEN");

    let consent = |until: DateTime<Utc>| {
        json!({ "provider": provider, "actions": ["READ_DEVICES", "READ_READINGS"], "site": "Mill Lane",
                "until": at(until), "reason": "advice" })
    };
    let now = w.parts.system.utc();
    let granted = w.mutate(&owner, "grantConsent", consent(now + TimeDelta::days(1)), "consent { id inForce }").await;
    assert_eq!(granted["consent"]["inForce"], true, "{granted}");
    let shown = w.data(&who, devices, of.clone()).await["devices"].take();
    assert_eq!(shown, json!({ "totalCount": "1", "nodes": [{ "name": "Mill" }] }));
    let customers = w.data(&who, "{ customers { nodes { customer inForce site } } }", json!({})).await;
    let expected = json!([{ "customer": customer, "inForce": true, "site": "Mill Lane" }]);
    assert_eq!(customers["customers"]["nodes"], expected);

    // Nobody else, nothing else, and no writing.
    assert_eq!(code(&w.ask(&admin(nosy), devices, of.clone()).await), "FORBIDDEN");
    let one = "query($t: UUID, $i: UUID!) { device(tenant: $t, id: $i) { name } }";
    assert_eq!(w.data(&who, one, json!({ "t": customer, "i": other })).await["device"], Value::Null);
    let rename = json!({ "tenant": customer, "id": mill, "name": "Mine" });
    assert_eq!(w.outcome(&who, "renameDevice", rename).await, "FORBIDDEN");
    let members = "query($t: UUID) { members(tenant: $t) { totalCount } }";
    assert_eq!(code(&w.ask(&who, members, of.clone()).await), "FORBIDDEN");

    // A stream ends within itself when the consent is revoked.
    let stream = "subscription($t: UUID, $d: UUID!, $a: Position) {
        readings(tenant: $t, device: $d, after: $a) { readings { energyWh } } }";
    let variables = json!({ "t": customer, "d": mill, "a": granted["position"] });
    let row =
        |device: &Value| json!([{ "device": device, "time": "2025-01-01T00:00:00Z", "value": "7", "unit": "WH" }]);
    let record =
        "mutation($r: [ReadingInput!]!) { recordReadings(input: { rows: $r }) { accepted userErrors { code } } }";
    let recorded = w.data(&owner, record, json!({ "r": row(&mill) })).await["recordReadings"].take();
    assert_eq!(recorded["accepted"], "1", "{recorded}");
    let next = |answer: Option<async_graphql::Response>| serde_json::to_value(answer.unwrap()).unwrap();
    {
        let mut stream = pin!(w.schema.execute_stream(World::request(&who, stream, variables.clone())));
        let first = next(stream.next().await);
        assert_eq!(first["data"]["readings"]["readings"], json!([{ "energyWh": "7" }]), "{first}");
        let mut second = Box::pin(stream.next());
        assert!(futures_util::poll!(&mut second).is_pending(), "begun, and nothing to tell");
        let revoke = json!({ "id": granted["consent"]["id"], "reason": "enough" });
        w.mutate(&owner, "revokeConsent", revoke, "consent { status }").await;
        assert_eq!(code(&next(second.await)), "FORBIDDEN");
        assert!(stream.next().await.is_none(), "the error is the last word");
    }
    assert_eq!(code(&w.ask(&who, devices, of.clone()).await), "FORBIDDEN");

    // And by the clock alone.
    let soon = w.parts.system.utc() + TimeDelta::milliseconds(1_500);
    let again = w.mutate(&owner, "grantConsent", consent(soon), "").await;
    assert_eq!(again["userErrors"], json!([]));
    let variables = json!({ "t": customer, "d": mill, "a": again["position"] });
    let mut stream = pin!(w.schema.execute_stream(World::request(&who, stream, variables)));
    assert_eq!(code(&next(stream.next().await)), "FORBIDDEN");
    assert!(w.parts.system.utc() >= soon, "not before its end");
    assert_eq!(code(&w.ask(&who, devices, of).await), "FORBIDDEN");
}

#[tokio::test]
async fn a_role_taken_away_ends_the_streams_of_who_held_it() {
    let w = World::new().await;
    let tenant = w.tenant("Acme").await;
    let boss = admin(tenant);
    w.role(&boss, "watcher", &[allow("grant.list"), allow("audit.read"), allow("tenant.read")], &[]).await;
    w.role(&boss, "nothing", &[], &[]).await;
    let (who, member) = w.holder(&boss, tenant, 1, "watcher").await;
    let subscriptions = [
        "subscription { grantChanged { position } }",
        "subscription { events { position } }",
        "subscription { tenantChanged { position } }",
    ];
    let mut streams: Vec<_> =
        subscriptions.iter().map(|s| w.schema.execute_stream(World::request(&who, s, json!({})))).collect();
    for stream in &mut streams {
        assert!(futures_util::poll!(stream.next()).is_pending());
    }
    let change = json!({ "id": member, "roles": [], "customRoles": ["nothing"] });
    w.mutate(&boss, "changeMemberRoles", change, "member { customRoles }").await;
    for (mut stream, text) in streams.into_iter().zip(subscriptions) {
        // What was recorded before may still come, but the refusal is the last word.
        let mut last = None;
        while let Some(answer) = stream.next().await {
            last = Some(serde_json::to_value(answer).unwrap());
        }
        assert_eq!(code(&last.unwrap()), "FORBIDDEN", "{text}");
    }
}

#[tokio::test]
async fn the_trail_tells_no_value_that_a_role_hides() {
    let w = World::new().await;
    let tenant = w.tenant("Acme").await;
    let boss = admin(tenant);
    w.device(&boss, "Roof1", "Roof").await;
    let masked = [json!({ "field": "device.serial", "read": "HIDE" })];
    w.role(&boss, "auditor", &[allow("audit.read"), allow("device.*")], &masked).await;
    w.role(&boss, "roofer", &[allow("audit.read"), on_the_roof("device.read")], &[]).await;
    let trail = "{ auditTrail(filter: { subjectType: { eq: \"device\" } }) { nodes { changes { path new masked } } } }";
    let changes = async |who: &Credential| {
        let mut answer = w.data(who, trail, json!({})).await;
        answer["auditTrail"]["nodes"][0]["changes"].take().as_array().unwrap().clone()
    };
    let (auditor, _) = w.holder(&boss, tenant, 1, "auditor").await;
    let seen = changes(&auditor).await;
    for change in &seen {
        let is_serial = change["path"] == json!(["serial"]);
        assert_eq!((change["masked"] == true, change["new"].is_null()), (is_serial, is_serial), "{change}");
    }
    assert!(seen.iter().any(|change| change["masked"] == true) && seen.len() > 3, "{seen:?}");
    // Who may see some devices only is told of the values of none.
    let (roofer, _) = w.holder(&boss, tenant, 2, "roofer").await;
    let seen = changes(&roofer).await;
    assert!(!seen.is_empty() && seen.iter().all(|change| change["masked"] == true && change["new"].is_null()));
}
