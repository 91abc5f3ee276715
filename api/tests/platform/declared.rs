//! Nothing is answered that does not say what it needs.

use async_graphql::parser::parse_schema;
use async_graphql::parser::types::{FieldDefinition, TypeDefinition, TypeKind, TypeSystemDefinition};
use daybook_api::declared::{FIELDS, Needs, OPERATIONS, ROUTES, VERBS};
use daybook_api::graphql::sdl;
use daybook_domain::Action;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

struct Schema(BTreeMap<String, TypeDefinition>);

impl Schema {
    fn read() -> Self {
        let document = parse_schema(sdl()).unwrap();
        let definitions = document.definitions.into_iter().filter_map(|definition| match definition {
            TypeSystemDefinition::Type(of) => Some((of.node.name.node.to_string(), of.node)),
            TypeSystemDefinition::Schema(_) | TypeSystemDefinition::Directive(_) => None,
        });
        Schema(definitions.collect())
    }

    fn fields(&self, name: &str) -> Vec<&FieldDefinition> {
        match self.0.get(name).map(|of| &of.kind) {
            Some(TypeKind::Object(of)) => of.fields.iter().map(|field| &field.node).collect(),
            _ => Vec::new(),
        }
    }
}

#[test]
fn every_operation_of_the_schema_says_what_it_needs() {
    let schema = Schema::read();
    for (root, declared) in OPERATIONS {
        let known: BTreeSet<String> = schema.fields(root).iter().map(|field| field.name.node.to_string()).collect();
        let declared: BTreeSet<String> = declared.iter().map(|(field, _)| (*field).to_owned()).collect();
        assert_eq!(known, declared, "{root}: declare it in api/src/declared.rs");
        assert!(!known.is_empty());
    }
    for (parent, field, _) in FIELDS {
        assert!(schema.fields(parent).iter().any(|of| of.name.node == *field), "{parent}.{field} is not there");
    }
}

/// The text of every source below a folder.
fn sources(folder: &Path, into: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            // Routes of tests are nobody's.
            let text = std::fs::read_to_string(&path).unwrap();
            into.push(text.split("#[cfg(test)]\nmod tests {").next().unwrap().to_owned());
        }
    }
}

#[test]
fn every_route_and_every_verb_says_what_it_needs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut texts = Vec::new();
    sources(&root.join("api/src"), &mut texts);
    sources(&root.join("src"), &mut texts);
    let mut found = BTreeSet::new();
    for text in &texts {
        let path = text.split_once("const PATH: &str = \"").map(|(_, rest)| rest.split('"').next().unwrap());
        for route in text.split(".route(").skip(1).map(str::trim_start) {
            let route = match route.strip_prefix('"') {
                Some(literal) => literal.split('"').next().unwrap(),
                None => {
                    assert!(route.starts_with("PATH,"), "a route is a literal or the constant PATH: {route:.60}");
                    path.expect("its constant is beside it")
                }
            };
            found.insert(route.to_owned());
        }
    }
    let declared: BTreeSet<String> = ROUTES.iter().map(|(path, _)| (*path).to_owned()).collect();
    assert_eq!(found, declared, "declare it in api/src/declared.rs");

    let verbs = std::fs::read_dir(root.join("src/verbs")).unwrap();
    let verbs: BTreeSet<String> = verbs
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|verb| verb != "mod")
        .collect();
    assert_eq!(verbs, VERBS.iter().map(|(verb, _)| (*verb).to_owned()).collect(), "declare it in api/src/declared.rs");
}

#[test]
fn every_permission_is_asked_for_somewhere() {
    let operations = OPERATIONS.iter().flat_map(|(_, fields)| fields.iter().map(|(_, needs)| *needs));
    let fields = FIELDS.iter().map(|(_, _, needs)| *needs);
    let asked: BTreeSet<Action> = operations.chain(fields).filter_map(Needs::action).collect();
    // The operator's verb has it carried out on the node that writes.
    let elsewhere = BTreeSet::from([Action::ProjectionSkipEvent]);
    let all: BTreeSet<Action> = Action::ALL.iter().copied().collect();
    assert_eq!(&all - &asked, elsewhere);
}
