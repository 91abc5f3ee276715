//! Pages by keyset: a page begins after the key of the last row seen, not after a number of rows, so
//! that rows which come and go in between cause neither gaps nor duplicates.

/// From which end.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Limit {
    First(u16),
    Last(u16),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    Ascending,
    Descending,
}

/// A part of an ordered list: between two cursors, a number of rows from one end.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Page<C> {
    pub limit: Limit,
    pub after: Option<C>,
    pub before: Option<C>,
}

impl<C> Page<C> {
    pub fn first(rows: u16, after: Option<C>) -> Self {
        Page { limit: Limit::First(rows), after, before: None }
    }

    pub fn last(rows: u16, before: Option<C>) -> Self {
        Page { limit: Limit::Last(rows), after: None, before }
    }

    /// One row more than asked for tells whether there are more.
    pub(crate) fn fetch(&self) -> i64 {
        let (Limit::First(rows) | Limit::Last(rows)) = self.limit;
        i64::from(rows) + 1
    }

    /// The order in which rows are read: for the last ones, backwards.
    pub(crate) fn reads(&self, order: Direction) -> Direction {
        match (self.limit, order) {
            (Limit::First(_), order) => order,
            (Limit::Last(_), Direction::Ascending) => Direction::Descending,
            (Limit::Last(_), Direction::Descending) => Direction::Ascending,
        }
    }

    /// From rows as they were read, one more than asked for if there are more.
    pub(crate) fn slice<T>(&self, mut rows: Vec<T>) -> Slice<T> {
        let (Limit::First(asked) | Limit::Last(asked)) = self.limit;
        let more = rows.len() > usize::from(asked);
        rows.truncate(usize::from(asked));
        match self.limit {
            Limit::First(_) => Slice { rows, has_next: more, has_previous: self.after.is_some() },
            Limit::Last(_) => {
                rows.reverse();
                Slice { rows, has_next: self.before.is_some(), has_previous: more }
            }
        }
    }
}

impl Direction {
    pub(crate) fn sql(self) -> &'static str {
        match self {
            Direction::Ascending => "asc",
            Direction::Descending => "desc",
        }
    }

    /// The operator of rows that come after a key.
    pub(crate) fn follows(self) -> &'static str {
        match self {
            Direction::Ascending => ">",
            Direction::Descending => "<",
        }
    }

    /// The operator of rows that come before a key.
    pub(crate) fn precedes(self) -> &'static str {
        match self {
            Direction::Ascending => "<",
            Direction::Descending => ">",
        }
    }
}

/// The rows of a page, in the list's order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Slice<T> {
    pub rows: Vec<T>,
    /// Reading forwards: whether rows follow. Reading backwards: whether a `before` was given.
    pub has_next: bool,
    /// Reading backwards: whether rows precede. Reading forwards: whether an `after` was given.
    pub has_previous: bool,
}
