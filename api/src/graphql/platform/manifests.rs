//! What a module says of itself, as input and as output.

use crate::graphql::errors::UserError;
use crate::graphql::scalars::BigInt;
use async_graphql::{Enum, InputObject, Json, SimpleObject};
use daybook_domain::InvalidValue;
use daybook_domain::platform::Manifest;
use daybook_domain::platform::module::{
    self, Integration, IntegrationInput, IntegrationKind, RoleInput, RoleKey, Route, RouteInput, text,
};
use daybook_domain::platform::tenant::SettingKey;

/// How a module is part of the platform.
#[derive(Enum, Clone, Copy, PartialEq, Eq, Debug)]
#[graphql(remote = "IntegrationKind")]
pub enum ModuleIntegrationKind {
    /// Part of the platform's own pages.
    Embedded,
    /// An application of its own within the platform's pages.
    Iframe,
    /// A program behind the platform, reached at its address.
    Api,
    /// An application of its own that people are sent to.
    External,
}

/// How a module is part of the platform, and where.
#[derive(SimpleObject, Clone)]
pub struct ModuleIntegration {
    /// How.
    pub kind: ModuleIntegrationKind,
    /// Null for an embedded module, e.g. `"https://sizing.example/start"`.
    pub url: Option<String>,
    /// Where an embedded module begins, e.g. `"/modules/bess-sizing"`.
    pub entry_point: Option<String>,
    /// Where its interface for programs begins, e.g. `"/api/v1/bess-sizing"`.
    pub api_prefix: Option<String>,
    /// What its pages are made with, e.g. `"react"`.
    pub ui_framework: Option<String>,
}

/// How much of something a module may use.
#[derive(SimpleObject, Clone)]
pub struct ModuleResource {
    /// E.g. `"max_items_per_user"`.
    pub key: String,
    /// E.g. `"100"`.
    pub limit: BigInt,
}

/// A role in which a module can be granted.
#[derive(SimpleObject, Clone)]
pub struct ModuleRole {
    /// E.g. `"planner"`.
    pub key: String,
    /// E.g. `"Planner"`.
    pub name: String,
    /// What it may do, in the module's own words, e.g. `["project.view", "project.edit:own"]`; `"*"` is everything.
    pub permissions: Vec<String>,
}

/// A module's entry in a menu.
#[derive(SimpleObject, Clone)]
pub struct ModuleRoute {
    /// Within the module, e.g. `"/projects/recent"`.
    pub path: String,
    /// E.g. `"Recent projects"`.
    pub name: String,
    /// The permission that its visitor needs. Null if any role will do.
    pub permission: Option<String>,
}

impl From<&Integration> for ModuleIntegration {
    fn from(integration: &Integration) -> Self {
        let path = |path: &Option<module::RoutePath>| path.as_ref().map(|path| path.as_str().to_owned());
        ModuleIntegration {
            kind: integration.kind.into(),
            url: integration.url.as_ref().map(|url| url.as_str().to_owned()),
            entry_point: path(&integration.entry_point),
            api_prefix: path(&integration.api_prefix),
            ui_framework: integration.ui_framework.as_ref().map(|word| word.as_str().to_owned()),
        }
    }
}

impl From<(&SettingKey, &u64)> for ModuleResource {
    fn from((key, limit): (&SettingKey, &u64)) -> Self {
        ModuleResource { key: key.as_str().to_owned(), limit: BigInt::from(*limit) }
    }
}

impl From<(&RoleKey, &module::ModuleRole)> for ModuleRole {
    fn from((key, role): (&RoleKey, &module::ModuleRole)) -> Self {
        ModuleRole {
            key: key.as_str().to_owned(),
            name: role.name.as_str().to_owned(),
            permissions: role.permissions.iter().map(|permission| permission.as_str().to_owned()).collect(),
        }
    }
}

impl From<&Route> for ModuleRoute {
    fn from(route: &Route) -> Self {
        ModuleRoute {
            path: route.path.as_str().to_owned(),
            name: route.name.as_str().to_owned(),
            permission: route.permission.as_ref().map(|permission| permission.as_str().to_owned()),
        }
    }
}

