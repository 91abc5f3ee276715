//! The campaign: load, faults one after the other, and in the end the check.

mod conclude;

use crate::check::{Rule, Verdict};
use crate::client::Api;
use crate::fault::{self, Kind, Step};
use crate::history::{Followed, Log};
use crate::reader::{Consumer, Subscriber};
use crate::world::{World, WorldError};
use crate::writer::{Load, Progress, Writer};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use uuid::Uuid;

/// What is promised: see [`Options::bound`].
pub const BOUND: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);
/// How often it is looked whether a process has ended.
const TEND: Duration = Duration::from_millis(200);
/// Tenants that several writers write to.
const SHARED: usize = 3;
/// Tenants that are followed, each by a subscriber of its events and one of its row.
const FOLLOWED_MAX: usize = 12;

pub struct Options {
    pub seed: u64,
    pub faults: usize,
    pub writers: usize,
    pub nodes: usize,
    pub program: PathBuf,
    pub only: Vec<Kind>,
    /// Everything serves again within this after a fault, and all have caught up within it in the end.
    pub bound: Duration,
    /// Leave the directory when something was found.
    pub keep: bool,
    /// Also set for the nodes.
    pub environment: Vec<(String, String)>,
}

/// One step, as it went.
#[derive(Clone, Debug)]
pub struct Felt {
    pub step: Step,
    /// From the end of the fault; none when it did not come about in time.
    pub served_after: Option<Duration>,
    /// The longest time in which no write was acknowledged, from the beginning of the fault until then.
    pub paused: Duration,
}

