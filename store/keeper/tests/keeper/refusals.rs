use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use daybook_keeper::{Cluster, KeeperConfig, KeeperError};

use crate::harness::*;

async fn refusal(config: &KeeperConfig) -> KeeperError {
    Cluster::start(config).await.map(|_| ()).expect_err("refused")
}

#[tokio::test]
async fn a_second_holder_is_refused_with_the_process_id_of_the_first() {
    let home = Home::new();
    let cluster = Cluster::start(&home.config()).await.expect("it starts");
    let error = refusal(&home.config()).await;
    assert!(error.to_string().contains(&format!("(process {})", std::process::id())), "{error}");

    let said = complaint(spawn(&home, None));
    assert!(said.contains(&format!("(process {})", std::process::id())), "{said}");
    assert_eq!(query(&cluster, "select 1"), "1", "the first is undisturbed");
    cluster.stop().await.expect("it stops");
}

#[tokio::test]
async fn a_cluster_of_another_major_version_is_refused_with_both_versions() {
    let home = Home::new();
    let cluster = Cluster::start(&home.config()).await.expect("it starts");
    let found = cluster.version();
    cluster.stop().await.expect("it stops");
    let file = home.data().join("postgres/PG_VERSION");
    fs::write(&file, "13\n").expect("written");

    let error = refusal(&home.config()).await;
    let KeeperError::OtherMajorVersion { cluster: 13, found: at_hand, .. } = &error else { panic!("{error}") };
    assert!(at_hand.contains(&found.to_string()), "{at_hand}");
    let message = error.to_string();
    assert!(message.contains("PostgreSQL 13") && message.contains("pg_upgrade"), "{message}");
    assert_eq!(fs::read_to_string(&file).expect("still there"), "13\n", "nothing was touched");
}

#[tokio::test]
async fn a_directory_without_the_programs_is_refused_by_name() {
    let home = Home::new();
    let empty = home.path().join("empty");
    fs::create_dir(&empty).expect("a directory");
    let config = KeeperConfig { bin_dir: Some(empty.clone()), ..home.config() };
    let message = refusal(&config).await.to_string();
    assert!(message.contains(&*empty.to_string_lossy()) && message.contains("there is no postgres"), "{message}");

    for program in ["postgres", "initdb"] {
        fs::write(empty.join(program), "#!/bin/sh\necho postgres (PostgreSQL) 99.1\n").expect("a script");
        fs::set_permissions(empty.join(program), Permissions::from_mode(0o755)).expect("its mode");
    }
    let message = refusal(&config).await.to_string();
    assert!(message.contains("script"), "{message}");
}

#[test]
fn missing_programs_are_reported_with_the_remedy() {
    let home = Home::new();
    // A name space of its own, in which the programs are hidden.
    let mut keep = Command::new("unshare");
    let hide = "mount -t tmpfs tmpfs /usr/lib/postgresql || exit 77; exec \"$@\"";
    let inner = command(&home, None);
    keep.args(["--mount", "sh", "-c", hide, "sh"]).arg(inner.get_program()).args(inner.get_args());
    let output = keep.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null()).output().expect("unshare");
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(77) || said.contains("unshare") {
        return skip("missing_programs_are_reported_with_the_remedy", &said);
    }
    assert!(said.contains("no PostgreSQL 15 or newer was found"), "{said}");
    assert!(said.contains("create_main_cluster = false") && said.contains("DATABASE_URL"), "{said}");
}

#[tokio::test]
async fn a_full_disk_is_reported_with_the_directory_and_what_is_free() {
    let mut home = Home::new();
    let small = match home.small_disk(20) {
        Ok(small) => small,
        Err(reason) => return skip("a_full_disk_is_reported_with_the_directory_and_what_is_free", &reason),
    };
    let error = refusal(&config(small.join("data"))).await;
    let KeeperError::DiskFull { directory, .. } = &error else { panic!("{error}") };
    assert_eq!(*directory, small.join("data"));
    assert!(error.to_string().contains("bytes free"), "{error}");
    assert!(!small.join("data/postgres").exists(), "nothing half made");
    let names: Vec<_> = fs::read_dir(small.join("data")).expect("the data").flatten().map(|e| e.file_name()).collect();
    assert_eq!(names, ["daybook.lock"]);
}

