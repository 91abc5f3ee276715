//! What is being recorded in a tenant, read once for all who listen: one reader per tenant follows the log and
//! hands each page to every subscriber. Readings and events of any kind have each a reader of their own, since the ones
//! are decoded and the others only described.
//!
//! It remembers nothing. Who was too slow or comes from an earlier position reads the gap itself.

use super::Parts;
use daybook_domain::TenantId;
use daybook_projections::energy::live;
use daybook_projections::{ReadError, Scope};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::broadcast::{self, error::RecvError};

/// Pages that a subscriber may be behind before it reads for itself.
const BEHIND_MAX: usize = 64;
/// How long the database is left alone after an error.
pub(crate) const PAUSE: Duration = Duration::from_millis(200);

/// Something of a tenant's log that can be listened to.
pub(crate) trait Heard: Clone + Send + Sync + Sized + 'static {
    /// Which of it.
    type Wish: Send + Sync;
    /// Tenant positions of a page that is not the last one.
    const PAGE: u64;

    fn readers(parts: &Parts) -> &Readers<Self>;

    /// The next page after a tenant position, no further than a journal position; everything without a wish.
    fn page(
        parts: &Parts,
        tenant: TenantId,
        wish: Option<&Self::Wish>,
        after: u64,
        up_to: u64,
    ) -> impl Future<Output = Result<Page<Self>, ReadError>> + Send;

    fn tenant_position(&self) -> u64;

    fn is_wanted(&self, wish: &Self::Wish) -> bool;
}

/// What was recorded within a page of the tenant's log.
pub(crate) struct Page<T> {
    pub(crate) heard: Vec<T>,
    /// Tenant position up to which everything has been looked at; where it began if there is nothing yet.
    pub(crate) up_to: u64,
}

/// A stretch of a tenant's log.
pub(crate) struct Stretch<T> {
    /// It begins after this tenant position.
    after: u64,
    page: Page<T>,
}

/// The readers that are at work, by tenant.
pub(crate) struct Readers<T>(Mutex<HashMap<TenantId, broadcast::Sender<Arc<Stretch<T>>>>>);

/// The readers that are at work, by what they read.
#[derive(Default)]
pub struct Tails {
    pub(crate) readings: Readers<live::Recorded>,
    pub(crate) events: Readers<super::audit::events::HeardEvent>,
}

impl<T> Default for Readers<T> {
    fn default() -> Self {
        Readers(Mutex::default())
    }
}

impl<T> Readers<T> {
    fn lock(&self) -> MutexGuard<'_, HashMap<TenantId, broadcast::Sender<Arc<Stretch<T>>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn listen<T: Heard>(parts: &Arc<Parts>, tenant: TenantId) -> broadcast::Receiver<Arc<Stretch<T>>> {
    let mut readers = T::readers(parts).lock();
    if let Some(sender) = readers.get(&tenant) {
        return sender.subscribe();
    }
    let (sender, receiver) = broadcast::channel(BEHIND_MAX);
    readers.insert(tenant, sender.clone());
    tokio::spawn(read(parts.clone(), tenant, sender));
    receiver
}

