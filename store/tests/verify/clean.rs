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
    let mut scene = Scene::new().await;
    scene.store = scene.store.with_milestones(1_000);
    for round in 0..12 {
        let appends = (0..7).map(|n| scene.fill_streams(tenant(n), 100 * round..100 * round + 20, 5));
        futures_util::future::join_all(appends).await;
    }
    let started = Instant::now();
    let mut checkpointer = scene.checkpointer(CheckpointerOptions { positions_max: 3_000, ..Default::default() });
    while checkpointer.run_once(8_400).await.unwrap().more {}
    let signing = started.elapsed();

    let seen = Mutex::new(vec![]);
    let note = |progress| seen.lock().unwrap().push(progress);
    let verifier = scene.signer.verifier();
    let evidence = Evidence { checkpoints: &scene.store, verifier: &verifier };
    let options = VerifyOptions { page: 1_900, progress: &note };
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
