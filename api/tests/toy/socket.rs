//! A client that speaks `graphql-transport-ws` message by message.
#![allow(dead_code, unreachable_pub, reason = "shared by test binaries, each of which uses a part")]

use std::{
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    time::Duration,
};

use axum::http::{HeaderValue, Request};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error, Message, client::IntoClientRequest},
};

use crate::toy::{Server, Setup, TOKEN, serve};

pub const PATIENCE: Duration = Duration::from_secs(10);

pub struct Socket(pub WebSocketStream<MaybeTlsStream<TcpStream>>);

pub fn handshake(server: &Server) -> Request<()> {
    let mut request = format!("ws://{}/graphql", server.address).into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("graphql-transport-ws"));
    request
}

impl Socket {
    pub async fn open(server: &Server) -> Self {
        Self(connect_async(handshake(server)).await.unwrap().0)
    }

    /// Past the acknowledgement.
    pub async fn ready(server: &Server) -> Self {
        let mut socket = Self::open(server).await;
        socket.init().await;
        socket
    }

    pub async fn init(&mut self) {
        self.say(json!({ "type": "connection_init", "payload": { "Authorization": format!("Bearer {TOKEN}") } })).await;
        assert_eq!(self.hear().await, json!({ "type": "connection_ack" }));
    }

    pub async fn say(&mut self, message: Value) {
        self.raw(Message::text(message.to_string())).await;
    }

    pub async fn raw(&mut self, message: Message) {
        self.0.send(message).await.unwrap();
    }

    pub async fn subscribe(&mut self, id: &str, query: &str) {
        self.say(json!({ "type": "subscribe", "id": id, "payload": { "query": query } })).await;
    }

    pub async fn next_frame(&mut self) -> Option<Result<Message, Error>> {
        timeout(PATIENCE, self.0.next()).await.expect("nothing came")
    }

    pub async fn hear(&mut self) -> Value {
        loop {
            match self.next_frame().await.unwrap().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// The code and reason of the close frame that comes sooner or later.
    pub async fn closed(&mut self) -> (u16, String) {
        loop {
            match self.next_frame().await.expect("no close frame").unwrap() {
                Message::Close(frame) => {
                    let frame = frame.unwrap();
                    return (frame.code.into(), frame.reason.to_string());
                }
                Message::Text(_) | Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

pub async fn start() -> Server {
    serve(Setup::default()).await.unwrap()
}

pub async fn until(counter: &AtomicUsize, wanted: impl Fn(usize) -> bool) {
    let reached = async {
        while !wanted(counter.load(SeqCst)) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, reached).await.expect("the counter never got there");
}
