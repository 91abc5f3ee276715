//! Proofs about a Merkle tree, made and checked as RFC 9162 (section 2.1) says: that a leaf is in a tree,
//! and that a tree is a continuation of an earlier one. Roots are taken as given; whether to believe one is
//! the business of the signature on its checkpoint. A root does not say its size, so both are to be taken
//! from one signed checkpoint.

use std::ops::Range;

use crate::tree::{EMPTY_ROOT, Hash, RightEdge, hash_node};

/// Where the stored hashes of a log are read from.
///
/// A slice of all leaf hashes is one (in O(n)); a store that keeps inner nodes or tiles answers in O(1). Who
/// reads asynchronously asks [`inclusion_ranges`] and [`subtrees`] first what will be needed.
pub trait Nodes {
    /// What can go wrong while reading.
    type Error: std::error::Error + 'static;

    /// The root of the perfect subtree over the leaves `index << level .. (index + 1) << level`.
    fn node(&self, level: u32, index: u64) -> Result<Hash, Self::Error>;
}

/// A slice of leaf hashes was asked for leaves that it does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the subtree {index} of level {level} is not within the {held} leaf hashes at hand; read the log further")]
pub struct MissingLeaves {
    pub level: u32,
    pub index: u64,
    pub held: usize,
}

impl Nodes for [Hash] {
    type Error = MissingLeaves;

    fn node(&self, level: u32, index: u64) -> Result<Hash, MissingLeaves> {
        let leaves = leaf_range(level, index).and_then(|range| self.get(range));
        let leaves = leaves.ok_or(MissingLeaves { level, index, held: self.len() })?;
        let mut edge = RightEdge::empty();
        leaves.iter().for_each(|leaf| edge.push(*leaf));
        Ok(edge.root())
    }
}

fn leaf_range(level: u32, index: u64) -> Option<Range<usize>> {
    let width = 1_u64.checked_shl(level)?;
    let start = index.checked_mul(width)?;
    let end = start.checked_add(width)?;
    Some(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
}

/// Why no proof could be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProveError<E: std::error::Error + 'static> {
    #[error("leaf {index} is not in a tree of {size} leaves; ask for a larger tree or an index from 0 to size - 1")]
    NotInTree { index: u64, size: u64 },
    #[error("a tree of {old_size} leaves cannot grow into one of {new_size}; swap the sizes")]
    Shrinking { old_size: u64, new_size: u64 },
    #[error("the stored hashes of the log could not be read")]
    Read(#[source] E),
}

/// Why a proof does not convince.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    #[error(
        "leaf {index} cannot be in a tree of {size} leaves; compare the event's position with the checkpoint's size"
    )]
    NotInTree { index: u64, size: u64 },
    #[error("the log shrank from {old_size} to {new_size} leaves; keep both checkpoints, they are the evidence")]
    Shrinking { old_size: u64, new_size: u64 },
    #[error("the proof has {found} hashes, which is not the number that these sizes need; ask for the proof again")]
    Length { found: usize },
    #[error("the leaf and the proof lead to another root than the checkpoint's: this leaf is not in that tree")]
    NotIncluded,
    #[error(
        "the proof does not connect the two roots: the log was rewritten, or the proof is of another log; \
         keep both checkpoints, they are the evidence"
    )]
    Inconsistent,
}

/// The leaf ranges whose subtree roots, in this order, are the inclusion proof of leaf `index` in a tree of
/// `size` leaves; none when the leaf is not in the tree.
pub fn inclusion_ranges(index: u64, size: u64) -> Option<Vec<Range<u64>>> {
    if index >= size {
        return None;
    }
    let (mut start, mut end) = (0, size);
    let mut ranges = Vec::new();
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            ranges.push(middle..end);
            end = middle;
        } else {
            ranges.push(start..middle);
            start = middle;
        }
    }
    ranges.reverse();
    Some(ranges)
}

/// The leaf ranges whose subtree roots, in this order, are the consistency proof between two sizes; none
/// when the tree would shrink. Empty when either size is 0 or the sizes are equal.
pub fn consistency_ranges(old_size: u64, new_size: u64) -> Option<Vec<Range<u64>>> {
    if old_size > new_size {
        return None;
    }
    let mut ranges = Vec::new();
    if old_size == 0 {
        return Some(ranges);
    }
    let (mut start, mut end) = (0, new_size);
    while end != old_size {
        let middle = start + split(end - start);
        if old_size <= middle {
            ranges.push(middle..end);
            end = middle;
        } else {
            ranges.push(start..middle);
            start = middle;
        }
    }
    // The old root itself is known to the verifier; a part of the old tree is not.
    if start != 0 {
        ranges.push(start..end);
    }
    ranges.reverse();
    Some(ranges)
}

/// The perfect subtrees, as (level, index), whose roots make up a range of the functions above, left to right.
pub fn subtrees(range: Range<u64>) -> impl Iterator<Item = (u32, u64)> {
    let mut start = range.start;
    std::iter::from_fn(move || {
        let level = range.end.checked_sub(start)?.checked_ilog2()?.min(start.trailing_zeros());
        let index = start >> level;
        start += 1 << level;
        Some((level, index))
    })
}

