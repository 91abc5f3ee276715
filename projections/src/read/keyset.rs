//! Pages of one tenant's rows, as SQL: conditions on indexed columns, an order that ends in the id.
//!
//! Every column named here comes from the program, every value is a parameter.

use super::filter::{Field, Filter, Parameters, place};
use super::{Direction, Page, ReadError, ReadSession, Slice};
use crate::engine::unsigned;
use chrono::{DateTime, Utc};
use daybook_domain::TenantId;
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

/// Where a row stands in an order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Keyset {
    pub key: SortKey,
    /// Breaks ties.
    pub id: Uuid,
}

/// What a list is sorted by.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum SortKey {
    At(DateTime<Utc>),
    Text(String),
}

/// The type of a sorting column.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SortBy {
    At(&'static str),
    Text(&'static str),
}

/// A list of rows: `from` and its conditions.
pub(crate) struct List {
    columns: String,
    from: String,
    id: &'static str,
    conditions: Vec<String>,
    parameters: Parameters,
    /// Whether its statement is worth keeping.
    kept: bool,
}

impl List {
    /// `from`: the table, with an alias and joins if need be. `tenant`: its tenant column, `id`: its id column.
    pub(crate) fn new(columns: String, from: String, tenant_column: &str, id: &'static str, tenant: TenantId) -> Self {
        let mut list = List { columns, from, id, conditions: Vec::new(), parameters: Vec::new(), kept: true };
        // The row policy would say so too, but no index knows of policies.
        let place = list.parameter(tenant.0);
        list.conditions.push(format!("{tenant_column} = {place}"));
        list
    }

    /// The place of a parameter, e.g. `$3`.
    fn parameter(&mut self, value: impl ToSql + Sync + Send + 'static) -> String {
        place(&mut self.parameters, value)
    }

    /// Only rows of which the filter holds.
    pub(crate) fn only<F: Field>(mut self, filter: &Filter<F>, context: &F::Context) -> Self {
        self.conditions.extend(filter.conditions(context, &mut self.parameters));
        self.kept &= filter.is_plain();
        self
    }

    /// The statement of a page and its parameters.
    ///
    /// # Errors
    /// [`ReadError::ForeignCursor`] for a cursor of an order of another type.
    pub(crate) fn page_query(
        mut self,
        sort: SortBy,
        direction: Direction,
        page: &Page<Keyset>,
    ) -> Result<(String, Parameters), ReadError> {
        let (SortBy::At(column) | SortBy::Text(column)) = sort;
        let id = self.id;
        for (cursor, operator) in [(&page.after, direction.follows()), (&page.before, direction.precedes())] {
            let Some(cursor) = cursor else { continue };
            let key = match (sort, &cursor.key) {
                (SortBy::At(_), SortKey::At(at)) => self.parameter(*at),
                (SortBy::Text(_), SortKey::Text(text)) => self.parameter(text.clone()),
                (SortBy::At(_) | SortBy::Text(_), _) => return Err(ReadError::ForeignCursor),
            };
            let place = self.parameter(cursor.id);
            self.conditions.push(format!("({column}, {id}) {operator} ({key}, {place})"));
        }
        let limit = self.parameter(page.fetch());
        let direction = page.reads(direction).sql();
        let (columns, from, conditions) = (&self.columns, &self.from, self.conditions.join(" and "));
        let sql = format!(
            "select {columns} from {from} where {conditions} order by {column} {direction}, {id} {direction} limit {limit}"
        );
        Ok((sql, self.parameters))
    }

    /// A page of it.
    ///
    /// # Errors
    /// As [`List::page_query`], when a row is damaged, or when the database cannot be asked.
    pub(crate) async fn page<R>(
        self,
        session: &ReadSession,
        sort: SortBy,
        direction: Direction,
        page: &Page<Keyset>,
        row: impl Fn(&Row) -> Result<R, ReadError>,
    ) -> Result<Slice<R>, ReadError> {
        let kept = self.kept;
        let (sql, parameters) = self.page_query(sort, direction, page)?;
        let rows = session.query_list(&sql, &parameters, kept).await?;
        Ok(page.slice(rows.iter().map(row).collect::<Result<_, _>>()?))
    }

    /// How many rows there are on all pages. Reads them all: only when asked for.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub(crate) async fn count(self, session: &ReadSession) -> Result<u64, ReadError> {
        let sql = format!("select count(*) from {} where {}", self.from, self.conditions.join(" and "));
        let rows = session.query_list(&sql, &self.parameters, self.kept).await?;
        Ok(rows.first().map_or(0, |row| unsigned(row.get(0))))
    }
}

/// Columns of a table by its alias.
pub(crate) fn columns_of(alias: &str, columns: &[&str]) -> String {
    columns.iter().map(|column| format!("{alias}.{column}")).collect::<Vec<_>>().join(", ")
}
