//! The page that the figures are written into: prose by hand, figures by this program, between two marks each.

use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum PageError {
    #[error("{path} cannot be read or written")]
    File { path: PathBuf, source: std::io::Error },
    #[error("{path} has no place for this: put <!-- {name} --> and <!-- /{name} --> on lines of their own")]
    NoPlace { path: PathBuf, name: &'static str },
}

/// Puts figures into their place in the page, instead of those that were there.
///
/// # Errors
/// When the page cannot be written or has no such place.
pub fn put(path: &Path, name: &'static str, figures: &str) -> Result<(), PageError> {
    let failed = |source| PageError::File { path: path.to_owned(), source };
    let page = std::fs::read_to_string(path).map_err(failed)?;
    let page = replaced(&page, name, figures).ok_or(PageError::NoPlace { path: path.to_owned(), name })?;
    std::fs::write(path, page).map_err(failed)
}

fn replaced(page: &str, name: &str, figures: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->\n"));
    let (before, rest) = page.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}\n{}\n\n{end}{after}", figures.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_take_the_place_of_earlier_ones_and_of_nothing_else() {
        let page = "a\n<!-- x -->\nold\n<!-- /x -->\nb\n<!-- y -->\n<!-- /y -->\n";
        let once = replaced(page, "x", "new\n").unwrap();
        assert_eq!(once, "a\n<!-- x -->\n\nnew\n\n<!-- /x -->\nb\n<!-- y -->\n<!-- /y -->\n");
        assert_eq!(replaced(&once, "x", "new").unwrap(), once);
        assert_eq!(replaced(page, "z", "new"), None);
    }

    #[test]
    fn the_committed_page_has_a_place_for_every_figure() {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/peers.md")).unwrap();
        for name in ["append", "copy-limit", "catch-up", "subscriptions"] {
            assert!(replaced(&page, name, "").is_some(), "{name}");
        }
    }
}
