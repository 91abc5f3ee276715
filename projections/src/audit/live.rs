//! Events as they were recorded, one by one in the order of the tenant's log: the source of a subscription.
//!
//! It reads the journal and not the read model, up to a position that is known to be durable.

use super::AuditRow;
use crate::engine::{OpenedEvent, signed, unsigned};
use crate::read::{ReadError, ReadSession};
use daybook_domain::TenantId;
use daybook_store::journal::RecordedEvent;
use uuid::Uuid;

/// Events of any kind that are passed over at once.
pub const LIVE_PAGE: u64 = 1_000;

/// Which events; each member lets one of its values through, or everything where it is absent.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LiveFilter {
    pub event_types: Option<Vec<String>>,
    pub subject_types: Option<Vec<String>>,
    pub subjects: Option<Vec<Uuid>>,
    pub actors: Option<Vec<Uuid>>,
}

impl LiveFilter {
    pub fn admits(&self, row: &AuditRow) -> bool {
        fn among<T: PartialEq>(known: Option<&Vec<T>>, value: Option<&T>) -> bool {
            known.is_none_or(|known| value.is_some_and(|value| known.contains(value)))
        }
        among(self.event_types.as_ref(), Some(&row.event_type))
            && among(self.subject_types.as_ref(), Some(&row.stream_type))
            && among(self.subjects.as_ref(), Some(&row.stream_id))
            && among(self.actors.as_ref(), row.actor.as_ref())
    }
}

/// What was recorded within a page of the tenant's log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LivePage {
    pub rows: Vec<AuditRow>,
    /// Tenant position up to which everything has been looked at; where it began if there is nothing yet.
    pub up_to: u64,
}

/// Tenant, after, up to which journal position, up to which tenant position, then types of events, types and ids of
/// subjects. Tenant positions are dense, so the last one bounds the rows that are read, whatever the plan. The payload
/// is left where it is.
const QUERY: &str = "select e.position, e.tenant_id, e.tenant_position, e.stream_type, e.stream_id, e.sequence, e.event_id,
        e.event_type, e.event_version, e.recorded_at, ''::text,
        case when ($5::text[] is null or e.event_type = any($5)) and ($6::text[] is null or e.stream_type = any($6))
                  and ($7::uuid[] is null or e.stream_id = any($7)) then e.metadata end
 from journal.events e where e.tenant_id = $1 and e.tenant_position > $2 and e.tenant_position <= $4 and e.position <= $3
 order by e.tenant_position";

/// The next page after a tenant position, no further than a journal position.
///
/// # Errors
/// When the database cannot be asked.
pub async fn recorded_after(
    session: &ReadSession,
    tenant: TenantId,
    filter: &LiveFilter,
    after: u64,
    durable: u64,
) -> Result<LivePage, ReadError> {
    let LiveFilter { event_types, subject_types, subjects, .. } = filter;
    let last = signed(after.saturating_add(LIVE_PAGE));
    let rows = session
        .query(QUERY, &[&tenant.0, &signed(after), &signed(durable), &last, event_types, subject_types, subjects])
        .await?;
    let mut page = LivePage { rows: Vec::new(), up_to: after };
    for row in &rows {
        page.up_to = unsigned(row.get(2));
        // Who did it stands in the metadata.
        if row.get::<_, Option<&str>>(11).is_some() {
            let event = AuditRow::of(&OpenedEvent::new(RecordedEvent::from_row(row, 0), String::new()));
            page.rows.extend(Some(event).filter(|row| filter.admits(row)));
        }
    }
    Ok(page)
}
