//! The program that is measured, in a directory of its own, and its API as a client knows it.

use super::LatencyError;
use super::plan::RESOLUTION_S;
use daybook_testing::process;
use daybook_testing::serve::Serve;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use uuid::Uuid;

const READY: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);
/// How long a request may take.
const REQUEST: Duration = Duration::from_secs(30);

/// A running `daybook serve`. It ends with the value, and its data with it.
pub(super) struct Program {
    serve: Serve,
    _directory: tempfile::TempDir,
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
        // What is measured is what ships, not what this environment asks for.
        let nats: Vec<(&str, &str)> = nats_url.map(|url| ("NATS_URL", url)).into_iter().collect();
        let mut serve = Serve::new(program, directory.path(), &nats)?;
        serve.spawn()?;
        let mut started = Program { serve, _directory: directory };
        started.serve.ready(READY).await?;
        Ok(started)
    }

    pub(super) fn url(&self, scheme: &str, path: &str) -> String {
        self.serve.url(scheme, path)
    }

    pub(super) fn token(&self) -> Result<String, LatencyError> {
        Ok(self.serve.token()?)
    }

    /// Memory of the program itself, without its database server's. Zero where the system does not tell.
    pub(super) fn resident_kib(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.serve.pid().unwrap_or_default()))
            .unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
    }

    /// The process of the database server that starts all its others.
    pub(super) fn postmaster(&self) -> Option<u32> {
        self.serve.postmaster()
    }

    pub(super) fn log_tail(&self) -> String {
        self.serve.log_tail()
    }

    fn ended_by(&mut self, deadline: Instant) -> bool {
        while Instant::now() < deadline {
            if !self.serve.is_running() {
                return true;
            }
            std::thread::sleep(POLL);
        }
        false
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.serve.signal(process::Signal::TERM);
        if self.ended_by(Instant::now() + STOP) {
            return;
        }
        self.serve.kill();
        // The data are thrown away.
        if let Some(postmaster) = self.postmaster() {
            process::kill_postgres(postmaster);
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
