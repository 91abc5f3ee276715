//! The state of a consent, folded from its events. It judges nothing: what happened, happened.

use super::{ConsentEvent, ConsentScope};
use crate::ids::TenantId;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// A consent as its events have made it. Whether it has ended, the clock tells.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Consent {
    #[default]
    Absent,
    Granted(ConsentOf),
    Revoked(ConsentOf),
}

/// Who may read what, until when.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ConsentOf {
    pub provider: TenantId,
    pub scope: ConsentScope,
    /// The first moment at which it allows nothing any more.
    pub until: DateTime<Utc>,
}

impl Consent {
    /// What is consented to at this moment; nothing once revoked or ended.
    pub fn at(&self, now: DateTime<Utc>) -> Option<&ConsentOf> {
        match self {
            Consent::Granted(of) if now < of.until => Some(of),
            Consent::Granted(_) | Consent::Absent | Consent::Revoked(_) => None,
        }
    }

    /// History is not judged: an event that this state would not have produced changes what it can.
    pub(super) fn apply_event(&mut self, event: ConsentEvent) {
        use {Consent::*, ConsentEvent as E};
        *self = match (std::mem::take(self), event) {
            (_, E::Granted { provider, scope, until, .. }) => Granted(ConsentOf { provider, scope, until }),
            (Granted(of) | Revoked(of), E::Revoked { .. }) => Revoked(of),
            (Absent, E::Revoked { .. }) => Absent,
        };
    }
}
