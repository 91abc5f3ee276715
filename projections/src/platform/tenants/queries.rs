//! What can be asked about tenants.

use super::Tenants;
use super::row::{COLUMNS, TenantRow};
use crate::engine::unsigned;
use crate::read::filter::{Absent, Column, Field, Filter, Parameters, Value, lower, place};
use crate::read::{Direction, Page, ReadError, ReadSession, Scope, Slice};
use chrono::{DateTime, Utc};
use daybook_domain::TenantId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What tenants can be ordered by; each has an index. Ties are broken by the id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum TenantOrderBy {
    RegisteredAt,
    /// Whatever the case, by code point.
    Name,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TenantOrder {
    pub by: TenantOrderBy,
    pub direction: Direction,
}

/// Where a tenant stands in an order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum TenantCursor {
    RegisteredAt(DateTime<Utc>, Uuid),
    Name(String, Uuid),
}

impl TenantRow {
    pub fn cursor(&self, by: TenantOrderBy) -> TenantCursor {
        match by {
            TenantOrderBy::RegisteredAt => TenantCursor::RegisteredAt(self.registered_at, self.tenant_id),
            TenantOrderBy::Name => TenantCursor::Name(self.name_key.clone(), self.tenant_id),
        }
    }
}

/// What tenants can be filtered by; each has an index.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TenantField {
    Id,
    /// In whatever case.
    Name,
    Plan,
    Status,
    /// In whatever case.
    Domain,
    RegisteredAt,
}

impl Field for TenantField {
    type Row = TenantRow;
    type Context = ();

    fn column(self) -> Column {
        match self {
            TenantField::Id => Column::of("tenant_id"),
            TenantField::Name => Column::of("name_key").folded(lower),
            TenantField::Plan => Column::of("plan"),
            TenantField::Status => Column::of("status"),
            TenantField::Domain => Column::of("domain").absent(Absent::Null).folded(lower),
            TenantField::RegisteredAt => Column::of("registered_at"),
        }
    }

    fn value(self, row: &TenantRow) -> Option<Value> {
        match self {
            TenantField::Id => Some(row.tenant_id.into()),
            TenantField::Name => Some(row.name_key.as_str().into()),
            TenantField::Plan => Some(row.plan.as_str().into()),
            TenantField::Status => Some(row.status.as_str().into()),
            TenantField::Domain => row.domain.as_deref().map(Value::from),
            TenantField::RegisteredAt => Some(row.registered_at.into()),
        }
    }
}

/// Which tenants.
pub type TenantFilter = Filter<TenantField>;

/// What the scope shows, and of that what is asked for.
fn conditions(scope: Scope, filter: &TenantFilter, parameters: &mut Parameters) -> Vec<String> {
    let mut conditions = Vec::new();
    if let Scope::Tenant(tenant) = scope {
        // The row policy would say so too, but only after every row had been read.
        conditions.push(format!("tenant_id = {}", place(parameters, tenant.0)));
    }
    conditions.extend(filter.conditions(&(), parameters));
    conditions
}

fn only(conditions: &[String]) -> String {
    if conditions.is_empty() { String::new() } else { format!("where {}", conditions.join(" and ")) }
}

/// The statement of a page and its parameters.
///
/// # Errors
/// [`ReadError::ForeignCursor`] for a cursor of another order.
pub fn page_query(
    table: &str,
    scope: Scope,
    filter: &TenantFilter,
    order: TenantOrder,
    page: &Page<TenantCursor>,
) -> Result<(String, Parameters), ReadError> {
    let column = match order.by {
        TenantOrderBy::RegisteredAt => "registered_at",
        TenantOrderBy::Name => "name_key",
    };
    let mut parameters: Parameters = vec![Box::new(page.fetch())];
    let mut conditions = conditions(scope, filter, &mut parameters);
    let bounds = [(&page.after, order.direction.follows()), (&page.before, order.direction.precedes())];
    for (cursor, operator) in bounds {
        let id = match (cursor, order.by) {
            (None, _) => continue,
            (Some(TenantCursor::RegisteredAt(at, id)), TenantOrderBy::RegisteredAt) => {
                parameters.push(Box::new(*at));
                *id
            }
            (Some(TenantCursor::Name(name, id)), TenantOrderBy::Name) => {
                parameters.push(Box::new(name.clone()));
                *id
            }
            (Some(_), _) => return Err(ReadError::ForeignCursor),
        };
        parameters.push(Box::new(id));
        let (key, id) = (parameters.len() - 1, parameters.len());
        conditions.push(format!("({column}, tenant_id) {operator} (${key}, ${id})"));
    }
    let condition = only(&conditions);
    let direction = page.reads(order.direction).sql();
    let columns = COLUMNS.join(", ");
    let sql = format!(
        "select {columns} from {table} {condition} order by {column} {direction}, tenant_id {direction} limit $1"
    );
    Ok((sql, parameters))
}

/// The tenants that the session's scope shows, a page of them.
///
/// # Errors
/// As [`page_query`], or when the database cannot be asked.
pub async fn page(
    session: &ReadSession,
    filter: &TenantFilter,
    order: TenantOrder,
    page: &Page<TenantCursor>,
) -> Result<Slice<TenantRow>, ReadError> {
    let (sql, parameters) = page_query(&session.table::<Tenants>()?, session.scope(), filter, order, page)?;
    let rows = session.query_list(&sql, &parameters, filter.is_plain()).await?;
    Ok(page.slice(rows.iter().map(TenantRow::from_row).collect::<Result<_, _>>()?))
}

/// One tenant, if the session's scope shows it.
///
/// # Errors
/// When the database cannot be asked.
pub async fn tenant(session: &ReadSession, id: TenantId) -> Result<Option<TenantRow>, ReadError> {
    let sql = format!("select {} from {} where tenant_id = $1", COLUMNS.join(", "), session.table::<Tenants>()?);
    let rows = session.query(&sql, &[&id.0]).await?;
    rows.first().map(TenantRow::from_row).transpose()
}

/// How many of these tenants the session's scope shows. Reads them all: only when asked for.
///
/// # Errors
/// When the database cannot be asked.
pub async fn count(session: &ReadSession, filter: &TenantFilter) -> Result<u64, ReadError> {
    let mut parameters = Parameters::new();
    let condition = only(&conditions(session.scope(), filter, &mut parameters));
    let sql = format!("select count(*) from {} {condition}", session.table::<Tenants>()?);
    let rows = session.query_list(&sql, &parameters, filter.is_plain()).await?;
    Ok(rows.first().map_or(0, |row| unsigned(row.get(0))))
}
