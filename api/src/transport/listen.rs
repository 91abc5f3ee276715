//! From the listening socket to the routes: how long a connection may say nothing, and take nothing.
//!
//! What is served by the library as it comes waits for ever for the rest of a request's head, and who opens connections
//! and falls silent uses up the process's descriptors, without a credential. A peer that takes nothing of what it is sent
//! is ended by the kernel: a handler cannot do that, for while a connection is stuck nobody asks its answer for more.

use axum::Router;
use axum::extract::connect_info::ConnectInfo;
use axum::serve::Listener;
use hyper::server::conn::http1::Builder;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tower::Layer;

/// How patient a connection is.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// How long the peer may take nothing of what it is sent, be it gone or not reading. Where the system cannot tell, it
    /// may for ever.
    pub stalled_max: Duration,
    /// How long the head of a request may take, and how long a connection may be open without one.
    pub head_max: Duration,
}

impl Default for Patience {
    /// A proxy that keeps connections for a minute is the one that closes them first.
    fn default() -> Self {
        Patience { stalled_max: Duration::from_secs(30), head_max: Duration::from_secs(75) }
    }
}

/// Serves until `until` resolves, then takes no new connection and lets each finish the request that it is at. With the
/// address of the peer as connection info.
pub async fn serve(mut listener: TcpListener, router: Router, patience: Patience, until: impl Future<Output = ()>) {
    let stalled_ms = u32::try_from(patience.stalled_max.as_millis()).unwrap_or(u32::MAX);
    let mut builder = Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(patience.head_max);
    let (stop, stopping) = watch::channel(false);
    // Every connection holds an end of it, and nothing is ever sent.
    let (open, mut all_ended) = mpsc::channel::<Infallible>(1);
    tokio::pin!(until);
    loop {
        let (connection, peer): (TcpStream, SocketAddr) = tokio::select! {
            () = &mut until => break,
            // Trouble with accepting is written down and waited out there.
            accepted = Listener::accept(&mut listener) => accepted,
        };
        limit(&connection, stalled_ms);
        let service = TowerToHyperService::new(axum::Extension(ConnectInfo(peer)).layer(router.clone()));
        let (builder, open, mut stopping) = (builder.clone(), open.clone(), stopping.clone());
        tokio::spawn(async move {
            let served = builder.serve_connection(TokioIo::new(connection), service).with_upgrades();
            tokio::pin!(served);
            let told = async { drop(stopping.wait_for(|stop| *stop).await) };
            let ended = tokio::select! {
                ended = served.as_mut() => Some(ended),
                () = told => None,
            };
            let ended = match ended {
                Some(ended) => ended,
                None => {
                    served.as_mut().graceful_shutdown();
                    served.await
                }
            };
            if let Err(error) = ended {
                tracing::trace!(%error, "a connection broke");
            }
            drop(open);
        });
    }
    drop((listener, open));
    stop.send_replace(true);
    // None: all have let go.
    let _ = all_ended.recv().await;
}

#[cfg(target_os = "linux")]
fn limit(connection: &TcpStream, stalled_ms: u32) {
    if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(connection, stalled_ms) {
        tracing::debug!(%error, "a connection keeps no time");
    }
}

#[cfg(not(target_os = "linux"))]
fn limit(_connection: &TcpStream, _stalled_ms: u32) {}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;

    const HEAD_MAX: Duration = Duration::from_millis(300);
    /// Long enough for any machine; nothing waits for it when all is well.
    const FOREVER: Duration = Duration::from_secs(30);

    async fn server() -> (SocketAddr, oneshot::Sender<()>, JoinHandle<()>) {
        let slow = async |ConnectInfo(peer): ConnectInfo<SocketAddr>| {
            tokio::time::sleep(HEAD_MAX * 3).await;
            peer.ip().to_string()
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, until) = oneshot::channel();
        let patience = Patience { head_max: HEAD_MAX, ..Patience::default() };
        let until = async { until.await.unwrap_or_default() };
        (address, stop, tokio::spawn(serve(listener, Router::new().route("/slow", get(slow)), patience, until)))
    }

    async fn say(address: SocketAddr, text: &str) -> TcpStream {
        let mut connection = TcpStream::connect(address).await.unwrap();
        connection.write_all(text.as_bytes()).await.unwrap();
        connection
    }

    async fn heard(mut connection: TcpStream) -> String {
        let mut text = String::new();
        tokio::time::timeout(FOREVER, connection.read_to_string(&mut text)).await.expect("an end").unwrap_or_default();
        text
    }

    #[tokio::test]
    async fn whoever_says_nothing_or_half_a_head_is_let_go() {
        let (address, _stop, _serving) = server().await;
        assert_eq!(heard(say(address, "").await).await, "");
        let half = heard(say(address, "GET /slow HTTP/1.1\r\nHost: x\r\nX-").await).await;
        assert!(!half.contains(" 200 "), "{half}");
    }

    #[tokio::test]
    async fn a_request_may_take_longer_than_its_head_and_a_connection_without_another_is_let_go() {
        let (address, _stop, _serving) = server().await;
        let text = heard(say(address, "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await).await;
        assert!(text.starts_with("HTTP/1.1 200 ") && text.ends_with("127.0.0.1"), "{text}");
    }

    #[tokio::test]
    async fn who_is_being_answered_is_answered_when_it_stops_and_nobody_is_let_in() {
        let (address, stop, serving) = server().await;
        let asked = say(address, "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await;
        // Behind it, so that the first one was accepted.
        let second = heard(say(address, "GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await).await;
        assert!(second.starts_with("HTTP/1.1 404 "), "{second}");
        stop.send(()).unwrap();
        assert!(heard(asked).await.starts_with("HTTP/1.1 200 "));
        tokio::time::timeout(FOREVER, serving).await.expect("an end").unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }
}
