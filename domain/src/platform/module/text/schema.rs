//! The published JSON Schema of a manifest's text, for editors and for other programs. What it cannot say (that no two roles
//! have one name, for instance), reading says.

use super::super::manifest::Manifest;
use super::read::{INTEGRATION, MANIFEST, ROLE, ROUTE};
use crate::platform::tenant::SettingValue;
use serde_json::{Map, Value, json};

/// Fields in the order in which reading knows them; `needed` are the first ones that must be there.
fn object(known: &[&str], needed: &[&str], description: &str, field: impl Fn(&str) -> Value) -> Value {
    let properties: Map<String, Value> = known.iter().map(|name| ((*name).to_owned(), field(name))).collect();
    json!({
        "type": "object",
        "description": description,
        "properties": properties,
        "required": needed,
        "additionalProperties": false,
    })
}

fn text(pattern: &str, description: &str, example: &str) -> Value {
    json!({ "type": "string", "pattern": pattern, "description": description, "examples": [example] })
}

fn line(description: &str, example: &str) -> Value {
    json!({ "type": "string", "minLength": 1, "maxLength": 200, "description": description, "examples": [example] })
}

const KEY: &str = "^[a-z][a-z0-9-]{0,62}$";
const ROLE_KEY: &str = "^[a-z][a-z0-9_-]{0,62}$";
const PERMISSION: &str = "^[a-z][a-z0-9_.:-]{0,63}$";
const PERMISSION_OF_ROLE: &str = "^(\\*|[a-z][a-z0-9_.:-]{0,63})$";
const KEYWORD: &str = "^[A-Za-z0-9][A-Za-z0-9_.:-]{0,62}$";
const VERSION: &str = "^[0-9]+\\.[0-9]+\\.[0-9]+([+-][0-9A-Za-z.+-]+)?$";
const PATH: &str = "^/([A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*)?$";
const ENTRY: &str = "^(/|https://)";
const SETTING: &str = "^[a-z][a-z0-9_.]{0,63}$";

/// JSON Schema 2020-12. The same every time.
pub fn schema() -> Value {
    let mut schema = object(
        MANIFEST,
        &["id", "name", "version", "integration", "roles"],
        "What a module says of itself (module.yaml, or the same as JSON).",
        field,
    );
    if let Some(root) = schema.as_object_mut() {
        root.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
        root.insert("$id".to_owned(), json!("urn:daybook:schema:module"));
        root.insert("title".to_owned(), json!("Module manifest"));
    }
    schema
}

fn field(name: &str) -> Value {
    match name {
        "id" => {
            text(KEY, "What the module is called in addresses. Stays the same through its versions.", "bess-sizing")
        }
        "name" => line("What people call it.", "BESS Sizing"),
        "version" => text(VERSION, "By the rules of semver.org. In quotes if it would be a number.", "1.4.0"),
        "description" => {
            json!({ "type": "string", "maxLength": 2000, "description": "What it is for, in some lines." })
        }
        "author" => line("Who made it.", "Ampyr Energy Tech"),
        "icon" => text(KEYWORD, "The name of an icon.", "battery"),
        "category" => text(KEYWORD, "Where it is shown.", "planning"),
        "integration" => object(INTEGRATION, &["type"], "How it is part of the platform.", integration),
        "roles" => json!({
            "type": "array",
            "description": "The roles in which it can be granted.",
            "minItems": 1,
            "maxItems": Manifest::ROLES_MAX,
            "items": object(ROLE, &["name"], "A role.", role),
        }),
        "dependencies" => json!({
            "type": "array",
            "description": "Services of the platform that it needs.",
            "uniqueItems": true,
            "items": { "enum": Manifest::SERVICES },
        }),
        "resources" => json!({
            "type": "object",
            "description": "How much of something it may use.",
            "maxProperties": Manifest::RESOURCES_MAX,
            "propertyNames": { "pattern": SETTING },
            "additionalProperties": { "type": "integer", "minimum": 0, "maximum": Manifest::RESOURCE_MAX },
            "examples": [{ "max_items_per_user": 100, "max_operations_per_day": 500, "max_file_size_mb": 50 }],
        }),
        "routes" => json!({
            "type": "array",
            "description": "Its entries in a menu, in their order.",
            "maxItems": Manifest::ROUTES_MAX,
            "items": object(ROUTE, &["path", "name"], "An entry in a menu.", route),
        }),
        "settings" => json!({
            "type": "object",
            "description": "What it starts with. Kept in clear: no place for secrets.",
            "maxProperties": Manifest::SETTINGS_MAX,
            "propertyNames": { "pattern": SETTING },
            "additionalProperties": {
                "type": ["boolean", "integer", "string"],
                "maxLength": SettingValue::CHARS_MAX,
                "minimum": i64::MIN,
                "maximum": i64::MAX,
            },
        }),
        _ => Value::Bool(false),
    }
}

fn integration(name: &str) -> Value {
    match name {
        "type" => json!({
            "enum": ["embedded", "iframe", "api", "external"],
            "description": "Within the platform's pages, an application in a frame, a program, or a page elsewhere.",
        }),
        "entry_point" => text(
            ENTRY,
            "A path for an embedded module; an address of the scheme https, which must be there, for the others.",
            "/modules/bess-sizing",
        ),
        "api_prefix" => text(PATH, "Where its interface for programs begins.", "/api/v1/bess-sizing"),
        "ui_framework" => text(KEYWORD, "What its pages are made with.", "react"),
        _ => Value::Bool(false),
    }
}

fn role(name: &str) -> Value {
    match name {
        "name" => text(ROLE_KEY, "What the role is called within the module.", "engineer"),
        "display_name" => line("What people call it; its name unless told.", "Engineer"),
        "permissions" => json!({
            "type": "array",
            "description": "What it may do, in the module's own words; * is everything in the module.",
            "maxItems": Manifest::PERMISSIONS_MAX,
            "uniqueItems": true,
            "items": { "type": "string", "pattern": PERMISSION_OF_ROLE },
            "examples": [["read", "update", "export"], ["*"]],
        }),
        "inherits" => json!({
            "type": "array",
            "description": "Roles of this manifest whose permissions it has as well.",
            "maxItems": Manifest::ROLES_MAX,
            "uniqueItems": true,
            "items": { "type": "string", "pattern": ROLE_KEY },
        }),
        _ => Value::Bool(false),
    }
}

fn route(name: &str) -> Value {
    match name {
        "path" => text(PATH, "Within the module.", "/projects/recent"),
        "name" => line("What the entry says.", "Recent projects"),
        "permission" => text(PERMISSION, "What its visitor needs; one of a role's.", "read"),
        _ => Value::Bool(false),
    }
}
