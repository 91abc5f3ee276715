//! Reading: one transaction per operation, which names whose rows it may see before it asks for any.
//!
//! Row policies are the backstop: a query that forgets its tenant finds nothing. Refuses to write.

mod changes;
pub mod condition;
pub mod filter;
pub(crate) mod keyset;
mod page;

pub use changes::Change;
pub use keyset::{Keyset, SortKey};
pub use page::{Direction, Limit, Page, Slice};

use crate::engine::{ReadModel, SeriesModel};
use daybook_domain::TenantId;
use daybook_store::database::{Database, DatabaseError, Pool, Role};
use deadpool_postgres::Object;
use std::collections::HashMap;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

/// Whose rows an operation may see.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    Tenant(TenantId),
    /// Every tenant's, in the read models that are the platform's to see.
    Platform,
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
    #[error("a row of read model {read_model} cannot be read: run `daybook rebuild {read_model}`")]
    Damaged { read_model: &'static str },
}

/// A pool of read transactions; cloning is cheap.
#[derive(Clone)]
pub struct Reader {
    pool: Pool,
}

impl Reader {
    /// `size_max`: operations that read at the same time.
    pub fn new(database: &Database, size_max: usize) -> Self {
        let settings =
            "-c default_transaction_read_only=on -c statement_timeout=30s -c idle_in_transaction_session_timeout=60s";
        Reader { pool: database.pool(Role::Reader, size_max, settings) }
    }

    /// Begins an operation: everything it reads, it reads in one state.
    ///
    /// # Errors
    /// When no session can be had.
    pub async fn begin(&self, scope: Scope) -> Result<ReadSession, ReadError> {
        let object = self.pool.get().await?;
        let (tenant, platform) = match scope {
            Scope::Tenant(tenant) => (tenant.to_string(), "off"),
            Scope::Platform => (String::new(), "on"),
        };
        // Repeatable read: rows, pointers and what was purged all belong together, and the
        // snapshot, held to the end, keeps the tables behind the pointers from being dropped.
        // Both values are made here, so they need no quoting.
        let begin = format!(
            "begin isolation level repeatable read, read only;
             select set_config('app.tenant', '{tenant}', true), set_config('app.platform', '{platform}', true)"
        );
        let mut session = ReadSession { object: Some(object), scope, versions: HashMap::new() };
        let pointers = "select read_model, version from projection.live";
        // Both are sent at once, in this order; the answers take one round trip.
        let (begun, live) = tokio::join!(biased; session.object()?.batch_execute(&begin), session.query(pointers, &[]));
        begun.map_err(DatabaseError::Query)?;
        for row in live? {
            let version: i32 = row.get(1);
            session.versions.insert(row.get(0), u32::try_from(version).unwrap_or_default());
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
    object: Option<Object>,
    scope: Scope,
    versions: HashMap<String, u32>,
}

impl ReadSession {
    fn object(&self) -> Result<&Object, DatabaseError> {
        self.object.as_ref().ok_or_else(|| DatabaseError::Unsuitable("this read transaction has ended".into()))
    }

    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// The version of a read model that answers in this transaction.
    ///
    /// # Errors
    /// [`ReadError::NotBuilt`].
    pub fn version<M: ReadModel>(&self) -> Result<u32, ReadError> {
        self.versions.get(M::NAME).copied().ok_or(ReadError::NotBuilt(M::NAME))
    }

    /// As [`ReadSession::version`].
    ///
    /// # Errors
    /// [`ReadError::NotBuilt`].
    pub fn series_version<M: SeriesModel>(&self) -> Result<u32, ReadError> {
        self.versions.get(M::NAME).copied().ok_or(ReadError::NotBuilt(M::NAME))
    }

    /// Its table.
    ///
    /// # Errors
    /// [`ReadError::NotBuilt`].
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
                        drop(Object::take(object));
                    }
                });
            }
            // A session in an unknown state never goes back to the pool.
            Err(_) => drop(Object::take(object)),
        }
    }
}
