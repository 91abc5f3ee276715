//! Sessions as clients meet them: begun, moved, looked at, ended; and what must not work.

use crate::harness::{admin, platform};
use crate::site::{FIXED, PASSWORD, Site, text};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use uuid::Uuid;

const ME: &str = "{ me { actor kind tenant platform session roles account { name email platformRoles }
    memberships { tenant roles } modules { role module { key } } } }";

#[tokio::test]
async fn a_person_logs_in_sees_who_they_are_and_logs_out() {
    let site = Site::new().await;
    let tenant = site.world.tenant("Acme").await;
    let ada = site.person(1, tenant, "MEMBER").await;
    let module = site.world.module(&admin(tenant), "sizing").await;
    site.world.grant(&admin(tenant), ada.member, module, "planner").await;
    let tokens = site.login(&ada).await;
    assert_eq!((&tokens["account"], &tokens["tenant"]), (&json!(ada.account), &json!(tenant)));
    let access = text(&tokens, "accessToken");
    let me = site.graphql(Some(access), ME, json!({})).await;
    let expected = json!({ "data": { "me": {
        "actor": ada.account, "kind": "ACCOUNT", "tenant": tenant, "platform": false, "session": tokens["session"],
        "roles": ["member"], "account": { "name": "Ada 1", "email": "ada1@x.example", "platformRoles": [] },
        "memberships": [{ "tenant": tenant, "roles": ["member"] }],
        "modules": [{ "role": "planner", "module": { "key": "sizing" } }],
    } } });
    assert_eq!(me.body, expected);
    let by_http = Site::sent(site.http.get(site.url("/auth/me")).bearer_auth(access)).await;
    assert_eq!((by_http.status, &by_http.body["account"]["email"]), (200, &json!("ada1@x.example")));
    let sessions = site.graphql(Some(access), "{ mySessions { id current tenant method } }", json!({})).await;
    let expected = json!([{ "id": tokens["session"], "current": true, "tenant": tenant, "method": "password" }]);
    assert_eq!(sessions.body["data"]["mySessions"], expected);
    // Where it came from is in the metadata of the session's event, and nowhere else.
    let out = site.graphql(Some(access), "mutation { logout { ended } }", json!({})).await;
    assert_eq!(out.body["data"]["logout"]["ended"], json!(true), "{}", out.body);
    assert_eq!(site.asks(access).await, 401);
    let refreshed = site.post("/auth/refresh", json!({ "refreshToken": tokens["refreshToken"] })).await;
    assert_eq!((refreshed.status, refreshed.code()), (401, "UNAUTHENTICATED"));
}

#[tokio::test]
async fn a_session_moves_to_another_tenant_and_the_token_of_before_is_over() {
    let site = Site::new().await;
    let (acme, other) = (site.world.tenant("Acme").await, site.world.tenant("Other").await);
    let ada = site.person(1, acme, "VIEWER").await;
    let foreign = site.world.tenant("Foreign").await;
    let joined = json!({ "account": ada.account, "roles": ["TENANT_ADMIN"] });
    site.world.mutate(&admin(other), "addMember", joined, "member { id }").await;
    let tokens = site.login(&ada).await;
    let access = text(&tokens, "accessToken");
    let fields = "tokens { accessToken refreshToken tenant session }";
    for nowhere in [foreign, Uuid::nil(), daybook_domain::PLATFORM_TENANT.0] {
        let refused = site.mutate(access, "switchTenant", json!({ "tenant": nowhere }), fields).await;
        assert_eq!(refused.code(), "FORBIDDEN", "{}", refused.body);
    }
    let moved = site.mutate(access, "switchTenant", json!({ "tenant": other }), fields).await;
    let moved = &moved.body["data"]["a"]["tokens"];
    assert_eq!(
        (&moved["tenant"], &moved["session"], &moved["refreshToken"]),
        (&json!(other), &tokens["session"], &Value::Null)
    );
    assert_eq!(site.asks(access).await, 401);
    let me = site.graphql(Some(text(moved, "accessToken")), "{ me { tenant roles } }", json!({})).await;
    assert_eq!(me.body["data"]["me"], json!({ "tenant": other, "roles": ["tenantAdmin"] }));
    // And stays there.
    let refreshed = site.post("/auth/refresh", json!({ "refreshToken": tokens["refreshToken"] })).await;
    assert_eq!(refreshed.body["tenant"], json!(other), "{}", refreshed.body);
}

