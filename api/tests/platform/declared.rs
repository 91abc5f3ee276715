//! Nothing is answered that does not say what it needs, and what is said is what is enforced.

use crate::harness::{World, code};
use async_graphql::parser::parse_schema;
use async_graphql::parser::types::{
    BaseType, FieldDefinition, InputValueDefinition, Type, TypeDefinition, TypeKind, TypeSystemDefinition,
};
use daybook_api::declared::{FIELDS, INTROSPECTION, Needs, OPERATIONS, ROUTES, VERBS};
use daybook_api::graphql::sdl;
use daybook_app::Credential;
use daybook_domain::rules::{ActionPattern, Effect, Permissions, RoleRules, Rule, find};
use daybook_domain::{Action, Actor, ActorKind, Role, TenantId};
use futures_util::StreamExt;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use uuid::Uuid;

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

    /// A value of a type; `id` for every id.
    fn literal(&self, ty: &Type, id: Uuid) -> String {
        let name = match &ty.base {
            BaseType::List(inner) => return format!("[{}]", self.literal(inner, id)),
            BaseType::Named(name) => name.as_str(),
        };
        match (name, self.0.get(name).map(|of| &of.kind)) {
            (_, Some(TypeKind::Enum(of))) => of.values[0].node.value.node.to_string(),
            (_, Some(TypeKind::InputObject(of))) => {
                let needed = of.fields.iter().map(|field| &field.node).filter(|field| is_needed(field));
                let members = needed.map(|f| match (f.name.node.as_str(), well_formed(&f.name.node)) {
                    (name, Some(text)) => format!("{name}: {text}"),
                    (name, None) => format!("{name}: {}", self.literal(&f.ty.node, id)),
                });
                format!("{{ {} }}", members.collect::<Vec<_>>().join(", "))
            }
            ("UUID", _) => format!("\"{id}\""),
            ("DateTime", _) => "\"2031-01-01T00:00:00Z\"".into(),
            ("BigInt", _) => "\"1\"".into(),
            ("Int", _) => "1".into(),
            ("Boolean", _) => "true".into(),
            ("JSON", _) => "{}".into(),
            _ => "\"x\"".into(),
        }
    }

    /// The first thing that can be asked of a type.
    fn selection(&self, ty: &Type, depth: usize) -> String {
        let mut base = &ty.base;
        let name = loop {
            match base {
                BaseType::List(inner) => base = &inner.base,
                BaseType::Named(name) => break name.as_str(),
            }
        };
        let fields = self.fields(name);
        if fields.is_empty() {
            return String::new();
        }
        let plain = |field: &&&FieldDefinition| !field.node_needs() && self.selection(&field.ty.node, 9).is_empty();
        let field = fields.iter().find(plain).or_else(|| fields.iter().find(|field| !field.node_needs())).unwrap();
        let inner = if depth == 0 { String::new() } else { self.selection(&field.ty.node, depth - 1) };
        format!("{{ {} {inner} }}", field.name.node)
    }

    fn document(&self, root: &str, field: &str, id: Uuid) -> String {
        let of = self.fields(root).into_iter().find(|of| of.name.node == field).unwrap();
        let needed = of.arguments.iter().map(|argument| &argument.node).filter(|argument| is_needed(argument));
        let arguments: Vec<String> =
            needed.map(|a| format!("{}: {}", a.name.node, self.literal(&a.ty.node, id))).collect();
        let arguments = if arguments.is_empty() { String::new() } else { format!("({})", arguments.join(", ")) };
        format!("{} {{ {field}{arguments} {} }}", root.to_lowercase(), self.selection(&of.ty.node, 3))
    }
}

/// What an input is refused without before anybody's permission is asked for.
fn well_formed(name: &str) -> Option<&'static str> {
    Some(match name {
        "action" => "\"device.read\"",
        "domain" => "\"acme.example\"",
        "email" => "\"ada@example.com\"",
        "field" => "\"device.serial\"",
        "resolutionS" => "900",
        "scopes" => "[\"device.read\"]",
        "timeZone" => "\"Europe/Berlin\"",
        "version" => "\"1.0.0\"",
        _ => return None,
    })
}

fn is_needed(of: &InputValueDefinition) -> bool {
    !of.ty.node.nullable && of.default_value.is_none()
}

trait NodeNeeds {
    fn node_needs(&self) -> bool;
}

