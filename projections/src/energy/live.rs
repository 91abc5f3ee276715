//! Readings as they were recorded, event by event in the order of the tenant's log: the source of subscriptions.
//!
//! It reads the journal and no table of its own, up to a position that is known to be durable; the read models'
//! checkpoints are such positions.

use crate::engine::{signed, unsigned};
use crate::read::{ReadError, ReadSession};
use chrono::{DateTime, Utc};
use daybook_domain::TenantId;
use daybook_domain::energy::ReadingsEvent;
use daybook_domain::energy::readings::Row;
use daybook_domain::upcast::Origin;
use daybook_store::codec;
use daybook_store::journal::RecordedEvent;
use uuid::Uuid;

/// Events of any kind that are passed over at once.
pub const PAGE: u64 = 1_000;

const STREAM: &str = "readings";
const EVENT: &str = "energy.readings.recorded";

/// Readings of a device that were accepted together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recorded {
    pub tenant_position: u64,
    pub recorded_at: DateTime<Utc>,
    pub device: Uuid,
    /// In order of time.
    pub rows: Vec<Row>,
}

impl Recorded {
    /// `None` where an event of an old version is read as nothing.
    fn read(origin: &Origin<'_>, tenant_position: u64, payload: &str) -> Result<Option<Recorded>, ReadError> {
        let damaged = |_| ReadError::Damaged { read_model: "readings" };
        let events: Vec<ReadingsEvent> = codec::decode(origin, payload).map_err(damaged)?;
        let Some(ReadingsEvent::Recorded { device, .. }) = events.first() else { return Ok(None) };
        let rows = events.iter().flat_map(ReadingsEvent::rows).collect();
        Ok(Some(Recorded { tenant_position, recorded_at: origin.recorded_at, device: device.0, rows }))
    }
}

/// What was recorded within a page of the tenant's log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    pub recorded: Vec<Recorded>,
    /// Tenant position up to which everything has been looked at; where it began if there is nothing yet.
    pub up_to: u64,
}

/// Tenant, after, up to which journal position, device as text, up to which tenant position. Tenant positions are dense,
/// so the last one bounds the rows that are read, whatever the plan.
pub const QUERY: &str = "select tenant_position, event_version, recorded_at,
        case when event_type = 'energy.readings.recorded' and strpos(payload, $4) > 0 then payload end,
        stream_id, sequence, position
 from journal.events where tenant_id = $1 and tenant_position > $2 and tenant_position <= $5 and position <= $3
 order by tenant_position";

/// The next page of a device after a tenant position, no further than a journal position.
///
/// # Errors
/// When the database cannot be asked.
pub async fn recorded_after(
    session: &ReadSession,
    tenant: TenantId,
    device: Uuid,
    after: u64,
    durable: u64,
) -> Result<Page, ReadError> {
    // Payloads that do not hold the id at all are left where they are; the others are read.
    let (device_text, last) = (device.to_string(), signed(after.saturating_add(PAGE)));
    let rows = session.query(QUERY, &[&tenant.0, &signed(after), &signed(durable), &device_text, &last]).await?;
    let mut page = Page { recorded: Vec::new(), up_to: after };
    for row in &rows {
        page.up_to = unsigned(row.get(0));
        let Some(payload) = row.get::<_, Option<&str>>(3) else { continue };
        let origin = Origin {
            event_type: EVENT,
            event_version: u32::try_from(row.get::<_, i32>(1)).unwrap_or_default(),
            tenant,
            stream_type: STREAM,
            stream_id: row.get(4),
            sequence: unsigned(row.get(5)),
            position: unsigned(row.get(6)),
            recorded_at: row.get(2),
        };
        let recorded = Recorded::read(&origin, page.up_to, payload)?;
        page.recorded.extend(recorded.filter(|recorded| recorded.device == device));
    }
    Ok(page)
}

/// An event of the journal, if readings were recorded in it.
///
/// # Errors
/// When it cannot be read.
pub fn recorded(event: &RecordedEvent) -> Result<Option<Recorded>, ReadError> {
    if event.event_type != EVENT {
        return Ok(None);
    }
    Recorded::read(&event.origin(), event.tenant_position, &event.payload)
}

/// The tenant position from which on a new subscription has seen everything up to a journal position.
///
/// # Errors
/// When the database cannot be asked.
pub async fn head(session: &ReadSession, tenant: TenantId, durable: u64) -> Result<u64, ReadError> {
    let rows = session
        .query(
            "select size from journal.tenant_heads where tenant_id = $1 and last_position <= $2
             order by size desc limit 1",
            &[&tenant.0, &signed(durable)],
        )
        .await?;
    Ok(rows.first().map_or(0, |row| unsigned(row.get(0))))
}
