//! `/metrics`: counters, gauges and histograms in the OpenMetrics text form that Prometheus reads.
//!
//! No label names a tenant, a person or anything a client chose, so the number of series is bounded. What is a gauge
//! is read when somebody asks; the paths of requests only add to counters.

use crate::transport::{Sockets, method_word};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Router, routing::get};
use daybook_projections::Projections;
use daybook_projections::engine::LaneStatus;
use daybook_store::journal::{Durable, Meter, Standing};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text};
use prometheus_client::metrics::{
    counter::Counter, family::Family, gauge::ConstGauge, gauge::Gauge, histogram::Histogram,
};
use prometheus_client::registry::{Registry, Unit};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Seconds: from a warm read to a request that is about to be given up.
const SECONDS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Events in one batch or one flush.
const EVENTS: [f64; 11] = [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 5_000.0];

/// Where counters live. Cloning is cheap.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Registry,
    answers: Family<AnswerLabels, Counter>,
    answer_seconds: Family<RouteLabels, Histogram>,
    operations: Family<OperationLabels, Counter>,
    operation_seconds: Family<KindLabels, Histogram>,
    running: Family<KindLabels, Gauge>,
    lag: Family<ModelLabels, Gauge>,
    lanes_stopped: Family<ModelLabels, Gauge>,
    streams_parked: Family<ModelLabels, Gauge>,
    events_durable: Counter,
    batches: Counter,
    batch_events: Histogram,
    commit_seconds: Histogram,
    flush_events: Histogram,
    flush_seconds: Histogram,
    requests_waiting: Gauge,
    requests: Family<RequestLabels, Counter>,
    others: Others,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct AnswerLabels {
    method: &'static str,
    route: String,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RouteLabels {
    route: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OperationLabels {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    answer: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ModelLabels {
    read_model: &'static str,
}

/// What gauges are read from when somebody asks.
#[derive(Clone)]
pub struct Sources {
    pub standing: watch::Receiver<Standing>,
    pub durable: watch::Receiver<Durable>,
    pub projections: Projections,
    pub sockets: Sockets,
}

impl Metrics {
    /// `started_at`: Unix time in seconds.
    pub fn new(started_at: i64) -> Self {
        let mut all = Registry::with_prefix("daybook");
        let seconds = || Histogram::new(SECONDS);
        let (answers, operations) = (Family::default(), Family::default());
        let answer_seconds = Family::new_with_constructor(seconds as fn() -> Histogram);
        let operation_seconds = Family::new_with_constructor(seconds as fn() -> Histogram);
        let (running, lag, lanes_stopped) = (Family::default(), Family::default(), Family::default());
        let streams_parked = Family::default();
        let (events_durable, batches) = (Counter::default(), Counter::default());
        let (batch_events, flush_events) = (Histogram::new(EVENTS), Histogram::new(EVENTS));
        let (commit_seconds, flush_seconds) = (seconds(), seconds());
        let (requests_waiting, requests) = (Gauge::default(), Family::default());
        let others = Others::default();
        all.register("http_answers", "HTTP requests answered", answers.clone());
        all.register_with_unit("http_answer", "Time to an HTTP answer", Unit::Seconds, answer_seconds.clone());
        all.register("graphql_operations", "GraphQL operations ended, by their first error's code", operations.clone());
        all.register_with_unit(
            "graphql_operation",
            "Time of a GraphQL operation, of a subscription from begin to end",
            Unit::Seconds,
            operation_seconds.clone(),
        );
        all.register("graphql_running", "GraphQL operations under way", running.clone());
        all.register("read_model_lag_positions", "Journal positions that the slowest lane is behind", lag.clone());
        all.register("read_model_lanes_stopped", "Lanes that do not get past an event", lanes_stopped.clone());
        all.register("read_model_streams_parked", "Streams left aside at an event", streams_parked.clone());
        all.register("journal_events_durable", "Events made durable by this node", events_durable.clone());
        all.register("journal_batches", "Batches made durable by this node", batches.clone());
        all.register("journal_batch_events", "Events of a batch that was committed", batch_events.clone());
        all.register_with_unit(
            "journal_commit",
            "Time of a batch's statement and commit, durable or not",
            Unit::Seconds,
            commit_seconds.clone(),
        );
        all.register_with_unit(
            "journal_flush",
            "Time until a flush made commits durable",
            Unit::Seconds,
            flush_seconds.clone(),
        );
        all.register("journal_requests_waiting", "Requests to the writer without an answer", requests_waiting.clone());
        all.register("journal_requests", "Requests to the writer, by its answer", requests.clone());
        all.register("journal_flush_events", "Events that became durable together", flush_events.clone());
        all.register_collector(Box::new(others.clone()));
        let start: Gauge = Gauge::default();
        start.set(started_at);
        all.register_with_unit("process_start_time", "Unix time of the start", Unit::Seconds, start);
        Metrics {
            inner: Arc::new(Inner {
                registry: all,
                answers,
                answer_seconds,
                operations,
                operation_seconds,
                running,
                lag,
                lanes_stopped,
                streams_parked,
                events_durable,
                batches,
                batch_events,
                commit_seconds,
                flush_events,
                flush_seconds,
                requests_waiting,
                requests,
                others,
            }),
        }
    }

    /// Adds a gauge of another part of the program, read when somebody asks. `name` gets the prefix `daybook_`.
    pub fn gauge(&self, name: &'static str, help: &'static str, read: impl Fn() -> f64 + Send + Sync + 'static) {
        let mut list = self.inner.others.0.lock().unwrap_or_else(PoisonError::into_inner);
        list.push(Other { name, help, read: Arc::new(read) });
    }

    /// Counts an HTTP answer. `route`: of the table of routes, never the path.
    pub(crate) fn answered(&self, method: &str, route: &str, status: u16, took: Duration) {
        let method = method_word(method);
        let route = route.to_owned();
        self.inner.answer_seconds.get_or_create(&RouteLabels { route: route.clone() }).observe(took.as_secs_f64());
        self.inner.answers.get_or_create(&AnswerLabels { method, route, status }).inc();
    }

    /// Counts a GraphQL operation from here until the guard is dropped.
    pub(crate) fn begin(&self, kind: &'static str) -> Running {
        self.inner.running.get_or_create(&KindLabels { kind }).inc();
        Running { metrics: self.clone(), kind, outcome: "CANCELLED", since: std::time::Instant::now() }
    }

    /// Counts what becomes durable, until the writer ends.
    pub async fn follow(self, mut durable: watch::Receiver<Durable>) {
        let mut before = *durable.borrow_and_update();
        while durable.changed().await.is_ok() {
            let now = *durable.borrow_and_update();
            // Another epoch begins to count where the journal stands, which was written before.
            if now.seen.epoch == before.seen.epoch && now.seen.batch > before.seen.batch {
                let batches = now.seen.batch - before.seen.batch;
                let events = now.position.saturating_sub(before.position);
                self.inner.batches.inc_by(batches);
                self.inner.events_durable.inc_by(events);
                self.inner.flush_events.observe(lossy(events));
            }
            before = now;
        }
    }

    /// The text of all of them.
    ///
    /// # Errors
    /// Never in practice: writing to a string does not fail.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::with_capacity(16 * 1024);
        text::encode(&mut text, &self.inner.registry)?;
        Ok(text)
    }

    fn read(&self, sources: &Sources) {
        for model in sources.projections.health().models {
            let labels = ModelLabels { read_model: model.read_model };
            let lag = model.lanes.iter().map(|lane| lane.lag).max().unwrap_or(0);
            let stopped = model.lanes.iter().filter(|lane| lane.status != LaneStatus::Running).count();
            self.inner.lag.get_or_create(&labels).set(i64::try_from(lag).unwrap_or(i64::MAX));
            self.inner.lanes_stopped.get_or_create(&labels).set(i64::try_from(stopped).unwrap_or(i64::MAX));
            let parked = i64::try_from(model.parked()).unwrap_or(i64::MAX);
            self.inner.streams_parked.get_or_create(&labels).set(parked);
        }
    }
}

impl Meter for Metrics {
    fn waiting(&self, requests: usize) {
        self.inner.requests_waiting.set(i64::try_from(requests).unwrap_or(i64::MAX));
    }

    fn committed(&self, events: u64, took: Duration) {
        self.inner.batch_events.observe(lossy(events));
        self.inner.commit_seconds.observe(took.as_secs_f64());
    }

    fn flushed(&self, took: Duration) {
        self.inner.flush_seconds.observe(took.as_secs_f64());
    }

    fn answered(&self, kind: &'static str) {
        self.inner.requests.get_or_create(&RequestLabels { answer: kind }).inc();
    }
}

/// An operation under way.
pub(crate) struct Running {
    metrics: Metrics,
    kind: &'static str,
    outcome: &'static str,
    since: std::time::Instant,
}

impl Running {
    pub(crate) fn kind(&self) -> &'static str {
        self.kind
    }

    pub(crate) fn outcome(&self) -> &'static str {
        self.outcome
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }

    /// Says how it ended; without it, dropping counts it as `CANCELLED`.
    pub(crate) fn ended(&mut self, outcome: &'static str) {
        self.outcome = outcome;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Running { metrics, kind, outcome, since } = self;
        let inner = &metrics.inner;
        inner.running.get_or_create(&KindLabels { kind }).dec();
        inner.operations.get_or_create(&OperationLabels { kind, outcome }).inc();
        inner.operation_seconds.get_or_create(&KindLabels { kind }).observe(since.elapsed().as_secs_f64());
    }
}

