//! Real PostgreSQL for tests.
//!
//! A test gets a database of its own, copied from a migrated template. The server is the one named
//! by `DAYBOOK_TEST_URL` (the `with-postgres` program sets it for a whole run), or a private one
//! that lives as long as the test's process.

pub mod nats;
pub mod process;
pub mod serve;

use daybook_domain::TenantId;
pub use daybook_keeper::KeeperError;
use daybook_keeper::{Cluster, KeeperConfig};
use daybook_store::database::{Database, Role};
use daybook_store::journal::machine::Config;
use daybook_store::journal::{Append, CommandStamp, Journal, JournalOptions, NewEvent, StreamAppend, StreamId};
use daybook_store::schema::{Identity, migrate_with};
use daybook_store::system::{Real, SharedSystem, System};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_postgres::Client;
use uuid::Uuid;

/// Small, so that tests cross partition boundaries.
pub const PARTITION_SIZE: i64 = 1_000;

/// A server for tests: in memory where the machine has a memory file system, on disk otherwise.
pub struct TestServer {
    cluster: Option<Cluster>,
    directory: tempfile::TempDir,
}

impl TestServer {
    /// # Panics
    /// When PostgreSQL cannot be started: without it there is nothing to test.
    pub async fn start(settings: &[(&str, &str)]) -> Self {
        Self::start_in(if Path::new("/dev/shm").is_dir() { "/dev/shm".into() } else { std::env::temp_dir() }, settings)
            .await
    }

    /// # Panics
    /// As [`TestServer::start`].
    pub async fn start_in(parent: PathBuf, settings: &[(&str, &str)]) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let directory =
            tempfile::Builder::new().prefix("daybook-test-").tempdir_in(parent).expect("a temporary directory");
        // The server may run as another user than the test.
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).expect("a mode");
        let mut config = KeeperConfig::new(directory.path());
        config.settings = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let cluster = Cluster::start(&config).await.expect("a private PostgreSQL");
        TestServer { cluster: Some(cluster), directory }
    }

    /// # Panics
    /// After [`TestServer::stop`].
    pub fn database(&self, name: &str) -> Database {
        let cluster = self.cluster.as_ref().expect("a running server");
        Database::on_socket(cluster.socket_dir(), cluster.port(), cluster.superuser(), name)
    }

    /// As a connection string, for programs of others.
    ///
    /// # Panics
    /// After [`TestServer::stop`].
    pub fn url(&self) -> String {
        let cluster = self.cluster.as_ref().expect("a running server");
        format!(
            "host='{}' port={} user={} dbname=postgres",
            cluster.socket_dir().display(),
            cluster.port(),
            cluster.superuser()
        )
    }

    /// The Unix socket.
    ///
    /// # Panics
    /// After [`TestServer::stop`].
    pub fn socket(&self) -> PathBuf {
        let cluster = self.cluster.as_ref().expect("a running server");
        cluster.socket_dir().join(format!(".s.PGSQL.{}", cluster.port()))
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Every process of it at once.
    ///
    /// # Panics
    /// After [`TestServer::stop`].
    pub fn kill(&self) {
        process::kill_postgres(self.cluster.as_ref().expect("a running server").pid());
    }

    /// Starts it again if it has died, on the same data and the same socket.
    ///
    /// # Errors
    /// When it does not start; it may be tried again.
    ///
    /// # Panics
    /// After [`TestServer::stop`].
    pub async fn recover(&mut self) -> Result<(), KeeperError> {
        self.cluster.as_mut().expect("a running server").recover().await
    }

    /// # Panics
    /// When the server does not stop.
    pub async fn stop(mut self) {
        if let Some(cluster) = self.cluster.take() {
            cluster.stop().await.expect("the server stops");
        }
    }
}

/// A migrated database of one test.
pub struct TestDatabase {
    database: Database,
    pub identity: Identity,
    // Kept for as long as the database is used; its drop ends a private server.
    server: Option<TestServer>,
}

impl TestDatabase {
    /// # Panics
    /// When it cannot be made.
    pub async fn new() -> Self {
        match std::env::var("DAYBOOK_TEST_URL") {
            Ok(url) => Self::on(Database::from_url(&url).expect("DAYBOOK_TEST_URL"), None).await,
            Err(_) => Self::alone().await,
        }
    }

