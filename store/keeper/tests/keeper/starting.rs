use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::Instant;

use daybook_keeper::{Cluster, State};

use crate::harness::*;

#[tokio::test]
async fn starts_in_an_empty_directory() {
    let home = Home::new();
    let begun = Instant::now();
    let cluster = Cluster::start(&home.config()).await.expect("it starts");
    println!("first start to ready: {:?}", begun.elapsed());

    assert!(!cluster.is_adopted());
    assert_eq!(*cluster.watch().borrow(), State::Running { pid: cluster.pid() });
    assert_eq!(query(&cluster, "select current_user"), cluster.superuser());
    let version: u32 = query(&cluster, "show server_version_num").parse().expect("a number");
    assert_eq!(version / 10_000, cluster.version());
    let settings = [
        ("data_checksums", "on"),
        ("server_encoding", "UTF8"),
        ("listen_addresses", ""),
        ("fsync", "on"),
        ("full_page_writes", "on"),
        ("synchronous_commit", "on"),
        ("wal_level", "replica"),
        ("cluster_name", "daybook"),
        ("max_connections", "100"),
        ("shared_buffers", "16MB"),
        ("unix_socket_permissions", "0700"),
    ];
    for (name, value) in settings {
        assert_eq!(query(&cluster, &format!("show {name}")), value, "{name}");
    }
    assert_eq!(query(&cluster, "select datcollate from pg_database where datname = 'postgres'"), "C");
    let data = home.data();
    assert_eq!(fs::metadata(data.join("postgres")).expect("the cluster").mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(cluster.socket_dir()).expect("the sockets").mode() & 0o777, 0o700);
    cluster.stop().await.expect("it stops");
}

#[tokio::test]
async fn starts_again_on_the_same_data() {
    let home = Home::new();
    let cluster = Cluster::start(&home.config()).await.expect("it starts");
    query(&cluster, "create table kept as select 42 as answer");
    cluster.stop().await.expect("it stops");

    let begun = Instant::now();
    let cluster = Cluster::start(&home.config()).await.expect("it starts again");
    println!("later start to ready: {:?}", begun.elapsed());
    assert_eq!(query(&cluster, "select answer from kept"), "42");
    cluster.stop().await.expect("it stops again");
}

#[tokio::test]
async fn stopping_ends_open_sessions_and_leaves_nothing_running() {
    let home = Home::new();
    let cluster = Cluster::start(&home.config()).await.expect("it starts");
    let state = cluster.watch();
    let mut session = psql(cluster.socket_dir(), cluster.port(), "select pg_sleep(600)").spawn().expect("psql");
    eventually("the session sleeps", || {
        query(&cluster, "select count(*) from pg_stat_activity where query = 'select pg_sleep(600)'") == "1"
    });
    cluster.stop().await.expect("it stops");

    assert!(!session.wait().expect("it ends").success());
    assert_eq!(servers_below(home.path()), Vec::<u32>::new());
    assert_eq!(*state.borrow(), State::Stopped);
    assert!(!home.data().join("postgres/postmaster.pid").exists());
}

#[tokio::test]
async fn a_cluster_that_is_dropped_stops_by_itself() {
    let home = Home::new();
    drop(Cluster::start(&home.config()).await.expect("it starts"));
    eventually("nothing runs", || servers_below(home.path()).is_empty());
    let output = fs::read_to_string(home.data().join("postgres/postmaster.pid"));
    output.expect_err("the stop was an orderly one");
}

#[tokio::test]
async fn the_path_may_contain_blanks_and_quotes() {
    let home = Home::new();
    let cluster = Cluster::start(&config(home.path().join("a b; 'c' \"d\" \\e ü"))).await.expect("it starts");
    assert!(cluster.socket_dir().starts_with(home.path()));
    assert_eq!(query(&cluster, "select 1"), "1");
    cluster.stop().await.expect("it stops");
}

#[tokio::test]
async fn a_path_with_a_comma_has_its_socket_elsewhere_because_clients_split_it() {
    let mut home = Home::new();
    let cluster = Cluster::start(&config(home.path().join("a, b"))).await.expect("it starts");
    home.remove_too(cluster.socket_dir());
    assert!(!cluster.socket_dir().starts_with(home.path()));
    assert_eq!(query(&cluster, "select 1"), "1");
    cluster.stop().await.expect("it stops");
}

