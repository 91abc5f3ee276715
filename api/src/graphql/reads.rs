//! What resolvers read: waits for what the caller must see, then asks the read models.

use super::errors::{Code, error, internal};
use super::opaque::Opaque;
use async_graphql::{Enum, Error, InputObject, Result};
use daybook_domain::TenantId;
use daybook_projections::engine::{Lanes, Progress, WaitError};
use daybook_projections::platform::tenants::{self, TenantCursor, TenantOrder, TenantOrderBy, Tenants};
use daybook_projections::read::{Change, Direction, Page};
use daybook_projections::{Projections, ReadError, ReadModel, Reader, Scope};
use daybook_store::database::Database;
use daybook_store::journal::Journal;
use lru::LruCache;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

pub use daybook_projections::platform::tenants::TenantRow;

/// How long a read waits for a write to show.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Operations that read at the same time.
const READERS_MAX: usize = 16;
/// Changes read at once for a subscription.
const CHANGES_MAX: u16 = 100;
/// Actors whose last write is remembered.
const ACTORS_MAX: NonZeroUsize = NonZeroUsize::new(50_000).unwrap();

/// What to sort tenants by.
#[derive(Enum, Clone, Copy, PartialEq, Eq, Debug, Default)]
#[graphql(name = "TenantOrderField")]
pub enum OrderField {
    #[default]
    RegisteredAt,
    /// Upper and lower case alike.
    Name,
}

#[derive(Enum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OrderDirection {
    #[default]
    Asc,
    Desc,
}

#[derive(InputObject, Clone, Copy, Default)]
#[graphql(name = "TenantOrder")]
pub struct Order {
    /// What to sort by.
    #[graphql(default)]
    pub field: OrderField,
    #[graphql(default)]
    pub direction: OrderDirection,
}

impl Order {
    fn list(self) -> String {
        format!("tenants v1 {:?} {:?}", self.field, self.direction)
    }

    fn order(self) -> TenantOrder {
        TenantOrder {
            by: match self.field {
                OrderField::RegisteredAt => TenantOrderBy::RegisteredAt,
                OrderField::Name => TenantOrderBy::Name,
            },
            direction: match self.direction {
                OrderDirection::Asc => Direction::Ascending,
                OrderDirection::Desc => Direction::Descending,
            },
        }
    }
}

/// Relay's four arguments, checked.
pub struct PageArgs {
    count: u16,
    from_end: bool,
    after: Option<String>,
    before: Option<String>,
}

const PAGE_DEFAULT: u16 = 50;
const PAGE_MAX: i32 = 200;

impl PageArgs {
    /// # Errors
    /// `BAD_USER_INPUT` that names the argument.
    pub fn new(first: Option<i32>, after: Option<String>, last: Option<i32>, before: Option<String>) -> Result<Self> {
        let count = |name: &str, count: i32| {
            u16::try_from(count).ok().filter(|n| (1..=PAGE_MAX).contains(&i32::from(*n))).ok_or_else(|| {
                error(
                    Code::BadUserInput,
                    format!("{name} is {count}: ask for 1 to {PAGE_MAX} and use the cursors for more"),
                )
            })
        };
        let (count, from_end) = match (first, last) {
            (Some(_), Some(_)) => {
                return Err(error(Code::BadUserInput, "first and last exclude each other: give one of them"));
            }
            (Some(first), None) => (count("first", first)?, false),
            (None, Some(last)) => (count("last", last)?, true),
            (None, None) => (PAGE_DEFAULT, false),
        };
        Ok(PageArgs { count, from_end, after, before })
    }
}

pub struct TenantPage {
    pub rows: Vec<(String, TenantRow)>,
    pub has_previous: bool,
    pub has_next: bool,
}

/// The read side, shared by all requests.
pub struct Reads {
    reader: Reader,
    progress: Progress,
    /// Journal position of the last write of an actor on this node.
    last_writes: Mutex<LruCache<Uuid, (TenantId, u64)>>,
}

impl Reads {
    pub fn new(database: &Database, projections: &Projections) -> Self {
        Reads {
            reader: Reader::new(database, READERS_MAX),
            progress: projections.progress().clone(),
            last_writes: Mutex::new(LruCache::new(ACTORS_MAX)),
        }
    }

    /// Remembers a write, so that its author's next read shows it without being asked to.
    pub fn wrote(&self, actor: Uuid, tenant: TenantId, position: u64) {
        self.last_writes.lock().unwrap_or_else(PoisonError::into_inner).put(actor, (tenant, position));
    }

    /// Waits until one tenant's rows show a journal position.
    ///
    /// # Errors
    /// `STALE` when they do not in time.
    pub async fn wait(&self, tenant: TenantId, position: u64) -> Result<()> {
        self.wait_lanes(Lanes::Of(tenant), position).await
    }

    /// Waits for the caller's own last write.
    ///
    /// # Errors
    /// `STALE`.
    pub async fn wait_for_own_writes(&self, actor: Uuid) -> Result<()> {
        let last = self.last_writes.lock().unwrap_or_else(PoisonError::into_inner).get(&actor).copied();
        match last {
            Some((tenant, position)) => self.wait(tenant, position).await,
            None => Ok(()),
        }
    }

