//! The contracts of the platform's events: tenants, accounts, sessions, memberships, service accounts, modules and grants.
//!
//! Nothing ever leaves this list: see [`crate::registry`].

use super::{
    AccessGrant, Account, Consent, DefinedRole, Membership, Module, ModuleSwitch, Projection, Service, Session, Tenant,
};
use crate::registry::{EventContract, INTERNAL, PUBLIC, event};
use serde_json::{Value, json};

/// Every version of every event here. A new one is one entry; `cargo run -- schemas` does the rest.
pub(crate) fn event_contracts() -> Vec<EventContract> {
    [
        tenants(),
        accounts(),
        sessions(),
        memberships(),
        services(),
        modules(),
        module_switches(),
        grants(),
        roles(),
        consents(),
        projections(),
    ]
    .concat()
}

fn roles() -> Vec<EventContract> {
    let read = || json!({"effect": "allow", "action": "device.read"});
    vec![
        event::<DefinedRole>(
            "defined",
            "1",
            PUBLIC,
            vec![
                json!({
                    "key": "roof_reader",
                    "name": "Reads the roof",
                    "description": "Devices on the roof, without their serial numbers.",
                    "rules": [
                        {"effect": "allow", "action": "device.*", "condition": {"site": {"eq": "Roof"}}},
                        {"effect": "deny", "action": "device.decommission"},
                    ],
                    "fields": [{"field": "device.serial", "read": "mask", "read_only": true}],
                }),
                json!({
                    "key": "engineer",
                    "name": "Engineer",
                    "rules": [{"effect": "allow", "action": "project.edit", "own": true}],
                    "preset": "enterprise",
                }),
            ],
        ),
        event::<DefinedRole>(
            "changed",
            "1",
            PUBLIC,
            vec![
                json!({"name": "Reads devices", "rules": [read()]}),
                json!({
                    "name": "Reads devices",
                    "description": "All of them.",
                    "rules": [read()],
                    "fields": [{"field": "device.serial", "read": "hide"}],
                }),
            ],
        ),
        event::<DefinedRole>("removed", "1", PUBLIC, vec![json!({"reason": "Nobody needs it any more"})]),
    ]
}

fn consents() -> Vec<EventContract> {
    const PROVIDER: &str = "0198f000-0000-7000-8000-000000000003";
    vec![
        event::<Consent>(
            "granted",
            "1",
            PUBLIC,
            vec![
                json!({
                    "provider": PROVIDER,
                    "actions": ["read_devices", "read_readings"],
                    "site": "12 Mill Lane",
                    "until": "2027-01-01T00:00:00Z",
                    "reason": "Advice on the tariff",
                }),
                json!({
                    "provider": PROVIDER,
                    "actions": ["read_devices"],
                    "devices": ["0198f000-0000-7000-8000-000000000004"],
                    "until": "2027-01-01T00:00:00Z",
                    "reason": "Maintenance",
                }),
            ],
        ),
        event::<Consent>("revoked", "1", PUBLIC, vec![json!({"reason": "The contract has ended"})]),
    ]
}

fn tenants() -> Vec<EventContract> {
    const SUBJECT: &str = "0198f000-0000-7000-8000-000000000001";
    let contact = || json!({"$subject": SUBJECT, "value": {"name": "Ada Lovelace", "email": "ada@example.com"}});
    let erased = || json!({"$subject": SUBJECT, "erased": true});

    vec![
        event::<Tenant>(
            "registered",
            "1",
            PUBLIC,
            vec![
                json!({"name": "Example Ltd", "plan": "PRO", "contact": contact(), "domain": "example.com"}),
                json!({"name": "Example Ltd", "plan": "ENTERPRISE", "contact": erased()}),
                json!({"name": "Example Ltd", "plan": "FREE"}),
            ],
        ),
        event::<Tenant>("renamed", "1", PUBLIC, vec![json!({"name": "Example & Sons"})]),
        event::<Tenant>(
            "plan_changed",
            "1",
            PUBLIC,
            vec![json!({"plan": "FREE"}), json!({"plan": "PRO"}), json!({"plan": "ENTERPRISE"})],
        ),
        event::<Tenant>(
            "settings_changed",
            "1",
            PUBLIC,
            vec![
                json!({"set": {"invoice.due_days": 30, "invoice.footer": "Thank you", "beta": true}, "unset": ["logo"]}),
                json!({"set": {}, "unset": ["beta"]}),
            ],
        ),
        event::<Tenant>(
            "contact_changed",
            "1",
            PUBLIC,
            vec![json!({"contact": contact()}), json!({"contact": erased()}), json!({})],
        ),
        event::<Tenant>("domain_claimed", "1", PUBLIC, vec![json!({"domain": "example.org"})]),
        event::<Tenant>("domain_released", "1", PUBLIC, vec![json!({})]),
        event::<Tenant>("suspended", "1", PUBLIC, vec![json!({"reason": "The invoice of May is unpaid"})]),
        event::<Tenant>("reopened", "1", PUBLIC, vec![json!({})]),
        event::<Tenant>("closed", "1", PUBLIC, vec![json!({"reason": "Moved to another platform"})]),
    ]
}

