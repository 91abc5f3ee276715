//! Ingest calls that hang, leave half-way or come too many at once: each is told, and nothing is counted twice.

use crate::harness::{World, admin, id};
use daybook_api::ingest::{self, Limits};
use daybook_api::transport::{Authenticate, NotAuthenticated, RateLimits, Rates};
use daybook_app::Credential;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

/// Everybody is this one.
struct Everybody(Credential);

impl Authenticate for Everybody {
    type Credential = Credential;

    async fn authenticate(&self, _bearer: &str) -> Result<Credential, NotAuthenticated> {
        Ok(self.0.clone())
    }

    fn namespace(credential: &Credential) -> Uuid {
        credential.actor.id
    }

    fn tenant(credential: &Credential) -> Option<Uuid> {
        Some(credential.tenant.0)
    }
}

const HEADER: &str = "device,time,value,unit\n";
const ROWS: [&str; 4] = [
    "M-1,2026-03-01T00:00:00Z,100,Wh\n",
    "M-1,2026-03-01T00:15:00Z,200,Wh\n",
    "M-1,2026-03-01T00:30:00Z,300,Wh\n",
    "M-1,2026-03-01T00:45:00Z,400,Wh\n",
];

struct Site {
    world: World,
    who: Credential,
    device: Uuid,
    address: SocketAddr,
}

impl Site {
    async fn start(limits: Limits) -> Self {
        let world = World::new().await;
        let who = admin(world.tenant("Acme").await);
        let input = json!({ "name": "Meter", "kind": "METER", "serial": "M-1", "resolutionS": 900, "direction": "IMPORT",
            "site": { "name": "Mill Lane", "timeZone": "Europe/Berlin" }, "maxPowerW": "40000" });
        let device = id(&world.mutate(&who, "registerDevice", input, "device { id }").await["device"]["id"]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = ingest::router(world.parts.clone(), Everybody(who.clone()), limits, Rates::new(RateLimits::NONE));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Site { world, who, device, address }
    }

    /// A call that announces more than it sends.
    async fn begin(&self, announced: usize, body: &str) -> TcpStream {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        let head = format!(
            "POST /v1/readings HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer x\r\nContent-Type: text/csv\r\n\
             Idempotency-Key: one\r\nContent-Length: {announced}\r\n\r\n"
        );
        socket.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        socket
    }

    async fn post(&self, key: &str) -> (u16, Option<String>, Value) {
        let request = reqwest::Client::new().post(format!("http://{}/v1/readings", self.address));
        let request = request.bearer_auth("x").header("content-type", "text/csv").header("idempotency-key", key);
        let response = request.body(format!("{HEADER}{}", ROWS.concat())).send().await.unwrap();
        let (status, after) = (response.status().as_u16(), response.headers().get("retry-after").cloned());
        let after = after.map(|value| value.to_str().unwrap().to_owned());
        (status, after, response.json().await.unwrap())
    }

    /// How many readings there are, and their sum.
    async fn totals(&self, position: &Value) -> (u64, String) {
        let query = "query($d: UUID!, $p: Position!) { device(id: $d) { readingTotals(
            from: \"2026-01-01T00:00:00Z\", to: \"2027-01-01T00:00:00Z\", atLeast: $p) { count energyWh } } }";
        let data = self.world.data(&self.who, query, json!({ "d": self.device, "p": position })).await;
        let totals = &data["device"]["readingTotals"];
        (
            totals["count"].to_string().trim_matches('"').parse().unwrap(),
            totals["energyWh"].as_str().unwrap().to_owned(),
        )
    }
}

/// Status and problem document of an answer whose connection is closed after it, or stays open.
async fn answer(socket: &mut (impl AsyncRead + Unpin)) -> (u16, Value) {
    let mut text = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let read = socket.read(&mut buffer).await.unwrap();
        text.extend_from_slice(&buffer[..read]);
        let whole = String::from_utf8_lossy(&text).into_owned();
        if let Some((head, body)) = whole.split_once("\r\n\r\n")
            && let Ok(body) = serde_json::from_str(body)
        {
            return (head.split(' ').nth(1).unwrap().parse().unwrap(), body);
        }
        assert!(read > 0, "no answer: {whole}");
    }
}

