//! What a read model says of itself; the engine does the rest.

use super::table;
use daybook_domain::{TenantId, Versioned};
use daybook_store::codec::{self, CodecError};
use daybook_store::database::DatabaseError;
use daybook_store::journal::RecordedEvent;
use daybook_store::keys::{KeyError, SealError};
use deadpool_postgres::Transaction;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fmt::Debug;
use std::ops::Deref;
use uuid::Uuid;

/// Rows folded from events.
///
/// The fold is pure and knows one row; loading, storing, checkpoints and change rows are the
/// engine's. So a page of events costs a handful of statements, however many rows it touches.
/// All events of a row are of one stream: an event that cannot be applied parks its stream, and with it the row.
pub trait ReadModel: Send + Sync + 'static {
    /// `[a-z_]+`, unique: names the table, the checkpoints, the pointer.
    const NAME: &'static str;

    /// Lanes of versions made from now on; a version keeps those it was made with.
    const LANES: u16;

    /// The primary key. Contains the tenant, for no constraint may reach across tenants.
    const KEY: &'static [&'static str];

    /// The column of [`RowKey::id`]. Every table has a column `tenant_id`, which may be the same.
    const ID: &'static str;

    /// Every column, by the name of the field of `Row`.
    const COLUMNS: &'static [&'static str];

    /// Its JSON form has a member per column; it is what change rows hold.
    type Row: Serialize + DeserializeOwned + Clone + PartialEq + Debug + Send + Sync + 'static;

    /// The table of a version, with its key, row policies and grants. Run as the projector.
    fn create_sql(version: u32) -> String;

    /// Indexes besides that of the key, for readers alone. A rebuild makes them last: built at once they cost a
    /// fraction of what every row would pay for them.
    fn index_sql(_version: u32) -> String {
        String::new()
    }

    fn drop_sql(version: u32) -> String {
        format!("drop table if exists {}", Self::table(version))
    }

    fn table(version: u32) -> String {
        format!("read.{}_v{version}", Self::NAME)
    }

    /// Whether events of this type matter here. Others are neither opened nor folded.
    fn wants(event_type: &str) -> bool;

    /// Which row of its tenant an event is about.
    fn id(event: &OpenedEvent) -> Uuid;

    /// The row after the event; `None` is no row. Pure.
    ///
    /// # Errors
    /// The event's stream is parked there, visibly, and tried again; nothing is skipped.
    fn fold(row: Option<Self::Row>, event: &OpenedEvent) -> Result<Option<Self::Row>, ApplyError>;

    /// The rows of these keys that exist.
    fn load(
        tx: &Transaction<'_>,
        version: u32,
        keys: &[RowKey],
    ) -> impl Future<Output = Result<HashMap<RowKey, Self::Row>, DatabaseError>> + Send
    where
        Self: Sized,
    {
        table::load::<Self>(tx, version, keys)
    }

    /// Writes rows, new or not, and removes others.
    fn store(
        tx: &Transaction<'_>,
        version: u32,
        rows: &[Self::Row],
        removed: &[RowKey],
    ) -> impl Future<Output = Result<(), DatabaseError>> + Send
    where
        Self: Sized,
    {
        table::store::<Self>(tx, version, rows, removed)
    }
}

/// A row, wherever it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RowKey {
    pub tenant: TenantId,
    pub id: Uuid,
}

/// An event whose payload has its personal fields opened; the metadata is still sealed.
#[derive(Clone, Debug)]
pub struct OpenedEvent(RecordedEvent);

impl OpenedEvent {
    /// `payload`: that of the event, opened.
    pub fn new(mut recorded: RecordedEvent, payload: String) -> Self {
        recorded.payload = payload;
        OpenedEvent(recorded)
    }

    /// As recorded, for a read model that looks at no payload.
    pub(super) fn sealed(recorded: RecordedEvent) -> Self {
        OpenedEvent(recorded)
    }

    /// What it is read as: one event, unless it is of an old version.
    ///
    /// # Errors
    /// When the program does not know the type or version, or the payload is damaged.
    pub fn decode<E: Versioned>(&self) -> Result<Vec<E>, ApplyError> {
        Ok(codec::decode(&self.0.origin(), &self.payload)?)
    }

    /// Folds what it is read as into a row.
    ///
    /// # Errors
    /// As [`OpenedEvent::decode`].
    pub fn fold_into<R, E: Versioned>(
        &self,
        row: Option<R>,
        fold: fn(Option<R>, E, &OpenedEvent) -> Option<R>,
    ) -> Result<Option<R>, ApplyError> {
        Ok(self.decode::<E>()?.into_iter().fold(row, |row, happened| fold(row, happened, self)))
    }
}

impl Deref for OpenedEvent {
    type Target = RecordedEvent;

    fn deref(&self) -> &RecordedEvent {
        &self.0
    }
}

/// Why an event cannot be applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("the personal fields of an event cannot be opened")]
    Seal(#[from] SealError),
    #[error("{0}")]
    Refused(String),
}

impl ApplyError {
    /// The database failed, not the event.
    pub(super) fn is_transient(&self) -> bool {
        matches!(self, ApplyError::Seal(SealError::Key(KeyError::Database(error))) if error.is_connection())
    }

    /// The event is at fault or what belongs to it, so that the same may not hold for its neighbours.
    pub(super) fn is_of_the_event(&self) -> bool {
        match self {
            ApplyError::Codec(_) | ApplyError::Refused(_) => true,
            ApplyError::Seal(SealError::Key(key)) => {
                !matches!(key, KeyError::Database(_) | KeyError::ErasureList { .. })
            }
            ApplyError::Seal(SealError::Damaged { .. } | SealError::Json { .. }) => true,
        }
    }

    /// For operators. Decoding errors quote what they found, which may be anybody's data, so only
    /// what is known to be harmless of the sources is told.
    pub(super) fn reason(&self) -> String {
        match self {
            ApplyError::Seal(seal @ SealError::Key(key)) => format!("{self}: {seal}: {key}"),
            ApplyError::Seal(seal) => format!("{self}: {seal}"),
            ApplyError::Codec(_) | ApplyError::Refused(_) => self.to_string(),
        }
    }
}

/// The lane of a tenant. Part of what is stored: it never changes for a number of lanes.
pub fn lane_of(tenant: TenantId, lanes: u16) -> u16 {
    let digest: [u8; 32] = Sha256::digest(tenant.0.as_bytes()).into();
    let mut head = [0; 8];
    head.copy_from_slice(&digest[..8]);
    let lane = u64::from_be_bytes(head) % u64::from(lanes.max(1));
    u16::try_from(lane).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lane_of_a_tenant_is_the_same_in_every_program() {
        let lanes: Vec<u16> = (0..8).map(|n| lane_of(TenantId(Uuid::from_u128(n)), 8)).collect();
        // SHA-256 of 16 bytes, the first 8 big-endian, modulo 8.
        assert_eq!(lanes, [5, 3, 0, 6, 0, 2, 4, 2]);
    }
}