/// Accounts belong to no tenant that an integrator could be of.
fn accounts() -> Vec<EventContract> {
    const SUBJECT: &str = "0198f000-0000-7000-8000-000000000001";
    let own = |value: &str| json!({"$subject": SUBJECT, "value": value});
    let erased = || json!({"$subject": SUBJECT, "erased": true});
    vec![
        event::<Account>(
            "registered",
            "1",
            INTERNAL,
            vec![
                json!({"email": own("ada@example.com"), "name": own("Ada Lovelace")}),
                json!({"email": erased(), "name": erased()}),
            ],
        ),
        event::<Account>("renamed", "1", INTERNAL, vec![json!({"name": own("Ada King")}), json!({"name": erased()})]),
        event::<Account>(
            "email_changed",
            "1",
            INTERNAL,
            vec![json!({"email": own("countess@example.com")}), json!({"email": erased()})],
        ),
        event::<Account>(
            "profile_changed",
            "1",
            INTERNAL,
            vec![
                json!({"set": {
                    "avatar_url": own("https://example.com/ada.png"),
                    "locale": own("en-GB"),
                    "time_zone": own("Europe/London"),
                }}),
                json!({"set": {"locale": erased()}, "unset": ["avatar_url", "time_zone"]}),
            ],
        ),
        event::<Account>(
            "preference_set",
            "1",
            INTERNAL,
            vec![
                json!({"key": "theme", "value": own("dark")}),
                json!({"key": "page.size", "value": {"$subject": SUBJECT, "value": 50}}),
                json!({"key": "theme", "value": erased()}),
            ],
        ),
        event::<Account>("preference_removed", "1", INTERNAL, vec![json!({"key": "theme"})]),
        event::<Account>("deactivated", "1", INTERNAL, vec![json!({"reason": "Left the company"})]),
        event::<Account>("reactivated", "1", INTERNAL, vec![json!({})]),
        event::<Account>(
            "password_set",
            "1",
            INTERNAL,
            vec![json!({"credential": "0198f000-0000-7000-8000-000000000003"})],
        ),
        event::<Account>("platform_role_granted", "1", INTERNAL, vec![json!({"role": "platform_admin"})]),
        event::<Account>("platform_role_revoked", "1", INTERNAL, vec![json!({"role": "platform_admin"})]),
        event::<Account>(
            "sessions_revoked",
            "1",
            INTERNAL,
            vec![json!({"generation": 3, "reason": "The laptop was stolen"})],
        ),
    ]
}

/// As accounts.
fn sessions() -> Vec<EventContract> {
    const ACCOUNT: &str = "0198f000-0000-7000-8000-000000000001";
    const TENANT: &str = "0198f000-0000-7000-8000-000000000004";
    const MEMBERSHIP: &str = "6f7a2b1e-0000-5000-8000-000000000001";
    let started = |tenant: &str| {
        json!({
            "account": ACCOUNT,
            "tenant": tenant,
            "method": "password",
            "account_generation": 1,
            "expires_at": "2026-01-08T00:00:00Z",
        })
    };
    let mut in_a_tenant = started(TENANT);
    in_a_tenant["membership"] = json!(MEMBERSHIP);
    vec![
        event::<Session>("started", "1", INTERNAL, vec![in_a_tenant, started("daeb0000-0000-8000-8000-000000000001")]),
        event::<Session>("refreshed", "1", INTERNAL, vec![json!({"generation": 1})]),
        event::<Session>(
            "tenant_switched",
            "1",
            INTERNAL,
            vec![
                json!({"tenant": TENANT, "membership": MEMBERSHIP}),
                json!({"tenant": "daeb0000-0000-8000-8000-000000000001"}),
            ],
        ),
        event::<Session>(
            "ended",
            "1",
            INTERNAL,
            vec![
                json!({"how": "logged_out"}),
                json!({"how": {"revoked": {"reason": "The laptop was stolen"}}}),
                json!({"how": {"revoked": {}}}),
                json!({"how": "reuse_detected"}),
                json!({"how": "expired"}),
            ],
        ),
    ]
}