#[tokio::test]
async fn a_body_that_stops_coming_is_answered_with_what_was_recorded_and_can_be_sent_again() {
    let site = Site::start(Limits { idle_max: Duration::from_millis(200), ..Limits::default() }).await;
    let mut hanging = site.begin(10_000, &format!("{HEADER}{}{}M-1,2026-03-01T00:3", ROWS[0], ROWS[1])).await;
    let (status, problem) = answer(&mut hanging).await;
    assert_eq!((status, &problem["code"]), (408, &json!("BAD_USER_INPUT")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("without such a pause"), "{problem}");
    // Two rows were whole; they are not a part yet, and the call can be repeated as it is.
    assert_eq!(problem["recorded"]["accepted"], 0, "{problem}");
    let (status, _, report) = site.post("one").await;
    assert_eq!((status, &report["accepted"], &report["duplicates"]), (200, &json!(4), &json!(0)), "{report}");
    assert_eq!(site.totals(&report["position"]).await, (4, "1000".into()));
}

#[tokio::test]
async fn a_body_that_drips_is_given_up_and_its_place_is_free() {
    let limits =
        Limits { calls_max: 1, grace: Duration::from_millis(300), bytes_per_s_min: 1_000_000, ..Limits::default() };
    let site = Site::start(limits).await;
    let (mut answered, mut sending) = site.begin(1_000_000, HEADER).await.into_split();
    let drips = tokio::spawn(async move {
        while sending.write_all(b"1").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let (status, problem) = answer(&mut answered).await;
    drips.abort();
    assert_eq!((status, &problem["code"]), (408, &json!("BAD_USER_INPUT")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("too slowly"), "{problem}");
    let (status, _, report) = site.post("one").await;
    assert_eq!((status, &report["accepted"]), (200, &json!(4)), "{report}");
}

#[tokio::test]
async fn a_client_that_leaves_half_way_loses_nothing_and_doubles_nothing_when_it_comes_back() {
    let site = Site::start(Limits { calls_max: 1, ..Limits::default() }).await;
    for cut in [0, 10, HEADER.len() + 5, HEADER.len() + ROWS[0].len() + 7, HEADER.len() + 3 * ROWS[0].len()] {
        let whole = format!("{HEADER}{}", ROWS.concat());
        drop(site.begin(whole.len(), &whole[..cut]).await);
    }
    // The one place is free again as soon as the server has noticed.
    let (status, _, report) = loop {
        let answered = site.post("one").await;
        if answered.0 != 503 {
            break answered;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(status, 200, "{report}");
    let sum = report["accepted"].as_u64().unwrap() + report["duplicates"].as_u64().unwrap();
    assert_eq!((sum, &report["rejected"]), (4, &json!(0)), "{report}");
    let (status, _, again) = site.post("two").await;
    assert_eq!((status, &again["accepted"], &again["duplicates"]), (200, &json!(0), &json!(4)), "{again}");
    assert_eq!(site.totals(&report["position"]).await, (4, "1000".into()));
}

#[tokio::test]
async fn one_call_too_many_is_told_when_to_come_back() {
    let site = Site::start(Limits { calls_max: 1, ..Limits::default() }).await;
    let whole = format!("{HEADER}{}", ROWS.concat());
    let (begun, rest) = whole.split_at(HEADER.len() + 10);
    let mut first = site.begin(whole.len(), begun).await;
    // Once it is being read, the place is taken.
    let (after, problem) = loop {
        let (status, after, body) = site.post("two").await;
        if status == 503 {
            break (after, body);
        }
        assert_eq!(status, 200, "{body}");
    };
    assert_eq!((after.as_deref(), &problem["code"]), (Some("1"), &json!("UNAVAILABLE")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("again in a moment"), "{problem}");
    first.write_all(rest.as_bytes()).await.unwrap();
    assert_eq!(answer(&mut first).await.0, 200);
    let (status, _, report) = site.post("three").await;
    assert_eq!((status, &report["duplicates"]), (200, &json!(4)), "{report}");
}

#[tokio::test]
async fn a_call_that_is_too_long_is_told_so_however_often_it_is_sent() {
    let site = Site::start(Limits { rows_max: 3, ..Limits::default() }).await;
    for _ in 0..2 {
        let (status, _, problem) = site.post("one").await;
        assert_eq!((status, &problem["code"]), (413, &json!("LIMIT_EXCEEDED")), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains("at most 3 rows"), "{problem}");
        assert_eq!(problem["recorded"]["accepted"], 0, "{problem}");
    }
}
