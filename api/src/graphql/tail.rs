//! What is being recorded, told to all who listen: one teller for the node follows the journal and hands each tenant's
//! events to that tenant's listeners, however many tenants there are. Readings and events of any kind have a teller
//! each, since the ones are decoded and the others only described.
//!
//! It remembers nothing. Who was too slow or comes from an earlier position reads the gap itself.

use super::Parts;
use daybook_domain::TenantId;
use daybook_projections::energy::live;
use daybook_projections::{ReadError, Scope};
use daybook_store::journal::RecordedEvent;
use daybook_store::journal::follow::Follower;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::{Instant, timeout_at};

/// Events that are told at once, of all tenants.
const TOLD_MAX: u64 = 500;
/// After so many tellings it is looked who has left.
const LOOK_ROUND: u32 = 64;
/// Pages that a subscriber may be behind before it reads for itself.
const BEHIND_MAX: usize = 64;
/// Of no account: who waits that long waits on.
const LONG: Duration = Duration::from_secs(60 * 60);
/// How long the database is left alone after an error.
pub(crate) const PAUSE: Duration = Duration::from_millis(200);

/// Something of a tenant's log that can be listened to.
pub(crate) trait Heard: Clone + Send + Sync + Sized + 'static {
    /// Which of it.
    type Wish: Send + Sync;
    /// Tenant positions of a page that is not the last one.
    const PAGE: u64;

    fn listeners(parts: &Parts) -> &Listeners<Self>;

    /// The next page of what is wished for after a tenant position, no further than a journal position.
    fn page(
        parts: &Parts,
        tenant: TenantId,
        wish: &Self::Wish,
        after: u64,
        up_to: u64,
    ) -> impl Future<Output = Result<Page<Self>, ReadError>> + Send;

    /// What is to be told of events of a tenant, in their order.
    ///
    /// # Errors
    /// When one cannot be read.
    fn of(tenant: TenantId, events: Vec<RecordedEvent>) -> Result<Vec<Self>, ReadError>;

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

type Sender<T> = broadcast::Sender<Arc<Stretch<T>>>;

struct Hall<T> {
    by_tenant: HashMap<TenantId, Sender<T>>,
    /// Whether somebody tells.
    told: bool,
}

/// Who listens, by tenant.
pub(crate) struct Listeners<T>(Mutex<Hall<T>>);

/// Who listens, by what is told.
#[derive(Default)]
pub struct Tails {
    pub(crate) readings: Listeners<live::Recorded>,
    pub(crate) events: Listeners<super::audit::events::HeardEvent>,
}

impl<T> Default for Listeners<T> {
    fn default() -> Self {
        Listeners(Mutex::new(Hall { by_tenant: HashMap::new(), told: false }))
    }
}

impl<T> Listeners<T> {
    fn lock(&self) -> MutexGuard<'_, Hall<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn listen<T: Heard>(parts: &Arc<Parts>, tenant: TenantId) -> broadcast::Receiver<Arc<Stretch<T>>> {
    let mut hall = T::listeners(parts).lock();
    let receiver = match hall.by_tenant.get(&tenant) {
        Some(sender) => sender.subscribe(),
        None => {
            let (sender, receiver) = broadcast::channel(BEHIND_MAX);
            hall.by_tenant.insert(tenant, sender);
            receiver
        }
    };
    if !std::mem::replace(&mut hall.told, true) {
        // From what is durable now: whoever listens looks for himself after this, and finds all of that.
        tokio::spawn(tell::<T>(parts.clone(), parts.recent.follow_from_now(TOLD_MAX)));
    }
    receiver
}

