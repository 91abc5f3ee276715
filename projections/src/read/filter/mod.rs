//! Which rows of a list: one small tree of typed conditions, with two back ends that agree.
//!
//! [`Filter::holds`] judges a row in memory, `sql` says the same to the database; a test holds the two against each
//! other over random trees and rows. Both are two-valued: what is absent equals nothing, is neither smaller nor greater,
//! and so `not` always gives exactly the other rows. Refuses to know whose rows they are: the tenant is a condition
//! around the tree, never in it.

mod build;
mod like;
mod sql;

pub use build::{Asked, Builder};
pub(crate) use like::after;
pub use like::{Pattern, PatternError};
pub(crate) use sql::{Parameters, borrowed, place};

// What is compared, and how large it may be, is the same in filters and in the conditions of rules.
pub use daybook_domain::condition::{CONDITIONS_MAX, DEPTH_MAX, LIST_MAX, Refused, TEXT_CHARS_MAX, Value};

use std::fmt::Debug;
use std::hash::Hash;

/// A condition on rows. [`Filter::default`] holds of all.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Filter<F> {
    /// Every one of them; none given, it holds.
    And(Vec<Filter<F>>),
    /// At least one of them; none given, it does not hold.
    Or(Vec<Filter<F>>),
    Not(Box<Filter<F>>),
    Is(F, Test),
}

/// What is asked of a field.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Test {
    Eq(Value),
    /// Also holds of what is absent.
    Ne(Value),
    In(Vec<Value>),
    /// Also holds of what is absent.
    NotIn(Vec<Value>),
    Lt(Value),
    Lte(Value),
    Gt(Value),
    Gte(Value),
    Like(Pattern),
    StartsWith(String),
    /// Whether it is absent.
    IsNull(bool),
}

/// A field that lists can be filtered by: one that has an index.
pub trait Field: Copy + Eq + Hash + Debug {
    /// What it is a field of.
    type Row;
    /// What its SQL depends on besides the row.
    type Context;

    fn column(self) -> Column;

    /// Its value in a row, in the form in which it is compared: a text folded as [`Column::fold`] does.
    fn value(self, row: &Self::Row) -> Option<Value>;

    /// As SQL, if that is more than a column.
    fn expression(self, _context: &Self::Context, _parameters: &mut Parameters) -> String {
        self.column().sql.to_owned()
    }

    /// A comparison by `<`, `<=`, `>` or `>=` in a form that an index serves better.
    fn ranged(self, _operator: &str, _value: &Value, _: &Self::Context, _: &mut Parameters) -> Option<String> {
        None
    }
}

/// Where a field is stored, and how it is compared.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// With the alias of its table, if the list has one.
    pub sql: &'static str,
    pub absent: Absent,
    /// What makes different spellings of a text one.
    pub fold: fn(&str) -> String,
}

/// What stands for a value that is not there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Absent {
    Never,
    Null,
    /// The empty text, in columns that are sorted by.
    Empty,
}

impl Column {
    /// A column that always has a value.
    pub const fn of(sql: &'static str) -> Self {
        Column { sql, absent: Absent::Never, fold: str::to_owned }
    }

    pub const fn absent(self, absent: Absent) -> Self {
        Column { absent, ..self }
    }

    pub const fn folded(self, fold: fn(&str) -> String) -> Self {
        Column { fold, ..self }
    }
}

/// Lower case, as names and addresses are stored to be found.
pub(crate) fn lower(text: &str) -> String {
    text.to_lowercase()
}

impl<F> Default for Filter<F> {
    fn default() -> Self {
        Filter::And(Vec::new())
    }
}

impl<F: Field> Filter<F> {
    /// That a field has this value, in the form in which it is compared.
    pub fn equals(field: F, value: impl Into<Value>) -> Self {
        Filter::Is(field, Test::Eq(value.into()))
    }

    /// Whether a row is one of these.
    pub fn holds(&self, row: &F::Row) -> bool {
        match self {
            Filter::And(all) => all.iter().all(|filter| filter.holds(row)),
            Filter::Or(any) => any.iter().any(|filter| filter.holds(row)),
            Filter::Not(filter) => !filter.holds(row),
            Filter::Is(field, test) => test.holds(field.value(row).as_ref()),
        }
    }

    /// Whether only rows with this value can be among them, whatever else is asked.
    pub fn implies(&self, field: F, value: &Value) -> bool {
        match self {
            Filter::And(all) => all.iter().any(|filter| filter.implies(field, value)),
            Filter::Or(any) => !any.is_empty() && any.iter().all(|filter| filter.implies(field, value)),
            Filter::Is(of, Test::Eq(only)) => *of == field && only == value,
            Filter::Not(_) | Filter::Is(..) => false,
        }
    }

    /// Whether it asks anything about a field.
    pub fn names(&self, field: F) -> bool {
        match self {
            Filter::And(filters) | Filter::Or(filters) => filters.iter().any(|filter| filter.names(field)),
            Filter::Not(filter) => filter.names(field),
            Filter::Is(of, _) => *of == field,
        }
    }

    /// Whether its SQL has one of a handful of forms, so that its statement is worth keeping.
    pub(crate) fn is_plain(&self) -> bool {
        match self {
            Filter::And(all) => all.is_empty(),
            Filter::Is(_, test) => matches!(test, Test::Eq(_)),
            Filter::Or(_) | Filter::Not(_) => false,
        }
    }
}

impl Test {
    /// Whether it holds of a value. Values are all of the field's type.
    pub fn holds(&self, value: Option<&Value>) -> bool {
        let than = |holds: fn(&Value, &Value) -> bool, other: &Value| value.is_some_and(|value| holds(value, other));
        let text = || match value {
            Some(Value::Text(text)) => Some(text.as_str()),
            _ => None,
        };
        match self {
            Test::Eq(other) => value == Some(other),
            Test::Ne(other) => value != Some(other),
            Test::In(others) => value.is_some_and(|value| others.contains(value)),
            Test::NotIn(others) => !value.is_some_and(|value| others.contains(value)),
            Test::Lt(other) => than(|value, other| value < other, other),
            Test::Lte(other) => than(|value, other| value <= other, other),
            Test::Gt(other) => than(|value, other| value > other, other),
            Test::Gte(other) => than(|value, other| value >= other, other),
            Test::Like(pattern) => text().is_some_and(|text| pattern.matches(text)),
            Test::StartsWith(start) => text().is_some_and(|text| text.starts_with(start.as_str())),
            Test::IsNull(wanted) => value.is_none() == *wanted,
        }
    }
}