#[tokio::test]
async fn a_changed_role_counts_at_the_next_request() {
    let site = Site::new().await;
    let tenant = site.world.tenant("Acme").await;
    let ada = site.person(1, tenant, "VIEWER").await;
    let tokens = site.login(&ada).await;
    let access = text(&tokens, "accessToken");
    let rename = async || {
        let fields = "tenant { name }";
        site.mutate(access, "renameTenant", json!({ "id": tenant, "name": "Acme & Co" }), fields).await
    };
    for _ in 0..5 {
        assert_eq!(rename().await.code(), "FORBIDDEN");
        let up = json!({ "id": ada.member, "roles": ["TENANT_ADMIN"] });
        site.world.mutate(&admin(tenant), "changeMemberRoles", up, "member { id }").await;
        assert_eq!(rename().await.code(), "");
        let down = json!({ "id": ada.member, "roles": ["VIEWER"] });
        site.world.mutate(&admin(tenant), "changeMemberRoles", down, "member { id }").await;
    }
    let end = json!({ "id": ada.member, "reason": "left" });
    site.world.mutate(&admin(tenant), "endMembership", end, "member { id }").await;
    assert_eq!(site.asks(access).await, 401);
}

/// A socket that has said who it is.
pub(crate) async fn socket(site: &Site, token: &str) -> Socket {
    let mut request = format!("ws://{}/graphql", site.address).into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "graphql-transport-ws".parse().unwrap());
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    let init = json!({ "type": "connection_init", "payload": { "authorization": format!("Bearer {token}") } });
    socket.send(Message::text(init.to_string())).await.unwrap();
    assert!(socket.next().await.unwrap().unwrap().to_text().unwrap().contains("connection_ack"));
    let query = "subscription { tenantChanged { position } }";
    let subscribe = json!({ "type": "subscribe", "id": "1", "payload": { "query": query } });
    socket.send(Message::text(subscribe.to_string())).await.unwrap();
    socket
}

pub(crate) type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

