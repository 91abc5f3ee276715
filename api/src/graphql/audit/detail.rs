//! Old and new values of a page of the trail: read when the first node is asked for them, once for all.

use crate::graphql::errors::{Code, error, internal};
use crate::graphql::reads::failed;
use crate::graphql::request::parts;
use async_graphql::{Context, Json, Result, SimpleObject};
use daybook_app::audit::{self, Detail, Story, is_folded};
use daybook_domain::TenantId;
use daybook_projections::Scope;
use daybook_projections::audit::{AuditRow, Wanted, history};
use daybook_store::keys::KeyError;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use tokio::sync::OnceCell;
use uuid::Uuid;

/// One value that an event changed.
#[derive(SimpleObject, Clone)]
#[graphql(name = "AuditChange")]
pub struct Change {
    /// Where in the subject, e.g. `["settings", "fiscal.year_start"]`.
    pub path: Vec<String>,
    /// Before the event; null where there was none, or where it is not known any more.
    pub old: Option<Json<Value>>,
    /// After the event; null where there is none, or where it is not known any more.
    pub new: Option<Json<Value>>,
    /// True when the old or the new value was about a person whose data has been erased.
    pub erased: bool,
}

impl From<&audit::Change> for Change {
    fn from(change: &audit::Change) -> Self {
        Change {
            path: change.path.clone(),
            old: change.old.clone().map(Json),
            new: change.new.clone().map(Json),
            erased: change.erased,
        }
    }
}

/// What the nodes of one page share.
pub(super) struct PageDetails {
    tenant: TenantId,
    wanted: Vec<Wanted>,
    ids: HashSet<Uuid>,
    /// An error as well is the same for all of them.
    details: OnceCell<Result<HashMap<Uuid, Detail>>>,
}

impl PageDetails {
    pub(super) fn of(tenant: TenantId, rows: &[AuditRow]) -> Self {
        let wanted = rows.iter().map(|row| Wanted {
            stream_type: row.stream_type.clone(),
            stream_id: row.stream_id,
            sequence: row.sequence,
            folded: is_folded(&row.stream_type),
        });
        PageDetails {
            tenant,
            wanted: wanted.collect(),
            ids: rows.iter().map(|row| row.event_id).collect(),
            details: OnceCell::new(),
        }
    }

    /// Of one of its events.
    ///
    /// # Errors
    /// When the journal or the key store cannot be asked.
    pub(super) async fn of_event(&self, ctx: &Context<'_>, event: Uuid) -> Result<&Detail> {
        match self.details.get_or_init(|| self.read(ctx)).await {
            Ok(details) => details
                .get(&event)
                .ok_or_else(|| error(Code::Unavailable, "the journal does not show this event yet: try again")),
            Err(failure) => Err(failure.clone()),
        }
    }

    async fn read(&self, ctx: &Context<'_>) -> Result<HashMap<Uuid, Detail>> {
        let parts = parts(ctx)?;
        let read = parts
            .reads
            .reader()
            .transaction(Scope::Tenant(self.tenant), async |session| history(session, self.tenant, &self.wanted).await);
        let histories = read.await.map_err(failed)?;
        let stories: Vec<Story> =
            histories.into_values().map(|history| Story { events: history.events, whole: history.whole }).collect();
        audit::details(&parts.audit.sealer, self.tenant, &stories, &self.ids).await.map_err(|failure| match failure {
            KeyError::Database(database) => failed(database.into()),
            other => internal(&other),
        })
    }
}
