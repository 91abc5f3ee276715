//! What goes wrong around the program: each message names the thing and the remedy, each exit code its kind.

mod support;

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use support::{Server, daybook};
use tokio_postgres::NoTls;

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Asserts the exit code and that the message holds each of these.
fn refused(output: &Output, code: i32, parts: &[&str]) {
    let said = text(output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    for part in parts {
        assert!(said.contains(part), "{part:?} is missing in: {said}");
    }
    assert!(!said.contains("panicked") && !said.contains("opensesame"), "{said}");
}

#[test]
fn an_unknown_key_in_the_configuration_is_refused_with_the_nearest_name() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("data")).unwrap();
    std::fs::write(home.path().join("data/daybook.toml"), "log = \"info\"\nlissten = \"127.0.0.1:1\"\n").unwrap();
    for verb in ["serve", "verify", "config"] {
        let output = daybook(home.path()).arg(verb).output().unwrap();
        refused(&output, 2, &["daybook.toml", "line 2", "`lissten`", "did you mean `listen`?"]);
    }
    let output = daybook(home.path()).args(["--config", "/nowhere.toml", "config"]).output().unwrap();
    refused(&output, 2, &["/nowhere.toml", "cannot be read"]);
}

#[test]
fn wrong_usage_is_told_apart_from_failure() {
    let home = tempfile::tempdir().unwrap();
    refused(&daybook(home.path()).arg("srve").output().unwrap(), 2, &["srve", "serve"]);
    refused(&daybook(home.path()).args(["serve", "--listen", "nowhere"]).output().unwrap(), 2, &["--listen"]);
    let output = daybook(home.path()).args(["serve", "--trusted-proxies", "example.com"]).output().unwrap();
    refused(&output, 2, &["--trusted-proxies", "10.0.0.0/8"]);
    refused(&daybook(home.path()).args(["--log", "a=b=c", "verify"]).output().unwrap(), 2, &["--log", "a=b=c"]);
    let output = daybook(home.path()).args(["rebuild", "nothing"]).output().unwrap();
    refused(&output, 2, &["\"nothing\"", "tenants"]);
    let output = daybook(home.path()).args(["--database-url", "htp://x", "verify"]).output().unwrap();
    refused(&output, 2, &["DATABASE_URL", "postgres://"]);
}

#[test]
fn a_port_in_use_is_named_with_the_remedy() {
    let home = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = daybook(home.path()).args(["serve", "--listen", &address]).output().unwrap();
    refused(&output, 4, &[&address, "--listen"]);
    assert!(!home.path().join("data/postgres").exists(), "no database is made for nothing");
}

#[test]
fn a_database_that_does_not_answer_is_unavailable() {
    let home = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for verb in [&["migrate"][..], &["verify"], &["serve", "--listen", "127.0.0.1:0"]] {
        let url = format!("postgres://daybook:opensesame@127.0.0.1:{port}/daybook");
        let output = daybook(home.path()).args(verb).env("DATABASE_URL", url).output().unwrap();
        refused(&output, 4, &["127.0.0.1", &port.to_string(), "is it running"]);
    }
}

