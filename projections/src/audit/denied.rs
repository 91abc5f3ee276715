//! Pages of the access log: what was refused, newest minute first. It is no read model: the journal knows nothing of it.

use crate::engine::unsigned;
use crate::read::filter::{Absent, Column, Field, Filter, Parameters, Value, place};
use crate::read::{Direction, Page, ReadError, ReadSession, Slice};
use chrono::{DateTime, Utc};
use daybook_domain::TenantId;
use daybook_store::access::AttemptKind;
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;
use uuid::Uuid;

/// Attempts of one minute that have everything else in common.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeniedRow {
    pub id: i64,
    pub minute: DateTime<Utc>,
    pub kind: AttemptKind,
    pub actor: Option<Uuid>,
    pub action: String,
    pub target: Option<String>,
    pub first_at: DateTime<Utc>,
    pub last_at: DateTime<Utc>,
    pub count: u64,
}

/// What attempts can be filtered by; each has an index.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DeniedField {
    Actor,
    Kind,
    Minute,
}

impl Field for DeniedField {
    type Row = DeniedRow;
    type Context = ();

    fn column(self) -> Column {
        match self {
            DeniedField::Actor => Column::of("actor").absent(Absent::Null),
            DeniedField::Kind => Column::of("kind"),
            DeniedField::Minute => Column::of("minute"),
        }
    }

    fn value(self, row: &DeniedRow) -> Option<Value> {
        match self {
            DeniedField::Actor => row.actor.map(Value::from),
            DeniedField::Kind => Some(row.kind.as_str().into()),
            DeniedField::Minute => Some(row.minute.into()),
        }
    }
}

/// Which attempts.
pub type DeniedFilter = Filter<DeniedField>;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeniedCursor(pub DateTime<Utc>, pub i64);

impl DeniedRow {
    pub fn cursor(&self) -> DeniedCursor {
        DeniedCursor(self.minute, self.id)
    }

    fn from_row(row: &Row) -> Result<Self, ReadError> {
        let kind: &str = row.get(2);
        let known = AttemptKind::ALL.iter().copied().find(|known| known.as_str() == kind);
        Ok(DeniedRow {
            id: row.get(0),
            minute: row.get(1),
            kind: known.ok_or(ReadError::Damaged { read_model: "denied_attempts" })?,
            actor: row.get(3),
            action: row.get(4),
            target: row.get(5),
            first_at: row.get(6),
            last_at: row.get(7),
            count: unsigned(row.get(8)),
        })
    }
}

/// The statement of a page and its parameters.
pub fn denied_query(tenant: TenantId, filter: &DeniedFilter, page: &Page<DeniedCursor>) -> (String, Parameters) {
    let mut parameters: Parameters = vec![Box::new(page.fetch())];
    let mut conditions = vec![format!("tenant_id = {}", place(&mut parameters, tenant.0))];
    conditions.extend(filter.conditions(&(), &mut parameters));
    let order = Direction::Descending;
    for (cursor, operator) in [(page.after, order.follows()), (page.before, order.precedes())] {
        let Some(DeniedCursor(minute, id)) = cursor else { continue };
        parameters.push(Box::new(minute));
        parameters.push(Box::new(id));
        let (minute, id) = (parameters.len() - 1, parameters.len());
        conditions.push(format!("(minute, id) {operator} (${minute}, ${id})"));
    }
    let direction = page.reads(order).sql();
    let sql = format!(
        "select id, minute, kind, actor, action, target, first_at, last_at, count from projection.denied_attempts
         where {} order by minute {direction}, id {direction} limit $1",
        conditions.join(" and "),
    );
    (sql, parameters)
}

/// The beginning of its minute.
pub fn minute_of(at: DateTime<Utc>) -> DateTime<Utc> {
    use chrono::{DurationRound, TimeDelta};
    at.duration_trunc(TimeDelta::minutes(1)).unwrap_or(at)
}

/// A page of a tenant's denied attempts.
///
/// # Errors
/// When the database cannot be asked.
pub async fn denied_page(
    session: &ReadSession,
    tenant: TenantId,
    filter: &DeniedFilter,
    page: &Page<DeniedCursor>,
) -> Result<Slice<DeniedRow>, ReadError> {
    let (sql, parameters) = denied_query(tenant, filter, page);
    let rows = session.query_list(&sql, &parameters, filter.is_plain()).await?;
    Ok(page.slice(rows.iter().map(DeniedRow::from_row).collect::<Result<_, _>>()?))
}