/// `GET /metrics`. Needs no token: it tells how much, never whose.
pub fn router(metrics: Metrics, sources: Sources) -> Router {
    let gauges = [
        ("journal_position_durable", "Last position that survives any crash", {
            let durable = sources.durable.clone();
            Arc::new(move || lossy(durable.borrow().position)) as Read
        }),
        ("journal_writer", "1 while this node writes, else 0", {
            let standing = sources.standing.clone();
            Arc::new(move || f64::from(u8::from(standing.borrow().leading.is_some())))
        }),
        ("journal_epoch", "Epoch in which this node writes or wrote last", {
            let durable = sources.durable.clone();
            Arc::new(move || lossy(durable.borrow().seen.epoch))
        }),
        ("sockets_open", "WebSockets and event streams open", {
            let sockets = sources.sockets.clone();
            Arc::new(move || lossy(u64::try_from(sockets.open()).unwrap_or(u64::MAX)))
        }),
        ("sockets_of_strangers", "WebSockets that have not said yet who they are", {
            let sockets = sources.sockets.clone();
            Arc::new(move || lossy(u64::try_from(sockets.open_of_strangers()).unwrap_or(u64::MAX)))
        }),
    ];
    for (name, help, read) in gauges {
        metrics.gauge(name, help, move || read());
    }
    Router::new().route("/metrics", get(async move || answer(&metrics, &sources)))
}

