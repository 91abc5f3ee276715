//! Connections: one login, four roles, bounded pools.
//!
//! Every session takes one role at its start and keeps it. Nobody here holds a connection while
//! asking for another.

mod sessions;

pub use sessions::Held;

use deadpool::managed::{PoolError, QueueMode, Timeouts};
use sessions::Sessions;
use std::str::FromStr;
use std::time::Duration;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Connection, NoTls, Row, Socket, tls::NoTlsStream};

/// What a session may do; see migrations/V1__journal.sql.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// The login itself: bootstrap, lease, takeover.
    Login,
    Writer,
    Projector,
    Reader,
}

impl Role {
    fn name(self) -> Option<&'static str> {
        match self {
            Role::Login => None,
            Role::Writer => Some("daybook_writer"),
            Role::Projector => Some("daybook_projector"),
            Role::Reader => Some("daybook_reader"),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    #[error("DATABASE_URL cannot be understood: use postgres://user:password@host:5432/database")]
    Url(#[source] tokio_postgres::Error),
    #[error("PostgreSQL does not answer at {place}: is it running, and is the address right?")]
    Connect { place: String, source: tokio_postgres::Error },
    #[error("no connection became free within {0:?}; the database is overloaded or gone")]
    Busy(Duration),
    #[error("PostgreSQL refused a statement{}", detail(.0))]
    Query(#[source] tokio_postgres::Error),
    /// Of a statement that others had a part in, who are told the same.
    #[error("the connection to PostgreSQL was lost")]
    Lost,
    #[error("{0}")]
    Unsuitable(String),
}

fn detail(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map(|e| format!(" ({})", e.code().code())).unwrap_or_default()
}

impl DatabaseError {
    /// Whether another try may succeed: the connection failed, not the statement.
    pub fn is_connection(&self) -> bool {
        match self {
            DatabaseError::Connect { .. } | DatabaseError::Busy(_) | DatabaseError::Lost => true,
            // Class 57 is the operator's: shutdown, crash recovery, termination.
            DatabaseError::Query(e) => {
                e.is_closed() || e.as_db_error().is_none_or(|d| d.code().code().starts_with("57P"))
            }
            DatabaseError::Url(_) | DatabaseError::Unsuitable(_) => false,
        }
    }
}

/// So long without a sign of the other end, and a connection over the network is lost.
const PEER_GONE: Duration = Duration::from_secs(10);

/// So long may a session of a pool be held: longer than any statement may take that somebody waits for.
pub(crate) const HELD_MAX: Duration = Duration::from_secs(35);
/// One that looks things up by their keys, which takes milliseconds.
const HELD_BY_KEY_MAX: Duration = Duration::from_secs(10);

/// Where the database is.
#[derive(Clone, Debug)]
pub struct Database {
    config: Config,
}

impl Database {
    /// From `DATABASE_URL` or a key=value string.
    ///
    /// # Errors
    /// When the text is not a connection string.
    pub fn from_url(url: &str) -> Result<Self, DatabaseError> {
        let mut config = Config::from_str(url).map_err(DatabaseError::Url)?;
        config.connect_timeout(Duration::from_secs(5));
        config.application_name("daybook");
        // A peer that is gone without a word is noticed in seconds, not in the quarter of an hour that TCP takes.
        config.tcp_user_timeout(PEER_GONE);
        config.keepalives_idle(PEER_GONE / 2).keepalives_interval(PEER_GONE / 4).keepalives_retries(2);
        Ok(Database { config })
    }

    /// A private cluster behind a Unix socket.
    pub fn on_socket(directory: &std::path::Path, port: u16, user: &str, database: &str) -> Self {
        let mut config = Config::new();
        config.host_path(directory).port(port).user(user).dbname(database);
        config.connect_timeout(Duration::from_secs(5)).application_name("daybook");
        Database { config }
    }

    /// The same server, another database.
    pub fn named(&self, database: &str) -> Self {
        let mut config = self.config.clone();
        config.dbname(database);
        Database { config }
    }

    fn place(&self) -> String {
        let hosts: Vec<String> = self.config.get_hosts().iter().map(|h| format!("{h:?}")).collect();
        format!("{} port {:?}", hosts.join(","), self.config.get_ports())
    }

    fn for_role(&self, role: Role, settings: &str) -> Config {
        let mut config = self.config.clone();
        let role = role.name().map(|r| format!("-c role={r} ")).unwrap_or_default();
        let own = config.get_options().unwrap_or_default().to_owned();
        // UTC, so that no session renders a time in a zone of its own; jit never pays here.
        config.options(format!("{own} {role}-c timezone=UTC -c jit=off {settings}"));
        config
    }

    /// One connection outside any pool. Its task ends with it.
    ///
    /// # Errors
    /// When PostgreSQL does not answer or refuses the login.
    pub async fn connect(&self, role: Role, settings: &str) -> Result<Client, DatabaseError> {
        let (client, connection) = self.connect_raw(role, settings).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a database connection ended");
            }
        });
        Ok(client)
    }

    pub(crate) async fn connect_raw(
        &self,
        role: Role,
        settings: &str,
    ) -> Result<(Client, Connection<Socket, NoTlsStream>), DatabaseError> {
        self.for_role(role, settings)
            .connect(NoTls)
            .await
            .map_err(|source| DatabaseError::Connect { place: self.place(), source })
    }

    /// A bounded pool of sessions of one role, each held for 35 seconds at most, the writer's for 10, whose statements are all
    /// short: who holds one longer waits for an answer that does not come.
    pub fn pool(&self, role: Role, size_max: usize, settings: &str) -> Pool {
        let held_max = if role == Role::Writer { HELD_BY_KEY_MAX } else { HELD_MAX };
        self.pool_held(role, size_max, settings, Some(held_max))
    }

    /// As [`Database::pool`]; `held_max`: how long a session may be held, for ever where none is given.
    pub fn pool_held(&self, role: Role, size_max: usize, settings: &str, held_max: Option<Duration>) -> Pool {
        let wait = Duration::from_secs(5);
        let inner = deadpool::managed::Pool::builder(Sessions::new(self.for_role(role, settings), held_max))
            .max_size(size_max)
            // The session used last has its caches warm.
            .queue_mode(QueueMode::Lifo)
            .runtime(deadpool::Runtime::Tokio1)
            .timeouts(Timeouts { wait: Some(wait), create: Some(wait), recycle: Some(wait) })
            .build()
            .expect("a runtime is given, which is all that can be missing");
        Pool { inner, place: self.place(), wait }
    }
}

/// Sessions of one role.
#[derive(Clone)]
pub struct Pool {
    inner: deadpool::managed::Pool<Sessions>,
    place: String,
    wait: Duration,
}

impl Pool {
    /// A session, held until dropped.
    ///
    /// # Errors
    /// [`DatabaseError::Busy`] after the wait, [`DatabaseError::Connect`] when there is no server.
    pub async fn get(&self) -> Result<Held, DatabaseError> {
        self.inner.get().await.map(Held::new).map_err(|error| match error {
            PoolError::Backend(source) => DatabaseError::Connect { place: self.place.clone(), source },
            _ => DatabaseError::Busy(self.wait),
        })
    }

    /// One statement on any session, prepared and cached there.
    ///
    /// # Errors
    /// As [`Pool::get`], or when the statement is refused.
    pub async fn query(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, DatabaseError> {
        let session = self.get().await?;
        let statement = session.prepare_cached(sql).await.map_err(DatabaseError::Query)?;
        session.query(&statement, parameters).await.map_err(DatabaseError::Query)
    }
}
