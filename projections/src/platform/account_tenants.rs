//! The memberships of an account in whatever tenants, as they are now: the rows of [`super::members`], by whose they are.
//!
//! Refuses to show them to anybody but that account, and to a tenant: a tenant's members are the other read model's.

use super::members::MemberRow;
use super::members::row;
use crate::engine::{ApplyError, OpenedEvent, ReadModel};
use crate::read::keyset::columns_of;
use crate::read::{ReadError, ReadSession};
use daybook_domain::AccountId;
use uuid::Uuid;

/// Memberships that are told of one account.
pub const TENANTS_MAX: i64 = 200;

/// The read model `account_tenants`.
pub struct AccountTenants;

impl ReadModel for AccountTenants {
    const NAME: &'static str = "account_tenants";
    const LANES: u16 = 4;
    const KEY: &'static [&'static str] = &["tenant_id", "membership_id"];
    const ID: &'static str = "membership_id";
    const COLUMNS: &'static [&'static str] = row::COLUMNS;

    type Row = MemberRow;

    fn create_sql(version: u32) -> String {
        let table = Self::table(version);
        format!(
            r#"create table {table} (
                tenant_id       uuid        not null,
                membership_id   uuid        not null,
                account_id      uuid        not null,
                roles           text[]      not null,
                status          text        not null,
                ended_reason    text,
                version         bigint      not null,
                added_at        timestamptz not null,
                changed_at      timestamptz not null,
                tenant_position bigint      not null,
                position        bigint      not null,
                primary key (tenant_id, membership_id)
            );
            alter table {table} enable row level security;
            alter table {table} force row level security;
            create policy projector on {table} to daybook_projector using (true) with check (true);
            create policy own_account on {table} for select to daybook_reader
                using (account_id = (select nullif(current_setting('app.account', true), '')::uuid));
            grant select on {table} to daybook_reader;"#
        )
    }

    fn index_sql(version: u32) -> String {
        let table = Self::table(version);
        format!("create index account_tenants_v{version}_by_account on {table} (account_id, added_at, membership_id);")
    }

    fn wants(event_type: &str) -> bool {
        event_type.starts_with("platform.membership.")
    }

    fn id(event: &OpenedEvent) -> Uuid {
        event.stream_id
    }

    fn fold(row: Option<MemberRow>, event: &OpenedEvent) -> Result<Option<MemberRow>, ApplyError> {
        event.fold_into(row, row::folded)
    }
}

/// The memberships of an account that hold, in the order in which it joined; at most [`TENANTS_MAX`].
///
/// # Errors
/// When the database cannot be asked.
pub async fn of_account(session: &ReadSession, account: AccountId) -> Result<Vec<MemberRow>, ReadError> {
    let sql = format!(
        "select {} from {} m where m.account_id = $1 and m.status = 'ACTIVE' order by m.added_at, m.membership_id limit $2",
        columns_of("m", row::COLUMNS),
        session.table::<AccountTenants>()?
    );
    session.query(&sql, &[&account.0, &TENANTS_MAX]).await?.iter().map(MemberRow::from_row).collect()
}