/// Waits for the close frame: its code and reason, and how long that took.
pub(crate) async fn closed(socket: &mut Socket) -> (u16, String, std::time::Duration) {
    let since = std::time::Instant::now();
    loop {
        let next = tokio::time::timeout(crate::site::PATIENCE, socket.next()).await.expect("an end");
        match next {
            Some(Ok(Message::Close(Some(frame)))) => {
                return (frame.code.into(), frame.reason.to_string(), since.elapsed());
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => panic!("it ended without a word"),
        }
    }
}

/// Attack 16.
#[tokio::test]
async fn attack_16_whoever_is_put_out_is_put_out_of_open_sockets_and_streams_as_well() {
    let site = Site::new().await;
    let tenant = site.world.tenant("Acme").await;
    let ways = ["revokeSession", "revokeAllSessions", "deactivateAccount", "endMembership", "changeMemberRoles"];
    for (n, way) in ways.into_iter().enumerate() {
        let ada = site.person(n, tenant, "MEMBER").await;
        let tokens = site.login(&ada).await;
        let access = text(&tokens, "accessToken");
        let mut socket = socket(&site, access).await;
        let query = json!({ "query": "subscription { tenantChanged { position } }" });
        let request = site.http.post(site.url("/graphql")).bearer_auth(access).header("accept", "text/event-stream");
        let mut stream = request.json(&query).send().await.unwrap();
        assert_eq!(stream.status(), 200);
        let input = match way {
            "revokeSession" => json!({ "id": tokens["session"], "reason": "lost" }),
            "revokeAllSessions" => json!({ "account": ada.account, "reason": "lost" }),
            "deactivateAccount" => json!({ "id": ada.account, "reason": "lost" }),
            "endMembership" => json!({ "tenant": tenant, "id": ada.member, "reason": "left" }),
            _ => json!({ "tenant": tenant, "id": ada.member, "roles": ["VIEWER"] }),
        };
        let fields = if way.starts_with("revoke") { "ended" } else { "position" };
        let done = site.mutate(FIXED, way, input, fields).await;
        assert_eq!(done.body["data"]["a"]["userErrors"], json!([]), "{way}: {}", done.body);
        let (code, reason, took) = closed(&mut socket).await;
        assert_eq!(code, 4403, "{way}: {reason}");
        assert!(took < std::time::Duration::from_secs(1), "{way}: {took:?}");
        let whole = async { while stream.chunk().await.ok().flatten().is_some() {} };
        tokio::time::timeout(std::time::Duration::from_secs(1), whole).await.expect("the stream ends in time");
        assert_eq!(site.asks(access).await, if way == "changeMemberRoles" { 200 } else { 401 }, "{way}");
    }
}

#[tokio::test]
async fn a_socket_ends_with_its_token() {
    let mut options = crate::harness::options();
    options.access_token = chrono::TimeDelta::seconds(2);
    let site = Site::with(options).await;
    let tenant = site.world.tenant("Acme").await;
    let ada = site.person(1, tenant, "MEMBER").await;
    let tokens = site.login(&ada).await;
    let mut socket = socket(&site, text(&tokens, "accessToken")).await;
    let (code, reason, _) = closed(&mut socket).await;
    assert_eq!((code, reason.as_str()), (4403, "The token is no longer good: connect again with a new one"));
    assert_eq!(site.asks(text(&tokens, "accessToken")).await, 401);
}

/// Attack 33.
#[tokio::test]
async fn attack_33_no_header_argument_or_payload_leads_into_another_tenant() {
    let site = Site::new().await;
    let (own, foreign) = (site.world.tenant("Acme").await, site.world.tenant("Foreign").await);
    let ada = site.person(1, own, "TENANT_ADMIN").await;
    let tokens = site.login(&ada).await;
    let access = text(&tokens, "accessToken");
    let with = async |path: &str, tenant: &str| {
        let body = json!({ "query": "{ me { tenant } }" });
        let request =
            if path == "/auth/me" { site.http.get(site.url(path)) } else { site.http.post(site.url(path)).json(&body) };
        Site::sent(request.bearer_auth(access).header("x-tenant-id", tenant)).await
    };
    for path in ["/graphql", "/auth/me"] {
        assert_eq!(with(path, &own.to_string()).await.status, 200, "{path}");
        for other in [foreign.to_string(), daybook_domain::PLATFORM_TENANT.to_string(), "x".into(), String::new()] {
            let refused = with(path, &other).await;
            assert_eq!((refused.status, refused.code()), (403, "FORBIDDEN"), "{path} {other}");
        }
    }
    let readings = site.http.post(site.url("/v1/readings")).bearer_auth(access).header("content-type", "text/csv");
    let refused =
        Site::sent(readings.header("x-tenant-id", foreign.to_string()).body("device,time,value,unit\n")).await;
    assert_eq!((refused.status, refused.code()), (403, "FORBIDDEN"));
    let query = "query($t: UUID!) { members(tenant: $t) { totalCount } }";
    assert_eq!(site.graphql(Some(access), query, json!({ "t": foreign })).await.code(), "FORBIDDEN");
    // In a socket's handshake as well.
    let mut request = format!("ws://{}/graphql", site.address).into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "graphql-transport-ws".parse().unwrap());
    request.headers_mut().insert("x-tenant-id", foreign.to_string().parse().unwrap());
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    let init = json!({ "type": "connection_init", "payload": { "authorization": format!("Bearer {access}"), "tenant": foreign } });
    socket.send(Message::text(init.to_string())).await.unwrap();
    assert_eq!(closed(&mut socket).await.0, 4403);
}

#[tokio::test]
async fn without_a_credential_nothing_is_done_but_logging_in_and_out() {
    let site = Site::new().await;
    let tenant = site.world.tenant("Acme").await;
    let ada = site.person(1, tenant, "MEMBER").await;
    let login =
        "mutation($e: String!, $p: String!) { login(input: { email: $e, password: $p }) { tokens { accessToken } } }";
    let variables = json!({ "e": ada.email, "p": PASSWORD });
    let let_in = site.graphql(None, login, variables.clone()).await;
    assert!(let_in.body["data"]["login"]["tokens"]["accessToken"].is_string(), "{}", let_in.body);
    for query in [
        "{ me { tenant } }",
        "{ __schema { queryType { name } } }",
        "mutation { login(input: { email: \"a\", password: \"b\" }) { tokens { session } } switchTenant(input: { tenant: \"x\" }) { tokens { session } } }",
        "mutation { ...F } fragment F on Mutation { login(input: { email: \"a\", password: \"b\" }) { tokens { session } } }",
        "subscription { tenantChanged { position } }",
        "nonsense",
    ] {
        let refused = site.graphql(None, query, json!({})).await;
        assert_eq!((refused.status, refused.code()), (401, "UNAUTHENTICATED"), "{query}");
    }
    // A header that is no bearer token is not no header.
    let request = site.http.post(site.url("/graphql")).header("authorization", "Basic YTpi");
    let refused = Site::sent(request.json(&json!({ "query": login, "variables": variables }))).await;
    assert_eq!(refused.status, 401);
}

