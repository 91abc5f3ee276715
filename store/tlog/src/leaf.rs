//! The canonical bytes of one event in the audit tree, and nothing else: what is hashed here can never
//! change, because a hash of it has been signed. A new layout gets a new version byte; the old one stays.
//!
//! Payload and metadata are not in the leaf but their hashes are, so personal data stays out of it. It is no
//! secrecy: who holds a leaf can confirm a guess of a payload that has few possible values.

use uuid::Uuid;

use crate::tree::{Hash, hash_leaf};

/// The first byte of every leaf that this version writes.
pub const LEAF_VERSION: u8 = 0x01;

// 185 bytes and two names.
const LEAF_BYTES_USUAL: usize = 320;

/// What the tree says of one event.
///
/// The canonical bytes are the version byte 0x01, then the eleven fields in the order in which they stand
/// here, each as its length in bytes (u32, big-endian) followed by its bytes: integers big-endian
/// (8 bytes, `event_version` 4), UUIDs 16 bytes, strings UTF-8, hashes 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaf<'a> {
    /// The tenant whose log this is.
    pub tenant: Uuid,
    /// Dense and from 1: the leaf's index in the tree is this minus one.
    pub tenant_position: u64,
    /// The kind of stream, such as `tenant`.
    pub stream_type: &'a str,
    /// The stream: the id of the aggregate.
    pub stream_id: Uuid,
    /// The event's number in its stream, from 1.
    pub sequence: u64,
    /// The id under which the event is known everywhere.
    pub event_id: Uuid,
    /// The kind of event, such as `tenant.renamed`.
    pub event_type: &'a str,
    /// The version of the payload's schema.
    pub event_version: u32,
    /// Microseconds since the Unix epoch, UTC.
    pub recorded_at_us: i64,
    /// SHA-256 of the stored payload bytes.
    pub payload_sha256: Hash,
    /// SHA-256 of the stored metadata bytes.
    pub metadata_sha256: Hash,
}

/// Why bytes are not a leaf. The remedy is always the same: take the bytes from the log's export again;
/// if they come back the same, the export was altered or written by a newer version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    #[error("the leaf is empty; take it from the export again")]
    Empty,
    #[error("the leaf has layout {0}, this program reads layout {LEAF_VERSION}; use a newer verifier")]
    Version(u8),
    #[error("the leaf ends inside its field `{0}`; take it from the export again")]
    Truncated(&'static str),
    #[error("the leaf's field `{field}` has {found} bytes instead of {expected}; the leaf is not canonical")]
    Length { field: &'static str, found: usize, expected: usize },
    #[error("the leaf's field `{0}` is not UTF-8; the leaf is not canonical")]
    NotUtf8(&'static str),
    #[error("the leaf's field `{0}` is 0 but counts from 1; the leaf is not canonical")]
    Zero(&'static str),
    #[error("the leaf is followed by {0} more bytes; the leaf is not canonical")]
    Trailing(usize),
}

impl<'a> Leaf<'a> {
    /// Appends the canonical bytes to `out`.
    ///
    /// # Panics
    ///
    /// If a type name is longer than a u32 can say (4 GiB); the journal limits names far below.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(LEAF_VERSION);
        let mut field = |bytes: &[u8]| {
            let length = u32::try_from(bytes.len()).expect("names in a leaf are shorter than 4 GiB");
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(bytes);
        };
        field(self.tenant.as_bytes());
        field(&self.tenant_position.to_be_bytes());
        field(self.stream_type.as_bytes());
        field(self.stream_id.as_bytes());
        field(&self.sequence.to_be_bytes());
        field(self.event_id.as_bytes());
        field(self.event_type.as_bytes());
        field(&self.event_version.to_be_bytes());
        field(&self.recorded_at_us.to_be_bytes());
        field(&self.payload_sha256);
        field(&self.metadata_sha256);
    }

    /// The leaf hash of RFC 6962: SHA-256(0x00 || canonical bytes).
    ///
    /// # Panics
    ///
    /// As [`Leaf::encode`].
    pub fn hash(&self) -> Hash {
        // Hashing one buffer is a fifth faster than feeding the hasher two dozen small pieces.
        let mut bytes = Vec::with_capacity(LEAF_BYTES_USUAL);
        self.encode(&mut bytes);
        hash_leaf(&bytes)
    }

    /// Where the leaf stands in the tree, from 0; none for the position 0, which no event has.
    pub fn index(&self) -> Option<u64> {
        self.tenant_position.checked_sub(1)
    }

    /// Reads canonical bytes back.
    ///
    /// # Errors
    ///
    /// Anything that [`Leaf::encode`] would not have written exactly so for an event of a journal.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, LeafError> {
        let (version, rest) = bytes.split_first().ok_or(LeafError::Empty)?;
        if *version != LEAF_VERSION {
            return Err(LeafError::Version(*version));
        }
        let mut fields = Fields(rest);
        let leaf = Leaf {
            tenant: Uuid::from_bytes(fields.fixed("tenant")?),
            tenant_position: fields.count("tenant_position")?,
            stream_type: fields.text("stream_type")?,
            stream_id: Uuid::from_bytes(fields.fixed("stream_id")?),
            sequence: fields.count("sequence")?,
            event_id: Uuid::from_bytes(fields.fixed("event_id")?),
            event_type: fields.text("event_type")?,
            event_version: u32::from_be_bytes(fields.fixed("event_version")?),
            recorded_at_us: i64::from_be_bytes(fields.fixed("recorded_at_us")?),
            payload_sha256: fields.fixed("payload_sha256")?,
            metadata_sha256: fields.fixed("metadata_sha256")?,
        };
        match fields.0.len() {
            0 => Ok(leaf),
            more => Err(LeafError::Trailing(more)),
        }
    }
}

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, field: &'static str) -> Result<&'a [u8], LeafError> {
        let (length, rest) = self.0.split_first_chunk::<4>().ok_or(LeafError::Truncated(field))?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| LeafError::Truncated(field))?;
        let (bytes, rest) = rest.split_at_checked(length).ok_or(LeafError::Truncated(field))?;
        self.0 = rest;
        Ok(bytes)
    }

    fn fixed<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], LeafError> {
        let bytes = self.bytes(field)?;
        bytes.try_into().map_err(|_| LeafError::Length { field, found: bytes.len(), expected: N })
    }

    fn count(&mut self, field: &'static str) -> Result<u64, LeafError> {
        match u64::from_be_bytes(self.fixed(field)?) {
            0 => Err(LeafError::Zero(field)),
            count => Ok(count),
        }
    }

    fn text(&mut self, field: &'static str) -> Result<&'a str, LeafError> {
        std::str::from_utf8(self.bytes(field)?).map_err(|_| LeafError::NotUtf8(field))
    }
}
