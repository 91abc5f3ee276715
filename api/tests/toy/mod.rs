//! A small schema that exercises the transport, and a server for it on a port of its own.
#![allow(dead_code, unreachable_pub, reason = "shared by test binaries, each of which uses a part")]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use async_graphql::{
    Context, Enum, Error, ErrorExtensions, InputObject, MaybeUndefined, Object, Result, Schema, SimpleObject,
    Subscription,
};
use daybook_api::metrics::Metrics;
use daybook_api::transport::{
    self, AtLeast, Authenticate, CorrelationId, Limits, NotAuthenticated, OriginPolicy, POSITION_HEADER, Patience,
    RateLimits, Rates, Settings, Sockets, SpecNulls, router,
};
use futures_util::{Stream, StreamExt, stream};
use tokio::{net::TcpListener, sync::watch};
use uuid::Uuid;

pub const TOKEN: &str = "toy-token";

#[derive(Clone)]
pub struct Caller(pub &'static str);

struct Tokens(Shared);

impl Authenticate for Tokens {
    type Credential = Caller;

    async fn authenticate(&self, bearer: &str) -> Result<Caller, NotAuthenticated> {
        let is_good = bearer == TOKEN && !self.0.revoked.load(SeqCst);
        if is_good { Ok(Caller("toy")) } else { Err(NotAuthenticated::Unknown) }
    }

    fn namespace(_: &Caller) -> Uuid {
        Uuid::nil()
    }
}

/// What tests look at from outside.
#[derive(Default)]
pub struct State {
    pub live_streams: AtomicUsize,
    pub yielded: AtomicUsize,
    pub bumps: AtomicU64,
    /// The token is no longer good.
    pub revoked: AtomicBool,
}

type Shared = Arc<State>;

#[derive(Enum, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    Absent,
    Null,
    Present,
}

#[derive(InputObject)]
struct Input {
    x: MaybeUndefined<i32>,
}

#[derive(SimpleObject)]
struct Item {
    id: i32,
}

#[derive(SimpleObject)]
struct Step {
    position: String,
    n: i32,
}

/// Fails in fields that may and may not be null.
struct Row(i32);

#[Object]
impl Row {
    async fn id(&self) -> i32 {
        self.0
    }

    /// Fails when the id is odd.
    async fn strict(&self) -> Result<i32> {
        if self.0 % 2 == 0 { Ok(self.0) } else { Err(Error::new("odd")) }
    }

    /// Fails when the id is odd.
    async fn lenient(&self) -> Result<Option<i32>> {
        if self.0 % 2 == 0 { Ok(Some(self.0)) } else { Err(Error::new("odd")) }
    }

    async fn parent(&self) -> Row {
        Row(self.0)
    }
}

pub struct Query;

fn presence(x: &MaybeUndefined<i32>) -> Presence {
    match x {
        MaybeUndefined::Undefined => Presence::Absent,
        MaybeUndefined::Null => Presence::Null,
        MaybeUndefined::Value(_) => Presence::Present,
    }
}

#[Object]
impl Query {
    async fn caller(&self, ctx: &Context<'_>) -> Result<&'static str> {
        Ok(ctx.data::<Caller>()?.0)
    }

    async fn correlation(&self, ctx: &Context<'_>) -> Result<String> {
        Ok(ctx.data::<CorrelationId>()?.as_str().to_owned())
    }

    async fn at_least(&self, ctx: &Context<'_>) -> Option<String> {
        ctx.data_opt::<AtLeast>().map(|at_least| at_least.0.clone())
    }

    async fn presence(&self, x: MaybeUndefined<i32>) -> Presence {
        presence(&x)
    }

    async fn nested(&self, input: Input) -> Presence {
        presence(&input.x)
    }

    async fn with_default(&self, #[graphql(default = 7)] n: i32) -> i32 {
        n
    }

    async fn short(&self, #[graphql(validator(max_length = 3))] text: String) -> String {
        text
    }

    async fn id(&self, id: Uuid) -> Uuid {
        id
    }

    async fn items(&self, #[graphql(default = 50)] first: i32) -> Vec<Item> {
        (0..first).map(|id| Item { id }).collect()
    }

    async fn row(&self, id: i32) -> Row {
        Row(id)
    }

    async fn maybe_row(&self, id: i32) -> Option<Row> {
        Some(Row(id))
    }

    async fn rows(&self) -> Option<Vec<Row>> {
        Some((0..3).map(Row).collect())
    }

    async fn maybe_rows(&self) -> Vec<Option<Row>> {
        (0..3).map(Row).map(Some).collect()
    }

    async fn grid(&self) -> Vec<Option<Vec<Row>>> {
        vec![Some(vec![Row(0), Row(2)]), Some(vec![Row(1), Row(3)]), Some(vec![Row(4)])]
    }

    async fn strict_rows(&self) -> Vec<Row> {
        (0..3).map(Row).collect()
    }

    async fn uncoded(&self) -> Result<Option<i32>> {
        Err(Error::new("password=hunter2"))
    }

    async fn broken(&self) -> Result<Option<i32>> {
        Err("Variable password=hunter2".parse::<i32>().map_err(|_| std::io::Error::other("Variable hunter2"))?.into())
    }

    async fn coded(&self, code: String) -> Result<Option<i32>> {
        Err(Error::new("the message of hunter2").extend_with(|_, extensions| extensions.set("code", code)))
    }

    async fn boom(&self, #[graphql(default = 0)] n: i32) -> i32 {
        assert_ne!(n, 0, "hunter2");
        n
    }
}

pub struct Mutation;

#[Object]
impl Mutation {
    async fn bump(&self, ctx: &Context<'_>) -> Result<u64> {
        let bumps = ctx.data::<Shared>()?.bumps.fetch_add(1, SeqCst) + 1;
        ctx.insert_http_header(POSITION_HEADER, format!("p{bumps}"));
        Ok(bumps)
    }
}

pub struct Subscriptions;

struct Live(Shared);

impl Drop for Live {
    fn drop(&mut self) {
        self.0.live_streams.fetch_sub(1, SeqCst);
    }
}

fn live<'a, T: Send + 'a>(
    ctx: &Context<'_>,
    items: impl Stream<Item = T> + Send + 'a,
) -> Result<impl Stream<Item = T> + Send + 'a> {
    let state = ctx.data::<Shared>()?.clone();
    state.live_streams.fetch_add(1, SeqCst);
    let live = Live(state);
    Ok(items.map(move |item| {
        live.0.yielded.fetch_add(1, SeqCst);
        item
    }))
}

