//! What is being recorded in a tenant, read once for all who listen: one reader per tenant follows the log and
//! hands each page to every subscriber.
//!
//! It remembers nothing. Who was too slow or comes from an earlier position reads the gap itself.

use super::Parts;
use daybook_domain::TenantId;
use daybook_projections::energy::live::{self, Page, Recorded};
use daybook_projections::{ReadError, Scope};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::broadcast::{self, error::RecvError};
use uuid::Uuid;

/// Pages that a subscriber may be behind before it reads for itself.
const BEHIND_MAX: usize = 64;
/// How long the database is left alone after an error.
const PAUSE: Duration = Duration::from_millis(200);

/// A stretch of a tenant's log.
struct Stretch {
    /// It begins after this tenant position.
    after: u64,
    page: Page,
}

/// The readers that are at work, by tenant.
#[derive(Default)]
pub struct Tails(Mutex<HashMap<TenantId, broadcast::Sender<Arc<Stretch>>>>);

impl Tails {
    fn lock(&self) -> MutexGuard<'_, HashMap<TenantId, broadcast::Sender<Arc<Stretch>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn listen(parts: &Arc<Parts>, tenant: TenantId) -> broadcast::Receiver<Arc<Stretch>> {
    let mut tails = parts.tails.lock();
    if let Some(sender) = tails.get(&tenant) {
        return sender.subscribe();
    }
    let (sender, receiver) = broadcast::channel(BEHIND_MAX);
    tails.insert(tenant, sender.clone());
    tokio::spawn(read(parts.clone(), tenant, sender));
    receiver
}

/// Follows the log for as long as anybody listens.
async fn read(parts: Arc<Parts>, tenant: TenantId, sender: broadcast::Sender<Arc<Stretch>>) {
    let mut durable = parts.executor.journal().durable();
    let mut after = None;
    loop {
        // Under the lock under which others begin to listen: nobody does so in between.
        let mut tails = parts.tails.lock();
        if sender.receiver_count() == 0 {
            tails.remove(&tenant);
            return;
        }
        drop(tails);
        let up_to = durable.borrow_and_update().position;
        let read = match after {
            None => head(&parts, tenant, up_to).await.map(|head| Page { recorded: vec![], up_to: head }),
            Some(after) => page(&parts, tenant, None, after, up_to).await,
        };
        match read {
            Ok(page) if after.is_none_or(|after| page.up_to > after) => {
                let begun = after.replace(page.up_to);
                if let Some(begun) = begun {
                    // Nobody may listen at the moment; the next look finds that out.
                    let _ = sender.send(Arc::new(Stretch { after: begun, page }));
                }
            }
            Ok(_) if durable.changed().await.is_ok() => {}
            Err(ReadError::Database(error)) if error.is_connection() => tokio::time::sleep(PAUSE).await,
            // The writer has ended, or an event cannot be read. Everybody reads for himself from here on, so that
            // whose device it is is told, and nobody else; the next reader begins after it.
            Ok(_) | Err(_) => {
                parts.tails.lock().remove(&tenant);
                return;
            }
        }
    }
}

async fn head(parts: &Parts, tenant: TenantId, up_to: u64) -> Result<u64, ReadError> {
    let reader = parts.reads.reader();
    reader.transaction(Scope::Tenant(tenant), async |session| live::head(session, tenant, up_to).await).await
}

async fn page(
    parts: &Parts,
    tenant: TenantId,
    device: Option<Uuid>,
    after: u64,
    up_to: u64,
) -> Result<Page, ReadError> {
    let read = parts.reads.reader().transaction(Scope::Tenant(tenant), async |session| {
        live::recorded_after(session, tenant, device, after, up_to).await
    });
    read.await
}

/// What a device records from a position on.
pub(crate) struct Listener {
    parts: Arc<Parts>,
    tenant: TenantId,
    device: Uuid,
    after: u64,
    tail: broadcast::Receiver<Arc<Stretch>>,
    /// Whether there is a gap between `after` and the tail.
    behind: bool,
    ready: VecDeque<Recorded>,
}

impl Listener {
    /// `after`: the tenant position of the last event that is known already.
    pub(crate) fn new(parts: Arc<Parts>, tenant: TenantId, device: Uuid, after: u64) -> Self {
        // Before the first look, so that whatever that look misses comes this way.
        let tail = listen(&parts, tenant);
        Listener { parts, tenant, device, after, tail, behind: true, ready: VecDeque::new() }
    }

    /// The next event of the device, in the order of the log, each once, and only what is durable.
    ///
    /// # Errors
    /// When an event cannot be read; a connection that fails is waited out.
    pub(crate) async fn next(&mut self) -> Result<Recorded, ReadError> {
        loop {
            if let Some(recorded) = self.ready.pop_front() {
                return Ok(recorded);
            }
            if self.behind {
                let up_to = self.parts.executor.journal().durable().borrow().position;
                match page(&self.parts, self.tenant, Some(self.device), self.after, up_to).await {
                    Ok(page) => {
                        self.behind = page.up_to > self.after;
                        self.after = page.up_to;
                        self.ready.extend(page.recorded);
                    }
                    Err(ReadError::Database(error)) if error.is_connection() => tokio::time::sleep(PAUSE).await,
                    Err(error) => return Err(error),
                }
                continue;
            }
            match self.tail.recv().await {
                Ok(stretch) if stretch.after > self.after => self.behind = true,
                Ok(stretch) => {
                    let (device, after) = (self.device, self.after);
                    let new =
                        stretch.page.recorded.iter().filter(|r| r.tenant_position > after && r.device() == device);
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
