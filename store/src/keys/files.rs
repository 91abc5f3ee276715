//! The keys that are files: root, unique keys' HMAC, signing.
//!
//! One directory, mode 0700, three files, mode 0600. They are made once, with an empty journal, and
//! never again: a journal without its root key cannot be read, so a new one would only hide the loss.
//! Back them up apart from the database dump, which is worthless to a thief without them.

use crate::system::System;
use base64::{Engine, engine::general_purpose::STANDARD};
use daybook_tlog::Signer;
use hkdf::Hkdf;
use sha2::Sha256;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

const ROOT: &str = "root.key";
const UNIQUE: &str = "unique.key";
const SIGNING: &str = "signing.key";

#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error("key file {path} cannot be {verb}")]
    Io { path: PathBuf, verb: &'static str, source: std::io::Error },
    #[error("key file {0} may be read by others (mode {1:o}): run chmod 600 on it")]
    Mode(PathBuf, u32),
    #[error("key file {0} is damaged: restore it from your backup of the key directory")]
    Damaged(PathBuf),
    #[error(
        "key file {0} is missing but the journal has data: restore it from your backup of the key directory; a new key could not read what is there"
    )]
    Missing(PathBuf),
}

/// The three keys, loaded.
pub struct KeyFiles {
    root: Zeroizing<[u8; 32]>,
    unique: Zeroizing<[u8; 32]>,
    signer: Signer,
    directory: PathBuf,
}

impl KeyFiles {
    /// Loads the keys; makes them where `may_create` (the journal is empty) and none of them exists.
    ///
    /// # Errors
    /// When a file is missing beside data, damaged, or readable by others.
    pub fn open(
        directory: &Path,
        may_create: bool,
        signer_name: &str,
        system: &dyn System,
    ) -> Result<Self, KeyFileError> {
        if may_create {
            let io = |source| KeyFileError::Io { path: directory.to_owned(), verb: "created", source };
            fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(io)?;
            for name in [ROOT, UNIQUE, SIGNING] {
                let path = directory.join(name);
                if path.exists() {
                    continue;
                }
                let mut key = Zeroizing::new([0u8; 32]);
                system.random(key.as_mut());
                let text = if name == SIGNING {
                    Signer::generate(signer_name, &key)
                        .map_err(|_| KeyFileError::Damaged(path.clone()))?
                        .skey()
                        .to_string()
                } else {
                    STANDARD.encode(key.as_ref())
                };
                write_new(&path, text.as_bytes())?;
            }
        }
        let signing = read(&directory.join(SIGNING))?;
        Ok(KeyFiles {
            root: key(&directory.join(ROOT))?,
            unique: key(&directory.join(UNIQUE))?,
            signer: Signer::from_skey(signing.trim()).map_err(|_| KeyFileError::Damaged(directory.join(SIGNING)))?,
            directory: directory.to_owned(),
        })
    }

    pub(crate) fn root(&self) -> &[u8; 32] {
        &self.root
    }

    /// Signs checkpoints.
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The keyed hash under which a unique key is kept.
    pub fn unique_hash(&self, kind: &str, key: &str) -> [u8; 32] {
        let mut message = Vec::with_capacity(kind.len() + key.len() + 1);
        message.extend_from_slice(kind.as_bytes());
        message.push(0);
        message.extend_from_slice(key.as_bytes());
        super::keyed_hash(self.unique.as_ref(), &message)
    }

    /// A key for one purpose, from the root key. The purpose is part of the contract: it never changes.
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        let mut out = [0u8; 32];
        Hkdf::<Sha256>::new(None, self.root.as_ref())
            .expand(purpose.as_bytes(), &mut out)
            .expect("32 bytes are within what HKDF gives");
        out
    }
}

fn read(path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
    let io = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::NotFound => KeyFileError::Missing(path.to_owned()),
        _ => KeyFileError::Io { path: path.to_owned(), verb: "read", source },
    };
    let mode = fs::metadata(path).map_err(io)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Mode(path.to_owned(), mode));
    }
    fs::read_to_string(path).map(Zeroizing::new).map_err(io)
}

fn key(path: &Path) -> Result<Zeroizing<[u8; 32]>, KeyFileError> {
    let text = read(path)?;
    let bytes = Zeroizing::new(STANDARD.decode(text.trim()).map_err(|_| KeyFileError::Damaged(path.to_owned()))?);
    let key: [u8; 32] = bytes.as_slice().try_into().map_err(|_| KeyFileError::Damaged(path.to_owned()))?;
    Ok(Zeroizing::new(key))
}

/// Whole or not at all, also when the machine loses power in between.
fn write_new(path: &Path, bytes: &[u8]) -> Result<(), KeyFileError> {
    let io = |source| KeyFileError::Io { path: path.to_owned(), verb: "written", source };
    let partial = path.with_extension("partial");
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial).map_err(io)?;
    file.write_all(bytes).and_then(|()| file.write_all(b"\n")).and_then(|()| file.sync_all()).map_err(io)?;
    fs::rename(&partial, path).map_err(io)?;
    let parent = path.parent().unwrap_or(Path::new("."));
    fs::File::open(parent).and_then(|d| d.sync_all()).map_err(io)
}
