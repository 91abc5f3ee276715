//! The transparency log of one tenant: what its leaves are, how they hash into one root, how a root is
//! signed, and how anyone can check all of it without trusting Daybook.
//!
//! Everything here is a published standard, unchanged, so that verifiers written elsewhere agree: the
//! Merkle tree of RFC 6962 and RFC 9162, and the C2SP `signed-note` and `tlog-checkpoint` formats. Only the
//! bytes of a [`Leaf`] are Daybook's own, and they are fixed from the first event on.
//!
//! The crate is pure. It refuses to read or write files, to know the time or to draw randomness: hashes,
//! key seeds and texts come in, hashes, proofs and signed texts go out.

mod checkpoint;
mod leaf;
mod note;
mod proof;
mod signer;
mod tree;

pub use checkpoint::{Checkpoint, CheckpointError, origin};
pub use leaf::{LEAF_VERSION, Leaf, LeafError};
pub use note::{NOTE_BYTES_MAX, Note, NoteError, SIGNATURES_MAX, Signature, open, sign};
pub use proof::{
    MissingLeaves, Nodes, ProofError, ProveError, consistency_ranges, inclusion_ranges, prove_consistency,
    prove_inclusion, root_at, subtrees, verify_consistency, verify_inclusion,
};
pub use signer::{KeyError, Signer, Verifier};
pub use tree::{EMPTY_ROOT, EdgeError, Hash, RightEdge, SIZE_MAX, hash_leaf, hash_node};
