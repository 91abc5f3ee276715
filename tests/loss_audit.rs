//! The loss audit (`bench/loss-audit`), short: ten faults under load, and nothing is lost. `script/proof loss` is
//! the long one.

use loss_audit::campaign::{self, Options, Outcome};
use loss_audit::report;

fn options(seed: u64, faults: usize) -> Options {
    Options {
        seed,
        faults,
        writers: 6,
        nodes: 1,
        program: env!("CARGO_BIN_EXE_daybook").into(),
        only: vec![],
        bound: campaign::BOUND,
        keep: false,
        environment: vec![],
    }
}

async fn audit(options: Options) -> Outcome {
    let outcome = match campaign::run(&options).await {
        Ok(outcome) => outcome,
        Err(error) => panic!("{}", daybook_testing::chain(&error)),
    };
    eprintln!("{}", report::markdown(&options, &outcome));
    outcome
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_doubled_or_shown_too_early_whatever_is_killed_cut_or_full() {
    let outcome = audit(options(1, 10)).await;
    assert!(outcome.verdict.is_clean(), "{:?}", outcome.verdict.violated());
    assert!(outcome.acknowledged > 100, "only {} writes", outcome.acknowledged);
}

/// The audit itself on trial: a writer that answers before the flush must be caught.
#[cfg(feature = "plants")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_audit_catches_a_writer_that_answers_before_the_flush() {
    use loss_audit::check::Rule;
    use loss_audit::fault::Kind;
    for seed in 1..=5 {
        let outcome = audit(Options {
            only: vec![Kind::KillPostgres],
            // Who was told of a write that is lost waits for it in vain.
            bound: std::time::Duration::from_secs(10),
            environment: vec![("DAYBOOK_PLANT".into(), "answer-before-flush".into())],
            ..options(seed, 6)
        })
        .await;
        let violated = outcome.verdict.violated();
        eprintln!("seed {seed}: {violated:?}");
        if violated.contains(&Rule::Kept) {
            return;
        }
    }
    panic!("five campaigns against a planted fault found nothing");
}
