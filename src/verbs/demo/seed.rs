//! Who and what the demo is about: a utility with people, modules, grants and forty devices.
//!
//! Every command has an id that follows from what it is about, so that a second start changes nothing.

use super::client::Caller;
use super::data::{Meter, RESOLUTION_S, ZONE};
use crate::exit::Failure;
use serde_json::{Value, json};
use std::collections::HashMap;
use uuid::Uuid;

/// The id of a command of the demo.
pub fn command(what: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("daybook:demo:{what}").as_bytes())
}

/// Who registers the demo's tenant.
pub fn platform_actor() -> Uuid {
    command("platform")
}

/// Whose administrator the demo's token is.
pub fn tenant() -> Uuid {
    // As the API derives it: from who registers and the command's id.
    Uuid::new_v5(&platform_actor(), command("tenant").as_bytes())
}

/// Name, e-mail, roles in the tenant.
const PEOPLE: [(&str, &str, &[&str]); 6] = [
    ("Ada Brandt", "ada.brandt@example.com", &["TENANT_ADMIN"]),
    ("Jonas Keller", "jonas.keller@example.com", &["MEMBER"]),
    ("Mira Yılmaz", "mira.yilmaz@example.com", &["MEMBER"]),
    ("Paul Okafor", "paul.okafor@example.com", &["MEMBER"]),
    ("Lena Vogt", "lena.vogt@example.com", &["VIEWER"]),
    ("Tomás Ruiz", "tomas.ruiz@example.com", &["VIEWER"]),
];

fn manifests() -> [Value; 3] {
    let role =
        |key: &str, name: &str, permissions: &[&str]| json!({ "key": key, "name": name, "permissions": permissions });
    let embedded = json!({ "kind": "EMBEDDED" });
    [
        json!({ "key": "grid-planner", "name": "Grid planner", "version": "1.4.0", "integration": embedded, "roles": [
            role("planner", "Planner", &["plan.read", "plan.write"]), role("observer", "Observer", &["plan.read"]),
        ]}),
        json!({ "key": "billing", "name": "Billing", "version": "2.0.1", "integration": embedded, "roles": [
            role("clerk", "Clerk", &["invoice.read", "invoice.write"]), role("auditor", "Auditor", &["invoice.read"]),
        ]}),
        json!({ "key": "field-service", "name": "Field service", "version": "0.9.0", "integration": embedded, "roles": [
            role("technician", "Technician", &["visit.read", "visit.write"]),
        ]}),
    ]
}

/// Person, module, role, until.
const GRANTS: [(usize, usize, &str, Option<&str>); 7] = [
    (0, 0, "planner", None),
    (0, 1, "auditor", None),
    (1, 0, "planner", Some("2099-12-31T23:00:00Z")),
    (2, 1, "clerk", None),
    (3, 2, "technician", Some("2099-06-30T22:00:00Z")),
    (4, 0, "observer", None),
    (5, 1, "auditor", Some("2099-12-31T23:00:00Z")),
];

/// Registers whatever is missing. Returns the ids of the devices by their serial numbers.
pub async fn seed(platform: &Caller, tenant: &Caller, meters: &[Meter]) -> Result<HashMap<String, Uuid>, Failure> {
    let input = json!({ "input": { "name": "Sunny Street Utilities", "plan": "ENTERPRISE", "clientMutationId": command("tenant") } });
    platform
        .ask(
            "mutation($input: RegisterTenantInput!) { registerTenant(input: $input) { userErrors { message } } }",
            input,
        )
        .await?;
    let mut members = Vec::new();
    for (name, email, roles) in PEOPLE {
        let input = json!({ "input": { "name": name, "email": email, "clientMutationId": command(email) } });
        let query = "mutation($input: RegisterAccountInput!) { registerAccount(input: $input) { account { id } userErrors { message } } }";
        let account = id(&platform.ask(query, input).await?, "registerAccount", "account")?;
        let input = json!({ "input": { "account": account, "roles": roles, "clientMutationId": command(&format!("member {email}")) } });
        let query =
            "mutation($input: AddMemberInput!) { addMember(input: $input) { member { id } userErrors { message } } }";
        members.push(id(&tenant.ask(query, input).await?, "addMember", "member")?);
    }
    let mut modules = Vec::new();
    for manifest in manifests() {
        let key = manifest["key"].as_str().unwrap_or_default().to_owned();
        let input = json!({ "input": { "manifest": manifest, "clientMutationId": command(&key) } });
        let query = "mutation($input: RegisterModuleInput!) { registerModule(input: $input) { module { id } userErrors { message } } }";
        let module = id(&tenant.ask(query, input).await?, "registerModule", "module")?;
        let input = json!({ "input": { "id": module, "clientMutationId": command(&format!("enable {key}")) } });
        let query = "mutation($input: EnableModuleInput!) { enableModule(input: $input) { userErrors { message } } }";
        tenant.ask(query, input).await?;
        modules.push(module);
    }
    for (n, (person, module, role, until)) in GRANTS.into_iter().enumerate() {
        let mut input = json!({
            "member": members[person], "module": modules[module], "role": role, "reason": "Part of the demo",
            "clientMutationId": command(&format!("grant {n}")),
        });
        if let Some(until) = until {
            input["until"] = until.into();
        }
        let query = "mutation($input: GrantAccessInput!) { grantAccess(input: $input) { userErrors { message } } }";
        tenant.ask(query, json!({ "input": input })).await?;
    }
    let mut devices = HashMap::new();
    for meter in meters {
        let kind = match meter.device.as_str() {
            "heat_pump" => "HEAT_PUMP",
            "ev_charger" => "EV_CHARGER",
            "pv" => "PV",
            _ => "METER",
        };
        let input = json!({
            "name": meter.name, "kind": kind, "serial": meter.serial,
            "site": { "name": format!("Sunny Street {}", devices.len() + 1), "timeZone": ZONE },
            "resolutionS": RESOLUTION_S,
            "direction": if meter.kind == "generation" { "EXPORT" } else { "IMPORT" },
            "maxPowerW": meter.peak_w.to_string(),
            "clientMutationId": command(&meter.serial),
        });
        let query = "mutation($input: RegisterDeviceInput!) { registerDevice(input: $input) { device { id } userErrors { message } } }";
        let device = id(&tenant.ask(query, json!({ "input": input })).await?, "registerDevice", "device")?;
        devices.insert(meter.serial.clone(), device);
    }
    Ok(devices)
}

fn id(data: &Value, mutation: &str, noun: &str) -> Result<Uuid, Failure> {
    let id = data[mutation][noun]["id"].as_str().and_then(|id| id.parse().ok());
    id.ok_or_else(|| Failure { code: 1, message: format!("{mutation} answered without the id of the {noun}: {data}") })
}
