//! A connection that falls silent for good, behind something that acknowledges in the server's name, ends within a bound.

use daybook_store::database::{Database, Role};
use daybook_testing::TestServer;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::watch;
use tokio::time::Instant;

const HELD_MAX: Duration = Duration::from_millis(300);
/// Far more than that, for a busy machine.
const BOUND: Duration = Duration::from_secs(20);

/// Forwards to the server; connections that are there when it is told so go on taking what they get, and bring nothing back.
async fn proxy(socket: PathBuf) -> (u16, watch::Sender<u32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (losses, lost) = watch::channel(0);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = UnixStream::connect(&socket).await.expect("the server");
            let (lost, born) = (lost.clone(), *lost.borrow());
            tokio::spawn(async move {
                let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
                    (client.into_split(), server.into_split());
                let there = async { tokio::io::copy(&mut from_client, &mut to_server).await };
                let back = async {
                    let mut buffer = [0; 4_096];
                    loop {
                        let count = from_server.read(&mut buffer).await?;
                        if count == 0 {
                            return std::io::Result::Ok(());
                        }
                        if *lost.borrow() == born {
                            to_client.write_all(&buffer[..count]).await?;
                        }
                    }
                };
                tokio::select! {
                    _ = there => {}
                    _ = back => {}
                }
            });
        }
    });
    (port, losses)
}

#[tokio::test]
async fn who_waits_on_a_silent_connection_is_told_and_the_next_one_gets_another() {
    let server = TestServer::start(&[]).await;
    let (port, losses) = proxy(server.socket()).await;
    let database =
        Database::from_url(&format!("host=127.0.0.1 port={port} user=postgres dbname=postgres")).expect("a URL");
    let pool = database.pool_held(Role::Login, 3, "", Some(HELD_MAX));
    let sessions = [pool.get().await, pool.get().await, pool.get().await];
    for session in &sessions {
        session.as_ref().expect("a session").query("select 1", &[]).await.expect("an answer");
    }
    drop(sessions);
    losses.send_modify(|losses| *losses += 1);
    let begun = Instant::now();
    let session = pool.get().await.expect("a session that seems to live");
    let error = session.query("select 1", &[]).await.expect_err("no answer");
    assert!(error.is_closed(), "{error:?}");
    drop(session);
    // The other two are as silent, and nobody has to find that out one by one.
    for _ in 0..3 {
        pool.get().await.expect("a session").query("select 1", &[]).await.expect("an answer");
    }
    assert!(begun.elapsed() < BOUND, "{:?}", begun.elapsed());
    server.stop().await;
}

#[tokio::test]
async fn a_session_that_is_given_back_in_time_is_used_again() {
    let server = TestServer::start(&[]).await;
    let pool = server.database("postgres").pool_held(Role::Login, 1, "", Some(HELD_MAX));
    let begun = Instant::now();
    let mut pids = std::collections::BTreeSet::new();
    // All in all it is held for longer than it may be at once.
    while begun.elapsed() < 3 * HELD_MAX {
        let row = pool.query("select pg_backend_pid()", &[]).await.expect("an answer");
        pids.insert(row[0].get::<_, i32>(0));
    }
    assert_eq!(pids.len(), 1);
    let session = pool.get().await.expect("a session");
    session.discard();
    let row = pool.query("select pg_backend_pid()", &[]).await.expect("an answer");
    assert!(pids.insert(row[0].get::<_, i32>(0)), "one in a state that nobody knows was used again");
    server.stop().await;
}
