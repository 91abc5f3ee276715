//! Look-ups that arrive while others are under way are answered together, by one statement: where many callers
//! ask at once, most of what a look-up costs is the way there and back.

use super::lookup::{self, Facts, Question};
use crate::database::{DatabaseError, Pool};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;

/// Statements under way at once.
const RUNNING_MAX: usize = 4;
/// Questions that one statement answers.
const TOGETHER_MAX: usize = 64;

type Answer = Result<Facts, DatabaseError>;

#[derive(Default)]
struct Waiting {
    /// Bounded by the callers, each of whom waits for one.
    questions: Vec<(Question, oneshot::Sender<Answer>)>,
    running: usize,
}

/// Shared by all callers; cloning is cheap.
#[derive(Clone)]
pub(super) struct Combiner {
    pool: Pool,
    waiting: Arc<Mutex<Waiting>>,
}

impl Combiner {
    pub(super) fn new(pool: Pool) -> Self {
        Combiner { pool, waiting: Arc::default() }
    }

    /// What the writer will take on trust for one append.
    pub(super) async fn facts(&self, question: Question) -> Answer {
        let (sender, answer) = oneshot::channel();
        let starts = {
            let mut waiting = self.lock();
            waiting.questions.push((question, sender));
            let starts = waiting.running < RUNNING_MAX;
            waiting.running += usize::from(starts);
            starts
        };
        if starts {
            // A task of its own: the caller may give up, and others count on the answer.
            tokio::spawn(self.clone().run());
        }
        answer.await.unwrap_or_else(|_| Err(DatabaseError::Unsuitable("the look-up was broken off".into())))
    }

    async fn run(self) {
        let mut running = Running { combiner: &self, counted: true };
        while let Some(together) = running.next() {
            let (questions, mut senders): (Vec<Question>, Vec<_>) = together.into_iter().unzip();
            match lookup::facts(&self.pool, &questions).await {
                Ok(all) => {
                    for (sender, facts) in senders.into_iter().zip(all) {
                        // Whoever asked may have given up.
                        let _ = sender.send(Ok(facts));
                    }
                }
                Err(error) if senders.len() == 1 => {
                    let _ = senders.remove(0).send(Err(error));
                }
                // One error cannot be told twice, and may be the fault of one question.
                Err(_) => {
                    for (question, sender) in questions.into_iter().zip(senders) {
                        let alone = lookup::facts(&self.pool, &[question]).await;
                        let _ = sender.send(alone.and_then(|mut facts| {
                            facts.pop().ok_or_else(|| DatabaseError::Unsuitable("the look-up found nothing".into()))
                        }));
                    }
                }
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts as running until it is over, however it ends.
struct Running<'a> {
    combiner: &'a Combiner,
    counted: bool,
}

impl Running<'_> {
    fn next(&mut self) -> Option<Vec<(Question, oneshot::Sender<Answer>)>> {
        let mut waiting = self.combiner.lock();
        let count = waiting.questions.len().min(TOGETHER_MAX);
        if count == 0 {
            // Under the same lock: a question that comes after this starts a task of its own.
            waiting.running -= 1;
            self.counted = false;
            return None;
        }
        Some(waiting.questions.drain(..count).collect())
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if self.counted {
            self.combiner.lock().running -= 1;
        }
    }
}