#[tokio::test]
async fn the_log_tells_of_an_error_but_not_of_the_values_in_it() {
    let home = Home::new();
    let cluster = Cluster::start(&home.config()).await.expect("it starts");
    query(&cluster, "create table people (email text primary key)");
    query(&cluster, "insert into people values ('ada@secret.example')");
    query_at(cluster.socket_dir(), cluster.port(), "insert into people values ('ada@secret.example')")
        .expect_err("twice is once too often");
    let logs = cluster.log_dir().to_owned();
    cluster.stop().await.expect("it stops");
    let files = fs::read_dir(&logs).expect("the logs").flatten();
    let text: String = files.map(|file| fs::read_to_string(file.path()).expect("a log")).collect();
    assert!(text.contains("duplicate key value violates unique constraint"), "{text}");
    assert!(!text.contains("secret"), "{text}");
}

#[tokio::test]
async fn an_unfinished_creation_is_swept_away() {
    let home = Home::new();
    let mut keeper = spawn(&home, None);
    eventually("initdb has begun", || {
        let entries = fs::read_dir(home.data()).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).any(|path| path.join("global").exists())
    });
    assert!(!home.data().join("postgres").exists(), "the cluster appears only when it is whole");
    keeper.kill().expect("it runs");
    keeper.wait().expect("it ends");

    let cluster = Cluster::start(&home.config()).await.expect("it starts");
    assert_eq!(query(&cluster, "select 1"), "1");
    cluster.stop().await.expect("it stops");
    let names = fs::read_dir(home.data()).expect("the data").flatten().map(|entry| entry.file_name());
    let mut names: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    assert_eq!(names, ["daybook.lock", "log", "postgres", "run", "server"]);
}

#[test]
fn an_ordinary_user_keeps_a_server_too() {
    let home = Home::new();
    let user = is_root().then_some(NOBODY);
    if let Some(user) = user {
        directory_of(&home.data(), user, 0o700);
    }
    let keeper = Keeper::start(&home, user);
    let owner = fs::metadata(format!("/proc/{}", keeper.pid)).expect("it runs").uid();
    assert_eq!(owner, fs::metadata(format!("/proc/{}", keeper.id())).expect("it runs").uid());
    assert_eq!(keeper.query("select 1 + 1").as_deref(), Ok("2"));
    assert!(keeper.finish());
    assert_eq!(servers_below(home.path()), Vec::<u32>::new());
}

#[tokio::test]
async fn as_root_the_server_runs_as_somebody_else() {
    if !is_root() {
        return skip("as_root_the_server_runs_as_somebody_else", "this is not root");
    }
    let home = Home::new();
    let cluster = Cluster::start(&home.config()).await.expect("it starts");
    let server = fs::metadata(format!("/proc/{}", cluster.pid())).expect("it runs");
    assert_ne!(server.uid(), 0);
    let status = fs::read_to_string(format!("/proc/{}/status", cluster.pid())).expect("it runs");
    let groups = status.lines().find_map(|line| line.strip_prefix("Groups:")).expect("a line");
    assert!(!groups.split_whitespace().any(|group| group == "0"), "root's groups are dropped: {groups}");

    // Who is neither root nor the server's user does not even reach the socket.
    let mut stranger = Command::new("setpriv");
    stranger.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "ls"]).arg(cluster.socket_dir());
    assert!(!stranger.output().expect("setpriv").status.success());
    cluster.stop().await.expect("it stops");
}

#[test]
fn an_interrupt_of_the_keepers_group_does_not_reach_the_server() {
    let home = Home::new();
    let mut keeper = spawn(&home, None);
    let mut first = [0];
    keeper.stdout.as_mut().expect("piped").read_exact(&mut first).expect("it started");
    let group = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
        stat.rsplit_once(") ").expect("a name").1.split(' ').nth(2).expect("a group").to_owned()
    };
    for server in servers_below(home.path()) {
        assert_ne!(group(server), group(keeper.id()));
    }
    assert_eq!(complaint(keeper), "");
}