pub struct Outcome {
    pub verdict: Verdict,
    pub felt: Vec<Felt>,
    /// Kinds that could not be tried here, and why.
    pub skipped: Vec<(Kind, &'static str)>,
    pub acknowledged: u64,
    pub refused: u64,
    /// Commands that once had no answer, and of these those that had one in the end.
    pub unknown: u64,
    pub resolved: u64,
    pub events: usize,
    pub told: u64,
    pub messages: u64,
    pub resumed: u64,
    pub took: Duration,
    /// Where everything was left.
    pub kept: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub enum CampaignError {
    #[error(transparent)]
    World(#[from] WorldError),
    #[error("the database cannot be read")]
    Database(#[from] tokio_postgres::Error),
    #[error("a history cannot be written or read")]
    History(#[from] io::Error),
    #[error("no HTTP client can be made")]
    Http(#[from] reqwest::Error),
    #[error("a task ended early")]
    Task(#[from] tokio::task::JoinError),
    #[error("the first tenants cannot be registered: see the nodes' logs with --keep")]
    NoTenants,
}

/// The whole of it.
///
/// # Errors
/// When it could not be carried out. What it finds is in the outcome.
pub async fn run(options: &Options) -> Result<Outcome, CampaignError> {
    let began = Instant::now();
    let directory = tempfile::Builder::new().prefix("daybook-loss-audit-").tempdir()?;
    let (kinds, needs_disk) = wanted(options);
    let environment: Vec<(&str, &str)> = options.environment.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let root = directory.path();
    let mut world = World::start(&options.program, root, options.nodes, needs_disk, &environment).await?;
    let (kinds, skipped) = possible(kinds, &world);
    for (kind, why) in &skipped {
        eprintln!("skipped: {} ({why})", kind.name());
    }

    let mut outcome = drive(options, &mut world, &kinds).await?;
    outcome.skipped = skipped;
    outcome.took = began.elapsed();
    if options.keep && !outcome.verdict.is_clean() {
        outcome.kept = Some(directory.keep());
    }
    world.end().await;
    Ok(outcome)
}

fn wanted(options: &Options) -> (Vec<Kind>, bool) {
    let kinds = if options.only.is_empty() { Kind::usual() } else { options.only.clone() };
    let needs_disk = kinds.contains(&Kind::FullDisk);
    (kinds, needs_disk)
}

fn possible(kinds: Vec<Kind>, world: &World) -> (Vec<Kind>, Vec<(Kind, &'static str)>) {
    let why_not = |kind: &Kind| {
        if kind.needs_nats() && world.nats.is_none() {
            Some("there is no nats-server: run script/install")
        } else if *kind == Kind::FullDisk && !world.has_disk() {
            Some("a file system of its own may be mounted by root only")
        } else {
            None
        }
    };
    let skipped = kinds.iter().filter_map(|kind| Some((*kind, why_not(kind)?))).collect();
    (kinds.into_iter().filter(|kind| why_not(kind).is_none()).collect(), skipped)
}

/// Who listens, and how far each has come.
#[derive(Default)]
struct Ears {
    tasks: JoinSet<io::Result<()>>,
    subscribers: Vec<(Uuid, Followed, Arc<AtomicI64>)>,
    messages: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Ears {
    fn follow(&mut self, api: &Api, directory: &Path, tenant: Uuid, position: &str) -> io::Result<()> {
        for what in [Followed::Events, Followed::Rows] {
            let number = self.subscribers.len();
            // The registration is the tenant's first event and its row's first version.
            let seen = Arc::new(AtomicI64::new(1));
            let (after, stop, api) = (position.to_owned(), self.stop.clone(), api.clone());
            let subscriber = Subscriber { api, node: number, tenant, what, after, seen: seen.clone(), stop };
            self.tasks.spawn(subscriber.run(Log::create(directory, &format!("reader-{number:03}"))?));
            self.subscribers.push((tenant, what, seen));
        }
        Ok(())
    }
}

async fn drive(options: &Options, world: &mut World, kinds: &[Kind]) -> Result<Outcome, CampaignError> {
    let logs = world.root.join("history");
    std::fs::create_dir(&logs)?;
    let mut random = StdRng::seed_from_u64(options.seed);
    let token = world.nodes[0].serve.token().map_err(WorldError::from)?;
    let hosts = world.nodes.iter().map(|node| node.serve.url("http", "").replace("http://", "")).collect();
    let api = Api::new(hosts, &token)?;
    let (registered, mut new_tenants) = mpsc::unbounded_channel();
    let load = |shared| {
        Arc::new(Load {
            api: api.clone(),
            stop: AtomicBool::new(false),
            progress: Progress::new(Instant::now()),
            shared,
            patience: options.bound,
            registered: registered.clone(),
        })
    };
    let writer = |load: &Arc<Load>, number: usize, random: StdRng| -> io::Result<Writer> {
        let name = format!("writer-{number:03}");
        Ok(Writer::new(load.clone(), Log::create(&logs, &name)?, random, number, &name))
    };

    let mut probe = writer(&load(vec![]), 0, StdRng::seed_from_u64(random.random()))?.stubborn();
    let mut shared = Vec::new();
    for _ in 0..SHARED {
        shared.push(probe.tenant().await?.ok_or(CampaignError::NoTenants)?);
    }
    probe.tenant().await?.ok_or(CampaignError::NoTenants)?;
    let load = load(shared);
    let mut writers = JoinSet::new();
    for number in 1..=options.writers {
        writers.spawn(writer(&load, number, StdRng::seed_from_u64(random.random()))?.run());
    }
    let mut ears = Ears::default();
    if let Some(nats) = &world.nats {
        let consumer = Consumer { url: nats.url(), seen: ears.messages.clone(), stop: ears.stop.clone() };
        ears.tasks.spawn(consumer.run(Log::create(&logs, "consumer-live")?));
    }

    let (mut felt, mut verdict) = (Vec::new(), Verdict::default());
    let plan = fault::plan(random.random(), options.faults, options.nodes, kinds);
    for (number, step) in (1..).zip(&plan) {
        until_acknowledged(&load, step.acknowledged, options.bound, world, &mut verdict).await?;
        while let Ok((tenant, position)) = new_tenants.try_recv() {
            if ears.subscribers.len() < 2 * FOLLOWED_MAX {
                ears.follow(&api, &logs, tenant, &position)?;
            }
        }
        load.progress.longest_pause(Instant::now());
        world.suffer(&step.fault).await?;
        if let Some((after, second)) = &step.second {
            tokio::time::sleep(*after).await;
            world.suffer(second).await?;
        }
        let served_after = serves_again(options.bound, world, &mut probe, &mut verdict).await?;
        let second = step.second.map(|(_, fault)| format!(" and {}", fault.kind.name())).unwrap_or_default();
        let name = format!("fault {number}/{}, {}{second}", plan.len(), step.fault.kind.name());
        verdict.hold(Rule::ServesAgain, served_after.is_some(), || {
            format!("{name}: not within {:?}\n{}", options.bound, world.troubles())
        });
        let (acknowledged, paused) = (load.progress.count(), load.progress.longest_pause(Instant::now()));
        let served = served_after.map_or_else(
            || format!("does NOT serve again within {:?}", options.bound),
            |after| format!("serves again after {after:.1?}"),
        );
        eprintln!("{name}: {served}; no write was acknowledged for {paused:.1?}; {acknowledged} so far");
        felt.push(Felt { step: *step, served_after, paused });
        if served_after.is_none() {
            eprintln!("what follows would tell nothing more: the check is next");
            break;
        }
    }

    until_acknowledged(&load, 50, options.bound, world, &mut verdict).await?;
    load.stop.store(true, Ordering::Relaxed);
    while let Some(ended) = writers.join_next().await {
        ended??;
    }
    // Its file is whole once it is gone.
    drop(probe);
    conclude::conclude(options, world, ears, &logs, verdict, felt).await
}

/// Lets some work be acknowledged between two faults, or there is nothing to lose.
async fn until_acknowledged(
    load: &Load,
    more: u64,
    bound: Duration,
    world: &mut World,
    verdict: &mut Verdict,
) -> Result<(), CampaignError> {
    let before = load.progress.count();
    let deadline = Instant::now() + bound;
    while load.progress.count() < before + more {
        if Instant::now() > deadline {
            verdict.hold(Rule::ServesAgain, false, || {
                format!("fewer than {more} writes were acknowledged in {bound:?}:\n{}", world.troubles())
            });
            return Ok(());
        }
        live(world, verdict)?;
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// Starts nodes again that have ended by themselves, which they must not.
fn live(world: &mut World, verdict: &mut Verdict) -> Result<(), CampaignError> {
    let ended = world.revive()?;
    verdict.hold(Rule::NodesLive, ended.is_empty(), || ended.join("\n"));
    Ok(())
}

/// Waits until a write is acknowledged and read, and every node says that it is ready and misses nothing.
async fn serves_again(
    bound: Duration,
    world: &mut World,
    probe: &mut Writer,
    verdict: &mut Verdict,
) -> Result<Option<Duration>, CampaignError> {
    let since = Instant::now();
    let probed = {
        let probing = probe.probe();
        tokio::pin!(probing);
        loop {
            tokio::select! {
                probed = &mut probing => break probed?,
                () = tokio::time::sleep(TEND) => {
                    world.tend().await?;
                    live(world, verdict)?;
                }
            }
        }
    };
    while since.elapsed() < bound {
        let mut healthy = 0;
        for node in &world.nodes {
            let health = node.serve.health().await;
            healthy += usize::from(health.starts_with("HTTP/1.1 200") && health.contains("\"status\":\"ready\""));
        }
        if healthy == world.nodes.len() {
            world.nodes.iter_mut().for_each(|node| node.was_ready = true);
            return Ok(probed.then(|| since.elapsed()));
        }
        world.tend().await?;
        live(world, verdict)?;
        tokio::time::sleep(POLL).await;
    }
    Ok(None)
}
