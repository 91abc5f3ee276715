//! How a session begins and ends.

use crate::value::Reason;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How somebody showed who they are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    Password,
}

impl Method {
    /// As in events.
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Password => "password",
        }
    }
}

/// Why a session has ended. By whom is in the metadata.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// By who was logged in, on the same device.
    LoggedOut,
    /// From elsewhere: by its owner on another device, or by an administrator.
    Revoked {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(with = "Reason")]
        reason: Option<Reason>,
    },
    /// A refresh token came that had been exchanged before: it may be in the hands of two.
    ReuseDetected,
    /// Nobody used it for too long, or it was too old.
    Expired,
}

impl Ending {
    /// As in events.
    pub fn as_str(&self) -> &'static str {
        match self {
            Ending::LoggedOut => "logged_out",
            Ending::Revoked { .. } => "revoked",
            Ending::ReuseDetected => "reuse_detected",
            Ending::Expired => "expired",
        }
    }
}
