use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use daybook_keeper::{Cluster, KeeperError};
use rustix::process::Signal;

use crate::harness::*;

#[tokio::test]
async fn adopts_an_orphan() {
    let home = Home::new();
    let keeper = Keeper::start(&home, None);
    keeper.query("create table kept as select 42 as answer").expect("a table");
    let server = keeper.kill();

    let begun = Instant::now();
    let cluster = Cluster::start(&home.config()).await.expect("it is adopted");
    println!("adoption: {:?}", begun.elapsed());
    assert!(cluster.is_adopted());
    assert_eq!(cluster.pid(), server);
    assert_eq!(query(&cluster, "select answer from kept"), "42");
    cluster.stop().await.expect("it stops");
    assert_eq!(servers_below(home.path()), Vec::<u32>::new());
}

#[tokio::test]
async fn the_end_of_an_adopted_server_is_noticed_and_repaired() {
    let home = Home::new();
    let server = Keeper::start(&home, None).kill();
    let mut cluster = Cluster::start(&home.config()).await.expect("it is adopted");
    kill_all(home.path());
    cluster.exited().await;
    cluster.recover().await.expect("it starts again");
    assert!(!cluster.is_adopted());
    assert_ne!(cluster.pid(), server);
    assert_eq!(query(&cluster, "select 1"), "1");
    cluster.stop().await.expect("it stops");
}

#[tokio::test]
async fn an_orphan_with_another_configuration_is_restarted() {
    let home = Home::new();
    let server = Keeper::start(&home, None).kill();
    let mut config = home.config();
    config.settings.push(("work_mem".into(), "7MB".into()));
    let cluster = Cluster::start(&config).await.expect("it starts");
    assert!(!cluster.is_adopted());
    assert_ne!(cluster.pid(), server);
    assert_eq!(query(&cluster, "show work_mem"), "7MB");
    cluster.stop().await.expect("it stops");
}

#[tokio::test]
async fn an_orphan_that_does_not_answer_is_restarted() {
    let home = Home::new();
    let server = Keeper::start(&home, None).kill();
    signal(server, Signal::STOP);
    let cluster = Cluster::start(&home.config()).await.expect("it starts");
    assert_ne!(cluster.pid(), server);
    assert_eq!(query(&cluster, "select 1"), "1");
    cluster.stop().await.expect("it stops");
}

#[tokio::test]
async fn an_orphan_that_lost_its_note_is_restarted() {
    let home = Home::new();
    let server = Keeper::start(&home, None).kill();
    fs::write(home.data().join("postgres/postmaster.pid"), "").expect("written");
    let cluster = Cluster::start(&home.config()).await.expect("it starts");
    assert_ne!(cluster.pid(), server);
    assert_eq!(query(&cluster, "select 1"), "1");
    cluster.stop().await.expect("it stops");
}

#[tokio::test]
async fn a_server_that_somebody_else_started_is_left_alone() {
    let home = Home::new();
    let cluster = Cluster::start(&home.config()).await.expect("it starts");
    let program = fs::read_link(format!("/proc/{}/exe", cluster.pid())).expect("it runs");
    let sockets = cluster.socket_dir().to_owned();
    cluster.stop().await.expect("it stops");

    let directory = home.data().join("postgres");
    let mut theirs = as_owner_of(&directory, &program);
    theirs.stderr(Stdio::null());
    let theirs = theirs.arg("-D").arg(&directory).arg("-k").arg(&sockets).args(["-h", ""]).spawn().expect("it starts");
    eventually("it answers", || query_at(&sockets, 5432, "select 1").is_ok());
    let theirs = Foreign(theirs);

    let error = Cluster::start(&home.config()).await.expect_err("refused");
    let KeeperError::RunBySomebodyElse { pid, .. } = &error else { panic!("{error}") };
    assert_eq!(*pid, theirs.0.id());
    assert_eq!(query_at(&sockets, 5432, "select 1").as_deref(), Ok("1"), "it was not touched");
}

#[tokio::test]
async fn a_note_with_the_process_id_of_another_program_confuses_nobody() {
    let home = Home::new();
    let cluster = Cluster::start(&home.config()).await.expect("it starts");
    let note = home.data().join("postgres/postmaster.pid");
    let lock = cluster.socket_dir().join(".s.PGSQL.5432.lock");
    let (note_text, lock_text) =
        (fs::read_to_string(&note).expect("a note"), fs::read_to_string(&lock).expect("a lock"));
    let old = cluster.pid().to_string();
    cluster.stop().await.expect("it stops");

    // The same user's, because PostgreSQL itself tells only other users' processes from its own.
    let stranger = as_owner_of(&home.data().join("postgres"), Path::new("sleep")).arg("1000").spawn().expect("sleep");
    let stranger = Foreign(stranger);
    let new = stranger.0.id().to_string();
    fs::write(&note, note_text.replacen(&old, &new, 1)).expect("written");
    fs::write(&lock, lock_text.replacen(&old, &new, 1)).expect("written");

    let cluster = Cluster::start(&home.config()).await.expect("it starts");
    assert_eq!(cluster.port(), 5432);
    assert_eq!(query(&cluster, "select 1"), "1");
    cluster.stop().await.expect("it stops");
    assert!(Path::new(&format!("/proc/{new}")).exists(), "the stranger lives");
}

/// Somebody's process, ended with the test.
struct Foreign(Child);

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn as_owner_of(path: &Path, program: &Path) -> Command {
    let owner = fs::metadata(path).expect("it is there");
    let mut command = Command::new(program);
    command.current_dir("/");
    if is_root() {
        command.uid(owner.uid()).gid(owner.gid());
    }
    command
}
