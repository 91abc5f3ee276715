//! A module: a part of the platform that a tenant uses, registered from its manifest. Its stream lives in the tenant.
//!
//! It does not run or reach the module and knows nothing of who may use it (those are grants). That its key is no
//! other module's of the tenant is the journal's to check, by the keys that [`Module::keys`] names.

pub mod action;
mod change;
mod input;
mod manifest;
mod state;
pub mod text;
mod values;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

pub use crate::value::{Name, Reason};
pub use change::ManifestChange;
pub use input::{IntegrationInput, ManifestInput, RoleInput, RouteInput};
pub use manifest::{About, Integration, IntegrationKind, Manifest, ModuleRole, Route};
pub use state::Module;
pub use values::{Description, Keyword, ModuleKey, ModuleUrl, ModuleVersion, Permission, RoleKey, RoutePath};

use crate::action::{Action, Guarded};
use crate::aggregate::{EventSourced, KeyChange, KeyScope, Refusal};
use crate::context::Context;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The kind of the unique key that a module takes in its tenant.
pub const MODULE_KEY: &str = "module.key";

/// What can be asked of a module. Its JSON form is for the hash of a request; it is never read back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ModuleCommand {
    /// A registered module waits until it is enabled.
    Register {
        manifest: Box<Manifest>,
    },
    /// The manifest of a later version under the same key. A role that it lacks is gone, and grants of it allow nothing.
    Upgrade {
        manifest: Box<Manifest>,
    },
    Enable,
    Disable {
        reason: Reason,
    },
    /// As enabling and disabling, in the words of its activation.
    Activate {
        active: bool,
        reason: Reason,
    },
    /// For good: its key is free for another module.
    Retire {
        reason: Reason,
    },
}

impl Guarded for ModuleCommand {
    fn action(&self) -> Action {
        match self {
            Self::Register { .. } => Action::ModuleRegister,
            Self::Upgrade { .. } => Action::ModuleUpgrade,
            Self::Enable => Action::ModuleEnable,
            Self::Disable { .. } => Action::ModuleDisable,
            Self::Activate { .. } => Action::ModuleActivate,
            Self::Retire { .. } => Action::ModuleRetire,
        }
    }
}

/// What happened to a module. A payload in the journal is the inner object; its tag is in the event's type.
// The lines below are the descriptions in the published schemas.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ModuleEvent {
    /// The tenant knows the module, and its key is this module's alone until it is retired. Not enabled yet.
    Registered { manifest: Box<Manifest> },
    /// The module is of a later version.
    Upgraded { change: Box<ManifestChange> },
    /// The module may be used by those to whom it is granted.
    Enabled {},
    /// Nobody may use the module until it is enabled again.
    Disabled { reason: Reason },
    /// The module is gone for good, and its key is free again.
    Retired { reason: Reason },
}

impl cqrs_es::DomainEvent for ModuleEvent {
    fn event_type(&self) -> String {
        let event = match self {
            Self::Registered { .. } => "registered",
            Self::Upgraded { .. } => "upgraded",
            Self::Enabled {} => "enabled",
            Self::Disabled { .. } => "disabled",
            Self::Retired { .. } => "retired",
        };
        format!("platform.module.{event}")
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}

impl crate::Versioned for ModuleEvent {}

/// Why a module refuses a command.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ModuleError {
    #[error("there is no such module; register it first")]
    NotRegistered,
    #[error("the module is registered already; upgrade it, or register another one under an id of its own")]
    AlreadyRegistered,
    #[error("the module is retired for good; register a new one")]
    Retired,
    #[error("the manifest is of another module; a module keeps its key {held}")]
    OtherKey { held: ModuleKey },
    #[error("the module is of version {held} already; an upgrade has a higher one")]
    VersionNotHigher { held: ModuleVersion },
}

