//! What changed, row by row, in the order of the tenant's log: the source of subscriptions.

use super::{ReadError, ReadSession};
use crate::engine::ReadModel;
use crate::engine::{int, signed, unsigned};
use chrono::{DateTime, Utc};
use daybook_domain::TenantId;
use serde::de::DeserializeOwned;
use tokio_postgres::Row;
use tokio_postgres::types::Json;
use uuid::Uuid;

/// One row's change by one event. Both images, because a row may leave what somebody may see.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change<R> {
    pub tenant_position: u64,
    /// Journal position; never shown to a tenant.
    pub position: u64,
    pub key: Uuid,
    /// `None`: it was created.
    pub before: Option<R>,
    /// `None`: it was removed.
    pub after: Option<R>,
    pub recorded_at: DateTime<Utc>,
}

impl ReadSession {
    /// The changes of a tenant's rows after a tenant position, oldest first, at most `limit`.
    /// To learn of the next ones, wait with `Progress::past` for the tenant's lane.
    ///
    /// Nothing beyond the first event of the tenant that is parked, or a change that comes later would be missed by
    /// who is past it already.
    ///
    /// # Errors
    /// [`ReadError::CursorExpired`] when some of them are no longer kept; [`ReadError::Parked`] when the next ones are
    /// behind an event that is parked.
    pub async fn changes_after<M: ReadModel>(
        &self,
        tenant: TenantId,
        tenant_position: u64,
        limit: u16,
    ) -> Result<Vec<Change<M::Row>>, ReadError> {
        let version = int(self.version::<M>()?);
        let after = signed(tenant_position);
        let bounds = self
            .query(
                "select (select tenant_position from projection.purged
                         where read_model = $1 and version = $2 and tenant_id = $3 and tenant_position > $4),
                        (select min(tenant_position) from projection.parked
                         where read_model = $1 and version = $2 and tenant_id = $3)",
                &[&M::NAME, &version, &tenant.0, &after],
            )
            .await?;
        let (purged, parked): (Option<i64>, Option<i64>) =
            bounds.first().map(|row| (row.get(0), row.get(1))).unwrap_or_default();
        if let Some(purged) = purged {
            return Err(ReadError::CursorExpired { purged: unsigned(purged) });
        }
        let rows = self
            .query(
                "select tenant_position, position, key, before, after, recorded_at from projection.changes
                 where read_model = $1 and version = $2 and tenant_id = $3 and tenant_position > $4
                   and tenant_position < $6
                 order by tenant_position, key limit $5",
                &[&M::NAME, &version, &tenant.0, &after, &i64::from(limit), &parked.unwrap_or(i64::MAX)],
            )
            .await?;
        if rows.is_empty() && parked.is_some() {
            return Err(ReadError::Parked { read_model: M::NAME });
        }
        rows.iter()
            .map(|row| {
                Ok(Change {
                    tenant_position: unsigned(row.get(0)),
                    position: unsigned(row.get(1)),
                    key: row.get(2),
                    before: image::<M, _>(row, 3)?,
                    after: image::<M, _>(row, 4)?,
                    recorded_at: row.get(5),
                })
            })
            .collect()
    }
}

impl ReadSession {
    /// The tenant position of the last change that this transaction sees, kept or not; none beyond an event that is
    /// parked.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn changed_until<M: ReadModel>(&self, tenant: TenantId) -> Result<u64, ReadError> {
        let version = int(self.version::<M>()?);
        let sql = "select least(
             greatest(
                 (select max(tenant_position) from projection.changes
                  where read_model = $1 and version = $2 and tenant_id = $3),
                 (select tenant_position from projection.purged
                  where read_model = $1 and version = $2 and tenant_id = $3), 0),
             (select min(tenant_position) - 1 from projection.parked
              where read_model = $1 and version = $2 and tenant_id = $3))";
        let rows = self.query(sql, &[&M::NAME, &version, &tenant.0]).await?;
        Ok(rows.first().map_or(0, |row| unsigned(row.get(0))))
    }
}

fn image<M: ReadModel, R: DeserializeOwned>(row: &Row, column: usize) -> Result<Option<R>, ReadError> {
    match row.try_get::<_, Option<Json<R>>>(column) {
        Ok(image) => Ok(image.map(|Json(image)| image)),
        Err(_) => Err(ReadError::Damaged { read_model: M::NAME }),
    }
}
