//! What the audit tree costs per event: two SHA-256 over 400 bytes, the leaf hash, the right edge.
//! Not a benchmark with a verdict; run it optimised, and more than once.

use std::hint::black_box;
use std::time::Instant;

use daybook_tlog::{Leaf, RightEdge};
use sha2::{Digest, Sha256};
use uuid::Uuid;

const EVENTS: u64 = 1_000_000;

fn main() {
    let (payload, metadata) = ([b'p'; 400], [b'm'; 400]);
    let mut leaf = Leaf {
        tenant: Uuid::from_u128(1),
        tenant_position: 1,
        stream_type: "workspace",
        stream_id: Uuid::from_u128(2),
        sequence: 1,
        event_id: Uuid::from_u128(3),
        event_type: "workspaces.workspace.started",
        event_version: 1,
        recorded_at_us: 1_767_225_600_000_000,
        payload_sha256: [0; 32],
        metadata_sha256: [0; 32],
    };

    let started = Instant::now();
    for _ in 0..EVENTS {
        leaf.payload_sha256 = Sha256::digest(black_box(payload)).into();
        leaf.metadata_sha256 = Sha256::digest(black_box(metadata)).into();
    }
    report("payload and metadata", started);

    let started = Instant::now();
    for position in 1..=EVENTS {
        leaf.tenant_position = position;
        black_box(black_box(&leaf).hash());
    }
    report("leaf", started);

    let mut edge = RightEdge::empty();
    let started = Instant::now();
    for _ in 0..EVENTS {
        edge.push(black_box(leaf.payload_sha256));
    }
    report("right edge", started);

    let mut edge = RightEdge::empty();
    let started = Instant::now();
    for position in 1..=EVENTS {
        leaf.tenant_position = position;
        leaf.payload_sha256 = Sha256::digest(black_box(payload)).into();
        leaf.metadata_sha256 = Sha256::digest(black_box(metadata)).into();
        edge.push(leaf.hash());
    }
    black_box(edge.root());
    report("all together", started);
}

fn report(what: &str, started: Instant) {
    let micros = started.elapsed().as_secs_f64() * 1_000_000.0;
    println!("{what:>22}: {:.3} µs per event", micros / 1_000_000.0);
}
