//! Processes of a server: whether they live, whether they are what they seem, and how they are ended.
//!
//! A process id alone says little: it may have been given to somebody else since. Where the system shows it
//! (Linux), a process is its id and its start time, and a server is recognised by its program and by the
//! directory it works in, which for every process of PostgreSQL is its cluster. Elsewhere `ps` is asked.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

const POLL: Duration = Duration::from_millis(20);
const HAS_PROC: bool = cfg!(target_os = "linux");

/// One process, not whoever has its id next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// In clock ticks since boot; `None` where the system does not tell.
    started: Option<u64>,
}

impl Process {
    /// The process that has this id now; `None` when there is none or it has ended and is only not yet buried.
    pub(crate) fn find(pid: u32) -> Option<Process> {
        if HAS_PROC {
            let (state, started) = parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
            return (!matches!(state, 'Z' | 'X')).then_some(Process { pid, started: Some(started) });
        }
        let answer = test_kill_process(raw(pid)?);
        (answer != Err(rustix::io::Errno::SRCH)).then_some(Process { pid, started: None })
    }

    pub(crate) fn is_alive(self) -> bool {
        Process::find(self.pid) == Some(self)
    }

    /// Signals it if it still is the same process; one that is gone needs no signal.
    pub(crate) fn signal(self, signal: Signal) {
        if let Some(pid) = raw(self.pid).filter(|_| self.is_alive())
            && let Err(error) = kill_process(pid, signal)
        {
            tracing::debug!(pid = self.pid, %error, "the signal was not delivered");
        }
    }

    /// Whether it is a server of this cluster.
    pub(crate) fn serves(self, cluster: &Path) -> bool {
        if HAS_PROC {
            return program(self.pid).is_some_and(|program| is_postgres(&program))
                && fs::read_link(format!("/proc/{}/cwd", self.pid)).is_ok_and(|cwd| cwd == cluster);
        }
        let command = command_line(self.pid);
        command.contains("postgres") && command.contains(&*cluster.to_string_lossy())
    }

    /// Whether it was started with this configuration file, that is by a keeper.
    pub(crate) fn was_started_with(self, config_file: &Path) -> bool {
        command_line(self.pid).contains(&format!("config_file={}", config_file.display()))
    }

    /// Whether this process of a server is its postmaster: the others show a title instead of their arguments,
    /// and nothing at all while they end.
    pub(crate) fn is_postmaster(self) -> bool {
        let command = command_line(self.pid);
        !command.is_empty() && !command.starts_with("postgres: ")
    }

    /// Whether its program was replaced since it was started, as by an upgrade of the package.
    pub(crate) fn is_outdated(self) -> bool {
        program(self.pid).is_some_and(|program| program.to_string_lossy().ends_with(" (deleted)"))
    }
}

/// Every process of a server of this cluster, also those whose postmaster is gone. Empty where the system
/// does not show them: there PostgreSQL's own check of the shared memory has to do.
pub(crate) fn of_cluster(cluster: &Path) -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(Process::find)
        .filter(|process| process.serves(cluster))
        .collect()
}

/// Waits until all have ended; `false` when some have not by then.
pub(crate) async fn wait_until_gone(processes: &[Process], patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    while processes.iter().any(|process| process.is_alive()) {
        if Instant::now() > deadline {
            return false;
        }
        tokio::time::sleep(POLL).await;
    }
    true
}

/// Ends the processes that a dead postmaster has left, which end by themselves unless they are busy. Returns
/// those that remain. Killing them loses nothing: the next start recovers from the log of changes anyway.
pub(crate) async fn clear_cluster(cluster: &Path, patience: Duration) -> Vec<Process> {
    let steps =
        [(None, Duration::from_secs(1)), (Some(Signal::QUIT), Duration::from_secs(3)), (Some(Signal::KILL), patience)];
    for (signal, patience) in steps {
        let processes = of_cluster(cluster);
        if let Some(signal) = signal {
            processes.iter().for_each(|process| process.signal(signal));
        }
        if wait_until_gone(&processes, patience).await && of_cluster(cluster).is_empty() {
            return Vec::new();
        }
    }
    of_cluster(cluster)
}

fn raw(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}

fn program(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/exe")).ok()
}

fn is_postgres(program: &Path) -> bool {
    let name = program.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    matches!(name.trim_end_matches(" (deleted)"), "postgres" | "postmaster")
}

/// The arguments, separated by blanks; empty when they cannot be seen.
fn command_line(pid: u32) -> String {
    if HAS_PROC {
        let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        return String::from_utf8_lossy(&bytes).replace('\0', " ");
    }
    let output = Command::new("ps").args(["-ww", "-o", "command=", "-p", &pid.to_string()]).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

/// State and start time in `/proc/<pid>/stat`. The name, in parentheses, may itself contain any character.
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let started = fields.nth(18)?.parse().ok()?;
    Some((state, started))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_parentheses_and_blanks_does_not_shift_the_fields() {
        let stat = "77 (a) b (c) Z 1 77 77 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 987654 0 0 0";
        assert_eq!(parse_stat(stat), Some(('Z', 987_654)));
    }

    #[test]
    fn this_process_lives_and_serves_no_cluster() {
        let me = Process::find(std::process::id()).expect("it runs");
        assert!(me.is_alive());
        assert!(!me.serves(&std::env::current_dir().expect("there is one")));
    }

    #[test]
    fn a_process_with_the_same_id_but_another_start_is_another() {
        let mut other = Process::find(std::process::id()).expect("it runs");
        other.started = other.started.map(|started| started + 1);
        assert_eq!(other.is_alive(), other.started.is_none());
    }
}
