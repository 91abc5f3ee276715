//! What each role of the database may do: the backstop behind the checks of the program.

use daybook_store::database::Role;
use daybook_store::journal::Known;
use daybook_testing::{TestDatabase, append, event, tenant};
use std::collections::BTreeSet;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error};
use uuid::Uuid;

const GUARDED: [&str; 4] = ["events", "stream_events", "tenant_heads", "postgres_es_events"];

/// Two tenants with two events each.
async fn written() -> (TestDatabase, Uuid, Uuid) {
    let db = TestDatabase::new().await;
    let (journal, task) = db.journal().await;
    let (a, b) = (tenant(), tenant());
    for t in [a, b] {
        let append = append(t, t.0, 0, vec![event("{}"), event("{}")]);
        journal.append(append, Known::default()).await.expect("an append");
    }
    journal.shutdown().await;
    task.await.expect("the writer ends");
    (db, a.0, b.0)
}

/// The streams that are visible in a table; each is its tenant's.
async fn visible(reader: &Client, table: &str) -> Result<BTreeSet<String>, Error> {
    let column = match table {
        "tenant_heads" => "tenant_id::text",
        "postgres_es_events" => "aggregate_id",
        _ => "stream_id::text",
    };
    let rows = reader.query(&format!("select distinct {column} from journal.{table}"), &[]).await?;
    Ok(rows.iter().map(|r| r.get(0)).collect())
}

fn code(error: &Error) -> SqlState {
    error.as_db_error().map(|e| e.code().clone()).unwrap_or_else(|| panic!("{error}"))
}

#[tokio::test]
async fn a_reader_without_a_tenant_sees_nothing_and_with_one_its_own() {
    let (db, a, b) = written().await;
    let reader = db.database().connect(Role::Reader, "").await.expect("a session");
    for table in GUARDED {
        assert_eq!(visible(&reader, table).await.expect("an answer"), BTreeSet::new(), "{table}");
    }
    for own in [a, b] {
        reader.batch_execute(&format!("begin; set local app.tenant = '{own}'")).await.expect("a tenant");
        for table in GUARDED {
            assert_eq!(visible(&reader, table).await.expect("an answer"), BTreeSet::from([own.to_string()]), "{table}");
        }
        reader.batch_execute("commit").await.expect("an end");
        // What was set for one transaction does not stay for the next.
        for table in GUARDED {
            assert_eq!(visible(&reader, table).await.expect("an answer"), BTreeSet::new(), "{table} afterwards");
        }
    }
    // What is no tenant gives no rows, or an error.
    reader.batch_execute(&format!("set app.tenant = '{}'", Uuid::from_u128(7))).await.expect("a tenant");
    assert_eq!(visible(&reader, "events").await.expect("an answer"), BTreeSet::new());
    reader.batch_execute("set app.tenant = 'everything'").await.expect("a setting");
    assert_eq!(code(&visible(&reader, "events").await.expect_err("no UUID")), SqlState::INVALID_TEXT_REPRESENTATION);
}

#[tokio::test]
async fn a_reader_reaches_nothing_past_the_policies() {
    let (db, a, _) = written().await;
    let reader = db.database().connect(Role::Reader, "").await.expect("a session");
    reader.batch_execute(&format!("set app.tenant = '{a}'")).await.expect("a tenant");
    for sql in [
        "select * from journal.events_p000000",
        "select * from journal.commands",
        "select * from journal.claims",
        "select * from journal.lease",
        "select * from keys.subject_keys",
        "select * from keys.tenant_keys",
        "select * from identity.passwords",
        "select * from identity.refresh_tokens",
        "select * from identity.api_keys",
        "insert into journal.events select * from journal.events",
        "insert into journal.batches select * from journal.batches",
        "insert into projection.live values ('tenants', 9)",
        "select journal.ensure_partitions(100000)",
        "alter table journal.events disable row level security",
        "create table journal.mine (a int)",
        "create table read.mine (a int)",
    ] {
        let refused = reader.query(sql, &[]).await.expect_err(sql);
        assert_eq!(code(&refused), SqlState::INSUFFICIENT_PRIVILEGE, "{sql}: {refused:?}");
    }
}

