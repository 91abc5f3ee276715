//! Processor time of this program, of the one that is measured, and of all that either has started.

use super::program::Program;
use std::collections::HashMap;

/// The system counts in hundredths of a second.
const TICK_US: f64 = 10_000.0;

/// µs since each of them began, their ended children included. Zero where the system does not tell.
pub(super) fn own_us(program: &Program) -> f64 {
    let mut parents = HashMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let text = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        if let Some(stat) = stat(&text) {
            parents.insert(pid, stat);
        }
    }
    // The database server is nobody's child once it runs.
    let roots: Vec<u32> = program.postmaster().into_iter().chain([std::process::id()]).collect();
    let is_own = |mut pid: u32| {
        // No deeper than there are processes: what is read one after the other need not fit together.
        for _ in 0..parents.len() {
            if roots.contains(&pid) {
                return true;
            }
            match parents.get(&pid) {
                Some((parent, _)) => pid = *parent,
                None => return false,
            }
        }
        false
    };
    parents.iter().filter(|(pid, _)| is_own(**pid)).map(|(_, (_, ticks))| ticks * TICK_US).sum()
}

/// The parent and the ticks so far: own, of the kernel for it, and both of ended children.
fn stat(text: &str) -> Option<(u32, f64)> {
    // The name, in parentheses, may hold blanks; what follows it does not.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let parent = fields.get(1)?.parse().ok()?;
    let ticks = fields.get(11..15)?.iter().filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
    Some((parent, ticks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parent_and_times_are_found_behind_any_name() {
        let text = "7 (a) b (c) S 3 7 7 0 -1 4194304 1 2 3 4 10 20 30 40 20 0 1 0 99";
        assert_eq!(stat(text), Some((3, 100.0)));
        assert_eq!(stat("nonsense"), None);
    }
}
