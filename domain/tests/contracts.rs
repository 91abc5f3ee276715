//! The committed contracts in `schemas/` are what the code says, and everything ever published still decodes.

use daybook_domain::registry::{contract_files, event_contracts, read_payload, unlisted_events};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;

const REMEDY: &str = "run `cargo run -- schemas`, look at the difference and commit it";

fn schemas() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../schemas")
}

/// Name without the folder, and content, of every committed file with that ending.
fn committed(ending: &str) -> Vec<(String, String)> {
    let folder = fs::read_dir(schemas().join("events")).expect("schemas/events exists");
    let mut files: Vec<_> = folder
        .map(|entry| entry.expect("the folder is readable"))
        .filter_map(|entry| {
            let name = entry.file_name().into_string().expect("names are UTF-8");
            let stem = name.strip_suffix(ending)?.to_owned();
            Some((stem, fs::read_to_string(entry.path()).expect("the file is readable")))
        })
        .collect();
    files.sort();
    files
}

#[test]
fn the_committed_contracts_are_those_of_the_code() {
    for (path, content) in contract_files() {
        let file = fs::read_to_string(schemas().join(&path)).unwrap_or_default();
        assert!(file == content, "schemas/{path} is missing or not what the code says; {REMEDY}");
    }
}

#[test]
fn no_committed_contract_is_without_its_event() {
    let generated = contract_files();
    for ending in [".schema.json", ".sample.json"] {
        for (stem, _) in committed(ending) {
            let path = format!("events/{stem}{ending}");
            assert!(
                generated.iter().any(|(known, _)| *known == path),
                "schemas/{path} belongs to no event of the registry; put its entry back"
            );
        }
    }
}

#[test]
fn every_committed_sample_decodes_into_its_event() {
    let samples = committed(".sample.json");
    assert!(!samples.is_empty());
    for (stem, content) in samples {
        let (event_type, version) = stem.rsplit_once(".v").expect("the name ends in .v<version>");
        let payloads: Vec<Value> = serde_json::from_str(&content).expect("a sample file is an array of payloads");
        assert!(!payloads.is_empty(), "{stem} holds no sample");
        for payload in payloads {
            if let Err(error) = read_payload(event_type, version, &payload) {
                panic!("{stem}: {error}: {:?}", std::error::Error::source(&error));
            }
        }
    }
}

#[test]
fn every_event_of_an_aggregate_has_a_contract() {
    assert_eq!(unlisted_events(), Vec::<String>::new());
}

#[test]
fn every_sample_fits_its_schema_once_its_personal_fields_are_sealed() {
    for contract in event_contracts() {
        for sample in &contract.samples {
            let stored = sealed(sample);
            let fits = fits(&contract.schema, &stored);
            assert!(fits.is_ok(), "{} v{}: {stored}: {}", contract.event_type, contract.version, fits.unwrap_err());
        }
    }
}

#[test]
fn a_payload_with_a_personal_field_in_clear_fits_no_schema() {
    let mut checked = 0;
    for contract in event_contracts() {
        for sample in contract.samples.iter().filter(|sample| **sample != sealed(sample)) {
            assert!(fits(&contract.schema, sample).is_err(), "{}: {sample}", contract.event_type);
            checked += 1;
        }
    }
    assert!(checked > 0, "no sample holds a personal field");
}

#[test]
fn a_payload_that_lacks_a_field_or_has_another_type_fits_no_schema() {
    for contract in event_contracts() {
        let required = contract.schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
        for field in required.iter().filter_map(Value::as_str) {
            let (mut lacking, mut other) = (sealed(&contract.samples[0]), sealed(&contract.samples[0]));
            lacking.as_object_mut().expect("an object").remove(field);
            other[field] = json!(null);
            assert!(fits(&contract.schema, &lacking).is_err(), "{} without {field}", contract.event_type);
            assert!(fits(&contract.schema, &other).is_err(), "{} with {field} = null", contract.event_type);
        }
    }
}

/// The payload as the journal stores it.
fn sealed(payload: &Value) -> Value {
    match payload {
        Value::Object(object) if object.contains_key("$subject") && object.contains_key("value") => {
            json!({"$subject": object["$subject"], "sealed": "c2VhbGVk"})
        }
        Value::Object(object) => object.iter().map(|(key, value)| (key.clone(), sealed(value))).collect(),
        Value::Array(items) => items.iter().map(sealed).collect(),
        other => other.clone(),
    }
}

/// The part of JSON Schema that the contracts use. A keyword that it doesn't know is an error, never a pass.
fn fits(schema: &Value, value: &Value) -> Result<(), String> {
    let keywords = schema.as_object().ok_or_else(|| format!("not a schema of an object: {schema}"))?;
    let wrong = |what: &str| Err(format!("{value}: {what}"));
    let branches =
        |schemas: &Value| schemas.as_array().into_iter().flatten().filter(|schema| fits(schema, value).is_ok()).count();
    let whole = |number: &Value| number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    for (keyword, expected) in keywords {
        match keyword.as_str() {
            "$schema" | "$id" | "title" | "description" | "format" | "pattern" | "contentEncoding" => {}
            "type" => {
                let is = match expected.as_str() {
                    Some("object") => value.is_object(),
                    Some("array") => value.is_array(),
                    Some("string") => value.is_string(),
                    Some("boolean") => value.is_boolean(),
                    Some("integer") => value.is_i64() || value.is_u64(),
                    other => return Err(format!("the type {other:?} is not known to this test")),
                };
                if !is {
                    return wrong(&format!("is not of the type {expected}"));
                }
            }
            "minimum" if whole(value) < whole(expected) => return wrong("is too small"),
            "maximum" if whole(value) > whole(expected) => return wrong("is too large"),
            "enum" if !expected.as_array().is_some_and(|values| values.contains(value)) => {
                return wrong("is not in the enum");
            }
            "const" if expected != value => return wrong("is not the constant"),
            "oneOf" if branches(expected) != 1 => return wrong("does not fit exactly one branch"),
            "anyOf" if branches(expected) == 0 => return wrong("fits no branch"),
            "required" => {
                if let Some(missing) = expected
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                    .find(|field| value.get(field).is_none())
                {
                    return wrong(&format!("lacks {missing}"));
                }
            }
            "properties" => {
                for (field, schema) in expected.as_object().into_iter().flatten() {
                    value.get(field).map_or(Ok(()), |value| fits(schema, value))?;
                }
            }
            "additionalProperties" => {
                let declared = keywords.get("properties").and_then(Value::as_object);
                let undeclared = |field: &str| !declared.is_some_and(|declared| declared.contains_key(field));
                for (field, value) in value.as_object().into_iter().flatten().filter(|(field, _)| undeclared(field)) {
                    match expected {
                        Value::Bool(false) => {
                            return wrong(&format!("has the undeclared field {field}"));
                        }
                        schema => fits(schema, value)?,
                    }
                }
            }
            "items" => value.as_array().into_iter().flatten().try_for_each(|item| fits(expected, item))?,
            "uniqueItems" => {
                let items = value.as_array().cloned().unwrap_or_default();
                if items.iter().enumerate().any(|(n, item)| items[..n].contains(item)) {
                    return wrong("repeats an item");
                }
            }
            "enum" | "const" | "oneOf" | "anyOf" | "minimum" | "maximum" => {}
            unknown => {
                return Err(format!("the keyword {unknown} is not known to this test; teach it"));
            }
        }
    }
    Ok(())
}
