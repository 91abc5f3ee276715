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
    /// Bounded by the callers: each waits for one, and those of who has given up are left out when the next are asked.
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
                // One error cannot be told twice, and may be the fault of one question; a lost connection is not.
                Err(error) => {
                    let mut lost = error.is_connection();
                    for (question, sender) in questions.into_iter().zip(senders) {
                        if sender.is_closed() {
                            continue;
                        }
                        if lost {
                            let _ = sender.send(Err(DatabaseError::Lost));
                            continue;
                        }
                        let alone = self.all(&[question]).await;
                        lost = alone.as_ref().is_err_and(DatabaseError::is_connection);
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
        // Who has given up is not asked for.
        waiting.questions.retain(|(_, sender)| !sender.is_closed());
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
        if !self.counted {
            return;
        }
        // A panic. Nobody else may be there to ask for those who wait: they are told that it was broken off.
        let mut waiting = self.combiner.lock();
        waiting.running -= 1;
        if waiting.running == 0 {
            waiting.questions.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::{Database, Role};
    use std::path::Path;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Semaphore;
    use tokio::task::JoinHandle;

    /// What the statement does when it is asked this.
    #[derive(Clone)]
    enum Asked {
        Echo(u32),
        /// Waits for leave, then panics.
        Panic(Arc<Semaphore>),
        /// Waits for leave.
        Wait(Arc<Semaphore>),
        Lost(Arc<AtomicUsize>),
    }

    impl Question for Asked {
        type Answer = u32;

        async fn ask(_: &Pool, questions: &[Self]) -> Result<Vec<u32>, DatabaseError> {
            let mut answers = Vec::new();
            for question in questions {
                match question {
                    Asked::Echo(n) => answers.push(*n),
                    Asked::Panic(leave) => {
                        let _leave = leave.acquire().await;
                        panic!("as planned");
                    }
                    Asked::Wait(leave) => {
                        let _leave = leave.acquire().await;
                        answers.push(0);
                    }
                    Asked::Lost(statements) => {
                        statements.fetch_add(1, Ordering::SeqCst);
                        return Err(DatabaseError::Lost);
                    }
                }
            }
            Ok(answers)
        }
    }

    fn combiner() -> Combiner<Asked> {
        Combiner::new(Database::on_socket(Path::new("/nowhere"), 1, "nobody", "none").pool(Role::Reader, 1, ""))
    }

    /// As many statements under way as there can be, each with this question alone.
    async fn occupied(combiner: &Combiner<Asked>, by: &Asked) -> Vec<JoinHandle<Answer<Asked>>> {
        let mut callers = Vec::new();
        for n in 1..=RUNNING_MAX {
            callers.push(ask(combiner, by.clone()));
            until(combiner, |waiting| waiting.running == n && waiting.questions.is_empty()).await;
        }
        callers
    }

    fn ask(combiner: &Combiner<Asked>, question: Asked) -> JoinHandle<Answer<Asked>> {
        let combiner = combiner.clone();
        tokio::spawn(async move { combiner.ask(question).await })
    }

    async fn until(combiner: &Combiner<Asked>, holds: impl Fn(&Waiting<Asked>) -> bool) {
        while !holds(&combiner.lock()) {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_panic_leaves_nobody_waiting() {
        let (combiner, leave) = (combiner(), Arc::new(Semaphore::new(0)));
        let first = occupied(&combiner, &Asked::Panic(leave.clone())).await;
        let waiting: Vec<_> = (0..3).map(|n| ask(&combiner, Asked::Echo(n))).collect();
        until(&combiner, |waiting| waiting.questions.len() == 3).await;
        leave.add_permits(RUNNING_MAX);
        for caller in first.into_iter().chain(waiting) {
            let told = caller.await.expect("a caller");
            assert!(matches!(&told, Err(DatabaseError::Unsuitable(why)) if why.contains("broken off")), "{told:?}");
        }
        assert_eq!(combiner.ask(Asked::Echo(7)).await.expect("an answer"), 7, "and it goes on");
    }

    #[tokio::test]
    async fn a_lost_connection_is_told_to_all_who_shared_it_and_is_not_tried_for_each() {
        let (combiner, leave) = (combiner(), Arc::new(Semaphore::new(0)));
        let first = occupied(&combiner, &Asked::Wait(leave.clone())).await;
        let statements = Arc::new(AtomicUsize::new(0));
        let waiting: Vec<_> = (0..20).map(|_| ask(&combiner, Asked::Lost(statements.clone()))).collect();
        until(&combiner, |waiting| waiting.questions.len() == 20).await;
        leave.add_permits(RUNNING_MAX);
        for caller in waiting {
            assert!(caller.await.expect("a caller").expect_err("no answer").is_connection());
        }
        assert_eq!(statements.load(Ordering::SeqCst), 1);
        for caller in first {
            assert_eq!(caller.await.expect("a caller").expect("an answer"), 0);
        }
    }

    #[tokio::test]
    async fn who_has_given_up_is_not_asked_for() {
        let (combiner, leave) = (combiner(), Arc::new(Semaphore::new(0)));
        let first = occupied(&combiner, &Asked::Wait(leave.clone())).await;
        let statements = Arc::new(AtomicUsize::new(0));
        let gone: Vec<_> = (0..20).map(|_| ask(&combiner, Asked::Lost(statements.clone()))).collect();
        until(&combiner, |waiting| waiting.questions.len() == 20).await;
        for caller in gone {
            caller.abort();
            assert!(caller.await.expect_err("an end").is_cancelled());
        }
        let stays = ask(&combiner, Asked::Echo(3));
        until(&combiner, |waiting| waiting.questions.len() == 21).await;
        leave.add_permits(RUNNING_MAX);
        assert_eq!(stays.await.expect("a caller").expect("an answer"), 3);
        assert_eq!(statements.load(Ordering::SeqCst), 0);
        for caller in first {
            caller.await.expect("a caller").expect("an answer");
        }
    }
}
