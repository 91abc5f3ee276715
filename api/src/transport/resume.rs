//! Taking up an event stream where it was cut: the `id` of an event is the position that the answer tells, and
//! `Last-Event-ID` becomes the argument `after` of the subscription.
//!
//! It knows these two conventions of the schema and nothing else. An answer that was not asked for its `position` has
//! no `id`; a subscription that has no `after` is refused by the validator.

use async_graphql::{
    Name, Response, Value, Variables,
    parser::types::{ExecutableDocument, OperationDefinition, OperationType, Selection, SelectionSet},
};
use async_graphql_value::Value as InputValue;

use super::{AtLeast, rewrite};

const POSITION: &str = "position";
const AFTER: &str = "after";

/// Where an answer tells its position: the keys of the root field and of its `position`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Bookmark(Option<(Name, Name)>);

impl Bookmark {
    /// Of an operation whose cost was checked and whose root was corrected. Only a subscription has one.
    pub(crate) fn of(document: &ExecutableDocument, operation: &OperationDefinition) -> Self {
        let root = match operation.selection_set.node.items.as_slice() {
            [item] if operation.ty == OperationType::Subscription => match &item.node {
                Selection::Field(field) => &field.node,
                Selection::InlineFragment(_) | Selection::FragmentSpread(_) => return Self(None),
            },
            _ => return Self(None),
        };
        let position = find(document, &root.selection_set.node);
        Self(position.map(|position| (root.response_key().node.clone(), position)))
    }

    /// The position of an answer.
    pub(crate) fn read(&self, response: &Response) -> Option<AtLeast> {
        let (root, position) = self.0.as_ref()?;
        let Value::Object(data) = &response.data else { return None };
        let Some(Value::Object(item)) = data.get(root) else { return None };
        let Some(Value::String(text)) = item.get(position) else { return None };
        AtLeast::parse(text)
    }
}

/// The key under which a selection tells its `position`.
fn find(document: &ExecutableDocument, set: &SelectionSet) -> Option<Name> {
    set.items.iter().find_map(|item| match &item.node {
        Selection::Field(field) if field.node.name.node == POSITION => Some(field.node.response_key().node.clone()),
        Selection::Field(_) => None,
        Selection::InlineFragment(inline) => find(document, &inline.node.selection_set.node),
        Selection::FragmentSpread(spread) => {
            let fragment = document.fragments.get(&spread.node.fragment_name.node)?;
            find(document, &fragment.node.selection_set.node)
        }
    })
}

/// Lets a subscription go on after a position, whatever its own `after` says: that is where it began. Queries and
/// mutations are left as they are.
pub(crate) fn go_on(
    document: &mut ExecutableDocument,
    selected: Option<&Name>,
    variables: &mut Variables,
    position: &AtLeast,
) {
    let Some(operation) = rewrite::operation_mut(&mut document.operations, selected) else { return };
    if operation.node.ty != OperationType::Subscription {
        return;
    }
    let position = || position.0.clone();
    for item in &mut operation.node.selection_set.node.items {
        let Selection::Field(field) = &mut item.node else { continue };
        let at = field.pos;
        match field.node.arguments.iter_mut().find(|(name, _)| name.node == AFTER) {
            // The variable stays in use: one that is declared and not used would be refused.
            Some((_, value)) => match &mut value.node {
                InputValue::Variable(name) => {
                    variables.insert(name.clone(), Value::String(position()));
                }
                literal => *literal = InputValue::String(position()),
            },
            None => field.node.arguments.push((
                async_graphql::Positioned::new(Name::new(AFTER), at),
                async_graphql::Positioned::new(InputValue::String(position()), at),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_graphql::{parser::parse_query, value};
    use serde_json::json;

    fn read(query: &str, data: Value) -> Option<String> {
        let document = parse_query(query).unwrap();
        let (_, operation) = document.operations.iter().next().unwrap();
        Bookmark::of(&document, &operation.node).read(&Response::new(data)).map(|at| at.0)
    }

    #[test]
    fn the_position_is_found_through_aliases_and_fragments() {
        let told = value!({ "e": { "p": "abc", "n": 1 } });
        for query in [
            "subscription { e: events { n p: position } }",
            "subscription { e: events { n ... { p: position } } }",
            "subscription { e: events { n ...F } } fragment F on X { p: position }",
        ] {
            assert_eq!(read(query, told.clone()).as_deref(), Some("abc"), "{query}");
        }
    }

    #[test]
    fn no_position_is_made_up() {
        assert_eq!(read("subscription { events { n } }", value!({ "events": { "n": 1 } })), None);
        assert_eq!(read("subscription { events { position } }", Value::Null), None);
        assert_eq!(read("subscription { events { position } }", value!({ "events": { "position": "a\nb" } })), None);
        assert_eq!(read("{ events { position } }", value!({ "events": { "position": "abc" } })), None);
    }

    fn gone_on(query: &str, variables: serde_json::Value) -> (String, serde_json::Value) {
        let mut document = parse_query(query).unwrap();
        let mut variables = Variables::from_json(variables);
        go_on(&mut document, None, &mut variables, &AtLeast("later".into()));
        (format!("{document:?}"), serde_json::to_value(&variables).unwrap())
    }

    #[test]
    fn a_subscription_goes_on_after_the_last_event_instead_of_where_it_began() {
        for query in ["subscription { events { n } }", "subscription { events(after: \"sooner\") { n } }"] {
            let (document, _) = gone_on(query, json!({}));
            assert!(document.contains("later") && !document.contains("sooner"), "{document}");
        }
        let query = "subscription($a: Position) { events(after: $a) { n } }";
        for before in [json!({}), json!({ "a": null }), json!({ "a": "sooner" })] {
            assert_eq!(gone_on(query, before).1, json!({ "a": "later" }));
        }
        let (document, variables) = gone_on("mutation { a }", json!({}));
        assert!(!document.contains("later") && variables == json!({}), "{document}");
    }
}