/// Follows the log for as long as anybody listens.
async fn read<T: Heard>(parts: Arc<Parts>, tenant: TenantId, sender: broadcast::Sender<Arc<Stretch<T>>>) {
    let mut durable = parts.executor.journal().durable();
    let mut after = None;
    loop {
        // Under the lock under which others begin to listen: nobody does so in between.
        let mut readers = T::readers(&parts).lock();
        if sender.receiver_count() == 0 {
            readers.remove(&tenant);
            return;
        }
        drop(readers);
        let up_to = durable.borrow_and_update().position;
        let read = match after {
            None => head(&parts, tenant, up_to).await.map(|head| Page { heard: vec![], up_to: head }),
            Some(after) => T::page(&parts, tenant, None, after, up_to).await,
        };
        match read {
            Ok(page) => {
                let more = after.is_some_and(|after| page.up_to >= after + T::PAGE);
                if after.is_none_or(|after| page.up_to > after) {
                    // Where it begins is told too: who has looked less far than that looks again.
                    let begun = after.replace(page.up_to).unwrap_or(page.up_to);
                    // Nobody may listen at the moment; the next look finds that out.
                    let _ = sender.send(Arc::new(Stretch { after: begun, page }));
                }
                if more || durable.changed().await.is_ok() {
                    continue;
                }
            }
            Err(ReadError::Database(error)) if error.is_connection() => {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            Err(_) => {}
        }
        // The writer has ended, or an event cannot be read. Everybody reads for himself from here on, so that whose
        // device it is is told, and nobody else; the next reader begins after it.
        T::readers(&parts).lock().remove(&tenant);
        return;
    }
}

/// The tenant position of the last event up to a journal position.
pub(crate) async fn head(parts: &Parts, tenant: TenantId, up_to: u64) -> Result<u64, ReadError> {
    let reader = parts.reads.reader();
    reader.transaction(Scope::Tenant(tenant), async |session| live::head(session, tenant, up_to).await).await
}

/// What is recorded from a position on.
pub(crate) struct Listener<T: Heard> {
    parts: Arc<Parts>,
    tenant: TenantId,
    wish: T::Wish,
    after: u64,
    tail: broadcast::Receiver<Arc<Stretch<T>>>,
    /// Whether there is a gap between `after` and the tail.
    behind: bool,
    ready: VecDeque<T>,
}

impl<T: Heard> Listener<T> {
    /// `after`: the tenant position of the last event that is known already.
    pub(crate) fn new(parts: Arc<Parts>, tenant: TenantId, wish: T::Wish, after: u64) -> Self {
        // Before the first look, so that whatever that look misses comes this way.
        let tail = listen(&parts, tenant);
        Listener { parts, tenant, wish, after, tail, behind: true, ready: VecDeque::new() }
    }

    /// Tenant position up to which everything that is wanted has been handed out, while nothing more is ready.
    pub(crate) fn seen(&self) -> Option<u64> {
        self.ready.is_empty().then_some(self.after)
    }

    /// The next of what is wanted, in the order of the log, each once, and only what is durable. Waiting for it can be
    /// given up and begun again.
    ///
    /// # Errors
    /// When an event cannot be read; a connection that fails is waited out.
    pub(crate) async fn next(&mut self) -> Result<T, ReadError> {
        loop {
            if let Some(heard) = self.ready.pop_front() {
                return Ok(heard);
            }
            if self.behind {
                let up_to = self.parts.executor.journal().durable().borrow().position;
                match T::page(&self.parts, self.tenant, Some(&self.wish), self.after, up_to).await {
                    Ok(page) => {
                        // What comes meanwhile comes by the tail, or it shows there that something is missing: who
                        // read on until nothing is found would read for itself for as long as others write.
                        self.behind = page.up_to >= self.after.saturating_add(T::PAGE);
                        self.after = page.up_to;
                        self.ready.extend(page.heard);
                    }
                    Err(ReadError::Database(error)) if error.is_connection() => tokio::time::sleep(PAUSE).await,
                    Err(error) => return Err(error),
                }
                continue;
            }
            match self.tail.recv().await {
                Ok(stretch) if stretch.after > self.after => self.behind = true,
                Ok(stretch) => {
                    let (wish, after) = (&self.wish, self.after);
                    let new = stretch.page.heard.iter().filter(|h| h.tenant_position() > after && h.is_wanted(wish));
                    self.ready.extend(new.cloned());
                    self.after = self.after.max(stretch.page.up_to);
                }
                Err(RecvError::Lagged(_)) => self.behind = true,
                // Its reader has ended, with the server or by a panic.
                Err(RecvError::Closed) => {
                    tokio::time::sleep(PAUSE).await;
                    self.tail = listen(&self.parts, self.tenant);
                    self.behind = true;
                }
            }
        }
    }
}
