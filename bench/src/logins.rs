//! `logins`: many people log in at once; how long that takes them, and what it costs everybody else.

use crate::latency::LatencyError;
use daybook_testing::serve::Serve;
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const READY: Duration = Duration::from_secs(60);
const REQUEST: Duration = Duration::from_secs(60);
const PASSWORD: &str = "correct horse battery";

#[derive(clap::Args, Debug)]
pub struct Options {
    /// The program that is measured.
    #[arg(long, default_value = "target/release/daybook")]
    program: PathBuf,
    /// Directory on the disk for its data [default: that of temporary files].
    #[arg(long)]
    disk_dir: Option<PathBuf>,
    /// People who log in at once.
    #[arg(long, default_value_t = 50)]
    people: usize,
    /// Queries a second of another caller, all the while.
    #[arg(long, default_value_t = 200)]
    rate: u64,
    /// Measurements; each with logins and without.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

/// # Errors
/// When anything fails, a login among it.
pub async fn run(options: Options) -> Result<String, LatencyError> {
    let parent = options.disk_dir.clone().unwrap_or_else(std::env::temp_dir);
    let failed = |source| LatencyError::Directory { path: parent.clone(), source };
    let directory = tempfile::Builder::new().prefix("daybook-logins-").tempdir_in(&parent).map_err(failed)?;
    let mut serve = Serve::new(&options.program, directory.path(), &[])?;
    serve.spawn()?;
    serve.ready(READY).await?;
    let token = serve.token()?;
    let http = reqwest::Client::builder().timeout(REQUEST).no_proxy().build()?;
    let client = Client { http, base: serve.url("http", ""), token };
    for n in 0..options.people {
        client.person(n).await?;
    }
    let mut table = String::from(
        "| | logins, slowest (ms) | logins, median (ms) | others p50 (ms) | others p99 (ms) | others, slowest (ms) |\n|---|---|---|---|---|---|\n",
    );
    for round in 1..=options.rounds {
        let alone = client.others(options.rate, tokio::time::sleep(Duration::from_secs(3))).await?;
        let mut logins = Vec::new();
        let together = async {
            logins = try_join_all((0..options.people).map(|n| client.login(n))).await?;
            Ok::<_, LatencyError>(())
        };
        let mut outcome = Ok(());
        let beside = client.others(options.rate, async { outcome = together.await }).await?;
        outcome?;
        for (what, logins, others) in [("nobody logs in", vec![], alone), ("together", logins, beside)] {
            let (slowest, median) = (ms(&logins, 1.0), ms(&logins, 0.5));
            // Writing to a text cannot fail.
            let _ = writeln!(
                table,
                "| {round}, {what} | {slowest} | {median} | {} | {} | {} |",
                ms(&others, 0.5),
                ms(&others, 0.99),
                ms(&others, 1.0)
            );
        }
    }
    Ok(table)
}

fn ms(times: &[Duration], share: f64) -> String {
    let mut sorted = times.to_vec();
    sorted.sort();
    // A rank below the number of measurements.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let rank = ((sorted.len() as f64 * share).ceil() as usize).saturating_sub(1);
    sorted.get(rank).map_or("–".to_owned(), |time| format!("{:.1}", time.as_secs_f64() * 1_000.0))
}

struct Client {
    http: reqwest::Client,
    base: String,
    token: String,
}

impl Client {
    async fn graphql(&self, query: &str, input: Value) -> Result<Value, LatencyError> {
        let body = json!({ "query": query, "variables": { "i": input } });
        let request = self.http.post(format!("{}/graphql", self.base)).bearer_auth(&self.token);
        let answer: Value = request.json(&body).send().await?.json().await?;
        match answer.get("errors") {
            Some(errors) => Err(LatencyError::Refused(errors.to_string())),
            None => Ok(answer["data"]["a"].clone()),
        }
    }

    /// With a password and the platform's role: no other tenant is needed.
    async fn person(&self, n: usize) -> Result<(), LatencyError> {
        let register = "mutation($i: RegisterAccountInput!) { a: registerAccount(input: $i) { account { id } } }";
        let made = self.graphql(register, json!({ "name": "Ada", "email": email(n) })).await?;
        let id = &made["account"]["id"];
        let grant = "mutation($i: GrantPlatformAdminInput!) { a: grantPlatformAdmin(input: $i) { position } }";
        self.graphql(grant, json!({ "id": id })).await?;
        let set = "mutation($i: SetPasswordInput!) { a: setPassword(input: $i) { position } }";
        self.graphql(set, json!({ "account": id, "password": PASSWORD })).await?;
        Ok(())
    }

    async fn login(&self, n: usize) -> Result<Duration, LatencyError> {
        let since = Instant::now();
        let body = json!({ "email": email(n), "password": PASSWORD });
        let response = self.http.post(format!("{}/auth/login", self.base)).json(&body).send().await?;
        let status = response.status();
        let answer = response.text().await?;
        if status.is_success() { Ok(since.elapsed()) } else { Err(LatencyError::Refused(answer)) }
    }

    /// How long the queries of another caller take while something goes on, at a steady rate.
    async fn others(&self, rate: u64, meanwhile: impl Future<Output = ()>) -> Result<Vec<Duration>, LatencyError> {
        let mut ticks = tokio::time::interval(Duration::from_micros(1_000_000 / rate.max(1)));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
        let mut asked = tokio::task::JoinSet::new();
        tokio::pin!(meanwhile);
        loop {
            tokio::select! {
                () = &mut meanwhile => break,
                due = ticks.tick() => {
                    let body = json!({ "query": "{ tenants(first: 1) { edges { node { id } } } }" });
                    let request = self.http.post(format!("{}/graphql", self.base)).bearer_auth(&self.token).json(&body);
                    asked.spawn(async move {
                        let response = request.send().await?;
                        let status = response.status();
                        let text = response.text().await?;
                        // From when it was due: what waits before it is sent has waited as well.
                        if status.is_success() { Ok(due.elapsed()) } else { Err(LatencyError::Refused(text)) }
                    });
                }
            }
        }
        let mut times = Vec::new();
        while let Some(done) = asked.join_next().await {
            times.push(done??);
        }
        Ok(times)
    }
}

fn email(n: usize) -> String {
    format!("ada{n}@example.com")
}
