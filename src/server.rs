//! The running server: everything together, started in the order in which it depends on each other and
//! stopped in the reverse order.

use crate::base::Base;
use crate::config::{Serving, Settled, Token};
use crate::exit::Failure;
use crate::operator::Operator;
use daybook_api::auth;
use daybook_api::graphql::audit::AuditParts;
use daybook_api::graphql::audit::door::{Watched, watch_origins};
use daybook_api::graphql::opaque::Opaque;
use daybook_api::graphql::{self, Parts, Reads};
use daybook_api::health::{self, Health};
use daybook_api::ingest;
use daybook_api::metrics::{self, Metrics};
use daybook_api::node::{self, Link};
use daybook_api::tokens::{StaticTokens, Tokens};
use daybook_api::transport::{self, OriginPolicy};
use daybook_app::energy::Ingest;
use daybook_app::identity::heard::{self, Heard};
use daybook_app::identity::{Identity, IdentityOptions, IdentityParts};
use daybook_app::{Executor, Rules, SNAPSHOT_EVERY, Snapshots};
use daybook_bus::{Positions, Relay, RelayOptions, RelayStatus, relay};
use daybook_domain::ActorKind;
use daybook_keeper::{Cluster, KeeperError};
use daybook_projections::{self as projections, Projections, read_models};
use daybook_store::access::{AccessLog, AccessOptions};
use daybook_store::checkpoints::{CheckpointStore, Checkpointer, CheckpointerOptions};
use daybook_store::identity::Secrets;
use daybook_store::journal::follow::Source;
use daybook_store::journal::machine::Config as WriterConfig;
use daybook_store::journal::recent::Recent;
use daybook_store::journal::{BY_KEY, Journal, JournalOptions, bell};
use daybook_store::keys::{KeyFiles, KeyStore, Sealer};
use daybook_store::snapshots::Snapshots as SnapshotTable;
use daybook_store::system::{Real, SharedSystem, System};
use daybook_store::{Database, Role, schema};
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// How long open requests may take once the server stops.
const DRAIN: Duration = Duration::from_secs(10);
/// How long it keeps on writing once it stops, where another node can write as well.
const HAND_OVER: Duration = Duration::from_secs(1);
/// How long history may go unsigned.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);

/// What runs, and what is needed to stop it.
pub struct Server {
    pub listen: SocketAddr,
    pub database: Database,
    pub journal: Journal,
    pub projections: Projections,
    pub files: Arc<KeyFiles>,
    pub checkpoints: CheckpointStore,
    stop: watch::Sender<bool>,
    sockets: transport::Sockets,
    http: JoinHandle<()>,
    writer: JoinHandle<()>,
    drained: oneshot::Sender<()>,
    checkpointing: JoinHandle<()>,
    relaying: Option<(Relay, JoinHandle<()>)>,
    ringing: JoinHandle<()>,
    reading: JoinHandle<()>,
    pub recent: Recent,
    counting: JoinHandle<()>,
    access: AccessLog,
    accessing: JoinHandle<()>,
    hearing: JoinHandle<()>,
    identifying: JoinHandle<()>,
    operating: JoinHandle<()>,
    projecting: JoinHandle<()>,
    cluster: Option<JoinHandle<Option<Cluster>>>,
}

impl Server {
    /// `more`: tokens beside those of the configuration.
    ///
    /// # Errors
    /// With the remedy.
    pub async fn start(settled: &Settled, serving: &Serving, more: &[Token]) -> Result<Self, Failure> {
        serving.nats(&settled.file).as_ref().map_or(Ok(()), RelayOptions::check).map_err(Failure::usage)?;
        let identity = settled.file.identity.options().map_err(Failure::usage)?;
        let listen = serving.listen(&settled.file);
        let listener = TcpListener::bind(listen).await.map_err(|e| Failure {
            code: 4,
            message: format!("{listen} cannot be listened on ({e}): choose another address with --listen"),
        })?;

        let Base { database, cluster, .. } = Base::open(settled, true).await?;
        match Self::assemble(settled, serving, more, identity, listener, database, cluster.is_some()).await {
            Ok(mut server) => {
                server.cluster = cluster.map(|cluster| tokio::spawn(tend(cluster, server.stop.subscribe())));
                Ok(server)
            }
            Err(error) => {
                if let Some(cluster) = cluster {
                    // The first error tells more.
                    let _ = cluster.stop().await;
                }
                Err(error)
            }
        }
    }

