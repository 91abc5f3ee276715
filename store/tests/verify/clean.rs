//! An untouched journal has no findings, also while it grows.

use crate::harness::{Scene, tenant};
use daybook_store::checkpoints::CheckpointerOptions;
use daybook_store::verify::{Evidence, VerifyOptions, verify};
use std::sync::Mutex;
use std::time::Instant;

#[tokio::test]
async fn an_empty_journal_verifies_clean() {
    let scene = Scene::new().await;
    let report = scene.verify().await;
    assert!(report.is_clean(), "{:#?}", report.findings);
    assert_eq!((report.events, report.tenants, report.first_bad_position()), (0, 0, None));
}

#[tokio::test]
async fn thousands_of_events_of_many_tenants_over_several_partitions_verify_clean_while_the_writer_goes_on() {
    let scene = Scene::new().await;
    for round in 0..60 {
        let appends = (0..7).map(|n| scene.fill_streams(tenant(n), 100 * round..100 * round + 20, 5));
        futures_util::future::join_all(appends).await;
    }
    scene.attack("set role daybook_projector; set enable_hashjoin=off; set enable_mergejoin=off; set enable_seqscan=off; set enable_bitmapscan=off; set jit=off").await;
    for q in ["explain (analyze, buffers) select e.position, e.tenant_id, e.tenant_position, e.stream_type, e.stream_id, e.sequence, e.event_id, e.event_type,
       e.event_version, e.recorded_at, e.payload, e.metadata, e.leaf_hash,
       s.position, p.position, h.last_position, h.batch, h.edge
from journal.events e
left join journal.stream_events s on s.tenant_id = e.tenant_id and s.stream_type = e.stream_type
                                 and s.stream_id = e.stream_id and s.sequence = e.sequence
left join journal.stream_events p on p.tenant_id = e.tenant_id and p.stream_type = e.stream_type
                                 and p.stream_id = e.stream_id and p.sequence = e.sequence - 1
left join journal.tenant_heads h on h.tenant_id = e.tenant_id and h.size = e.tenant_position
where e.position > 20000 and e.position <= 40000 order by e.position", "explain (analyze, buffers) select e.position, e.tenant_id, e.tenant_position, e.leaf_hash from journal.events e
 where e.position > 0 and e.position <= 42000 order by e.position"] {
        let rows = scene.attacker.query(q, &[]).await.unwrap();
        let n = rows.len();
        for (i, r) in rows.iter().enumerate() { if i < 30 || i + 12 > n { eprintln!("PLAN {}", r.get::<_, &str>(0)); } }
    }
    let started = Instant::now();
    let mut checkpointer = scene.checkpointer(CheckpointerOptions { positions_max: 50_000, ..Default::default() });
    while checkpointer.run_once(42_000).await.unwrap().more {}
    let signing = started.elapsed();

    let seen = Mutex::new(vec![]);
    let note = |progress| seen.lock().unwrap().push(progress);
    let verifier = scene.signer.verifier();
    let evidence = Evidence { checkpoints: &scene.store, verifier: &verifier };
    let options = VerifyOptions { page: 20_000, progress: &note };
    let started = Instant::now();
    let verifying = verify(scene.db.database(), Some(evidence), options);
    let growing = async {
        for round in 20..24 {
            scene.fill_streams(tenant(round), 0..10, 10).await;
        }
    };
    let (report, ()) = tokio::join!(verifying, growing);
    let elapsed = started.elapsed();
    let report = report.unwrap();

    assert!(report.is_clean(), "{:#?}", report.findings);
    assert!(report.events >= 8_400 && report.tenants >= 7 && report.batches > 12, "{report:#?}");
    // Seven tenants, the journal, and its milestones on the way.
    assert!(report.checkpoints_checked > 8);
    let seen = seen.into_inner().unwrap();
    assert!(seen.len() > 4 && seen.iter().all(|p| p.of == report.events), "{seen:?}");
    assert_eq!(seen.last().map(|p| p.position), Some(report.events));
    #[allow(clippy::cast_precision_loss)]
    let per_second = report.events as f64 / elapsed.as_secs_f64();
    eprintln!("{} events verified in {elapsed:?}: {per_second:.0}/s; signed in {signing:?}", report.events);
}
