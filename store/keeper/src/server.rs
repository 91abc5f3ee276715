//! Starts the server and waits until it answers; says why when it does not.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::process::Child;

use crate::account::Account;
use crate::error::{At, KeeperError, shortage};
use crate::log::{self, Mark};
use crate::orphan::PidFile;
use crate::place::{Place, ensure_directory};
use crate::process::{Process, of_cluster, wait_until_gone};
use crate::programs::Programs;
use crate::{settings, socket};

const POLL: Duration = Duration::from_millis(20);
/// Between two attempts while the memory of a dead server is still in use.
const RETRY: Duration = Duration::from_millis(200);

/// Everything about a cluster that does not change while it is kept.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) place: Place,
    pub(crate) account: Account,
    pub(crate) programs: Programs,
    pub(crate) startup_timeout: Duration,
}

enum Attempt {
    /// A process of the last server still holds its shared memory: worth another try.
    InUse(KeeperError),
    Failed(KeeperError),
}

impl From<KeeperError> for Attempt {
    fn from(error: KeeperError) -> Self {
        Attempt::Failed(error)
    }
}

/// A server that was started and answers on its socket.
pub(crate) async fn launch(site: &Site, socket_dir: &Path, port: u16) -> Result<(Child, Process), KeeperError> {
    ensure_directory(&site.place.log, 0o700)?;
    site.account.give(&site.place.log)?;
    log::prune(&site.place.log);
    let deadline = Instant::now() + site.startup_timeout;
    loop {
        match attempt(site, socket_dir, port, deadline).await {
            Ok(started) => return Ok(started),
            Err(Attempt::InUse(_)) if Instant::now() < deadline => tokio::time::sleep(RETRY).await,
            Err(Attempt::InUse(error) | Attempt::Failed(error)) => return Err(error),
        }
    }
}

async fn attempt(site: &Site, socket_dir: &Path, port: u16, deadline: Instant) -> Result<(Child, Process), Attempt> {
    let place = &site.place;
    let startup_log = place.startup_log();
    let output = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&startup_log);
    let output = output.at("write", &startup_log)?;
    let errors = output.try_clone().at("write", &startup_log)?;
    let mark = Mark::now(place);

    let mut command = site.programs.command("postgres", &site.account);
    command
        .arg("-D")
        .arg(&place.cluster)
        .args(settings::command_line(&place.config_file(), socket_dir, port))
        .current_dir(&place.data)
        .stdout(Stdio::from(output))
        .stderr(Stdio::from(errors));
    let mut child = command.spawn().at("start the server in", &place.data)?;
    let process = child.id().and_then(Process::find);
    let Some(process) = process else {
        let status = child.wait().await.at("wait for the server in", &place.data)?;
        return Err(explain(place, status, &mark).await);
    };
    let mut starting = Starting(Some(process));

    loop {
        if let Some(status) = child.try_wait().at("wait for the server in", &place.data)? {
            return Err(explain(place, status, &mark).await);
        }
        if is_ready(place, process.pid)? && socket::answers(socket_dir, port).await {
            starting.0 = None;
            return Ok((child, process));
        }
        if Instant::now() > deadline {
            process.signal(Signal::QUIT);
            wait_until_gone(&[process], Duration::from_secs(10)).await;
            wait_for_log_writer(place).await;
            return Err(Attempt::Failed(KeeperError::StartTimeout {
                directory: place.cluster.clone(),
                seconds: site.startup_timeout.as_secs(),
                log: mark.tail(place),
            }));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// A server that nobody would know of if its start were abandoned in the middle.
struct Starting(Option<Process>);

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(process) = self.0 {
            process.signal(Signal::QUIT);
        }
    }
}

/// Whether the server says of itself that it takes connections.
fn is_ready(place: &Place, pid: u32) -> Result<bool, KeeperError> {
    let file = PidFile::of_cluster(&place.cluster)?;
    Ok(file.is_some_and(|file| file.pid == pid && file.is_ready()))
}

/// The writer of the log outlives the server by a moment, in which the log may still grow.
async fn wait_for_log_writer(place: &Place) {
    wait_until_gone(&of_cluster(&place.cluster), Duration::from_secs(1)).await;
}

async fn explain(place: &Place, status: ExitStatus, mark: &Mark) -> Attempt {
    wait_for_log_writer(place).await;
    let log = mark.tail(place);
    if let Some(error) = shortage(&log, &place.cluster) {
        return Attempt::Failed(error);
    }
    let in_use =
        log.contains("pre-existing shared memory block") || log.contains("lock file \"postmaster.pid\" already exists");
    let error = KeeperError::StartFailed { directory: place.cluster.clone(), status: status.to_string(), log };
    if in_use { Attempt::InUse(error) } else { Attempt::Failed(error) }
}

/// Stops a server in good order within `patience` and by force after it.
///
/// # Errors
/// It lives even after being killed, as a process does that waits for a disk.
pub(crate) async fn stop(place: &Place, server: Process, patience: Duration) -> Result<(), KeeperError> {
    // A stopped process would not notice anything but a kill.
    server.signal(Signal::CONT);
    for (signal, patience) in
        [(Signal::INT, patience), (Signal::QUIT, Duration::from_secs(10)), (Signal::KILL, Duration::from_secs(10))]
    {
        server.signal(signal);
        if wait_until_gone(&[server], patience).await {
            wait_for_log_writer(place).await;
            return Ok(());
        }
        tracing::warn!(pid = server.pid, ?signal, "the database does not stop, the next signal is harder");
    }
    Err(KeeperError::StopFailed { directory: place.cluster.clone(), pid: server.pid })
}
