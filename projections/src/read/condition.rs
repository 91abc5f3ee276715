//! Conditions of rules as SQL: what [`Condition::judge`] says in memory, said to PostgreSQL.
//!
//! Columns come from the program, values are parameters. SQL's own three values do the logic, and `where` keeps what is true;
//! so nothing is pushed about, as it is in filters, which are two-valued. Comparisons are those of text by code point, uuid, bigint and
//! timestamps: under a row policy others could use no index.

use super::filter::{Parameters, after, place};
use chrono::{DateTime, Utc};
use daybook_domain::condition::{Claims, Condition, Test, Value};
use uuid::Uuid;

/// Where a field that conditions may name is stored.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// As SQL, with the alias of its table, if the list has one.
    pub sql: &'static str,
    /// Whether an index of the list begins with it.
    pub indexed: bool,
}

impl Place {
    pub const fn of(sql: &'static str) -> Self {
        Place { sql, indexed: false }
    }

    #[must_use]
    pub const fn indexed(self) -> Self {
        Place { indexed: true, ..self }
    }
}

/// The columns of a resource's fields. Of a field without one nothing is known.
pub type Places = fn(&str) -> Option<Place>;

/// Which rows a caller may see.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RowRule {
    pub condition: Condition,
    pub claims: Claims,
}

impl RowRule {
    /// All rows.
    pub fn all() -> Self {
        RowRule { condition: Condition::TRUE, claims: Claims::default() }
    }

    /// Whether it asks nothing of a row.
    pub fn is_all(&self) -> bool {
        self.condition == Condition::TRUE
    }

    /// Conditions that must all hold; none for all rows.
    ///
    /// What an index finds stands alone. All else is one expression of which the planner can guess nothing, so that rules
    /// never change the plan of a list: see `docs/decisions/0005-filters.md`.
    pub(crate) fn conditions(&self, places: Places, parameters: &mut Parameters) -> Vec<String> {
        if self.is_all() {
            return Vec::new();
        }
        let single = std::slice::from_ref(&self.condition);
        let conjuncts = if let Condition::And(all) = &self.condition { all.as_slice() } else { single };
        let (mut found, mut others) = (Vec::new(), Vec::new());
        for conjunct in conjuncts {
            let sql = condition_sql(conjunct, &self.claims, places, parameters);
            let is_found = matches!(conjunct, Condition::Is(field, Test::Eq(_) | Test::In(_))
                if places(field).is_some_and(|place| place.indexed));
            if is_found { found.push(sql) } else { others.push(sql) }
        }
        if !others.is_empty() {
            found.push(format!("case when {} then true else false end", others.join(" and ")));
        }
        found
    }
}

/// A condition as an expression: true, false or null.
pub fn condition_sql(condition: &Condition, claims: &Claims, places: Places, parameters: &mut Parameters) -> String {
    let mut joined = |parts: &[Condition], word: &str, none: &str| {
        let parts: Vec<String> = parts.iter().map(|part| condition_sql(part, claims, places, parameters)).collect();
        if parts.is_empty() { none.to_owned() } else { format!("({})", parts.join(word)) }
    };
    match condition {
        Condition::And(all) => joined(all, " and ", "true"),
        Condition::Or(any) => joined(any, " or ", "false"),
        Condition::Not(inner) => format!("not {}", condition_sql(inner, claims, places, parameters)),
        Condition::Is(field, test) => match places(field) {
            Some(place) => test_sql(place.sql, test, claims, parameters),
            None => UNKNOWN.to_owned(),
        },
    }
}

/// What a comparison with something absent is.
const UNKNOWN: &str = "null::boolean";
/// For the order of texts, and for their indexes.
const BY_CODE_POINT: &str = r#" collate "C""#;

fn test_sql(column: &str, test: &Test, claims: &Claims, parameters: &mut Parameters) -> String {
    let (operator, operand) = match test {
        Test::IsNull(true) => return format!("{column} is null"),
        Test::IsNull(false) => return format!("{column} is not null"),
        Test::In(others) => return list_sql(column, "= any", "false", others.of(claims), parameters),
        Test::NotIn(others) => return list_sql(column, "<> all", "true", others.of(claims), parameters),
        Test::StartsWith(start) => return start_sql(column, start.of(claims), parameters),
        Test::Eq(operand) => ("=", operand),
        Test::Ne(operand) => ("<>", operand),
        Test::Lt(operand) => ("<", operand),
        Test::Lte(operand) => ("<=", operand),
        Test::Gt(operand) => (">", operand),
        Test::Gte(operand) => (">=", operand),
    };
    let Some(value) = operand.of(claims) else { return UNKNOWN.to_owned() };
    let collate =
        if matches!((value, operator), (Value::Text(_), "<" | "<=" | ">" | ">=")) { BY_CODE_POINT } else { "" };
    format!("{column}{collate} {operator} {}", put(value, parameters))
}

