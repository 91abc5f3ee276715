//! Who is in which batch when several tenants want something at once.

use super::*;
use crate::journal::append::{Append, CommandStamp, NewEvent, StreamAppend, StreamId};
use daybook_domain::TenantId;
use daybook_tlog::RightEdge;
use uuid::Uuid;

const A: TenantId = TenantId(Uuid::from_u128(0xa));
const B: TenantId = TenantId(Uuid::from_u128(0xb));
const C: TenantId = TenantId(Uuid::from_u128(0xc));
const NOW: Now = Now { wall_us: 1_790_000_000_000_000, mono_us: 1_000_000_000 };

/// A writer that leads, and the batches that it has sent.
struct Desk {
    writer: Writer,
    now: Now,
    batches: Vec<Arc<Batch>>,
    answers: Vec<(Ticket, Answer)>,
}

impl Desk {
    fn with(config: Config) -> Self {
        let mut desk = Desk { writer: Writer::new(config), now: NOW, batches: Vec::new(), answers: Vec::new() };
        desk.handle(vec![Input::Tick]);
        let head = JournalHead { partition_size: 100_000, partitions_up_to: 100_000, ..JournalHead::default() };
        for step in [
            SessionInput::Connected,
            SessionInput::LeaseGranted { epoch: 1, previous: None },
            SessionInput::FirstFlushed,
            SessionInput::Head(head),
        ] {
            desk.handle(vec![Input::Session(1, step)]);
        }
        desk.commit();
        assert!(desk.writer.is_leading());
        desk.batches.clear();
        desk
    }

    fn new() -> Self {
        Desk::with(Config::default())
    }

    fn handle(&mut self, inputs: Vec<Input>) {
        let mut effects = Vec::new();
        self.writer.handle(self.now, inputs, &mut effects);
        for effect in effects {
            match effect {
                Effect::Do(_, Do::Commit(batch)) => self.batches.push(batch),
                Effect::Answer(ticket, answer) => self.answers.push((ticket, answer)),
                _ => {}
            }
        }
    }

    fn send(&mut self, requests: impl IntoIterator<Item = Prepared>) {
        self.handle(requests.into_iter().map(|request| Input::Request(Box::new(request))).collect());
    }

    /// The batch on its way is committed.
    fn commit(&mut self) {
        let batch = self.batches.last().expect("a batch on its way").number;
        self.handle(vec![Input::Session(1, SessionInput::Committed { batch })]);
    }

    /// Commits until nothing is on its way, and tells who was in which batch.
    fn all(mut self) -> Vec<Vec<Ticket>> {
        for batches in 1.. {
            self.commit();
            if self.batches.len() == batches {
                break;
            }
        }
        self.batches.iter().map(|batch| tickets(batch)).collect()
    }

    /// Commits, and tells who is in the batch that is built first then.
    fn next(&mut self) -> Vec<Ticket> {
        let sent = self.batches.len();
        self.commit();
        self.batches.get(sent).map(|batch| tickets(batch)).expect("a batch")
    }

    fn last(&self) -> Vec<Ticket> {
        tickets(self.batches.last().expect("a batch"))
    }

    fn overloaded(&self) -> Vec<Ticket> {
        self.answers.iter().filter(|(_, answer)| *answer == Answer::Overloaded).map(|(ticket, _)| *ticket).collect()
    }
}

fn tickets(batch: &Batch) -> Vec<Ticket> {
    batch.members.iter().map(|m| m.ticket).collect()
}

/// An append of so many events to a new stream, named by its ticket.
fn request(tenant: TenantId, ticket: Ticket, events: usize) -> Prepared {
    let id = Uuid::from_u128(u128::from(ticket));
    let event = NewEvent {
        event_id: id,
        event_type: "test.thing.happened".into(),
        event_version: 1,
        payload: "{}".into(),
        metadata: "{}".into(),
    };
    let stream = StreamAppend { stream: StreamId { kind: "thing", id }, expected: 0, events: vec![event; events] };
    Prepared {
        ticket,
        append: Append {
            tenant,
            command: CommandStamp { tenant, id, digest: [0; 32], hash_key: [0; 32], fresh: true },
            streams: vec![stream],
            reads: vec![],
            claims: vec![],
            releases: vec![],
            not_after: None,
        },
        seen: Seen { epoch: 1, batch: 1 },
        head: Some(RightEdge::empty()),
        digests: vec![vec![([0; 32], [0; 32]); events]],
        request_hash: crate::keys::keyed_hash(&[0; 32], &[0; 32]),
        asks: false,
    }
}

