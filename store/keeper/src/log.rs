//! The server's log: its size is bounded here, and its end is quoted when a start fails.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::place::Place;

/// Files kept, the one being written included; the server begins a new one at each start and when one is full.
const FILES_MAX: usize = 5;
const TAIL_BYTES_MAX: u64 = 64 * 1024;
const TAIL_LINES_MAX: usize = 12;

/// Removes all but the newest files.
pub(crate) fn prune(directory: &Path) {
    let mut files = files(directory);
    files.truncate(files.len().saturating_sub(FILES_MAX));
    for file in files {
        if let Err(error) = fs::remove_file(&file) {
            tracing::warn!(file = %file.display(), %error, "an old log of the database cannot be removed");
        }
    }
}

/// Oldest first: their names are their times.
fn files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let ours = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        name.starts_with("postgresql-") && name.ends_with(".log")
    };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(ours).collect();
    files.sort();
    files
}

/// Where the log ended at some moment.
pub(crate) struct Mark {
    newest: Option<PathBuf>,
    length: u64,
}

impl Mark {
    pub(crate) fn now(place: &Place) -> Mark {
        let newest = files(&place.log).pop();
        let length = newest.as_deref().and_then(|file| fs::metadata(file).ok()).map_or(0, |metadata| metadata.len());
        Mark { newest, length }
    }

    /// The last lines since then, from the start's own output and from the log.
    pub(crate) fn tail(&self, place: &Place) -> String {
        let mut text = read_end(&place.startup_log(), 0);
        if let Some(file) = files(&place.log).pop() {
            let from = if Some(&file) == self.newest.as_ref() { self.length } else { 0 };
            text.push_str(&read_end(&file, from));
        }
        last_lines(&text)
    }
}

/// The last lines of a program's output.
pub(crate) fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(TAIL_LINES_MAX)..].join("\n")
}

fn read_end(path: &Path, from: u64) -> String {
    let read = || {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(from.max(length.saturating_sub(TAIL_BYTES_MAX))))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES_MAX).read_to_end(&mut bytes)?;
        std::io::Result::Ok(bytes)
    };
    read().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_logs_are_kept_and_nothing_else_is_touched() {
        let directory = tempfile::tempdir().expect("a directory");
        for number in 10..20 {
            File::create(directory.path().join(format!("postgresql-202601{number}-000000.log"))).expect("a file");
        }
        File::create(directory.path().join("notes.log")).expect("a file");
        prune(directory.path());
        let kept = files(directory.path());
        assert_eq!(kept.len(), FILES_MAX);
        assert!(kept[0].ends_with("postgresql-20260115-000000.log"));
        assert!(directory.path().join("notes.log").exists());
    }

    #[test]
    fn the_end_of_the_output_is_quoted_not_its_beginning() {
        let text: String = (0..100).map(|number| format!("line {number}\n\n")).collect();
        let tail = last_lines(&text);
        assert_eq!(tail.lines().count(), TAIL_LINES_MAX);
        assert!(tail.ends_with("line 99"));
    }
}
