//! `daybook demo`: a living system in one command, with real data, on this machine only.

mod client;
mod data;
mod load;
mod nats;
mod seed;
mod summary;
mod tail;

use crate::config::{Common, Serving, Settled, Token};
use crate::exit::Failure;
use crate::server::{Server, interrupted};
use clap::Args;
use client::Caller;
use data::Day;
use daybook_domain::ActorKind;
use daybook_store::system::{Real, System};
use nats::Nats;
use std::io::IsTerminal;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};
use uuid::Uuid;

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    serving: Serving,
    /// Load the data, print a summary, stop
    #[arg(long)]
    exit_after_load: bool,
    /// Days of the year to load at once; the rest comes a quarter of an hour at a time
    #[arg(long, value_name = "DAYS", default_value_t = load::LOAD_DAYS, value_parser = days)]
    days: usize,
    /// Milliseconds per quarter of an hour of the data, once it runs
    #[arg(long, value_name = "MS", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(20..))]
    tick: u64,
}

fn days(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|days| (1..=366).contains(days)).ok_or_else(|| "a number of days, 1 to 366".into())
}

/// The demo keeps to itself: its data is not that of the usual directory, and its screen is not for log lines.
pub fn common(common: &Common) -> Common {
    let mut common = common.clone();
    if common.data_dir.is_none() && common.config.is_none() {
        let usual = daybook_keeper::default_data_dir();
        common.data_dir = Some(usual.with_file_name("daybook-demo"));
    }
    common.log.get_or_insert_with(|| "warn,deadpool=error".to_owned());
    common
}

pub async fn run(settled: Settled, arguments: &Arguments) -> Result<(), Failure> {
    let began = Instant::now();
    let meters = data::meters().map_err(|e| Failure::failed(&e))?;
    let mut serving = arguments.serving.clone();
    let mut own_nats = None;
    if serving.nats(&settled.file).is_none()
        && let Some(program) = nats::program()
    {
        let nats = Nats::start(&program, &settled.data_dir.join("nats")).await?;
        serving.nats_url = Some(nats.url.clone());
        own_nats = Some(nats);
    }
    let platform_token = Token {
        token: secret(),
        actor: seed::platform_actor(),
        kind: ActorKind::Service,
        tenant: None,
        roles: vec!["platformAdmin".into()],
    };
    let token = tenant_token(&settled.data_dir)?;
    let tokens = [
        platform_token.clone(),
        Token {
            token: token.clone(),
            actor: seed::command("administrator"),
            kind: ActorKind::Account,
            tenant: Some(seed::tenant()),
            roles: vec!["tenantAdmin".into()],
        },
    ];
    let server = Server::start(&settled, &serving, &tokens).await?;
    let ready = began.elapsed();
    println!("Daybook serves after {:.1} s. Data is in {}", ready.as_secs_f64(), settled.data_dir.display());
    let nats_url = serving.nats(&settled.file).map(|options| options.url.clone());
    let done = show(&server, arguments, &settled.data_dir, &platform_token.token, &token, &meters, nats_url).await;
    let stopped = server.stop().await;
    drop(own_nats);
    done.and(stopped)
}

async fn show(
    server: &Server,
    arguments: &Arguments,
    data_dir: &Path,
    platform_token: &str,
    token: &str,
    meters: &[data::Meter],
    nats_url: Option<String>,
) -> Result<(), Failure> {
    let platform = Caller::new(server.listen, platform_token);
    let tenant = Caller::new(server.listen, token);
    let devices = seed::seed(&platform, &tenant, meters).await?;
    let days: Vec<Day> = data::days().collect::<Result<_, _>>().map_err(|e| Failure::failed(&e))?;
    let (first, rest) = days.split_at(arguments.days.min(days.len()));
    let expected = summary::Expected::of(first);
    if let Some(seen) = summary::loaded(server, seed::tenant(), &expected).await? {
        println!("The data is there already: {} readings, {} hours.", seen.raw.readings, seen.hours);
        if arguments.exit_after_load {
            return Ok(());
        }
    } else if !fill(server, &tenant, meters, first, &expected).await? || arguments.exit_after_load {
        return Ok(());
    }
    screen(server, data_dir, token, meters, &devices, nats_url);
    let bookmark = load::Bookmark::new(data_dir, arguments.days);
    tail::run(server, &tenant, meters, rest, &bookmark, Duration::from_millis(arguments.tick)).await
}

