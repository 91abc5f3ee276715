//! What a document costs, before anything is validated or executed.
//!
//! Every fragment is measured once and its figures are added wherever it is spread, so a document whose fragments
//! double at every level is refused in linear time; the validator would walk all of its copies. The schema is not
//! known here: a field is a page when it has `first` or `last`, or selects `edges` or `nodes`.

use std::collections::HashMap;

use async_graphql::{
    Name, Pos, Positioned, ServerError, Value, Variables,
    parser::types::{Directive, ExecutableDocument, Field, OperationDefinition, Selection, SelectionSet},
};
use async_graphql_value::Value as InputValue;

use super::{
    fault::{code, coded},
    limits::Limits,
};

/// Selection sets inside each other, fragments included. Above what `depth_max` lets through, below what would
/// strain the stack.
const STRUCTURE_MAX: usize = 64;

/// Lists of types inside each other in an introspection; three multiply to millions of rows.
const INTROSPECTION_LISTS_MAX: u64 = 2;

/// Bytes of argument values, variables written out wherever they are used: a variable that is used often must not be
/// copied more often than the body's limit lets through.
const ARGUMENT_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What any value counts as, besides the length of its text.
const VALUE_BYTES: u64 = 4;

/// Figures of a selection set, fragments written out. They saturate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Cost {
    roots: u64,
    fields: u64,
    complexity: u64,
    depth: u64,
    aliases: u64,
    directives: u64,
    introspection_lists: u64,
    argument_bytes: u64,
    /// Whether `edges` or `nodes` is among the selected fields.
    page: bool,
    /// Selection sets inside each other.
    structure: usize,
}

enum Fragment {
    Entered,
    Measured(Cost),
}

struct Measure<'a> {
    document: &'a ExecutableDocument,
    operation: &'a OperationDefinition,
    variables: &'a Variables,
    page_size_default: u64,
    fragments: HashMap<&'a Name, Fragment>,
    /// Bytes of each variable's value.
    bytes: HashMap<&'a Name, u64>,
}

/// Refuses an operation that costs too much, naming the figure and the limit. Tells how many root fields it has.
pub(crate) fn check(
    document: &ExecutableDocument,
    operation: &Positioned<OperationDefinition>,
    variables: &Variables,
    limits: &Limits,
) -> Result<u64, ServerError> {
    let mut measure = Measure {
        document,
        operation: &operation.node,
        variables,
        page_size_default: limits.page_size_default,
        fragments: HashMap::new(),
        bytes: HashMap::new(),
    };
    for (name, value) in variables.iter() {
        let (bytes, nesting) = size(value);
        let limit = count(limits.nesting_max);
        if nesting > limit {
            let message = format!(
                "The variable `${name}` has {nesting} brackets open at once; at most {limit} are allowed. Nest less deeply"
            );
            return Err(coded(code::LIMIT_EXCEEDED, message, Some(operation.pos)));
        }
        measure.bytes.insert(name, bytes);
    }
    for definition in &operation.node.variable_definitions {
        if let Some(value) = &definition.node.default_value {
            measure.bytes.entry(&definition.node.name.node).or_insert_with(|| size(&value.node).0);
        }
    }
    let mut cost = measure.set(&operation.node.selection_set, 0)?;
    cost.directives += count(operation.node.directives.len());
    for (figure, limit, noun, remedy) in [
        (cost.depth, limits.depth_max, "levels of fields", "Ask for the inner objects separately"),
        (cost.roots, limits.root_fields_max, "root fields", "Split it into several requests"),
        (cost.aliases, limits.aliases_max, "aliases", "Split it into several requests"),
        (cost.directives, limits.directives_max, "directives", "Leave some out"),
        (cost.argument_bytes, ARGUMENT_BYTES_MAX, "bytes of argument values", "Use large variables less often"),
        (cost.fields, limits.fields_max, "fields", "Select fewer fields"),
        (cost.complexity, limits.complexity_max, "fields to resolve", "Select fewer fields or smaller pages"),
    ] {
        if figure > limit {
            return Err(too_much(figure, limit, noun, remedy, Some(operation.pos)));
        }
    }
    Ok(cost.roots)
}

