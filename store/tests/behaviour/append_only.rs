//! The database itself refuses to change what was written, whoever asks.

use daybook_store::database::Role;
use daybook_store::journal::Known;
use daybook_testing::{TestDatabase, append, event, tenant};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

/// (table, a column to set to itself)
const TABLES: [(&str, &str); 5] = [
    ("events", "payload"),
    ("stream_events", "position"),
    ("batches", "epoch"),
    ("tenant_heads", "edge"),
    ("commands", "request_hash"),
];

async fn written() -> TestDatabase {
    let db = TestDatabase::new().await;
    let (journal, task) = db.journal().await;
    let events = vec![event("{}"), event("{}"), event("{}")];
    journal.append(append(tenant(), Uuid::from_u128(1), 0, events), Known::default()).await.expect("an append");
    journal.shutdown().await;
    task.await.expect("the writer ends");
    db
}

async fn partitions(superuser: &Client) -> Vec<String> {
    let rows = superuser
        .query(
            "select c.relname::text from pg_inherits i join pg_class c on c.oid = i.inhrelid
             where i.inhparent = 'journal.events'::regclass order by 1",
            &[],
        )
        .await
        .expect("the partitions");
    rows.iter().map(|r| r.get(0)).collect()
}

async fn refused(client: &Client, sql: &str) -> SqlState {
    let error = client.batch_execute(sql).await.expect_err(sql);
    let refusal = error.as_db_error().unwrap_or_else(|| panic!("{sql}: {error}"));
    refusal.code().clone()
}

/// Every row of the journal as text.
async fn everything(superuser: &Client) -> Vec<String> {
    let mut all = Vec::new();
    for (table, _) in TABLES {
        let rows =
            superuser.query(&format!("select t::text from journal.{table} t order by 1"), &[]).await.expect("rows");
        assert!(!rows.is_empty(), "{table} is empty: there is nothing to protect");
        all.extend(rows.iter().map(|r| r.get::<_, String>(0)));
    }
    all
}

#[tokio::test]
async fn not_even_a_superuser_updates_deletes_or_truncates_the_journal() {
    let db = written().await;
    let superuser = db.superuser().await;
    let before = everything(&superuser).await;
    let mut targets: Vec<(String, &str)> = TABLES.iter().map(|(t, c)| ((*t).to_owned(), *c)).collect();
    let partitions = partitions(&superuser).await;
    assert!(partitions.len() >= 2, "{partitions:?}");
    targets.extend(partitions.into_iter().map(|p| (p, "payload")));
    for (table, column) in targets {
        for sql in [
            format!("update journal.{table} set {column} = {column}"),
            format!("delete from journal.{table}"),
            format!("truncate journal.{table}"),
            format!("truncate journal.{table} cascade"),
        ] {
            assert_eq!(refused(&superuser, &sql).await, SqlState::RESTRICT_VIOLATION, "{sql}");
        }
    }
    for sql in ["delete from journal.identity", "truncate journal.identity"] {
        assert_eq!(refused(&superuser, sql).await, SqlState::RESTRICT_VIOLATION, "{sql}");
    }
    assert_eq!(everything(&superuser).await, before);
}

#[tokio::test]
async fn the_writer_has_not_even_the_privilege() {
    let db = written().await;
    let superuser = db.superuser().await;
    let before = everything(&superuser).await;
    let writer = db.database().connect(Role::Writer, "").await.expect("a session");
    let mut targets: Vec<(String, &str)> =
        TABLES.iter().filter(|(t, _)| *t != "commands").map(|(t, c)| ((*t).to_owned(), *c)).collect();
    targets.extend(partitions(&superuser).await.into_iter().map(|p| (p, "payload")));
    for (table, column) in targets {
        for sql in [
            format!("update journal.{table} set {column} = {column}"),
            format!("delete from journal.{table}"),
            format!("truncate journal.{table}"),
        ] {
            assert_eq!(refused(&writer, &sql).await, SqlState::INSUFFICIENT_PRIVILEGE, "{sql}");
        }
    }
    // Of a command's record it may destroy the key, and delete what has expired: the guard allows no more.
    for (sql, code) in [
        ("update journal.commands set request_hash = request_hash", SqlState::INSUFFICIENT_PRIVILEGE),
        ("truncate journal.commands", SqlState::INSUFFICIENT_PRIVILEGE),
        ("update journal.commands set hash_key = '\\x01'", SqlState::RESTRICT_VIOLATION),
        ("delete from journal.commands", SqlState::RESTRICT_VIOLATION),
    ] {
        assert_eq!(refused(&writer, sql).await, code, "{sql}");
    }
    assert_eq!(everything(&superuser).await, before);
}

#[tokio::test]
async fn no_role_of_ours_may_change_events() {
    let db = TestDatabase::new().await;
    let superuser = db.superuser().await;
    let mut tables: Vec<String> = partitions(&superuser).await;
    tables.extend(["events", "stream_events", "batches", "tenant_heads"].map(String::from));
    for role in ["daybook_writer", "daybook_projector", "daybook_reader"] {
        for table in &tables {
            for privilege in ["UPDATE", "DELETE", "TRUNCATE", "TRIGGER"] {
                let row = superuser
                    .query_one(
                        "select has_table_privilege($1::text, $2::text, $3::text)",
                        &[&role, &format!("journal.{table}"), &privilege],
                    )
                    .await
                    .expect("an answer");
                assert!(!row.get::<_, bool>(0), "{role} may {privilege} {table}");
            }
        }
    }
}

#[tokio::test]
async fn a_partition_made_later_is_guarded_from_its_first_moment() {
    let db = TestDatabase::new().await;
    let superuser = db.superuser().await;
    let before = partitions(&superuser).await;
    let writer = db.database().connect(Role::Writer, "").await.expect("a session");
    writer.execute("select journal.ensure_partitions(5000)", &[]).await.expect("more partitions");
    let made: Vec<_> = partitions(&superuser).await.into_iter().filter(|p| !before.contains(p)).collect();
    assert!(made.contains(&"events_p000005".to_owned()), "{made:?}");
    for partition in made {
        for sql in [
            format!("update journal.{partition} set payload = payload"),
            format!("delete from journal.{partition}"),
            format!("truncate journal.{partition}"),
        ] {
            assert_eq!(refused(&superuser, &sql).await, SqlState::RESTRICT_VIOLATION, "{sql}");
        }
    }
}

#[tokio::test]
async fn nothing_is_written_over_a_position_a_sequence_or_a_batch() {
    let db = written().await;
    let superuser = db.superuser().await;
    for sql in [
        "insert into journal.events select * from journal.events",
        "insert into journal.stream_events select * from journal.stream_events",
        "insert into journal.batches select * from journal.batches",
        "insert into journal.tenant_heads select * from journal.tenant_heads",
        "insert into journal.commands select * from journal.commands",
    ] {
        assert_eq!(refused(&superuser, sql).await, SqlState::UNIQUE_VIOLATION, "{sql}");
    }
}
