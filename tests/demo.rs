//! `daybook demo` as a stranger runs it: killed in the middle, started again, stopped.

mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn demo(directory: &Path) -> Command {
    let mut command = support::daybook(directory);
    // A NATS server is another test's business.
    command.args(["demo", "--listen", "127.0.0.1:0", "--days", "30", "--nats-url", "nats://127.0.0.1:1"]);
    command
}

#[test]
fn the_demo_survives_a_kill_loads_every_reading_once_and_agrees_with_its_file() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut first = demo(directory.path()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // Somewhere in the load: the tenant's days are being signed.
    let checkpoints = directory.path().join("data").join("checkpoints");
    let deadline = Instant::now() + Duration::from_secs(60);
    let signed =
        || walk(&checkpoints).iter().any(|path| std::fs::read_to_string(path).is_ok_and(|text| size(&text) > 100));
    while !signed() {
        assert!(Instant::now() < deadline, "nothing was loaded");
        assert!(first.try_wait().unwrap().is_none(), "the demo ended early");
        std::thread::sleep(Duration::from_millis(5));
    }
    first.kill().unwrap();
    first.wait().unwrap();

    let again = demo(directory.path()).arg("--exit-after-load").output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&again.stdout), String::from_utf8_lossy(&again.stderr));
    assert!(again.status.success(), "{out}\n{err}");
    // 30 days of 96 quarters of an hour of 40 meters.
    assert!(out.contains("115200 readings"), "{out}");
    assert!(out.contains("0 rejected") || out.contains("there already"), "{out}");
    assert!(out.contains("0 findings") || out.contains("there already"), "{out}");

    let third = demo(directory.path()).arg("--exit-after-load").output().unwrap();
    let out = String::from_utf8_lossy(&third.stdout);
    assert!(third.status.success() && out.contains("The data is there already: 115200 readings"), "{out}");
    let verified = support::daybook(directory.path()).arg("verify").output().unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
}

/// The second line of a checkpoint is the size of its tree.
fn size(checkpoint: &str) -> u64 {
    checkpoint.lines().nth(1).and_then(|line| line.parse().ok()).unwrap_or_default()
}

fn walk(directory: &Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return vec![] };
    entries
        .flatten()
        .flat_map(|entry| if entry.path().is_dir() { walk(&entry.path()) } else { vec![entry.path()] })
        .collect()
}
