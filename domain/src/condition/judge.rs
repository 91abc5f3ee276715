//! A condition evaluated in memory, by the three values of SQL.

use super::{Claims, Condition, Operand, Operands, Test, Value};
use std::ops::Not;

/// What a condition says of a record. Ordered, so that `and` is the least and `or` the greatest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Truth {
    False,
    /// Something that was needed is not there.
    Unknown,
    True,
}

impl Truth {
    /// Whether it is true: what is unknown is not.
    pub fn holds(self) -> bool {
        self == Truth::True
    }
}

impl From<bool> for Truth {
    fn from(known: bool) -> Self {
        if known { Truth::True } else { Truth::False }
    }
}

impl Not for Truth {
    type Output = Truth;

    fn not(self) -> Truth {
        match self {
            Truth::False => Truth::True,
            Truth::Unknown => Truth::Unknown,
            Truth::True => Truth::False,
        }
    }
}

/// Something with fields: an aggregate's state, a row.
pub trait Record {
    /// None for what is absent, and for what it has no field of.
    fn value(&self, field: &str) -> Option<Value>;
}

/// A record of which nothing is known.
impl Record for () {
    fn value(&self, _: &str) -> Option<Value> {
        None
    }
}

impl<F: Fn(&str) -> Option<Value>> Record for F {
    fn value(&self, field: &str) -> Option<Value> {
        self(field)
    }
}

impl Condition {
    /// What it says of a record to a caller.
    pub fn judge(&self, record: &(impl Record + ?Sized), claims: &Claims) -> Truth {
        match self {
            Condition::And(all) => {
                let mut least = Truth::True;
                for part in all {
                    least = least.min(part.judge(record, claims));
                    if least == Truth::False {
                        break;
                    }
                }
                least
            }
            Condition::Or(any) => {
                let mut greatest = Truth::False;
                for part in any {
                    greatest = greatest.max(part.judge(record, claims));
                    if greatest == Truth::True {
                        break;
                    }
                }
                greatest
            }
            Condition::Not(inner) => !inner.judge(record, claims),
            Condition::Is(field, test) => test.judge(record.value(field).as_ref(), claims),
        }
    }
}

impl Test {
    fn judge(&self, value: Option<&Value>, claims: &Claims) -> Truth {
        let compared = |operand: &Operand, holds: fn(&Value, &Value) -> bool| match (value, operand.of(claims)) {
            // Of two kinds only through a defect, and then nothing is known.
            (Some(value), Some(other)) if value.kind() == other.kind() => holds(value, other).into(),
            _ => Truth::Unknown,
        };
        match self {
            Test::Eq(other) => compared(other, |value, other| value == other),
            Test::Ne(other) => !compared(other, |value, other| value == other),
            Test::Lt(other) => compared(other, |value, other| value < other),
            Test::Lte(other) => compared(other, |value, other| value <= other),
            Test::Gt(other) => compared(other, |value, other| value > other),
            Test::Gte(other) => compared(other, |value, other| value >= other),
            Test::StartsWith(start) => compared(start, |value, start| match (value, start) {
                (Value::Text(text), Value::Text(start)) => text.starts_with(start.as_str()),
                _ => false,
            }),
            Test::In(others) => others.have(value, claims),
            Test::NotIn(others) => !others.have(value, claims),
            Test::IsNull(wanted) => (value.is_none() == *wanted).into(),
        }
    }
}

impl Operand {
    pub fn of<'a>(&'a self, claims: &'a Claims) -> Option<&'a Value> {
        match self {
            Operand::Literal(value) => Some(value),
            Operand::Claim(name) => claims.one(name),
        }
    }
}

impl Operands {
    pub fn of<'a>(&'a self, claims: &'a Claims) -> Option<&'a [Value]> {
        match self {
            Operands::Literals(values) => Some(values),
            Operands::Claim(name) => claims.many(name),
        }
    }

    fn have(&self, value: Option<&Value>, claims: &Claims) -> Truth {
        match (self.of(claims), value) {
            (None, _) => Truth::Unknown,
            // Nothing is among none, not even what is absent.
            (Some([]), _) => Truth::False,
            (Some(_), None) => Truth::Unknown,
            (Some(others), Some(value)) => others.contains(value).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Truth::{False, True, Unknown};

    fn record(field: &str) -> Option<Value> {
        match field {
            "region" => Some("North".into()),
            "value" => Some(9_999.into()),
            _ => None,
        }
    }

    fn eq(field: &'static str, value: impl Into<Value>) -> Condition {
        Condition::Is(field.into(), Test::Eq(Operand::Literal(value.into())))
    }

    #[test]
    fn the_three_values_combine_as_in_sql() {
        let (yes, no, unknown) = (eq("region", "North"), eq("region", "South"), eq("absent", "x"));
        let judge = |condition: Condition| condition.judge(&record, &Claims::default());
        for (condition, expected) in [
            (yes.clone(), True),
            (no.clone(), False),
            (unknown.clone(), Unknown),
            (Condition::And(vec![unknown.clone(), no.clone()]), False),
            (Condition::And(vec![unknown.clone(), yes.clone()]), Unknown),
            (Condition::Or(vec![unknown.clone(), no]), Unknown),
            (Condition::Or(vec![unknown.clone(), yes]), True),
            (unknown.negated(), Unknown),
            (Condition::TRUE, True),
            (Condition::FALSE, False),
        ] {
            assert_eq!(judge(condition.clone()), expected, "{condition:?}");
        }
    }

    #[test]
    fn what_is_absent_is_neither_equal_nor_different_nor_among_some() {
        let some = || Operands::Literals(vec!["x".into()]);
        for test in [
            Test::Eq(Operand::Literal("x".into())),
            Test::Ne(Operand::Literal("x".into())),
            Test::In(some()),
            Test::NotIn(some()),
            Test::Eq(Operand::Claim("nobody".into())),
        ] {
            assert_eq!(test.judge(None, &Claims::default()), Unknown, "{test:?}");
        }
        assert_eq!(Test::IsNull(true).judge(None, &Claims::default()), True);
        let none = Claims::default().with_many("sites", vec![]);
        assert_eq!(Test::In(Operands::Claim("sites".into())).judge(None, &none), False);
    }

    #[test]
    fn values_of_two_kinds_are_never_compared() {
        let condition = eq("value", "9999");
        assert_eq!(condition.judge(&record, &Claims::default()), Unknown);
    }
}
