//! Checkpoints (C2SP `tlog-checkpoint`): the text that says "my log has this many leaves and this root", and
//! that a signature turns into evidence. Whether it continues an earlier one is not seen here; that is
//! [`crate::verify_consistency`].

use std::fmt::Write as _;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use uuid::Uuid;

use crate::note::{Note, NoteError, open, sign};
use crate::signer::{Signer, Verifier};
use crate::tree::Hash;

/// A signed tree head before it is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log this is about; see [`origin`].
    pub origin: String,
    /// How many leaves the tree has.
    pub size: u64,
    /// The root of the tree of that size.
    pub root: Hash,
    /// Further lines, without newlines; the standard recommends none.
    pub extensions: Vec<String>,
}

/// Why a text is not a checkpoint, or not the one that was asked for.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    #[error("the checkpoint's {0} is empty or has a control character; give it one printable line")]
    Line(&'static str),
    #[error("the checkpoint needs three lines (origin, size, root), each ended by a newline; take it again, whole")]
    Lines,
    #[error("the checkpoint's size is not a decimal number without leading zeroes below 2^64; take it again")]
    Size,
    #[error("the checkpoint's root is not the base64 of 32 bytes; take it again")]
    Root,
    #[error("the checkpoint is of the log `{found}`, not of `{expected}`; ask that log for its own")]
    OtherOrigin { found: String, expected: String },
    #[error("the checkpoint's note is not acceptable")]
    Note(#[from] NoteError),
}

/// The name of a tenant's log, and of the key that signs it: `daybook/<journal>/<tenant>`.
pub fn origin(journal: Uuid, tenant: Uuid) -> String {
    format!("daybook/{journal}/{tenant}")
}

impl Checkpoint {
    /// The text that is signed: origin, size, base64 of the root, extensions, a line each.
    ///
    /// # Errors
    ///
    /// When the origin or an extension is not one non-empty line without control characters.
    pub fn to_text(&self) -> Result<String, CheckpointError> {
        check_line(&self.origin, "origin")?;
        let root = BASE64_STANDARD.encode(self.root);
        let mut text = format!("{}\n{}\n{root}\n", self.origin, self.size);
        for extension in &self.extensions {
            check_line(extension, "extension line")?;
            let _ = writeln!(text, "{extension}");
        }
        Ok(text)
    }

    /// Reads the text of a note; only what [`Checkpoint::to_text`] writes is accepted.
    ///
    /// # Errors
    ///
    /// When a line is missing, malformed or in another than its one canonical form.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let mut lines = text.strip_suffix('\n').ok_or(CheckpointError::Lines)?.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(CheckpointError::Lines);
        };
        check_line(origin, "origin")?;
        let extensions = lines.map(|line| check_line(line, "extension line").map(|()| line.to_owned()));
        Ok(Self {
            origin: origin.to_owned(),
            size: size.parse().ok().filter(|n: &u64| n.to_string() == size).ok_or(CheckpointError::Size)?,
            root: decode_root(root).ok_or(CheckpointError::Root)?,
            extensions: extensions.collect::<Result<_, _>>()?,
        })
    }

    /// The checkpoint as a note, signed by all `signers`. Their names should be the origin.
    ///
    /// The caller answers for never signing two trees of which neither continues the other.
    ///
    /// # Errors
    ///
    /// As [`Checkpoint::to_text`] and [`sign`].
    pub fn sign(&self, signers: &[&Signer]) -> Result<String, CheckpointError> {
        Ok(sign(&self.to_text()?, signers)?)
    }

    /// Reads a signed checkpoint of the log `origin`. The origin is asked for because one key may sign the
    /// logs of many tenants, and a signature line can be given another name.
    ///
    /// # Errors
    ///
    /// As [`open`] and [`Checkpoint::parse`], and when the checkpoint is another log's.
    pub fn open(note: &[u8], verifiers: &[Verifier], origin: &str) -> Result<(Self, Note), CheckpointError> {
        let note = open(note, verifiers)?;
        let checkpoint = Self::parse(&note.text)?;
        if checkpoint.origin != origin {
            let expected = origin.to_owned();
            return Err(CheckpointError::OtherOrigin { found: checkpoint.origin, expected });
        }
        Ok((checkpoint, note))
    }
}

fn check_line(line: &str, what: &'static str) -> Result<(), CheckpointError> {
    if line.is_empty() || line.bytes().any(|b| b < 0x20) { Err(CheckpointError::Line(what)) } else { Ok(()) }
}

fn decode_root(line: &str) -> Option<Hash> {
    BASE64_STANDARD.decode(line).ok()?.try_into().ok()
}
