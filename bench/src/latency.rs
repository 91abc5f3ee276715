//! `latency`: how long it takes from a mutation to those who listen, at a steady rate.
//!
//! A real `daybook serve` in a directory of its own, spoken to as clients do: mutations over HTTP, subscriptions over
//! WebSocket, integrators through NATS. Mutations go off on a fixed schedule, and every time counts from the scheduled
//! moment: an answer that is late delays nothing, so that a pause shows in every event that it held up. It refuses to
//! give figures when an event did not arrive exactly once and in order everywhere.

mod cpu;
pub mod crowd;
mod error;
mod feed;
mod listen;
mod plan;
mod program;
mod verdict;

pub use error::LatencyError;

use crate::machine::{self, Machine};
use daybook_testing::nats::NatsServer;
use feed::Feed;
use hdrhistogram::Histogram;
use listen::Listeners;
use plan::Plan;
use program::{Api, Program};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use verdict::{Measured, Trail};

#[derive(clap::Args, Debug)]
pub struct Options {
    /// The program to measure.
    #[arg(long, default_value = "target/release/daybook")]
    program: PathBuf,
    /// Mutations a second, of one event each.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Measured time.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    seconds: u32,
    /// Time before it that is left out: connections, caches and statements get ready.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(0..=600))]
    warm_up: u32,
    /// Devices in turn, each with a subscription on a socket of its own.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=500))]
    devices: u32,
    /// Days of each device that readings go to in turn. Each is a stream; with 1, many write the same one at once.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    days: u32,
    /// Also to a consumer of NATS JetStream; a server is started for it.
    #[arg(long)]
    nats: bool,
    /// The same through a server that runs already. It must be empty, and what it does counts as others'.
    #[arg(long, env = "NATS_URL", value_name = "URL", hide_env_values = true)]
    nats_url: Option<String>,
    /// Directory on the disk to be measured [default: that of temporary files].
    #[arg(long)]
    disk_dir: Option<PathBuf>,
    /// How long to wait for a quiet machine first, in seconds.
    #[arg(long, default_value_t = 0)]
    idle_wait: u64,
}

/// How long after the last mutation everything must have arrived.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long to listen for what arrives twice.
const LINGER: Duration = Duration::from_millis(500);
/// Between the last preparation and the first mutation.
const RUN_UP: Duration = Duration::from_millis(100);
/// The promise, at 500 events/s.
const P50_MS_MAX: f64 = 10.0;
const P99_MS_MAX: f64 = 50.0;

/// One measurement.
///
/// # Errors
/// When anything fails or an event is missing: then there is no table.
pub async fn run(options: Options) -> Result<String, LatencyError> {
    tokio::select! {
        table = measure(&options) => table,
        // The program and its data go with this one.
        _ = tokio::signal::ctrl_c() => Err(LatencyError::Interrupted),
    }
}

async fn measure(options: &Options) -> Result<String, LatencyError> {
    let own_nats = match options.nats && options.nats_url.is_none() {
        true => Some(NatsServer::start().await),
        false => None,
    };
    let nats_url = options.nats_url.clone().or(own_nats.as_ref().map(NatsServer::url));
    let program = Program::start(&options.program, options.disk_dir.clone(), nats_url.as_deref()).await?;
    let table = drive(options, &program, nats_url.as_deref()).await;
    if table.is_err() {
        // It is gone in a moment.
        eprintln!("The end of the program's log:\n{}\n", program.log_tail());
    }
    table
}

async fn drive(options: &Options, program: &Program, nats_url: Option<&str>) -> Result<String, LatencyError> {
    let api = Api::new(program)?;
    let tenant = api.register_tenant().await?;
    let (mut devices, mut after) = (Vec::new(), String::new());
    for n in 0..options.devices {
        let (device, position) = api.register_device(tenant, n).await?;
        devices.push(device);
        after = position;
    }
    if options.idle_wait > 0 {
        machine::wait_until_idle(Duration::from_secs(options.idle_wait)).await;
    }
    let mut listeners = Listeners::start(program, tenant, &devices, &after, nats_url).await?;
    let plan = Plan::new(Instant::now() + RUN_UP, options, tenant, devices)?;

    eprintln!("{} mutations in {} s", plan.total(), options.warm_up + options.seconds);
    let feed = Feed::start(plan.clone(), api.clone());
    let watch = async {
        tokio::time::sleep_until(plan.begin().into()).await;
        let before = (Machine::now(), cpu::own_us(program));
        tokio::time::sleep_until(plan.end().into()).await;
        Machine::now().since(before.0).others(cpu::own_us(program) - before.1)
    };
    let (sent, others) = tokio::join!(feed.end(), watch);
    let sent = sent?;
    listeners.until_all(plan.total(), Instant::now() + PATIENCE).await?;
    tokio::time::sleep(LINGER).await;
    let heard = listeners.end().await?;
    let trail = Trail::read(&api, tenant).await?;
    let measured = verdict::judge(&plan, &sent, &heard, &trail)?;

    let mut table = String::from("| | sent | arrived | p50 ms | p90 ms | p99 ms | max ms | p50 ≤ 10, p99 ≤ 50 |\n");
    table.push_str("|---|---|---|---|---|---|---|---|\n");
    let Measured { behind, answered, subscribed, published } = &measured;
    row(&mut table, "mutation sent, behind its schedule", behind, false);
    row(&mut table, "mutation answered", answered, true);
    row(&mut table, "subscription (WebSocket)", subscribed, true);
    if let Some(published) = published {
        row(&mut table, "consumer (NATS JetStream)", published, true);
    }
    // Writing to a String cannot fail.
    let _ = write!(
        table,
        "\n{} mutations/s for {} s after {} s of warm-up, {} devices × {} days with a subscription per \
         device; at most {} mutations \
         unanswered at once; all {} events arrived once and in order; others took {:.0} % of the machine.",
        options.rate,
        options.seconds,
        options.warm_up,
        options.devices,
        options.days,
        sent.in_flight_max,
        plan.total(),
        others * 100.0,
    );
    Ok(table)
}

fn row(table: &mut String, name: &str, times_us: &Histogram<u64>, is_promised: bool) {
    let at = |quantile| ms(times_us.value_at_quantile(quantile));
    let met = match (is_promised, at(0.5) <= P50_MS_MAX && at(0.99) <= P99_MS_MAX) {
        (false, _) => "",
        (true, true) => "met",
        (true, false) => "**not met**",
    };
    // What did not arrive was an error before.
    let count = times_us.len();
    let _ = writeln!(
        table,
        "| {name} | {count} | {count} | {:.2} | {:.2} | {:.2} | {:.2} | {met} |",
        at(0.5),
        at(0.9),
        at(0.99),
        ms(times_us.max()),
    );
}

#[allow(clippy::cast_precision_loss)]
fn ms(us: u64) -> f64 {
    us as f64 / 1_000.0
}
