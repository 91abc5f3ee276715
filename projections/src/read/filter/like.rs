//! Patterns of texts: `%` stands for any number of characters, `_` for exactly one, and a backslash takes the next
//! character as it is. Read once, so that what reaches the database was written here.

/// A pattern that was read.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Pattern(Vec<Piece>);

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Piece {
    Text(String),
    One,
    Any,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("ends in a lone backslash: write two for a backslash")]
pub struct PatternError;

impl Pattern {
    /// `fold` is applied to what stands for itself.
    ///
    /// # Errors
    /// [`PatternError`].
    pub fn parse(text: &str, fold: fn(&str) -> String) -> Result<Self, PatternError> {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            let literal = match character {
                // Two in a row are as good as one.
                '%' if pieces.last() == Some(&Piece::Any) => continue,
                '%' => {
                    pieces.push(Piece::Any);
                    continue;
                }
                '_' => {
                    pieces.push(Piece::One);
                    continue;
                }
                '\\' => characters.next().ok_or(PatternError)?,
                other => other,
            };
            match pieces.last_mut() {
                Some(Piece::Text(text)) => text.push(literal),
                _ => pieces.push(Piece::Text(literal.into())),
            }
        }
        for piece in &mut pieces {
            if let Piece::Text(text) = piece {
                *text = fold(text);
            }
        }
        Ok(Pattern(pieces))
    }

    /// For `like`, whose escape character is the backslash unless told otherwise.
    pub(super) fn sql(&self) -> String {
        let mut sql = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Any => sql.push('%'),
                Piece::One => sql.push('_'),
                Piece::Text(text) => {
                    for character in text.chars() {
                        if matches!(character, '%' | '_' | '\\') {
                            sql.push('\\');
                        }
                        sql.push(character);
                    }
                }
            }
        }
        sql
    }

    /// What every text that matches begins with.
    pub(super) fn start(&self) -> &str {
        match self.0.first() {
            Some(Piece::Text(text)) => text,
            _ => "",
        }
    }

    /// Whether the whole text is like that.
    pub fn matches(&self, text: &str) -> bool {
        let wanted: Vec<Option<Option<char>>> = self
            .0
            .iter()
            .flat_map(|piece| match piece {
                Piece::Any => vec![None],
                Piece::One => vec![Some(None)],
                Piece::Text(text) => text.chars().map(|character| Some(Some(character))).collect(),
            })
            .collect();
        let text: Vec<char> = text.chars().collect();
        // Only the last `%` has to be tried again: what is before it fits already.
        let (mut at, mut next, mut again) = (0, 0, None);
        while at < text.len() {
            match wanted.get(next) {
                Some(None) => {
                    again = Some((next, at));
                    next += 1;
                }
                Some(Some(one)) if one.is_none_or(|one| one == text[at]) => {
                    at += 1;
                    next += 1;
                }
                _ => {
                    let Some((any, from)) = again else { return false };
                    again = Some((any, from + 1));
                    (next, at) = (any + 1, from + 1);
                }
            }
        }
        wanted[next..].iter().all(Option::is_none)
    }
}

/// The first text after all those that begin with this, by code point; none if there is nothing after them.
pub(crate) fn after(start: &str) -> Option<String> {
    let mut characters: Vec<char> = start.chars().collect();
    while let Some(last) = characters.pop() {
        // The next one; what lies between U+D7FF and U+E000 is no character.
        let next = (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32);
        if let Some(next) = next {
            characters.push(next);
            return Some(characters.into_iter().collect());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text, str::to_owned).unwrap()
    }

    #[test]
    fn a_pattern_matches_whole_texts() {
        for (wanted, text, matches) in [
            ("", "", true),
            ("", "a", false),
            ("%", "", true),
            ("%%", "abc", true),
            ("a%", "abc", true),
            ("a%", "ba", false),
            ("%b%", "abc", true),
            ("_", "", false),
            ("_", "ä", true),
            ("_%_", "a", false),
            ("%ab%ab", "abab", true),
            ("%ab_ab", "xabxabyab", true),
            ("%a%b%c", "xxaxxbxxd", false),
            ("100\\%", "100%", true),
            ("100\\%", "1000", false),
            ("a\\_b", "axb", false),
            ("a\\\\b", "a\\b", true),
            ("a\\xb", "axb", true),
        ] {
            assert_eq!(pattern(wanted).matches(text), matches, "{wanted} {text}");
        }
    }

    #[test]
    fn a_pattern_that_cannot_match_ends_soon() {
        let wanted = format!("{}b", "%a".repeat(100));
        assert!(!pattern(&wanted).matches(&"a".repeat(300)));
    }

    #[test]
    fn a_lone_backslash_at_the_end_is_refused() {
        assert_eq!(Pattern::parse("a\\", str::to_owned), Err(PatternError));
        assert!(Pattern::parse("a\\\\", str::to_owned).is_ok());
    }

    #[test]
    fn what_reaches_the_database_is_escaped_and_folded() {
        let folded = Pattern::parse("A\\%b%%_\\\\C", |text| text.to_lowercase()).unwrap();
        assert_eq!(folded.sql(), "a\\%b%_\\\\c");
        assert_eq!(folded.start(), "a%b");
        assert_eq!(pattern("%a").start(), "");
    }

    #[test]
    fn the_first_text_after_those_with_a_start_is_found() {
        for (start, next) in [
            ("a", Some("b")),
            ("az", Some("a{")),
            ("\u{D7FF}", Some("\u{E000}")),
            ("a\u{10FFFF}", Some("b")),
            ("\u{10FFFF}", None),
            ("", None),
        ] {
            assert_eq!(after(start).as_deref(), next, "{start}");
        }
    }
}
