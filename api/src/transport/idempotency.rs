//! `Idempotency-Key`: puts the header of a lone mutation where the mutation would name its command itself, in
//! `input.clientMutationId`, unless one is there.
//!
//! It knows this one convention of the schema and nothing else. A mutation whose input has no such field is refused by
//! the validator, which names it.

use async_graphql::{
    Name, Value, Variables,
    parser::types::{ExecutableDocument, Field, OperationType, Selection},
};
use async_graphql_value::Value as InputValue;
use uuid::Uuid;

use super::rewrite;

const INPUT: &str = "input";
const COMMAND_ID: &str = "clientMutationId";

/// Why the header cannot be honoured. The client's mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IdempotencyError {
    #[error("`Idempotency-Key` is for one mutation: send one per request, or give each a `clientMutationId`")]
    NotOne,
    #[error("`Idempotency-Key` needs the mutation at the document's root, with an `input`")]
    NoInput,
}

/// The command id of a key: a UUID is taken as it is, any other text becomes one under `namespace` (who acts).
pub(crate) fn command_id(key: &str, namespace: Uuid) -> Uuid {
    key.parse().unwrap_or_else(|_| Uuid::new_v5(&namespace, key.as_bytes()))
}

/// Names the command of the selected operation. Queries and subscriptions are left as they are.
pub(crate) fn name(
    document: &mut ExecutableDocument,
    selected: Option<&Name>,
    roots: u64,
    variables: &mut Variables,
    id: Uuid,
) -> Result<(), IdempotencyError> {
    let Some(operation) = rewrite::operation_mut(&mut document.operations, selected) else { return Ok(()) };
    if operation.node.ty != OperationType::Mutation {
        return Ok(());
    }
    if roots != 1 {
        return Err(IdempotencyError::NotOne);
    }
    let items = &mut operation.node.selection_set.node.items;
    let field = items.iter_mut().find_map(|item| match &mut item.node {
        Selection::Field(field) => Some(&mut field.node),
        Selection::InlineFragment(_) | Selection::FragmentSpread(_) => None,
    });
    let input = field.and_then(input).ok_or(IdempotencyError::NoInput)?;
    match input {
        InputValue::Object(fields) => {
            match fields.get(COMMAND_ID) {
                None | Some(InputValue::Null) => {
                    fields.insert(Name::new(COMMAND_ID), InputValue::String(id.to_string()));
                }
                // The variable stays in use: one that is declared and not used would be refused.
                Some(InputValue::Variable(name)) if matches!(variables.get(name), None | Some(Value::Null)) => {
                    variables.insert(name.clone(), Value::String(id.to_string()));
                }
                Some(_) => {}
            }
            Ok(())
        }
        InputValue::Variable(name) => match variables.get_mut(name) {
            Some(Value::Object(fields)) => {
                if matches!(fields.get(COMMAND_ID), None | Some(Value::Null)) {
                    fields.insert(Name::new(COMMAND_ID), Value::String(id.to_string()));
                }
                Ok(())
            }
            _ => Err(IdempotencyError::NoInput),
        },
        _ => Err(IdempotencyError::NoInput),
    }
}

fn input(field: &mut Field) -> Option<&mut InputValue> {
    field.arguments.iter_mut().find(|(name, _)| name.node == INPUT).map(|(_, value)| &mut value.node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_graphql::parser::parse_query;
    use serde_json::json;

    const ID: Uuid = Uuid::from_u128(7);

    fn named(
        query: &str,
        roots: u64,
        variables: serde_json::Value,
    ) -> Result<(String, serde_json::Value), IdempotencyError> {
        let mut document = parse_query(query).unwrap();
        let mut variables = Variables::from_json(variables);
        name(&mut document, None, roots, &mut variables, ID)?;
        Ok((format!("{document:?}"), serde_json::to_value(&variables).unwrap()))
    }

    #[test]
    fn the_key_names_the_command_of_a_literal_input() {
        for input in ["{ x: 1 }", "{ clientMutationId: null }"] {
            let (document, _) = named(&format!("mutation {{ a(input: {input}) }}"), 1, json!({})).unwrap();
            assert!(document.contains(&ID.to_string()), "{input}: {document}");
        }
        let (_, variables) = named("mutation($c: UUID) { a(input: { clientMutationId: $c }) }", 1, json!({})).unwrap();
        assert_eq!(variables, json!({ "c": ID }));
        let (document, _) = named("mutation { a(input: { clientMutationId: \"mine\" }) }", 1, json!({})).unwrap();
        assert!(document.contains("mine") && !document.contains(&ID.to_string()), "{document}");
    }

    #[test]
    fn the_key_names_the_command_of_an_input_in_a_variable() {
        let query = "mutation($i: I!) { a(input: $i) }";
        let (_, variables) = named(query, 1, json!({ "i": { "x": 1 } })).unwrap();
        assert_eq!(variables, json!({ "i": { "x": 1, "clientMutationId": ID } }));
        let (_, variables) = named(query, 1, json!({ "i": { "clientMutationId": "mine" } })).unwrap();
        assert_eq!(variables, json!({ "i": { "clientMutationId": "mine" } }));
    }

    #[test]
    fn a_key_that_cannot_be_honoured_is_refused_not_ignored() {
        let two = named("mutation { a(input: {}) b(input: {}) }", 2, json!({}));
        assert_eq!(two, Err(IdempotencyError::NotOne));
        for query in ["mutation { a }", "mutation($i: I) { a(input: $i) }", "mutation { ... { a(input: {}) } }"] {
            assert_eq!(named(query, 1, json!({})), Err(IdempotencyError::NoInput), "{query}");
        }
        assert!(named("{ a }", 1, json!({})).is_ok());
    }

    #[test]
    fn a_key_that_is_no_uuid_means_another_command_for_another_actor() {
        assert_eq!(command_id(&ID.to_string(), Uuid::nil()), ID);
        let of = |actor| command_id("order-17", Uuid::from_u128(actor));
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }
}
