//! The private PostgreSQL of a Daybook: found, created, started, adopted, stopped and recovered.
//!
//! With no `DATABASE_URL`, Daybook keeps a cluster of its own below its data directory:
//!
//! ```text
//! <data>/daybook.lock   who keeps this directory: locked while a Daybook runs, holds its process id
//! <data>/postgres/      the cluster (owned by the user the server runs as)
//! <data>/server/        its configuration, written anew at every start, and what it said while starting
//! <data>/log/           its log, bounded in size
//! <data>/run/           its socket, mode 0700 (a short directory elsewhere when this path is too long)
//! ```
//!
//! **Who may connect.** The server listens on one Unix socket and on no network address; who reaches the
//! socket is trusted. The socket lies in a directory of mode 0700, so only the server's own user and root can
//! reach it, and both could read the files of the cluster anyway: a password or an ident map would guard
//! nothing more, while it would have to name every role that Daybook creates.
//!
//! **What it refuses.** It never runs a server as root, never turns `fsync` off, never touches a directory
//! that it cannot recognise as its cluster, never stops a server that it did not start, never upgrades a
//! cluster to another major version, and never downloads anything.
//!
//! What a running Daybook leaves behind when it is killed is a server without a keeper. The next start on the
//! same directory adopts it when it is healthy and has the same configuration, and restarts it otherwise.

mod account;
mod cluster;
mod error;
mod init;
mod log;
mod orphan;
mod place;
mod process;
mod programs;
mod server;
mod settings;
mod socket;

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use cluster::{Cluster, State};
pub use error::KeeperError;

/// The oldest major version of PostgreSQL that Daybook works with.
pub const OLDEST_MAJOR: u32 = 15;

/// The database superuser of a private cluster, on every platform and whoever runs the server.
pub const SUPERUSER: &str = "postgres";

/// What is needed to keep a cluster.
#[derive(Clone, Debug)]
pub struct KeeperConfig {
    /// Everything lives below this directory; it is created when absent. The cluster is in `postgres`.
    pub data_dir: PathBuf,
    /// The directory of `postgres` and `initdb`. `None`: search the usual places.
    pub bin_dir: Option<PathBuf>,
    /// Further settings of the server, later ones win. Those that durability, privacy or the keeper itself
    /// depend on are refused.
    pub settings: Vec<(String, String)>,
    /// How long a start may take, waiting for the processes of a predecessor and crash recovery included.
    pub startup_timeout: Duration,
}

impl KeeperConfig {
    /// The defaults for this data directory: programs searched for, no further settings, two minutes to start.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            bin_dir: None,
            settings: Vec::new(),
            startup_timeout: Duration::from_secs(120),
        }
    }
}

/// Where a Daybook keeps its data unless told otherwise: `/var/lib/daybook` for root, whose home the server's
/// user could not enter, and `$XDG_DATA_HOME/daybook` or `~/.local/share/daybook` for anybody else.
pub fn default_data_dir() -> PathBuf {
    data_dir_for(
        account::is_root(),
        env::var_os("XDG_DATA_HOME").map(PathBuf::from),
        env::var_os("HOME").map(PathBuf::from),
    )
}

fn data_dir_for(root: bool, xdg_data_home: Option<PathBuf>, home: Option<PathBuf>) -> PathBuf {
    if root {
        return PathBuf::from("/var/lib/daybook");
    }
    // The specification says that a relative value is to be ignored.
    let shared = xdg_data_home.filter(|path| path.is_absolute()).or_else(|| home.map(|home| home.join(".local/share")));
    shared.as_deref().unwrap_or(Path::new("")).join("daybook")
}

/// Whether a server that somebody else keeps (`DATABASE_URL`) is new enough; `version_num` is its
/// `server_version_num`, for instance 150018.
pub fn check_server_version(version_num: i32) -> Result<(), KeeperError> {
    let found = u32::try_from(version_num).unwrap_or_default() / 10_000;
    if found < OLDEST_MAJOR {
        return Err(KeeperError::ServerTooOld { found });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_keeps_its_data_where_another_user_can_reach_it() {
        assert_eq!(data_dir_for(true, Some("/root/x".into()), Some("/root".into())), Path::new("/var/lib/daybook"));
    }

    #[test]
    fn a_user_keeps_the_data_in_the_home_or_where_xdg_says() {
        let home = Some(PathBuf::from("/home/ada"));
        assert_eq!(data_dir_for(false, None, home.clone()), Path::new("/home/ada/.local/share/daybook"));
        assert_eq!(data_dir_for(false, Some("/srv/ada".into()), home.clone()), Path::new("/srv/ada/daybook"));
        assert_eq!(data_dir_for(false, Some("srv".into()), home), Path::new("/home/ada/.local/share/daybook"));
    }

    #[test]
    fn servers_before_15_are_refused_with_the_remedy() {
        check_server_version(150_000).expect("15.0 is new enough");
        check_server_version(180_001).expect("18.1 is new enough");
        let message = check_server_version(140_011).expect_err("14 is too old").to_string();
        assert!(message.contains("PostgreSQL 14") && message.contains("15 or newer"), "{message}");
        check_server_version(-1).expect_err("nonsense is too old");
    }
}
