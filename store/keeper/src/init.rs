//! Creates the cluster: whole or not at all.
//!
//! `initdb` works in a directory beside the final one, which a rename then puts in place; whatever is killed
//! in between leaves a directory that the next start removes.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::process::Stdio;

use crate::SUPERUSER;
use crate::account::Account;
use crate::error::{At, KeeperError, shortage};
use crate::log::last_lines;
use crate::place::{Place, remove_tree, sync_directory};
use crate::programs::Programs;

pub(crate) async fn create(place: &Place, programs: &Programs, account: &Account) -> Result<(), KeeperError> {
    let unfinished = place.unfinished();
    DirBuilder::new().mode(0o700).create(&unfinished).at("create", &unfinished)?;
    let made = match account.give(&unfinished) {
        Ok(()) => run(place, programs, account).await,
        Err(error) => Err(error),
    };
    if let Err(error) = made {
        remove_tree(&unfinished).await?;
        return Err(error);
    }
    fs::rename(&unfinished, &place.cluster).at("put the new cluster at", &place.cluster)?;
    sync_directory(&place.data)
}

async fn run(place: &Place, programs: &Programs, account: &Account) -> Result<(), KeeperError> {
    let unfinished = place.unfinished();
    let mut command = programs.command("initdb", account);
    command
        .arg("--pgdata")
        .arg(&unfinished)
        .args(["--data-checksums", "--encoding=UTF8", "--no-instructions", "--auth-local=trust", "--auth-host=reject"])
        .arg(format!("--username={SUPERUSER}"))
        // Order by code point on every machine: an index must not change its order with the C library.
        .args(if programs.major >= 17 {
            ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"].as_slice()
        } else {
            ["--locale=C"].as_slice()
        })
        .current_dir(&place.data)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let output = command.output().await.at("run initdb in", &place.data)?;
    if output.status.success() {
        return Ok(());
    }
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let log = last_lines(&said);
    Err(if let Some(error) = shortage(&said, &place.data) {
        error
    } else if said.contains("could not look up effective user ID") {
        KeeperError::NamelessUser { uid: account.uid }
    } else {
        KeeperError::InitFailed { directory: place.cluster.clone(), status: output.status.to_string(), output: log }
    })
}
