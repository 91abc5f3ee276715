//! Passwords: set, imported, changed; and what guessing gets.

use crate::harness::{options, platform};
use crate::site::{FIXED, PASSWORD, Site, text};
use daybook_domain::{PLATFORM_TENANT, SubjectId};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::time::Duration;
use uuid::Uuid;

#[tokio::test]
async fn an_imported_password_is_known_and_hashed_anew_at_the_first_login() {
    let site = Site::new().await;
    let tenant = site.world.tenant("Acme").await;
    let ada = site.person(1, tenant, "MEMBER").await;
    // Of "U*U", with a cost of 5: a published test vector.
    let bcrypt = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
    let fields = "account { id }";
    let import = json!({ "account": ada.account, "hash": bcrypt });
    let done = site.world.mutate(&platform(), "setPassword", import, fields).await;
    assert_eq!(done["userErrors"], json!([]));
    let login = |password: &str| {
        let body = json!({ "email": ada.email, "password": password, "tenant": tenant });
        site.post("/auth/login", body)
    };
    let stored = async || -> Vec<String> {
        let superuser = site.world.db.superuser().await;
        let sql = "select hash from identity.passwords where account_id = $1";
        superuser.query(sql, &[&ada.account]).await.unwrap().iter().map(|row| row.get(0)).collect()
    };
    assert_eq!(stored().await, [bcrypt]);
    assert_eq!(login(PASSWORD).await.status, 401);
    assert_eq!(login("U*U").await.status, 200);
    let hashes = stored().await;
    assert!(hashes.len() == 1 && hashes[0].starts_with("$argon2id$"), "{hashes:?}");
    assert_eq!(login("U*U").await.status, 200);
    for wrong in
        [json!({ "account": ada.account, "hash": "plain" }), json!({ "account": ada.account, "password": "short" })]
    {
        let refused = site.world.mutate(&platform(), "setPassword", wrong, fields).await;
        assert_eq!(refused["userErrors"].as_array().unwrap().len(), 1, "{refused}");
    }
    let unknown = json!({ "account": Uuid::nil(), "password": PASSWORD });
    let refused = site.world.mutate(&platform(), "setPassword", unknown, fields).await;
    assert_eq!(refused["userErrors"][0]["code"], "ACCOUNT_NOT_REGISTERED");
}

#[tokio::test]
async fn a_password_that_is_set_again_under_the_same_command_is_set_once() {
    let site = Site::new().await;
    let tenant = site.world.tenant("Acme").await;
    let ada = site.person(1, tenant, "MEMBER").await;
    let set = async |password: &str| {
        let input = json!({ "account": ada.account, "password": password, "clientMutationId": Uuid::from_u128(77) });
        site.world.mutate(&platform(), "setPassword", input, "account { id }").await
    };
    assert_eq!(set("first horse battery").await["deduplicated"], json!(false));
    // Whatever it is now: the command has been carried out.
    for password in ["first horse battery", "other horse battery"] {
        assert_eq!(set(password).await["deduplicated"], json!(true));
    }
    assert_eq!(site.login_from("192.0.2.1", &ada.email, "first horse battery").await.status, 200);
    assert_eq!(site.login_from("192.0.2.1", &ada.email, "other horse battery").await.status, 401);
}

#[tokio::test]
async fn no_password_hash_or_token_is_in_an_event() {
    let site = Site::new().await;
    let tenant = site.world.tenant("Acme").await;
    let ada = site.person(1, tenant, "MEMBER").await;
    let tokens = site.login(&ada).await;
    let refreshed = site.post("/auth/refresh", json!({ "refreshToken": tokens["refreshToken"] })).await;
    let superuser = site.world.db.superuser().await;
    let hash: String = superuser.query_one("select hash from identity.passwords", &[]).await.unwrap().get(0);
    let events: Vec<String> = superuser
        .query("select event_type || payload || metadata from journal.events", &[])
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    let all = events.join("\n");
    assert!(all.contains("platform.account.password_set") && all.contains("platform.session.refreshed"));
    let secret = |token: &Value| token.as_str().unwrap()[30..].to_owned();
    for secret in [
        PASSWORD.to_owned(),
        hash.rsplit('$').next().unwrap().to_owned(),
        secret(&tokens["refreshToken"]),
        secret(&refreshed.body["refreshToken"]),
        tokens["accessToken"].as_str().unwrap().rsplit('.').next().unwrap().to_owned(),
    ] {
        assert!(!all.contains(&secret));
    }
    // Nor is any token in the tables.
    let kept: String =
        superuser.query_one("select string_agg(t::text, '') from identity.refresh_tokens t", &[]).await.unwrap().get(0);
    assert!(!kept.contains("dbr_") && kept.len() < 400, "{kept}");
}