#[tokio::test]
async fn a_login_that_is_refused_names_what_to_correct() {
    let server = daybook_testing::TestServer::start(&[]).await;
    let home = tempfile::tempdir().unwrap();
    let (client, connection) = tokio_postgres::connect(&server.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("create role locked login password 'right'").await.unwrap();
    let hba: String = client.query_one("show hba_file", &[]).await.unwrap().get(0);
    let rules = std::fs::read_to_string(&hba).unwrap();
    std::fs::write(&hba, format!("local all locked scram-sha-256\n{rules}")).unwrap();
    client.batch_execute("select pg_reload_conf()").await.unwrap();
    let url = server.url().replace("user=postgres", "user=locked password=opensesame");
    let since = Instant::now();
    while tokio_postgres::connect(&url, NoTls).await.is_ok() {
        assert!(since.elapsed() < Duration::from_secs(20), "the rule is not in force");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let migrate = |url: &str| daybook(home.path()).args(["--database-url", url, "migrate"]).output().unwrap();
    refused(&migrate(&url), 4, &["password authentication failed", "correct the user or the password in DATABASE_URL"]);
    let url = server.url().replace("dbname=postgres", "dbname=absent");
    refused(&migrate(&url), 4, &["\"absent\"", "create that database"]);
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_is_too_old_is_refused_with_the_version_it_takes() {
    let server = daybook_testing::TestServer::start(&[]).await;
    let home = tempfile::tempdir().unwrap();
    let (client, connection) = tokio_postgres::connect(&server.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("create database old template template0 encoding 'UTF8'").await.unwrap();
    let url = server.url().replace("dbname=postgres", "dbname=old");
    let (old, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    // A function of this name stands before PostgreSQL's own: the server answers as an old one would.
    old.batch_execute(
        "create schema pretence;
         create function pretence.current_setting(name text) returns text language sql as $$
             select case when name = 'server_version_num' then '140011' when name = 'server_version' then '14.11'
                         else pg_catalog.current_setting(name) end $$;
         alter database old set search_path = pretence, pg_catalog",
    )
    .await
    .unwrap();
    drop(old);
    let output = daybook(home.path()).args(["--database-url", &url, "migrate"]).output().unwrap();
    refused(&output, 4, &["PostgreSQL 14.11 is too old", "15 or newer"]);
    server.stop().await;
}

#[tokio::test]
async fn an_altered_event_makes_verify_end_with_its_own_code() {
    let mut server = Server::start(&[]).await;
    let answer = rename_or_register(&server, "Acme").await;
    assert!(answer.get("errors").is_none(), "{answer}");
    server.stop().await;
    let open = server.open_database().await;
    let (client, connection) = tokio_postgres::connect(&open.url, NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    client
        .batch_execute(
            "set session_replication_role = replica;
             update journal.events set payload = replace(payload, 'Acme', 'Ecma') where position = 1",
        )
        .await
        .unwrap();
    drop(client);
    let _ = connection.await;
    open.close().await;
    let output = daybook(server.home()).arg("verify").output().unwrap();
    refused(&output, 3, &["the first bad position is 1"]);
}

async fn rename_or_register(server: &Server, name: &str) -> Value {
    let query = "mutation($n: String!) { registerTenant(input: { name: $n }) { position userErrors { code } } }";
    let request = reqwest::Client::new().post(server.graphql_url()).bearer_auth(server.token());
    let response = request.json(&json!({ "query": query, "variables": { "n": name } })).send().await.unwrap();
    response.json().await.unwrap()
}

/// A file system in memory that is really full when it is full. Only root can have one.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(size: &str) -> Option<Self> {
        let directory = tempfile::Builder::new().prefix("daybook-disk-").tempdir().unwrap().keep();
        let options = format!("size={size},mode=0755");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&directory).status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(SmallDisk(directory));
        }
        let _ = std::fs::remove_dir(&directory);
        None
    }

    /// Takes all the room that is left.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("ballast");
        let mut file = std::fs::File::create(&path).unwrap();
        let block = vec![7u8; 64 * 1024];
        while std::io::Write::write_all(&mut file, &block).is_ok() {}
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[tokio::test]
async fn a_full_disk_refuses_writes_says_so_and_loses_nothing() {
    let Some(disk) = SmallDisk::mount("220m") else {
        eprintln!("not tested: only root can mount a small file system; docs/operations.md tells what happens");
        return;
    };
    let elsewhere = tempfile::tempdir().unwrap();
    let mut server = Server::start_below(&disk.0, &elsewhere.path().join("log")).await;
    let mut acknowledged = 0;
    for n in 0..20 {
        let answer = rename_or_register(&server, &format!("Before {n}")).await;
        assert!(answer.get("errors").is_none(), "{answer}");
        acknowledged += 1;
    }
    let ballast = disk.fill();
    // What is allocated already may take a few more; then the refusal comes.
    let since = Instant::now();
    let refusal = loop {
        let answer = rename_or_register(&server, &"x".repeat(200)).await;
        match answer["errors"][0]["extensions"]["code"].as_str() {
            None => acknowledged += 1,
            Some(code) => break (code.to_owned(), answer),
        }
        assert!(since.elapsed() < Duration::from_secs(120), "the disk does not fill");
    };
    assert!(["UNAVAILABLE", "UNKNOWN_OUTCOME"].contains(&refusal.0.as_str()), "{}", refusal.1);
    assert!(server.is_running(), "{}", server.log_tail());
    let since = Instant::now();
    while !server.log().to_lowercase().contains("no space left") {
        assert!(since.elapsed() < Duration::from_secs(60), "the log does not say why: {}", server.log_tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    std::fs::remove_file(ballast).unwrap();
    server.ready().await;
    let since = Instant::now();
    while rename_or_register(&server, "After").await.get("errors").is_some() {
        assert!(since.elapsed() < Duration::from_secs(60), "does not go on: {}", server.log_tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    acknowledged += 1;
    server.stop().await;
    let output = daybook(server.home()).args(["verify", "--format", "json"]).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["clean"], true, "{report}");
    // One may have been written without anybody being told: UNKNOWN_OUTCOME.
    assert!(report["events"].as_u64().unwrap() >= acknowledged, "{acknowledged} were acknowledged: {report}");
    drop(server);
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("file");
    std::fs::write(&file, "").unwrap();
    let below: &Path = &file.join("data");
    let output = Command::new(env!("CARGO_BIN_EXE_daybook"))
        .env_remove("DATABASE_URL")
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(below)
        .output()
        .unwrap();
    let said = text(&output);
    assert!(matches!(output.status.code(), Some(1 | 4)), "{said}");
    assert!(said.contains(file.to_str().unwrap()), "{said}");
}
