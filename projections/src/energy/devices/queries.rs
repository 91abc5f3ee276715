//! What can be asked about devices.

use super::Devices;
use super::row::{COLUMNS, DeviceRow};
use crate::engine::unsigned;
use crate::read::{Direction, Page, ReadError, ReadSession, Slice};
use chrono::{DateTime, Utc};
use daybook_domain::TenantId;
use daybook_domain::energy::device::DeviceKind;
use serde::{Deserialize, Serialize};
use tokio_postgres::types::ToSql;
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

/// Which devices; every member that is there must fit.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DeviceFilter {
    pub kind: Option<DeviceKind>,
    /// As [`daybook_domain::energy::device::Serial::key`] gives it.
    pub serial_key: Option<String>,
}

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

type Parameters = Vec<Box<dyn ToSql + Sync + Send>>;

impl DeviceFilter {
    /// As conditions; the row policy would add the tenant too, but only after every row had been read.
    fn conditions(&self, tenant: TenantId, parameters: &mut Parameters) -> Vec<String> {
        parameters.push(Box::new(tenant.0));
        let mut conditions = vec![format!("tenant_id = ${}", parameters.len())];
        if let Some(kind) = self.kind {
            parameters.push(Box::new(kind.as_str()));
            conditions.push(format!("kind = ${}", parameters.len()));
        }
        if let Some(serial) = &self.serial_key {
            parameters.push(Box::new(serial.clone()));
            conditions.push(format!("serial_key = ${}", parameters.len()));
        }
        conditions
    }
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
    let mut conditions = filter.conditions(tenant, &mut parameters);
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

fn borrowed(parameters: &Parameters) -> Vec<&(dyn ToSql + Sync)> {
    parameters.iter().map(|p| &**p as &(dyn ToSql + Sync)).collect()
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
    let rows = session.query(&sql, &borrowed(&parameters)).await?;
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
    let conditions = filter.conditions(tenant, &mut parameters).join(" and ");
    (format!("select count(*) from {table} where {conditions}"), parameters)
}

/// How many devices fit. Reads them all: only when asked for.
///
/// # Errors
/// When the database cannot be asked.
pub async fn count(session: &ReadSession, tenant: TenantId, filter: &DeviceFilter) -> Result<u64, ReadError> {
    let (sql, parameters) = count_query(&session.table::<Devices>()?, tenant, filter);
    let rows = session.query(&sql, &borrowed(&parameters)).await?;
    Ok(rows.first().map_or(0, |row| unsigned(row.get(0))))
}