    /// Everything on top of a database; `private`: nobody else can be using it.
    #[allow(clippy::too_many_arguments)]
    async fn assemble(
        settled: &Settled,
        serving: &Serving,
        more: &[Token],
        identity: IdentityOptions,
        listener: TcpListener,
        database: Database,
        private: bool,
    ) -> Result<Self, Failure> {
        let system: SharedSystem = Arc::new(Real);
        let nats = serving.nats(&settled.file);
        let listen = listener.local_addr().map_err(|e| Failure::failed(&e))?;
        let migrated = schema::migrate(&database, &Real).await.map_err(|e| Failure::schema(&e))?;
        let signer_name = format!("daybook/{}", migrated.identity.journal_id);
        let files = KeyFiles::open(&settled.keys_dir(), migrated.empty, &signer_name, &Real)
            .map_err(|e| Failure::failed(&e))?;
        let files = Arc::new(files);
        let keys = Arc::new(KeyStore::new(database.pool(Role::Writer, 4, BY_KEY), files.clone(), system.clone()));
        keys.apply_erasure_list().await.map_err(|e| Failure::failed(&e))?;
        let sealer = Sealer::new(keys, system.clone());

        // Alone on a private cluster, this node may take up its predecessor's lease at once: the lock on the
        // data directory says that nobody else can be using it. On a shared database it waits its turn.
        let node = if private { node_id(&settled.data_dir, system.as_ref())? } else { system.uuid_v7() };
        let mut options = JournalOptions::new(node);
        options.writer = writer_config()?;
        let metrics = Metrics::new(system.utc().timestamp());
        options.meter = Arc::new(metrics.clone());
        let node_key = files.derive(&node::key_purpose(&migrated.identity));
        if private {
            // For verbs of this machine that have something to write while this node does.
            options.address = Some(on_this_machine(listen));
        } else {
            options.address = advertised(serving.advertise(&settled.file), listen)?;
            options.forward = Some(Arc::new(Link::new(node_key, system.clone()).map_err(|e| Failure::failed(&e))?));
        }
        let (journal, writer) = Journal::start(&database, system.clone(), options);
        let ringing = bell::ring(database.clone(), journal.durable(), journal.standing());
        let (recent, reading) = Recent::start(database.clone(), journal.durable());
        let parts = projections::Parts {
            database: database.clone(),
            source: Source::Recent(recent.clone()),
            sealer: sealer.clone(),
            system: system.clone(),
            options: projections::engine::Options::default(),
        };
        let (projections, projecting) = if private {
            Projections::start(parts, &read_models())
        } else {
            Projections::start_beside(parts, &read_models(), journal.standing())
        };
        let (stop, stopping) = watch::channel(false);
        let store = CheckpointStore::new(&settled.checkpoints_dir(), migrated.identity.journal_id);
        let sessions = database.pool(Role::Projector, 1, "");
        let kept_store = store.clone();
        let checkpointer = Checkpointer::new(store, files.signer(), sessions, CheckpointerOptions::default())
            .map_err(|e| Failure::failed(&e))?;
        let (drained, until_drained) = oneshot::channel::<()>();
        let checkpointing = tokio::spawn(checkpointer.run(journal.durable(), CHECKPOINT_INTERVAL, async move {
            // Dropped or told: the writer has drained, and the last checkpoint can be signed.
            let _ = until_drained.await;
        }));
        // Its task ends with the last executor; what it has not written by then is written another time.
        let (snapshots, _) = Snapshots::start(
            SnapshotTable::new(database.pool(Role::Writer, 1, BY_KEY)),
            journal.clone(),
            sealer.clone(),
            system.clone(),
            SNAPSHOT_EVERY,
        );
        let heard = Arc::new(Heard::default());
        let executor = Executor::new(journal.clone(), sealer.clone(), files.clone(), system.clone())
            .with_snapshots(snapshots)
            .heard_by(heard.clone());
        let hearing = heard::follow(heard.clone(), recent.clone());
        let (access, accessing) = AccessLog::start(
            &database,
            system.clone(),
            files.derive("daybook access log v1"),
            AccessOptions::default(),
        );
        let identity = Identity::new(IdentityParts {
            executor: executor.clone(),
            heard,
            secrets: Secrets::new(database.pool(Role::Writer, 4, BY_KEY)),
            access: access.clone(),
            journal: migrated.identity,
            options: identity,
        })
        .map_err(|e| Failure::usage(e.to_string()))?;
        let identifying = identity.keep(stopping.clone());
        let operator = Operator {
            pool: database.pool(Role::Projector, 1, ""),
            executor: executor.clone(),
            projections: projections.clone(),
            system: system.clone(),
        };
        let operating = tokio::spawn(operator.serve());
        let rules = Rules::new(executor.clone(), system.clone());
        // Ends with the program: until then, what anybody may do must be up to date.
        drop(rules.follow(recent.clone()));
        let parts = Arc::new(Parts {
            rules,
            ingest: Ingest::new(executor.clone()),
            executor,
            identity: identity.clone(),
            reads: Reads::new(&database, &projections),
            opaque: Opaque::new(files.derive("daybook positions and cursors v1"), migrated.identity),
            audit: AuditParts { sealer, access: access.clone() },
            recent: recent.clone(),
            tails: Default::default(),
            introspection: serving.introspection(&settled.file),
            system: system.clone(),
        });
        let relaying = match nats {
            Some(options) => {
                let opaque = parts.opaque.clone();
                let positions: Positions = Arc::new(move |tenant, position| opaque.position(tenant, position));
                let standing = journal.standing();
                let (database, system, recent) = (database.clone(), system.clone(), recent.clone());
                Some(Relay::start(relay::Parts { database, standing, recent, positions, system, options }))
            }
            None => None,
        };
        let fixed = tokens(settled, more, system.as_ref())?;
        let tokens = Arc::new(Watched::new(Tokens { fixed, identity: identity.clone() }, access.clone()));
        let ids = system.clone();
        let sockets = transport::Sockets::new(10_000).per_caller(5_000).strangers(serving.strangers(&settled.file));
        let origins = origins(&serving.origins(&settled.file));
        let rates = transport::Rates::new(serving.rates(&settled.file));
        let settings = transport::Settings {
            limits: transport::Limits::default(),
            origins: origins.clone(),
            ids: Arc::new(move || ids.uuid_v7()),
            sockets: sockets.clone(),
            shutdown: stopping.clone(),
            metrics: metrics.clone(),
            rates: rates.clone(),
            open: &["login", "refresh", "logout"],
        };
        let schema = graphql::schema(parts.clone());
        let auth = auth::Auth {
            schema: schema.clone(),
            authenticate: tokens.clone(),
            identity,
            origins: origins.clone(),
            system: system.clone(),
        };
        let router = transport::router(schema, tokens.clone(), settings)
            .merge(auth::router(auth))
            .merge(origins.welcome(ingest::router(parts, tokens.clone(), ingest::Limits::default(), rates.clone())))
            .merge(health::router(
                Health {
                    standing: journal.standing(),
                    elsewhere: journal.elsewhere(),
                    projections: projections.clone(),
                    optional: relaying.iter().map(|(relay, _)| away(relay)).collect(),
                },
                tokens,
            ))
            .merge(metrics::router(
                metrics.clone(),
                metrics::Sources {
                    standing: journal.standing(),
                    durable: journal.durable(),
                    projections: projections.clone(),
                    sockets: sockets.clone(),
                },
            ));
        let router = router.merge(node::router(journal.clone(), node_key, system.clone()));
        if let Some((relay, _)) = &relaying {
            measure(&metrics, relay);
        }
        let denied = access.clone();
        // A gauge is as exact as its reader's numbers.
        #[allow(clippy::cast_precision_loss)]
        metrics.gauge("access_log_lost", "Denied attempts that are in no row and will be in none", move || {
            denied.lost() as f64
        });
        let counting = tokio::spawn(metrics.clone().follow(journal.durable()));
        let router = watch_origins(router, origins, access.clone());
        let ids = system.clone();
        // Outermost, around whatever was merged above.
        let router = transport::surround(
            router,
            transport::Edge {
                ids: Arc::new(move || ids.uuid_v7()),
                trusted_proxies: serving.trusted_proxies(&settled.file).into(),
                metrics,
                rates,
            },
        );

        let mut until = stopping.clone();
        let http = transport::serve(listener, router, transport::Patience::default(), async move {
            // An error means that the sender is gone, which is an end as well.
            let _ = until.wait_for(|stop| *stop).await;
        });
        let http = tokio::spawn(http);
        Ok(Server {
            listen,
            database,
            journal,
            projections,
            files,
            checkpoints: kept_store,
            stop,
            sockets,
            http,
            writer,
            drained,
            checkpointing,
            relaying,
            ringing,
            reading,
            recent,
            counting,
            access,
            accessing,
            hearing,
            identifying,
            operating,
            projecting,
            cluster: None,
        })
    }

