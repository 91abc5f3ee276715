//! The append contract: what one append asks for, and what it is answered.

use crate::system::Micros;
use daybook_domain::TenantId;
use serde::{Deserialize, Serialize};
use std::fmt;
use uuid::Uuid;

/// Limits of one append. A call that needs more is split into chunks with command ids of their own.
pub const EVENTS_MAX: usize = 2_000;
pub const STREAMS_MAX: usize = 200;
pub const CLAIMS_MAX: usize = 200;
/// Bytes of one payload or metadata.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// Bytes of all payloads and metadata of one append.
pub const APPEND_BYTES_MAX: usize = 8 << 20;

/// The name of a stream type or of a kind of unique key. An alias, so that serde does not try to borrow it from
/// what it reads.
pub type Kind = &'static str;

/// Which stream, within the tenant of the append.
#[derive(Clone, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamId {
    /// The aggregate's type, e.g. `tenant`.
    #[serde(deserialize_with = "super::wire::kind")]
    pub kind: Kind,
    pub id: Uuid,
}

/// A stream together with its tenant: unique in a journal.
#[derive(Clone, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct StreamKey {
    pub tenant: TenantId,
    pub stream: StreamId,
}

/// An event as it will be stored: personal fields sealed, bytes final.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewEvent {
    /// UUIDv7, assigned before encryption (it is authenticated data there).
    pub event_id: Uuid,
    /// `<context>.<aggregate>.<event>`
    pub event_type: String,
    pub event_version: u32,
    /// UTF-8 JSON object without U+0000.
    pub payload: String,
    /// UTF-8 JSON object without U+0000.
    pub metadata: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamAppend {
    pub stream: StreamId,
    /// Number of events in the stream that the decision was based on.
    pub expected: u64,
    pub events: Vec<NewEvent>,
}

/// A unique key, already reduced to its keyed hash.
#[derive(Clone, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimKey {
    /// The tenant within which it is unique; the platform's for platform scope.
    pub scope: TenantId,
    #[serde(deserialize_with = "super::wire::kind")]
    pub kind: Kind,
    pub hash: [u8; 32],
}

/// Identity of a command and of what it asked for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandStamp {
    /// Where its record lives: the tenant's own, or the platform's.
    pub tenant: TenantId,
    pub id: Uuid,
    /// SHA-256 over the request and its actor.
    pub digest: [u8; 32],
    /// A key for this record alone; the stored hash is HMAC(key, digest).
    pub hash_key: [u8; 32],
    /// The id was just minted here, so nobody can have used it: the look-up is spared.
    pub fresh: bool,
}

impl CommandStamp {
    /// Whether both are attempts under the same id.
    pub(super) fn names(&self, other: &CommandStamp) -> bool {
        (self.tenant, self.id) == (other.tenant, other.id)
    }
}

/// One append: all or nothing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Append {
    /// Every event, stream, read and tenant-scoped claim belongs to this tenant.
    pub tenant: TenantId,
    pub command: CommandStamp,
    pub streams: Vec<StreamAppend>,
    /// Streams the decision looked at without writing to them, with the version it saw.
    pub reads: Vec<(StreamId, u64)>,
    pub claims: Vec<(ClaimKey, StreamId)>,
    pub releases: Vec<ClaimKey>,
    /// Refused when the recorded time would be later than this (µs, inclusive).
    pub not_after: Option<Micros>,
}

impl Append {
    /// Bytes of payloads and metadata.
    pub fn bytes(&self) -> usize {
        self.streams.iter().flat_map(|s| &s.events).map(|e| e.payload.len() + e.metadata.len()).sum()
    }

    pub fn events(&self) -> usize {
        self.streams.iter().map(|s| s.events.len()).sum()
    }

