//! Several nodes on one journal: one writes, the others hand it their appends, and tell what is durable.

use daybook_store::journal::follow::{Follower, Source};
use daybook_store::journal::machine::Config;
use daybook_store::journal::recent::Recent;
use daybook_store::journal::{
    AppendError, ClaimKey, Forward, ForwardError, Forwarded, Journal, JournalOptions, Known, StreamId, StreamKey, bell,
};
use daybook_store::system::{Micros, Real, System};
use daybook_testing::{TestDatabase, append, event, system, tenant, test_config};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(60);
const LONG: Micros = 600 * 1_000_000;
const SECOND: Micros = 1_000_000;

/// What becomes of a request that one node hands to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Answered,
    /// Carried out, and the answer never comes.
    AnswerLost,
    /// Never arrives, and nobody says so.
    RequestLost,
}

/// The nodes by their addresses.
struct Net {
    nodes: Mutex<HashMap<String, Journal>>,
    fate: Mutex<Fate>,
    /// Something was lost.
    met: Notify,
    /// Requests so far.
    handed: watch::Sender<u32>,
}

#[derive(Clone)]
struct Link(Arc<Net>);

impl Forward for Link {
    fn forward(&self, address: String, request: Vec<u8>, deadline: Instant) -> Forwarded {
        let net = self.0.clone();
        Box::pin(async move {
            let node = net.nodes.lock().unwrap().get(&address).cloned();
            let node = node.ok_or_else(|| ForwardError::NotTaken(format!("there is no {address}")))?;
            let fate = *net.fate.lock().unwrap();
            net.handed.send_modify(|handed| *handed += 1);
            let answer = match fate {
                Fate::RequestLost => None,
                Fate::Answered | Fate::AnswerLost => node.take_over_request(&request).await.ok(),
            };
            if fate != Fate::Answered {
                net.met.notify_one();
            }
            match (fate, answer) {
                (Fate::Answered, Some(answer)) => Ok(answer),
                (Fate::Answered, None) => Err(ForwardError::NotTaken("it is no request".into())),
                _ => {
                    tokio::time::sleep_until(deadline).await;
                    Err(ForwardError::Unanswered("nothing came".into()))
                }
            }
        })
    }
}

struct Node {
    journal: Journal,
    task: JoinHandle<()>,
    ringing: JoinHandle<()>,
}

impl Node {
    /// As a kill would, but for the sessions, which the next writer ends.
    fn end(&self, net: &Net, address: &str) {
        net.nodes.lock().unwrap().remove(address);
        self.task.abort();
        self.ringing.abort();
    }
}

struct Scene {
    db: TestDatabase,
    net: Arc<Net>,
}

impl Scene {
    async fn new() -> Self {
        let net = Net {
            nodes: Mutex::default(),
            fate: Mutex::new(Fate::Answered),
            met: Notify::new(),
            handed: watch::Sender::new(0),
        };
        Scene { db: TestDatabase::new().await, net: Arc::new(net) }
    }

    /// A node that others reach at an address.
    async fn node(&self, address: &str, lease_ttl_us: Micros) -> Node {
        let mut options = JournalOptions::new(Real.uuid_v4());
        options.writer = Config { lease_ttl_us, lease_renew_us: lease_ttl_us / 4, ..test_config() };
        options.append_timeout = Duration::from_secs(20);
        options.address = Some(address.to_owned());
        options.forward = Some(Arc::new(Link(self.net.clone())));
        let (journal, task) = Journal::start(self.db.database(), system(), options);
        journal.ready(Instant::now() + Duration::from_secs(20)).await.expect("a writer");
        self.net.nodes.lock().unwrap().insert(address.to_owned(), journal.clone());
        let ringing = bell::ring(self.db.database().clone(), journal.durable(), journal.standing());
        Node { journal, task, ringing }
    }

    fn fate(&self, fate: Fate) {
        *self.net.fate.lock().unwrap() = fate;
    }

    /// Events of a stream, as the journal has them.
    async fn payloads(&self, journal: &Journal, key: &StreamKey) -> Vec<String> {
        journal.load_ready(key).await.expect("a stream").events.into_iter().map(|event| event.payload).collect()
    }
}

fn leads(journal: &Journal) -> bool {
    journal.standing().borrow().leading.is_some()
}

fn key(tenant: daybook_domain::TenantId, id: u128) -> StreamKey {
    StreamKey { tenant, stream: StreamId { kind: "thing", id: Uuid::from_u128(id) } }
}

