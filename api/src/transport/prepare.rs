//! From parameters to a request that may be executed: the one gate of HTTP, event streams and WebSocket.
//!
//! It parses, chooses the operation, applies the limits and corrects what the executor would get wrong. It does not
//! validate against the schema; the executor does.

use async_graphql::{
    Name, Positioned, Request, ServerError, Value, Variables,
    parser::{
        parse_query,
        types::{DocumentOperations, ExecutableDocument, OperationDefinition, OperationType, Selection},
    },
};

use super::{
    cost,
    fault::{code, coded},
    idempotency,
    limits::Limits,
    order::Order,
    params::Params,
    resume::{self, Bookmark},
    rewrite, scan,
};

/// A request with its parsed document, and what kind of operation it selects.
pub(crate) struct Prepared {
    pub(crate) request: Request,
    pub(crate) kind: OperationType,
    /// In which its answer's fields stand.
    pub(crate) order: Order,
    /// Where its answers tell their position.
    pub(crate) bookmark: Bookmark,
    /// Its root fields, where they stand there plainly.
    roots: Option<Vec<Name>>,
}

impl Prepared {
    /// Whether it is a mutation of these fields and nothing else.
    pub(crate) fn is_only(&self, open: &[&str]) -> bool {
        let are_open = |roots: &Vec<Name>| !roots.is_empty() && roots.iter().all(|root| open.contains(&root.as_str()));
        self.kind == OperationType::Mutation && self.roots.as_ref().is_some_and(are_open)
    }
}

/// The root fields of an operation; `None` when some of them are in fragments.
fn plain_roots(operation: &OperationDefinition) -> Option<Vec<Name>> {
    let name = |item: &Positioned<Selection>| match &item.node {
        Selection::Field(field) => Some(field.node.name.node.clone()),
        Selection::FragmentSpread(_) | Selection::InlineFragment(_) => None,
    };
    operation.selection_set.node.items.iter().map(name).collect()
}

/// Prepares the operation that the parameters select.
///
/// Errors: `LIMIT_EXCEEDED` or `BAD_USER_INPUT`; nothing was executed.
pub(crate) fn prepare(params: Params, limits: &Limits) -> Result<Prepared, ServerError> {
    let Params { query, operation_name, mut variables, extensions, command_id, last_event } = params;
    let mut document = parse(&query, limits)?;
    let mut roots_of = Vec::with_capacity(document.operations.iter().len());
    for (name, operation) in document.operations.iter() {
        roots_of.push((name.cloned(), cost::check(&document, operation, &variables, limits)?));
    }
    let selected = select(&document.operations, operation_name.as_deref())?;
    let roots = roots_of.into_iter().find(|(name, _)| *name == selected).map_or(0, |(_, roots)| roots);
    if let Some(id) = command_id {
        idempotency::name(&mut document, selected.as_ref(), roots, &mut variables, id)
            .map_err(|error| coded(code::BAD_USER_INPUT, error.to_string(), None))?;
    }
    let Some(operation) = rewrite::operation(&document.operations, selected.as_ref()) else {
        return Err(unknown_operation(operation_name.as_deref().unwrap_or_default()));
    };
    required_variables(&operation.node, &variables)?;
    let kind = operation.node.ty;
    rewrite::correct(&mut document, selected.as_ref(), &variables)?;
    if let Some(position) = last_event {
        resume::go_on(&mut document, selected.as_ref(), &mut variables, &position);
    }
    let corrected = rewrite::operation(&document.operations, selected.as_ref()).map(|operation| &operation.node);
    let order = corrected.map_or_else(Order::default, |operation| Order::of(&document, operation));
    let bookmark = corrected.map_or_else(Bookmark::default, |operation| Bookmark::of(&document, operation));
    let roots = corrected.and_then(plain_roots);

    let mut request = Request::new(query).variables(variables);
    request.operation_name = selected.map(|name| name.to_string());
    request.extensions.0 =
        extensions.into_iter().filter_map(|(key, value)| Some((key, Value::from_json(value).ok()?))).collect();
    request.set_parsed_query(document);
    Ok(Prepared { request, kind, order, bookmark, roots })
}

fn parse(query: &str, limits: &Limits) -> Result<ExecutableDocument, ServerError> {
    let limit = |figure: usize, limit: usize, noun, remedy| {
        let wide = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
        if figure > limit { Err(cost::too_much(wide(figure), wide(limit), noun, remedy, None)) } else { Ok(()) }
    };
    limit(query.len(), limits.query_bytes_max, "bytes", "Move values into variables or split it")?;
    let shape = scan::scan(query).map_err(|error| coded(code::BAD_USER_INPUT, error.to_string(), None))?;
    limit(shape.tokens, limits.tokens_max, "tokens", "Move values into variables or split it")?;
    limit(shape.nesting, limits.nesting_max, "brackets open at once", "Nest less deeply")?;
    let document = parse_query(query).map_err(syntax)?;
    limit(document.operations.iter().len(), limits.operations_max, "operations", "Send only the one to execute")?;
    limit(document.fragments.len(), limits.fragments_max, "fragments", "Use fewer fragments")?;
    Ok(document)
}

