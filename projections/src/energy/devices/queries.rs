//! What can be asked about devices.

use super::Devices;
use super::row::{COLUMNS, DeviceRow};
use crate::engine::unsigned;
use crate::read::filter::{Absent, Column, Field, Filter, Parameters, Value, lower, place};
use crate::read::{Direction, Page, ReadError, ReadSession, Slice};
use chrono::{DateTime, Utc};
use daybook_domain::TenantId;
use daybook_domain::energy::device::Serial;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What devices can be ordered by; each has an index. Ties are broken by the id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum DeviceOrderBy {
    RegisteredAt,
    /// Whatever the case, by code point.
    Name,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeviceOrder {
    pub by: DeviceOrderBy,
    pub direction: Direction,
}

/// What devices can be filtered by; each has an index.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DeviceField {
    Id,
    /// In whatever case.
    Name,
    Kind,
    /// In whatever spelling.
    Serial,
    Status,
    RegisteredAt,
}

impl Field for DeviceField {
    type Row = DeviceRow;
    type Context = ();

    fn column(self) -> Column {
        match self {
            DeviceField::Id => Column::of("device_id"),
            DeviceField::Name => Column::of("name_key").folded(lower),
            DeviceField::Kind => Column::of("kind"),
            DeviceField::Serial => Column::of("serial_key").absent(Absent::Null).folded(Serial::fold),
            DeviceField::Status => Column::of("status"),
            DeviceField::RegisteredAt => Column::of("registered_at"),
        }
    }

    fn value(self, row: &DeviceRow) -> Option<Value> {
        match self {
            DeviceField::Id => Some(row.device_id.into()),
            DeviceField::Name => Some(row.name_key.as_str().into()),
            DeviceField::Kind => Some(row.kind.as_str().into()),
            DeviceField::Serial => row.serial_key.as_deref().map(Value::from),
            DeviceField::Status => Some(row.status.as_str().into()),
            DeviceField::RegisteredAt => Some(row.registered_at.into()),
        }
    }
}

/// Which devices.
pub type DeviceFilter = Filter<DeviceField>;

/// Where a device stands in an order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum DeviceCursor {
    RegisteredAt(DateTime<Utc>, Uuid),
    Name(String, Uuid),
}

impl DeviceRow {
    pub fn cursor(&self, by: DeviceOrderBy) -> DeviceCursor {
        match by {
            DeviceOrderBy::RegisteredAt => DeviceCursor::RegisteredAt(self.registered_at, self.device_id),
            DeviceOrderBy::Name => DeviceCursor::Name(self.name_key.clone(), self.device_id),
        }
    }
}

/// The tenant's, and of those what is asked for. The row policy would add the tenant too, but only after every row had
/// been read.
fn conditions(tenant: TenantId, filter: &DeviceFilter, parameters: &mut Parameters) -> Vec<String> {
    let mut conditions = vec![format!("tenant_id = {}", place(parameters, tenant.0))];
    conditions.extend(filter.conditions(&(), parameters));
    conditions
}

/// The statement of a page and its parameters.
///
/// # Errors
/// [`ReadError::ForeignCursor`] for a cursor of another order.
pub fn page_query(
    table: &str,
    tenant: TenantId,
    filter: &DeviceFilter,
    order: DeviceOrder,
    page: &Page<DeviceCursor>,
) -> Result<(String, Parameters), ReadError> {
    let column = match order.by {
        DeviceOrderBy::RegisteredAt => "registered_at",
        DeviceOrderBy::Name => "name_key",
    };
    let mut parameters: Parameters = vec![Box::new(page.fetch())];
    let mut conditions = conditions(tenant, filter, &mut parameters);
    let bounds = [(&page.after, order.direction.follows()), (&page.before, order.direction.precedes())];
    for (cursor, operator) in bounds {
        let id = match (cursor, order.by) {
            (None, _) => continue,
            (Some(DeviceCursor::RegisteredAt(at, id)), DeviceOrderBy::RegisteredAt) => {
                parameters.push(Box::new(*at));
                *id
            }
            (Some(DeviceCursor::Name(name, id)), DeviceOrderBy::Name) => {
                parameters.push(Box::new(name.clone()));
                *id
            }
            (Some(_), _) => return Err(ReadError::ForeignCursor),
        };
        parameters.push(Box::new(id));
        let (key, id) = (parameters.len() - 1, parameters.len());
        conditions.push(format!("({column}, device_id) {operator} (${key}, ${id})"));
    }
    let condition = conditions.join(" and ");
    let direction = page.reads(order.direction).sql();
    let columns = COLUMNS.join(", ");
    let sql = format!(
        "select {columns} from {table} where {condition} order by {column} {direction}, device_id {direction} limit $1"
    );
    Ok((sql, parameters))
}

/// A page of a tenant's devices.
///
/// # Errors
/// As [`page_query`], or when the database cannot be asked.
pub async fn page(
    session: &ReadSession,
    tenant: TenantId,
    filter: &DeviceFilter,
    order: DeviceOrder,
    page: &Page<DeviceCursor>,
) -> Result<Slice<DeviceRow>, ReadError> {
    let (sql, parameters) = page_query(&session.table::<Devices>()?, tenant, filter, order, page)?;
    let rows = session.query_list(&sql, &parameters, filter.is_plain()).await?;
    Ok(page.slice(rows.iter().map(DeviceRow::from_row).collect::<Result<_, _>>()?))
}

/// Those of the devices that the tenant has, in no order.
///
/// # Errors
/// When the database cannot be asked.
pub async fn devices_of(session: &ReadSession, tenant: TenantId, ids: &[Uuid]) -> Result<Vec<DeviceRow>, ReadError> {
    let sql = format!(
        "select {} from {} where tenant_id = $1 and device_id = any($2)",
        COLUMNS.join(", "),
        session.table::<Devices>()?
    );
    let rows = session.query(&sql, &[&tenant.0, &ids]).await?;
    rows.iter().map(DeviceRow::from_row).collect()
}

/// One device, if the tenant has it.
///
/// # Errors
/// When the database cannot be asked.
pub async fn device(session: &ReadSession, tenant: TenantId, id: Uuid) -> Result<Option<DeviceRow>, ReadError> {
    Ok(devices_of(session, tenant, &[id]).await?.pop())
}

/// The statement of a count and its parameters.
pub fn count_query(table: &str, tenant: TenantId, filter: &DeviceFilter) -> (String, Parameters) {
    let mut parameters = Parameters::new();
    let conditions = conditions(tenant, filter, &mut parameters).join(" and ");
    (format!("select count(*) from {table} where {conditions}"), parameters)
}

/// How many devices fit. Reads them all: only when asked for.
///
/// # Errors
/// When the database cannot be asked.
pub async fn count(session: &ReadSession, tenant: TenantId, filter: &DeviceFilter) -> Result<u64, ReadError> {
    let (sql, parameters) = count_query(&session.table::<Devices>()?, tenant, filter);
    let rows = session.query_list(&sql, &parameters, filter.is_plain()).await?;
    Ok(rows.first().map_or(0, |row| unsigned(row.get(0))))
}