#[tokio::test]
async fn a_changed_password_ends_every_session_and_gives_a_new_one() {
    let site = Site::new().await;
    let tenant = site.world.tenant("Acme").await;
    let ada = site.person(1, tenant, "MEMBER").await;
    let (here, there) = (site.login(&ada).await, site.login(&ada).await);
    let change = async |current: &str, new: &str| {
        let input = json!({ "current": current, "new": new });
        site.mutate(text(&here, "accessToken"), "changePassword", input, "tokens { accessToken tenant }").await
    };
    assert_eq!(change("wrong horse battery", "another horse battery").await.code(), "UNAUTHENTICATED");
    assert_eq!(change(PASSWORD, "short").await.body["data"]["a"]["userErrors"][0]["code"], "TOO_SHORT");
    let changed = change(PASSWORD, "another horse battery").await;
    let fresh = &changed.body["data"]["a"]["tokens"];
    assert_eq!(fresh["tenant"], json!(tenant), "{}", changed.body);
    for old in [&here, &there] {
        assert_eq!(site.asks(text(old, "accessToken")).await, 401);
        assert_eq!(site.post("/auth/refresh", json!({ "refreshToken": old["refreshToken"] })).await.status, 401);
    }
    assert_eq!(site.asks(text(fresh, "accessToken")).await, 200);
    assert_eq!(site.login_from("192.0.2.1", &ada.email, PASSWORD).await.status, 401);
    assert_eq!(site.login_from("192.0.2.1", &ada.email, "another horse battery").await.status, 200);
}

/// Attack 28, at the login.
#[tokio::test]
async fn attack_28_an_unknown_address_and_a_wrong_password_are_told_alike() {
    let site = Site::new().await;
    let tenant = site.world.tenant("Acme").await;
    let ada = site.person(1, tenant, "MEMBER").await;
    let gone = site.person(2, tenant, "MEMBER").await;
    let deactivate = json!({ "id": gone.account, "reason": "left" });
    site.world.mutate(&platform(), "deactivateAccount", deactivate, "account { id }").await;
    let without = site.world.account(3).await;
    let mut told = HashSet::new();
    for (email, password) in [
        (ada.email.as_str(), "wrong horse battery"),
        (ada.email.as_str(), ""),
        ("nobody@x.example", PASSWORD),
        ("no address", PASSWORD),
        (gone.email.as_str(), PASSWORD),
        ("ada3@x.example", PASSWORD),
    ] {
        let mut answer = site.login_from("192.0.2.1", email, password).await;
        assert_eq!(answer.status, 401, "{email}");
        answer.body["correlationId"] = json!(null);
        told.insert(answer.body.to_string());
    }
    assert_eq!(told.len(), 1, "{told:?} of {without}");
}

