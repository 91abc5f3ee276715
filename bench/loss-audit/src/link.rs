//! A connection between two programs that can be cut: a proxy on a port of its own.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

const BUFFER_BYTES: usize = 16 * 1024;

/// Where a link leads.
#[derive(Clone, Debug)]
pub enum Place {
    Unix(PathBuf),
    /// A port of the loopback interface.
    Port(u16),
}

/// What happens to what is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Weather {
    Clear,
    /// Every connection is reset, and every new one at once.
    Cut,
    /// Nothing gets through, and nobody is told. What was sent arrives when it clears up, as with TCP.
    Hole,
    /// Everything comes that much later, piece by piece.
    Slow(Duration),
}

#[derive(Clone, Copy)]
struct State {
    weather: Weather,
    /// Connections made before this many losses are silent for good.
    losses: u64,
}

/// Forwards until dropped.
pub struct Link {
    port: u16,
    state: watch::Sender<State>,
    accepting: AbortHandle,
}

impl Link {
    /// # Errors
    /// When no port can be had.
    pub async fn to(place: Place) -> io::Result<Self> {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        let port = listener.local_addr()?.port();
        let (state, _) = watch::channel(State { weather: Weather::Clear, losses: 0 });
        let sender = state.clone();
        let accepting = tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((client, _)) => drop(tokio::spawn(carry(client, place.clone(), sender.subscribe()))),
                    // Out of descriptors, for a moment.
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        });
        Ok(Link { port, state, accepting: accepting.abort_handle() })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn set(&self, weather: Weather) {
        self.state.send_modify(|state| state.weather = weather);
    }

    /// Connections that are there fall silent for good, as behind a router that has forgotten them; new ones work.
    pub fn lose(&self) {
        self.state.send_modify(|state| state.losses += 1);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.accepting.abort();
        self.set(Weather::Cut);
    }
}

async fn carry(mut client: TcpStream, place: Place, mut state: watch::Receiver<State>) {
    let losses = state.borrow().losses;
    // A reset when it is dropped, which nobody mistakes for an orderly end.
    let _ = client.set_zero_linger();
    let _ = client.set_nodelay(true);
    let cut = wait_for_cut(state.clone());
    let forward = async {
        state.wait_for(|now| now.weather != Weather::Hole).await.ok();
        match &place {
            Place::Unix(path) => {
                if let Ok(server) = UnixStream::connect(path).await {
                    both_ways(&mut client, server, &state, losses).await;
                }
            }
            Place::Port(port) => {
                if let Ok(server) = TcpStream::connect(("127.0.0.1", *port)).await {
                    let _ = server.set_nodelay(true);
                    both_ways(&mut client, server, &state, losses).await;
                }
            }
        }
    };
    tokio::select! {
        () = cut => {}
        () = forward => {}
    }
}

async fn wait_for_cut(mut state: watch::Receiver<State>) {
    // An error says that the link is gone, which is a cut as well.
    let _ = state.wait_for(|now| now.weather == Weather::Cut).await;
}

async fn both_ways(
    client: &mut TcpStream,
    server: impl AsyncRead + AsyncWrite,
    state: &watch::Receiver<State>,
    losses: u64,
) {
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = tokio::io::split(server);
    // Either end's farewell ends both: neither PostgreSQL nor NATS closes half a connection.
    tokio::select! {
        _ = pump(from_client, to_server, state.clone(), losses) => {}
        _ = pump(from_server, to_client, state.clone(), losses) => {}
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut state: watch::Receiver<State>,
    losses: u64,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        let now = *state.wait_for(|now| now.weather != Weather::Hole).await.map_err(io::Error::other)?;
        if now.losses > losses {
            continue;
        }
        if let Weather::Slow(by) = now.weather {
            tokio::time::sleep(by).await;
        }
        to.write_all(&buffer[..count]).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    /// Answers every byte with itself.
    async fn echo() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = socket.split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        port
    }

    async fn ask(socket: &mut TcpStream, byte: u8) -> io::Result<u8> {
        socket.write_u8(byte).await?;
        tokio::time::timeout(SOON, socket.read_u8()).await.expect("an answer or an end")
    }

    async fn connect(link: &Link) -> TcpStream {
        TcpStream::connect(("127.0.0.1", link.port())).await.unwrap()
    }

    /// Whether something comes within a moment.
    async fn is_silent(socket: &mut TcpStream) -> bool {
        tokio::time::timeout(Duration::from_millis(100), socket.read_u8()).await.is_err()
    }

    #[tokio::test]
    async fn a_cut_resets_what_is_connected_and_what_comes_until_it_is_over() {
        let link = Link::to(Place::Port(echo().await)).await.unwrap();
        let mut socket = connect(&link).await;
        assert_eq!(ask(&mut socket, 1).await.unwrap(), 1);
        link.set(Weather::Cut);
        let error = tokio::time::timeout(SOON, socket.read_u8()).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert!(ask(&mut connect(&link).await, 2).await.is_err());
        link.set(Weather::Clear);
        assert_eq!(ask(&mut connect(&link).await, 3).await.unwrap(), 3);
    }

    #[tokio::test]
    async fn a_hole_swallows_nothing_for_good() {
        let link = Link::to(Place::Port(echo().await)).await.unwrap();
        let mut socket = connect(&link).await;
        link.set(Weather::Hole);
        socket.write_u8(1).await.unwrap();
        assert!(is_silent(&mut socket).await);
        link.set(Weather::Clear);
        assert_eq!(tokio::time::timeout(SOON, socket.read_u8()).await.unwrap().unwrap(), 1);
    }

    #[tokio::test]
    async fn a_lost_connection_is_silent_for_good_and_a_new_one_works() {
        let link = Link::to(Place::Port(echo().await)).await.unwrap();
        let mut socket = connect(&link).await;
        assert_eq!(ask(&mut socket, 1).await.unwrap(), 1);
        link.lose();
        socket.write_u8(2).await.unwrap();
        assert!(is_silent(&mut socket).await);
        assert_eq!(ask(&mut connect(&link).await, 3).await.unwrap(), 3);
    }
}
