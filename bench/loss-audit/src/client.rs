//! The API as any client knows it: GraphQL over HTTP, readings over HTTP, subscriptions over WebSocket.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{self, Message, client::IntoClientRequest};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use uuid::Uuid;

/// How long a client waits for an answer before it asks again.
const REQUEST: Duration = Duration::from_secs(8);
/// How long a WebSocket may take to be open.
const OPEN: Duration = Duration::from_secs(8);

/// An answer that is none to rely on, or one that says no.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoAnswer {
    /// Ask again, with the same id.
    #[error("{0}")]
    Again(String),
    /// The server has decided against it.
    #[error("{0}")]
    Refused(String),
}

/// Of all nodes. Cloning is cheap.
#[derive(Clone)]
pub struct Api {
    http: reqwest::Client,
    /// `host:port`
    nodes: Arc<[String]>,
    token: Arc<str>,
}

impl Api {
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(nodes: Vec<String>, token: &str) -> reqwest::Result<Self> {
        let http = reqwest::Client::builder().http1_only().timeout(REQUEST).build()?;
        Ok(Api { http, nodes: nodes.into(), token: token.into() })
    }

    fn node(&self, node: usize) -> &str {
        &self.nodes[node % self.nodes.len()]
    }

    /// The data of an answer. `key`: an `Idempotency-Key`.
    ///
    /// # Errors
    /// [`NoAnswer`]
    pub async fn ask(&self, node: usize, query: &str, variables: Value, key: Option<Uuid>) -> Result<Value, NoAnswer> {
        let body = json!({ "query": query, "variables": variables });
        let mut request = self.http.post(format!("http://{}/graphql", self.node(node))).bearer_auth(&self.token);
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key.to_string());
        }
        let (_, mut answer) = json_of(request.json(&body).send().await).await?;
        if let Some(errors) = answer.get("errors") {
            return Err(refusal(errors[0]["extensions"]["code"].as_str()));
        }
        if !answer["data"].is_object() {
            return Err(NoAnswer::Again("an answer without data".into()));
        }
        Ok(answer["data"].take())
    }

    /// What became of a call with readings.
    ///
    /// # Errors
    /// [`NoAnswer`]
    pub async fn ingest(&self, node: usize, tenant: Uuid, csv: &str, key: Uuid) -> Result<Value, NoAnswer> {
        let url = format!("http://{}/v1/readings?tenant={tenant}", self.node(node));
        let request = self.http.post(url).bearer_auth(&self.token).header("Content-Type", "text/csv");
        let sent = request.header("Idempotency-Key", key.to_string()).body(csv.to_owned()).send().await;
        let (status, answer) = json_of(sent).await?;
        if status == 200 { Ok(answer) } else { Err(refusal(answer["code"].as_str())) }
    }

    /// # Errors
    /// When it cannot be opened, for whatever reason: try again.
    pub async fn subscribe(&self, node: usize, query: &str, variables: Value) -> Result<Subscription, String> {
        let opening = self.open(node, query, variables);
        match tokio::time::timeout(OPEN, opening).await {
            Ok(opened) => opened.map_err(|error| error.to_string()),
            Err(_) => Err("no answer".into()),
        }
    }

    async fn open(&self, node: usize, query: &str, variables: Value) -> Result<Subscription, tungstenite::Error> {
        let mut request = format!("ws://{}/graphql", self.node(node)).into_client_request()?;
        request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("graphql-transport-ws"));
        let (mut socket, _) = connect_async(request).await?;
        let init =
            json!({ "type": "connection_init", "payload": { "Authorization": format!("Bearer {}", self.token) } });
        socket.send(Message::text(init.to_string())).await?;
        let payload = json!({ "query": query, "variables": variables });
        let subscribe = json!({ "id": "1", "type": "subscribe", "payload": payload });
        // The server takes messages in their order; its acknowledgement is skipped when it comes.
        socket.send(Message::text(subscribe.to_string())).await?;
        Ok(Subscription { socket })
    }
}

async fn json_of(sent: reqwest::Result<reqwest::Response>) -> Result<(u16, Value), NoAnswer> {
    let lost = |error: reqwest::Error| {
        let why = if error.is_timeout() { "no answer in time" } else { "the connection was lost" };
        NoAnswer::Again(why.into())
    };
    let response = sent.map_err(lost)?;
    let status = response.status().as_u16();
    let body = response.bytes().await.map_err(lost)?;
    let answer = serde_json::from_slice(&body).map_err(|_| NoAnswer::Again(format!("no JSON, status {status}")))?;
    Ok((status, answer))
}

/// What a code asks for. Those that promise nothing are to be repeated, and whatever is not known to be a refusal.
fn refusal(code: Option<&str>) -> NoAnswer {
    match code {
        Some(
            code @ ("CONFLICT" | "BAD_USER_INPUT" | "NOT_FOUND" | "FORBIDDEN" | "UNAUTHENTICATED" | "LIMIT_EXCEEDED"),
        ) => NoAnswer::Refused(code.into()),
        code => NoAnswer::Again(code.unwrap_or("an error without a code").into()),
    }
}

/// One subscription on a socket of its own.
pub struct Subscription {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Subscription {
    /// The next item.
    ///
    /// # Errors
    /// The code that ended it, or none when the connection is gone.
    pub async fn next(&mut self) -> Result<Value, Option<String>> {
        while let Some(message) = self.socket.next().await {
            let message = message.map_err(|_| None)?;
            let Message::Text(text) = message else { continue };
            let mut value: Value = serde_json::from_str(&text).map_err(|_| None)?;
            let errors = match value["type"].as_str() {
                Some("next") => match value["payload"].get("errors") {
                    None => return Ok(value["payload"]["data"].take()),
                    Some(errors) => errors,
                },
                Some("error") => &value["payload"],
                Some("complete") => return Err(None),
                _ => continue,
            };
            return Err(errors[0]["extensions"]["code"].as_str().map(str::to_owned));
        }
        Err(None)
    }
}
