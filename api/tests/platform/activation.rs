//! Modules that are switched on and off at three levels, the roles that grants of them give, and why somebody may or may not.

use crate::harness::{World, admin, code, credential, id, platform, refusals};
use daybook_app::Credential;
use daybook_domain::{Role, TenantId};
use serde_json::{Value, json};
use uuid::Uuid;

const MANIFEST: &str = "id: bess-sizing
name: BESS Sizing
version: 1.0.0
icon: battery
integration: {type: embedded, entry_point: /modules/bess-sizing}
roles:
  - {name: admin, display_name: Administrator, permissions: ['*']}
  - {name: engineer, permissions: [project.create, 'project.edit:own'], inherits: [viewer]}
  - {name: viewer, permissions: [project.read]}
routes:
  - {path: /projects, name: Projects, permission: project.read}
  - {path: /new, name: New, permission: project.create}
";

/// A tenant with an enabled module, and somebody to whom a role of it is granted.
struct Scene {
    w: World,
    boss: Credential,
    module: Uuid,
    who: Credential,
    member: Uuid,
}

impl Scene {
    async fn new(role: &str) -> Self {
        let w = World::new().await;
        let tenant = w.tenant("Acme").await;
        let boss = admin(tenant);
        let registered = w.mutate(&boss, "registerModule", json!({ "text": MANIFEST }), "module { id }").await;
        let module = id(&registered["module"]["id"]);
        w.mutate(&boss, "enableModule", json!({ "id": module }), "").await;
        let account = w.account(1).await;
        let member = w.member(&boss, account).await;
        let granted = w.grant(&boss, member, module, role).await;
        assert_eq!(granted["grant"]["allowed"], true, "{granted}");
        Scene { boss, module, who: credential(Role::Member, TenantId(tenant), account), member, w }
    }

    fn target(&self, scope: &str) -> Value {
        match scope {
            "PLATFORM" => json!({ "scope": scope, "key": "bess-sizing" }),
            "TENANT" => json!({ "scope": scope, "module": self.module }),
            _ => json!({ "scope": scope, "module": self.module, "member": self.member }),
        }
    }

    async fn switch(&self, who: &Credential, scope: &str, active: bool) -> Value {
        let mut input = self.target(scope);
        (input["active"], input["reason"]) = (json!(active), json!("a hole"));
        let mutation = "mutation($i: SetModuleActivationInput!) { setModuleActivation(input: $i) {
            active position userErrors { path code } } }";
        self.w.ask(who, mutation, json!({ "i": input })).await
    }

    /// Who may at this level.
    fn master(&self, scope: &str) -> Credential {
        if scope == "PLATFORM" { platform() } else { self.boss.clone() }
    }

    async fn mine(&self) -> Vec<String> {
        let asked = "{ myModules { key } me { modules { role } } }";
        let mut answer = self.w.data(&self.who, asked, json!({})).await;
        let keys = |list: Value, field: &str| -> Vec<String> {
            list.as_array().unwrap().iter().map(|of| of[field].as_str().unwrap().to_owned()).collect()
        };
        let (modules, grants) = (answer["myModules"].take(), answer["me"]["modules"].take());
        assert_eq!(modules.as_array().unwrap().is_empty(), grants.as_array().unwrap().is_empty());
        keys(modules, "key")
    }

    async fn explain(&self, action: &str) -> Value {
        let query = "query($a: UUID!, $n: String!) { explainAccess(account: $a, action: $n) {
            allowed reason level decidedBy { role } considered { role holds } } }";
        let variables = json!({ "a": self.who.actor.id, "n": format!("modules.bess-sizing.{action}") });
        self.w.data(&self.boss, query, variables).await["explainAccess"].take()
    }

    async fn denial(&self) -> Value {
        let query = "query($m: UUID!) { grants(filter: { member: { eq: $m } }) { nodes { allowed denial } } }";
        let mut answer = self.w.data(&self.boss, query, json!({ "m": self.member })).await;
        answer["grants"]["nodes"][0].take()
    }
}

