//! The server's Unix socket: a short path in a directory that is private, and a number that is free.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::account::Account;
use crate::error::{At, KeeperError};
use crate::orphan::PidFile;
use crate::place::Place;
use crate::process::Process;

/// What the system's socket address has room for, without the closing zero.
const PATH_BYTES_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };
const FIRST_PORT: u16 = 5432;
const LAST_PORT: u16 = 5439;

/// A long answer means a server that does not work.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);
/// Length 8, then the code by which a client asks for encryption: answered before any login, with one byte.
const PROBE: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// The socket of this number in this directory.
pub(crate) fn path(directory: &Path, port: u16) -> PathBuf {
    directory.join(format!(".s.PGSQL.{port}"))
}

/// The private directory for the socket, made if need be: `run` in the data directory, or a short one elsewhere.
pub(crate) fn directory(place: &Place, account: &Account) -> Result<PathBuf, KeeperError> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let chosen = choose(place, runtime.filter(|path| !account.is_other() && path.is_absolute() && path.is_dir()));
    if chosen != place.run {
        check_parent(&chosen)?;
    }
    make_private(&chosen, account)?;
    Ok(chosen)
}

fn choose(place: &Place, runtime: Option<PathBuf>) -> PathBuf {
    let name = format!("daybook-{:016x}", fingerprint(place.data.as_os_str().as_bytes()));
    let elsewhere = runtime.into_iter().chain([PathBuf::from("/tmp")]).map(|parent| parent.join(&name));
    let short = [place.run.clone()].into_iter().chain(elsewhere).find(|directory| fits(directory));
    // The last one always fits.
    short.unwrap_or_else(|| Path::new("/tmp").join(name))
}

/// Clients take a comma for the end of one host and the beginning of the next.
fn fits(directory: &Path) -> bool {
    let bytes = directory.as_os_str().as_bytes();
    path(directory, LAST_PORT).as_os_str().len() <= PATH_BYTES_MAX && !bytes.contains(&b',')
}

/// FNV-1a. Two directories that share a name by accident only share it: the numbers in it differ.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// In a directory that anybody may write to and that is not sticky, anybody could swap ours for theirs.
fn check_parent(directory: &Path) -> Result<(), KeeperError> {
    let parent = directory.parent().unwrap_or(directory);
    let metadata = fs::metadata(parent).at("look at", parent)?;
    if metadata.mode() & 0o022 != 0 && metadata.mode() & 0o1000 == 0 {
        return Err(KeeperError::SocketDirectory {
            directory: directory.to_owned(),
            reason: format!("everybody may replace it, because {} lacks the sticky bit", parent.display()),
        });
    }
    Ok(())
}

fn make_private(directory: &Path, account: &Account) -> Result<(), KeeperError> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => account.give(directory),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let metadata = fs::symlink_metadata(directory).at("look at", directory)?;
            // Made by us and not handed over, because we were killed in between.
            if account.is_other() && metadata.is_dir() && metadata.uid() == 0 && metadata.mode() & 0o077 == 0 {
                return account.give(directory);
            }
            check_private(directory, account)
        }
        Err(error) => Err(error).at("create", directory),
    }
}

/// Refuses a directory that somebody else may have planted.
pub(crate) fn check_private(directory: &Path, account: &Account) -> Result<(), KeeperError> {
    let metadata = fs::symlink_metadata(directory).at("look at", directory)?;
    let reason = if !metadata.is_dir() {
        "it is not a directory".to_owned()
    } else if metadata.uid() != account.uid {
        format!(
            "it belongs to the user with id {}, and the server runs as {} ({})",
            metadata.uid(),
            account.name,
            account.uid
        )
    } else if metadata.mode() & 0o077 != 0 {
        format!("its mode is {:04o}, so others can enter it; it must be 0700", metadata.mode() & 0o7777)
    } else {
        return Ok(());
    };
    Err(KeeperError::SocketDirectory { directory: directory.to_owned(), reason })
}

/// A number whose socket nobody uses; what dead servers have left of it is removed.
pub(crate) async fn free_port(directory: &Path) -> Result<u16, KeeperError> {
    for port in FIRST_PORT..=LAST_PORT {
        if is_free(directory, port).await? {
            return Ok(port);
        }
        tracing::info!(port, directory = %directory.display(), "the socket is in use, the next number is tried");
    }
    Err(KeeperError::PortsInUse { directory: directory.to_owned(), first: FIRST_PORT, last: LAST_PORT })
}

/// Whether nobody uses this socket. A lock file whose process is gone, or has become another program, is
/// removed: PostgreSQL itself would take any process with that id for a server.
pub(crate) async fn is_free(directory: &Path, port: u16) -> Result<bool, KeeperError> {
    let socket = path(directory, port);
    let lock = directory.join(format!(".s.PGSQL.{port}.lock"));
    let holder = PidFile::read(&lock)?;
    if let Some(file) = &holder
        && Process::find(file.pid).is_some_and(|process| process.serves(&file.directory))
    {
        return Ok(false);
    }
    match timeout(PROBE_TIMEOUT, UnixStream::connect(&socket)).await {
        Ok(Err(error)) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {}
        Ok(Err(error)) => return Err(error).at("connect to", &socket),
        Ok(Ok(_)) | Err(_) => return Ok(false),
    }
    remove_if_there(&lock)?;
    Ok(true)
}

/// Removes a file; one that is not there is as good as removed.
pub(crate) fn remove_if_there(path: &Path) -> Result<(), KeeperError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).at("remove", path),
        _ => Ok(()),
    }
}

/// Whether a server answers here, without logging in and without a trace in its log.
pub(crate) async fn answers(directory: &Path, port: u16) -> bool {
    let socket = path(directory, port);
    let ask = async {
        let mut stream = UnixStream::connect(&socket).await?;
        stream.write_all(&PROBE).await?;
        stream.read_u8().await
    };
    matches!(timeout(PROBE_TIMEOUT, ask).await, Ok(Ok(b'N' | b'S')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(data: &str) -> Place {
        let data = PathBuf::from(data);
        Place {
            cluster: data.join("postgres"),
            server: data.join("server"),
            log: data.join("log"),
            run: data.join("run"),
            data,
        }
    }

    #[test]
    fn the_socket_is_in_the_data_directory_while_its_path_is_short_enough() {
        let longest = format!("/{}", "d".repeat(PATH_BYTES_MAX - "/".len() - "/run/.s.PGSQL.5432".len()));
        let chosen = choose(&place(&longest), None);
        assert_eq!(chosen, Path::new(&longest).join("run"));
        assert_eq!(path(&chosen, FIRST_PORT).as_os_str().len(), PATH_BYTES_MAX);

        let longer = format!("{longest}d");
        let elsewhere = choose(&place(&longer), None);
        assert_eq!(elsewhere.parent(), Some(Path::new("/tmp")));
        assert_ne!(elsewhere, choose(&place(&format!("{longer}e")), None));
    }

    #[test]
    fn a_users_runtime_directory_comes_before_tmp() {
        let long = format!("/{}", "d".repeat(200));
        let chosen = choose(&place(&long), Some("/run/user/1000".into()));
        assert_eq!(chosen.parent(), Some(Path::new("/run/user/1000")));
    }
}
