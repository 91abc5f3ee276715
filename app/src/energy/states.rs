//! States of many streams at once: from memory, and the rest in one look-up.

use super::IngestError;
use crate::cache::{Cache, Cached};
use crate::executor::Executor;
use daybook_domain::{EventSourced, TenantId};
use daybook_store::journal::{Seen, StreamId, StreamKey};
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

/// The states of streams of one kind. They may not be durable yet.
pub(super) async fn states<A>(
    executor: &Executor,
    cache: &Cache,
    tenant: TenantId,
    ids: impl Iterator<Item = Uuid>,
) -> Result<HashMap<Uuid, Arc<Cached<A>>>, IngestError>
where
    A: EventSourced + Send + Sync + 'static,
{
    let epoch = executor.journal.epoch();
    let mut found = HashMap::new();
    let mut missing = Vec::new();
    for id in ids {
        let key = key::<A>(tenant, id);
        match cache.get::<A>(&key).filter(|cached| Some(cached.seen.epoch) == epoch) {
            Some(cached) => {
                found.insert(id, cached);
            }
            None => missing.push(key.stream),
        }
    }
    if missing.is_empty() {
        return Ok(found);
    }
    let (seen, loaded) = executor.journal.load_many(tenant, &missing).await?;
    for (stream, events) in missing.into_iter().zip(loaded) {
        let version = events.last().map_or(0, |event| event.sequence);
        let mut state = A::default();
        for event in &events {
            executor.decode::<A::Event>(event).await?.into_iter().for_each(|event| state.apply(event));
        }
        let cached = Arc::new(Cached { state, version, seen });
        found.insert(stream.id, cached.clone());
        cache.put(StreamKey { tenant, stream }, cached);
    }
    Ok(found)
}

pub(super) fn key<A: EventSourced>(tenant: TenantId, id: Uuid) -> StreamKey {
    StreamKey { tenant, stream: StreamId { kind: A::TYPE, id } }
}

/// The earliest of several moments, which vouches for all that was seen then or later; none across epochs.
pub(super) fn earliest(moments: impl Iterator<Item = Seen>) -> Result<Option<Seen>, ()> {
    let mut earliest: Option<Seen> = None;
    for seen in moments {
        match earliest {
            Some(known) if known.epoch != seen.epoch => return Err(()),
            Some(known) if known.batch <= seen.batch => {}
            Some(_) | None => earliest = Some(seen),
        }
    }
    Ok(earliest)
}
