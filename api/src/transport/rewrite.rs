//! Two corrections of the document that the executor needs to follow the specification.
//!
//! - An argument whose variable was left out counts as left out itself, so that its default applies and "absent"
//!   differs from `null`; the executor would read `null`.
//! - The root of a subscription selects exactly one field, fragments written out; the executor ignores fragments
//!   there and would end the stream at once without a word.
//!
//! What a correction leaves unused is dropped with it, since the validator reports unused variables and fragments.

use std::collections::HashSet;

use async_graphql::{
    Name, Positioned, ServerError, Variables,
    parser::types::{
        Directive, DocumentOperations, ExecutableDocument, Field, OperationDefinition, OperationType, Selection,
        SelectionSet,
    },
};
use async_graphql_value::Value as InputValue;

use super::fault::{code, coded};

/// Corrects the document for the operation named (`None`: the only one). The operation exists, its fragments do not
/// contain themselves and written out are not too many.
pub(crate) fn correct(
    document: &mut ExecutableDocument,
    selected: Option<&Name>,
    variables: &Variables,
) -> Result<(), ServerError> {
    let flattened = flatten_subscription(document, selected)?;
    let dropped = drop_omitted(document, selected, variables);
    if !flattened && dropped.is_empty() {
        return Ok(());
    }
    if let (DocumentOperations::Multiple(operations), Some(selected)) = (&mut document.operations, selected) {
        operations.retain(|name, _| name == selected);
    }
    let Some(operation) = operation(&document.operations, selected) else { return Ok(()) };
    let (mut fragments, mut used) = (HashSet::new(), HashSet::new());
    reach(document, &operation.node.selection_set.node, &mut fragments, &mut used);
    operation.node.directives.iter().for_each(|directive| variables_of(&directive.node, &mut used));
    document.fragments.retain(|name, _| fragments.contains(name));
    if let Some(operation) = operation_mut(&mut document.operations, selected) {
        operation.node.variable_definitions.retain(|definition| {
            let name = &definition.node.name.node;
            !dropped.contains(name) || used.contains(name)
        });
    }
    Ok(())
}

/// The operation of this name, or the only one.
pub(crate) fn operation<'a>(
    operations: &'a DocumentOperations,
    selected: Option<&Name>,
) -> Option<&'a Positioned<OperationDefinition>> {
    match (operations, selected) {
        (DocumentOperations::Single(operation), None) => Some(operation),
        (DocumentOperations::Multiple(operations), Some(name)) => operations.get(name),
        _ => None,
    }
}

pub(crate) fn operation_mut<'a>(
    operations: &'a mut DocumentOperations,
    selected: Option<&Name>,
) -> Option<&'a mut Positioned<OperationDefinition>> {
    match (operations, selected) {
        (DocumentOperations::Single(operation), None) => Some(operation),
        (DocumentOperations::Multiple(operations), Some(name)) => operations.get_mut(name),
        _ => None,
    }
}

fn flatten_subscription(document: &mut ExecutableDocument, selected: Option<&Name>) -> Result<bool, ServerError> {
    let ExecutableDocument { operations, fragments } = document;
    let Some(operation) = operation_mut(operations, selected) else { return Ok(false) };
    if operation.node.ty != OperationType::Subscription {
        return Ok(false);
    }
    let set = &operation.node.selection_set.node;
    let flat = set.items.iter().all(|item| matches!(item.node, Selection::Field(_)));
    let mut fields = Vec::new();
    let mut waiting: Vec<(&Positioned<Selection>, Vec<Positioned<Directive>>)> =
        set.items.iter().rev().map(|item| (item, Vec::new())).collect();
    while let Some((item, directives)) = waiting.pop() {
        let inherited = |own: &[Positioned<Directive>]| [&directives, own].concat();
        let (inner, directives): (Option<&SelectionSet>, _) = match &item.node {
            Selection::Field(field) => {
                let mut field = field.clone();
                field.node.directives = inherited(&field.node.directives);
                fields.push(Positioned::new(Selection::Field(field), item.pos));
                continue;
            }
            Selection::InlineFragment(inline) => {
                (Some(&inline.node.selection_set.node), inherited(&inline.node.directives))
            }
            Selection::FragmentSpread(named) => (
                fragments.get(&named.node.fragment_name.node).map(|fragment| &fragment.node.selection_set.node),
                inherited(&named.node.directives),
            ),
        };
        // An unknown fragment stays where it is for the validator to report.
        let Some(inner) = inner else { return Ok(false) };
        waiting.extend(inner.items.iter().rev().map(|item| (item, directives.clone())));
    }
    if fields.len() != 1 {
        let message =
            format!("A subscription selects one root field, this one {}: open a subscription for each", fields.len());
        return Err(coded(code::BAD_USER_INPUT, message, Some(operation.pos)));
    }
    operation.node.selection_set.node.items = fields;
    Ok(!flat)
}

