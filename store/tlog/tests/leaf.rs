//! The bytes of a leaf, against vectors that were computed by another program from the written layout.

use daybook_tlog::{Leaf, LeafError, hash_leaf};
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use uuid::{Uuid, uuid};

const ORDINARY: &str = "01000000100190a1b2c3d47e5f8a6b7c8d9e0f1a2b0000000800000000000000010000000674656e616e74\
    000000100190a1b2c3d47e5f8a6b7c8d9e0f1a2b000000080000000000000001000000100190a1b2c3d570008000000000000001\
    0000001174656e616e742e726567697374657265640000000400000001000000080006474846204000\
    00000020\
    2e52492792c2f947fdc5ae0e84eaf1f9c30e49cb0cccd9d9246f2fd81e6cbaa3\
    00000020\
    44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
const ORDINARY_HASH: &str = "6384858c6ad8d830f8469ce4cbc35ded045453a3f3bce7f89053595dac42987c";

const EXTREME: &str = "0100000010ffffffffffffffffffffffffffffffff000000087fffffffffffffff000000075ac3a4686c6572\
    000000100000000000000000000000000000000000000008ffffffffffffffff00000010123456789abcdef0123456789abcdef0\
    00000012656e657267792e72656164696e672ee29aa100000004ffffffff00000008ffffffffffffffff\
    00000020\
    e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\
    00000020\
    44f8354494a5ba03ba1792a8d3e9c534c47a9181980fde7a3f44b06ef2ae7c7f";
const EXTREME_HASH: &str = "2d2523112c12d432770cd5abd9a4ab78ea9e494b975f773c5bb4ec508f8e0ff9";

fn ordinary() -> Leaf<'static> {
    Leaf {
        tenant: uuid!("0190a1b2-c3d4-7e5f-8a6b-7c8d9e0f1a2b"),
        tenant_position: 1,
        stream_type: "tenant",
        stream_id: uuid!("0190a1b2-c3d4-7e5f-8a6b-7c8d9e0f1a2b"),
        sequence: 1,
        event_id: uuid!("0190a1b2-c3d5-7000-8000-000000000001"),
        event_type: "tenant.registered",
        event_version: 1,
        recorded_at_us: 1_767_225_600_000_000,
        payload_sha256: Sha256::digest(br#"{"name":"Acme"}"#).into(),
        metadata_sha256: Sha256::digest(b"{}").into(),
    }
}

fn extreme() -> Leaf<'static> {
    Leaf {
        tenant: Uuid::max(),
        tenant_position: u64::MAX >> 1,
        stream_type: "Zähler",
        stream_id: Uuid::nil(),
        sequence: u64::MAX,
        event_id: uuid!("12345678-9abc-def0-1234-56789abcdef0"),
        event_type: "energy.reading.⚡",
        event_version: u32::MAX,
        recorded_at_us: -1,
        payload_sha256: Sha256::digest(b"").into(),
        metadata_sha256: Sha256::digest([b'x'; 1000]).into(),
    }
}

fn bytes_of(leaf: &Leaf) -> Vec<u8> {
    let mut bytes = Vec::new();
    leaf.encode(&mut bytes);
    bytes
}

#[test]
fn the_bytes_and_hashes_of_a_leaf_are_fixed_for_ever() {
    for (leaf, bytes, hash) in [(ordinary(), ORDINARY, ORDINARY_HASH), (extreme(), EXTREME, EXTREME_HASH)] {
        assert_eq!(hex::encode(bytes_of(&leaf)), bytes);
        assert_eq!(hex::encode(leaf.hash()), hash);
        assert_eq!(Leaf::decode(&hex::decode(bytes).unwrap()), Ok(leaf));
    }
}

#[test]
fn encoding_appends_and_keeps_what_was_there() {
    let mut out = b"before".to_vec();
    ordinary().encode(&mut out);
    assert_eq!(out, [b"before".as_slice(), &bytes_of(&ordinary())].concat());
}

#[test]
fn the_index_in_the_tree_is_the_position_minus_one() {
    assert_eq!(ordinary().index(), Some(0));
    assert_eq!(Leaf { tenant_position: 0, ..ordinary() }.index(), None);
}

#[test]
fn every_shortened_leaf_is_refused() {
    let bytes = bytes_of(&ordinary());
    assert_eq!(Leaf::decode(&[]), Err(LeafError::Empty));
    for length in 1..bytes.len() {
        let refused = Leaf::decode(&bytes[..length]);
        assert!(matches!(refused, Err(LeafError::Truncated(_))), "{length}: {refused:?}");
    }
}

#[test]
fn what_is_not_canonical_is_refused_with_the_field() {
    let bytes = bytes_of(&ordinary());
    let altered = |at: usize, byte: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = byte;
        bytes
    };
    let longer = [bytes.as_slice(), &[0]].concat();
    let cases = [
        (altered(0, 2), LeafError::Version(2)),
        (altered(4, 15), LeafError::Length { field: "tenant", found: 15, expected: 16 }),
        (bytes_of(&Leaf { tenant_position: 0, ..ordinary() }), LeafError::Zero("tenant_position")),
        (bytes_of(&Leaf { sequence: 0, ..ordinary() }), LeafError::Zero("sequence")),
        (altered(37, 0xff), LeafError::NotUtf8("stream_type")),
        (altered(1, 0xff), LeafError::Truncated("tenant")),
        (longer, LeafError::Trailing(1)),
    ];
    for (bytes, error) in cases {
        assert_eq!(Leaf::decode(&bytes), Err(error));
    }
}

proptest! {
    #[test]
    fn a_leaf_comes_back_as_it_was_and_hashes_as_its_bytes_do(
        ids in any::<[u128; 3]>(),
        counts in (1_u64.., 1_u64.., any::<u32>(), any::<i64>()),
        names in (".{0,40}", ".{0,40}"),
        hashes in any::<[[u8; 32]; 2]>(),
    ) {
        let leaf = Leaf {
            tenant: Uuid::from_u128(ids[0]),
            tenant_position: counts.0,
            stream_type: &names.0,
            stream_id: Uuid::from_u128(ids[1]),
            sequence: counts.1,
            event_id: Uuid::from_u128(ids[2]),
            event_type: &names.1,
            event_version: counts.2,
            recorded_at_us: counts.3,
            payload_sha256: hashes[0],
            metadata_sha256: hashes[1],
        };
        let bytes = bytes_of(&leaf);
        prop_assert_eq!(Leaf::decode(&bytes), Ok(leaf));
        prop_assert_eq!(leaf.hash(), hash_leaf(&bytes));
    }

    #[test]
    fn whatever_is_accepted_encodes_back_to_the_same_bytes(at in 0_usize..240, byte: u8) {
        let mut bytes = bytes_of(&ordinary());
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok(leaf) = Leaf::decode(&bytes) {
            prop_assert_eq!(bytes_of(&leaf), bytes);
        }
    }
}
