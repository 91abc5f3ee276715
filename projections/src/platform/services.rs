//! Service accounts as they are now: one row per account, in its tenant, with its keys.
//!
//! Refuses to hold a secret: there is none in what it is made from.

mod row;

pub use row::{KeyRow, ServiceRow, ServiceStatus};

use super::own_tenant_only;
use crate::engine::{ApplyError, OpenedEvent, ReadModel};
use crate::read::filter::{Column, Field, Filter, Value};
use crate::read::keyset::{Keyset, List, SortBy, SortKey, columns_of};
use crate::read::{Direction, Page, ReadError, ReadSession, Slice};
use daybook_domain::TenantId;
use row::COLUMNS;
use uuid::Uuid;

/// The read model `services`.
pub struct Services;

impl ReadModel for Services {
    const NAME: &'static str = "services";
    const LANES: u16 = 4;
    const KEY: &'static [&'static str] = &["tenant_id", "service_id"];
    const ID: &'static str = "service_id";
    const COLUMNS: &'static [&'static str] = COLUMNS;

    type Row = ServiceRow;

    fn create_sql(version: u32) -> String {
        let table = Self::table(version);
        let policies = own_tenant_only(&table);
        format!(
            r#"create table {table} (
                tenant_id          uuid        not null,
                service_id         uuid        not null,
                name               text        not null,
                roles              text[]      not null,
                status             text        not null,
                deactivated_reason text,
                keys               jsonb       not null,
                version            bigint      not null,
                registered_at      timestamptz not null,
                changed_at         timestamptz not null,
                tenant_position    bigint      not null,
                position           bigint      not null,
                primary key (tenant_id, service_id)
            );
            {policies}"#
        )
    }

    fn index_sql(version: u32) -> String {
        let table = Self::table(version);
        format!("create index services_v{version}_by_registration on {table} (tenant_id, registered_at, service_id);")
    }

    fn wants(event_type: &str) -> bool {
        event_type.starts_with("platform.service.")
    }

    fn id(event: &OpenedEvent) -> Uuid {
        event.stream_id
    }

    fn fold(row: Option<ServiceRow>, event: &OpenedEvent) -> Result<Option<ServiceRow>, ApplyError> {
        event.fold_into(row, row::folded)
    }
}

/// What service accounts can be filtered by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ServiceField {
    Id,
}

impl Field for ServiceField {
    type Row = ServiceRow;
    type Context = ();

    fn column(self) -> Column {
        match self {
            ServiceField::Id => Column::of("s.service_id"),
        }
    }

    fn value(self, row: &ServiceRow) -> Option<Value> {
        match self {
            ServiceField::Id => Some(row.service_id.into()),
        }
    }
}

impl ServiceRow {
    pub fn cursor(&self) -> Keyset {
        Keyset { key: SortKey::At(self.registered_at), id: self.service_id }
    }
}

/// A page of a tenant's service accounts, in the order of their registration.
///
/// # Errors
/// [`ReadError::ForeignCursor`] for a cursor of another list, or when the database cannot be asked.
pub async fn page(
    session: &ReadSession,
    tenant: TenantId,
    page: &Page<Keyset>,
) -> Result<Slice<ServiceRow>, ReadError> {
    let from = format!("{} s", session.table::<Services>()?);
    let list = List::new(columns_of("s", COLUMNS), from, "s.tenant_id", "s.service_id", tenant)
        .only(&Filter::<ServiceField>::default(), &());
    list.page(session, SortBy::At("s.registered_at"), Direction::Ascending, page, ServiceRow::from_row).await
}

/// One service account of a tenant.
///
/// # Errors
/// When the database cannot be asked.
pub async fn service(session: &ReadSession, tenant: TenantId, id: Uuid) -> Result<Option<ServiceRow>, ReadError> {
    let sql = format!(
        "select {} from {} s where s.tenant_id = $1 and s.service_id = $2",
        columns_of("s", COLUMNS),
        session.table::<Services>()?
    );
    session.query(&sql, &[&tenant.0, &id]).await?.first().map(ServiceRow::from_row).transpose()
}
