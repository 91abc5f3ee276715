//! Accounts as they are now: one row per account, in the platform's tenant.
//!
//! Names and e-mail addresses are personal data. A person who was erased is gone from rows made after that; the flags
//! tell that somebody was there. Refuses to say which tenants somebody works in: that is each tenant's own.

mod queries;
mod row;

pub use queries::{AccountField, AccountFilter, AccountOrderBy, account, by_ids, count, page, page_query};
pub use row::{AccountRow, AccountStatus};

use super::own_tenant_only;
use crate::engine::{ApplyError, OpenedEvent, ReadModel};
use uuid::Uuid;

/// The read model `accounts`.
pub struct Accounts;

impl ReadModel for Accounts {
    const NAME: &'static str = "accounts";
    /// All of them are one tenant's.
    const LANES: u16 = 1;
    const KEY: &'static [&'static str] = &["tenant_id", "account_id"];
    const ID: &'static str = "account_id";
    const COLUMNS: &'static [&'static str] = row::COLUMNS;

    type Row = AccountRow;

    fn create_sql(version: u32) -> String {
        let table = Self::table(version);
        let policies = own_tenant_only(&table);
        format!(
            r#"create table {table} (
                tenant_id          uuid        not null,
                account_id         uuid        not null,
                name               text,
                -- Lower case; empty once erased.
                name_key           text        collate "C" not null,
                name_erased        boolean     not null,
                email              text,
                email_key          text        collate "C" not null,
                email_erased       boolean     not null,
                status             text        not null,
                deactivated_reason text,
                version            bigint      not null,
                registered_at      timestamptz not null,
                changed_at         timestamptz not null,
                tenant_position    bigint      not null,
                position           bigint      not null,
                primary key (tenant_id, account_id)
            );
            {policies}"#
        )
    }

    fn index_sql(version: u32) -> String {
        let table = Self::table(version);
        let index = format!("accounts_v{version}");
        format!(
            r#"create index {index}_by_registration on {table} (tenant_id, registered_at, account_id);
            create index {index}_by_name on {table} (tenant_id, name_key, account_id);
            create index {index}_by_email on {table} (tenant_id, email_key, account_id);
            create index {index}_by_status on {table} (tenant_id, status, registered_at, account_id);"#
        )
    }

    fn wants(event_type: &str) -> bool {
        event_type.starts_with("platform.account.")
    }

    fn id(event: &OpenedEvent) -> Uuid {
        event.stream_id
    }

    fn fold(row: Option<AccountRow>, event: &OpenedEvent) -> Result<Option<AccountRow>, ApplyError> {
        event.fold_into(row, row::folded)
    }
}
