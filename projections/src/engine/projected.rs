//! What the engine asks of a read model, whatever its kind: rows folded from their events one by one
//! ([`ReadModel`]), or series to which every event adds many rows ([`SeriesModel`]).

use super::apply::{Stop, fold_rows};
use super::model::{ApplyError, OpenedEvent, ReadModel};
use super::series::{SeriesModel, add_rows};
use chrono::{DateTime, Utc};
use daybook_store::database::DatabaseError;
use deadpool_postgres::Transaction;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A read model as runner, lanes and rebuild see it.
pub(super) trait Projected: Send + Sync + 'static {
    const NAME: &'static str;
    const LANES: u16;
    const OPENS: bool;

    fn create_sql(version: u32) -> String;
    fn index_sql(version: u32) -> String;
    fn drop_sql(version: u32) -> String;
    fn wants(event_type: &str) -> bool;

    /// Writes what the events lead to, up to the one that cannot be applied, which is told.
    fn write(
        tx: &Transaction<'_>,
        version: u32,
        events: &[OpenedEvent],
        keep_since: DateTime<Utc>,
    ) -> impl Future<Output = Result<Option<Stop>, DatabaseError>> + Send;
}

/// A [`ReadModel`], for the engine.
pub(super) struct Rows<M>(PhantomData<fn() -> M>);

/// A [`SeriesModel`], for the engine.
pub(super) struct Series<M>(PhantomData<fn() -> M>);

impl<M: ReadModel> Projected for Rows<M> {
    const NAME: &'static str = M::NAME;
    const LANES: u16 = M::LANES;
    const OPENS: bool = true;

    fn create_sql(version: u32) -> String {
        M::create_sql(version)
    }

    fn index_sql(version: u32) -> String {
        M::index_sql(version)
    }

    fn drop_sql(version: u32) -> String {
        M::drop_sql(version)
    }

    fn wants(event_type: &str) -> bool {
        M::wants(event_type)
    }

    fn write(
        tx: &Transaction<'_>,
        version: u32,
        events: &[OpenedEvent],
        keep_since: DateTime<Utc>,
    ) -> impl Future<Output = Result<Option<Stop>, DatabaseError>> + Send {
        fold_rows::<M>(tx, version, events, keep_since)
    }
}

impl<M: SeriesModel> Projected for Series<M> {
    const NAME: &'static str = M::NAME;
    const LANES: u16 = M::LANES;
    const OPENS: bool = M::OPENS;

    fn create_sql(version: u32) -> String {
        M::create_sql(version)
    }

    fn index_sql(version: u32) -> String {
        M::index_sql(version)
    }

    fn drop_sql(version: u32) -> String {
        M::drop_sql(version)
    }

    fn wants(event_type: &str) -> bool {
        M::wants(event_type)
    }

    fn write(
        tx: &Transaction<'_>,
        version: u32,
        events: &[OpenedEvent],
        _keep_since: DateTime<Utc>,
    ) -> impl Future<Output = Result<Option<Stop>, DatabaseError>> + Send {
        add_rows::<M>(tx, version, events)
    }
}

/// A step of a read model that panics stops its own lane, like one that refuses.
pub(super) fn guarded<T>(step: impl FnOnce() -> Result<T, ApplyError>) -> Result<T, ApplyError> {
    // What the step owns is gone with the panic, and it borrows only the event.
    catch_unwind(AssertUnwindSafe(step))
        .unwrap_or_else(|_| Err(ApplyError::Refused("the fold panicked: this is a defect of the program".into())))
}
