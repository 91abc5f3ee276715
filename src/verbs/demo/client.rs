//! The demo as a client of its own server: everything it loads goes through the public API.

use crate::exit::Failure;
use reqwest::{Client, RequestBuilder, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// How often a call is repeated that the server had no room for, or that broke off.
const ATTEMPTS_MAX: u32 = 20;

/// A caller with a token.
#[derive(Clone)]
pub struct Caller {
    http: Client,
    base: String,
    token: String,
}

/// What became of the readings of a call.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Recorded {
    pub accepted: u64,
    pub duplicates: u64,
    pub rejected: u64,
}

impl Caller {
    pub fn new(listen: SocketAddr, token: &str) -> Self {
        Caller { http: Client::new(), base: format!("http://{listen}"), token: token.to_owned() }
    }

    /// The data of an operation. A user error is an error here: the demo asks for nothing that is refused.
    pub async fn ask(&self, query: &str, variables: Value) -> Result<Value, Failure> {
        let body = json!({ "query": query, "variables": variables });
        let request = || self.http.post(format!("{}/graphql", self.base)).json(&body);
        let answer: Value = serde_json::from_slice(&self.send(request).await?).map_err(|e| Failure::failed(&e))?;
        if let Some(error) = answer["errors"].get(0) {
            return Err(refused(&error["message"]));
        }
        for payload in answer["data"].as_object().into_iter().flat_map(serde_json::Map::values) {
            if let Some(error) = payload["userErrors"].get(0) {
                return Err(refused(&error["message"]));
            }
        }
        Ok(answer["data"].clone())
    }

    /// Sends readings as CSV; a call with the same id is carried out once.
    pub async fn record(&self, id: Uuid, csv: String) -> Result<(Recorded, Duration), Failure> {
        let request = || {
            self.http
                .post(format!("{}/v1/readings", self.base))
                .header("Content-Type", "text/csv")
                .header("Idempotency-Key", id.to_string())
                .body(csv.clone())
        };
        let since = Instant::now();
        let answer = self.send(request).await?;
        let recorded = serde_json::from_slice(&answer).map_err(|e| Failure::failed(&e))?;
        Ok((recorded, since.elapsed()))
    }

    async fn send(&self, request: impl Fn() -> RequestBuilder) -> Result<Vec<u8>, Failure> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let response = request().bearer_auth(&self.token).send().await;
            let error = match response {
                Ok(response) if response.status() == StatusCode::OK => match response.bytes().await {
                    Ok(bytes) => return Ok(bytes.to_vec()),
                    Err(error) => Failure::failed(&error),
                },
                // Busy or going: the call has an id of its own, so it can be repeated.
                Ok(response)
                    if response.status().is_server_error() || response.status() == StatusCode::TOO_MANY_REQUESTS =>
                {
                    Failure::failed(&std::io::Error::other(format!("the server answered {}", response.status())))
                }
                Ok(response) => {
                    let status = response.status();
                    let text = response.text().await.unwrap_or_default();
                    return Err(Failure { code: 1, message: format!("the server answered {status}: {text}") });
                }
                Err(error) => Failure::failed(&error),
            };
            if attempt == ATTEMPTS_MAX {
                return Err(error);
            }
            tokio::time::sleep(Duration::from_millis(100 * u64::from(attempt))).await;
        }
    }
}

fn refused(message: &Value) -> Failure {
    Failure { code: 1, message: format!("the demo's data was refused: {}", message.as_str().unwrap_or_default()) }
}
