//! The one rule model: what a role says, and what several roles come to together.
//!
//! A role is data: rules that allow or deny actions, perhaps only where a condition holds, and rules of fields. Deny wins, unknown
//! denies, and what no rule allows is denied. Roles do not inherit from each other: an inherited role that drops a filter
//! has opened many products, and a preset is copied instead. Refuses to know who holds which role: see `app::authorize`.

mod compiled;
mod explain;
mod input;
mod names;
mod presets;
mod resource;

pub use compiled::{FieldAccess, Permissions, Verdict};
pub use explain::{Considered, Explanation};
pub use input::{parse_fields, parse_rules};
pub use names::{ActionPattern, FieldPath, RoleName};
pub use presets::{Preset, PresetRole, preset, preset_keys, preset_table};
pub use resource::{CLAIMS, Owner, Resource, find};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Rules of one role.
pub const RULES_MAX: usize = 200;
/// Field rules of one role.
pub const FIELDS_MAX: usize = 100;
/// Roles that one member holds.
pub const HELD_MAX: usize = 20;
/// Bytes of a condition's JSON form.
pub const CONDITION_BYTES_MAX: usize = 16_384;

/// Whether a rule gives or takes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    Allow,
    /// Wins over every rule that allows.
    Deny,
}

/// A rule of a role. Its JSON form is what events hold and what people write.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Rule {
    pub effect: Effect,
    /// What it is about, e.g. `device.read`, `device.*` or `*`.
    pub action: ActionPattern,
    /// Of which records it holds, in the condition language. Absent: of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "an_object")]
    pub condition: Option<serde_json::Value>,
    /// Whether it holds of the caller's own records only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own: bool,
}

/// A condition, as a published schema tells of it: the language itself is in `docs/rules.md`.
fn an_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "object" })
}

/// What a role keeps of a field from those who hold it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FieldRead {
    #[default]
    Show,
    /// Only its last characters show.
    Mask,
    /// Nothing of it shows, and nothing can be asked by it.
    Hide,
}

/// A rule of a field of a resource. Of several roles the strictest counts.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct FieldRule {
    /// E.g. `device.serial`.
    pub field: FieldPath,
    #[serde(default, skip_serializing_if = "FieldRule::shows")]
    pub read: FieldRead,
    /// Whether commands that set the field are denied.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}

impl FieldRule {
    fn shows(read: &FieldRead) -> bool {
        *read == FieldRead::Show
    }
}

/// A role as it is evaluated.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RoleRules {
    /// Its key, for explanations.
    pub key: String,
    pub rules: Vec<Rule>,
    pub fields: Vec<FieldRule>,
}

#[cfg(test)]
mod tests;
