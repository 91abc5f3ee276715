//! Unique keys: one holder at a time, within a scope, free again once released.

use daybook_domain::{PLATFORM_TENANT, TenantId};
use daybook_store::journal::{Append, AppendError, ClaimKey, Known};
use daybook_testing::{TestDatabase, append, event, tenant};
use futures_util::future::join_all;
use uuid::Uuid;

const KIND: &str = "thing.name";
const TAKEN: AppendError = AppendError::KeyTaken { kind: KIND };

fn key(scope: TenantId, n: u8) -> ClaimKey {
    ClaimKey { scope, kind: KIND, hash: [n; 32] }
}

fn claiming(tenant: TenantId, stream: u128, expected: u64, key: ClaimKey) -> Append {
    let mut append = append(tenant, Uuid::from_u128(stream), expected, vec![event("{}")]);
    let stream = append.streams[0].stream.clone();
    append.claims.push((key, stream));
    append
}

fn releasing(tenant: TenantId, stream: u128, expected: u64, key: ClaimKey) -> Append {
    let mut append = append(tenant, Uuid::from_u128(stream), expected, vec![event("{}")]);
    append.releases.push(key);
    append
}

async fn held(db: &TestDatabase) -> Vec<(Uuid, i64)> {
    let rows = db
        .superuser()
        .await
        .query("select stream_id, position from journal.claims order by position", &[])
        .await
        .expect("the claims");
    rows.iter().map(|r| (r.get(0), r.get(1))).collect()
}

#[tokio::test]
async fn a_key_that_another_holds_is_taken_until_it_is_released() {
    let db = TestDatabase::new().await;
    let (journal, _task) = db.journal().await;
    let t = tenant();
    journal.append(claiming(t, 1, 0, key(t, 1)), Known::default()).await.expect("a free key");
    assert_eq!(journal.append(claiming(t, 2, 0, key(t, 1)), Known::default()).await, Err(TAKEN));
    assert_eq!(held(&db).await, [(Uuid::from_u128(1), 1)]);

    journal.append(releasing(t, 1, 1, key(t, 1)), Known::default()).await.expect("a release");
    assert_eq!(held(&db).await, []);
    journal.append(claiming(t, 2, 0, key(t, 1)), Known::default()).await.expect("free again");
    assert_eq!(held(&db).await, [(Uuid::from_u128(2), 3)]);
    assert_eq!(journal.append(claiming(t, 3, 0, key(t, 1)), Known::default()).await, Err(TAKEN));
}

#[tokio::test]
async fn a_refused_claim_writes_neither_its_events_nor_its_other_keys() {
    let db = TestDatabase::new().await;
    let (journal, _task) = db.journal().await;
    let t = tenant();
    journal.append(claiming(t, 1, 0, key(t, 1)), Known::default()).await.expect("a free key");
    let mut two = claiming(t, 2, 0, key(t, 2));
    let stream = two.streams[0].stream.clone();
    two.claims.push((key(t, 1), stream));
    assert_eq!(journal.append(two, Known::default()).await, Err(TAKEN));
    assert_eq!(held(&db).await, [(Uuid::from_u128(1), 1)]);
    journal.append(claiming(t, 3, 0, key(t, 2)), Known::default()).await.expect("the other key stayed free");
}

#[tokio::test]
async fn a_key_of_a_tenant_is_its_own_and_a_key_of_the_platform_is_everybodys() {
    let db = TestDatabase::new().await;
    let (journal, _task) = db.journal().await;
    let (a, b) = (tenant(), tenant());
    for t in [a, b] {
        journal.append(claiming(t, 1, 0, key(t, 1)), Known::default()).await.expect("each tenant has its own");
    }
    journal.append(claiming(a, 2, 0, key(PLATFORM_TENANT, 1)), Known::default()).await.expect("another scope");
    assert_eq!(journal.append(claiming(b, 2, 0, key(PLATFORM_TENANT, 1)), Known::default()).await, Err(TAKEN));
    let other_kind = ClaimKey { kind: "thing.number", ..key(PLATFORM_TENANT, 1) };
    journal.append(claiming(b, 2, 0, other_kind), Known::default()).await.expect("another kind");
}

