//! After the last fault: everybody catches up, the nodes are stopped, and what there is is checked.

use super::{CampaignError, Ears, Felt, Options, Outcome, POLL};
use crate::check::{self, Evidence, Rule, Verdict};
use crate::history::{self, Followed, Log, Told, Written};
use crate::journal::{self, Journal};
use crate::reader::{Consumer, last_message};
use crate::world::World;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio_postgres::Client;

pub(super) async fn conclude(
    options: &Options,
    world: &mut World,
    mut ears: Ears,
    logs: &Path,
    mut verdict: Verdict,
    felt: Vec<Felt>,
) -> Result<Outcome, CampaignError> {
    eprintln!("all faults are over: waiting until everybody has caught up");
    world.tend().await?;
    let db = world.database().await?;
    caught_up(options.bound, world, &db, &ears, &mut verdict).await?;
    ears.stop.store(true, Ordering::Relaxed);
    while let Some(ended) = ears.tasks.join_next().await {
        ended??;
    }
    if let Some(nats) = &world.nats {
        read_whole_stream(options.bound, &nats.url(), logs).await?;
    }

    eprintln!("checking");
    let before = journal::tables(&db).await?;
    let models = journal::read_models(&db).await?;
    world.stop_nodes().await?;
    let verified = world.verb(&["verify"]).await;
    verdict.hold(Rule::Verified, verified.is_ok(), || verified.unwrap_or_else(|error| error.to_string()));
    for model in models.keys() {
        world.verb(&["rebuild", model]).await?;
    }
    let after = journal::tables(&db).await?;
    for (name, table) in &before {
        let anew = after.get(name);
        verdict.hold(Rule::ReadModels, anew == Some(table), || format!("{name} holds {table:?}, built anew {anew:?}"));
    }

    let journal = Journal::read(&db).await?;
    let mut log = Log::create(logs, "journal")?;
    journal.events.iter().try_for_each(|event| log.write(event))?;
    let evidence = Evidence {
        journal,
        writers: history::read(logs, "writer-")?,
        readers: history::read(logs, "reader-")?,
        consumers: world.nats.is_some().then(|| history::read(logs, "consumer-")).transpose()?,
    };
    verdict.merge(check::check(&evidence));
    Ok(outcome(&evidence, verdict, felt))
}

/// Waits for those that may be behind; who still is then is found by the check.
async fn caught_up(
    bound: Duration,
    world: &World,
    db: &Client,
    ears: &Ears,
    verdict: &mut Verdict,
) -> Result<(), CampaignError> {
    let deadline = Instant::now() + bound;
    let end: i64 = db.query_one("select coalesce(max(position), 0) from journal.events", &[]).await?.get(0);
    loop {
        let mut behind = Vec::new();
        for (model, position) in journal::read_models(db).await? {
            if position < end {
                behind.push(format!("read model {model} is at {position} of {end}"));
            }
        }
        for (tenant, what, seen) in &ears.subscribers {
            let sql = match what {
                Followed::Events => "select max(tenant_position) from journal.events where tenant_id = $1",
                Followed::Rows => "select max(sequence) from journal.events where tenant_id = $1 and stream_id = $1",
            };
            let last: Option<i64> = db.query_one(sql, &[tenant]).await?.get(0);
            if last.is_some_and(|last| seen.load(Ordering::Relaxed) < last) {
                behind.push(format!("a subscriber of {tenant} ({what:?}) is behind"));
            }
        }
        if let Some(nats) = &world.nats {
            let sent: Option<i64> = db.query_one("select max(position) from projection.relays", &[]).await?.get(0);
            let last = last_message(&nats.url()).await;
            if sent < Some(end) || last != Some(ears.messages.load(Ordering::Relaxed)) {
                behind.push(format!("NATS has {sent:?} of {end}, its stream {last:?} messages"));
            }
        }
        if behind.is_empty() || Instant::now() > deadline {
            verdict.hold(Rule::ServesAgain, behind.is_empty(), || {
                format!("not caught up within {bound:?}: {}", behind.join("; "))
            });
            return Ok(());
        }
        tokio::time::sleep(POLL * 5).await;
    }
}

/// Once more from its beginning: what was delivered must have stayed.
async fn read_whole_stream(bound: Duration, url: &str, logs: &Path) -> Result<(), CampaignError> {
    let (seen, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let consumer = Consumer { url: url.to_owned(), seen: seen.clone(), stop: stop.clone() };
    let reading = tokio::spawn(consumer.run(Log::create(logs, "consumer-whole")?));
    let deadline = Instant::now() + bound;
    while last_message(url).await != Some(seen.load(Ordering::Relaxed)) && Instant::now() < deadline {
        tokio::time::sleep(POLL).await;
    }
    stop.store(true, Ordering::Relaxed);
    reading.await??;
    Ok(())
}

fn outcome(evidence: &Evidence, verdict: Verdict, felt: Vec<Felt>) -> Outcome {
    let (mut acknowledged, mut refused, mut unknown, mut resolved) = (0, 0, 0, 0);
    for (_, lines) in &evidence.writers {
        let mut open = None;
        for line in lines {
            match line {
                Written::Unanswered { command, .. } => {
                    unknown += u64::from(open != Some(*command));
                    open = Some(*command);
                }
                Written::Acknowledged { command, .. } => {
                    acknowledged += 1;
                    resolved += u64::from(open == Some(*command));
                }
                Written::Refused { command, .. } => {
                    refused += 1;
                    resolved += u64::from(open == Some(*command));
                }
                Written::Invoked { .. } | Written::Abandoned { .. } | Written::Read { .. } => {}
            }
        }
    }
    let told = evidence.readers.iter().flat_map(|(_, lines)| lines);
    let resumed = told.clone().filter(|line| matches!(line, Told::Resumed { .. })).count();
    let told = told.filter(|line| matches!(line, Told::Event { .. } | Told::Row { .. })).count();
    let messages = evidence.consumers.iter().flatten().next().map_or(0, |(_, messages)| messages.len());
    Outcome {
        verdict,
        felt,
        skipped: vec![],
        acknowledged,
        refused,
        unknown,
        resolved,
        events: evidence.journal.events.len(),
        told: told as u64,
        messages: messages as u64,
        resumed: resumed as u64,
        took: Duration::ZERO,
        kept: None,
    }
}
