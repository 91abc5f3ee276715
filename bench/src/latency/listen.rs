//! Those who listen: a subscription of every device on a socket of its own, and a consumer of NATS.

use super::LatencyError;
use super::program::Program;
use async_nats::jetstream::consumer::push::OrderedConfig;
use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use futures_util::stream::BoxStream;
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use uuid::Uuid;

const SUBSCRIPTION: &str =
    "subscription($t: UUID!, $d: UUID!, $a: Position!) { readings(tenant: $t, device: $d, after: $a) {
    position device readings { start energyWh } } }";
/// The stream that a relay makes, and the events in it that count.
const STREAM: &str = "DAYBOOK";
const READINGS_RECORDED: &str = "daybook.energy.readings.recorded.v1";
/// How long the stream may take to be there.
const STREAM_WAIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(10);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    Subscription,
    Nats,
}

impl Place {
    pub(super) fn name(self) -> &'static str {
        match self {
            Place::Subscription => "the subscription",
            Place::Nats => "the NATS consumer",
        }
    }
}

/// A reading, as it was told.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) at: Instant,
    pub(super) position: String,
    pub(super) device: Uuid,
    pub(super) start: DateTime<Utc>,
    pub(super) energy_wh: i64,
}

/// What one listener was told, in that order.
pub(super) struct Heard {
    pub(super) place: Place,
    pub(super) arrivals: Vec<Arrival>,
}

pub(super) struct Listeners {
    tasks: JoinSet<Result<Heard, LatencyError>>,
    subscribed: Arc<AtomicUsize>,
    published: Option<Arc<AtomicUsize>>,
    finish: watch::Sender<bool>,
}

impl Listeners {
    /// Of what is recorded after a position; also through NATS if there is an address.
    pub(super) async fn start(
        program: &Program,
        tenant: Uuid,
        devices: &[Uuid],
        after: &str,
        nats_url: Option<&str>,
    ) -> Result<Self, LatencyError> {
        let (finish, finished) = watch::channel(false);
        let subscribed = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        for device in devices {
            let socket = subscribe(program, tenant, *device, after).await?;
            tasks.spawn(hear(Place::Subscription, subscribed.clone(), finished.clone(), socket));
        }
        let published = match nats_url {
            None => None,
            Some(url) => {
                let messages = consume(url, tenant).await?;
                let count = Arc::new(AtomicUsize::new(0));
                tasks.spawn(hear(Place::Nats, count.clone(), finished.clone(), messages));
                Some(count)
            }
        };
        Ok(Listeners { tasks, subscribed, published, finish })
    }