/// Tells for as long as anybody listens.
async fn tell<T: Heard>(parts: Arc<Parts>, mut follower: Follower) {
    let mut teller = Teller { listeners: T::listeners(&parts), over: false };
    for round in 1u32.. {
        let events = match follower.next().await {
            Ok(events) => events,
            Err(error) => {
                tracing::debug!(%error, "who listens is told later");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let mut by_tenant: HashMap<TenantId, Vec<RecordedEvent>> = HashMap::new();
        {
            let mut hall = teller.listeners.lock();
            if round.is_multiple_of(LOOK_ROUND) {
                hall.by_tenant.retain(|_, sender| sender.receiver_count() > 0);
            }
            if hall.by_tenant.is_empty() {
                // Under the lock under which others begin to listen: nobody does so in between.
                hall.told = false;
                teller.over = true;
                return;
            }
            for event in events.into_iter().filter(|event| hall.by_tenant.contains_key(&event.tenant)) {
                by_tenant.entry(event.tenant).or_default().push(event);
            }
        }
        for (tenant, events) in by_tenant {
            let (Some(first), Some(last)) = (events.first(), events.last()) else { continue };
            let (after, up_to) = (first.tenant_position - 1, last.tenant_position);
            let told = T::of(tenant, events);
            let mut hall = teller.listeners.lock();
            match told {
                Ok(heard) => {
                    if let Some(sender) = hall.by_tenant.get(&tenant) {
                        // Nobody may listen at the moment.
                        let _ = sender.send(Arc::new(Stretch { after, page: Page { heard, up_to } }));
                    }
                }
                // Everybody reads for himself across it, so that whose event it is is told, and nobody else.
                Err(_) => drop(hall.by_tenant.remove(&tenant)),
            }
        }
    }
}

/// Leaves nobody listening in vain, should telling end by a panic.
struct Teller<'a, T> {
    listeners: &'a Listeners<T>,
    /// As it should be: nobody listens.
    over: bool,
}

impl<T> Drop for Teller<'_, T> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let mut hall = self.listeners.lock();
        hall.told = false;
        hall.by_tenant.clear();
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

    /// The next of what is wanted, in the order of the log, each once, and only what is durable.
    ///
    /// # Errors
    /// When an event cannot be read; a connection that fails is waited out.
    pub(crate) async fn next(&mut self) -> Result<T, ReadError> {
        loop {
            if let Some(heard) = self.next_within(LONG).await? {
                return Ok(heard);
            }
        }
    }

    /// As [`Listener::next`]; `None` when there is nothing in that time. A page that is being read is waited for
    /// nevertheless: given up, it would be begun again, and where reading is slow nobody would get on.
    pub(crate) async fn next_within(&mut self, time: Duration) -> Result<Option<T>, ReadError> {
        let deadline = Instant::now() + time;
        loop {
            if let Some(heard) = self.ready.pop_front() {
                return Ok(Some(heard));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            if self.behind {
                let up_to = self.parts.executor.journal().durable().borrow().position;
                match T::page(&self.parts, self.tenant, &self.wish, self.after, up_to).await {
                    Ok(page) => {
                        // What comes meanwhile comes by the tail, or it shows there that something is missing: who
                        // read on until nothing is found would read for itself for as long as others write.
                        self.behind = page.up_to >= self.after.saturating_add(T::PAGE);
                        self.after = page.up_to;
                        self.ready.extend(page.heard);
                    }
                    Err(error) if error.passes() => tokio::time::sleep(PAUSE).await,
                    Err(error) => return Err(error),
                }
                continue;
            }
            let Ok(received) = timeout_at(deadline, self.tail.recv()).await else { return Ok(None) };
            match received {
                Ok(stretch) if stretch.after > self.after => self.behind = true,
                Ok(stretch) => {
                    let (wish, after) = (&self.wish, self.after);
                    let new = stretch.page.heard.iter().filter(|h| h.tenant_position() > after && h.is_wanted(wish));
                    self.ready.extend(new.cloned());
                    self.after = self.after.max(stretch.page.up_to);
                }
                Err(RecvError::Lagged(_)) => self.behind = true,
                // An event that cannot be read, or the server ends.
                Err(RecvError::Closed) => {
                    tokio::time::sleep(PAUSE).await;
                    self.tail = listen(&self.parts, self.tenant);
                    self.behind = true;
                }
            }
        }
    }
}
