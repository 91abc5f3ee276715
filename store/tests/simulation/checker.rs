//! The auditor: recomputes the journal from the commits alone and holds everything that anybody was
//! told against it. It shares no code with the writer but the leaf and the tree.

use crate::database::{Record, SimDatabase, State, fold};
use crate::follower::Follower;
use crate::history::{Answered, History};
use daybook_domain::TenantId;
use daybook_store::journal::machine::{Answer, Batch, Ticket};
use daybook_store::journal::{AppendError, ClaimKey, Outcome, StreamKey};
use daybook_store::system::Micros;
use daybook_tlog::{Leaf, RightEdge};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

type Finding = Result<(), String>;

macro_rules! ensure {
    ($holds:expr, $($what:tt)*) => {
        if !$holds {
            return Err(format!($($what)*));
        }
    };
}

struct Recorded {
    index: usize,
    ticket: Ticket,
    digest: [u8; 32],
    outcome: Outcome,
}

/// The journal, recomputed.
#[derive(Default)]
struct Journal {
    /// Not when an old writer may live on beside a new one.
    epochs_rise: bool,
    batch: u64,
    epoch: u64,
    recorded_at_us: Micros,
    events: Vec<Uuid>,
    event_ids: BTreeSet<Uuid>,
    streams: BTreeMap<StreamKey, State>,
    /// After which commit a stream had how many events.
    versions: BTreeMap<StreamKey, Vec<(usize, u64)>>,
    /// After which commit a key was taken or free.
    keys: BTreeMap<ClaimKey, Vec<(usize, bool)>>,
    trees: BTreeMap<TenantId, RightEdge>,
    commands: BTreeMap<(TenantId, Uuid), Recorded>,
    /// After which commit the last recorded time was what.
    times: Vec<(usize, Micros)>,
}

/// What must hold of the journal itself, whoever wrote it.
///
/// # Errors
/// The first thing that does not hold.
pub(crate) fn audit_structure(db: &SimDatabase, history: &History) -> Finding {
    let journal = Journal::read(db, history, false)?;
    for answered in history.answers.iter().filter(|a| matches!(a.result, Err(AppendError::Database(_)))) {
        journal.check_answer(answered)?;
    }
    Ok(())
}

/// Everything that must hold at the end of a run.
///
/// # Errors
/// The first thing that does not hold.
pub(crate) fn audit(db: &SimDatabase, history: &History, followers: &[Follower]) -> Finding {
    let journal = Journal::read(db, history, true)?;
    for answered in &history.answers {
        journal.check_answer(answered)?;
    }
    journal.check_submissions(history)?;
    for follower in followers {
        let (handed, events) = (&follower.handed, &journal.events);
        ensure!(
            handed.len() <= events.len(),
            "follower {} was handed {} events of {}",
            follower.id,
            handed.len(),
            events.len()
        );
        if let Some(at) = handed.iter().zip(events).position(|(h, e)| h != e) {
            return Err(format!(
                "follower {} was handed {} at position {}, where {} stands now",
                follower.id,
                handed[at],
                at + 1,
                events[at]
            ));
        }
    }
    for (position, id) in &history.handed {
        let now = usize::try_from(*position - 1).ok().and_then(|at| journal.events.get(at));
        ensure!(now == Some(id), "position {position} was handed out as {id}, and now is {now:?}");
    }
    Ok(())
}

impl Journal {
    fn read(db: &SimDatabase, history: &History, epochs_rise: bool) -> Result<Journal, String> {
        let mut journal = Journal { epochs_rise, ..Journal::default() };
        for (index, record) in db.log.iter().enumerate() {
            if let Record::Batch(batch) = record {
                journal.add(index, batch, history)?;
            }
        }
        for (key, taken) in &journal.keys {
            let taken = taken.last().is_some_and(|(_, taken)| *taken);
            ensure!(
                db.tables.claims.contains(key) == taken,
                "the table of unique keys differs from its history at {key:?}"
            );
        }
        Ok(journal)
    }

