//! The API as a client meets it: HTTP and WebSocket against a running `daybook serve`.

mod support;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use support::Server;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};
use uuid::Uuid;

struct Client {
    http: reqwest::Client,
    url: String,
    token: String,
}

impl Client {
    fn of(server: &Server) -> Self {
        Client { http: reqwest::Client::new(), url: server.graphql_url(), token: server.token() }
    }

    async fn ask(&self, query: &str, variables: Value) -> Value {
        let response = self
            .http
            .post(&self.url)
            .bearer_auth(&self.token)
            .json(&json!({ "query": query, "variables": variables }))
            .send()
            .await
            .unwrap();
        response.json().await.unwrap()
    }

    async fn data(&self, query: &str, variables: Value) -> Value {
        let mut answer = self.ask(query, variables).await;
        assert!(answer.get("errors").is_none(), "{answer}");
        answer["data"].take()
    }

    async fn register(&self, name: &str) -> (Uuid, String) {
        let data = self
            .data(
                "mutation($n: String!) { registerTenant(input: { name: $n }) { tenant { id } position userErrors { code } } }",
                json!({ "n": name }),
            )
            .await;
        let payload = &data["registerTenant"];
        (payload["tenant"]["id"].as_str().unwrap().parse().unwrap(), payload["position"].as_str().unwrap().to_owned())
    }

    async fn rename(&self, id: Uuid, name: &str) -> String {
        let data = self
            .data(
                "mutation($i: UUID!, $n: String!) { renameTenant(input: { id: $i, name: $n }) { position userErrors { code } } }",
                json!({ "i": id, "n": name }),
            )
            .await;
        data["renameTenant"]["position"].as_str().unwrap().to_owned()
    }
}

fn code(answer: &Value) -> &str {
    answer["errors"][0]["extensions"]["code"].as_str().unwrap_or_default()
}

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

async fn subscribe(server: &Server, id: Uuid, after: Option<&str>) -> Socket {
    let query =
        "subscription($i: UUID!, $a: Position) { tenantChanged(id: $i, after: $a) { position node { name version } } }";
    subscribe_to(server, query, json!({ "i": id, "a": after })).await
}

async fn subscribe_to(server: &Server, query: &str, variables: Value) -> Socket {
    let mut request = server.graphql_url().replace("http", "ws").into_client_request().unwrap();
    request.headers_mut().insert("Sec-WebSocket-Protocol", "graphql-transport-ws".parse().unwrap());
    let (mut socket, _) = connect_async(request).await.unwrap();
    let init =
        json!({ "type": "connection_init", "payload": { "Authorization": format!("Bearer {}", server.token()) } });
    socket.send(Message::text(init.to_string())).await.unwrap();
    let ack = socket.next().await.unwrap().unwrap();
    assert!(ack.to_text().unwrap().contains("connection_ack"));
    let subscribe = json!({ "id": "1", "type": "subscribe", "payload": { "query": query, "variables": variables } });
    socket.send(Message::text(subscribe.to_string())).await.unwrap();
    socket
}

