//! Everything that is real: PostgreSQL, nats-server, the nodes, and the links between them.

use crate::fault::{Fault, Kind};
use crate::link::{Link, Place, Weather};
use daybook_testing::nats::NatsServer;
use daybook_testing::process::{self, Signal};
use daybook_testing::serve::{Serve, ServeError};
use daybook_testing::{KeeperError, TestServer};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tokio_postgres::{Client, NoTls};

/// Of the file system that can be filled.
const DISK_MIB: u32 = 1_024;
const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);
/// The disk is small.
const POSTGRES: [(&str, &str); 3] = [("max_connections", "200"), ("shared_buffers", "64MB"), ("max_wal_size", "128MB")];
const DATABASE: &str = "daybook";
/// The exit code of a program that finds no database.
const UNAVAILABLE: u8 = 4;
const TROUBLES_MAX: usize = 15;

#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error("{path} cannot be prepared")]
    Directory { path: PathBuf, source: std::io::Error },
    #[error("a link cannot be made")]
    Link(#[source] std::io::Error),
    #[error("PostgreSQL cannot be started again")]
    Postgres(#[from] KeeperError),
    #[error("PostgreSQL does not answer")]
    Database(#[from] tokio_postgres::Error),
    #[error("`daybook {verb}` ended with {status}: {said}")]
    Verb { verb: String, status: String, said: String },
}

/// A node and its way to the others.
pub struct Node {
    pub serve: Serve,
    database: Link,
    nats: Option<Link>,
    /// Since it was started last.
    pub was_ready: bool,
}

/// A file system of its own, mounted where it can be filled.
struct Disk(PathBuf);

impl Disk {
    /// None where this may not be done.
    fn mount(at: &Path) -> Option<Self> {
        std::fs::create_dir_all(at).ok()?;
        let options = format!("size={DISK_MIB}m,mode=0755");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &options, "daybook-loss-audit"]).arg(at);
        let mounted = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        mounted.is_ok_and(|status| status.success()).then(|| Disk(at.to_owned()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: the server may need a moment to be gone.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

// The order is that in which they go.
pub struct World {
    pub nodes: Vec<Node>,
    pub nats: Option<NatsServer>,
    postgres: TestServer,
    disk: Option<Disk>,
    pub root: PathBuf,
    pub program: PathBuf,
}

impl World {
    /// `with_disk`: PostgreSQL's data on a file system that can be filled, if that may be mounted.
    ///
    /// # Errors
    /// When any of it does not start.
    pub async fn start(
        program: &Path,
        root: &Path,
        nodes: usize,
        with_disk: bool,
        environment: &[(&str, &str)],
    ) -> Result<Self, WorldError> {
        let failed = |source| WorldError::Directory { path: root.to_owned(), source };
        // PostgreSQL may run as another user.
        std::fs::set_permissions(root, std::os::unix::fs::PermissionsExt::from_mode(0o755)).map_err(failed)?;
        let disk = if with_disk { Disk::mount(&root.join("disk")) } else { None };
        let parent = disk.as_ref().map_or_else(|| root.to_owned(), |disk| disk.0.clone());
        let postgres = TestServer::start_in(parent, &POSTGRES).await;
        let nats = if NatsServer::is_installed() { Some(NatsServer::start().await) } else { None };
        let mut world =
            World { nodes: vec![], nats, postgres, disk, root: root.to_owned(), program: program.to_owned() };
        let admin = world.connect("postgres").await?;
        admin.batch_execute(&format!("create database {DATABASE} encoding 'UTF8' template template0")).await?;
        for number in 0..nodes {
            world.add(number, environment).await?;
        }
        Ok(world)
    }

    async fn add(&mut self, number: usize, environment: &[(&str, &str)]) -> Result<(), WorldError> {
        let database = Link::to(Place::Unix(self.postgres.socket())).await.map_err(WorldError::Link)?;
        let nats = match &self.nats {
            Some(nats) => Some(Link::to(Place::Port(nats.port())).await.map_err(WorldError::Link)?),
            None => None,
        };
        let url = format!("host=127.0.0.1 port={} user=postgres dbname={DATABASE}", database.port());
        let nats_url = nats.as_ref().map(|link| format!("nats://127.0.0.1:{}", link.port()));
        let mut environment = environment.to_vec();
        environment.push(("DATABASE_URL", &url));
        if let Some(url) = &nats_url {
            environment.push(("NATS_URL", url));
        }
        let home = self.root.join(format!("node-{number}"));
        let serve = Serve::new(&self.program, &home, &environment)?;
        if let Some(first) = self.nodes.first() {
            // The first one has made the keys that both need.
            copy(&first.serve.data_dir(), &serve.data_dir())
                .map_err(|source| WorldError::Directory { path: serve.data_dir(), source })?;
        }
        let mut node = Node { serve, database, nats, was_ready: true };
        node.serve.spawn()?;
        node.serve.ready(START).await?;
        self.nodes.push(node);
        Ok(())
    }

    /// As the superuser, past every link.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn database(&self) -> Result<Client, WorldError> {
        self.connect(DATABASE).await
    }

    async fn connect(&self, database: &str) -> Result<Client, WorldError> {
        let url = self.postgres.url().replace("dbname=postgres", &format!("dbname={database}"));
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    pub fn has_disk(&self) -> bool {
        self.disk.is_some()
    }

    /// What happened to it, from the beginning to the end of the fault. Processes that died are started again.
    ///
    /// # Errors
    /// When they cannot be, or the fault cannot be made.
    pub async fn suffer(&mut self, fault: &Fault) -> Result<(), WorldError> {
        let Fault { kind, node, lasts } = *fault;
        match kind {
            Kind::KillNode => self.nodes[node].kill()?,
            Kind::KillPostgres => {
                self.postgres.kill();
                self.tend().await?;
            }
            Kind::KillBoth => {
                self.postgres.kill();
                self.nodes[node].serve.kill();
                self.tend().await?;
                self.nodes[node].kill()?;
            }
            Kind::PauseNode => {
                self.nodes[node].serve.signal(Signal::STOP);
                tokio::time::sleep(lasts).await;
                self.nodes[node].serve.signal(Signal::CONT);
            }
            Kind::PauseBackend => {
                if let Some(backend) = self.backend().await {
                    process::signal(&[backend], Signal::STOP);
                    tokio::time::sleep(lasts).await;
                    process::signal(&[backend], Signal::CONT);
                }
            }
            Kind::CutDatabase => during(Some(&self.nodes[node].database), Weather::Cut, lasts).await,
            Kind::HoleDatabase => during(Some(&self.nodes[node].database), Weather::Hole, lasts).await,
            Kind::LoseDatabase => self.nodes[node].database.lose(),
            Kind::SlowDatabase => {
                let slow = Weather::Slow(Duration::from_millis(40));
                during(Some(&self.nodes[node].database), slow, lasts).await;
            }
            Kind::CutNats => during(self.nodes[node].nats.as_ref(), Weather::Cut, lasts).await,
            Kind::HoleNats => during(self.nodes[node].nats.as_ref(), Weather::Hole, lasts).await,
            Kind::KillNats => {
                if let Some(nats) = &mut self.nats {
                    nats.kill().await;
                    tokio::time::sleep(lasts).await;
                    nats.restart().await;
                }
            }
            Kind::FullDisk => self.fill(lasts).await?,
            Kind::SlowFlush => {
                // Where the server is just recovering, there is nothing to slow down.
                if self.set_commit_delay(100_000).await.is_ok() {
                    tokio::time::sleep(lasts).await;
                    self.set_commit_delay(0).await?;
                }
            }
        }
        Ok(())
    }

    /// The server process behind the writer.
    async fn backend(&self) -> Option<u32> {
        let db = self.database().await.ok()?;
        let row = db.query_opt("select backend_pid from journal.lease", &[]).await.ok()??;
        u32::try_from(row.get::<_, Option<i32>>(0)?).ok()
    }

    async fn set_commit_delay(&self, us: u32) -> Result<(), WorldError> {
        let db = self.database().await?;
        db.batch_execute("alter system set commit_siblings = 0").await?;
        db.batch_execute(&format!("alter system set commit_delay = {us}")).await?;
        db.batch_execute("select pg_reload_conf()").await?;
        Ok(())
    }

    async fn fill(&mut self, lasts: Duration) -> Result<(), WorldError> {
        let Some(disk) = &self.disk else { return Ok(()) };
        let path = disk.0.join("filler");
        let failed = |source| WorldError::Directory { path: path.clone(), source };
        let mut filler = File::create(&path).map_err(failed)?;
        let until = Instant::now() + lasts;
        let chunk = vec![0u8; 1 << 20];
        while Instant::now() < until {
            // Also what is freed meanwhile.
            for size in [chunk.len(), 4_096] {
                while filler.write_all(&chunk[..size]).is_ok() && Instant::now() < until {}
            }
            tokio::time::sleep(POLL).await;
        }
        drop(filler);
        std::fs::remove_file(&path).map_err(failed)?;
        // It may have given up.
        self.tend().await
    }

    /// Starts PostgreSQL again if it has died.
    ///
    /// # Errors
    /// When it does not start within a minute.
    pub async fn tend(&mut self) -> Result<(), WorldError> {
        let deadline = Instant::now() + START;
        loop {
            match self.postgres.recover().await {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error.into()),
                Err(_) => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// Starts nodes again that have ended by themselves; tells how those did that must not. One that finds no database
    /// when it starts says so and ends, for whoever keeps it to start it again.
    ///
    /// # Errors
    /// When there is no program.
    pub fn revive(&mut self) -> Result<Vec<String>, WorldError> {
        let mut ended = Vec::new();
        for (number, node) in self.nodes.iter_mut().enumerate() {
            if let Some(status) = node.serve.ended() {
                if node.was_ready || !status.ends_with(&format!(": {UNAVAILABLE}")) {
                    ended.push(format!("node {number} ended with {status}:\n{}", troubles(&node.serve)));
                }
                node.kill()?;
            }
        }
        Ok(ended)
    }

    /// What the nodes complained of last.
    pub fn troubles(&self) -> String {
        self.nodes.iter().map(|node| troubles(&node.serve)).collect::<Vec<_>>().join("\n")
    }

    /// Stops all nodes in good order.
    ///
    /// # Errors
    /// When one does not stop.
    pub async fn stop_nodes(&mut self) -> Result<(), WorldError> {
        for node in &mut self.nodes {
            node.serve.stop(STOP).await?;
        }
        Ok(())
    }

    /// Runs a verb of the program on the first node's data; what it printed.
    ///
    /// # Errors
    /// When it does not end well.
    pub async fn verb(&self, arguments: &[&str]) -> Result<String, WorldError> {
        let mut command = self.nodes[0].serve.command();
        command.args(arguments).stdin(Stdio::null());
        let mut command = tokio::process::Command::from(command);
        let verb = arguments.join(" ");
        let failed = |source| WorldError::Directory { path: self.program.clone(), source };
        let output = command.kill_on_drop(true).output().await.map_err(failed)?;
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if output.status.success() {
            return Ok(said);
        }
        Err(WorldError::Verb { verb, status: output.status.to_string(), said })
    }

    /// Stops everything.
    pub async fn end(self) {
        let World { nodes, nats, postgres, disk, .. } = self;
        drop((nodes, nats));
        postgres.stop().await;
        drop(disk);
    }
}

impl Node {
    /// Ends it if it lives, and starts it.
    fn kill(&mut self) -> Result<(), ServeError> {
        self.serve.kill();
        self.was_ready = false;
        self.serve.spawn()
    }
}

/// The last lines of a node's log that are no mere information.
fn troubles(serve: &Serve) -> String {
    let log = serve.log();
    let lines: Vec<&str> = log.lines().filter(|line| !line.contains("\"level\":\"INFO\"")).collect();
    lines[lines.len().saturating_sub(TROUBLES_MAX)..].join("\n")
}

async fn during(link: Option<&Link>, weather: Weather, lasts: Duration) {
    if let Some(link) = link {
        link.set(weather);
        tokio::time::sleep(lasts).await;
        link.set(Weather::Clear);
    }
}

/// A directory and what is in it.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    std::fs::set_permissions(to, std::fs::metadata(from)?.permissions())?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else if entry.file_name() != "node.id" {
            std::fs::copy(entry.path(), &to)?;
        }
    }
    Ok(())
}
