//! Snapshots as the database keeps them: one for a stream, the latest.
//!
//! Refuses to vouch for any: what is read here may be of another shape, damaged, or of an event that a crash has taken
//! back. Who uses one compares its event with the journal's.

use crate::combine::{Combiner, Question};
use crate::database::{DatabaseError, Pool};
use crate::journal::StreamKey;
use crate::journal::recorded::{signed, unsigned};
use uuid::Uuid;

/// A state as it is stored, personal fields sealed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// Version of the stream in this state.
    pub sequence: u64,
    /// The event at that sequence.
    pub event_id: Uuid,
    pub shape: u32,
    /// Authenticated with the sealed fields.
    pub id: Uuid,
    /// Whose data is sealed in it.
    pub subjects: Vec<Uuid>,
    pub state: String,
}

#[derive(Clone)]
struct Wanted(StreamKey);

impl Question for Wanted {
    type Answer = Option<Snapshot>;

    async fn ask(pool: &Pool, questions: &[Self]) -> Result<Vec<Self::Answer>, DatabaseError> {
        let tenants: Vec<Uuid> = questions.iter().map(|q| q.0.tenant.0).collect();
        let kinds: Vec<&str> = questions.iter().map(|q| q.0.stream.kind).collect();
        let ids: Vec<Uuid> = questions.iter().map(|q| q.0.stream.id).collect();
        let rows = pool
            .query(
                "select q.n, s.sequence, s.event_id, s.shape, s.snapshot_id, s.subjects, s.state
                 from (select generate_series(1, array_length($1::uuid[], 1)), unnest($1::uuid[]), unnest($2::text[]),
                              unnest($3::uuid[])) q(n, tenant, kind, id)
                 cross join lateral (select * from journal.snapshots
                                     where tenant_id = q.tenant and stream_type = q.kind and stream_id = q.id limit 1) s",
                &[&tenants, &kinds, &ids],
            )
            .await?;
        let mut found: Vec<Self::Answer> = questions.iter().map(|_| None).collect();
        for row in rows {
            let number = usize::try_from(row.get::<_, i32>(0)).unwrap_or_default();
            let Some(place) = number.checked_sub(1).and_then(|n| found.get_mut(n)) else { continue };
            *place = Some(Snapshot {
                sequence: unsigned(row.get(1)),
                event_id: row.get(2),
                shape: u32::try_from(row.get::<_, i32>(3)).unwrap_or_default(),
                id: row.get(4),
                subjects: row.get(5),
                state: row.get(6),
            });
        }
        Ok(found)
    }
}

/// The table of snapshots.
pub struct Snapshots {
    pool: Pool,
    look_ups: Combiner<Wanted>,
}

impl Snapshots {
    /// `pool` must be one of the writer role.
    pub fn new(pool: Pool) -> Self {
        Snapshots { look_ups: Combiner::new(pool.clone()), pool }
    }

    /// The snapshot of a stream, if there is one.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn find(&self, key: &StreamKey) -> Result<Option<Snapshot>, DatabaseError> {
        self.look_ups.ask(Wanted(key.clone())).await
    }

    /// Puts a snapshot in the place of an older one, or of one of another shape. One that holds data of a person who
    /// was erased meanwhile is not kept.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn keep(&self, key: &StreamKey, snapshot: &Snapshot) -> Result<(), DatabaseError> {
        // The keys are locked: an erasure on its way either is seen here, or sees this snapshot and deletes it.
        let sql = "with living as materialized (
                       select count(*) as n from (
                           select from keys.subject_keys
                           where tenant_id = $1 and subject_id = any($8::uuid[]) and wrapped is not null for update) k
                   )
                   insert into journal.snapshots
                       (tenant_id, stream_type, stream_id, sequence, event_id, shape, snapshot_id, subjects, state)
                   select $1, $2, $3, $4, $5, $6, $7, $8, $9 from living where n = cardinality($8::uuid[])
                   on conflict (tenant_id, stream_type, stream_id) do update set
                       sequence = excluded.sequence, event_id = excluded.event_id, shape = excluded.shape,
                       snapshot_id = excluded.snapshot_id, subjects = excluded.subjects, state = excluded.state
                   where snapshots.sequence <= excluded.sequence or snapshots.shape <> excluded.shape";
        let shape = i32::try_from(snapshot.shape).unwrap_or(i32::MAX);
        self.pool
            .query(
                sql,
                &[
                    &key.tenant.0,
                    &key.stream.kind,
                    &key.stream.id,
                    &signed(snapshot.sequence),
                    &snapshot.event_id,
                    &shape,
                    &snapshot.id,
                    &snapshot.subjects,
                    &snapshot.state,
                ],
            )
            .await?;
        Ok(())
    }

    /// Removes a snapshot that proved to be useless, unless another has taken its place.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn forget(&self, key: &StreamKey, id: Uuid) -> Result<(), DatabaseError> {
        let sql = "delete from journal.snapshots
                   where tenant_id = $1 and stream_type = $2 and stream_id = $3 and snapshot_id = $4";
        self.pool.query(sql, &[&key.tenant.0, &key.stream.kind, &key.stream.id, &id]).await?;
        Ok(())
    }
}