    /// Finishes open requests, drains the writer, signs the last checkpoint, stops the database.
    ///
    /// # Errors
    /// When the database does not stop; what was acknowledged is safe all the same.
    pub async fn stop(self) -> Result<(), Failure> {
        tracing::info!("stopping: open requests are finished, the writer is drained");
        let Server {
            journal,
            projections,
            stop,
            sockets,
            http,
            writer,
            drained,
            checkpointing,
            relaying,
            ringing,
            reading,
            counting,
            access,
            accessing,
            hearing,
            identifying,
            operating,
            projecting,
            cluster,
            ..
        } = self;
        stop.send_replace(true);
        // What it has begun is begun again by the next start.
        operating.abort();
        // Where another node can take over, it does so before the slowest request here has ended, which is then
        // finished there.
        let first = if journal.elsewhere().is_some() { HAND_OVER } else { DRAIN };
        let _ = tokio::time::timeout(first, sockets.closed()).await;
        let mut http = http;
        if tokio::time::timeout(first, &mut http).await.is_err() {
            journal.shutdown().await;
            if tokio::time::timeout(DRAIN - first, http).await.is_err() {
                tracing::warn!("some requests did not end within {DRAIN:?}");
            }
        }
        journal.shutdown().await;
        if tokio::time::timeout(DRAIN, writer).await.is_err() {
            tracing::warn!("the writer did not drain within {DRAIN:?}; what it acknowledged is safe");
        }
        drop(drained);
        if tokio::time::timeout(DRAIN, checkpointing).await.is_err() {
            tracing::warn!("the last checkpoint was not signed in time; the next start signs it");
        }
        if let Some((relay, relaying)) = relaying {
            relay.shutdown();
            // What is not acknowledged by then, the next start publishes.
            let _ = tokio::time::timeout(DRAIN, relaying).await;
        }
        // Told by `stop`.
        let _ = tokio::time::timeout(DRAIN, identifying).await;
        hearing.abort();
        access.shutdown();
        if tokio::time::timeout(DRAIN, accessing).await.is_err() {
            tracing::warn!("the last denied attempts were not written in time");
        }
        ringing.abort();
        counting.abort();
        projections.shutdown();
        // A task that was aborted or panicked has ended as well: its transactions are whole or not at all.
        let _ = projecting.await;
        reading.abort();
        if let Some(cluster) = cluster {
            match cluster.await {
                Ok(Some(cluster)) => cluster.stop().await.map_err(|e| Failure::failed(&e))?,
                Ok(None) => {}
                Err(error) => return Err(Failure::failed(&error)),
            }
        }
        Ok(())
    }
}

