use std::process::Stdio;

use daybook_keeper::{Cluster, State};
use rustix::process::Signal;

use crate::harness::*;

#[tokio::test]
async fn recovers_after_kill_9_of_every_process() {
    let home = Home::new();
    let mut cluster = Cluster::start(&home.config()).await.expect("it starts");
    let mut state = cluster.watch();
    query(&cluster, "create table kept as select 42 as answer");
    let (old, socket, port) = (cluster.pid(), cluster.socket_dir().to_owned(), cluster.port());

    kill_all(home.path());
    let how = cluster.exited().await;
    assert!(how.contains("9"), "{how}");
    assert_eq!(*state.borrow_and_update(), State::Died { how });

    cluster.recover().await.expect("it starts again");
    assert_ne!(cluster.pid(), old);
    assert_eq!((cluster.socket_dir(), cluster.port()), (&*socket, port));
    assert_eq!(*state.borrow_and_update(), State::Running { pid: cluster.pid() });
    assert_eq!(query(&cluster, "select answer from kept"), "42");

    let pid = cluster.pid();
    cluster.recover().await.expect("nothing is to be done");
    assert_eq!(cluster.pid(), pid);
    cluster.stop().await.expect("it stops");
}

#[tokio::test]
async fn a_busy_backend_of_a_dead_postmaster_is_gone_before_the_next_starts() {
    let home = Home::new();
    let mut cluster = Cluster::start(&home.config()).await.expect("it starts");
    // Counting never looks at whether the postmaster lives.
    let sql = "select count(*) from generate_series(1, 1000000000000) a where a < 0";
    let mut session = psql(cluster.socket_dir(), cluster.port(), sql).stderr(Stdio::null()).spawn().expect("psql");
    let busy = format!("select pid from pg_stat_activity where query = '{sql}' and state = 'active'");
    let mut backend = String::new();
    eventually("the backend is busy", || {
        backend = query(&cluster, &busy);
        !backend.is_empty()
    });
    let backend: u32 = backend.parse().expect("a process id");

    signal(cluster.pid(), Signal::KILL);
    cluster.exited().await;
    assert!(servers_below(home.path()).contains(&backend), "it did not notice");
    cluster.recover().await.expect("it starts again");
    assert!(!servers_below(home.path()).contains(&backend));
    session.wait().expect("its client ends too");
    assert_eq!(query(&cluster, "select 1"), "1");
    cluster.stop().await.expect("it stops");
}

#[tokio::test]
async fn starts_after_the_keeper_and_all_of_its_server_were_killed() {
    let home = Home::new();
    let keeper = Keeper::start(&home, None);
    keeper.query("create table kept as select 42 as answer").expect("a table");
    signal(keeper.id(), Signal::KILL);
    kill_all(home.path());
    keeper.kill();

    let cluster = Cluster::start(&home.config()).await.expect("it starts");
    assert!(!cluster.is_adopted());
    assert_eq!(query(&cluster, "select answer from kept"), "42");
    cluster.stop().await.expect("it stops");
}
