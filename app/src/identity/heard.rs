//! What is heard of those who may come in: which streams have moved, and who waits to hear of it.
//!
//! Two tell it: the executor, of what this node has written, at once; and the journal's tail, of what any node has.

use daybook_domain::TenantId;
use daybook_store::journal::StreamId;
use daybook_store::journal::StreamKey;
use daybook_store::journal::recent::Recent;
use lru::LruCache;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Streams whose last version is remembered.
const REMEMBERED_MAX: NonZeroUsize = NonZeroUsize::new(200_000).unwrap();
/// Events that are looked at together.
const PAGE: u64 = 500;
/// How long the database is left alone after an error.
const PAUSE: Duration = Duration::from_millis(100);
/// After so many new listeners it is looked who has left.
const LOOK_ROUND: usize = 1_024;

/// The types of streams that say who may come in and as what.
const KINDS: &[&str] = &["session", "account", "membership", "service", "tenant"];

/// What was heard last of each stream. Of whom nothing is known, anything may have been heard.
struct Versions {
    last: LruCache<StreamKey, u64>,
    /// How many were forgotten to make room.
    forgotten: u64,
}

impl Versions {
    fn raise(&mut self, key: &StreamKey, version: u64) {
        if let Some(known) = self.last.get_mut(key) {
            *known = (*known).max(version);
            return;
        }
        self.forgotten += u64::from(self.last.len() == self.last.cap().get());
        self.last.put(key.clone(), version);
    }
}

/// Before a stream is read: what was heard of it, and a mark for [`Heard::read`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Due {
    /// Nothing where it is not remembered: then what is kept of the stream proves nothing.
    pub(super) version: Option<u64>,
    forgotten: u64,
}

#[derive(Default)]
struct Listeners {
    by_stream: HashMap<StreamKey, watch::Sender<u64>>,
    since_look: usize,
}

/// Shared by all who tell and all who listen.
pub struct Heard {
    versions: Mutex<Versions>,
    listeners: Mutex<Listeners>,
    /// Whether the tail tells everything from now on; before, nothing that was read may be kept.
    following: AtomicBool,
}

impl Default for Heard {
    fn default() -> Self {
        Heard::remembering(REMEMBERED_MAX)
    }
}

impl Heard {
    fn remembering(streams: NonZeroUsize) -> Self {
        let versions = Mutex::new(Versions { last: LruCache::new(streams), forgotten: 0 });
        Heard { versions, listeners: Mutex::default(), following: AtomicBool::new(false) }
    }

    fn versions(&self) -> MutexGuard<'_, Versions> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listeners(&self) -> MutexGuard<'_, Listeners> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A stream has so many events by now.
    pub fn tell(&self, key: &StreamKey, version: u64) {
        if !KINDS.contains(&key.stream.kind) {
            return;
        }
        self.versions().raise(key, version);
        if let Some(listeners) = self.listeners().by_stream.get(key) {
            listeners.send_if_modified(|known| std::mem::replace(known, version.max(*known)) < version);
        }
    }

    /// How many events a stream has at least, if that is remembered.
    pub(super) fn due(&self, key: &StreamKey) -> Due {
        let mut versions = self.versions();
        Due { version: versions.last.get(key).copied(), forgotten: versions.forgotten }
    }

    /// A stream was read, to this version, after that look: from now on it is remembered.
    pub(super) fn read(&self, key: &StreamKey, version: u64, since: Due) {
        let mut versions = self.versions();
        // What was told of it meanwhile may be what was forgotten.
        if versions.forgotten == since.forgotten {
            versions.raise(key, version);
        }
    }

    /// Whether everything is heard from now on.
    pub fn is_following(&self) -> bool {
        self.following.load(Ordering::Acquire)
    }

    /// Hears of what comes after this call.
    pub(super) fn listen(&self, key: StreamKey) -> watch::Receiver<u64> {
        let mut listeners = self.listeners();
        listeners.since_look += 1;
        if listeners.since_look >= LOOK_ROUND {
            listeners.since_look = 0;
            listeners.by_stream.retain(|_, sender| sender.receiver_count() > 0);
        }
        listeners.by_stream.entry(key).or_insert_with(|| watch::channel(0).0).subscribe()
    }
}

