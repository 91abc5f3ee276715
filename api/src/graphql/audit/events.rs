//! `events`: every event of a tenant after a position, oldest first, without gap or duplicate, then those to come.
//!
//! An event is told as `auditTrail` tells it; old and new values are read once for all who listen.

use super::detail::PageDetails;
use super::text;
use super::trail::AuditEntry;
use crate::graphql::Parts;
use crate::graphql::errors::{Code, error};
use crate::graphql::reads::failed;
use crate::graphql::request::{parts, permit, resume, tenant_of};
use crate::graphql::scalars::Position;
use crate::graphql::tail::{self, Heard, Listener, Page, Readers};
use async_graphql::{Context, InputObject, Result, SimpleObject, Subscription};
use daybook_domain::registry::event_contracts;
use daybook_domain::{Action, TenantId};
use daybook_projections::audit::{AuditRow, LIVE_PAGE, LiveFilter, recorded_after};
use daybook_projections::{ReadError, Scope};
use futures_util::Stream;
use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::time::timeout;
use uuid::Uuid;

/// Values of a condition.
const VALUES_MAX: usize = 100;
/// Events whose old and new values are read together.
const DETAILS_MAX: usize = 100;
/// Seconds between two signs of life.
const HEARTBEAT_S_DEFAULT: u64 = 15;
const HEARTBEAT_S_MAX: u64 = 300;

/// An event on its way to who listens.
#[derive(Clone)]
pub(crate) struct HeardEvent {
    row: Arc<AuditRow>,
    details: Arc<PageDetails>,
}

impl Heard for HeardEvent {
    type Wish = LiveFilter;
    const PAGE: u64 = LIVE_PAGE;

    fn readers(parts: &Parts) -> &Readers<Self> {
        &parts.tails.events
    }

    async fn page(
        parts: &Parts,
        tenant: TenantId,
        filter: Option<&LiveFilter>,
        after: u64,
        up_to: u64,
    ) -> Result<Page<Self>, ReadError> {
        let everything = LiveFilter::default();
        let filter = filter.unwrap_or(&everything);
        let read = parts.reads.reader().transaction(Scope::Tenant(tenant), async |session| {
            recorded_after(session, tenant, filter, after, up_to).await
        });
        let page = read.await?;
        let rows: Vec<Arc<AuditRow>> = page.rows.into_iter().map(Arc::new).collect();
        let heard = rows.chunks(DETAILS_MAX).flat_map(|rows| {
            let details = Arc::new(PageDetails::of(tenant, rows.iter().map(Arc::as_ref)).patient());
            rows.iter().map(move |row| HeardEvent { row: row.clone(), details: details.clone() })
        });
        Ok(Page { heard: heard.collect(), up_to: page.up_to })
    }

    fn tenant_position(&self) -> u64 {
        self.row.tenant_position
    }

    fn is_wanted(&self, filter: &LiveFilter) -> bool {
        filter.admits(&self.row)
    }
}

/// An event, or a heartbeat: how far everything has been looked at.
#[derive(SimpleObject)]
pub struct EventRecorded {
    /// Resume after this with `after`.
    pub position: Position,
    /// The event. Null in a heartbeat: of what was recorded up to the position, nothing is left to tell.
    pub node: Option<AuditEntry>,
}

/// A condition on a name. What is given must hold.
#[derive(InputObject)]
pub struct EventNameFilter {
    /// Exactly this one.
    pub eq: Option<String>,
    /// One of these; 1 to 100.
    #[graphql(name = "in")]
    pub among: Option<Vec<String>>,
}

/// A condition on an id. What is given must hold.
#[derive(InputObject)]
pub struct EventIdFilter {
    /// Exactly this one.
    pub eq: Option<Uuid>,
    /// One of these; 1 to 100.
    #[graphql(name = "in")]
    pub among: Option<Vec<Uuid>>,
}

/// Which events; everything that is given must hold.
#[derive(InputObject, Default)]
pub struct EventsFilter {
    /// What happened, e.g. `{ in: ["platform.tenant.renamed", "energy.device.registered"] }`.
    pub event_type: Option<EventNameFilter>,
    /// What kind of thing it happened to, e.g. `{ eq: "device" }`.
    pub subject_type: Option<EventNameFilter>,
    /// What it happened to.
    pub subject_id: Option<EventIdFilter>,
    /// Who did it.
    pub actor: Option<EventIdFilter>,
}

/// Types of events and of subjects that there are.
static KNOWN: LazyLock<(BTreeSet<String>, BTreeSet<String>)> = LazyLock::new(|| {
    event_contracts().into_iter().map(|contract| (contract.event_type, contract.stream_type.to_owned())).unzip()
});

impl EventsFilter {
    fn checked(self) -> Result<LiveFilter> {
        let (events, subjects) = &*KNOWN;
        Ok(LiveFilter {
            event_types: self.event_type.map(|filter| filter.names("eventType", events)).transpose()?,
            subject_types: self.subject_type.map(|filter| filter.names("subjectType", subjects)).transpose()?,
            subjects: self.subject_id.map(|filter| values("subjectId", filter.eq, filter.among)).transpose()?,
            actors: self.actor.map(|filter| values("actor", filter.eq, filter.among)).transpose()?,
        })
    }
}

