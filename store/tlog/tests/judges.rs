//! Another implementation of the same standards (`signed_note`, `tlog_tiles`) judges what is made here, and
//! what it makes is judged here.

use daybook_tlog::{
    Checkpoint, Hash, Leaf, Nodes, RightEdge, Signer, Verifier, hash_leaf, open, origin, prove_consistency,
    prove_inclusion, verify_consistency, verify_inclusion,
};
use signed_note::{Note, StandardSigner, StandardVerifier, VerifierList};
use tlog_tiles::{Error, HashReader, Tile, check_record, check_tree};
use uuid::Uuid;

const SIZES: u64 = 130;

/// A log kept by the other implementation: all its stored hashes, in its own order.
#[derive(Default)]
struct TheirLog(Vec<tlog_tiles::Hash>);

impl HashReader for TheirLog {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog_tiles::Hash>, Error> {
        let read = |index: &u64| usize::try_from(*index).ok().and_then(|at| self.0.get(at)).copied();
        indexes.iter().map(|index| read(index).ok_or(Error::IndexesNotInTree)).collect()
    }
}

impl TheirLog {
    fn push(&mut self, index: u64, record: &[u8]) {
        let stored = tlog_tiles::stored_hashes(index, record, self).unwrap();
        self.0.extend(stored);
    }
}

fn leaf_bytes(index: u64) -> Vec<u8> {
    let leaf = Leaf {
        tenant: Uuid::from_u128(7),
        tenant_position: index + 1,
        stream_type: "tenant",
        stream_id: Uuid::from_u128(7),
        sequence: index + 1,
        event_id: Uuid::from_u128(u128::from(index) << 64),
        event_type: "tenant.renamed",
        event_version: 1,
        recorded_at_us: 1_767_225_600_000_000,
        payload_sha256: hash_leaf(&index.to_be_bytes()),
        metadata_sha256: hash_leaf(b"{}"),
    };
    let mut bytes = Vec::new();
    leaf.encode(&mut bytes);
    assert_eq!(hash_leaf(&bytes), leaf.hash());
    bytes
}

/// Both logs with the same events, and our root at every size.
fn both_logs() -> (Vec<Hash>, TheirLog, Vec<Hash>) {
    let (mut edge, mut theirs) = (RightEdge::empty(), TheirLog::default());
    let (mut leaves, mut roots) = (Vec::new(), vec![edge.root()]);
    for index in 0..SIZES {
        let bytes = leaf_bytes(index);
        theirs.push(index, &bytes);
        leaves.push(hash_leaf(&bytes));
        edge.push(hash_leaf(&bytes));
        roots.push(edge.root());
    }
    (leaves, theirs, roots)
}

fn theirs(hashes: &[Hash]) -> Vec<tlog_tiles::Hash> {
    hashes.iter().map(|hash| tlog_tiles::Hash(*hash)).collect()
}

fn ours(hashes: &[tlog_tiles::Hash]) -> Vec<Hash> {
    hashes.iter().map(|hash| hash.0).collect()
}

fn seed(byte: u8) -> [u8; 32] {
    [byte; 32]
}

fn log_name() -> String {
    origin(Uuid::from_u128(1), Uuid::from_u128(7))
}

#[test]
fn roots_agree_at_every_size() {
    let (_, log, roots) = both_logs();
    for (size, root) in (0..=SIZES).zip(roots) {
        assert_eq!(tlog_tiles::tree_hash(size, &log).unwrap().0, root, "size {size}");
    }
}

#[test]
fn inclusion_proofs_are_the_same_and_convince_in_both_directions() {
    let (leaves, log, roots) = both_logs();
    for (size, root) in (0..=SIZES).zip(roots) {
        for (index, leaf) in (0..size).zip(&leaves) {
            let made = prove_inclusion(leaves.as_slice(), index, size).unwrap();
            let (root_hash, leaf_hash) = (tlog_tiles::Hash(root), tlog_tiles::Hash(*leaf));
            check_record(&theirs(&made), size, root_hash, index, leaf_hash).unwrap();
            let given = ours(&tlog_tiles::prove_record(size, index, &log).unwrap());
            assert_eq!(verify_inclusion(leaf, index, size, &given, &root), Ok(()), "leaf {index} of {size}");
            assert_eq!(made, given, "leaf {index} of {size}");
        }
    }
}

#[test]
fn consistency_proofs_are_the_same_and_convince_in_both_directions() {
    let (leaves, log, roots) = both_logs();
    let sized: Vec<_> = (0..=SIZES).zip(roots).skip(1).collect();
    for (new, new_root) in &sized {
        for (old, old_root) in sized.iter().take_while(|(old, _)| old <= new) {
            let made = prove_consistency(leaves.as_slice(), *old, *new).unwrap();
            let (old_hash, new_hash) = (tlog_tiles::Hash(*old_root), tlog_tiles::Hash(*new_root));
            check_tree(&theirs(&made), *new, new_hash, *old, old_hash).unwrap();
            let given = ours(&tlog_tiles::prove_tree(*new, *old, &log).unwrap());
            assert_eq!(verify_consistency(*old, old_root, *new, new_root, &given), Ok(()), "{old} to {new}");
            assert_eq!(made, given, "{old} to {new}");
        }
    }
}

