//! Filters of lists: what every field is asked with, and how an input object becomes a tree of conditions.
//!
//! [`filter_input`] makes the input object of a list from its fields, [`enum_filter`] the conditions on an enumeration.
//! Refuses to know a column or a value's form: that is the read model's, and so are the bounds.

use super::errors::{Code, error};
use super::scalars::BigInt;
use async_graphql::registry::Registry;
use async_graphql::{
    Error, ErrorExtensions, InputObject, InputType, InputValueError, InputValueResult, MaybeUndefined, Name, Result,
};
use async_graphql_value::ConstValue;
use chrono::{DateTime, Utc};
use daybook_projections::read::filter::{Asked, Builder, Field, Filter, Refused, Test, Value};
use std::borrow::Cow;
use uuid::Uuid;

/// An object that is there and empty: a variable in it was left out, and without it the list would be another one.
const NOTHING: &str = "asks nothing: give a condition, or leave it out";

/// What is asked of one field, by operator.
pub struct Operators(Vec<(&'static str, Asked)>);

impl Operators {
    pub(crate) fn new() -> Self {
        Operators(Vec::new())
    }

    pub(crate) fn one<T: Into<Value>>(
        self,
        name: &'static str,
        given: MaybeUndefined<T>,
        test: fn(Value) -> Test,
    ) -> Self {
        self.given(name, given, |value| Asked::Is(test(value.into())))
    }

    pub(crate) fn many<T: Into<Value>>(
        self,
        name: &'static str,
        given: MaybeUndefined<Vec<T>>,
        test: fn(Vec<Value>) -> Test,
    ) -> Self {
        self.given(name, given, |values| Asked::Is(test(values.into_iter().map(Into::into).collect())))
    }

    fn given<T>(mut self, name: &'static str, given: MaybeUndefined<T>, asked: impl FnOnce(T) -> Asked) -> Self {
        match given {
            MaybeUndefined::Undefined => {}
            MaybeUndefined::Null => self.0.push((name, Asked::Null)),
            MaybeUndefined::Value(value) => self.0.push((name, asked(value))),
        }
        self
    }
}

/// An input object of operators.
pub trait Conditions: InputType {
    fn operators(self) -> Operators;
}

/// An input object of fields that becomes a tree.
pub(crate) trait Fields: Sized {
    type Field: Field;

    /// # Errors
    /// [`Refused`], with the place in the input.
    fn build(self, builder: &mut Builder) -> Result<Filter<Self::Field>, Refused>;
}

/// The tree of a list's argument `filter`; everything without one.
///
/// # Errors
/// `BAD_USER_INPUT` with the path of the member at fault.
pub(crate) fn filter<I: Fields>(input: Option<I>) -> Result<Filter<I::Field>> {
    let Some(input) = input else { return Ok(Filter::default()) };
    input.build(&mut Builder::new("filter")).map_err(refused)
}

fn refused(refused: Refused) -> Error {
    error(Code::BadUserInput, refused.to_string()).extend_with(|_, e| e.set("path", refused.path.clone()))
}

/// The conditions on one field.
pub(crate) fn field<F: Field>(
    builder: &mut Builder,
    name: &str,
    conditions: Option<impl Conditions>,
    field: F,
    all: &mut Vec<Filter<F>>,
) -> Result<(), Refused> {
    let Some(conditions) = conditions else { return Ok(()) };
    builder.at(camel(name), |builder| {
        let operators = conditions.operators().0;
        if operators.is_empty() {
            return Err(builder.refused(NOTHING));
        }
        for (operator, asked) in operators {
            all.push(builder.at(operator, |builder| builder.is(field, asked))?);
        }
        Ok(())
    })
}

/// The trees of `and` or `or`.
pub(crate) fn inner<I: Fields>(
    builder: &mut Builder,
    name: &str,
    inputs: Vec<I>,
) -> Result<Vec<Filter<I::Field>>, Refused> {
    builder.at(name, |builder| inputs.into_iter().enumerate().map(|(nth, input)| one(builder, nth, input)).collect())
}

/// The tree of an object inside another.
pub(crate) fn one<I: Fields>(
    builder: &mut Builder,
    step: impl ToString,
    input: I,
) -> Result<Filter<I::Field>, Refused> {
    builder.inner(step, |builder| match input.build(builder)? {
        Filter::And(all) if all.is_empty() => Err(builder.refused(NOTHING)),
        tree => Ok(tree),
    })
}

/// The bounds `from` and `to` of a list that is in the order of time. `form`: what becomes of `from`.
pub(crate) fn span<F: Field>(
    builder: &mut Builder,
    field: F,
    (from, to): (Option<DateTime<Utc>>, Option<DateTime<Utc>>),
    form: fn(DateTime<Utc>) -> DateTime<Utc>,
    all: &mut Vec<Filter<F>>,
) -> Result<(), Refused> {
    if let (Some(from), Some(to)) = (from, to)
        && from >= to
    {
        return builder.at("from", |builder| Err(builder.refused("is not before to: swap them")));
    }
    for (name, bound) in
        [("from", from.map(|from| Test::Gte(form(from).into()))), ("to", to.map(|to| Test::Lt(to.into())))]
    {
        let Some(bound) = bound else { continue };
        all.push(builder.at(name, |builder| builder.is(field, Asked::Is(bound)))?);
    }
    Ok(())
}

/// As GraphQL names it.
fn camel(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |mut name, word| {
        let (head, tail) = word.split_at(word.len().min(1));
        name.push_str(&head.to_ascii_uppercase());
        name.push_str(tail);
        name
    })
}

/// A condition on an id, e.g. `{ in: ["0190f3e0-0000-7000-8000-000000000001"] }`. Every operator that is given must hold.
#[derive(InputObject, Default)]
pub struct IdFilter {
    /// Exactly this one, e.g. `"0190f3e0-0000-7000-8000-000000000001"`.
    pub eq: MaybeUndefined<Uuid>,
    /// Any but this one, also none at all, e.g. `"0190f3e0-0000-7000-8000-000000000001"`.
    pub ne: MaybeUndefined<Uuid>,
    /// One of these, at most 200, e.g. `["0190f3e0-0000-7000-8000-000000000001"]`. Nothing is one of `[]`.
    #[graphql(name = "in")]
    pub among: MaybeUndefined<Vec<Uuid>>,
    /// None of these, at most 200, also none at all, e.g. `["0190f3e0-0000-7000-8000-000000000001"]`.
    pub not_in: MaybeUndefined<Vec<Uuid>>,
    /// Whether there is none, e.g. `true`.
    pub is_null: MaybeUndefined<bool>,
}

impl Conditions for IdFilter {
    fn operators(self) -> Operators {
        Operators::new()
            .one("eq", self.eq, Test::Eq)
            .one("ne", self.ne, Test::Ne)
            .many("in", self.among, Test::In)
            .many("notIn", self.not_in, Test::NotIn)
            .given("isNull", self.is_null, |null| Asked::Is(Test::IsNull(null)))
    }
}

/// A condition on a text, e.g. `{ startsWith: "Roof" }`. Every operator that is given must hold. Texts have 1–300
/// characters and are ordered by code point; where a field says so, upper and lower case are alike.
#[derive(InputObject, Default)]
pub struct TextFilter {
    /// Exactly this one, e.g. `"Roof, south"`.
    pub eq: MaybeUndefined<String>,
    /// Any but this one, also none at all, e.g. `"Roof, south"`.
    pub ne: MaybeUndefined<String>,
    /// One of these, at most 200, e.g. `["Roof, south", "Roof, north"]`. Nothing is one of `[]`.
    #[graphql(name = "in")]
    pub among: MaybeUndefined<Vec<String>>,
    /// None of these, at most 200, also none at all, e.g. `["Roof, south"]`.
    pub not_in: MaybeUndefined<Vec<String>>,
    /// Before this one, e.g. `"M"`.
    pub lt: MaybeUndefined<String>,
    /// This one or before it, e.g. `"M"`.
    pub lte: MaybeUndefined<String>,
    /// After this one, e.g. `"M"`.
    pub gt: MaybeUndefined<String>,
    /// This one or after it, e.g. `"M"`.
    pub gte: MaybeUndefined<String>,
    /// The whole text is like this: `%` stands for any number of characters, `_` for exactly one, and a backslash takes
    /// the next character as it is. E.g. `"roof%south"`. Reads on until a page is full: prefer `startsWith`.
    pub like: MaybeUndefined<String>,
    /// Begins with these characters, none of which has a meaning of its own, e.g. `"Roof"`.
    pub starts_with: MaybeUndefined<String>,
    /// Whether there is none, e.g. `true`.
    pub is_null: MaybeUndefined<bool>,
}

impl Conditions for TextFilter {
    fn operators(self) -> Operators {
        Operators::new()
            .one("eq", self.eq, Test::Eq)
            .one("ne", self.ne, Test::Ne)
            .many("in", self.among, Test::In)
            .many("notIn", self.not_in, Test::NotIn)
            .one("lt", self.lt, Test::Lt)
            .one("lte", self.lte, Test::Lte)
            .one("gt", self.gt, Test::Gt)
            .one("gte", self.gte, Test::Gte)
            .given("like", self.like, Asked::Like)
            .given("startsWith", self.starts_with, |start| Asked::Is(Test::StartsWith(start)))
            .given("isNull", self.is_null, |null| Asked::Is(Test::IsNull(null)))
    }
}

/// A condition on a moment, e.g. `{ gte: "2025-01-01T00:00:00Z", lt: "2025-02-01T00:00:00Z" }`, to the microsecond. Every
/// operator that is given must hold.
#[derive(InputObject, Default)]
pub struct DateTimeFilter {
    /// Exactly then, e.g. `"2025-01-01T00:00:00Z"`.
    pub eq: MaybeUndefined<DateTime<Utc>>,
    /// At any other moment, or never, e.g. `"2025-01-01T00:00:00Z"`.
    pub ne: MaybeUndefined<DateTime<Utc>>,
    /// At one of these, at most 200, e.g. `["2025-01-01T00:00:00Z"]`. Nothing is at one of `[]`.
    #[graphql(name = "in")]
    pub among: MaybeUndefined<Vec<DateTime<Utc>>>,
    /// At none of these, at most 200, or never, e.g. `["2025-01-01T00:00:00Z"]`.
    pub not_in: MaybeUndefined<Vec<DateTime<Utc>>>,
    /// Earlier, e.g. `"2025-01-01T00:00:00+01:00"`.
    pub lt: MaybeUndefined<DateTime<Utc>>,
    /// Then or earlier, e.g. `"2025-01-01T00:00:00Z"`.
    pub lte: MaybeUndefined<DateTime<Utc>>,
    /// Later, e.g. `"2025-01-01T00:00:00Z"`.
    pub gt: MaybeUndefined<DateTime<Utc>>,
    /// Then or later, e.g. `"2025-01-01T00:00:00Z"`.
    pub gte: MaybeUndefined<DateTime<Utc>>,
    /// Whether there is none, e.g. `true`.
    pub is_null: MaybeUndefined<bool>,
}

impl Conditions for DateTimeFilter {
    fn operators(self) -> Operators {
        Operators::new()
            .one("eq", self.eq, Test::Eq)
            .one("ne", self.ne, Test::Ne)
            .many("in", self.among, Test::In)
            .many("notIn", self.not_in, Test::NotIn)
            .one("lt", self.lt, Test::Lt)
            .one("lte", self.lte, Test::Lte)
            .one("gt", self.gt, Test::Gt)
            .one("gte", self.gte, Test::Gte)
            .given("isNull", self.is_null, |null| Asked::Is(Test::IsNull(null)))
    }
}

/// A condition on a whole number of 64 bits, e.g. `{ gte: "100", lt: "200" }`. Every operator that is given must hold.
#[derive(InputObject, Default)]
pub struct BigIntFilter {
    /// Exactly this one, e.g. `"100"`.
    pub eq: MaybeUndefined<BigInt>,
    /// Any but this one, also none at all, e.g. `"100"`.
    pub ne: MaybeUndefined<BigInt>,
    /// One of these, at most 200, e.g. `["100", "101"]`. Nothing is one of `[]`.
    #[graphql(name = "in")]
    pub among: MaybeUndefined<Vec<BigInt>>,
    /// None of these, at most 200, also none at all, e.g. `["100", "101"]`.
    pub not_in: MaybeUndefined<Vec<BigInt>>,
    /// Less, e.g. `"100"`.
    pub lt: MaybeUndefined<BigInt>,
    /// As much or less, e.g. `"100"`.
    pub lte: MaybeUndefined<BigInt>,
    /// More, e.g. `"100"`.
    pub gt: MaybeUndefined<BigInt>,
    /// As much or more, e.g. `"100"`.
    pub gte: MaybeUndefined<BigInt>,
    /// Whether there is none, e.g. `true`.
    pub is_null: MaybeUndefined<bool>,
}

impl Conditions for BigIntFilter {
    fn operators(self) -> Operators {
        Operators::new()
            .one("eq", self.eq, Test::Eq)
            .one("ne", self.ne, Test::Ne)
            .many("in", self.among, Test::In)
            .many("notIn", self.not_in, Test::NotIn)
            .one("lt", self.lt, Test::Lt)
            .one("lte", self.lte, Test::Lte)
            .one("gt", self.gt, Test::Gt)
            .one("gte", self.gte, Test::Gte)
            .given("isNull", self.is_null, |null| Asked::Is(Test::IsNull(null)))
    }
}

impl From<BigInt> for Value {
    fn from(BigInt(value): BigInt) -> Self {
        Value::Whole(value)
    }
}

/// A condition on a truth value, e.g. `{ eq: true }`.
#[derive(InputObject, Default)]
pub struct BooleanFilter {
    /// Exactly this one, e.g. `true`.
    pub eq: MaybeUndefined<bool>,
    /// The other one, e.g. `true`.
    pub ne: MaybeUndefined<bool>,
}

impl Conditions for BooleanFilter {
    fn operators(self) -> Operators {
        Operators::new().one("eq", self.eq, Test::Eq).one("ne", self.ne, Test::Ne)
    }
}

/// The conditions on an enumeration: `$one` and `$several` are examples for the descriptions.
macro_rules! enum_filter {
    ($(#[$doc:meta])* $name:ident of $kind:ident as $domain:ty, $one:tt, $several:tt) => {
        $(#[$doc])*
        #[derive(async_graphql::InputObject, Default)]
        pub struct $name {
            #[doc = "Exactly this one, e.g."]
            #[doc = $one]
            pub eq: async_graphql::MaybeUndefined<$kind>,
            #[doc = "Any but this one, e.g."]
            #[doc = $one]
            pub ne: async_graphql::MaybeUndefined<$kind>,
            #[doc = "One of these, at most 200; nothing is one of `[]`. E.g."]
            #[doc = $several]
            #[graphql(name = "in")]
            pub among: async_graphql::MaybeUndefined<Vec<$kind>>,
            #[doc = "None of these, at most 200, e.g."]
            #[doc = $several]
            pub not_in: async_graphql::MaybeUndefined<Vec<$kind>>,
        }

        impl From<$kind> for daybook_projections::read::filter::Value {
            fn from(kind: $kind) -> Self {
                Self::from(<$domain>::from(kind).as_str())
            }
        }

        impl $crate::graphql::filters::Conditions for $name {
            fn operators(self) -> $crate::graphql::filters::Operators {
                use daybook_projections::read::filter::Test;
                $crate::graphql::filters::Operators::new()
                    .one("eq", self.eq, Test::Eq)
                    .one("ne", self.ne, Test::Ne)
                    .many("in", self.among, Test::In)
                    .many("notIn", self.not_in, Test::NotIn)
            }
        }
    };
}
pub(crate) use enum_filter;

/// The input object of a list: its fields and what of the read model they ask, then `and`, `or` and `not`.
macro_rules! filter_input {
    (
        $(#[$doc:meta])*
        $name:ident on $fields:ty {
            $($(#[$field_doc:meta])* $field:ident: $conditions:ty => $target:expr,)+
        }
        $(span $span:expr, $form:expr, {
            $(#[$from_doc:meta])*
            from,
            $(#[$to_doc:meta])*
            to,
        })?
    ) => {
        $(#[$doc])*
        #[derive(async_graphql::InputObject, Default)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: Option<$conditions>,)+
            $(
                $(#[$from_doc])*
                pub from: Option<chrono::DateTime<chrono::Utc>>,
                $(#[$to_doc])*
                pub to: Option<chrono::DateTime<chrono::Utc>>,
            )?
            /// All of these must hold as well; of `[]`, nothing more. At most 6 levels deep and 64 conditions in all, each
            /// object inside `and`, `or` and `not` being one.
            pub and: Option<Vec<$name>>,
            /// At least one of these must hold as well; of `[]`, none can.
            pub or: Option<Vec<$name>>,
            /// This must not hold: exactly the others, those where a field is null among them.
            pub not: Option<Box<$name>>,
        }

        impl $crate::graphql::filters::Fields for $name {
            type Field = $fields;

            fn build(
                self,
                builder: &mut daybook_projections::read::filter::Builder,
            ) -> Result<
                daybook_projections::read::filter::Filter<$fields>,
                daybook_projections::read::filter::Refused,
            > {
                use daybook_projections::read::filter::Filter;
                let mut all = Vec::new();
                $($crate::graphql::filters::field(builder, stringify!($field), self.$field, $target, &mut all)?;)+
                $(
                    $crate::graphql::filters::span(builder, $span, (self.from, self.to), $form, &mut all)?;
                )?
                if let Some(and) = self.and {
                    all.extend($crate::graphql::filters::inner(builder, "and", and)?);
                }
                if let Some(or) = self.or {
                    all.push(Filter::Or($crate::graphql::filters::inner(builder, "or", or)?));
                }
                if let Some(not) = self.not {
                    all.push(Filter::Not(Box::new($crate::graphql::filters::one(builder, "not", *not)?)));
                }
                Ok(Filter::all(all))
            }
        }
    };
}
pub(crate) use filter_input;

/// Conditions on a field that once took a bare value, which is still read as `eq`.
pub struct OrBare<C>(C);

impl<C: Conditions> Conditions for OrBare<C> {
    fn operators(self) -> Operators {
        self.0.operators()
    }
}

impl<C: Conditions> InputType for OrBare<C> {
    type RawValueType = Self;

    fn type_name() -> Cow<'static, str> {
        C::type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        C::create_type_info(registry)
    }

    fn parse(value: Option<ConstValue>) -> InputValueResult<Self> {
        let value = match value {
            None | Some(ConstValue::Object(_) | ConstValue::Null) => value,
            Some(bare) => Some(ConstValue::Object([(Name::new("eq"), bare)].into_iter().collect())),
        };
        C::parse(value).map(OrBare).map_err(InputValueError::propagate)
    }

    fn to_value(&self) -> ConstValue {
        self.0.to_value()
    }

    fn as_raw_value(&self) -> Option<&Self::RawValueType> {
        Some(self)
    }
}
