//! Every table, by the catalogue of a migrated database that the engine has made its read models in: what holds rows of tenants is
//! guarded, and nothing is read of it without a tenant.
//!
//! A new table fails here until it is decided which it is.

use crate::harness::{World, admin, platform};
use crate::rules::allow;
use chrono::TimeDelta;
use daybook_store::database::Role;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// Tables that are not guarded by rows, and why not. Names without the version of a read model.
const NOT_BY_ROW: &[(&str, &str)] = &[
    ("journal.identity", "one row: the name of this journal"),
    ("journal.batches", "numbers and positions of batches; of no tenant"),
    ("journal.lease", "who writes; only the writer may read it"),
    ("journal.claims", "hashes under keys that no database has; only the writer may read it"),
    ("journal.snapshots", "a cache of sealed states; only the writer may read it"),
    ("keys.tenant_keys", "wrapped keys; the reader may not read it"),
    ("keys.subject_keys", "wrapped keys; the reader may not read it"),
    ("identity.passwords", "hashes; only the writer may read it"),
    ("identity.refresh_tokens", "hashes; only the writer may read it"),
    ("identity.api_keys", "hashes; only the writer may read it"),
    ("projection.checkpoints", "how far read models are; of no tenant"),
    ("projection.live", "which version of a read model answers"),
    ("projection.versions", "versions of read models"),
    ("projection.life", "lives of the server"),
    ("projection.relays", "how far the relay is; the reader may not read it"),
    ("projection.skips", "events that operators left out; the reader may not read it"),
    ("projection.requests", "what operators asked of read models; the reader may not read it"),
    ("journal.migrations", "which migrations have run"),
];

/// Guarded tables whose rows are told by another setting than the tenant.
const BY_ACCOUNT: &[&str] = &["read.account_tenants"];
/// Guarded tables that some rows of every tenant show in when the platform asks.
const BY_PLATFORM: &[&str] = &["read.tenants"];
/// Guarded tables of which every tenant sees the platform's rows besides its own.
const OF_PLATFORM: &[&str] = &["read.module_switches"];
/// Guarded tables that stay empty here: nothing that is asked for fills them.
const EMPTY: &[&str] = &["projection.parked", "projection.denied_attempts", "projection.purged"];

const RELATIONS: &str = "
    select n.nspname || '.' || c.relname as name, c.relkind::text as kind, c.relispartition as is_partition,
           c.relrowsecurity and c.relforcerowsecurity as guarded,
           coalesce('security_invoker=true' = any (c.reloptions), false) as invoker,
           has_schema_privilege('daybook_reader', n.oid, 'usage')
               and has_any_column_privilege('daybook_reader', c.oid, 'select') as read_by_reader,
           exists (select from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
                   and a.attname ~ 'tenant' and a.atttypid = 'uuid'::regtype) as of_tenants,
           coalesce((select array_agg(coalesce(pg_get_expr(p.polqual, p.polrelid), 'true'))
                     from pg_policy p where p.polrelid = c.oid
                     and ('daybook_reader'::regrole = any (p.polroles) or 0 = any (p.polroles))), '{}') as policies
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname not in ('pg_catalog', 'information_schema')
      and n.nspname not like 'pg_toast%'
    order by 1";

struct Relation {
    name: String,
    kind: String,
    is_partition: bool,
    guarded: bool,
    invoker: bool,
    read_by_reader: bool,
    of_tenants: bool,
    policies: Vec<String>,
}

impl Relation {
    /// Its name without the version of a read model.
    fn plain(&self) -> &str {
        match self.name.rsplit_once("_v") {
            Some((plain, version)) if version.bytes().all(|byte| byte.is_ascii_digit()) => plain,
            _ => &self.name,
        }
    }
}

async fn relations(w: &World) -> Vec<Relation> {
    let rows = w.db.superuser().await.query(RELATIONS, &[]).await.unwrap();
    let relations = rows.iter().map(|row| Relation {
        name: row.get("name"),
        kind: row.get("kind"),
        is_partition: row.get("is_partition"),
        guarded: row.get("guarded"),
        invoker: row.get("invoker"),
        read_by_reader: row.get("read_by_reader"),
        of_tenants: row.get("of_tenants"),
        policies: row.get("policies"),
    });
    relations.collect()
}

