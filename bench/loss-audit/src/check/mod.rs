//! The check: what clients were told, held against what the journal holds. It shares no code with the store.

mod readers;
mod stream;
mod writes;

#[cfg(test)]
mod tests;

use crate::history::{Message, Told, Written};
use crate::journal::Journal;
use std::collections::BTreeMap;

/// How many violations of a rule are told in full.
const TOLD_MAX: usize = 20;

/// What must hold.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Rule {
    Kept,
    Once,
    Content,
    AtMostOnce,
    RefusedNothing,
    RefusedRightly,
    AskedFor,
    Positions,
    TenantPositions,
    Streams,
    Batches,
    AnsweredPosition,
    OwnWrites,
    ReaderOrder,
    ReaderTruth,
    ReaderComplete,
    Rows,
    StreamComplete,
    StreamOrder,
    StreamTruth,
    ReadModels,
    Verified,
    ServesAgain,
    NodesLive,
}

impl Rule {
    pub const ALL: [Rule; 24] = [
        Rule::Kept,
        Rule::Once,
        Rule::Content,
        Rule::AtMostOnce,
        Rule::RefusedNothing,
        Rule::RefusedRightly,
        Rule::AskedFor,
        Rule::Positions,
        Rule::TenantPositions,
        Rule::Streams,
        Rule::Batches,
        Rule::AnsweredPosition,
        Rule::OwnWrites,
        Rule::ReaderOrder,
        Rule::ReaderTruth,
        Rule::ReaderComplete,
        Rule::Rows,
        Rule::StreamComplete,
        Rule::StreamOrder,
        Rule::StreamTruth,
        Rule::ReadModels,
        Rule::Verified,
        Rule::ServesAgain,
        Rule::NodesLive,
    ];

    /// As a sentence.
    pub fn says(self) -> &'static str {
        match self {
            Rule::Kept => "An acknowledged write is in the journal",
            Rule::Once => "… once, and no command is there twice",
            Rule::Content => "… with exactly what was asked for",
            Rule::AtMostOnce => "A write that was never answered is there once or not at all",
            Rule::RefusedNothing => "A refused write left nothing",
            Rule::RefusedRightly => "Nothing is refused without a reason",
            Rule::AskedFor => "Every event was asked for",
            Rule::Positions => "Positions are 1..N",
            Rule::TenantPositions => "Each tenant's positions are 1..N, in the journal's order",
            Rule::Streams => "Each stream's sequence is 1..N, in the journal's order",
            Rule::Batches => "Batches are 1..N and follow each other without a gap",
            Rule::AnsweredPosition => "The position in an answer is that of its event",
            Rule::OwnWrites => "An answer shows what was written, and so does a read at its position",
            Rule::ReaderOrder => "A subscriber is told each event once, in order, without a gap, across reconnects",
            Rule::ReaderTruth => "… and nothing that the journal does not hold",
            Rule::ReaderComplete => "… and in the end everything",
            Rule::Rows => "A subscriber of a row is told each of its versions once, in order, with its content",
            Rule::StreamComplete => "NATS JetStream holds every public event",
            Rule::StreamOrder => "… in the journal's order; what comes twice has the same id",
            Rule::StreamTruth => "… and nothing that the journal does not hold, with its content and position",
            Rule::ReadModels => "A read model's table equals one that is built anew",
            Rule::Verified => "`daybook verify` finds nothing",
            Rule::ServesAgain => "After a fault everything serves again in time, helped by nobody",
            Rule::NodesLive => "No node ends by itself",
        }
    }
}

#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Tally {
    pub checked: u64,
    pub violated: u64,
    /// The evidence, of the first ones.
    pub violations: Vec<String>,
}

#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Verdict {
    rules: BTreeMap<Rule, Tally>,
}

impl Verdict {
    /// Holds, or the evidence that it does not.
    pub fn hold(&mut self, rule: Rule, holds: bool, evidence: impl FnOnce() -> String) {
        let tally = self.rules.entry(rule).or_default();
        tally.checked += 1;
        if !holds {
            tally.violated += 1;
            if tally.violations.len() < TOLD_MAX {
                tally.violations.push(evidence());
            }
        }
    }

    pub fn of(&self, rule: Rule) -> Tally {
        self.rules.get(&rule).cloned().unwrap_or_default()
    }

    pub fn is_clean(&self) -> bool {
        self.rules.values().all(|tally| tally.violated == 0)
    }

    /// The rules that do not hold.
    pub fn violated(&self) -> Vec<Rule> {
        self.rules.iter().filter(|(_, tally)| tally.violated > 0).map(|(rule, _)| *rule).collect()
    }

    /// Several of one rule add up.
    pub fn merge(&mut self, other: Verdict) {
        for (rule, tally) in other.rules {
            let mine = self.rules.entry(rule).or_default();
            mine.checked += tally.checked;
            mine.violated += tally.violated;
            mine.violations.extend(tally.violations);
            mine.violations.truncate(TOLD_MAX);
        }
    }
}

/// Logs by name.
pub type Logs<Line> = Vec<(String, Vec<Line>)>;

/// All that is known from outside.
#[derive(Clone, Default)]
pub struct Evidence {
    pub journal: Journal,
    pub writers: Logs<Written>,
    pub readers: Logs<Told>,
    /// None where there is no NATS. The live consumer first, then one that has read it all in the end.
    pub consumers: Option<Logs<Message>>,
}

/// Everything that the logs and the journal can tell.
pub fn check(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    journal(&evidence.journal, &mut verdict);
    writes::check(evidence, &mut verdict);
    readers::check(evidence, &mut verdict);
    if let Some(consumers) = &evidence.consumers {
        stream::check(&evidence.journal, consumers, &mut verdict);
    }
    verdict
}

/// Dense, everywhere.
fn journal(journal: &Journal, verdict: &mut Verdict) {
    let (mut tenants, mut streams) = (BTreeMap::new(), BTreeMap::new());
    for (expected, event) in (1i64..).zip(&journal.events) {
        let at = event.position;
        verdict.hold(Rule::Positions, at == expected, || format!("position {at} stands where {expected} should"));
        let last = tenants.entry(event.tenant).or_insert(0i64);
        verdict.hold(Rule::TenantPositions, event.tenant_position == *last + 1, || {
            format!("position {at}: {} follows {last} of tenant {}", event.tenant_position, event.tenant)
        });
        *last = event.tenant_position;
        let last = streams.entry((event.tenant, &event.stream_type, event.stream)).or_insert(0i64);
        verdict.hold(Rule::Streams, event.sequence == *last + 1, || {
            format!("position {at}: {} follows {last} of {} {}", event.sequence, event.stream_type, event.stream)
        });
        *last = event.sequence;
    }
    let mut end = 0;
    for (expected, batch) in (1i64..).zip(&journal.batches) {
        let follows = batch.batch == expected && batch.first == end + 1 && batch.last >= end;
        verdict.hold(Rule::Batches, follows, || {
            format!(
                "batch {} with {}..{} follows position {end}, as number {expected}",
                batch.batch, batch.first, batch.last
            )
        });
        end = batch.last;
    }
    let events = journal.events.len();
    verdict.hold(Rule::Batches, usize::try_from(end) == Ok(events), || {
        format!("the batches end at position {end}, and there are {events} events")
    });
}
