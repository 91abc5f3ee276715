//! Pages of the audit trail, newest first.

use super::Audit;
use super::row::{AuditRow, COLUMNS};
use crate::engine::{SeriesModel, signed};
use crate::read::{Direction, Page, ReadError, ReadSession, Slice};
use chrono::{DateTime, Utc};
use daybook_domain::TenantId;
use serde::{Deserialize, Serialize};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

/// Which events; what is left out does not matter. Each alone has an index.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AuditFilter {
    pub actor: Option<Uuid>,
    /// E.g. `device`.
    pub subject_type: Option<String>,
    pub subject: Option<Uuid>,
    /// E.g. `platform.tenant.renamed`.
    pub event_type: Option<String>,
    pub command_id: Option<Uuid>,
    pub correlation: Option<String>,
    /// Recorded then or later.
    pub from: Option<DateTime<Utc>>,
    /// Recorded earlier than that.
    pub to: Option<DateTime<Utc>>,
}

/// Where an event stands: its tenant position.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AuditCursor(pub u64);

impl AuditRow {
    pub fn cursor(&self) -> AuditCursor {
        AuditCursor(self.tenant_position)
    }
}

type Parameters = Vec<Box<dyn ToSql + Sync + Send>>;

/// The statement of a page and its parameters. Events that are recorded meanwhile come before the first page, so none is
/// missed or seen twice.
pub fn page_query(
    table: &str,
    tenant: TenantId,
    filter: &AuditFilter,
    page: &Page<AuditCursor>,
) -> (String, Parameters) {
    let mut parameters: Parameters = vec![Box::new(page.fetch()), Box::new(tenant.0)];
    let mut conditions = vec!["tenant_id = $2".to_owned()];
    let mut equal = |column: &str, value: Option<Box<dyn ToSql + Sync + Send>>| {
        if let Some(value) = value {
            parameters.push(value);
            conditions.push(format!("{column} = ${}", parameters.len()));
        }
    };
    let text = |text: &Option<String>| text.clone().map(|text| Box::new(text) as Box<dyn ToSql + Sync + Send>);
    let id = |id: Option<Uuid>| id.map(|id| Box::new(id) as Box<dyn ToSql + Sync + Send>);
    equal("actor", id(filter.actor));
    equal("stream_type", text(&filter.subject_type));
    equal("stream_id", id(filter.subject));
    equal("event_type", text(&filter.event_type));
    equal("command_id", id(filter.command_id));
    equal("correlation", text(&filter.correlation));
    // The bounds as positions: two look-ups in one index, and then any of the other indexes is in the right order.
    // Where nothing is that late, or that early, there is no bound, and the comparison with null finds nothing.
    for (at, bound) in [(filter.from, "tenant_position >="), (filter.to, "tenant_position <=")] {
        let Some(at) = at else { continue };
        parameters.push(Box::new(at));
        let (operator, direction) = if bound.ends_with(">=") { (">=", "asc") } else { ("<", "desc") };
        conditions.push(format!(
            "{bound} (select b.tenant_position from {table} b where b.tenant_id = $2 and b.recorded_at {operator} ${}
                      order by b.recorded_at {direction}, b.tenant_position {direction} limit 1)",
            parameters.len()
        ));
    }
    let order = Direction::Descending;
    for (cursor, operator) in [(page.after, order.follows()), (page.before, order.precedes())] {
        let Some(AuditCursor(position)) = cursor else { continue };
        parameters.push(Box::new(signed(position)));
        conditions.push(format!("tenant_position {operator} ${}", parameters.len()));
    }
    let sql = format!(
        "select {COLUMNS} from {table} where {} order by tenant_position {} limit $1",
        conditions.join(" and "),
        page.reads(order).sql(),
    );
    (sql, parameters)
}

/// A page of a tenant's trail.
///
/// # Errors
/// When the read model is not built or the database cannot be asked.
pub async fn page(
    session: &ReadSession,
    tenant: TenantId,
    filter: &AuditFilter,
    page: &Page<AuditCursor>,
) -> Result<Slice<AuditRow>, ReadError> {
    let table = Audit::table(session.series_version::<Audit>()?);
    let (sql, parameters) = page_query(&table, tenant, filter, page);
    let parameters: Vec<&(dyn ToSql + Sync)> = parameters.iter().map(|p| &**p as &(dyn ToSql + Sync)).collect();
    let rows = session.query(&sql, &parameters).await?;
    Ok(page.slice(rows.iter().map(AuditRow::from_row).collect()))
}