impl Refusal for ModuleError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotRegistered => "MODULE_NOT_REGISTERED",
            Self::AlreadyRegistered => "MODULE_ALREADY_REGISTERED",
            Self::Retired => "MODULE_RETIRED",
            Self::OtherKey { .. } => "MODULE_OTHER_KEY",
            Self::VersionNotHigher { .. } => "MODULE_VERSION_NOT_HIGHER",
        }
    }

    fn path(&self) -> &'static [&'static str] {
        match self {
            Self::OtherKey { .. } => &["manifest", "key"],
            Self::VersionNotHigher { .. } => &["manifest", "version"],
            Self::NotRegistered | Self::AlreadyRegistered | Self::Retired => &[],
        }
    }
}

crate::cqrs_aggregate!(Module, type = "module", command = ModuleCommand, event = ModuleEvent, error = ModuleError);

impl EventSourced for Module {
    const CONTEXT: &'static str = "platform";

    fn decide(&self, _: &Context, command: ModuleCommand) -> Result<Vec<ModuleEvent>, ModuleError> {
        use {Module::*, ModuleCommand as C, ModuleError as Refused, ModuleEvent as E};
        let already_so = || Ok(vec![]);

        match (self, command) {
            (Absent, C::Register { manifest }) => Ok(vec![E::Registered { manifest }]),
            (Registered { .. } | Enabled { .. } | Disabled { .. } | Retired { .. }, C::Register { .. }) => {
                Err(Refused::AlreadyRegistered)
            }

            (
                Registered { manifest: held } | Enabled { manifest: held } | Disabled { manifest: held, .. },
                C::Upgrade { manifest },
            ) => upgrade(held, &manifest),

            (Registered { .. } | Disabled { .. }, C::Enable | C::Activate { active: true, .. }) => {
                Ok(vec![E::Enabled {}])
            }
            (Enabled { .. }, C::Enable | C::Activate { active: true, .. }) => already_so(),
            (Enabled { .. }, C::Disable { reason } | C::Activate { active: false, reason }) => {
                Ok(vec![E::Disabled { reason }])
            }
            (Registered { .. } | Disabled { .. }, C::Disable { .. } | C::Activate { active: false, .. }) => {
                already_so()
            }

            (Registered { .. } | Enabled { .. } | Disabled { .. }, C::Retire { reason }) => {
                Ok(vec![E::Retired { reason }])
            }
            (Retired { .. }, C::Retire { .. }) => already_so(),

            (Retired { .. }, C::Upgrade { .. } | C::Enable | C::Disable { .. } | C::Activate { .. }) => {
                Err(Refused::Retired)
            }
            (Absent, C::Upgrade { .. } | C::Enable | C::Disable { .. } | C::Activate { .. } | C::Retire { .. }) => {
                Err(Refused::NotRegistered)
            }
        }
    }

    fn keys(&self, events: &[ModuleEvent]) -> Vec<KeyChange> {
        let change = |key: &ModuleKey, claim| KeyChange {
            scope: KeyScope::Tenant,
            kind: MODULE_KEY,
            key: key.as_str().to_owned(),
            claim,
        };
        let mut held = self.manifest().map(|manifest| manifest.key.clone());
        let mut changes = Vec::new();
        for event in events {
            match event {
                ModuleEvent::Registered { manifest } => {
                    changes.push(change(&manifest.key, true));
                    held = Some(manifest.key.clone());
                }
                ModuleEvent::Retired { .. } => changes.extend(held.take().map(|key| change(&key, false))),
                ModuleEvent::Upgraded { .. } | ModuleEvent::Enabled {} | ModuleEvent::Disabled { .. } => {}
            }
        }
        changes
    }
}

fn upgrade(held: &Manifest, next: &Manifest) -> Result<Vec<ModuleEvent>, ModuleError> {
    if next == held {
        return Ok(vec![]);
    }
    if next.key != held.key {
        return Err(ModuleError::OtherKey { held: held.key.clone() });
    }
    if !next.version.is_above(&held.version) {
        return Err(ModuleError::VersionNotHigher { held: held.version.clone() });
    }
    Ok(vec![ModuleEvent::Upgraded { change: Box::new(held.change_to(next)) }])
}