/// Where a program of this machine reaches this node.
fn on_this_machine(listen: SocketAddr) -> String {
    let ip = match listen.ip() {
        ip if !ip.is_unspecified() => ip,
        std::net::IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
        std::net::IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
    };
    format!("http://{}", SocketAddr::new(ip, listen.port()))
}

/// Where other nodes are told to reach this one.
fn advertised(told: Option<String>, listen: SocketAddr) -> Result<Option<String>, Failure> {
    match told {
        Some(url) if url.strip_prefix("http://").is_some_and(|rest| !rest.is_empty()) => Ok(Some(url)),
        Some(url) => Err(Failure::usage(format!(
            "--advertise {url}: an address as http://10.0.0.7:4000 is wanted, on a network that is yours alone"
        ))),
        None if listen.ip().is_unspecified() => {
            tracing::warn!("other nodes cannot reach this one: give its address with --advertise");
            Ok(None)
        }
        None => {
            if listen.ip().is_loopback() {
                tracing::info!(
                    "other nodes reach this one on this machine only: elsewhere, give its address with --advertise"
                );
            }
            Ok(Some(format!("http://{listen}")))
        }
    }
}

/// Whether events leave for NATS, for health.
fn away(relay: &Relay) -> health::Optional {
    let relay = relay.clone();
    ("nats", Arc::new(move || relay.status().trouble().is_some()))
}

