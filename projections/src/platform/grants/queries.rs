//! What can be asked about the grants of a tenant as they are now.

use super::Grants;
use super::access::allows_sql;
use super::row::{COLUMNS, GrantRow, GrantView};
use crate::platform::members::Members;
use crate::platform::modules::Modules;
use crate::read::keyset::{Keyset, List, SortBy, SortKey, columns_of};
use crate::read::{Direction, Page, ReadError, ReadSession, Slice};
use chrono::{DateTime, Utc};
use daybook_domain::TenantId;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

/// Which grants; each condition has an index.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GrantFilter {
    pub member: Option<Uuid>,
    pub module: Option<Uuid>,
    pub role: Option<String>,
    /// Those that allow now, or those that do not.
    pub allowed: Option<bool>,
}

/// In the order in which they were granted.
const SORT: SortBy = SortBy::At("g.granted_at");

impl GrantRow {
    pub fn cursor(&self) -> Keyset {
        Keyset { key: SortKey::At(self.granted_at), id: self.grant_id }
    }
}

/// The tables that say whether a grant allows.
#[derive(Clone, Debug)]
pub struct Tables {
    pub grants: String,
    pub members: String,
    pub modules: String,
}

impl Tables {
    /// Those that answer in this transaction.
    ///
    /// # Errors
    /// [`ReadError::NotBuilt`].
    pub fn of(session: &ReadSession) -> Result<Self, ReadError> {
        Ok(Tables {
            grants: session.table::<Grants>()?,
            members: session.table::<Members>()?,
            modules: session.table::<Modules>()?,
        })
    }

    fn joined(&self) -> String {
        let Tables { grants, members, modules } = self;
        // Both joins are by primary key, so they add no row.
        format!(
            "{grants} g left join {members} m on m.tenant_id = g.tenant_id and m.membership_id = g.membership_id
             left join {modules} o on o.tenant_id = g.tenant_id and o.module_id = g.module_id"
        )
    }
}

fn columns() -> String {
    format!("{}, m.status, o.status, coalesce(g.role = any(o.role_keys), false)", columns_of("g", COLUMNS))
}

fn list(tables: &Tables, tenant: TenantId, filter: &GrantFilter, now: DateTime<Utc>) -> List {
    let mut list = List::new(columns(), tables.joined(), "g.tenant_id", "g.grant_id", tenant);
    list.equal("g.membership_id", filter.member);
    list.equal("g.module_id", filter.module);
    list.equal("g.role", filter.role.clone());
    if let Some(allowed) = filter.allowed {
        let allows = allows_sql(&list.parameter(now));
        list.only(if allowed { allows } else { format!("not {allows}") });
    }
    list
}

/// The statement of a page and its parameters.
///
/// # Errors
/// [`ReadError::ForeignCursor`] for a cursor of another list.
pub fn page_query(
    tables: &Tables,
    tenant: TenantId,
    filter: &GrantFilter,
    now: DateTime<Utc>,
    direction: Direction,
    page: &Page<Keyset>,
) -> Result<(String, Vec<Box<dyn ToSql + Sync + Send>>), ReadError> {
    list(tables, tenant, filter, now).page_query(SORT, direction, page)
}

/// A page of a tenant's grants, and what they come to at `now`.
///
/// # Errors
/// As [`page_query`], or when the database cannot be asked.
pub async fn page(
    session: &ReadSession,
    tenant: TenantId,
    filter: &GrantFilter,
    now: DateTime<Utc>,
    direction: Direction,
    page: &Page<Keyset>,
) -> Result<Slice<GrantView>, ReadError> {
    let list = list(&Tables::of(session)?, tenant, filter, now);
    list.page(session, SORT, direction, page, |row| GrantView::from_row(row, now)).await
}

/// How many grants there are on all pages. Reads them all: only when asked for.
///
/// # Errors
/// When the database cannot be asked.
pub async fn count(
    session: &ReadSession,
    tenant: TenantId,
    filter: &GrantFilter,
    now: DateTime<Utc>,
) -> Result<u64, ReadError> {
    list(&Tables::of(session)?, tenant, filter, now).count(session).await
}

/// Those of these grants that the tenant has, in no order, and what they come to at `now`.
///
/// # Errors
/// When the database cannot be asked.
pub async fn by_ids(
    session: &ReadSession,
    tenant: TenantId,
    ids: &[Uuid],
    now: DateTime<Utc>,
) -> Result<Vec<GrantView>, ReadError> {
    let from = Tables::of(session)?.joined();
    let sql = format!("select {} from {from} where g.tenant_id = $1 and g.grant_id = any($2)", columns());
    let rows = session.query(&sql, &[&tenant.0, &ids]).await?;
    rows.iter().map(|row| GrantView::from_row(row, now)).collect()
}
