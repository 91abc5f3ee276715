//! A first look at the query text, before the parser sees it.
//!
//! The parser descends recursively into lists, objects and types as far as the stack of the moment allows, and so
//! does everything after it. This counts tokens and open brackets in one pass without recursion, so that the limit
//! is a stated one. It refuses what it cannot follow (an unterminated string); whether the text is GraphQL is the
//! parser's business.

/// What the text is made of.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) tokens: usize,
    /// The most brackets open at once.
    pub(crate) nesting: usize,
}

/// The text cannot be cut into tokens.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("The query has a string that is not closed")]
pub(crate) struct UnclosedString;

/// Counts the tokens and brackets of a GraphQL text.
pub(crate) fn scan(text: &str) -> Result<Shape, UnclosedString> {
    let bytes = text.as_bytes();
    let (mut at, mut tokens, mut open, mut nesting) = (0, 0, 0_usize, 0);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' | b',' => at += 1,
            b'#' => at += run(&bytes[at..], |b| !matches!(b, b'\r' | b'\n')),
            b'"' => {
                tokens += 1;
                at += string(&bytes[at..])?;
            }
            b'{' | b'[' | b'(' => {
                tokens += 1;
                open += 1;
                nesting = nesting.max(open);
                at += 1;
            }
            b'}' | b']' | b')' => {
                tokens += 1;
                open = open.saturating_sub(1);
                at += 1;
            }
            b if word(b) => {
                tokens += 1;
                at += run(&bytes[at..], word);
            }
            _ => {
                tokens += 1;
                at += 1;
            }
        }
    }
    Ok(Shape { tokens, nesting })
}

fn word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'+' | b'.')
}

fn run(bytes: &[u8], belongs: impl Fn(u8) -> bool) -> usize {
    bytes.iter().take_while(|byte| belongs(**byte)).count()
}

/// Length of the string literal that begins the bytes, quotes included.
fn string(bytes: &[u8]) -> Result<usize, UnclosedString> {
    if bytes.starts_with(br#"""""#) {
        let mut at = 3;
        while at < bytes.len() {
            if bytes[at..].starts_with(br#"\""""#) {
                at += 4;
            } else if bytes[at..].starts_with(br#"""""#) {
                return Ok(at + 3);
            } else {
                at += 1;
            }
        }
        return Err(UnclosedString);
    }
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => return Ok(at + 1),
            b'\r' | b'\n' => return Err(UnclosedString),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    Err(UnclosedString)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(text: &str) -> (usize, usize) {
        let shape = scan(text).unwrap();
        (shape.tokens, shape.nesting)
    }

    #[test]
    fn tokens_and_brackets_are_counted() {
        assert_eq!(shape("{ a(x: [1, -2.5e3]) { ...b } }"), (14, 3));
        assert_eq!(shape(""), (0, 0));
    }

    #[test]
    fn brackets_in_strings_and_comments_do_not_count() {
        assert_eq!(shape("{ a(x: \"[[[\\\"[[\") # {{{\r }"), (8, 2));
        assert_eq!(shape(r#"{ a(x: """[[ " \""" [[""") }"#), (8, 2));
    }

    #[test]
    fn a_string_that_is_not_closed_is_refused() {
        for text in [r#"{ a(x: "b) }"#, r#"{ a(x: """ "b" [[[ ) }"#, "\"a\nb\"", "\"a\\"] {
            assert_eq!(scan(text), Err(UnclosedString), "{text}");
        }
    }
}
