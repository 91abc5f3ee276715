//! Roles that come with Daybook, as data: a file for each of the kinds of business it serves.
//!
//! A preset is copied into a tenant by its administrator, and is the tenant's own from then on. Nothing of it is built in: what
//! is in the files goes through the same door as what people write.

use super::{Effect, FieldRead, FieldRule, RoleName, Rule, find, parse_fields, parse_rules};
use crate::value::{InvalidValue, Name};
use serde::Deserialize;

const FILES: &[(&str, &str)] = &[
    ("energy", include_str!("presets/energy.json")),
    ("enterprise", include_str!("presets/enterprise.json")),
    ("erp", include_str!("presets/erp.json")),
    ("inventory", include_str!("presets/inventory.json")),
    ("smb", include_str!("presets/smb.json")),
];

/// Roles for one kind of business.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Preset {
    pub key: &'static str,
    pub name: Name,
    pub roles: Vec<PresetRole>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PresetRole {
    pub key: RoleName,
    pub name: Name,
    pub description: String,
    pub rules: Vec<Rule>,
    pub fields: Vec<FieldRule>,
}

#[derive(Deserialize)]
struct File {
    name: String,
    roles: Vec<FileRole>,
}

#[derive(Deserialize)]
struct FileRole {
    key: String,
    name: String,
    description: String,
    rules: Vec<Rule>,
    #[serde(default)]
    fields: Vec<FieldRule>,
}

/// Keys of all presets.
pub fn preset_keys() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|(key, _)| *key)
}

/// The preset of a key.
///
/// # Errors
/// [`InvalidValue`] where there is none of this key.
pub fn preset(key: &str) -> Result<Preset, InvalidValue> {
    let Some((key, text)) = FILES.iter().find(|(known, _)| *known == key) else {
        let known: Vec<&str> = preset_keys().collect();
        let message = format!("there is no preset of this key; there are {}", known.join(", "));
        return Err(InvalidValue::new(&["preset"], "UNKNOWN_VALUE", message));
    };
    let damaged = |error: serde_json::Error| InvalidValue::new(&["preset"], "MALFORMED", error.to_string());
    let file: File = serde_json::from_str(text).map_err(damaged)?;
    let role = |role: FileRole| {
        let rules = role.rules.iter().map(|rule| (rule.effect, rule.action.as_str(), rule.condition.clone(), rule.own));
        let fields = role.fields.iter().map(|rule| (rule.field.as_str(), rule.read, rule.read_only));
        Ok(PresetRole {
            key: RoleName::parse(&role.key)?,
            name: Name::parse(&role.name)?,
            rules: parse_rules(rules.collect(), find)?,
            fields: parse_fields(fields.collect(), find)?,
            description: role.description,
        })
    };
    let roles = file.roles.into_iter().map(role).collect::<Result<_, InvalidValue>>()?;
    Ok(Preset { key, name: Name::parse(&file.name)?, roles })
}

/// Every role of every preset, rule by rule: the golden file `schemas/roles.txt`. The same bytes every time.
pub fn preset_table() -> String {
    let mut text = String::from("role                          resource        action              permits\n");
    for preset in preset_keys().filter_map(|key| preset(key).ok()) {
        for role in preset.roles {
            let name = format!("{}/{}", preset.key, role.key);
            for rule in &role.rules {
                let (resource, action) = rule.action.as_str().split_once('.').unwrap_or(("*", "*"));
                let mut permits = match rule.effect {
                    Effect::Allow => "yes".to_owned(),
                    Effect::Deny => "no".to_owned(),
                };
                if rule.own {
                    permits.push_str(" own");
                }
                if let Some(condition) = &rule.condition {
                    permits.push_str(&format!(" if {condition}"));
                }
                text.push_str(&format!("{name:<30}{resource:<16}{action:<20}{permits}\n"));
            }
            for rule in &role.fields {
                let (resource, field) = rule.field.as_str().split_once('.').unwrap_or(("", ""));
                let read_only = if rule.read_only { ", read-only" } else { "" };
                let shows = match rule.read {
                    FieldRead::Show => "shown",
                    FieldRead::Mask => "masked",
                    FieldRead::Hide => "hidden",
                };
                text.push_str(&format!("{name:<30}{resource:<16}{field:<20}{shows}{read_only}\n"));
            }
        }
    }
    text
}
