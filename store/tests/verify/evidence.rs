//! Checkpoints: what is signed, and what an attacker on the files can do.

use crate::harness::{Findings, Scene, tenant};
use daybook_store::checkpoints::{CheckpointerOptions, Log, Round};
use daybook_store::verify::Kind;
use daybook_testing::{append, event};
use std::time::Duration;
use uuid::Uuid;

#[tokio::test]
async fn only_what_is_durable_is_signed_in_bounded_rounds_and_a_restart_continues() {
    let scene = Scene::new().await;
    scene.fill(0, 4).await;
    let options = CheckpointerOptions { positions_max: 100, tenants_max: 2, ..CheckpointerOptions::default() };
    let mut checkpointer = scene.checkpointer(options.clone());

    // The third tenant has no place in the round, which ends before its first event.
    let first = checkpointer.run_once(7).await.unwrap();
    assert_eq!(first, Round { position: 2, signed: 2, refused: vec![], more: true });
    let verifier = scene.signer.verifier();
    assert_eq!(scene.store.open(Log::Tenant(tenant(0)), &verifier).unwrap().unwrap().size, 1);
    drop(checkpointer);

    let mut restarted = scene.checkpointer(options);
    let mut rounds = vec![];
    loop {
        let round = restarted.run_once(7).await.unwrap();
        rounds.push(round.position);
        if !round.more {
            break;
        }
    }
    assert_eq!(rounds, [4, 6, 7]);
    assert_eq!(scene.store.open(Log::Journal, &verifier).unwrap().unwrap().size, 7);
    assert_eq!(scene.store.open(Log::Tenant(tenant(0)), &verifier).unwrap().unwrap().size, 3);
    assert_eq!(restarted.run_once(7).await.unwrap().signed, 0);
    let report = scene.verify().await;
    assert!(report.is_clean() && report.checkpoints_checked == 4, "{report:#?}");
}

#[tokio::test]
async fn the_task_signs_what_becomes_durable_and_once_more_when_the_writer_ends_or_it_is_stopped() {
    let mut scene = Scene::new().await;
    let checkpointer = scene.checkpointer(CheckpointerOptions::default());
    // A long interval: after the first round only an end lets it sign again.
    let interval = Duration::from_secs(3_600);
    let task = tokio::spawn(checkpointer.run(scene.journal.durable(), interval, std::future::pending()));
    scene.fill(0, 5).await;
    scene.stop().await;
    task.await.unwrap();

    let verifier = scene.signer.verifier();
    assert_eq!(scene.store.open(Log::Journal, &verifier).unwrap().unwrap().size, 15);

    scene.restart().await;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let again = scene.checkpointer(CheckpointerOptions::default());
    let task = tokio::spawn(again.run(scene.journal.durable(), interval, async { stopped.await.unwrap() }));
    scene.fill(5, 5).await;
    stop.send(()).unwrap();
    task.await.unwrap();

    assert_eq!(scene.store.open(Log::Journal, &verifier).unwrap().unwrap().size, 30);
    let report = scene.verify().await;
    assert!(report.is_clean(), "{:#?}", report.findings);
}

#[tokio::test]
async fn a_checkpoint_that_was_altered_exchanged_or_put_back_is_named() {
    let mut scene = Scene::new().await;
    scene.fill(0, 3).await;
    scene.sign().await;
    let store = scene.store.clone();
    let path = |n| store.path(Log::Tenant(tenant(n)));
    let old = std::fs::read(path(0)).unwrap();
    scene.fill(3, 3).await;
    scene.sign().await;
    scene.stop().await;
    let (good, other) = (std::fs::read(path(0)).unwrap(), std::fs::read(path(1)).unwrap());
    let altered = String::from_utf8(good.clone()).unwrap().replacen("\n6\n", "\n5\n", 1).into_bytes();

    for (bytes, said) in [(altered, "altered"), (other, "is not acceptable"), (old, "put back")] {
        std::fs::write(path(0), bytes).unwrap();
        let report = scene.verify().await;
        assert_eq!(report.kinds(), [Kind::Checkpoint]);
        let named = |f: &daybook_store::verify::Finding| f.tenant == Some(tenant(0)) && f.message.contains(said);
        assert!(report.findings.iter().any(named), "{said}: {:#?}", report.findings);
    }
    std::fs::remove_file(path(0)).unwrap();
    let report = scene.verify().await;
    assert_eq!(report.one(Kind::Checkpoint, tenant(0)).position, Some(1));
    std::fs::write(path(0), good).unwrap();
    assert!(scene.verify().await.is_clean());
}

