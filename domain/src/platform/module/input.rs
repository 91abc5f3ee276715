//! A manifest as programs send it, in any form that serde reads, and the way from there to a
//! checked [`Manifest`]. A field that is misspelt or out of place is refused by its name, never ignored.

#[cfg(test)]
pub(super) mod tests;

use super::manifest::{About, Integration, IntegrationKind, Manifest, ModuleRole, Route};
use super::values::{Description, ModuleKey, ModuleUrl, ModuleVersion, Permission, RoleKey, RoutePath};
use crate::platform::tenant::{SettingKey, SettingValue};
use crate::value::{InvalidValue, Name};
use serde::{Deserialize, Deserializer};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

/// A manifest as written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestInput {
    pub key: String,
    pub name: String,
    pub version: String,
    #[serde(default)]
    pub description: String,
    pub integration: IntegrationInput,
    pub roles: Vec<RoleInput>,
    #[serde(default)]
    pub routes: Vec<RouteInput>,
    #[serde(default)]
    pub settings: BTreeMap<String, serde_json::Value>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntegrationInput {
    /// `embedded`, `iframe`, `api` or `external`.
    pub kind: String,
    /// For all but `embedded`.
    pub url: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleInput {
    pub key: String,
    pub name: String,
    #[serde(default)]
    pub permissions: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteInput {
    pub path: String,
    pub name: String,
    pub permission: Option<String>,
}

impl Manifest {
    /// Reads and checks a manifest, e.g. from a `&serde_json::Value` or a TOML deserializer.
    /// A refusal says where in the manifest the fault is, e.g. `roles[1].key: …`.
    pub fn read<'de, D: Deserializer<'de>>(source: D) -> Result<Self, InvalidValue> {
        let input: ManifestInput = serde_path_to_error::deserialize(source).map_err(|error| {
            let place = match error.path().to_string() {
                root if root == "." => String::new(),
                field => format!("{}: ", plain(&field)),
            };
            // A message of serde may quote its source over several lines; the last one says what is wrong.
            let message = error.inner().to_string();
            let last = message.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
            InvalidValue::new(&["manifest"], "MALFORMED", format!("{place}{}", plain(last)))
        })?;
        input.check()
    }
}

impl ManifestInput {
    /// The manifest that it describes, or the first field at fault.
    pub fn check(self) -> Result<Manifest, InvalidValue> {
        let roles = roles(self.roles)?;
        let routes = routes(self.routes, &roles)?;
        let manifest = Manifest {
            key: ModuleKey::parse(&self.key).map_err(within("key", &["manifest", "key"]))?,
            name: Name::parse(&self.name).map_err(within("name", &["manifest", "name"]))?,
            version: ModuleVersion::parse(&self.version).map_err(within("version", &["manifest", "version"]))?,
            description: Description::parse(&self.description)
                .map_err(within("description", &["manifest", "description"]))?,
            about: About::default(),
            integration: self.integration.check()?,
            roles,
            routes,
            settings: settings(self.settings)?,
            dependencies: BTreeSet::new(),
            resources: BTreeMap::new(),
        };
        manifest.sized()
    }
}

impl Manifest {
    /// Itself, unless its JSON form is too long.
    pub(super) fn sized(self) -> Result<Self, InvalidValue> {
        let bytes = serde_json::to_vec(&self).map_or(usize::MAX, |json| json.len());
        if bytes > Manifest::BYTES_MAX {
            let message = format!("a manifest has at most {} bytes as JSON, this one {bytes}", Manifest::BYTES_MAX);
            return Err(InvalidValue::new(&["manifest"], "TOO_LONG", message));
        }
        Ok(self)
    }
}

impl IntegrationInput {
    fn check(self) -> Result<Integration, InvalidValue> {
        let (path, place): (&'static [&'static str], _) = (&["manifest", "integration"], "integration.url");
        let refused = |code, message: &str| InvalidValue::new(path, code, format!("{place}: {message}"));
        let url = self.url.as_deref().map(ModuleUrl::parse).transpose().map_err(within(place, path))?;
        let needed = || refused("EMPTY", "a module of this kind has an address; add it");
        let kind = match self.kind.as_str() {
            "embedded" => IntegrationKind::Embedded,
            "iframe" => IntegrationKind::Iframe,
            "api" => IntegrationKind::Api,
            "external" => IntegrationKind::External,
            _ => {
                let message = "integration.kind: a module is embedded, iframe, api or external";
                return Err(InvalidValue::new(path, "UNKNOWN_VALUE", message));
            }
        };
        match (kind, url) {
            (IntegrationKind::Embedded, None) => Ok(Integration::of(kind, None)),
            (IntegrationKind::Embedded, Some(_)) => {
                Err(refused("MALFORMED", "an embedded module has no address; remove it"))
            }
            (_, url) => Ok(Integration::of(kind, Some(url.ok_or_else(needed)?))),
        }
    }
}

const ROLES: &[&str] = &["manifest", "roles"];
const ROUTES: &[&str] = &["manifest", "routes"];
const SETTINGS: &[&str] = &["manifest", "settings"];

fn roles(inputs: Vec<RoleInput>) -> Result<BTreeMap<RoleKey, ModuleRole>, InvalidValue> {
    if inputs.is_empty() {
        let message = "roles: a module has at least one role, or it could be granted to nobody";
        return Err(InvalidValue::new(ROLES, "EMPTY", message));
    }
    at_most(Manifest::ROLES_MAX, inputs.len(), ROLES, "roles")?;
    let mut roles = BTreeMap::new();
    for (n, input) in inputs.into_iter().enumerate() {
        let place = |field: &str| format!("roles[{n}].{field}");
        let key = RoleKey::parse(&input.key).map_err(within(place("key"), ROLES))?;
        let name = Name::parse(&input.name).map_err(within(place("name"), ROLES))?;
        at_most(Manifest::PERMISSIONS_MAX, input.permissions.len(), ROLES, &place("permissions"))?;
        let mut permissions = BTreeSet::new();
        for (m, permission) in input.permissions.iter().enumerate() {
            let place = place(&format!("permissions[{m}]"));
            let permission = Permission::parse_of_role(permission).map_err(within(&place, ROLES))?;
            if !permissions.insert(permission) {
                return Err(repeated(ROLES, &place));
            }
        }
        if roles.insert(key, ModuleRole { name, permissions }).is_some() {
            return Err(repeated(ROLES, &place("key")));
        }
    }
    Ok(roles)
}

fn routes(inputs: Vec<RouteInput>, roles: &BTreeMap<RoleKey, ModuleRole>) -> Result<Vec<Route>, InvalidValue> {
    at_most(Manifest::ROUTES_MAX, inputs.len(), ROUTES, "routes")?;
    let (mut routes, mut paths) = (Vec::new(), BTreeSet::new());
    for (n, input) in inputs.into_iter().enumerate() {
        let place = |field: &str| format!("routes[{n}].{field}");
        let path = RoutePath::parse(&input.path).map_err(within(place("path"), ROUTES))?;
        let name = Name::parse(&input.name).map_err(within(place("name"), ROUTES))?;
        let permission = input.permission.as_deref().map(Permission::parse).transpose();
        let permission = permission.map_err(within(place("permission"), ROUTES))?;
        if permission.as_ref().is_some_and(|permission| !roles.values().any(|role| role.may(permission))) {
            let message = "no role of the manifest has this permission, so nobody could visit; correct one of them";
            return Err(InvalidValue::new(ROUTES, "UNKNOWN_VALUE", format!("{}: {message}", place("permission"))));
        }
        if !paths.insert(path.clone()) {
            return Err(repeated(ROUTES, &place("path")));
        }
        routes.push(Route { path, name, permission });
    }
    Ok(routes)
}

fn settings(inputs: BTreeMap<String, serde_json::Value>) -> Result<BTreeMap<SettingKey, SettingValue>, InvalidValue> {
    at_most(Manifest::SETTINGS_MAX, inputs.len(), SETTINGS, "settings")?;
    let setting = |(key, value): (&String, &serde_json::Value)| {
        let key = SettingKey::parse(key).map_err(within("settings", SETTINGS))?;
        let value = SettingValue::parse(value).map_err(within(format!("settings.{key}"), SETTINGS))?;
        Ok((key, value))
    };
    inputs.iter().map(setting).collect()
}

/// The same refusal, with its place in the manifest.
fn within(place: impl Display, path: &'static [&'static str]) -> impl FnOnce(InvalidValue) -> InvalidValue {
    move |refusal| InvalidValue::new(path, refusal.code, format!("{place}: {}", refusal.message))
}

fn at_most(max: usize, count: usize, path: &'static [&'static str], place: &str) -> Result<(), InvalidValue> {
    match count <= max {
        true => Ok(()),
        false => Err(InvalidValue::new(path, "TOO_MANY", format!("{place}: at most {max}, and here are {count}"))),
    }
}

fn repeated(path: &'static [&'static str], place: &str) -> InvalidValue {
    InvalidValue::new(path, "DUPLICATE", format!("{place}: it is there already; name it once"))
}

/// Foreign text fit for a message: bounded, and on one line.
fn plain(text: &str) -> String {
    const CHARS_MAX: usize = 300;
    let shown = text.chars().take(CHARS_MAX).map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c });
    shown.chain(text.chars().nth(CHARS_MAX).map(|_| '…')).collect()
}