impl EventNameFilter {
    /// A name that is misspelt would be waited for in vain.
    fn names(self, field: &str, known: &BTreeSet<String>) -> Result<Vec<String>> {
        let names = values(field, self.eq, self.among)?;
        for name in &names {
            if text(field, Some(name.clone()))?.is_some_and(|name| !known.contains(&name)) {
                let message = format!("filter.{field}: there is no `{name}`; `schemas/events` lists what there is");
                return Err(error(Code::BadUserInput, message));
            }
        }
        Ok(names)
    }
}

/// The values that fulfil both members.
fn values<T: PartialEq>(field: &str, eq: Option<T>, among: Option<Vec<T>>) -> Result<Vec<T>> {
    let refused = |why: String| Err(error(Code::BadUserInput, format!("filter.{field} {why}")));
    if let Some(among) = &among
        && !(1..=VALUES_MAX).contains(&among.len())
    {
        return refused(format!("names {} values: give 1 to {VALUES_MAX}", among.len()));
    }
    match (eq, among) {
        (None, None) => refused("says nothing: give `eq` or `in`, or leave it out".to_owned()),
        (Some(eq), None) => Ok(vec![eq]),
        (None, Some(among)) => Ok(among),
        (Some(eq), Some(among)) if among.contains(&eq) => Ok(vec![eq]),
        (Some(_), Some(_)) => refused("holds for nothing: `eq` is none of `in`".to_owned()),
    }
}

/// What a subscriber is told.
enum Told {
    Event(HeardEvent),
    /// Nothing up to a tenant position.
    Heartbeat(u64),
}

/// What a listener hears after a tenant position, with heartbeats while it hears nothing. An error is the last item.
fn told(listener: Listener<HeardEvent>, after: u64, heartbeat: Duration) -> impl Stream<Item = Result<Told>> {
    futures_util::stream::unfold(Some((listener, after)), move |state| async move {
        let (mut listener, known) = state?;
        loop {
            match timeout(heartbeat, listener.next()).await {
                Ok(Ok(heard)) => {
                    let known = heard.row.tenant_position;
                    return Some((Ok(Told::Event(heard)), Some((listener, known))));
                }
                // The error is the last word: what comes after it would have a gap.
                Ok(Err(failure)) => return Some((Err(failed(failure)), None)),
                Err(_) => {
                    // What is known already need not be told again: to go on from there costs the same.
                    if let Some(seen) = listener.seen().filter(|seen| *seen > known) {
                        return Some((Ok(Told::Heartbeat(seen)), Some((listener, seen))));
                    }
                }
            }
        }
    })
}

#[derive(Default)]
pub struct EventsSubscription;

#[Subscription]
impl EventsSubscription {
    /// Every event of a tenant after a position, oldest first, without gap or duplicate, then those to come. Without
    /// `after`, from now on. Needs the permission `audit.read`. While a filter lets nothing through, heartbeats tell a
    /// position to resume after that spares looking at the same events again.
    async fn events(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Whose; your own tenant unless told.")] tenant: Option<Uuid>,
        #[graphql(desc = "The last position you have seen.")] after: Option<Position>,
        #[graphql(desc = "Which events; all unless told.")] filter: Option<EventsFilter>,
        #[graphql(
            desc = "Seconds after which a heartbeat is sent when there was nothing else to tell, 1–300; 15 unless told."
        )]
        heartbeat_seconds: Option<i32>,
    ) -> Result<impl Stream<Item = Result<EventRecorded>> + use<>> {
        use futures_util::StreamExt;

        let tenant = tenant_of(ctx, tenant)?;
        permit(ctx, Action::AuditRead, tenant)?;
        let parts = parts(ctx)?.clone();
        let filter = filter.unwrap_or_default().checked()?;
        let heartbeat = match heartbeat_seconds.map(u64::try_from) {
            None => HEARTBEAT_S_DEFAULT,
            Some(Ok(seconds @ 1..=HEARTBEAT_S_MAX)) => seconds,
            Some(_) => {
                let message = format!("heartbeatSeconds is not 1 to {HEARTBEAT_S_MAX}");
                return Err(error(Code::BadUserInput, message));
            }
        };
        let after = match after {
            None => {
                let durable = parts.executor.journal().durable().borrow().position;
                tail::head(&parts, tenant, durable).await.map_err(failed)?
            }
            Some(position) => resume(ctx, tenant, position)?,
        };
        let listener = Listener::new(parts.clone(), tenant, filter, after);
        Ok(told(listener, after, Duration::from_secs(heartbeat)).map(move |told| {
            let position = |at| Position(parts.opaque.position(tenant, at));
            Ok(match told? {
                Told::Heartbeat(at) => EventRecorded { position: position(at), node: None },
                Told::Event(HeardEvent { row, details }) => {
                    let position = position(row.tenant_position);
                    let node = AuditEntry::of(AuditRow::clone(&row), position.clone(), details);
                    EventRecorded { position, node: Some(node) }
                }
            })
        }))
    }
}
