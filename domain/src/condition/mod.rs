//! The condition language of rules: a small typed tree of comparisons, with two back ends that agree.
//!
//! ```json
//! { "region": { "eq": "North" }, "value": { "lt": 10000 }, "not": { "owner": { "ne": { "claim": "account" } } } }
//! ```
//!
//! [`Condition::judge`] evaluates it in memory, `projections::read::condition` says the same to PostgreSQL. Three-valued, as SQL is:
//! what is absent makes a comparison unknown, and only what is true allows. It refuses to compute, to call and to look anything
//! up: what it compares are fields of one record, literals, and claims of the caller.

mod claims;
mod judge;
mod parse;
mod value;

pub use claims::{Claim, Claims};
pub use judge::{Record, Truth};
pub use parse::Refused;
pub use value::{Kind, Value};

use std::borrow::Cow;

/// `and`, `or` and `not` inside each other.
pub const DEPTH_MAX: usize = 6;
/// Comparisons in a condition; an object inside `and`, `or` or `not` counts as one.
pub const CONDITIONS_MAX: usize = 64;
/// Values of one `in` or `notIn`.
pub const LIST_MAX: usize = 200;
/// Characters of a text.
pub const TEXT_CHARS_MAX: usize = 300;
/// Whole numbers beyond are not the same in every JSON parser.
pub const WHOLE_MAX: i64 = 9_007_199_254_740_991;

/// Whether a record fits. Only [`Condition::parse`] makes one of more than constants, so it fits its vocabulary.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Condition {
    /// Every one of them; none given, it is true.
    And(Vec<Condition>),
    /// At least one of them; none given, it is false.
    Or(Vec<Condition>),
    Not(Box<Condition>),
    Is(Cow<'static, str>, Test),
}

/// What is asked of a field.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Test {
    Eq(Operand),
    Ne(Operand),
    Lt(Operand),
    Lte(Operand),
    Gt(Operand),
    Gte(Operand),
    /// Of texts only.
    StartsWith(Operand),
    In(Operands),
    NotIn(Operands),
    /// Whether it is absent: the one question that absence answers.
    IsNull(bool),
}

/// What a field is compared with.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Operand {
    Literal(Value),
    /// Of the caller, by its name.
    Claim(Cow<'static, str>),
}

/// What a field may be one of.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Operands {
    Literals(Vec<Value>),
    /// A claim that is a list.
    Claim(Cow<'static, str>),
}

/// A field of a kind of record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Field {
    pub name: Cow<'static, str>,
    pub kind: Kind,
}

/// Something that is known of a caller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClaimOf {
    pub name: Cow<'static, str>,
    pub kind: Kind,
    /// Whether it is a list of such values.
    pub many: bool,
}

/// What conditions may name.
#[derive(Clone, Copy, Debug)]
pub struct Vocabulary<'a> {
    pub fields: &'a [Field],
    pub claims: &'a [ClaimOf],
}

impl Field {
    pub const fn new(name: &'static str, kind: Kind) -> Self {
        Field { name: Cow::Borrowed(name), kind }
    }
}

impl ClaimOf {
    pub const fn one(name: &'static str, kind: Kind) -> Self {
        ClaimOf { name: Cow::Borrowed(name), kind, many: false }
    }

    pub const fn many(name: &'static str, kind: Kind) -> Self {
        ClaimOf { name: Cow::Borrowed(name), kind, many: true }
    }
}

impl Condition {
    pub const TRUE: Condition = Condition::And(Vec::new());
    pub const FALSE: Condition = Condition::Or(Vec::new());

    /// All of them, in the simplest form.
    pub fn all(conditions: Vec<Condition>) -> Self {
        let mut rest: Vec<Condition> = conditions.into_iter().filter(|c| *c != Condition::TRUE).collect();
        match rest.len() {
            _ if rest.contains(&Condition::FALSE) => Condition::FALSE,
            1 => rest.remove(0),
            _ => Condition::And(rest),
        }
    }

    /// Any of them, in the simplest form.
    pub fn any(conditions: Vec<Condition>) -> Self {
        let mut rest: Vec<Condition> = conditions.into_iter().filter(|c| *c != Condition::FALSE).collect();
        match rest.len() {
            _ if rest.contains(&Condition::TRUE) => Condition::TRUE,
            1 => rest.remove(0),
            _ => Condition::Or(rest),
        }
    }

    /// The opposite, in the simplest form. What is unknown stays so.
    #[must_use]
    pub fn negated(self) -> Self {
        match self {
            Condition::And(all) if all.is_empty() => Condition::FALSE,
            Condition::Or(any) if any.is_empty() => Condition::TRUE,
            Condition::Not(inner) => *inner,
            other => Condition::Not(Box::new(other)),
        }
    }

    /// A field that equals a claim of the caller.
    pub fn is_claim(field: impl Into<Cow<'static, str>>, claim: impl Into<Cow<'static, str>>) -> Self {
        Condition::Is(field.into(), Test::Eq(Operand::Claim(claim.into())))
    }

    /// A field that is one of these.
    pub fn one_of(field: impl Into<Cow<'static, str>>, values: Vec<Value>) -> Self {
        Condition::Is(field.into(), Test::In(Operands::Literals(values)))
    }

    /// The fields it reads.
    pub fn fields<'a>(&'a self, into: &mut Vec<&'a str>) {
        match self {
            Condition::And(parts) | Condition::Or(parts) => parts.iter().for_each(|part| part.fields(into)),
            Condition::Not(inner) => inner.fields(into),
            Condition::Is(field, _) => into.push(field),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_vanish_where_they_say_nothing() {
        let a = Condition::is_claim("owner", "account");
        assert_eq!(Condition::all(vec![Condition::TRUE, a.clone()]), a);
        assert_eq!(Condition::all(vec![Condition::FALSE, a.clone()]), Condition::FALSE);
        assert_eq!(Condition::any(vec![Condition::TRUE, a.clone()]), Condition::TRUE);
        assert_eq!(Condition::any(vec![a.clone(), Condition::FALSE]), a);
        assert_eq!(Condition::any(vec![]), Condition::FALSE);
        assert_eq!(Condition::all(vec![]), Condition::TRUE);
        assert_eq!(a.clone().negated().negated(), a);
        assert_eq!(Condition::TRUE.negated(), Condition::FALSE);
    }
}
