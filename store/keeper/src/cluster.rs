//! A cluster that is being kept, from its start to its end.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use tokio::process::Child;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::account::Account;
use crate::error::KeeperError;
use crate::orphan;
use crate::place::{Lock, Place};
use crate::process::Process;
use crate::programs::Programs;
use crate::server::{self, Site};
use crate::{KeeperConfig, SUPERUSER, init, log, settings, socket};

/// A clean stop writes out everything first, which a slow disk takes its time for.
const STOP_PATIENCE: Duration = Duration::from_secs(60);
/// How often a server that is not our child is looked at.
const WATCH_INTERVAL: Duration = Duration::from_millis(200);
const PRUNE_INTERVAL: Duration = Duration::from_secs(60);

/// What a watcher of the server sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It answers on its socket.
    Running {
        /// The process id of its postmaster.
        pid: u32,
    },
    /// It ended without being asked to; [`Cluster::recover`] starts it again.
    Died {
        /// How, as the system tells it.
        how: String,
    },
    /// It is being stopped on request, or was.
    Stopped,
}

/// A private PostgreSQL that runs, and the right to keep it.
///
/// [`Cluster::stop`] stops it in good order and waits. Dropping it instead only asks the server to stop.
#[derive(Debug)]
pub struct Cluster {
    site: Site,
    socket_dir: PathBuf,
    port: u16,
    server: Process,
    adopted: bool,
    state: watch::Sender<State>,
    watcher: AbortHandle,
    // Last, so that it is released last.
    _lock: Lock,
}

impl Cluster {
    /// A running server on the cluster of this data directory: created if absent, adopted if it runs already
    /// without a keeper, started otherwise. Returns when it answers.
    ///
    /// # Errors
    /// Every reason why it is not running, with the remedy: see [`KeeperError`].
    pub async fn start(config: &KeeperConfig) -> Result<Cluster, KeeperError> {
        settings::check(&config.settings)?;
        let mut place = Place::open(&config.data_dir)?;
        let account = Account::choose(&place.cluster).await?;
        let lock = Lock::take(&place)?;
        let major = place.major()?;
        let programs = Programs::find(config.bin_dir.as_deref(), &place.cluster, major, &account).await?;
        programs.check_reach(&place.data, &account).await?;
        place.sweep().await?;
        if major.is_none() {
            tracing::info!(directory = %place.cluster.display(), version = programs.major, "a database cluster is created");
            init::create(&place, &programs, &account).await?;
            place = Place::open(&config.data_dir)?;
        }
        let config_changed = settings::write(&place, &account, &config.settings)?;
        let socket_dir = socket::directory(&place, &account)?;
        let site = Site { place, account, programs, startup_timeout: config.startup_timeout };

        if let Some(orphan) = orphan::settle(&site, config_changed).await? {
            tracing::info!(pid = orphan.process.pid, "a database server without a keeper is adopted");
            let (state, watcher) = watch_adopted(&site, orphan.process);
            return Ok(Cluster {
                site,
                socket_dir: orphan.socket_dir,
                port: orphan.port,
                server: orphan.process,
                adopted: true,
                state,
                watcher,
                _lock: lock,
            });
        }

        let port = socket::free_port(&socket_dir).await?;
        let (child, server) = server::launch(&site, &socket_dir, port).await?;
        tracing::info!(pid = server.pid, version = site.programs.major, "the database server is started");
        let state = watch::Sender::new(State::Running { pid: server.pid });
        let watcher = watch_child(&site, child, state.clone());
        Ok(Cluster { site, socket_dir, port, server, adopted: false, state, watcher, _lock: lock })
    }

    /// The directory of the Unix socket: the host to connect to.
    pub fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// The number in the name of the socket; there is no TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The database role that may do everything. No password is asked for.
    pub fn superuser(&self) -> &str {
        SUPERUSER
    }

    /// The major version of the server.
    pub fn version(&self) -> u32 {
        self.site.programs.major
    }

