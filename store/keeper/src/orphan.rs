//! A server that runs already, or has left its files: adopted, stopped, or swept away.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::{At, KeeperError};
use crate::process::{Process, clear_cluster, of_cluster};
use crate::server::{self, Site};
use crate::socket;

/// An orphan has nobody's work to finish: its clients died with its keeper.
const STOP_PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);

/// What a server writes down about itself, in `postmaster.pid` and in the lock file of its socket.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PidFile {
    pub(crate) pid: u32,
    pub(crate) directory: PathBuf,
    port: Option<u16>,
    socket_dir: Option<PathBuf>,
    status: String,
}

impl PidFile {
    pub(crate) fn of_cluster(cluster: &Path) -> Result<Option<PidFile>, KeeperError> {
        PidFile::read(&path(cluster))
    }

    /// `None` when there is no such file, or nothing in it that can be used (it is being written, or was cut).
    pub(crate) fn read(path: &Path) -> Result<Option<PidFile>, KeeperError> {
        match fs::read(path) {
            Ok(bytes) => Ok(PidFile::parse(&String::from_utf8_lossy(&bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).at("read", path),
        }
    }

    fn parse(text: &str) -> Option<PidFile> {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let line = |number: usize| lines.get(number).copied().filter(|line| !line.is_empty());
        Some(PidFile {
            // A server in single-user mode writes its id with a minus.
            pid: line(0)?.trim_start_matches('-').parse().ok()?,
            directory: line(1)?.into(),
            port: line(3).and_then(|port| port.parse().ok()),
            socket_dir: line(4).map(PathBuf::from),
            status: line(7).unwrap_or_default().to_owned(),
        })
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.status == "ready"
    }
}

fn path(cluster: &Path) -> PathBuf {
    cluster.join("postmaster.pid")
}

/// A server of an earlier keeper that can go on.
pub(crate) struct Orphan {
    pub(crate) process: Process,
    pub(crate) socket_dir: PathBuf,
    pub(crate) port: u16,
}

/// Looks for a server on the cluster. One that is healthy and has today's configuration is returned; any
/// other is stopped, and what remains of it is removed.
///
/// # Errors
/// It was not started by a keeper, or it does not end.
pub(crate) async fn settle(site: &Site, config_changed: bool) -> Result<Option<Orphan>, KeeperError> {
    let cluster = &site.place.cluster;
    if let Some(process) = postmaster(cluster)? {
        if !process.was_started_with(&site.place.config_file()) {
            return Err(KeeperError::RunBySomebodyElse { directory: cluster.clone(), pid: process.pid });
        }
        if !config_changed
            && !process.is_outdated()
            && let Some(orphan) = wait_until_healthy(site, process).await?
        {
            return Ok(Some(orphan));
        }
        tracing::info!(pid = process.pid, "a database server without a keeper is stopped");
        server::stop(&site.place, process, STOP_PATIENCE).await?;
    }
    sweep(site).await?;
    Ok(None)
}

/// The server that runs on this cluster, found by its note, or, when that was lost, by looking around.
fn postmaster(cluster: &Path) -> Result<Option<Process>, KeeperError> {
    let noted = PidFile::of_cluster(cluster)?.and_then(|file| Process::find(file.pid));
    Ok(noted
        .filter(|process| process.serves(cluster))
        .or_else(|| of_cluster(cluster).into_iter().find(|process| process.is_postmaster())))
}

/// Ends what a dead postmaster has left and removes its file, whose process id may be another program's by
/// now: PostgreSQL would take any process with that id for a server.
pub(crate) async fn sweep(site: &Site) -> Result<(), KeeperError> {
    let cluster = &site.place.cluster;
    // A backend that was only just forked still looks like our postmaster.
    let other = |process: &Process| process.is_postmaster() && !process.was_started_with(&site.place.config_file());
    if let Some(other) = of_cluster(cluster).into_iter().find(other) {
        return Err(KeeperError::RunBySomebodyElse { directory: cluster.clone(), pid: other.pid });
    }
    let remaining = clear_cluster(cluster, site.startup_timeout).await;
    if !remaining.is_empty() {
        let pids: Vec<String> = remaining.iter().map(|process| process.pid.to_string()).collect();
        return Err(KeeperError::Leftovers { directory: cluster.clone(), pids: pids.join(", ") });
    }
    socket::remove_if_there(&path(cluster))
}

/// An orphan may be recovering from a crash; it is waited for like a server of our own.
async fn wait_until_healthy(site: &Site, process: Process) -> Result<Option<Orphan>, KeeperError> {
    let deadline = Instant::now() + site.startup_timeout;
    while process.is_alive() && Instant::now() < deadline {
        let Some(file) = PidFile::of_cluster(&site.place.cluster)? else { return Ok(None) };
        if file.is_ready() {
            return Ok(check_orphan(site, process, file).await);
        }
        if file.status == "stopping" {
            return Ok(None);
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(None)
}

async fn check_orphan(site: &Site, process: Process, file: PidFile) -> Option<Orphan> {
    let (socket_dir, port) = (file.socket_dir?, file.port?);
    socket::check_private(&socket_dir, &site.account).ok()?;
    socket::answers(&socket_dir, port).await.then_some(Orphan { process, socket_dir, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_note_about_itself_is_read_line_by_line() {
        let text = "4711\n/srv/day book/postgres\n1763730000\n5432\n/srv/day book/run\n\n  1234  5678\nready   \n";
        let file = PidFile::parse(text).expect("complete");
        assert_eq!((file.pid, file.port), (4711, Some(5432)));
        assert_eq!(file.socket_dir.as_deref(), Some(Path::new("/srv/day book/run")));
        assert!(file.is_ready());
    }

    #[test]
    fn a_note_that_is_only_begun_is_not_ready_and_nonsense_is_none() {
        let file = PidFile::parse("4711\n/srv/postgres\n").expect("the beginning");
        assert!(!file.is_ready() && file.port.is_none());
        assert_eq!(PidFile::parse(""), None);
        assert_eq!(PidFile::parse("not a number\n/srv\n"), None);
    }
}
