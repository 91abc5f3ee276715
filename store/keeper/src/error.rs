//! Everything that can be wrong with a private PostgreSQL: each message names the thing and the remedy.

use std::io;
use std::path::{Path, PathBuf};

use crate::OLDEST_MAJOR;

/// Why the cluster is not running, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeeperError {
    /// No usable `postgres` and `initdb` anywhere.
    #[error(
        "no PostgreSQL {OLDEST_MAJOR} or newer was found.{searched}\n{}\nOr set DATABASE_URL to a server that runs already.",
        install_remedy()
    )]
    ProgramsMissing {
        /// What was looked at and why it did not do, one line each, beginning with a line break; may be empty.
        searched: String,
    },

    /// The directory given for the programs does not hold them.
    #[error("{} holds no usable PostgreSQL: {reason}. Name the directory that holds postgres and initdb of version {OLDEST_MAJOR} or newer, or none to have it searched for", directory.display())]
    ProgramsUnusable {
        /// The directory that was given.
        directory: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// The cluster was made by a major version that is not installed.
    #[error(
        "the cluster in {} was made by PostgreSQL {cluster}, but the programs found are of version {found}. \
         Install PostgreSQL {cluster} beside them (on Debian: apt-get install postgresql-{cluster}), or move the data to the newer \
         version with pg_upgrade, or with pg_dump from a server of version {cluster} and a restore into a new data directory",
        directory.display()
    )]
    OtherMajorVersion {
        /// The cluster.
        directory: PathBuf,
        /// Its major version.
        cluster: u32,
        /// The major versions at hand, comma-separated.
        found: String,
    },

    /// A server given by `DATABASE_URL` is too old.
    #[error(
        "the server is PostgreSQL {found}, and Daybook needs {OLDEST_MAJOR} or newer: upgrade that server, or unset DATABASE_URL to let Daybook keep one of its own"
    )]
    ServerTooOld {
        /// The major version of that server.
        found: u32,
    },

    /// Another Daybook keeps this data directory.
    #[error("another Daybook{} uses {}: stop it first, or give this one a data directory of its own", pid_suffix(*.pid), directory.display())]
    Held {
        /// The data directory.
        directory: PathBuf,
        /// The process id of the holder, when it has written it down.
        pid: Option<u32>,
    },

    /// The path cannot be the home of a cluster.
    #[error("{} cannot be the data directory: {reason}", directory.display())]
    UnsuitablePath {
        /// The path.
        directory: PathBuf,
        /// Why, and what to choose instead.
        reason: String,
    },

    /// Something is where the cluster should be, and it is not a cluster.
    #[error("{} is not a PostgreSQL cluster ({reason}): move it away, or choose another data directory", directory.display())]
    NotACluster {
        /// The directory.
        directory: PathBuf,
        /// What is missing or wrong.
        reason: String,
    },

    /// The files belong to somebody else.
    #[error("{} belongs to the user with id {owner}, and this is the user with id {me}: run Daybook as that user or as root, or choose another data directory", directory.display())]
    OtherOwner {
        /// The directory.
        directory: PathBuf,
        /// The user id of its owner.
        owner: u32,
        /// The effective user id of this process.
        me: u32,
    },

    /// Run as root, and there is nobody to run the server as.
    #[error(
        "PostgreSQL refuses to run as root, and none of the users {tried} exists: create one (useradd --system postgres), or run Daybook as an ordinary user"
    )]
    NoUnprivilegedUser {
        /// The names that were tried, comma-separated.
        tried: String,
    },

    /// Run as root without the right to become another user.
    #[error(
        "PostgreSQL refuses to run as root, and this process may not act as the user {user}, as in a container with only one user: run Daybook as an ordinary user, or allow it to change its user"
    )]
    CannotBecomeUser {
        /// The user the server should run as.
        user: String,
        /// What the system said.
        source: io::Error,
    },

    /// The user that the server runs as cannot get to its files.
    #[error("the server runs as the user {user}, who cannot enter {}: choose a data directory that this user can reach, such as /var/lib/daybook, or let it in (chmod o+x on that directory)", directory.display())]
    Unreachable {
        /// The first directory on the way that cannot be entered.
        directory: PathBuf,
        /// The user the server runs as.
        user: String,
    },

    /// The socket's directory is not private to us.
    #[error("{} cannot hold the server's socket: {reason}. Remove it if nothing of yours uses it, and start again", directory.display())]
    SocketDirectory {
        /// The directory.
        directory: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// Every port number we would use is taken in the socket's directory.
    #[error("the port numbers {first} to {last} are all in use in {}: stop what listens there", directory.display())]
    PortsInUse {
        /// The socket's directory.
        directory: PathBuf,
        /// First number tried.
        first: u16,
        /// Last number tried.
        last: u16,
    },

    /// Something else took the socket of a server that should be started again.
    #[error("the socket {} is in use by something else: stop it, or restart Daybook to have another one chosen", socket.display())]
    SocketTaken {
        /// The socket.
        socket: PathBuf,
    },

    /// A setting that is not the user's to change, or cannot be written.
    #[error("the setting {name} is refused: {reason}")]
    Setting {
        /// Its name as given.
        name: String,
        /// Why.
        reason: String,
    },

    /// A server runs on the cluster and Daybook did not start it.
    #[error("a PostgreSQL server that Daybook did not start (process {pid}) runs on {}: stop it first (pg_ctl stop -D that directory)", directory.display())]
    RunBySomebodyElse {
        /// The cluster.
        directory: PathBuf,
        /// Its process id.
        pid: u32,
    },

    /// Processes of an earlier server do not end.
    #[error("processes of an earlier PostgreSQL on {} do not end ({pids}): end them (kill -9), then start again", directory.display())]
    Leftovers {
        /// The cluster.
        directory: PathBuf,
        /// Their process ids, comma-separated.
        pids: String,
    },

    /// The disk is full.
    #[error("no space left for the database in {} ({free_bytes} bytes free for its user): free some space there, or choose a data directory on a larger disk", directory.display())]
    DiskFull {
        /// The directory whose file system is full.
        directory: PathBuf,
        /// What was free for an unprivileged user when this was noticed.
        free_bytes: u64,
    },

    /// The system gives the server no shared memory.
    #[error(
        "the system gives PostgreSQL no shared memory: lower shared_buffers, or enlarge /dev/shm (in a container: --shm-size). It said:\n{log}"
    )]
    SharedMemory {
        /// The server's last words.
        log: String,
    },

    /// The user has no name.
    #[error(
        "initdb needs a name for the user with id {uid}, and the system knows none: add an entry to /etc/passwd, or run Daybook as a user that has one"
    )]
    NamelessUser {
        /// The user id.
        uid: u32,
    },

    /// `initdb` failed otherwise.
    #[error("creating the cluster in {} failed ({status}). initdb said:\n{output}", directory.display())]
    InitFailed {
        /// Where the cluster should be.
        directory: PathBuf,
        /// How initdb ended.
        status: String,
        /// Its last lines.
        output: String,
    },

    /// The server ended while starting.
    #[error("PostgreSQL did not start on {} ({status}). Its last words:\n{log}", directory.display())]
    StartFailed {
        /// The cluster.
        directory: PathBuf,
        /// How it ended.
        status: String,
        /// The last lines of its log.
        log: String,
    },

    /// The server was not ready in time.
    #[error("PostgreSQL was not ready on {} after {seconds} s, and was stopped: if it was recovering after a crash, allow a longer start. Its last words:\n{log}", directory.display())]
    StartTimeout {
        /// The cluster.
        directory: PathBuf,
        /// How long was waited.
        seconds: u64,
        /// The last lines of its log.
        log: String,
    },

    /// The server would not stop.
    #[error("PostgreSQL (process {pid}) on {} does not stop, not even when killed: look at what it waits for (a disk that does not answer?)", directory.display())]
    StopFailed {
        /// The cluster.
        directory: PathBuf,
        /// Its process id.
        pid: u32,
    },

    /// A file or program could not be used.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was attempted, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn pid_suffix(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}

