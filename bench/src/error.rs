//! Why a measurement ended early. A cell in which anything failed is no measurement.

use daybook_store::DatabaseError;
use daybook_store::journal::AppendError;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error("the database failed")]
    Database(#[from] DatabaseError),
    #[error("PostgreSQL refused a statement")]
    Query(#[from] tokio_postgres::Error),
    #[error("the schema cannot be made")]
    Schema(#[from] daybook_store::schema::SchemaError),
    #[error("the keys cannot be made")]
    Keys(#[from] daybook_store::keys::KeyFileError),
    #[error("an append failed")]
    Append(#[from] AppendError),
    #[error("the journal cannot be followed")]
    Follow(#[from] daybook_store::journal::follow::FollowError),
    #[error("a command failed")]
    Execute(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("{path} cannot be probed")]
    Probe { path: PathBuf, source: std::io::Error },
    #[error("{0} lies in memory, not on a disk: name another directory with --disk-dir")]
    NotADisk(PathBuf),
    #[error("there is no /dev/shm here, which the fixed latency needs: leave it out with --latency disk")]
    NoMemoryFileSystem,
    #[error("{peer} failed")]
    Peer { peer: &'static str, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("all {0} tenants of the run were used up: raise --tenants")]
    TooFewTenants(usize),
    #[error("{0} readings of an import were not accepted")]
    Rejected(u64),
    #[error(transparent)]
    Latency(#[from] crate::latency::LatencyError),
    #[error("no operation ended within the measured time: raise --seconds")]
    NothingMeasured,
}

pub use daybook_testing::chain;