/// The error of a limit.
pub(crate) fn too_much(figure: u64, limit: u64, noun: &str, remedy: &str, at: Option<Pos>) -> ServerError {
    let message = format!("The query has {figure} {noun}; at most {limit} are allowed. {remedy}");
    coded(code::LIMIT_EXCEEDED, message, at)
}

impl<'a> Measure<'a> {
    fn set(&mut self, set: &'a Positioned<SelectionSet>, structure: usize) -> Result<Cost, ServerError> {
        let mut sum = Cost::default();
        for selection in &set.node.items {
            let cost = match &selection.node {
                Selection::Field(field) => self.field(field, structure)?,
                Selection::InlineFragment(inline) => {
                    below(structure, selection.pos)?;
                    let inner = self.set(&inline.node.selection_set, structure + 1)?;
                    spread(inner, &inline.node.directives)
                }
                Selection::FragmentSpread(named) => {
                    let mut inner = self.fragment(&named.node.fragment_name, structure)?;
                    inner.directives = inner.directives.saturating_add(count(named.node.directives.len()));
                    inner
                }
            };
            sum.add(cost);
        }
        Ok(sum)
    }

    fn field(&mut self, field: &'a Positioned<Field>, structure: usize) -> Result<Cost, ServerError> {
        let mut inner = Cost::default();
        if !field.node.selection_set.node.items.is_empty() {
            below(structure, field.pos)?;
            inner = self.set(&field.node.selection_set, structure + 1)?;
        }
        let name = field.node.name.node.as_str();
        if matches!(name, "__schema" | "__type") && inner.introspection_lists > INTROSPECTION_LISTS_MAX {
            let (figure, limit) = (inner.introspection_lists, INTROSPECTION_LISTS_MAX);
            let remedy = "Ask for the inner types separately";
            return Err(too_much(figure, limit, "nested lists of types", remedy, Some(field.pos)));
        }
        let given = |arguments: &'a [(Positioned<Name>, Positioned<InputValue>)]| {
            arguments.iter().fold(0, |sum: u64, (_, value)| sum.saturating_add(self.argument_bytes(&value.node)))
        };
        let of_directives = field.node.directives.iter().map(|directive| given(&directive.node.arguments));
        let argument_bytes =
            of_directives.fold(given(&field.node.arguments), u64::saturating_add).saturating_add(inner.argument_bytes);
        let list = matches!(name, "fields" | "interfaces" | "possibleTypes" | "inputFields");
        Ok(Cost {
            roots: 1,
            fields: inner.fields.saturating_add(1),
            complexity: inner.complexity.saturating_mul(self.page_size(&field.node, inner.page)).saturating_add(1),
            depth: inner.depth + 1,
            aliases: inner.aliases.saturating_add(u64::from(field.node.alias.is_some())),
            directives: inner.directives.saturating_add(count(field.node.directives.len())),
            introspection_lists: inner.introspection_lists + u64::from(list),
            argument_bytes,
            page: matches!(name, "edges" | "nodes"),
            structure: inner.structure + usize::from(!field.node.selection_set.node.items.is_empty()),
        })
    }

    fn fragment(&mut self, name: &'a Positioned<Name>, structure: usize) -> Result<Cost, ServerError> {
        match self.fragments.get(&name.node) {
            Some(Fragment::Entered) => {
                let message = format!("The fragment `{}` contains itself: leave the inner one out", name.node);
                return Err(coded(code::BAD_USER_INPUT, message, Some(name.pos)));
            }
            Some(Fragment::Measured(cost)) => {
                below(structure + cost.structure, name.pos)?;
                return Ok(*cost);
            }
            None => {}
        }
        // An unknown fragment is the validator's to report.
        let Some(fragment) = self.document.fragments.get(&name.node) else {
            return Ok(Cost::default());
        };
        below(structure, name.pos)?;
        self.fragments.insert(&name.node, Fragment::Entered);
        let inner = self.set(&fragment.node.selection_set, structure + 1)?;
        let cost = spread(inner, &fragment.node.directives);
        self.fragments.insert(&name.node, Fragment::Measured(cost));
        Ok(cost)
    }

    fn argument_bytes(&self, value: &'a InputValue) -> u64 {
        let sum = |sum: u64, value: &'a InputValue| sum.saturating_add(self.argument_bytes(value));
        match value {
            InputValue::Variable(name) => self.bytes.get(name).copied().unwrap_or_default(),
            InputValue::String(text) => VALUE_BYTES.saturating_add(count(text.len())),
            InputValue::List(items) => items.iter().fold(VALUE_BYTES, sum),
            InputValue::Object(fields) => fields
                .iter()
                .fold(VALUE_BYTES, |bytes, (name, value)| sum(bytes.saturating_add(count(name.len())), value)),
            _ => VALUE_BYTES,
        }
    }

    /// With how many rows the fields below this one are multiplied.
    fn page_size(&self, field: &Field, page: bool) -> u64 {
        let asked = ["first", "last"].iter().filter_map(|name| self.number(&field.get_argument(name)?.node)).max();
        asked.unwrap_or(if page { self.page_size_default } else { 1 }).max(1)
    }

    fn number(&self, value: &InputValue) -> Option<u64> {
        let constant = match value {
            InputValue::Number(number) => return number.as_u64(),
            InputValue::Variable(name) => self.variables.get(name).or_else(|| {
                let definitions = &self.operation.variable_definitions;
                let definition = definitions.iter().find(|definition| definition.node.name.node == *name)?;
                definition.node.default_value.as_ref().map(|value| &value.node)
            }),
            _ => None,
        };
        match constant {
            Some(Value::Number(number)) => number.as_u64(),
            _ => None,
        }
    }
}