/// How a module is part of the platform, and where.
#[derive(InputObject, Clone)]
pub struct ModuleIntegrationInput {
    /// How.
    pub kind: ModuleIntegrationKind,
    /// An address of the scheme https, for all but `EMBEDDED`, e.g. `"https://sizing.example/start"`.
    pub url: Option<String>,
}

/// A role in which a module can be granted.
#[derive(InputObject, Clone)]
pub struct ModuleRoleInput {
    /// A small letter, then at most 62 of a-z, 0-9, _ and -, e.g. `"planner"`.
    pub key: String,
    /// 1–200 characters, e.g. `"Planner"`.
    pub name: String,
    /// At most 100, in the module's own words, e.g. `["project.view", "project.edit:own"]`; `"*"` is everything.
    #[graphql(default)]
    pub permissions: Vec<String>,
}

/// A module's entry in a menu.
#[derive(InputObject, Clone)]
pub struct ModuleRouteInput {
    /// Within the module, e.g. `"/projects/recent"`.
    pub path: String,
    /// 1–200 characters, e.g. `"Recent projects"`.
    pub name: String,
    /// The permission that its visitor needs; one of a role's.
    pub permission: Option<String>,
}

/// What a module says of itself. At most 65,536 bytes as JSON. With author, icon, services that it needs and limits, it is
/// sent as a text: see `text` of `registerModule` and `upgradeModule`.
#[derive(InputObject, Clone)]
pub struct ManifestInput {
    /// A small letter, then at most 62 of a-z, 0-9 and -, e.g. `"bess-sizing"`.
    pub key: String,
    /// 1–200 characters, e.g. `"Battery sizing"`.
    pub name: String,
    /// By the rules of semver.org, e.g. `"1.4.0"`.
    pub version: String,
    /// What it is for, at most 2,000 characters.
    #[graphql(default)]
    pub description: String,
    /// How it is part of the platform.
    pub integration: ModuleIntegrationInput,
    /// 1–50 roles in which it can be granted.
    pub roles: Vec<ModuleRoleInput>,
    /// At most 100 entries in a menu.
    #[graphql(default)]
    pub routes: Vec<ModuleRouteInput>,
    /// At most 50 settings to start with: booleans, whole numbers and texts. No secrets: they are kept in clear.
    pub settings: Option<Json<serde_json::Map<String, serde_json::Value>>>,
}

impl ManifestInput {
    /// The manifest that it describes, or the first field at fault.
    pub(super) fn check(self) -> Result<Box<Manifest>, InvalidValue> {
        let kind = match self.integration.kind {
            ModuleIntegrationKind::Embedded => "embedded",
            ModuleIntegrationKind::Iframe => "iframe",
            ModuleIntegrationKind::Api => "api",
            ModuleIntegrationKind::External => "external",
        };
        let input = module::ManifestInput {
            key: self.key,
            name: self.name,
            version: self.version,
            description: self.description,
            integration: IntegrationInput { kind: kind.to_owned(), url: self.integration.url },
            roles: self
                .roles
                .into_iter()
                .map(|role| RoleInput { key: role.key, name: role.name, permissions: role.permissions })
                .collect(),
            routes: self
                .routes
                .into_iter()
                .map(|route| RouteInput { path: route.path, name: route.name, permission: route.permission })
                .collect(),
            settings: self.settings.map(|Json(settings)| settings.into_iter().collect()).unwrap_or_default(),
        };
        input.check().map(Box::new)
    }
}

/// The manifest that a mutation brings, as an input object or as a text, or what is wrong with it.
pub(super) fn sent(manifest: Option<ManifestInput>, text: Option<&str>) -> Result<Box<Manifest>, Vec<UserError>> {
    match (manifest, text) {
        (Some(manifest), None) => manifest.check().map_err(|invalid| vec![invalid.into()]),
        (None, Some(text)) => text::read(text)
            .map(Box::new)
            .map_err(|faults| faults.iter().map(|fault| UserError::in_text("text", fault)).collect()),
        (None, None) => {
            Err(vec![UserError::new(&["manifest"], "EMPTY", "a manifest is missing: give manifest or text")])
        }
        (Some(_), Some(_)) => {
            Err(vec![UserError::new(&["text"], "DUPLICATE", "a manifest is given once: leave out manifest or text")])
        }
    }
}
