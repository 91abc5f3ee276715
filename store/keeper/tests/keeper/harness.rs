//! A directory that cleans up after itself, and a keeper in a process of its own that can be killed.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use daybook_keeper::{Cluster, KeeperConfig};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

pub(crate) const NOBODY: u32 = 65534;

/// A directory whose servers are killed when the test ends, however it ends.
pub(crate) struct Home {
    directory: TempDir,
    mounted: Option<PathBuf>,
    elsewhere: Vec<PathBuf>,
}

impl Home {
    pub(crate) fn new() -> Home {
        let directory = TempDir::with_prefix("keeper-").expect("a temporary directory");
        // Root's temporary directories keep everybody out, also the server's user.
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).expect("its mode");
        Home { directory, mounted: None, elsewhere: Vec::new() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    pub(crate) fn config(&self) -> KeeperConfig {
        config(self.data())
    }

    /// Also removed in the end, as socket directories outside of the data directory are.
    pub(crate) fn remove_too(&mut self, directory: &Path) {
        self.elsewhere.push(directory.to_owned());
    }

    /// A small disk below this directory, or the reason why there cannot be one.
    pub(crate) fn small_disk(&mut self, megabytes: u32) -> Result<PathBuf, String> {
        let path = self.path().join("small");
        fs::create_dir(&path).expect("a mount point");
        let size = format!("size={megabytes}m,mode=755");
        let output = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&path).output();
        match output {
            Ok(output) if output.status.success() => {
                self.mounted = Some(path.clone());
                Ok(path)
            }
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        kill_all(self.path());
        if let Some(path) = &self.mounted {
            let _ = Command::new("umount").arg(path).status();
        }
        for directory in &self.elsewhere {
            let _ = fs::remove_dir_all(directory);
        }
    }
}

/// Little memory, because many run at once.
pub(crate) fn config(data_dir: PathBuf) -> KeeperConfig {
    KeeperConfig {
        settings: vec![("shared_buffers".into(), "16MB".into())],
        startup_timeout: Duration::from_secs(60),
        ..KeeperConfig::new(data_dir)
    }
}

pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

/// Says why a test did nothing; to be seen with `--no-capture` and in the report of a failure.
pub(crate) fn skip(test: &str, reason: &str) {
    eprintln!("SKIPPED {test}: {reason}");
}

/// The processes of servers whose cluster lies below this directory.
pub(crate) fn servers_below(directory: &Path) -> Vec<u32> {
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let link = |name: &str| fs::read_link(format!("/proc/{pid}/{name}")).unwrap_or_default();
        link("cwd").starts_with(directory) && link("exe").ends_with("postgres")
    })
    .collect()
}

/// Kills every server process below this directory and waits until they are gone.
pub(crate) fn kill_all(directory: &Path) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let pids = servers_below(directory);
        if pids.is_empty() || Instant::now() > deadline {
            return;
        }
        pids.into_iter().for_each(|pid| signal(pid, Signal::KILL));
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
    let _ = kill_process(pid, signal);
}

/// Waits for a condition, for at most half a minute.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "still not: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What the server answers to one statement, or what `psql` says went wrong.
pub(crate) fn query_at(socket_dir: &Path, port: u16, sql: &str) -> Result<String, String> {
    let output = psql(socket_dir, port, sql).output().expect("psql");
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

pub(crate) fn psql(socket_dir: &Path, port: u16, sql: &str) -> Command {
    let mut command = Command::new("psql");
    command.arg("-h").arg(socket_dir).args(["-p", &port.to_string(), "-U", "postgres", "-d", "postgres"]);
    command.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql]);
    command
}

pub(crate) fn query(cluster: &Cluster, sql: &str) -> String {
    query_at(cluster.socket_dir(), cluster.port(), sql).expect("the server answers")
}

/// The example `keep` in a process of its own.
pub(crate) struct Keeper {
    child: Child,
    pub(crate) pid: u32,
    pub(crate) port: u16,
    pub(crate) socket_dir: PathBuf,
}

impl Keeper {
    /// Starts it and waits for the server, as `user` if one is given.
    pub(crate) fn start(home: &Home, user: Option<u32>) -> Keeper {
        let mut child = spawn(home, user);
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let parts: Vec<&str> = line.trim_end().splitn(3, ' ').collect();
        let [pid, port, socket_dir] = parts[..] else { panic!("it did not start: {}", complaint(child)) };
        Keeper {
            child,
            pid: pid.parse().expect("a process id"),
            port: port.parse().expect("a port"),
            socket_dir: socket_dir.into(),
        }
    }

    /// The process that keeps the server.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn query(&self, sql: &str) -> Result<String, String> {
        query_at(&self.socket_dir, self.port, sql)
    }

    /// Kills the keeper, not the server.
    pub(crate) fn kill(mut self) -> u32 {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
        self.pid
    }

    /// Ends its input, upon which it stops the server and itself; whether it ended well.
    pub(crate) fn finish(mut self) -> bool {
        drop(self.child.stdin.take());
        self.child.wait().expect("it ends").success()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The example, started on the home's data directory. A copy, because a user may be unable to reach the original.
pub(crate) fn spawn(home: &Home, user: Option<u32>) -> Child {
    command(home, user).spawn().expect("it starts")
}

pub(crate) fn command(home: &Home, user: Option<u32>) -> Command {
    let program = home.path().join("keep");
    if !program.exists() {
        let tests = std::env::current_exe().expect("this program");
        let built = tests.parent().and_then(Path::parent).expect("target").join("examples/keep");
        // Not by ourselves: a process that another test is just starting would hold the copy open for writing.
        let copied = Command::new("cp").arg(&built).arg(&program).status().expect("cp");
        assert!(copied.success(), "the example keep is missing: run the tests with cargo test -p daybook-keeper");
    }
    let mut command = Command::new(&program);
    command.arg(home.data()).arg("shared_buffers=16MB").current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Another user's directories are not ours to use.
    command.env_remove("XDG_RUNTIME_DIR");
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    command
}

/// What a keeper that failed has to say.
pub(crate) fn complaint(mut child: Child) -> String {
    drop(child.stdin.take());
    let mut text = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut text).expect("text");
    child.wait().expect("it ends");
    text
}

/// Makes a directory that belongs to this user.
pub(crate) fn directory_of(path: &Path, user: u32, mode: u32) {
    fs::create_dir(path).expect("a directory");
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("its mode");
    chown(path, Some(user), Some(user)).expect("its owner");
}