fn small(tenant: TenantId, tickets: impl IntoIterator<Item = Ticket>) -> Vec<Prepared> {
    tickets.into_iter().map(|ticket| request(tenant, ticket, 1)).collect()
}

fn together<const N: usize>(requests: [Vec<Prepared>; N]) -> Vec<Prepared> {
    requests.into_iter().flatten().collect()
}

#[test]
fn a_lone_tenant_fills_batches_by_halves_of_what_waits() {
    let mut desk = Desk::new();
    desk.send(small(A, 1..=1_000));
    let sizes = desk.all().iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(sizes, [500, 250, 125, 63, 32, 30]);
}

#[test]
fn a_request_beside_a_flood_is_in_the_next_batch() {
    let mut desk = Desk::new();
    desk.send(small(A, 1..=1_000));
    desk.send(small(B, [2_001]));
    assert!(desk.next().contains(&2_001));
    // And so is the next one, of somebody else.
    desk.send(small(C, [2_002]));
    assert!(desk.next().contains(&2_002));
}

#[test]
fn a_flood_takes_no_more_than_its_share_while_others_are_about() {
    let mut desk = Desk::new();
    desk.send(small(B, [2_001]));
    desk.send(small(A, 1..=1_000));
    assert_eq!(desk.last(), (1..=32).collect::<Vec<_>>(), "behind the first");
    assert_eq!(desk.next(), (33..=64).collect::<Vec<_>>());
    assert_eq!(desk.last(), (65..=96).collect::<Vec<_>>(), "behind that");
    // For a while nobody else has written: no room is left for anybody.
    desk.now.mono_us += 10_000_000;
    desk.now.wall_us += 10_000_000;
    assert_eq!(desk.next().len(), 452);
}

#[test]
fn floods_share_a_batch_in_equal_parts() {
    let mut desk = Desk::with(Config { batch_share_max: 10, ..Config::default() });
    desk.send(small(C, [5_000]));
    desk.send(together([small(A, 1..=100), small(B, 1_001..=1_100), small(C, 2_001..=2_100)]));
    for _ in 0..3 {
        desk.commit();
        let of = |from: u64| desk.last().iter().filter(|t| (from..from + 1_000).contains(*t)).count();
        assert_eq!([of(0), of(1_000), of(2_000)], [10; 3]);
    }
}

#[test]
fn the_order_within_a_tenant_is_that_of_arrival() {
    let mut desk = Desk::new();
    let mut requests = Vec::new();
    for (n, ticket) in (0..300).zip(0..) {
        let tenant = [A, B, C][n % 3];
        requests.push(request(tenant, u64::from(tenant.0.as_bytes()[15]) * 1_000 + ticket, 1 + n % 7));
    }
    desk.send(requests);
    let placed = desk.all().concat();
    assert_eq!(placed.len(), 300);
    for tenant in [0xa, 0xb, 0xc] {
        assert!(placed.iter().filter(|t| *t / 1_000 == tenant).is_sorted());
    }
}

#[test]
fn a_large_request_is_the_first_of_its_batch_or_waits_for_the_next() {
    let mut desk = Desk::new();
    desk.send(small(B, [1]));
    desk.send(together([small(C, [2]), vec![request(A, 3, 2_000)], small(B, [4])]));
    desk.commit();
    assert_eq!(desk.last(), [2, 4], "nobody's small request goes with a large one that could wait");
    desk.send(small(B, [5]));
    desk.commit();
    assert_eq!(desk.last(), [3, 5], "but the large one waits once only");
}

#[test]
fn an_import_pays_for_its_large_requests_before_it_has_another_turn() {
    let mut desk = Desk::new();
    desk.send(small(B, [900]));
    desk.send((1..=3).map(|ticket| request(A, ticket, 200)));
    desk.commit();
    assert_eq!(desk.last(), [1]);
    let mut turns = Vec::new();
    for ticket in 1_000..1_014 {
        desk.send(small(B, [ticket]));
        desk.commit();
        assert!(desk.last().contains(&ticket), "one in a hundred waits for the import");
        turns.push(desk.last().len() > 1);
    }
    // 200 events are a little more than six shares, the first of which comes with the turn.
    let imports = turns.iter().enumerate().filter(|(_, import)| **import).map(|(n, _)| n).collect::<Vec<_>>();
    assert_eq!(imports, [5, 11], "{turns:?}");
}

