//! A tenant that is suspended or closed, as its own people, machines, providers and the platform meet it.

use crate::harness::{World, admin, code, platform};
use crate::identity::{closed, socket};
use crate::rules::allow;
use crate::site::{FIXED, PASSWORD, PATIENCE, Site, text};
use chrono::TimeDelta;
use daybook_api::tokens::{StaticTokens, Tokens};
use daybook_api::transport::{Authenticate, NotAuthenticated};
use daybook_app::identity::Shut;
use futures_util::SinkExt;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use uuid::Uuid;

/// Within this, everybody of a tenant is put out.
const SOON: Duration = Duration::from_secs(1);

struct Scene {
    site: Site,
    tenant: Uuid,
    tokens: Value,
    key: String,
    key_id: Value,
    service: Value,
    /// The body of a login.
    login: Value,
}

impl Scene {
    async fn new() -> Self {
        let site = Site::new().await;
        let tenant = site.world.tenant("Acme").await;
        let ada = site.person(1, tenant, "TENANT_ADMIN").await;
        let tokens = site.login(&ada).await;
        let input = json!({ "name": "Meter reader", "roles": ["MEMBER"] });
        let made = site.world.mutate(&admin(tenant), "registerServiceAccount", input, "serviceAccount { id }").await;
        let service = made["serviceAccount"]["id"].clone();
        let input = json!({ "id": service, "scopes": ["tenant.read", "readings.record"] });
        let made = site.world.mutate(&admin(tenant), "issueApiKey", input, "key keyId").await;
        let (key, key_id) = (made["key"].as_str().unwrap().to_owned(), made["keyId"].clone());
        let login = json!({ "email": ada.email, "password": PASSWORD, "tenant": tenant });
        Scene { site, tenant, tokens, key, key_id, service, login }
    }

    fn access(&self) -> &str {
        text(&self.tokens, "accessToken")
    }

    async fn platform(&self, field: &str, mut input: Value) {
        input["id"] = json!(self.tenant);
        let done = self.site.mutate(FIXED, field, input, "tenant { status }").await;
        assert_eq!(done.body["data"]["a"]["userErrors"], json!([]), "{}", done.body);
    }

    /// An event stream that this token has opened.
    async fn stream(&self, token: &str) -> reqwest::Response {
        let query = json!({ "query": "subscription { tenantChanged { position } }" });
        let request = self.site.http.post(self.site.url("/graphql")).bearer_auth(token);
        let stream = request.header("accept", "text/event-stream").json(&query).send().await.unwrap();
        assert_eq!(stream.status(), 200);
        stream
    }

    /// What the code and the remedy are, on each way in.
    async fn is_told(&self, code: &str, remedy: &str) {
        let site = &self.site;
        for token in [self.access(), &self.key] {
            let query = "query($t: UUID!) { tenant(id: $t) { name } }";
            let asked = site.graphql(Some(token), query, json!({ "t": self.tenant })).await;
            let input = json!({ "id": self.tenant, "name": "Mine" });
            let renamed = site.mutate(token, "renameTenant", input, "tenant { name }").await;
            let me = Site::sent(site.http.get(site.url("/auth/me")).bearer_auth(token)).await;
            let stream = site.http.post(site.url("/graphql")).header("accept", "text/event-stream");
            let query = json!({ "query": "subscription { tenantChanged { position } }" });
            let stream = Site::sent(stream.bearer_auth(token).json(&query)).await;
            let rows = site.http.post(site.url("/v1/readings")).bearer_auth(token).header("content-type", "text/csv");
            let recorded = Site::sent(rows.body("device,time,value,unit\n")).await;
            for (way, answer) in
                [("query", asked), ("mutation", renamed), ("me", me), ("stream", stream), ("readings", recorded)]
            {
                assert_eq!((answer.status, answer.code()), (403, code), "{way}: {}", answer.body);
                assert!(answer.body.to_string().contains(remedy), "{way}: {}", answer.body);
                assert!(answer.body.get("data").is_none(), "{way}: {}", answer.body);
            }
            let mut request = format!("ws://{}/graphql", site.address).into_client_request().unwrap();
            request.headers_mut().insert("sec-websocket-protocol", "graphql-transport-ws".parse().unwrap());
            let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
            let init = json!({ "type": "connection_init", "payload": { "authorization": format!("Bearer {token}") } });
            socket.send(Message::text(init.to_string())).await.unwrap();
            let (number, reason, _) = closed(&mut socket).await;
            assert_eq!(number, 4403);
            assert!(reason.starts_with(code) && reason.contains("another"), "{reason}");
        }
        let refresh = json!({ "refreshToken": self.tokens["refreshToken"] });
        for (path, body) in [("/auth/refresh", refresh), ("/auth/login", self.login.clone())] {
            let answer = site.post(path, body).await;
            assert_eq!((answer.status, answer.code()), (403, code), "{path}: {}", answer.body);
            assert!(text(&answer.body, "detail").contains(remedy), "{path}: {}", answer.body);
        }
    }