    /// Checks everything that needs no look-up.
    ///
    /// # Errors
    /// [`AppendError::Invalid`] naming the part at fault.
    pub fn check(&self) -> Result<(), AppendError> {
        let invalid = |what: String| Err(AppendError::Invalid(what));
        if self.events() > EVENTS_MAX {
            return invalid(format!("{} events in one append; split it at {EVENTS_MAX}", self.events()));
        }
        if self.streams.len() + self.reads.len() > STREAMS_MAX {
            return invalid(format!("{} streams in one append; the limit is {STREAMS_MAX}", self.streams.len()));
        }
        if self.claims.len() + self.releases.len() > CLAIMS_MAX {
            return invalid(format!("more than {CLAIMS_MAX} unique keys in one append"));
        }
        if self.bytes() > APPEND_BYTES_MAX {
            return invalid(format!("{} bytes in one append; split it at {APPEND_BYTES_MAX}", self.bytes()));
        }
        let mut seen = std::collections::HashSet::new();
        for stream in self.streams.iter().map(|s| &s.stream).chain(self.reads.iter().map(|r| &r.0)) {
            if !seen.insert(stream) {
                return invalid(format!("stream {stream} is named twice"));
            }
        }
        let mut keys = std::collections::HashSet::new();
        for key in self.claims.iter().map(|c| &c.0).chain(&self.releases) {
            if !keys.insert(key) {
                return invalid(format!("a unique key of kind {} is named twice", key.kind));
            }
        }
        for event in self.streams.iter().flat_map(|s| &s.events) {
            for (name, text) in [("payload", &event.payload), ("metadata", &event.metadata)] {
                if text.len() > PAYLOAD_BYTES_MAX {
                    return invalid(format!(
                        "{name} of {} has {} bytes; the limit is {PAYLOAD_BYTES_MAX}",
                        event.event_type,
                        text.len()
                    ));
                }
                if holds_nul(text) {
                    return invalid(format!("{name} of {} holds U+0000", event.event_type));
                }
            }
        }
        Ok(())
    }
}

/// Whether a JSON text holds U+0000, raw or escaped.
fn holds_nul(json: &str) -> bool {
    if json.as_bytes().contains(&0) {
        return true;
    }
    // An escape counts only when its backslash is not itself escaped.
    let bytes = json.as_bytes();
    let mut at = 0;
    while let Some(found) = bytes[at..].iter().position(|b| *b == b'\\') {
        let slash = at + found;
        if bytes[slash + 1..].starts_with(b"u0000") {
            return true;
        }
        at = slash + 2;
        if at >= bytes.len() {
            break;
        }
    }
    false
}

/// A moment in the journal's life at which something was looked up.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    pub epoch: u64,
    pub batch: u64,
}

/// What a command led to. Also what a repeat of it is answered.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// Tenant of the events.
    pub tenant: TenantId,
    /// Tenant positions of the first and last event; `last < first` when there was none.
    pub first_tenant_position: u64,
    pub last_tenant_position: u64,
    /// Journal position of the last event, or of the last one before the command.
    pub last_position: u64,
    pub stream_ids: Vec<Uuid>,
    pub recorded_at_us: Micros,
    /// Where the written streams' states can be vouched for.
    pub seen: Seen,
    /// True for the answer to a repeat.
    pub deduplicated: bool,
}

#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum AppendError {
    #[error("stream {stream} has {actual} events, not {expected}: load it again and decide anew")]
    Conflict { stream: StreamId, expected: u64, actual: u64 },
    #[error("command {0} was used before with another content; use a new id for a new command")]
    CommandReused(Uuid),
    #[error("a unique key of kind {kind} is taken")]
    KeyTaken {
        #[serde(deserialize_with = "super::wire::kind")]
        kind: Kind,
    },
    #[error("the deadline of the command has passed")]
    TooLate,
    #[error("the append cannot be stored: {0}")]
    Invalid(String),
    /// Nothing was written; the same call may be tried again.
    #[error("the journal is not available: {0}")]
    Unavailable(String),
    #[error("the journal's queue is full; try again later")]
    Overloaded,
    /// The only answer after which it is unknown whether something was written.
    #[error("the outcome of command {0} is unknown; repeat it with the same id to learn it")]
    UnknownOutcome(Uuid),
    /// The state that the decision was based on may be gone; decide anew.
    #[error("the state that the decision was based on is no longer valid; load it again")]
    Stale,
    #[error("the database refused the append: {0}")]
    Database(String),
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::holds_nul;

    #[test]
    fn a_nul_is_found_raw_and_escaped_but_not_behind_an_escaped_backslash() {
        assert!(holds_nul("{\"a\":\"\0\"}"));
        assert!(holds_nul(r#"{"a":"x\u0000"}"#));
        assert!(holds_nul(r#"{"a":"\\\u0000"}"#));
        assert!(!holds_nul(r#"{"a":"\\u0000"}"#));
        assert!(!holds_nul(r#"{"a":"\u0001\\"}"#));
    }
}