#[test]
fn an_import_that_nobody_waits_beside_goes_on_at_once() {
    let mut desk = Desk::new();
    desk.send(small(B, [900]));
    desk.send((1..=5).map(|ticket| request(A, ticket, 1_500)));
    assert_eq!(desk.all(), [[900], [1], [2], [3], [4], [5]]);
}

#[test]
fn who_floods_is_overloaded_alone() {
    let mut desk = Desk::with(Config { tenant_requests_max: 10, ..Config::default() });
    desk.send(small(C, [1]));
    desk.send(together([small(A, 100..200), small(B, 200..205)]));
    assert_eq!(desk.overloaded(), (110..200).collect::<Vec<_>>());

    let mut desk = Desk::with(Config { tenant_bytes_max: 40, ..Config::default() });
    desk.send(small(C, [1]));
    desk.send(together([small(A, 100..200), small(B, 200..205)]));
    assert_eq!(desk.overloaded(), (110..200).collect::<Vec<_>>());
}

#[test]
fn a_tenant_that_was_overloaded_has_room_again_when_its_requests_have_left() {
    let mut desk = Desk::with(Config { tenant_requests_max: 10, ..Config::default() });
    desk.send(small(A, 1..=30));
    assert_eq!(desk.overloaded().len(), 20);
    desk.answers.clear();
    desk.send(small(A, 101..=130));
    assert_eq!(desk.overloaded().len(), 20);
}

#[test]
fn a_partition_that_is_missing_holds_up_only_who_needs_it() {
    let mut desk = Desk::new();
    desk.send(small(C, [1]));
    // No append is as large, and no partition as small; the writer need not know.
    let needs = request(A, 2, 150_000);
    desk.send(together([vec![needs], small(B, [3])]));
    desk.commit();
    assert_eq!(desk.last(), [3]);
    desk.handle(vec![Input::Session(1, SessionInput::PartitionsUpTo(400_000))]);
    desk.commit();
    assert_eq!(desk.last(), [2]);
}

#[test]
fn requests_on_one_stream_are_judged_in_their_order_though_the_first_has_to_wait() {
    let mut desk = Desk::new();
    let stream = |n: u128, expected: u64| StreamAppend {
        stream: StreamId { kind: "thing", id: Uuid::from_u128(n) },
        expected,
        events: request(A, 0, 1).append.streams[0].events.clone(),
    };
    let on = |ticket: Ticket, streams: Vec<StreamAppend>| {
        let mut request = request(A, ticket, 1);
        request.digests = vec![request.digests[0].clone(); streams.len()];
        request.append.streams = streams;
        request
    };
    desk.send(small(B, [1]));
    // The second meets the first on stream 7, and the third meets the second on stream 8.
    desk.send([on(2, vec![stream(7, 0)]), on(3, vec![stream(7, 1), stream(8, 0)]), on(4, vec![stream(8, 0)])]);
    desk.commit();
    assert_eq!(desk.last(), [2]);
    desk.commit();
    assert_eq!(desk.last(), [3]);
    desk.commit();
    desk.handle(vec![Input::Session(1, SessionInput::Flushed { slot: 0, batch: 5 })]);
    let refused = desk.answers.iter().find(|(ticket, _)| *ticket == 4);
    assert!(matches!(refused, Some((_, Answer::Refused(_)))), "{:?}", desk.answers);
}

