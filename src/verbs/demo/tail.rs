//! The rest of the year, slot by slot on a clock of its own, and the events as they become durable.

use super::client::Caller;
use super::data::{Day, Meter};
use super::load::{Bookmark, slot};
use crate::exit::Failure;
use crate::server::{Server, interrupted};
use std::time::Duration;

/// Events of one page that are shown; the others are counted.
const SHOWN: usize = 3;
/// Events read at once.
const PAGE: u64 = 500;

/// Goes on until somebody stops it, or the year is over and somebody stops it then.
pub async fn run(
    server: &Server,
    tenant: &Caller,
    meters: &[Meter],
    days: &[Day],
    bookmark: &Bookmark,
    tick: Duration,
) -> Result<(), Failure> {
    tokio::select! {
        () = interrupted() => Ok(()),
        failed = feed(tenant, meters, days, bookmark, tick) => failed,
        failed = show(server) => failed,
    }
}

async fn feed(
    tenant: &Caller,
    meters: &[Meter],
    days: &[Day],
    bookmark: &Bookmark,
    tick: Duration,
) -> Result<(), Failure> {
    let mut clock = tokio::time::interval(tick);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (from_day, from_slot) = bookmark.read();
    for (d, day) in days.iter().enumerate().skip(from_day) {
        let begin = if d == from_day { from_slot } else { 0 };
        for n in begin..day.slots.len() {
            clock.tick().await;
            slot(tenant, meters, day, n).await?;
            bookmark.write(d, n + 1);
        }
    }
    println!("The year is over; the system runs on. Ctrl-C stops.");
    std::future::pending().await
}

async fn show(server: &Server) -> Result<(), Failure> {
    let mut follower = server.recent.follow_from_now(PAGE);
    loop {
        let events = follower.next().await.map_err(|e| Failure::failed(&e))?;
        for event in events.iter().take(SHOWN) {
            println!(
                "{}  #{:<8} {:<28} {}/{}",
                event.recorded_at.format("%H:%M:%S%.3f"),
                event.position,
                event.event_type,
                event.stream_type,
                event.stream_id
            );
        }
        if events.len() > SHOWN {
            println!("{:>14}{} more", "… ", events.len() - SHOWN);
        }
    }
}
