//! Fields in the order in which they were asked for.
//!
//! The specification orders an answer like its selection; async-graphql 7.2.1 orders it by which resolver is done
//! first. Knows no types: where fragments on several types share an object, their fields stand in the order of the
//! document.

use async_graphql::{
    Name, Response, Value,
    parser::types::{ExecutableDocument, OperationDefinition, Selection, SelectionSet},
};
use std::collections::HashMap;

/// The keys of an object, in their order, each with those of the objects below it.
#[derive(Debug, Default)]
pub(crate) struct Order {
    places: HashMap<Name, (usize, Order)>,
}

impl Order {
    /// Of an operation whose cost was checked: fragments are written out.
    pub(crate) fn of(document: &ExecutableDocument, operation: &OperationDefinition) -> Self {
        let mut order = Order::default();
        order.add(document, &operation.selection_set.node);
        order
    }

    fn add(&mut self, document: &ExecutableDocument, selected: &SelectionSet) {
        for selection in &selected.items {
            match &selection.node {
                Selection::Field(field) => {
                    let next = self.places.len();
                    let key = field.node.response_key().node.clone();
                    let (_, below) = self.places.entry(key).or_insert_with(|| (next, Order::default()));
                    below.add(document, &field.node.selection_set.node);
                }
                Selection::FragmentSpread(spread) => {
                    if let Some(fragment) = document.fragments.get(&spread.node.fragment_name.node) {
                        self.add(document, &fragment.node.selection_set.node);
                    }
                }
                Selection::InlineFragment(fragment) => self.add(document, &fragment.node.selection_set.node),
            }
        }
    }

    pub(crate) fn arranged(&self, mut response: Response) -> Response {
        self.sort(&mut response.data);
        response
    }

    fn sort(&self, value: &mut Value) {
        match value {
            Value::List(items) => items.iter_mut().for_each(|item| self.sort(item)),
            // A leaf may be an object of its own making, such as `JSON`: it stays as it is.
            Value::Object(fields) if !self.places.is_empty() => {
                let place = |key: &Name| self.places.get(key).map_or(usize::MAX, |(place, _)| *place);
                fields.sort_by(|a, _, b, _| place(a).cmp(&place(b)));
                for (key, value) in fields {
                    if let Some((_, below)) = self.places.get(key) {
                        below.sort(value);
                    }
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_graphql::parser::parse_query;
    use async_graphql::value;

    fn arranged(query: &str, data: Value) -> String {
        let document = parse_query(query).unwrap();
        let (_, operation) = document.operations.iter().next().unwrap();
        let response = Order::of(&document, &operation.node).arranged(Response::new(data));
        serde_json::to_string(&response.data).unwrap()
    }

    #[test]
    fn keys_follow_the_selection_through_aliases_fragments_and_lists() {
        let query = "query { b: x { n ...F } a { m } b: x { k } ... on Q { z } } fragment F on X { l n }";
        let data = value!({ "z": 1, "a": { "m": 2 }, "b": [{ "k": 3, "l": 4, "n": 5 }, null] });
        assert_eq!(arranged(query, data), r#"{"b":[{"n":5,"l":4,"k":3},null],"a":{"m":2},"z":1}"#);
    }

    #[test]
    fn an_object_that_is_a_leaf_stays_as_it_is() {
        let data = value!({ "settings": { "z": 1, "a": 2 } });
        assert_eq!(arranged("{ settings }", data), r#"{"settings":{"z":1,"a":2}}"#);
    }
}
