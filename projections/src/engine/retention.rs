//! Change rows are kept for a stated time. What goes is written down per tenant, so that a
//! subscription that asks for it is refused instead of shown a gap.

use super::{Context, int, versions};
use chrono::{DateTime, Utc};
use daybook_store::database::{DatabaseError, Pool};
use std::sync::Arc;

/// Rows per statement, so that no purge holds its locks for long.
const CHUNK: i64 = 5_000;

// Ordered by tenant, as lanes write these rows, so that the two cannot deadlock.
const PURGE: &str = "with old as (select tenant_id, tenant_position, key from projection.changes
      where read_model = $1 and version = $2 and recorded_at < $3 order by recorded_at, position limit $4),
 gone as (delete from projection.changes c using old
      where c.read_model = $1 and c.version = $2 and c.tenant_id = old.tenant_id
        and c.tenant_position = old.tenant_position and c.key = old.key
      returning c.tenant_id, c.tenant_position),
 marked as (insert into projection.purged as p (read_model, version, tenant_id, tenant_position)
      select $1, $2, tenant_id, max(tenant_position) from gone group by tenant_id order by tenant_id
      on conflict (read_model, version, tenant_id) do update
      set tenant_position = greatest(p.tenant_position, excluded.tenant_position))
 select count(*) from gone";

/// Removes the change rows of a read model that were recorded before a moment; says how many.
///
/// # Errors
/// When the database cannot be asked; what was purged until then stays purged, and marked.
pub async fn purge(pool: &Pool, read_model: &str, before: DateTime<Utc>) -> Result<u64, DatabaseError> {
    let Some(version) = versions::live(pool, read_model).await? else { return Ok(0) };
    let mut purged = 0;
    loop {
        let rows = pool.query(PURGE, &[&read_model, &int(version), &before, &CHUNK]).await?;
        let gone: i64 = rows.first().map_or(0, |row| row.get(0));
        purged += super::unsigned(gone);
        if gone < CHUNK {
            return Ok(purged);
        }
    }
}

pub(super) async fn keep_purging(context: Arc<Context>, read_models: Vec<&'static str>) {
    let options = &context.parts.options;
    loop {
        tokio::time::sleep(options.purge_every).await;
        for read_model in &read_models {
            let before = context.parts.system.utc() - options.retention;
            match purge(&context.pool, read_model, before).await {
                Ok(0) => {}
                Ok(changes) => tracing::debug!(read_model, changes, "purged change rows"),
                Err(error) => {
                    tracing::warn!(read_model, %error, "change rows were not purged; the next round tries again")
                }
            }
        }
    }
}
