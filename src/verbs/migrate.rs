//! `daybook migrate`

use crate::base::Base;
use crate::config::Settled;
use crate::exit::Failure;
use daybook_store::schema;
use daybook_store::system::Real;

pub async fn run(settled: Settled) -> Result<(), Failure> {
    let base = Base::open(&settled, false).await?;
    let migrated = schema::migrate(&base.database, &Real).await.map_err(|e| Failure::schema(&e))?;
    if migrated.applied.is_empty() {
        println!("The database is up to date (journal {}).", migrated.identity.journal_id);
    } else {
        println!("Applied {} (journal {}).", migrated.applied.join(", "), migrated.identity.journal_id);
    }
    base.close().await
}
