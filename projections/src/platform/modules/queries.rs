//! What can be asked about the modules of a tenant.

use super::Modules;
use super::row::{COLUMNS, ModuleRow};
use crate::read::filter::{Column, Field, Filter, Value, lower};
use crate::read::keyset::{Keyset, List, SortBy, SortKey, columns_of};
use crate::read::{Direction, Page, ReadError, ReadSession, Slice};
use daybook_domain::TenantId;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

/// What modules can be ordered by; each has an index. Ties are broken by the id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ModuleOrderBy {
    RegisteredAt,
    /// Whatever the case, by code point.
    Name,
}

impl ModuleOrderBy {
    fn column(self) -> SortBy {
        match self {
            ModuleOrderBy::RegisteredAt => SortBy::At("o.registered_at"),
            ModuleOrderBy::Name => SortBy::Text("o.name_key"),
        }
    }
}

/// What modules can be filtered by; each has an index.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ModuleField {
    Id,
    Key,
    /// In whatever case.
    Name,
    Status,
    RegisteredAt,
}

impl Field for ModuleField {
    type Row = ModuleRow;
    type Context = ();

    fn column(self) -> Column {
        match self {
            ModuleField::Id => Column::of("o.module_id"),
            ModuleField::Key => Column::of("o.key"),
            ModuleField::Name => Column::of("o.name_key").folded(lower),
            ModuleField::Status => Column::of("o.status"),
            ModuleField::RegisteredAt => Column::of("o.registered_at"),
        }
    }

    fn value(self, row: &ModuleRow) -> Option<Value> {
        Some(match self {
            ModuleField::Id => row.module_id.into(),
            ModuleField::Key => row.key.as_str().into(),
            ModuleField::Name => row.name_key.as_str().into(),
            ModuleField::Status => row.status.as_str().into(),
            ModuleField::RegisteredAt => row.registered_at.into(),
        })
    }
}

/// Which modules.
pub type ModuleFilter = Filter<ModuleField>;

impl ModuleRow {
    pub fn cursor(&self, by: ModuleOrderBy) -> Keyset {
        let key = match by {
            ModuleOrderBy::RegisteredAt => SortKey::At(self.registered_at),
            ModuleOrderBy::Name => SortKey::Text(self.name_key.clone()),
        };
        Keyset { key, id: self.module_id }
    }
}

fn list(table: &str, tenant: TenantId, filter: &ModuleFilter) -> List {
    List::new(columns_of("o", COLUMNS), format!("{table} o"), "o.tenant_id", "o.module_id", tenant).only(filter, &())
}

/// The statement of a page and its parameters.
///
/// # Errors
/// [`ReadError::ForeignCursor`] for a cursor of another order.
pub fn page_query(
    table: &str,
    tenant: TenantId,
    filter: &ModuleFilter,
    by: ModuleOrderBy,
    direction: Direction,
    page: &Page<Keyset>,
) -> Result<(String, Vec<Box<dyn ToSql + Sync + Send>>), ReadError> {
    list(table, tenant, filter).page_query(by.column(), direction, page)
}

/// A page of a tenant's modules.
///
/// # Errors
/// As [`page_query`], or when the database cannot be asked.
pub async fn page(
    session: &ReadSession,
    tenant: TenantId,
    filter: &ModuleFilter,
    by: ModuleOrderBy,
    direction: Direction,
    page: &Page<Keyset>,
) -> Result<Slice<ModuleRow>, ReadError> {
    let list = list(&session.table::<Modules>()?, tenant, filter);
    list.page(session, by.column(), direction, page, ModuleRow::from_row).await
}

/// How many modules there are on all pages. Reads them all: only when asked for.
///
/// # Errors
/// When the database cannot be asked.
pub async fn count(session: &ReadSession, tenant: TenantId, filter: &ModuleFilter) -> Result<u64, ReadError> {
    list(&session.table::<Modules>()?, tenant, filter).count(session).await
}

/// One module of a tenant.
///
/// # Errors
/// When the database cannot be asked.
pub async fn module(session: &ReadSession, tenant: TenantId, id: Uuid) -> Result<Option<ModuleRow>, ReadError> {
    Ok(by_ids(session, tenant, &[id]).await?.pop())
}

/// The module of a tenant that has this key and is not retired.
///
/// # Errors
/// When the database cannot be asked.
pub async fn by_key(session: &ReadSession, tenant: TenantId, key: &str) -> Result<Option<ModuleRow>, ReadError> {
    let sql = format!(
        "select {} from {} o where o.tenant_id = $1 and o.key = $2 and o.status <> 'RETIRED' limit 1",
        columns_of("o", COLUMNS),
        session.table::<Modules>()?
    );
    session.query(&sql, &[&tenant.0, &key]).await?.first().map(ModuleRow::from_row).transpose()
}

/// Those of these modules that the tenant has, in no order.
///
/// # Errors
/// When the database cannot be asked.
pub async fn by_ids(session: &ReadSession, tenant: TenantId, ids: &[Uuid]) -> Result<Vec<ModuleRow>, ReadError> {
    let sql = format!(
        "select {} from {} o where o.tenant_id = $1 and o.module_id = any($2)",
        columns_of("o", COLUMNS),
        session.table::<Modules>()?
    );
    session.query(&sql, &[&tenant.0, &ids]).await?.iter().map(ModuleRow::from_row).collect()
}
