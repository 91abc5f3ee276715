//! What can be asked about devices.

use super::Devices;
use super::row::{COLUMNS, DeviceRow};
use crate::engine::unsigned;
use crate::read::condition::{Place, RowRule};
use crate::read::filter::{Absent, Column, Field, Filter, Parameters, Value, lower, place};
use crate::read::{Direction, Page, ReadError, ReadSession, Slice};
use chrono::{DateTime, Utc};
use daybook_domain::TenantId;
use daybook_domain::condition::Record;
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

/// Where rules find the fields of a device. Named as the domain names them.
pub fn places(field: &str) -> Option<Place> {
    Some(match field {
        "id" => Place::of("device_id").indexed(),
        "name" => Place::of("name"),
        "kind" => Place::of("kind"),
        "serial" => Place::of("serial"),
        "site" => Place::of("site_name"),
        "timeZone" => Place::of("time_zone"),
        "resolutionS" => Place::of("resolution_s"),
        "direction" => Place::of("direction"),
        "maxPowerW" => Place::of("max_power_w"),
        "status" => Place::of("status"),
        _ => return None,
    })
}

impl Record for DeviceRow {
    fn value(&self, field: &str) -> Option<Value> {
        match field {
            "id" => Some(self.device_id.into()),
            "name" => Some(self.name.as_str().into()),
            "kind" => Some(self.kind.as_str().into()),
            "serial" => self.serial.as_deref().map(Value::from),
            "site" => Some(self.site_name.as_str().into()),
            "timeZone" => Some(self.time_zone.as_str().into()),
            "resolutionS" => Some(i64::from(self.resolution_s).into()),
            "direction" => Some(self.direction.as_str().into()),
            "maxPowerW" => Some(self.max_power_w.into()),
            "status" => Some(self.status.as_str().into()),
            _ => None,
        }
    }
}

/// The tenant's, and of those what is asked for. The row policy would add the tenant too, but only after every row had
/// been read.
fn conditions(tenant: TenantId, filter: &DeviceFilter, rule: &RowRule, parameters: &mut Parameters) -> Vec<String> {
    let mut conditions = vec![format!("tenant_id = {}", place(parameters, tenant.0))];
    conditions.extend(filter.conditions(&(), parameters));
    conditions.extend(rule.conditions(places, parameters));
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
    rule: &RowRule,
    order: DeviceOrder,
    page: &Page<DeviceCursor>,
) -> Result<(String, Parameters), ReadError> {
    let column = match order.by {
        DeviceOrderBy::RegisteredAt => "registered_at",
        DeviceOrderBy::Name => "name_key",
    };
    let mut parameters: Parameters = vec![Box::new(page.fetch())];
    let mut conditions = conditions(tenant, filter, rule, &mut parameters);
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

/// A page of a tenant's devices: of those that the rule lets the caller see.
///
/// # Errors
/// As [`page_query`], or when the database cannot be asked.
pub async fn page(
    session: &ReadSession,
    tenant: TenantId,
    filter: &DeviceFilter,
    rule: &RowRule,
    order: DeviceOrder,
    page: &Page<DeviceCursor>,
) -> Result<Slice<DeviceRow>, ReadError> {
    let (sql, parameters) = page_query(&session.table::<Devices>()?, tenant, filter, rule, order, page)?;
    let rows = session.query_list(&sql, &parameters, filter.is_plain() && rule.is_all()).await?;
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
pub fn count_query(table: &str, tenant: TenantId, filter: &DeviceFilter, rule: &RowRule) -> (String, Parameters) {
    let mut parameters = Parameters::new();
    let conditions = conditions(tenant, filter, rule, &mut parameters).join(" and ");
    (format!("select count(*) from {table} where {conditions}"), parameters)
}

/// How many devices fit. Reads them all: only when asked for.
///
/// # Errors
/// When the database cannot be asked.
pub async fn count(
    session: &ReadSession,
    tenant: TenantId,
    filter: &DeviceFilter,
    rule: &RowRule,
) -> Result<u64, ReadError> {
    let (sql, parameters) = count_query(&session.table::<Devices>()?, tenant, filter, rule);
    let rows = session.query_list(&sql, &parameters, filter.is_plain() && rule.is_all()).await?;
    Ok(rows.first().map_or(0, |row| unsigned(row.get(0))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use daybook_domain::energy::device::{DEVICE_FIELDS, Device, DeviceKind, Direction, MaxPower, Name, Profile};
    use daybook_domain::energy::device::{Resolution, Site, TimeZone, field_of};

    #[test]
    fn rules_find_in_a_row_what_the_device_says_of_itself() {
        let (id, at) = (Uuid::from_u128(7), DateTime::UNIX_EPOCH);
        let row = DeviceRow {
            tenant_id: Uuid::from_u128(1),
            device_id: id,
            name: "Roof, South".into(),
            name_key: "roof, south".into(),
            kind: DeviceKind::Pv,
            serial: Some("sn 4 2".into()),
            serial_key: Some("SN42".into()),
            site_name: "12 Mill Lane".into(),
            time_zone: "Europe/Berlin".into(),
            resolution_s: 900,
            direction: Direction::Export,
            max_power_w: 10_000,
            status: super::super::DeviceStatus::Active,
            decommissioned_at: None,
            reason: None,
            version: 1,
            registered_at: at,
            changed_at: at,
            tenant_position: 1,
            position: 1,
        };
        let profile = Profile {
            name: Name::parse(&row.name).unwrap(),
            kind: row.kind,
            serial: Some(Serial::parse("sn 4 2").unwrap()),
            site: Site {
                name: Name::parse(&row.site_name).unwrap(),
                time_zone: TimeZone::parse(&row.time_zone).unwrap(),
            },
            resolution_s: Resolution::parse(900).unwrap(),
            direction: row.direction,
            max_power_w: MaxPower::parse(10_000).unwrap(),
        };
        let device = Device::Active { profile };
        for field in DEVICE_FIELDS {
            let value = row.value(&field.name);
            assert_eq!(value, field_of(&device, id, &field.name), "{}", field.name);
            assert_eq!(value.map(|value| value.kind()), Some(field.kind), "{}", field.name);
            assert!(places(&field.name).is_some(), "{} has a column", field.name);
        }
    }
}