    /// Waits until so many have arrived everywhere, or the deadline; what is missing then is found later.
    ///
    /// # Errors
    /// When a listener has ended.
    pub(super) async fn until_all(&mut self, count: usize, deadline: Instant) -> Result<(), LatencyError> {
        let is_there = |counter: &AtomicUsize| counter.load(Ordering::Relaxed) >= count;
        while Instant::now() < deadline {
            if is_there(&self.subscribed) && self.published.as_deref().is_none_or(is_there) {
                break;
            }
            if let Some(ended) = self.tasks.try_join_next() {
                return Err(LatencyError::Ended(ended??.place.name()));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    pub(super) async fn end(mut self) -> Result<Vec<Heard>, LatencyError> {
        self.finish.send_replace(true);
        let mut heard = Vec::new();
        while let Some(ended) = self.tasks.join_next().await {
            heard.push(ended??);
        }
        Ok(heard)
    }
}

/// The readings of one message after the other.
type Source = BoxStream<'static, Result<Vec<Arrival>, LatencyError>>;

/// Listens until told to finish, or until there is no more.
async fn hear(
    place: Place,
    count: Arc<AtomicUsize>,
    mut finished: watch::Receiver<bool>,
    mut source: Source,
) -> Result<Heard, LatencyError> {
    let mut arrivals = Vec::new();
    loop {
        tokio::select! {
            biased;
            told = source.next() => {
                let told = told.ok_or(LatencyError::Ended(place.name()))??;
                count.fetch_add(told.len(), Ordering::Relaxed);
                arrivals.extend(told);
            }
            // An error says that the sender is gone, which ends this as well.
            _ = finished.wait_for(|finished| *finished) => return Ok(Heard { place, arrivals }),
        }
    }
}

#[derive(Deserialize)]
struct SocketMessage {
    #[serde(rename = "type")]
    kind: String,
    payload: Option<SocketPayload>,
}

#[derive(Deserialize)]
struct SocketPayload {
    data: SocketData,
}

#[derive(Deserialize)]
struct SocketData {
    readings: Recorded,
}

#[derive(Deserialize)]
struct Recorded {
    position: String,
    device: Uuid,
    readings: Vec<Reading>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reading {
    start: DateTime<Utc>,
    energy_wh: String,
}

async fn subscribe(program: &Program, tenant: Uuid, device: Uuid, after: &str) -> Result<Source, LatencyError> {
    // After what is there already: the subscription may begin after the first mutation and miss nothing.
    let variables = json!({ "t": tenant, "d": device, "a": after });
    let socket = open(program, SUBSCRIPTION, &variables).await?;
    // Reading on also answers the server's pings.
    Ok(socket.map(|message| from_socket(&message?)).boxed())
}

pub(super) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A socket with one subscription, which has been asked for.
pub(super) async fn open(program: &Program, query: &str, variables: &Value) -> Result<Socket, LatencyError> {
    let mut request = program.url("ws", "/graphql").into_client_request()?;
    request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("graphql-transport-ws"));
    let (mut socket, _) = connect_async(request).await?;
    let init =
        json!({ "type": "connection_init", "payload": { "Authorization": format!("Bearer {}", program.token()?) } });
    socket.send(Message::text(init.to_string())).await?;
    let answer = socket.next().await.ok_or(LatencyError::Ended(Place::Subscription.name()))??;
    if !answer.to_text()?.contains("connection_ack") {
        return Err(LatencyError::Unexpected(answer.to_string()));
    }
    let message = json!({ "id": "1", "type": "subscribe", "payload": { "query": query, "variables": variables } });
    socket.send(Message::text(message.to_string())).await?;
    Ok(socket)
}

fn from_socket(message: &Message) -> Result<Vec<Arrival>, LatencyError> {
    let at = Instant::now();
    let Message::Text(text) = message else { return Ok(vec![]) };
    let unexpected = || LatencyError::Unexpected(text.to_string());
    match serde_json::from_str(text).map_err(|_| unexpected())? {
        SocketMessage { kind, payload: Some(payload) } if kind == "next" => {
            let Recorded { position, device, readings } = payload.data.readings;
            let arrivals = readings.into_iter().map(|reading| {
                let energy_wh = reading.energy_wh.parse().map_err(|_| unexpected())?;
                Ok(Arrival { at, position: position.clone(), device, start: reading.start, energy_wh })
            });
            arrivals.collect()
        }
        _ => Err(unexpected()),
    }
}

#[derive(Deserialize)]
struct CloudEvent {
    #[serde(rename = "type")]
    kind: String,
    position: String,
    data: Box<RawValue>,
}

#[derive(Deserialize)]
struct Day {
    device: Uuid,
    day: NaiveDate,
    resolution_s: u32,
    runs: Vec<Run>,
}

#[derive(Deserialize)]
struct Run {
    from_slot: u16,
    wh: Vec<i64>,
}

async fn consume(url: &str, tenant: Uuid) -> Result<Source, LatencyError> {
    let nats = |what| move |source| LatencyError::Nats { what, source };
    let client = async_nats::connect(url).await.map_err(|e| nats("answer")(e.into()))?;
    let jetstream = async_nats::jetstream::new(client.clone());
    let deadline = Instant::now() + STREAM_WAIT;
    let stream = loop {
        match jetstream.get_stream(STREAM).await {
            Ok(stream) => break stream,
            // The relay makes it once it is connected.
            Err(_) if Instant::now() < deadline => tokio::time::sleep(POLL).await,
            Err(error) => return Err(nats("have Daybook's stream")(error.into())),
        }
    };
    let config = OrderedConfig {
        deliver_subject: client.new_inbox(),
        filter_subject: format!("daybook.{tenant}.>"),
        ..OrderedConfig::default()
    };
    let consumer = stream.create_consumer(config).await.map_err(|e| nats("make a consumer")(e.into()))?;
    let messages = consumer.messages().await.map_err(|e| nats("deliver")(e.into()))?;
    let told = messages.map(move |message| {
        let at = Instant::now();
        from_nats(at, &message.map_err(|e| nats("deliver")(e.into()))?.payload)
    });
    Ok(told.boxed())
}

fn from_nats(at: Instant, payload: &[u8]) -> Result<Vec<Arrival>, LatencyError> {
    let unexpected = || LatencyError::Unexpected(String::from_utf8_lossy(payload).into_owned());
    let event: CloudEvent = serde_json::from_slice(payload).map_err(|_| unexpected())?;
    if event.kind != READINGS_RECORDED {
        return Ok(vec![]);
    }
    let day: Day = serde_json::from_str(event.data.get()).map_err(|_| unexpected())?;
    let midnight = day.day.and_time(NaiveTime::MIN).and_utc();
    let readings = day.runs.iter().flat_map(|run| (i64::from(run.from_slot)..).zip(&run.wh));
    let arrivals = readings.map(|(slot, wh)| Arrival {
        at,
        position: event.position.clone(),
        device: day.device,
        start: midnight + TimeDelta::seconds(slot * i64::from(day.resolution_s)),
        energy_wh: *wh,
    });
    Ok(arrivals.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readings(arrivals: &[Arrival]) -> Vec<(u128, String, i64)> {
        arrivals.iter().map(|a| (a.device.as_u128(), a.start.to_rfc3339(), a.energy_wh)).collect()
    }

    #[test]
    fn a_reading_is_the_same_whoever_tells_of_it() {
        let device = Uuid::from_u128(7);
        let text = json!({ "id": "1", "type": "next", "payload": { "data": { "readings": { "position": "p",
            "device": device, "readings": [{ "start": "2000-01-02T00:15:00+00:00", "energyWh": "97" }] } } } });
        let socket = from_socket(&Message::text(text.to_string())).unwrap();
        let event = json!({ "type": READINGS_RECORDED, "position": "p", "data": { "device": device,
            "day": "2000-01-02", "resolution_s": 900, "runs": [{ "from_slot": 1, "wh": [97] }] } });
        let nats = from_nats(Instant::now(), event.to_string().as_bytes()).unwrap();
        assert_eq!(readings(&socket), [(7, "2000-01-02T00:15:00+00:00".to_owned(), 97)]);
        assert_eq!(readings(&socket), readings(&nats));
    }

    #[test]
    fn what_is_not_a_reading_ends_a_subscription_and_is_no_arrival_at_nats() {
        assert!(from_socket(&Message::text("{\"id\":\"1\",\"type\":\"complete\"}")).is_err());
        let registered = json!({ "type": "daybook.energy.device.registered.v1", "position": "p", "data": {} });
        assert!(from_nats(Instant::now(), registered.to_string().as_bytes()).unwrap().is_empty());
    }
}
