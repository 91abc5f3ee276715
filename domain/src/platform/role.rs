//! A role that a tenant defines: rules as data. Its stream lives in the tenant.
//!
//! Its id follows from tenant and key, so that a role that is defined again after it was removed continues the same stream. It
//! does not see who holds it: who holds a removed role is allowed nothing by it. Rules come in checked
//! ([`crate::rules::parse_rules`]); it refuses to judge them again, for what history holds was once right.

mod state;

#[cfg(test)]
mod tests;

pub use crate::rules::{FieldRule, RoleName, Rule};
pub use crate::value::{Name, Reason};
pub use state::{DefinedRole, Definition};

use crate::action::{Action, Guarded};
use crate::aggregate::{EventSourced, Refusal};
use crate::context::Context;
use crate::ids::TenantId;
use crate::platform::module::Description;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The one role of a key in a tenant: UUIDv5, in the tenant's namespace, of `role:` and the key.
pub fn role_id(tenant: TenantId, key: &RoleName) -> Uuid {
    Uuid::new_v5(&tenant.0, format!("role:{key}").as_bytes())
}

/// What can be asked of a role. Its JSON form is for the hash of a request; it is never read back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RoleCommand {
    /// Also after a removal.
    Define(Definition),
    /// The whole definition anew; its key stays.
    Change(Definition),
    Remove {
        reason: Reason,
    },
}

impl Guarded for RoleCommand {
    fn action(&self) -> Action {
        match self {
            Self::Define(_) => Action::RoleDefine,
            Self::Change(_) => Action::RoleChange,
            Self::Remove { .. } => Action::RoleRemove,
        }
    }
}

/// What happened to a role. A payload in the journal is the inner object; its tag is in the event's type.
// The lines below are the descriptions in the published schemas.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RoleEvent {
    /// The tenant has a role of its own making. Whatever its key meant before counts no more.
    Defined {
        key: RoleName,
        name: Name,
        #[serde(default, skip_serializing_if = "Description::is_empty")]
        description: Description,
        rules: Vec<Rule>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        fields: Vec<FieldRule>,
        /// The preset that it was copied from. Absent if somebody wrote it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(with = "String")]
        preset: Option<String>,
    },
    /// The role says something else from now on, all of which is here.
    Changed {
        name: Name,
        #[serde(default, skip_serializing_if = "Description::is_empty")]
        description: Description,
        rules: Vec<Rule>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        fields: Vec<FieldRule>,
    },
    /// The role is gone, and allows and denies nothing any more.
    Removed { reason: Reason },
}

impl cqrs_es::DomainEvent for RoleEvent {
    fn event_type(&self) -> String {
        let event = match self {
            Self::Defined { .. } => "defined",
            Self::Changed { .. } => "changed",
            Self::Removed { .. } => "removed",
        };
        format!("platform.role.{event}")
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}

impl crate::Versioned for RoleEvent {}

/// Why a role refuses a command.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RoleError {
    #[error("there is no such role; define it first")]
    NotDefined,
    #[error("the role is defined already, and says something else; change it instead")]
    AlreadyDefined,
    #[error("a role keeps its key; define another role")]
    KeyDiffers,
    #[error("a role has its id from its tenant and key; use the UUIDv5 of the key in the tenant")]
    ForeignStream,
}

impl Refusal for RoleError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotDefined => "ROLE_NOT_DEFINED",
            Self::AlreadyDefined => "ROLE_ALREADY_DEFINED",
            Self::KeyDiffers => "ROLE_KEY_DIFFERS",
            Self::ForeignStream => "ROLE_FOREIGN_STREAM",
        }
    }

    fn path(&self) -> &'static [&'static str] {
        match self {
            Self::NotDefined | Self::AlreadyDefined | Self::KeyDiffers | Self::ForeignStream => &["key"],
        }
    }
}

crate::cqrs_aggregate!(DefinedRole, type = "role", command = RoleCommand, event = RoleEvent, error = RoleError);

impl EventSourced for DefinedRole {
    const CONTEXT: &'static str = "platform";

    fn decide(&self, context: &Context, command: RoleCommand) -> Result<Vec<RoleEvent>, RoleError> {
        use {DefinedRole::*, RoleCommand as C, RoleError as Refused, RoleEvent as E};
        let already_so = || Ok(vec![]);

        match (self, command) {
            (Absent | Removed { .. }, C::Define(definition)) => {
                if context.id != role_id(context.tenant, &definition.key) {
                    return Err(Refused::ForeignStream);
                }
                let Definition { key, name, description, rules, fields, preset } = definition;
                Ok(vec![E::Defined { key, name, description, rules, fields, preset }])
            }
            (Defined(held), C::Define(definition)) => match *held == definition {
                true => already_so(),
                false => Err(Refused::AlreadyDefined),
            },
            (Defined(held), C::Change(definition)) if held.key != definition.key => Err(Refused::KeyDiffers),
            (Defined(held), C::Change(definition)) => {
                let Definition { name, description, rules, fields, .. } = definition;
                let same = (&held.name, &held.description, &held.rules, &held.fields)
                    == (&name, &description, &rules, &fields);
                match same {
                    true => already_so(),
                    false => Ok(vec![E::Changed { name, description, rules, fields }]),
                }
            }
            (Defined(_), C::Remove { reason }) => Ok(vec![E::Removed { reason }]),
            (Removed { .. }, C::Remove { .. }) => already_so(),
            (Absent | Removed { .. }, C::Change(_)) | (Absent, C::Remove { .. }) => Err(Refused::NotDefined),
        }
    }
}
