//! The Merkle tree of RFC 6962 while it grows: leaf and node hashes, and the right edge that is enough to
//! append and to know the root. It keeps no leaf, so it can prove nothing; see [`crate::prove_inclusion`].

use sha2::{Digest, Sha256};

/// A SHA-256: of a leaf, of an inner node, of a root.
pub type Hash = [u8; 32];

/// The root of the tree without leaves: SHA-256 of nothing.
pub const EMPTY_ROOT: Hash = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae, 0x41,
    0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

/// The largest tree: what a signed 64-bit integer holds, so that databases and other verifiers can count it.
pub const SIZE_MAX: u64 = i64::MAX.unsigned_abs();

/// SHA-256(0x00 || `bytes`): the hash of a leaf.
pub fn hash_leaf(bytes: &[u8]) -> Hash {
    Sha256::new_with_prefix([0x00]).chain_update(bytes).finalize().into()
}

/// SHA-256(0x01 || `left` || `right`): the hash of an inner node.
pub fn hash_node(left: &Hash, right: &Hash) -> Hash {
    Sha256::new_with_prefix([0x01]).chain_update(left).chain_update(right).finalize().into()
}

/// The compact range of a tree: the roots of the perfect subtrees it consists of, largest and leftmost
/// first. One hash per bit that is set in the size, at most 63.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RightEdge {
    size: u64,
    subtrees: Vec<Hash>,
}

/// Why stored bytes are not the right edge of a tree of that size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EdgeError {
    #[error(
        "the right edge of a tree of {size} leaves has {expected} bytes, not {found}; \
         the stored tenant head is damaged: restore it or rebuild it from the events"
    )]
    Length { size: u64, expected: usize, found: usize },
    #[error(
        "a tree of {0} leaves is larger than {SIZE_MAX}; \
         the stored tenant head is damaged: restore it or rebuild it from the events"
    )]
    Size(u64),
}

impl RightEdge {
    /// The edge of the tree without leaves.
    pub fn empty() -> Self {
        Self::default()
    }

    /// How many leaves the tree has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf; two hashes on average, log₂ of the size at most.
    pub fn push(&mut self, leaf_hash: Hash) {
        let mut hash = leaf_hash;
        // Every trailing 1 bit of the size is a perfect subtree that the new leaf completes to the next larger one.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.subtrees.pop() {
                hash = hash_node(&left, &hash);
            }
        }
        self.subtrees.push(hash);
        self.size += 1;
    }

    /// The root of the tree as it stands.
    pub fn root(&self) -> Hash {
        self.subtrees.iter().rev().copied().reduce(|right, left| hash_node(&left, &right)).unwrap_or(EMPTY_ROOT)
    }

    /// The hashes, 32 bytes each, largest subtree first; the size is kept beside them by the caller.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.subtrees.concat()
    }

    /// The inverse of [`RightEdge::to_bytes`].
    ///
    /// # Errors
    ///
    /// When `bytes` has another length than a tree of `size` leaves needs, or `size` exceeds [`SIZE_MAX`].
    /// Altered hashes of the right length cannot be seen here; compare [`RightEdge::root`] with a signed one.
    pub fn from_bytes(size: u64, bytes: &[u8]) -> Result<Self, EdgeError> {
        if size > SIZE_MAX {
            return Err(EdgeError::Size(size));
        }
        let expected = subtree_count(size) * size_of::<Hash>();
        if bytes.len() != expected {
            return Err(EdgeError::Length { size, expected, found: bytes.len() });
        }
        let (subtrees, _) = bytes.as_chunks();
        Ok(Self { size, subtrees: subtrees.to_vec() })
    }
}

fn subtree_count(size: u64) -> usize {
    (0..u64::BITS).filter(|bit| size >> bit & 1 == 1).count()
}