#[tokio::test]
async fn a_module_that_is_off_at_any_level_gives_no_access_and_the_level_is_named() {
    let scene = Scene::new("engineer").await;
    let before = scene.w.data(&scene.boss, "{ auditTrail(first: 1) { nodes { position } } }", json!({})).await;
    for (scope, level, denial) in [
        ("PLATFORM", "PLATFORM", "OFF_ON_PLATFORM"),
        ("TENANT", "TENANT", "MODULE_NOT_ENABLED"),
        ("MEMBER", "MEMBER", "OFF_FOR_MEMBER"),
    ] {
        assert_eq!(scene.mine().await, ["bess-sizing"], "{scope}");
        let off = scene.switch(&scene.master(scope), scope, false).await;
        assert_eq!(off["data"]["setModuleActivation"]["active"], false, "{off}");
        assert!(scene.mine().await.is_empty(), "{scope}");
        let explained = scene.explain("project.create").await;
        assert_eq!((&explained["allowed"], &explained["level"]), (&json!(false), &json!(level)), "{explained}");
        assert!(explained["reason"].as_str().unwrap().ends_with(": a hole"), "{explained}");
        assert_eq!(scene.denial().await, json!({ "allowed": false, "denial": denial }));
        // One grant alone, whose surroundings are looked up one by one.
        let counted = "{ grants(filter: { allowedNow: { eq: true } }) { totalCount } }";
        assert_eq!(scene.w.data(&scene.boss, counted, json!({})).await["grants"]["totalCount"], "0");
        // As it was before, it was on.
        let past = "query($p: Position!) { grants(asOf: { position: $p }) { nodes { allowed denial } } }";
        let at = |position: &Value| json!({ "p": position });
        let then = scene.w.data(&scene.boss, past, at(&before["auditTrail"]["nodes"][0]["position"])).await;
        assert_eq!(then["grants"]["nodes"][0]["allowed"], true, "{scope}");
        // The same again is already so, and back.
        scene.switch(&scene.master(scope), scope, false).await;
        let on = scene.switch(&scene.master(scope), scope, true).await;
        assert_eq!(on["data"]["setModuleActivation"]["active"], true, "{on}");
    }
    assert_eq!(scene.mine().await, ["bess-sizing"]);
    // Off for one member only.
    let other = scene.w.account(2).await;
    let member = scene.w.member(&scene.boss, other).await;
    scene.w.grant(&scene.boss, member, scene.module, "viewer").await;
    scene.switch(&scene.boss, "MEMBER", false).await;
    let other = credential(Role::Member, scene.boss.tenant, other);
    let theirs = scene.w.data(&other, "{ myModules { key roles { key } } }", json!({})).await;
    assert_eq!(theirs["myModules"], json!([{ "key": "bess-sizing", "roles": [{ "key": "viewer" }] }]));
    // In the past, too, each of them counts.
    let past = "query($t: DateTime!) { grants(asOf: { time: $t }) { nodes { denial } } }";
    scene.switch(&platform(), "PLATFORM", false).await;
    assert!(scene.mine().await.is_empty());
    let now = json!({ "t": scene.w.parts.system.utc().to_rfc3339() });
    let denials = scene.w.data(&scene.boss, past, now).await["grants"]["nodes"].take();
    assert_eq!(denials, json!([{ "denial": "OFF_ON_PLATFORM" }, { "denial": "OFF_ON_PLATFORM" }]));
    scene.switch(&platform(), "PLATFORM", true).await;
    // Off for the member still, and everything up to here is shown.
    assert!(scene.mine().await.is_empty());
    let now = json!({ "t": scene.w.parts.system.utc().to_rfc3339() });
    let denials = scene.w.data(&scene.boss, past, now).await["grants"]["nodes"].take();
    assert_eq!(denials, json!([{ "denial": "OFF_FOR_MEMBER" }, { "denial": null }]));
}

