//! The measurement of many subscriptions, with few of them: nothing of it rots, and nothing is missed.

use daybook_bench::latency::crowd::{self, Options};

#[tokio::test(flavor = "multi_thread")]
async fn every_subscription_of_a_crowd_is_told_its_events_once_and_in_order() {
    let options = Options {
        program: env!("CARGO_BIN_EXE_daybook").into(),
        count: 60,
        each: 20,
        rate: 20,
        seconds: 1,
        disk_dir: None,
    };
    let told = crowd::run(&options).await.expect("a measurement");
    // 19 events for 20 subscriptions, one for all, and the roll call.
    assert_eq!(told.due, 19 * 20 + 60 + 60);
    assert_eq!((told.missed, told.doubled, told.out_of_order, told.strange), (0, 0, 0, 0));
    assert_eq!((told.each.len(), told.all.len()), (19 * 20, 60));
    assert!(told.to_string().contains("KiB a subscription"));
}
