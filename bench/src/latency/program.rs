//! The program that is measured, in a directory of its own, and its API as a client knows it.

use super::LatencyError;
use super::plan::RESOLUTION_S;
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use uuid::Uuid;

const READY: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);
/// How long a request may take.
const REQUEST: Duration = Duration::from_secs(30);

/// A running `daybook serve`. It ends with the value, and its data with it.
pub(super) struct Program {
    child: Child,
    directory: tempfile::TempDir,
    port: u16,
}

impl Program {
    pub(super) async fn start(
        program: &Path,
        disk_dir: Option<PathBuf>,
        nats_url: Option<&str>,
    ) -> Result<Self, LatencyError> {
        let parent = disk_dir.unwrap_or_else(std::env::temp_dir);
        let failed = |source| LatencyError::Directory { path: parent.clone(), source };
        let directory = tempfile::Builder::new().prefix("daybook-latency-").tempdir_in(&parent).map_err(failed)?;
        // The database server may run as another user than this program.
        std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .map_err(failed)?;
        let log = std::fs::File::create(directory.path().join("log")).map_err(failed)?;
        let log_too = log.try_clone().map_err(failed)?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(LatencyError::Port)?;
        let port = listener.local_addr().map_err(LatencyError::Port)?.port();
        drop(listener);
        let mut command = Command::new(program);
        // What is measured is what ships, not what this environment asks for.
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("DAYBOOK_")) {
                command.env_remove(name);
            }
        }
        command.env_remove("DATABASE_URL").env_remove("NATS_URL");
        if let Some(url) = nats_url {
            command.env("NATS_URL", url);
        }
        command.arg("--data-dir").arg(directory.path().join("data"));
        command.args(["serve", "--listen", &format!("127.0.0.1:{port}")]);
        let spawned = command.stdin(Stdio::null()).stdout(log).stderr(log_too).spawn();
        let child = spawned.map_err(|source| LatencyError::Program { program: program.to_owned(), source })?;
        let mut started = Program { child, directory, port };
        started.ready().await?;
        Ok(started)
    }

    async fn ready(&mut self) -> Result<(), LatencyError> {
        let http = reqwest::Client::new();
        let deadline = Instant::now() + READY;
        loop {
            let asked = http.get(self.url("http", "/health/ready")).timeout(REQUEST).send().await;
            if asked.is_ok_and(|response| response.status().is_success()) {
                return Ok(());
            }
            if Instant::now() > deadline || !matches!(self.child.try_wait(), Ok(None)) {
                return Err(LatencyError::NotReady { log: self.log_tail() });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    pub(super) fn url(&self, scheme: &str, path: &str) -> String {
        format!("{scheme}://127.0.0.1:{}{path}", self.port)
    }

    pub(super) fn token(&self) -> Result<String, LatencyError> {
        let path = self.directory.path().join("data").join("admin.token");
        let token = std::fs::read_to_string(&path).map_err(|source| LatencyError::Directory { path, source })?;
        Ok(token.trim().to_owned())
    }

    /// Memory of the program itself, without its database server's. Zero where the system does not tell.
    pub(super) fn resident_kib(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
    }

    /// The process of the database server that starts all its others.
    pub(super) fn postmaster(&self) -> Option<u32> {
        let note = self.directory.path().join("data").join("postgres").join("postmaster.pid");
        std::fs::read_to_string(note).ok()?.lines().next()?.trim().parse().ok()
    }

    pub(super) fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }

    fn ended_by(&mut self, deadline: Instant) -> bool {
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return true;
            }
            std::thread::sleep(POLL);
        }
        false
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Failures of any of it: it is gone already.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        if self.ended_by(Instant::now() + STOP) {
            return;
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let postmaster = self.postmaster().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        if let Some(postmaster) = postmaster {
            // At once, and all of its processes: the data are thrown away.
            let _ = kill_process(postmaster, Signal::QUIT);
            let deadline = Instant::now() + STOP;
            while self.postmaster().is_some() && Instant::now() < deadline {
                std::thread::sleep(POLL);
            }
        }
    }
}

/// GraphQL over kept-alive HTTP connections. Cloning is cheap.
#[derive(Clone)]
pub(super) struct Api {
    http: reqwest::Client,
    url: String,
    token: String,
}

#[derive(Deserialize)]
struct Answer<T> {
    data: Option<T>,
    errors: Option<Value>,
}

impl Api {
    pub(super) fn new(program: &Program) -> Result<Self, LatencyError> {
        let http = reqwest::Client::builder().http1_only().timeout(REQUEST).build()?;
        Ok(Api { http, url: program.url("http", "/graphql"), token: program.token()? })
    }

    /// The data of an answer without errors.
    pub(super) async fn ask<T: DeserializeOwned>(&self, query: &str, variables: &Value) -> Result<T, LatencyError> {
        let body = json!({ "query": query, "variables": variables });
        let response = self.http.post(&self.url).bearer_auth(&self.token).json(&body).send().await?;
        let bytes = response.bytes().await?;
        let unexpected = || LatencyError::Unexpected(String::from_utf8_lossy(&bytes).into_owned());
        let answer: Answer<T> = serde_json::from_slice(&bytes).map_err(|_| unexpected())?;
        match answer {
            Answer { errors: Some(errors), .. } => Err(LatencyError::Refused(errors.to_string())),
            Answer { data: Some(data), .. } => Ok(data),
            Answer { data: None, .. } => Err(unexpected()),
        }
    }

    pub(super) async fn register_tenant(&self) -> Result<Uuid, LatencyError> {
        let query = "mutation { registerTenant(input: { name: \"Latency\" }) {
            tenant { id } userErrors { code message } } }";
        let data: Value = self.ask(query, &json!({})).await?;
        id(&data, "/registerTenant/tenant/id")
    }

    /// Its id, and the position of its registration.
    pub(super) async fn register_device(&self, tenant: Uuid, number: u32) -> Result<(Uuid, String), LatencyError> {
        let query = "mutation($i: RegisterDeviceInput!) { registerDevice(input: $i) {
            device { id } position userErrors { code message } } }";
        let input = json!({ "tenant": tenant, "name": format!("Meter {number}"), "kind": "METER",
            "serial": format!("L-{number}"), "site": { "name": "Bench", "timeZone": "UTC" },
            "resolutionS": RESOLUTION_S, "direction": "IMPORT", "maxPowerW": "40000" });
        let data: Value = self.ask(query, &json!({ "i": input })).await?;
        let position = data.pointer("/registerDevice/position").and_then(Value::as_str);
        let position = position.ok_or_else(|| LatencyError::Unexpected(data.to_string()))?;
        Ok((id(&data, "/registerDevice/device/id")?, position.to_owned()))
    }
}

fn id(data: &Value, pointer: &str) -> Result<Uuid, LatencyError> {
    let text = data.pointer(pointer).and_then(Value::as_str).and_then(|text| text.parse().ok());
    text.ok_or_else(|| LatencyError::Unexpected(data.to_string()))
}
