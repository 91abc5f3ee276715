//! Signed checkpoints, kept outside the database: what even its superuser cannot rewrite unseen.
//!
//! One directory per journal; in it one file per tenant, named by the tenant's id, a C2SP checkpoint
//! of the tenant's tree signed under its origin, and one file `journal`: the checkpoint of the tree
//! whose leaves are the same leaves in the order of the journal's positions. The latter binds the order
//! between tenants and tells up to which position everything is signed; it carries its right edge in an
//! extension line, so that signing goes on from what was signed and never from what the database says of
//! its past. `milestones/` keeps some of its older versions: they narrow down where a rewrite began.
//!
//! A file is never replaced by a smaller or a different tree; that is evidence. Refuses to decide what an
//! operator does after a restore: move the directory away, then a new one begins.

mod checkpointer;

pub use checkpointer::{Checkpointer, CheckpointerError, CheckpointerOptions, Round};

use base64::{Engine, engine::general_purpose::STANDARD};
use daybook_domain::TenantId;
use daybook_tlog::{Checkpoint, CheckpointError, KeyError, NOTE_BYTES_MAX, RightEdge, Signer, Verifier};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use uuid::Uuid;

const JOURNAL: &str = "journal";
const MILESTONES: &str = "milestones";
const EDGE: &str = "edge ";

/// Positions after which a version of the journal's checkpoint is kept for good.
pub const MILESTONE_EVERY: u64 = 4_096;

#[derive(Debug, thiserror::Error)]
pub enum CheckpointFileError {
    #[error("{path} cannot be {verb}")]
    Io { path: PathBuf, verb: &'static str, source: std::io::Error },
    #[error("checkpoint {path} is not acceptable: keep it as evidence and restore the directory from your backup")]
    Damaged { path: PathBuf, source: CheckpointError },
    #[error(
        "checkpoint {0} does not carry the edge of its tree: keep it as evidence and restore the directory from your backup"
    )]
    Edge(PathBuf),
    #[error("checkpoint {path} has {kept} leaves and is not replaced by one of {offered}: run `daybook verify`")]
    Smaller { path: PathBuf, kept: u64, offered: u64 },
    #[error("checkpoint {path} of {size} leaves is not replaced by another tree of that size: run `daybook verify`")]
    Forked { path: PathBuf, size: u64 },
    #[error("the signing key cannot be used for the log {origin}")]
    Key { origin: String, source: KeyError },
}

/// Which tree a checkpoint is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Log {
    Tenant(TenantId),
    /// All events in the order of their positions.
    Journal,
}

/// The checkpoints of one journal, as files.
#[derive(Clone, Debug)]
pub struct CheckpointStore {
    directory: PathBuf,
    journal: Uuid,
    milestone_every: u64,
}

impl CheckpointStore {
    /// `checkpoints`: the directory of all journals' checkpoints, which need not exist yet.
    pub fn new(checkpoints: &Path, journal: Uuid) -> Self {
        CheckpointStore { directory: checkpoints.join(journal.to_string()), journal, milestone_every: MILESTONE_EVERY }
    }

    /// As it is, with milestones at another distance (positions, at least 1).
    pub fn with_milestones(mut self, every: u64) -> Self {
        self.milestone_every = every.max(1);
        self
    }

    /// The distance between milestones, in positions.
    pub fn milestone_every(&self) -> u64 {
        self.milestone_every
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn journal(&self) -> Uuid {
        self.journal
    }

    /// The name of a log, and of the key that signs it: `daybook/<journal>/<tenant>`, `daybook/<journal>`.
    pub fn origin(&self, log: Log) -> String {
        match log {
            Log::Tenant(tenant) => daybook_tlog::origin(self.journal, tenant.0),
            Log::Journal => format!("daybook/{}", self.journal),
        }
    }

    pub fn path(&self, log: Log) -> PathBuf {
        self.directory.join(match log {
            Log::Tenant(tenant) => tenant.0.to_string(),
            Log::Journal => JOURNAL.to_owned(),
        })
    }

    /// The signed note as it stands, to be handed on; `None` when there is none yet.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(&self, log: Log) -> Result<Option<Vec<u8>>, CheckpointFileError> {
        read(&self.path(log))
    }

