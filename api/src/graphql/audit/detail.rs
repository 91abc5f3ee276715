//! Old and new values of a page of the trail: read when the first node is asked for them, once for all.

use crate::graphql::Parts;
use crate::graphql::errors::{Code, error, internal};
use crate::graphql::reads::failed;
use crate::graphql::request::{credential, parts};
use crate::graphql::tail::PAUSE;
use async_graphql::{Context, Json, Result, SimpleObject};
use daybook_app::audit::{self, Detail, Story, is_folded};
use daybook_app::{Credential, may, verdict};
use daybook_domain::personal::permission_of;
use daybook_domain::rules::{FieldRead, Verdict};
use daybook_domain::{Action, TenantId};
use daybook_projections::audit::{AuditRow, Wanted, history};
use daybook_projections::{ReadError, Scope};
use daybook_store::keys::KeyError;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;
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
    /// True when a role of yours hides the values, or when they are about a person and you may not see that of such a subject
    /// (a tenant's contact needs `tenant.readContact`, names and addresses of accounts `account.read`): then both are null.
    pub masked: bool,
    #[graphql(skip)]
    personal: bool,
}

/// What roles of a caller keep from it of a subject's values.
pub(super) struct Hidden<'a> {
    credential: &'a Credential,
    tenant: TenantId,
    kind: &'a str,
    /// Which subjects of this kind it may read depends on them, or it is denied to read any: so of none of them values are told.
    all: bool,
    /// Values about persons.
    personal: bool,
}

impl<'a> Hidden<'a> {
    pub(super) fn of(ctx: &Context<'a>, tenant: TenantId, kind: &'a str) -> Result<Self> {
        let credential = credential(ctx)?;
        let name = format!("{kind}.read");
        let read = Action::ALL.iter().copied().find(|action| action.as_str() == name);
        let all = read.is_some_and(|read| {
            let is_partial = matches!(verdict(credential, read, tenant), Verdict::If(_));
            is_partial || tenant == credential.tenant && credential.permissions.verdict(read, true) != Verdict::Always
        });
        let personal = permission_of(kind).is_none_or(|needed| !may(credential, needed, tenant));
        Ok(Hidden { credential, tenant, kind, all, personal })
    }

    pub(super) fn seen(&self, change: Change) -> Change {
        let is_hidden = |field: &String| self.credential.field(self.tenant, self.kind, field).read != FieldRead::Show;
        // Of what people say of themselves and how they like things, the trail tells that it changed, and nothing else.
        let is_own = self.kind == "account"
            && change.path.first().is_some_and(|field| matches!(field.as_str(), "details" | "preferences"));
        match self.all || is_own || self.personal && change.personal || change.path.iter().any(is_hidden) {
            true => Change { old: None, new: None, masked: true, ..change },
            false => change,
        }
    }
}

impl From<&audit::Change> for Change {
    fn from(change: &audit::Change) -> Self {
        Change {
            path: change.path.clone(),
            old: change.old.clone().map(Json),
            new: change.new.clone().map(Json),
            erased: change.erased,
            masked: false,
            personal: change.personal,
        }
    }
}

/// How long what was read is told to others: erasure is obeyed by reading anew.
const FRESH: Duration = Duration::from_secs(1);

/// Of the events of a page; an error as well is the same for all of them.
type Details = Result<HashMap<Uuid, Arc<Detail>>>;

/// What the nodes of one page share.
pub(super) struct PageDetails {
    tenant: TenantId,
    wanted: Vec<Wanted>,
    ids: HashSet<Uuid>,
    /// Whether a database that is away is waited for.
    patient: bool,
    /// Whoever comes while it is read waits for it.
    read: Mutex<Option<(Instant, Details)>>,
}

impl PageDetails {
    pub(super) fn of<'a>(tenant: TenantId, rows: impl IntoIterator<Item = &'a AuditRow>) -> Self {
        let rows: Vec<&AuditRow> = rows.into_iter().collect();
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
            patient: false,
            read: Mutex::default(),
        }
    }

    pub(super) fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// For a subscription, which outlives a database that restarts.
    pub(super) fn patient(self) -> Self {
        PageDetails { patient: true, ..self }
    }

    /// Of one of its events.
    ///
    /// # Errors
    /// When the journal or the key store cannot be asked.
    pub(super) async fn of_event(&self, ctx: &Context<'_>, event: Uuid) -> Result<Arc<Detail>> {
        let mut read = self.read.lock().await;
        let details = match &mut *read {
            Some((at, details)) if at.elapsed() < FRESH => details,
            read => {
                let details = self.read(ctx).await;
                &mut read.insert((Instant::now(), details)).1
            }
        };
        let unknown = || error(Code::Unavailable, "the journal does not show this event yet: try again");
        details.as_ref().map_err(Clone::clone)?.get(&event).cloned().ok_or_else(unknown)
    }

    async fn read(&self, ctx: &Context<'_>) -> Details {
        let parts = parts(ctx)?;
        loop {
            match self.try_read(parts).await {
                Err(KeyError::Database(away)) if self.patient && away.is_connection() => {
                    tokio::time::sleep(PAUSE).await
                }
                Err(KeyError::Database(failure)) => return Err(failed(failure.into())),
                Err(failure) => return Err(internal(&failure)),
                Ok(Err(failure)) => return Err(failed(failure)),
                Ok(Ok(details)) => return Ok(details.into_iter().map(|(id, detail)| (id, Arc::new(detail))).collect()),
            }
        }
    }

    async fn try_read(&self, parts: &Parts) -> Result<Result<HashMap<Uuid, Detail>, ReadError>, KeyError> {
        let read = parts
            .reads
            .reader()
            .transaction(Scope::Tenant(self.tenant), async |session| history(session, self.tenant, &self.wanted).await);
        let histories = match read.await {
            Ok(histories) => histories,
            Err(ReadError::Database(failure)) => return Err(KeyError::Database(failure)),
            Err(failure) => return Ok(Err(failure)),
        };
        let stories: Vec<Story> =
            histories.into_values().map(|history| Story { events: history.events, whole: history.whole }).collect();
        audit::details(&parts.audit.sealer, self.tenant, &stories, &self.ids).await.map(Ok)
    }
}
