//! A tenant's log as lines of JSON that a stranger can check with no database and no Daybook server.
//!
//! The first line names the log, holds its signed checkpoint and says how many events follow: exactly those
//! that the checkpoint signs. Every other line is one event, in the order of the tenant's positions, with
//! payload and metadata as text, because their exact bytes are what is signed. Personal fields stay sealed.
//!
//! What is not in an export: the journal's own positions, which would tell how much others write.
//! Refuses to export what is not signed yet, and to tell a damaged export from a forged one.

use crate::checkpoints::{CheckpointFileError, CheckpointStore, Log, named};
use crate::database::{Database, DatabaseError, Role};
use crate::journal::recorded::{COLUMNS, RecordedEvent, signed};
use crate::verify::{Finding, Kind, Report};
use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, SecondsFormat, Utc};
use daybook_domain::TenantId;
use daybook_tlog::{Checkpoint, Hash, Leaf, RightEdge, Verifier, origin};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::io::{self, BufRead, Read, Write};
use uuid::Uuid;

/// The first line says that it is one.
const FORMAT: &str = "daybook-export";
const VERSION: u32 = 1;
/// Events read by one statement.
const PAGE: i64 = 2_000;
/// A line of an export is not longer: the largest append, twice escaped, is shorter.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// The first line.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Header {
    format: String,
    version: u32,
    journal: Uuid,
    tenant: Uuid,
    /// So many events follow.
    events: u64,
    /// A C2SP signed note: origin, size and root of the tenant's tree.
    checkpoint: String,
    /// The key that signed it, for convenience: who trusts it must have it from elsewhere.
    key: String,
}

/// Every other line.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Line<'a> {
    tenant_position: u64,
    stream_type: Cow<'a, str>,
    stream_id: Uuid,
    sequence: u64,
    event_id: Uuid,
    event_type: Cow<'a, str>,
    event_version: u32,
    /// RFC 3339, UTC, microseconds.
    recorded_at: Cow<'a, str>,
    payload: Cow<'a, str>,
    metadata: Cow<'a, str>,
    /// Base64; of RFC 6962.
    leaf_hash: Cow<'a, str>,
}

impl Line<'_> {
    /// `None` when the time is not one.
    fn hash(&self, tenant: Uuid) -> Option<Hash> {
        let recorded_at: DateTime<Utc> = self.recorded_at.parse().ok()?;
        let leaf = Leaf {
            tenant,
            tenant_position: self.tenant_position,
            stream_type: &self.stream_type,
            stream_id: self.stream_id,
            sequence: self.sequence,
            event_id: self.event_id,
            event_type: &self.event_type,
            event_version: self.event_version,
            recorded_at_us: recorded_at.timestamp_micros(),
            payload_sha256: Sha256::digest(self.payload.as_bytes()).into(),
            metadata_sha256: Sha256::digest(self.metadata.as_bytes()).into(),
        };
        Some(leaf.hash())
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("nothing of tenant {0} is signed yet: name a tenant that exists, and let `daybook serve` run once")]
    NothingSigned(Uuid),
    #[error("the journal ends at event {found} of the tenant, its checkpoint at {signed}: run `daybook verify`")]
    Shorter { found: u64, signed: u64 },
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointFileError),
    #[error("the export cannot be written: free some space or choose another place")]
    Write(#[source] io::Error),
    #[error("the export cannot be read")]
    Read(#[source] io::Error),
}

/// What was exported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exported {
    pub events: u64,
    /// Events after the last checkpoint, which are not in the export.
    pub unsigned: u64,
}

/// Writes a tenant's log up to its last checkpoint. `progress` is told how many of how many events are out.
///
/// # Errors
/// When nothing is signed, or a database, checkpoint or output fails; what was written until then is no export.
pub async fn export(
    database: &Database,
    checkpoints: &CheckpointStore,
    verifier: &Verifier,
    tenant: TenantId,
    out: &mut (dyn Write + Send),
    progress: &(dyn Fn(u64, u64) + Send + Sync),
) -> Result<Exported, ExportError> {
    let log = Log::Tenant(tenant);
    let nothing = || ExportError::NothingSigned(tenant.0);
    let checkpoint = checkpoints.open(log, verifier)?.ok_or_else(nothing)?;
    let note = checkpoints.read(log)?.ok_or_else(nothing)?;
    let name = checkpoints.origin(log);
    let key = named(verifier, &name).map_err(|source| CheckpointFileError::Key { origin: name, source })?;
    let header = Header {
        format: FORMAT.into(),
        version: VERSION,
        journal: checkpoints.journal(),
        tenant: tenant.0,
        events: checkpoint.size,
        checkpoint: String::from_utf8_lossy(&note).into_owned(),
        key: key.vkey(),
    };
    put(out, &header)?;
    let session = database.connect(Role::Projector, "-c enable_seqscan=off -c enable_sort=off").await?;
    let query = DatabaseError::Query;
    let page = format!(
        "select {COLUMNS}, e.leaf_hash from journal.events e
         where e.tenant_id = $1 and e.tenant_position > $2 and e.tenant_position <= $3
         order by e.tenant_position limit {PAGE}"
    );
    let page = session.prepare(&page).await.map_err(query)?;
    let mut after = 0;
    while after < checkpoint.size {
        let rows = session.query(&page, &[&tenant.0, &signed(after), &signed(checkpoint.size)]).await.map_err(query)?;
        if rows.is_empty() {
            return Err(ExportError::Shorter { found: after, signed: checkpoint.size });
        }
        for row in &rows {
            let event = RecordedEvent::from_row(row, 0);
            let line = Line {
                tenant_position: event.tenant_position,
                stream_type: event.stream_type.as_str().into(),
                stream_id: event.stream_id,
                sequence: event.sequence,
                event_id: event.event_id,
                event_type: event.event_type.as_str().into(),
                event_version: event.event_version,
                recorded_at: event.recorded_at.to_rfc3339_opts(SecondsFormat::Micros, true).into(),
                payload: event.payload.as_str().into(),
                metadata: event.metadata.as_str().into(),
                leaf_hash: STANDARD.encode(row.get::<_, &[u8]>(12)).into(),
            };
            put(out, &line)?;
            after = event.tenant_position;
        }
        progress(after, checkpoint.size);
    }
    out.flush().map_err(ExportError::Write)?;
    let last = "select tenant_position from journal.events where tenant_id = $1 order by tenant_position desc limit 1";
    let last = session.query_opt(last, &[&tenant.0]).await.map_err(query)?.map_or(0, |row| row.get::<_, i64>(0));
    let unsigned = u64::try_from(last).unwrap_or_default().saturating_sub(checkpoint.size);
    Ok(Exported { events: checkpoint.size, unsigned })
}

