//! Every sub-command works, with so little to do that its figures mean nothing.

use std::process::Command;

fn peers(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_peers")).args(arguments).output().expect("the program");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout).expect("text")
}

/// A directory that lies on a disk wherever the tests run.
fn disk() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory")
}

#[test]
fn commands_and_appends_are_measured_beside_postgres_es_and_umadb() {
    let (disk, page) = (disk(), tempfile::NamedTempFile::new().expect("a file"));
    std::fs::write(page.path(), "Before.\n<!-- append -->\n<!-- /append -->\nAfter.\n").expect("a page");
    let (disk, report) = (disk.path().to_str().expect("a path"), page.path().to_str().expect("a path"));
    let line = "append --latency 2ms,disk --writers 1,20 --rounds 1 --seconds 0.5 --tenants 4000 --disk-dir";
    let said = peers(&[&line.split(' ').collect::<Vec<_>>()[..], &[disk, "--report", report]].concat());
    assert!(said.contains("writes of 4 KiB a second"), "{said}");
    for row in
        ["| disk | 20 | Daybook |", "| disk | 20 | UmaDB, condition |", "| 2 ms | 1 | postgres-es, 1 connections |"]
    {
        assert!(said.contains(row), "{said}");
    }
    assert!(said.contains("| 2 ms, 1 writers: commands, times postgres-es |"), "{said}");
    let page = std::fs::read_to_string(page.path()).expect("the page");
    assert!(page.starts_with("Before.\n<!-- append -->\n\n`peers append --latency"), "{page}");
    assert!(page.contains("| 2 ms | 20 |") && page.ends_with("<!-- /append -->\nAfter.\n"), "{page}");
}

#[test]
fn appends_are_measured_beside_copy() {
    let line = "copy-limit --latency 2ms --writers 64 --rounds 1 --seconds 0.5 --events 2000";
    let said = peers(&line.split(' ').collect::<Vec<_>>());
    assert!(said.contains("| 2 ms, 64 writers: share of COPY |"), "{said}");
}

#[test]
fn catching_up_is_measured_beside_postgres_es() {
    let said = peers(&"catch-up --latency 2ms --events 2000 --rounds 1".split(' ').collect::<Vec<_>>());
    assert!(said.contains("| catch-up, times postgres-es |"), "{said}");
}
