//! A small journal with checkpoints, and an attacker who may do anything to its database.

use daybook_domain::TenantId;
use daybook_store::checkpoints::{CheckpointStore, Checkpointer, CheckpointerOptions, Round};
use daybook_store::journal::{Journal, Known, StreamAppend, StreamId};
use daybook_store::verify::{Evidence, Finding, Kind, Report, VerifyOptions, verify};
use daybook_store::{Database, Role};
use daybook_testing::{TestDatabase, append, event};
use daybook_tlog::{Leaf, RightEdge, Signer};
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;
use tokio_postgres::Client;
use uuid::Uuid;

pub(crate) struct Scene {
    pub(crate) db: TestDatabase,
    pub(crate) journal: Journal,
    writer: JoinHandle<()>,
    pub(crate) store: CheckpointStore,
    pub(crate) signer: Signer,
    pub(crate) attacker: Client,
    /// Kept for as long as the checkpoints are used.
    _directory: tempfile::TempDir,
}

pub(crate) fn tenant(n: u128) -> TenantId {
    TenantId(Uuid::from_u128(0xdb00_0000 + n))
}

impl Scene {
    pub(crate) async fn new() -> Self {
        let db = TestDatabase::new().await;
        let (journal, writer) = db.journal().await;
        let directory = tempfile::tempdir().unwrap();
        let store = CheckpointStore::new(directory.path(), db.identity.journal_id).with_milestones(16);
        let signer = Signer::generate("daybook", &[3; 32]).unwrap();
        let attacker = db.superuser().await;
        // Triggers, the guards among them, do not fire for a replica.
        attacker.batch_execute("set session_replication_role = replica").await.unwrap();
        Scene { db, journal, writer, store, signer, attacker, _directory: directory }
    }