    /// Waits for a position that the caller has from an answer.
    ///
    /// # Errors
    /// `STALE` when it does not show in time.
    pub async fn wait_for_tenant_position(
        &self,
        journal: &Journal,
        tenant: TenantId,
        tenant_position: u64,
    ) -> Result<()> {
        if tenant_position == 0 {
            return Ok(());
        }
        match journal.resolve(tenant, tenant_position).await.map_err(|e| internal(&e))? {
            Some(position) => self.wait(tenant, position).await,
            None => Err(error(Code::Stale, "this position is not in the journal yet: ask again later")),
        }
    }

    async fn wait_lanes(&self, lanes: Lanes, position: u64) -> Result<()> {
        match self.progress.wait(Tenants::NAME, lanes, position, Instant::now() + WAIT_MAX).await {
            Ok(()) => Ok(()),
            Err(WaitError::Unknown(name)) => Err(internal(&WaitError::Unknown(name))),
            Err(late) => {
                tracing::warn!(reason = %late, "a read did not see a write in time");
                Err(error(
                    Code::Stale,
                    "the read model is behind and did not catch up in time: the write is safe, read again later",
                ))
            }
        }
    }

    /// One tenant's row.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn tenant(&self, tenant: TenantId) -> Result<Option<TenantRow>> {
        self.reader
            .transaction(Scope::Tenant(tenant), async |session| tenants::tenant(session, tenant).await)
            .await
            .map_err(failed)
    }

    /// A page of all tenants. The caller must be the platform's.
    ///
    /// # Errors
    /// `BAD_USER_INPUT` for a cursor that is not of this list.
    pub async fn tenants(&self, opaque: &Opaque, args: PageArgs, order: Order) -> Result<TenantPage> {
        let cursor = |name: &str, text: Option<String>| -> Result<Option<TenantCursor>> {
            let Some(text) = text else { return Ok(None) };
            let refused = |why: String| error(Code::BadUserInput, format!("{name} cannot be used: {why}"));
            let key = opaque.read_cursor(&order.list(), &text).map_err(|e| refused(e.to_string()))?;
            serde_json::from_slice(&key)
                .map(Some)
                .map_err(|_| refused("it is of an older version; begin again without it".into()))
        };
        let (after, before) = (cursor("after", args.after)?, cursor("before", args.before)?);
        let mut page = if args.from_end { Page::last(args.count, None) } else { Page::first(args.count, None) };
        (page.after, page.before) = (after, before);
        let slice = self
            .reader
            .transaction(Scope::Platform, async |session| tenants::page(session, order.order(), &page).await)
            .await
            .map_err(failed)?;
        let by = order.order().by;
        let rows = slice
            .rows
            .into_iter()
            .map(|row| {
                let key = serde_json::to_vec(&row.cursor(by)).map_err(|e| internal(&e))?;
                Ok((opaque.cursor(&order.list(), &key), row))
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(TenantPage { rows, has_previous: slice.has_previous, has_next: slice.has_next })
    }

    /// # Errors
    /// When the database cannot be asked.
    pub async fn count_tenants(&self) -> Result<u64> {
        self.reader.transaction(Scope::Platform, async |session| tenants::count(session).await).await.map_err(failed)
    }

    /// The tenant position from which on a new subscription has seen everything.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn now(&self, tenant: TenantId) -> Result<u64> {
        let row = self.tenant(tenant).await?;
        Ok(row.map_or(0, |row| u64::try_from(row.tenant_position).unwrap_or_default()))
    }

    /// The next changes of a tenant after a tenant position; waits until there are some.
    ///
    /// # Errors
    /// `CURSOR_EXPIRED` when some are no longer kept.
    pub async fn next_changes(&self, tenant: TenantId, after: u64) -> Result<Vec<Change<TenantRow>>> {
        loop {
            // Taken before the look: what is committed in between is seen by the look or wakes us.
            let seen = self.progress.position(Tenants::NAME, Lanes::Of(tenant)).map_err(|e| internal(&e))?;
            let read = self
                .reader
                .transaction(Scope::Tenant(tenant), async |session| {
                    session.changes_after::<Tenants>(tenant, after, CHANGES_MAX).await
                })
                .await;
            match read {
                Ok(changes) if changes.is_empty() => {}
                Ok(changes) => return Ok(changes),
                Err(ReadError::Database(error)) if error.is_connection() => {
                    // The server is on its way back; a subscription outlives that.
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    continue;
                }
                Err(error) => return Err(failed(error)),
            }
            self.progress.past(Tenants::NAME, Lanes::Of(tenant), seen).await.map_err(|e| internal(&e))?;
        }
    }
}

fn failed(failure: ReadError) -> Error {
    match &failure {
        ReadError::CursorExpired { .. } => error(
            Code::CursorExpired,
            "changes that old are no longer kept: read the present state, then subscribe from its position",
        ),
        ReadError::ForeignCursor => error(Code::BadUserInput, failure.to_string()),
        ReadError::NotBuilt(_) => error(Code::Unavailable, "the read model is being made: try again in a moment"),
        ReadError::Database(database) if database.is_connection() => {
            tracing::warn!(error = %database, "a read failed");
            error(Code::Unavailable, "the database is not available at the moment: try again")
        }
        ReadError::Database(_) | ReadError::Damaged { .. } => internal(&failure),
    }
}
