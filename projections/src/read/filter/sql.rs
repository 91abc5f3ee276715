//! The tree as SQL. Every column comes from the program, every value is a parameter.
//!
//! `not` is pushed down to the conditions, where it becomes another operator, so what PostgreSQL takes for unknown is
//! false in the end and nothing else. Conditions that an index serves stand alone; all others together are wrapped up
//! as one expression, of which the planner can guess nothing. It then walks the index of the list's order until a page is
//! full, and never sorts a tenant's rows because it believes that few are left.

use super::like::after;
use super::{Absent, Field, Filter, Test, Value};
use chrono::{DateTime, Utc};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

/// The values of a statement, in the order of their places.
pub(crate) type Parameters = Vec<Box<dyn ToSql + Sync + Send>>;

/// The place of a value, e.g. `$3`.
pub(crate) fn place(parameters: &mut Parameters, value: impl ToSql + Sync + Send + 'static) -> String {
    parameters.push(Box::new(value));
    format!("${}", parameters.len())
}

pub(crate) fn borrowed(parameters: &Parameters) -> Vec<&(dyn ToSql + Sync)> {
    parameters.iter().map(|p| &**p as &(dyn ToSql + Sync)).collect()
}

impl<F: Field> Filter<F> {
    /// Conditions that must all hold; none for all rows.
    pub(crate) fn conditions(&self, context: &F::Context, parameters: &mut Parameters) -> Vec<String> {
        let (mut served, mut others) = (Vec::new(), Vec::new());
        Sql { context, parameters, served: &mut served, others: &mut others }.conjuncts(self, true);
        if !others.is_empty() {
            served.push(format!("case when {} then true else false end", others.join(" and ")));
        }
        served
    }
}

struct Sql<'a, C> {
    context: &'a C,
    parameters: &'a mut Parameters,
    /// Conditions that an index finds the rows of.
    served: &'a mut Vec<String>,
    others: &'a mut Vec<String>,
}