async fn next_change(socket: &mut Socket) -> Value {
    loop {
        let message = socket.next().await.unwrap().unwrap();
        let Ok(text) = message.to_text() else { continue };
        let Ok(value) = serde_json::from_str::<Value>(text) else { continue };
        match value["type"].as_str() {
            Some("next") => return value["payload"].clone(),
            Some("error") => return json!({ "errors": value["payload"] }),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_tenant_is_registered_renamed_and_read_at_once() {
    let server = Server::start(&[]).await;
    let client = Client::of(&server);
    let command = Uuid::from_u128(77);
    let register = "mutation($c: UUID!, $n: String!) { registerTenant(input: { name: $n, plan: PRO, clientMutationId: $c, domain: \"acme.example\",
        contact: { name: \"Ada\", email: \"ada@acme.example\" } })
        { tenant { id name plan status version contact { name email erased } } position deduplicated userErrors { path code message } } }";
    let first = client.data(register, json!({ "c": command, "n": "Acme" })).await["registerTenant"].take();
    assert_eq!(first["tenant"]["name"], "Acme");
    assert_eq!(first["tenant"]["version"], "1");
    assert_eq!(first["tenant"]["contact"], json!({ "name": "Ada", "email": "ada@acme.example", "erased": false }));
    assert_eq!(first["deduplicated"], false);

    // A repeat is the same tenant; another content under the same id is a conflict.
    let repeat = client.data(register, json!({ "c": command, "n": "Acme" })).await["registerTenant"].take();
    assert_eq!((&repeat["tenant"]["id"], &repeat["position"]), (&first["tenant"]["id"], &first["position"]));
    assert_eq!(repeat["deduplicated"], true);
    assert_eq!(code(&client.ask(register, json!({ "c": command, "n": "Other" })).await), "CONFLICT");

    // The domain is taken, which is the business's refusal and names the field.
    let taken = client.data(register, json!({ "c": Uuid::from_u128(78), "n": "Thief" })).await["registerTenant"].take();
    assert_eq!(taken["tenant"], Value::Null);
    assert_eq!(
        (&taken["userErrors"][0]["code"], &taken["userErrors"][0]["path"]),
        (&json!("TAKEN"), &json!(["input", "domain"]))
    );

    let id: Uuid = first["tenant"]["id"].as_str().unwrap().parse().unwrap();
    for n in 0..20 {
        let position = client.rename(id, &format!("Acme {n}")).await;
        let data = client
            .data(
                "query($i: UUID!, $p: Position) { tenant(id: $i, atLeast: $p) { name version } }",
                json!({ "i": id, "p": position }),
            )
            .await;
        assert_eq!(data["tenant"], json!({ "name": format!("Acme {n}"), "version": (n + 2).to_string() }));
        // Without saying so, the writer's own next read shows it as well.
        let position = client.rename(id, &format!("Acme {n}")).await;
        assert!(!position.is_empty());
    }
    let bad = client
        .data(
            "mutation($i: UUID!) { renameTenant(input: { id: $i, name: \"  \" }) { userErrors { path code } } }",
            json!({ "i": id }),
        )
        .await;
    assert_eq!(bad["renameTenant"]["userErrors"][0]["path"], json!(["input", "name"]));
    let conflict = client
        .ask(
            "mutation($i: UUID!) { renameTenant(input: { id: $i, name: \"x\", expectedVersion: \"1\" }) { position } }",
            json!({ "i": id }),
        )
        .await;
    assert_eq!(code(&conflict), "CONFLICT");
}

#[tokio::test]
async fn pages_have_no_gap_no_duplicate_and_no_forged_cursor() {
    let server = Server::start(&[]).await;
    let client = Client::of(&server);
    let mut registered = BTreeSet::new();
    for n in 0..23 {
        // Equal names, so that the id has to decide.
        registered.insert(client.register(&format!("Name {}", n % 3)).await.0);
    }
    for order in ["REGISTERED_AT", "NAME"] {
        for direction in ["ASC", "DESC"] {
            let query = format!(
                "query($a: String) {{ tenants(first: 5, after: $a, orderBy: {{ field: {order}, direction: {direction} }})
                 {{ totalCount edges {{ cursor node {{ id name }} }} pageInfo {{ hasNextPage endCursor }} }} }}"
            );
            let (mut seen, mut after) = (Vec::new(), Value::Null);
            loop {
                let data = client.data(&query, json!({ "a": after })).await;
                let page = &data["tenants"];
                assert_eq!(page["totalCount"], "23");
                for edge in page["edges"].as_array().unwrap() {
                    seen.push(edge["node"]["id"].as_str().unwrap().parse::<Uuid>().unwrap());
                }
                after = page["pageInfo"]["endCursor"].clone();
                if page["pageInfo"]["hasNextPage"] == false {
                    break;
                }
            }
            assert_eq!(seen.len(), 23, "{order} {direction}");
            assert_eq!(seen.iter().copied().collect::<BTreeSet<_>>(), registered);
            // A cursor of one list is none of another.
            let other = if order == "NAME" { "REGISTERED_AT" } else { "NAME" };
            let foreign = client
                .ask(&format!("query($a: String) {{ tenants(after: $a, orderBy: {{ field: {other} }}) {{ edges {{ cursor }} }} }}"), json!({ "a": after }))
                .await;
            assert_eq!(code(&foreign), "BAD_USER_INPUT");
        }
    }
    assert_eq!(
        code(&client.ask("{ tenants(after: \"AAAA\") { edges { cursor } } }", json!({})).await),
        "BAD_USER_INPUT"
    );
    assert_eq!(code(&client.ask("{ tenants(first: 201) { edges { cursor } } }", json!({})).await), "BAD_USER_INPUT");
    assert_eq!(
        code(&client.ask("{ tenants(first: 1000000) { edges { cursor } } }", json!({})).await),
        "LIMIT_EXCEEDED"
    );
}

#[tokio::test]
async fn a_subscription_resumes_after_a_cut_and_after_kill_9_without_gap_or_duplicate() {
    let mut server = Server::start(&[]).await;
    let client = Client::of(&server);
    let (id, mut after) = client.register("watched").await;
    let mut names = Vec::new();
    for round in 0..4 {
        // Some changes happen while nobody listens, some while somebody does.
        client.rename(id, &format!("{round} unheard")).await;
        let mut socket = subscribe(&server, id, Some(&after)).await;
        client.rename(id, &format!("{round} heard")).await;
        for _ in 0..2 {
            let change = next_change(&mut socket).await;
            assert!(change.get("errors").is_none(), "{change}");
            names.push(change["data"]["tenantChanged"]["node"]["name"].as_str().unwrap().to_owned());
            after = change["data"]["tenantChanged"]["position"].as_str().unwrap().to_owned();
        }
        // No goodbye: the connection is dropped.
        drop(socket);
        match round {
            1 => {
                server.kill_daybook();
                server.start_again().await;
            }
            2 => {
                server.kill_postgres();
                server.ready().await;
            }
            _ => {}
        }
    }
    let expected: Vec<String> = (0..4).flat_map(|r| [format!("{r} unheard"), format!("{r} heard")]).collect();
    assert_eq!(names, expected);
    // A position of another tenant is not one of this.
    let (_, foreign) = client.register("other").await;
    let mut socket = subscribe(&server, id, Some(&foreign)).await;
    assert_eq!(next_change(&mut socket).await["errors"][0]["extensions"]["code"], "BAD_USER_INPUT");
}

#[tokio::test]
async fn only_the_credential_says_who_asks_and_where() {
    let own = Uuid::from_u128(0xA);
    let config = format!(
        "[[tokens]]\ntoken = \"member-of-a-member-of-a\"\nactor = \"{a}\"\ntenant = \"{own}\"\nroles = [\"member\"]\n
         [[tokens]]\ntoken = \"platform-platform-platform\"\nactor = \"{a}\"\nroles = [\"platformAdmin\"]\n",
        a = Uuid::from_u128(1)
    );
    let server = Server::start_configured(&config).await;
    let mut client =
        Client { http: reqwest::Client::new(), url: server.graphql_url(), token: "platform-platform-platform".into() };
    let platform = "platform-platform-platform";
    let (other, _) = client.register("B").await;

    client.token = "member-of-a-member-of-a".into();
    // How the node is doing inside is the platform's alone.
    for (token, details) in [("", false), ("nobody-nobody-nobody", false), (&client.token, false), (platform, true)] {
        let asked = client.http.get(client.url.replace("/graphql", "/health/ready")).bearer_auth(token).send().await;
        let health: Value = asked.unwrap().json().await.unwrap();
        assert_eq!(health["status"], "ready", "{health}");
        assert_eq!(
            (health.get("readModels").is_some(), health.get("reason").is_some()),
            (details, details),
            "{health}"
        );
    }
    assert_eq!(code(&client.ask("{ tenants { edges { cursor } } }", json!({})).await), "FORBIDDEN");
    // Not found and forbidden look the same.
    let hidden = client.ask("query($i: UUID!) { tenant(id: $i) { name } }", json!({ "i": other })).await;
    let absent = client.ask("query($i: UUID!) { tenant(id: $i) { name } }", json!({ "i": Uuid::from_u128(9) })).await;
    assert_eq!(hidden, absent);
    let rename = "mutation($i: UUID!) { renameTenant(input: { id: $i, name: \"mine\" }) { position } }";
    assert_eq!(code(&client.ask(rename, json!({ "i": other })).await), "FORBIDDEN");
    assert_eq!(
        code(&client.ask("mutation { registerTenant(input: { name: \"x\" }) { position } }", json!({})).await),
        "FORBIDDEN"
    );

    client.token = "nobody's token, which nobody has".into();
    let answer = client.ask("{ __typename }", json!({})).await;
    assert_eq!(code(&answer), "UNAUTHENTICATED");
}

#[tokio::test]
async fn who_may_use_what_is_granted_watched_through_a_kill_and_taken_back() {
    let mut server = Server::start(&[]).await;
    let client = Client::of(&server);
    let (tenant, start) = client.register("Acme").await;
    let account = "mutation { registerAccount(input: { name: \"Ada\", email: \"ada@x.example\" }) { account { id } } }";
    let account = client.data(account, json!({})).await["registerAccount"]["account"]["id"].clone();
    let member = "mutation($t: UUID!, $a: UUID!) { addMember(input: { tenant: $t, account: $a, roles: [MEMBER] })
        { member { id person { email } } userErrors { code } } }";
    let member = client.data(member, json!({ "t": tenant, "a": account })).await["addMember"]["member"].clone();
    assert_eq!(member["person"]["email"], "ada@x.example");
    let module =
        "mutation($t: UUID!) { registerModule(input: { tenant: $t, manifest: { key: \"sizing\", name: \"Sizing\",
        version: \"1.0.0\", integration: { kind: EMBEDDED }, roles: [{ key: \"planner\", name: \"Planner\" }] } })
        { module { id status } userErrors { path code message } } }";
    let module = client.data(module, json!({ "t": tenant })).await["registerModule"]["module"]["id"].clone();
    let enable = "mutation($t: UUID!, $m: UUID!) { enableModule(input: { tenant: $t, id: $m }) { module { status } } }";
    client.data(enable, json!({ "t": tenant, "m": module })).await;

    let watch = "subscription($t: UUID!, $a: Position) { grantChanged(tenant: $t, after: $a)
        { position changedFields node { status allowed member { person { name } } } } }";
    let mut socket = subscribe_to(&server, watch, json!({ "t": tenant, "a": start })).await;
    let grant = "mutation($t: UUID!, $p: UUID!, $m: UUID!) { grantAccess(input: { tenant: $t, member: $p, module: $m,
        role: \"planner\", reason: \"needed\" }) { grant { id allowed } position userErrors { code } } }";
    let granted =
        client.data(grant, json!({ "t": tenant, "p": member["id"], "m": module })).await["grantAccess"].take();
    assert_eq!(granted["grant"]["allowed"], true);
    let change = next_change(&mut socket).await["data"]["grantChanged"].take();
    assert_eq!(change["node"]["member"]["person"]["name"], "Ada");
    drop(socket);

    let revoke =
        "mutation($t: UUID!, $g: UUID!) { revokeAccess(input: { tenant: $t, id: $g, reason: \"over\" }) { position } }";
    client.data(revoke, json!({ "t": tenant, "g": granted["grant"]["id"] })).await;
    server.kill_daybook();
    server.start_again().await;
    // The change of before the kill is still to come, once.
    let mut socket = subscribe_to(&server, watch, json!({ "t": tenant, "a": change["position"] })).await;
    let change = next_change(&mut socket).await["data"]["grantChanged"].take();
    assert_eq!((&change["node"]["status"], &change["node"]["allowed"]), (&json!("REVOKED"), &json!(false)));

    // Variables that are declared and left out are as good as arguments that are left out.
    let list =
        "query($t: UUID!, $f: GrantFilter, $o: AsOf, $n: Int) { grants(tenant: $t, filter: $f, asOf: $o, first: $n)
        { totalCount edges { node { allowed denial module { key } } } } }";
    let now = client.data(list, json!({ "t": tenant })).await["grants"].take();
    assert_eq!(
        now["edges"][0]["node"],
        json!({ "allowed": false, "denial": "REVOKED", "module": { "key": "sizing" } })
    );
    let then = json!({ "t": tenant, "o": { "position": granted["position"] } });
    let then = client.data(list, then).await["grants"].take();
    assert_eq!(then["edges"][0]["node"], json!({ "allowed": true, "denial": null, "module": { "key": "sizing" } }));
}
