//! What a module says of itself, checked. This is the form that events and snapshots hold; `Deserialize` is for
//! history and checks nothing. What programs send is a [`super::ManifestInput`], what people write a text ([`super::text`]).

use super::values::{Description, Keyword, ModuleKey, ModuleUrl, ModuleVersion, Permission, RoleKey, RoutePath};
use crate::platform::tenant::{SettingKey, SettingValue};
use crate::value::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A module's description of itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Manifest {
    pub key: ModuleKey,
    pub name: Name,
    pub version: ModuleVersion,
    /// Absent if there is none.
    #[serde(default, skip_serializing_if = "Description::is_empty")]
    pub description: Description,
    /// Absent if it says nothing of that.
    #[serde(default, skip_serializing_if = "About::is_empty")]
    pub about: About,
    pub integration: Integration,
    /// The roles in which the module can be granted, by their keys.
    pub roles: BTreeMap<RoleKey, ModuleRole>,
    /// The module's entries in a menu, in its order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// What the module starts with. Kept for ever in clear, so no place for secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<SettingKey, SettingValue>,
    /// Services of the platform that it needs, e.g. `storage`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub dependencies: BTreeSet<Keyword>,
    /// How much of something it may use, e.g. `max_items_per_user`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub resources: BTreeMap<SettingKey, u64>,
}

/// Who made a module, and where it is shown.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct About {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Name")]
    pub author: Option<Name>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Keyword")]
    pub icon: Option<Keyword>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Keyword")]
    pub category: Option<Keyword>,
}

impl About {
    fn is_empty(&self) -> bool {
        *self == About::default()
    }
}

/// How the module is part of the platform.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Integration {
    pub kind: IntegrationKind,
    /// Where it lives. Absent for an embedded module.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ModuleUrl")]
    pub url: Option<ModuleUrl>,
    /// Where an embedded module begins. Absent if it does not say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RoutePath")]
    pub entry_point: Option<RoutePath>,
    /// Where its interface for programs begins. Absent if it does not say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RoutePath")]
    pub api_prefix: Option<RoutePath>,
    /// What its pages are made with, e.g. `react`. Absent if it does not say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Keyword")]
    pub ui_framework: Option<Keyword>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IntegrationKind {
    /// Part of the platform's own pages.
    Embedded,
    /// An application of its own within the platform's pages.
    Iframe,
    /// A program behind the platform.
    Api,
    /// An application of its own that people are sent to.
    External,
}

impl Integration {
    pub fn of(kind: IntegrationKind, url: Option<ModuleUrl>) -> Self {
        Integration { kind, url, entry_point: None, api_prefix: None, ui_framework: None }
    }
}

/// A role within a module.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ModuleRole {
    pub name: Name,
    /// Those of roles that it inherits from are among them; `*` is everything in the module.
    pub permissions: BTreeSet<Permission>,
}

impl ModuleRole {
    pub fn may(&self, permission: &Permission) -> bool {
        self.permissions.iter().any(|held| held == permission || held.is_everything())
    }
}

/// An entry in a menu.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Route {
    pub path: RoutePath,
    pub name: Name,
    /// The permission that its visitor needs. Absent if any role will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Permission")]
    pub permission: Option<Permission>,
}

impl Manifest {
    pub const ROLES_MAX: usize = 50;
    /// Of one role.
    pub const PERMISSIONS_MAX: usize = 100;
    pub const ROUTES_MAX: usize = 100;
    pub const SETTINGS_MAX: usize = 50;
    pub const RESOURCES_MAX: usize = 50;
    /// The largest number that JSON keeps everywhere.
    pub const RESOURCE_MAX: u64 = 1 << 53;
    /// What a module can depend on.
    pub const SERVICES: &'static [&'static str] = &["audit", "configuration", "notifications", "storage"];
    /// Of its JSON form, so that an event of it stays far below what the journal takes.
    pub const BYTES_MAX: usize = 65_536;
}