#[tokio::test]
async fn a_disk_that_filled_up_later_is_reported_too_and_room_repairs_it() {
    let mut home = Home::new();
    let small = match home.small_disk(150) {
        Ok(small) => small,
        Err(reason) => return skip("a_disk_that_filled_up_later_is_reported_too_and_room_repairs_it", &reason),
    };
    let config = config(small.join("data"));
    let cluster = Cluster::start(&config).await.expect("it starts");
    query(&cluster, "create table kept as select 42 as answer");
    cluster.stop().await.expect("it stops");
    let filler = small.join("filler");
    let mut file = File::create(&filler).expect("a file");
    while file.write_all(&[0; 4096]).is_ok() {}
    drop(file);

    let error = refusal(&config).await;
    let KeeperError::DiskFull { directory, free_bytes } = &error else { panic!("{error}") };
    assert!(directory.starts_with(&small), "{}", directory.display());
    assert!(*free_bytes < 1_000_000, "{free_bytes}");
    assert_eq!(servers_below(home.path()), Vec::<u32>::new());

    fs::remove_file(&filler).expect("room");
    let cluster = Cluster::start(&config).await.expect("it starts");
    assert_eq!(query(&cluster, "select answer from kept"), "42");
    cluster.stop().await.expect("it stops");
}

#[tokio::test]
async fn a_start_that_fails_quotes_the_last_words_of_the_server() {
    let home = Home::new();
    let mut config = home.config();
    config.settings.push(("no_such_setting".into(), "1".into()));
    let error = refusal(&config).await;
    let KeeperError::StartFailed { log, .. } = &error else { panic!("{error}") };
    assert!(log.contains("no_such_setting"), "{log}");
    let cluster = Cluster::start(&home.config()).await.expect("the cluster is fine without it");
    cluster.stop().await.expect("it stops");
}

#[tokio::test]
async fn a_directory_that_is_not_a_cluster_is_left_alone() {
    let home = Home::new();
    fs::create_dir_all(home.data().join("postgres")).expect("a directory");
    let theirs = home.data().join("postgres/letters.txt");
    fs::write(&theirs, "dear").expect("a file");
    if is_root() {
        std::os::unix::fs::chown(home.data().join("postgres"), Some(NOBODY), Some(NOBODY)).expect("its owner");
    }
    let error = refusal(&home.config()).await;
    assert!(matches!(error, KeeperError::NotACluster { .. }), "{error}");
    assert!(theirs.exists());
}

#[tokio::test]
async fn a_directory_that_the_servers_user_cannot_enter_is_named() {
    if !is_root() {
        return skip("a_directory_that_the_servers_user_cannot_enter_is_named", "this is not root");
    }
    let home = Home::new();
    let closed = home.path().join("closed");
    directory_of(&closed, 0, 0o700);
    let error = refusal(&config(closed.join("deep/data"))).await;
    let KeeperError::Unreachable { directory, user } = &error else { panic!("{error}") };
    assert_eq!(*directory, closed);
    assert_ne!(user, "root");
    assert!(error.to_string().contains("chmod o+x"), "{error}");
}

#[test]
fn an_ordinary_user_is_told_whose_cluster_it_is() {
    if !is_root() {
        return skip("an_ordinary_user_is_told_whose_cluster_it_is", "this is not root");
    }
    let home = Home::new();
    assert!(Keeper::start(&home, None).finish());
    let said = complaint(spawn(&home, Some(NOBODY)));
    assert!(said.contains("belongs to the user with id") && said.contains("65534"), "{said}");
}

#[tokio::test]
async fn paths_and_settings_that_cannot_work_are_refused_before_anything_is_made() {
    let home = Home::new();
    let long = home.path().join("d".repeat(200)).join("e".repeat(200)).join("f".repeat(200)).join("g".repeat(200));
    for path in [long.join("h".repeat(200)), home.path().join("line\nbreak"), Path::new("").to_owned()] {
        let error = refusal(&config(path.clone())).await;
        assert!(matches!(error, KeeperError::UnsuitablePath { .. }), "{error}");
        assert!(path.as_os_str().is_empty() || !path.exists());
    }
    let mut unsafe_config = home.config();
    unsafe_config.settings.push(("fsync".into(), "off".into()));
    let error = refusal(&unsafe_config).await;
    assert!(error.to_string().contains("fsync"), "{error}");
    assert!(!home.data().exists());
}
