//! Who the server runs as: the caller, or, because PostgreSQL refuses root, an unprivileged user.
//!
//! Users are looked up with `id`, which asks whatever the system asks (files, directories, macOS), without
//! the thread-unsafe calls of the C library.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::Path;

use tokio::process::Command;

use crate::error::{At, KeeperError};

/// In the order of preference. The last is shared with other services, which then could read the data.
const CANDIDATES: [&str; 4] = ["postgres", "_postgres", "daybook", "nobody"];

/// The user and group of the server.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Whether this is somebody else than the caller, who then is root.
    switch: bool,
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

impl Account {
    /// The owner of an existing cluster, else the first candidate (as root) or the caller.
    pub(crate) async fn choose(cluster: &Path) -> Result<Account, KeeperError> {
        let owner = match fs::metadata(cluster) {
            Ok(metadata) => Some((metadata.uid(), metadata.gid())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).at("look at", cluster),
        };
        let me = rustix::process::geteuid().as_raw();
        match owner {
            _ if me != 0 => {
                if let Some((owner, _)) = owner.filter(|(uid, _)| *uid != me) {
                    return Err(KeeperError::OtherOwner { directory: cluster.to_owned(), owner, me });
                }
                Ok(Account { name: me.to_string(), uid: me, gid: rustix::process::getegid().as_raw(), switch: false })
            }
            Some((0, _)) => Err(KeeperError::NotACluster {
                directory: cluster.to_owned(),
                reason: "it belongs to root, and PostgreSQL refuses to run as root".into(),
            }),
            Some((uid, gid)) => Ok(Account { name: name_of(uid).await, uid, gid, switch: true }),
            None => Account::unprivileged().await,
        }
    }

    async fn unprivileged() -> Result<Account, KeeperError> {
        for name in CANDIDATES {
            if let (Some(uid), Some(gid)) = (id("-u", name).await, id("-g", name).await)
                && uid != 0
            {
                if name == "nobody" {
                    tracing::warn!(
                        "the database runs as the user nobody, whom other services may use too: \
                         create a user postgres or daybook before the first start to keep its files apart"
                    );
                }
                return Ok(Account { name: name.into(), uid, gid, switch: true });
            }
        }
        Err(KeeperError::NoUnprivilegedUser { tried: CANDIDATES.join(", ") })
    }

    /// Whether the server's user is another than the caller.
    pub(crate) fn is_other(&self) -> bool {
        self.switch
    }

    /// Makes `command` run as this user, in its own process group, undisturbed by the caller's environment.
    pub(crate) fn apply(&self, command: &mut Command) {
        if self.switch {
            // The standard library drops the supplementary groups of root together with the user id.
            command.uid(self.uid).gid(self.gid);
        }
        command.process_group(0);
        // libpq's and the server's own variables would redirect or reconfigure the programs.
        for (name, _) in std::env::vars_os() {
            let name_text = name.to_string_lossy();
            if name_text.starts_with("PG") || name_text.starts_with("LC_") || name_text.starts_with("LANG") {
                command.env_remove(&name);
            }
        }
        // Messages are recognised by their English text.
        command.env("LC_ALL", "C");
    }

    /// Gives a path that the caller has made to the server's user.
    pub(crate) fn give(&self, path: &Path) -> Result<(), KeeperError> {
        if !self.switch {
            return Ok(());
        }
        lchown(path, Some(self.uid), Some(self.gid))
            .map_err(|source| KeeperError::CannotBecomeUser { user: self.name.clone(), source })
    }

    /// The first directory on the way to `path` whose mode keeps this user out.
    pub(crate) fn blocked_at<'a>(&self, path: &'a Path) -> Option<&'a Path> {
        let mut way: Vec<&Path> = path.ancestors().collect();
        way.reverse();
        way.into_iter().find(|directory| {
            fs::metadata(directory).is_ok_and(|metadata| {
                let bit = match (metadata.uid() == self.uid, metadata.gid() == self.gid) {
                    (true, _) => 0o100,
                    (false, true) => 0o010,
                    (false, false) => 0o001,
                };
                metadata.mode() & bit == 0
            })
        })
    }
}

async fn id(what: &str, name: &str) -> Option<u32> {
    let output = Command::new("id").args([what, name]).output().await.ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().parse().ok())?
}

async fn name_of(uid: u32) -> String {
    let output = Command::new("id").args(["-un", &uid.to_string()]).output().await;
    match output {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        _ => uid.to_string(),
    }
}
