//! `events` as a client meets it: over WebSocket and as an event stream, against a running `daybook serve`.

mod support;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::time::Duration;
use support::Server;
use tokio::time::timeout;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};
use uuid::Uuid;

const PLATFORM: &str = "the-platform-administrator";
const ADMIN_A: &str = "the-administrator-of-a-token";
const MEMBER_A: &str = "a-mere-member-of-a-and-no-more";
const VIEWER_A: &str = "somebody-who-looks-at-a-only";
const ADMIN_B: &str = "the-administrator-of-b-token";
const PATIENCE: Duration = Duration::from_secs(30);

/// Everything that `auditTrail` tells of an event.
const NODE: &str =
    "position ordinal recordedAt eventId eventType actor actorKind onBehalfOf command commandId correlationId
    subject { type id } sequence ip userAgent truncated sealed erased changes { path old new erased }";

/// Two tenants with their people. Ids of tenants follow from who registers them with which command.
struct Scene {
    server: Server,
    http: reqwest::Client,
    a: Uuid,
    b: Uuid,
    commands: Cell<u128>,
    /// The last position of each tenant, so that the trail of it is whole whoever wrote.
    last: RefCell<HashMap<Uuid, Value>>,
}

fn actor(token: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, token.as_bytes())
}

fn tenant(command: u128) -> Uuid {
    Uuid::new_v5(&actor(PLATFORM), Uuid::from_u128(command).as_bytes())
}

impl Scene {
    async fn new() -> Self {
        let (a, b) = (tenant(1), tenant(2));
        let mut config = format!(
            "[[tokens]]\ntoken = \"{PLATFORM}\"\nactor = \"{}\"\nroles = [\"platformAdmin\"]\n",
            actor(PLATFORM)
        );
        for (token, home, role) in
            [(ADMIN_A, a, "tenantAdmin"), (MEMBER_A, a, "member"), (VIEWER_A, a, "viewer"), (ADMIN_B, b, "tenantAdmin")]
        {
            config.push_str(&format!(
                "[[tokens]]\ntoken = \"{token}\"\nactor = \"{}\"\ntenant = \"{home}\"\nroles = [\"{role}\"]\n",
                actor(token)
            ));
        }
        let server = Server::start_configured(&config).await;
        let scene =
            Scene { server, http: reqwest::Client::new(), a, b, commands: Cell::new(100), last: RefCell::default() };
        for (name, command) in [("Acme", 1), ("Bell", 2)] {
            let register = "mutation($i: RegisterTenantInput!) { registerTenant(input: $i) { tenant { id } userErrors { code } } }";
            let input = json!({ "name": name, "clientMutationId": Uuid::from_u128(command),
                                "contact": { "name": "Ada", "email": "ada@example.com" } });
            let data = scene.data(PLATFORM, register, json!({ "i": input })).await;
            assert_eq!(data["registerTenant"]["tenant"]["id"], json!(tenant(command)));
        }
        scene
    }

    async fn ask(&self, token: &str, query: &str, variables: Value) -> Value {
        let request = self.http.post(self.server.graphql_url()).bearer_auth(token);
        request.json(&json!({ "query": query, "variables": variables })).send().await.unwrap().json().await.unwrap()
    }

    async fn data(&self, token: &str, query: &str, variables: Value) -> Value {
        let mut answer = self.ask(token, query, variables).await;
        assert!(answer.get("errors").is_none(), "{answer}");
        answer["data"].take()
    }

    /// Gives back the position of the event.
    async fn rename(&self, token: &str, id: Uuid, name: &str) -> String {
        let rename = "mutation($i: RenameTenantInput!) { renameTenant(input: $i) { position userErrors { code } } }";
        self.commands.set(self.commands.get() + 1);
        let input = json!({ "id": id, "name": name, "clientMutationId": Uuid::from_u128(self.commands.get()) });
        let data = self.data(token, rename, json!({ "i": input })).await;
        let position = data["renameTenant"]["position"].clone();
        self.last.borrow_mut().insert(id, position.clone());
        position.as_str().unwrap().to_owned()
    }

