//! The bell: tells other nodes that there may be something new, so that they need not poll often.
//!
//! NOTIFY takes a lock of the whole database until its commit is flushed, so no transaction that
//! carries data contains one. One connection per node rings after the fact, coalesced; who misses a
//! ring finds out by polling.

use super::driver::{Durable, Standing};
use crate::database::{Database, Role};
use std::future::poll_fn;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_postgres::AsyncMessage;

const RING: &str = "select pg_notify('daybook', '')";
/// Rings are at least this far apart.
const COALESCE: Duration = Duration::from_millis(20);
/// Pause before a lost connection is opened again.
const RETRY: Duration = Duration::from_millis(500);

/// Rings for everything that the writer on this node makes durable, until it has ended.
pub fn ring(
    database: Database,
    mut durable: watch::Receiver<Durable>,
    standing: watch::Receiver<Standing>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut session = None;
        while durable.changed().await.is_ok() {
            durable.borrow_and_update();
            if standing.borrow().leading.is_none() {
                // Heard from another node, whose bell has rung.
                continue;
            }
            let client = match session.take() {
                Some(client) => client,
                // A notification need not survive a crash: whoever missed it polls.
                None => match database.connect(Role::Writer, "-c synchronous_commit=off").await {
                    Ok(client) => client,
                    Err(error) => {
                        tracing::debug!(%error, "the bell has no connection");
                        tokio::time::sleep(RETRY).await;
                        continue;
                    }
                },
            };
            if client.execute(RING, &[]).await.is_ok() {
                session = Some(client);
            }
            tokio::time::sleep(COALESCE).await;
        }
    })
}

/// Counts the rings of other nodes, until nobody listens any more.
pub fn listen(database: Database) -> watch::Receiver<u64> {
    let (rings, heard) = watch::channel(0u64);
    tokio::spawn(async move {
        while !rings.is_closed() {
            tokio::select! {
                () = rings.closed() => return,
                () = hear(&database, &rings) => {}
            }
            // Something may have been missed in between.
            rings.send_modify(|count| *count += 1);
            tokio::time::sleep(RETRY).await;
        }
    });
    heard
}

async fn hear(database: &Database, rings: &watch::Sender<u64>) {
    let Ok((client, mut connection)) = database.connect_raw(Role::Projector, "").await else { return };
    let listening = client.batch_execute("listen daybook");
    tokio::pin!(listening);
    let mut listens = false;
    loop {
        tokio::select! {
            done = &mut listening, if !listens => match done {
                Ok(()) => listens = true,
                Err(_) => return,
            },
            message = poll_fn(|cx| connection.poll_message(cx)) => match message {
                Some(Ok(AsyncMessage::Notification(_))) => rings.send_modify(|count| *count += 1),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
        }
    }
}
