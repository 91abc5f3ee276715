//! What can be asked about accounts. All of them are the platform's: a session of its tenant sees them, no other does.

use super::Accounts;
use super::row::{AccountRow, COLUMNS};
use crate::read::filter::{Absent, Column, Field, Filter, Value, lower};
use crate::read::keyset::{Keyset, List, SortBy, SortKey, columns_of};
use crate::read::{Direction, Page, ReadError, ReadSession, Slice};
use daybook_domain::PLATFORM_TENANT;
use serde::{Deserialize, Serialize};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

/// What accounts can be ordered by; each has an index. Ties are broken by the id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum AccountOrderBy {
    RegisteredAt,
    /// Whatever the case, by code point.
    Name,
    /// Whatever the case, by code point.
    Email,
}

impl AccountOrderBy {
    fn column(self) -> SortBy {
        match self {
            AccountOrderBy::RegisteredAt => SortBy::At("a.registered_at"),
            AccountOrderBy::Name => SortBy::Text("a.name_key"),
            AccountOrderBy::Email => SortBy::Text("a.email_key"),
        }
    }
}

/// What accounts can be filtered by; each has an index.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AccountField {
    Id,
    /// In whatever case.
    Name,
    /// In whatever case.
    Email,
    Status,
    RegisteredAt,
}

impl Field for AccountField {
    type Row = AccountRow;
    type Context = ();

    fn column(self) -> Column {
        match self {
            AccountField::Id => Column::of("a.account_id"),
            AccountField::Name => Column::of("a.name_key").absent(Absent::Empty).folded(lower),
            AccountField::Email => Column::of("a.email_key").absent(Absent::Empty).folded(lower),
            AccountField::Status => Column::of("a.status"),
            AccountField::RegisteredAt => Column::of("a.registered_at"),
        }
    }

    fn value(self, row: &AccountRow) -> Option<Value> {
        let there = |key: &str| (!key.is_empty()).then(|| Value::from(key));
        match self {
            AccountField::Id => Some(row.account_id.into()),
            AccountField::Name => there(&row.name_key),
            AccountField::Email => there(&row.email_key),
            AccountField::Status => Some(row.status.as_str().into()),
            AccountField::RegisteredAt => Some(row.registered_at.into()),
        }
    }
}

/// Which accounts.
pub type AccountFilter = Filter<AccountField>;

impl AccountRow {
    pub fn cursor(&self, by: AccountOrderBy) -> Keyset {
        let key = match by {
            AccountOrderBy::RegisteredAt => SortKey::At(self.registered_at),
            AccountOrderBy::Name => SortKey::Text(self.name_key.clone()),
            AccountOrderBy::Email => SortKey::Text(self.email_key.clone()),
        };
        Keyset { key, id: self.account_id }
    }
}

fn list(table: &str, filter: &AccountFilter) -> List {
    List::new(columns_of("a", COLUMNS), format!("{table} a"), "a.tenant_id", "a.account_id", PLATFORM_TENANT)
        .only(filter, &())
}

/// The statement of a page and its parameters.
///
/// # Errors
/// [`ReadError::ForeignCursor`] for a cursor of another order.
pub fn page_query(
    table: &str,
    filter: &AccountFilter,
    by: AccountOrderBy,
    direction: Direction,
    page: &Page<Keyset>,
) -> Result<(String, Vec<Box<dyn ToSql + Sync + Send>>), ReadError> {
    list(table, filter).page_query(by.column(), direction, page)
}

/// A page of accounts.
///
/// # Errors
/// As [`page_query`], or when the database cannot be asked.
pub async fn page(
    session: &ReadSession,
    filter: &AccountFilter,
    by: AccountOrderBy,
    direction: Direction,
    page: &Page<Keyset>,
) -> Result<Slice<AccountRow>, ReadError> {
    let list = list(&session.table::<Accounts>()?, filter);
    list.page(session, by.column(), direction, page, AccountRow::from_row).await
}

/// How many accounts there are on all pages. Reads them all: only when asked for.
///
/// # Errors
/// When the database cannot be asked.
pub async fn count(session: &ReadSession, filter: &AccountFilter) -> Result<u64, ReadError> {
    list(&session.table::<Accounts>()?, filter).count(session).await
}

/// One account.
///
/// # Errors
/// When the database cannot be asked.
pub async fn account(session: &ReadSession, id: Uuid) -> Result<Option<AccountRow>, ReadError> {
    Ok(by_ids(session, &[id]).await?.pop())
}

/// Those of these accounts that there are, in no order.
///
/// # Errors
/// When the database cannot be asked.
pub async fn by_ids(session: &ReadSession, ids: &[Uuid]) -> Result<Vec<AccountRow>, ReadError> {
    let sql = format!(
        "select {} from {} a where a.tenant_id = $1 and a.account_id = any($2)",
        columns_of("a", COLUMNS),
        session.table::<Accounts>()?
    );
    session.query(&sql, &[&PLATFORM_TENANT.0, &ids]).await?.iter().map(AccountRow::from_row).collect()
}