#[test]
fn a_question_waits_for_an_attempt_in_another_tenants_lane() {
    let mut desk = Desk::new();
    desk.send(small(C, [1]));
    // A command of tenant A whose record is kept by tenant B; large, so that it is not in the next batch.
    let mut attempt = request(A, 2, 100);
    attempt.append.command.tenant = B;
    let mut question = request(B, 3, 0);
    question.append.streams.clear();
    question.append.command = attempt.append.command.clone();
    question.asks = true;
    desk.send(together([small(C, [4]), vec![attempt], vec![question]]));
    desk.commit();
    assert_eq!(desk.last(), [4]);
    desk.commit();
    assert_eq!(desk.last(), [2]);
    assert!(!desk.answers.iter().any(|(ticket, _)| *ticket == 3), "asked before the attempt was decided");
    desk.commit();
    desk.handle(vec![Input::Session(1, SessionInput::Flushed { slot: 0, batch: 4 })]);
    let told = desk.answers.iter().find(|(ticket, _)| *ticket == 3).map(|(_, answer)| answer.kind());
    assert_eq!(told, Some("repeated"), "{:?}", desk.answers);
}

#[test]
fn what_has_left_takes_no_memory() {
    let mut desk = Desk::new();
    for round in 0..50 {
        let tenant = |n: u64| TenantId(Uuid::from_u128(u128::from(round * 1_000 + n)));
        desk.send((0..40).map(|n| request(tenant(n), round * 1_000 + n, 1)));
        while desk.writer.memory().0 > 0 {
            desk.commit();
        }
    }
    assert_eq!(desk.writer.queue.lanes(), (40, 0));
}

/// Two batches on their way, of 64 and 32, and 32 requests that wait.
fn two_on_their_way() -> Desk {
    let mut desk = Desk::new();
    desk.send(small(A, 1..=128));
    assert_eq!(
        desk.batches.iter().map(|b| (b.members.len(), b.follows)).collect::<Vec<_>>(),
        [(64, false), (32, true)]
    );
    desk
}

#[test]
fn a_second_batch_is_sent_behind_the_first_and_goes_on_where_that_ends() {
    let desk = two_on_their_way();
    let [first, second] = [&desk.batches[0], &desk.batches[1]];
    assert_eq!((second.number, second.first_position), (first.number + 1, first.last_position + 1));
    assert_eq!(second.events[0].tenant_position, 65, "of the tenant's tree, too");
}

#[test]
fn no_third_batch_is_sent_and_few_requests_are_not_worth_a_second() {
    let mut desk = two_on_their_way();
    desk.send(small(A, 200..=299));
    assert_eq!(desk.batches.len(), 2);
    let mut desk = Desk::new();
    desk.send(small(A, 1..=63));
    assert_eq!(desk.batches.len(), 1);
}

#[test]
fn with_the_second_the_first_is_committed() {
    let mut desk = two_on_their_way();
    desk.commit();
    let third = desk.batches[2].clone();
    assert_eq!((third.number, third.first_position, third.follows), (desk.batches[1].number + 1, 97, false));
}

#[test]
fn what_followed_a_refused_batch_is_written_after_its_parts() {
    let mut desk = two_on_their_way();
    let [first, second] = [desk.batches[0].clone(), desk.batches[1].clone()];
    let refused = |batch, cause| vec![Input::Session(1, SessionInput::CommitRefused { batch, cause })];
    desk.handle(refused(first.number, RefusedBy::Data("a row".into())));
    assert_eq!(desk.batches.len(), 2, "nothing is built before the follower's fate is known");
    desk.handle(refused(second.number, RefusedBy::Orphaned));
    for _ in 0..3 {
        desk.commit();
    }
    let after = desk.batches[2..5].iter().map(|batch| (batch.first_position, tickets(batch))).collect::<Vec<_>>();
    assert_eq!(after[0], (1, tickets(&first)[..32].to_vec()));
    assert_eq!(after[1], (33, tickets(&first)[32..].to_vec()));
    assert_eq!(after[2], (65, tickets(&second)));
    assert_eq!(desk.batches[2].number, first.number);
}

#[test]
fn a_stream_that_the_first_batch_changes_waits_for_the_third() {
    let mut desk = Desk::new();
    let mut again = request(A, 500, 1);
    again.append.streams[0].stream.id = Uuid::from_u128(1);
    again.append.streams[0].expected = 1;
    desk.send(together([small(A, 1..=64), vec![again], small(A, 65..=127)]));
    assert!(desk.batches.iter().all(|batch| !tickets(batch).contains(&500)), "{:?}", desk.batches);
    let all = desk.all();
    assert!(all.iter().position(|batch| batch.contains(&500)).is_some_and(|nth| nth >= 2), "{all:?}");
}
