//! A real NATS server for tests: on a port of its own, in a directory of its own, gone with the test's
//! process whatever becomes of that.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::time::Instant;

/// Waits for the end of its input, which is the end of the test's process at the latest.
const KEEPER: &str = r#""$@" & server=$!; read -r _; kill -9 "$server"; wait "$server" 2>/dev/null"#;

pub struct NatsServer {
    program: PathBuf,
    directory: tempfile::TempDir,
    settings: Vec<String>,
    port: u16,
    keeper: Option<Child>,
}

impl NatsServer {
    /// With JetStream.
    ///
    /// # Panics
    /// When there is no `nats-server` or it does not start.
    pub async fn start() -> Self {
        Self::start_with(&[], true).await
    }

    /// `settings`: lines of its configuration file.
    ///
    /// # Panics
    /// As [`NatsServer::start`].
    pub async fn start_with(settings: &[&str], jetstream: bool) -> Self {
        let program =
            program().expect("nats-server is missing: run script/install, or name the program in DAYBOOK_NATS_SERVER");
        let directory = tempfile::Builder::new().prefix("daybook-nats-").tempdir().expect("a temporary directory");
        let mut settings: Vec<String> = settings.iter().map(|line| (*line).to_owned()).collect();
        if jetstream {
            let store = directory.path().join("store");
            settings.push(format!("jetstream {{ store_dir: {:?} }}", store.display().to_string()));
        }
        let mut server = NatsServer { program, directory, settings, port: 0, keeper: None };
        server.restart().await;
        server
    }

    /// Starts it, after [`NatsServer::kill`] where it was.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn restart(&mut self) {
        let directory = self.directory.path();
        let ports = directory.join("ports");
        // Also rids us of what an earlier start has written.
        let _ = std::fs::remove_dir_all(&ports);
        std::fs::create_dir(&ports).expect("a directory");
        let config = directory.join("nats.conf");
        std::fs::write(&config, self.settings.join("\n")).expect("a configuration file");
        let port = if self.port == 0 { "-1".to_owned() } else { self.port.to_string() };
        let log = directory.join("log");
        let keeper = Command::new("sh")
            .args(["-c", KEEPER, "sh"])
            .arg(&self.program)
            .args(["--addr", "127.0.0.1", "--port", &port])
            .arg("--config")
            .arg(&config)
            .arg("--ports_file_dir")
            .arg(&ports)
            .arg("--log")
            .arg(&log)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        self.keeper = Some(keeper);
        let deadline = Instant::now() + Duration::from_secs(20);
        self.port = loop {
            if let Some(port) = told(&ports) {
                break port;
            }
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            assert!(Instant::now() < deadline, "nats-server does not start: {log}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
    }

    /// Ends it without a farewell; what it has acknowledged stays on disk.
    ///
    /// # Panics
    /// When it cannot be ended.
    pub async fn kill(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            drop(keeper.stdin.take());
            keeper.wait().await.expect("the shell ends");
        }
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether there is a program to start.
    pub fn is_installed() -> bool {
        program().is_some()
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}

/// The program, if there is one.
fn program() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("DAYBOOK_NATS_SERVER") {
        return Some(named.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Distributions keep it where only administrators look.
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join("nats-server")).find(|program| program.is_file())
}

/// The port, from the server's own note of it.
fn told(ports: &Path) -> Option<u16> {
    let note = std::fs::read_dir(ports).ok()?.flatten().find(|entry| entry.path().extension().is_some())?;
    let text = std::fs::read_to_string(note.path()).ok()?;
    let after = text.split("nats://").nth(1)?;
    let (address, _) = after.split_once('"')?;
    address.rsplit(':').next()?.parse().ok()
}