/// What the relay tells of itself, among the metrics.
fn measure(metrics: &Metrics, relay: &Relay) {
    type Read = fn(&RelayStatus) -> u64;
    let gauges: [(&str, &str, Read); 4] = [
        ("nats_connected", "1 while events leave for NATS, else 0", |status| u64::from(status.is_connected())),
        ("nats_published", "Messages that NATS has acknowledged since the start", |status| status.published),
        ("nats_failures", "Sessions with NATS that ended with an error since the start", |status| status.failures),
        ("nats_lag_positions", "Durable events that NATS has not acknowledged", |status| status.lag),
    ];
    for (name, help, read) in gauges {
        let relay = relay.clone();
        // A gauge is as exact as its reader's numbers.
        #[allow(clippy::cast_precision_loss)]
        metrics.gauge(name, help, move || read(&relay.status()) as f64);
    }
}

/// Starts the private server again whenever it dies, until Daybook itself stops.
async fn tend(mut cluster: Cluster, mut stopping: watch::Receiver<bool>) -> Option<Cluster> {
    loop {
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return Some(cluster),
            how = cluster.exited() => tracing::error!(how, "the database server died; it is started again"),
        }
        while let Err(error) = cluster.recover().await {
            let error: KeeperError = error;
            tracing::error!(
                error = crate::exit::chain(&error),
                "the database server does not start; another try follows"
            );
            tokio::select! {
                _ = stopping.wait_for(|stop| *stop) => return None,
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
        }
    }
}

/// Until somebody wants the program to end.
pub async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        let _ = tokio::signal::ctrl_c().await;
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

fn origins(allowed: &[String]) -> OriginPolicy {
    if allowed.is_empty() { OriginPolicy::SameHost } else { OriginPolicy::SameHostAnd(allowed.to_vec()) }
}

fn tokens(settled: &Settled, more: &[Token], system: &dyn System) -> Result<StaticTokens, Failure> {
    let configured = if settled.file.tokens.is_empty() {
        vec![administrator(&settled.data_dir.join("admin.token"), system)?]
    } else {
        settled.file.tokens.clone()
    };
    let mut tokens = StaticTokens::default();
    for token in configured.iter().chain(more) {
        let credential = token.credential().map_err(Failure::usage)?;
        tokens.insert(&token.token, credential);
    }
    Ok(tokens)
}

/// The first start's way in: a platform administrator whose token only this user can read.
fn administrator(path: &Path, system: &dyn System) -> Result<Token, Failure> {
    let failed = |e: std::io::Error| Failure { code: 1, message: format!("{} cannot be used: {e}", path.display()) };
    if !path.exists() {
        let mut secret = [0u8; 24];
        system.random(&mut secret);
        let text: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
        writeln!(file, "{text}").map_err(failed)?;
        println!("A platform administrator's token was made: {}", path.display());
    }
    let token = fs::read_to_string(path).map_err(failed)?.trim().to_owned();
    let actor = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, b"daybook:admin.token");
    Ok(Token { token, actor, kind: ActorKind::Account, tenant: None, roles: vec!["platformAdmin".into()] })
}

/// The name of the node that keeps this data directory.
fn node_id(data_dir: &Path, system: &dyn System) -> Result<uuid::Uuid, Failure> {
    let path = data_dir.join("node.id");
    let failed = |e: std::io::Error| Failure { code: 1, message: format!("{} cannot be used: {e}", path.display()) };
    if let Ok(text) = fs::read_to_string(&path)
        && let Ok(id) = text.trim().parse()
    {
        return Ok(id);
    }
    // Damaged or absent: a new name costs no more than the rest of the old lease.
    let id = system.uuid_v7();
    fs::write(&path, format!("{id}\n")).map_err(failed)?;
    Ok(id)
}

#[cfg(not(feature = "plants"))]
fn writer_config() -> Result<WriterConfig, Failure> {
    Ok(WriterConfig::default())
}

/// A fault on purpose, for `script/proof`.
#[cfg(feature = "plants")]
fn writer_config() -> Result<WriterConfig, Failure> {
    use daybook_store::journal::machine::Plant;
    let plant = match std::env::var("DAYBOOK_PLANT").as_deref() {
        Ok("answer-before-flush") => Some(Plant::AnswerBeforeFlush),
        Ok(other) => return Err(Failure::usage(format!("there is no plant {other:?}"))),
        Err(_) => None,
    };
    Ok(WriterConfig { plant, ..WriterConfig::default() })
}
