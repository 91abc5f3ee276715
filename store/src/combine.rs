//! Look-ups that arrive while others are under way are answered together, by one statement: where many callers
//! ask at once, most of what a look-up costs is the way there and back.

use crate::database::{DatabaseError, Pool};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// Statements under way at once.
const RUNNING_MAX: usize = 4;
/// Questions that one statement answers.
const TOGETHER_MAX: usize = 64;

/// A question that can be asked together with others.
pub(crate) trait Question: Clone + Send + Sync + 'static {
    type Answer: Send + 'static;

    /// The answers to all of them, in their order, by one statement.
    fn ask(pool: &Pool, questions: &[Self]) -> impl Future<Output = Result<Vec<Self::Answer>, DatabaseError>> + Send;
}

type Answer<Q> = Result<<Q as Question>::Answer, DatabaseError>;

struct Waiting<Q: Question> {
    /// Bounded by the callers, each of whom waits for one.
    questions: Vec<(Q, oneshot::Sender<Answer<Q>>)>,
    running: usize,
}

struct Inner<Q: Question> {
    pool: Pool,
    waiting: Mutex<Waiting<Q>>,
}

/// Shared by all callers; cloning is cheap.
pub(crate) struct Combiner<Q: Question>(Arc<Inner<Q>>);

impl<Q: Question> Clone for Combiner<Q> {
    fn clone(&self) -> Self {
        Combiner(self.0.clone())
    }
}

impl<Q: Question> Combiner<Q> {
    pub(crate) fn new(pool: Pool) -> Self {
        Combiner(Arc::new(Inner { pool, waiting: Mutex::new(Waiting { questions: Vec::new(), running: 0 }) }))
    }

    /// # Errors
    /// When the database cannot be asked.
    pub(crate) async fn ask(&self, question: Q) -> Answer<Q> {
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
            let (questions, mut senders): (Vec<Q>, Vec<_>) = together.into_iter().unzip();
            match self.all(&questions).await {
                Ok(all) => {
                    for (sender, answer) in senders.into_iter().zip(all) {
                        // Whoever asked may have given up.
                        let _ = sender.send(Ok(answer));
                    }
                }
                Err(error) if senders.len() == 1 => {
                    let _ = senders.remove(0).send(Err(error));
                }
                // One error cannot be told twice, and may be the fault of one question.
                Err(_) => {
                    for (question, sender) in questions.into_iter().zip(senders) {
                        let alone = self.all(&[question]).await;
                        let _ = sender.send(alone.and_then(|mut answers| {
                            answers.pop().ok_or_else(|| DatabaseError::Unsuitable("the look-up found nothing".into()))
                        }));
                    }
                }
            }
        }
    }

    async fn all(&self, questions: &[Q]) -> Result<Vec<Q::Answer>, DatabaseError> {
        let answers = Q::ask(&self.0.pool, questions).await?;
        if answers.len() == questions.len() {
            Ok(answers)
        } else {
            Err(DatabaseError::Unsuitable("a look-up gave another number of answers than there were questions".into()))
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<Q>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts as running until it is over, however it ends.
struct Running<'a, Q: Question> {
    combiner: &'a Combiner<Q>,
    counted: bool,
}

impl<Q: Question> Running<'_, Q> {
    fn next(&mut self) -> Option<Vec<(Q, oneshot::Sender<Answer<Q>>)>> {
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

impl<Q: Question> Drop for Running<'_, Q> {
    fn drop(&mut self) {
        if self.counted {
            self.combiner.lock().running -= 1;
        }
    }
}