    /// The checkpoint, once signature and origin are found right.
    ///
    /// # Errors
    /// [`CheckpointFileError::Damaged`] when they are not.
    pub fn open(&self, log: Log, verifier: &Verifier) -> Result<Option<Checkpoint>, CheckpointFileError> {
        self.open_at(&self.path(log), log, verifier)
    }

    fn open_at(&self, path: &Path, log: Log, verifier: &Verifier) -> Result<Option<Checkpoint>, CheckpointFileError> {
        let Some(note) = read(path)? else { return Ok(None) };
        let origin = self.origin(log);
        let key =
            named(verifier, &origin).map_err(|source| CheckpointFileError::Key { origin: origin.clone(), source })?;
        let opened = Checkpoint::open(&note, &[key], &origin);
        let (checkpoint, _) =
            opened.map_err(|source| CheckpointFileError::Damaged { path: path.to_owned(), source })?;
        Ok(Some(checkpoint))
    }

    /// The tree of the journal as it was signed last; empty before the first time.
    ///
    /// # Errors
    /// As [`CheckpointStore::open`], and when the edge is not the one of the signed root.
    pub fn journal_edge(&self, verifier: &Verifier) -> Result<RightEdge, CheckpointFileError> {
        let Some(checkpoint) = self.open(Log::Journal, verifier)? else { return Ok(RightEdge::empty()) };
        checkpoint
            .extensions
            .iter()
            .find_map(|line| STANDARD.decode(line.strip_prefix(EDGE)?).ok())
            .and_then(|bytes| RightEdge::from_bytes(checkpoint.size, &bytes).ok())
            .filter(|edge| edge.root() == checkpoint.root)
            .ok_or_else(|| CheckpointFileError::Edge(self.path(Log::Journal)))
    }

    /// The tenants that have a checkpoint.
    ///
    /// # Errors
    /// When the directory cannot be read; one that does not exist holds none.
    pub fn tenants(&self) -> Result<Vec<TenantId>, CheckpointFileError> {
        Ok(names(&self.directory)?.iter().filter_map(|n| Uuid::parse_str(n).ok()).map(TenantId).collect())
    }