    async fn ends(&self, way: &str, input: Value) {
        let (mut person, mut machine) = (socket(&self.site, self.access()).await, socket(&self.site, &self.key).await);
        let streams = [self.stream(self.access()).await, self.stream(&self.key).await];
        self.platform(way, input).await;
        for socket in [&mut person, &mut machine] {
            let (number, reason, took) = closed(socket).await;
            assert_eq!(number, 4403, "{reason}");
            assert!(reason.starts_with("TENANT_") && took < SOON, "{reason}: {took:?}");
        }
        for mut stream in streams {
            let whole = async { while stream.chunk().await.ok().flatten().is_some() {} };
            tokio::time::timeout(SOON, whole).await.expect("the stream ends in time");
        }
    }
}

/// Attack 16.
#[tokio::test]
async fn attack_16_a_tenant_that_is_suspended_reads_nothing_more_until_it_is_reopened() {
    let scene = Scene::new().await;
    let site = &scene.site;
    scene.ends("suspendTenant", json!({ "reason": "unpaid" })).await;
    scene.is_told("TENANT_SUSPENDED", "have the platform reopen it").await;

    // The platform goes on reading, and reopens it.
    let query = "query($t: UUID!) { tenant(id: $t) { name status } members(tenant: $t) { totalCount } }";
    let read = site.graphql(Some(FIXED), query, json!({ "t": scene.tenant })).await;
    let expected = json!({ "tenant": { "name": "Acme", "status": "SUSPENDED" }, "members": { "totalCount": "1" } });
    assert_eq!(read.body["data"], expected, "{}", read.body);
    scene.platform("reopenTenant", json!({})).await;

    // The session and the key are the ones of before.
    for token in [scene.access(), &scene.key] {
        assert_eq!(site.asks(token).await, 200);
        socket(site, token).await.close(None).await.unwrap();
        drop(scene.stream(token).await);
    }
    let refreshed = site.post("/auth/refresh", json!({ "refreshToken": scene.tokens["refreshToken"] })).await;
    assert_eq!((refreshed.status, &refreshed.body["session"]), (200, &scene.tokens["session"]), "{}", refreshed.body);
    assert_eq!(site.post("/auth/login", scene.login.clone()).await.status, 200);
}

/// Attack 16.
#[tokio::test]
async fn attack_16_a_tenant_that_is_closed_reads_nothing_more() {
    let scene = Scene::new().await;
    scene.ends("closeTenant", json!({ "reason": "gone" })).await;
    scene.is_told("TENANT_CLOSED", "log in to another tenant of yours").await;
    // Who is no member is told no more than before.
    let stranger = scene.site.person(2, scene.site.world.tenant("Other").await, "MEMBER").await;
    let body = json!({ "email": stranger.email, "password": PASSWORD, "tenant": scene.tenant });
    let refused = scene.site.post("/auth/login", body).await;
    assert_eq!((refused.status, refused.code()), (403, "FORBIDDEN"), "{}", refused.body);
}

/// Attack 16, with a token of the configuration.
#[tokio::test]
async fn attack_16_a_static_token_of_a_suspended_tenant_lets_nobody_in() {
    let site = Site::new().await;
    let tenant = site.world.tenant("Acme").await;
    let mut fixed = StaticTokens::default();
    fixed.insert("a-static-token-of-a-tenant", admin(tenant));
    let tokens = Tokens { fixed, identity: site.world.parts.identity.clone() };
    let asks = async || tokens.authenticate("a-static-token-of-a-tenant").await.map(|credential| credential.tenant.0);
    assert_eq!(asks().await, Ok(tenant));
    let stirred = tokens.stirred("a-static-token-of-a-tenant");
    let input = json!({ "id": tenant, "reason": "unpaid" });
    site.world.mutate(&platform(), "suspendTenant", input, "tenant { id }").await;
    tokio::time::timeout(SOON, stirred).await.expect("it hears of it in time");
    assert_eq!(asks().await, Err(NotAuthenticated::Shut(Shut::Suspended)));
    site.world.mutate(&platform(), "reopenTenant", json!({ "id": tenant }), "tenant { id }").await;
    assert_eq!(asks().await, Ok(tenant));
}

