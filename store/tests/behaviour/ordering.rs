//! Positions are dense and in commit order, for the journal and for each tenant, and every tenant's
//! tree is what its events make it.

use daybook_domain::TenantId;
use daybook_store::journal::Known;
use daybook_testing::{PARTITION_SIZE, TestDatabase, append, event, tenant};
use daybook_tlog::{Leaf, RightEdge};
use futures_util::future::join_all;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use uuid::Uuid;

const WRITERS: usize = 64;
const APPENDS: usize = 25;

/// 64 writers, six tenants, one to three events at a time: more than two partitions.
async fn written() -> (TestDatabase, i64) {
    let db = TestDatabase::new().await;
    let (journal, task) = db.journal().await;
    let tenants: Vec<TenantId> = (0..6).map(|_| tenant()).collect();
    let writers = (0..WRITERS).map(|writer| {
        let (journal, t) = (journal.clone(), tenants[writer % tenants.len()]);
        tokio::spawn(async move {
            let (mut version, mut last) = (0, 0);
            let mut known = Known::default();
            for n in 0..APPENDS {
                let events = (0..=(writer + n) % 3).map(|i| event(&format!(r#"{{"w":{writer},"n":{n},"i":{i}}}"#)));
                let append = append(t, Uuid::from_u128(writer as u128 + 1), version, events.collect());
                version += append.events() as u64;
                let outcome = journal.append(append, known).await.expect("an append");
                assert!(outcome.last_position > last, "a later append has an earlier position");
                last = outcome.last_position;
                known = Known { versions_at: Some(outcome.seen), unused_at: None };
            }
            version
        })
    });
    let mut events: u64 = 0;
    for writer in join_all(writers).await {
        events += writer.expect("a writer");
    }
    journal.shutdown().await;
    task.await.expect("the writer ends");
    (db, events.cast_signed())
}

#[tokio::test]
async fn positions_are_dense_across_partitions_and_time_never_goes_back() {
    let (db, events) = written().await;
    let superuser = db.superuser().await;
    assert!(events > 2 * PARTITION_SIZE, "{events} events cross no boundary");
    let rows = superuser
        .query(
            "select e.position, e.recorded_at, b.recorded_at, e.tableoid::regclass::text
             from journal.events e join journal.batches b on e.position between b.first_position and b.last_position
             order by e.position",
            &[],
        )
        .await
        .expect("the journal");
    assert_eq!(rows.iter().map(|r| r.get(0)).collect::<Vec<i64>>(), (1..=events).collect::<Vec<_>>());
    type Time = chrono::DateTime<chrono::Utc>;
    assert!(rows.is_sorted_by_key(|r| r.get::<_, Time>(1)));
    assert!(rows.iter().all(|r| r.get::<_, Time>(1) == r.get::<_, Time>(2)), "an event and its batch have one time");
    let partitions: std::collections::BTreeSet<String> = rows.iter().map(|r| r.get(3)).collect();
    assert!(partitions.len() >= 3, "{partitions:?}");

    let rows = superuser
        .query("select batch, first_position, last_position, epoch from journal.batches order by batch", &[])
        .await
        .expect("the batches");
    let mut next = (1i64, 1i64);
    for row in rows {
        assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), next, "a hole between batches");
        next = (row.get::<_, i64>(0) + 1, row.get::<_, i64>(2) + 1);
    }
    assert_eq!(next.1, events + 1);
}

#[tokio::test]
async fn tenant_positions_and_sequences_are_dense_in_the_order_of_the_journal() {
    let (db, events) = written().await;
    let superuser = db.superuser().await;
    let rows = superuser
        .query("select tenant_id, tenant_position, stream_id, sequence from journal.events order by position", &[])
        .await
        .expect("the journal");
    let mut tenants: BTreeMap<Uuid, i64> = BTreeMap::new();
    let mut streams: BTreeMap<(Uuid, Uuid), i64> = BTreeMap::new();
    for row in &rows {
        let last = tenants.entry(row.get(0)).or_default();
        *last += 1;
        assert_eq!(row.get::<_, i64>(1), *last);
        let last = streams.entry((row.get(0), row.get(2))).or_default();
        *last += 1;
        assert_eq!(row.get::<_, i64>(3), *last);
    }
    assert_eq!((tenants.len(), streams.len()), (6, WRITERS));
    let differ = superuser
        .query_one(
            "select count(*), count(*) filter (where e.position is null or s.position is null)
             from journal.events e full join journal.stream_events s
             using (tenant_id, stream_type, stream_id, sequence, position)",
            &[],
        )
        .await
        .expect("a comparison");
    assert_eq!((differ.get::<_, i64>(0), differ.get::<_, i64>(1)), (events, 0));
}

#[tokio::test]
async fn every_head_is_the_tree_of_the_events_up_to_it() {
    let (db, events) = written().await;
    let superuser = db.superuser().await;
    let rows = superuser
        .query(
            "select tenant_id, tenant_position, position, stream_type, stream_id, sequence, event_id, event_type,
                    event_version, (extract(epoch from recorded_at) * 1000000)::bigint, payload, metadata, leaf_hash
             from journal.events order by tenant_id, tenant_position",
            &[],
        )
        .await
        .expect("the journal");
    let mut trees: BTreeMap<Uuid, RightEdge> = BTreeMap::new();
    let mut expected: BTreeMap<(Uuid, i64), (i64, Vec<u8>)> = BTreeMap::new();
    for row in &rows {
        let sha256 = |text: String| -> [u8; 32] { Sha256::digest(text).into() };
        let (tenant, tenant_position): (Uuid, i64) = (row.get(0), row.get(1));
        let leaf = Leaf {
            tenant,
            tenant_position: tenant_position.cast_unsigned(),
            stream_type: row.get(3),
            stream_id: row.get(4),
            sequence: row.get::<_, i64>(5).cast_unsigned(),
            event_id: row.get(6),
            event_type: row.get(7),
            event_version: row.get::<_, i32>(8).cast_unsigned(),
            recorded_at_us: row.get(9),
            payload_sha256: sha256(row.get(10)),
            metadata_sha256: sha256(row.get(11)),
        }
        .hash();
        assert_eq!(row.get::<_, &[u8]>(12), leaf, "the leaf is not that of its row");
        let tree = trees.entry(tenant).or_default();
        tree.push(leaf);
        expected.insert((tenant, tenant_position), (row.get(2), tree.to_bytes()));
    }
    let heads = superuser
        .query("select tenant_id, size, last_position, edge from journal.tenant_heads", &[])
        .await
        .expect("the heads");
    for head in &heads {
        let key: (Uuid, i64) = (head.get(0), head.get(1));
        assert_eq!(expected.get(&key), Some(&(head.get(2), head.get(3))), "head {key:?}");
    }
    // The last event of each tenant is covered by a head.
    let covered: std::collections::BTreeSet<(Uuid, i64)> = heads.iter().map(|h| (h.get(0), h.get(1))).collect();
    assert!(trees.iter().all(|(tenant, tree)| covered.contains(&(*tenant, tree.size().cast_signed()))));
    assert_eq!(trees.values().map(RightEdge::size).sum::<u64>(), events.cast_unsigned());
}