impl Cost {
    fn add(&mut self, other: Self) {
        self.roots = self.roots.saturating_add(other.roots);
        self.fields = self.fields.saturating_add(other.fields);
        self.complexity = self.complexity.saturating_add(other.complexity);
        self.depth = self.depth.max(other.depth);
        self.aliases = self.aliases.saturating_add(other.aliases);
        self.directives = self.directives.saturating_add(other.directives);
        self.introspection_lists = self.introspection_lists.max(other.introspection_lists);
        self.argument_bytes = self.argument_bytes.saturating_add(other.argument_bytes);
        self.page |= other.page;
        self.structure = self.structure.max(other.structure);
    }
}

/// A selection set of its own that is merged into the one around it.
fn spread(mut inner: Cost, directives: &[Positioned<Directive>]) -> Cost {
    inner.directives = inner.directives.saturating_add(count(directives.len()));
    inner.structure += 1;
    inner
}

/// Bytes of a value, and how many brackets are open in it at once.
fn size(value: &Value) -> (u64, u64) {
    let add =
        |(bytes, nesting): (u64, u64), (more, inner): (u64, u64)| (bytes.saturating_add(more), nesting.max(inner));
    let inner = match value {
        Value::String(text) => return (VALUE_BYTES.saturating_add(count(text.len())), 0),
        Value::List(items) => items.iter().map(size).fold((0, 0), add),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| add((count(name.len()), 0), size(value))).fold((0, 0), add)
        }
        _ => return (VALUE_BYTES, 0),
    };
    (inner.0.saturating_add(VALUE_BYTES), inner.1 + 1)
}

fn below(structure: usize, at: Pos) -> Result<(), ServerError> {
    if structure < STRUCTURE_MAX {
        return Ok(());
    }
    let (figure, limit) = (count(structure + 1), count(STRUCTURE_MAX));
    Err(too_much(figure, limit, "selection sets inside each other", "Use fewer fragments", Some(at)))
}

