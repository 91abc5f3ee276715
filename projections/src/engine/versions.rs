//! Versions of a read model: which one answers, making the next, dropping the last.
//!
//! The checkpoint rows of a version are the licence to apply to it. The switch takes the old
//! version's away in its own transaction, so no runner, on whatever node, goes on with it.

use super::life::{LIFE, Life};
use super::projected::Projected;
use super::{int, unsigned};
use chrono::{DateTime, Utc};
use daybook_store::database::{Database, DatabaseError, Pool, Role};
use deadpool_postgres::Transaction;
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

#[derive(Debug, thiserror::Error)]
pub enum VersionError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("read model {read_model} v{version} has lost its checkpoints: run `daybook rebuild {read_model}`")]
    NoCheckpoints { read_model: &'static str, version: u32 },
    #[error(
        "read model {read_model} v{version} cannot be dropped yet: a long transaction may still read it; the next rebuild drops it"
    )]
    InUse { read_model: &'static str, version: u32 },
}

/// The key of the advisory lock under which versions of a read model come and go.
pub(super) fn lock_key(read_model: &str) -> String {
    format!("daybook.projection.{read_model}")
}

/// The version that answers, if there is one yet.
pub(super) async fn live(pool: &Pool, read_model: &str) -> Result<Option<u32>, DatabaseError> {
    let rows = pool.query("select version from projection.live where read_model = $1", &[&read_model]).await?;
    Ok(rows.first().map(|row| version(row.get(0))))
}

/// The version that answers; the first one is made where there is none.
pub(super) async fn ensure_live<M: Projected>(pool: &Pool, now: DateTime<Utc>) -> Result<u32, DatabaseError> {
    if let Some(version) = live(pool, M::NAME).await? {
        return Ok(version);
    }
    let mut session = pool.get().await?;
    let tx = session.transaction().await.map_err(DatabaseError::Query)?;
    // Two nodes starting on an empty database take turns.
    tx.execute("select pg_advisory_xact_lock(hashtextextended($1, 0))", &[&lock_key(M::NAME)])
        .await
        .map_err(DatabaseError::Query)?;
    let found = tx
        .query_opt("select version from projection.live where read_model = $1", &[&M::NAME])
        .await
        .map_err(DatabaseError::Query)?;
    if let Some(row) = found {
        return Ok(version(row.get(0)));
    }
    create::<M>(&tx, 1, now).await?;
    index::<M>(&tx, 1).await?;
    tx.execute("insert into projection.live (read_model, version) values ($1, 1)", &[&M::NAME])
        .await
        .map_err(DatabaseError::Query)?;
    tx.commit().await.map_err(DatabaseError::Query)?;
    Ok(1)
}

/// Table, lanes and checkpoints of a version, at the beginning of the journal.
pub(super) async fn create<M: Projected>(
    tx: &Transaction<'_>,
    version: u32,
    now: DateTime<Utc>,
) -> Result<(), DatabaseError> {
    tx.batch_execute(&M::create_sql(version)).await.map_err(DatabaseError::Query)?;
    tx.execute(
        "with v as (insert into projection.versions (read_model, version, lanes, created_at) values ($1, $2, $3, $4)
                    returning read_model, version, lanes, created_at)
         insert into projection.checkpoints (read_model, version, lane, position, updated_at)
         select read_model, version, lane, 0, created_at from v, generate_series(0, lanes - 1) lane",
        &[&M::NAME, &int(version), &i32::from(M::LANES.max(1)), &now],
    )
    .await
    .map_err(DatabaseError::Query)?;
    Ok(())
}

/// What readers need besides.
pub(super) async fn index<M: Projected>(tx: &Transaction<'_>, version: u32) -> Result<(), DatabaseError> {
    tx.batch_execute(&M::index_sql(version)).await.map_err(DatabaseError::Query)
}

