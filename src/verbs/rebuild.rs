//! `daybook rebuild`

use crate::base::Base;
use crate::config::Settled;
use crate::exit::Failure;
use clap::Args;
use daybook_projections::engine::{Options, RebuildProgress};
use daybook_projections::{Model, Parts, read_models};
use daybook_store::journal::BY_KEY;
use daybook_store::journal::follow::Source;
use daybook_store::keys::{KeyFiles, KeyStore, Sealer};
use daybook_store::system::{Real, SharedSystem};
use daybook_store::{Role, schema};
use std::sync::Arc;

#[derive(Args)]
pub struct Arguments {
    /// Name of the read model, e.g. `tenants`
    read_model: String,
}

pub async fn run(settled: Settled, arguments: &Arguments) -> Result<(), Failure> {
    let models = read_models();
    let Some(model) = models.iter().find(|m| m.name() == arguments.read_model) else {
        let names: Vec<&str> = models.iter().map(|m| m.name()).collect();
        return Err(Failure::usage(format!(
            "there is no read model {:?}; there are {}",
            arguments.read_model,
            names.join(", ")
        )));
    };
    Base::with(&settled, async |base| carry_out(&settled, model, base).await).await
}

async fn carry_out(settled: &Settled, model: &Model, base: &Base) -> Result<(), Failure> {
    let system: SharedSystem = Arc::new(Real);
    let migrated = schema::migrate(&base.database, &Real).await.map_err(|e| Failure::schema(&e))?;
    let files = KeyFiles::open(
        &settled.keys_dir(),
        migrated.empty,
        &format!("daybook/{}", migrated.identity.journal_id),
        &Real,
    )
    .map_err(|e| Failure::failed(&e))?;
    let keys = Arc::new(KeyStore::new(base.database.pool(Role::Writer, 2, BY_KEY), Arc::new(files), system.clone()));
    let mut shown = super::Shown::new("events");
    let parts = Parts {
        database: base.database.clone(),
        source: Source::Journal,
        sealer: Sealer::new(keys, system.clone()),
        system,
        options: Options::default(),
    };
    let mut report = |progress: RebuildProgress| shown.tell(progress.position, progress.head);
    let rebuilt = model.rebuild(&parts, &mut report).await.map_err(|e| Failure::failed(&e))?;
    shown.clear();
    println!("{} version {} answers now, up to position {}.", rebuilt.read_model, rebuilt.version, rebuilt.position);
    Ok(())
}
