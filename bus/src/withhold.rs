//! Takes personal values out of a payload before it leaves.
//!
//! Even sealed ones stay inside: what a message server and its subscribers keep is out of our reach, and a
//! key that leaks one day would open it there. The person's id stays, so that a reader with the right to
//! know can ask the API.

use serde_json::value::RawValue;
use serde_json::{Value, json};

const SUBJECT: &str = "$subject";

/// The payload with `{"$subject": id, "withheld": true}` in place of every personal field. The exact bytes
/// when there is none.
///
/// # Errors
/// When it is not JSON.
pub(crate) fn withhold(payload: &str) -> Result<Box<RawValue>, serde_json::Error> {
    // An escaped key is a key all the same; without either there is nothing to look for.
    if !payload.contains(SUBJECT) && !payload.contains("\\u") {
        return RawValue::from_string(payload.to_owned());
    }
    let mut value: Value = serde_json::from_str(payload)?;
    if replace(&mut value) == 0 {
        return RawValue::from_string(payload.to_owned());
    }
    serde_json::value::to_raw_value(&value)
}

/// How many there were.
fn replace(value: &mut Value) -> usize {
    match value {
        Value::Object(map) => match map.get(SUBJECT) {
            Some(subject) => {
                *value = json!({ SUBJECT: subject.clone(), "withheld": true });
                1
            }
            None => map.values_mut().map(replace).sum(),
        },
        Value::Array(items) => items.iter_mut().map(replace).sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0198f000-0000-7000-8000-000000000001";

    fn sent(payload: &str) -> Value {
        serde_json::from_str(withhold(payload).unwrap().get()).unwrap()
    }

    #[test]
    fn a_payload_without_personal_fields_keeps_its_bytes() {
        let payload = r#"{ "b":1.0, "a":"\u00fc" }"#;
        assert_eq!(withhold(payload).unwrap().get(), payload);
    }

    #[test]
    fn a_personal_field_is_withheld_sealed_or_not_and_wherever_it_stands() {
        let payload = format!(
            r#"{{"contact":{{"$subject":"{ID}","sealed":"c2VjcmV0"}},"list":[{{"deep":{{"$subject":"{ID}","value":"Ada"}}}}],"n":1}}"#
        );
        let withheld = json!({"$subject": ID, "withheld": true});
        assert_eq!(sent(&payload), json!({"contact": withheld, "list": [{"deep": withheld}], "n": 1}));
    }

    #[test]
    fn an_escaped_key_does_not_slip_through() {
        let payload = format!(r#"{{"contact":{{"\u0024subject":"{ID}","value":"Ada"}}}}"#);
        assert!(!sent(&payload).to_string().contains("Ada"));
    }
}
