//! What surrounds a decision: who asks, when, in which tenant, about which stream.

use crate::ids::TenantId;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What kind of party acts. Written into the metadata of every event.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActorKind {
    /// A person, signed in.
    Account,
    /// A machine with a credential of its own.
    Service,
    /// Daybook itself: timers, reactions, maintenance.
    System,
}

/// The party that acts. Comes from the credential only, never from an argument of a request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Actor {
    pub id: Uuid,
    pub kind: ActorKind,
}

/// Deterministic source of ids for entities that a decision creates (not of event ids).
#[derive(Clone, Copy, Debug)]
pub struct EventIds {
    /// Random once per call, so that a decision that runs again mints the same ids.
    pub seed: Uuid,
}

impl EventIds {
    /// The `n`th id of this call.
    pub fn nth(&self, n: u32) -> Uuid {
        Uuid::new_v5(&self.seed, &n.to_be_bytes())
    }
}

/// The arguments of a decision besides the command. Built anew for each call; it is the
/// `Services` type of every cqrs-es aggregate here.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// Id of the stream that decides.
    pub id: Uuid,
    /// The tenant whose stream it is.
    pub tenant: TenantId,
    pub actor: Actor,
    /// When the call arrived. The recorded time of an event is the journal's own.
    pub now: DateTime<Utc>,
    pub ids: EventIds,
}
