//! Read models to which one event adds many rows and none is ever read back: readings.
//!
//! Refuses to fold: a row is never loaded, changed or told to subscribers. Checkpoint, lanes, rebuild and
//! health are the same as for any other read model.

use super::apply::Stop;
use super::model::{ApplyError, OpenedEvent};
use super::projected::guarded;
use daybook_store::database::DatabaseError;
use deadpool_postgres::Transaction;

/// Rows that are written by one call of [`SeriesModel::store`], but for the last event's.
const ROWS_MAX: usize = 20_000;

/// Many rows from one event, written in bulk.
pub trait SeriesModel: Send + Sync + 'static {
    /// `[a-z_]+`, unique: names the tables, the checkpoints, the pointer.
    const NAME: &'static str;

    /// Lanes of versions made from now on; a version keeps those it was made with.
    const LANES: u16;

    /// Whether it reads payloads. If not, they stay sealed, and one that does not open stops nothing.
    const OPENS: bool = true;

    type Row: Send + Sync + 'static;

    /// The tables of a version, with their keys, row policies and grants. Run as the projector.
    fn create_sql(version: u32) -> String;

    /// Indexes besides that of the key, for readers alone. A rebuild makes them last: built at once they cost a
    /// fraction of what every row would pay for them.
    fn index_sql(_version: u32) -> String {
        String::new()
    }

    fn drop_sql(version: u32) -> String;

    /// The table that pages are read from.
    fn table(version: u32) -> String {
        format!("read.{}_v{version}", Self::NAME)
    }

    /// Whether events of this type matter here. Others are neither opened nor read.
    fn wants(event_type: &str) -> bool;

    /// What an event adds. Pure.
    ///
    /// # Errors
    /// The event's stream is parked there, visibly, and tried again; nothing is skipped.
    fn rows(event: &OpenedEvent) -> Result<Vec<Self::Row>, ApplyError>;

    /// Writes rows in the order of their events, in a number of statements that does not grow with
    /// theirs. Each event comes exactly once, so sums may be added to.
    fn store(
        tx: &Transaction<'_>,
        version: u32,
        rows: &[Self::Row],
    ) -> impl Future<Output = Result<(), DatabaseError>> + Send;
}

/// Adds the rows of the events, up to one that cannot be read.
pub(super) async fn add_rows<M: SeriesModel>(
    tx: &Transaction<'_>,
    version: u32,
    events: &[OpenedEvent],
) -> Result<Option<Stop>, DatabaseError> {
    let mut stop = None;
    let mut rows = Vec::new();
    for event in events {
        match guarded(|| M::rows(event)) {
            Ok(added) => rows.extend(added),
            Err(error) => {
                stop = Some(Stop::at(event, error));
                break;
            }
        }
        if rows.len() >= ROWS_MAX {
            M::store(tx, version, &rows).await?;
            rows.clear();
        }
    }
    if !rows.is_empty() {
        M::store(tx, version, &rows).await?;
    }
    Ok(stop)
}
