//! A real `daybook serve` in a directory of its own, and the means to kill it.

// Each test program uses a part of it.
#![allow(dead_code, unreachable_pub)]

use daybook_testing::process::{self, Signal};
use daybook_testing::serve::Serve;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const PROGRAM: &str = env!("CARGO_BIN_EXE_daybook");
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Server {
    serve: Serve,
    directory: tempfile::TempDir,
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
        if let Some(config) = config {
            let data = directory.path().join("data");
            std::fs::create_dir(&data).unwrap();
            std::fs::set_permissions(&data, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
            std::fs::write(data.join("daybook.toml"), config).unwrap();
        }
        let serve = Serve::new(Path::new(PROGRAM), directory.path(), environment).unwrap();
        let mut server = Server { serve, directory };
        server.start_again().await;
        server
    }

    pub fn url(&self, path: &str) -> String {
        self.serve.url("http", path)
    }

    pub fn graphql_url(&self) -> String {
        self.url("/graphql")
    }

    pub fn data_dir(&self) -> PathBuf {
        self.serve.data_dir()
    }

    pub fn token(&self) -> String {
        self.serve.token().unwrap()
    }

    pub async fn start_again(&mut self) {
        self.serve.spawn().unwrap();
        self.ready().await;
    }

    /// Waits until it answers that it is ready.
    pub async fn ready(&mut self) {
        if let Err(error) = self.serve.ready(PATIENCE).await {
            panic!("{error}");
        }
    }

    pub fn is_running(&mut self) -> bool {
        self.serve.is_running()
    }

    pub fn kill_daybook(&mut self) {
        self.serve.kill();
    }

    /// It does nothing more, and does not know it, until it is continued.
    pub fn pause(&self) {
        self.serve.signal(Signal::STOP);
    }

    pub fn proceed(&self) {
        self.serve.signal(Signal::CONT);
    }

    /// Every process of the server at once.
    pub fn kill_postgres(&self) {
        if let Some(postmaster) = self.serve.postmaster() {
            process::kill_postgres(postmaster);
        }
    }

    /// In good order, and waits.
    pub async fn stop(&mut self) {
        if let Err(error) = self.serve.stop(PATIENCE).await {
            panic!("{error}");
        }
    }

    /// Whether `daybook verify` finds nothing.
    pub async fn verify(&self) -> bool {
        let output = self.serve.command().arg("verify").output().unwrap();
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
        self.serve.log()
    }

    pub fn log_tail(&self) -> String {
        self.serve.log_tail()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serve.kill();
        self.kill_postgres();
    }
}

/// The program on the data directory in this one.
pub fn daybook(directory: &Path) -> Command {
    let mut command = Command::new(PROGRAM);
    command.env_remove("DATABASE_URL").arg("--data-dir").arg(directory.join("data"));
    command
}