fn install_remedy() -> &'static str {
    if cfg!(target_os = "macos") {
        "Install it: brew install postgresql@17."
    } else {
        "Install it. On Debian and Ubuntu, write 'create_main_cluster = false' into /etc/postgresql-common/createcluster.conf, \
         so that no server of the system's is started, then: apt-get install postgresql. On Fedora: dnf install postgresql-server."
    }
}

/// Turns an error of the system into one that names the path; a full disk is told apart.
pub(crate) trait At<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, KeeperError>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, KeeperError> {
        self.map_err(|source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => disk_full(path),
            _ => KeeperError::Io { action, path: path.to_owned(), source },
        })
    }
}

/// The full disk below `path`, with what is free there.
pub(crate) fn disk_full(path: &Path) -> KeeperError {
    let directory = existing(path);
    KeeperError::DiskFull { directory: directory.to_owned(), free_bytes: free_bytes(directory).unwrap_or_default() }
}

/// The path itself may be what could not be made.
fn existing(path: &Path) -> &Path {
    path.ancestors().find(|path| path.is_dir()).unwrap_or(path)
}

fn free_bytes(directory: &Path) -> Option<u64> {
    let room = rustix::fs::statvfs(directory).ok()?;
    Some(room.f_bavail.saturating_mul(room.f_frsize))
}

/// A program that failed with less room than this failed for want of it, even when there was none to say so: its
/// log is on the same disk.
const FREE_BYTES_MIN: u64 = 1024 * 1024;

/// What the programs' output says about a lack of room or memory, which they may mention only in passing.
pub(crate) fn shortage(output: &str, directory: &Path) -> Option<KeeperError> {
    const FULL: [&str; 4] = ["No space left on device", "Disk quota exceeded", "Check free disk space", "wrote only"];
    let memory = |line: &str| {
        line.contains("could not map anonymous shared memory")
            || (line.contains("shared memory segment") && FULL.iter().any(|text| line.contains(text)))
    };
    if output.lines().any(memory) {
        return Some(KeeperError::SharedMemory { log: output.to_owned() });
    }
    let full = FULL.iter().any(|text| output.contains(text))
        || free_bytes(existing(directory)).is_some_and(|bytes| bytes < FREE_BYTES_MIN);
    full.then(|| disk_full(directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_recognised_in_every_form_the_programs_give_it() {
        for line in [
            "FATAL:  could not write lock file \"postmaster.pid\": No space left on device",
            "PANIC:  could not write to file \"pg_wal/xlogtemp.7\": No space left on device",
            "FATAL:  could not extend file \"base/1/2691\": wrote only 4096 of 8192 bytes at block 20",
        ] {
            let output = format!("selecting dynamic shared memory implementation ... posix\n{line}\nand more");
            let error = shortage(&output, Path::new("/tmp")).expect("recognised");
            assert!(matches!(error, KeeperError::DiskFull { .. }), "{error}");
        }
    }

    #[test]
    fn a_full_dev_shm_is_not_taken_for_a_full_disk() {
        let line =
            "FATAL:  could not resize shared memory segment \"/PostgreSQL.1\" to 1 bytes: No space left on device";
        let error = shortage(line, Path::new("/tmp")).expect("recognised");
        assert!(matches!(error, KeeperError::SharedMemory { .. }), "{error}");
        assert!(shortage("FATAL:  something else", Path::new("/tmp")).is_none());
    }
}
