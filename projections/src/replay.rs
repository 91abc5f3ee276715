//! What a tenant looked like at a moment of its past: its events folded anew, in memory, by the very folds
//! that the read models use. Writes nothing; keeps one row per thing, so its memory grows with the things.

use crate::engine::{ApplyError, Model, OpenedEvent, ReadModel};
use daybook_domain::TenantId;
use daybook_store::Database;
use daybook_store::database::{DatabaseError, Role};
use daybook_store::journal::log::{self, Moment};
use daybook_store::keys::Sealer;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Rows of one read model on the way.
struct Rows<M: ReadModel>(BTreeMap<Uuid, M::Row>);

pub(crate) trait Folding: Send {
    fn wants(&self, event_type: &str) -> bool;
    fn apply(&mut self, event: &OpenedEvent) -> Result<(), ApplyError>;
    fn finish(self: Box<Self>) -> Result<(&'static str, Value), ReplayError>;
}

impl<M: ReadModel> Folding for Rows<M> {
    fn wants(&self, event_type: &str) -> bool {
        M::wants(event_type)
    }

    fn apply(&mut self, event: &OpenedEvent) -> Result<(), ApplyError> {
        let id = M::id(event);
        if let Some(row) = M::fold(self.0.remove(&id), event)? {
            self.0.insert(id, row);
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(&'static str, Value), ReplayError> {
        let rows = self.0.into_values().collect::<Vec<_>>();
        Ok((M::NAME, serde_json::to_value(rows).map_err(ReplayError::Print)?))
    }
}

pub(crate) fn folding<M: ReadModel>() -> Box<dyn Folding> {
    Box::new(Rows::<M>(BTreeMap::new()))
}

#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("event {position} of the tenant cannot be applied")]
    Apply { position: u64, source: ApplyError },
    #[error("a row cannot be printed")]
    Print(#[source] serde_json::Error),
}

/// The rows of every read model as of a moment, by the name of the model. `progress` is told how far it is.
///
/// # Errors
/// When the database cannot be asked, or an event cannot be read.
pub async fn replay(
    models: &[Model],
    database: &Database,
    sealer: &Sealer,
    tenant: TenantId,
    moment: Moment,
    progress: &(dyn Fn(u64, u64) + Send + Sync),
) -> Result<Map<String, Value>, ReplayError> {
    let session = database.connect(Role::Projector, "-c enable_seqscan=off -c enable_sort=off").await?;
    let mut models: Vec<_> = models.iter().filter_map(|m| m.folding).map(|folding| folding()).collect();
    let mut after = 0;
    while after < moment.tenant_position {
        let page = log::page(&session, tenant, after, moment.tenant_position).await?;
        if page.is_empty() {
            break;
        }
        for event in page {
            after = event.tenant_position;
            let wanted: Vec<_> = models.iter_mut().filter(|m| m.wants(&event.event_type)).collect();
            if wanted.is_empty() {
                continue;
            }
            let failed = |source| ReplayError::Apply { position: after, source };
            let payload = sealer.open(event.tenant, event.event_id, &event.payload).await;
            let payload = payload.map_err(|e| failed(e.into()))?.into_owned();
            let opened = OpenedEvent::new(event, payload);
            for model in wanted {
                model.apply(&opened).map_err(failed)?;
            }
        }
        progress(after, moment.tenant_position);
    }
    models.into_iter().map(|m| m.finish().map(|(name, rows)| (name.to_owned(), rows))).collect()
}
