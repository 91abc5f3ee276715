//! Keys: where they live, how they are wrapped, and how a person's data is forgotten.
//!
//! root key (a file) → tenant key (wrapped, in the database) → subject key (wrapped, in the database,
//! or a tombstone). Destroying a subject key is erasure. A missing key is a fault, never an erasure.

mod files;
mod sealing;
mod subjects;

pub use files::{KeyFileError, KeyFiles};
pub use sealing::{SealError, Sealer};
pub use subjects::{KeyError, KeyStore, open as open_sealed, seal as seal_with};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// HMAC-SHA256.
pub fn keyed_hash(key: &[u8], message: &[u8]) -> [u8; 32] {
    // HMAC takes a key of any length; the error type exists for other MACs.
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes any key");
    mac.update(message);
    mac.finalize().into_bytes().into()
}
