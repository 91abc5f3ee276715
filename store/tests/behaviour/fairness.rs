//! A tenant that wants much waits for itself. In batches, not in time: what a batch costs is the machine's.

use daybook_domain::TenantId;
use daybook_store::journal::machine::Config;
use daybook_store::journal::{Append, AppendError, Journal, Known, Outcome};
use daybook_testing::{TestDatabase, append, event, tenant, test_config};
use tokio::task::JoinHandle;
use uuid::Uuid;

type Answered = JoinHandle<Result<Outcome, AppendError>>;

/// Everything is asked before the writer looks: the test has one thread, and tasks begin in the order in which
/// they were made.
fn ask(journal: &Journal, append: Append, known: Known) -> Answered {
    let journal = journal.clone();
    tokio::spawn(async move { journal.append(append, known).await })
}

fn wants(tenant: TenantId, stream: u128, events: usize) -> Append {
    append(tenant, Uuid::from_u128(stream), 0, (0..events).map(|_| event("{}")).collect())
}

async fn outcomes(asked: Vec<Answered>) -> Vec<Result<Outcome, AppendError>> {
    let mut outcomes = Vec::new();
    for answered in asked {
        outcomes.push(answered.await.expect("a caller"));
    }
    outcomes
}

fn batch(outcome: &Result<Outcome, AppendError>) -> u64 {
    outcome.as_ref().expect("an append").seen.batch
}

/// A journal in which these tenants have written already.
async fn journal_of(config: Config, tenants: &[TenantId]) -> (TestDatabase, Journal, Known) {
    let db = TestDatabase::new().await;
    let (journal, _task) = db.journal_with(config).await;
    let mut known = Known::default();
    for tenant in tenants {
        let outcome = journal.append(wants(*tenant, 1, 1), Known::default()).await.expect("an append");
        known = Known { versions_at: Some(outcome.seen), unused_at: None };
    }
    (db, journal, known)
}

#[tokio::test]
async fn beside_a_flood_everybody_else_is_in_one_of_the_next_two_batches() {
    let others: Vec<_> = (0..10).map(|_| tenant()).collect();
    let flooder = tenant();
    let (db, journal, known) = journal_of(test_config(), &[&others[..], &[flooder]].concat()).await;
    let flood: Vec<_> = (0..1_000).map(|n| ask(&journal, wants(flooder, 100 + n, 1), known)).collect();
    let beside: Vec<_> = others.iter().map(|other| ask(&journal, wants(*other, 100, 1), known)).collect();
    let (flood, beside) = (outcomes(flood).await, outcomes(beside).await);
    let first = flood.iter().map(batch).min().expect("a batch");
    assert!(beside.iter().all(|other| batch(other) < first + 2), "{beside:?}, and the flood began with {first}");
    assert!(flood.iter().map(batch).max() > Some(first + 10), "the flood was no flood");
    // In its own order, all the same.
    assert!(flood.iter().map(|f| f.as_ref().expect("an append").last_position).is_sorted());
    // No batch held more of the flood than its share.
    let superuser = db.superuser().await;
    let most = superuser
        .query_one(
            "select max(n) from (select count(*) as n from journal.events e
                                 join journal.batches b on e.position between b.first_position and b.last_position
                                 where tenant_id = $1 group by b.batch) t",
            &[&flooder.0],
        )
        .await
        .expect("a count");
    assert_eq!(most.get::<_, i64>(0), test_config().batch_share_max as i64);
}

#[tokio::test]
async fn an_import_lets_a_command_by_after_each_of_its_large_appends() {
    let (importer, other) = (tenant(), tenant());
    let (_db, journal, known) = journal_of(test_config(), &[importer, other]).await;
    let import: Vec<_> = (0..20).map(|n| ask(&journal, wants(importer, 100 + n, 200), known)).collect();
    let mut between = Vec::new();
    for n in 0..10 {
        let asked = ask(&journal, wants(other, 100 + n, 1), known);
        between.push(asked.await.expect("a caller"));
    }
    let import = outcomes(import).await;
    // One large append a batch, and no command in a batch with one unless that was its turn.
    let mut batches: Vec<u64> = import.iter().map(batch).collect();
    batches.dedup();
    assert_eq!(batches.len(), 20);
    let alone = between.iter().filter(|command| !batches.contains(&batch(command))).count();
    assert!(alone >= 8, "{alone} of 10 commands did not wait for the insertion of an import beside theirs");
    // A command waits for the batch on its way, and at most for one more.
    let span = batch(&between[9]) - batch(&between[0]);
    assert!(span <= 27, "ten commands, one after the other, took {span} batches");
}

#[tokio::test]
async fn who_floods_is_overloaded_and_nobody_else() {
    let flooder = tenant();
    let others: Vec<_> = (0..20).map(|_| tenant()).collect();
    let config = Config { tenant_requests_max: 8, ..test_config() };
    let (_db, journal, known) = journal_of(config, &[&others[..], &[flooder]].concat()).await;
    let flood: Vec<_> = (0..200).map(|n| ask(&journal, wants(flooder, 100 + n, 1), known)).collect();
    let beside: Vec<_> = others.iter().map(|other| ask(&journal, wants(*other, 100, 1), known)).collect();
    let flood = outcomes(flood).await;
    let refused = flood.iter().filter(|answer| **answer == Err(AppendError::Overloaded)).count();
    assert!((150..=192).contains(&refused), "{refused} of 200 with room for 8");
    assert!(outcomes(beside).await.iter().all(Result::is_ok));
}