#[tokio::test]
async fn an_older_backup_that_was_restored_is_named() {
    let mut scene = Scene::new().await;
    scene.fill(0, 4).await;
    scene.sign().await;
    scene.stop().await;
    // A copy of the database is what a dump restores to.
    let admin = scene.db.database().named("postgres").connect(daybook_store::Role::Login, "").await.unwrap();
    let name: String = scene.attacker.query_one("select current_database()", &[]).await.unwrap().get(0);
    let backup = format!("{name}_backup");
    scene.attacker = admin;
    scene
        .attacker
        .execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", &[&name])
        .await
        .unwrap();
    loop {
        match scene.attacker.batch_execute(&format!("create database {backup} template {name}")).await {
            Ok(()) => break,
            // A session is still on its way out.
            Err(error) => assert_eq!(error.code(), Some(&tokio_postgres::error::SqlState::OBJECT_IN_USE)),
        }
    }
    let restored = scene.db.database().named(&backup);
    assert!(scene.verify_on(&restored).await.is_clean());
    scene.restart().await;
    scene.fill(4, 4).await;
    assert_eq!(scene.sign().await.position, 24);
    scene.stop().await;
    assert!(scene.verify().await.is_clean());

    let report = scene.verify_on(&restored).await;
    assert_eq!((report.kinds(), report.first_bad_position()), (vec![Kind::Shorter], Some(13)));
    assert_eq!(report.one(Kind::Shorter, tenant(2)).tenant_positions, Some(5..=8));
    let said = report.findings.last().unwrap().to_string();
    assert!(said.contains("the journal is shorter than its checkpoint of 24 events"), "{said}");
    scene.attacker.batch_execute(&format!("drop database {backup} (force)")).await.unwrap();
}

#[tokio::test]
async fn a_history_rewritten_before_the_next_append_is_not_signed_over() {
    let mut scene = Scene::new().await;
    scene.fill(0, 5).await;
    scene.sign().await;
    scene.stop().await;
    scene.attack(r#"update journal.events set payload = '{"round":99}' where position = 5"#).await;
    scene.forge(tenant(1)).await;
    scene.restart().await;
    for n in 0..3 {
        scene
            .journal
            .append(append(tenant(n), Uuid::from_u128(n), 5, vec![event("{}")]), Default::default())
            .await
            .unwrap();
    }

    let round = scene.sign().await;
    assert_eq!((round.signed, round.refused), (2, vec![tenant(1)]));
    let kept = scene.store.open(Log::Tenant(tenant(1)), &scene.signer.verifier()).unwrap().unwrap();
    assert_eq!(kept.size, 5);
    scene.stop().await;
    let report = scene.verify().await;
    assert_eq!(report.kinds(), [Kind::Checkpoint]);
    let named = |f: &daybook_store::verify::Finding| f.tenant == Some(tenant(1)) && f.tenant_positions == Some(1..=5);
    assert!(report.findings.iter().any(named), "{:#?}", report.findings);
}

#[tokio::test]
async fn a_journal_under_another_name_does_not_pass_without_its_checkpoints() {
    let mut scene = Scene::new().await;
    scene.fill(0, 2).await;
    scene.sign().await;
    scene.stop().await;
    let renamed = scene.store.directory().with_file_name(Uuid::from_u128(77).to_string());
    std::fs::rename(scene.store.directory(), &renamed).unwrap();

    let report = scene.verify().await;
    assert_eq!(report.kinds(), [Kind::Checkpoint]);
    assert!(report.findings[0].message.contains("but none of this one"));
}
