//! What resolvers read: waits for what the caller must see, then asks the read models.

use super::errors::{Code, error, internal};
use async_graphql::{Error, Result};
use daybook_domain::TenantId;
use daybook_projections::energy::live;
use daybook_projections::engine::{Lanes, Progress, WaitError};
use daybook_projections::read::Change;
use daybook_projections::{Projections, ReadError, ReadModel, Reader, Scope};
use daybook_store::database::{Database, DatabaseError};
use daybook_store::journal::Journal;
use lru::LruCache;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// How long a read waits for a write to show.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Operations that read at the same time.
const READERS_MAX: usize = 16;
/// Changes read at once for a subscription.
const CHANGES_MAX: u16 = 100;
/// Actors whose last write is remembered.
const ACTORS_MAX: NonZeroUsize = NonZeroUsize::new(50_000).unwrap();
/// SQLSTATE of a statement that ran into its timeout.
const CANCELED: &str = "57014";

/// The read side, shared by all requests.
pub struct Reads {
    reader: Reader,
    progress: Progress,
    /// Journal position of the last write of an actor on this node.
    last_writes: Mutex<LruCache<Uuid, (TenantId, u64)>>,
}

impl Reads {
    pub fn new(database: &Database, projections: &Projections) -> Self {
        let progress = projections.progress().clone();
        Reads {
            reader: Reader::new(database, READERS_MAX).keeping_to(progress.clone()),
            progress,
            last_writes: Mutex::new(LruCache::new(ACTORS_MAX)),
        }
    }

    /// Read transactions.
    pub(crate) fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Remembers a write, so that its author's next read shows it without being asked to.
    pub fn wrote(&self, actor: Uuid, tenant: TenantId, position: u64) {
        self.last_writes.lock().unwrap_or_else(PoisonError::into_inner).put(actor, (tenant, position));
    }

    /// Journal position of an actor's last write, whatever tenant it was in.
    pub(crate) fn last_write(&self, actor: Uuid) -> Option<u64> {
        let last = self.last_writes.lock().unwrap_or_else(PoisonError::into_inner).get(&actor).copied();
        last.map(|(_, position)| position)
    }

