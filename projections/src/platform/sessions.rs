//! Sessions as they are now: one row per session, in the platform's tenant.
//!
//! Refuses to say whether one still lets anybody in: its account and its membership have a say in that, at each request.

mod row;

pub use row::SessionRow;

use super::own_tenant_only;
use crate::engine::{ApplyError, OpenedEvent, ReadModel, signed};
use crate::read::keyset::columns_of;
use crate::read::{ReadError, ReadSession};
use chrono::{DateTime, Utc};
use daybook_domain::{AccountId, PLATFORM_TENANT};
use uuid::Uuid;

/// Sessions that are told of one account.
pub const SESSIONS_MAX: i64 = 200;

/// The read model `sessions`.
pub struct Sessions;

impl ReadModel for Sessions {
    const NAME: &'static str = "sessions";
    /// All of them are one tenant's.
    const LANES: u16 = 1;
    const KEY: &'static [&'static str] = &["tenant_id", "session_id"];
    const ID: &'static str = "session_id";
    const COLUMNS: &'static [&'static str] = row::COLUMNS;

    type Row = SessionRow;

    fn create_sql(version: u32) -> String {
        let table = Self::table(version);
        let policies = own_tenant_only(&table);
        format!(
            r#"create table {table} (
                tenant_id          uuid        not null,
                session_id         uuid        not null,
                account_id         uuid        not null,
                in_tenant_id       uuid        not null,
                method             text        not null,
                account_generation bigint      not null,
                started_at         timestamptz not null,
                used_at            timestamptz not null,
                expires_at         timestamptz not null,
                ended              text,
                ended_reason       text,
                version            bigint      not null,
                changed_at         timestamptz not null,
                tenant_position    bigint      not null,
                position           bigint      not null,
                primary key (tenant_id, session_id)
            );
            {policies}"#
        )
    }

    fn index_sql(version: u32) -> String {
        let table = Self::table(version);
        format!(
            "create index sessions_v{version}_by_account on {table} (tenant_id, account_id, started_at, session_id);"
        )
    }

    fn wants(event_type: &str) -> bool {
        event_type.starts_with("platform.session.")
    }

    fn id(event: &OpenedEvent) -> Uuid {
        event.stream_id
    }

    fn fold(row: Option<SessionRow>, event: &OpenedEvent) -> Result<Option<SessionRow>, ApplyError> {
        event.fold_into(row, row::folded)
    }
}

/// The sessions of an account that have not ended, of one generation and used since a moment, newest first; at most
/// [`SESSIONS_MAX`].
///
/// # Errors
/// When the database cannot be asked.
pub async fn open(
    session: &ReadSession,
    account: AccountId,
    generation: u64,
    used_since: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<Vec<SessionRow>, ReadError> {
    let sql = format!(
        "select {} from {} s where s.tenant_id = $1 and s.account_id = $2 and s.account_generation = $3
             and s.ended is null and s.expires_at > $4 and s.used_at > $5
         order by s.started_at desc, s.session_id desc limit $6",
        columns_of("s", row::COLUMNS),
        session.table::<Sessions>()?
    );
    let generation = signed(generation);
    let rows =
        session.query(&sql, &[&PLATFORM_TENANT.0, &account.0, &generation, &now, &used_since, &SESSIONS_MAX]).await?;
    Ok(rows.iter().map(SessionRow::from_row).collect())
}
