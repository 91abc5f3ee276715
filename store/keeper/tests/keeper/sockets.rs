use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixListener;

use daybook_keeper::{Cluster, KeeperError};

use crate::harness::*;

#[tokio::test]
async fn a_long_path_has_its_socket_in_a_short_private_directory() {
    let mut home = Home::new();
    let config = config(home.path().join("d".repeat(120)).join("e".repeat(120)).join("data"));
    let cluster = Cluster::start(&config).await.expect("it starts");
    let sockets = cluster.socket_dir().to_owned();
    home.remove_too(&sockets);
    assert!(!sockets.starts_with(home.path()));
    let metadata = fs::symlink_metadata(&sockets).expect("it is there");
    assert_eq!(metadata.mode() & 0o777, 0o700);
    assert_eq!(metadata.uid(), fs::metadata(format!("/proc/{}", cluster.pid())).expect("it runs").uid());
    assert_eq!(query(&cluster, "select 1"), "1");
    cluster.stop().await.expect("it stops");

    let cluster = Cluster::start(&config).await.expect("it starts again");
    assert_eq!(cluster.socket_dir(), sockets);
    cluster.stop().await.expect("it stops again");
}

#[tokio::test]
async fn a_planted_socket_directory_is_refused() {
    let mut home = Home::new();
    let config = config(home.path().join("p".repeat(120)));
    let cluster = Cluster::start(&config).await.expect("it starts");
    let sockets = cluster.socket_dir().to_owned();
    let owner = fs::metadata(&sockets).expect("it is there").uid();
    home.remove_too(&sockets);
    cluster.stop().await.expect("it stops");

    let planted = home.path().join("planted");
    directory_of(&planted, owner, 0o700);
    type Plant<'a> = (&'a str, Box<dyn Fn() + 'a>);
    let mut plants: Vec<Plant> = vec![
        ("not a directory", Box::new(|| symlink(&planted, &sockets).expect("a link"))),
        ("not a directory", Box::new(|| fs::write(&sockets, "").expect("a file"))),
        ("its mode is 0777", Box::new(|| directory_of(&sockets, owner, 0o777))),
    ];
    if is_root() {
        plants.push(("belongs to the user with id 65534", Box::new(|| directory_of(&sockets, NOBODY, 0o700))));
    }
    for (reason, plant) in plants {
        let _ = fs::remove_dir_all(&sockets);
        let _ = fs::remove_file(&sockets);
        plant();
        let error = Cluster::start(&config).await.map(|_| ()).expect_err("refused");
        assert!(matches!(error, KeeperError::SocketDirectory { .. }), "{error:?}");
        assert!(error.to_string().contains(reason), "{error}");
    }
    assert_eq!(fs::read_dir(&planted).expect("it is there").count(), 0, "nothing was put there");
}

#[tokio::test]
async fn a_socket_that_is_in_use_is_left_to_its_owner() {
    let home = Home::new();
    let cluster = Cluster::start(&home.config()).await.expect("it starts");
    assert_eq!(cluster.port(), 5432);
    let sockets = cluster.socket_dir().to_owned();
    cluster.stop().await.expect("it stops");

    let listeners: Vec<UnixListener> =
        (5432..5439).map(|port| UnixListener::bind(sockets.join(format!(".s.PGSQL.{port}"))).expect("bound")).collect();
    let cluster = Cluster::start(&home.config()).await.expect("it starts");
    assert_eq!(cluster.port(), 5439);
    assert_eq!(query(&cluster, "select 1"), "1");
    cluster.stop().await.expect("it stops");

    let last = UnixListener::bind(sockets.join(".s.PGSQL.5439")).expect("bound");
    let error = Cluster::start(&home.config()).await.map(|_| ()).expect_err("refused");
    assert!(matches!(error, KeeperError::PortsInUse { .. }), "{error}");

    // A socket that nobody listens on is only a file.
    drop((listeners, last));
    let cluster = Cluster::start(&home.config()).await.expect("it starts");
    assert_eq!(cluster.port(), 5432);
    cluster.stop().await.expect("it stops");
}
