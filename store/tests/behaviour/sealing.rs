//! Personal data is sealed before it is written, opens again only where it was sealed, and is gone
//! once its person's key is.

use chrono::DateTime;
use daybook_domain::platform::tenant::{Contact, Name, Plan, TenantEvent};
use daybook_domain::upcast::Origin;
use daybook_domain::{Personal, SubjectId, TenantId};
use daybook_store::codec;
use daybook_store::database::Role;
use daybook_store::journal::{Known, NewEvent, StreamId, StreamKey};
use daybook_store::keys::{KeyError, KeyFileError, KeyFiles, KeyStore, SealError, Sealer};
use daybook_store::system::{Real, System};
use daybook_testing::{TestDatabase, append, system, tenant};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use uuid::Uuid;

const SECRET: &str = "Ada Lovelace";

fn files(directory: &Path) -> Arc<KeyFiles> {
    Arc::new(KeyFiles::open(directory, true, "daybook.test", &Real).expect("keys"))
}

fn sealer(db: &TestDatabase, directory: &Path) -> Sealer {
    let pool = db.database().pool(Role::Writer, 2, "");
    Sealer::new(Arc::new(KeyStore::new(pool, files(directory), system())), system())
}

fn registered(subject: SubjectId) -> TenantEvent {
    let contact = Contact::parse(SECRET, "ada@example.com").expect("a contact");
    let name = Name::parse("Example Ltd").expect("a name");
    TenantEvent::Registered { name, plan: Plan::Pro, contact: Some(Personal::known(subject, contact)), domain: None }
}

struct Sealed {
    db: TestDatabase,
    directory: tempfile::TempDir,
    sealer: Sealer,
    tenant: TenantId,
    subject: SubjectId,
    event: Uuid,
    text: String,
}

/// An event whose contact was sealed, not written yet.
async fn sealed() -> Sealed {
    let db = TestDatabase::new().await;
    let directory = tempfile::tempdir().expect("a directory");
    let sealer = sealer(&db, &directory.path().join("keys"));
    let (tenant, subject, event) = (tenant(), SubjectId(Real.uuid_v4()), Real.uuid_v7());
    let encoded = codec::encode(&registered(subject)).expect("an event");
    let text = sealer.seal(tenant, event, encoded.payload).await.expect("a seal");
    Sealed { db, directory, sealer, tenant, subject, event, text }
}

impl Sealed {
    /// Another process with the same keys and nothing cached.
    fn fresh(&self) -> Sealer {
        sealer(&self.db, &self.directory.path().join("keys"))
    }

    async fn opened(&self, sealer: &Sealer) -> Result<TenantEvent, SealError> {
        let text = sealer.open(self.tenant, self.event, &self.text).await?;
        let origin = Origin {
            event_type: "platform.tenant.registered",
            event_version: 1,
            tenant: self.tenant,
            stream_type: "tenant",
            stream_id: self.tenant.0,
            sequence: 1,
            position: 1,
            recorded_at: DateTime::UNIX_EPOCH,
        };
        Ok(codec::decode(&origin, &text).expect("an event").remove(0))
    }

    /// As whoever holds the database may: past every guard.
    async fn tamper(&self, sql: &str) {
        let superuser = self.db.superuser().await;
        superuser.batch_execute("set session_replication_role = replica").await.expect("no guards");
        superuser.batch_execute(sql).await.expect(sql);
    }
}

#[tokio::test]
async fn the_journal_holds_no_clear_text_of_a_personal_field_and_it_opens_again() {
    let s = sealed().await;
    let (journal, _task) = s.db.journal().await;
    let new = NewEvent {
        event_id: s.event,
        event_type: "platform.tenant.registered".into(),
        event_version: 1,
        payload: s.text.clone(),
        metadata: "{}".into(),
    };
    let mut append = append(s.tenant, s.tenant.0, 0, vec![new]);
    append.streams[0].stream.kind = "tenant";
    journal.append(append, Known::default()).await.expect("an append");
    let row = s.db.superuser().await.query_one("select e::text from journal.events e", &[]).await.expect("the row");
    let row: String = row.get(0);
    assert!(row.contains("Example Ltd"), "not the row that was meant: {row}");
    for part in [SECRET, "Ada", "ada@example.com", "Lovelace"] {
        assert!(!row.contains(part), "{part} stands in the journal: {row}");
    }
    let key = StreamKey { tenant: s.tenant, stream: StreamId { kind: "tenant", id: s.tenant.0 } };
    let loaded = journal.load(&key, 0).await.expect("a load");
    assert_eq!(loaded.events[0].payload, s.text);
    for sealer in [&s.sealer, &s.fresh()] {
        assert_eq!(s.opened(sealer).await.expect("it opens"), registered(s.subject));
    }
}

