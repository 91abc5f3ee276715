//! One append, the way of `Journal::append`: what need not be looked up, what the look-up alone
//! refuses, and what comes of the writer's answer.

use crate::client::{Call, Lookup, Stage};
use crate::database::{Facts, State};
use crate::world::{Event, World, trace};
use daybook_store::journal::machine::{Answer, Prepared};
use daybook_store::journal::{AppendError, Seen, StreamKey};
use daybook_store::keys::keyed_hash;
use daybook_tlog::Hash;
use sha2::{Digest, Sha256};

impl World {
    /// Decides on the states, and says in the append what it decided on.
    pub(crate) fn decide(&mut self, client: usize, states: Vec<State>, versions_at: Seen) {
        let hash_key = self.rng.bytes();
        let at = &mut self.clients[client];
        let Some(op) = &mut at.op else { return };
        op.stamp.hash_key = hash_key;
        let append = op.append(client, at.calls, &states);
        let sha256 = |text: &str| -> Hash { Sha256::digest(text.as_bytes()).into() };
        let digests = append
            .streams
            .iter()
            .map(|s| s.events.iter().map(|e| (sha256(&e.payload), sha256(&e.metadata))).collect())
            .collect();
        let request_hash = keyed_hash(&append.command.hash_key, &append.command.digest);
        // As `Known::suffices`.
        let unused = if append.command.fresh { Some(versions_at) } else { at.unused_at };
        let seen = unused.filter(|u| append.claims.is_empty() && u.epoch == versions_at.epoch);
        let seen = seen.map(|u| if u.batch < versions_at.batch { u } else { versions_at });
        at.call =
            Some(Call { append, basis: states, versions_at, seen, head: None, digests, request_hash, refusal: None });
    }

    pub(crate) fn decide_from_cache(&mut self, client: usize, leading: Seen) -> bool {
        let at = &self.clients[client];
        let Some(op) = &at.op else { return false };
        let cache = &self.nodes[at.node].cache;
        let cached = |key: StreamKey| cache.get(&key).filter(|(_, seen)| seen.epoch == leading.epoch).copied();
        let Some(found) = op.intent.keys().map(cached).collect::<Option<Vec<_>>>() else { return false };
        let Some(oldest) = found.iter().map(|(_, seen)| *seen).min_by_key(|seen| seen.batch) else { return false };
        self.count("decided_from_cache");
        self.decide(client, found.into_iter().map(|(state, _)| state).collect(), oldest);
        true
    }

    /// One round of the loop in `Journal::append`.
    pub(crate) fn round(&mut self, client: usize, leading: Seen) {
        let Some(call) = &self.clients[client].call else { return };
        match call.seen {
            Some(seen) if seen.epoch == leading.epoch => self.hand_in(client, seen),
            _ if call.versions_at.epoch != leading.epoch => self.finish_call(client, Err(AppendError::Stale)),
            _ => self.look(client, Lookup::Facts, leading),
        }
    }

    pub(crate) fn judge(&mut self, client: usize, facts: Facts) {
        if let Some(row) = facts.earlier {
            return self.answer_from(client, facts.seen, row, Lookup::Round);
        }
        let Some(call) = &mut self.clients[client].call else { return };
        let append = &call.append;
        let fresh = append.command.fresh;
        let expected =
            append.streams.iter().map(|s| (&s.stream, s.expected)).chain(append.reads.iter().map(|(s, v)| (s, *v)));
        let conflict = expected.zip(&facts.versions).find(|((_, expected), actual)| *expected != actual.0).map(
            |((stream, expected), actual)| AppendError::Conflict { stream: stream.clone(), expected, actual: actual.0 },
        );
        let taken = append.claims.iter().zip(&facts.taken).find(|(_, taken)| **taken);
        let refusal = conflict.or_else(|| taken.map(|((key, _), _)| AppendError::KeyTaken { kind: key.kind }));
        call.refusal = None;
        if let Some(refusal) = refusal {
            self.count("refused_by_look_up");
            if let (false, Some(call)) = (fresh, &mut self.clients[client].call) {
                call.refusal = Some(refusal);
                return self.hand_in(client, facts.seen);
            }
            self.set_stage(client, Stage::Settling(facts.seen, Box::new(Err(refusal)), Lookup::Round));
            return self.settle(client);
        }
        // Equal versions of another epoch need not be the same events.
        if call.versions_at.epoch != facts.seen.epoch {
            self.count("stale_facts");
            return self.finish_call(client, Err(AppendError::Stale));
        }
        call.seen = Some(facts.seen);
        call.head = Some(facts.head);
        self.hand_in(client, facts.seen);
    }

    fn hand_in(&mut self, client: usize, seen: Seen) {
        let ticket = self.ticket();
        let at = &self.clients[client];
        let Some(call) = &at.call else { return };
        let prepared = Prepared {
            ticket,
            append: call.append.clone(),
            seen,
            head: call.head.clone(),
            digests: call.digests.clone(),
            request_hash: call.request_hash,
            asks: call.refusal.is_some(),
        };
        let (node, deadline) = (at.node, at.deadline);
        if !prepared.asks {
            self.history.submitted(ticket, client, at.calls, call.append.clone(), call.basis.clone());
        }
        trace!(
            self,
            "client {client}: ticket {ticket}, command {}, seen {}/{}",
            prepared.append.command.id.as_u128(),
            seen.epoch,
            seen.batch
        );
        let generation = self.set_stage(client, Stage::Awaiting);
        if !self.submit(node, Box::new(prepared), client, generation) {
            return self.finish_call(client, Err(AppendError::Unavailable("the writer has ended".into())));
        }
        self.after(deadline - self.now, Event::ClientTimeout(client, generation));
    }

    pub(crate) fn client_timed_out(&mut self, client: usize, generation: u64) {
        if self.clients[client].generation == generation {
            self.count("timeouts");
            let command = self.clients[client].op.as_ref().map(|op| op.stamp.id).unwrap_or_default();
            self.finish_call(client, Err(AppendError::UnknownOutcome(command)));
        }
    }

    pub(crate) fn client_answered(&mut self, client: usize, generation: u64, answer: Answer) {
        let at = &mut self.clients[client];
        if at.generation != generation {
            return;
        }
        let (node, now) = (&self.nodes[at.node], self.now);
        let Some(call) = &mut at.call else { return };
        match answer {
            Answer::Done(outcome) => self.finish_call(client, Ok(outcome)),
            Answer::Refused(error) => self.finish_call(client, Err(error)),
            Answer::Nothing => {
                let refusal = call.refusal.take();
                self.count("refused_after_asking");
                let command = AppendError::UnknownOutcome(uuid::Uuid::nil());
                self.finish_call(client, Err(refusal.unwrap_or(command)));
            }
            Answer::LookAgain => {
                call.seen = None;
                self.wait_ready(client, Lookup::Round, 0);
            }
            Answer::Overloaded => self.finish_call(client, Err(AppendError::Overloaded)),
            Answer::Unavailable(reason) if now >= at.deadline || node.stopped => {
                self.finish_call(client, Err(AppendError::Unavailable(reason)));
            }
            Answer::Unavailable(_) => {
                call.seen = None;
                self.wait_ready(client, Lookup::Round, 5_000);
            }
            Answer::Failed(reason) => self.finish_call(client, Err(AppendError::Database(reason))),
            Answer::Unknown => {
                let command = call.append.command.id;
                self.finish_call(client, Err(AppendError::UnknownOutcome(command)));
            }
        }
    }
}
