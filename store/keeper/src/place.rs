//! The data directory: its path, its lock, and what lies in it.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use crate::account::is_root;
use crate::error::{At, KeeperError};

/// PostgreSQL cuts paths at 1,024 bytes without a word; its own file names need the rest.
const PATH_BYTES_MAX: usize = 900;
/// The prefix of a cluster that is not finished yet.
const UNFINISHED: &str = "postgres.new-";

/// The paths below one data directory, which exists and is canonical.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) data: PathBuf,
    /// Where the cluster is or will be.
    pub(crate) cluster: PathBuf,
    /// The configuration and the output of the last start.
    pub(crate) server: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) run: PathBuf,
}

impl Place {
    /// Makes the data directory if need be.
    pub(crate) fn open(data_dir: &Path) -> Result<Place, KeeperError> {
        check_path(data_dir)?;
        let wanted = std::path::absolute(data_dir).at("find", data_dir)?;
        check_path(&wanted)?;
        if !wanted.is_dir() {
            DirBuilder::new().recursive(true).mode(0o755).create(&wanted).at("create", &wanted)?;
            // Root's is entered by the server's user, who has no business listing it.
            set_mode(&wanted, if is_root() { 0o711 } else { 0o700 })?;
        }
        let data = wanted.canonicalize().at("find", &wanted)?;
        check_path(&data)?;
        let cluster = data.join("postgres");
        Ok(Place {
            // A link to a cluster on another disk is the administrator's good right.
            cluster: cluster.canonicalize().unwrap_or(cluster),
            server: data.join("server"),
            log: data.join("log"),
            run: data.join("run"),
            data,
        })
    }

    pub(crate) fn config_file(&self) -> PathBuf {
        self.server.join("postgresql.conf")
    }

    /// What the last start said before the server's own log took over.
    pub(crate) fn startup_log(&self) -> PathBuf {
        self.server.join("startup.log")
    }

    /// The major version of the cluster, or `None` when there is no cluster yet.
    pub(crate) fn major(&self) -> Result<Option<u32>, KeeperError> {
        let file = self.cluster.join("PG_VERSION");
        match fs::read_to_string(&file) {
            Ok(text) => text.trim().parse().map(Some).map_err(|_| KeeperError::NotACluster {
                directory: self.cluster.clone(),
                reason: "its PG_VERSION holds no version".into(),
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.refuse_remains().map(|()| None),
            Err(error) => Err(error).at("read", &file),
        }
    }

    fn refuse_remains(&self) -> Result<(), KeeperError> {
        match fs::read_dir(&self.cluster).map(|mut entries| entries.next().is_none()) {
            Ok(true) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Ok(false) => {
                Err(KeeperError::NotACluster { directory: self.cluster.clone(), reason: "it has no PG_VERSION".into() })
            }
            Err(error) => Err(error).at("read", &self.cluster),
        }
    }

    /// A directory for `initdb` to work in, beside the cluster so that a rename finishes it. Not made yet.
    pub(crate) fn unfinished(&self) -> PathBuf {
        self.data.join(format!("{UNFINISHED}{}", std::process::id()))
    }

    /// Removes what an earlier creation, killed in the middle, has left. The lock must be held.
    pub(crate) async fn sweep(&self) -> Result<(), KeeperError> {
        let entries = fs::read_dir(&self.data).at("read", &self.data)?;
        for entry in entries.flatten() {
            if entry.file_name().as_bytes().starts_with(UNFINISHED.as_bytes()) {
                remove_tree(&entry.path()).await?;
            }
        }
        Ok(())
    }
}

fn check_path(path: &Path) -> Result<(), KeeperError> {
    let refuse = |reason: &str| {
        Err(KeeperError::UnsuitablePath {
            directory: path.to_owned(),
            reason: format!("{reason}; choose another path"),
        })
    };
    match path.to_str() {
        None => refuse("PostgreSQL needs a path in UTF-8"),
        // The server's own files are read line by line.
        Some(text) if text.chars().any(char::is_control) => {
            refuse("it contains a line break or another control character")
        }
        Some("") => refuse("it is empty"),
        Some(text) if text.len() > PATH_BYTES_MAX => {
            refuse(&format!("it is {} bytes long, and PostgreSQL has room for {PATH_BYTES_MAX}", text.len()))
        }
        Some(_) => Ok(()),
    }
}

/// Removes a directory even while a dying `initdb` still writes into it.
pub(crate) async fn remove_tree(path: &Path) -> Result<(), KeeperError> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match fs::remove_dir_all(path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(error).at("remove", path),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Makes a directory of ours with this mode; one that exists is left as it is.
pub(crate) fn ensure_directory(path: &Path, mode: u32) -> Result<(), KeeperError> {
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => set_mode(path, mode),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error).at("create", path),
    }
}

pub(crate) fn set_mode(path: &Path, mode: u32) -> Result<(), KeeperError> {
    fs::set_permissions(path, Permissions::from_mode(mode)).at("set the mode of", path)
}

/// Writes a file whole or not at all, and tells whether its content is new.
pub(crate) fn write_whole(path: &Path, content: &str, mode: u32) -> Result<bool, KeeperError> {
    if fs::read(path).is_ok_and(|old| old == content.as_bytes()) {
        return Ok(false);
    }
    let fresh = path.with_extension("new");
    let _ = fs::remove_file(&fresh);
    let mut file = OpenOptions::new().write(true).create_new(true).open(&fresh).at("create", &fresh)?;
    file.write_all(content.as_bytes()).and_then(|()| file.sync_all()).at("write", &fresh)?;
    set_mode(&fresh, mode)?;
    fs::rename(&fresh, path).at("replace", path)?;
    Ok(true)
}

/// Makes a rename or a removal in this directory survive a power cut.
pub(crate) fn sync_directory(path: &Path) -> Result<(), KeeperError> {
    File::open(path).and_then(|directory| directory.sync_all()).at("sync", path)
}

/// The right to keep this data directory, held while it lives. The system releases it when the process ends,
/// however it ends; children do not inherit it.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file is not enough: a child that another thread is just starting has a copy of it until it
        // runs its own program. Should this fail, the end of that copy releases the lock.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

impl Lock {
    pub(crate) fn take(place: &Place) -> Result<Lock, KeeperError> {
        let path = place.data.join("daybook.lock");
        let nofollow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default();
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .custom_flags(nofollow)
            .open(&path)
            .at("open", &path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Err(KeeperError::Held { directory: place.data.clone(), pid });
            }
            Err(error) => return Err(io::Error::from(error)).at("lock", &path),
        }
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(format!("{}\n", std::process::id()).as_bytes()));
        written.at("write", &path)?;
        Ok(Lock { file })
    }
}
