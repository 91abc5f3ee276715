//! The database behind every verb: the private one, started or already running, or the one named.

use crate::config::Settled;
use crate::exit::Failure;
use daybook_keeper::{Cluster, KeeperConfig, KeeperError};
use daybook_store::database::{Database, Role};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Name of Daybook's database in its private cluster.
const DATABASE: &str = "daybook";

/// A database, and the cluster when it is ours to keep.
pub struct Base {
    pub database: Database,
    pub cluster: Option<Cluster>,
    pub place: Place,
    /// The server runs on this machine and is ours, or another Daybook's.
    private: bool,
}

/// Where the database is, for PostgreSQL's own programs.
pub struct Place {
    /// A name, an address or the directory of a socket.
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: Option<String>,
    pub database: String,
}

impl Place {
    fn on_socket(directory: &Path, port: u16, user: &str) -> Self {
        let host = directory.display().to_string();
        Place { host, port, user: user.to_owned(), password: None, database: DATABASE.to_owned() }
    }

    /// Of a connection string that has been found right.
    fn of_url(url: &str) -> Option<Self> {
        use tokio_postgres::config::Host;
        let config = tokio_postgres::Config::from_str(url).ok()?;
        let host = match config.get_hosts().first() {
            Some(Host::Tcp(name)) => name.clone(),
            Some(Host::Unix(directory)) => directory.display().to_string(),
            None => "localhost".to_owned(),
        };
        let user = config.get_user().unwrap_or("postgres").to_owned();
        Some(Place {
            host,
            port: config.get_ports().first().copied().unwrap_or(5432),
            database: config.get_dbname().unwrap_or(&user).to_owned(),
            password: config.get_password().map(|secret| String::from_utf8_lossy(secret).into_owned()),
            user,
        })
    }
}

impl Base {
    /// Opens the database. `alone`: only one process may do this at a time (serve); the others join
    /// a private cluster that a running Daybook keeps.
    ///
    /// # Errors
    /// With the remedy, exit code 4.
    pub async fn open(settled: &Settled, alone: bool) -> Result<Self, Failure> {
        if let Some(url) = &settled.database_url {
            let database = Database::from_url(url).map_err(|e| Failure::usage(crate::exit::chain(&e)))?;
            let place = Place::of_url(url).ok_or_else(|| Failure::usage("DATABASE_URL cannot be understood"))?;
            return Ok(Base { database, cluster: None, place, private: false });
        }
        match Cluster::start(&KeeperConfig::new(&settled.data_dir)).await {
            Ok(cluster) => {
                let server = Database::on_socket(cluster.socket_dir(), cluster.port(), cluster.superuser(), "postgres");
                create(&server).await?;
                let place = Place::on_socket(cluster.socket_dir(), cluster.port(), cluster.superuser());
                Ok(Base { database: server.named(DATABASE), cluster: Some(cluster), place, private: true })
            }
            Err(KeeperError::Held { .. }) if !alone => match running(&settled.data_dir) {
                Some((database, place)) => Ok(Base { database, cluster: None, place, private: true }),
                None => Err(Failure {
                    code: 4,
                    message: "the Daybook that keeps this data directory is just starting or stopping: try again"
                        .into(),
                }),
            },
            Err(error) => Err(Failure::unavailable(&error)),
        }
    }

    /// Where the programs are that belong to the server, if it is on this machine.
    pub async fn programs(&self, client: &tokio_postgres::Client) -> Option<PathBuf> {
        if !self.private {
            return None;
        }
        let row = client.query_one("select setting from pg_config where name = 'BINDIR'", &[]).await.ok()?;
        row.get::<_, Option<String>>(0).map(PathBuf::from)
    }

    /// Opens the database for something that ends, beside a running server or not. Whatever was started for
    /// it is stopped again, also when it fails; its own error comes first.
    ///
    /// # Errors
    /// As [`Base::open`], then those of the work.
    pub async fn with<T>(settled: &Settled, work: impl AsyncFnOnce(&Base) -> Result<T, Failure>) -> Result<T, Failure> {
        let base = Base::open(settled, false).await?;
        let done = work(&base).await;
        let closed = base.close().await;
        done.and_then(|done| closed.map(|()| done))
    }

    /// Stops what was started.
    pub async fn close(self) -> Result<(), Failure> {
        match self.cluster {
            Some(cluster) => cluster.stop().await.map_err(|e| Failure::failed(&e)),
            None => Ok(()),
        }
    }
}

async fn create(server: &Database) -> Result<(), Failure> {
    let client = server.connect(Role::Login, "").await.map_err(|e| Failure::database(&e))?;
    let exists = client
        .query_opt("select from pg_database where datname = $1", &[&DATABASE])
        .await
        .map_err(|e| Failure::failed(&e))?
        .is_some();
    if !exists {
        client
            .batch_execute(&format!("create database {DATABASE} encoding 'UTF8' template template0"))
            .await
            .map_err(|e| Failure::failed(&e))?;
    }
    Ok(())
}

/// The private server that another process keeps, from the server's own note of itself.
fn running(data_dir: &Path) -> Option<(Database, Place)> {
    let note = std::fs::read_to_string(data_dir.join("postgres").join("postmaster.pid")).ok()?;
    let lines: Vec<&str> = note.lines().map(str::trim).collect();
    let port = lines.get(3)?.parse().ok()?;
    let ready = lines.get(7).is_some_and(|state| *state == "ready");
    let directory = Path::new(lines.get(4)?);
    ready.then(|| {
        let user = daybook_keeper::SUPERUSER;
        (Database::on_socket(directory, port, user, DATABASE), Place::on_socket(directory, port, user))
    })
}
