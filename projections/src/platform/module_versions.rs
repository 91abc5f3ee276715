//! The versions that modules have been brought to: a row each, for as long as the journal lasts.
//!
//! What a version holds is not kept a second time: the module has the manifest of now, the audit trail every value of before.

use super::own_tenant_only;
use crate::engine::{ApplyError, OpenedEvent, ReadModel, signed};
use crate::read::keyset::columns_of;
use crate::read::{ReadError, ReadSession};
use chrono::{DateTime, Utc};
use daybook_domain::TenantId;
use daybook_domain::platform::ModuleEvent;
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;
use uuid::Uuid;

/// Versions that are told of one module.
pub const VERSIONS_MAX: u16 = 200;

/// The read model `module_versions`.
pub struct ModuleVersions;

/// A version of a module. Its JSON form is what change rows hold.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VersionRow {
    pub tenant_id: Uuid,
    /// Follows from the module and `version`.
    pub version_id: Uuid,
    pub module_id: Uuid,
    /// Of the module itself, e.g. `1.4.0`.
    pub release: String,
    /// Parts of the manifest that differ from the version before; none of the first one.
    pub changed: Vec<String>,
    pub roles_removed: Vec<String>,
    /// Events in the module's stream up to there.
    pub version: i64,
    pub released_at: DateTime<Utc>,
    pub tenant_position: i64,
    pub position: i64,
}

const COLUMNS: &[&str] = &[
    "tenant_id",
    "version_id",
    "module_id",
    "release",
    "changed",
    "roles_removed",
    "version",
    "released_at",
    "tenant_position",
    "position",
];

impl VersionRow {
    /// From [`COLUMNS`].
    fn from_row(row: &Row) -> Self {
        VersionRow {
            tenant_id: row.get(0),
            version_id: row.get(1),
            module_id: row.get(2),
            release: row.get(3),
            changed: row.get(4),
            roles_removed: row.get(5),
            version: row.get(6),
            released_at: row.get(7),
            tenant_position: row.get(8),
            position: row.get(9),
        }
    }
}

impl ReadModel for ModuleVersions {
    const NAME: &'static str = "module_versions";
    const LANES: u16 = 4;
    const KEY: &'static [&'static str] = &["tenant_id", "version_id"];
    const ID: &'static str = "version_id";
    const COLUMNS: &'static [&'static str] = COLUMNS;

    type Row = VersionRow;

    fn create_sql(version: u32) -> String {
        let table = Self::table(version);
        let policies = own_tenant_only(&table);
        format!(
            r#"create table {table} (
                tenant_id       uuid        not null,
                version_id      uuid        not null,
                module_id       uuid        not null,
                release         text        not null,
                changed         text[]      not null,
                roles_removed   text[]      not null,
                version         bigint      not null,
                released_at     timestamptz not null,
                tenant_position bigint      not null,
                position        bigint      not null,
                primary key (tenant_id, version_id)
            );
            {policies}"#
        )
    }

    fn index_sql(version: u32) -> String {
        let table = Self::table(version);
        format!("create index module_versions_v{version}_by_module on {table} (tenant_id, module_id, version desc);")
    }

    fn wants(event_type: &str) -> bool {
        matches!(event_type, "platform.module.registered" | "platform.module.upgraded")
    }

    /// A row each: the number of the event within its stream.
    fn id(event: &OpenedEvent) -> Uuid {
        Uuid::new_v5(&event.stream_id, &event.sequence.to_be_bytes())
    }

    fn fold(row: Option<VersionRow>, event: &OpenedEvent) -> Result<Option<VersionRow>, ApplyError> {
        event.fold_into(row, folded)
    }
}

fn folded(row: Option<VersionRow>, happened: ModuleEvent, event: &OpenedEvent) -> Option<VersionRow> {
    let (release, changed, removed) = match happened {
        ModuleEvent::Registered { manifest } => (manifest.version, Vec::new(), Vec::new()),
        ModuleEvent::Upgraded { change } => {
            let changed = change.parts().into_iter().map(str::to_owned).collect();
            let removed = change.roles_removed.iter().map(|key| key.as_str().to_owned()).collect();
            (change.version, changed, removed)
        }
        ModuleEvent::Enabled {} | ModuleEvent::Disabled { .. } | ModuleEvent::Retired { .. } => return row,
    };
    Some(VersionRow {
        tenant_id: event.tenant.0,
        version_id: ModuleVersions::id(event),
        module_id: event.stream_id,
        release: release.as_str().to_owned(),
        changed,
        roles_removed: removed,
        version: signed(event.sequence),
        released_at: event.recorded_at,
        tenant_position: signed(event.tenant_position),
        position: signed(event.position),
    })
}

/// The latest versions of each of these modules, at most `first` of each, the latest first.
///
/// # Errors
/// When the database cannot be asked.
pub async fn latest(
    session: &ReadSession,
    tenant: TenantId,
    modules: &[Uuid],
    first: u16,
) -> Result<Vec<VersionRow>, ReadError> {
    // A look into the index for each module, in one statement.
    let sql = format!(
        "select {} from unnest($2::uuid[]) as asked (module_id) cross join lateral (
             select * from {} v where v.tenant_id = $1 and v.module_id = asked.module_id
             order by v.version desc limit $3
         ) v order by v.module_id, v.version desc",
        columns_of("v", COLUMNS),
        session.table::<ModuleVersions>()?
    );
    let rows = session.query(&sql, &[&tenant.0, &modules, &i64::from(first.min(VERSIONS_MAX))]).await?;
    Ok(rows.iter().map(VersionRow::from_row).collect())
}
