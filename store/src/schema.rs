//! From an empty database to Daybook's: roles, schemas, migrations, identity.

use crate::database::{Database, DatabaseError, Role};
use crate::system::System;
use tokio_postgres::Client;
use uuid::Uuid;

mod embedded {
    refinery::embed_migrations!("../migrations");
}

/// Positions per partition of the journal.
pub const PARTITION_SIZE: i64 = 1 << 24;

/// Held while migrating, so that two nodes starting together take turns.
const MIGRATION_LOCK: i64 = 0x6461_7962_6f6f_6b00;

const BOOTSTRAP: &str = "
do $$
declare r text;
begin
    foreach r in array array['daybook_owner', 'daybook_writer', 'daybook_projector', 'daybook_reader'] loop
        if to_regrole(r) is null then
            execute format('create role %I nologin nosuperuser nobypassrls', r);
        end if;
        if not pg_has_role(current_user, r, 'member') then
            execute format('grant %I to current_user', r);
        end if;
    end loop;
end $$;
create schema if not exists journal authorization daybook_owner;
create schema if not exists keys authorization daybook_owner;
create schema if not exists projection authorization daybook_owner;
create schema if not exists read authorization daybook_owner;
create schema if not exists identity authorization daybook_owner;
";

#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("a migration failed; nothing of it was kept")]
    Migration(#[from] refinery::Error),
    #[error(
        "the roles cannot be made: let a superuser run `daybook migrate` once, or create daybook_owner, daybook_writer, daybook_projector and daybook_reader and grant them to this login"
    )]
    Roles(#[source] tokio_postgres::Error),
    #[error(
        "this database was written by a newer Daybook (schema {found}, this one knows {known}): start that version"
    )]
    Newer { found: i64, known: i64 },
}

/// Which journal this is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    pub journal_id: Uuid,
    /// Changes with a restore.
    pub incarnation_id: Uuid,
}

/// What `migrate` did.
#[derive(Clone, Debug)]
pub struct Migrated {
    pub identity: Identity,
    /// Names of the migrations applied now.
    pub applied: Vec<String>,
    /// No event has ever been written.
    pub empty: bool,
}

/// Refuses servers on which an acknowledged write could be lost.
///
/// # Errors
/// [`DatabaseError::Unsuitable`] with the setting to change.
pub async fn check_server(client: &Client) -> Result<(), DatabaseError> {
    let row = client
        .query_one(
            "select current_setting('server_version_num')::int, current_setting('server_encoding'),
                    current_setting('fsync'), current_setting('full_page_writes'), current_setting('server_version')",
            &[],
        )
        .await
        .map_err(DatabaseError::Query)?;
    let (version, encoding, fsync, pages, text): (i32, String, String, String, String) =
        (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4));
    let unsuitable = |what: String| Err(DatabaseError::Unsuitable(what));
    if version < 150_000 {
        return unsuitable(format!("PostgreSQL {text} is too old: Daybook needs 15 or newer"));
    }
    if encoding != "UTF8" {
        return unsuitable(format!("the database's encoding is {encoding}: create it with ENCODING 'UTF8'"));
    }
    if fsync != "on" {
        return unsuitable("fsync is off: a power cut would lose acknowledged writes; set fsync = on".into());
    }
    if pages != "on" {
        return unsuitable("full_page_writes is off: a power cut could tear pages; set full_page_writes = on".into());
    }
    // A transaction pooler would hand the writer's session to others between two statements.
    let mut pids = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let row = client
            .query_one("select pg_backend_pid(), current_setting('timezone')", &[])
            .await
            .map_err(DatabaseError::Query)?;
        pids.insert((row.get::<_, i32>(0), row.get::<_, String>(1)));
    }
    if pids.len() > 1 || pids.iter().any(|(_, zone)| zone != "UTC") {
        return unsuitable("there is a transaction pooler in between: connect to PostgreSQL itself".into());
    }
    Ok(())
}

/// Brings a database to this version's schema. Safe to repeat, and from several nodes at once.
///
/// # Errors
/// When the server is unsuitable, the login may not make roles, or a migration fails.
pub async fn migrate(database: &Database, system: &dyn System) -> Result<Migrated, SchemaError> {
    migrate_with(database, system, PARTITION_SIZE).await
}

/// As [`migrate`], with another partition size for a journal that does not exist yet.
///
/// # Errors
/// As [`migrate`].
pub async fn migrate_with(
    database: &Database,
    system: &dyn System,
    partition_size: i64,
) -> Result<Migrated, SchemaError> {
    let query = |e| SchemaError::Database(DatabaseError::Query(e));
    let mut client = database.connect(Role::Login, "").await?;
    check_server(&client).await?;
    client.execute("select pg_advisory_lock($1)", &[&MIGRATION_LOCK]).await.map_err(query)?;
    client.batch_execute(BOOTSTRAP).await.map_err(SchemaError::Roles)?;
    client.batch_execute("set role daybook_owner").await.map_err(query)?;
    let mut runner = embedded::migrations::runner();
    runner.set_migration_table_name("journal.migrations");
    let known = runner.get_migrations().iter().map(|m| i64::from(m.version())).max().unwrap_or(0);
    let exists: bool =
        client.query_one("select to_regclass('journal.migrations') is not null", &[]).await.map_err(query)?.get(0);
    if exists {
        let found: Option<i64> =
            client.query_one("select max(version)::bigint from journal.migrations", &[]).await.map_err(query)?.get(0);
        if let Some(found) = found.filter(|f| *f > known) {
            return Err(SchemaError::Newer { found, known });
        }
    }
    let report = runner.run_async(&mut client).await?;
    client
        .execute(
            "insert into journal.identity (journal_id, incarnation_id, partition_size) values ($1, $2, $3) on conflict do nothing",
            &[&system.uuid_v4(), &system.uuid_v4(), &partition_size],
        )
        .await
        .map_err(query)?;
    client.execute("select journal.ensure_partitions(0)", &[]).await.map_err(query)?;
    client.batch_execute("reset role").await.map_err(query)?;
    let identity = identity(&client).await?;
    let empty: bool =
        client.query_one("select not exists (select from journal.tenant_heads)", &[]).await.map_err(query)?.get(0);
    Ok(Migrated { identity, applied: report.applied_migrations().iter().map(ToString::to_string).collect(), empty })
}

/// Which journal this database holds.
///
/// # Errors
/// When it holds none.
pub async fn identity(client: &Client) -> Result<Identity, DatabaseError> {
    let row = client
        .query_one("select journal_id, incarnation_id from journal.identity", &[])
        .await
        .map_err(DatabaseError::Query)?;
    Ok(Identity { journal_id: row.get(0), incarnation_id: row.get(1) })
}