    /// `rounds` times one event of each of three tenants, each tenant's in one stream: positions
    /// 1, 4, 7 … are of the first tenant, 2, 5, 8 … of the second.
    pub(crate) async fn fill(&self, from: u64, rounds: u64) {
        for round in from..from + rounds {
            for n in 0..3 {
                let payload = format!(r#"{{"round":{round}}}"#);
                let append = append(tenant(n), Uuid::from_u128(n), round, vec![event(&payload)]);
                self.journal.append(append, Known::default()).await.unwrap();
            }
        }
    }

    /// One append that writes `events` to each of `streams` streams that do not exist yet.
    pub(crate) async fn fill_streams(&self, tenant: TenantId, streams: std::ops::Range<u128>, events: usize) {
        let mut append = append(tenant, Uuid::nil(), 0, vec![]);
        append.streams = streams
            .map(|n| StreamAppend {
                stream: StreamId { kind: "thing", id: Uuid::from_u128(n) },
                expected: 0,
                events: (0..events)
                    .map(|e| event(&format!(r#"{{"event":{e},"text":"{}"}}"#, "ä".repeat(100))))
                    .collect(),
            })
            .collect();
        self.journal.append(append, Known::default()).await.unwrap();
    }

    pub(crate) fn checkpointer(&self, options: CheckpointerOptions) -> Checkpointer {
        let pool = self.db.database().pool(Role::Projector, 2, "");
        Checkpointer::new(self.store.clone(), &self.signer, pool, options).unwrap()
    }

    /// Signs everything that is durable.
    pub(crate) async fn sign(&self) -> Round {
        let durable = self.journal.durable().borrow().position;
        self.checkpointer(CheckpointerOptions::default()).run_once(durable).await.unwrap()
    }

    /// Ends the writer, so that nothing but the attacker touches the journal.
    pub(crate) async fn stop(&mut self) {
        self.journal.shutdown().await;
        (&mut self.writer).await.unwrap();
    }

    /// A writer that takes over what the attacker left.
    pub(crate) async fn restart(&mut self) {
        (self.journal, self.writer) = self.db.journal().await;
    }

    pub(crate) async fn attack(&self, sql: &str) {
        self.attacker.batch_execute(sql).await.unwrap();
    }

    pub(crate) async fn verify(&self) -> Report {
        self.verify_on(self.db.database()).await
    }

    pub(crate) async fn verify_on(&self, database: &Database) -> Report {
        let verifier = self.signer.verifier();
        let evidence = Evidence { checkpoints: &self.store, verifier: &verifier };
        // Small pages, so that what spans two of them is met.
        verify(database, Some(evidence), VerifyOptions { page: 7, ..VerifyOptions::default() }).await.unwrap()
    }

    /// As somebody who has no checkpoint.
    pub(crate) async fn verify_alone(&self) -> Report {
        verify(self.db.database(), None, VerifyOptions::default()).await.unwrap()
    }

    /// Makes leaves, positions of the tenant, stream index and heads agree with what the events say now: what
    /// an attacker does who knows how the journal is built.
    pub(crate) async fn forge(&self, tenant: TenantId) {
        let db = &self.attacker;
        let sql = "select position, stream_type, stream_id, event_id, event_type, event_version, recorded_at, payload, metadata,
                          (select batch from journal.batches b where e.position between b.first_position and b.last_position)
                   from journal.events e where tenant_id = $1 order by position";
        let rows = db.query(sql, &[&tenant.0]).await.unwrap();
        db.execute("delete from journal.tenant_heads where tenant_id = $1", &[&tenant.0]).await.unwrap();
        db.execute("delete from journal.stream_events where tenant_id = $1", &[&tenant.0]).await.unwrap();
        let mut edge = RightEdge::empty();
        let mut sequences = std::collections::HashMap::new();
        for (n, row) in rows.iter().enumerate() {
            let (position, kind, stream): (i64, String, Uuid) = (row.get(0), row.get(1), row.get(2));
            let sequence = sequences.entry(stream).and_modify(|s| *s += 1).or_insert(1u64);
            let event_type: String = row.get(4);
            let digest = |column: usize| Sha256::digest(row.get::<_, &str>(column)).into();
            let leaf = Leaf {
                tenant: tenant.0,
                tenant_position: edge.size() + 1,
                stream_type: &kind,
                stream_id: stream,
                sequence: *sequence,
                event_id: row.get(3),
                event_type: &event_type,
                event_version: u32::try_from(row.get::<_, i32>(5)).unwrap(),
                recorded_at_us: row.get::<_, chrono::DateTime<chrono::Utc>>(6).timestamp_micros(),
                payload_sha256: digest(7),
                metadata_sha256: digest(8),
            };
            edge.push(leaf.hash());
            let size = i64::try_from(edge.size()).unwrap();
            let sequence = i64::try_from(*sequence).unwrap();
            let update =
                "update journal.events set tenant_position = $2, sequence = $3, leaf_hash = $4 where position = $1";
            db.execute(update, &[&position, &size, &sequence, &leaf.hash().as_slice()]).await.unwrap();
            let index = "insert into journal.stream_events values ($1, $2, $3, $4, $5)";
            db.execute(index, &[&tenant.0, &kind, &stream, &sequence, &position]).await.unwrap();
            let batch: i64 = row.get(9);
            let last = rows.get(n + 1).is_none_or(|next| next.get::<_, i64>(9) != batch);
            if last {
                let head = "insert into journal.tenant_heads values ($1, $2, $3, $4, $5)";
                db.execute(head, &[&tenant.0, &size, &position, &batch, &edge.to_bytes()]).await.unwrap();
            }
        }
    }
}

pub(crate) trait Findings {
    /// Positions of the findings of a kind.
    fn of(&self, kind: Kind) -> Vec<Option<u64>>;
    fn kinds(&self) -> Vec<Kind>;
    fn one(&self, kind: Kind, tenant: TenantId) -> &Finding;
}

impl Findings for Report {
    fn of(&self, kind: Kind) -> Vec<Option<u64>> {
        self.findings.iter().filter(|f| f.kind == kind).map(|f| f.position).collect()
    }

    fn kinds(&self) -> Vec<Kind> {
        let mut kinds: Vec<_> = self.findings.iter().map(|f| f.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }

    fn one(&self, kind: Kind, tenant: TenantId) -> &Finding {
        let found: Vec<_> = self.findings.iter().filter(|f| f.kind == kind && f.tenant == Some(tenant)).collect();
        assert_eq!(found.len(), 1, "{:#?}", self.findings);
        found[0]
    }
}