fn put(out: &mut (dyn Write + Send), line: &impl Serialize) -> Result<(), ExportError> {
    serde_json::to_writer(&mut *out, line).map_err(|e| ExportError::Write(e.into()))?;
    out.write_all(b"\n").map_err(ExportError::Write)
}

/// Checks an export against a key that the caller trusts, reading it once.
///
/// # Errors
/// When it cannot be read. Whatever is wrong with it is a finding of the report.
pub fn verify_export(input: &mut dyn BufRead, key: &Verifier) -> Result<Report, ExportError> {
    let mut report = Report::default();
    report.tenants = 1;
    let mut text = String::new();
    if !next_line(input, &mut text).map_err(ExportError::Read)? {
        report.found(Finding::new(Kind::Line, "it is empty"));
        return Ok(report);
    }
    let header: Header = match serde_json::from_str(&text) {
        Ok(header) => header,
        Err(error) => {
            report.found(Finding::new(Kind::Line, format!("the first line is not the head of an export ({error})")));
            return Ok(report);
        }
    };
    if header.format != FORMAT || header.version != VERSION {
        let message =
            format!("it is a {:?} of version {}; this program reads {FORMAT} {VERSION}", header.format, header.version);
        report.found(Finding::new(Kind::Line, message));
        return Ok(report);
    }
    let tenant = TenantId(header.tenant);
    let checkpoint = opened(&header, key, &mut report);
    let mut edge = RightEdge::empty();
    let mut due = 1u64;
    while next_line(input, &mut text).map_err(ExportError::Read)? {
        let line: Line<'_> = match serde_json::from_str(&text) {
            Ok(line) => line,
            Err(error) => {
                let message = format!("line {} is not an event ({error})", due + 1);
                report.found(Finding::new(Kind::Line, message).of(tenant));
                return Ok(report);
            }
        };
        if line.tenant_position != due {
            let message = format!("position {} stands where {due} should", line.tenant_position);
            report.found(Finding::new(Kind::TenantPosition, message).of(tenant).among(due..=due));
            return Ok(report);
        }
        let hash = line.hash(header.tenant);
        if hash.is_none_or(|hash| STANDARD.encode(hash) != line.leaf_hash) {
            report.found(
                Finding::new(Kind::Leaf, "the leaf hash is not the one of this event").of(tenant).among(due..=due),
            );
        }
        edge.push(hash.unwrap_or_default());
        report.events += 1;
        due += 1;
    }
    if report.events != header.events {
        let message = format!("{} events were announced, {} are there", header.events, report.events);
        report.found(Finding::new(Kind::Shorter, message).of(tenant));
    }
    if let Some(checkpoint) = checkpoint {
        report.checkpoints_checked = 1;
        if checkpoint.size != report.events || checkpoint.root != edge.root() {
            let message = format!("the tree of these events is not the signed one of {} events", checkpoint.size);
            report.found(Finding::new(Kind::Checkpoint, message).of(tenant).among(1..=report.events.max(1)));
        }
    }
    Ok(report)
}

/// The checkpoint, if the trusted key signed it for this tenant of this journal.
fn opened(header: &Header, key: &Verifier, report: &mut Report) -> Option<Checkpoint> {
    let name = origin(header.journal, header.tenant);
    let opened = match named(key, &name) {
        Ok(key) => Checkpoint::open(header.checkpoint.as_bytes(), &[key], &name).map_err(|e| e.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match opened {
        Ok((checkpoint, _)) => Some(checkpoint),
        Err(error) => {
            let message = format!("the key that is trusted did not sign this log: {error}");
            report.found(Finding::new(Kind::Checkpoint, message).of(TenantId(header.tenant)));
            None
        }
    }
}

/// Reads a line; `false` at the end.
fn next_line(input: &mut dyn BufRead, text: &mut String) -> io::Result<bool> {
    text.clear();
    let read = input.take(LINE_BYTES_MAX).read_line(text)?;
    if u64::try_from(read).is_ok_and(|n| n == LINE_BYTES_MAX) && !text.ends_with('\n') {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a line is longer than {LINE_BYTES_MAX} bytes"),
        ));
    }
    Ok(read > 0)
}
