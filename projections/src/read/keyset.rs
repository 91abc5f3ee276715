//! Pages of one tenant's rows, as SQL: conditions on indexed columns, an order that ends in the id.
//!
//! Every column named here comes from the program, every value is a parameter.

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

type Parameter = Box<dyn ToSql + Sync + Send>;

/// A list of rows: `from` and its conditions.
pub(crate) struct List {
    columns: String,
    from: String,
    id: &'static str,
    conditions: Vec<String>,
    parameters: Vec<Parameter>,
}

impl List {
    /// `from`: the table, with an alias and joins if need be. `tenant`: its tenant column, `id`: its id column.
    pub(crate) fn new(columns: String, from: String, tenant_column: &str, id: &'static str, tenant: TenantId) -> Self {
        let mut list = List { columns, from, id, conditions: Vec::new(), parameters: Vec::new() };
        // The row policy would say so too, but no index knows of policies.
        list.equal(tenant_column, Some(tenant.0));
        list
    }

    /// The place of a parameter, e.g. `$3`.
    pub(crate) fn parameter(&mut self, value: impl ToSql + Sync + Send + 'static) -> String {
        self.parameters.push(Box::new(value));
        format!("${}", self.parameters.len())
    }

    /// Only rows with this value, if one is given.
    pub(crate) fn equal<T: ToSql + Sync + Send + 'static>(&mut self, column: &str, value: Option<T>) {
        if let Some(value) = value {
            let place = self.parameter(value);
            self.conditions.push(format!("{column} = {place}"));
        }
    }

    /// Only rows of which this holds.
    pub(crate) fn only(&mut self, condition: String) {
        self.conditions.push(condition);
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
    ) -> Result<(String, Vec<Parameter>), ReadError> {
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
        let (sql, parameters) = self.page_query(sort, direction, page)?;
        let rows = session.query(&sql, &borrowed(&parameters)).await?;
        Ok(page.slice(rows.iter().map(row).collect::<Result<_, _>>()?))
    }

    /// How many rows there are on all pages. Reads them all: only when asked for.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub(crate) async fn count(self, session: &ReadSession) -> Result<u64, ReadError> {
        let sql = format!("select count(*) from {} where {}", self.from, self.conditions.join(" and "));
        let rows = session.query(&sql, &borrowed(&self.parameters)).await?;
        Ok(rows.first().map_or(0, |row| unsigned(row.get(0))))
    }
}

fn borrowed(parameters: &[Parameter]) -> Vec<&(dyn ToSql + Sync)> {
    parameters.iter().map(|p| &**p as &(dyn ToSql + Sync)).collect()
}

/// Columns of a table by its alias.
pub(crate) fn columns_of(alias: &str, columns: &[&str]) -> String {
    columns.iter().map(|column| format!("{alias}.{column}")).collect::<Vec<_>>().join(", ")
}