    fn add(&mut self, index: usize, batch: &Batch, history: &History) -> Finding {
        let number = batch.number;
        ensure!(number == self.batch + 1, "batch {number} came after batch {}", self.batch);
        ensure!(
            batch.epoch >= self.epoch || !self.epochs_rise,
            "batch {number} is of epoch {}, its predecessor of {}",
            batch.epoch,
            self.epoch
        );
        ensure!(batch.recorded_at_us >= self.recorded_at_us, "the recorded time runs backwards at batch {number}");
        let first = self.events.len() as u64 + 1;
        ensure!(
            batch.first_position == first,
            "batch {number} begins at position {}, not {first}",
            batch.first_position
        );
        ensure!(
            batch.last_position + 1 == first + batch.events.len() as u64,
            "batch {number} says it ends at {} but has {} events",
            batch.last_position,
            batch.events.len()
        );
        (self.batch, self.epoch, self.recorded_at_us) = (number, batch.epoch, batch.recorded_at_us);
        self.times.push((index, batch.recorded_at_us));

        let mut rows = batch.events.iter().enumerate().peekable();
        for (n, member) in batch.members.iter().enumerate() {
            let submission = history
                .submissions
                .get(&member.ticket)
                .ok_or_else(|| format!("nobody asked for ticket {}", member.ticket))?;
            let append = &submission.append;
            ensure!(*append == member.append, "what ticket {} wrote is not what was asked for", member.ticket);
            let key =
                |stream: &daybook_store::journal::StreamId| StreamKey { tenant: append.tenant, stream: stream.clone() };
            // The states that were decided on must be the ones that stand here.
            let looked_at = append.streams.iter().map(|s| &s.stream).chain(append.reads.iter().map(|r| &r.0));
            for (stream, basis) in looked_at.zip(&submission.basis) {
                let stands = self.streams.get(&key(stream)).copied().unwrap_or_default();
                ensure!(
                    stands == *basis,
                    "ticket {} was decided on {stream} at {basis:x?}, but it stood at {stands:x?} when it was written",
                    member.ticket
                );
            }
            if let Some(deadline) = append.not_after {
                ensure!(batch.recorded_at_us <= deadline, "ticket {} was written after its deadline", member.ticket);
            }
            let before = self.trees.get(&append.tenant).map_or(0, RightEdge::size);
            for (s, stream) in append.streams.iter().enumerate() {
                for (e, event) in stream.events.iter().enumerate() {
                    let (at, row) = rows
                        .next()
                        .ok_or_else(|| format!("batch {number} lacks events of ticket {}", member.ticket))?;
                    ensure!(row.source == (n, s, e), "batch {number} has its events in another order than its appends");
                    ensure!(
                        row.position == first + at as u64,
                        "batch {number} says position {} for {}",
                        row.position,
                        first + at as u64
                    );
                    ensure!(self.event_ids.insert(event.event_id), "event {} is in the journal twice", event.event_id);
                    let state = self.streams.entry(key(&stream.stream)).or_default();
                    *state = fold(*state, event.event_id);
                    ensure!(
                        row.sequence == state.0,
                        "{} has sequence {} where {} was due",
                        stream.stream,
                        row.sequence,
                        state.0
                    );
                    self.versions.entry(key(&stream.stream)).or_default().push((index, state.0));
                    let tree = self.trees.entry(append.tenant).or_default();
                    let leaf = Leaf {
                        tenant: append.tenant.0,
                        tenant_position: tree.size() + 1,
                        stream_type: stream.stream.kind,
                        stream_id: stream.stream.id,
                        sequence: state.0,
                        event_id: event.event_id,
                        event_type: &event.event_type,
                        event_version: event.event_version,
                        recorded_at_us: batch.recorded_at_us,
                        payload_sha256: Sha256::digest(event.payload.as_bytes()).into(),
                        metadata_sha256: Sha256::digest(event.metadata.as_bytes()).into(),
                    };
                    let hash = leaf.hash();
                    ensure!(
                        row.tenant_position == tree.size() + 1,
                        "tenant position {} where {} was due",
                        row.tenant_position,
                        tree.size() + 1
                    );
                    ensure!(row.leaf_hash == hash, "the leaf of event {} is not its hash", event.event_id);
                    tree.push(hash);
                    self.events.push(event.event_id);
                }
            }
            for (key, _) in &append.claims {
                let uses = self.keys.entry(key.clone()).or_default();
                ensure!(
                    !uses.last().is_some_and(|u| u.1),
                    "ticket {} took a key of kind {} that was taken",
                    member.ticket,
                    key.kind
                );
                uses.push((index, true));
            }
            for key in &append.releases {
                self.keys.entry(key.clone()).or_default().push((index, false));
            }
            let outcome = &batch.outcomes[n];
            let after = self.trees.get(&append.tenant).map_or(0, RightEdge::size);
            ensure!(
                (
                    outcome.first_tenant_position,
                    outcome.last_tenant_position,
                    outcome.last_position,
                    outcome.tenant,
                    outcome.recorded_at_us
                ) == (before + 1, after, self.events.len() as u64, append.tenant, batch.recorded_at_us),
                "the record of ticket {} tells other positions than it has: {outcome:?}",
                member.ticket
            );
            let recorded =
                Recorded { index, ticket: member.ticket, digest: append.command.digest, outcome: outcome.clone() };
            let command = (append.command.tenant, append.command.id);
            ensure!(
                self.commands.insert(command, recorded).is_none(),
                "command {} was carried out twice",
                append.command.id
            );
        }
        ensure!(rows.next().is_none(), "batch {number} has events of nobody");

        let heads = batch.heads.iter().map(|h| (h.tenant, h)).collect::<BTreeMap<_, _>>();
        let touched =
            batch.members.iter().filter(|m| m.append.events() > 0).map(|m| m.append.tenant).collect::<BTreeSet<_>>();
        ensure!(heads.keys().copied().eq(touched), "batch {number} does not bring exactly the heads of its tenants");
        for (tenant, head) in heads {
            ensure!(
                self.trees.get(&tenant) == Some(&head.edge),
                "the head of {tenant:?} in batch {number} is not the tree of its events"
            );
        }
        Ok(())
    }