/// The proof that leaf `index` (from 0) is in the tree of the first `size` leaves.
///
/// # Errors
///
/// When the leaf is not in that tree, or the hashes cannot be read.
pub fn prove_inclusion<N: Nodes + ?Sized>(nodes: &N, index: u64, size: u64) -> Result<Vec<Hash>, ProveError<N::Error>> {
    let ranges = inclusion_ranges(index, size).ok_or(ProveError::NotInTree { index, size })?;
    ranges.into_iter().map(|range| range_root(nodes, range).map_err(ProveError::Read)).collect()
}

/// The proof that the tree of the first `new_size` leaves continues the tree of the first `old_size`.
///
/// # Errors
///
/// When the tree would shrink, or the hashes cannot be read.
pub fn prove_consistency<N: Nodes + ?Sized>(
    nodes: &N,
    old_size: u64,
    new_size: u64,
) -> Result<Vec<Hash>, ProveError<N::Error>> {
    let ranges = consistency_ranges(old_size, new_size).ok_or(ProveError::Shrinking { old_size, new_size })?;
    ranges.into_iter().map(|range| range_root(nodes, range).map_err(ProveError::Read)).collect()
}

/// The root of the tree of the first `size` leaves.
///
/// # Errors
///
/// When the hashes cannot be read.
pub fn root_at<N: Nodes + ?Sized>(nodes: &N, size: u64) -> Result<Hash, N::Error> {
    range_root(nodes, 0..size)
}

/// Checks that the tree of `size` leaves with this `root` has this leaf at `index` (from 0).
///
/// # Errors
///
/// When the proof does not show it, whatever the reason.
pub fn verify_inclusion(
    leaf_hash: &Hash,
    index: u64,
    size: u64,
    proof: &[Hash],
    root: &Hash,
) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::NotInTree { index, size });
    }
    let wrong_length = ProofError::Length { found: proof.len() };
    // The names of RFC 9162, 2.1.3.2, spelled out: fn is `node`, sn is `last`, r is `hash`.
    let (mut node, mut last) = (index, size - 1);
    let mut hash = *leaf_hash;
    for sibling in proof {
        if last == 0 {
            return Err(wrong_length);
        }
        if node & 1 == 1 || node == last {
            hash = hash_node(sibling, &hash);
            skip_missing_siblings(&mut node, &mut last);
        } else {
            hash = hash_node(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(wrong_length);
    }
    if hash == *root { Ok(()) } else { Err(ProofError::NotIncluded) }
}

/// Checks that the tree of `new_size` leaves with `new_root` continues the one of `old_size` with `old_root`.
///
/// Everything continues the tree without leaves.
///
/// # Errors
///
/// When the proof does not show it, whatever the reason.
pub fn verify_consistency(
    old_size: u64,
    old_root: &Hash,
    new_size: u64,
    new_root: &Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    if old_size > new_size {
        return Err(ProofError::Shrinking { old_size, new_size });
    }
    let wrong_length = ProofError::Length { found: proof.len() };
    if old_size == 0 || old_size == new_size {
        let known_empty = old_size != 0 || *old_root == EMPTY_ROOT;
        let unchanged = old_size != new_size || old_root == new_root;
        return match proof {
            [] if known_empty && unchanged => Ok(()),
            [] => Err(ProofError::Inconsistent),
            _ => Err(wrong_length),
        };
    }
    // RFC 9162, 2.1.4.2. A complete old tree is a node of the new one: its root starts the path.
    let mut path = proof.iter();
    let first = if old_size.is_power_of_two() { Some(old_root) } else { path.next() };
    let Some(first) = first else {
        return Err(wrong_length);
    };
    let (mut node, mut last) = (old_size - 1, new_size - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let (mut old_hash, mut new_hash) = (*first, *first);
    for sibling in path {
        if last == 0 {
            return Err(wrong_length);
        }
        if node & 1 == 1 || node == last {
            old_hash = hash_node(sibling, &old_hash);
            new_hash = hash_node(sibling, &new_hash);
            skip_missing_siblings(&mut node, &mut last);
        } else {
            new_hash = hash_node(&new_hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(wrong_length);
    }
    if old_hash == *old_root && new_hash == *new_root { Ok(()) } else { Err(ProofError::Inconsistent) }
}

// At the right border a node without a sibling rises unchanged until it is a right child.
fn skip_missing_siblings(node: &mut u64, last: &mut u64) {
    while *node & 1 == 0 && *node != 0 {
        *node >>= 1;
        *last >>= 1;
    }
}

/// The largest power of two below `width`, which is at least 2.
fn split(width: u64) -> u64 {
    1 << (width - 1).ilog2()
}

fn range_root<N: Nodes + ?Sized>(nodes: &N, range: Range<u64>) -> Result<Hash, N::Error> {
    let mut roots = Vec::new();
    for (level, index) in subtrees(range) {
        roots.push(nodes.node(level, index)?);
    }
    Ok(roots.into_iter().rev().reduce(|right, left| hash_node(&left, &right)).unwrap_or(EMPTY_ROOT))
}