impl NodeNeeds for FieldDefinition {
    /// Whether it cannot be asked for without an argument, or asks for more than its parent.
    fn node_needs(&self) -> bool {
        self.arguments.iter().any(|argument| is_needed(&argument.node))
            || FIELDS.iter().any(|(_, field, _)| self.name.node == *field)
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

/// A service of a tenant that holds one role with these rules.
fn holder(tenant: Uuid, rules: &[(Effect, &str)]) -> Credential {
    let rule = |(effect, action): &(Effect, &str)| Rule {
        effect: *effect,
        action: ActionPattern::parse(action).unwrap(),
        condition: None,
        own: false,
    };
    let role = RoleRules { key: "test".into(), rules: rules.iter().map(rule).collect(), fields: vec![] };
    let actor = Actor { id: Uuid::from_u128(77), kind: ActorKind::Service };
    let permissions = Arc::new(Permissions::compile(vec![Arc::new(role)], find));
    Credential::new(actor, TenantId(tenant), vec![], None).with_permissions(permissions)
}

#[tokio::test]
async fn what_an_operation_says_it_needs_is_what_it_is_refused_without() {
    let w = World::new().await;
    let tenant = w.tenant("Acme").await;
    let schema = Schema::read();
    let (mut opened, mut wrong) = (0, Vec::new());
    for (root, fields) in OPERATIONS {
        for (field, needs) in *fields {
            let document = schema.document(root, field, tenant);
            let Some(action) = needs.action() else {
                let answer = w.ask(&holder(tenant, &[]), &document, json!({})).await;
                match needs {
                    Needs::Credential => assert!(answer.get("errors").is_none(), "{document}: {answer}"),
                    // A service has none.
                    Needs::Session => {
                        let empty =
                            answer["data"][field].as_object().is_some_and(|of| of.values().all(|v| v.is_null()));
                        assert!(
                            ["FORBIDDEN", "UNAUTHENTICATED"].contains(&code(&answer)) || empty,
                            "{document}: {answer}"
                        );
                    }
                    // Judged by what it brings along: see `identity.rs`, `refreshing.rs` and `passwords.rs`.
                    Needs::Nothing => assert!(["login", "logout", "refresh"].contains(field), "{root}.{field}"),
                    _ => panic!("{root}.{field} needs {needs:?}"),
                }
                continue;
            };
            let ask = async |who: &Credential| {
                let request = World::request(who, &document, json!({}));
                let answer = match *root {
                    "Subscription" => w.schema.execute_stream(request).next().await.unwrap(),
                    _ => w.schema.execute(request).await,
                };
                serde_json::to_value(answer).unwrap()
            };
            let without = ask(&holder(tenant, &[(Effect::Allow, "*"), (Effect::Deny, action.as_str())])).await;
            let hidden = *root == "Query" && without["data"][field].is_null() && without.get("errors").is_none();
            if !hidden && code(&without) != "FORBIDDEN" {
                wrong.push(format!("{document} without {action}: {without}"));
            }
            // A stream would be waited for, and what is the platform's no role of a tenant allows.
            if *root != "Subscription" && Role::is_tenants(action) {
                let with = ask(&holder(tenant, &[(Effect::Allow, action.as_str())])).await;
                if code(&with) == "FORBIDDEN" {
                    wrong.push(format!("{document} with {action}: {with}"));
                }
                opened += usize::from(!hidden);
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(opened > 25, "most operations tell the two apart: {opened}");
}

#[test]
fn every_permission_is_asked_for_somewhere() {
    let operations = OPERATIONS.iter().flat_map(|(_, fields)| fields.iter().map(|(_, needs)| *needs));
    let fields = FIELDS.iter().chain(INTROSPECTION).map(|(_, _, needs)| *needs);
    let asked: BTreeSet<Action> = operations.chain(fields).filter_map(Needs::action).collect();
    let elsewhere = BTreeSet::from([
        // The operator's verb has it carried out on the node that writes.
        Action::ProjectionSkipEvent,
        // An account does these with itself and its own sessions: that they are its own is the proof.
        Action::AccountChangeProfile,
        Action::AccountSetPreference,
        Action::SessionStart,
        Action::SessionRefresh,
        Action::SessionSwitchTenant,
        Action::SessionEnd,
    ]);
    let all: BTreeSet<Action> = Action::ALL.iter().copied().collect();
    assert_eq!(&all - &asked, elsewhere);
}