/// Attack 31, at the login.
#[tokio::test]
async fn attack_31_no_foreign_page_and_no_form_logs_anybody_in_or_on() {
    let site = Site::new().await;
    let tenant = site.world.tenant("Acme").await;
    let ada = site.person(1, tenant, "MEMBER").await;
    let body = json!({ "email": ada.email, "password": PASSWORD, "cookie": true }).to_string();
    let post = |path: &str| site.http.post(site.url(path));
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
        let refused = Site::sent(post("/auth/login").header("content-type", kind).body(body.clone())).await;
        assert_eq!(refused.status, 415, "{kind}");
        let query =
            json!({ "query": "mutation { login(input: { email: \"a\", password: \"b\" }) { tokens { session } } }" });
        let refused = Site::sent(post("/graphql").header("content-type", kind).body(query.to_string())).await;
        assert_eq!(refused.status, 401, "{kind}");
    }
    let json = || ("content-type", "application/json");
    let foreign = post("/auth/login").header("origin", "https://evil.example").header(json().0, json().1);
    assert_eq!(Site::sent(foreign.body(body.clone())).await.status, 403);
    let answer = Site::sent(post("/auth/login").header(json().0, json().1).body(body)).await;
    assert_eq!((answer.status, &answer.body["refreshToken"]), (200, &Value::Null), "{}", answer.body);
    let cookie = answer.headers["set-cookie"].to_str().unwrap();
    for part in ["__Host-daybook_refresh=dbr_", "; Path=/;", "; Secure", "; HttpOnly", "; SameSite=Strict"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let refresh = |origin: Option<&str>| {
        let request = post("/auth/refresh").header("cookie", &cookie).header(json().0, json().1).body("{}");
        let origin = origin.map(str::to_owned);
        async move {
            Site::sent(match origin {
                Some(origin) => request.header("origin", origin),
                None => request,
            })
            .await
        }
    };
    assert_eq!(refresh(Some("https://evil.example")).await.status, 403);
    let form = post("/auth/refresh").header("cookie", &cookie).header("content-type", "text/plain").body("{}");
    assert_eq!(Site::sent(form).await.status, 415);
    let own = site.url("");
    let refreshed = refresh(Some(&own)).await;
    assert_eq!(refreshed.status, 200, "{}", refreshed.body);
    let access = text(&refreshed.body, "accessToken");
    assert_eq!(site.asks(access).await, 200);
    let next = refreshed.headers["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let logout = || Site::sent(post("/auth/logout").header("cookie", &next).header(json().0, json().1).body("{}"));
    let out = logout().await;
    assert_eq!(out.status, 200, "{}", out.body);
    assert!(out.headers["set-cookie"].to_str().unwrap().starts_with("__Host-daybook_refresh=; Path=/; Max-Age=0;"));
    assert_eq!(site.asks(access).await, 401);
    // Also of a session that has ended elsewhere.
    let ended = site.login(&ada).await;
    let cookie = format!("__Host-daybook_refresh={}", text(&ended, "refreshToken"));
    let end = json!({ "account": ada.account, "reason": "lost" });
    site.mutate(FIXED, "revokeAllSessions", end, "ended").await;
    let refresh = post("/auth/refresh").header("cookie", &cookie).header(json().0, json().1).body("{}");
    assert_eq!(Site::sent(refresh).await.status, 401);
    let out = Site::sent(post("/auth/logout").header("cookie", cookie).header(json().0, json().1).body("{}")).await;
    assert!(out.headers["set-cookie"].to_str().unwrap().contains("Max-Age=0"), "{} {}", out.status, out.body);
}

/// Attack 31, from pages that are welcome.
#[tokio::test]
async fn attack_31_a_page_of_another_origin_logs_in_without_a_cookie_and_never_with_one() {
    let origin = "https://app.example";
    let origins = daybook_api::transport::OriginPolicy::SameHostAnd(vec![origin.to_owned()]);
    let site = Site::open_to(crate::harness::options(), origins).await;
    let tenant = site.world.tenant("Acme").await;
    let ada = site.person(1, tenant, "MEMBER").await;
    let post = |path: &str, body: Value| site.http.post(site.url(path)).header("origin", origin).json(&body);
    let login = json!({ "email": ada.email, "password": PASSWORD });
    let with_cookie = json!({ "email": ada.email, "password": PASSWORD, "cookie": true });
    let refused = Site::sent(post("/auth/login", with_cookie)).await;
    assert_eq!((refused.status, refused.code()), (403, "FORBIDDEN"), "{}", refused.body);
    let tokens = Site::sent(post("/auth/login", login)).await;
    assert_eq!((tokens.status, tokens.headers.get("set-cookie")), (200, None), "{}", tokens.body);
    // Nothing allows a browser to send or show cookies to it.
    assert_eq!(tokens.headers["access-control-allow-origin"], origin);
    assert!(!tokens.headers.contains_key("access-control-allow-credentials"));
    let cookie = format!("__Host-daybook_refresh={}", text(&tokens.body, "refreshToken"));
    for path in ["/auth/refresh", "/auth/logout"] {
        let refused = Site::sent(post(path, json!({})).header("cookie", &cookie)).await;
        assert_eq!((refused.status, refused.code()), (403, "FORBIDDEN"), "{path}: {}", refused.body);
    }
    let next = Site::sent(post("/auth/refresh", json!({ "refreshToken": tokens.body["refreshToken"] }))).await;
    assert_eq!((next.status, next.headers.get("set-cookie")), (200, None), "{}", next.body);
    let out = Site::sent(post("/auth/logout", json!({ "refreshToken": next.body["refreshToken"] }))).await;
    assert_eq!(out.status, 200, "{}", out.body);
}

#[tokio::test]
async fn an_account_that_comes_back_logs_in_again() {
    let site = Site::new().await;
    let tenant = site.world.tenant("Acme").await;
    let ada = site.person(1, tenant, "MEMBER").await;
    let tokens = site.login(&ada).await;
    let away = json!({ "id": ada.account, "reason": "on leave" });
    site.world.mutate(&platform(), "deactivateAccount", away, "account { id }").await;
    site.world.mutate(&platform(), "reactivateAccount", json!({ "id": ada.account }), "account { id }").await;
    assert_eq!(site.asks(text(&tokens, "accessToken")).await, 401);
    let refresh = site.post("/auth/refresh", json!({ "refreshToken": tokens["refreshToken"] })).await;
    assert_eq!(refresh.status, 401, "{}", refresh.body);
    let again = site.login(&ada).await;
    assert_eq!(site.asks(text(&again, "accessToken")).await, 200);
    let open = site.graphql(Some(text(&again, "accessToken")), "{ mySessions { id } }", json!({})).await;
    assert_eq!(open.body["data"]["mySessions"], json!([{ "id": again["session"] }]), "{}", open.body);
}

#[tokio::test]
async fn a_platform_administrator_is_one_in_the_platforms_tenant_and_only_while_the_role_lasts() {
    let site = Site::new().await;
    let tenant = site.world.tenant("Acme").await;
    let ada = site.person(1, tenant, "VIEWER").await;
    let fields = "account { id }";
    let grant = json!({ "id": ada.account });
    site.world.mutate(&platform(), "grantPlatformAdmin", grant.clone(), fields).await;
    let there = site.post("/auth/login", json!({ "email": ada.email, "password": PASSWORD })).await.body;
    assert_eq!(there["tenant"], json!(daybook_domain::PLATFORM_TENANT));
    let here = site.login(&ada).await;
    let list = "{ tenants { totalCount } }";
    let access = text(&there, "accessToken");
    assert_eq!(site.graphql(Some(access), list, json!({})).await.code(), "");
    assert_eq!(site.graphql(Some(text(&here, "accessToken")), list, json!({})).await.code(), "FORBIDDEN");
    site.world.mutate(&platform(), "revokePlatformAdmin", grant, fields).await;
    assert_eq!(site.graphql(Some(access), list, json!({})).await.code(), "FORBIDDEN");
}

#[tokio::test]
async fn nobody_ends_the_session_of_another_without_the_right_to() {
    let site = Site::new().await;
    let tenant = site.world.tenant("Acme").await;
    let (ada, grace) = (site.person(1, tenant, "MEMBER").await, site.person(2, tenant, "TENANT_ADMIN").await);
    let (adas, graces) = (site.login(&ada).await, site.login(&grace).await);
    let grace_access = text(&graces, "accessToken");
    for session in [adas["session"].clone(), json!(Uuid::nil())] {
        let refused = site.mutate(grace_access, "revokeSession", json!({ "id": session }), "ended").await;
        assert_eq!(refused.code(), "FORBIDDEN", "{}", refused.body);
    }
    for account in [ada.account, Uuid::nil()] {
        let input = json!({ "account": account, "reason": "x" });
        assert_eq!(site.mutate(grace_access, "revokeAllSessions", input, "ended").await.code(), "FORBIDDEN");
    }
    assert_eq!(site.asks(text(&adas, "accessToken")).await, 200);
    // Her own, from another device.
    let second = site.login(&ada).await;
    let done =
        site.mutate(text(&second, "accessToken"), "revokeSession", json!({ "id": adas["session"] }), "ended").await;
    assert_eq!(done.body["data"]["a"]["ended"], json!(true), "{}", done.body);
    assert_eq!(site.asks(text(&adas, "accessToken")).await, 401);
    assert_eq!(site.asks(text(&second, "accessToken")).await, 200);
    let all =
        site.mutate(text(&second, "accessToken"), "revokeAllSessions", json!({ "reason": "lost" }), "ended").await;
    assert_eq!(all.body["data"]["a"]["ended"], json!(true), "{}", all.body);
    assert_eq!(site.asks(text(&second, "accessToken")).await, 401);
    assert_eq!(site.asks(grace_access).await, 200);
}

#[tokio::test]
async fn the_static_tokens_of_the_configuration_still_let_in() {
    let site = Site::new().await;
    let me = site.graphql(Some(FIXED), "{ me { platform roles account { id } session } }", json!({})).await;
    let expected = json!({ "platform": true, "roles": ["platformAdmin"], "account": null, "session": null });
    assert_eq!(me.body["data"]["me"], expected);
    for wrong in ["x", "a.b.c", "dbk_x", &FIXED[1..]] {
        assert_eq!(site.asks(wrong).await, 401, "{wrong}");
    }
    let jwks = Site::sent(site.http.get(site.url("/.well-known/jwks.json"))).await;
    assert_eq!(jwks.body["keys"].as_array().unwrap().len(), 3);
}

/// Attack 34, on every way in; each single fault is in `app/src/identity/access_token/tests.rs`.
#[tokio::test]
async fn attack_34_a_token_that_was_tampered_with_is_refused_on_every_way_in() {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
    let site = Site::new().await;
    let tenant = site.world.tenant("Acme").await;
    let ada = site.person(1, tenant, "MEMBER").await;
    let tokens = site.login(&ada).await;
    let access = text(&tokens, "accessToken");
    let parts: Vec<&str> = access.split('.').collect();
    let json_of = |part: &str| serde_json::from_slice::<Value>(&B64.decode(part).unwrap()).unwrap();
    let with = |part: &str, field: &str, value: Value| {
        let mut json = json_of(part);
        json[field] = value;
        B64.encode(json.to_string())
    };
    let late = json_of(parts[1])["exp"].as_i64().unwrap() + 100_000;
    let forged = [
        format!("{}.{}.", with(parts[0], "alg", json!("none")), parts[1]),
        format!("{}.{}.{}", with(parts[0], "alg", json!("none")), parts[1], parts[2]),
        format!("{}.{}.{}", with(parts[0], "alg", json!("HS256")), parts[1], parts[2]),
        format!("{}.{}.{}", with(parts[0], "kid", json!("../root.key")), parts[1], parts[2]),
        format!("{}.{}.{}", parts[0], with(parts[1], "exp", json!(late)), parts[2]),
        format!("{}.{}.{}", parts[0], with(parts[1], "sub", json!(Uuid::nil())), parts[2]),
        format!("{}.{}.{}", parts[0], with(parts[1], "tid", json!(daybook_domain::PLATFORM_TENANT)), parts[2]),
    ];
    for token in forged {
        assert_eq!(site.asks(&token).await, 401, "{token}");
        let me = site.http.get(site.url("/auth/me")).bearer_auth(&token);
        assert_eq!(Site::sent(me).await.status, 401, "{token}");
        let readings = site.http.post(site.url("/v1/readings")).bearer_auth(&token).header("content-type", "text/csv");
        assert_eq!(Site::sent(readings.body("device,time,value,unit\n")).await.status, 401, "{token}");
        let mut request = format!("ws://{}/graphql", site.address).into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", "graphql-transport-ws".parse().unwrap());
        let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
        let init = json!({ "type": "connection_init", "payload": { "authorization": format!("Bearer {token}") } });
        socket.send(Message::text(init.to_string())).await.unwrap();
        assert_eq!(closed(&mut socket).await.0, 4403, "{token}");
    }
    assert_eq!(site.asks(access).await, 200);
}
