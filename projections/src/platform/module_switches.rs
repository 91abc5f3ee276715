//! What is switched off: modules of a key by the platform, for all tenants; modules for single members. A row for each as long
//! as it is off; what has no row is on.
//!
//! Whether a tenant has enabled a module is the module's own row. What the platform has switched off, every tenant may see.

use crate::engine::{ApplyError, OpenedEvent, ReadModel, signed};
use crate::read::keyset::columns_of;
use crate::read::{ReadError, ReadSession};
use chrono::{DateTime, Utc};
use daybook_domain::platform::{MembershipEvent, ModuleSwitchEvent};
use daybook_domain::{PLATFORM_TENANT, TenantId};
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;
use uuid::Uuid;

/// The read model `module_switches`.
pub struct ModuleSwitches;

/// A module that is switched off. Its JSON form is what change rows hold.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SwitchRow {
    pub tenant_id: Uuid,
    pub switch_id: Uuid,
    /// For whom, where it is one member.
    pub membership_id: Option<Uuid>,
    pub module_id: Option<Uuid>,
    /// Of which modules, where it is all tenants.
    pub module_key: Option<String>,
    pub reason: String,
    pub changed_at: DateTime<Utc>,
    pub tenant_position: i64,
    pub position: i64,
}

const COLUMNS: &[&str] = &[
    "tenant_id",
    "switch_id",
    "membership_id",
    "module_id",
    "module_key",
    "reason",
    "changed_at",
    "tenant_position",
    "position",
];

impl SwitchRow {
    /// From [`COLUMNS`].
    fn from_row(row: &Row) -> Self {
        SwitchRow {
            tenant_id: row.get(0),
            switch_id: row.get(1),
            membership_id: row.get(2),
            module_id: row.get(3),
            module_key: row.get(4),
            reason: row.get(5),
            changed_at: row.get(6),
            tenant_position: row.get(7),
            position: row.get(8),
        }
    }

    fn of(event: &OpenedEvent, reason: &str) -> Self {
        SwitchRow {
            tenant_id: event.tenant.0,
            switch_id: ModuleSwitches::id(event),
            membership_id: None,
            module_id: None,
            module_key: None,
            reason: reason.to_owned(),
            changed_at: event.recorded_at,
            tenant_position: signed(event.tenant_position),
            position: signed(event.position),
        }
    }
}

impl ReadModel for ModuleSwitches {
    const NAME: &'static str = "module_switches";
    const LANES: u16 = 4;
    const KEY: &'static [&'static str] = &["tenant_id", "switch_id"];
    const ID: &'static str = "switch_id";
    const COLUMNS: &'static [&'static str] = COLUMNS;

    type Row = SwitchRow;

    fn create_sql(version: u32) -> String {
        let table = Self::table(version);
        format!(
            r#"create table {table} (
                tenant_id       uuid        not null,
                switch_id       uuid        not null,
                membership_id   uuid,
                module_id       uuid,
                module_key      text        collate "C",
                reason          text        not null,
                changed_at      timestamptz not null,
                tenant_position bigint      not null,
                position        bigint      not null,
                primary key (tenant_id, switch_id)
            );
            alter table {table} enable row level security;
            alter table {table} force row level security;
            create policy projector on {table} to daybook_projector using (true) with check (true);
            create policy own_tenant_and_platform on {table} for select to daybook_reader
                using (tenant_id = (select nullif(current_setting('app.tenant', true), '')::uuid)
                       -- To every tenant, and not to nobody.
                       or tenant_id = '{platform}' and (select nullif(current_setting('app.tenant', true), '') is not null));
            grant select on {table} to daybook_reader;"#,
            platform = PLATFORM_TENANT.0
        )
    }

    fn index_sql(version: u32) -> String {
        let table = Self::table(version);
        let index = format!("module_switches_v{version}");
        format!(
            r#"create unique index {index}_by_member on {table} (tenant_id, membership_id, module_id)
                where membership_id is not null;
            create unique index {index}_by_key on {table} (tenant_id, module_key) where module_key is not null;"#
        )
    }

    fn wants(event_type: &str) -> bool {
        event_type.starts_with("platform.module_switch.")
            || matches!(
                event_type,
                "platform.membership.module_switched_off" | "platform.membership.module_switched_on"
            )
    }

    /// Of a member's, a row for each module; of the platform's, one for each stream.
    fn id(event: &OpenedEvent) -> Uuid {
        let of_member = |happened: Vec<MembershipEvent>| match happened.first() {
            Some(
                MembershipEvent::ModuleSwitchedOff { module, .. } | MembershipEvent::ModuleSwitchedOn { module, .. },
            ) => Some(Uuid::new_v5(&event.stream_id, module.0.as_bytes())),
            _ => None,
        };
        let is_of_member = event.stream_type == "membership";
        // What cannot be decoded is refused by the fold, whatever its row.
        is_of_member.then(|| event.decode().ok().and_then(of_member)).flatten().unwrap_or(event.stream_id)
    }

    fn fold(row: Option<SwitchRow>, event: &OpenedEvent) -> Result<Option<SwitchRow>, ApplyError> {
        match event.stream_type.as_str() {
            "membership" => event.fold_into(row, of_member),
            _ => event.fold_into(row, of_platform),
        }
    }
}

