//! Reading: one transaction per operation, which names whose rows it may see before it asks for any.
//!
//! Row policies are the backstop: a query that forgets its tenant finds nothing. Refuses to write, and to show less than
//! this node has told already: see `begin`.

mod changes;
pub mod condition;
pub mod filter;
pub(crate) mod keyset;
mod page;

pub use changes::Change;
pub use keyset::{Keyset, SortKey};
pub use page::{Direction, Limit, Page, Slice};

use crate::engine::{LIFE, Lanes, Life, Progress, ReadModel, SeriesModel};
use daybook_domain::{AccountId, TenantId};
use daybook_store::database::{Database, DatabaseError, Held, Pool, Role};
use std::collections::HashMap;
use std::sync::LazyLock;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

/// Whose rows an operation may see.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    Tenant(TenantId),
    /// An account's own, in whatever tenant, in the read models that are its to see.
    Account(AccountId),
    /// Every tenant's, in the read models that are the platform's to see.
    Platform,
}

impl Scope {
    /// Where what it shows comes from.
    fn lanes(self) -> Lanes {
        match self {
            Scope::Tenant(tenant) => Lanes::Of(tenant),
            // Its rows are of many tenants.
            Scope::Account(_) | Scope::Platform => Lanes::All,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("read model {0} has no version yet: it is made when the engine first starts")]
    NotBuilt(&'static str),
    #[error("the cursor belongs to another order: begin again without it")]
    ForeignCursor,
    #[error("changes up to tenant position {purged} are no longer kept: read the present state, then go on from there")]
    CursorExpired { purged: u64 },
    #[error("changes of read model {read_model} wait for an event that cannot be applied: read them again later")]
    Parked { read_model: &'static str },
    #[error("a crash of the database took back what read model {read_model} has shown: read again once it is back")]
    TakenBack { read_model: &'static str },
    #[error("a row of read model {read_model} cannot be read: run `daybook rebuild {read_model}`")]
    Damaged { read_model: &'static str },
}

impl ReadError {
    /// Whether the same may be asked again in a moment: nothing is wrong with the question, or with the rows.
    pub fn passes(&self) -> bool {
        match self {
            ReadError::Database(error) => error.is_connection(),
            ReadError::TakenBack { .. } => true,
            _ => false,
        }
    }
}

/// A pool of read transactions; cloning is cheap.
#[derive(Clone)]
pub struct Reader {
    pool: Pool,
    /// Of the engine on this node: what was told.
    progress: Option<Progress>,
}

impl Reader {
    /// `size_max`: operations that read at the same time.
    pub fn new(database: &Database, size_max: usize) -> Self {
        let settings =
            "-c default_transaction_read_only=on -c statement_timeout=30s -c idle_in_transaction_session_timeout=60s";
        Reader { pool: database.pool(Role::Reader, size_max, settings), progress: None }
    }

    /// Shows nothing older than what the engine has told, whatever crashes in between.
    #[must_use]
    pub fn keeping_to(self, progress: Progress) -> Self {
        Reader { progress: Some(progress), ..self }
    }

    /// Begins an operation: everything it reads, it reads in one state, and in that state is everything up to any position
    /// that the engine has told before.
    ///
    /// After a crash of the database it waits for what was taken back, a few seconds, and then leaves the rest out: asked
    /// for that, the session says [`ReadError::TakenBack`].
    ///
    /// # Errors
    /// When no session can be had.
    pub async fn begin(&self, scope: Scope) -> Result<ReadSession, ReadError> {
        let Some(progress) = &self.progress else { return self.open(scope).await };
        let lanes = scope.lanes();
        let mut patient = true;
        loop {
            // Before the snapshot is taken: whatever is in the rows by now, in the life that it turns out to be of, is in it.
            let told = progress.lives(lanes);
            let mut session = self.open(scope).await?;
            let here = |life: Option<Life>| life.is_some() && life == session.life;
            session.taken_back = told.into_iter().filter(|(_, life)| !here(*life)).map(|(model, _)| model).collect();
            if session.taken_back.is_empty() || !patient {
                return Ok(session);
            }
            let (taken_back, life) = (std::mem::take(&mut session.taken_back), session.life);
            // Nobody holds a session while he waits for others to get on.
            session.finish().await?;
            patient = progress.again(&taken_back, lanes, life).await;
        }
    }

    async fn open(&self, scope: Scope) -> Result<ReadSession, ReadError> {
        let object = self.pool.get().await?;
        let (tenant, account, platform) = match scope {
            Scope::Tenant(tenant) => (tenant.to_string(), String::new(), "off"),
            Scope::Account(account) => (String::new(), account.to_string(), "off"),
            Scope::Platform => (String::new(), String::new(), "on"),
        };
        // Repeatable read: rows, pointers and what was purged all belong together, and the
        // snapshot, held to the end, keeps the tables behind the pointers from being dropped.
        // The values are made here, so they need no quoting.
        let begin = format!(
            "begin isolation level repeatable read, read only;
             select set_config('app.tenant', '{tenant}', true), set_config('app.account', '{account}', true),
                    set_config('app.platform', '{platform}', true)"
        );
        let mut session =
            ReadSession { object: Some(object), scope, versions: HashMap::new(), life: None, taken_back: Vec::new() };
        let pointers = &POINTERS;
        // Both are sent at once, in this order; the answers take one round trip.
        let (begun, live) = tokio::join!(biased; session.object()?.batch_execute(&begin), session.query(pointers, &[]));
        begun.map_err(DatabaseError::Query)?;
        for row in live? {
            let version: i32 = row.get(1);
            session.versions.insert(row.get(0), u32::try_from(version).unwrap_or_default());
            session.life = Life::of(&row, 2);
        }
        Ok(session)
    }

    /// An operation as one function; its transaction ends with it.
    ///
    /// # Errors
    /// What the function says, or that no session can be had.
    pub async fn transaction<T, E: From<ReadError>>(
        &self,
        scope: Scope,
        operation: impl AsyncFnOnce(&ReadSession) -> Result<T, E>,
    ) -> Result<T, E> {
        let session = self.begin(scope).await?;
        let answer = operation(&session).await?;
        session.finish().await?;
        Ok(answer)
    }
}

/// A read transaction. Dropped without [`ReadSession::finish`], it is rolled back, which to a reader
/// is the same.
pub struct ReadSession {
    object: Option<Held>,
    scope: Scope,
    versions: HashMap<String, u32>,
    /// Of the server.
    life: Option<Life>,
    /// Read models of which less is here than was told.
    taken_back: Vec<&'static str>,
}

/// Which versions answer, and in which life of the server.
static POINTERS: LazyLock<String> =
    LazyLock::new(|| format!("select read_model, version, {LIFE} from projection.live"));

impl ReadSession {
    fn object(&self) -> Result<&Held, DatabaseError> {
        self.object.as_ref().ok_or_else(|| DatabaseError::Unsuitable("this read transaction has ended".into()))
    }

    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// The version of a read model that answers in this transaction.
    ///
    /// # Errors
    /// [`ReadError::NotBuilt`]; [`ReadError::TakenBack`] where it shows less than it has shown before a crash.
    pub fn version<M: ReadModel>(&self) -> Result<u32, ReadError> {
        self.version_of(M::NAME)
    }

    /// As [`ReadSession::version`].
    ///
    /// # Errors
    /// As [`ReadSession::version`].
    pub fn series_version<M: SeriesModel>(&self) -> Result<u32, ReadError> {
        self.version_of(M::NAME)
    }

    fn version_of(&self, read_model: &'static str) -> Result<u32, ReadError> {
        if self.taken_back.contains(&read_model) {
            return Err(ReadError::TakenBack { read_model });
        }
        self.versions.get(read_model).copied().ok_or(ReadError::NotBuilt(read_model))
    }

    /// Its table.
    ///
    /// # Errors
    /// As [`ReadSession::version`].
    pub fn table<M: ReadModel>(&self) -> Result<String, ReadError> {
        self.version::<M>().map(M::table)
    }

    /// # Errors
    /// When the statement is refused or the connection lost.
    pub async fn query(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, DatabaseError> {
        // Never the parameters: they may be anybody's data.
        tracing::trace!(target: "daybook::sql", statement = sql);
        let object = self.object()?;
        let statement = object.prepare_cached(sql).await.map_err(DatabaseError::Query)?;
        object.query(&statement, parameters).await.map_err(DatabaseError::Query)
    }

    /// A statement of a list. `kept`: whether it is prepared once for many times; one whose text depends on what somebody
    /// asks for must not be, or there would be no end of them.
    ///
    /// # Errors
    /// As [`ReadSession::query`].
    pub(crate) async fn query_list(
        &self,
        sql: &str,
        parameters: &filter::Parameters,
        kept: bool,
    ) -> Result<Vec<Row>, DatabaseError> {
        let parameters = filter::borrowed(parameters);
        if kept {
            return self.query(sql, &parameters).await;
        }
        tracing::trace!(target: "daybook::sql", statement = sql);
        self.object()?.query(sql, &parameters).await.map_err(DatabaseError::Query)
    }

    /// Ends the transaction.
    ///
    /// # Errors
    /// When the connection is lost: then nobody knows what else is wrong.
    pub async fn finish(mut self) -> Result<(), ReadError> {
        self.object()?.batch_execute("commit").await.map_err(DatabaseError::Query)?;
        if let Some(object) = self.object.take() {
            drop(object);
        }
        Ok(())
    }
}

impl Drop for ReadSession {
    fn drop(&mut self) {
        let Some(object) = self.object.take() else { return };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => {
                runtime.spawn(async move {
                    if object.batch_execute("rollback").await.is_err() {
                        object.discard();
                    }
                });
            }
            // A session in an unknown state never goes back to the pool.
            Err(_) => object.discard(),
        }
    }
}
