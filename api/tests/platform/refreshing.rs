//! Refresh tokens: what each one of a family gets, and when it ends.

use crate::site::{Person, Site, text};
use daybook_app::identity::Identity;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

struct Family {
    site: Arc<Site>,
    ada: Person,
    first: Value,
}

impl Family {
    async fn new() -> Self {
        let mut options = crate::harness::options();
        // How often is another question.
        options.refresh_pace.burst = u32::MAX;
        let site = Site::with(options).await;
        let tenant = site.world.tenant("Acme").await;
        let ada = site.person(1, tenant, "MEMBER").await;
        let first = site.login(&ada).await;
        Family { site: Arc::new(site), ada, first }
    }

    async fn refresh(&self, tokens: &Value) -> (u16, Value) {
        let answer = self.site.post("/auth/refresh", json!({ "refreshToken": tokens["refreshToken"] })).await;
        (answer.status, answer.body)
    }

    /// As if the last exchange had been so many seconds ago.
    async fn age(&self, seconds: i32) {
        let superuser = self.site.world.db.superuser().await;
        superuser.batch_execute("set session_replication_role = replica").await.unwrap();
        for sql in [
            "update identity.refresh_tokens set rotated_at = rotated_at - make_interval(secs => $1)",
            "update journal.events set recorded_at = recorded_at - make_interval(secs => $1)
             where event_type = 'platform.session.refreshed'",
        ] {
            superuser.execute(sql, &[&f64::from(seconds)]).await.unwrap();
        }
    }

    /// Stops the writer before its next event, until what is given back is ended.
    async fn hold_the_writer(&self) -> tokio_postgres::Client {
        let holder = self.site.world.db.superuser().await;
        holder.batch_execute("begin; lock table journal.events in share mode").await.unwrap();
        holder
    }

    /// Waits until a session's refresh token has been exchanged and the writer stands before its event.
    async fn exchanged_and_not_written(&self) {
        let superuser = self.site.world.db.superuser().await;
        let sql = "select (select generation from identity.refresh_tokens) = 1
                   and exists (select from pg_locks l join pg_class c on c.oid = l.relation
                               where c.relname like 'events%' and not l.granted
                                 and l.database = (select oid from pg_database where datname = current_database()))";
        let since = std::time::Instant::now();
        while !superuser.query_one(sql, &[]).await.unwrap().get::<_, bool>(0) {
            assert!(since.elapsed() < crate::site::PATIENCE, "it is not exchanged");
        }
    }

    /// As if the exchange had been so many seconds ago, and nothing written of it since.
    async fn age_exchange(&self, seconds: i32) {
        let superuser = self.site.world.db.superuser().await;
        let sql = "update identity.refresh_tokens set rotated_at = rotated_at - make_interval(secs => $1)";
        superuser.execute(sql, &[&f64::from(seconds)]).await.unwrap();
    }

    async fn ending(&self) -> Option<String> {
        let superuser = self.site.world.db.superuser().await;
        let sql = "select payload from journal.events where event_type = 'platform.session.ended'";
        let rows = superuser.query(sql, &[]).await.unwrap();
        assert!(rows.len() <= 1, "a session ends once");
        rows.first().map(|row| row.get(0))
    }
}

#[tokio::test]
async fn a_family_goes_on_from_token_to_token() {
    let family = Family::new().await;
    let mut tokens = family.first.clone();
    for _ in 0..5 {
        let (status, next) = family.refresh(&tokens).await;
        assert_eq!((status, &next["session"]), (200, &tokens["session"]), "{next}");
        assert_ne!(next["refreshToken"], tokens["refreshToken"]);
        assert_eq!(family.site.asks(text(&next, "accessToken")).await, 200);
        tokens = next;
    }
    let open =
        family.site.graphql(Some(text(&tokens, "accessToken")), "{ mySessions { startedAt usedAt } }", json!({})).await;
    let session = &open.body["data"]["mySessions"][0];
    assert!(text(session, "usedAt") > text(session, "startedAt"), "{session}");
}