#[tokio::test]
async fn each_level_is_switched_by_who_may_and_by_nobody_else() {
    let scene = Scene::new("viewer").await;
    for scope in ["PLATFORM", "TENANT", "MEMBER"] {
        assert_eq!(code(&scene.switch(&scene.who, scope, false).await), "FORBIDDEN", "{scope}");
    }
    assert_eq!(code(&scene.switch(&scene.boss, "PLATFORM", false).await), "FORBIDDEN");
    assert_eq!(scene.mine().await, ["bess-sizing"]);
    let other = scene.w.tenant("Other").await;
    assert_eq!(code(&scene.switch_in(&admin(other), scene.boss.tenant).await), "FORBIDDEN");

    let set = async |who: &Credential, input: Value| {
        let mut input = input;
        (input["active"], input["reason"]) = (json!(false), json!("a hole"));
        scene.w.mutate(who, "setModuleActivation", input, "active").await
    };
    for (input, refused, field) in [
        (json!({ "scope": "TENANT" }), "EMPTY", "module"),
        (json!({ "scope": "MEMBER", "module": scene.module }), "EMPTY", "member"),
        (json!({ "scope": "TENANT", "module": scene.module, "key": "a" }), "MALFORMED", "key"),
        (json!({ "scope": "TENANT", "module": scene.module, "member": scene.member }), "MALFORMED", "member"),
        (json!({ "scope": "TENANT", "module": Uuid::nil() }), "MODULE_NOT_REGISTERED", ""),
        (
            json!({ "scope": "MEMBER", "module": Uuid::nil(), "member": scene.member }),
            "MODULE_NOT_REGISTERED",
            "module",
        ),
        (json!({ "scope": "MEMBER", "module": scene.module, "member": Uuid::nil() }), "MEMBERSHIP_NOT_ADDED", ""),
    ] {
        let path = if field.is_empty() { json!([]) } else { json!(["input", field]) };
        assert_eq!(refusals(&set(&scene.boss, input.clone()).await), [(refused, path)], "{input}");
    }
    for (input, refused, field) in [
        (json!({ "scope": "PLATFORM" }), "EMPTY", "key"),
        (json!({ "scope": "PLATFORM", "key": "Bess" }), "MALFORMED", "key"),
        (json!({ "scope": "PLATFORM", "key": "bess", "module": scene.module }), "MALFORMED", "module"),
    ] {
        assert_eq!(refusals(&set(&platform(), input).await), [(refused, json!(["input", field]))]);
    }
}

impl Scene {
    async fn switch_in(&self, who: &Credential, tenant: TenantId) -> Value {
        let mut input = self.target("TENANT");
        (input["active"], input["reason"], input["tenant"]) = (json!(false), json!("x"), json!(tenant.0));
        let mutation = "mutation($i: SetModuleActivationInput!) { setModuleActivation(input: $i) { active } }";
        self.w.ask(who, mutation, json!({ "i": input })).await
    }
}

