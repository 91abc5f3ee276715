//! What was signed, read from the files outside the database.

use super::VerifyError;
use super::report::{Finding, Kind};
use crate::checkpoints::{CheckpointFileError, CheckpointStore, Log};
use daybook_domain::TenantId;
use daybook_tlog::{Hash, Verifier};
use std::collections::HashMap;
use std::error::Error;

/// A signed size and root.
pub(super) type Tree = (u64, Hash);

#[derive(Default)]
pub(super) struct Signed {
    pub(super) tenants: HashMap<TenantId, Tree>,
    /// Up to this position everything is signed; 0 where nothing says so.
    pub(super) position: u64,
    /// The journal's tree at several sizes, smallest first, the latest last.
    pub(super) journal: Vec<Tree>,
    pub(super) faults: Vec<Finding>,
}

/// Reads all checkpoints. A file that is not acceptable is a finding, not an error.
pub(super) fn load(store: &CheckpointStore, verifier: &Verifier) -> Result<Signed, VerifyError> {
    let mut signed = Signed::default();
    let accept = |opened, faults: &mut Vec<Finding>, tenant: Option<TenantId>| match opened {
        Ok(checkpoint) => Ok(checkpoint),
        Err(error @ CheckpointFileError::Io { .. }) => Err(VerifyError::Checkpoints(error)),
        Err(error) => {
            let mut message = error.to_string();
            let mut source = error.source();
            while let Some(cause) = source {
                message.push_str(&format!(": {cause}"));
                source = cause.source();
            }
            faults.push(Finding { tenant, ..Finding::new(Kind::Checkpoint, message) });
            Ok(None)
        }
    };
    let tenants = store.tenants()?;
    for tenant in &tenants {
        let opened = store.open(Log::Tenant(*tenant), verifier);
        if let Some(checkpoint) = accept(opened, &mut signed.faults, Some(*tenant))? {
            signed.tenants.insert(*tenant, (checkpoint.size, checkpoint.root));
        }
    }
    for milestone in store.milestones(verifier)? {
        if let Some(checkpoint) = accept(milestone.map(Some), &mut signed.faults, None)? {
            signed.journal.push((checkpoint.size, checkpoint.root));
        }
    }
    if let Some(checkpoint) = accept(store.open(Log::Journal, verifier), &mut signed.faults, None)? {
        signed.journal.push((checkpoint.size, checkpoint.root));
    }
    signed.journal.sort_unstable();
    // The same tree twice is the last milestone and the latest; another root of a size already
    // signed stays, and one of the two will not match.
    signed.journal.dedup();
    signed.position = signed.journal.last().map_or(0, |(size, _)| *size);
    if tenants.is_empty() && signed.journal.is_empty() {
        for other in store.neighbours()? {
            let message =
                format!("there are checkpoints of the journal {other} but none of this one, {}", store.journal());
            signed.faults.push(Finding::new(Kind::Checkpoint, message));
        }
    }
    Ok(signed)
}