/// The parser draws the whole offending line; the client has it, and the place is told apart from it.
fn syntax(error: async_graphql::parser::Error) -> ServerError {
    let ServerError { message, locations, .. } = ServerError::from(error);
    let reason = message.rsplit_once("\n  = ").map_or(message.as_str(), |(_, reason)| reason);
    let short: String = reason.chars().take(200).collect();
    coded(code::BAD_USER_INPUT, format!("The query is not GraphQL: {short}"), locations.first().copied())
}

/// The name of the operation to execute; `None` is the only, nameless one.
fn select(operations: &DocumentOperations, asked: Option<&str>) -> Result<Option<Name>, ServerError> {
    match (operations, asked) {
        (DocumentOperations::Single(_), None) => Ok(None),
        (DocumentOperations::Multiple(operations), Some(asked)) if operations.contains_key(asked) => {
            Ok(Some(Name::new(asked)))
        }
        (_, Some(asked)) => Err(unknown_operation(asked)),
        (DocumentOperations::Multiple(operations), None) => match operations.len() {
            1 => Ok(operations.keys().next().cloned()),
            several => {
                let message = format!("The query has {several} operations: name the one to execute in `operationName`");
                Err(coded(code::BAD_USER_INPUT, message, None))
            }
        },
    }
}

fn unknown_operation(name: &str) -> ServerError {
    let message = format!("The query has no operation `{name}`: correct `operationName`");
    coded(code::BAD_USER_INPUT, message, None)
}

/// A variable that must not be null has a value. The executor would find out only in the field that uses it.
fn required_variables(operation: &OperationDefinition, variables: &Variables) -> Result<(), ServerError> {
    for definition in &operation.variable_definitions {
        let (name, kind) = (&definition.node.name.node, &definition.node.var_type.node);
        let missing = match variables.get(name) {
            None => definition.node.default_value.is_none(),
            Some(value) => *value == Value::Null,
        };
        if missing && !kind.nullable {
            let message = format!("The variable `${name}` of type `{kind}` needs a value");
            return Err(coded(code::BAD_USER_INPUT, message, Some(definition.pos)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(query: &str) -> ServerError {
        let params = Params { query: query.to_owned(), ..Params::default() };
        prepare(params, &Limits::default()).err().expect("it should be refused")
    }

    #[test]
    fn only_a_mutation_of_nothing_else_is_open() {
        let is_open = |query: &str| {
            let params = Params { query: query.to_owned(), ..Params::default() };
            prepare(params, &Limits::default())
                .unwrap_or_else(|e| panic!("{}", e.message))
                .is_only(&["login", "refresh"])
        };
        assert!(is_open("mutation { login(input: { email: \"a\" }) { a } }"));
        assert!(is_open("mutation { me: login { a } b: refresh { a } }"));
        for other in [
            "{ login { a } }",
            "subscription { login { a } }",
            "mutation { login { a } logout { a } }",
            "mutation { login: logout { a } }",
            "mutation { __typename }",
            "mutation { ... on Mutation { login { a } } }",
            "mutation { ...F } fragment F on Mutation { login { a } }",
        ] {
            assert!(!is_open(other), "{other}");
        }
    }

    #[test]
    fn too_many_open_brackets_are_refused_before_the_parser() {
        for (head, open) in [("{a(x:", "["), ("{a(x:", "{b:"), ("query($x:", "["), ("", "{a")] {
            let message = refusal(&format!("{head}{}", open.repeat(3_000))).message;
            assert!(message.contains("brackets open at once; at most 50"), "{message}");
        }
        assert!(refusal(&"[".repeat(10_001)).message.contains("10001 tokens; at most 10000"));
    }

    #[test]
    fn a_syntax_error_tells_place_and_reason_but_not_the_query() {
        let error = refusal("{ a(x: ]) secret }");
        assert_eq!((error.locations[0].line, error.locations[0].column), (1, 8));
        assert!(error.message.starts_with("The query is not GraphQL: expected "), "{}", error.message);
        assert!(!error.message.contains("secret"), "{}", error.message);
        let duplicate = refusal("query a { x } query a { y }").message;
        assert!(duplicate.starts_with("The query is not GraphQL: "), "{duplicate}");
    }

    #[test]
    fn a_limit_says_what_was_found_and_what_is_allowed() {
        let error = refusal(&" ".repeat(65 * 1024));
        assert_eq!(
            error.message,
            "The query has 66560 bytes; at most 65536 are allowed. Move values into variables or split it"
        );
        assert_eq!(super::super::fault::code_of(&error), Some(code::LIMIT_EXCEEDED));
        let many: String = (0..11).map(|i| format!("query q{i} {{ a }} ")).collect();
        assert!(refusal(&many).message.contains("11 operations; at most 10"));
        let many: String = (0..101).map(|i| format!("fragment f{i} on Q {{ a }} ")).collect();
        assert!(refusal(&format!("{{ a }} {many}")).message.contains("101 fragments; at most 100"));
    }
}