fn answer(metrics: &Metrics, sources: &Sources) -> Response {
    metrics.read(sources);
    match metrics.text() {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-store")], text).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "the metrics could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

type Read = Arc<dyn Fn() -> f64 + Send + Sync>;

struct Other {
    name: &'static str,
    help: &'static str,
    read: Read,
}

/// Gauges that are read when somebody asks.
#[derive(Clone, Default)]
struct Others(Arc<Mutex<Vec<Other>>>);

impl fmt::Debug for Others {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Others")
    }
}

impl Collector for Others {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for Other { name, help, read } in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let gauge = ConstGauge::new(read());
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

/// A number as metrics have them: exact up to 2⁵³, which is enough for a graph.
#[allow(clippy::cast_precision_loss)]
pub fn lossy(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use daybook_store::journal::Seen;

    #[test]
    fn operations_are_counted_when_they_end_however_they_end() {
        let metrics = Metrics::new(1_700_000_000);
        let mut done = metrics.begin("mutation");
        let dropped = metrics.begin("subscription");
        assert!(metrics.text().unwrap().contains("daybook_graphql_running{kind=\"mutation\"} 1"));
        done.ended("OK");
        drop((done, dropped));
        let text = metrics.text().unwrap();
        for line in [
            "daybook_graphql_operations_total{kind=\"mutation\",outcome=\"OK\"} 1",
            "daybook_graphql_operations_total{kind=\"subscription\",outcome=\"CANCELLED\"} 1",
            "daybook_graphql_running{kind=\"mutation\"} 0",
            "daybook_process_start_time_seconds 1700000000",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn a_method_that_nobody_knows_makes_no_series_of_its_own() {
        let metrics = Metrics::new(0);
        for method in ["BREW", "POUR"] {
            metrics.answered(method, "/graphql", 405, Duration::from_millis(1));
        }
        let text = metrics.text().unwrap();
        assert!(text.contains("method=\"OTHER\",route=\"/graphql\",status=\"405\"} 2"), "{text}");
    }

    #[tokio::test]
    async fn what_becomes_durable_is_counted_within_an_epoch() {
        let metrics = Metrics::new(0);
        let at = |epoch, batch, position| Durable { seen: Seen { epoch, batch }, position };
        let (durable, receiver) = watch::channel(at(1, 10, 1_000));
        let following = tokio::spawn(metrics.clone().follow(receiver));
        // On one thread: who yields is asked again when the follower waits for the next step.
        tokio::task::yield_now().await;
        for step in [at(1, 12, 1_100), at(2, 500, 9_000), at(2, 501, 9_003)] {
            durable.send_replace(step);
            tokio::task::yield_now().await;
        }
        drop(durable);
        following.await.unwrap();
        let text = metrics.text().unwrap();
        assert!(text.contains("daybook_journal_events_durable_total 103"), "{text}");
        assert!(text.contains("daybook_journal_batches_total 3"), "{text}");
        assert!(text.contains("daybook_journal_flush_events_bucket{le=\"100.0\"} 2"), "{text}");
    }
}
