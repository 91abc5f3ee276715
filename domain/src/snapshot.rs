//! How the state of a long stream is kept, so that it need not be folded from its first event.
//!
//! A snapshot is a cache. Its version is that of the state's JSON form and of the fold: raise it whenever the same events would
//! lead to another state or be written otherwise, and every snapshot of before is ignored.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Error;

/// The JSON form of a state, in a version.
pub struct SnapshotForm<A> {
    pub version: u32,
    write: fn(&A) -> Result<String, Error>,
    read: fn(&str) -> Result<A, Error>,
}

impl<A> Clone for SnapshotForm<A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A> Copy for SnapshotForm<A> {}

impl<A: Serialize + DeserializeOwned> SnapshotForm<A> {
    pub const fn version(version: u32) -> Self {
        SnapshotForm { version, write: |state| serde_json::to_string(state), read: |text| serde_json::from_str(text) }
    }
}

impl<A> SnapshotForm<A> {
    /// # Errors
    /// When the state has no JSON form.
    pub fn write(&self, state: &A) -> Result<String, Error> {
        (self.write)(state)
    }

    /// # Errors
    /// When the text is damaged.
    pub fn read(&self, text: &str) -> Result<A, Error> {
        (self.read)(text)
    }
}