/// Attack 16, by a tenant that may read another one.
#[tokio::test]
async fn attack_16_nobody_reads_a_suspended_tenant_under_its_consent() {
    let w = World::new().await;
    let (customer, provider) = (w.tenant("Home").await, w.tenant("Power").await);
    let owner = admin(customer);
    w.device(&owner, "Meter", "Mill Lane").await;
    let until = w.parts.system.utc() + TimeDelta::days(1);
    let input = json!({ "provider": provider, "actions": ["READ_DEVICES"], "until": until, "reason": "advice" });
    w.mutate(&owner, "grantConsent", input, "consent { id }").await;
    w.role(&admin(provider), "advisor", &[allow("consent.use")], &[]).await;
    let (who, _) = w.holder(&admin(provider), provider, 1, "advisor").await;
    let query = "query($t: UUID) { devices(tenant: $t) { totalCount } }";
    let devices = async || w.ask(&who, query, json!({ "t": customer })).await;
    assert_eq!(devices().await["data"]["devices"]["totalCount"], "1");
    let input = json!({ "id": customer, "reason": "unpaid" });
    w.mutate(&platform(), "suspendTenant", input, "tenant { id }").await;
    let refused = devices().await;
    assert_eq!(code(&refused), "FORBIDDEN", "{refused}");
    w.mutate(&platform(), "reopenTenant", json!({ "id": customer }), "tenant { id }").await;
    assert_eq!(devices().await["data"]["devices"]["totalCount"], "1");
}

/// Attack 16, by a body that never ends.
#[tokio::test]
async fn attack_16_a_body_that_goes_on_coming_ends_with_its_key_or_its_tenant() {
    let scene = Scene::new().await;
    let site = &scene.site;
    device(&scene).await;
    for way in ["suspendTenant", "revokeApiKey"] {
        let mut socket = TcpStream::connect(site.address).await.unwrap();
        let head = format!(
            "POST /v1/readings HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
             Content-Type: text/csv\r\nTransfer-Encoding: chunked\r\n\r\n",
            scene.key
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        let send = async |socket: &mut TcpStream, text: &str| {
            // It may be closed already: then its answer is there.
            let _ = socket.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).await;
        };
        send(&mut socket, "device,time,value,unit\n").await;
        send(&mut socket, "M-1,2025-01-01T00:00:00Z,1,Wh\n").await;
        match way {
            "suspendTenant" => scene.platform(way, json!({ "reason": "unpaid" })).await,
            _ => {
                let input = json!({ "id": scene.service, "key": scene.key_id, "reason": "published" });
                site.world.mutate(&admin(scene.tenant), "revokeApiKey", input, "position").await;
            }
        }
        let since = std::time::Instant::now();
        let mut answer = Vec::new();
        while !String::from_utf8_lossy(&answer).contains("\"code\"") {
            assert!(since.elapsed() < PATIENCE, "it still comes: {}", String::from_utf8_lossy(&answer));
            send(&mut socket, "M-1,2025-01-01T00:15:00Z,1,Wh\n").await;
            let mut buffer = [0; 4096];
            let read = tokio::time::timeout(Duration::from_millis(20), socket.read(&mut buffer)).await;
            if let Ok(Ok(read)) = read {
                answer.extend_from_slice(&buffer[..read]);
            }
        }
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let expected = if way == "suspendTenant" { ("403", "TENANT_SUSPENDED") } else { ("401", "UNAUTHENTICATED") };
        assert!(answer.starts_with(&format!("HTTP/1.1 {}", expected.0)) && answer.contains(expected.1), "{answer}");
        if way == "suspendTenant" {
            scene.platform("reopenTenant", json!({})).await;
        }
    }
}

/// A device `M-1` of the tenant.
async fn device(scene: &Scene) {
    let input = json!({ "name": "Meter", "kind": "METER", "serial": "M-1", "resolutionS": 900, "direction": "IMPORT",
        "site": { "name": "Mill Lane", "timeZone": "Europe/Berlin" }, "maxPowerW": "40000" });
    scene.site.world.mutate(&admin(scene.tenant), "registerDevice", input, "device { id }").await;
}
