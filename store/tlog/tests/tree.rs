//! Tree and proofs against the reference vectors of Certificate Transparency and against the recursive
//! definition of RFC 6962, which is slow and obviously right.

use daybook_tlog::{
    EMPTY_ROOT, EdgeError, Hash, MissingLeaves, ProofError, ProveError, RightEdge, SIZE_MAX, consistency_ranges,
    hash_leaf, hash_node, inclusion_ranges, prove_consistency, prove_inclusion, root_at, subtrees, verify_consistency,
    verify_inclusion,
};
use proptest::prelude::*;

const LEAVES: [&str; 8] =
    ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
const ROOTS: [&str; 9] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];
const INCLUSION: [(u64, u64, &[&str]); 5] = [
    (0, 1, &[]),
    (
        0,
        8,
        &[
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        5,
        8,
        &[
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (2, 3, &["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
    (
        1,
        5,
        &[
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
];
const CONSISTENCY: [(u64, u64, &[&str]); 4] = [
    (1, 1, &[]),
    (
        1,
        8,
        &[
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        6,
        8,
        &[
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (
        2,
        5,
        &[
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
];

fn reference_leaves() -> Vec<Hash> {
    LEAVES.iter().map(|leaf| hash_leaf(&hex::decode(leaf).unwrap())).collect()
}

fn leaves(count: u64) -> Vec<Hash> {
    (0..count).map(|n| hash_leaf(&n.to_be_bytes())).collect()
}

fn as_hex(proof: &[Hash]) -> Vec<String> {
    proof.iter().map(hex::encode).collect()
}

fn from_hex(hash: &str) -> Hash {
    hex::decode(hash).unwrap().try_into().unwrap()
}

// RFC 6962, 2.1: MTH, PATH and SUBPROOF as they are written there.
fn mth(d: &[Hash]) -> Hash {
    match d {
        [] => EMPTY_ROOT,
        [leaf] => *leaf,
        _ => {
            let (left, right) = d.split_at(k(d.len()));
            hash_node(&mth(left), &mth(right))
        }
    }
}

fn path(m: usize, d: &[Hash]) -> Vec<Hash> {
    if d.len() == 1 {
        return Vec::new();
    }
    let (left, right) = d.split_at(k(d.len()));
    if m < left.len() {
        [path(m, left), vec![mth(right)]].concat()
    } else {
        [path(m - left.len(), right), vec![mth(left)]].concat()
    }
}

fn subproof(m: usize, d: &[Hash], whole: bool) -> Vec<Hash> {
    if m == d.len() {
        return if whole { Vec::new() } else { vec![mth(d)] };
    }
    let (left, right) = d.split_at(k(d.len()));
    if m <= left.len() {
        [subproof(m, left, whole), vec![mth(right)]].concat()
    } else {
        [subproof(m - left.len(), right, false), vec![mth(left)]].concat()
    }
}

fn k(n: usize) -> usize {
    n.next_power_of_two() / 2
}

fn size_of_slice(d: &[Hash]) -> u64 {
    u64::try_from(d.len()).unwrap()
}

#[test]
fn roots_are_those_of_the_reference_vectors() {
    let leaves = reference_leaves();
    let mut edge = RightEdge::empty();
    assert_eq!(hex::encode(edge.root()), ROOTS[0]);
    for (leaf, root) in leaves.iter().zip(&ROOTS[1..]) {
        edge.push(*leaf);
        assert_eq!(hex::encode(edge.root()), *root, "size {}", edge.size());
    }
    for (size, root) in (0_u64..).zip(ROOTS) {
        assert_eq!(hex::encode(root_at(leaves.as_slice(), size).unwrap()), root);
    }
}

#[test]
fn proofs_are_those_of_the_reference_vectors() {
    let leaves = reference_leaves();
    for (index, size, proof) in INCLUSION {
        assert_eq!(as_hex(&prove_inclusion(leaves.as_slice(), index, size).unwrap()), proof);
    }
    for (old, new, proof) in CONSISTENCY {
        assert_eq!(as_hex(&prove_consistency(leaves.as_slice(), old, new).unwrap()), proof);
    }
}

#[test]
fn the_reference_proofs_convince() {
    let leaves = reference_leaves();
    let root = |size: u64| from_hex(ROOTS[usize::try_from(size).unwrap()]);
    for (index, size, proof) in INCLUSION {
        let proof: Vec<_> = proof.iter().map(|hash| from_hex(hash)).collect();
        let leaf = &leaves[usize::try_from(index).unwrap()];
        assert_eq!(verify_inclusion(leaf, index, size, &proof, &root(size)), Ok(()));
    }
    for (old, new, proof) in CONSISTENCY {
        let proof: Vec<_> = proof.iter().map(|hash| from_hex(hash)).collect();
        assert_eq!(verify_consistency(old, &root(old), new, &root(new), &proof), Ok(()));
    }
}

#[test]
fn every_size_to_300_has_the_root_of_the_definition_and_an_edge_that_survives_storage() {
    let leaves = leaves(300);
    let mut edge = RightEdge::empty();
    for count in 0..=leaves.len() {
        assert_eq!(edge.root(), mth(&leaves[..count]), "size {count}");
        let stored = edge.to_bytes();
        assert_eq!(stored.len(), 32 * usize::try_from(edge.size().count_ones()).unwrap());
        assert_eq!(RightEdge::from_bytes(edge.size(), &stored).as_ref(), Ok(&edge));
        if let Some(leaf) = leaves.get(count) {
            // The loaded edge goes on, not the one in memory.
            edge = RightEdge::from_bytes(edge.size(), &stored).unwrap();
            edge.push(*leaf);
        }
    }
}

#[test]
fn an_edge_of_another_length_than_its_size_needs_is_refused() {
    for (size, bytes) in [(0, 32), (1, 0), (1, 31), (1, 33), (1, 64), (3, 32), (8, 64), (SIZE_MAX, 62 * 32)] {
        let refused = RightEdge::from_bytes(size, &vec![7; bytes]);
        assert!(matches!(refused, Err(EdgeError::Length { found, .. }) if found == bytes), "{size}: {refused:?}");
    }
    assert_eq!(RightEdge::from_bytes(SIZE_MAX + 1, &[7; 32]), Err(EdgeError::Size(SIZE_MAX + 1)));
    assert!(RightEdge::from_bytes(SIZE_MAX, &[7; 63 * 32]).is_ok());
}

#[test]
fn every_proof_of_the_first_70_sizes_is_the_one_of_the_definition_and_convinces() {
    let all = leaves(70);
    for new in 1..=all.len() {
        let (tree, root) = (&all[..new], mth(&all[..new]));
        let size = size_of_slice(tree);
        for (index, leaf) in (0_u64..).zip(tree) {
            let proof = prove_inclusion(all.as_slice(), index, size).unwrap();
            assert_eq!(proof, path(usize::try_from(index).unwrap(), tree), "leaf {index} of {size}");
            assert_eq!(verify_inclusion(leaf, index, size, &proof, &root), Ok(()), "leaf {index} of {size}");
        }
        for old in 1..=new {
            let (old_size, old_root) = (size_of_slice(&all[..old]), mth(&all[..old]));
            let proof = prove_consistency(all.as_slice(), old_size, size).unwrap();
            assert_eq!(proof, subproof(old, tree, true), "{old} to {size}");
            assert_eq!(verify_consistency(old_size, &old_root, size, &root, &proof), Ok(()), "{old} to {size}");
        }
    }
}

#[test]
fn everything_continues_the_empty_tree_and_only_with_its_true_root() {
    let root = mth(&leaves(5));
    assert_eq!(prove_consistency(leaves(5).as_slice(), 0, 5), Ok(vec![]));
    assert_eq!(verify_consistency(0, &EMPTY_ROOT, 5, &root, &[]), Ok(()));
    assert_eq!(verify_consistency(0, &EMPTY_ROOT, 0, &EMPTY_ROOT, &[]), Ok(()));
    assert_eq!(verify_consistency(0, &root, 5, &root, &[]), Err(ProofError::Inconsistent));
    assert_eq!(verify_consistency(0, &EMPTY_ROOT, 0, &root, &[]), Err(ProofError::Inconsistent));
    assert_eq!(verify_consistency(0, &EMPTY_ROOT, 5, &root, &[root]), Err(ProofError::Length { found: 1 }));
}

#[test]
fn the_same_size_with_another_root_is_a_rewritten_log() {
    let (root, other) = (mth(&leaves(5)), hash_leaf(b"other"));
    assert_eq!(verify_consistency(5, &root, 5, &root, &[]), Ok(()));
    assert_eq!(verify_consistency(5, &root, 5, &other, &[]), Err(ProofError::Inconsistent));
    assert_eq!(verify_consistency(5, &root, 5, &root, &[other]), Err(ProofError::Length { found: 1 }));
}

#[test]
fn impossible_questions_are_refused() {
    let leaves = leaves(5);
    let (all, root) = (leaves.as_slice(), mth(&leaves));
    assert_eq!(prove_inclusion(all, 5, 5), Err(ProveError::NotInTree { index: 5, size: 5 }));
    assert_eq!(prove_consistency(all, 5, 4), Err(ProveError::Shrinking { old_size: 5, new_size: 4 }));
    let missing = MissingLeaves { level: 0, index: 5, held: 5 };
    assert_eq!(prove_inclusion(all, 0, 6), Err(ProveError::Read(MissingLeaves { level: 1, index: 2, held: 5 })));
    assert_eq!(prove_consistency(all, 5, 6), Err(ProveError::Read(missing)));
    assert_eq!(verify_inclusion(&leaves[0], 5, 5, &[], &root), Err(ProofError::NotInTree { index: 5, size: 5 }));
    assert_eq!(verify_consistency(5, &root, 4, &root, &[]), Err(ProofError::Shrinking { old_size: 5, new_size: 4 }));
}

#[test]
fn the_largest_sizes_are_planned_and_checked_without_overflow() {
    let size = u64::MAX;
    for index in [0, 1, size / 2, size - 1] {
        let ranges = inclusion_ranges(index, size).unwrap();
        assert!(ranges.len() <= 64);
        assert!(ranges.iter().all(|range| subtrees(range.clone()).count() <= 64));
        let proof = vec![EMPTY_ROOT; ranges.len()];
        assert_eq!(verify_inclusion(&EMPTY_ROOT, index, size, &proof, &EMPTY_ROOT), Err(ProofError::NotIncluded));
    }
    for old in [1, 2, size / 2, size - 1] {
        let proof = vec![EMPTY_ROOT; consistency_ranges(old, size).unwrap().len()];
        let refused = verify_consistency(old, &EMPTY_ROOT, size, &hash_leaf(b""), &proof);
        assert_eq!(refused, Err(ProofError::Inconsistent));
    }
}

// A proof, its leaf index or its sizes, altered in one way.
fn alterations(proof: &[Hash], flip: usize) -> Vec<Vec<Hash>> {
    let mut altered = vec![[proof, &[EMPTY_ROOT]].concat()];
    if !proof.is_empty() {
        let mut flipped = proof.to_vec();
        flipped[flip % proof.len()][flip % 32] ^= 1 << (flip % 8);
        altered.extend([flipped, proof[1..].to_vec(), proof[..proof.len() - 1].to_vec()]);
    }
    altered
}

proptest! {
    #[test]
    fn an_inclusion_proof_convinces_and_an_altered_one_does_not(
        size in 1_usize..300, index: prop::sample::Index, flip in 0_usize..10_000,
    ) {
        let tree = leaves(u64::try_from(size).unwrap());
        let at = index.index(size);
        let (index, size) = (u64::try_from(at).unwrap(), size_of_slice(&tree));
        let (leaf, root) = (&tree[at], mth(&tree));
        let proof = prove_inclusion(tree.as_slice(), index, size).unwrap();
        prop_assert_eq!(&proof, &path(at, &tree));
        prop_assert_eq!(verify_inclusion(leaf, index, size, &proof, &root), Ok(()));

        for altered in alterations(&proof, flip) {
            prop_assert!(verify_inclusion(leaf, index, size, &altered, &root).is_err());
        }
        prop_assert!(verify_inclusion(&hash_leaf(b"forged"), index, size, &proof, &root).is_err());
        prop_assert!(verify_inclusion(leaf, index, size, &proof, &hash_leaf(b"forged")).is_err());
        for other in (0..size).filter(|other| *other != index) {
            prop_assert!(verify_inclusion(leaf, other, size, &proof, &root).is_err());
        }
    }

    #[test]
    fn a_consistency_proof_convinces_and_an_altered_one_does_not(
        new in 1_usize..300, old: prop::sample::Index, flip in 0_usize..10_000,
    ) {
        let tree = leaves(u64::try_from(new).unwrap());
        let old = old.index(new) + 1;
        let (old_size, new_size) = (u64::try_from(old).unwrap(), size_of_slice(&tree));
        let (old_root, new_root) = (mth(&tree[..old]), mth(&tree));
        let proof = prove_consistency(tree.as_slice(), old_size, new_size).unwrap();
        prop_assert_eq!(&proof, &subproof(old, &tree, true));
        prop_assert_eq!(verify_consistency(old_size, &old_root, new_size, &new_root, &proof), Ok(()));

        for altered in alterations(&proof, flip) {
            prop_assert!(verify_consistency(old_size, &old_root, new_size, &new_root, &altered).is_err());
        }
        let mut rewritten = tree.clone();
        rewritten[flip % old] = hash_leaf(b"forged");
        let forged_root = mth(&rewritten);
        let forged = prove_consistency(rewritten.as_slice(), old_size, new_size).unwrap();
        prop_assert!(verify_consistency(old_size, &old_root, new_size, &forged_root, &forged).is_err());
        prop_assert!(verify_consistency(old_size, &old_root, new_size, &forged_root, &proof).is_err());
    }

    #[test]
    fn the_planned_ranges_cover_what_is_not_known_exactly_once(size in 1_u64.., at: u64) {
        let index = at % size;
        let mut ranges = inclusion_ranges(index, size).unwrap();
        ranges.push(index..index + 1);
        ranges.sort_by_key(|range| range.start);
        prop_assert_eq!(ranges[0].start, 0);
        prop_assert_eq!(ranges[ranges.len() - 1].end, size);
        prop_assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
        for range in ranges {
            let mut next = range.start;
            for (level, node) in subtrees(range.clone()) {
                prop_assert_eq!(node << level, next);
                next += 1 << level;
            }
            prop_assert_eq!(next, range.end);
        }
    }
}