#[tokio::test]
async fn the_writer_makes_no_tables_and_changes_no_guards() {
    let (db, ..) = written().await;
    let writer = db.database().connect(Role::Writer, "").await.expect("a session");
    for sql in [
        "create table journal.mine (a int)",
        "create table keys.mine (a int)",
        "create table projection.mine (a int)",
        "create table read.mine (a int)",
        "create table public.mine (a int)",
        "create schema mine",
        "drop trigger append_only on journal.events",
        "alter table journal.events disable trigger append_only",
        "alter table journal.events detach partition journal.events_p000000",
        "drop table journal.events_p000000",
        "create or replace function journal.refuse_change() returns trigger language plpgsql as 'begin return null; end'",
        "set session_replication_role = replica",
        "delete from keys.subject_keys",
        "update keys.tenant_keys set wrapped = wrapped",
        "create table identity.mine (a int)",
        "update identity.passwords set account_id = account_id",
        "update identity.refresh_tokens set expires_at = expires_at",
        "update identity.api_keys set hash = hash",
        "delete from identity.api_keys",
    ] {
        let refused = writer.batch_execute(sql).await.expect_err(sql);
        assert_eq!(code(&refused), SqlState::INSUFFICIENT_PRIVILEGE, "{sql}: {refused:?}");
    }
}

#[tokio::test]
async fn the_projector_reads_everything_and_writes_no_event() {
    let (db, a, b) = written().await;
    let projector = db.database().connect(Role::Projector, "").await.expect("a session");
    let all = BTreeSet::from([a.to_string(), b.to_string()]);
    assert_eq!(visible(&projector, "events").await.expect("an answer"), all);
    for sql in [
        "insert into journal.events select * from journal.events",
        "insert into journal.batches select * from journal.batches",
        "insert into journal.claims values (gen_random_uuid(), 'k', 'h', gen_random_uuid(), 't', gen_random_uuid(), 1)",
        "update journal.lease set epoch = 99",
        "update journal.commands set hash_key = null",
        "update keys.subject_keys set wrapped = null",
        "select * from identity.passwords",
        "select * from identity.refresh_tokens",
        "select * from identity.api_keys",
        "select journal.ensure_partitions(100000)",
    ] {
        let refused = projector.query(sql, &[]).await.expect_err(sql);
        assert_eq!(code(&refused), SqlState::INSUFFICIENT_PRIVILEGE, "{sql}: {refused:?}");
    }
}

#[tokio::test]
async fn no_role_of_ours_can_log_in_or_stands_above_the_policies() {
    let db = TestDatabase::new().await;
    let rows = db
        .superuser()
        .await
        .query(
            "select rolname::text, rolcanlogin or rolsuper or rolbypassrls or rolcreaterole or rolcreatedb
                from pg_roles where rolname like 'daybook\\_%' order by 1",
            &[],
        )
        .await
        .expect("the roles");
    let roles: Vec<(String, bool)> = rows.iter().map(|r| (r.get(0), r.get(1))).collect();
    let expected = ["daybook_owner", "daybook_projector", "daybook_reader", "daybook_writer"];
    assert_eq!(roles, expected.map(|r| (r.to_owned(), false)));
}

#[tokio::test]
async fn every_table_with_a_tenant_that_a_reader_may_read_has_a_policy() {
    let db = TestDatabase::new().await;
    let rows = db
        .superuser()
        .await
        .query(
            "select c.oid::regclass::text
             from pg_class c join pg_namespace n on n.oid = c.relnamespace
             where n.nspname in ('journal', 'keys', 'projection', 'read') and c.relkind in ('r', 'p')
               and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id')
               and has_table_privilege('daybook_reader', c.oid, 'SELECT')
               and not (c.relrowsecurity and c.relforcerowsecurity)",
            &[],
        )
        .await
        .expect("the tables");
    assert_eq!(rows.iter().map(|r| r.get::<_, String>(0)).collect::<Vec<_>>(), Vec::<String>::new());
}