fn of_member(row: Option<SwitchRow>, happened: MembershipEvent, event: &OpenedEvent) -> Option<SwitchRow> {
    match happened {
        MembershipEvent::ModuleSwitchedOff { module, reason } => Some(SwitchRow {
            membership_id: Some(event.stream_id),
            module_id: Some(module.0),
            ..SwitchRow::of(event, reason.as_str())
        }),
        MembershipEvent::ModuleSwitchedOn { .. } => None,
        MembershipEvent::Added { .. }
        | MembershipEvent::RolesChanged { .. }
        | MembershipEvent::Ended { .. }
        | MembershipEvent::Rejoined { .. } => row,
    }
}

fn of_platform(_: Option<SwitchRow>, happened: ModuleSwitchEvent, event: &OpenedEvent) -> Option<SwitchRow> {
    match happened {
        ModuleSwitchEvent::TurnedOff { key, reason } => {
            Some(SwitchRow { module_key: Some(key.as_str().to_owned()), ..SwitchRow::of(event, reason.as_str()) })
        }
        ModuleSwitchEvent::TurnedOn { .. } => None,
    }
}

/// Those of these keys that the platform has switched off.
///
/// # Errors
/// When the database cannot be asked.
pub async fn of_keys(session: &ReadSession, keys: &[String]) -> Result<Vec<SwitchRow>, ReadError> {
    let sql = format!(
        "select {} from {} s where s.tenant_id = $1 and s.module_key = any($2)",
        columns_of("s", COLUMNS),
        session.table::<ModuleSwitches>()?
    );
    Ok(session.query(&sql, &[&PLATFORM_TENANT.0, &keys]).await?.iter().map(SwitchRow::from_row).collect())
}

/// What is switched off of these pairs of a membership and a module.
///
/// # Errors
/// When the database cannot be asked.
pub async fn of_members(
    session: &ReadSession,
    tenant: TenantId,
    pairs: &[(Uuid, Uuid)],
) -> Result<Vec<SwitchRow>, ReadError> {
    let (members, modules): (Vec<Uuid>, Vec<Uuid>) = pairs.iter().copied().unzip();
    let sql = format!(
        "select {} from unnest($2::uuid[], $3::uuid[]) as asked (membership_id, module_id)
         join {} s on s.tenant_id = $1 and s.membership_id = asked.membership_id and s.module_id = asked.module_id",
        columns_of("s", COLUMNS),
        session.table::<ModuleSwitches>()?
    );
    Ok(session.query(&sql, &[&tenant.0, &members, &modules]).await?.iter().map(SwitchRow::from_row).collect())
}
