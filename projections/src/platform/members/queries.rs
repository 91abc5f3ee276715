//! What can be asked about the members of a tenant.

use super::Members;
use super::row::{COLUMNS, MemberRow};
use crate::read::filter::{Column, Field, Filter, Value};
use crate::read::keyset::{Keyset, List, SortBy, SortKey, columns_of};
use crate::read::{Direction, Page, ReadError, ReadSession, Slice};
use daybook_domain::TenantId;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

/// What members can be filtered by; each has an index.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MemberField {
    Id,
    Account,
    Status,
    AddedAt,
}

impl Field for MemberField {
    type Row = MemberRow;
    type Context = ();

    fn column(self) -> Column {
        match self {
            MemberField::Id => Column::of("m.membership_id"),
            MemberField::Account => Column::of("m.account_id"),
            MemberField::Status => Column::of("m.status"),
            MemberField::AddedAt => Column::of("m.added_at"),
        }
    }

    fn value(self, row: &MemberRow) -> Option<Value> {
        Some(match self {
            MemberField::Id => row.membership_id.into(),
            MemberField::Account => row.account_id.into(),
            MemberField::Status => row.status.as_str().into(),
            MemberField::AddedAt => row.added_at.into(),
        })
    }
}

/// Which members.
pub type MemberFilter = Filter<MemberField>;

/// In the order in which they became members.
const SORT: SortBy = SortBy::At("m.added_at");

impl MemberRow {
    pub fn cursor(&self) -> Keyset {
        Keyset { key: SortKey::At(self.added_at), id: self.membership_id }
    }
}

fn list(table: &str, tenant: TenantId, filter: &MemberFilter) -> List {
    List::new(columns_of("m", COLUMNS), format!("{table} m"), "m.tenant_id", "m.membership_id", tenant)
        .only(filter, &())
}

/// The statement of a page and its parameters.
///
/// # Errors
/// [`ReadError::ForeignCursor`] for a cursor of another list.
pub fn page_query(
    table: &str,
    tenant: TenantId,
    filter: &MemberFilter,
    direction: Direction,
    page: &Page<Keyset>,
) -> Result<(String, Vec<Box<dyn ToSql + Sync + Send>>), ReadError> {
    list(table, tenant, filter).page_query(SORT, direction, page)
}

/// A page of a tenant's members.
///
/// # Errors
/// As [`page_query`], or when the database cannot be asked.
pub async fn page(
    session: &ReadSession,
    tenant: TenantId,
    filter: &MemberFilter,
    direction: Direction,
    page: &Page<Keyset>,
) -> Result<Slice<MemberRow>, ReadError> {
    let list = list(&session.table::<Members>()?, tenant, filter);
    list.page(session, SORT, direction, page, MemberRow::from_row).await
}

/// How many members there are on all pages. Reads them all: only when asked for.
///
/// # Errors
/// When the database cannot be asked.
pub async fn count(session: &ReadSession, tenant: TenantId, filter: &MemberFilter) -> Result<u64, ReadError> {
    list(&session.table::<Members>()?, tenant, filter).count(session).await
}

/// One member of a tenant.
///
/// # Errors
/// When the database cannot be asked.
pub async fn member(session: &ReadSession, tenant: TenantId, id: Uuid) -> Result<Option<MemberRow>, ReadError> {
    Ok(by_ids(session, tenant, &[id]).await?.pop())
}

/// Those of these memberships that the tenant has, in no order.
///
/// # Errors
/// When the database cannot be asked.
pub async fn by_ids(session: &ReadSession, tenant: TenantId, ids: &[Uuid]) -> Result<Vec<MemberRow>, ReadError> {
    let sql = format!(
        "select {} from {} m where m.tenant_id = $1 and m.membership_id = any($2)",
        columns_of("m", COLUMNS),
        session.table::<Members>()?
    );
    session.query(&sql, &[&tenant.0, &ids]).await?.iter().map(MemberRow::from_row).collect()
}