    fn check_answer(&self, answered: &Answered) -> Finding {
        let append = &answered.append;
        let id = append.command.id;
        let who = format!("client {} call {} (command {})", answered.client, answered.call, id.as_u128());
        let recorded = self.commands.get(&(append.command.tenant, id));
        let was_durable = |index: usize| index < answered.durable;
        match &answered.result {
            Ok(outcome) => {
                let Some(recorded) = recorded else {
                    return Err(format!("{who} was told that it succeeded, and there is no trace of it"));
                };
                ensure!(
                    recorded.digest == append.command.digest,
                    "{who} was told that it succeeded; what is there is another content"
                );
                let told = Outcome {
                    seen: recorded.outcome.seen,
                    deduplicated: recorded.outcome.deduplicated,
                    ..outcome.clone()
                };
                ensure!(told == recorded.outcome, "{who} was told {outcome:?}, and it is {:?}", recorded.outcome);
            }
            Err(AppendError::Conflict { stream, expected, actual }) => {
                let key = StreamKey { tenant: append.tenant, stream: stream.clone() };
                let stood = *actual == 0
                    || self
                        .versions
                        .get(&key)
                        .is_some_and(|v| v.iter().any(|(index, version)| was_durable(*index) && version == actual));
                ensure!(
                    expected != actual && stood,
                    "{who} was told that {stream} has {actual} events, not {expected}; it never had"
                );
            }
            Err(AppendError::KeyTaken { .. }) => {
                let taken = append.claims.iter().any(|(key, _)| {
                    self.keys
                        .get(key)
                        .is_some_and(|uses| uses.iter().any(|(index, taken)| was_durable(*index) && *taken))
                });
                ensure!(taken, "{who} was told that its key is taken; it never was");
            }
            Err(AppendError::CommandReused(_)) => {
                let reused = recorded.is_some_and(|r| was_durable(r.index) && r.digest != append.command.digest);
                ensure!(reused, "{who} was told that its id was used with another content; it was not");
            }
            Err(AppendError::TooLate) => {
                let last = self.times.iter().take_while(|(index, _)| was_durable(*index)).last().map_or(0, |t| t.1);
                let late = append.not_after.is_some_and(|deadline| deadline < last.max(answered.wall_max_us));
                ensure!(late, "{who} was told that it is too late; it was not");
            }
            Err(AppendError::Database(reason)) => {
                let poisonous =
                    append.streams.iter().flat_map(|s| &s.events).any(|e| e.metadata == crate::database::POISON);
                ensure!(poisonous, "{who}, a healthy append, was refused by the database: {reason}");
            }
            Err(
                AppendError::Unavailable(_)
                | AppendError::Overloaded
                | AppendError::UnknownOutcome(_)
                | AppendError::Stale
                | AppendError::Invalid(_),
            ) => {}
        }
        Ok(())
    }

    /// Nothing is written of which somebody was told that it was not.
    fn check_submissions(&self, history: &History) -> Finding {
        for recorded in self.commands.values() {
            let submission = &history.submissions[&recorded.ticket];
            let nothing = !matches!(submission.answer, None | Some(Answer::Unknown | Answer::Done(_)));
            ensure!(!nothing, "ticket {} was answered {:?}, and is in the journal", recorded.ticket, submission.answer);
            for answered in &history.answers {
                let same = answered.client == submission.client
                    && answered.append.command.id == submission.append.command.id
                    && answered.append.command.digest == submission.append.command.digest;
                let refused = match &answered.result {
                    Ok(_) | Err(AppendError::UnknownOutcome(_)) => false,
                    // A repeat that was decided on an older state than the call that is still on its way:
                    // it is told to decide anew, and will find that call's outcome then.
                    Err(AppendError::Conflict { .. }) => recorded.index < answered.durable,
                    // These speak of one call, the others of the command.
                    Err(AppendError::Unavailable(_) | AppendError::Overloaded | AppendError::Stale) => {
                        answered.call == submission.call
                    }
                    Err(_) => true,
                };
                ensure!(
                    !(same && refused && answered.order > submission.order),
                    "client {} was told {:?} of command {}, but its ticket {} is in the journal",
                    answered.client,
                    answered.result,
                    answered.append.command.id.as_u128(),
                    recorded.ticket
                );
            }
        }
        Ok(())
    }
}