fn services() -> Vec<EventContract> {
    const OLD: &str = "0198f000-0000-7000-8000-000000000005";
    const NEW: &str = "0198f000-0000-7000-8000-000000000006";
    vec![
        event::<Service>("registered", "1", PUBLIC, vec![json!({"name": "Meter reader", "roles": ["member"]})]),
        event::<Service>(
            "key_issued",
            "1",
            PUBLIC,
            vec![
                json!({"key": OLD, "scopes": ["device.list", "readings.record"], "expires_at": "2027-01-01T00:00:00Z"}),
                json!({"key": OLD, "scopes": ["readings.record"]}),
            ],
        ),
        event::<Service>(
            "key_rotated",
            "1",
            PUBLIC,
            vec![
                json!({"old": OLD, "new": NEW, "overlap_until": "2026-12-02T00:00:00Z", "expires_at": "2027-12-01T00:00:00Z"}),
                json!({"old": OLD, "new": NEW, "overlap_until": "2026-12-02T00:00:00Z"}),
            ],
        ),
        event::<Service>("key_revoked", "1", PUBLIC, vec![json!({"key": OLD, "reason": "Published by mistake"})]),
        event::<Service>("deactivated", "1", PUBLIC, vec![json!({"reason": "The meters are read otherwise"})]),
    ]
}

fn memberships() -> Vec<EventContract> {
    const ACCOUNT: &str = "0198f000-0000-7000-8000-000000000001";
    let switched = |reason: &str| json!({"module": "0198f000-0000-7000-8000-000000000002", "reason": reason});
    vec![
        event::<Membership>(
            "added",
            "1",
            PUBLIC,
            vec![
                json!({"account": ACCOUNT, "roles": ["tenant_admin"]}),
                json!({"account": ACCOUNT, "roles": ["member", "viewer"]}),
                json!({"account": ACCOUNT, "roles": [], "custom": ["sales_manager"]}),
            ],
        ),
        event::<Membership>(
            "roles_changed",
            "1",
            PUBLIC,
            vec![
                json!({"added": ["tenant_admin"], "removed": ["viewer"]}),
                json!({"added": [], "removed": ["member"]}),
                json!({"added": [], "removed": [], "custom_added": ["doctor"], "custom_removed": ["accountant"]}),
            ],
        ),
        event::<Membership>("ended", "1", PUBLIC, vec![json!({"reason": "The project is over"})]),
        event::<Membership>(
            "rejoined",
            "1",
            PUBLIC,
            vec![json!({"roles": ["viewer"]}), json!({"roles": ["viewer"], "custom": ["doctor"]})],
        ),
        event::<Membership>("module_switched_off", "1", PUBLIC, vec![switched("The exam is on")]),
        event::<Membership>("module_switched_on", "1", PUBLIC, vec![switched("The exam is over")]),
    ]
}

fn modules() -> Vec<EventContract> {
    vec![
        event::<Module>("registered", "1", PUBLIC, registered_modules()),
        event::<Module>(
            "upgraded",
            "1",
            PUBLIC,
            vec![
                json!({"change": {
                    "version": "2.0.0",
                    "name": "Battery sizing",
                    "description": "",
                    "integration": {"kind": "api", "url": "https://bess.example.com/v2"},
                    "roles": {"auditor": {"name": "Auditor", "permissions": ["result.view"]}},
                    "roles_removed": ["viewer"],
                    "routes": [{"path": "/projects", "name": "Projects", "permission": "project.create"}],
                    "settings": {"horizon_years": 25},
                    "settings_removed": ["beta"],
                }}),
                json!({"change": {"version": "1.2.1", "routes": []}}),
                json!({"change": {
                    "version": "1.2.2",
                    "about": {"author": "Example Ltd", "icon": "battery", "category": "planning"},
                    "dependencies": ["audit"],
                    "resources": {"max_items_per_user": 200},
                }}),
                json!({"change": {"version": "1.3.0-rc.1+build.7"}}),
            ],
        ),
        event::<Module>("enabled", "1", PUBLIC, vec![json!({})]),
        event::<Module>("disabled", "1", PUBLIC, vec![json!({"reason": "Maintenance until Monday"})]),
        event::<Module>("retired", "1", PUBLIC, vec![json!({"reason": "Replaced by another module"})]),
    ]
}

