//! A real `daybook serve` in a directory of its own, and the means to kill it.

// Each test program uses a part of it.
#![allow(dead_code, unreachable_pub)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub struct Server {
    child: Child,
    directory: tempfile::TempDir,
    port: u16,
    environment: Vec<(String, String)>,
}

/// The database of a stopped server, opened apart from Daybook.
pub struct OpenDatabase {
    pub url: String,
    cluster: daybook_keeper::Cluster,
}

impl OpenDatabase {
    pub async fn close(self) {
        self.cluster.stop().await.unwrap();
    }
}

impl Server {
    /// With a configuration file.
    pub async fn start_configured(config: &str) -> Self {
        Self::start_with(&[], Some(config)).await
    }

    pub async fn start(environment: &[(&str, &str)]) -> Self {
        Self::start_with(environment, None).await
    }

    /// A node on a database of somebody's, with the keys of another node where there is one.
    pub async fn start_on(url: &str, beside: Option<&Server>) -> Self {
        let directory = tempfile::Builder::new().prefix("daybook-node-").tempdir().unwrap();
        if let Some(beside) = beside {
            let (from, to) = (beside.data_dir().join("keys"), directory.path().join("data").join("keys"));
            std::fs::create_dir_all(&to).unwrap();
            std::fs::set_permissions(&to, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
            for file in std::fs::read_dir(from).unwrap().flatten() {
                // Copies the mode as well.
                std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
            }
        }
        Self::start_in(directory, &[("DATABASE_URL", url)], None).await
    }

    /// On the file system of that directory; its log is this file.
    pub async fn start_below(parent: &Path, log: &Path) -> Self {
        let directory = tempfile::Builder::new().prefix("daybook-crash-").tempdir_in(parent).unwrap();
        std::os::unix::fs::symlink(log, directory.path().join("log")).unwrap();
        Self::start_in(directory, &[], None).await
    }

    async fn start_with(environment: &[(&str, &str)], config: Option<&str>) -> Self {
        let directory = tempfile::Builder::new().prefix("daybook-crash-").tempdir().unwrap();
        Self::start_in(directory, environment, config).await
    }

    async fn start_in(directory: tempfile::TempDir, environment: &[(&str, &str)], config: Option<&str>) -> Self {
        // The database server may run as another user than this test.
        std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        if let Some(config) = config {
            let data = directory.path().join("data");
            std::fs::create_dir(&data).unwrap();
            std::fs::set_permissions(&data, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
            std::fs::write(data.join("daybook.toml"), config).unwrap();
        }
        let environment: Vec<_> = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let child = spawn(directory.path(), port, &environment);
        let mut server = Server { child, directory, port, environment };
        server.ready().await;
        server
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub fn graphql_url(&self) -> String {
        self.url("/graphql")
    }

    pub fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub fn token(&self) -> String {
        std::fs::read_to_string(self.data_dir().join("admin.token")).unwrap().trim().to_owned()
    }

    pub async fn start_again(&mut self) {
        self.child = spawn(self.directory.path(), self.port, &self.environment);
        self.ready().await;
    }

    /// Waits until it answers that it is ready.
    pub async fn ready(&mut self) {
        let http = reqwest::Client::new();
        let since = Instant::now();
        loop {
            if let Ok(response) = http.get(self.url("/health/ready")).send().await
                && response.status().is_success()
            {
                return;
            }
            assert!(since.elapsed() < Duration::from_secs(60), "not ready: {}", self.log_tail());
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("serve ended with {status}: {}", self.log_tail());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    pub fn kill_daybook(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// It does nothing more, and does not know it, until it is continued.
    pub fn pause(&self) {
        signal("STOP", &[self.child.id()]);
    }

    pub fn proceed(&self) {
        signal("CONT", &[self.child.id()]);
    }

    /// Every process of the server at once: the postmaster is stopped first, so that it cannot tend to
    /// the others' deaths.
    pub fn kill_postgres(&self) {
        let Some(postmaster) = self.postmaster() else { return };
        signal("STOP", &[postmaster]);
        let children = children_of(postmaster);
        signal("KILL", &children);
        signal("KILL", &[postmaster]);
    }

    fn postmaster(&self) -> Option<u32> {
        let note = std::fs::read_to_string(self.data_dir().join("postgres").join("postmaster.pid")).ok()?;
        note.lines().next()?.trim().parse().ok()
    }

    /// In good order, and waits.
    pub async fn stop(&mut self) {
        signal("TERM", &[self.child.id()]);
        let since = Instant::now();
        while self.is_running() {
            assert!(since.elapsed() < Duration::from_secs(60), "does not stop: {}", self.log_tail());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whether `daybook verify` finds nothing.
    pub async fn verify(&self) -> bool {
        let output = daybook(self.directory.path()).arg("verify").output().unwrap();
        eprint!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        output.status.success()
    }

    /// As [`Server::verify`], of a node on a database of somebody's.
    pub fn verify_on(&self, url: &str) -> bool {
        let output = daybook(self.directory.path()).env("DATABASE_URL", url).arg("verify").output().unwrap();
        eprint!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        output.status.success()
    }

    pub async fn open_database(&self) -> OpenDatabase {
        let cluster =
            daybook_keeper::Cluster::start(&daybook_keeper::KeeperConfig::new(self.data_dir())).await.unwrap();
        let url = format!(
            "host='{}' port={} user={} dbname=daybook",
            cluster.socket_dir().display(),
            cluster.port(),
            cluster.superuser()
        );
        OpenDatabase { url, cluster }
    }

    /// Puts another data directory in the place of its own; the administrator's token stays.
    pub fn replace_data(&self, other: &Path) {
        let old = self.directory.path().join("replaced");
        std::fs::rename(self.data_dir(), &old).unwrap();
        std::fs::rename(other, self.data_dir()).unwrap();
        std::fs::copy(old.join("admin.token"), self.data_dir().join("admin.token")).unwrap();
    }

    /// The directory that holds the data directory and the log.
    pub fn home(&self) -> &Path {
        self.directory.path()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    pub fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.kill_postgres();
    }
}

pub fn daybook(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_daybook"));
    command.env_remove("DATABASE_URL").arg("--data-dir").arg(directory.join("data"));
    command
}

fn spawn(directory: &Path, port: u16, environment: &[(String, String)]) -> Child {
    let log = std::fs::OpenOptions::new().append(true).create(true).open(directory.join("log")).unwrap();
    daybook(directory)
        .arg("serve")
        .arg("--listen")
        .arg(format!("127.0.0.1:{port}"))
        .envs(environment.iter().map(|(k, v)| (k, v)))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

fn children_of(parent: u32) -> Vec<u32> {
    let mut children = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        // The name, in parentheses, may hold blanks; what follows it does not.
        let ppid = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        if ppid == Some(parent) {
            children.push(pid);
        }
    }
    children
}

fn signal(name: &str, pids: &[u32]) {
    if pids.is_empty() {
        return;
    }
    // Some may be gone already.
    let _ = Command::new("kill")
        .arg(format!("-{name}"))
        .args(pids.iter().map(u32::to_string))
        .stderr(Stdio::null())
        .status();
}
