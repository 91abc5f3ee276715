//! What differs between two states, leaf by leaf.

use serde_json::{Map, Value};
use std::collections::BTreeSet;

const SUBJECT: &str = "$subject";

/// Members of a state that are only a wrapper around what it holds while it is open: a tenant that is suspended has not
/// lost its name.
const LIFTED: &[&str] = &["profile", "manifest", "of"];

/// One value that an event changed.
#[derive(Clone, PartialEq, Debug)]
pub struct Change {
    /// E.g. `["settings", "fiscal.year_start"]`.
    pub path: Vec<String>,
    /// `None` where there was none, or it is not known any more.
    pub old: Option<Value>,
    pub new: Option<Value>,
    /// One of the two was about a person whose data has been erased.
    pub erased: bool,
    /// One of the two is about a person: it may need a permission of its own to be seen.
    pub personal: bool,
}

/// The changes from one state to the next, in the order of their paths. `payload`: of the event in between; a personal
/// field of it that was erased is told even though nothing differs any more.
pub(super) fn changes_between(before: &Value, after: &Value, payload: &Value) -> Vec<Change> {
    let mut changes = Vec::new();
    differ(&flat(before), &flat(after), &mut Vec::new(), &mut changes);
    for path in erased_fields(payload) {
        let told = changes.iter().any(|change| change.erased && change.path.last() == path.last());
        if !told {
            changes.push(Change { path, old: None, new: None, erased: true, personal: true });
        }
    }
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    changes
}

/// The new values alone.
pub(super) fn changes_of_payload(payload: &Value) -> Vec<Change> {
    let mut changes = Vec::new();
    differ(&Value::Null, payload, &mut Vec::new(), &mut changes);
    changes
}

/// A state as one object: its name as `status`, beside what it holds.
fn flat(state: &Value) -> Value {
    let mut members = Map::new();
    match state {
        Value::String(name) if name != "absent" => {
            members.insert("status".to_owned(), Value::String(name.clone()));
        }
        Value::Object(variant) => {
            for (name, inner) in variant {
                members.insert("status".to_owned(), Value::String(name.clone()));
                for (key, value) in inner.as_object().into_iter().flatten() {
                    match value {
                        Value::Object(wrapped) if LIFTED.contains(&key.as_str()) => members.extend(wrapped.clone()),
                        value => {
                            members.insert(key.clone(), value.clone());
                        }
                    }
                }
            }
        }
        _ => {}
    }
    Value::Object(members)
}

fn is_branch(value: &Value) -> bool {
    value.as_object().is_some_and(|object| !object.is_empty() && !object.contains_key(SUBJECT))
}

fn differ(before: &Value, after: &Value, path: &mut Vec<String>, changes: &mut Vec<Change>) {
    // No settings and no settings yet are the same.
    let empty = |value: &Value| value.is_null() || value.as_object().is_some_and(Map::is_empty);
    if before == after || empty(before) && empty(after) {
        return;
    }
    let walks = |value: &Value| is_branch(value) || empty(value);
    if walks(before) && walks(after) {
        let keys = |value: &Value| value.as_object().into_iter().flat_map(Map::keys).cloned().collect::<BTreeSet<_>>();
        for key in keys(before).union(&keys(after)) {
            path.push(key.clone());
            let member = |value: &Value| value.get(key).cloned().unwrap_or_default();
            differ(&member(before), &member(after), path, changes);
            path.pop();
        }
        return;
    }
    let mut about = About::default();
    let (old, new) = (shown(before, &mut about), shown(after, &mut about));
    let some = |value: Value| (!value.is_null()).then_some(value);
    let About { erased, personal } = about;
    changes.push(Change { path: path.clone(), old: some(old), new: some(new), erased, personal });
}

/// What was found in a value.
#[derive(Default)]
struct About {
    erased: bool,
    personal: bool,
}

/// A value as it is told: a personal field as its value, or as nothing.
fn shown(value: &Value, about: &mut About) -> Value {
    match value {
        Value::Object(object) if object.contains_key(SUBJECT) => {
            about.personal = true;
            about.erased |= !object.contains_key("value");
            object.get("value").cloned().unwrap_or_default()
        }
        Value::Object(object) => {
            Value::Object(object.iter().map(|(key, value)| (key.clone(), shown(value, about))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(|item| shown(item, about)).collect()),
        plain => plain.clone(),
    }
}

/// Paths of personal fields without a value.
fn erased_fields(payload: &Value) -> Vec<Vec<String>> {
    fn collect(value: &Value, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
        let Value::Object(object) = value else { return };
        if object.contains_key(SUBJECT) {
            if !object.contains_key("value") {
                found.push(path.clone());
            }
            return;
        }
        for (key, value) in object {
            path.push(key.clone());
            collect(value, path, found);
            path.pop();
        }
    }
    let mut found = Vec::new();
    collect(payload, &mut Vec::new(), &mut found);
    found
}
