//! The state of a module, folded from its events. It judges nothing: what happened, happened.

use super::{Manifest, ModuleEvent, ModuleKey, Reason};
use serde::{Deserialize, Serialize};

/// A module as its events have made it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Module {
    #[default]
    Absent,
    /// Known, and not enabled yet.
    Registered {
        manifest: Box<Manifest>,
    },
    Enabled {
        manifest: Box<Manifest>,
    },
    Disabled {
        manifest: Box<Manifest>,
        reason: Reason,
    },
    Retired {
        key: ModuleKey,
        reason: Reason,
    },
}

impl Module {
    /// What the module is, until it is retired; nothing before and after.
    pub fn manifest(&self) -> Option<&Manifest> {
        match self {
            Module::Registered { manifest } | Module::Enabled { manifest } | Module::Disabled { manifest, .. } => {
                Some(manifest)
            }
            Module::Absent | Module::Retired { .. } => None,
        }
    }

    /// History is not judged: an event that this state would not have produced changes what it can.
    pub(super) fn apply_event(&mut self, event: ModuleEvent) {
        use {Module::*, ModuleEvent as E};
        *self = match (std::mem::take(self), event) {
            (_, E::Registered { manifest }) => Registered { manifest },

            (Registered { manifest }, E::Upgraded { change }) => {
                Registered { manifest: Box::new(manifest.changed(*change)) }
            }
            (Enabled { manifest }, E::Upgraded { change }) => Enabled { manifest: Box::new(manifest.changed(*change)) },
            (Disabled { manifest, reason }, E::Upgraded { change }) => {
                Disabled { manifest: Box::new(manifest.changed(*change)), reason }
            }

            (Registered { manifest } | Enabled { manifest } | Disabled { manifest, .. }, E::Enabled {}) => {
                Enabled { manifest }
            }
            (Registered { manifest } | Enabled { manifest } | Disabled { manifest, .. }, E::Disabled { reason }) => {
                Disabled { manifest, reason }
            }
            (Registered { manifest } | Enabled { manifest } | Disabled { manifest, .. }, E::Retired { reason }) => {
                Retired { key: manifest.key, reason }
            }
            (unusable @ (Absent | Retired { .. }), _) => unusable,
        };
    }
}
