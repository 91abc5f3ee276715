//! Recomputes the journal and compares it with what was signed.
//!
//! Everything that can be recomputed is: positions, batches, leaves, the tree of every tenant and of the
//! journal, the index of streams. What a superuser rewrote consistently differs from the signed checkpoints
//! outside the database, and from nothing else; between two milestones of the journal its place is then
//! a range. Not seen is what happened after the last checkpoint, and a reordering between tenants since then
//! (a leaf does not hold the journal's position, the signed tree of the journal does).
//!
//! Reads page by page, each in a statement of its own, up to the head that it read first, so that it may run
//! beside the writer and holds no old snapshot. Its memory grows with the number of tenants, not of events.
//! Refuses to repair anything.

mod evidence;
mod extras;
mod guards;
mod report;
mod rows;
mod walk;

pub use report::{FINDINGS_MAX, Finding, Kind, Report};

use crate::checkpoints::{CheckpointFileError, CheckpointStore};
use crate::database::{Database, DatabaseError, Role};
use crate::journal::recorded::{signed, unsigned};
use daybook_tlog::Verifier;
use evidence::Signed;
use futures_util::TryStreamExt;
use std::collections::VecDeque;
use tokio_postgres::types::ToSql;
use walk::Walk;

#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Checkpoints(#[from] CheckpointFileError),
    #[error("the task that reads the checkpoints was ended")]
    Ended,
}

/// What was signed outside the database, and the key that signed it.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    pub checkpoints: &'a CheckpointStore,
    /// Of the signing key, under any name.
    pub verifier: &'a Verifier,
}

/// How far a verification is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    pub position: u64,
    pub of: u64,
}

/// How to verify.
#[derive(Clone, Copy)]
pub struct VerifyOptions<'a> {
    /// Positions read by one statement.
    pub page: u64,
    /// Called after every page.
    pub progress: &'a (dyn Fn(Progress) + Send + Sync),
}

impl Default for VerifyOptions<'_> {
    fn default() -> Self {
        fn quiet(_: Progress) {}
        VerifyOptions { page: 20_000, progress: &quiet }
    }
}

// Every join here meets its partner by a primary key. A planner without statistics would hash whole tables,
// once per page.
const SETTINGS: &str = "-c enable_hashjoin=off -c enable_mergejoin=off -c enable_seqscan=off -c enable_bitmapscan=off";

/// Verifies the whole journal as it stands when the call begins.
///
/// # Errors
/// When the database or the checkpoint directory cannot be read. Whatever is wrong with the journal is a
/// finding of the report.
pub async fn verify(
    database: &Database,
    evidence: Option<Evidence<'_>>,
    options: VerifyOptions<'_>,
) -> Result<Report, VerifyError> {
    let session = database.connect(Role::Projector, SETTINGS).await?;
    let mut report = Report::default();
    // Before the head: a checkpoint that is read first can never be ahead of it.
    let mut was_signed = match evidence {
        Some(Evidence { checkpoints, verifier }) => {
            let (checkpoints, verifier) = (checkpoints.clone(), verifier.clone());
            let load = move || evidence::load(&checkpoints, &verifier);
            tokio::task::spawn_blocking(load).await.map_err(|_| VerifyError::Ended)??
        }
        None => Signed::default(),
    };
    was_signed.faults.drain(..).for_each(|fault| report.found(fault));
    guards::check(&session, &mut report).await?;

    let query = DatabaseError::Query;
    let row = session.query_one(rows::HEAD, &[]).await.map_err(query)?;
    let (last_batch, batched, last_event) = (unsigned(row.get(0)), unsigned(row.get(1)), unsigned(row.get(2)));
    let head = batched.max(last_event);
    if row.get(3) {
        report.found(Finding::new(Kind::Position, "there is an event before position 1, or a batch before the first"));
    }

    let mut walk = Walk::new(was_signed, report);
    let mut batches: VecDeque<rows::BatchRow> = VecDeque::new();
    let mut batch = 0;
    let events = session.prepare(rows::EVENTS).await.map_err(query)?;
    let mut after = 0u64;
    loop {
        let up_to = head.min(after.saturating_add(options.page.max(1)));
        // Batches go ahead of their events: at least to the end of the page.
        while batch < last_batch && batches.back().is_none_or(|b| b.last_position < up_to) {
            let page = session.query(rows::BATCHES, &[&signed(batch), &signed(last_batch)]).await.map_err(query)?;
            if page.is_empty() {
                break;
            }
            for row in &page {
                let row = rows::BatchRow::from_row(row);
                batch = row.number;
                walk.batch(row);
                if row.last_position >= row.first_position {
                    batches.push_back(row);
                }
            }
        }
        if after >= head {
            break;
        }
        let parameters: [&(dyn ToSql + Sync); 2] = [&signed(after), &signed(up_to)];
        let page = session.query_raw(&events, parameters).await.map_err(query)?;
        tokio::pin!(page);
        while let Some(row) = page.try_next().await.map_err(query)? {
            walk.row(&row, &mut batches);
        }
        after = up_to;
        (options.progress)(Progress { position: after, of: head });
    }
    let (mut report, counted) = walk.finish(head, last_batch);
    extras::check(&session, head, counted, &mut report).await?;
    Ok(report)
}