    /// All of it, oldest first.
    async fn trail(&self, token: &str) -> Vec<Value> {
        let query = format!(
            "query($p: Position) {{ auditTrail(first: 200, atLeast: $p)
             {{ edges {{ node {{ {NODE} }} }} pageInfo {{ hasNextPage }} }} }}"
        );
        let last = self.last.borrow().get(if token == ADMIN_B { &self.b } else { &self.a }).cloned();
        let data = self.data(token, &query, json!({ "p": last })).await;
        assert_eq!(data["auditTrail"]["pageInfo"]["hasNextPage"], false);
        data["auditTrail"]["edges"].as_array().unwrap().iter().rev().map(|edge| edge["node"].clone()).collect()
    }

    async fn listen(&self, token: &str, arguments: Value) -> Socket {
        Socket::open(&self.server, token, arguments).await
    }
}

fn query() -> String {
    format!(
        "subscription($t: UUID, $a: Position, $f: AuditTrailFilter, $h: Int)
         {{ events(tenant: $t, after: $a, filter: $f, heartbeatSeconds: $h) {{ position node {{ {NODE} }} }} }}"
    )
}

struct Socket(tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>);

impl Socket {
    async fn open(server: &Server, token: &str, arguments: Value) -> Self {
        let mut request = server.graphql_url().replace("http", "ws").into_client_request().unwrap();
        request.headers_mut().insert("Sec-WebSocket-Protocol", "graphql-transport-ws".parse().unwrap());
        let (mut socket, _) = connect_async(request).await.unwrap();
        let init = json!({ "type": "connection_init", "payload": { "Authorization": format!("Bearer {token}") } });
        socket.send(Message::text(init.to_string())).await.unwrap();
        assert!(socket.next().await.unwrap().unwrap().to_text().unwrap().contains("connection_ack"));
        let payload = json!({ "query": query(), "variables": arguments });
        let subscribe = json!({ "id": "1", "type": "subscribe", "payload": payload });
        socket.send(Message::text(subscribe.to_string())).await.unwrap();
        Socket(socket)
    }

    /// The next item, or what was refused.
    async fn item(&mut self) -> Result<Value, Value> {
        loop {
            let message = timeout(PATIENCE, self.0.next()).await.expect("nothing came").unwrap().unwrap();
            let Ok(mut value) = serde_json::from_str::<Value>(message.to_text().unwrap_or_default()) else { continue };
            match value["type"].as_str() {
                Some("next") => {
                    let payload = &mut value["payload"];
                    if payload.get("errors").is_some() {
                        return Err(payload["errors"][0]["extensions"]["code"].take());
                    }
                    return Ok(payload["data"]["events"].take());
                }
                Some("error") => return Err(value["payload"][0]["extensions"]["code"].take()),
                _ => {}
            }
        }
    }

    /// The next event, past heartbeats.
    async fn event(&mut self) -> Value {
        loop {
            let mut item = self.item().await.unwrap();
            if !item["node"].is_null() {
                assert_eq!(item["position"], item["node"]["position"]);
                return item["node"].take();
            }
        }
    }

    async fn events(&mut self, count: usize) -> Vec<Value> {
        let mut events = Vec::new();
        while events.len() < count {
            events.push(self.event().await);
        }
        events
    }
}

fn name_of(node: &Value) -> &Value {
    &node["changes"][0]["new"]
}

