//! What can be asked about the roles that a tenant has made.

use super::Roles;
use super::row::{COLUMNS, RoleRow};
use crate::read::filter::{Column, Field, Filter, Value};
use crate::read::keyset::{Keyset, List, SortBy, SortKey, columns_of};
use crate::read::{Direction, Page, ReadError, ReadSession, Slice};
use daybook_domain::TenantId;
use uuid::Uuid;

/// What roles can be filtered by; each has an index.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RoleField {
    Id,
    Key,
    Status,
}

impl Field for RoleField {
    type Row = RoleRow;
    type Context = ();

    fn column(self) -> Column {
        match self {
            RoleField::Id => Column::of("r.role_id"),
            RoleField::Key => Column::of("r.key"),
            RoleField::Status => Column::of("r.status"),
        }
    }

    fn value(self, row: &RoleRow) -> Option<Value> {
        Some(match self {
            RoleField::Id => row.role_id.into(),
            RoleField::Key => row.key.as_str().into(),
            RoleField::Status => row.status.as_str().into(),
        })
    }
}

/// Which roles.
pub type RoleFilter = Filter<RoleField>;

/// By their keys.
const SORT: SortBy = SortBy::Text("r.key");

impl RoleRow {
    pub fn cursor(&self) -> Keyset {
        Keyset { key: SortKey::Text(self.key.clone()), id: self.role_id }
    }
}

fn list(table: &str, tenant: TenantId, filter: &RoleFilter) -> List {
    List::new(columns_of("r", COLUMNS), format!("{table} r"), "r.tenant_id", "r.role_id", tenant).only(filter, &())
}

/// A page of a tenant's roles.
///
/// # Errors
/// [`ReadError::ForeignCursor`] for a cursor of another list, or when the database cannot be asked.
pub async fn page(
    session: &ReadSession,
    tenant: TenantId,
    filter: &RoleFilter,
    direction: Direction,
    page: &Page<Keyset>,
) -> Result<Slice<RoleRow>, ReadError> {
    let list = list(&session.table::<Roles>()?, tenant, filter);
    list.page(session, SORT, direction, page, RoleRow::from_row).await
}

/// How many roles there are on all pages. Reads them all: only when asked for.
///
/// # Errors
/// When the database cannot be asked.
pub async fn count(session: &ReadSession, tenant: TenantId, filter: &RoleFilter) -> Result<u64, ReadError> {
    list(&session.table::<Roles>()?, tenant, filter).count(session).await
}

/// One role of a tenant.
///
/// # Errors
/// When the database cannot be asked.
pub async fn role(session: &ReadSession, tenant: TenantId, id: Uuid) -> Result<Option<RoleRow>, ReadError> {
    let sql = format!(
        "select {} from {} r where r.tenant_id = $1 and r.role_id = $2",
        columns_of("r", COLUMNS),
        session.table::<Roles>()?
    );
    session.query(&sql, &[&tenant.0, &id]).await?.iter().map(RoleRow::from_row).next().transpose()
}
