//! From one manifest to the next: the event of an upgrade holds what differs, and nothing else.

use super::manifest::{About, Integration, Manifest, ModuleRole, Route};
use super::values::{Description, Keyword, ModuleVersion, RoleKey};
use crate::platform::tenant::{SettingKey, SettingValue};
use crate::value::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What an upgrade changes. What is absent stays as it was.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ManifestChange {
    pub version: ModuleVersion,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Name")]
    pub name: Option<Name>,
    /// Empty if the module describes itself no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Description")]
    pub description: Option<Description>,
    /// All of it, if any of it differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "About")]
    pub about: Option<About>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Integration")]
    pub integration: Option<Integration>,
    /// Roles that are new or differ, whole.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub roles: BTreeMap<RoleKey, ModuleRole>,
    /// Roles that are gone: grants of them allow nothing any more.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub roles_removed: BTreeSet<RoleKey>,
    /// All entries of the menu, if any of them differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<Route>")]
    pub routes: Option<Vec<Route>>,
    /// Settings that are new or differ.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<SettingKey, SettingValue>,
    /// Settings that are gone.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub settings_removed: BTreeSet<SettingKey>,
    /// All services that it needs, if any of them differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "BTreeSet<Keyword>")]
    pub dependencies: Option<BTreeSet<Keyword>>,
    /// All limits, if any of them differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "BTreeMap<SettingKey, u64>")]
    pub resources: Option<BTreeMap<SettingKey, u64>>,
}

impl ManifestChange {
    /// The parts of a manifest that differ, by their names.
    pub fn parts(&self) -> Vec<&'static str> {
        let parts = [
            ("name", self.name.is_some()),
            ("description", self.description.is_some()),
            ("about", self.about.is_some()),
            ("integration", self.integration.is_some()),
            ("roles", !self.roles.is_empty() || !self.roles_removed.is_empty()),
            ("routes", self.routes.is_some()),
            ("settings", !self.settings.is_empty() || !self.settings_removed.is_empty()),
            ("dependencies", self.dependencies.is_some()),
            ("resources", self.resources.is_some()),
        ];
        parts.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
    }
}

impl Manifest {
    /// What has to change for this manifest to be `next`, of the same key.
    pub fn change_to(&self, next: &Manifest) -> ManifestChange {
        let (roles, roles_removed) = difference(&self.roles, &next.roles);
        let (settings, settings_removed) = difference(&self.settings, &next.settings);
        ManifestChange {
            version: next.version.clone(),
            name: changed(&self.name, &next.name),
            description: changed(&self.description, &next.description),
            about: changed(&self.about, &next.about),
            integration: changed(&self.integration, &next.integration),
            roles,
            roles_removed,
            routes: changed(&self.routes, &next.routes),
            settings,
            settings_removed,
            dependencies: changed(&self.dependencies, &next.dependencies),
            resources: changed(&self.resources, &next.resources),
        }
    }

    /// This manifest after a change. The read model asks the same function.
    #[must_use]
    pub fn changed(self, change: ManifestChange) -> Manifest {
        let (mut roles, mut settings) = (self.roles, self.settings);
        roles.retain(|key, _| !change.roles_removed.contains(key));
        roles.extend(change.roles);
        settings.retain(|key, _| !change.settings_removed.contains(key));
        settings.extend(change.settings);
        Manifest {
            key: self.key,
            name: change.name.unwrap_or(self.name),
            version: change.version,
            description: change.description.unwrap_or(self.description),
            about: change.about.unwrap_or(self.about),
            integration: change.integration.unwrap_or(self.integration),
            roles,
            routes: change.routes.unwrap_or(self.routes),
            settings,
            dependencies: change.dependencies.unwrap_or(self.dependencies),
            resources: change.resources.unwrap_or(self.resources),
        }
    }
}

fn changed<T: Clone + PartialEq>(held: &T, next: &T) -> Option<T> {
    (held != next).then(|| next.clone())
}

/// What is new or differs in `next`, and the keys that it lacks.
fn difference<K: Clone + Ord, V: Clone + PartialEq>(
    held: &BTreeMap<K, V>,
    next: &BTreeMap<K, V>,
) -> (BTreeMap<K, V>, BTreeSet<K>) {
    let set = next.iter().filter(|(key, value)| held.get(*key) != Some(*value));
    let removed = held.keys().filter(|key| !next.contains_key(*key));
    (set.map(|(key, value)| (key.clone(), value.clone())).collect(), removed.cloned().collect())
}
