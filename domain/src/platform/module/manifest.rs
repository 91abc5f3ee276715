//! What a module says of itself, checked. This is the form that events and snapshots hold; `Deserialize` is for
//! history and checks nothing. What people write is a [`super::ManifestInput`].

use super::values::{Description, ModuleKey, ModuleUrl, ModuleVersion, Permission, RoleKey, RoutePath};
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
    pub integration: Integration,
    /// The roles in which the module can be granted, by their keys.
    pub roles: BTreeMap<RoleKey, ModuleRole>,
    /// The module's entries in a menu, in its order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// What the module starts with. Kept for ever in clear, so no place for secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<SettingKey, SettingValue>,
}

/// How the module is part of the platform.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Integration {
    /// Part of the platform's own pages.
    Embedded,
    /// A program behind the platform, reached at this address.
    Api { url: ModuleUrl },
    /// An application of its own that people are sent to.
    External { url: ModuleUrl },
}

/// A role within a module.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ModuleRole {
    pub name: Name,
    pub permissions: BTreeSet<Permission>,
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
    /// Of its JSON form, so that an event of it stays far below what the journal takes.
    pub const BYTES_MAX: usize = 65_536;
}
