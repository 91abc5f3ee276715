//! What was asked and what was answered, as an outsider could have written it down.

use crate::database::State;
use daybook_store::journal::machine::{Answer, Ticket};
use daybook_store::journal::{Append, AppendError, Outcome};
use daybook_store::system::Micros;
use std::collections::BTreeMap;
use uuid::Uuid;

/// A request that reached a writer's channel.
pub(crate) struct Submission {
    /// Who asked, and in which of its calls.
    pub(crate) client: usize,
    pub(crate) call: u64,
    pub(crate) append: Append,
    /// The states that the decision was based on: of the streams, then of the reads.
    pub(crate) basis: Vec<crate::database::State>,
    pub(crate) order: u64,
    pub(crate) answer: Option<Answer>,
}

/// What a caller was told in the end.
pub(crate) struct Answered {
    pub(crate) client: usize,
    pub(crate) call: u64,
    pub(crate) append: Append,
    pub(crate) result: Result<Outcome, AppendError>,
    pub(crate) order: u64,
    /// Commits that were durable at this moment.
    pub(crate) durable: usize,
    /// The latest time that any clock of the answering node had shown.
    pub(crate) wall_max_us: Micros,
}

#[derive(Default)]
pub(crate) struct History {
    pub(crate) submissions: BTreeMap<Ticket, Submission>,
    pub(crate) answers: Vec<Answered>,
    /// Everything that any follower was ever handed.
    pub(crate) handed: BTreeMap<u64, Uuid>,
    order: u64,
}

impl History {
    /// The next place in the order of submissions and answers.
    pub(crate) fn next_order(&mut self) -> u64 {
        self.order += 1;
        self.order
    }

    pub(crate) fn submitted(&mut self, ticket: Ticket, client: usize, call: u64, append: Append, basis: Vec<State>) {
        let order = self.next_order();
        self.submissions.insert(ticket, Submission { client, call, append, basis, order, answer: None });
    }

    pub(crate) fn submission_answered(&mut self, ticket: Ticket, answer: Answer) {
        if let Some(submission) = self.submissions.get_mut(&ticket) {
            submission.answer = Some(answer);
        }
    }
}
