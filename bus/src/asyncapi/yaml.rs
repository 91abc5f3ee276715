//! JSON as block YAML: enough for a document that people read and tools parse, the same bytes every time.

use serde_json::Value;

/// Keys stay in their order.
pub(super) fn yaml(value: &Value) -> String {
    let mut text = String::new();
    block(value, 0, &mut text);
    text
}

fn block(value: &Value, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                text.push_str(&format!("{indent}{}:", scalar(key)));
                below(value, depth + 1, text);
            }
        }
        Value::Array(items) => {
            for item in items {
                let start = text.len();
                block_item(item, depth, text);
                // A block inside a sequence begins on the line of its dash.
                text.replace_range(start + indent.len()..start + indent.len() + 2, "- ");
            }
        }
        _ => {}
    }
}

fn block_item(item: &Value, depth: usize, text: &mut String) {
    if is_block(item) {
        block(item, depth + 1, text);
    } else {
        text.push_str(&format!("{}{}\n", "  ".repeat(depth + 1), flow(item)));
    }
}

fn below(value: &Value, depth: usize, text: &mut String) {
    if is_block(value) {
        text.push('\n');
        block(value, depth, text);
    } else {
        text.push_str(&format!(" {}\n", flow(value)));
    }
}

fn is_block(value: &Value) -> bool {
    match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    }
}

fn flow(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        other => other.to_string(),
    }
}

/// Plain where nothing could be misread, as in JSON otherwise.
fn scalar(text: &str) -> String {
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c))
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&text.to_lowercase().as_str());
    if is_plain { text.to_owned() } else { Value::from(text).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn blocks_nest_and_what_could_be_misread_is_quoted() {
        let value = json!({"a": {"$ref": "#/x"}, "b": ["one", {"c": 1, "d": []}, ["e"]], "f": "no", "g": "3.0.0"});
        let text = "a:\n  \"$ref\": \"#/x\"\nb:\n  - one\n  - c: 1\n    d: []\n  - - e\nf: \"no\"\ng: \"3.0.0\"\n";
        assert_eq!(yaml(&value), text);
    }
}
