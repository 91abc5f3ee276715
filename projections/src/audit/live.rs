//! Events as they were recorded, one by one in the order of the tenant's log: the source of a subscription.
//!
//! It reads the journal and not the read model, up to a position that is known to be durable.

use super::{AuditField, AuditFilter, AuditRow};
use crate::engine::{OpenedEvent, signed, unsigned};
use crate::read::filter::{Filter, Test, Value};
use crate::read::{ReadError, ReadSession};
use daybook_domain::TenantId;
use daybook_store::journal::RecordedEvent;
use uuid::Uuid;

/// Events of any kind that are passed over at once.
pub const LIVE_PAGE: u64 = 1_000;

/// What was recorded within a page of the tenant's log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LivePage {
    pub rows: Vec<AuditRow>,
    /// Tenant position up to which everything has been looked at; where it began if there is nothing yet.
    pub up_to: u64,
}

/// Tenant, after, up to which journal position, up to which tenant position, then types of events, types and ids of
/// subjects, none for all. Tenant positions are dense, so the last one bounds the rows that are read, whatever the plan. The payload
/// is left where it is.
const QUERY: &str = "select e.position, e.tenant_id, e.tenant_position, e.stream_type, e.stream_id, e.sequence, e.event_id,
        e.event_type, e.event_version, e.recorded_at, ''::text,
        case when ($5::text[] is null or e.event_type = any($5)) and ($6::text[] is null or e.stream_type = any($6))
                  and ($7::uuid[] is null or e.stream_id = any($7)) then e.metadata end
 from journal.events e where e.tenant_id = $1 and e.tenant_position > $2 and e.tenant_position <= $4 and e.position <= $3
 order by e.tenant_position";

/// The values that a field must have one of, if the filter says so outright.
fn among(filter: &AuditFilter, field: AuditField) -> Option<Vec<&Value>> {
    match filter {
        Filter::And(all) => all.iter().find_map(|filter| among(filter, field)),
        Filter::Is(of, Test::Eq(value)) if *of == field => Some(vec![value]),
        Filter::Is(of, Test::In(values)) if *of == field => Some(values.iter().collect()),
        Filter::Is(..) | Filter::Or(_) | Filter::Not(_) => None,
    }
}

fn text(value: &Value) -> Option<&str> {
    if let Value::Text(text) = value { Some(text) } else { None }
}

fn id(value: &Value) -> Option<Uuid> {
    if let Value::Id(id) = value { Some(*id) } else { None }
}

/// The next page after a tenant position, no further than a journal position.
///
/// # Errors
/// When the database cannot be asked.
pub async fn recorded_after(
    session: &ReadSession,
    tenant: TenantId,
    filter: &AuditFilter,
    after: u64,
    durable: u64,
) -> Result<LivePage, ReadError> {
    let texts = |field| among(filter, field).map(|values| values.into_iter().filter_map(text).collect::<Vec<_>>());
    let (event_types, subject_types) = (texts(AuditField::EventType), texts(AuditField::SubjectType));
    let subjects =
        among(filter, AuditField::Subject).map(|values| values.into_iter().filter_map(id).collect::<Vec<_>>());
    let last = signed(after.saturating_add(LIVE_PAGE));
    let rows = session
        .query(QUERY, &[&tenant.0, &signed(after), &signed(durable), &last, &event_types, &subject_types, &subjects])
        .await?;
    let mut page = LivePage { rows: Vec::new(), up_to: after };
    for row in &rows {
        page.up_to = unsigned(row.get(2));
        // Some of what is asked about stands in the metadata.
        if row.get::<_, Option<&str>>(11).is_some() {
            let event = AuditRow::of(&OpenedEvent::new(RecordedEvent::from_row(row, 0), String::new()));
            page.rows.extend(Some(event).filter(|row| filter.holds(row)));
        }
    }
    Ok(page)
}
