//! A follower hands out every event once, in order, whoever writes and wherever it runs.

use daybook_domain::TenantId;
use daybook_store::journal::follow::{Cursor, FollowError, Follower, Hole, Source};
use daybook_store::journal::recent::Recent;
use daybook_store::journal::{Durable, Journal, Known, RecordedEvent, Seen};
use daybook_testing::{TestDatabase, append, event, tenant};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::task::JoinHandle;
use uuid::Uuid;

const WRITERS: u64 = 16;
const APPENDS: u64 = 40;
const EVENTS: u64 = WRITERS * APPENDS;

fn write(journal: &Journal, t: TenantId) -> Vec<JoinHandle<()>> {
    (0..WRITERS)
        .map(|writer| {
            let journal = journal.clone();
            tokio::spawn(async move {
                for n in 0..APPENDS {
                    let event = event(&format!(r#"{{"writer":{writer},"n":{n}}}"#));
                    let append = append(t, Uuid::from_u128(u128::from(writer) + 1), n, vec![event]);
                    journal.append(append, Known::default()).await.expect("an append");
                }
            })
        })
        .collect()
}

fn once_and_in_order(events: &[RecordedEvent], after: u64) {
    let positions: Vec<u64> = events.iter().map(|e| e.position).collect();
    assert_eq!(positions, (after + 1..=EVENTS).collect::<Vec<_>>());
    let mut streams: BTreeMap<Uuid, u64> = BTreeMap::new();
    for event in events {
        let last = streams.entry(event.stream_id).or_insert(event.sequence - 1);
        *last += 1;
        assert_eq!(event.sequence, *last);
        let writer = event.stream_id.as_u128() - 1;
        assert_eq!(event.payload, format!(r#"{{"writer":{writer},"n":{}}}"#, event.sequence - 1));
    }
}

/// Follows to the end; gives up on the call again and again, as a caller in a `select!` does.
async fn follow(mut follower: Follower, patience: Option<Duration>) -> Vec<RecordedEvent> {
    let mut all = Vec::new();
    while follower.position() < EVENTS {
        let next = match patience {
            None => follower.next().await,
            Some(patience) => match tokio::time::timeout(patience, follower.next()).await {
                Ok(next) => next,
                Err(_) => continue,
            },
        };
        let events = next.expect("events");
        assert!(!events.is_empty());
        all.extend(events);
    }
    all
}

#[tokio::test]
async fn followers_here_and_elsewhere_get_every_event_once_while_sixteen_write() {
    let db = TestDatabase::new().await;
    let (journal, task) = db.journal().await;
    let durable = journal.durable();
    let local = Source::Writer(journal.durable());
    let (recent, reading) = Recent::start(db.database().clone(), journal.durable());
    let recent = Source::Recent(recent);
    let followers = [
        (Follower::new(db.database().clone(), recent.clone(), 0, 50), 0),
        (Follower::new(db.database().clone(), recent.clone(), 0, 7), 0),
        (Follower::new(db.database().clone(), recent.clone(), 200, 1_000), 200),
        (Follower::new(db.database().clone(), local.clone(), 0, 50), 0),
        (Follower::new(db.database().clone(), local, 100, 7), 100),
        // As on a node without a writer: nothing but the database.
        (Follower::new(db.database().clone(), Source::Journal, 0, 50), 0),
        (Follower::new(db.database().clone(), Source::Journal, 333, 1_000), 333),
    ];
    let followers = followers.map(|(follower, after)| (tokio::spawn(follow(follower, None)), after));
    for writer in write(&journal, tenant()) {
        writer.await.expect("a writer");
    }
    assert_eq!(durable.borrow().position, EVENTS);
    for (follower, after) in followers {
        once_and_in_order(&follower.await.expect("a follower"), after);
    }
    // Who comes when all is said and done, and who comes when nobody reads for him any more.
    once_and_in_order(&follow(Follower::new(db.database().clone(), recent.clone(), 0, 50), None).await, 0);
    reading.abort();
    assert!(reading.await.expect_err("an end").is_cancelled());
    once_and_in_order(&follow(Follower::new(db.database().clone(), recent, 0, 50), None).await, 0);
    journal.shutdown().await;
    task.await.expect("the writer ends");
}

#[tokio::test]
async fn what_is_wanted_comes_and_the_position_goes_over_the_rest() {
    let db = TestDatabase::new().await;
    let (journal, _task) = db.journal().await;
    let (recent, _reading) = Recent::start(db.database().clone(), journal.durable());
    for source in [Source::Writer(journal.durable()), Source::Recent(recent)] {
        let after = journal.durable().borrow().position;
        let follower = || Follower::new(db.database().clone(), source.clone(), after, 20);
        let (mut some, mut nothing) = (follower().only(|_| true), follower().only(|_| false));
        let append = append(tenant(), Uuid::from_u128(u128::from(after) + 1), 0, vec![event("{}"), event("{}")]);
        journal.append(append, Known::default()).await.expect("an append");
        assert_eq!(some.next().await.expect("events").len(), 2);
        assert_eq!(nothing.next().await.expect("no error"), []);
        assert_eq!((some.position(), nothing.position()), (after + 2, after + 2));
    }
}

#[tokio::test]
async fn followers_go_on_when_the_shared_session_is_cut_again_and_again() {
    let db = TestDatabase::new().await;
    let (journal, _task) = db.journal().await;
    let (recent, _reading) = Recent::start(db.database().clone(), journal.durable());
    let mut follower =
        Follower::new(db.database().clone(), Source::Recent(recent), 0, 20).polling_every(Duration::from_millis(5));
    let following = tokio::spawn(async move {
        let mut all = Vec::new();
        while follower.position() < EVENTS {
            // Its own session is among those that are cut, when it has one; the same call then goes on.
            all.extend(follower.next().await.unwrap_or_default());
        }
        all
    });
    let writers = write(&journal, tenant());
    let cut = "select pg_terminate_backend(pid) from pg_stat_activity
               where datname = current_database() and query like '%from journal.events e where e.position%' and pid <> pg_backend_pid()";
    let mut cuts = 0;
    while writers.iter().any(|writer| !writer.is_finished()) {
        cuts += db.superuser().await.query(cut, &[]).await.expect("a cut").len();
    }
    once_and_in_order(&following.await.expect("a follower"), 0);
    assert!(cuts > 0);
}

#[tokio::test]
async fn a_call_that_is_given_up_skips_nothing_and_repeats_nothing() {
    let db = TestDatabase::new().await;
    let (journal, _task) = db.journal().await;
    let (recent, _reading) = Recent::start(db.database().clone(), journal.durable());
    let followers = [Source::Writer(journal.durable()), Source::Recent(recent), Source::Journal].map(|source| {
        let follower = Follower::new(db.database().clone(), source, 0, 20);
        // Long enough for a connection now and then, too short for most calls.
        tokio::spawn(follow(follower, Some(Duration::from_millis(25))))
    });
    for writer in write(&journal, tenant()) {
        writer.await.expect("a writer");
    }
    for follower in followers {
        once_and_in_order(&follower.await.expect("a follower"), 0);
    }
}

#[tokio::test]
async fn a_follower_outlives_the_loss_of_its_session() {
    let db = TestDatabase::new().await;
    let (journal, _task) = db.journal().await;
    let t = tenant();
    let mut follower = Follower::new(db.database().clone(), Source::Journal, 0, 20);
    let mut all = Vec::new();
    for version in 0..5 {
        let append = append(t, Uuid::from_u128(1), version, vec![event("{}")]);
        journal.append(append, Known::default()).await.expect("an append");
        if version == 2 {
            let cut = "select pg_terminate_backend(pid) from pg_stat_activity
                       where datname = current_database() and query like '%logical_emit_message%' and pid <> pg_backend_pid()";
            db.superuser().await.query(cut, &[]).await.expect("a cut");
        }
        // An error may be reported, once for the session; the same call then goes on.
        let events = match follower.next().await {
            Ok(events) => events,
            Err(_) => follower.next().await.expect("events"),
        };
        all.extend(events.into_iter().map(|e| e.position));
    }
    assert_eq!(all, [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn a_follower_refuses_a_journal_with_a_hole_however_wide() {
    let db = TestDatabase::new().await;
    let (journal, task) = db.journal().await;
    let three = append(tenant(), Uuid::from_u128(1), 0, vec![event("{}"), event("{}"), event("{}")]);
    journal.append(three, Known::default()).await.expect("an append");
    journal.shutdown().await;
    task.await.expect("the writer ends");
    let forged = "insert into journal.events
                  select 7, tenant_id, 7, stream_type, stream_id, 7, event_id, event_type, event_version, recorded_at,
                         payload, metadata, leaf_hash
                  from journal.events where position = 3";
    db.superuser().await.execute(forged, &[]).await.expect("a forgery");
    // Told by a writer that seven are durable, or by nobody; in pages smaller and larger than the hole.
    let seven = tokio::sync::watch::channel(Durable { seen: Seen::default(), position: 7 }).1;
    let recent = Recent::start(db.database().clone(), seven.clone()).0;
    let sources = [Source::Journal, Source::Writer(seven), Source::Recent(recent)];
    for (source, page) in sources.into_iter().flat_map(|source| [(source.clone(), 3), (source, 100)]) {
        let mut follower = Follower::new(db.database().clone(), source, 0, page);
        if page == 3 {
            assert_eq!(follower.next().await.expect("events").len(), 3);
        }
        let at = follower.position();
        for _ in 0..2 {
            let refused = follower.next().await;
            assert!(matches!(refused, Err(FollowError::Hole(Hole { expected: 4, .. }))), "{refused:?}");
            assert_eq!(follower.position(), at, "nothing was handed out");
        }
    }
}

#[test]
fn a_cursor_wants_no_more_than_is_durable_and_takes_nothing_out_of_order() {
    let mut cursor = Cursor { position: 4 };
    assert_eq!(cursor.wanted(4, 10), None);
    assert_eq!(cursor.wanted(3, 10), None);
    assert_eq!(cursor.wanted(6, 10), Some((4, 6)));
    assert_eq!(cursor.wanted(60, 10), Some((4, 14)));
    assert_eq!(cursor.accept([5, 7].into_iter()), Err(Hole { expected: 6, found: 7 }));
    assert_eq!(cursor.accept([5, 5].into_iter()), Err(Hole { expected: 6, found: 5 }));
    assert_eq!(cursor.position, 4);
    assert_eq!(cursor.accept([5, 6].into_iter()), Ok(()));
    assert_eq!(cursor.position, 6);
}
