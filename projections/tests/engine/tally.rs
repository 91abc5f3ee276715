//! A read model for tests: counts the events of each stream, so that one applied twice, left out or
//! out of order shows; and refuses some on demand.

use daybook_domain::TenantId;
use daybook_projections::ReadModel;
use daybook_projections::engine::{ApplyError, OpenedEvent};
use daybook_store::journal::NewEvent;
use daybook_store::system::{Real, System};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex};
use uuid::Uuid;

pub(crate) struct Tally;

/// Streams whose events may say anything: as if the fault that refuses them had been repaired.
static FORGIVEN: Mutex<BTreeSet<Uuid>> = Mutex::new(BTreeSet::new());

pub(crate) fn forgive(stream: Uuid) {
    FORGIVEN.lock().unwrap().insert(stream);
}

pub(crate) fn blame(stream: Uuid) {
    FORGIVEN.lock().unwrap().remove(&stream);
}

#[derive(PartialEq)]
enum Stuck {
    Nobody,
    One,
    Freed,
}

/// As if the process had been paused in the middle of a fold: the first one that comes stays until it is freed.
static STUCK: (Mutex<Stuck>, Condvar) = (Mutex::new(Stuck::Nobody), Condvar::new());

fn get_stuck() {
    let mut stuck = STUCK.0.lock().unwrap();
    if *stuck == Stuck::Nobody {
        *stuck = Stuck::One;
        while *stuck == Stuck::One {
            stuck = STUCK.1.wait(stuck).unwrap();
        }
    }
}

pub(crate) fn is_one_stuck() -> bool {
    *STUCK.0.lock().unwrap() == Stuck::One
}

/// Frees whoever is stuck, also when a test fails: a runtime does not end before its threads.
pub(crate) struct FreesTheStuck;

impl Drop for FreesTheStuck {
    fn drop(&mut self) {
        *STUCK.0.lock().unwrap() = Stuck::Freed;
        STUCK.1.notify_all();
    }
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct TallyRow {
    tenant_id: Uuid,
    id: Uuid,
    seen: i64,
    last: i64,
}

impl ReadModel for Tally {
    const NAME: &'static str = "tally";
    const LANES: u16 = 8;
    const KEY: &'static [&'static str] = &["tenant_id", "id"];
    const ID: &'static str = "id";
    const COLUMNS: &'static [&'static str] = &["tenant_id", "id", "seen", "last"];
    type Row = TallyRow;

    fn create_sql(version: u32) -> String {
        let table = Self::table(version);
        format!(
            "create table {table} (tenant_id uuid not null, id uuid not null, seen bigint not null,
                 last bigint not null check (last < 1000000), primary key (tenant_id, id));
             alter table {table} enable row level security; alter table {table} force row level security;
             create policy projector on {table} to daybook_projector using (true) with check (true);
             create policy own_tenant on {table} for select to daybook_reader
                 using (tenant_id = (select nullif(current_setting('app.tenant', true), '')::uuid));
             grant select on {table} to daybook_reader;"
        )
    }

    fn wants(event_type: &str) -> bool {
        event_type.starts_with("test.tally.")
    }

    fn id(event: &OpenedEvent) -> Uuid {
        event.stream_id
    }

    fn fold(row: Option<TallyRow>, event: &OpenedEvent) -> Result<Option<TallyRow>, ApplyError> {
        let refused = |why: &str| Err(ApplyError::Refused(why.into()));
        let fussy = !FORGIVEN.lock().unwrap().contains(&event.stream_id);
        if event.payload.contains("stuck") {
            // The tasks of this thread go on elsewhere.
            tokio::task::block_in_place(get_stuck);
        }
        if event.payload.contains("panic") && fussy {
            panic!("asked for by the test");
        }
        if event.payload.contains("bad") && fussy {
            return refused("a bad event");
        }
        if event.payload.contains("gone") {
            return Ok(None);
        }
        let (tenant_id, id, sequence) = (event.tenant.0, event.stream_id, event.sequence as i64);
        let mut row = row.unwrap_or(TallyRow { tenant_id, id, seen: 0, last: 0 });
        if row.last >= sequence {
            return refused("an event came twice or late");
        }
        row.seen += 1;
        // One that the fold takes and the table does not.
        row.last = if event.payload.contains("huge") && fussy { 1_000_000 } else { sequence };
        Ok(Some(row))
    }
}

pub(crate) fn tally(what: &str) -> NewEvent {
    NewEvent {
        event_id: Real.uuid_v7(),
        event_type: "test.tally.counted".into(),
        event_version: 1,
        payload: format!("{{\"what\":\"{what}\"}}"),
        metadata: "{}".into(),
    }
}

/// Tenants with a lane of their own each, in the order of their lanes.
pub(crate) fn one_tenant_per_lane() -> Vec<TenantId> {
    let lane = |tenant| daybook_projections::engine::lane_of(tenant, Tally::LANES);
    (0..Tally::LANES)
        .map(|wanted| (1u128..).map(|n| TenantId(Uuid::from_u128(n))).find(|t| lane(*t) == wanted).unwrap())
        .collect()
}
