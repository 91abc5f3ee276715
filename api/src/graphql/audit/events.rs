//! `events`: every event of a tenant after a position, oldest first, without gap or duplicate, then those to come.
//!
//! An event is told as `auditTrail` tells it; old and new values are read once for all who listen.

use super::detail::PageDetails;
use super::trail::{AuditEntry, AuditTrailFilter};
use crate::graphql::Parts;
use crate::graphql::errors::{Code, error};
use crate::graphql::filters::filter;
use crate::graphql::guard::guarded;
use crate::graphql::reads::failed;
use crate::graphql::request::{credential, parts, permit, resume, tenant_of};
use crate::graphql::scalars::Position;
use crate::graphql::sight::Sight;
use crate::graphql::tail::{self, Heard, Listener, Listeners, Page};
use async_graphql::{Context, Result, SimpleObject, Subscription};
use daybook_domain::registry::event_contracts;
use daybook_domain::rules::Verdict;
use daybook_domain::{Action, TenantId};
use daybook_projections::audit::{AuditField, AuditFilter, AuditRow, LIVE_PAGE, recorded_after};
use daybook_projections::engine::OpenedEvent;
use daybook_projections::read::filter::{Filter, Test, Value};
use daybook_projections::{ReadError, Scope};
use daybook_store::journal::RecordedEvent;
use futures_util::Stream;
use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use uuid::Uuid;

/// Characters of a name that are repeated in an answer.
const NAME_CHARS_MAX: usize = 100;
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
    type Wish = AuditFilter;
    const PAGE: u64 = LIVE_PAGE;

    fn listeners(parts: &Parts) -> &Listeners<Self> {
        &parts.tails.events
    }

    async fn page(
        parts: &Parts,
        tenant: TenantId,
        filter: &AuditFilter,
        after: u64,
        up_to: u64,
    ) -> Result<Page<Self>, ReadError> {
        let read = parts.reads.reader().transaction(Scope::Tenant(tenant), async |session| {
            recorded_after(session, tenant, filter, after, up_to).await
        });
        let page = read.await?;
        Ok(Page { heard: heard(tenant, page.rows), up_to: page.up_to })
    }

    fn of(tenant: TenantId, events: Vec<RecordedEvent>) -> Result<Vec<Self>, ReadError> {
        // The payload stays where it is, as it does where a page is read.
        let rows = events.into_iter().map(|event| AuditRow::of(&OpenedEvent::new(event, String::new())));
        Ok(heard(tenant, rows.collect()))
    }

    fn tenant_position(&self) -> u64 {
        self.row.tenant_position
    }

    fn is_wanted(&self, filter: &AuditFilter) -> bool {
        filter.holds(&self.row)
    }
}

fn heard(tenant: TenantId, rows: Vec<AuditRow>) -> Vec<HeardEvent> {
    let rows: Vec<Arc<AuditRow>> = rows.into_iter().map(Arc::new).collect();
    let heard = rows.chunks(DETAILS_MAX).flat_map(|rows| {
        let details = Arc::new(PageDetails::of(tenant, rows.iter().map(Arc::as_ref)).patient());
        rows.iter().map(move |row| HeardEvent { row: row.clone(), details: details.clone() })
    });
    heard.collect()
}

/// An event, or a heartbeat: how far everything has been looked at.
#[derive(SimpleObject)]
pub struct EventRecorded {
    /// Resume after this with `after`.
    pub position: Position,
    /// The event. Null in a heartbeat: of what was recorded up to the position, nothing is left to tell.
    pub node: Option<AuditEntry>,
}

/// Types of events and of subjects that there are.
static KNOWN: LazyLock<(BTreeSet<String>, BTreeSet<String>)> = LazyLock::new(|| {
    event_contracts().into_iter().map(|contract| (contract.event_type, contract.stream_type.to_owned())).unzip()
});

/// A name that is misspelt would be waited for in vain.
fn check_names(filter: &AuditFilter) -> Result<()> {
    let (events, subjects) = &*KNOWN;
    let (name, known, values) = match filter {
        Filter::And(filters) | Filter::Or(filters) => return filters.iter().try_for_each(check_names),
        Filter::Not(filter) => return check_names(filter),
        Filter::Is(AuditField::EventType, test) => ("eventType", events, values(test)),
        Filter::Is(AuditField::SubjectType, test) => ("subjectType", subjects, values(test)),
        Filter::Is(..) => return Ok(()),
    };
    for value in values {
        if let Value::Text(text) = value
            && !known.contains(text)
        {
            let text: String = text.chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect();
            let message = format!("filter.{name}: there is no `{text}`; `schemas/events` lists what there is");
            return Err(error(Code::BadUserInput, message));
        }
    }
    Ok(())
}

/// What is compared with as a whole.
fn values(test: &Test) -> &[Value] {
    match test {
        Test::Eq(value) | Test::Ne(value) => std::slice::from_ref(value),
        Test::In(values) | Test::NotIn(values) => values,
        _ => &[],
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
            match listener.next_within(heartbeat).await {
                Ok(Some(heard)) => {
                    let known = heard.row.tenant_position;
                    return Some((Ok(Told::Event(heard)), Some((listener, known))));
                }
                // The error is the last word: what comes after it would have a gap.
                Err(failure) => return Some((Err(failed(failure)), None)),
                Ok(None) => {
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
        #[graphql(desc = "Which events; all unless told.")] filter: Option<AuditTrailFilter>,
        #[graphql(
            desc = "Seconds after which a heartbeat is sent when there was nothing else to tell, 1–300; 15 unless told."
        )]
        heartbeat_seconds: Option<i32>,
    ) -> Result<impl Stream<Item = Result<EventRecorded>> + use<>> {
        use futures_util::StreamExt;

        let tenant = tenant_of(ctx, tenant)?;
        permit(ctx, Action::AuditRead, tenant)?;
        let sight = Sight::of(Verdict::Always, credential(ctx)?);
        let parts = parts(ctx)?.clone();
        let filter = self::filter(filter)?;
        check_names(&filter)?;
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
        let events = told(listener, after, Duration::from_secs(heartbeat)).map(move |told| {
            let position = |at| Position(parts.opaque.position(tenant, at));
            Ok(match told? {
                Told::Heartbeat(at) => EventRecorded { position: position(at), node: None },
                Told::Event(HeardEvent { row, details }) => {
                    let position = position(row.tenant_position);
                    let node = AuditEntry::of(AuditRow::clone(&row), position.clone(), details);
                    EventRecorded { position, node: Some(node) }
                }
            })
        });
        guarded(ctx, Action::AuditRead, tenant, sight, events)
    }
}
