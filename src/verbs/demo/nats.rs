//! A NATS server of the demo's own, where the program is on the PATH and nobody named another.

use crate::exit::Failure;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long it may take until it listens.
const READY: Duration = Duration::from_secs(10);

pub struct Nats {
    child: Child,
    pub url: String,
}

/// The program, if there is one.
pub fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let extra = [PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")];
    std::env::split_paths(&path).chain(extra).map(|dir| dir.join("nats-server")).find(|file| file.is_file())
}

impl Nats {
    /// Starts it on a free port of this machine only, with JetStream in a directory.
    ///
    /// # Errors
    /// When it does not start or does not listen in time.
    pub async fn start(program: &Path, directory: &Path) -> Result<Self, Failure> {
        let failed = |what: String| Failure { code: 4, message: format!("nats-server {what}") };
        std::fs::create_dir_all(directory)
            .map_err(|e| failed(format!("has no directory {}: {e}", directory.display())))?;
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr());
        let port = free.map_err(|e| failed(format!("finds no free port: {e}")))?.port();
        let child = Command::new(program)
            .args(["--addr", "127.0.0.1", "--port", &port.to_string(), "--jetstream", "--store_dir"])
            .arg(directory)
            .args(["--log", &directory.join("nats-server.log").to_string_lossy()])
            // Ctrl-C in a terminal is for Daybook, which ends it last.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| failed(format!("does not start: {e}")))?;
        let mut nats = Nats { child, url: format!("nats://127.0.0.1:{port}") };
        let since = Instant::now();
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            let ended = nats.child.try_wait().ok().flatten();
            if ended.is_some() || since.elapsed() > READY {
                return Err(failed(format!("does not listen; see {}", directory.join("nats-server.log").display())));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(nats)
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        // It has ended, or ends now; its data is on the disk either way.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