#[tokio::test]
async fn the_same_text_is_sealed_to_other_bytes_every_time() {
    let s = sealed().await;
    let encoded = codec::encode(&registered(s.subject)).expect("an event");
    let again = s.sealer.seal(s.tenant, s.event, encoded.payload).await.expect("a seal");
    assert_ne!(again, s.text);
}

#[tokio::test]
async fn a_sealed_field_does_not_open_in_another_event_field_or_tenant_or_when_altered() {
    let s = sealed().await;
    let damaged = |answer: Result<std::borrow::Cow<'_, str>, SealError>| match answer {
        Err(error @ SealError::Damaged { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    };
    let other = Real.uuid_v7();
    let message = damaged(s.sealer.open(s.tenant, other, &s.text).await);
    assert!(message.contains(&other.to_string()) && message.contains("/contact"), "{message}");

    let moved = s.text.replace("\"contact\"", "\"billing\"");
    assert_ne!(moved, s.text);
    assert!(damaged(s.sealer.open(s.tenant, s.event, &moved).await).contains("/billing"));

    let at = s.text.find("\"sealed\":\"").expect("a sealed field") + 30;
    let mut altered = s.text.clone();
    let flipped = if altered.as_bytes()[at] == b'A' { "B" } else { "A" };
    altered.replace_range(at..=at, flipped);
    damaged(s.sealer.open(s.tenant, s.event, &altered).await);

    // The same person is known to another tenant under another key.
    let elsewhere = tenant();
    let encoded = codec::encode(&registered(s.subject)).expect("an event");
    s.sealer.seal(elsewhere, s.event, encoded.payload).await.expect("a seal");
    damaged(s.sealer.open(elsewhere, s.event, &s.text).await);
    assert_eq!(s.opened(&s.sealer).await.expect("it still opens where it belongs"), registered(s.subject));
}

#[tokio::test]
async fn the_key_is_committed_before_the_event_can_be() {
    let s = sealed().await;
    let superuser = s.db.superuser().await;
    let keys = superuser.query("select tenant_id, subject_id from keys.subject_keys", &[]).await.expect("the keys");
    let keys: Vec<(Uuid, Uuid)> = keys.iter().map(|r| (r.get(0), r.get(1))).collect();
    assert_eq!(keys, [(s.tenant.0, s.subject.0)]);
    let events: i64 = superuser.query_one("select count(*) from journal.events", &[]).await.expect("a count").get(0);
    assert_eq!(events, 0);
    // Its sessions wait for the disk; only the journal's writer does not.
    let pool = s.db.database().pool(Role::Writer, 1, "");
    let rows = pool.query("select current_setting('synchronous_commit')", &[]).await.expect("a setting");
    assert_eq!(rows[0].get::<_, String>(0), "on");
}

#[tokio::test]
async fn two_nodes_that_meet_a_person_at_once_agree_on_one_key() {
    let s = sealed().await;
    let (tenant, subject) = (tenant(), SubjectId(Real.uuid_v4()));
    let nodes: Vec<Sealer> = (0..6).map(|_| s.fresh()).collect();
    let events: Vec<Uuid> = (0..6).map(|_| Real.uuid_v7()).collect();
    let seals = nodes.iter().zip(&events).map(|(node, event)| {
        let payload = codec::encode(&registered(subject)).expect("an event").payload;
        node.seal(tenant, *event, payload)
    });
    let texts = futures_util::future::try_join_all(seals).await.expect("seals");
    let reader = s.fresh();
    for (event, text) in events.iter().zip(&texts) {
        assert!(reader.open(tenant, *event, text).await.expect("it opens").contains(SECRET));
    }
}

#[tokio::test]
async fn what_was_erased_says_so_and_cannot_be_written_again() {
    let s = sealed().await;
    s.sealer.keys().erase(s.tenant, s.subject).await.expect("an erasure");
    for sealer in [&s.sealer, &s.fresh()] {
        let opened = sealer.open(s.tenant, s.event, &s.text).await.expect("it opens");
        assert!(!opened.contains(SECRET) && opened.contains(r#""erased":true"#), "{opened}");
        let TenantEvent::Registered { contact: Some(contact), .. } = s.opened(sealer).await.expect("an event") else {
            panic!("no contact")
        };
        assert!(contact.is_erased());
        let again = codec::encode(&registered(s.subject)).expect("an event").payload;
        let refused = sealer.seal(s.tenant, Real.uuid_v7(), again).await;
        assert!(matches!(refused, Err(SealError::Key(KeyError::Erased(who))) if who == s.subject), "{refused:?}");
    }
    let superuser = s.db.superuser().await;
    let row = superuser.query_one("select wrapped is null, erased_at is not null from keys.subject_keys", &[]).await;
    let row = row.expect("the tombstone");
    assert!(row.get::<_, bool>(0) && row.get::<_, bool>(1));
    superuser.batch_execute("delete from keys.subject_keys").await.expect_err("a tombstone stays");
    superuser
        .batch_execute("update keys.subject_keys set wrapped = '\\x01', erased_at = null")
        .await
        .expect_err("gone is gone");
}

#[tokio::test]
async fn after_a_restore_the_erasure_list_erases_again() {
    let s = sealed().await;
    let row = s.db.superuser().await.query_one("select wrapped from keys.subject_keys", &[]).await.expect("the key");
    let dumped: String = row.get::<_, Vec<u8>>(0).iter().map(|b| format!("{b:02x}")).collect();
    s.sealer.keys().erase(s.tenant, s.subject).await.expect("an erasure");
    s.tamper(&format!("update keys.subject_keys set wrapped = '\\x{dumped}', erased_at = null")).await;
    let restored = s.fresh();
    assert_eq!(s.opened(&restored).await.expect("the dump brought it back"), registered(s.subject));
    assert_eq!(restored.keys().apply_erasure_list().await.expect("the list"), 1);
    for sealer in [&restored, &s.fresh()] {
        assert!(!sealer.open(s.tenant, s.event, &s.text).await.expect("it opens").contains(SECRET));
    }
}

#[tokio::test]
async fn a_missing_key_is_a_fault_and_never_looks_like_an_erasure() {
    let s = sealed().await;
    s.tamper("delete from keys.subject_keys").await;
    let refused = s.opened(&s.fresh()).await;
    let Err(SealError::Key(error @ KeyError::Missing { .. })) = refused else { panic!("{refused:?}") };
    let message = error.to_string();
    assert!(message.contains(&s.subject.to_string()) && message.contains("not an erasure"), "{message}");
}

#[tokio::test]
async fn of_many_who_ask_for_keys_at_once_each_gets_those_of_its_own_subject() {
    let s = sealed().await;
    // The same subject in half of the tenants: the tenant makes the difference.
    let subjects = [SubjectId(Real.uuid_v4()), SubjectId(Real.uuid_v4())];
    let mut texts = Vec::new();
    for n in 0..60 {
        let (tenant, subject) = (tenant(), subjects[n % 2]);
        let encoded = codec::encode(&registered(subject)).expect("an event");
        let text = s.sealer.seal(tenant, s.event, encoded.payload).await.expect("a seal");
        texts.push((tenant, text));
    }
    s.sealer.keys().erase(texts[7].0, subjects[1]).await.expect("an erasure");
    s.tamper(&format!("delete from keys.subject_keys where tenant_id = '{}'", texts[8].0)).await;
    let fresh = s.fresh();
    let opening = texts.iter().map(|(tenant, text)| fresh.open(*tenant, s.event, text));
    for (n, opened) in futures_util::future::join_all(opening).await.into_iter().enumerate() {
        match (n, opened) {
            (7, opened) => assert!(opened.expect("it opens").contains(r#""erased":true"#)),
            (8, Err(SealError::Key(KeyError::Missing { tenant, subject }))) => {
                assert_eq!((tenant, subject), (texts[8].0, subjects[0]));
            }
            (n, opened) => assert!(opened.unwrap_or_else(|e| panic!("{n}: {e}")).contains(SECRET), "{n}"),
        }
    }
}

#[tokio::test]
async fn another_root_key_is_named_and_neither_reads_nor_writes() {
    let s = sealed().await;
    let other = sealer(&s.db, &s.directory.path().join("other"));
    let refused = s.opened(&other).await;
    assert!(
        matches!(&refused, Err(SealError::Key(error @ KeyError::WrongRoot(_))) if error.to_string().contains("root.key")),
        "{refused:?}"
    );
    let encoded = codec::encode(&registered(SubjectId(Real.uuid_v4()))).expect("an event");
    let refused = other.seal(s.tenant, Real.uuid_v7(), encoded.payload).await;
    assert!(matches!(refused, Err(SealError::Key(KeyError::WrongRoot(_)))), "{refused:?}");
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("a file").permissions().mode() & 0o777
}

#[test]
fn key_files_are_for_their_owner_alone_and_are_made_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let keys = directory.path().join("deep").join("keys");
    let first = files(&keys);
    assert_eq!(mode(&keys), 0o700);
    for name in ["root.key", "unique.key", "signing.key"] {
        assert_eq!(mode(&keys.join(name)), 0o600, "{name}");
    }
    assert_eq!(std::fs::read_dir(&keys).expect("a directory").count(), 3, "something was left behind");
    for may_create in [true, false] {
        let again = KeyFiles::open(&keys, may_create, "daybook.test", &Real).expect("keys");
        assert_eq!(again.derive("a purpose"), first.derive("a purpose"));
        assert_ne!(again.derive("another"), first.derive("a purpose"));
        assert_eq!(again.unique_hash("kind", "key"), first.unique_hash("kind", "key"));
    }
    assert_ne!(first.unique_hash("a", "b"), first.unique_hash("ab", ""), "kind and key run together");
    let other = files(&directory.path().join("other"));
    assert_ne!(other.derive("a purpose"), first.derive("a purpose"));
    assert_ne!(other.unique_hash("kind", "key"), first.unique_hash("kind", "key"));
}

#[test]
fn a_key_that_is_missing_beside_data_is_not_made_anew() {
    for name in ["root.key", "unique.key", "signing.key"] {
        let directory = tempfile::tempdir().expect("a directory");
        files(directory.path());
        std::fs::remove_file(directory.path().join(name)).expect("a removal");
        let refused = KeyFiles::open(directory.path(), false, "daybook.test", &Real).err().expect("a refusal");
        assert!(matches!(&refused, KeyFileError::Missing(path) if path.ends_with(name)), "{refused:?}");
        assert!(refused.to_string().contains("backup"), "{refused}");
        assert!(!directory.path().join(name).exists(), "it was made anew");
    }
}

#[test]
fn a_key_that_others_may_read_or_that_is_damaged_is_refused_with_the_remedy() {
    for name in ["root.key", "unique.key", "signing.key"] {
        for readable in [0o640, 0o604, 0o620] {
            let directory = tempfile::tempdir().expect("a directory");
            files(directory.path());
            let path = directory.path().join(name);
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(readable)).expect("a mode");
            let refused =
                KeyFiles::open(directory.path(), true, "daybook.test", &Real).err().expect("a refusal").to_string();
            assert!(refused.contains(name) && refused.contains("chmod 600"), "{refused}");
        }
        let directory = tempfile::tempdir().expect("a directory");
        files(directory.path());
        std::fs::write(directory.path().join(name), "AAAA\n").expect("a damage");
        let refused = KeyFiles::open(directory.path(), true, "daybook.test", &Real).err().expect("a refusal");
        assert!(matches!(&refused, KeyFileError::Damaged(path) if path.ends_with(name)), "{refused:?}");
    }
}
