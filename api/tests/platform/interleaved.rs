//! Two who change one password at the same time, each stopped where it matters most.

use crate::harness::{World, credential, platform};
use crate::site::{PASSWORD, PATIENCE, Person, Site, text};
use daybook_api::transport::Caller;
use daybook_domain::{PLATFORM_TENANT, Role};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::task::JoinHandle;
use tokio_postgres::Client;
use uuid::Uuid;

const OTHER: &str = "another horse battery";

/// Stops the first who writes to a table, until it is opened.
struct Gate {
    holder: Client,
}

impl Gate {
    async fn before_insert_into(world: &World, table: &str) -> Self {
        let holder = world.db.superuser().await;
        let sql = format!(
            "create sequence public.passed;
             create function public.gate() returns trigger language plpgsql security definer as $$
             begin
                 if nextval('public.passed') = 1 then perform pg_advisory_xact_lock(4711); end if;
                 return new;
             end $$;
             create trigger gate before insert on {table} for each row execute function public.gate();
             select pg_advisory_lock(4711)"
        );
        holder.batch_execute(&sql).await.unwrap();
        Gate { holder }
    }

    /// Waits until somebody stands before it.
    async fn reached(&self) {
        let sql = "select exists (select from pg_locks where locktype = 'advisory' and not granted
                   and database = (select oid from pg_database where datname = current_database()))";
        let since = std::time::Instant::now();
        while !self.holder.query_one(sql, &[]).await.unwrap().get::<_, bool>(0) {
            assert!(since.elapsed() < PATIENCE, "nobody comes by");
        }
    }

    async fn open(self) {
        self.holder.batch_execute("select pg_advisory_unlock(4711)").await.unwrap();
    }
}

async fn scene() -> (Arc<Site>, Person) {
    let site = Site::new().await;
    let tenant = site.world.tenant("Acme").await;
    let ada = site.person(1, tenant, "MEMBER").await;
    (Arc::new(site), ada)
}

/// Her own change of her password, to [`OTHER`].
fn changes(site: &Arc<Site>, access: &str) -> JoinHandle<Value> {
    let (site, access) = (site.clone(), access.to_owned());
    tokio::spawn(async move {
        let input = json!({ "current": PASSWORD, "new": OTHER });
        site.mutate(&access, "changePassword", input, "tokens { accessToken }").await.body
    })
}

async fn passwords_of(site: &Site, account: Uuid) -> i64 {
    let sql = "select count(*) from identity.passwords where account_id = $1";
    site.world.db.superuser().await.query_one(sql, &[&account]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_change_that_began_before_an_administrators_reset_does_not_undo_it() {
    let (site, ada) = scene().await;
    let tokens = site.login(&ada).await;
    let gate = Gate::before_insert_into(&site.world, "identity.passwords").await;
    // The password of before has been compared and was right.
    let change = changes(&site, text(&tokens, "accessToken"));
    gate.reached().await;
    let reset = json!({ "account": ada.account, "password": "given by the administrator" });
    let done = site.world.mutate(&platform(), "setPassword", reset, "account { id }").await;
    assert_eq!(done["userErrors"], json!([]));
    gate.open().await;
    let answer = change.await.unwrap();
    assert_eq!(answer["errors"][0]["extensions"]["code"], json!("CONFLICT"), "{answer}");
    assert_eq!(site.login_from("192.0.2.1", &ada.email, OTHER).await.status, 401);
    assert_eq!(site.login_from("192.0.2.1", &ada.email, "given by the administrator").await.status, 200);
    assert_eq!(passwords_of(&site, ada.account).await, 1, "what was refused leaves nothing behind");
}

#[tokio::test]
async fn a_change_deletes_nothing_of_one_that_is_still_to_come() {
    let (site, ada) = scene().await;
    let tokens = site.login(&ada).await;
    // An administrator who has done nothing yet: there is no key for where they come from until the event is written.
    let boss = credential(Role::PlatformAdmin, PLATFORM_TENANT, Uuid::from_u128(0xb055));
    let gate = Gate::before_insert_into(&site.world, "keys.subject_keys").await;
    let reset = {
        let (site, account) = (site.clone(), ada.account);
        tokio::spawn(async move {
            let query = "mutation($i: SetPasswordInput!) { setPassword(input: $i) { userErrors { message } } }";
            let input = json!({ "i": { "account": account, "password": "given by the administrator" } });
            let caller = Caller { ip: Some("192.0.2.7".parse().unwrap()), user_agent: None };
            site.world.schema.execute(World::request(&boss, query, input).data(caller)).await
        })
    };
    gate.reached().await;
    assert_eq!(passwords_of(&site, ada.account).await, 2, "its row is written, its event is not");
    let changed = changes(&site, text(&tokens, "accessToken")).await.unwrap();
    assert!(changed["data"]["a"]["tokens"]["accessToken"].is_string(), "{changed}");
    assert_eq!(site.login_from("192.0.2.1", &ada.email, OTHER).await.status, 200);
    gate.open().await;
    let answer = serde_json::to_value(reset.await.unwrap()).unwrap();
    assert_eq!(answer["data"]["setPassword"]["userErrors"], json!([]), "{answer}");
    assert_eq!(site.login_from("192.0.2.1", &ada.email, OTHER).await.status, 401);
    assert_eq!(site.login_from("192.0.2.1", &ada.email, "given by the administrator").await.status, 200);
    assert_eq!(passwords_of(&site, ada.account).await, 1);
}

#[tokio::test]
async fn an_address_that_is_anothers_by_now_changes_nobodys_password() {
    let (site, ada) = scene().await;
    let tokens = site.login(&ada).await;
    let grace = site.person(2, ada.tenant, "MEMBER").await;
    // Both have the same password, and the address is the other's, as if it had moved on between two looks at it.
    let superuser = site.world.db.superuser().await;
    superuser.batch_execute("set session_replication_role = replica").await.unwrap();
    superuser.execute("delete from journal.claims where stream_id = $1", &[&grace.account]).await.unwrap();
    let sql = "update journal.claims set stream_id = $1 where stream_id = $2";
    assert_eq!(superuser.execute(sql, &[&grace.account, &ada.account]).await.unwrap(), 1);
    let answer = changes(&site, text(&tokens, "accessToken")).await.unwrap();
    assert_eq!(answer["errors"][0]["extensions"]["code"], json!("UNAUTHENTICATED"), "{answer}");
    assert_eq!(site.asks(text(&tokens, "accessToken")).await, 200, "her session goes on");
    // Neither's password has changed.
    assert_eq!(site.login_from("192.0.2.1", &ada.email, PASSWORD).await.body["account"], json!(grace.account));
    assert_eq!(passwords_of(&site, ada.account).await + passwords_of(&site, grace.account).await, 2);
}