#[test]
fn what_one_refuses_the_other_refuses() {
    let (leaves, _, roots) = both_logs();
    let sized: Vec<_> = (0_u64..).zip(&roots).collect();
    let (mut accepted, mut refused) = (0, 0);
    // Every proof for 37 leaves, held against every size and index nearby.
    for index in 0..37 {
        let proof = prove_inclusion(leaves.as_slice(), index, 37).unwrap();
        let leaf = leaves[usize::try_from(index).unwrap()];
        for (size, root) in &sized[30..70] {
            for claimed in 0..*size {
                let here = verify_inclusion(&leaf, claimed, *size, &proof, root).is_ok();
                let (root, leaf) = (tlog_tiles::Hash(**root), tlog_tiles::Hash(leaf));
                let there = check_record(&theirs(&proof), *size, root, claimed, leaf).is_ok();
                assert_eq!(here, there, "leaf {index} of 37 as {claimed} of {size}");
                *(if here { &mut accepted } else { &mut refused }) += 1;
            }
        }
    }
    assert_eq!(accepted, 37);
    assert!(refused > 10_000);
}

#[test]
fn both_refuse_the_same_false_sizes_for_true_roots() {
    // A root does not say its size, so a proof is also right for some false sizes: the same ones in both.
    let (leaves, _, roots) = both_logs();
    let (mut accepted, mut refused) = (0, 0);
    for (old, new) in (1..=21).flat_map(|new| (1..=new).map(move |old| (old, new))) {
        let proof = prove_consistency(leaves.as_slice(), old, new).unwrap();
        let [old_root, new_root] = [old, new].map(|size| roots[usize::try_from(size).unwrap()]);
        for (claimed, size) in (1..=33).flat_map(|size| (1..=size).map(move |claimed| (claimed, size))) {
            let here = verify_consistency(claimed, &old_root, size, &new_root, &proof).is_ok();
            let (old_root, new_root) = (tlog_tiles::Hash(old_root), tlog_tiles::Hash(new_root));
            let there = check_tree(&theirs(&proof), size, new_root, claimed, old_root).is_ok();
            assert_eq!(here, there, "{old} to {new} as {claimed} to {size}");
            *(if here { &mut accepted } else { &mut refused }) += 1;
        }
    }
    assert!(accepted >= 231 && refused > 100_000, "{accepted} {refused}");
}

#[test]
fn they_open_our_checkpoint() {
    let (_, _, roots) = both_logs();
    let signer = Signer::generate(log_name(), &seed(1)).unwrap();
    let witness = Signer::generate("witness.example/w", &seed(2)).unwrap();
    let root = roots[usize::try_from(SIZES).unwrap()];
    let checkpoint = Checkpoint { origin: log_name(), size: SIZES, root, extensions: vec!["x 1".into()] };
    let signed = checkpoint.sign(&[&witness, &signer]).unwrap();

    let known = StandardVerifier::new(&signer.vkey()).unwrap();
    let note = Note::from_bytes(signed.as_bytes()).unwrap();
    assert_eq!(note.to_bytes(), signed.as_bytes());
    let (verified, unverified) = note.verify(&VerifierList::new(vec![Box::new(known)])).unwrap();
    assert_eq!(verified.len(), 1);
    assert_eq!((verified[0].name(), verified[0].id()), (signer.name(), signer.key_id()));
    assert_eq!(unverified.len(), 1);
    let read = tlog_tiles::Checkpoint::from_bytes(note.text()).unwrap();
    assert_eq!((read.origin(), read.size(), read.hash().0), (log_name().as_str(), SIZES, root));
    assert_eq!(read.extension(), "x 1\n");
}

#[test]
fn we_open_their_checkpoint() {
    let root = tlog_tiles::record_hash(b"a root");
    let text = tlog_tiles::Checkpoint::new(&log_name(), 7, root, "x 1\ny\n").unwrap().to_bytes();
    let skey = Signer::generate(log_name(), &seed(3)).unwrap().skey();
    let theirs = StandardSigner::new(&skey).unwrap();
    let mut note = Note::new(&text, &[]).unwrap();
    note.add_sigs(&[&theirs]).unwrap();

    let verifier = Verifier::from_vkey(&Signer::from_skey(&skey).unwrap().vkey()).unwrap();
    let (checkpoint, note) = Checkpoint::open(&note.to_bytes(), &[verifier], &log_name()).unwrap();
    assert_eq!((checkpoint.size, checkpoint.root), (7, root.0));
    assert_eq!(checkpoint.extensions, ["x 1", "y"]);
    assert_eq!(note.signatures.len(), 1);
}

#[test]
fn an_altered_note_is_refused_by_both() {
    let signer = Signer::generate(log_name(), &seed(4)).unwrap();
    let signed = signer.sign("one line\n").unwrap().into_bytes();
    for at in 0..signed.len() {
        let mut altered = signed.clone();
        altered[at] ^= 1;
        assert!(open(&altered, &[signer.verifier()]).is_err(), "byte {at}");
        let known = StandardVerifier::new(&signer.vkey()).unwrap();
        let opened =
            Note::from_bytes(&altered).is_ok_and(|note| note.verify(&VerifierList::new(vec![Box::new(known)])).is_ok());
        assert!(!opened, "byte {at}");
    }
}

#[test]
fn our_hashes_fill_their_tiles() {
    let (leaves, log, _) = both_logs();
    let width = u32::try_from(SIZES).unwrap();
    assert_eq!(Tile::new(8, 0, 0, width, false).read_data(&log).unwrap(), leaves.concat());
    // One level up in tiles of height 3, every hash stands for eight leaves.
    let nodes: Vec<Hash> = (0..SIZES / 8).map(|index| leaves.node(3, index).unwrap()).collect();
    assert_eq!(Tile::new(3, 1, 0, 8, false).read_data(&log).unwrap(), nodes[..8].concat());
    assert_eq!(Tile::new(3, 1, 1, 8, false).read_data(&log).unwrap(), nodes[8..].concat());
}
