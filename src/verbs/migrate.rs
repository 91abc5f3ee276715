//! `daybook migrate`

use crate::base::Base;
use crate::config::Settled;
use crate::exit::Failure;
use daybook_store::schema;
use daybook_store::system::Real;

pub async fn run(settled: Settled) -> Result<(), Failure> {
    let migrated = Base::with(&settled, async |base| {
        schema::migrate(&base.database, &Real).await.map_err(|e| Failure::schema(&e))
    });
    let migrated = migrated.await?;
    if migrated.applied.is_empty() {
        println!("The database is up to date (journal {}).", migrated.identity.journal_id);
    } else {
        println!("Applied {} (journal {}).", migrated.applied.join(", "), migrated.identity.journal_id);
    }
    Ok(())
}
