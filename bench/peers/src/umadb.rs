//! UmaDB 0.7.8: its server in a process of its own with its defaults, spoken to by its gRPC client, a connection for
//! each writer. It keeps its data in a file of its own, which it flushes before it answers; no fixed latency can be set.

use crate::failed;
use daybook_bench::error::BenchError;
use daybook_bench::load::{Cpu, Figures, Operation, Pace, RAW_BYTES, STREAMS, drive, text};
use daybook_bench::rig::watched;
use daybook_bench::server::used_us;
use daybook_store::system::{Real, System};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use umadb_client::{AsyncUmaDbClient, UmaDbClient};
use umadb_dcb::{DcbAppendCondition, DcbEvent, DcbEventStoreAsync, DcbQuery, DcbQueryItem};
use umadb_server::{ServerOptions, StorageOptions, start_server_with_options};

pub const NAME: &str = "UmaDB";
/// How long its server may take to listen.
const READY: Duration = Duration::from_secs(20);

/// The arguments of [`serve`].
#[derive(clap::Args, Debug)]
pub struct ServerArguments {
    #[arg(long)]
    listen: String,
    #[arg(long)]
    file: PathBuf,
}

/// Serves until whoever started it closes its standard input, or is gone.
///
/// # Errors
/// When it cannot listen there, or not write there.
pub async fn serve(arguments: ServerArguments) -> Result<(), BenchError> {
    let (end, ended) = oneshot::channel();
    std::thread::spawn(move || {
        // Nothing is ever sent: this returns at the end, and an error is one as well.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        end.send(())
    });
    let storage = StorageOptions::default().db_path(arguments.file);
    let options = ServerOptions { listen_addr: arguments.listen, tls: None, api_key: None, storage };
    start_server_with_options(options, ended).await.map_err(|error| failed(NAME)(error.to_string()))
}

/// Its server, with a file of its own. It ends with the value, and its data with it.
pub struct Server {
    child: Child,
    url: String,
    _directory: tempfile::TempDir,
}

impl Server {
    /// In a directory on the disk to be measured.
    ///
    /// # Errors
    /// When it does not come to listen.
    pub async fn start(parent: &Path) -> Result<Self, BenchError> {
        let nowhere = |source| BenchError::Probe { path: parent.to_owned(), source };
        let directory = tempfile::Builder::new().prefix("daybook-umadb-").tempdir_in(parent).map_err(nowhere)?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(failed(NAME))?;
        let address = listener.local_addr().map_err(failed(NAME))?;
        drop(listener);
        let mut command = Command::new(std::env::current_exe().map_err(failed(NAME))?);
        command.args(["umadb-server", "--listen", &address.to_string(), "--file"]).arg(directory.path().join("uma.db"));
        // What it says of itself at its start is of no interest.
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().map_err(failed(NAME))?;
        let server = Server { child, url: format!("http://{address}"), _directory: directory };
        let deadline = Instant::now() + READY;
        loop {
            match server.connect().await {
                Ok(_) => return Ok(server),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    async fn connect(&self) -> Result<AsyncUmaDbClient, BenchError> {
        UmaDbClient::new(self.url.clone()).connect_async().await.map_err(failed(NAME))
    }

    fn cpu(&self) -> Cpu {
        Cpu { client_us: used_us("self"), server_us: used_us(&self.child.id().to_string()) }
    }

    /// One measurement of appends of one event. `guarded`: each only if nobody has written to its stream meanwhile.
    ///
    /// # Errors
    /// When anything fails.
    pub async fn measure(
        &self,
        guarded: bool,
        writers: usize,
        pace: impl FnOnce() -> Pace,
    ) -> Result<Figures, BenchError> {
        let mut clients = Vec::with_capacity(writers);
        for _ in 0..writers {
            clients.push(Arc::new(self.connect().await?));
        }
        let texts = Arc::new((text(RAW_BYTES).into_bytes(), text(RAW_BYTES - "note".len())));
        let pace = pace();
        let make =
            |n: usize| Writer { client: clients[n].clone(), guarded, texts: texts.clone(), streams: vec![], at: n };
        watched(pace, drive(pace, make), async || Ok(self.cpu())).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Failures of either: it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Writer {
    client: Arc<AsyncUmaDbClient>,
    guarded: bool,
    texts: Arc<(Vec<u8>, String)>,
    /// The tag of each stream and the position of its last event.
    streams: Vec<(String, Option<u64>)>,
    at: usize,
}

impl Operation for Writer {
    async fn once(&mut self, cold: bool) -> Result<(), BenchError> {
        self.at += 1;
        let slot = self.at % STREAMS;
        if cold || self.streams.is_empty() {
            let new = (Real.uuid_v4().to_string(), None);
            match self.streams.get_mut(slot) {
                Some(place) => *place = new,
                None => self.streams.push(new),
            }
        }
        let place = slot % self.streams.len();
        let (tag, last) = &mut self.streams[place];
        let event = DcbEvent::default()
            .event_type("bench.thing.happened")
            .tags([tag.as_str()])
            .data(self.texts.0.clone())
            .uuid(Real.uuid_v7())
            .metadata_entry("note", self.texts.1.clone());
        let condition = self.guarded.then(|| {
            let stream = DcbQuery::new().item(DcbQueryItem::new().tags([tag.as_str()]));
            DcbAppendCondition::new(stream).after(*last)
        });
        *last = Some(self.client.append(vec![event], condition, None).await.map_err(failed(NAME))?);
        Ok(())
    }
}