    /// Older versions of the journal's checkpoint, smallest first, each opened or the reason why not.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn milestones(
        &self,
        verifier: &Verifier,
    ) -> Result<Vec<Result<Checkpoint, CheckpointFileError>>, CheckpointFileError> {
        let directory = self.directory.join(MILESTONES);
        let mut sizes: Vec<u64> = names(&directory)?.iter().filter_map(|n| n.parse().ok()).collect();
        sizes.sort_unstable();
        let open = |size: u64| self.open_at(&directory.join(size.to_string()), Log::Journal, verifier).transpose();
        Ok(sizes.into_iter().filter_map(open).collect())
    }

    /// The other journals whose checkpoints lie beside this one's.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn neighbours(&self) -> Result<Vec<Uuid>, CheckpointFileError> {
        let all = self.directory.parent().map(names).transpose()?.unwrap_or_default();
        Ok(all.iter().filter_map(|n| Uuid::parse_str(n).ok()).filter(|id| *id != self.journal).collect())
    }

    /// Signs trees and writes their checkpoints, each whole or not at all; all are durable on return.
    /// A tree that is signed already is left as it is.
    ///
    /// # Errors
    /// [`CheckpointFileError::Smaller`] or [`CheckpointFileError::Forked`] when a tree does not come after
    /// the one that is signed already; no file is replaced then.
    pub fn put(&self, trees: &[(Log, RightEdge)], signer: &Signer) -> Result<(), CheckpointFileError> {
        let notes = trees.iter().map(|(log, edge)| self.note(self.path(*log), *log, edge, signer));
        replace(&self.directory, notes)
    }

    /// Keeps these trees of the journal for good, beside its latest.
    ///
    /// # Errors
    /// As [`CheckpointStore::put`].
    pub fn put_milestones(&self, trees: &[RightEdge], signer: &Signer) -> Result<(), CheckpointFileError> {
        let directory = self.directory.join(MILESTONES);
        let path = |edge: &RightEdge| directory.join(edge.size().to_string());
        replace(&directory, trees.iter().map(|edge| self.note(path(edge), Log::Journal, edge, signer)))
    }

    /// The signed note for a file; `None` when it holds this tree already.
    fn note(
        &self,
        path: PathBuf,
        log: Log,
        edge: &RightEdge,
        signer: &Signer,
    ) -> Result<Option<(PathBuf, String)>, CheckpointFileError> {
        let (size, root, origin) = (edge.size(), edge.root(), self.origin(log));
        match self.open_at(&path, log, &signer.verifier())? {
            Some(kept) if kept.size > size => {
                return Err(CheckpointFileError::Smaller { path, kept: kept.size, offered: size });
            }
            Some(kept) if kept.size == size && kept.root == root => return Ok(None),
            Some(kept) if kept.size == size => return Err(CheckpointFileError::Forked { path, size }),
            _ => {}
        }
        let extensions = match log {
            Log::Journal if size > 0 => vec![format!("{EDGE}{}", STANDARD.encode(edge.to_bytes()))],
            _ => Vec::new(),
        };
        let signer =
            signer.renamed(&origin).map_err(|source| CheckpointFileError::Key { origin: origin.clone(), source })?;
        let note = Checkpoint { origin, size, root, extensions }
            .sign(&[&signer])
            .map_err(|source| CheckpointFileError::Damaged { path: path.clone(), source })?;
        Ok(Some((path, note)))
    }
}

/// The same public key under the name of another log: an id belongs to a key and its name.
pub(crate) fn named(verifier: &Verifier, origin: &str) -> Result<Verifier, KeyError> {
    let vkey = verifier.vkey();
    // The name has no `+`, base64 may have some.
    let material = vkey.splitn(3, '+').nth(2).ok_or(KeyError::MalformedVkey)?;
    let bytes = STANDARD.decode(material).map_err(|_| KeyError::MalformedVkey)?;
    let hash = Sha256::new().chain_update(origin).chain_update(b"\n").chain_update(&bytes).finalize();
    let id = u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]);
    Verifier::from_vkey(&format!("{origin}+{id:08x}+{material}"))
}

fn create(directory: &Path) -> Result<(), CheckpointFileError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|e| io(directory, "created", e))
}

fn io(path: &Path, verb: &'static str, source: std::io::Error) -> CheckpointFileError {
    CheckpointFileError::Io { path: path.to_owned(), verb, source }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, CheckpointFileError> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(path, "read", error)),
    };
    let mut note = Vec::new();
    // One byte more than a note may have is enough to have it refused.
    file.take(NOTE_BYTES_MAX as u64 + 1).read_to_end(&mut note).map_err(|e| io(path, "read", e))?;
    Ok(Some(note))
}

fn names(directory: &Path) -> Result<Vec<String>, CheckpointFileError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io(directory, "listed", error)),
    };
    let name = |entry: std::io::Result<fs::DirEntry>| entry.map(|e| e.file_name().to_string_lossy().into_owned());
    entries.map(name).collect::<Result<_, _>>().map_err(|e| io(directory, "listed", e))
}