/// Removes arguments and input fields whose variable was left out; answers the names of those variables.
fn drop_omitted(document: &mut ExecutableDocument, selected: Option<&Name>, variables: &Variables) -> HashSet<Name> {
    let ExecutableDocument { operations, fragments } = document;
    let Some(operation) = operation_mut(operations, selected) else { return HashSet::new() };
    let omitted: HashSet<Name> = operation
        .node
        .variable_definitions
        .iter()
        .filter(|definition| definition.node.default_value.is_none())
        .map(|definition| definition.node.name.node.clone())
        .filter(|name| !variables.contains_key(name))
        .collect();
    let mut dropped = HashSet::new();
    if omitted.is_empty() {
        return dropped;
    }
    drop_in_set(&mut operation.node.selection_set.node, &omitted, &mut dropped);
    for fragment in fragments.values_mut() {
        drop_in_set(&mut fragment.node.selection_set.node, &omitted, &mut dropped);
    }
    dropped
}

fn drop_in_set(set: &mut SelectionSet, omitted: &HashSet<Name>, dropped: &mut HashSet<Name>) {
    for item in &mut set.items {
        match &mut item.node {
            Selection::Field(field) => {
                let Field { arguments, selection_set, .. } = &mut field.node;
                arguments.retain_mut(|(_, value)| keep(&mut value.node, omitted, dropped));
                drop_in_set(&mut selection_set.node, omitted, dropped);
            }
            Selection::InlineFragment(inline) => drop_in_set(&mut inline.node.selection_set.node, omitted, dropped),
            Selection::FragmentSpread(_) => {}
        }
    }
}

/// Whether the value stays; an object loses the fields that do not. In a list a variable that was left out is `null`.
fn keep(value: &mut InputValue, omitted: &HashSet<Name>, dropped: &mut HashSet<Name>) -> bool {
    match value {
        InputValue::Variable(name) if omitted.contains(name) => {
            dropped.insert(name.clone());
            false
        }
        InputValue::Object(fields) => {
            fields.retain(|_, value| keep(value, omitted, dropped));
            true
        }
        InputValue::List(items) => {
            for item in items.iter_mut().filter(|item| !matches!(item, InputValue::Variable(_))) {
                keep(item, omitted, dropped);
            }
            true
        }
        _ => true,
    }
}

/// Collects the fragments that can be reached and the variables used on the way.
fn reach(document: &ExecutableDocument, set: &SelectionSet, fragments: &mut HashSet<Name>, used: &mut HashSet<Name>) {
    for item in &set.items {
        item.node.directives().iter().for_each(|directive| variables_of(&directive.node, used));
        match &item.node {
            Selection::Field(field) => {
                field.node.arguments.iter().for_each(|(_, value)| variables_in(&value.node, used));
                reach(document, &field.node.selection_set.node, fragments, used);
            }
            Selection::InlineFragment(inline) => reach(document, &inline.node.selection_set.node, fragments, used),
            Selection::FragmentSpread(named) => {
                let name = &named.node.fragment_name.node;
                if let Some(fragment) = document.fragments.get(name)
                    && fragments.insert(name.clone())
                {
                    fragment.node.directives.iter().for_each(|directive| variables_of(&directive.node, used));
                    reach(document, &fragment.node.selection_set.node, fragments, used);
                }
            }
        }
    }
}

fn variables_of(directive: &Directive, used: &mut HashSet<Name>) {
    directive.arguments.iter().for_each(|(_, value)| variables_in(&value.node, used));
}

fn variables_in(value: &InputValue, used: &mut HashSet<Name>) {
    match value {
        InputValue::Variable(name) => {
            used.insert(name.clone());
        }
        InputValue::List(items) => items.iter().for_each(|item| variables_in(item, used)),
        InputValue::Object(fields) => fields.values().for_each(|value| variables_in(value, used)),
        _ => {}
    }
}