    /// The process id of the postmaster.
    pub fn pid(&self) -> u32 {
        self.server.pid
    }

    /// Whether the server was running already, left by a Daybook that was killed.
    pub fn is_adopted(&self) -> bool {
        self.adopted
    }

    /// The directory of the server's log.
    pub fn log_dir(&self) -> &Path {
        &self.site.place.log
    }

    /// What the server does, also across recoveries; it may outlive the cluster.
    pub fn watch(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Waits until the server has ended by itself, and tells how. Safe to drop and to call again.
    pub async fn exited(&self) -> String {
        let mut state = self.state.subscribe();
        loop {
            if let State::Died { how } = &*state.borrow_and_update() {
                return how.clone();
            }
            // The sender is ours, so it is there as long as we are.
            let _ = state.changed().await;
        }
    }

    /// Starts a server that has died again, on the same data and the same socket, after all its processes are
    /// gone: until then an old backend could still commit. Nothing happens if it lives.
    ///
    /// # Errors
    /// As for [`Cluster::start`]; it may be called again.
    pub async fn recover(&mut self) -> Result<(), KeeperError> {
        if self.server.is_alive() {
            return Ok(());
        }
        self.watcher.abort();
        orphan::sweep(&self.site).await?;
        if !socket::is_free(&self.socket_dir, self.port).await? {
            return Err(KeeperError::SocketTaken { socket: socket::path(&self.socket_dir, self.port) });
        }
        let (child, server) = server::launch(&self.site, &self.socket_dir, self.port).await?;
        tracing::info!(pid = server.pid, "the database server is started again");
        self.server = server;
        self.adopted = false;
        self.watcher = watch_child(&self.site, child, self.state.clone());
        self.state.send_replace(State::Running { pid: server.pid });
        Ok(())
    }

    /// Stops the server in good order and waits until it is gone. Sessions that are open are ended.
    ///
    /// # Errors
    /// It lives on even when killed.
    pub async fn stop(self) -> Result<(), KeeperError> {
        self.state.send_replace(State::Stopped);
        server::stop(&self.site.place, self.server, STOP_PATIENCE).await?;
        tracing::info!(pid = self.server.pid, "the database server is stopped");
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.watcher.abort();
        self.server.signal(Signal::INT);
    }
}

/// Buries the child when it ends, so that it is not in the way as a zombie, and tells the watchers.
fn watch_child(site: &Site, mut child: Child, state: watch::Sender<State>) -> AbortHandle {
    let logs = site.place.log.clone();
    let watcher = tokio::spawn(async move {
        let how = loop {
            tokio::select! {
                status = child.wait() => break status.map_or_else(|error| error.to_string(), |status| status.to_string()),
                () = tokio::time::sleep(PRUNE_INTERVAL) => log::prune(&logs),
            }
        };
        report(&state, how);
    });
    watcher.abort_handle()
}

/// Nobody tells us of the end of another's child: it has to be looked at.
fn watch_adopted(site: &Site, server: Process) -> (watch::Sender<State>, AbortHandle) {
    let state = watch::Sender::new(State::Running { pid: server.pid });
    let (logs, sender) = (site.place.log.clone(), state.clone());
    let watcher = tokio::spawn(async move {
        let mut prune = tokio::time::interval(PRUNE_INTERVAL);
        while server.is_alive() {
            tokio::select! {
                () = tokio::time::sleep(WATCH_INTERVAL) => {}
                _ = prune.tick() => log::prune(&logs),
            }
        }
        report(&sender, "it ended while it was nobody's child".into());
    });
    (state, watcher.abort_handle())
}

fn report(state: &watch::Sender<State>, how: String) {
    state.send_if_modified(|state| match state {
        State::Running { .. } => {
            tracing::error!(how, "the database server has died");
            *state = State::Died { how };
            true
        }
        State::Died { .. } | State::Stopped => false,
    });
}