    /// On a server of its own in any case: one that may be killed.
    ///
    /// # Panics
    /// As [`TestDatabase::new`].
    pub async fn alone() -> Self {
        let server = TestServer::start(&[("max_connections", "200")]).await;
        Self::on(server.database("postgres"), Some(server)).await
    }

    async fn on(admin: Database, server: Option<TestServer>) -> Self {
        let client = admin.connect(Role::Login, "").await.expect("the server answers");
        // One process migrates the template; the others wait for it.
        client.execute("select pg_advisory_lock(1)", &[]).await.expect("a lock");
        let exists = client
            .query_opt("select from pg_database where datname = 'daybook_template'", &[])
            .await
            .expect("an answer")
            .is_some();
        if !exists {
            client
                .batch_execute("create database daybook_migrating encoding 'UTF8' template template0")
                .await
                .expect("a database");
            migrate_with(&admin.named("daybook_migrating"), &Real, PARTITION_SIZE).await.expect("migrations");
            loop {
                // The migration's session may need a moment to be gone.
                match client.batch_execute("alter database daybook_migrating rename to daybook_template").await {
                    Ok(()) => break,
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        }
        let name = format!("test_{}", Real.uuid_v4().simple());
        client.batch_execute(&format!("create database {name} template daybook_template")).await.expect("a database");
        client.execute("select pg_advisory_unlock(1)", &[]).await.expect("an unlock");
        let database = admin.named(&name);
        let superuser = database.connect(Role::Login, "").await.expect("the database answers");
        let identity = daybook_store::schema::identity(&superuser).await.expect("an identity");
        TestDatabase { database, identity, server }
    }

    /// The server that is this database's alone.
    ///
    /// # Panics
    /// Where the server is shared.
    pub fn server(&mut self) -> &mut TestServer {
        self.server.as_mut().expect("a server of its own")
    }

    pub fn database(&self) -> &Database {
        &self.database
    }

    /// A session that may do anything: the attacker's.
    ///
    /// # Panics
    /// When the server does not answer.
    pub async fn superuser(&self) -> Client {
        self.database.connect(Role::Login, "").await.expect("the database answers")
    }

    /// A writer on this database, leading.
    ///
    /// # Panics
    /// When it does not come to lead.
    pub async fn journal(&self) -> (Journal, JoinHandle<()>) {
        self.journal_with(test_config()).await
    }

    /// # Panics
    /// As [`TestDatabase::journal`].
    pub async fn journal_with(&self, writer: Config) -> (Journal, JoinHandle<()>) {
        let mut options = JournalOptions::new(Real.uuid_v4());
        options.writer = writer;
        let (journal, task) = Journal::start(&self.database, system(), options);
        journal.ready(tokio::time::Instant::now() + Duration::from_secs(20)).await.expect("a writer");
        (journal, task)
    }
}

/// The defaults with fewer connections, so that many tests fit on one server.
pub fn test_config() -> Config {
    Config { flushers: 2, ..Config::default() }
}

pub fn system() -> SharedSystem {
    Arc::new(Real)
}

/// A raw event of no aggregate.
pub fn event(payload: &str) -> NewEvent {
    NewEvent {
        event_id: Real.uuid_v7(),
        event_type: "test.thing.happened".into(),
        event_version: 1,
        payload: payload.into(),
        metadata: "{}".into(),
    }
}

/// A fresh command id, so that no look-up is needed for it.
pub fn command(tenant: TenantId) -> CommandStamp {
    CommandStamp { tenant, id: Real.uuid_v7(), digest: [7; 32], hash_key: [9; 32], fresh: true }
}

/// An append of events to one stream of type `thing`.
pub fn append(tenant: TenantId, stream: Uuid, expected: u64, events: Vec<NewEvent>) -> Append {
    Append {
        tenant,
        command: command(tenant),
        streams: vec![StreamAppend { stream: StreamId { kind: "thing", id: stream }, expected, events }],
        reads: vec![],
        claims: vec![],
        releases: vec![],
        not_after: None,
    }
}

pub fn tenant() -> TenantId {
    TenantId(Real.uuid_v4())
}

/// An error with everything that caused it, on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
