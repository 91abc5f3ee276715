//! What can be asked about the grants of a tenant as they are now.

use super::Grants;
use super::access::{Access, allows_sql};
use super::row::{COLUMNS, GrantRow, GrantView};
use crate::platform::members::Members;
use crate::platform::module_switches::ModuleSwitches;
use crate::platform::modules::Modules;
use crate::read::filter::{Absent, Column, Field, Filter, Parameters, Value, place};
use crate::read::keyset::{Keyset, List, SortBy, SortKey, columns_of};
use crate::read::{Direction, Page, ReadError, ReadSession, Slice};
use chrono::{DateTime, Utc};
use daybook_domain::{PLATFORM_TENANT, TenantId};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

/// What grants can be filtered by; each has an index.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum GrantField {
    Id,
    Member,
    Module,
    Role,
    Until,
    GrantedAt,
    /// Whether it allows at the moment of the question.
    Allowed,
}

impl Field for GrantField {
    type Row = GrantView;
    /// That moment.
    type Context = DateTime<Utc>;

    fn column(self) -> Column {
        match self {
            GrantField::Id => Column::of("g.grant_id"),
            GrantField::Member => Column::of("g.membership_id"),
            GrantField::Module => Column::of("g.module_id"),
            GrantField::Role => Column::of("g.role"),
            GrantField::Until => Column::of("g.until_at").absent(Absent::Null),
            GrantField::GrantedAt => Column::of("g.granted_at"),
            // Of what it depends on, only this is a column of grants.
            GrantField::Allowed => Column::of("g.status"),
        }
    }

    fn value(self, GrantView { grant, access }: &GrantView) -> Option<Value> {
        match self {
            GrantField::Id => Some(grant.grant_id.into()),
            GrantField::Member => Some(grant.membership_id.into()),
            GrantField::Module => Some(grant.module_id.into()),
            GrantField::Role => Some(grant.role.as_str().into()),
            GrantField::Until => grant.until_at.map(Value::from),
            GrantField::GrantedAt => Some(grant.granted_at.into()),
            GrantField::Allowed => Some((*access == Access::Allowed).into()),
        }
    }

    fn expression(self, now: &DateTime<Utc>, parameters: &mut Parameters) -> String {
        match self {
            GrantField::Allowed => allows_sql(&place(parameters, *now)),
            _ => self.column().sql.to_owned(),
        }
    }
}

/// Which grants.
pub type GrantFilter = Filter<GrantField>;

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
    pub switches: String,
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
            switches: session.table::<ModuleSwitches>()?,
        })
    }

    fn joined(&self) -> String {
        let Tables { grants, members, modules, switches } = self;
        let platform = PLATFORM_TENANT.0;
        // All joins are by unique keys, so they add no row.
        format!(
            "{grants} g left join {members} m on m.tenant_id = g.tenant_id and m.membership_id = g.membership_id
             left join {modules} o on o.tenant_id = g.tenant_id and o.module_id = g.module_id
             left join {switches} s on s.tenant_id = g.tenant_id and s.membership_id = g.membership_id
                 and s.module_id = g.module_id
             left join {switches} p on p.tenant_id = '{platform}' and p.module_key = o.key"
        )
    }
}

fn columns() -> String {
    format!(
        "{}, m.status, o.status, coalesce(g.role = any(o.role_keys), false), p.switch_id is not null, s.switch_id is not null",
        columns_of("g", COLUMNS)
    )
}

fn list(tables: &Tables, tenant: TenantId, filter: &GrantFilter, now: DateTime<Utc>) -> List {
    List::new(columns(), tables.joined(), "g.tenant_id", "g.grant_id", tenant).only(filter, &now)
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
