//! postgres-es 0.5.0 with cqrs-es 0.5: tables of its own init.sql, a framework over a pool of connections, the same
//! aggregate and the same commands.

use crate::failed;
use cqrs_es::persist::{PersistedEventRepository, SerializedEvent};
use daybook_bench::error::BenchError;
use daybook_bench::load::{self, ACTOR, Figures, Operation, Pace, RAW_BYTES, Rota, STREAMS, Untouched, drive, text};
use daybook_bench::rig::{Load, watched};
use daybook_bench::server;
use daybook_domain::platform::Tenant;
use daybook_domain::{Context, EventIds, PLATFORM_TENANT};
use daybook_store::system::{Real, System};
use daybook_store::{Database, DatabaseError, Role};
use postgres_es::{PostgresCqrs, PostgresEventRepository, postgres_cqrs};
use serde_json::Value;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Pool, Postgres};
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

pub const NAME: &str = "postgres-es";

/// As its init.sql has them.
const TABLES: &str = "
create table events (
    aggregate_type text                         not null,
    aggregate_id   text                         not null,
    sequence       bigint check (sequence >= 0) not null,
    event_type     text                         not null,
    event_version  text                         not null,
    payload        json                         not null,
    metadata       json                         not null,
    primary key (aggregate_type, aggregate_id, sequence)
)";

/// Makes its tables, with all that Daybook has recorded in this database: what both begin with is the same.
///
/// # Errors
/// When there are such tables.
pub async fn adopt(database: &Database) -> Result<(), BenchError> {
    let session = database.connect(Role::Login, "").await?;
    session.batch_execute(TABLES).await?;
    let metadata = serde_json::to_value(metadata()).map_err(failed(NAME))?;
    session
        .execute(
            "insert into events select aggregate_type, aggregate_id, sequence, event_type, event_version, payload, $1::json
             from journal.postgres_es_events",
            &[&metadata],
        )
        .await?;
    session.batch_execute("vacuum analyze events").await?;
    Ok(())
}

/// What Daybook writes down about a caller, in the clear.
fn metadata() -> HashMap<String, String> {
    let call = load::call();
    [
        ("actor", ACTOR.id.to_string()),
        ("command", "tenant.changeSettings".to_owned()),
        ("command_id", Real.uuid_v7().to_string()),
        ("correlation", call.correlation),
        ("ip", call.ip.unwrap_or_default()),
        ("user_agent", call.user_agent.unwrap_or_default()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// How sqlx gets to where a session is.
///
/// # Errors
/// When the server cannot be asked.
pub async fn options(database: &Database) -> Result<PgConnectOptions, BenchError> {
    let sql = "select current_setting('unix_socket_directories'), current_setting('port'), current_user::text,
                      current_database()::text";
    let row = database.connect(Role::Login, "").await?.query_one(sql, &[]).await.map_err(DatabaseError::Query)?;
    let socket: String = row.get(0);
    Ok(PgConnectOptions::new()
        .socket(socket.trim_matches('"'))
        .port(row.get::<_, String>(1).parse().map_err(failed(NAME))?)
        .username(row.get(2))
        .database(row.get(3)))
}

/// As its `default_postgress_pool`, of another size.
async fn pool(database: &Database, size: u32) -> Result<Pool<Postgres>, BenchError> {
    let options = options(database).await?;
    PgPoolOptions::new().max_connections(size).connect_with(options).await.map_err(failed(NAME))
}

/// What reads and writes its tables.
///
/// # Errors
/// When the server does not answer.
pub async fn repository(database: &Database, connections: u32) -> Result<PostgresEventRepository, BenchError> {
    Ok(PostgresEventRepository::new(pool(database, connections).await?))
}

/// One measurement, with connections of its own.
///
/// # Errors
/// When anything fails.
pub async fn measure(
    database: &Database,
    load: Load,
    connections: u32,
    untouched: Arc<Untouched>,
    pace: impl FnOnce() -> Pace,
) -> Result<Figures, BenchError> {
    let watcher = database.connect(Role::Login, "").await?;
    let used = async || server::cpu(&watcher).await;
    let pool = pool(database, connections).await?;
    let figures = match load {
        Load::Command => {
            let nobody = Context {
                id: PLATFORM_TENANT.0,
                tenant: PLATFORM_TENANT,
                actor: ACTOR,
                now: Real.utc(),
                ids: EventIds { seed: Real.uuid_v4() },
            };
            let framework = Arc::new(postgres_cqrs::<Tenant>(pool.clone(), vec![], nobody));
            let (run, pace) = (Real.uuid_v4(), pace());
            let make = |n| Commands { framework: framework.clone(), rota: Rota::new(untouched.clone(), run, n) };
            watched(pace, drive(pace, make), used).await
        }
        Load::Raw => {
            let repository = Arc::new(PostgresEventRepository::new(pool.clone()));
            let value: Value = serde_json::from_str(&text(RAW_BYTES)).map_err(failed(NAME))?;
            let (value, pace) = (Arc::new(value), pace());
            let make = |n| Raw { repository: repository.clone(), value: value.clone(), streams: vec![], at: n };
            watched(pace, drive(pace, make), used).await
        }
    };
    pool.close().await;
    figures
}

struct Commands {
    framework: Arc<PostgresCqrs<Tenant>>,
    rota: Rota,
}

impl Operation for Commands {
    async fn once(&mut self, cold: bool) -> Result<(), BenchError> {
        let (tenant, command) = self.rota.next(cold)?;
        self.framework.execute_with_metadata(&tenant.to_string(), command, metadata()).await.map_err(failed(NAME))
    }
}

/// Its repository without the framework: what writes events whose sequence the caller knows.
struct Raw {
    repository: Arc<PostgresEventRepository>,
    value: Arc<Value>,
    streams: Vec<(Uuid, usize)>,
    at: usize,
}

impl Operation for Raw {
    async fn once(&mut self, cold: bool) -> Result<(), BenchError> {
        self.at += 1;
        let slot = self.at % STREAMS;
        if cold || self.streams.is_empty() {
            let new = (Real.uuid_v4(), 0);
            match self.streams.get_mut(slot) {
                Some(place) => *place = new,
                None => self.streams.push(new),
            }
        }
        let place = slot % self.streams.len();
        let (id, sequence) = &mut self.streams[place];
        *sequence += 1;
        let event = SerializedEvent::new(
            id.to_string(),
            *sequence,
            "thing".to_owned(),
            "bench.thing.happened".to_owned(),
            "1".to_owned(),
            (*self.value).clone(),
            (*self.value).clone(),
        );
        self.repository.persist::<Tenant>(&[event], None).await.map_err(failed(NAME))
    }
}