/// Two tenants with something in every read model.
async fn world() -> (World, Uuid, Uuid) {
    let w = World::new().await;
    let (one, other) = (w.tenant("One").await, w.tenant("Other").await);
    for (n, (tenant, neighbour)) in [(one, other), (other, one)].into_iter().enumerate() {
        let boss = admin(tenant);
        let account = w.account(n).await;
        let member = w.member(&boss, account).await;
        let module = w.module(&boss, "sizing").await;
        w.grant(&boss, member, module, "reader").await;
        let off = json!({ "scope": "MEMBER", "module": module, "member": member, "active": false, "reason": "new" });
        let off = w.mutate(&boss, "setModuleActivation", off, "active").await;
        assert_eq!(off["userErrors"], json!([]), "{off}");
        w.role(&boss, "auditor", &[allow("audit.read")], &[]).await;
        let input = json!({ "name": "Meter reader", "roles": ["MEMBER"] });
        w.mutate(&boss, "registerServiceAccount", input, "serviceAccount { id }").await;
        let until = w.parts.system.utc() + TimeDelta::days(1);
        let consent = json!({ "provider": neighbour, "actions": ["READ_DEVICES"], "until": until, "reason": "advice" });
        w.mutate(&boss, "grantConsent", consent, "consent { id }").await;
        let device = w.device(&boss, "Roof1", "Roof").await;
        let record = "mutation($r: [ReadingInput!]!) { recordReadings(input: { rows: $r }) { accepted } }";
        let row = json!([{ "device": device, "time": "2025-01-01T00:00:00Z", "value": "7", "unit": "WH" }]);
        assert_eq!(w.data(&boss, record, json!({ "r": row })).await["recordReadings"]["accepted"], "1");
        // A session, in the platform's tenant.
        let set = json!({ "account": account, "password": crate::site::PASSWORD });
        w.mutate(&platform(), "setPassword", set, "account { id }").await;
        let login =
            json!({ "email": format!("ada{n}@x.example"), "password": crate::site::PASSWORD, "tenant": tenant });
        let query = "mutation($i: LoginInput!) { login(input: $i) { tokens { session } } }";
        let variables = async_graphql::Variables::from_json(json!({ "i": login }));
        let answer = w.schema.execute(async_graphql::Request::new(query).variables(variables)).await;
        assert!(answer.errors.is_empty(), "{answer:?}");
    }
    let off = json!({ "scope": "PLATFORM", "key": "planning", "active": false, "reason": "broken" });
    let off = w.mutate(&platform(), "setModuleActivation", off, "active").await;
    assert_eq!(off["userErrors"], json!([]), "{off}");
    // Everything shows.
    let durable = w.parts.executor.journal().durable().borrow().position;
    for model in daybook_projections::read_models() {
        w.parts.reads.wait(&[model.name()], daybook_projections::engine::Lanes::All, durable).await.unwrap();
    }
    (w, one, other)
}

/// Whether a table is guarded, or a decision that it need not be.
#[tokio::test]
async fn every_table_with_rows_of_tenants_is_guarded_and_every_other_one_is_decided_on() {
    let (w, ..) = world().await;
    let relations = relations(&w).await;
    let decided: BTreeMap<&str, &str> = NOT_BY_ROW.iter().copied().collect();
    assert_eq!(decided.len(), NOT_BY_ROW.len(), "none is listed twice");
    let mut seen = BTreeSet::new();
    let mut guarded = BTreeSet::new();
    for relation in &relations {
        let name = relation.name.as_str();
        if decided.contains_key(relation.plain()) {
            seen.insert(relation.plain());
            // Nothing of a tenant is left to the reader's good will.
            assert!(!(relation.of_tenants && relation.read_by_reader), "{name} has rows of tenants, and is read");
            continue;
        }
        match relation.kind.as_str() {
            "v" => assert!(relation.invoker, "{name}: a view must be a security_invoker"),
            "r" | "p" => {
                assert!(relation.guarded, "{name}: enable and force row level security, or list it with a reason");
                for policy in &relation.policies {
                    let plain = relation.plain();
                    let by = |setting: &str| policy.contains(&format!("current_setting('app.{setting}'"));
                    let allowed = by("tenant")
                        || by("account") && BY_ACCOUNT.contains(&plain)
                        || by("platform") && BY_PLATFORM.contains(&plain);
                    assert!(allowed, "{name}: what the reader sees must follow from its tenant: {policy}");
                }
                if relation.is_partition {
                    assert!(!relation.read_by_reader, "{name}: a partition must not be read past its table");
                } else {
                    assert!(relation.of_tenants, "{name} has no column of its tenant: list it with a reason");
                    assert!(!relation.policies.is_empty() || !relation.read_by_reader, "{name}: no policy");
                    guarded.insert(relation.plain());
                }
            }
            other => panic!("{name}: what is a relation of kind {other} to be guarded by?"),
        }
    }
    let gone: Vec<_> = decided.keys().filter(|name| !seen.contains(*name)).collect();
    assert!(gone.is_empty(), "not there any more: {gone:?}");
    // Every read model is among them.
    for model in daybook_projections::read_models() {
        assert!(guarded.iter().any(|name| name.starts_with(&format!("read.{}", model.name()))), "{}", model.name());
    }
    assert!(guarded.contains("journal.events") && guarded.contains("projection.changes"), "{guarded:?}");
}