#[tokio::test]
async fn every_event_is_told_once_in_order_through_cuts_and_kills_as_the_trail_tells_it() {
    let mut scene = Scene::new().await;
    let mut told = Vec::new();
    // The registration as well, for who comes after the position before it.
    let first = scene.trail(ADMIN_A).await[0].clone();
    let mut after = first["position"].clone();
    for round in 0..4 {
        // Some while nobody listens, some while somebody does; the other tenant's come between.
        scene.rename(ADMIN_A, scene.a, &format!("{round} unheard")).await;
        scene.rename(ADMIN_B, scene.b, &format!("{round} of the other")).await;
        let mut socket = scene.listen(ADMIN_A, json!({ "a": after })).await;
        scene.rename(ADMIN_B, scene.b, &format!("{round} of the other again")).await;
        scene.rename(ADMIN_A, scene.a, &format!("{round} heard")).await;
        told.extend(socket.events(2).await);
        after = told.last().unwrap()["position"].clone();
        match round {
            // The server goes while it is listened to, or the database under it; or the client, without a goodbye.
            1 => {
                scene.server.kill_daybook();
                scene.server.start_again().await;
            }
            2 => {
                scene.server.kill_postgres();
                scene.server.ready().await;
                scene.rename(ADMIN_A, scene.a, "after the database").await;
                // The same subscription goes on.
                told.push(socket.event().await);
                after = told.last().unwrap()["position"].clone();
            }
            _ => drop(socket),
        }
    }
    let trail = scene.trail(ADMIN_A).await;
    assert_eq!(told, trail[1..], "every field as the trail has it");
    let names: Vec<&Value> = told.iter().map(name_of).collect();
    let expected = [
        "0 unheard",
        "0 heard",
        "1 unheard",
        "1 heard",
        "2 unheard",
        "2 heard",
        "after the database",
        "3 unheard",
        "3 heard",
    ];
    assert_eq!(names, expected);
    let ordinals: Vec<String> = told.iter().map(|node| node["ordinal"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ordinals, (2..=10).map(|n: u32| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn without_a_position_it_begins_with_what_comes() {
    let scene = Scene::new().await;
    let mut socket = scene.listen(ADMIN_A, json!({})).await;
    // Until it listens, renames are what was there before.
    let (mut made, mut first) = (0, None);
    while first.is_none() {
        made += 1;
        scene.rename(ADMIN_A, scene.a, &format!("name {made}")).await;
        first = timeout(Duration::from_millis(200), socket.event()).await.ok();
    }
    let mut told = vec![first.unwrap()];
    scene.rename(ADMIN_A, scene.a, "the last").await;
    while name_of(told.last().unwrap()) != "the last" {
        told.push(socket.event().await);
    }
    let trail = scene.trail(ADMIN_A).await;
    assert_eq!(trail[0]["eventType"], "platform.tenant.registered");
    assert!(told.len() < trail.len(), "not from the beginning");
    assert_eq!(told, trail[trail.len() - told.len()..]);
}

#[tokio::test]
async fn each_filter_lets_its_own_through_and_heartbeats_tell_how_far_it_has_looked() {
    let scene = Scene::new().await;
    let start = scene.trail(ADMIN_A).await[0]["position"].clone();
    let register = "mutation($i: RegisterDeviceInput!) { registerDevice(input: $i) { device { id } userErrors { path code message } } }";
    let mut devices = Vec::new();
    for serial in ["one", "two"] {
        let input = json!({ "name": serial, "kind": "METER", "serial": serial, "resolutionS": 900, "direction": "IMPORT",
            "maxPowerW": "40000", "site": { "name": "Mill Lane", "timeZone": "Europe/Berlin" } });
        let data = scene.data(ADMIN_A, register, json!({ "i": input })).await;
        devices.push(data["registerDevice"]["device"]["id"].clone());
    }
    scene.rename(ADMIN_A, scene.a, "by its own").await;
    scene.rename(PLATFORM, scene.a, "by the platform").await;
    let trail = scene.trail(ADMIN_A).await;
    assert_eq!(trail.len(), 5);
    let mut sockets = Vec::new();
    for (filter, path, values) in [
        (
            json!({ "eventType": { "eq": "platform.tenant.renamed" } }),
            "/eventType",
            vec![json!("platform.tenant.renamed")],
        ),
        (
            json!({ "eventType": { "in": ["platform.tenant.renamed", "energy.device.registered"] } }),
            "/eventType",
            vec![json!("platform.tenant.renamed"), json!("energy.device.registered")],
        ),
        (json!({ "subjectType": { "in": ["device", "grant"] } }), "/subject/type", vec![json!("device")]),
        (json!({ "subjectId": { "in": [devices[1]] } }), "/subject/id", vec![devices[1].clone()]),
        (json!({ "actor": { "eq": actor(PLATFORM) } }), "/actor", vec![json!(actor(PLATFORM))]),
        (
            json!({ "or": [{ "eventType": { "startsWith": "energy." } }, { "not": { "actor": { "ne": actor(PLATFORM) } } }] }),
            "/position",
            [1, 2, 4].map(|n: usize| trail[n]["position"].clone()).to_vec(),
        ),
    ] {
        let expected: Vec<Value> =
            trail[1..].iter().filter(|node| values.contains(node.pointer(path).unwrap())).cloned().collect();
        assert!(!expected.is_empty(), "{filter}");
        let mut socket = scene.listen(ADMIN_A, json!({ "a": start, "f": filter, "h": 1 })).await;
        assert_eq!(socket.events(expected.len()).await, expected, "{filter}");
        sockets.push(socket);
    }
    // None of them lets this through, so that the next item is how far they have looked.
    let settings =
        "mutation($i: ChangeTenantSettingsInput!) { changeTenantSettings(input: $i) { position userErrors { code } } }";
    let input = json!({ "id": scene.a, "set": { "locale": "de-DE" } });
    let data = scene.data(ADMIN_A, settings, json!({ "i": input })).await;
    let seen = json!({ "position": data["changeTenantSettings"]["position"], "node": null });
    for socket in &mut sockets {
        let mut item = socket.item().await.unwrap();
        if item["position"] == trail[4]["position"] && item["node"].is_null() {
            // It looked between the two.
            item = socket.item().await.unwrap();
        }
        assert_eq!(item, seen);
    }

    let filter = json!({ "actor": { "in": [actor(PLATFORM)] }, "subjectType": { "eq": "tenant" } });
    let mut socket = scene.listen(ADMIN_A, json!({ "a": start, "f": filter, "h": 1 })).await;
    assert_eq!(socket.event().await, trail[4]);
    let own = scene.rename(ADMIN_A, scene.a, "nobody's business").await;
    let heartbeat = socket.item().await.unwrap();
    assert_eq!(heartbeat, json!({ "position": own, "node": null }), "it has looked so far");
    drop(socket);
    scene.rename(ADMIN_A, scene.a, "nor is this").await;
    let by_platform = scene.rename(PLATFORM, scene.a, "but this is").await;
    // From the heartbeat on, without a gap or a duplicate.
    let mut socket = scene.listen(ADMIN_A, json!({ "a": heartbeat["position"], "f": filter, "h": 1 })).await;
    assert_eq!(socket.event().await["position"], json!(by_platform));
    scene.rename(ADMIN_A, scene.a, "not this").await;
    let live = scene.rename(PLATFORM, scene.a, "and this is, live").await;
    assert_eq!(socket.event().await["position"], json!(live));
}

#[tokio::test]
async fn a_filter_or_position_that_cannot_be_meant_is_refused() {
    let scene = Scene::new().await;
    let other = scene.trail(ADMIN_B).await[0]["position"].clone();
    for arguments in [
        json!({ "f": { "eventType": { "eq": "platform.tenant.renamd" } } }),
        json!({ "f": { "subjectType": { "in": ["device", "devise"] } } }),
        json!({ "f": { "actor": {} } }),
        json!({ "f": { "or": [{ "actor": { "isNull": true } }, { "not": { "eventType": "tenant.renamed" } }] } }),
        json!({ "f": { "subjectId": { "in": vec![Uuid::nil(); 201] } } }),
        json!({ "h": 0 }),
        json!({ "h": 301 }),
        json!({ "a": "made up" }),
        json!({ "a": other }),
    ] {
        let mut socket = scene.listen(ADMIN_A, arguments.clone()).await;
        assert_eq!(socket.item().await, Err(json!("BAD_USER_INPUT")), "{arguments}");
    }
}

#[tokio::test]
async fn nobody_hears_another_tenant_and_nobody_hears_without_permission() {
    let scene = Scene::new().await;
    // Without the permission, or in another tenant, be it there or not: the same answer, and the attempt is noticed.
    for (token, tenant) in [
        (MEMBER_A, None),
        (VIEWER_A, None),
        (ADMIN_B, Some(scene.a)),
        (ADMIN_B, Some(Uuid::from_u128(9))),
        (MEMBER_A, Some(scene.b)),
    ] {
        let mut socket = scene.listen(token, json!({ "t": tenant })).await;
        assert_eq!(socket.item().await, Err(json!("FORBIDDEN")), "{token} {tenant:?}");
    }
    let denied = "{ deniedAttempts { edges { node { actor action } } } }";
    let since = std::time::Instant::now();
    loop {
        let data = scene.data(ADMIN_A, denied, json!({})).await;
        let noticed = data["deniedAttempts"]["edges"].as_array().unwrap().clone();
        let is_noticed = |token| {
            let expected = json!({ "actor": actor(token), "action": "audit.read" });
            noticed.iter().any(|edge| edge["node"] == expected)
        };
        if is_noticed(MEMBER_A) && is_noticed(VIEWER_A) {
            break;
        }
        assert!(since.elapsed() < PATIENCE, "{noticed:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    let (a, b) = (scene.trail(ADMIN_A).await[0].clone(), scene.trail(ADMIN_B).await[0].clone());
    let mut of_a = scene.listen(ADMIN_A, json!({ "a": a["position"] })).await;
    let mut of_b = scene.listen(ADMIN_B, json!({ "a": b["position"] })).await;
    // The platform names the tenant.
    let mut platform = scene.listen(PLATFORM, json!({ "t": scene.b, "a": b["position"] })).await;
    for n in 0..10 {
        scene.rename(ADMIN_A, scene.a, &format!("A {n}")).await;
        scene.rename(ADMIN_B, scene.b, &format!("B {n}")).await;
    }
    for (socket, letter, home) in [(&mut of_a, "A", scene.a), (&mut of_b, "B", scene.b), (&mut platform, "B", scene.b)]
    {
        for (n, event) in socket.events(10).await.iter().enumerate() {
            assert_eq!(name_of(event), &json!(format!("{letter} {n}")));
            assert_eq!(event["subject"]["id"], json!(home));
        }
    }
}

/// An event of an event stream: name, id, data.
type Event = (String, String, Value);

struct EventStream {
    response: reqwest::Response,
    text: String,
}

impl EventStream {
    async fn open(scene: &Scene, arguments: Value, last: Option<&str>) -> Self {
        let request = scene.http.post(scene.server.graphql_url()).bearer_auth(ADMIN_A);
        let request = request.header("Accept", "text/event-stream");
        let request = last.iter().fold(request, |request, last| request.header("Last-Event-ID", *last));
        let response = request.json(&json!({ "query": query(), "variables": arguments })).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        EventStream { response, text: String::new() }
    }

    /// `None` when the stream has ended, in good order or not.
    async fn event(&mut self) -> Option<Event> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                if block.starts_with(':') {
                    continue;
                }
                let field = |name: &str| {
                    let line = block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
                    line.unwrap_or_default().to_owned()
                };
                return Some((field("event"), field("id"), serde_json::from_str(&field("data")).unwrap()));
            }
            match timeout(PATIENCE, self.response.chunk()).await.expect("nothing came") {
                Ok(Some(chunk)) => self.text += std::str::from_utf8(&chunk).unwrap(),
                Ok(None) | Err(_) => return None,
            }
        }
    }
}

#[tokio::test]
async fn an_event_stream_is_taken_up_after_its_last_event_through_cuts_kills_and_stops() {
    let mut scene = Scene::new().await;
    let start = scene.trail(ADMIN_A).await[0]["position"].clone();
    let (mut told, mut last) = (Vec::new(), None::<String>);
    for round in 0..4 {
        scene.rename(ADMIN_A, scene.a, &format!("{round} unheard")).await;
        // The client sends what it sent at first, and the last id beside it, as browsers do.
        let mut stream = EventStream::open(&scene, json!({ "a": start }), last.as_deref()).await;
        scene.rename(ADMIN_A, scene.a, &format!("{round} heard")).await;
        while told.len() < 2 * (round + 1) {
            let (event, id, mut data) = stream.event().await.unwrap();
            assert_eq!(event, "next");
            assert!(data.get("errors").is_none(), "{data}");
            let node = data["data"]["events"]["node"].take();
            assert_eq!(node["position"], json!(id));
            last = Some(id);
            told.push(node);
        }
        match round {
            0 => drop(stream),
            1 => {
                scene.server.kill_daybook();
                assert_eq!(stream.event().await, None);
                scene.server.start_again().await;
            }
            2 => {
                // Open streams don't keep it from stopping; that they were cut shows by the missing `complete`.
                scene.server.stop().await;
                assert_eq!(stream.event().await, None);
                scene.server.start_again().await;
            }
            _ => {}
        }
    }
    assert_eq!(told, scene.trail(ADMIN_A).await[1..]);

    // Who may not gets the error as the protocol has it: an event, then the end.
    let request = scene.http.post(scene.server.graphql_url()).bearer_auth(MEMBER_A);
    let request = request.header("Accept", "text/event-stream").json(&json!({ "query": query() }));
    let mut refused = EventStream { response: request.send().await.unwrap(), text: String::new() };
    let (event, id, data) = refused.event().await.unwrap();
    assert_eq!((event.as_str(), id.as_str()), ("next", ""));
    assert_eq!(data["errors"][0]["extensions"]["code"], "FORBIDDEN");
    assert_eq!(refused.event().await, Some(("complete".into(), String::new(), Value::Null)));
    assert_eq!(refused.event().await, None);
}