#[tokio::test]
async fn a_grant_gives_what_the_manifest_says_of_its_role_and_no_longer_when_the_role_is_gone() {
    let scene = Scene::new("engineer").await;
    for (action, allowed, reason) in [
        ("project.create", true, "of the role bess-sizing/engineer allows modules.bess-sizing.project.create"),
        ("project.read", true, "of the role bess-sizing/engineer allows modules.bess-sizing.project.read"),
        ("project.delete", false, "no rule of any role held is about modules.bess-sizing.project.delete"),
        ("project.edit", false, "which is about the caller's own records, would allow"),
    ] {
        let explained = scene.explain(action).await;
        assert_eq!(explained["allowed"], allowed, "{explained}");
        assert!(explained["reason"].as_str().unwrap().contains(reason), "{explained}");
        let (level, role) = match allowed {
            true => (json!("GRANT"), json!({ "role": "bess-sizing/engineer" })),
            false => (Value::Null, Value::Null),
        };
        assert_eq!((&explained["level"], &explained["decidedBy"]), (&level, &role), "{explained}");
    }
    let asked = "{ myModules { name icon release roles { key } permissions routes { path } integration { entryPoint } until } }";
    let mine = scene.w.data(&scene.who, asked, json!({})).await["myModules"].take();
    let expected = json!([{
        "name": "BESS Sizing", "icon": "battery", "release": "1.0.0", "roles": [{ "key": "engineer" }],
        "permissions": ["project.create", "project.edit:own", "project.read"],
        "routes": [{ "path": "/projects" }, { "path": "/new" }],
        "integration": { "entryPoint": "/modules/bess-sizing" }, "until": null,
    }]);
    assert_eq!(mine, expected);

    // A role of the tenant's making takes it away: a denial wins over a grant as well.
    let denial = json!([{ "effect": "DENY", "action": "modules.bess-sizing.project.create" }]);
    let role = json!({ "key": "no_new", "name": "Nothing new", "rules": denial });
    scene.w.mutate(&scene.boss, "defineRole", role, "").await;
    let roles = |custom: &[&str]| json!({ "id": scene.member, "roles": ["MEMBER"], "customRoles": custom });
    scene.w.mutate(&scene.boss, "changeMemberRoles", roles(&["no_new"]), "").await;
    let explained = scene.explain("project.create").await;
    assert_eq!((&explained["allowed"], &explained["decidedBy"]), (&json!(false), &json!({ "role": "no_new" })));
    scene.w.mutate(&scene.boss, "changeMemberRoles", roles(&[]), "").await;

    // The next version has other permissions, and counts at once.
    let upgrade = async |text: String| {
        let input = json!({ "id": scene.module, "text": text });
        let done = scene.w.mutate(&scene.boss, "upgradeModule", input, "module { release }").await;
        assert_eq!(done["userErrors"], json!([]), "{done}");
    };
    upgrade(
        MANIFEST.replace("1.0.0", "1.1.0").replace("project.create, 'project.edit:own'", "project.create, data.export"),
    )
    .await;
    assert_eq!(scene.explain("data.export").await["allowed"], true);
    assert_eq!(scene.explain("project.edit").await["considered"], json!([]));
    // And one without the role: its grants give nothing.
    let gone: Vec<&str> =
        MANIFEST.lines().filter(|line| !line.contains("engineer") && !line.contains("/new")).collect();
    upgrade(gone.join("\n").replace("1.0.0", "2.0.0")).await;
    let explained = scene.explain("project.create").await;
    assert_eq!((&explained["allowed"], &explained["level"]), (&json!(false), &json!("GRANT")), "{explained}");
    let reason = "the grant of the role bess-sizing/engineer allows nothing: the module has no such role any more";
    assert_eq!(explained["reason"], reason);
    assert_eq!(explained["considered"], json!([{ "role": "bess-sizing/engineer", "holds": "FALSE" }]));
    assert!(scene.mine().await.is_empty());
    // What modules keep is not known here.
    let query =
        "query($a: UUID!) { explainAccess(account: $a, action: \"modules.bess-sizing.x\", resource: $a) { allowed } }";
    assert_eq!(code(&scene.w.ask(&scene.boss, query, json!({ "a": scene.who.actor.id })).await), "BAD_USER_INPUT");
    // It is of a module that is not there that nothing is known.
    let query = "query($a: UUID!) { explainAccess(account: $a, action: \"modules.other.x\") { allowed reason level } }";
    let other = scene.w.data(&scene.boss, query, json!({ "a": scene.who.actor.id })).await["explainAccess"].take();
    assert_eq!(other, json!({ "allowed": false, "reason": "the tenant has no module other", "level": "TENANT" }));
}

#[tokio::test]
async fn the_administrator_of_a_module_may_do_everything_in_it_and_nothing_of_the_platforms() {
    let scene = Scene::new("admin").await;
    for action in ["project.create", "project.delete", "whatever.there.is"] {
        assert_eq!(scene.explain(action).await["allowed"], true, "{action}");
    }
    let mine = scene.w.data(&scene.who, "{ myModules { permissions routes { path } } }", json!({})).await;
    let expected = json!([{ "permissions": ["*"], "routes": [{ "path": "/projects" }, { "path": "/new" }] }]);
    assert_eq!(mine["myModules"], expected);
    let permissions = scene.w.data(&scene.who, "{ myPermissions { action } }", json!({})).await;
    assert!(!permissions.to_string().contains("grant."), "{permissions}");
    // About oneself one may ask, about others not.
    let query = "query($a: UUID!) { explainAccess(account: $a, action: \"modules.bess-sizing.x\") { allowed } }";
    let own = scene.w.data(&scene.who, query, json!({ "a": scene.who.actor.id })).await;
    assert_eq!(own["explainAccess"]["allowed"], true);
    assert_eq!(code(&scene.w.ask(&scene.who, query, json!({ "a": Uuid::from_u128(2) })).await), "FORBIDDEN");
    // A service has no membership, and so no modules.
    let service = daybook_domain::Actor { id: Uuid::from_u128(7), kind: daybook_domain::ActorKind::Service };
    let service = Credential::new(service, scene.boss.tenant, vec![Role::Member], None);
    assert_eq!(scene.w.data(&service, "{ myModules { key } }", json!({})).await["myModules"], json!([]));
}
