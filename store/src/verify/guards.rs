//! Whether the database still refuses to change the journal.

use super::report::{Finding, Kind, Report};
use crate::database::DatabaseError;
use tokio_postgres::Client;

/// What made the guards; the functions in the database must be the ones that stand there.
const MIGRATION: &str = include_str!("../../../migrations/V1__journal.sql");

// Bits of pg_trigger.tgtype.
const ROW: i16 = 1;
const BEFORE: i16 = 2;
const DELETE: i16 = 8;
const UPDATE: i16 = 16;
const TRUNCATE: i16 = 32;

/// Table, trigger, function, kind of trigger. The partitions of events are added to these.
const GUARDS: [(&str, &str, &str, i16); 7] = [
    ("events", "append_only", "refuse_change", BEFORE | UPDATE | DELETE | TRUNCATE),
    ("stream_events", "append_only", "refuse_change", BEFORE | UPDATE | DELETE | TRUNCATE),
    ("batches", "append_only", "refuse_change", BEFORE | UPDATE | DELETE | TRUNCATE),
    ("tenant_heads", "append_only", "refuse_change", BEFORE | UPDATE | DELETE | TRUNCATE),
    ("identity", "append_only", "refuse_change", BEFORE | DELETE | TRUNCATE),
    ("commands", "guarded", "guard_command", ROW | BEFORE | UPDATE | DELETE),
    ("commands", "append_only", "refuse_change", BEFORE | TRUNCATE),
];

// A trigger counts when it is on (origin or always), has no condition and no list of columns.
const STANDING: &str = "
select c.relname::text, t.tgname::text, p.proname::text, t.tgtype, t.tgenabled in ('O', 'A') as is_on,
       t.tgqual is null and t.tgattr::text = '' as is_whole
from pg_trigger t
join pg_class c on c.oid = t.tgrelid and c.relnamespace = 'journal'::regnamespace
join pg_proc p on p.oid = t.tgfoid and p.pronamespace = 'journal'::regnamespace
where not t.tgisinternal";

const PARTITIONS: &str = "
select c.relname::text, pg_get_expr(c.relpartbound, c.oid)
from pg_inherits i join pg_class c on c.oid = i.inhrelid
where i.inhparent = 'journal.events'::regclass order by c.relname";

const FUNCTIONS: &str = "
select proname::text, prosrc from pg_proc
where pronamespace = 'journal'::regnamespace and proname in ('refuse_change', 'guard_command') order by proname";

/// A session that replicates does not fire ordinary triggers; nobody here may do that by default.
const REPLICA: &str = "
select coalesce((select rolname from pg_roles r where r.oid = s.setrole)::text, 'every role')
from pg_db_role_setting s
where exists (select from unnest(s.setconfig) c where c like 'session_replication_role=%' and c not like '%=origin')
  and s.setdatabase in (0, (select oid from pg_database where datname = current_database()))";

pub(super) async fn check(session: &Client, report: &mut Report) -> Result<(), DatabaseError> {
    let query = DatabaseError::Query;
    let partitions = session.query(PARTITIONS, &[]).await.map_err(query)?;
    let standing = session.query(STANDING, &[]).await.map_err(query)?;
    let partition = |row: &tokio_postgres::Row| {
        (row.get::<_, String>(0), "append_only", "refuse_change", GUARDS[0].3, Some(first_of(row.get(1))))
    };
    let needed =
        GUARDS.iter().map(|(t, n, f, k)| ((*t).to_owned(), *n, *f, *k, None)).chain(partitions.iter().map(partition));
    for (table, name, function, kind, from) in needed {
        let found = standing.iter().find(|row| row.get::<_, &str>(0) == table && row.get::<_, &str>(1) == name);
        let fault = match found {
            None => "is missing",
            Some(row) if row.get::<_, &str>(2) != function => "calls another function",
            Some(row) if !row.get::<_, bool>(4) => "is switched off",
            Some(row) if row.get::<_, i16>(3) & kind != kind || (row.get::<_, i16>(3) ^ kind) & ROW != 0 => {
                "does not see every change"
            }
            Some(row) if !row.get::<_, bool>(5) => "has a condition",
            Some(_) => continue,
        };
        let finding = Finding::new(
            Kind::Guard,
            format!("the trigger {name} on journal.{table} {fault}: changes are not refused there"),
        );
        report.found(Finding { position: from.flatten(), ..finding });
    }
    for row in session.query(FUNCTIONS, &[]).await.map_err(query)? {
        let (name, source): (String, String) = (row.get(0), row.get(1));
        if !MIGRATION
            .contains(&format!("create function journal.{name}() returns trigger language plpgsql as $${source}$$;"))
        {
            report.found(Finding::new(
                Kind::Guard,
                format!("the function journal.{name} is not the one of the migration"),
            ));
        }
    }
    for row in session.query(REPLICA, &[]).await.map_err(query)? {
        let role: String = row.get(0);
        report.found(Finding::new(
            Kind::Guard,
            format!("session_replication_role is set for {role}: its sessions pass by the triggers"),
        ));
    }
    Ok(())
}

/// The first position of a partition, from `FOR VALUES FROM ('1000') TO ('2000')`.
fn first_of(bound: Option<&str>) -> Option<u64> {
    let first = bound?.split('\'').nth(1)?.parse::<u64>().ok()?;
    Some(first.max(1))
}
