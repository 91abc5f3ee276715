//! What is written down about every event besides what happened.

use daybook_domain::personal::Personal;
use daybook_domain::{ActorKind, SubjectId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The metadata of an event. The event's id, type and recorded time have columns of their own.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Metadata {
    pub actor: Uuid,
    pub actor_kind: ActorKind,
    /// The party for whom the actor acted, if another.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub on_behalf_of: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session: Option<Uuid>,
    /// Personal data of the actor: sealed before it is hashed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ip: Option<Personal<String>>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub user_agent: Option<Personal<String>>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub module: Option<String>,
    /// The command's name, e.g. `tenant.rename`, and its id.
    pub command: String,
    pub command_id: Uuid,
    /// Binds everything that one request from outside caused.
    pub correlation: String,
    /// The event that caused the command, when one did.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub causation: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub consent: Option<Uuid>,
}

impl Metadata {
    /// The person whose data ip and user agent are.
    pub fn actor_subject(actor: Uuid) -> SubjectId {
        SubjectId(actor)
    }
}