fn count(length: usize) -> u64 {
    length.try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use async_graphql::parser::parse_query;

    use super::*;

    fn refusal(text: &str, variables: serde_json::Value) -> Option<String> {
        let document = parse_query(text).unwrap();
        let (_, operation) = document.operations.iter().next().unwrap();
        let variables = Variables::from_json(variables);
        check(&document, operation, &variables, &Limits::default()).err().map(|error| error.message)
    }

    #[track_caller]
    fn refused(text: &str, part: &str) {
        let message = refusal(text, serde_json::json!({})).expect("it should be refused");
        assert!(message.contains(part), "{message}");
    }

    #[track_caller]
    fn allowed(text: &str) {
        assert_eq!(refusal(text, serde_json::json!({})), None);
    }

    #[test]
    fn a_variable_that_is_used_often_counts_as_often() {
        let uses = |n: usize| format!("query($x: F) {{ a(f: {{ and: [{}] }}) }}", "$x ".repeat(n));
        let large = || serde_json::json!({ "x": { "name": { "in": ["x".repeat(100_000)] } } });
        assert_eq!(refusal(&uses(41), large()), None);
        let refused = refusal(&uses(42), large()).expect("it should be refused");
        assert!(refused.starts_with("The query has 4200"), "{refused}");
        assert!(refused.contains("bytes of argument values; at most 4194304"), "{refused}");
        let spread = "query($x: F) { ...f ...f } fragment f on Q { a(f: $x) @include(if: $x) }";
        let larger = serde_json::json!({ "x": "x".repeat(1_000_000 + 50_000) });
        assert!(refusal(spread, larger).expect("it should be refused").contains("bytes of argument values"));
        let default = format!("query($x: F = \"{}\") {{ a(f: [{}]) }}", "x".repeat(10_000), "$x ".repeat(500));
        assert!(refusal(&default, serde_json::json!({})).expect("it should be refused").contains("argument values"));
    }

    #[test]
    fn a_variable_is_nested_no_deeper_than_a_query_may_be() {
        let nested = |levels| (0..levels).fold(serde_json::json!(1), |inner, _| serde_json::json!([inner]));
        let text = "query($x: F) { a(f: $x) }";
        assert_eq!(refusal(text, serde_json::json!({ "x": nested(50) })), None);
        let refused = refusal(text, serde_json::json!({ "x": nested(51) })).expect("it should be refused");
        assert!(refused.contains("`$x` has 51 brackets open at once; at most 50"), "{refused}");
    }

    #[test]
    fn fragments_that_double_are_refused_without_being_written_out() {
        let mut text = "{ ...f0 }".to_owned();
        for level in 0..40 {
            text += &format!(" fragment f{level} on Q {{ ...f{} ...f{} }}", level + 1, level + 1);
        }
        text += " fragment f40 on Q { a }";
        refused(&text, "1099511627776 root fields");
    }

    #[test]
    fn a_long_chain_of_fragments_is_refused_before_the_stack_ends() {
        let mut text = "{ ...f0 }".to_owned();
        for level in 0..2_000 {
            text += &format!(" fragment f{level} on Q {{ ...f{} }}", level + 1);
        }
        text += " fragment f2000 on Q { a }";
        refused(&text, "65 selection sets inside each other");
    }

    #[test]
    fn a_fragment_that_contains_itself_is_refused() {
        refused("{ ...a } fragment a on Q { x { ...b } } fragment b on Q { y { ...a } }", "contains itself");
    }

    #[test]
    fn depth_aliases_root_fields_and_directives_have_limits() {
        let nest = |depth: usize| format!("{{ {} a {} }}", "a { ".repeat(depth - 1), "}".repeat(depth - 1));
        allowed(&nest(15));
        refused(&nest(16), "16 levels of fields; at most 15");
        let aliases = |n: usize| format!("{{ a {{ {} }} }}", (0..n).map(|i| format!("x{i}: b ")).collect::<String>());
        allowed(&aliases(30));
        refused(&aliases(31), "31 aliases; at most 30");
        allowed(&format!("{{ {} }}", "a ".repeat(20)));
        refused(&format!("{{ {} }}", "a ".repeat(21)), "21 root fields; at most 20");
        refused(&format!("{{ a {} }}", "@x ".repeat(51)), "51 directives; at most 50");
    }

    #[test]
    fn page_sizes_multiply() {
        let page = |first: &str| {
            format!(
                "query($n: Int = 200) {{ a(first: {first}) {{ edges {{ node {{ b(last: 200) {{ edges {{ x }} }} }} }} }} }}"
            )
        };
        refused(&page("1000000"), "fields to resolve");
        refused(&page("$n"), "80"); // 200 × (edges, node, b, 200 × (edges, x))
        allowed(&page("100"));
        assert_eq!(refusal(&page("$n"), serde_json::json!({"n": 10})), None);
        // Three connections without a size: 50 × 50 × 50.
        refused("{ a { nodes { b { nodes { c { nodes { x } } } } } } }", "fields to resolve");
    }

    #[test]
    fn introspection_may_be_complete_but_not_multiply() {
        allowed("{ __schema { types { fields { type { fields { name } } } } } }");
        refused(
            "{ __schema { types { fields { type { fields { type { fields { name } } } } } } } }",
            "3 nested lists of types",
        );
    }
}