/// Writes files of one directory, each whole or not at all, all durable on return.
fn replace(
    directory: &Path,
    notes: impl Iterator<Item = Result<Option<(PathBuf, String)>, CheckpointFileError>>,
) -> Result<(), CheckpointFileError> {
    create(directory)?;
    let mut written = Vec::new();
    for note in notes {
        let Some((path, note)) = note? else { continue };
        let partial = path.with_extension("partial");
        let mut options = fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&partial);
        let mut file = file.map_err(|e| io(&partial, "written", e))?;
        file.write_all(note.as_bytes()).map_err(|e| io(&partial, "written", e))?;
        // Not kept open: a round writes as many files as there are tenants in it.
        written.push((partial, path));
    }
    // After all are written: a file system flushes many together in little more than the time of one.
    for (partial, _) in &written {
        fs::File::open(partial).and_then(|f| f.sync_all()).map_err(|e| io(partial, "made durable", e))?;
    }
    for (partial, path) in &written {
        fs::rename(partial, path).map_err(|e| io(path, "replaced", e))?;
    }
    fs::File::open(directory).and_then(|d| d.sync_all()).map_err(|e| io(directory, "made durable", e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(leaves: u8) -> RightEdge {
        let mut edge = RightEdge::empty();
        (0..leaves).for_each(|n| edge.push([n; 32]));
        edge
    }

    fn signer() -> Signer {
        Signer::generate("daybook", &[5; 32]).unwrap()
    }

    #[test]
    fn a_checkpoint_is_never_replaced_by_a_smaller_or_another_tree() {
        let directory = tempfile::tempdir().unwrap();
        let store = CheckpointStore::new(directory.path(), Uuid::from_u128(1));
        let log = Log::Tenant(TenantId(Uuid::from_u128(2)));
        store.put(&[(log, edge(3))], &signer()).unwrap();
        store.put(&[(log, edge(3))], &signer()).unwrap();

        let smaller = store.put(&[(log, edge(2))], &signer()).unwrap_err();
        let mut other = edge(2);
        other.push([9; 32]);
        let forked = store.put(&[(log, other)], &signer()).unwrap_err();

        assert!(matches!(smaller, CheckpointFileError::Smaller { kept: 3, offered: 2, .. }));
        assert!(matches!(forked, CheckpointFileError::Forked { size: 3, .. }));
        let kept = store.open(log, &signer().verifier()).unwrap().unwrap();
        assert_eq!((kept.size, kept.root), (3, edge(3).root()));
    }

    #[test]
    fn the_journals_checkpoint_carries_the_edge_it_goes_on_from_and_leaves_milestones() {
        let directory = tempfile::tempdir().unwrap();
        let store = CheckpointStore::new(directory.path(), Uuid::from_u128(1));
        let verifier = signer().verifier();
        assert_eq!(store.journal_edge(&verifier).unwrap(), RightEdge::empty());

        store.put_milestones(&[edge(12), edge(4)], &signer()).unwrap();
        store.put(&[(Log::Journal, edge(13))], &signer()).unwrap();

        assert_eq!(store.journal_edge(&verifier).unwrap(), edge(13));
        let milestones: Vec<_> = store.milestones(&verifier).unwrap().into_iter().map(|m| m.unwrap().size).collect();
        assert_eq!(milestones, [4, 12]);
        let mut other = edge(3);
        other.push([9; 32]);
        assert!(matches!(store.put_milestones(&[other], &signer()), Err(CheckpointFileError::Forked { size: 4, .. })));
    }

    #[test]
    fn a_checkpoint_of_another_tenant_or_another_key_is_not_accepted() {
        let directory = tempfile::tempdir().unwrap();
        let store = CheckpointStore::new(directory.path(), Uuid::from_u128(1));
        let (one, two) = (Log::Tenant(TenantId(Uuid::from_u128(2))), Log::Tenant(TenantId(Uuid::from_u128(3))));
        store.put(&[(one, edge(3))], &signer()).unwrap();
        fs::copy(store.path(one), store.path(two)).unwrap();

        let stranger = Signer::generate("daybook", &[6; 32]).unwrap().verifier();
        assert!(matches!(store.open(two, &signer().verifier()), Err(CheckpointFileError::Damaged { .. })));
        assert!(matches!(store.open(one, &stranger), Err(CheckpointFileError::Damaged { .. })));
    }
}
