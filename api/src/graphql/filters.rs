//! Filters of lists: what every field is asked with, and how an input object becomes a tree of conditions.
//!
//! [`filter_input`] makes the input object of a list from its fields, [`enum_filter`] the conditions on an enumeration.
//! Refuses to know a column or a value's form: that is the read model's, and so are the bounds.

mod operators;

pub use operators::{BigIntFilter, BooleanFilter, DateTimeFilter, IdFilter, TextFilter};

use super::errors::{Code, error};
use async_graphql::registry::Registry;
use async_graphql::{
    Error, ErrorExtensions, InputType, InputValueError, InputValueResult, MaybeUndefined, Name, Pos, Result,
};
use async_graphql_value::ConstValue;
use chrono::{DateTime, Utc};
use daybook_projections::read::filter::{Asked, Builder, Field, Filter, Refused, Test, Value};
use std::borrow::Cow;
use std::marker::PhantomData;

/// An object that is there and empty: a variable in it was left out, and without it the list would be another one.
const NOTHING: &str = "asks nothing: give a condition, or leave it out";

/// What is asked of one field, by operator.
#[derive(Default)]
pub struct Operators(Vec<(&'static str, Asked)>);

/// An operator and what it asks, in each of these forms.
macro_rules! operators {
    ($(one $one:ident $one_name:literal $one_test:ident;)+ $(many $many:ident $many_name:literal $many_test:ident;)+) => {
        $(pub(crate) fn $one<T: Into<Value>>(self, given: MaybeUndefined<T>) -> Self {
            self.given($one_name, given, |value| Asked::Is(Test::$one_test(value.into())))
        })+
        $(pub(crate) fn $many<T: Into<Value>>(self, given: MaybeUndefined<Vec<T>>) -> Self {
            self.given($many_name, given, |values| Asked::Is(Test::$many_test(values.into_iter().map(Into::into).collect())))
        })+
    };
}

impl Operators {
    operators! {
        one eq "eq" Eq;
        one ne "ne" Ne;
        one lt "lt" Lt;
        one lte "lte" Lte;
        one gt "gt" Gt;
        one gte "gte" Gte;
        many among "in" In;
        many not_in "notIn" NotIn;
    }

    pub(crate) fn like(self, given: MaybeUndefined<String>) -> Self {
        self.given("like", given, Asked::Like)
    }

    pub(crate) fn starts_with(self, given: MaybeUndefined<String>) -> Self {
        self.given("startsWith", given, |start| Asked::Is(Test::StartsWith(start)))
    }

    #[allow(clippy::wrong_self_convention, reason = "named after the operator")]
    pub(crate) fn is_null(self, given: MaybeUndefined<bool>) -> Self {
        self.given("isNull", given, |null| Asked::Is(Test::IsNull(null)))
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
    conditions: Option<Later<impl Conditions>>,
    field: F,
    all: &mut Vec<Filter<F>>,
) -> Result<(), Refused> {
    let Some(conditions) = conditions else { return Ok(()) };
    builder.at(camel(name), |builder| {
        let operators = conditions.read(builder)?.operators().0;
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
pub(crate) fn inner<I: Fields + InputType>(
    builder: &mut Builder,
    name: &str,
    inputs: Vec<Later<I>>,
) -> Result<Vec<Filter<I::Field>>, Refused> {
    builder.at(name, |builder| inputs.into_iter().enumerate().map(|(nth, input)| one(builder, nth, input)).collect())
}

/// The tree of an object inside another.
pub(crate) fn one<I: Fields + InputType>(
    builder: &mut Builder,
    step: impl ToString,
    input: Later<I>,
) -> Result<Filter<I::Field>, Refused> {
    builder.inner(step, |builder| match input.read(builder)?.build(builder)? {
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
                $crate::graphql::filters::Operators::default()
                    .eq(self.eq)
                    .ne(self.ne)
                    .among(self.among)
                    .not_in(self.not_in)
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
            $($(#[$field_doc])* pub $field: Option<$crate::graphql::filters::Later<$conditions>>,)+
            $(
                $(#[$from_doc])*
                pub from: Option<chrono::DateTime<chrono::Utc>>,
                $(#[$to_doc])*
                pub to: Option<chrono::DateTime<chrono::Utc>>,
            )?
            /// All of these must hold as well; of `[]`, nothing more. At most 6 levels deep and 64 conditions in all, each
            /// object inside `and`, `or` and `not` being one.
            pub and: Option<Vec<$crate::graphql::filters::Later<$name>>>,
            /// At least one of these must hold as well; of `[]`, none can.
            pub or: Option<Vec<$crate::graphql::filters::Later<$name>>>,
            /// This must not hold: exactly the others, those where a field is null among them.
            pub not: Option<$crate::graphql::filters::Later<$name>>,
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
                    all.push(Filter::Not(Box::new($crate::graphql::filters::one(builder, "not", not)?)));
                }
                Ok(Filter::all(all))
            }
        }
    };
}
pub(crate) use filter_input;

/// A part of the input that is read when it is known where it stands, and that it is not one too many: 300,000 empty
/// objects fit into a body, and read all at once they would be hundreds of times as large.
pub struct Later<T>(ConstValue, PhantomData<fn() -> T>);

impl<T: InputType> Later<T> {
    fn read(self, builder: &Builder) -> Result<T, Refused> {
        T::parse(Some(self.0)).map_err(|error| {
            let error = error.into_server_error(Pos::default());
            builder.refused(format!("cannot be read: {}", error.message))
        })
    }
}

impl<T: InputType> InputType for Later<T> {
    type RawValueType = Self;

    fn type_name() -> Cow<'static, str> {
        T::type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        T::create_type_info(registry)
    }

    fn parse(value: Option<ConstValue>) -> InputValueResult<Self> {
        Ok(Later(value.unwrap_or_default(), PhantomData))
    }

    fn to_value(&self) -> ConstValue {
        self.0.clone()
    }

    fn as_raw_value(&self) -> Option<&Self::RawValueType> {
        Some(self)
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use async_graphql::parser::parse_schema;
    use async_graphql::parser::types::{TypeKind, TypeSystemDefinition};

    #[test]
    fn every_filter_and_every_field_of_one_is_described_with_an_example() {
        let schema = parse_schema(crate::graphql::sdl()).unwrap();
        let mut filters = 0;
        for definition in schema.definitions {
            let TypeSystemDefinition::Type(definition) = definition else { continue };
            let (definition, name) = (&definition.node, definition.node.name.node.as_str());
            let TypeKind::InputObject(input) = &definition.kind else { continue };
            if !name.ends_with("Filter") {
                continue;
            }
            filters += 1;
            let described = |text: Option<&str>| text.is_some_and(|text| text.to_lowercase().contains("e.g."));
            assert!(described(definition.description.as_ref().map(|text| text.node.as_str())), "{name}");
            for field in &input.fields {
                let field_name = field.node.name.node.as_str();
                let combines = matches!(field_name, "and" | "or" | "not");
                let text = field.node.description.as_ref().map(|text| text.node.as_str());
                assert!(described(text) || combines && text.is_some(), "{name}.{field_name}");
            }
        }
        assert!(filters > 15, "{filters}");
    }

    #[test]
    fn names_are_written_as_graphql_has_them() {
        for (name, expected) in [("id", "id"), ("registered_at", "registeredAt"), ("allowed_now", "allowedNow")] {
            assert_eq!(camel(name), expected);
        }
    }
}
