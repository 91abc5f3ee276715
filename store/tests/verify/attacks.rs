//! Each way to rewrite history, as a superuser with the guards off.

use crate::harness::{Findings, Scene, tenant};
use daybook_store::verify::Kind;

/// Thirty events of three tenants, positions 1..30, all signed, the writer gone.
async fn signed_scene() -> Scene {
    let mut scene = Scene::new().await;
    scene.fill(0, 10).await;
    assert_eq!(scene.sign().await.position, 30);
    scene.stop().await;
    let clean = scene.verify().await;
    assert!(clean.is_clean(), "{:#?}", clean.findings);
    scene
}

#[tokio::test]
async fn an_updated_payload_is_named() {
    let scene = signed_scene().await;
    scene.attack(r#"update journal.events set payload = '{"round":99}' where position = 14"#).await;

    let report = scene.verify().await;
    assert_eq!(report.kinds(), [Kind::Leaf]);
    assert_eq!(report.first_bad_position(), Some(14));
    let finding = report.one(Kind::Leaf, tenant(1));
    assert_eq!(finding.tenant_positions, Some(5..=5));
    assert!(finding.to_string().starts_with("leaf at position 14, tenant "), "{finding}");
}

#[tokio::test]
async fn a_payload_updated_together_with_its_leaf_hash_is_named_by_the_head() {
    let scene = signed_scene().await;
    scene.attack(r#"update journal.events set payload = '{"round":99}' where position = 14"#).await;
    let heads = "create temp table heads as select * from journal.tenant_heads";
    scene.attack(heads).await;
    scene.forge(tenant(1)).await;
    scene.attack("delete from journal.tenant_heads; insert into journal.tenant_heads select * from heads").await;

    let report = scene.verify_alone().await;
    assert_eq!(report.kinds(), [Kind::Head]);
    assert_eq!((report.findings.len(), report.first_bad_position()), (1, Some(14)));
    let signed = scene.verify().await;
    assert_eq!(signed.first_bad_position(), Some(14), "{:#?}", signed.findings);
}

#[tokio::test]
async fn a_consistent_rewrite_is_caught_by_the_checkpoint_alone() {
    let scene = signed_scene().await;
    scene.attack(r#"update journal.events set payload = '{"round":99}' where position = 23"#).await;
    scene.forge(tenant(1)).await;

    assert!(scene.verify_alone().await.is_clean());
    let report = scene.verify().await;
    assert_eq!(report.kinds(), [Kind::Checkpoint]);
    let finding = report.one(Kind::Checkpoint, tenant(1));
    assert_eq!(finding.tenant_positions, Some(1..=10));
    // The milestone at 16 still stands, so it is after that.
    assert_eq!((finding.position, report.first_bad_position()), (Some(17), Some(17)));
}

#[tokio::test]
async fn a_deleted_event_is_named() {
    let scene = signed_scene().await;
    scene.attack("delete from journal.events where position = 14").await;

    let report = scene.verify().await;
    assert_eq!(report.of(Kind::Position), [Some(14)]);
    assert_eq!(report.of(Kind::TenantPosition), [Some(17)]);
    assert_eq!(report.of(Kind::Stream), [Some(14)]);
    assert_eq!(report.first_bad_position(), Some(14), "{:#?}", report.findings);
}

#[tokio::test]
async fn a_deletion_that_closes_the_gap_and_forges_the_rest_is_caught_by_the_checkpoint() {
    let scene = signed_scene().await;
    scene
        .attack(
            "delete from journal.events where position = 23;
             update journal.events set position = position + 900 where position > 23;
             update journal.events set position = position - 901 where position > 900;
             delete from journal.batches where first_position = 23 and last_position = 23;
             update journal.batches set batch = batch + 900, first_position = first_position - 1, last_position = last_position - 1
             where first_position > 23;
             update journal.batches set batch = batch - 901 where batch > 900;",
        )
        .await;
    for n in 0..3 {
        scene.forge(tenant(n)).await;
    }

    let alone = scene.verify_alone().await;
    assert!(alone.is_clean(), "{:#?}", alone.findings);
    let report = scene.verify().await;
    assert_eq!(report.kinds(), [Kind::Shorter], "{:#?}", report.findings);
    assert_eq!(report.one(Kind::Shorter, tenant(1)).tenant_positions, Some(10..=10));
}

#[tokio::test]
async fn an_inserted_event_is_named() {
    let scene = signed_scene().await;
    scene
        .attack(
            "insert into journal.events select 31, tenant_id, 11, stream_type, stream_id, 11, gen_random_uuid(), event_type,
                event_version, recorded_at, payload, metadata, leaf_hash from journal.events where position = 29",
        )
        .await;

    let report = scene.verify().await;
    assert_eq!(report.of(Kind::Batch), [Some(31)]);
    assert_eq!(report.of(Kind::Leaf), [Some(31)]);
    assert_eq!(report.of(Kind::Stream), [Some(31)]);
    assert_eq!(report.of(Kind::Head), [Some(31)]);
    assert_eq!(report.first_bad_position(), Some(31));
}

#[tokio::test]
async fn two_events_of_a_tenant_that_changed_places_are_named() {
    let scene = signed_scene().await;
    scene
        .attack(
            "update journal.events set position = 999 where position = 14;
             update journal.events set position = 14 where position = 17;
             update journal.events set position = 17 where position = 999;",
        )
        .await;

    let report = scene.verify().await;
    assert_eq!(report.first_bad_position(), Some(14), "{:#?}", report.findings);
    assert_eq!(report.of(Kind::TenantPosition)[0], Some(14));
}

#[tokio::test]
async fn two_tenants_events_that_changed_places_within_a_batch_are_caught_by_the_journals_checkpoint() {
    let mut scene = Scene::new().await;
    scene.fill(0, 10).await;
    scene.stop().await;
    // One batch holds both, as it does under load; neither is its tenant's last of the batch.
    scene
        .attack(
            "update journal.batches set last_position = 30 where first_position = 19 and last_position = 19;
             create temp table gone as select * from journal.batches where first_position > 19;
             update journal.batches b set first_position = 31, last_position = 30 from gone g where g.batch = b.batch;
             update journal.batches set recorded_at = (select recorded_at from journal.batches where first_position = 19) where first_position > 19;
             update journal.events set recorded_at = (select recorded_at from journal.batches where first_position = 19) where position >= 19;",
        )
        .await;
    for n in 0..3 {
        scene.forge(tenant(n)).await;
    }
    let before = scene.verify_alone().await;
    assert!(before.is_clean(), "{:#?}", before.findings);
    let mut checkpointer = scene.checkpointer(Default::default());
    checkpointer.run_once(18).await.unwrap();
    checkpointer.run_once(30).await.unwrap();

    scene
        .attack(
            "update journal.events set position = 999 where position = 20;
             update journal.events set position = 20 where position = 21;
             update journal.events set position = 21 where position = 999;",
        )
        .await;
    for n in 0..3 {
        scene.forge(tenant(n)).await;
    }

    assert!(scene.verify_alone().await.is_clean());
    let report = scene.verify().await;
    assert_eq!(report.findings.len(), 1, "{:#?}", report.findings);
    assert_eq!((report.findings[0].kind, report.first_bad_position()), (Kind::Checkpoint, Some(17)));
}

const ROLL_BACK: &str = "
    delete from journal.events where position > 25;
    delete from journal.stream_events where position > 25;
    delete from journal.tenant_heads where last_position > 25;
    delete from journal.batches where first_position > 25;";

#[tokio::test]
async fn a_tail_that_was_rolled_back_is_named() {
    let scene = signed_scene().await;
    scene.attack(ROLL_BACK).await;

    assert!(scene.verify_alone().await.is_clean());
    let report = scene.verify().await;
    assert_eq!((report.kinds(), report.first_bad_position()), (vec![Kind::Shorter], Some(26)));
    // 25 events: nine of the first tenant, eight of each other.
    assert_eq!(report.one(Kind::Shorter, tenant(0)).tenant_positions, Some(10..=10));
    assert_eq!(report.one(Kind::Shorter, tenant(2)).tenant_positions, Some(9..=10));
}

#[tokio::test]
async fn a_tail_that_was_rolled_back_and_written_anew_is_named_and_never_signed() {
    let mut scene = signed_scene().await;
    scene.attack(ROLL_BACK).await;
    // The commands' records went with the tail.
    scene.attack("delete from journal.commands where last_position > 25").await;
    scene.restart().await;
    for round in 0..4 {
        for n in 0..3u128 {
            let have = if n == 0 { 9 } else { 8 } + round;
            let another = vec![daybook_testing::event(r#"{"another":"past"}"#)];
            let append = daybook_testing::append(tenant(n), uuid::Uuid::from_u128(n), have, another);
            scene.journal.append(append, Default::default()).await.unwrap();
        }
    }

    let round = scene.sign().await;
    assert_eq!((round.signed, round.refused), (0, vec![tenant(2), tenant(0), tenant(1)]));
    scene.stop().await;
    assert!(scene.verify_alone().await.is_clean());
    let report = scene.verify().await;
    assert_eq!(report.kinds(), [Kind::Checkpoint]);
    // The milestone at 16 still stands, the checkpoint at 30 does not.
    assert_eq!(report.first_bad_position(), Some(17), "{:#?}", report.findings);
}

#[tokio::test]
async fn a_tenant_that_was_removed_altogether_is_named() {
    let scene = signed_scene().await;
    scene
        .attack(&format!("delete from journal.events where tenant_id = '{0}'; delete from journal.tenant_heads where tenant_id = '{0}';
                          delete from journal.stream_events where tenant_id = '{0}'", tenant(2).0))
        .await;

    let report = scene.verify().await;
    assert_eq!(report.first_bad_position(), Some(3));
    let finding = report.one(Kind::Shorter, tenant(2));
    assert_eq!(finding.tenant_positions, Some(1..=10));
}

#[tokio::test]
async fn every_other_row_and_column_that_was_altered_is_named() {
    let cases: [(&str, Kind, u64); 18] = [
        ("update journal.events set metadata = '{ }' where position = 14", Kind::Leaf, 14),
        ("update journal.events set event_type = 'test.thing.undone' where position = 14", Kind::Leaf, 14),
        ("update journal.events set event_version = 2 where position = 14", Kind::Leaf, 14),
        ("update journal.events set event_id = gen_random_uuid() where position = 14", Kind::Leaf, 14),
        ("update journal.events set leaf_hash = sha256('x') where position = 14", Kind::Leaf, 14),
        ("update journal.events set recorded_at = recorded_at + interval '1us' where position = 14", Kind::Time, 14),
        ("update journal.events set recorded_at = 'infinity' where position = 14", Kind::Position, 14),
        ("update journal.events set sequence = 11 where position = 14", Kind::Stream, 14),
        ("update journal.stream_events set position = 15 where position = 14", Kind::Stream, 14),
        ("delete from journal.stream_events where position = 14", Kind::Stream, 14),
        (
            "insert into journal.stream_events select tenant_id, stream_type, stream_id, 11, 31 from journal.stream_events where position = 29",
            Kind::Stream,
            31,
        ),
        ("update journal.tenant_heads set edge = edge || edge where last_position = 14", Kind::Head, 14),
        ("update journal.tenant_heads set batch = batch + 1 where last_position = 14", Kind::Head, 14),
        ("delete from journal.tenant_heads where last_position = 14", Kind::Head, 14),
        (
            "insert into journal.tenant_heads select tenant_id, 16, 60, batch, sha256('x') from journal.tenant_heads where last_position = 14",
            Kind::Head,
            60,
        ),
        (
            "update journal.batches set last_position = last_position + 1 where first_position = 14 and last_position = 14",
            Kind::Batch,
            16,
        ),
        ("update journal.batches set epoch = 99 where last_position = 14", Kind::Batch, 15),
        ("delete from journal.batches where first_position = 14 and last_position = 14", Kind::Batch, 14),
    ];
    let scene = signed_scene().await;
    for (sql, kind, position) in cases {
        scene.attack("begin").await;
        let saved = "create temp table e as table journal.events; create temp table s as table journal.stream_events;
                     create temp table h as table journal.tenant_heads; create temp table b as table journal.batches";
        scene.attack(saved).await;
        scene.attack("commit").await;
        scene.attack(sql).await;

        let report = scene.verify_alone().await;
        assert!(report.of(kind).contains(&Some(position)), "{sql}: {:#?}", report.findings);
        assert!(report.first_bad_position() >= Some(14), "{sql}: {:#?}", report.findings);

        scene
            .attack(
                "truncate journal.events, journal.stream_events, journal.tenant_heads, journal.batches;
                 insert into journal.events table e; insert into journal.stream_events table s;
                 insert into journal.tenant_heads table h; insert into journal.batches table b; drop table e, s, h, b",
            )
            .await;
    }
    assert!(scene.verify().await.is_clean());
}

#[tokio::test]
async fn guards_that_are_missing_off_or_hollow_are_named() {
    let cases = [
        ("alter table journal.events disable trigger append_only", "journal.events is switched off"),
        ("alter table journal.events_p000000 disable trigger append_only", "journal.events_p000000 is switched off"),
        (
            "alter table journal.events_p000001 enable replica trigger append_only",
            "journal.events_p000001 is switched off",
        ),
        ("drop trigger append_only on journal.tenant_heads", "journal.tenant_heads is missing"),
        ("drop trigger guarded on journal.commands", "journal.commands is missing"),
        (
            "drop trigger append_only on journal.batches; create trigger append_only before update on journal.batches for each statement execute function journal.refuse_change()",
            "journal.batches does not see every change",
        ),
        (
            "create or replace function journal.refuse_change() returns trigger language plpgsql as 'begin return null; end'",
            "journal.refuse_change is not the one",
        ),
        (
            "do $$ begin execute format('alter database %I set session_replication_role = replica', current_database()); end $$",
            "session_replication_role is set",
        ),
    ];
    for (sql, said) in cases {
        let scene = Scene::new().await;
        scene.attack("select journal.ensure_partitions(1000)").await;
        scene.attack(sql).await;
        let report = scene.verify().await;
        assert_eq!(report.kinds(), [Kind::Guard], "{sql}: {:#?}", report.findings);
        assert!(report.findings.iter().any(|f| f.message.contains(said)), "{sql}: {:#?}", report.findings);
    }
}