fn list_sql(
    column: &str,
    operator: &str,
    of_none: &str,
    values: Option<&[Value]>,
    parameters: &mut Parameters,
) -> String {
    let Some(values) = values else { return UNKNOWN.to_owned() };
    macro_rules! array {
        ($variant:ident, $type:ty, $sql:literal) => {{
            let array = values.iter().filter_map(|value| match value {
                Value::$variant(value) => Some(value.clone()),
                _ => None,
            });
            format!(concat!("{}::", $sql, "[]"), place(parameters, array.collect::<Vec<$type>>()))
        }};
    }
    let array = match values.first() {
        None => return of_none.to_owned(),
        Some(Value::Flag(_)) => array!(Flag, bool, "boolean"),
        Some(Value::Id(_)) => array!(Id, Uuid, "uuid"),
        Some(Value::Text(_)) => array!(Text, String, "text"),
        Some(Value::At(_)) => array!(At, DateTime<Utc>, "timestamptz"),
        Some(Value::Whole(_)) => array!(Whole, i64, "bigint"),
    };
    format!("{column} {operator}({array})")
}

/// From the first text with this start to the last, as comparisons.
fn start_sql(column: &str, start: Option<&Value>, parameters: &mut Parameters) -> String {
    let Some(Value::Text(start)) = start else { return UNKNOWN.to_owned() };
    let from = place(parameters, start.clone());
    match after(start) {
        Some(after) => {
            let until = place(parameters, after);
            format!("({column}{BY_CODE_POINT} >= {from}::text and {column}{BY_CODE_POINT} < {until}::text)")
        }
        None => format!("{column}{BY_CODE_POINT} >= {from}::text"),
    }
}

/// The cast says what the value is, whatever the column's own width.
fn put(value: &Value, parameters: &mut Parameters) -> String {
    let (place, of) = match value {
        Value::Flag(flag) => (place(parameters, *flag), "boolean"),
        Value::Id(id) => (place(parameters, *id), "uuid"),
        Value::Text(text) => (place(parameters, text.clone()), "text"),
        Value::At(at) => (place(parameters, *at), "timestamptz"),
        Value::Whole(whole) => (place(parameters, *whole), "bigint"),
    };
    format!("{place}::{of}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use daybook_domain::condition::{Operand, Operands};

    fn places(field: &str) -> Option<Place> {
        match field {
            "id" => Some(Place::of("device_id").indexed()),
            "name" => Some(Place::of("name")),
            _ => None,
        }
    }

    #[test]
    fn no_value_is_ever_in_the_text() {
        let hostile = "x' or true; --";
        let condition = Condition::And(vec![
            Condition::Is("name".into(), Test::Eq(Operand::Literal(hostile.into()))),
            Condition::Is("name".into(), Test::StartsWith(Operand::Literal(hostile.into()))),
            Condition::Is("name".into(), Test::In(Operands::Literals(vec![hostile.into()]))),
            Condition::Is("name".into(), Test::Eq(Operand::Claim("who".into()))),
        ]);
        let mut parameters = Parameters::new();
        let claims = Claims::default().with("who", hostile);
        let sql = condition_sql(&condition, &claims, places, &mut parameters);
        assert!(!sql.contains('\'') && !sql.contains("--") && parameters.len() == 5, "{sql}");
    }

    #[test]
    fn only_what_an_index_finds_stands_alone() {
        let id = Condition::one_of("id", vec![Uuid::nil().into()]);
        let name = Condition::Is("name".into(), Test::Eq(Operand::Literal("a".into())));
        let rule = RowRule { condition: Condition::And(vec![id, name]), claims: Claims::default() };
        let conditions = rule.conditions(places, &mut Parameters::new());
        assert_eq!(conditions, ["device_id = any($1::uuid[])", "case when name = $2::text then true else false end"]);
    }
}