#[tokio::test]
async fn of_twenty_racing_claims_of_one_key_exactly_one_gets_it() {
    let db = TestDatabase::new().await;
    let (journal, _task) = db.journal().await;
    let tenants = [tenant(), tenant()];
    let tries = (0..20u8).map(|n| {
        let t = tenants[usize::from(n % 2)];
        journal.append(claiming(t, u128::from(n), 0, key(PLATFORM_TENANT, 1)), Known::default())
    });
    let answers = join_all(tries).await;
    assert_eq!(answers.iter().filter(|a| a.is_ok()).count(), 1);
    assert_eq!(answers.iter().filter(|a| **a == Err(TAKEN)).count(), 19);
    assert_eq!(held(&db).await.len(), 1);
}

#[tokio::test]
async fn a_racing_release_lets_at_most_one_claimant_in_and_never_two() {
    let db = TestDatabase::new().await;
    let (journal, _task) = db.journal().await;
    let t = tenant();
    for round in 0..10u8 {
        let owner = 1_000 + u128::from(round) * 100;
        journal.append(claiming(t, owner, 0, key(t, round)), Known::default()).await.expect("a free key");
        let release = journal.append(releasing(t, owner, 1, key(t, round)), Known::default());
        let claims = (1..5u128).map(|n| journal.append(claiming(t, owner + n, 0, key(t, round)), Known::default()));
        let (released, claimed) = tokio::join!(release, join_all(claims));
        released.expect("a release");
        let got = claimed.iter().filter(|a| a.is_ok()).count();
        assert!(got <= 1, "{got} hold one key");
        assert!(claimed.iter().all(|a| a.is_ok() || *a == Err(TAKEN)), "{claimed:?}");
        let rows = held(&db).await.iter().filter(|(id, _)| id.as_u128() / 100 == owner / 100).count();
        assert_eq!(rows, got);
    }
}

#[tokio::test]
async fn a_key_and_its_release_in_one_append_are_refused_by_name() {
    let db = TestDatabase::new().await;
    let (journal, _task) = db.journal().await;
    let t = tenant();
    let mut both = claiming(t, 1, 0, key(t, 1));
    both.releases.push(key(t, 1));
    let refused = journal.append(both, Known::default()).await;
    assert!(matches!(&refused, Err(AppendError::Invalid(why)) if why.contains(KIND)), "{refused:?}");
    // One key for another is fine.
    journal.append(claiming(t, 1, 0, key(t, 1)), Known::default()).await.expect("a free key");
    let mut swap = claiming(t, 1, 1, key(t, 2));
    swap.releases.push(key(t, 1));
    journal.append(swap, Known::default()).await.expect("a swap");
    journal.append(claiming(t, 2, 0, key(t, 1)), Known::default()).await.expect("the old one is free");
    assert_eq!(journal.append(claiming(t, 3, 0, key(t, 2)), Known::default()).await, Err(TAKEN));
}

#[tokio::test]
async fn who_holds_which_key_is_told_in_the_order_of_the_keys() {
    let db = TestDatabase::new().await;
    let (journal, _task) = db.journal().await;
    let (t, other) = (tenant(), tenant());
    journal.append(claiming(t, 1, 0, key(t, 1)), Known::default()).await.expect("a free key");
    journal.append(claiming(t, 2, 0, key(t, 2)), Known::default()).await.expect("a free key");
    journal.append(claiming(other, 3, 0, key(other, 3)), Known::default()).await.expect("a free key");
    journal.append(releasing(t, 2, 1, key(t, 2)), Known::default()).await.expect("a release");
    let asked = [key(t, 3), key(t, 2), key(t, 1), key(other, 3), key(other, 1), key(t, 1)];
    let (_, holders) = journal.holders(&asked).await.expect("told");
    let held = |n| Some(Uuid::from_u128(n));
    assert_eq!(holders, [None, None, held(1), held(3), None, held(1)]);
    assert_eq!(journal.holders(&[]).await.expect("nothing").1, []);
}
