//! Signals to processes that a test has started, and to those that these have started.

pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

/// Sends a signal to each; some may be gone already.
pub fn signal(pids: &[u32], signal: Signal) {
    for pid in pids {
        if let Some(pid) = i32::try_from(*pid).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }
}

/// Ends every process of a database server at once: the postmaster is stopped first, so that it cannot tend to
/// the others' deaths.
pub fn kill_postgres(postmaster: u32) {
    signal(&[postmaster], Signal::STOP);
    signal(&children_of(postmaster), Signal::KILL);
    signal(&[postmaster], Signal::KILL);
}

/// Those whose parent this is.
pub fn children_of(parent: u32) -> Vec<u32> {
    let mut children = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        // The name, in parentheses, may hold blanks; what follows it does not.
        let ppid = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        if ppid == Some(parent) {
            children.push(pid);
        }
    }
    children
}