#[tokio::test]
async fn what_is_appended_on_any_node_is_written_by_one_and_durable_on_all() {
    let scene = Scene::new().await;
    let (first, second) = (scene.node("first", LONG).await, scene.node("second", LONG).await);
    assert!(leads(&first.journal) && !leads(&second.journal));
    assert_eq!(first.journal.epoch(), second.journal.epoch());
    let t = tenant();
    let id = Uuid::from_u128(1);
    let mut seen = None;
    for turn in 0..10u64 {
        let node = if turn % 2 == 0 { &second } else { &first };
        let known = Known { versions_at: seen, unused_at: None };
        let outcome = node.journal.append(append(t, id, turn, vec![event("{}")]), known).await.expect("an append");
        assert_eq!(outcome.last_tenant_position, turn + 1);
        node.journal.wait_durable(outcome.seen).await.expect("durable where it was answered");
        seen = Some(outcome.seen);
        // The other node hears of it, by the bell or because it asks.
        for other in [&first, &second] {
            other.journal.wait_durable(outcome.seen).await.expect("durable everywhere");
        }
    }
    assert_eq!(second.journal.durable().borrow().position, 10);
    assert!(!leads(&second.journal), "one writer all the time");
}

#[tokio::test]
async fn refusals_come_back_from_the_writer_as_they_are() {
    let scene = Scene::new().await;
    let (first, second) = (scene.node("first", LONG).await, scene.node("second", LONG).await);
    let t = tenant();
    let claim = ClaimKey { scope: t, kind: "name", hash: [1; 32] };
    let mut taking = append(t, Uuid::from_u128(1), 0, vec![event("{}")]);
    taking.claims = vec![(claim.clone(), taking.streams[0].stream.clone())];
    let taken = second.journal.append(taking.clone(), Known::default()).await.expect("an append");
    let seen = Known { versions_at: Some(taken.seen), unused_at: None };

    // Decided on what was seen before the first node wrote: only the writer can tell.
    first.journal.append(append(t, Uuid::from_u128(1), 1, vec![event("{}")]), seen).await.expect("an append");
    let late = second.journal.append(append(t, Uuid::from_u128(1), 1, vec![event("{}")]), seen).await;
    assert!(matches!(late, Err(AppendError::Conflict { expected: 1, actual: 2, .. })), "{late:?}");

    let mut again = append(t, Uuid::from_u128(2), 0, vec![event("{}")]);
    again.claims = vec![(claim, again.streams[0].stream.clone())];
    let refused = second.journal.append(again, Known::default()).await;
    assert!(matches!(refused, Err(AppendError::KeyTaken { kind: "name" })), "{refused:?}");

    let mut repeat = taking.clone();
    repeat.command.fresh = false;
    let repeated = second.journal.append(repeat, Known::default()).await.expect("the answer it had");
    assert!(repeated.deduplicated);
    assert_eq!(repeated.last_tenant_position, taken.last_tenant_position);
}

#[tokio::test]
async fn a_node_that_does_not_write_hears_of_every_event_in_order() {
    let scene = Scene::new().await;
    let (first, second) = (scene.node("first", LONG).await, scene.node("second", LONG).await);
    let (recent, _reading) = Recent::start(scene.db.database().clone(), second.journal.durable());
    let mut follower = Follower::new(scene.db.database().clone(), Source::Recent(recent), 0, 100);
    let t = tenant();
    let writing = async {
        for n in 0..60u64 {
            let node = if n % 3 == 0 { &second } else { &first };
            let payload = format!("{{\"n\":{n}}}");
            node.journal
                .append(append(t, Uuid::from_u128(u128::from(n) + 1), 0, vec![event(&payload)]), Known::default())
                .await
                .expect("an append");
        }
    };
    let mut heard = Vec::new();
    let hearing = async {
        while heard.len() < 60 {
            heard.extend(follower.next().await.expect("events"));
        }
    };
    tokio::join!(writing, hearing);
    assert_eq!(heard.iter().map(|event| event.position).collect::<Vec<_>>(), (1..=60).collect::<Vec<_>>());
    for (n, event) in heard.iter().enumerate() {
        assert_eq!(event.payload, format!("{{\"n\":{n}}}"));
    }
}

#[tokio::test]
async fn when_the_writers_node_dies_another_takes_over_and_goes_on_with_what_it_was_asked() {
    let scene = Scene::new().await;
    let (first, second) = (scene.node("first", 2 * SECOND).await, scene.node("second", 2 * SECOND).await);
    let t = tenant();
    second
        .journal
        .append(append(t, Uuid::from_u128(1), 0, vec![event("1")]), Known::default())
        .await
        .expect("an append");
    let epoch = second.journal.epoch();
    first.end(&scene.net, "first");
    // Nobody needs to ask again: the append waits for whoever writes next.
    let outcome = second.journal.append(append(t, Uuid::from_u128(1), 1, vec![event("2")]), Known::default()).await;
    assert_eq!(outcome.expect("an append").last_tenant_position, 2);
    assert!(leads(&second.journal));
    assert!(second.journal.epoch() > epoch);
    // The dead one comes back and hands over.
    let first = scene.node("first again", 2 * SECOND).await;
    assert!(!leads(&first.journal));
    first
        .journal
        .append(append(t, Uuid::from_u128(1), 2, vec![event("3")]), Known::default())
        .await
        .expect("an append");
    assert_eq!(scene.payloads(&first.journal, &key(t, 1)).await, ["1", "2", "3"]);
}