    /// Waits until these read models show a journal position.
    ///
    /// # Errors
    /// `STALE` when they do not in time.
    pub async fn wait(&self, models: &[&'static str], lanes: Lanes, position: u64) -> Result<()> {
        let deadline = Instant::now() + WAIT_MAX;
        for model in models {
            match self.progress.wait(model, lanes, position, deadline).await {
                Ok(()) => {}
                Err(WaitError::Unknown(name)) => return Err(internal(&WaitError::Unknown(name))),
                Err(parked @ WaitError::Parked { .. }) => {
                    tracing::warn!(reason = %parked, read_model = model, "a read did not see a write that is parked");
                    return Err(error(
                        Code::Stale,
                        "what was written cannot be shown at the moment: the write is safe and shows once its cause is mended",
                    ));
                }
                Err(late) => {
                    tracing::warn!(reason = %late, read_model = model, "a read did not see a write in time");
                    return Err(error(
                        Code::Stale,
                        "the read model is behind and did not catch up in time: the write is safe, read again later",
                    ));
                }
            }
        }
        Ok(())
    }

    /// Whether a read model leaves events of these tenants out for now.
    pub(crate) fn is_stale(&self, model: &str, lanes: Lanes) -> bool {
        self.progress.parked(model, lanes).is_ok_and(|streams| streams > 0)
    }

    /// The journal position of a position that the caller has from an answer; none for the beginning.
    ///
    /// # Errors
    /// `STALE` when it is not in the journal.
    pub(crate) async fn resolve(
        &self,
        journal: &Journal,
        tenant: TenantId,
        tenant_position: u64,
    ) -> Result<Option<u64>> {
        if tenant_position == 0 {
            return Ok(None);
        }
        match journal.resolve(tenant, tenant_position).await.map_err(|e| internal(&e))? {
            Some(position) => Ok(Some(position)),
            None => Err(error(Code::Stale, "this position is not in the journal yet: ask again later")),
        }
    }

    /// The journal position that all of these read models show of a tenant. All of it is durable.
    ///
    /// # Errors
    /// For a read model that does not run here, which is a defect.
    pub(crate) fn shown(&self, models: &[&'static str], tenant: TenantId) -> Result<u64> {
        let position = |model: &&'static str| self.progress.position(model, Lanes::Of(tenant));
        let positions = models.iter().map(position).collect::<Result<Vec<_>, _>>().map_err(|e| internal(&e))?;
        Ok(positions.into_iter().min().unwrap_or_default())
    }

    /// The tenant position from which on a new subscription to a read model has seen everything.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub(crate) async fn now<M: ReadModel>(&self, tenant: TenantId) -> Result<u64> {
        let session = self.reader.begin(Scope::Tenant(tenant)).await.map_err(failed)?;
        let now = session.changed_until::<M>(tenant).await.map_err(failed)?;
        session.finish().await.map_err(failed)?;
        Ok(now)
    }

    /// The next changes of a tenant after a tenant position; waits until there are some.
    ///
    /// # Errors
    /// `CURSOR_EXPIRED` when some are no longer kept.
    pub(crate) async fn next_changes<M: ReadModel>(&self, tenant: TenantId, after: u64) -> Result<Vec<Change<M::Row>>> {
        loop {
            // Taken before the look: what is committed in between is seen by the look or wakes us.
            let seen = self.progress.position(M::NAME, Lanes::Of(tenant)).map_err(|e| internal(&e))?;
            match self.changes::<M>(tenant, after).await {
                Ok(changes) if changes.is_empty() => {}
                Ok(changes) => return Ok(changes),
                Err(error) if error.passes() => {
                    // The server is on its way back, or its rows are; a subscription outlives that.
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    continue;
                }
                Err(error) => return Err(failed(error)),
            }
            self.progress.past(M::NAME, Lanes::Of(tenant), seen).await.map_err(|e| internal(&e))?;
        }
    }

    /// The tenant position from which on a new subscription to readings has seen everything.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub(crate) async fn head(&self, model: &'static str, tenant: TenantId) -> Result<u64> {
        let seen = self.progress.position(model, Lanes::Of(tenant)).map_err(|e| internal(&e))?;
        let head = self.reader.transaction(Scope::Tenant(tenant), async |s| live::head(s, tenant, seen).await);
        head.await.map_err(failed)
    }

    async fn changes<M: ReadModel>(&self, tenant: TenantId, after: u64) -> Result<Vec<Change<M::Row>>, ReadError> {
        let session = self.reader.begin(Scope::Tenant(tenant)).await?;
        let changes = session.changes_after::<M>(tenant, after, CHANGES_MAX).await?;
        session.finish().await?;
        Ok(changes)
    }
}

pub(crate) fn failed(failure: ReadError) -> Error {
    match &failure {
        ReadError::CursorExpired { .. } => error(
            Code::CursorExpired,
            "changes that old are no longer kept: read the present state, then subscribe from its position",
        ),
        ReadError::Parked { read_model } => {
            tracing::warn!(read_model, "a subscription waits for an event that cannot be applied");
            error(
                Code::Stale,
                "an event of the tenant cannot be shown at the moment, and what came after it not in order: subscribe again later, from the last position seen",
            )
        }
        ReadError::ForeignCursor => error(Code::BadUserInput, failure.to_string()),
        ReadError::TakenBack { read_model } => {
            tracing::warn!(read_model, "a crash of the database took rows back that are not there again yet");
            error(
                Code::Stale,
                "the database has crashed and does not show again yet what it has shown: what was written is safe, read again later",
            )
        }
        ReadError::NotBuilt(_) => error(Code::Unavailable, "the read model is being made: try again in a moment"),
        ReadError::Database(database) if database.is_connection() => {
            tracing::warn!(error = %database, "a read failed");
            error(Code::Unavailable, "the database is not available at the moment: try again")
        }
        ReadError::Database(DatabaseError::Query(query))
            if query.code().is_some_and(|code| code.code() == CANCELED) =>
        {
            tracing::warn!("a read took too long");
            error(Code::LimitExceeded, "the read took too long: narrow its filter by a field that few rows share")
        }
        ReadError::Database(_) | ReadError::Damaged { .. } => internal(&failure),
    }
}
