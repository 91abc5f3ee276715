//! The database behind every verb: the private one, started or already running, or the one named.

use crate::config::Settled;
use crate::exit::Failure;
use daybook_keeper::{Cluster, KeeperConfig, KeeperError};
use daybook_store::database::{Database, Role};
use std::path::Path;

/// Name of Daybook's database in its private cluster.
const DATABASE: &str = "daybook";

/// A database, and the cluster when it is ours to keep.
pub struct Base {
    pub database: Database,
    pub cluster: Option<Cluster>,
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
            return Ok(Base { database, cluster: None });
        }
        match Cluster::start(&KeeperConfig::new(&settled.data_dir)).await {
            Ok(cluster) => {
                let server = Database::on_socket(cluster.socket_dir(), cluster.port(), cluster.superuser(), "postgres");
                create(&server).await?;
                Ok(Base { database: server.named(DATABASE), cluster: Some(cluster) })
            }
            Err(KeeperError::Held { .. }) if !alone => match running(&settled.data_dir) {
                Some(database) => Ok(Base { database, cluster: None }),
                None => Err(Failure {
                    code: 4,
                    message: "the Daybook that keeps this data directory is just starting or stopping: try again"
                        .into(),
                }),
            },
            Err(error) => Err(Failure::unavailable(&error)),
        }
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
    let client = server.connect(Role::Login, "").await.map_err(|e| Failure::unavailable(&e))?;
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
fn running(data_dir: &Path) -> Option<Database> {
    let note = std::fs::read_to_string(data_dir.join("postgres").join("postmaster.pid")).ok()?;
    let lines: Vec<&str> = note.lines().map(str::trim).collect();
    let port = lines.get(3)?.parse().ok()?;
    let ready = lines.get(7).is_some_and(|state| *state == "ready");
    ready.then(|| Database::on_socket(Path::new(lines[4]), port, daybook_keeper::SUPERUSER, DATABASE))
}
