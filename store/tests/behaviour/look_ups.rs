//! Look-ups that are answered together are answered each for itself.

use daybook_store::database::Role;
use daybook_store::journal::{AppendError, BY_KEY, ClaimKey, Known, StreamId, StreamKey, look_ups};
use daybook_testing::{TestDatabase, append, event, tenant};
use futures_util::future::join_all;
use uuid::Uuid;

#[tokio::test]
async fn of_three_hundred_callers_at_once_each_is_told_about_its_own_streams() {
    let db = TestDatabase::new().await;
    let (journal, _task) = db.journal().await;
    let tenants = [tenant(), tenant(), tenant()];
    // Stream n of a tenant has n % 4 events.
    for t in tenants {
        for n in 0..20u128 {
            let events: Vec<_> = (0..n % 4).map(|_| event("{}")).collect();
            if !events.is_empty() {
                journal.append(append(t, Uuid::from_u128(n), 0, events), Known::default()).await.expect("an append");
            }
        }
    }
    let calls = (0..300u128).map(|n| {
        let (journal, t) = (journal.clone(), tenants[(n % 3) as usize]);
        async move {
            // Nobody knows anything: reads of two streams, one of them wrong in every third call.
            let mut asked = append(t, Uuid::from_u128(1_000 + n), 0, vec![event("{}")]);
            let (right, other) = (n % 20, (n + 7) % 20);
            let wrong = u64::from(n % 3 == 0) * 9;
            asked.reads = vec![
                (StreamId { kind: "thing", id: Uuid::from_u128(right) }, (right % 4) as u64),
                (StreamId { kind: "thing", id: Uuid::from_u128(other) }, (other % 4) as u64 + wrong),
            ];
            (n, other, journal.append(asked, Known::default()).await)
        }
    });
    for (n, other, answer) in join_all(calls).await {
        if n % 3 == 0 {
            let expected = AppendError::Conflict {
                stream: StreamId { kind: "thing", id: Uuid::from_u128(other) },
                expected: (other % 4) as u64 + 9,
                actual: (other % 4) as u64,
            };
            assert_eq!(answer, Err(expected), "call {n}");
        } else {
            answer.unwrap_or_else(|e| panic!("call {n}: {e}"));
        }
    }
}

#[tokio::test]
async fn many_streams_are_loaded_together_however_long_they_are() {
    let db = TestDatabase::new().await;
    let (journal, _task) = db.journal().await;
    let (t, other) = (tenant(), tenant());
    // Together more than a page of the look-up; the page ends within a stream.
    let lengths = [0, 1, 1_900, 0, 1_900, 3, 1_900, 1_900, 2, 0];
    for (n, length) in (0..).zip(lengths) {
        let events: Vec<_> = (0..length).map(|_| event("{}")).collect();
        if !events.is_empty() {
            journal.append(append(t, Uuid::from_u128(n), 0, events), Known::default()).await.expect("an append");
        }
    }
    journal.append(append(other, Uuid::from_u128(0), 0, vec![event("{}")]), Known::default()).await.expect("an append");
    let streams: Vec<StreamId> = (0..10).rev().map(|n| StreamId { kind: "thing", id: Uuid::from_u128(n) }).collect();
    let (seen, loaded) = journal.load_many(t, &streams).await.expect("loaded");
    assert_eq!(loaded.iter().map(Vec::len).rev().collect::<Vec<_>>(), lengths);
    for (stream, events) in streams.iter().zip(&loaded) {
        let whole = journal.load(&daybook_store::journal::StreamKey { tenant: t, stream: stream.clone() }, 0).await;
        let whole = whole.expect("loaded");
        assert_eq!((&whole.events, whole.seen.epoch), (events, seen.epoch));
    }
    assert_eq!(journal.load_many(t, &[]).await.expect("nothing").1.len(), 0);
}

