//! A tenant's log in a file: checked by a stranger who has the key and nothing else.

use crate::harness::{Scene, tenant};
use daybook_store::export::{ExportError, export, verify_export};
use daybook_store::verify::{Kind, Report};
use daybook_tlog::{Signer, Verifier};

async fn exported(scene: &Scene, n: u128) -> Vec<u8> {
    let mut out = Vec::new();
    let done =
        export(scene.db.database(), &scene.store, &scene.signer.verifier(), tenant(n), &mut out, &|_, _| {}).await;
    done.expect("an export");
    out
}

fn check(bytes: &[u8], key: &Verifier) -> Report {
    verify_export(&mut &bytes[..], key).expect("a report")
}

fn kinds(report: &Report) -> Vec<Kind> {
    report.findings.iter().map(|f| f.kind).collect()
}

#[tokio::test]
async fn an_export_holds_what_is_signed_and_is_accepted_with_the_key_alone() {
    let scene = Scene::new().await;
    scene.fill(0, 5).await;
    scene.sign().await;
    scene.fill(5, 2).await;
    let mut out = Vec::new();
    let key = scene.signer.verifier();
    let done =
        export(scene.db.database(), &scene.store, &key, tenant(0), &mut out, &|_, _| {}).await.expect("an export");
    assert_eq!((done.events, done.unsigned), (5, 2));
    let report = check(&out, &key);
    assert!(report.is_clean(), "{:#?}", report.findings);
    assert_eq!((report.events, report.checkpoints_checked), (5, 1));
    // Nothing of the others, not even how much they write.
    let text = String::from_utf8(out).expect("text");
    assert_eq!(text.lines().count(), 6);
    assert!(!text.contains(&tenant(1).0.to_string()) && !text.contains("\"position\""));
}

#[tokio::test]
async fn every_alteration_of_an_export_is_found() {
    let scene = Scene::new().await;
    scene.fill(0, 6).await;
    scene.sign().await;
    let key = scene.signer.verifier();
    let good = String::from_utf8(exported(&scene, 0).await).expect("text");
    let lines: Vec<&str> = good.lines().collect();
    let with = |changed: Vec<String>| check((changed.join("\n") + "\n").as_bytes(), &key);
    let own = || lines.iter().map(|l| (*l).to_owned()).collect::<Vec<String>>();

    // A changed payload is named by its position; with a leaf hash to match it, the tree still differs.
    let mut changed = own();
    changed[3] = changed[3].replacen("\"sequence\":", "\"sequence\":1", 1);
    let report = with(changed);
    assert_eq!(kinds(&report), [Kind::Leaf, Kind::Checkpoint]);
    assert_eq!(report.findings[0].tenant_positions, Some(3..=3));
    let mut exchanged = own();
    exchanged[2] = lines[2].replace(&hash_of(lines[2]), &hash_of(lines[3]));
    assert_eq!(kinds(&with(exchanged)), [Kind::Leaf]);

    let mut shorter = own();
    shorter.pop();
    assert_eq!(kinds(&with(shorter)), [Kind::Shorter, Kind::Checkpoint]);
    let mut gap = own();
    gap.remove(2);
    assert_eq!(kinds(&with(gap)), [Kind::TenantPosition]);
    let mut swapped = own();
    swapped.swap(2, 3);
    assert_eq!(kinds(&with(swapped)), [Kind::TenantPosition]);
    let mut broken = own();
    broken[4].truncate(20);
    assert_eq!(kinds(&with(broken)), [Kind::Line]);
    let mut headless = own();
    headless.remove(0);
    assert_eq!(kinds(&with(headless)), [Kind::Line]);
    assert_eq!(kinds(&check(b"", &key)), [Kind::Line]);

    // Another tenant's checkpoint, and a log that somebody else signed.
    let other = String::from_utf8(exported(&scene, 1).await).expect("text");
    let mut foreign = own();
    foreign[0] = other.lines().next().expect("a head").replace(&tenant(1).0.to_string(), &tenant(0).0.to_string());
    assert!(kinds(&with(foreign)).contains(&Kind::Checkpoint));
    let stranger = Signer::generate("daybook/stranger", &[9; 32]).expect("a key");
    assert_eq!(kinds(&check(good.as_bytes(), &stranger.verifier())), [Kind::Checkpoint]);
}

fn hash_of(line: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(line).expect("a line");
    value["leafHash"].as_str().expect("a hash").to_owned()
}

#[tokio::test]
async fn what_is_not_signed_or_not_there_is_refused() {
    let scene = Scene::new().await;
    scene.fill(0, 2).await;
    let mut out = Vec::new();
    let key = scene.signer.verifier();
    let refused = export(scene.db.database(), &scene.store, &key, tenant(0), &mut out, &|_, _| {}).await;
    assert!(matches!(refused, Err(ExportError::NothingSigned(_))), "{refused:?}");
    assert!(out.is_empty());
}