#[tokio::test]
async fn the_readers_role_is_bound_by_the_policies() {
    let (w, ..) = world().await;
    let client = w.db.superuser().await;
    for role in ["daybook_reader", "daybook_writer", "daybook_projector"] {
        let row = client
            .query_one("select rolsuper or rolbypassrls or rolcreaterole from pg_roles where rolname = $1", &[&role])
            .await
            .unwrap();
        assert!(!row.get::<_, bool>(0), "{role} is bound by no policy");
    }
    let count = async |sql: &str| client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0);
    // An owner is bound where it is forced; this one owns nothing, belongs to nobody, and runs nothing in another's name.
    let owned = "select count(*) from pg_class where relowner = 'daybook_reader'::regrole";
    assert_eq!(count(owned).await, 0);
    let member = "select count(*) from pg_auth_members where member = 'daybook_reader'::regrole";
    assert_eq!(count(member).await, 0);
    let definer = "select count(*) from pg_proc p join pg_namespace n on n.oid = p.pronamespace
         where p.prosecdef and n.nspname not in ('pg_catalog', 'information_schema')
           and has_schema_privilege('daybook_reader', n.oid, 'usage')
           and has_function_privilege('daybook_reader', p.oid, 'execute')";
    assert_eq!(count(definer).await, 0);
}

#[tokio::test]
async fn without_a_tenant_no_query_finds_a_row_and_with_one_only_its_own() {
    let (w, one, other) = world().await;
    let owner = w.db.superuser().await;
    let reader = w.db.database().connect(Role::Reader, "").await.unwrap();
    let mut looked_at = 0;
    for relation in relations(&w).await {
        let decided = NOT_BY_ROW.iter().any(|(name, _)| *name == relation.plain());
        if decided || !relation.read_by_reader || relation.is_partition {
            continue;
        }
        let count = format!("select count(*) from {}", relation.name);
        let all: i64 = owner.query_one(&count, &[]).await.unwrap().get(0);
        assert!(all > 0 || EMPTY.contains(&relation.plain()), "{}: nothing in it proves nothing", relation.name);
        let seen = async |setting: &str| -> i64 {
            reader.batch_execute(&format!("begin; {setting}")).await.unwrap();
            let seen = reader.query_one(&count, &[]).await.unwrap().get(0);
            reader.batch_execute("commit").await.unwrap();
            seen
        };
        assert_eq!(seen("").await, 0, "{} without a tenant", relation.name);
        assert_eq!(seen("set local app.tenant = ''").await, 0, "{} of no tenant", relation.name);
        let nobody = format!("set local app.tenant = '{}'", Uuid::from_u128(7));
        let is_platforms = OF_PLATFORM.contains(&relation.plain());
        let of_all = i64::from(is_platforms);
        assert_eq!(seen(&nobody).await, of_all, "{} of a tenant that is not there", relation.name);
        if relation.kind == "v" {
            continue;
        }
        for tenant in [one, other] {
            reader.batch_execute(&format!("begin; set local app.tenant = '{tenant}'")).await.unwrap();
            let rows = reader.query(&format!("select to_jsonb(t)::text from {} t", relation.name), &[]).await.unwrap();
            reader.batch_execute("commit").await.unwrap();
            for row in rows {
                let row: Value = serde_json::from_str(row.get(0)).unwrap();
                // Of a consent, either side is.
                let sides = [&row["tenant_id"], &row["provider_id"]];
                let of_platform = is_platforms && row["tenant_id"] == json!(daybook_domain::PLATFORM_TENANT);
                assert!(of_platform || sides.contains(&&json!(tenant)), "{}: {row}", relation.name);
            }
        }
        looked_at += 1;
    }
    assert!(looked_at >= 15, "{looked_at} tables");
}

/// Who asks for rows of more than one tenant: each place is known, and asks for a permission of the platform first, or for
/// what is one's own.
#[test]
fn who_reads_across_tenants_is_listed() {
    fn places(directory: &std::path::Path, found: &mut BTreeMap<String, usize>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                places(&path, found);
            } else {
                let text = std::fs::read_to_string(&path).unwrap();
                // Not the ending of another name.
                let named = |at: usize| text[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_');
                let asked =
                    ["Scope::Platform", "Scope::Account("].into_iter().flat_map(|scope| text.match_indices(scope));
                let count = asked.filter(|(at, _)| !named(*at)).count();
                if count > 0 {
                    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/src/");
                    found.insert(path.to_str().unwrap().trim_start_matches(root).to_owned(), count);
                }
            }
        }
    }
    let mut found = BTreeMap::new();
    places(std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut found);
    let expected = [
        // The page of all tenants and its count: `tenant.list`.
        ("graphql/platform/tenants.rs", 2),
        // The memberships of an account: one's own, or below an account that one may read.
        ("graphql/platform/sessions.rs", 1),
    ];
    assert_eq!(found, expected.map(|(file, count)| (file.to_owned(), count)).into());
}
