//! The last events of the journal, read once for every follower on this node.
//!
//! Each read model, the relay and whoever else follows the journal wants the same events at the same moment.
//! One session reads them as they become durable; followers at the head take them from here, and who is
//! further behind reads for himself.

use super::driver::Durable;
use super::follow::{Follower, Source};
use super::recorded::RecordedEvent;
use crate::database::Database;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Events per read.
const PAGE: u64 = 500;
/// What is kept: so many events and so many bytes of payload and metadata, whichever is less.
const EVENTS_MAX: usize = 8_192;
const BYTES_MAX: usize = 32 << 20;
/// How long the database is left alone after an error.
const PAUSE: Duration = Duration::from_millis(200);

/// A shared handle; cloning is cheap.
#[derive(Clone)]
pub struct Recent {
    database: Arc<Database>,
    ring: Arc<Mutex<Ring>>,
    head: watch::Receiver<u64>,
    durable: watch::Receiver<Durable>,
}

impl Recent {
    /// Begins to read at what is durable when the first word of the writer comes. The task goes on until it is
    /// aborted, which may happen at any time.
    pub fn start(database: Database, durable: watch::Receiver<Durable>) -> (Recent, JoinHandle<()>) {
        let ring = Arc::new(Mutex::new(Ring::default()));
        let (head, seen) = watch::channel(0);
        let recent =
            Recent { database: Arc::new(database.clone()), ring: ring.clone(), head: seen, durable: durable.clone() };
        (recent, tokio::spawn(keep(database, durable, ring, head)))
    }

    /// Follows from what is durable now on, so many events at a time.
    pub fn follow_from_now(&self, page: u64) -> Follower {
        let now = self.durable.borrow().position;
        Follower::new(Database::clone(&self.database), Source::Recent(self.clone()), now, page)
    }

    /// The last position that was read, 0 before the first.
    pub(super) fn head(&mut self) -> u64 {
        *self.head.borrow_and_update()
    }

    pub fn durable(&self) -> &watch::Receiver<Durable> {
        &self.durable
    }

    /// Waits until something after a position has been read (`true`), or has been durable for so long that
    /// it ought to have been (`false`). `None` when neither will ever be.
    pub(super) async fn past(&mut self, position: u64, patience: Duration) -> Option<bool> {
        let durable = &mut self.durable;
        let overdue = async {
            durable.wait_for(|durable| durable.position > position).await.ok()?;
            tokio::time::sleep(patience).await;
            Some(false)
        };
        tokio::select! {
            biased;
            read = self.head.wait_for(|head| *head > position) => if read.is_ok() {
                return Some(true);
            },
            overdue = overdue => return overdue,
        }
        // Nobody reads any more; the writer's word still counts.
        self.durable.wait_for(|durable| durable.position > position).await.ok().map(|_| false)
    }

    /// The events after a position, at most `limit`, those left out that are not wanted, and the position of
    /// the last one looked at. `None` when it is no longer, or not yet, here.
    pub(super) fn after(
        &self,
        position: u64,
        limit: u64,
        wanted: fn(&str) -> bool,
    ) -> Option<(u64, Vec<RecordedEvent>)> {
        let pages = lock(&self.ring).after(position)?;
        let up_to = position.saturating_add(limit);
        let mut last = position;
        let mut events = Vec::new();
        for event in pages.iter().flat_map(|page| page.iter()) {
            if event.position > up_to {
                break;
            }
            if event.position > position {
                last = event.position;
                if wanted(&event.event_type) {
                    events.push(event.clone());
                }
            }
        }
        (last > position).then_some((last, events))
    }
}

fn lock(ring: &Mutex<Ring>) -> MutexGuard<'_, Ring> {
    ring.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn keep(
    database: Database,
    mut durable: watch::Receiver<Durable>,
    ring: Arc<Mutex<Ring>>,
    head: watch::Sender<u64>,
) {
    if durable.wait_for(|durable| durable.position > 0).await.is_err() {
        return;
    }
    let source = Source::Writer(durable.clone());
    let begin = |after| Follower::new(database.clone(), source.clone(), after, PAGE);
    let at = durable.borrow().position;
    let mut follower = begin(at);
    head.send_replace(at);
    loop {
        match follower.next().await {
            Ok(page) => {
                lock(&ring).push(page.into());
                head.send_replace(follower.position());
            }
            Err(error) => {
                // Followers that wait for this read for themselves meanwhile, and tell what is wrong.
                tracing::debug!(%error, "recent events cannot be read");
                tokio::time::sleep(PAUSE).await;
            }
        }
        let at = durable.borrow().position;
        if at.saturating_sub(follower.position()) > EVENTS_MAX as u64 {
            // Too far behind to be of use to anybody at the head.
            lock(&ring).clear();
            follower = begin(at);
            head.send_replace(at);
        }
    }
}

