//! Readings on their way in: any number of rows in one call, each of them accepted, known already, or refused for a
//! reason of its own.
//!
//! A call becomes a number of appends of bounded size, one after the other, each with a command id that follows from
//! the call's: a call that is repeated goes on where it was cut off. Rows are judged by the state before the append,
//! and judged anew when somebody else was faster. Refuses to guess: a device, a time or an amount that is not clear is
//! a refused row.

mod meters;
mod part;
mod recording;
mod report;
mod states;

pub use recording::Recording;
pub use report::{REJECTIONS_MAX, Rejected, Report};

use crate::authorize::{Credential, Denied, verdict};
use crate::cache::Cache;
use crate::executor::{Call, DecodeError, ExecuteError, Executor};
use daybook_domain::energy::local_time::Stamp;
use daybook_domain::energy::readings::Quality;
use daybook_domain::platform::Tenant;
use daybook_domain::platform::tenant::TenantError;
use daybook_domain::{Action, TenantId};
use daybook_store::codec::CodecError;
use daybook_store::journal::{AppendError, StreamId, StreamKey};
use daybook_store::keys::SealError;
use std::sync::Arc;

/// Days of readings kept in memory: at most so many, of a few kilobytes each.
const DAYS_MAX: usize = 8_192;

/// A row as it was sent: well-formed, but not yet judged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SentRow {
    /// Its place among the rows of the call, counted from 0.
    pub index: u64,
    /// The id of the device, or its serial number.
    pub device: String,
    /// When the slot begins. A local time is the wall time of the device's site.
    pub time: Stamp,
    pub energy_wh: i64,
    pub quality: Quality,
}

/// Why a call cannot go on. What was recorded before stays, and is in the report.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    #[error("{action} is not permitted", action = .0.action)]
    Denied(Denied),
    #[error("there is no such tenant; check its id, or register it first")]
    UnknownTenant,
    #[error("the tenant is suspended or closed; nothing can be recorded in it until it is reopened")]
    TenantNotActive,
    #[error(transparent)]
    Append(AppendError),
    #[error("a stored event cannot be read")]
    Codec(#[from] CodecError),
    #[error("personal data cannot be sealed or opened")]
    Seal(#[from] SealError),
}

impl From<AppendError> for IngestError {
    fn from(error: AppendError) -> Self {
        IngestError::Append(error)
    }
}

impl From<DecodeError> for IngestError {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Seal(error) => IngestError::Seal(error),
            DecodeError::Codec(error) => IngestError::Codec(error),
        }
    }
}

/// Records readings. Cloning is cheap.
#[derive(Clone)]
pub struct Ingest {
    executor: Executor,
    days: Arc<Cache>,
}

impl Ingest {
    pub fn new(executor: Executor) -> Self {
        Ingest { executor, days: Arc::new(Cache::new(DAYS_MAX)) }
    }

    /// Begins a call. With a `command_id`, a repeat of the same rows records nothing twice, and other rows under the
    /// same id are a conflict; of the rest of `call` only the origin matters.
    ///
    /// # Errors
    /// [`IngestError::Denied`], or a tenant that cannot be recorded in.
    pub async fn begin(&self, credential: &Credential, tenant: TenantId, call: Call) -> Result<Recording, IngestError> {
        let action = Action::ReadingsRecord;
        let verdict = verdict(credential, action, tenant);
        if !verdict.is_possible() {
            return Err(IngestError::Denied(Denied { action }));
        }
        open_tenant(&self.executor, tenant).await?;
        Ok(Recording::new(self.clone(), credential.clone(), tenant, call, verdict))
    }
}

/// Whether a tenant is there and may work. Says nothing about who may know.
///
/// # Errors
/// [`IngestError::UnknownTenant`], [`IngestError::TenantNotActive`], or the journal's.
pub async fn open_tenant(executor: &Executor, tenant: TenantId) -> Result<(), IngestError> {
    let key = StreamKey { tenant, stream: StreamId { kind: "tenant", id: tenant.0 } };
    let cached = executor.present_state::<Tenant, TenantError>(&key).await.map_err(|error| match error {
        ExecuteError::Append(error) => IngestError::Append(error),
        ExecuteError::Codec(error) => IngestError::Codec(error),
        ExecuteError::Seal(error) => IngestError::Seal(error),
        other => IngestError::Append(AppendError::Unavailable(other.to_string())),
    })?;
    let found = match &cached.state {
        Tenant::Active { .. } => return Ok(()),
        Tenant::Absent => IngestError::UnknownTenant,
        Tenant::Suspended { .. } | Tenant::Closed { .. } => IngestError::TenantNotActive,
    };
    // A refusal may rest on what a crash could still take back.
    executor.journal.wait_durable(cached.seen).await?;
    Err(found)
}