#[tokio::test]
async fn guessing_is_slowed_down_where_it_comes_from_and_locks_nobody_out() {
    let mut options = options();
    // So that a slow machine does not get over the wait while it is looked at.
    options.throttle.account.first = Duration::from_secs(60);
    let site = Site::with(options).await;
    let tenant = site.world.tenant("Acme").await;
    let ada = site.person(1, tenant, "MEMBER").await;
    for _ in 0..5 {
        assert_eq!(site.login_from("192.0.2.66", &ada.email, "wrong horse battery").await.status, 401);
    }
    // Also with the right one now: who waits is not told more than who does not.
    let held = site.login_from("192.0.2.66", &ada.email, PASSWORD).await;
    assert_eq!((held.status, held.code()), (429, "RATE_LIMITED"), "{}", held.body);
    let wait: u64 = held.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    let query = "mutation($e: String!) { login(input: { email: $e, password: \"x\" }) { tokens { session } } }";
    let request = site.http.post(site.url("/graphql")).header("x-forwarded-for", "192.0.2.66");
    let held = Site::sent(request.json(&json!({ "query": query, "variables": { "e": ada.email } }))).await;
    let extensions = &held.body["errors"][0]["extensions"];
    assert!(extensions["code"] == "RATE_LIMITED" && extensions["retryAfterS"].is_u64(), "{}", held.body);
    // Its owner, from elsewhere.
    assert_eq!(site.login_from("198.51.100.7", &ada.email, PASSWORD).await.status, 200);
    // What failed is in the access log, counted, and not in the journal.
    let superuser = site.world.db.superuser().await;
    let since = std::time::Instant::now();
    let sql = "select coalesce(sum(count), 0)::bigint from projection.denied_attempts
               where kind = 'failed_login' and actor = $1";
    while superuser.query_one(sql, &[&ada.account]).await.unwrap().get::<_, i64>(0) != 5 {
        assert!(since.elapsed() < Duration::from_secs(20), "they are not written down");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let query = "{ deniedAttempts(filter: { kind: { eq: FAILED_LOGIN } }) { nodes { action actor target count } } }";
    let shown = site.graphql(Some(FIXED), query, json!({})).await;
    let node = &shown.body["data"]["deniedAttempts"]["nodes"][0];
    assert_eq!((&node["action"], node["target"].as_str().map(str::len)), (&json!("login"), Some(8)), "{}", shown.body);
}

#[tokio::test]
async fn fifty_log_in_at_once_and_nobody_else_waits_for_them() {
    let mut options = options();
    // As dear as in use, so that they really queue; optimised, as in use.
    options.hash = daybook_app::identity::passwords::HashOptions::default();
    let site = Site::with(options).await;
    let tenant = site.world.tenant("Acme").await;
    let mut people = Vec::new();
    for n in 0..50 {
        people.push(site.person(n, tenant, "MEMBER").await);
    }
    let logins = futures_util::future::join_all(people.iter().map(|person| site.login(person)));
    tokio::pin!(logins);
    let mut answered = 0;
    let tokens = loop {
        tokio::select! {
            tokens = &mut logins => break tokens,
            // Another caller, one question after the other, all the while.
            status = site.asks(FIXED) => {
                assert_eq!(status, 200);
                answered += 1;
            }
        }
    };
    assert_eq!(tokens.len(), 50);
    assert!(answered >= 50, "{answered} answers while 50 logged in");
    let sessions: HashSet<&str> = tokens.iter().map(|tokens| text(tokens, "session")).collect();
    assert_eq!(sessions.len(), 50);
}

#[tokio::test]
async fn when_too_many_log_in_at_once_the_rest_is_told_to_come_back() {
    let mut options = options();
    options.hash.memory_kib = 64 * 1_024;
    options.hash.queue_max = 2;
    let site = Site::with(options).await;
    let tries = (0..20).map(|n| {
        let site = &site;
        async move { site.login_from(&format!("192.0.2.{n}"), "nobody@x.example", PASSWORD).await }
    });
    let answers = futures_util::future::join_all(tries).await;
    let busy: Vec<_> = answers.iter().filter(|answer| answer.status == 503).collect();
    assert!(!busy.is_empty());
    for answer in &answers {
        assert!([401, 503].contains(&answer.status), "{}", answer.body);
    }
    assert!(busy.iter().all(|answer| answer.code() == "UNAVAILABLE" && answer.headers.contains_key("retry-after")));
}

/// Attack 41, at the login.
#[tokio::test]
async fn attack_41_what_is_refused_at_the_login_is_not_repeated() {
    let site = Site::new().await;
    let secret = "hunter2-hunter2";
    let email = "ada@x.example";
    for (path, body, status) in [
        ("/auth/login", json!({ "email": email, "password": [secret] }).to_string(), 400),
        ("/auth/login", json!({ "email": email, "password": "x", "tenant": secret }).to_string(), 400),
        ("/auth/login", format!("{{\"email\":\"{email}\",\"password\":\"x\",\"{secret}\":1}}"), 400),
        ("/auth/login", format!("{{\"email\":\"{email}\",\"password\":\"{secret}\""), 400),
        ("/auth/login", json!({ "email": secret, "password": secret }).to_string(), 401),
        ("/auth/refresh", json!({ "refreshToken": secret }).to_string(), 401),
        ("/auth/logout", json!({ "refreshToken": secret }).to_string(), 401),
    ] {
        let request = site.http.post(site.url(path)).header("content-type", "application/json").body(body);
        let refused = Site::sent(request).await;
        assert_eq!(refused.status, status, "{path}: {}", refused.body);
        assert!(!refused.body.to_string().contains(secret), "{path}: {}", refused.body);
        assert!(!format!("{:?}", refused.headers).contains(secret), "{path}");
    }
}

/// Attack 26, of strangers.
#[tokio::test]
async fn attack_26_a_stranger_sends_no_large_body() {
    let site = Site::new().await;
    let login = |padding: usize| {
        let query = format!(
            "mutation {{ login(input: {{ email: \"a@x.example\", password: \"x\" }}) {{ __typename }} }}{}",
            " ".repeat(padding)
        );
        site.http.post(site.url("/graphql")).json(&json!({ "query": query }))
    };
    let large = Site::sent(login(20_000)).await;
    assert_eq!((large.status, large.code()), (413, "LIMIT_EXCEEDED"), "{}", large.body);
    let small = Site::sent(login(1_000)).await;
    assert_eq!(small.code(), "UNAUTHENTICATED", "{}", small.body);
}

#[tokio::test]
async fn of_a_person_who_was_erased_neither_password_nor_refresh_token_is_left() {
    let site = Site::new().await;
    let tenant = site.world.tenant("Acme").await;
    let (ada, grace) = (site.person(1, tenant, "MEMBER").await, site.person(2, tenant, "MEMBER").await);
    let (first, second, graces) = (site.login(&ada).await, site.login(&ada).await, site.login(&grace).await);
    let superuser = site.world.db.superuser().await;
    let left = async || -> (Vec<Uuid>, Vec<Uuid>) {
        let ids = async |sql: &str| superuser.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
        let passwords = ids("select account_id from identity.passwords").await;
        (passwords, ids("select session_id from identity.refresh_tokens").await)
    };
    let (passwords, tokens) = left().await;
    assert_eq!((passwords.len(), tokens.len()), (2, 3));
    let keys = site.world.parts.audit.sealer.keys();
    keys.erase(PLATFORM_TENANT, SubjectId(ada.account)).await.unwrap();
    let of_grace = (vec![grace.account], vec![text(&graces, "session").parse().unwrap()]);
    assert_eq!(left().await, of_grace);
    for tokens in [&first, &second] {
        let refused = site.post("/auth/refresh", json!({ "refreshToken": tokens["refreshToken"] })).await;
        assert_eq!(refused.status, 401, "{}", refused.body);
    }
    assert_eq!(site.login_from("192.0.2.1", &ada.email, PASSWORD).await.status, 401);
    assert_eq!(site.post("/auth/refresh", json!({ "refreshToken": graces["refreshToken"] })).await.status, 200);
    // What a restored dump brings back goes with the list.
    let sql = "insert into identity.passwords values ($1, gen_random_uuid(), 'x', now())";
    superuser.execute(sql, &[&ada.account]).await.unwrap();
    keys.apply_erasure_list().await.unwrap();
    assert_eq!(left().await, of_grace);
}

/// Attack 28, by the work that is done: no clock is asked.
#[tokio::test]
async fn attack_28_an_unknown_address_costs_the_hashing_of_a_wrong_password() {
    let site = Site::new().await;
    let tenant = site.world.tenant("Acme").await;
    let ada = site.person(1, tenant, "MEMBER").await;
    let gone = site.person(2, tenant, "MEMBER").await;
    let deactivate = json!({ "id": gone.account, "reason": "left" });
    site.world.mutate(&platform(), "deactivateAccount", deactivate, "account { id }").await;
    site.world.account(3).await;
    let cost = async |email: &str, password: &str| {
        let before = site.world.parts.identity.hashed();
        assert_eq!(site.login_from("192.0.2.1", email, password).await.status, 401, "{email}");
        let after = site.world.parts.identity.hashed();
        (after.runs - before.runs, after.kib - before.kib)
    };
    let wrong = cost(&ada.email, "wrong horse battery").await;
    // One run, over the memory of the options, once.
    assert_eq!(wrong, (1, 64));
    for (whose, email) in [
        ("nobody's", "nobody@x.example"),
        ("no address", "no address"),
        ("a deactivated account's", gone.email.as_str()),
        ("an account's without a password", "ada3@x.example"),
    ] {
        assert_eq!(cost(email, "wrong horse battery").await, wrong, "{whose}");
    }
    // Of what nobody's password can be, nothing is hashed for anybody.
    let endless = "x".repeat(2_000);
    assert_eq!(cost("nobody@x.example", &endless).await, cost(&ada.email, &endless).await);
}