/// Pages that follow each other without a gap, oldest first.
#[derive(Default)]
struct Ring {
    pages: VecDeque<Arc<[RecordedEvent]>>,
    events: usize,
    bytes: usize,
}

impl Ring {
    fn push(&mut self, page: Arc<[RecordedEvent]>) {
        self.events += page.len();
        self.bytes += size(&page);
        self.pages.push_back(page);
        while self.events > EVENTS_MAX || self.bytes > BYTES_MAX {
            let Some(page) = self.pages.pop_front() else { return };
            self.events -= page.len();
            self.bytes -= size(&page);
        }
    }

    fn clear(&mut self) {
        *self = Ring::default();
    }

    /// The pages from the one on that continues after a position.
    fn after(&self, position: u64) -> Option<Vec<Arc<[RecordedEvent]>>> {
        let first = self.pages.front()?.first()?.position;
        if position + 1 < first {
            return None;
        }
        let from = self.pages.partition_point(|page| page.last().is_none_or(|event| event.position <= position));
        Some(self.pages.iter().skip(from).cloned().collect())
    }
}

fn size(page: &[RecordedEvent]) -> usize {
    page.iter().map(|event| event.payload.len() + event.metadata.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, Utc};
    use daybook_domain::TenantId;
    use uuid::Uuid;

    fn page(positions: std::ops::RangeInclusive<u64>, bytes: usize) -> Arc<[RecordedEvent]> {
        let event = |position| RecordedEvent {
            position,
            tenant: TenantId(Uuid::nil()),
            tenant_position: position,
            stream_type: "thing".into(),
            stream_id: Uuid::nil(),
            sequence: position,
            event_id: Uuid::nil(),
            event_type: if position.is_multiple_of(2) { "even" } else { "odd" }.into(),
            event_version: 1,
            recorded_at: DateTime::<Utc>::UNIX_EPOCH,
            payload: "x".repeat(bytes),
            metadata: String::new(),
        };
        positions.map(event).collect()
    }

    fn recent(pages: impl IntoIterator<Item = Arc<[RecordedEvent]>>) -> Recent {
        let mut ring = Ring::default();
        pages.into_iter().for_each(|page| ring.push(page));
        let durable = watch::channel(Durable::default()).1;
        let database = Arc::new(Database::on_socket(std::path::Path::new("/nowhere"), 1, "nobody", "none"));
        Recent { database, ring: Arc::new(Mutex::new(ring)), head: watch::channel(0).1, durable }
    }

    fn positions(found: Option<(u64, Vec<RecordedEvent>)>) -> Option<(u64, Vec<u64>)> {
        found.map(|(last, events)| (last, events.iter().map(|event| event.position).collect()))
    }

    #[test]
    fn hands_out_what_follows_a_position_whatever_page_it_is_in() {
        let recent = recent([page(11..=13, 1), page(14..=14, 1), page(15..=18, 1)]);
        assert_eq!(positions(recent.after(9, 100, |_| true)), None, "10 is no longer here");
        assert_eq!(positions(recent.after(10, 3, |_| true)), Some((13, vec![11, 12, 13])));
        assert_eq!(positions(recent.after(12, 4, |_| true)), Some((16, vec![13, 14, 15, 16])));
        assert_eq!(positions(recent.after(17, 100, |_| true)), Some((18, vec![18])));
        assert_eq!(positions(recent.after(18, 100, |_| true)), None, "nothing yet");
    }

    #[test]
    fn tells_how_far_it_looked_also_when_nothing_is_wanted() {
        let recent = recent([page(1..=4, 1)]);
        assert_eq!(positions(recent.after(0, 100, |of| of == "even")), Some((4, vec![2, 4])));
        assert_eq!(positions(recent.after(0, 100, |of| of == "none")), Some((4, vec![])));
    }

    #[test]
    fn forgets_the_oldest_when_there_is_too_much() {
        let mut ring = Ring::default();
        for n in 0..40u64 {
            ring.push(page(n * 1_000 + 1..=(n + 1) * 1_000, 1));
            assert!(ring.events <= EVENTS_MAX);
        }
        assert_eq!(ring.pages.front().unwrap()[0].position, 32_001);
        ring.push(page(40_001..=40_001, BYTES_MAX - 100));
        assert_eq!((ring.pages.len(), ring.events), (1, 1));
        ring.push(page(40_002..=40_002, BYTES_MAX + 1));
        assert_eq!((ring.pages.len(), ring.events, ring.bytes), (0, 0, 0), "one that is too large is not kept");
        ring.push(page(40_003..=40_004, 1));
        assert!(ring.after(40_001).is_none(), "there is a gap before it");
        assert_eq!(ring.after(40_002).unwrap().len(), 1);
    }
}