impl<C> Sql<'_, C> {
    /// `wanted`: whether it must hold or must not.
    fn conjuncts<F: Field<Context = C>>(&mut self, filter: &Filter<F>, wanted: bool) {
        match (filter, wanted) {
            (Filter::And(all), true) | (Filter::Or(all), false) => {
                all.iter().for_each(|filter| self.conjuncts(filter, wanted));
            }
            (Filter::And(any), false) | (Filter::Or(any), true) if any.len() == 1 => self.conjuncts(&any[0], wanted),
            (Filter::Not(filter), _) => self.conjuncts(filter, !wanted),
            (Filter::Is(field, test), true) if served(test) => {
                if let Test::Like(pattern) = test {
                    // Its beginning finds the rows, its rest is compared.
                    self.conjuncts(&Filter::Is(*field, Test::StartsWith(pattern.start().to_owned())), true);
                    let rest = self.condition(*field, test, true);
                    self.others.push(rest);
                } else {
                    let found = self.condition(*field, test, true);
                    self.served.push(found);
                }
            }
            (Filter::And(_) | Filter::Or(_) | Filter::Is(..), _) => {
                let rest = self.whole(filter, wanted);
                self.others.push(rest);
            }
        }
    }

    fn whole<F: Field<Context = C>>(&mut self, filter: &Filter<F>, wanted: bool) -> String {
        match filter {
            Filter::And(all) => self.joined(all, wanted, wanted),
            Filter::Or(any) => self.joined(any, wanted, !wanted),
            Filter::Not(filter) => self.whole(filter, !wanted),
            Filter::Is(field, test) => self.condition(*field, test, wanted),
        }
    }

    fn joined<F: Field<Context = C>>(&mut self, filters: &[Filter<F>], wanted: bool, all: bool) -> String {
        if filters.is_empty() {
            return all.to_string();
        }
        let parts: Vec<String> = filters.iter().map(|filter| self.whole(filter, wanted)).collect();
        format!("({})", parts.join(if all { " and " } else { " or " }))
    }

    fn condition<F: Field<Context = C>>(&mut self, field: F, test: &Test, wanted: bool) -> String {
        let column = field.expression(self.context, self.parameters);
        let absent = field.column().absent;
        match test {
            Test::Eq(Value::Flag(flag)) => flagged(&column, *flag == wanted),
            Test::Ne(Value::Flag(flag)) => flagged(&column, *flag != wanted),
            Test::Eq(value) => self.equal(&column, absent, std::slice::from_ref(value), wanted),
            Test::Ne(value) => self.equal(&column, absent, std::slice::from_ref(value), !wanted),
            Test::In(values) => self.equal(&column, absent, values, wanted),
            Test::NotIn(values) => self.equal(&column, absent, values, !wanted),
            Test::Lt(value) => self.ranged(field, &column, ["<", ">="], value, wanted),
            Test::Lte(value) => self.ranged(field, &column, ["<=", ">"], value, wanted),
            Test::Gt(value) => self.ranged(field, &column, [">", "<="], value, wanted),
            Test::Gte(value) => self.ranged(field, &column, [">=", "<"], value, wanted),
            Test::StartsWith(start) => {
                let parts = self.within(&column, start, wanted);
                or_absent(&column, absent, parts, wanted)
            }
            Test::Like(pattern) => {
                let (like, place) = (if wanted { "like" } else { "not like" }, place(self.parameters, pattern.sql()));
                or_absent(&column, absent, vec![format!("{column} {like} {place}")], wanted)
            }
            Test::IsNull(null) => match (absent, *null == wanted) {
                (Absent::Never, null) => (!null).to_string(),
                (Absent::Null, true) => format!("{column} is null"),
                (Absent::Null, false) => format!("{column} is not null"),
                (Absent::Empty, true) => format!("{column} = ''"),
                (Absent::Empty, false) => format!("{column} <> ''"),
            },
        }
    }

    /// One of these values, or, if not wanted, none of them.
    fn equal(&mut self, column: &str, absent: Absent, values: &[Value], wanted: bool) -> String {
        // The empty text is no value where it stands for none.
        let empty = |value: &&Value| absent == Absent::Empty && matches!(value, Value::Text(text) if text.is_empty());
        let values: Vec<&Value> = values.iter().filter(|value| !empty(value)).collect();
        let (one, place) = match values[..] {
            [] => return (!wanted).to_string(),
            [value] => (true, self.put(value)),
            _ => (false, self.put_all(&values)),
        };
        match (one, wanted, absent) {
            (true, true, _) => format!("{column} = {place}"),
            (true, false, Absent::Null) => format!("{column} is distinct from {place}"),
            (true, false, _) => format!("{column} <> {place}"),
            (false, true, _) => format!("{column} = any({place})"),
            (false, false, Absent::Null) => format!("({column} is null or {column} <> all({place}))"),
            (false, false, _) => format!("{column} <> all({place})"),
        }
    }

    fn ranged<F: Field<Context = C>>(
        &mut self,
        field: F,
        column: &str,
        [operator, opposite]: [&str; 2],
        value: &Value,
        wanted: bool,
    ) -> String {
        let operator = if wanted { operator } else { opposite };
        let comparison = field.ranged(operator, value, self.context, self.parameters).unwrap_or_else(|| {
            let collate = if matches!(value, Value::Text(_)) { BY_CODE_POINT } else { "" };
            format!("{column}{collate} {operator} {}", self.put(value))
        });
        or_absent(column, field.column().absent, vec![comparison], wanted)
    }

    /// From the first text with this start to the last, as comparisons: row policies let no other operator use an index.
    fn within(&mut self, column: &str, start: &str, wanted: bool) -> Vec<String> {
        let [from, until] = if wanted { [">=", "<"] } else { ["<", ">="] };
        let mut parts = vec![format!("{column}{BY_CODE_POINT} {from} {}", place(self.parameters, start.to_owned()))];
        if let Some(after) = after(start) {
            parts.push(format!("{column}{BY_CODE_POINT} {until} {}", place(self.parameters, after)));
        }
        parts
    }

    fn put(&mut self, value: &Value) -> String {
        match value {
            Value::Flag(flag) => place(self.parameters, *flag),
            Value::Id(id) => place(self.parameters, *id),
            Value::Text(text) => place(self.parameters, text.clone()),
            Value::At(at) => place(self.parameters, *at),
            Value::Whole(whole) => place(self.parameters, *whole),
        }
    }

    fn put_all(&mut self, values: &[&Value]) -> String {
        macro_rules! array {
            ($variant:ident, $type:ty) => {{
                let array = values.iter().filter_map(|value| match value {
                    Value::$variant(value) => Some(value.clone()),
                    _ => None,
                });
                place(self.parameters, array.collect::<Vec<$type>>())
            }};
        }
        match values.first() {
            Some(Value::Flag(_)) => array!(Flag, bool),
            Some(Value::Id(_)) => array!(Id, Uuid),
            Some(Value::At(_)) => array!(At, DateTime<Utc>),
            Some(Value::Whole(_)) => array!(Whole, i64),
            Some(Value::Text(_)) | None => array!(Text, String),
        }
    }
}

/// Columns that are ordered by are declared so; it is written out for versions from before they were.
const BY_CODE_POINT: &str = r#" collate "C""#;

/// Whether an index finds what it holds of.
fn served(test: &Test) -> bool {
    match test {
        Test::Eq(_) | Test::Lt(_) | Test::Lte(_) | Test::Gt(_) | Test::Gte(_) => true,
        Test::In(values) => !values.is_empty(),
        Test::StartsWith(start) => !start.is_empty(),
        Test::Like(pattern) => !pattern.start().is_empty(),
        Test::Ne(_) | Test::NotIn(_) | Test::IsNull(_) => false,
    }
}

fn flagged(expression: &str, wanted: bool) -> String {
    if wanted { expression.to_owned() } else { format!("not {expression}") }
}

/// What is absent never fits, so that it is among those that must not.
fn or_absent(column: &str, absent: Absent, mut parts: Vec<String>, wanted: bool) -> String {
    match (absent, wanted) {
        (Absent::Never, _) | (Absent::Null, true) => {}
        (Absent::Null, false) => parts.push(format!("{column} is null")),
        (Absent::Empty, true) => parts.push(format!("{column} <> ''")),
        (Absent::Empty, false) => parts.push(format!("{column} = ''")),
    }
    match parts.len() {
        1 => parts.remove(0),
        _ => format!("({})", parts.join(if wanted { " and " } else { " or " })),
    }
}