/// Loads the days and says what it came to; `false` when somebody stopped it.
async fn fill(
    server: &Server,
    tenant: &Caller,
    meters: &[data::Meter],
    days: &[Day],
    expected: &summary::Expected,
) -> Result<bool, Failure> {
    let bar = super::bar("readings");
    bar.set_length(expected.readings);
    let began = Instant::now();
    let progress = |n| bar.inc(n);
    let loaded = tokio::select! {
        loaded = load::load(tenant, meters, days, &progress) => loaded?,
        () = interrupted() => {
            bar.finish_and_clear();
            println!("Stopped while loading; the next start goes on where this one was.");
            return Ok(false);
        }
    };
    let acknowledged = began.elapsed();
    let seen = summary::wait(server, seed::tenant(), expected).await?;
    let took = began.elapsed();
    bar.finish_and_clear();
    summary::print(server, &loaded, expected, &seen, acknowledged, took).await?;
    Ok(true)
}

fn secret() -> String {
    let mut bytes = [0u8; 24];
    Real.random(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The token of the demo's tenant: kept, so that what was copied from the screen works after a restart.
fn tenant_token(data_dir: &Path) -> Result<String, Failure> {
    use std::io::Write;
    let path = data_dir.join("demo.token");
    let failed = |e: std::io::Error| Failure { code: 1, message: format!("{} cannot be used: {e}", path.display()) };
    if !path.exists() {
        std::fs::create_dir_all(data_dir).map_err(failed)?;
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
        writeln!(file, "{}", secret()).map_err(failed)?;
    }
    Ok(std::fs::read_to_string(&path).map_err(failed)?.trim().to_owned())
}

/// What to try, ready to paste.
fn screen(
    server: &Server,
    data_dir: &Path,
    token: &str,
    meters: &[data::Meter],
    devices: &std::collections::HashMap<String, Uuid>,
    nats_url: Option<String>,
) {
    let bold =
        |text: &str| if std::io::stdout().is_terminal() { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() };
    let (listen, tenant) = (server.listen, seed::tenant());
    let device = meters.first().and_then(|meter| devices.get(&meter.serial)).copied().unwrap_or_default();
    println!("\n{}", bold("GraphiQL"));
    println!("  http://{listen}/graphiql#token={token}");
    println!("\n{}  {token}", bold("Token of the tenant's administrator"));
    println!("\n{}", bold("Three queries"));
    println!(
        "  {{ grants(first: 10, filter: {{ allowedNow: {{ eq: true }} }}) {{ nodes {{ role allowed member {{ roles }} module {{ name }} }} }} }}"
    );
    println!(
        "  {{ device(id: \"{device}\") {{ name readings(from: \"2016-03-27T00:00:00+01:00\", to: \"2016-03-28T00:00:00+02:00\", resolution: HOUR) {{ nodes {{ start localStart energyWh }} }} }} }}"
    );
    println!("  {{ auditTrail(first: 5) {{ nodes {{ recordedAt eventType actor changes {{ path old new }} }} }} }}");
    println!("\n{}", bold("One subscription"));
    println!("  subscription {{ readings(device: \"{device}\") {{ position readings {{ localStart energyWh }} }} }}");
    println!("\n{}", bold("History"));
    let here = format!("--data-dir {}", data_dir.display());
    println!("  daybook replay {here} --tenant {tenant} --until 50");
    println!("  daybook export {here} --tenant {tenant} --output history.jsonl");
    println!("  daybook verify {here} --export history.jsonl");
    match nats_url {
        Some(url) => {
            println!("\n{}", bold("Events for integrators"));
            println!("  nats sub --server {url} 'daybook.{tenant}.>'");
        }
        None => println!("\nNo nats-server was found and NATS_URL is not set: events are not relayed."),
    }
    println!("\nContains information from SimBench (https://www.simbench.net), made available under the ODbL.");
    println!("\nThe rest of the year follows, a quarter of an hour at a time. Ctrl-C stops.\n");
}
