//! From nothing to the schema: once, from several nodes, never backwards, never on a server that
//! could lose a write.

use daybook_store::database::{Database, DatabaseError, Role};
use daybook_store::schema::{SchemaError, check_server, migrate, migrate_with};
use daybook_store::system::{Real, System};
use daybook_testing::{PARTITION_SIZE, TestDatabase, TestServer};
use tokio_postgres::Client;

/// An empty database beside the test's own.
async fn empty(db: &TestDatabase, properties: &str) -> (Database, Client) {
    let name = format!("test_{}", Real.uuid_v4().simple());
    let create = format!("create database {name} template template0 {properties}");
    db.superuser().await.batch_execute(&create).await.expect("a database");
    let database = db.database().named(&name);
    let superuser = database.connect(Role::Login, "").await.expect("a session");
    (database, superuser)
}

/// Everything that there is in the schemas, by name and definition.
async fn shape(superuser: &Client) -> Vec<String> {
    let rows = superuser
        .query(
            "select n.nspname || '.' || c.relname || ' ' || c.relkind::text || ' ' || coalesce(c.relacl::text, '')
             from pg_class c join pg_namespace n on n.oid = c.relnamespace
             where n.nspname in ('journal', 'keys', 'projection', 'read', 'identity')
             union all select tgrelid::regclass || ' ' || tgname from pg_trigger where not tgisinternal
             union all select to_jsonb(m)::text from journal.migrations m
             union all select to_jsonb(i)::text from journal.identity i
             order by 1",
            &[],
        )
        .await
        .expect("the shape");
    rows.iter().map(|r| r.get(0)).collect()
}

#[tokio::test]
async fn a_second_migration_changes_nothing() {
    let db = TestDatabase::new().await;
    let (database, superuser) = empty(&db, "encoding 'UTF8'").await;
    let first = migrate_with(&database, &Real, PARTITION_SIZE).await.expect("a migration");
    assert!(first.applied.len() >= 3 && first.empty, "{first:?}");
    let before = shape(&superuser).await;
    for second in [migrate(&database, &Real).await, migrate_with(&database, &Real, 7).await] {
        let second = second.expect("a migration");
        assert_eq!((second.identity, second.applied), (first.identity, vec![]));
    }
    assert_eq!(shape(&superuser).await, before);
}

#[tokio::test]
async fn two_journals_have_two_identities() {
    let db = TestDatabase::new().await;
    let (database, _) = empty(&db, "encoding 'UTF8'").await;
    let other = migrate(&database, &Real).await.expect("a migration").identity;
    assert_ne!(other.journal_id, db.identity.journal_id);
    assert_ne!(other.incarnation_id, db.identity.incarnation_id);
}

#[tokio::test]
async fn a_schema_of_a_newer_version_is_refused_and_left_alone() {
    let db = TestDatabase::new().await;
    let superuser = db.superuser().await;
    let newer = "insert into journal.migrations (version, name, applied_on, checksum) values (9999, 'later', '', '1')";
    superuser.batch_execute(newer).await.expect("a newer schema");
    let before = shape(&superuser).await;
    let refused = migrate(db.database(), &Real).await.expect_err("a newer schema");
    assert!(matches!(refused, SchemaError::Newer { found: 9999, known } if known < 9999), "{refused:?}");
    assert!(refused.to_string().contains("start that version"), "{refused}");
    assert_eq!(shape(&superuser).await, before);
    // The lock is not kept: the next one is refused as well, it does not wait.
    migrate(db.database(), &Real).await.expect_err("a newer schema");
}

#[tokio::test]
async fn nodes_that_start_together_on_a_new_server_migrate_it_once() {
    let server = TestServer::start(&[]).await;
    let database = server.database("postgres");
    let together = futures_util::future::join_all((0..4).map(|_| migrate_with(&database, &Real, PARTITION_SIZE))).await;
    let migrated: Vec<_> = together.into_iter().map(|m| m.expect("a migration")).collect();
    let applied: Vec<_> = migrated.iter().filter(|m| !m.applied.is_empty()).collect();
    assert_eq!(applied.len(), 1, "{migrated:?}");
    assert!(migrated.iter().all(|m| m.identity == migrated[0].identity));
    server.stop().await;
}

/// A server that answers as told: the functions that are asked stand before PostgreSQL's own.
async fn pretending(db: &TestDatabase, setting: &str, value: &str) -> Database {
    let (database, superuser) = empty(db, "encoding 'UTF8'").await;
    superuser
        .batch_execute(&format!(
            "create schema pretence;
             create function pretence.current_setting(name text) returns text language sql as $$
                 select case when name = '{setting}' then '{value}' else pg_catalog.current_setting(name) end $$;
             do $$ begin
                 execute format('alter database %I set search_path = pretence, pg_catalog', current_database());
             end $$"
        ))
        .await
        .expect("a pretence");
    database
}

async fn refusal(database: &Database) -> String {
    match migrate(database, &Real).await {
        Err(SchemaError::Database(DatabaseError::Unsuitable(why))) => {
            let session = database.connect(Role::Login, "-c search_path=pg_catalog").await.expect("a session");
            let row = session.query_one("select to_regnamespace('journal') is null", &[]).await.expect("an answer");
            assert!(row.get::<_, bool>(0), "refused, but not before something was made");
            why
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_server_that_could_lose_a_write_is_refused_with_the_setting_to_change() {
    let db = TestDatabase::new().await;
    for (setting, value, remedy) in [
        ("fsync", "off", "set fsync = on"),
        ("full_page_writes", "off", "set full_page_writes = on"),
        ("server_version_num", "140011", "needs 15 or newer"),
        ("timezone", "Europe/Berlin", "pooler"),
    ] {
        let why = refusal(&pretending(&db, setting, value).await).await;
        assert!(why.contains(remedy), "{setting}: {why}");
    }
    // The pretence itself is not what is refused.
    let suitable = pretending(&db, "nothing", "").await;
    let session = suitable.connect(Role::Login, "").await.expect("a session");
    check_server(&session).await.expect("a suitable server");
}

#[tokio::test]
async fn a_session_that_changes_servers_between_statements_is_refused() {
    let db = TestDatabase::new().await;
    let (database, superuser) = empty(&db, "encoding 'UTF8'").await;
    superuser
        .batch_execute(
            "create schema pretence;
             create sequence pretence.pids;
             create function pretence.pg_backend_pid() returns int language sql volatile as $$
                 select nextval('pretence.pids')::int $$;
             do $$ begin
                 execute format('alter database %I set search_path = pretence, pg_catalog', current_database());
             end $$",
        )
        .await
        .expect("a pretence");
    let why = refusal(&database).await;
    assert!(why.contains("pooler") && why.contains("connect to PostgreSQL itself"), "{why}");
}

#[tokio::test]
async fn a_database_in_another_encoding_is_refused_with_the_remedy() {
    let db = TestDatabase::new().await;
    let (database, _) = empty(&db, "encoding 'LATIN1' lc_collate 'C' lc_ctype 'C'").await;
    let why = refusal(&database).await;
    assert!(why.contains("LATIN1") && why.contains("ENCODING 'UTF8'"), "{why}");
}