#[tokio::test]
async fn a_client_that_lost_the_answer_gets_the_same_again_for_a_while() {
    let family = Family::new().await;
    let (_, second) = family.refresh(&family.first).await;
    let (status, again) = family.refresh(&family.first).await;
    assert_eq!((status, &again["refreshToken"]), (200, &second["refreshToken"]), "{again}");
    family.age(15).await;
    let (status, again) = family.refresh(&family.first).await;
    assert_eq!((status, &again["refreshToken"]), (200, &second["refreshToken"]), "{again}");
    assert_eq!(family.refresh(&second).await.0, 200);
    assert_eq!(family.ending().await, None);
}

#[tokio::test]
async fn a_client_that_asks_twice_at_once_gets_one_successor() {
    let family = Family::new().await;
    let all = futures_util::future::join_all((0..8).map(|_| family.refresh(&family.first))).await;
    for (status, tokens) in &all {
        assert_eq!((*status, &tokens["refreshToken"]), (200, &all[0].1["refreshToken"]), "{tokens}");
    }
    assert_eq!(family.refresh(&all[0].1).await.0, 200);
}

/// Attack 35: each row is how old tokens are, which one comes, and what it gets.
#[tokio::test]
async fn attack_35_a_refresh_token_that_comes_again_ends_the_family() {
    // Generations exchanged so far, the one that comes, seconds since the last exchange, whether it is let go on.
    for (exchanged, comes, seconds, goes_on) in [
        (1, 0, 0, true),
        (1, 0, 15, true),
        (1, 0, 21, false),
        (2, 0, 0, false),
        (2, 1, 0, true),
        (3, 1, 0, false),
        (3, 0, 21, false),
        (3, 3, 21, true),
    ] {
        let family = Family::new().await;
        let mut tokens = vec![family.first.clone()];
        for n in 0..exchanged {
            let next = family.refresh(&tokens[n]).await;
            assert_eq!(next.0, 200);
            tokens.push(next.1);
        }
        family.age(seconds).await;
        let row = format!("{exchanged} exchanged, {comes} comes after {seconds} s");
        let newest = text(&tokens[exchanged], "accessToken");
        assert_eq!(family.refresh(&tokens[comes]).await.0, if goes_on { 200 } else { 401 }, "{row}");
        assert_eq!(family.site.asks(newest).await, if goes_on { 200 } else { 401 }, "{row}");
        let ending = family.ending().await;
        assert_eq!(ending.as_deref(), (!goes_on).then_some(r#"{"how":"reuse_detected"}"#), "{row}");
        if !goes_on {
            // The thief and the owner alike.
            assert_eq!(family.refresh(&tokens[exchanged]).await.0, 401, "{row}");
        }
    }
}

#[tokio::test]
async fn what_was_made_up_ends_nothing() {
    let family = Family::new().await;
    let genuine = text(&family.first, "refreshToken").to_owned();
    let mut changed = genuine.clone().into_bytes();
    let last = changed.len() - 30;
    changed[last] = if changed[last] == b'A' { b'B' } else { b'A' };
    for wrong in [String::from_utf8(changed).unwrap(), "dbr_".into(), genuine[..50].to_owned(), String::new()] {
        let refused = family.site.post("/auth/refresh", json!({ "refreshToken": wrong })).await;
        assert_eq!((refused.status, refused.code()), (401, "UNAUTHENTICATED"));
    }
    assert_eq!(family.refresh(&family.first).await.0, 200);
}

#[tokio::test]
async fn a_session_that_nobody_uses_is_over_and_so_is_one_that_is_too_old() {
    let idle = Family::new().await;
    idle.age(12 * 3_600 + 1).await;
    assert_eq!(idle.refresh(&idle.first).await.0, 401);
    assert_eq!(idle.ending().await.as_deref(), Some(r#"{"how":"expired"}"#));
    assert_eq!(idle.site.asks(text(&idle.first, "accessToken")).await, 401);

    let mut options = crate::harness::options();
    options.session_max = chrono::TimeDelta::seconds(2);
    options.refresh_pace.burst = u32::MAX;
    let site = Site::with(options).await;
    let tenant = site.world.tenant("Acme").await;
    let ada = site.person(1, tenant, "MEMBER").await;
    let tokens = site.login(&ada).await;
    site.refused(text(&tokens, "accessToken")).await;
    // Going on does not make it last.
    let (mut refresh_token, since) = (tokens["refreshToken"].clone(), std::time::Instant::now());
    loop {
        let refreshed = site.post("/auth/refresh", json!({ "refreshToken": refresh_token })).await;
        if refreshed.status == 401 {
            break;
        }
        assert!(since.elapsed() < crate::site::PATIENCE, "it goes on and on");
        refresh_token = refreshed.body["refreshToken"].clone();
    }
}

#[tokio::test]
async fn who_may_not_come_in_any_more_does_not_go_on_either() {
    let family = Family::new().await;
    let (site, ada) = (&family.site, &family.ada);
    let end = json!({ "id": ada.member, "reason": "left" });
    site.world.mutate(&crate::harness::admin(ada.tenant), "endMembership", end, "member { id }").await;
    assert_eq!(family.refresh(&family.first).await.0, 401);
    // Nothing was exchanged: who is let in again goes on where they were.
    let back = json!({ "id": ada.member, "roles": ["VIEWER"] });
    site.world.mutate(&crate::harness::admin(ada.tenant), "rejoinMember", back, "member { id }").await;
    assert_eq!(family.refresh(&family.first).await.0, 200);
}

#[tokio::test]
async fn an_exchange_whose_event_is_written_late_is_no_reuse() {
    let family = Family::new().await;
    let holder = family.hold_the_writer().await;
    let asks = || {
        let (site, token) = (family.site.clone(), family.first["refreshToken"].clone());
        tokio::spawn(async move { site.post("/auth/refresh", json!({ "refreshToken": token })).await })
    };
    let gone = asks();
    family.exchanged_and_not_written().await;
    // Its client gives up, and long after comes once more.
    gone.abort();
    family.age_exchange(60).await;
    let waits = asks();
    holder.batch_execute("commit").await.unwrap();
    let waited = waits.await.unwrap();
    assert_eq!(waited.status, 200, "{}", waited.body);
    // And again when all has been written, a moment ago.
    let (status, again) = family.refresh(&family.first).await;
    assert_eq!((status, &again["refreshToken"]), (200, &waited.body["refreshToken"]), "{again}");
    assert_eq!(family.ending().await, None);
    // The time that was not written counts no longer than any other.
    family.age(21).await;
    assert_eq!(family.refresh(&family.first).await.0, 401);
    assert_eq!(family.ending().await.as_deref(), Some(r#"{"how":"reuse_detected"}"#));
}

#[tokio::test]
async fn an_exchange_whose_event_was_never_written_is_done_again() {
    let family = Family::new().await;
    let (_, second) = family.refresh(&family.first).await;
    // As a crash between the two leaves it: the next exchange without its event.
    let superuser = family.site.world.db.superuser().await;
    superuser
        .batch_execute(
            "create function public.refuse() returns trigger language plpgsql as $$
             begin raise exception 'the disk is full' using errcode = 'disk_full'; end $$;
             create trigger refuse before insert on journal.events for each row
             when (new.event_type = 'platform.session.refreshed') execute function public.refuse()",
        )
        .await
        .unwrap();
    let (status, refused) = family.refresh(&second).await;
    assert!(![200, 401].contains(&status), "{status} {refused}");
    superuser.batch_execute("drop trigger refuse on journal.events").await.unwrap();
    family.age(60).await;
    // The writer may have to take up its work again.
    let since = std::time::Instant::now();
    let (status, third) = loop {
        match family.refresh(&second).await {
            (503 | 504, _) if since.elapsed() < crate::site::PATIENCE => {}
            other => break other,
        }
    };
    assert_eq!(status, 200, "{third}");
    assert_eq!(family.refresh(&third).await.0, 200);
    assert_eq!(family.ending().await, None);
}

#[tokio::test]
async fn a_session_that_is_refreshed_in_a_loop_is_told_to_wait_and_lives() {
    let mut options = crate::harness::options();
    options.refresh_pace = daybook_app::identity::RefreshPace { burst: 3, every: Duration::from_secs(60) };
    let site = Site::with(options).await;
    let tenant = site.world.tenant("Acme").await;
    let ada = site.person(1, tenant, "MEMBER").await;
    let (mut tokens, other) = (site.login(&ada).await, site.login(&ada).await);
    let refresh =
        async |tokens: &Value| site.post("/auth/refresh", json!({ "refreshToken": tokens["refreshToken"] })).await;
    for _ in 0..3 {
        let next = refresh(&tokens).await;
        assert_eq!(next.status, 200, "{}", next.body);
        tokens = next.body;
    }
    let held = refresh(&tokens).await;
    assert_eq!((held.status, held.code()), (429, "RATE_LIMITED"), "{}", held.body);
    let wait: u64 = held.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(site.asks(text(&tokens, "accessToken")).await, 200);
    assert_eq!(refresh(&other).await.status, 200, "another session is another");
}

#[tokio::test]
async fn a_session_of_many_refreshes_is_known_to_a_cold_node_by_its_snapshot() {
    let mut options = crate::harness::options();
    options.refresh_pace.burst = u32::MAX;
    let site = Site::with(options).await;
    let tenant = site.world.tenant("Acme").await;
    let ada = site.person(1, tenant, "MEMBER").await;
    let mut tokens = site.login(&ada).await;
    for _ in 0..daybook_app::SNAPSHOT_EVERY + 20 {
        let next = site.post("/auth/refresh", json!({ "refreshToken": tokens["refreshToken"] })).await;
        assert_eq!(next.status, 200, "{}", next.body);
        tokens = next.body;
    }
    let access = text(&tokens, "accessToken");
    let lets_in = async |cold: &Identity| cold.credential(access).await.map(|credential| credential.is_some());
    // The first that reads it whole keeps a snapshot for all others.
    assert!(lets_in(&site.world.cold(true).await).await.unwrap());
    let superuser = site.world.db.superuser().await;
    let since = std::time::Instant::now();
    let kept: i64 = loop {
        let sql = "select sequence from journal.snapshots where stream_type = 'session'";
        match superuser.query_opt(sql, &[]).await.unwrap() {
            Some(row) => break row.get(0),
            None => assert!(since.elapsed() < crate::site::PATIENCE, "no snapshot"),
        }
    };
    assert!(kept >= i64::try_from(daybook_app::SNAPSHOT_EVERY).unwrap(), "{kept}");
    superuser.batch_execute("set session_replication_role = replica").await.unwrap();
    let sql = "update journal.events set payload = '{}' where stream_type = 'session' and sequence <= $1";
    assert_eq!(superuser.execute(sql, &[&kept]).await.unwrap(), u64::try_from(kept).unwrap());
    assert!(lets_in(&site.world.cold(false).await).await.is_err(), "whoever reads it whole cannot read it");
    let cold = site.world.cold(true).await;
    // Many at once, as after a start: each of the three streams is read once.
    let asked = futures_util::future::join_all((0..50).map(|_| lets_in(&cold))).await;
    assert!(asked.into_iter().all(|let_in| let_in.unwrap()));
    assert_eq!(cold.reads(), 3);
}
