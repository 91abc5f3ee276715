//! `daybook backup`

use crate::backup::{self, CHECKPOINTS, DUMP, KEYS, Note};
use crate::base::Base;
use crate::config::Settled;
use crate::exit::Failure;
use clap::Args;
use daybook_store::system::{Real, System};
use daybook_store::{Role, schema};
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct Arguments {
    /// A directory that does not exist yet
    #[arg(long, value_name = "DIR")]
    into: PathBuf,
}

pub async fn run(settled: Settled, arguments: &Arguments) -> Result<(), Failure> {
    Base::with(&settled, async |base| take(&settled, base, &arguments.into).await).await
}

async fn take(settled: &Settled, base: &Base, into: &Path) -> Result<(), Failure> {
    let client = base.database.connect(Role::Login, "").await.map_err(|e| Failure::database(&e))?;
    let identity = schema::identity(&client).await.map_err(|e| Failure::database(&e))?;
    let query = |e| Failure::failed(&daybook_store::DatabaseError::Query(e));
    let position: i64 = client
        .query_one("select coalesce(max(last_position), 0) from journal.batches", &[])
        .await
        .map_err(query)?
        .get(0);
    let programs = base.programs(&client).await;
    drop(client);

    backup::new_directory(into)?;
    // In this order: see the module.
    backup::copy(&settled.checkpoints_dir(), &into.join(CHECKPOINTS))?;
    let dump = into.join(DUMP);
    let file = format!("--file={}", dump.display());
    backup::run("pg_dump", programs.as_deref(), &base.place, &["--format=custom", "--no-unlogged-table-data", &file])
        .await?;
    backup::copy(&settled.keys_dir(), &into.join(KEYS))?;
    let note = Note {
        journal_id: identity.journal_id,
        incarnation_id: identity.incarnation_id,
        position,
        taken_at: Real.utc(),
        daybook: env!("CARGO_PKG_VERSION").to_owned(),
    };
    note.write(into)?;
    println!("Journal {} up to position {position} at least is in {}.", identity.journal_id, into.display());
    println!("Keep {} apart from the rest: together they tell everything.", into.join(KEYS).display());
    Ok(())
}