#[tokio::test]
async fn of_two_hundred_who_load_at_once_each_gets_its_own_stream_whole() {
    let db = TestDatabase::new().await;
    let (journal, _task) = db.journal().await;
    // Shorter than what comes together, just as long, longer, and longer than a page of the rest.
    let lengths = [0, 1, 2, 99, 100, 101, 350, 5_101];
    let tenants = [tenant(), tenant(), tenant()];
    for t in tenants {
        for (n, length) in (0..).zip(lengths) {
            for begin in (0..length).step_by(1_000) {
                let events = (begin..length.min(begin + 1_000)).map(|at| event(&format!(r#"{{"n":{n},"at":{at}}}"#)));
                let append = append(t, Uuid::from_u128(n), begin, events.collect());
                journal.append(append, Known::default()).await.expect("an append");
            }
        }
    }
    let loads = (0..200usize).map(|call| {
        let (journal, t, n) = (journal.clone(), tenants[call % 3], call % lengths.len());
        let stream = StreamId { kind: "thing", id: Uuid::from_u128(n as u128) };
        async move { (t, n, journal.load(&StreamKey { tenant: t, stream }, 0).await.expect("loaded")) }
    });
    let durable = journal.durable().borrow().seen;
    for (t, n, loaded) in join_all(loads).await {
        assert_eq!(loaded.events.len() as u64, lengths[n], "stream {n}");
        assert_eq!(loaded.seen, durable);
        for (at, event) in loaded.events.iter().enumerate() {
            assert_eq!((event.tenant, event.stream_id.as_u128()), (t, n as u128));
            assert_eq!(event.sequence, at as u64 + 1);
            assert_eq!(event.payload, format!(r#"{{"n":{n},"at":{at}}}"#));
        }
    }
}

/// The plan that a session makes now and keeps, line by line.
async fn plan(db: &TestDatabase, sql: &str) -> Vec<String> {
    let session = db.database().connect(Role::Writer, BY_KEY).await.expect("a session");
    session.batch_execute(&format!("prepare looked_up as {sql}")).await.expect("a statement");
    let nulls = vec!["null"; (1..).take_while(|n| sql.contains(&format!("${n}"))).count()].join(", ");
    let rows = session.query(&format!("explain execute looked_up({nulls})"), &[]).await.expect("a plan");
    rows.iter().map(|row| row.get(0)).collect()
}

/// A plan that stays good however much there will be: what it costs depends on what is asked for.
fn goes_by_keys(plan: &[String]) {
    let whole = plan.join("\n");
    for bad in ["Seq Scan", "Bitmap", "hashed", "Materialize"] {
        assert!(!whole.contains(bad), "{bad}:\n{whole}");
    }
    // Nothing is sorted but answers: by the number of the question, or as a whole.
    for (n, _) in plan.iter().enumerate().filter(|(n, line)| *n > 0 && line.contains("Sort  (")) {
        assert!(plan[n + 1].contains("Sort Key: k.n"), "{}:\n{whole}", plan[n + 1]);
    }
    for (n, line) in plan.iter().enumerate().filter(|(_, line)| line.contains("Index") && line.contains("Scan")) {
        // The last batch is the first that a walk back finds; of everything else, a key says where it is.
        let last_batch = line.contains("Backward using batches_pkey");
        assert!(last_batch || plan.get(n + 1).is_some_and(|next| next.contains("Index Cond")), "{line}:\n{whole}");
    }
}

#[tokio::test]
async fn a_plan_that_was_made_when_there_was_little_is_good_when_there_is_much() {
    let db = TestDatabase::new().await;
    let (journal, _task) = db.journal().await;
    let superuser = db.superuser().await;
    // Appends of one tenant to one stream, and tenants of one append each, made before the statistics are taken.
    for (appends, tenants) in [(0, 0), (1, 0), (60, 0), (600, 3), (1, 300)] {
        let (t, stream) = (tenant(), Uuid::from_u128(1));
        for version in 0..appends {
            let append = append(t, stream, version, vec![event("{}")]);
            journal.append(append, Known::default()).await.expect("an append");
        }
        let others = (0..tenants).map(|_| {
            let mut append = append(tenant(), stream, 0, vec![event("{}")]);
            let key = ClaimKey { scope: append.tenant, kind: "name", hash: [7; 32] };
            append.claims = vec![(key, append.streams[0].stream.clone())];
            journal.append(append, Known::default())
        });
        for done in join_all(others).await {
            done.expect("an append");
        }
        for sql in look_ups() {
            goes_by_keys(&plan(&db, &sql).await);
        }
        superuser.batch_execute("analyze").await.expect("statistics");
        for sql in look_ups() {
            goes_by_keys(&plan(&db, &sql).await);
        }
    }
}