#[tokio::test]
async fn a_lease_that_is_given_back_is_taken_up_long_before_it_would_have_run_out() {
    let scene = Scene::new().await;
    let (first, second) = (scene.node("first", LONG).await, scene.node("second", LONG).await);
    let t = tenant();
    first
        .journal
        .append(append(t, Uuid::from_u128(1), 0, vec![event("1")]), Known::default())
        .await
        .expect("an append");
    first.journal.shutdown().await;
    // It was for ten minutes.
    second
        .journal
        .append(append(t, Uuid::from_u128(1), 1, vec![event("2")]), Known::default())
        .await
        .expect("an append");
    assert!(leads(&second.journal));
    assert_eq!(scene.payloads(&second.journal, &key(t, 1)).await, ["1", "2"]);
}

/// The request or its answer is lost, then the writer's node dies: it is written exactly once all the same, whether
/// the caller named the command, and whether it vouches for versions that it has seen.
async fn lost(fate: Fate, fresh: bool, vouched: bool) {
    let scene = Scene::new().await;
    let (first, second) = (scene.node("first", 3 * SECOND).await, scene.node("second", 3 * SECOND).await);
    let t = tenant();
    let begun = append(t, Uuid::from_u128(1), 0, vec![event("1")]);
    let seen = second.journal.append(begun, Known::default()).await.expect("an append").seen;
    scene.fate(fate);
    let mut lost = append(t, Uuid::from_u128(1), 1, vec![event("2")]);
    lost.command.fresh = fresh;
    let known = Known { versions_at: vouched.then_some(seen), unused_at: vouched.then_some(seen) };
    let attempt = async {
        tokio::join!(second.journal.append(lost.clone(), known), async {
            scene.net.met.notified().await;
            first.end(&scene.net, "first");
            scene.fate(Fate::Answered);
        })
    };
    let (answer, ()) = tokio::time::timeout(PATIENCE, attempt).await.expect("an answer");
    assert!(leads(&second.journal));
    match answer {
        Ok(outcome) => assert_eq!(outcome.last_tenant_position, 2),
        // It was not written, and never will be; what the decision saw is another epoch's.
        Err(AppendError::Stale) => {
            assert!(vouched && fate == Fate::RequestLost);
            assert_eq!(scene.payloads(&second.journal, &key(t, 1)).await, ["1"]);
            second.journal.append(lost, Known::default()).await.expect("an append");
        }
        Err(error) => panic!("{error}"),
    }
    assert_eq!(scene.payloads(&second.journal, &key(t, 1)).await, ["1", "2"]);
}

#[tokio::test]
async fn an_answer_that_was_lost_with_the_writer_is_found_out() {
    tokio::join!(lost(Fate::AnswerLost, true, false), lost(Fate::AnswerLost, false, false));
    tokio::join!(lost(Fate::AnswerLost, true, true), lost(Fate::AnswerLost, false, true));
}

#[tokio::test]
async fn a_request_that_was_lost_with_the_writer_is_handed_to_the_next() {
    tokio::join!(lost(Fate::RequestLost, true, false), lost(Fate::RequestLost, false, false));
    tokio::join!(lost(Fate::RequestLost, true, true), lost(Fate::RequestLost, false, true));
}

#[tokio::test]
async fn requests_are_never_handed_on() {
    let scene = Scene::new().await;
    let (_first, second) = (scene.node("first", LONG).await, scene.node("second", LONG).await);
    let (third, t) = (scene.node("third", LONG).await, tenant());
    // The third takes the second for the writer.
    let first = scene.net.nodes.lock().unwrap().insert("first".into(), second.journal.clone()).expect("a node");
    let mut waits =
        Box::pin(third.journal.append(append(t, Uuid::from_u128(1), 0, vec![event("1")]), Known::default()));
    let mut handed = scene.net.handed.subscribe();
    let before = *handed.borrow_and_update();
    // Each is one of the third's, which is told to try again: the second hands on none of them.
    tokio::select! {
        answer = &mut waits => panic!("{answer:?}"),
        handed = handed.wait_for(|handed| *handed >= before + 5) => drop(handed.expect("a network")),
    }
    assert_eq!(scene.payloads(&first, &key(t, 1)).await, Vec::<String>::new());
    scene.net.nodes.lock().unwrap().insert("first".into(), first);
    waits.await.expect("an append");
}