#[Subscription]
impl Subscriptions {
    async fn count(&self, ctx: &Context<'_>, #[graphql(default = 3)] to: i32) -> Result<impl Stream<Item = i32>> {
        live(ctx, stream::iter(1..=to))
    }

    async fn ticks(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 10)] every_ms: u64,
    ) -> Result<impl Stream<Item = i32>> {
        let every = Duration::from_millis(every_ms);
        live(
            ctx,
            stream::unfold(0, move |n| async move {
                tokio::time::sleep(every).await;
                Some((n, n + 1))
            }),
        )
    }

    async fn silence(&self, ctx: &Context<'_>) -> Result<impl Stream<Item = i32>> {
        live(ctx, stream::pending())
    }

    async fn flood(&self, ctx: &Context<'_>) -> Result<impl Stream<Item = String>> {
        live(ctx, stream::repeat_with(|| "x".repeat(64 * 1024)))
    }

    async fn expiring(&self, ctx: &Context<'_>) -> Result<impl Stream<Item = Result<i32>>> {
        let expired = || Error::new("Start again").extend_with(|_, e| e.set("code", "CURSOR_EXPIRED"));
        live(ctx, stream::iter([Ok(1), Err(expired()), Ok(2)]))
    }

    async fn boom(&self, ctx: &Context<'_>) -> Result<impl Stream<Item = i32>> {
        live(ctx, stream::iter([1, 0]).map(|n| 1 / n))
    }

    /// The steps `p1`, `p2` and `p3`, or those after one of them.
    async fn steps(&self, ctx: &Context<'_>, after: Option<String>) -> Result<impl Stream<Item = Step>> {
        let from = after.and_then(|after| after.strip_prefix('p')?.parse().ok()).unwrap_or(0) + 1;
        live(ctx, stream::iter(from..=3).map(|n| Step { position: format!("p{n}"), n }))
    }
}

/// A running server; it ends with the test's runtime.
pub struct Server {
    pub address: SocketAddr,
    pub state: Shared,
    pub stop: watch::Sender<bool>,
    pub sockets: Sockets,
}

impl Server {
    pub fn url(&self) -> String {
        format!("http://{}/graphql", self.address)
    }
}

pub struct Setup {
    pub address: SocketAddr,
    pub limits: Limits,
    pub origins: OriginPolicy,
    pub sockets: Sockets,
    pub rates: RateLimits,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            address: ([127, 0, 0, 1], 0).into(),
            limits: Limits::default(),
            origins: OriginPolicy::SameHost,
            sockets: Sockets::default(),
            rates: RateLimits::NONE,
        }
    }
}

pub async fn serve(setup: Setup) -> std::io::Result<Server> {
    let listener = TcpListener::bind(setup.address).await?;
    let address = listener.local_addr()?;
    let state = Shared::default();
    let schema = Schema::build(Query, Mutation, Subscriptions).extension(SpecNulls).data(state.clone()).finish();
    let (stop, shutdown) = watch::channel(false);
    let ids = AtomicU64::new(0);
    let patience = Patience { stalled_max: setup.limits.socket.send_timeout * 2, ..Patience::default() };
    let settings = Settings {
        limits: setup.limits,
        origins: setup.origins,
        ids: Arc::new(move || Uuid::from_u128(ids.fetch_add(1, SeqCst).into())),
        sockets: setup.sockets.clone(),
        shutdown,
        metrics: Metrics::new(0),
        rates: Rates::new(setup.rates),
        open: &[],
    };
    let app = router(schema, Tokens(state.clone()), settings);
    tokio::spawn(transport::serve(listener, app, patience, std::future::pending()));
    Ok(Server { address, state, stop, sockets: setup.sockets })
}