/// The checkpoints of a version, by lane, and the life of the server in which they are there.
pub(super) async fn checkpoints<M: Projected>(
    session: &Client,
    version: u32,
) -> Result<(Option<Life>, Vec<u64>), VersionError> {
    let sql = format!(
        "select c.position, {LIFE} from projection.versions v
         left join projection.checkpoints c using (read_model, version)
         where v.read_model = $1 and v.version = $2 order by c.lane"
    );
    let rows = session.query(&sql, &[&M::NAME, &int(version)]).await.map_err(DatabaseError::Query)?;
    let positions: Option<Vec<u64>> = rows.iter().map(|row| row.get::<_, Option<i64>>(0).map(unsigned)).collect();
    let life = rows.first().and_then(|row| Life::of(row, 1));
    positions
        .filter(|positions| !positions.is_empty())
        .map(|positions| (life, positions))
        .ok_or(VersionError::NoCheckpoints { read_model: M::NAME, version })
}

/// Drops every version but the one that answers. Queries that began before the switch end first.
///
/// The caller holds the read model's advisory lock, so no next version is being filled.
///
/// # Errors
/// [`VersionError::InUse`] when readers do not end before `deadline`; nothing is lost then but space.
pub(super) async fn drop_others<M: Projected>(
    database: &Database,
    session: &Client,
    live: u32,
    deadline: Instant,
) -> Result<Vec<u32>, VersionError> {
    let rows = session
        .query(
            "select version from projection.versions where read_model = $1 and version <> $2 order by version",
            &[&M::NAME, &int(live)],
        )
        .await
        .map_err(DatabaseError::Query)?;
    let others: Vec<u32> = rows.iter().map(|row| version(row.get(0))).collect();
    let Some(first) = others.first().copied() else { return Ok(others) };
    let in_use = |version| VersionError::InUse { read_model: M::NAME, version };
    if !older_snapshots_end(database, deadline).await? {
        return Err(in_use(first));
    }
    for version in &others {
        // Nobody asks for them any more, and there may be a week of them: not in one transaction.
        let chunk = "delete from projection.changes where ctid = any(array(
             select ctid from projection.changes where read_model = $1 and version = $2 limit 10000))";
        while session.execute(chunk, &[&M::NAME, &int(*version)]).await.map_err(DatabaseError::Query)? > 0 {}
        let sql = format!(
            "begin; set local lock_timeout = '500ms'; {drop};
             delete from projection.checkpoints where read_model = '{name}' and version = {version};
             delete from projection.parked where read_model = '{name}' and version = {version};
             delete from projection.purged where read_model = '{name}' and version = {version};
             delete from projection.versions where read_model = '{name}' and version = {version};
             commit",
            drop = M::drop_sql(*version),
            name = M::NAME,
        );
        while let Err(error) = session.batch_execute(&sql).await {
            session.batch_execute("rollback").await.map_err(DatabaseError::Query)?;
            let locked = [Some(&SqlState::LOCK_NOT_AVAILABLE), Some(&SqlState::T_R_DEADLOCK_DETECTED)];
            if !locked.contains(&error.code()) {
                return Err(DatabaseError::Query(error).into());
            }
            if Instant::now() >= deadline {
                return Err(in_use(*version));
            }
        }
    }
    Ok(others)
}

/// Waits until no transaction reads a state older than this moment: such a one may have read the
/// pointer and be about to ask the table behind it, on which it holds no lock yet.
async fn older_snapshots_end(database: &Database, deadline: Instant) -> Result<bool, DatabaseError> {
    // As the login, because only it may see what its other sessions do.
    let session = database.connect(Role::Login, "").await?;
    let row = session.query_one("select pg_current_xact_id()::text", &[]).await.map_err(DatabaseError::Query)?;
    let now: String = row.get(0);
    loop {
        let row = session
            .query_one(
                "select exists (select from pg_stat_activity
                                where datname = current_database() and backend_type = 'client backend'
                                  and pid <> pg_backend_pid() and age(backend_xmin) >= age($1::text::xid8::xid))",
                &[&now],
            )
            .await
            .map_err(DatabaseError::Query)?;
        if !row.get::<_, bool>(0) {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(super) fn version(stored: i32) -> u32 {
    u32::try_from(stored).unwrap_or_default()
}
