//! What a backup consists of, and the database's own programs that read and write it.
//!
//! | in the directory | |
//! |---|---|
//! | `checkpoints/` | copied first: everything they vouch for is in the dump |
//! | `database.dump` | `pg_dump`, custom format, one snapshot |
//! | `keys/` | copied last: an erasure in between is on the list in it |
//! | `backup.json` | written at the very end: without it, the backup is not complete |

use crate::base::Place;
use crate::exit::Failure;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use uuid::Uuid;

pub const DUMP: &str = "database.dump";
pub const KEYS: &str = "keys";
pub const CHECKPOINTS: &str = "checkpoints";
const NOTE: &str = "backup.json";

/// What a backup tells of itself.
#[derive(Serialize, Deserialize, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Note {
    pub journal_id: Uuid,
    pub incarnation_id: Uuid,
    /// The journal's end at the latest when the dump began; the dump may hold more.
    pub position: i64,
    pub taken_at: chrono::DateTime<chrono::Utc>,
    pub daybook: String,
}

impl Note {
    pub fn read(directory: &Path) -> Result<Self, Failure> {
        let path = directory.join(NOTE);
        let text = fs::read_to_string(&path).map_err(|e| {
            let message =
                format!("{} is no complete backup: {} cannot be read ({e})", directory.display(), path.display());
            Failure::usage(message)
        })?;
        serde_json::from_str(&text)
            .map_err(|e| Failure::usage(format!("{} is damaged ({e}): take another backup", path.display())))
    }

    pub fn write(&self, directory: &Path) -> Result<(), Failure> {
        let path = directory.join(NOTE);
        let text = serde_json::to_string_pretty(self).map_err(|e| Failure::failed(&e))?;
        let written = create(&path).and_then(|mut file| {
            io::Write::write_all(&mut file, text.as_bytes())?;
            file.sync_all()
        });
        written.map_err(|e| failed("written", &path, &e))
    }
}

fn create(path: &Path) -> io::Result<fs::File> {
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// A directory that only this user can enter, and that was not there before.
pub fn new_directory(path: &Path) -> Result<(), Failure> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|e| failed("created", parent, &e))?;
    }
    fs::DirBuilder::new().mode(0o700).create(path).map_err(|e| match e.kind() {
        io::ErrorKind::AlreadyExists => {
            Failure::usage(format!("{} is there already: name a directory that is not", path.display()))
        }
        _ => failed("created", path, &e),
    })
}

/// Copies files and folders; what is not there is an empty folder. Files are written out to the disk.
pub fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    new_directory(to)?;
    let entries = match fs::read_dir(from) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(failed("read", from, &e)),
    };
    for entry in entries {
        let path = entry.map_err(|e| failed("read", from, &e))?.path();
        let Some(name) = path.file_name() else { continue };
        // What is being written at this moment is renamed when it is whole.
        if path.extension().is_some_and(|extension| extension == "partial") {
            continue;
        }
        let target = to.join(name);
        if path.is_dir() {
            copy(&path, &target)?;
            continue;
        }
        let copied = fs::File::open(&path).and_then(|mut source| {
            let mut file = create(&target)?;
            io::copy(&mut source, &mut file)?;
            file.sync_all()
        });
        match copied {
            Ok(()) => {}
            // Replaced or removed since the folder was listed.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(failed("copied", &path, &e)),
        }
    }
    Ok(())
}

fn failed(verb: &str, path: &Path, error: &io::Error) -> Failure {
    Failure { code: 1, message: format!("{} cannot be {verb}: {error}", path.display()) }
}

/// One of PostgreSQL's programs, told by environment where the database is: arguments can be seen by everybody.
///
/// # Errors
/// With the last thing it said.
pub async fn run(program: &str, programs: Option<&Path>, place: &Place, arguments: &[&str]) -> Result<(), Failure> {
    let beside = programs.map(|directory| directory.join(program)).filter(|path| path.exists());
    let path = beside.unwrap_or_else(|| PathBuf::from(program));
    let mut command = tokio::process::Command::new(&path);
    command.args(arguments).env("PGHOST", &place.host).env("PGPORT", place.port.to_string());
    command.env("PGUSER", &place.user).env("PGDATABASE", &place.database);
    match &place.password {
        Some(password) => command.env("PGPASSWORD", password),
        None => command.arg("--no-password"),
    };
    let output = command.kill_on_drop(true).output().await.map_err(|e| Failure {
        code: 1,
        message: format!("{} cannot be started ({e}): install PostgreSQL's client programs", path.display()),
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
    Err(Failure { code: 1, message: format!("{program} failed: {last}") })
}
