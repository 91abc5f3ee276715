//! The state of a role, folded from its events. It judges nothing: what happened, happened.

use super::{Description, FieldRule, Name, RoleEvent, RoleName, Rule};
use crate::rules::RoleRules;
use serde::{Deserialize, Serialize};

/// A role as its events have made it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DefinedRole {
    #[default]
    Absent,
    Defined(Definition),
    Removed {
        key: RoleName,
    },
}

/// What a role says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Definition {
    pub key: RoleName,
    pub name: Name,
    pub description: Description,
    pub rules: Vec<Rule>,
    pub fields: Vec<FieldRule>,
    /// The preset that it was copied from.
    pub preset: Option<String>,
}

impl DefinedRole {
    /// What it says now; nothing before it is defined and after it is removed.
    pub fn definition(&self) -> Option<&Definition> {
        match self {
            DefinedRole::Defined(definition) => Some(definition),
            DefinedRole::Absent | DefinedRole::Removed { .. } => None,
        }
    }

    /// What it says, as it is evaluated.
    pub fn rules(&self) -> Option<RoleRules> {
        let Definition { key, rules, fields, .. } = self.definition()?;
        Some(RoleRules { key: key.as_str().to_owned(), rules: rules.clone(), fields: fields.clone() })
    }

    /// History is not judged: an event that this state would not have produced changes what it can.
    pub(super) fn apply_event(&mut self, event: RoleEvent) {
        use {DefinedRole::*, RoleEvent as E};
        *self = match (std::mem::take(self), event) {
            (_, E::Defined { key, name, description, rules, fields, preset }) => {
                Defined(Definition { key, name, description, rules, fields, preset })
            }
            (Defined(held), E::Changed { name, description, rules, fields }) => {
                Defined(Definition { name, description, rules, fields, ..held })
            }
            (Defined(held), E::Removed { .. }) => Removed { key: held.key },
            (other @ (Absent | Removed { .. }), E::Changed { .. } | E::Removed { .. }) => other,
        };
    }
}