/// Follows the journal for as long as the node runs. May be aborted at any time.
pub fn follow(heard: Arc<Heard>, recent: Recent) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut durable = recent.durable().clone();
        // Before the writer's first word, "from now on" would be from the beginning.
        if durable.wait_for(|durable| durable.position > 0).await.is_err() {
            return;
        }
        let mut follower = recent.follow_from_now(PAGE).only(is_of_somebody);
        heard.following.store(true, Ordering::Release);
        loop {
            let events = match follower.next().await {
                Ok(events) => events,
                Err(error) => {
                    tracing::debug!(%error, "who may come in is heard of later");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            for event in events {
                if let Some(key) = key_of(event.tenant, &event.stream_type, event.stream_id) {
                    heard.tell(&key, event.sequence);
                }
            }
        }
    })
}

fn is_of_somebody(event_type: &str) -> bool {
    event_type
        .strip_prefix("platform.")
        .and_then(|rest| rest.split_once('.'))
        .is_some_and(|(kind, _)| KINDS.contains(&kind))
}

fn key_of(tenant: TenantId, kind: &str, id: uuid::Uuid) -> Option<StreamKey> {
    let kind = KINDS.iter().find(|known| **known == kind)?;
    Some(StreamKey { tenant, stream: StreamId { kind, id } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use daybook_domain::PLATFORM_TENANT;
    use uuid::Uuid;

    fn key(n: u128) -> StreamKey {
        StreamKey { tenant: PLATFORM_TENANT, stream: StreamId { kind: "session", id: Uuid::from_u128(n) } }
    }

    #[test]
    fn who_listens_hears_of_what_is_newer_and_of_nothing_else() {
        let heard = Heard::default();
        let mut one = heard.listen(key(1));
        heard.tell(&key(2), 5);
        assert!(!one.has_changed().expect("open"));
        heard.tell(&key(1), 2);
        assert!(one.has_changed().expect("open"));
        one.borrow_and_update();
        // Told twice, by the executor and by the tail.
        heard.tell(&key(1), 2);
        heard.tell(&key(1), 1);
        assert!(!one.has_changed().expect("open"));
        assert_eq!([1, 2, 3].map(|n| heard.due(&key(n)).version), [Some(2), Some(5), None]);
    }

    #[test]
    fn what_was_told_and_forgotten_is_not_known_rather_than_nothing() {
        let heard = Heard::remembering(NonZeroUsize::new(3).unwrap());
        let early = heard.due(&key(1));
        heard.read(&key(1), 1, early);
        assert_eq!(heard.due(&key(1)).version, Some(1));
        // It ends, and many others are heard of.
        heard.tell(&key(1), 2);
        for n in 2..=4 {
            heard.tell(&key(n), 1);
        }
        assert_eq!(heard.due(&key(1)).version, None, "whatever is kept of it must be read again");
        // Somebody has read it before its end was told, and is late.
        heard.read(&key(1), 1, early);
        assert_eq!(heard.due(&key(1)).version, None, "its end may be what was forgotten");
        let late = heard.due(&key(1));
        heard.read(&key(1), 2, late);
        assert_eq!(heard.due(&key(1)).version, Some(2));
    }

    #[test]
    fn who_has_left_is_forgotten() {
        let heard = Heard::default();
        for n in 0..3 * LOOK_ROUND {
            drop(heard.listen(key(n as u128)));
        }
        assert!(heard.listeners().by_stream.len() <= LOOK_ROUND);
    }

    #[test]
    fn only_events_of_somebody_are_looked_at() {
        for wanted in [
            "platform.session.ended",
            "platform.account.deactivated",
            "platform.service.key_revoked",
            "platform.tenant.suspended",
        ] {
            assert!(is_of_somebody(wanted), "{wanted}");
        }
        for other in ["platform.module.enabled", "energy.readings.recorded", "platform.sessions", "session.ended"] {
            assert!(!is_of_somebody(other), "{other}");
        }
    }
}
