//! The listening socket: a connection whose peer takes nothing for too long is ended by the kernel.
//!
//! A handler cannot do that: while a connection is stuck nobody asks its answer for more.

use axum::serve::{ListenerExt, TapIo};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// A listener that prepares every connection.
pub type Listening = TapIo<TcpListener, Box<dyn FnMut(&mut TcpStream) + Send>>;

/// Ends connections on which nothing was taken for that long, be the peer gone or not reading. Where the system cannot
/// do that, they last until the peer ends them.
pub fn listening(listener: TcpListener, stalled_max: Duration) -> Listening {
    let stalled_ms = u32::try_from(stalled_max.as_millis()).unwrap_or(u32::MAX);
    listener.tap_io(Box::new(move |connection| limit(connection, stalled_ms)))
}

#[cfg(target_os = "linux")]
fn limit(connection: &TcpStream, stalled_ms: u32) {
    if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(connection, stalled_ms) {
        tracing::debug!(%error, "a connection keeps no time");
    }
}

#[cfg(not(target_os = "linux"))]
fn limit(_connection: &TcpStream, _stalled_ms: u32) {}
