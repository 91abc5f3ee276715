//! Relay's connections over keyset pages.

use super::errors::{Code, error, internal};
use super::opaque::Opaque;
use async_graphql::connection::{Connection, Edge};
use async_graphql::{Enum, ObjectType, OutputType, Result};
use daybook_projections::read::{Direction, Page, Slice};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Which way a list is sorted.
#[derive(Enum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OrderDirection {
    /// The smallest or oldest first.
    #[default]
    Asc,
    /// The largest or newest first.
    Desc,
}

impl From<OrderDirection> for Direction {
    fn from(direction: OrderDirection) -> Self {
        match direction {
            OrderDirection::Asc => Direction::Ascending,
            OrderDirection::Desc => Direction::Descending,
        }
    }
}

/// Relay's four arguments, checked.
pub struct PageArgs {
    count: u16,
    from_end: bool,
    after: Option<String>,
    before: Option<String>,
}

const PAGE_DEFAULT: u16 = 50;
const PAGE_MAX: i32 = 200;

impl PageArgs {
    /// # Errors
    /// `BAD_USER_INPUT` that names the argument.
    pub fn new(first: Option<i32>, after: Option<String>, last: Option<i32>, before: Option<String>) -> Result<Self> {
        let count = |name: &str, count: i32| {
            u16::try_from(count).ok().filter(|n| (1..=PAGE_MAX).contains(&i32::from(*n))).ok_or_else(|| {
                error(
                    Code::BadUserInput,
                    format!("{name} is {count}: ask for 1 to {PAGE_MAX} and use the cursors for more"),
                )
            })
        };
        let (count, from_end) = match (first, last) {
            (Some(_), Some(_)) => {
                return Err(error(Code::BadUserInput, "first and last exclude each other: give one of them"));
            }
            (Some(first), None) => (count("first", first)?, false),
            (None, Some(last)) => (count("last", last)?, true),
            (None, None) => (PAGE_DEFAULT, false),
        };
        Ok(PageArgs { count, from_end, after, before })
    }

    /// The page of a list. `list` names query, version of its cursors, order and reader: a cursor of another list is
    /// refused.
    ///
    /// # Errors
    /// `BAD_USER_INPUT` for a cursor that is not of this list.
    pub(crate) fn page<C: DeserializeOwned>(self, opaque: &Opaque, list: &str) -> Result<Page<C>> {
        let cursor = |name: &str, text: Option<String>| -> Result<Option<C>> {
            let Some(text) = text else { return Ok(None) };
            let refused = |why: String| error(Code::BadUserInput, format!("{name} cannot be used: {why}"));
            let key = opaque.read_cursor(list, &text).map_err(|e| refused(e.to_string()))?;
            serde_json::from_slice(&key)
                .map(Some)
                .map_err(|_| refused("it is of an older version; begin again without it".into()))
        };
        let (after, before) = (cursor("after", self.after)?, cursor("before", self.before)?);
        let mut page = if self.from_end { Page::last(self.count, None) } else { Page::first(self.count, None) };
        (page.after, page.before) = (after, before);
        Ok(page)
    }
}

/// The rows of a page as a connection. `counted` counts all pages, when asked to.
///
/// # Errors
/// When a cursor cannot be written, which is a defect.
pub(crate) fn connection<R, C: Serialize, N: OutputType, X: ObjectType>(
    opaque: &Opaque,
    list: &str,
    slice: Slice<R>,
    counted: X,
    cursor: impl Fn(&R) -> C,
    node: impl Fn(R) -> N,
) -> Result<Connection<String, N, X>> {
    let mut connection = Connection::with_additional_fields(slice.has_previous, slice.has_next, counted);
    for row in slice.rows {
        let key = serde_json::to_vec(&cursor(&row)).map_err(|e| internal(&e))?;
        connection.edges.push(Edge::new(opaque.cursor(list, &key), node(row)));
    }
    Ok(connection)
}
