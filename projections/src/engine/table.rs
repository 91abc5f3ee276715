//! Rows in and out of a read model's table, as JSON that PostgreSQL turns into columns: one
//! statement for any number of rows, and no list of parameters to keep in step with the columns.

use super::model::{ReadModel, RowKey};
use daybook_domain::TenantId;
use daybook_store::database::DatabaseError;
use deadpool_postgres::Transaction;
use std::collections::HashMap;
use tokio_postgres::types::Json;
use uuid::Uuid;

fn columns(keys: &[RowKey]) -> (Vec<Uuid>, Vec<Uuid>) {
    keys.iter().map(|key| (key.tenant.0, key.id)).unzip()
}

pub(super) async fn load<M: ReadModel>(
    tx: &Transaction<'_>,
    version: u32,
    keys: &[RowKey],
) -> Result<HashMap<RowKey, M::Row>, DatabaseError> {
    let sql = format!(
        "select k.tenant, k.id, to_json(t) from unnest($1::uuid[], $2::uuid[]) k(tenant, id)
         join {} t on t.tenant_id = k.tenant and t.{} = k.id",
        M::table(version),
        M::ID,
    );
    let statement = tx.prepare_cached(&sql).await.map_err(DatabaseError::Query)?;
    let (tenants, ids) = columns(keys);
    let rows = tx.query(&statement, &[&tenants, &ids]).await.map_err(DatabaseError::Query)?;
    rows.iter()
        .map(|row| {
            let key = RowKey { tenant: TenantId(row.get(0)), id: row.get(1) };
            let Json(value) = row.try_get::<_, Json<M::Row>>(2).map_err(DatabaseError::Query)?;
            Ok((key, value))
        })
        .collect()
}

pub(super) async fn store<M: ReadModel>(
    tx: &Transaction<'_>,
    version: u32,
    rows: &[M::Row],
    removed: &[RowKey],
) -> Result<(), DatabaseError> {
    let table = M::table(version);
    if !rows.is_empty() {
        let columns = M::COLUMNS.join(", ");
        let updates: Vec<String> =
            M::COLUMNS.iter().filter(|c| !M::KEY.contains(c)).map(|c| format!("{c} = excluded.{c}")).collect();
        let sql = format!(
            "insert into {table} ({columns}) select {columns} from json_populate_recordset(null::{table}, $1::json)
             on conflict ({}) do update set {}",
            M::KEY.join(", "),
            updates.join(", "),
        );
        let statement = tx.prepare_cached(&sql).await.map_err(DatabaseError::Query)?;
        tx.execute(&statement, &[&Json(rows)]).await.map_err(DatabaseError::Query)?;
    }
    if !removed.is_empty() {
        let sql = format!(
            "delete from {table} t using unnest($1::uuid[], $2::uuid[]) k(tenant, id)
             where t.tenant_id = k.tenant and t.{} = k.id",
            M::ID,
        );
        let statement = tx.prepare_cached(&sql).await.map_err(DatabaseError::Query)?;
        let (tenants, ids) = self::columns(removed);
        tx.execute(&statement, &[&tenants, &ids]).await.map_err(DatabaseError::Query)?;
    }
    Ok(())
}