/// They belong to no tenant that an integrator could be of.
fn module_switches() -> Vec<EventContract> {
    let turned = |reason: &str| vec![json!({"key": "bess-sizing", "reason": reason})];
    vec![
        event::<ModuleSwitch>("turned_off", "1", INTERNAL, turned("A hole was found in it")),
        event::<ModuleSwitch>("turned_on", "1", INTERNAL, turned("The hole is mended")),
    ]
}

fn registered_modules() -> Vec<Value> {
    let user = || json!({"user": {"name": "User", "permissions": []}});
    vec![
        json!({"manifest": {
            "key": "bess-sizing",
            "name": "BESS sizing",
            "version": "1.2.0",
            "description": "Sizes battery storage.",
            "integration": {"kind": "external", "url": "https://bess.example.com/start"},
            "roles": {
                "engineer": {"name": "Engineer", "permissions": ["project.create", "project.edit:own"]},
                "viewer": {"name": "Viewer", "permissions": ["result.view"]},
            },
            "routes": [
                {"path": "/", "name": "Overview"},
                {"path": "/projects", "name": "Projects", "permission": "project.create"},
            ],
            "settings": {"currency": "EUR", "horizon_years": 20, "beta": false},
        }}),
        json!({"manifest": {
            "key": "notes",
            "name": "Notes",
            "version": "0.1.0",
            "integration": {"kind": "embedded"},
            "roles": user(),
        }}),
        json!({"manifest": {
            "key": "assets",
            "name": "Asset dashboard",
            "version": "1.0.0",
            "about": {"author": "Example Ltd", "icon": "gauge", "category": "monitoring"},
            "integration": {
                "kind": "embedded",
                "entry_point": "/modules/assets",
                "api_prefix": "/api/v1/assets",
                "ui_framework": "streamlit",
            },
            "roles": {"admin": {"name": "Administrator", "permissions": ["*"]}},
            "dependencies": ["audit", "storage"],
            "resources": {"max_items_per_user": 100, "max_operations_per_day": 500, "max_file_size_mb": 50},
        }}),
        json!({"manifest": {
            "key": "legacy",
            "name": "Legacy tool",
            "version": "3.1.0",
            "integration": {"kind": "iframe", "url": "https://legacy.example.com/"},
            "roles": user(),
        }}),
        json!({"manifest": {
            "key": "forecast",
            "name": "Bid forecasting",
            "version": "0.1.0",
            "integration": {"kind": "api", "url": "https://forecast.example.com/"},
            "roles": user(),
        }}),
    ]
}

fn grants() -> Vec<EventContract> {
    let granted = |more: Value| {
        let mut payload = json!({
            "membership": "6f7a2b1e-0000-5000-8000-000000000001",
            "module": "0198f000-0000-7000-8000-000000000002",
            "role": "engineer",
            "reason": "Works on the storage project",
        });
        payload
            .as_object_mut()
            .into_iter()
            .for_each(|object| object.extend(more.as_object().cloned().unwrap_or_default()));
        payload
    };
    vec![
        event::<AccessGrant>(
            "granted",
            "1",
            PUBLIC,
            vec![
                granted(json!({"from": "2026-01-01T00:00:00Z", "until": "2026-07-01T00:00:00Z"})),
                granted(json!({"until": "2026-07-01T12:30:00.000001Z"})),
                granted(json!({})),
            ],
        ),
        event::<AccessGrant>(
            "expiry_changed",
            "1",
            PUBLIC,
            vec![
                json!({"until": "2027-01-01T00:00:00Z", "reason": "The project goes on"}),
                json!({"reason": "Has become permanent"}),
            ],
        ),
        event::<AccessGrant>("revoked", "1", PUBLIC, vec![json!({"reason": "Has moved to another team"})]),
    ]
}

/// What operators decide is nobody's but the platform's.
fn projections() -> Vec<EventContract> {
    const SUBJECT: &str = "0198f000-0000-7000-8000-000000000001";
    let skipped = |operator: Value| json!({"read_model": "devices", "position": 1200, "reason": "Written by a defect that is mended", "operator": operator});
    vec![event::<Projection>(
        "event_skipped",
        "1",
        INTERNAL,
        vec![
            skipped(json!({"$subject": SUBJECT, "value": "ada"})),
            skipped(json!({"$subject": SUBJECT, "erased": true})),
        ],
    )]
}
