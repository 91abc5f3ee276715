//! Finds the PostgreSQL programs: the newest that fits, and that the server's user can run.
//!
//! It starts nothing but `postgres --version`, and that as the server's user.

use std::collections::BTreeSet;
use std::env;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::OLDEST_MAJOR;
use crate::account::Account;
use crate::error::KeeperError;

/// One installation.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    bin_dir: PathBuf,
    pub(crate) major: u32,
}

/// Parent directory, prefix of the version's own directory, and where the programs are in it.
const VERSIONED: [(&str, &str, &str); 8] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/usr/lib", "postgresql", "bin"),
    ("/usr/libexec", "postgresql", ""),
    ("/opt/homebrew/opt", "postgresql@", "bin"),
    ("/usr/local/opt", "postgresql@", "bin"),
    ("/home/linuxbrew/.linuxbrew/opt", "postgresql@", "bin"),
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
];

impl Programs {
    /// The programs for a cluster of version `major`, or the newest for a new one.
    ///
    /// # Errors
    /// None usable, or none of that version.
    pub(crate) async fn find(
        bin_dir: Option<&Path>,
        cluster: &Path,
        major: Option<u32>,
        account: &Account,
    ) -> Result<Programs, KeeperError> {
        let (usable, rejected) = match bin_dir {
            Some(directory) => {
                let found = inspect(directory, account)
                    .await
                    .map_err(|reason| KeeperError::ProgramsUnusable { directory: directory.to_owned(), reason })?;
                (vec![found], Vec::new())
            }
            None => survey(account).await,
        };
        if usable.is_empty() {
            return Err(KeeperError::ProgramsMissing { searched: rejected.concat() });
        }
        let chosen = match major {
            // The first of equals: PATH is the user's choice.
            Some(major) => usable.iter().find(|programs| programs.major == major),
            None => usable.iter().rev().max_by_key(|programs| programs.major),
        };
        chosen.cloned().ok_or_else(|| {
            let majors: BTreeSet<u32> = usable.iter().map(|programs| programs.major).collect();
            let majors: Vec<String> = majors.iter().map(u32::to_string).collect();
            KeeperError::OtherMajorVersion {
                directory: cluster.to_owned(),
                cluster: major.unwrap_or_default(),
                found: majors.join(", "),
            }
        })
    }

    /// A program of this installation, to be run as the server's user.
    pub(crate) fn command(&self, program: &str, account: &Account) -> Command {
        let mut command = Command::new(self.bin_dir.join(program));
        account.apply(&mut command);
        command.stdin(Stdio::null());
        command
    }

    /// Whether the server's user gets to `directory`: asked by going there, so that access lists count too.
    pub(crate) async fn check_reach(&self, directory: &Path, account: &Account) -> Result<(), KeeperError> {
        let status = self
            .command("postgres", account)
            .arg("--version")
            .stdout(Stdio::null())
            .current_dir(directory)
            .status()
            .await;
        match status {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(KeeperError::Unreachable {
                directory: account.blocked_at(directory).unwrap_or(directory).to_owned(),
                user: account.name.clone(),
            }),
            Err(source) => Err(KeeperError::Io { action: "run", path: self.bin_dir.join("postgres"), source }),
        }
    }
}

/// Every installation in the usual places, and a line about each that does not do.
async fn survey(account: &Account) -> (Vec<Programs>, Vec<String>) {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<PathBuf> = Vec::new();
    for directory in env::split_paths(&path).filter(|directory| directory.is_absolute()) {
        // What PATH has may be a link to one program of a complete installation.
        if let Some(real) =
            directory.join("postgres").canonicalize().ok().and_then(|file| Some(file.parent()?.to_owned()))
        {
            directories.push(real);
        }
        directories.push(directory);
    }
    directories.extend(versioned());
    directories.push("/usr/local/pgsql/bin".into());

    let mut seen = BTreeSet::new();
    let (mut usable, mut rejected) = (Vec::new(), Vec::new());
    for directory in directories {
        if !directory.join("postgres").exists() || !seen.insert(directory.clone()) {
            continue;
        }
        match inspect(&directory, account).await {
            Ok(programs) => usable.push(programs),
            Err(reason) => rejected.push(format!("\n{}: {reason}", directory.display())),
        }
    }
    (usable, rejected)
}

fn versioned() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for (parent, prefix, below) in VERSIONED {
        let Ok(entries) = fs::read_dir(parent) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let version = name.to_str().and_then(|name| name.strip_prefix(prefix)).and_then(leading_number);
            if version.is_some() {
                found.push(entry.path().join(below));
            }
        }
    }
    found.sort();
    found
}

/// What is in this directory, or why it does not do.
async fn inspect(directory: &Path, account: &Account) -> Result<Programs, String> {
    for program in ["postgres", "initdb"] {
        if !directory.join(program).is_file() {
            return Err(format!("there is no {program}"));
        }
    }
    let postgres = directory.join("postgres");
    // Behind a script there is another process than the one we started, perhaps elsewhere.
    let mut start = [0; 2];
    if File::open(&postgres).and_then(|mut file| file.read_exact(&mut start)).is_ok() && &start == b"#!" {
        return Err("its postgres is a script, not the server".into());
    }
    let mut command = Command::new(&postgres);
    account.apply(&mut command);
    let output = command.arg("--version").stdin(Stdio::null()).current_dir("/").output().await;
    let output = output.map_err(|error| format!("the user {} cannot run its postgres ({error})", account.name))?;
    let text = String::from_utf8_lossy(&output.stdout);
    match parse_major(&text) {
        Some(major) if major >= OLDEST_MAJOR => Ok(Programs { bin_dir: directory.to_owned(), major }),
        Some(major) => Err(format!("it is version {major}")),
        None => Err("its postgres does not tell a version".into()),
    }
}

/// The major version in `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
fn parse_major(text: &str) -> Option<u32> {
    leading_number(text.split_once("(PostgreSQL)")?.1.trim_start())
}

fn leading_number(text: &str) -> Option<u32> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_the_programs_tell_them() {
        assert_eq!(parse_major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(parse_major("postgres (PostgreSQL) 19beta1\n"), Some(19));
        assert_eq!(parse_major("postgres (PostgreSQL) 9.6.24"), Some(9));
        assert_eq!(parse_major("something else 15.1"), None);
    }
}
