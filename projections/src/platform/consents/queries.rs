//! What can be asked about consents, from either side.

use super::Consents;
use super::row::{COLUMNS, ConsentRow};
use crate::read::filter::{Column, Field, Filter, Value};
use crate::read::keyset::{Keyset, List, SortBy, SortKey, columns_of};
use crate::read::{Direction, Page, ReadError, ReadSession, Slice};
use daybook_domain::TenantId;
use uuid::Uuid;

/// Whose side a tenant is asked about on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Side {
    /// What it has consented to.
    Customer,
    /// What others have consented to that it may read.
    Provider,
}

/// What consents can be filtered by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ConsentField {
    Id,
    Customer,
    Provider,
    GrantedAt,
}

impl Field for ConsentField {
    type Row = ConsentRow;
    type Context = ();

    fn column(self) -> Column {
        match self {
            ConsentField::Id => Column::of("c.consent_id"),
            ConsentField::Customer => Column::of("c.tenant_id"),
            ConsentField::Provider => Column::of("c.provider_id"),
            ConsentField::GrantedAt => Column::of("c.granted_at"),
        }
    }

    fn value(self, row: &ConsentRow) -> Option<Value> {
        Some(match self {
            ConsentField::Id => row.consent_id.into(),
            ConsentField::Customer => row.tenant_id.into(),
            ConsentField::Provider => row.provider_id.into(),
            ConsentField::GrantedAt => row.granted_at.into(),
        })
    }
}

/// Which consents.
pub type ConsentFilter = Filter<ConsentField>;

/// In the order in which they were given.
const SORT: SortBy = SortBy::At("c.granted_at");

impl ConsentRow {
    pub fn cursor(&self) -> Keyset {
        Keyset { key: SortKey::At(self.granted_at), id: self.consent_id }
    }
}

fn list(table: &str, tenant: TenantId, side: Side, filter: &ConsentFilter) -> List {
    let column = match side {
        Side::Customer => "c.tenant_id",
        Side::Provider => "c.provider_id",
    };
    List::new(columns_of("c", COLUMNS), format!("{table} c"), column, "c.consent_id", tenant).only(filter, &())
}

/// A page of a tenant's consents.
///
/// # Errors
/// [`ReadError::ForeignCursor`] for a cursor of another list, or when the database cannot be asked.
pub async fn page(
    session: &ReadSession,
    tenant: TenantId,
    side: Side,
    filter: &ConsentFilter,
    direction: Direction,
    page: &Page<Keyset>,
) -> Result<Slice<ConsentRow>, ReadError> {
    let list = list(&session.table::<Consents>()?, tenant, side, filter);
    list.page(session, SORT, direction, page, ConsentRow::from_row).await
}

/// How many consents there are on all pages. Reads them all: only when asked for.
///
/// # Errors
/// When the database cannot be asked.
pub async fn count(
    session: &ReadSession,
    tenant: TenantId,
    side: Side,
    filter: &ConsentFilter,
) -> Result<u64, ReadError> {
    list(&session.table::<Consents>()?, tenant, side, filter).count(session).await
}

/// One consent that a tenant has given.
///
/// # Errors
/// When the database cannot be asked.
pub async fn consent(session: &ReadSession, tenant: TenantId, id: Uuid) -> Result<Option<ConsentRow>, ReadError> {
    let sql = format!(
        "select {} from {} c where c.tenant_id = $1 and c.consent_id = $2",
        columns_of("c", COLUMNS),
        session.table::<Consents>()?
    );
    session.query(&sql, &[&tenant.0, &id]).await?.iter().map(ConsentRow::from_row).next().transpose()
}
