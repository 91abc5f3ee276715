//! `daybook export`

use crate::base::Base;
use crate::config::Settled;
use crate::exit::Failure;
use clap::{Args, ValueEnum};
use daybook_domain::TenantId;
use daybook_store::checkpoints::CheckpointStore;
use daybook_store::export::{Exported, export};
use daybook_store::keys::KeyFiles;
use daybook_store::system::Real;
use daybook_store::{Role, schema};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use uuid::Uuid;

#[derive(Args)]
pub struct Arguments {
    /// Whose log
    #[arg(long, value_name = "ID")]
    tenant: Uuid,
    /// How to write it: one JSON object per line
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    format: Format,
    /// Where to [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Jsonl,
}

pub async fn run(settled: Settled, arguments: &Arguments) -> Result<(), Failure> {
    let Format::Jsonl = arguments.format;
    Base::with(&settled, async |base| carry_out(&settled, arguments, base).await).await
}

async fn carry_out(settled: &Settled, arguments: &Arguments, base: &Base) -> Result<(), Failure> {
    let client = base.database.connect(Role::Login, "").await.map_err(|e| Failure::unavailable(&e))?;
    let identity = schema::identity(&client).await.map_err(|e| Failure::failed(&e))?;
    let files = KeyFiles::open(&settled.keys_dir(), false, "", &Real).map_err(|e| Failure::failed(&e))?;
    let store = CheckpointStore::new(&settled.checkpoints_dir(), identity.journal_id);
    let bar = super::bar("events");
    let shown = |done, of| {
        bar.set_length(of);
        bar.set_position(done);
    };
    let (tenant, verifier) = (TenantId(arguments.tenant), files.signer().verifier());
    let write = async |out: &mut (dyn Write + Send)| {
        export(&base.database, &store, &verifier, tenant, out, &shown).await.map_err(|e| Failure::failed(&e))
    };
    let done = match &arguments.output {
        // An export that broke off must not look like one.
        Some(path) => {
            let part = part_of(path);
            let failed =
                |e: std::io::Error| Failure { code: 1, message: format!("{} cannot be written: {e}", path.display()) };
            let mut out = BufWriter::new(File::create(&part).map_err(failed)?);
            let done = write(&mut out).await;
            let kept = done.and_then(|done| {
                out.get_ref().sync_all().and_then(|()| fs::rename(&part, path)).map_err(failed)?;
                Ok(done)
            });
            if kept.is_err() {
                // What is left of it is of no use, and the first error tells more.
                let _ = fs::remove_file(&part);
            }
            kept?
        }
        None => write(&mut BufWriter::new(std::io::stdout())).await?,
    };
    bar.finish_and_clear();
    let Exported { events, unsigned } = done;
    eprintln!("{events} events, as signed.");
    if unsigned > 0 {
        eprintln!("{unsigned} later events are not signed yet and not exported: try again in a second.");
    }
    Ok(())
}

fn part_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}
