//! Pages of the audit trail, newest first.

use super::Audit;
use super::row::{AuditRow, COLUMNS};
use crate::engine::{SeriesModel, signed};
use crate::read::filter::{Absent, Column, Field, Filter, Parameters, Value, place};
use crate::read::{Direction, Page, ReadError, ReadSession, Slice};
use daybook_domain::TenantId;
use serde::{Deserialize, Serialize};

/// What events can be filtered by; each alone has an index.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AuditField {
    /// Its number within the tenant.
    Ordinal,
    RecordedAt,
    Actor,
    /// E.g. `device`.
    SubjectType,
    Subject,
    /// E.g. `platform.tenant.renamed`.
    EventType,
    CommandId,
    Correlation,
}

/// The table of the trail, and whose.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trail {
    pub table: String,
    pub tenant: TenantId,
}

impl Field for AuditField {
    type Row = AuditRow;
    type Context = Trail;

    fn column(self) -> Column {
        match self {
            AuditField::Ordinal => Column::of("tenant_position"),
            AuditField::RecordedAt => Column::of("recorded_at"),
            AuditField::Actor => Column::of("actor").absent(Absent::Null),
            AuditField::SubjectType => Column::of("stream_type"),
            AuditField::Subject => Column::of("stream_id"),
            AuditField::EventType => Column::of("event_type"),
            AuditField::CommandId => Column::of("command_id").absent(Absent::Null),
            AuditField::Correlation => Column::of("correlation").absent(Absent::Null),
        }
    }

    fn value(self, row: &AuditRow) -> Option<Value> {
        match self {
            AuditField::Ordinal => Some(signed(row.tenant_position).into()),
            AuditField::RecordedAt => Some(row.recorded_at.into()),
            AuditField::Actor => row.actor.map(Value::from),
            AuditField::SubjectType => Some(row.stream_type.as_str().into()),
            AuditField::Subject => Some(row.stream_id.into()),
            AuditField::EventType => Some(row.event_type.as_str().into()),
            AuditField::CommandId => row.command_id.map(Value::from),
            AuditField::Correlation => row.correlation.as_deref().map(Value::from),
        }
    }

    /// Bounds of time as positions, which they follow: two look-ups in one index, and then any of the other indexes is
    /// in the right order. Where nothing is that late, or that early, no position is.
    fn ranged(self, operator: &str, value: &Value, trail: &Trail, parameters: &mut Parameters) -> Option<String> {
        let (AuditField::RecordedAt, Value::At(at)) = (self, value) else { return None };
        let (bound, direction, none) = match operator {
            ">" | ">=" => (">=", "asc", i64::MAX),
            _ => ("<=", "desc", 0),
        };
        let (tenant, at) = (place(parameters, trail.tenant.0), place(parameters, *at));
        // `coalesce` stands inside: a comparison with it outside would not use an index under a row policy.
        Some(format!(
            "tenant_position {bound} (select coalesce(
                 (select b.tenant_position from {} b where b.tenant_id = {tenant} and b.recorded_at {operator} {at}
                  order by b.recorded_at {direction}, b.tenant_position {direction} limit 1), {none}))",
            trail.table
        ))
    }
}

/// Which events.
pub type AuditFilter = Filter<AuditField>;

/// Where an event stands: its tenant position.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AuditCursor(pub u64);

impl AuditRow {
    pub fn cursor(&self) -> AuditCursor {
        AuditCursor(self.tenant_position)
    }
}

/// The statement of a page and its parameters. Events that are recorded meanwhile come before the first page, so none is
/// missed or seen twice.
pub fn page_query(trail: &Trail, filter: &AuditFilter, page: &Page<AuditCursor>) -> (String, Parameters) {
    let mut parameters: Parameters = vec![Box::new(page.fetch())];
    let mut conditions = vec![format!("tenant_id = {}", place(&mut parameters, trail.tenant.0))];
    conditions.extend(filter.conditions(trail, &mut parameters));
    let order = Direction::Descending;
    for (cursor, operator) in [(page.after, order.follows()), (page.before, order.precedes())] {
        let Some(AuditCursor(position)) = cursor else { continue };
        parameters.push(Box::new(signed(position)));
        conditions.push(format!("tenant_position {operator} ${}", parameters.len()));
    }
    let sql = format!(
        "select {COLUMNS} from {} where {} order by tenant_position {} limit $1",
        trail.table,
        conditions.join(" and "),
        page.reads(order).sql(),
    );
    (sql, parameters)
}

/// A page of a tenant's trail.
///
/// # Errors
/// When the read model is not built or the database cannot be asked.
pub async fn page(
    session: &ReadSession,
    tenant: TenantId,
    filter: &AuditFilter,
    page: &Page<AuditCursor>,
) -> Result<Slice<AuditRow>, ReadError> {
    let table = Audit::table(session.series_version::<Audit>()?);
    let (sql, parameters) = page_query(&Trail { table, tenant }, filter, page);
    let rows = session.query_list(&sql, &parameters, filter.is_plain()).await?;
    Ok(page.slice(rows.iter().map(AuditRow::from_row).collect()))
}
