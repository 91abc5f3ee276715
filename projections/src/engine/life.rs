//! In which life of the server something was seen: a crash of PostgreSQL ends one.
//!
//! Rows of read models are committed without waiting for the disk, so a crash may take the last commits back, and what was
//! seen before it proves nothing about what is there after it. Within one life nothing that was committed goes away.
//! The life is read in the snapshot that is judged by it: no clock, no connection and no node has to tell of the crash.

use daybook_store::database::{DatabaseError, Pool};
use tokio_postgres::Row;
use uuid::Uuid;

/// One life of one server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Life(Uuid);

/// As a column: the life in which the statement is carried out; null where nobody has given it a name yet.
pub(crate) const LIFE: &str = "(select life from projection.life)";

impl Life {
    pub(crate) fn of(row: &Row, column: usize) -> Option<Self> {
        row.get::<_, Option<Uuid>>(column).map(Life)
    }

    #[cfg(test)]
    pub(crate) fn named(name: u128) -> Self {
        Life(Uuid::from_u128(name))
    }
}

/// Gives this life of the server a name, if it has none.
pub(super) async fn ensure(pool: &Pool, name: Uuid) -> Result<(), DatabaseError> {
    pool.query("insert into projection.life (life) values ($1) on conflict do nothing", &[&name]).await.map(drop)
}
