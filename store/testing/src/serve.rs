//! A real `daybook serve`: its directory, its process, its log, and the means to stop and to kill it.

use crate::process::{self, Signal};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const POLL: Duration = Duration::from_millis(20);
/// How long it may take to tell whether it is ready.
const ASK: Duration = Duration::from_secs(10);

/// Why it does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("{program} cannot be started: build it, or name another one")]
    Program { program: PathBuf, source: std::io::Error },
    #[error("{path} cannot be prepared")]
    Directory { path: PathBuf, source: std::io::Error },
    #[error("no port of the loopback interface can be taken")]
    Port(#[source] std::io::Error),
    #[error("the program ended with {status}; the end of its log:\n{log}")]
    Ended { status: String, log: String },
    #[error("the program is not ready after {0:?}; the end of its log:\n{1}")]
    NotReady(Duration, String),
    #[error("the program does not stop; the end of its log:\n{0}")]
    NotStopped(String),
}

/// One node. It is killed when dropped; its directory is its caller's.
pub struct Serve {
    program: PathBuf,
    home: PathBuf,
    port: u16,
    environment: Vec<(String, String)>,
    child: Option<Child>,
}

impl Serve {
    /// On a free port, with its data in `home/data` and its log in `home/log`. It is not started yet, and nothing of
    /// this environment is its own but what is told here.
    ///
    /// # Errors
    /// When the directory or a port cannot be had.
    pub fn new(program: &Path, home: &Path, environment: &[(&str, &str)]) -> Result<Self, ServeError> {
        let failed = |source| ServeError::Directory { path: home.to_owned(), source };
        std::fs::create_dir_all(home).map_err(failed)?;
        // The database server may run as another user than this program.
        std::fs::set_permissions(home, std::os::unix::fs::PermissionsExt::from_mode(0o755)).map_err(failed)?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(ServeError::Port)?;
        let port = listener.local_addr().map_err(ServeError::Port)?.port();
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Ok(Serve { program: program.to_owned(), home: home.to_owned(), port, environment, child: None })
    }

    /// The program on this data directory, for any verb.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("DAYBOOK_")) {
                command.env_remove(name);
            }
        }
        command.env_remove("DATABASE_URL").env_remove("NATS_URL");
        command.envs(self.environment.iter().map(|(k, v)| (k, v)));
        command.arg("--data-dir").arg(self.data_dir());
        command
    }

    /// Starts it, and does not wait.
    ///
    /// # Errors
    /// When there is no such program.
    pub fn spawn(&mut self) -> Result<(), ServeError> {
        let path = self.home.join("log");
        let failed = |source| ServeError::Directory { path: path.clone(), source };
        let log = std::fs::OpenOptions::new().append(true).create(true).open(&path).map_err(failed)?;
        let log_too = log.try_clone().map_err(failed)?;
        let mut command = self.command();
        command.args(["serve", "--listen", &format!("127.0.0.1:{}", self.port)]);
        let spawned = command.stdin(Stdio::null()).stdout(log).stderr(log_too).spawn();
        let child = spawned.map_err(|source| ServeError::Program { program: self.program.clone(), source })?;
        self.child = Some(child);
        Ok(())
    }

    /// Waits until it answers that it is ready.
    ///
    /// # Errors
    /// When it ends, or the patience does.
    pub async fn ready(&mut self, patience: Duration) -> Result<(), ServeError> {
        let deadline = Instant::now() + patience;
        while !self.health().await.starts_with("HTTP/1.1 200") {
            if let Some(status) = self.ended() {
                return Err(ServeError::Ended { status, log: self.log_tail() });
            }
            if Instant::now() > deadline {
                return Err(ServeError::NotReady(patience, self.log_tail()));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// What it answers when asked whether it is ready, head and body; empty when it does not answer.
    pub async fn health(&self) -> String {
        let asked = async {
            let mut socket = TcpStream::connect(("127.0.0.1", self.port)).await?;
            let request = "GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
            socket.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            socket.read_to_string(&mut answer).await?;
            std::io::Result::Ok(answer)
        };
        tokio::time::timeout(ASK, asked).await.ok().and_then(Result::ok).unwrap_or_default()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.is_some() && self.ended().is_none()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<String> {
        match self.child.as_mut()?.try_wait() {
            Ok(status) => status.map(|status| status.to_string()),
            Err(error) => Some(error.to_string()),
        }
    }

    /// The process, while there is one.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    pub fn signal(&self, signal: Signal) {
        if let Some(child) = &self.child {
            process::signal(&[child.id()], signal);
        }
    }

    /// At once, and buries it.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// In good order, and waits.
    ///
    /// # Errors
    /// When it does not stop.
    pub async fn stop(&mut self, patience: Duration) -> Result<(), ServeError> {
        self.signal(Signal::TERM);
        let deadline = Instant::now() + patience;
        while self.is_running() {
            if Instant::now() > deadline {
                return Err(ServeError::NotStopped(self.log_tail()));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    pub fn url(&self, scheme: &str, path: &str) -> String {
        format!("{scheme}://127.0.0.1:{}{path}", self.port)
    }

    pub fn home(&self) -> &Path {
        &self.home
    }

    pub fn data_dir(&self) -> PathBuf {
        self.home.join("data")
    }

    /// The platform administrator's.
    ///
    /// # Errors
    /// When there is none yet.
    pub fn token(&self) -> Result<String, ServeError> {
        let path = self.data_dir().join("admin.token");
        let token = std::fs::read_to_string(&path).map_err(|source| ServeError::Directory { path, source })?;
        Ok(token.trim().to_owned())
    }

    /// The process that starts all others of the private database server.
    pub fn postmaster(&self) -> Option<u32> {
        let note = std::fs::read_to_string(self.data_dir().join("postgres").join("postmaster.pid")).ok()?;
        note.lines().next()?.trim().parse().ok()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.home.join("log")).unwrap_or_default()
    }

    pub fn log_tail(&self) -> String {
        let text = self.log();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        self.kill();
    }
}
